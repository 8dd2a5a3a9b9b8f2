"""Which stores this process has open: one engine for each file."""

from __future__ import annotations

import os
from threading import Lock

from syncengine.errors import StoreAlreadyOpen

_open: dict[tuple[int, int], str] = {}
_changing = Lock()


def claim_file(path: str) -> tuple[int, int]:
    """Note that the file is open here; what `release_file` wants. Raises StoreAlreadyOpen, also for another name
    of a file that is open, and in a child forked while it was."""
    found = os.stat(path)
    identity = (found.st_dev, found.st_ino)
    with _changing:
        if identity in _open:
            raise StoreAlreadyOpen(
                f"This process has {path} open already.",
                why=f"it was opened as {_open[identity]}, here or in the process that this one was forked from",
                fix="Share the one engine between threads, or close it before it is opened again.",
            )
        _open[identity] = path
    return identity


def release_file(identity: tuple[int, int]) -> None:
    """Note that the file is closed; safe to repeat."""
    _open.pop(identity, None)


def open_paths() -> tuple[str, ...]:
    """The stores that are open in this process."""
    return tuple(_open.values())
