"""A UNIQUE index that comes with a migration: the first row by key stays, a row that repeats it goes to quarantine.

An index made after the rows can only fail as a whole. So each UNIQUE one stands on the new table under another name
while it is filled, and SQLite says of each row what it repeats.
"""

from typing import TYPE_CHECKING

from syncengine.local.identifiers import quoted
from syncengine.local.sqlite_errors import SQLError
from syncengine.migrate.rebuild import RebuildingExecutor
from syncengine.migrate.shape import attached, table_exists
from syncengine.migrate.sql_text import created_name, index_as, tokens_of

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.executor import BaseMigrationExecutor

WHILE_FILLED = "_filling_"
"""Behind the name of an index: its own name may still belong to the old table."""


class UniqueRows:
    """The UNIQUE indexes of a new table while its rows come in."""

    def __init__(self, store: "Store", executor: "BaseMigrationExecutor") -> None:
        self._store = store
        self._executor = executor
        self._made: list[str] = []

    def make(self) -> None:
        """Make them, where there is a new table; one whose columns are gone is left to the end of the migration."""
        executor = self._executor
        if not isinstance(executor, RebuildingExecutor) or not table_exists(self._store, executor.new_table):
            return
        for sql in filter(_is_unique, self._wanted(executor)):
            name = created_name(sql) + WHILE_FILLED
            try:
                self._store.query(index_as(sql, name=name, table=executor.new_table))
            except SQLError:
                continue
            self._made.append(name)

    def _wanted(self, executor: RebuildingExecutor) -> list[str]:
        """The author's, and those of the old table that the author does not name again."""
        given = {created_name(sql) for sql in executor.new_indexes}
        old = attached(self._store, executor.collection, "index")
        return [*executor.new_indexes, *(sql for name, sql in old if name not in given)]

    def drop(self) -> None:
        """Away with them, before the real ones are made."""
        for name in self._made:
            self._store.query(f"DROP INDEX {quoted(name)}")


def _is_unique(sql: str) -> bool:
    return any(token.is_word("UNIQUE") for token in tokens_of(sql)[:2])
