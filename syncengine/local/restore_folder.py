"""The folder beside a store that holds its restore points; most stores have none."""

from __future__ import annotations

import os


def restore_folder(store_path: str) -> str:
    """Where the restore points of a store lie; it may not be there yet."""
    return store_path + "-restore"


def has_restore_folder(store_path: str) -> bool:
    """False in most stores, and then nothing has to be looked for."""
    return os.path.isdir(restore_folder(store_path))


def sweep_leftovers(store_path: str) -> None:
    """At the opening of a store: no plain copy of a killed process stays beside it."""
    if has_restore_folder(store_path):
        from syncengine.local.private_place import remove_leftovers

        remove_leftovers(restore_folder(store_path))
