"""The folder beside a store that holds its restore points; most stores have none."""

from __future__ import annotations

import os

PLAIN_BEGINS = "plain-"
"""So begins the name of a folder with a plain copy in it."""


def restore_folder(store_path: str) -> str:
    """Where the restore points of a store lie; it may not be there yet."""
    return store_path + "-restore"


def has_restore_folder(store_path: str) -> bool:
    """False in most stores, and then nothing has to be looked for."""
    return os.path.isdir(restore_folder(store_path))


def has_plain_copies(store_path: str) -> bool:
    """Does a plain copy lie there: of a process that makes one right now, or of one that was killed?"""
    try:
        names = os.listdir(restore_folder(store_path))
    except OSError:
        return False
    return any(name.startswith(PLAIN_BEGINS) for name in names)
