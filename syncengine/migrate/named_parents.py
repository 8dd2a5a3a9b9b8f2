"""Which tables the tables of a migration refer to, and which migration has to make them first."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from syncengine.migrate.executor import BaseMigrationExecutor
from syncengine.migrate.row_function import RowFunctionExecutor
from syncengine.migrate.shape import table_exists
from syncengine.migrate.sql_text import referred_tables
from syncengine.migrate.tables import TablesExecutor

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.plan import Step


def tables_named_by(executor: BaseMigrationExecutor) -> tuple[str, ...]:
    """Of the tables whose text the migration gives; a foreign key in other SQL of an author's is seen at the end."""
    if isinstance(executor, TablesExecutor):
        return tuple(name for table in executor.tables for name in referred_tables(table.create))
    if isinstance(executor, RowFunctionExecutor) and executor.table is not None:
        return referred_tables(executor.table.create)
    return ()


def makers_of_parents(
    store: "Store", step: "Step", undone: Sequence["Step"], *, executor: BaseMigrationExecutor
) -> Iterator[str]:
    """The undone migrations without which nobody could write the tables of this one: what they refer to is not there.

    SQLite makes such a table, and refuses every write to it.
    """
    wanted = {name.lower() for name in tables_named_by(executor)}
    for collection in sorted({name for other in undone for name in other.collections}.difference(step.collections)):
        if collection.lower() in wanted and not table_exists(store, collection):
            makers = [other for other in undone if collection in other.collections]
            yield min(makers, key=lambda other: other.hop).id
