"""What code that is not the engine's may do inside the engine's transaction.

Deny by default: a list of what is forbidden leaks (`ALTER TABLE _sync_outbox RENAME` is no write to it, and a
trigger writes later). Action codes and their arguments: sqlite.org/c3ref/c_alter_table.html.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import apsw

from syncengine.errors import ForkedEngine, MigrationDenied
from syncengine.local.identifiers import quoted
from syncengine.local.sqlite_utils_adapter import AdaptedConnection, AdaptedCursor

if TYPE_CHECKING:
    import sqlite_utils

    from syncengine.local.sqlite_utils_adapter import Bindings

MayWrite = Callable[[str], bool]
Refuse = Callable[[int, str | None, str | None], None]
"""Raises for what must not be done, by action and its first two arguments."""

AUTHORIZED = apsw.SQLITE_OK

ENGINE_PREFIX = "_sync_"
ENGINE_SAVEPOINTS = ("migration_", "batch_")
ROW_SAVEPOINT = "row"
NEW_SUFFIX = "_new_"

_ALWAYS = frozenset(
    {
        apsw.SQLITE_SELECT,
        apsw.SQLITE_READ,
        apsw.SQLITE_RECURSIVE,
    }
)
READING = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_RECURSIVE, apsw.SQLITE_FUNCTION})
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
_SCHEMA_TABLES = frozenset({"sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_sequence"})
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
        "data_version",  # FTS5 asks for it
        "quick_check",  # ALTER TABLE ADD COLUMN asks for it on a STRICT table
        "integrity_check",
    }
)
_READ_ONLY_PRAGMAS = frozenset({"user_version"})
_ENGINE_VIEWS = frozenset(
    {"sync_status", "sync_outbox", "sync_quarantine", "sync_conflicts", "migration_status", "migration_history"}
)


class _Judge:
    """Decides about each thing that a statement would do, when SQLite prepares it."""

    def __init__(self, may_write: MayWrite, refuse: Refuse | None) -> None:
        self._may_write = may_write
        self._refuse = refuse
        self.denied: list[str] = []
        self.triggers: list[str] = []

    def __call__(
        self, action: int, first: str | None, second: str | None, _database: str | None, inner: str | None
    ) -> int:
        if self._refuse is not None:
            self._refuse(action, first, second)
        if not _allowed(action, first, second, inner, self._may_write):
            name = apsw.mapping_authorizer_function[action]
            self.denied.append(f"{name} {first or ''}".strip())
            return apsw.SQLITE_DENY
        if action == apsw.SQLITE_CREATE_TRIGGER and first:
            self.triggers.append(first)
        return apsw.SQLITE_OK


class _JudgeOfApp:
    """Stays set between the blocks of an app, and lets the engine's own statements pass there.

    Setting an authorizer makes SQLite prepare every statement again (sqlite.org/c3ref/set_authorizer.html), which for
    an edit that fires triggers costs more than the edit. A statement of the app is never one of the engine's that was
    prepared unjudged: `GuardedCursor` has them kept apart.
    """

    def __init__(self) -> None:
        self.inside: list[_Judge] = []

    def leave(self, judge: _Judge) -> None:
        """A block has ended; those inside it have nothing left to do, even if they end later."""
        if judge in self.inside:
            del self.inside[self.inside.index(judge) :]

    def __call__(
        self, action: int, first: str | None, second: str | None, database: str | None, inner: str | None
    ) -> int:
        if not self.inside:
            return apsw.SQLITE_OK
        return self.inside[-1](action, first, second, database, inner)


@contextmanager
def authorized(connection: apsw.Connection, *, may_write: MayWrite, refuse: Refuse | None = None) -> Iterator[None]:
    """While the block runs, only statements that pass may be prepared. Raises MigrationDenied for the others.

    `refuse` raises for some before: an exception of the callback passes through SQLite.

    Set anew around each call: SQLite then prepares even cached statements again, so none escapes.
    """
    judge = _Judge(may_write, refuse)
    around = connection.authorizer
    connection.authorizer = judge
    with _judged(connection, judge):
        try:
            yield
        finally:
            is_idle = isinstance(around, _JudgeOfApp) and not around.inside
            connection.authorizer = None if is_idle else around


@contextmanager
def authorized_app(connection: apsw.Connection) -> Iterator[None]:
    """The same for a block of the app: it may write all of its own tables, and the next one prepares nothing anew."""
    of_app = connection.authorizer
    if not isinstance(of_app, _JudgeOfApp):
        connection.authorizer = of_app = _JudgeOfApp()
    judge = _Judge(everything_of_the_app, None)
    with _judged(connection, judge):
        of_app.inside.append(judge)
        try:
            yield
        finally:
            of_app.leave(judge)


def end_app(connection: apsw.Connection) -> None:
    """No block of the app is open any more, however it ended."""
    if isinstance(connection.authorizer, _JudgeOfApp):
        connection.authorizer.inside.clear()
    else:
        connection.authorizer = None


@contextmanager
def _judged(connection: apsw.Connection, judge: _Judge) -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        if not judge.denied:
            raise
        raise _denial(f"SQLite was asked for {judge.denied[-1]}") from error
    finally:
        reaching = _drop_those_that_reach_the_engine(connection, judge.triggers)
    if reaching:
        raise _denial(f"the trigger {reaching[0]} would write to the engine's tables later")


def _denial(why: str) -> MigrationDenied:
    return MigrationDenied(
        "Code inside the engine's transaction tried what it must not.",
        why=why,
        fix="Write only to your own collections, and leave BEGIN, COMMIT, ROLLBACK and ATTACH to the engine.",
    )


def _drop_those_that_reach_the_engine(connection: apsw.Connection, triggers: list[str]) -> list[str]:
    """SQLite looks at a trigger's body when it fires, which may be when no authorizer is set."""
    found = []
    for name in triggers:
        sql = connection.execute("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?", (name,)).get
        if sql is not None and ENGINE_PREFIX in str(sql).lower():
            connection.execute(f"DROP TRIGGER {quoted(name)}").fetchall()
            found.append(name)
    return found


