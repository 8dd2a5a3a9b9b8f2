"""The new table beside the live one: can it be filled there, and how it is made."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncengine.errors import MigrationInvalid
from syncengine.local.identifiers import quoted
from syncengine.local.sqlite_errors import SQLError
from syncengine.migrate.code_in_use import hash_of_code
from syncengine.migrate.schema_text import Rewritten, rewrite_schema, sql_of
from syncengine.migrate.shape import attached
from syncengine.migrate.sql_text import created_name, index_as, table_as, without_foreign_keys
from syncengine.migrate.work import key_columns

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.rebuild import RebuildingExecutor
    from syncengine.migrate.work import Work

INDEX_PREFIX = "_sync_new_"


class NotBeside(Exception):
    """This collection cannot be rewritten beside the live table; the message says why."""


class KeysCompareAlike(NotBeside):
    """Keys that differ can be the same key (COLLATE NOCASE): it is done in one transaction, even where the author
    wants it beside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The columns that the rewriting works with."""

    source: tuple[str, ...]
    """Read from the live table."""
    new: tuple[str, ...]
    """Written to the new one."""
    keys: tuple[str, ...]
    """Owner and key, or the key alone."""
    order: tuple[str, ...]
    """The same columns, in the order in which an index of the live table has them."""


def layout_of(executor: "RebuildingExecutor", work: "Work") -> Layout:
    """Raises NotBeside where a row could not be found again quickly by its key, in either table."""
    store, live, new = work.store, executor.collection, executor.new_table
    source, made = executor.source_columns(work), executor.new_columns(work)
    keys = key_columns(work.collections[live])
    if not set(keys) <= set(source) & set(made):
        raise NotBeside("its key is not a column of both shapes")
    order = _order_of_key(store, live, keys)
    if order is None:
        raise NotBeside("no unique index of the live table is over its key, in one direction")
    if _types(store, live, keys) != _types(store, new, keys):
        raise NotBeside("the type of its key changes")
    if not _compare_by_bytes(store, live, keys) or not _compare_by_bytes(store, new, keys):
        raise KeysCompareAlike("its key has a COLLATE of its own")
    if not _is_searched(store, new, keys):
        raise NotBeside("the new table has no index over its key")
    unset = " OR ".join(f"{quoted(key)} IS NULL" for key in keys)
    if store.query(f"SELECT 1 FROM {quoted(live)} WHERE {unset} LIMIT 1"):
        raise NotBeside("a row has no key")
    return Layout(source=source, new=made, keys=keys, order=order)


def is_ordinary(store: "Store", table: str) -> bool:
    """A table with rows of its own: no view, no virtual table."""
    return store.query("SELECT type FROM pragma_table_list(?) WHERE schema = 'main'", (table,)) == [("table",)]


def _order_of_key(store: "Store", table: str, keys: tuple[str, ...]) -> tuple[str, ...] | None:
    unique = store.query('SELECT name FROM pragma_index_list(?) WHERE "unique" AND NOT partial', (table,))
    orders = [
        tuple(str(name) for (name,) in store.query("SELECT name FROM pragma_index_info(?) ORDER BY seqno", (index,)))
        for (index,) in unique
    ]
    if store.query("SELECT 1 FROM pragma_table_xinfo(?) WHERE pk = 1 AND name = ?", (table, keys[-1])):
        orders.append(keys)  # INTEGER PRIMARY KEY is the rowid and has no index
    for order in orders:
        if set(order) == set(keys) and _is_sorted(store, table, order):
            return order
    return None


def _is_sorted(store: "Store", table: str, order: tuple[str, ...]) -> bool:
    """Does an index give the rows in this order? Otherwise SQLite would sort them all for each page."""
    names = ", ".join(map(quoted, order))
    return "TEMP B-TREE" not in _query_plan(store, f"SELECT * FROM {quoted(table)} ORDER BY {names} LIMIT 1")


def _is_searched(store: "Store", table: str, keys: tuple[str, ...]) -> bool:
    where = " AND ".join(f"{quoted(key)} IS ?" for key in keys)
    return "SEARCH" in _query_plan(store, f"SELECT 1 FROM {quoted(table)} WHERE {where}")


def _query_plan(store: "Store", sql: str) -> str:
    # Not from the cache: EXPLAIN does not look whether the schema has moved.
    marks = (None,) * sql.count("?")
    plan = store.connection.execute(f"EXPLAIN QUERY PLAN {sql}", marks, can_cache=False).fetchall()
    return " ".join(str(row[3]) for row in plan)


def _types(store: "Store", table: str, keys: tuple[str, ...]) -> dict[str, str]:
    """Affinities by sqlite.org/datatype3.html#determination_of_column_affinity: a key compares alike in both."""
    rows = store.query("SELECT name, upper(type) FROM pragma_table_xinfo(?)", (table,))
    return {name: _affinity(kind) for name, kind in rows if name in keys}


