"""The swap: the filled table takes the place of the live one, in one short transaction that writes no row.

Two tables and their indexes exchange their names. ALTER TABLE can rename a table but no index, and it cannot give a
table its foreign keys, so these texts are changed in place.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncengine.errors import MigrationInvalid
from syncengine.local.identifiers import quoted
from syncengine.migrate.kept_tables import ddl_of, free_name, keep
from syncengine.migrate.schema_text import Rewritten, rewrite_schema, sql_of
from syncengine.migrate.shadow_table import refuse_name_of_another
from syncengine.migrate.shadow_triggers import drop_triggers
from syncengine.migrate.shape import (
    attached,
    broken_dependants,
    columns_of,
    keep_indexes,
    keep_sequence,
    keep_trigger,
    refuse_broken,
    sequence_of,
)
from syncengine.migrate.sql_text import created_name, index_as, index_text, table_as, without_foreign_keys

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.rebuild import RebuildingExecutor
    from syncengine.migrate.shadow_state import Shadow
    from syncengine.migrate.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """Which table comes, which goes, and the names of their indexes afterwards."""

    table: str
    coming: str
    leaving: str
    """The name that the table gets which has had it so far."""
    create: str
    """CREATE TABLE of the one that comes, as its author wrote it."""
    indexes: dict[str, str]
    """CREATE INDEX of its indexes as they are to be, by the names that they have."""


def swap(executor: "RebuildingExecutor", work: "Work", shadow: "Shadow") -> None:
    """Inside a transaction, with foreign keys off. Raises MigrationInvalid for what the new shape would break."""
    store, table = work.store, executor.collection
    drop_triggers(store, table)
    refuse_other_columns(store, shadow)
    executor.before_swap(work)
    for name in shadow.indexes.values():
        refuse_name_of_another(store, name, table=table)
    broken_before = broken_dependants(store, table)
    ddl = ddl_of(store, table)
    old_indexes, triggers = attached(store, table, "index"), attached(store, table, "trigger")
    for name, _ in triggers:
        store.query(f"DROP TRIGGER {quoted(name)}")
    leaving = free_name(store, f"_sync_old_{table}")
    exchange(
        store,
        Exchange(
            table=table,
            coming=executor.new_table,
            leaving=leaving,
            create=shadow.create,
            indexes=_final_indexes(executor, shadow, store, old_indexes),
        ),
    )
    for name in keep_indexes(store, table, old_indexes):
        work.warn(f"index {name} was left out: its columns are gone")
    for name, sql in triggers:
        keep_trigger(store, table, name, sql)
    executor.after_swap(work)
    refuse_broken(broken_dependants(store, table) - broken_before, table)
    keep(store, leaving, collection=table, migration=shadow.migration, ddl=ddl)


def exchange(store: "Store", names: Exchange) -> None:
    """Let one table take another's name; neither has triggers. The one that leaves refers to nothing any more."""
    sequence = sequence_of(store, names.table)
    leaving_indexes = attached(store, names.table, "index")
    coming_indexes = attached(store, names.coming, "index")
    store.query("PRAGMA legacy_alter_table = ON")
    try:
        # With it ON and foreign keys off, what refers to the table goes on naming it.
        store.query(f"ALTER TABLE {quoted(names.table)} RENAME TO {quoted(names.leaving)}")
        store.query(f"ALTER TABLE {quoted(names.coming)} RENAME TO {quoted(names.table)}")
    finally:
        store.query("PRAGMA legacy_alter_table = OFF")
    left = sql_of(store, "table", names.leaving)
    assert left is not None
    changes = [
        Rewritten(kind="table", name=names.table, new_name=names.table, sql=table_as(names.create, names.table)),
        Rewritten(kind="table", name=names.leaving, new_name=names.leaving, sql=without_foreign_keys(left)),
    ]
    changes += [_leaving_index(name, sql, table=names.leaving) for name, sql in leaving_indexes]
    for name, _ in coming_indexes:
        sql = names.indexes[name]
        changes.append(Rewritten(kind="index", name=name, new_name=created_name(sql), sql=sql))
    rewrite_schema(store, changes)
    keep_sequence(store, names.table, sequence)


def _leaving_index(name: str, sql: str, *, table: str) -> Rewritten:
    new_name = f"{table}.{name}"
    return Rewritten(kind="index", name=name, new_name=new_name, sql=index_as(sql, name=new_name, table=table))


def _final_indexes(
    executor: "RebuildingExecutor", shadow: "Shadow", store: "Store", old_indexes: list[tuple[str, str]]
) -> dict[str, str]:
    """As the author wrote them, or as they were on the old table; one that was dropped there meanwhile is kept."""
    written = {**dict(old_indexes), **{created_name(sql): index_text(sql) for sql in executor.new_indexes}}
    return {
        beside: written.get(shadow.indexes[beside])
        or index_as(sql, name=shadow.indexes[beside], table=executor.collection)
        for beside, sql in attached(store, executor.new_table, "index")
    }


def refuse_other_columns(store: "Store", shadow: "Shadow") -> None:
    """Somebody changed the live table itself while it was being rewritten: rows were read by other columns.

    Raises MigrationInvalid.
    """
    now = columns_of(store, shadow.collection)
    if now != shadow.source:
        raise MigrationInvalid(
            f"The table {shadow.collection} was changed while it was being rewritten.",
            why=f"it had {len(shadow.source)} columns and has {len(now)}, or they have other names",
            fix="Let no other program alter it meanwhile, and run the migration again. The store is as it was.",
        )
