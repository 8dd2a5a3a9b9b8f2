"""Putting a restore point in the place of a store that is too damaged to be read.

Nothing can be asked of the damaged file: not which numbers were given out, nor what was sent. So the store that comes
back is a new device to the cloud, and what waited in its queue goes to quarantine for a person to decide.
"""

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from syncengine.clock import fresh_id, iso, system_random
from syncengine.errors import RestorePointUnusable, StoreMissing
from syncengine.local.keys import key_that_is_there, sync_folder
from syncengine.local.open_files import claim_file, release_file
from syncengine.local.private_place import give_to_owner_of, make_restore_folder, plain_place
from syncengine.local.restore_folder import restore_folder
from syncengine.local.restore_points import DAMAGED_ENDS, SEALED_ENDS, check_copy, no_disk, private_file, sealed_name
from syncengine.local.sealing import seal, unseal
from syncengine.local.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from syncengine.clock import Clock
    from syncengine.local.keys import KeyProvider, SealingKey
    from syncengine.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class RescueReport:
    """What was put in place of a damaged store."""

    restored_from: str
    """The sealed file."""
    damaged: tuple[str, ...]
    """The damaged file, and its -wal where there was one, as they were, sealed."""
    schema_version: str
    entries_set_aside: int


def sealed_files(store_path: str) -> list[tuple[str, int]]:
    """The restore points beside a store as files, with their bytes, oldest first; a damaged one has no other list."""
    folder = restore_folder(os.path.realpath(store_path))
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    paths = [os.path.join(folder, name) for name in names if _is_restore_point(name)]
    return [(path, os.stat(path, follow_symlinks=False).st_size) for path in paths]


def _is_restore_point(name: str) -> bool:
    return name.endswith(SEALED_ENDS) and not name.endswith(DAMAGED_ENDS)


def rescue(
    store_path: str, sealed_path: str, *, keys: "KeyProvider", settings: "Settings", clock: "Clock"
) -> RescueReport:
    """Seal the damaged store as it is, and put what a sealed file holds in its place.

    Close the app in all processes before. One that was forgotten finds its file replaced, and writes no more
    (StoreReplaced). Raises StoreMissing, StoreAlreadyOpen, KeyUnavailable, RestorePointUnusable,
    RestorePointImpossible, DiskFull; the damaged file is then as it was.
    """
    path = os.path.realpath(store_path)
    if not os.path.isfile(path):
        raise StoreMissing(f"There is no store at {path}.", fix="Check the path; nothing was changed.")
    key = key_that_is_there(keys)
    with _kept_closed(path):
        folder = make_restore_folder(path)
        try:
            with plain_place(folder) as place:
                copy = os.path.join(place, "rescued.db")
                _open(sealed_path, copy, key=key)
                version, entries = _prepare(copy, settings=settings, clock=clock)
                damaged = _seal_damaged(path, place, folder, key=key, clock=clock)
                _replace(path, copy)
        except OSError as error:
            raise no_disk(error) from error
    return RescueReport(restored_from=sealed_path, damaged=damaged, schema_version=version, entries_set_aside=entries)


@contextmanager
def _kept_closed(path: str) -> "Iterator[None]":
    identity = claim_file(path)
    try:
        yield
    finally:
        release_file(identity)


def _open(sealed_path: str, copy: str, *, key: "SealingKey") -> None:
    if not os.path.isfile(sealed_path):
        raise RestorePointUnusable(
            "There is no such sealed file.",
            why=f"{os.path.basename(sealed_path)} is not there",
            fix="Look into the folder beside the store that ends in -restore. Nothing was changed.",
        )
    with open(sealed_path, "rb") as sealed, open(copy, "xb", opener=private_file) as target:
        unseal(sealed, target, key=key)
    check_copy(copy, rows=None)


def _prepare(copy: str, *, settings: "Settings", clock: "Clock") -> tuple[str, int]:
    """A new device whose queue waits for a person; its schema version, and how many entries."""
    store = Store(copy, settings=settings, clock=clock)
    try:
        now = iso(clock.now_ms())
        with store.transaction():
            store.run("state", "set", name="device_id", value=fresh_id(system_random()))
            store.run("restore_points", "forget_drain")
            entries = [entry for (entry,) in store.rows("restore_points", "entries")]
            for entry in entries:
                store.value(
                    "quarantine",
                    "set_aside",
                    entry_id=entry,
                    error_code="restored_over",
                    error_text="the store was damaged, and nothing tells whether the cloud has this entry",
                    now=now,
                )
                store.run("outbox", "delete", entry_id=entry)
            version = str(store.value("state", "store_version") or "")
            store.run(
                "restore_points",
                "record_rescue",
                version=version,
                now=now,
            )
            store.run("restore_points", "read_on", now=now)
        store.query("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        store.close()
    return version, len(entries)


def _seal_damaged(path: str, place: str, folder: str, *, key: "SealingKey", clock: "Clock") -> tuple[str, ...]:
    name = sealed_name(clock).removesuffix(SEALED_ENDS)
    made = []
    for ending in ("", "-wal"):
        with suppress(FileNotFoundError), open(path + ending, "rb") as damaged:
            part = os.path.join(place, f"damaged{ending}")
            with open(part, "xb", opener=private_file) as target:
                seal(damaged, target, key=key)
                _reach_disk(target)
            give_to_owner_of(path, part, mode=os.stat(path).st_mode & 0o777)
            made.append(os.path.join(folder, f"{name}{ending}{DAMAGED_ENDS}"))
            os.rename(part, made[-1])
    sync_folder(folder)
    return tuple(made)


def _replace(path: str, copy: str) -> None:
    """The -wal goes first: SQLite would write the damaged store's log into the new file."""
    with open(copy, "rb") as file:
        _reach_disk(file)
    give_to_owner_of(path, copy, mode=os.stat(path).st_mode & 0o777)
    for ending in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.unlink(path + ending)
    os.replace(copy, path)
    sync_folder(os.path.dirname(path))


def _reach_disk(file: BinaryIO) -> None:
    if file.writable():
        file.flush()
    os.fsync(file.fileno())
