"""Folders for private copies of a store, which no killed process leaves behind for long."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from syncengine.clock import SystemClock
from syncengine.local.process_life import has_ended

LEFTOVER_AGE_MS_MIN = 24 * 60 * 60 * 1000
"""A younger folder is left alone, whoever made it."""

_NAME = re.compile(r"syncengine-(?:copy|snapshot)-([0-9]{1,9})-\w+")


@contextmanager
def private_folder(purpose: str) -> Iterator[str]:
    """A folder that only this user may enter, gone when the block ends. `purpose` is "copy" or "snapshot".

    Those that killed processes of this user left a day ago or earlier go first.
    """
    prefix = f"syncengine-{purpose}-{os.getpid()}-"
    remove_leftovers(tempfile.gettempdir(), now_ms=SystemClock().now_ms())
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        yield folder


def remove_leftovers(place: str, *, now_ms: int) -> None:
    """Delete the private folders in `place` that are this user's, a day old, and of a process that is gone."""
    if os.name != "posix":
        return  # there, asking whether a process lives would end it
    with suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
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
    return old and found.st_uid == os.getuid() and has_ended(int(named[1]))
