"""The folder beside a store: sealed restore points, and for a moment a plain copy, which needs that very disk.

A plain copy lies in a folder of its own that is locked (flock) while its process lives. What a killed process left is
removed by the next one that opens the store or makes a restore point.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from syncengine.errors import RestorePointImpossible
from syncengine.local.restore_folder import PLAIN_BEGINS, restore_folder

_ATTEMPTS_MAX = 100


def make_restore_folder(store_path: str) -> str:
    """The folder, made 0700 with the store's owner where it is missing. Raises RestorePointImpossible."""
    folder = restore_folder(store_path)
    try:
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
            give_to_owner_of(store_path, folder, mode=0o700)
        found = os.lstat(folder)
    except OSError as error:
        raise _impossible(folder, error.strerror or type(error).__name__) from error
    if not stat.S_ISDIR(found.st_mode):
        raise _impossible(folder, "it is no folder")
    if os.name == "posix" and (
        found.st_mode & 0o077 or found.st_uid not in (os.geteuid(), os.stat(store_path).st_uid)
    ):
        raise _impossible(folder, "it belongs to another user, or others may enter it")
    return folder


def _impossible(folder: str, why: str) -> Exception:
    return RestorePointImpossible(
        f"The folder {folder} cannot be used for restore points.",
        why=why,
        fix="Make it a folder of the store's owner with mode 700. The store was not changed.",
    )


def give_to_owner_of(store_path: str, path: str, *, mode: int) -> None:
    """The store's owner and group, and of `mode` no more than that owner and group then may have."""
    os.chmod(path, mode & 0o700)
    if os.name != "posix":
        return
    wanted, found = os.stat(store_path), os.stat(path)
    if (found.st_uid, found.st_gid) != (wanted.st_uid, wanted.st_gid):
        try:
            os.chown(path, wanted.st_uid, wanted.st_gid)
        except PermissionError:
            return  # another group: it gets nothing
    os.chmod(path, mode)


@contextmanager
def plain_place(folder: str) -> Iterator[str]:
    """A folder (0700) inside `folder` for a plain copy; gone when the block ends; after a kill, swept."""
    remove_leftovers(folder)
    path, lock = _locked_folder(folder)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _locked_folder(folder: str) -> tuple[str, int | None]:
    for _ in range(_ATTEMPTS_MAX):
        path = tempfile.mkdtemp(prefix=PLAIN_BEGINS, dir=folder)
        if os.name != "posix":
            return path, None
        lock = _lock(path)
        # Between the two a sweeper may have taken it for a leftover.
        if lock is not None and os.path.exists(path):
            return path, lock
        if lock is not None:
            os.close(lock)
    raise AssertionError("sweepers took every new folder")


def _lock(path: str) -> int | None:
    """The lock on a folder that nobody holds, or None."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def remove_leftovers(folder: str) -> None:
    """Delete what processes that are gone left: plain copies, half sealed files. What resists stays."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if name.startswith(PLAIN_BEGINS):
            _remove_if_left(os.path.join(folder, name))


def _remove_if_left(path: str) -> None:
    if os.name != "posix":
        shutil.rmtree(path, ignore_errors=True)  # there, files that are open cannot be deleted
        return
    lock = _lock(path)
    if lock is not None:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)