def table_of(action: int, first: str | None, second: str | None) -> str | None:
    """Which table an action of the authorizer is about, if it is about one."""
    if action in _ON_SECOND:
        return second
    return first if action == apsw.SQLITE_READ or action in _ON_FIRST else None


def _allowed(action: int, first: str | None, second: str | None, inner: str | None, may_write: MayWrite) -> bool:
    if action in _ALWAYS:
        return True
    if action == apsw.SQLITE_FUNCTION:
        return second != "load_extension"
    if action == apsw.SQLITE_PRAGMA:
        name = (first or "").lower()
        return name in _PRAGMAS and not (name in _READ_ONLY_PRAGMAS and second is not None)
    if action == apsw.SQLITE_SAVEPOINT:
        return not _is_savepoint_of_the_engine(second or "")
    if action == apsw.SQLITE_REINDEX:
        return not _is_of_the_engine(first or "")
    if action in _ON_FIRST:
        return _may_touch(first, inner, may_write)
    if action in _ON_SECOND:
        return _may_touch(second, inner, may_write) and not _is_of_the_engine(first or "")
    return False


def _is_savepoint_of_the_engine(name: str) -> bool:
    """Rolling back to one of them would undo rows that have been counted as written."""
    bare = name.lower()
    return bare == ROW_SAVEPOINT or bare.startswith(ENGINE_SAVEPOINTS)


def _may_touch(table: str | None, inner: str | None, may_write: MayWrite) -> bool:
    if table in _SCHEMA_TABLES:
        # SQLite's own bookkeeping for DDL; a statement that names these tables itself is refused by SQLite.
        return True
    if table is None or table in _ENGINE_VIEWS:
        return False
    if _is_of_the_engine(table):
        return inner is not None and _is_of_the_engine(inner)
    return may_write(table)


