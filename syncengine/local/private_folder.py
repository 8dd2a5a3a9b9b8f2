"""Folders for private copies of a store, which no killed process leaves behind for long.

The name says whose it is: the process, and the machine (or container) that counts the processes so.
"""

import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from syncengine.clock import SystemClock
from syncengine.local.process_life import has_ended

LEFTOVER_AGE_MS_MIN = 24 * 60 * 60 * 1000
"""A younger folder is left alone unless its name says that this very machine made it."""

_MACHINE_DIGITS = 8
_PREFIX = "syncengine-"
_NAME = re.compile(_PREFIX + r"(?:copy|snapshot)-([0-9]{1,9})-(?:([0-9a-f]{8})-)?\w+")


@contextmanager
def private_folder(purpose: str) -> Iterator[str]:
    """A folder that only this user may enter, gone when the block ends. `purpose` is "copy" or "snapshot".

    Those that killed processes of this user left go first.
    """
    prefix = f"syncengine-{purpose}-{os.getpid()}-{machine()}-"
    sweep()
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        yield folder


def machine() -> str:
    """A word for what counts processes here; another host or container, whose numbers mean others, has another."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbers = ""
    return hashlib.sha256(f"{platform.node()}\0{numbers}".encode()).hexdigest()[:_MACHINE_DIGITS]


def sweep() -> None:
    """Delete what killed processes of this user left in the folder for temporary files."""
    remove_leftovers(tempfile.gettempdir(), now_ms=SystemClock().now_ms())


def remove_leftovers(place: str, *, now_ms: int) -> None:
    """Delete the private folders in `place` that are this user's and of a process that is gone.

    Where the name does not say that this machine made it, only those a day old.
    """
    if os.name != "posix":
        return  # there, asking whether a process lives would end it
    with suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if not entry.name.startswith(_PREFIX):
                continue
            # A leftover that resists stays for the next time: it is no reason not to open a store.
            with suppress(OSError):
                if _is_leftover(entry, now_ms=now_ms):
                    shutil.rmtree(entry.path)


def _is_leftover(entry: os.DirEntry[str], *, now_ms: int) -> bool:
    named = _NAME.fullmatch(entry.name)
    if named is None or not entry.is_dir(follow_symlinks=False):
        return False
    found = entry.stat(follow_symlinks=False)
    old = now_ms - found.st_mtime_ns // 1_000_000 >= LEFTOVER_AGE_MS_MIN
    is_gone = is_left_behind(entry.name) or (old and has_ended(int(named[1])))
    return is_gone and found.st_uid == os.getuid()


def is_left_behind(name: str) -> bool:
    """Does a private folder of this name belong to a process of this machine that has ended?"""
    named = _NAME.fullmatch(name)
    return named is not None and named[2] is not None and named[2] == machine() and has_ended(int(named[1]))
