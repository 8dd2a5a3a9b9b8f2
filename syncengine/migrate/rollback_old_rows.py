"""Rows that go back as they were: from the old table of a shadow run, or from a restore point.

The old rows are converted once more beside the live ones, so that what was edited, added or deleted since shows by
itself. Their present form is a collision: it goes to quarantine, and the old rows take the table's name.
"""

from typing import TYPE_CHECKING

from syncengine.errors import RollbackRefused
from syncengine.local.copies import open_copy
from syncengine.local.identifiers import quoted
from syncengine.local.restore_points import opened_restore_point
from syncengine.local.sameness import same_row
from syncengine.local.stored import SHAPE_VERSION, stored_version
from syncengine.migrate.late import LIVE_SUFFIX
from syncengine.migrate.paging import page_of, rows_of
from syncengine.migrate.rejection import Rejection
from syncengine.migrate.rollback_again import convert_again
from syncengine.migrate.rollback_entries import put_back_entries
from syncengine.migrate.rollback_report import UndoCounts
from syncengine.migrate.shape import attached, columns_of, parse_table, swap_in
from syncengine.migrate.work import key_columns
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion

if TYPE_CHECKING:
    from apsw import Connection

    from syncengine.local.store import Store
    from syncengine.migrate.rebuild import RebuildingExecutor
    from syncengine.migrate.rollback_undoing import Undoing

OLD_SUFFIX = "_old_"
EXPECTED_SUFFIX = "_expected_"

EDITED = Rejection(code="edited_since", text="was changed since the migration")
NEW = Rejection(code="new_since", text="was added since the migration")
DELETED = Rejection(code="deleted_since", text="was deleted since the migration, and comes back")


def put_back(executor: "RebuildingExecutor", undoing: "Undoing", *, old: str, indexes: tuple[str, ...]) -> UndoCounts:
    """Let the table `old`, in the older shape, take the place of the live one; the counts.

    `indexes` are the CREATE INDEX texts of the older shape.
    """
    store, name = undoing.store, executor.collection
    newest = store.value("rollback", "newest_item")
    counts = UndoCounts(before=rows_of(store, name))
    _make_expected(executor, undoing, old=old)
    counts.set_aside = _set_aside_what_is_newer(undoing, name)
    deleted = _note_what_was_deleted(undoing, name)
    store.query(f"DROP TABLE {quoted(name + EXPECTED_SUFFIX)}")
    resolved = store.run(
        "rollback", "resolve_rows", migration=undoing.step.id, collection=name, until=newest, now=undoing.now
    )
    for index, _ in attached(store, old, "index"):
        store.query(f"DROP INDEX {quoted(index)}")
    swap_in(store, new=old, table=name, indexes=indexes, lifting=False)
    counts.entries = put_back_entries(undoing, name, shape_version=executor.definition.from_version)
    counts.kept = counts.before - counts.set_aside
    counts.after = rows_of(store, name)
    counts.restored = min(counts.after, deleted + resolved)
    counts.made = counts.after - counts.restored
    return counts