def _is_of_the_engine(name: str) -> bool:
    return name.lower().startswith(ENGINE_PREFIX)


def only(collections: Iterable[str]) -> MayWrite:
    """These collections and the tables that replace them: `<name>_new_`, and sqlite-utils' `<name>_new_<hex>`."""
    names = frozenset(collections)
    return lambda table: table in names or table.rpartition(NEW_SUFFIX)[0] in names


def everything_of_the_app(table: str) -> bool:
    """All tables but the engine's, and those that it fills to take the place of a collection."""
    return not _is_of_the_engine(table) and not table.lower().endswith(NEW_SUFFIX)


class GuardedConnection(AdaptedConnection):
    """The engine's connection as code that is not the engine's may use it, while the transaction lasts.

    With `may_write` every statement is prepared under an authorizer of its own: a migration's code alternates with
    the engine's own statements. Without it the caller has set one around the whole block.
    """

    def __init__(self, connection: apsw.Connection, *, may_write: MayWrite | None) -> None:
        super().__init__(connection, begin="BEGIN IMMEDIATE")
        self.may_write = may_write
        self.pid = os.getpid()

    def cursor(self) -> "GuardedCursor":
        return GuardedCursor(self)

    def execute(self, sql: str, bindings: "Bindings | None" = None) -> "AdaptedCursor":
        return GuardedCursor(self).execute(sql, bindings)

    def executemany(self, sql: str, bindings: "Iterable[Bindings]") -> "AdaptedCursor":
        return GuardedCursor(self).executemany(sql, bindings)

    def executescript(self, sql: str) -> "AdaptedCursor":
        return GuardedCursor(self).executescript(sql)


class GuardedCursor(AdaptedCursor):
    """Every statement runs inside the engine's transaction, or not at all."""

    prepare_flags = apsw.SQLITE_PREPARE_PERSISTENT
    """Other flags than the engine's: a prepared statement is found again by its text and its flags."""

    def __init__(self, connection: GuardedConnection) -> None:
        super().__init__(connection)
        self._guarded = connection

    @contextmanager
    def _guarding(self) -> Iterator[None]:
        connection = self._guarded.apsw
        if os.getpid() != self._guarded.pid:
            raise ForkedEngine(
                "A forked process used a block of its parent's engine.",
                why="SQLite's locks belong to the process that took them",
                fix="Leave the block to the parent; start other processes anew and open an engine there.",
            )
        if not connection.in_transaction:
            raise MigrationDenied(
                "The transaction of this block has ended, so the statement was not run.",
                why="SQLite rolled it back: INSERT OR ROLLBACK, RAISE(ROLLBACK), a full disk or an interrupt",
                fix="Let the error that ended it pass; nothing of the block was kept.",
            )
        if self._guarded.may_write is None:
            yield
            return
        with authorized(connection, may_write=self._guarded.may_write):
            yield

    def execute(self, sql: str, bindings: "Bindings | None" = None) -> "AdaptedCursor":
        with self._guarding():
            return super().execute(sql, bindings)

    def executemany(self, sql: str, bindings: "Iterable[Bindings]") -> "AdaptedCursor":
        with self._guarding():
            return super().executemany(sql, bindings)

    def executescript(self, sql: str) -> "AdaptedCursor":
        with self._guarding():
            return super().executescript(sql)


def guarded_database(connection: apsw.Connection, *, may_write: MayWrite | None) -> "sqlite_utils.Database":
    """The engine's own connection as a sqlite_utils.Database that cannot end the transaction."""
    import sqlite_utils

    guarded = GuardedConnection(connection, may_write=may_write)
    # Its default would set a pragma, which is the engine's to do.
    database = sqlite_utils.Database(guarded, recursive_triggers=False, execute_plugins=False)  # type: ignore[arg-type]  # DB-API
    # It would find out by making tables of its own, which is denied; apsw's SQLite has both.
    database._supports_strict = database._supports_on_conflict = True
    return database
