"""What code that is not the engine's may do inside the engine's transaction.

Deny by default: a list of what is forbidden leaks (`ALTER TABLE _sync_outbox RENAME` is no write to it, and a
trigger writes later). Action codes and their arguments: sqlite.org/c3ref/c_alter_table.html.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import apsw

from syncengine.errors import MigrationDenied
from syncengine.local.sqlite_utils_adapter import AdaptedConnection, AdaptedCursor

if TYPE_CHECKING:
    import sqlite_utils

MayWrite = Callable[[str], bool]

ENGINE_PREFIX = "_sync_"
NEW_SUFFIX = "_new_"

_ALWAYS = frozenset(
    {
        apsw.SQLITE_SELECT,
        apsw.SQLITE_READ,
        apsw.SQLITE_RECURSIVE,
        apsw.SQLITE_SAVEPOINT,
    }
)
# The table is the first argument.
_ON_FIRST = frozenset(
    {
        apsw.SQLITE_INSERT,
        apsw.SQLITE_UPDATE,
        apsw.SQLITE_DELETE,
        apsw.SQLITE_CREATE_TABLE,
        apsw.SQLITE_DROP_TABLE,
        apsw.SQLITE_CREATE_VIEW,
        apsw.SQLITE_DROP_VIEW,
        apsw.SQLITE_CREATE_VTABLE,
        apsw.SQLITE_DROP_VTABLE,
        apsw.SQLITE_ANALYZE,
    }
)
# The table is the second argument; of ALTER the first is the database.
_ON_SECOND = frozenset(
    {
        apsw.SQLITE_ALTER_TABLE,
        apsw.SQLITE_CREATE_INDEX,
        apsw.SQLITE_DROP_INDEX,
        apsw.SQLITE_CREATE_TRIGGER,
        apsw.SQLITE_DROP_TRIGGER,
    }
)
_SCHEMA_TABLES = frozenset({"sqlite_master", "sqlite_schema", "sqlite_sequence"})
_PRAGMAS = frozenset(
    {
        "table_info",
        "table_xinfo",
        "table_list",
        "index_list",
        "index_info",
        "index_xinfo",
        "foreign_key_list",
        "foreign_key_check",
        "foreign_keys",
        "defer_foreign_keys",
        "legacy_alter_table",
        "user_version",
    }
)
_READ_ONLY_PRAGMAS = frozenset({"user_version", "foreign_keys"})


@contextmanager
def authorized(connection: apsw.Connection, *, may_write: MayWrite) -> Iterator[None]:
    """While the block runs, only statements that pass may be prepared. Raises MigrationDenied for the others.

    Set anew around each call: SQLite then prepares even cached statements again, so none escapes.
    """
    denied: list[str] = []

    def decide(action: int, first: str | None, second: str | None, _database: str | None, inner: str | None) -> int:
        if _allowed(action, first, second, inner, may_write):
            return apsw.SQLITE_OK
        name = apsw.mapping_authorizer_function[action]
        denied.append(f"{name} {first or ''}".strip())
        return apsw.SQLITE_DENY

    connection.authorizer = decide
    try:
        yield
    except apsw.Error as error:
        if not denied:
            raise
        raise MigrationDenied(
            "Code inside the engine's transaction tried what it must not.",
            why=f"SQLite was asked for {denied[0]}",
            fix="Write only to your own collections, and leave BEGIN, COMMIT, ROLLBACK and ATTACH to the engine.",
        ) from error
    finally:
        connection.authorizer = None


def _allowed(action: int, first: str | None, second: str | None, inner: str | None, may_write: MayWrite) -> bool:
    if action in _ALWAYS:
        return True
    if action == apsw.SQLITE_FUNCTION:
        return second != "load_extension"
    if action == apsw.SQLITE_PRAGMA:
        name = (first or "").lower()
        return name in _PRAGMAS and not (name in _READ_ONLY_PRAGMAS - {"foreign_keys"} and second is not None)
    if action == apsw.SQLITE_REINDEX:
        return not (first or "").startswith(ENGINE_PREFIX)
    if action in _ON_FIRST:
        return _may_touch(first, inner, may_write)
    if action in _ON_SECOND:
        return _may_touch(second, inner, may_write) and not (first or "").startswith(ENGINE_PREFIX)
    return False


def _may_touch(table: str | None, inner: str | None, may_write: MayWrite) -> bool:
    if table in _SCHEMA_TABLES:
        # SQLite's own bookkeeping for DDL; a statement that names these tables itself is refused by SQLite.
        return True
    if table is not None and table.startswith(ENGINE_PREFIX):
        return inner is not None and inner.startswith(ENGINE_PREFIX)
    return table is not None and may_write(table)


def only(collections: Iterable[str]) -> MayWrite:
    """These collections and the `_new_` tables that replace them."""
    names = frozenset(collections)
    return lambda table: table in names or (table.endswith(NEW_SUFFIX) and table.removesuffix(NEW_SUFFIX) in names)


def everything_of_the_app(table: str) -> bool:
    """All tables but the engine's."""
    return not table.startswith(ENGINE_PREFIX)


class GuardedConnection(AdaptedConnection):
    """The engine's connection as a migration's code may use it."""

    def __init__(self, connection: apsw.Connection, *, may_write: MayWrite) -> None:
        super().__init__(connection, begin="BEGIN IMMEDIATE")
        self.may_write = may_write

    def cursor(self) -> "GuardedCursor":
        return GuardedCursor(self)

    def close(self) -> None:
        """The engine's connection stays open."""


class GuardedCursor(AdaptedCursor):
    """Every statement is prepared under the authorizer."""

    def __init__(self, connection: GuardedConnection) -> None:
        super().__init__(connection)
        self._guarded = connection

    def execute(self, sql: str, bindings: "object | None" = None) -> "AdaptedCursor":
        with authorized(self._guarded.apsw, may_write=self._guarded.may_write):
            return super().execute(sql, bindings)  # type: ignore[arg-type]  # the base checks the bindings

    def executemany(self, sql: str, bindings: "Iterable[object]") -> "AdaptedCursor":
        with authorized(self._guarded.apsw, may_write=self._guarded.may_write):
            return super().executemany(sql, bindings)  # type: ignore[arg-type]  # the base checks the bindings

    def executescript(self, sql: str) -> "AdaptedCursor":
        with authorized(self._guarded.apsw, may_write=self._guarded.may_write):
            return super().executescript(sql)


def guarded_database(connection: apsw.Connection, *, may_write: MayWrite) -> "sqlite_utils.Database":
    """The engine's own connection as a sqlite_utils.Database that cannot end the transaction."""
    import sqlite_utils

    return sqlite_utils.Database(GuardedConnection(connection, may_write=may_write))  # type: ignore[arg-type]  # DB-API