def _compare_by_bytes(store: "Store", table: str, keys: tuple[str, ...]) -> bool:
    return all(store.connection.column_metadata("main", table, key)[1].upper() == "BINARY" for key in keys)


def _affinity(kind: str) -> str:
    for affinity, words in (
        ("INTEGER", ("INT",)),
        ("TEXT", ("CHAR", "CLOB", "TEXT")),
        ("BLOB", ("BLOB", "ANY")),
        ("REAL", ("REAL", "FLOA", "DOUB")),
    ):
        if any(word in kind for word in words):
            return affinity
    return "NUMERIC" if kind else "BLOB"


def make_beside(executor: "RebuildingExecutor", work: "Work") -> tuple[str, dict[str, str]]:
    """Make the new table with all of its indexes, while it is empty; its final CREATE TABLE, and its indexes' names.

    Until the swap it refers to nothing: a foreign key would be checked against rows that are on their way, and an
    app that deletes a parent would be refused for a row of a table that it does not know.
    """
    store = work.store
    executor.make_new_table(work)
    sql = sql_of(store, "table", executor.new_table)
    assert sql is not None
    bare = without_foreign_keys(sql)
    if bare != sql:
        rewrite_schema(
            store, [Rewritten(kind="table", name=executor.new_table, new_name=executor.new_table, sql=bare)]
        )
    if store.query("SELECT 1 FROM pragma_foreign_key_list(?)", (executor.new_table,)):
        raise NotBeside("the foreign keys of its new shape cannot be set apart")
    return table_as(sql, executor.collection), _make_indexes(executor, store)


def _make_indexes(executor: "RebuildingExecutor", store: "Store") -> dict[str, str]:
    authors = {created_name(sql): sql for sql in executor.new_indexes}
    for name in authors:
        refuse_name_of_another(store, name, table=executor.collection)
    names = {}
    for name, sql in [*authors.items(), *attached(store, executor.collection, "index")]:
        beside = INDEX_PREFIX + name
        if beside in names:
            continue  # the author gave it anew
        try:
            store.query(index_as(sql, name=beside, table=executor.new_table))
        except SQLError:
            if name in authors:
                raise
            continue  # its columns are gone; the swap says so
        names[beside] = name
    return names


def refuse_name_of_another(store: "Store", name: str, *, table: str) -> None:
    """An index gets its name without SQLite's own check. Raises MigrationInvalid where the name is taken."""
    taken = store.query("SELECT tbl_name FROM sqlite_schema WHERE name = ? AND tbl_name <> ?", (name, table))
    if taken:
        raise MigrationInvalid(
            f"The new shape of {table} has an index {name}, and that name is taken.",
            why=f"it belongs to {taken[0][0]}",
            fix="Give the index another name. Nothing was changed.",
        )


def code_of(executor: "RebuildingExecutor", work: "Work") -> str | None:
    """A hash over everything that decides what a row becomes: a run resumes only where it is the same.

    None where it cannot be told: then no run resumes.
    """
    made = [getattr(executor, name, None) for name in ("function", "old_hint", "new_hint", "table", "changes")]
    code = hash_of_code((*made, executor.repairs, type(executor)))
    if code is None:
        return None
    parts = (
        code,
        executor.source_columns(work),
        executor.new_columns(work),
        executor.new_indexes,
        executor.insert_select(work),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()
