"""Does the new table account for every row of the live one? Counts at the swap, keys before it.

A row can change without a trigger: INSERT OR REPLACE deletes what it meets without firing one where
recursive_triggers is off (sqlite.org/lang_createtrigger.html), as it is in the `sqlite3` command line.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from syncengine.errors import ReconciliationFailed
from syncengine.local.identifiers import quoted
from syncengine.migrate.paging import Queried, behind, rows_of

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.shadow_state import Shadow
    from syncengine.migrate.shadow_table import Layout

RANGE_ROWS = 10_000


def refuse_unequal(store: "Store", shadow: "Shadow", *, new_table: str) -> None:
    """Inside the transaction that swaps. Raises ReconciliationFailed when the tables hold other numbers of rows."""
    live, new = rows_of(store, shadow.collection), rows_of(store, new_table)
    if (live, new) != (shadow.read, shadow.rows_new):
        raise ReconciliationFailed(
            f"Migration {shadow.migration} does not account for every row.",
            why=f"{live} rows are there and {shadow.read} were read; {new} are in the new table and "
            f"{shadow.rows_new} were made",
            fix="The store is as it was. Triggers of the app, or another program, change rows of this table unseen.",
        )


def touch_missing(store: "Store", reader: Queried, shadow: "Shadow", layout: "Layout", *, new: str) -> int:
    """Touch the rows of the live table that nothing accounts for; how many."""
    found = 0
    for keys in _differences(reader, shadow.collection, new, layout):
        found += _touch(store, shadow, [key for key in keys if not _is_accounted_for(reader, shadow, key)])
    return found


def touch_extra(store: "Store", reader: Queried, shadow: "Shadow", layout: "Layout", *, new: str) -> int:
    """Touch the keys of the new table that no row of the live one became; how many. A touched key without a row is
    taken out. What met another row and was set aside may have met one of these, and is tried again."""
    found = 0
    for keys in _differences(reader, new, shadow.collection, layout):
        found += _touch(store, shadow, [key for key in keys if not _is_made(reader, shadow, key)])
    for keys in _gone_sources(reader, shadow, layout):
        found += _touch(store, shadow, keys)
    if found:
        _touch(store, shadow, _set_aside_by_rules(reader, shadow))
    return found


def _differences(reader: Queried, first: str, second: str, layout: "Layout") -> Iterator[list[tuple[Any, Any]]]:
    """(owner, key) of rows of the first table whose key is not in the second, range by range."""
    order = ", ".join(map(quoted, layout.order))
    after: tuple[Any, ...] | None = None
    while True:
        where, values = "1", {}
        if after is not None:
            where, values = behind(layout.order, after), {f"last_{n}": value for n, value in enumerate(after)}
        page = f"SELECT {order} FROM {quoted(first)} WHERE {where} ORDER BY {order} LIMIT 1 OFFSET {RANGE_ROWS - 1}"
        until = reader.query(page, values)
        if until:
            marks = ", ".join(f":until_{n}" for n in range(len(layout.order)))
            where = f"{where} AND ({order}) <= ({marks})"
            values |= {f"until_{n}": value for n, value in enumerate(until[0])}
        # Both sides come in order from an index, so SQLite merges them.
        sides = [f"SELECT {order} FROM {quoted(table)} WHERE {where}" for table in (first, second)]
        rows = reader.query(f"{' EXCEPT '.join(sides)} ORDER BY {order}", values)
        if rows:
            yield [_owner_and_key(row, layout) for row in rows]
        if not until:
            return
        after = tuple(until[0])


def _owner_and_key(row: tuple[Any, ...], layout: "Layout") -> tuple[Any, Any]:
    key = row[layout.order.index(layout.keys[-1])]
    return ("" if len(layout.keys) == 1 else row[layout.order.index(layout.keys[0])], key)


def _gone_sources(reader: Queried, shadow: "Shadow", layout: "Layout") -> Iterator[list[tuple[Any, Any]]]:
    """Rows that were split, dropped or set aside, and are not in the live table any more."""
    same = [f"live.{quoted(layout.keys[-1])} IS past.row_key"]
    if len(layout.keys) > 1:
        same.append(f"live.{quoted(layout.keys[0])} IS past.owner")
    for table in ("_sync_shadow_made", "_sync_shadow_aside"):
        rows = reader.query(
            f"SELECT DISTINCT owner, row_key FROM {table} AS past WHERE collection = ? AND NOT EXISTS "
            f"(SELECT 1 FROM {quoted(shadow.collection)} AS live WHERE {' AND '.join(same)})",
            (shadow.collection,),
        )
        if rows:
            yield [(owner, key) for owner, key in rows]


def _set_aside_by_rules(reader: Queried, shadow: "Shadow") -> list[tuple[Any, Any]]:
    return [
        (owner, key)
        for owner, key in reader.query(
            "SELECT owner, row_key FROM _sync_shadow_aside WHERE collection = ? AND error_code = 'constraint_failed'",
            (shadow.collection,),
        )
    ]


def _is_accounted_for(reader: Queried, shadow: "Shadow", key: tuple[Any, Any]) -> bool:
    return any(
        reader.query(
            f"SELECT 1 FROM {table} WHERE collection = ? AND owner IS ? AND row_key IS ? LIMIT 1",
            (shadow.collection, *key),
        )
        for table in ("_sync_shadow_made", "_sync_shadow_aside", "_sync_shadow_touched")
    )


def _is_made(reader: Queried, shadow: "Shadow", key: tuple[Any, Any]) -> bool:
    return bool(
        reader.query(
            "SELECT 1 FROM _sync_shadow_made WHERE collection = ? AND made_owner IS ? AND made_key IS ? LIMIT 1",
            (shadow.collection, *key),
        )
    )


def _touch(store: "Store", shadow: "Shadow", keys: list[tuple[Any, Any]]) -> int:
    if keys:
        with store.transaction():
            for owner, key in keys:
                store.run("shadow", "touch", collection=shadow.collection, owner=owner, row_key=key)
    return len(keys)
