"""A user who comes late: their old data is imported in its old shape into a store that has moved on.

The live tables step aside inside the transaction, old-shaped ones take their names, the import runs as ever, the
row migrations that the store went through since are run over the imported rows alone, and what comes out is
added to the live tables. So one function serves stored rows and late ones.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncengine.errors import MigrationInvalid
from syncengine.local.identifiers import quoted
from syncengine.local.sqlite_errors import ConstraintError
from syncengine.local.stored import SHAPE_VERSION, stored_version
from syncengine.local.version_table import read_installed
from syncengine.migrate.declared import DeclaredExecutor
from syncengine.migrate.paging import pages
from syncengine.migrate.plan import Step, all_steps_of_hop
from syncengine.migrate.row_function import RowFunctionExecutor
from syncengine.migrate.shape import TableSql, columns_of
from syncengine.migrate.tables import TablesExecutor
from syncengine.migrate.work import insert_sql, key_columns
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from syncengine.local.store import Row, Store
    from syncengine.migrate.definition import MigrationDefinition
    from syncengine.migrate.registry import Collection as CollectionOfApp
    from syncengine.migrate.registry import MigrationRegistry

LIVE_SUFFIX = "_live_"
LATE_SUFFIX = "_late_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """Which collections of a migration have moved on, their old tables, and the steps between."""

    tables: tuple[TableSql, ...]
    steps: tuple[Step, ...]
    shaping: tuple[Step, ...] = ()
    """What changed the old tables between their CREATE TABLE and the version that is imported into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LateRow:
    """A row that went all the way and then does not fit among those that are there."""

    collection: str
    key: str
    why: str
    columns: tuple[str, ...]
    row: "Row"


def lift_for(store: "Store", registry: "MigrationRegistry", definition: "MigrationDefinition") -> Lift | None:
    """None when every collection still has the shape that the migration writes."""
    written = SchemaVersion.parse(definition.to_version)
    shapes = {str(row[0]): stored_version(row[3], SHAPE_VERSION) for row in store.rows("runs", "collections")}
    moved = [name for name in definition.collections if shapes.get(name, written) > written]
    if not moved:
        return None
    # By the shapes, not by the store's version: after a rollback of one collection the others are ahead of it.
    newest = max(shapes[name] for name in moved)
    there = max(newest, read_installed(store).schema_version(STORE_SCOPE) or registry.baseline)
    between = [
        step
        for hop in registry.get_migration_path(written, there)
        for step in all_steps_of_hop(hop, registry)
        if step.scope == STORE_SCOPE and _went_through(registry, step, {name: shapes[name] for name in moved})
    ]
    made = {name: _last_create(registry, name, written) for name in moved}
    return Lift(
        tables=tuple(table for _, table in made.values()),
        steps=tuple(between),
        shaping=tuple(step for name, (at, _) in made.items() for step in _shaping(registry, name, at, written)),
    )


def steps_between(
    registry: "MigrationRegistry", version: SchemaVersion, to: SchemaVersion, *, collection: str
) -> tuple[Step, ...]:
    """What rewrites the rows of a collection on the way from one version of its shape to another, in order."""
    return tuple(
        step
        for hop in registry.get_migration_path(version, to)
        for step in all_steps_of_hop(hop, registry)
        if step.scope == STORE_SCOPE and _went_through(registry, step, {collection: to})
    )


def old_table(registry: "MigrationRegistry", name: str, version: SchemaVersion) -> tuple[TableSql, tuple[Step, ...]]:
    """The last CREATE TABLE for a collection up to a version, and the declared changes from there to that version.

    Raises MigrationInvalid where none is known.
    """
    at, table = _last_create(registry, name, version)
    return table, tuple(_shaping(registry, name, at, version))