def _make_expected(executor: "RebuildingExecutor", undoing: "Undoing", *, old: str) -> None:
    """What the old rows become, under a name of its own; the live table steps aside meanwhile."""
    store, name = undoing.store, executor.collection
    create = str(store.query("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (old,))[0][0])
    same = parse_table(create, migration=undoing.step.id)
    renamed(store, name, name + LIVE_SUFFIX)
    store.query(same.create_as(name))
    columns = columns_of(store, old)
    names = ", ".join(map(quoted, columns))
    store.query(f"INSERT INTO {quoted(name)} ({names}) SELECT {names} FROM {quoted(old)}")
    convert_again(undoing, undoing.step.id)
    renamed(store, name, name + EXPECTED_SUFFIX)
    renamed(store, name + LIVE_SUFFIX, name)


def renamed(store: "Store", table: str, name: str) -> None:
    """Give a table another name; what refers to the name goes on referring to the name."""
    store.query("PRAGMA legacy_alter_table = ON")
    try:
        store.query(f"ALTER TABLE {quoted(table)} RENAME TO {quoted(name)}")
    finally:
        store.query("PRAGMA legacy_alter_table = OFF")


def _set_aside_what_is_newer(undoing: "Undoing", name: str) -> int:
    store, keys = undoing.store, key_columns(undoing.collection(name))
    columns = columns_of(store, name)
    known = _is_in(name + EXPECTED_SUFFIX, name, columns=keys, keys=keys)
    same = _is_in(name + EXPECTED_SUFFIX, name, columns=columns, keys=keys)
    set_aside = 0
    for which, why in ((f"{known} AND NOT {same}", EDITED), (f"NOT {known}", NEW)):
        newer = page_of(store, columns, f" FROM {quoted(name)} WHERE {which} ORDER BY {_in_order(keys)}", ())
        for row in newer:
            undoing.set_aside(name, columns, row, why)
        set_aside += len(newer)
    return set_aside


def _note_what_was_deleted(undoing: "Undoing", name: str) -> int:
    collection, expected = undoing.collection(name), name + EXPECTED_SUFFIX
    keys = key_columns(collection)
    there = _is_in(name, expected, columns=keys, keys=keys)
    rest = f" FROM {quoted(expected)} WHERE NOT {there} ORDER BY {_in_order(keys)}"
    gone = page_of(undoing.store, keys, rest, ())
    for row in gone:
        owner = str(row[0]) if collection.owner is not None else None
        undoing.collide(name, owner=owner, key=str(row[-1]), why=DELETED)
    return len(gone)


def _is_in(table: str, asked: str, *, columns: tuple[str, ...], keys: tuple[str, ...]) -> str:
    """SQL: a row of `asked` has the same values in these columns as one of `table`."""
    same = same_row("o", quoted(asked), columns=columns, keys=keys)
    return f"EXISTS (SELECT 1 FROM {quoted(table)} AS o WHERE {same})"


def _in_order(keys: tuple[str, ...]) -> str:
    return ", ".join(map(quoted, keys))


def put_back_kept_table(executor: "RebuildingExecutor", undoing: "Undoing", *, kept: str) -> UndoCounts:
    """The old table of a shadow run takes its name again."""
    counts = put_back(executor, undoing, old=kept, indexes=_indexes_before(executor, undoing))
    undoing.store.run("shadow", "forget_kept_table", table_name=kept)
    return counts


def put_back_from_restore_point(
    executor: "RebuildingExecutor", undoing: "Undoing", *, restore_point_id: int
) -> UndoCounts:
    """The collection's table as a restore point has it; the rest of the store stays as it is.

    Where other migrations of the collection ran between the restore point and this one, its rows go through them
    again. Raises RollbackRefused where the restore point is a later one, and what opening it raises.
    """
    old = executor.collection + OLD_SUFFIX
    shape = _copy_old_rows(undoing, executor.collection, restore_point_id=restore_point_id)
    for migration in _between(undoing, executor.collection, shape):
        _through(undoing, migration, name=executor.collection, table=old)
    return put_back(executor, undoing, old=old, indexes=_indexes_before(executor, undoing))


def _indexes_before(executor: "RebuildingExecutor", undoing: "Undoing") -> tuple[str, ...]:
    before = executor.shape_before(undoing.store)
    return () if before is None else before.indexes


def _copy_old_rows(undoing: "Undoing", name: str, *, restore_point_id: int) -> SchemaVersion:
    """Copy the collection's table into this store under another name; the version of its shape there."""
    assert undoing.context.keys is not None, "an open engine has keys"
    store, old = undoing.store, name + OLD_SUFFIX
    with (
        opened_restore_point(store, restore_point_id, keys=undoing.context.keys) as path,
        open_copy(str(path)) as copy,
    ):
        found = copy.execute("SELECT shape_version FROM _sync_collection WHERE name = ?", (name,)).get
        shape = None if found is None else stored_version(found, SHAPE_VERSION)
        if shape is None or shape > undoing.step.hop.from_version:
            raise RollbackRefused(
                f"Restore point {restore_point_id} does not hold {name} as it was before {undoing.step.id}.",
                why=f"its shape there is of version {found}",
                fix="Nothing was changed. Look for an older restore point.",
            )
        create = copy.execute("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (name,)).get
        store.query(parse_table(create, migration=undoing.step.id).create_as(old))
        columns = columns_of(store, old)
        _copy_rows(copy, name, store, old, columns)
    return shape


def _copy_rows(source: "Connection", name: str, store: "Store", table: str, columns: tuple[str, ...]) -> None:
    """From one database into the other. SQLite keeps text as it is given, UTF-8 or not: it goes over as bytes."""
    read = [
        f"typeof({column}), iif(typeof({column}) = 'text', CAST({column} AS BLOB), {column})"
        for column in map(quoted, columns)
    ]
    rows = source.execute(f"SELECT {', '.join(read)} FROM {quoted(name)}")
    written = ", ".join(["iif(? = 'text', CAST(? AS TEXT), ?)"] * len(columns))
    names = ", ".join(map(quoted, columns))
    store.connection.executemany(
        f"INSERT INTO {quoted(table)} ({names}) VALUES ({written})",
        (
            [part for kind, value in zip(row[::2], row[1::2], strict=True) for part in (kind, value, value)]
            for row in rows
        ),
    )


def _between(undoing: "Undoing", name: str, shape: SchemaVersion) -> list[str]:
    """What has changed the collection's shape since, before the migration that goes back; oldest first."""
    return [
        run.migration
        for run in undoing.ground.applied
        if run.scope == STORE_SCOPE
        and run.state != "stood_for"
        and run.run_id < undoing.step.applied.run_id
        and run.hop.to_version > shape
        and name in undoing.ground.collections.get(run.migration, ())
    ]


def _through(undoing: "Undoing", migration: str, *, name: str, table: str) -> None:
    """Take the rows of `table` through a migration that works on `name`."""
    renamed(undoing.store, name, name + LIVE_SUFFIX)
    renamed(undoing.store, table, name)
    convert_again(undoing, migration)
    renamed(undoing.store, name, table)
    renamed(undoing.store, name + LIVE_SUFFIX, name)
