"""Migrations that make tables: `tables(...)`."""

from typing import TYPE_CHECKING

from syncengine.errors import MigrationInvalid
from syncengine.migrate.definition import Item, MigrationDefinition
from syncengine.migrate.executor import BaseMigrationExecutor
from syncengine.migrate.shape import parse_table, table_exists

if TYPE_CHECKING:
    from collections.abc import Iterator

    from syncengine.migrate.work import Work


class TablesExecutor(BaseMigrationExecutor):
    """Make the tables of new collections, with their indexes."""

    changes_rows = False

    def __init__(self, definition: MigrationDefinition, create: tuple[str, ...]) -> None:
        super().__init__()
        self.definition = definition  # type: ignore[misc]  # an author's class has one definition, this kind many
        self.tables = tuple(parse_table(sql, migration=definition.id) for sql in create)

    def items(self, work: "Work") -> "Iterator[Item]":
        return iter(())

    def prepare(self, work: "Work") -> None:
        for table in self.tables:
            if table_exists(work.store, table.collection):
                raise MigrationInvalid(
                    f"Migration {self.definition.id} would make the table {table.collection}, which exists.",
                    why="the app made it outside of its migrations",
                    fix="Leave it to the migration, or name another table. Nothing was changed.",
                )
            work.store.query(table.create)
            for index in table.indexes:
                work.store.query(index)


def tables(  # noqa: PLR0913  (keyword-only: all that a migration may say of itself)
    *,
    id: str,  # noqa: A002
    from_version: str,
    to_version: str,
    create: tuple[str, ...],
    name: str = "",
    description: str = "",
    after: tuple[str, ...] = (),
    critical: bool = True,
    backup: str = "auto",
    stands_for: tuple[str, ...] = (),
) -> TablesExecutor:
    """A migration that makes tables. Each text: CREATE TABLE, then its CREATE INDEX statements.

    Raises MigrationInvalid for other SQL.
    """
    collections = tuple(parse_table(sql, migration=id).collection for sql in create)
    definition = MigrationDefinition(
        id=id,
        name=name or id,
        description=description,
        from_version=from_version,
        to_version=to_version,
        collections=collections,
        after=after,
        critical=critical,
        backup=backup,
        stands_for=stands_for,
    )
    return TablesExecutor(definition, create)