def _shaping(registry: "MigrationRegistry", name: str, version: SchemaVersion, to: SchemaVersion) -> "Iterator[Step]":
    """The declared changes of a collection from one version to another; row functions bring a table of their own."""
    for hop in registry.get_migration_path(version, to):
        for step in all_steps_of_hop(hop, registry):
            executor = registry.get_migration_executor(step.id)
            if isinstance(executor, DeclaredExecutor) and executor.collection == name:
                yield step


def _went_through(registry: "MigrationRegistry", step: Step, moved: dict[str, SchemaVersion]) -> bool:
    executor = registry.get_migration_executor(step.id)
    if not isinstance(executor, RowFunctionExecutor | DeclaredExecutor):
        return False
    return executor.collection in moved and step.hop.to_version <= moved[executor.collection]


def _last_create(registry: "MigrationRegistry", name: str, version: SchemaVersion) -> tuple[SchemaVersion, TableSql]:
    """The last CREATE TABLE for a collection up to a version, and when. Raises MigrationInvalid without one."""
    found: tuple[SchemaVersion, TableSql] | None = None
    for listed in registry.migrations:
        to_version = listed.edge.to_version
        if listed.scope != STORE_SCOPE or to_version > version or (found and to_version < found[0]):
            continue
        executor = registry.get_migration_executor(listed.id)
        tables = executor.tables if isinstance(executor, TablesExecutor) else ()
        own = executor.table if isinstance(executor, RowFunctionExecutor) else None
        for table in (*tables, *([own] if own else [])):
            if table.collection == name:
                found = (to_version, table)
    if found is None:
        raise MigrationInvalid(
            f"The shape of {name} at {version} is not known, so old data cannot be imported into it.",
            fix="Keep the migration that made the table in the registry.",
        )
    return found


def step_aside(store: "Store", lift: Lift) -> None:
    """Give the names of the live tables to empty ones of the old shape."""
    store.query("PRAGMA legacy_alter_table = ON")
    try:
        for table in lift.tables:
            name = table.collection
            store.query(f"ALTER TABLE {quoted(name)} RENAME TO {quoted(name + LIVE_SUFFIX)}")
            store.query(table.create)
    finally:
        store.query("PRAGMA legacy_alter_table = OFF")


def come_back(
    store: "Store",
    registry: "MigrationRegistry",
    lift: Lift,
    *,
    refuse: "Callable[[LateRow], None]",
    keys_may_meet: bool = True,
) -> None:
    """Add the lifted rows to the live tables, which take their names again.

    A row whose key is there already is left as it is there, where `keys_may_meet`; one that breaks another rule of
    the live table is given to `refuse` and left out.
    """
    names = [table.collection for table in lift.tables]
    store.query("PRAGMA legacy_alter_table = ON")
    try:
        # All names before any row: a trigger of one live table may write to another.
        for name in names:
            store.query(f"ALTER TABLE {quoted(name)} RENAME TO {quoted(name + LATE_SUFFIX)}")
            store.query(f"ALTER TABLE {quoted(name + LIVE_SUFFIX)} RENAME TO {quoted(name)}")
    finally:
        store.query("PRAGMA legacy_alter_table = OFF")
    for name in names:
        _add_rows(store, registry.collections[name], refuse, keys_may_meet=keys_may_meet)
        store.query(f"DROP TABLE {quoted(name + LATE_SUFFIX)}")


def _add_rows(
    store: "Store", collection: "CollectionOfApp", refuse: "Callable[[LateRow], None]", *, keys_may_meet: bool
) -> None:
    name = collection.name
    columns, keys = columns_of(store, name + LATE_SUFFIX), key_columns(collection)
    meeting = f" ON CONFLICT ({', '.join(map(quoted, keys))}) DO NOTHING" if keys_may_meet else ""
    insert = insert_sql(name, columns, suffix=meeting)
    for page in pages(store, name + LATE_SUFFIX, columns=columns, keys=keys):
        for row in page:
            try:
                store.query(insert, row)
            except ConstraintError as error:
                key = str(row[columns.index(collection.key)])
                refuse(LateRow(collection=name, key=key, why=str(error), columns=columns, row=row))
