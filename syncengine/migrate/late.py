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
from syncengine.local.version_table import read_installed
from syncengine.migrate.declared import DeclaredExecutor
from syncengine.migrate.plan import Step, all_steps_of_hop
from syncengine.migrate.row_migration import RowExecutor
from syncengine.migrate.shape import TableSql, columns_of
from syncengine.migrate.tables import TablesExecutor
from syncengine.migrate.work import key_columns
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion

if TYPE_CHECKING:
    from collections.abc import Callable

    from syncengine.local.store import Store
    from syncengine.migrate.definition import MigrationDefinition
    from syncengine.migrate.registry import MigrationRegistry

LIVE_SUFFIX = "_live_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """Which collections of a migration have moved on, their old tables, and the steps between."""

    tables: tuple[TableSql, ...]
    steps: tuple[Step, ...]


def lift_for(store: "Store", registry: "MigrationRegistry", definition: "MigrationDefinition") -> Lift | None:
    """None when every collection still has the shape that the migration writes."""
    written = SchemaVersion.parse(definition.to_version)
    shapes = {str(row[0]): SchemaVersion.parse(row[3]) for row in store.rows("runs", "collections")}
    moved = [name for name in definition.collections if shapes.get(name, written) > written]
    if not moved:
        return None
    there = read_installed(store).schema_version(STORE_SCOPE) or registry.baseline
    between = [
        step
        for hop in registry.get_migration_path(written, there)
        for step in all_steps_of_hop(hop, registry)
        if step.scope == STORE_SCOPE and _touches(registry, step, moved)
    ]
    return Lift(tables=tuple(_old_table(registry, name, written) for name in moved), steps=tuple(between))


def _touches(registry: "MigrationRegistry", step: Step, moved: list[str]) -> bool:
    executor = registry.get_migration_executor(step.id)
    return isinstance(executor, RowExecutor | DeclaredExecutor) and executor.collection in moved


def _old_table(registry: "MigrationRegistry", name: str, version: SchemaVersion) -> TableSql:
    """The last CREATE TABLE for a collection up to a version."""
    found: tuple[SchemaVersion, TableSql] | None = None
    for listed in registry.migrations:
        to_version = listed.edge.to_version
        if listed.scope != STORE_SCOPE or to_version > version or (found and to_version < found[0]):
            continue
        executor = registry.get_migration_executor(listed.id)
        tables = executor.tables if isinstance(executor, TablesExecutor) else ()
        own = executor.table if isinstance(executor, RowExecutor) else None
        for table in (*tables, *([own] if own else [])):
            if table.collection == name:
                found = (to_version, table)
    if found is None:
        raise MigrationInvalid(
            f"The shape of {name} at {version} is not known, so old data cannot be imported into it.",
            fix="Keep the migration that made the table in the registry.",
        )
    return found[1]


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
    store: "Store", registry: "MigrationRegistry", lift: Lift, *, refuse: "Callable[[str, str, str], None]"
) -> None:
    """Add the lifted rows to the live tables, which take their names again.

    A row whose key is there already is left as it is there; for one that breaks another rule of the live table
    `refuse(collection, key, reason)` is called before it is left out.
    """
    store.query("PRAGMA legacy_alter_table = ON")
    try:
        for table in lift.tables:
            _add_rows(store, registry, table.collection, refuse)
            store.query(f"DROP TABLE {quoted(table.collection)}")
            store.query(f"ALTER TABLE {quoted(table.collection + LIVE_SUFFIX)} RENAME TO {quoted(table.collection)}")
    finally:
        store.query("PRAGMA legacy_alter_table = OFF")


def _add_rows(
    store: "Store", registry: "MigrationRegistry", name: str, refuse: "Callable[[str, str, str], None]"
) -> None:
    collection = registry.collections[name]
    columns = ", ".join(map(quoted, columns_of(store, name)))
    keys = ", ".join(map(quoted, key_columns(collection)))
    for rowid, key in store.query(f"SELECT rowid, {quoted(collection.key)} FROM {quoted(name)} ORDER BY rowid"):
        try:
            store.query(
                f"INSERT INTO {quoted(name + LIVE_SUFFIX)} ({columns}) SELECT {columns} FROM {quoted(name)} "
                f"WHERE rowid = ? ON CONFLICT ({keys}) DO NOTHING",
                (rowid,),
            )
        except ConstraintError as error:
            refuse(name, str(key), str(error))
