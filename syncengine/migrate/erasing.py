"""Migrations that say `erases=True`: what their collections held before goes from every file of the store.

What is in the store goes in the migration's own transaction, which also notes that something was erased. What no
transaction can take back goes afterwards: restore points, and the bytes of pages that are free by now. Who dies in
between leaves the note, and the next start goes on.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from syncengine.clock import iso
from syncengine.errors import SyncEngineError
from syncengine.local.restore_points import forget_erased_points
from syncengine.local.sqlite_errors import SqliteError
from syncengine.logs import log_event
from syncengine.migrate.kept_tables import drop_kept_tables
from syncengine.migrate.shadow_state import filling
from syncengine.vocabulary import STORE_SCOPE

if TYPE_CHECKING:
    from collections.abc import Collection

    from syncengine.local.store import Store
    from syncengine.local.version_table import Readable
    from syncengine.migrate.definition import MigrationDefinition
    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.quarantine_item import QuarantineItem

NOT_YET = "what it erased is not gone from every file yet; the next start goes on"

WIPE = "wipe"
"""Stands in the list of erasures in the place of a migration: a user was taken off the device."""

_ATTEMPTS_MAX = 20
_WAIT_MS = 50
"""Between two looks whether somebody still reads the log: a second in all."""
_PAST = "1970-01-01T00:00:00.000Z"
_FREE_TIMES = 2
"""VACUUM needs a temporary copy, and a log of it (sqlite.org/lang_vacuum.html)."""

_logger = logging.getLogger("syncengine.migrate")


class ZeroedPages:
    """While it lasts, SQLite writes zeros over what this connection deletes.

    sqlite.org/pragma.html#pragma_secure_delete
    """

    def __init__(self, store: "Store", *, wanted: bool = True) -> None:
        self._store = store
        self._wanted = wanted

    def __enter__(self) -> None:
        if self._wanted:
            self._count(1)

    def __exit__(self, *_: object) -> None:
        if self._wanted and self._store.is_usable:
            self._count(-1)

    def _count(self, difference: int) -> None:
        """Threads share the connection: the last one out switches it off."""
        store = self._store
        with store.lock:
            store.zeroing += difference
            store.query(f"PRAGMA secure_delete = {'ON' if store.zeroing else 'OFF'}")


def forget_before(store: "Store", executor: "BaseMigrationExecutor") -> None:
    """At the end of a migration's transaction, if it erases: what the engine itself has kept of the old rows.

    Open quarantine items stay: they are rows that exist nowhere else, and a person decides about them.
    """
    definition = executor.definition
    if not definition.erases:
        return
    from syncengine.migrate.rebuild import RebuildingExecutor

    # Queued entries go through a migration that rebuilds tables; after any other, all of them have old values.
    converted = definition.to_version if isinstance(executor, RebuildingExecutor) else ""
    names = _json(definition.collections)
    store.run("erasures", "forget_archive", collections=names, owner=None, row_key=None)
    store.run("erasures", "end_kept_tables", collections=names, past=_PAST)
    store.run("erasures", "forget_before", collections=names, converted=converted)
    store.run(
        "erasures", "unfreeze_puts", collections=names, converted=converted, shape_version=definition.to_version
    )
    store.run("erasures", "forget_originals", collections=names, converted=converted)
    store.run("erasures", "forget_conflicts", collections=names)
    _note(store, migration=definition.id, scope=STORE_SCOPE, collections=names, converted=converted)
    store.run("erasures", "blank_resolved")


def forget_late(store: "Store", definition: "MigrationDefinition", *, scope: str, owner: str) -> None:
    """The same for rows of one user that came late and went through it: no copy of the store has ever held those."""
    names = _json(definition.collections)
    store.run("erasures", "forget_archive", collections=names, owner=owner, row_key=None)
    _note(store, migration=definition.id, scope=scope)


def note_wipe(store: "Store") -> None:
    """In the transaction that takes all of a user out: copies from before are no way back, bytes go afterwards."""
    _note(store, migration=WIPE, scope=STORE_SCOPE)


def holds_erased(store: "Store", item_id: int) -> bool:
    """Does an open quarantine item hold values from before an erasure?"""
    return item_id in read_erasures(store).quarantined


def forget_resolved(store: "Store", item: "QuarantineItem") -> None:
    """In the transaction that resolves an item: if it held what was erased since, its body goes at once."""
    with ZeroedPages(store):
        if not store.run("erasures", "blank_resolved"):
            return
        names = _json([item.collection])
        store.run("erasures", "forget_archive", collections=names, owner=item.owner or "", row_key=item.key)
        # Only pages of live tables were changed, and zeroed: the free space is as it was.
        _note(store, migration=item.migration or "quarantine", scope="quarantine", is_clear=True)


def _note(
    store: "Store",
    *,
    migration: str,
    scope: str,
    collections: str = "[]",
    converted: str = "",
    is_clear: bool = False,
) -> None:
    now = iso(store.clock.now_ms())
    store.run(
        "erasures",
        "note",
        migration=migration,
        scope=scope,
        collections=collections,
        converted=converted,
        now=now,
        cleared_at=now if is_clear else None,
    )
    store.run("erasures", "begin")


def _json(names: "Collection[str]") -> str:
    return orjson.dumps(list(names)).decode()


# Afterwards.


def finish_erasures(store: "Store", *, patient: bool = False) -> bool:
    """Delete what was noted and may still lie in a file; True when nothing is left.

    Never raises for what stands in the way: another process that reads, a full disk, entries that are on their way to
    the cloud. The note stays then. `patient` waits a second for those who read.
    """
    if not store.value("erasures", "is_erasing"):
        return True
    if store.in_transaction_here():
        return False
    try:
        with ZeroedPages(store):
            is_done = _finish(store, patient=patient)
    except (SyncEngineError, SqliteError, OSError) as error:
        log_event(_logger, logging.WARNING, "what was erased is not gone yet", error=type(error).__name__)
        return False
    if not is_done:
        log_event(_logger, logging.WARNING, "what was erased is not gone yet", error="in_use")
    return is_done


def _finish(store: "Store", *, patient: bool) -> bool:
    forget_erased_points(store)
    while not drop_kept_tables(store):
        pass
    unfinished = store.rows("erasures", "unfinished")
    newest = max((erasure_id for erasure_id, _ in unfinished), default=0)
    on_their_way = int(store.value("erasures", "on_their_way"))
    is_clear = all(cleared_at is not None for _, cleared_at in unfinished)
    # Entries that are on their way leave old bytes once more: at the end of the run, and when they have arrived.
    if not is_clear and (patient or not on_their_way) and _may_write_anew(store):
        store.query("VACUUM")
        is_clear = not on_their_way
        if is_clear:
            with store.transaction(durable=True):
                store.run("erasures", "cleared", newest=newest, now=iso(store.clock.now_ms()))
    if not (_empty_log(store, attempts_max=_ATTEMPTS_MAX if patient else 1) and is_clear):
        return False
    with store.transaction(durable=True):
        store.run("erasures", "finished", newest=newest, now=iso(store.clock.now_ms()))
        store.run("erasures", "end")
    return True


def _may_write_anew(store: "Store") -> bool:
    """VACUUM copies no free page and no gap in another: they may hold rows that were changed or deleted long ago.

    It needs room, and not a large collection that is being rewritten: its cursor may be a row id, which may change.
    """
    file = Path(store.path)
    needed = _FREE_TIMES * file.stat().st_size + store.settings.restore_point_free_bytes_min
    return shutil.disk_usage(file.parent).free >= needed and not filling(store)


def _empty_log(store: "Store", *, attempts_max: int) -> bool:
    """Copy the -wal into the file and cut it to nothing. False while somebody reads what it was before.

    SQLite would hold writers out while it waits for readers, so it is asked again and again instead.
    """
    for attempt in range(attempts_max):
        if attempt:
            store.clock.pause(_WAIT_MS)
        if _is_emptied(store):
            return True
    return False


def _is_emptied(store: "Store") -> bool:
    with store.lock:
        store.connection.set_busy_timeout(0)
        try:
            busy, _, _ = store.query("PRAGMA wal_checkpoint(TRUNCATE)")[0]
        finally:
            store.connection.set_busy_timeout(store.settings.busy_wait_ms_max)
    return not busy


# Looking.


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureState:
    """What may still hold values that a migration has erased."""

    unfinished: tuple[str, ...]
    """Migrations of which something may still lie in a file; the next start goes on."""
    quarantined: tuple[int, ...]
    """Open quarantine items that hold old values. Retry or discard each."""


NOTHING_ERASED = ErasureState(unfinished=(), quarantined=())


def read_erasures(moment: "Readable") -> ErasureState:
    """As the store has it now."""
    return ErasureState(
        unfinished=tuple(str(name) for (name,) in moment.rows("erasures", "outstanding")),
        quarantined=tuple(int(item) for (item,) in moment.rows("erasures", "with_old_values")),
    )


def open_items(store: "Store", collections: "Collection[str]") -> int:
    """How many rows of these collections wait in quarantine."""
    return int(store.value("erasures", "open_items", collections=_json(collections)))
