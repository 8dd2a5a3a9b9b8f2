"""Tables that nobody uses any more: kept for a while as a way back, then deleted a few rows at a time.

DROP TABLE of a large table holds the write lock for as long as it takes; a few rows at a time hold it briefly, and a
process that dies on the way leaves the rest for the next one.
"""

from typing import TYPE_CHECKING

import orjson

from syncengine.clock import iso
from syncengine.local.identifiers import quoted
from syncengine.local.stored import stored_ddl
from syncengine.migrate.shadow_pace import adapted
from syncengine.migrate.shadow_triggers import drop_triggers
from syncengine.migrate.shape import attached, row_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from syncengine.local.store import Store

DAY_MS = 86_400_000
FIRST_BATCH_ROWS = 1_000
BATCHES_MAX = 200
"""So many of one call; about ten seconds."""

_EPOCH = "1970-01-01T00:00:00.000Z"
_NOTES = ("forget_touches", "forget_results", "forget_asides")


def kept_table(store: "Store", *, collection: str, migration: str) -> str | None:
    """The name of the table that this migration replaced, while it is kept; None when there is none (any more)."""
    name = store.value(
        "shadow", "kept_table", collection=collection, migration=migration, now=iso(store.clock.now_ms())
    )
    return None if name is None else str(name)


def kept_ddl(store: "Store", table: str) -> tuple[str, ...]:
    """The SQL of a kept table, its indexes and its triggers, as they were before the swap: CREATE TABLE first."""
    return stored_ddl(store.value("shadow", "kept_ddl", table_name=table), "_sync_kept_table.ddl")


def ddl_of(store: "Store", table: str) -> tuple[str, ...]:
    """The same of a table as it is now."""
    create = store.query("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,))
    others = [sql for kind in ("index", "trigger") for _, sql in attached(store, table, kind)]
    return (str(create[0][0]), *others)


def keep(store: "Store", table: str, *, collection: str, migration: str, ddl: tuple[str, ...]) -> None:
    """Inside the transaction that replaced it: remember a table for `restore_point_keep_days`."""
    now_ms = store.clock.now_ms()
    _write(
        store,
        table,
        collection=collection,
        migration=migration,
        ddl=ddl,
        keep_until=iso(now_ms + store.settings.restore_point_keep_days * DAY_MS),
    )


def _write(
    store: "Store", table: str, *, collection: str, migration: str, ddl: tuple[str, ...], keep_until: str
) -> None:
    store.run(
        "shadow",
        "keep_table",
        table_name=table,
        collection=collection,
        migration=migration,
        ddl=orjson.dumps(ddl).decode(),
        now=iso(store.clock.now_ms()),
        keep_until=keep_until,
    )


def free_name(store: "Store", wanted: str) -> str:
    """This name, or with a number behind it where a table has it already."""
    name, number = wanted, 1
    while store.query("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,)):
        number += 1
        name = f"{wanted}_{number}"
    return name


def drop_shadow(store: "Store", collection: str) -> None:
    """The way back before the swap: the live table is as it was at once, what was filled goes in batches."""
    with store.transaction(durable=True):
        give_up(store, collection)
    sweep(store, collection)


def give_up(store: "Store", collection: str) -> None:
    """Inside a transaction: from its end on nobody rewrites this collection. `sweep` it afterwards."""
    drop_triggers(store, collection)
    row = store.row("shadow", "get", collection=collection)
    if row is None:
        return
    migration, new = str(row[1]), collection + "_new_"
    if store.query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (new,)):
        gone = free_name(store, f"_sync_gone_{collection}")
        store.query("PRAGMA legacy_alter_table = ON")
        try:
            store.query(f"ALTER TABLE {quoted(new)} RENAME TO {quoted(gone)}")
        finally:
            store.query("PRAGMA legacy_alter_table = OFF")
        _write(store, gone, collection=collection, migration=migration, ddl=(), keep_until=_EPOCH)
    store.run("shadow", "forget_shape_before", collection=collection, migration=migration)
    store.run("shadow", "remove", collection=collection)


def sweep(store: "Store", collection: str) -> None:
    """Delete in batches what a rewriting that is over has left: its notes, and tables whose time is over."""
    for name in _NOTES:
        _forget(store, name, collection=collection)
    _in_batches(store, lambda rows: store.run("entries", "forget_staged", collection=collection, rows_max=rows))
    while not drop_kept_tables(store):
        pass


def forget_notes(store: "Store", collection: str, *, migration: str) -> None:
    """Delete in batches what a rewriting that did not come to its end has noted, and kept for a way back."""
    for name in _NOTES:
        _forget(store, name, collection=collection)
    _in_batches(store, lambda rows: store.run("entries", "forget_staged", collection=collection, rows_max=rows))
    _forget(store, "forget_all_originals", collection=collection, migration=migration)


def _forget(store: "Store", name: str, **values: str) -> None:
    _in_batches(store, lambda rows: store.run("shadow", name, **values, rows_max=rows))


def _in_batches(store: "Store", delete: "Callable[[int], int]") -> None:
    rows, deleted = FIRST_BATCH_ROWS, FIRST_BATCH_ROWS
    while deleted:
        begun_ms = store.clock.monotonic_ms()
        with store.transaction():
            deleted = delete(rows)
        rows = adapted(rows, took_ms=store.clock.monotonic_ms() - begun_ms, settings=store.settings)


def drop_kept_tables(store: "Store", *, batches_max: int = BATCHES_MAX) -> bool:
    """Delete tables whose time is over, in at most so many short transactions; True when none is left."""
    left = batches_max
    for (table,) in store.rows("shadow", "kept_too_long", now=iso(store.clock.now_ms())):
        left = _drop_in_batches(store, str(table), batches_max=left)
        if left <= 0:
            return False
    return True


def _drop_in_batches(store: "Store", table: str, *, batches_max: int) -> int:
    """How many of the batches are left; 0 when the table is not gone yet."""
    rows, key = FIRST_BATCH_ROWS, ", ".join(row_name(store, table))
    for used in range(1, batches_max + 1):
        begun_ms = store.clock.monotonic_ms()
        with store.transaction():
            store.query(
                f"DELETE FROM {quoted(table)} WHERE ({key}) IN (SELECT {key} FROM {quoted(table)} LIMIT {rows})"
            )
            if store.connection.changes() == 0:
                store.query(f"DROP TABLE {quoted(table)}")
                store.run("shadow", "forget_kept_table", table_name=table)
                return batches_max - used
        held_ms = store.clock.monotonic_ms() - begun_ms
        rows = adapted(rows, took_ms=held_ms, settings=store.settings)
        store.clock.pause(held_ms // 2)  # so that other writers get in
    return 0
