"""Which stores this process has open: one engine for each file."""

import os

from syncengine.errors import StoreAlreadyOpen

_open: dict[tuple[int, int], str] = {}


def claim_file(path: str) -> None:
    """Note that the file is open here. Raises StoreAlreadyOpen when it is already, under any name."""
    found = os.stat(path)
    identity = (found.st_dev, found.st_ino)
    if identity in _open:
        raise StoreAlreadyOpen(
            f"This process has {path} open already.",
            why=f"it was opened as {_open[identity]}",
            fix="Share the one engine between threads, or close it before it is opened again.",
        )
    _open[identity] = path


def release_file(path: str) -> None:
    """Note that the file is closed; safe to repeat."""
    for identity, known in list(_open.items()):
        if known == path:
            del _open[identity]


def open_paths() -> tuple[str, ...]:
    """The stores that are open in this process."""
    return tuple(_open.values())
