"""A `sqlite_utils.Database` over the engine's own apsw connection, so that one SQLite library touches the file."""

import datetime
import decimal
import importlib
import re
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, Literal, cast

import apsw
import sqlite_utils
from sqlite_utils.utils import OperationalError, column_affinity

from syncengine.errors import MigrationInvalid
from syncengine.local.identifiers import quoted
from syncengine.local.sqlite_errors import TOO_DEEP

DB_API = importlib.import_module(OperationalError.__module__)
"""The module whose exceptions sqlite-utils catches: sqlite3, or pysqlite3 where that is installed.

Only its exception classes are used; nothing here opens a file with it.
"""

ONE_STATEMENT = "You can only execute one statement at a time."
CLOSED = "Cannot operate on a closed database."

FIRST_WORD = re.compile(r"(?:\s+|--[^\n]*\n|/\*.*?\*/)*([A-Za-z]+)", re.DOTALL)
ONLY_COMMENTS = re.compile(r"(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))*\Z", re.DOTALL)
NOT_CODE = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/", re.DOTALL)
COUNTED_WORDS = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE"})

Binding = Any
Bindings = Sequence[Binding] | Mapping[str, Binding]
Row = tuple[Any, ...]
Description = tuple[tuple[str, None, None, None, None, None, None], ...]


def utils_database(connection: apsw.Connection, *, begin: str = "BEGIN IMMEDIATE") -> sqlite_utils.Database:
    """A sqlite-utils database on this connection, sharing its transaction; closing it leaves the connection open.

    Where sqlite-utils says a plain BEGIN, `begin` is said instead, so that its transactions take the write lock at
    once. Pragmas are left as they are and sqlite-utils plugins are not loaded. Errors are both apsw's and DB-API's:
    `except apsw.ConstraintError` and `except sqlite3.IntegrityError` catch the same one.
    """
    adapted = AdaptedConnection(connection, begin=begin)
    return sqlite_utils.Database(cast("sqlite3.Connection", adapted), recursive_triggers=False, execute_plugins=False)


class AdaptedConnection:
    """What sqlite-utils asks of a `sqlite3.Connection`, in autocommit mode (`isolation_level` is None)."""

    row_factory = None

    def __init__(self, connection: apsw.Connection, *, begin: str) -> None:
        self._connection: apsw.Connection | None = connection
        self.begin_statement = begin

    @property
    def apsw(self) -> apsw.Connection:
        """The connection underneath. Raises ProgrammingError after close()."""
        if self._connection is None:
            raise DB_API.ProgrammingError(CLOSED)
        return self._connection

    @property
    def in_transaction(self) -> bool:
        return self.apsw.in_transaction

    @property
    def total_changes(self) -> int:
        return self.apsw.total_changes()

    @property
    def isolation_level(self) -> None:
        return None

    @isolation_level.setter
    def isolation_level(self, level: str | None) -> None:
        if level is not None:
            raise DB_API.NotSupportedError("transactions begin where the code says BEGIN; isolation_level stays None")

    def cursor(self) -> "AdaptedCursor":
        return AdaptedCursor(self)

    def execute(self, sql: str, bindings: Bindings | None = None) -> "AdaptedCursor":
        return AdaptedCursor(self).execute(sql, bindings)

    def executemany(self, sql: str, bindings: Iterable[Bindings]) -> "AdaptedCursor":
        return AdaptedCursor(self).executemany(sql, bindings)

    def executescript(self, sql: str) -> "AdaptedCursor":
        return AdaptedCursor(self).executescript(sql)

    def commit(self) -> None:
        if self.in_transaction:
            self.execute("COMMIT")

    def rollback(self) -> None:
        if self.in_transaction:
            self.execute("ROLLBACK")

    def __enter__(self) -> "AdaptedConnection":
        return self

    def __exit__(self, kind: object, _error: object, _trace: object) -> None:
        """`with db.conn:` commits at its end, or rolls back what failed, as in the DB-API."""
        if kind is None:
            self.commit()
        else:
            self.rollback()

    def create_function(
        self, name: str, narg: int, func: Callable[..., Any] | None, *, deterministic: bool = False
    ) -> None:
        """Make a Python function callable from SQL; its own exceptions come out of execute() as they are."""
        with AS_DB_API_ERRORS:
            self.apsw.create_scalar_function(name, func, narg, deterministic=deterministic)

    def enable_load_extension(self, enabled: bool) -> None:
        raise DB_API.NotSupportedError("extensions are not loaded into the engine's connection")

    def iterdump(self) -> Iterator[str]:
        """The database as SQL statements, like `.dump` in the sqlite3 command line."""
        dump = importlib.import_module("sqlite3.dump")
        return cast("Iterator[str]", dump._iterdump(self))

    def close(self) -> None:
        """End this adapter; the engine's connection stays open."""
        self._connection = None


class AdaptedCursor:
    """What sqlite-utils asks of a `sqlite3.Cursor`."""

    arraysize = 1
    prepare_flags = 0

    def __init__(self, connection: AdaptedConnection) -> None:
        self.connection = connection
        self.row_factory: None = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.description: Description | None = None
        self._cursor = connection.apsw.cursor()
        self._cursor.convert_binding = _as_sqlite_value
        self._counted = False
        self._has_columns = False

    def execute(self, sql: str, bindings: Bindings | None = None) -> "AdaptedCursor":
        """Run exactly one statement. Several raise ProgrammingError before any of them has run."""
        connection = self.connection.apsw
        if sql == "BEGIN":
            sql = self.connection.begin_statement
        self._watch_first_statement_of(sql)
        with AS_DB_API_ERRORS:
            self._cursor.execute(sql, bindings, prepare_flags=self.prepare_flags)
        if self._has_columns:
            self.description = self._describe(sql, bindings)
        else:
            self._count_changes()
        self.lastrowid = connection.last_insert_rowid()
        return self

    def executemany(self, sql: str, bindings: Iterable[Bindings]) -> "AdaptedCursor":
        """Run one statement for each bindings; `rowcount` includes what triggers changed."""
        connection = self.connection.apsw
        changes_before = connection.total_changes()
        self._watch_first_statement_of(sql)
        with AS_DB_API_ERRORS:
            self._cursor.executemany(sql, bindings, prepare_flags=self.prepare_flags)
        self.rowcount = connection.total_changes() - changes_before
        return self

    def executescript(self, sql: str) -> "AdaptedCursor":
        """Commit what is open, as the DB-API does, then run every statement and discard its rows."""
        self.connection.commit()
        self._cursor.exec_trace = None
        with AS_DB_API_ERRORS:
            for _row in self._cursor.execute(sql, prepare_flags=self.prepare_flags):
                pass
        return self

    def __iter__(self) -> "AdaptedCursor":
        return self

    def __next__(self) -> Row:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row

    def fetchone(self) -> Row | None:
        with AS_DB_API_ERRORS:
            row = self._cursor.fetchone()
        if row is None:
            self._count_changes()
        return row

    def fetchmany(self, size: int | None = None) -> list[Row]:
        rows: list[Row] = []
        while len(rows) < (size or self.arraysize) and (row := self.fetchone()) is not None:
            rows.append(row)
        return rows

    def fetchall(self) -> list[Row]:
        with AS_DB_API_ERRORS:
            rows = self._cursor.fetchall()
        self._count_changes()
        return rows

    def close(self) -> None:
        self._cursor.close()

    def _watch_first_statement_of(self, sql: str) -> None:
        """Arrange that the prepared statement is looked at before it runs: apsw forgets it when it completes."""

        def look(cursor: apsw.Cursor, statement: str, _bindings: "apsw.Bindings | None") -> bool:
            cursor.exec_trace = None
            if len(statement) < len(sql) and not ONLY_COMMENTS.match(sql, len(statement)):
                raise DB_API.ProgrammingError(ONE_STATEMENT)
            # Not get_description(): apsw keeps each one's first answer, and that is asked again after the first step.
            self._has_columns = bool(cursor.description)
            self._counted = _counts_changes(statement, readonly=cursor.is_readonly)
            return True

        self.description = None
        self.rowcount = -1
        self._counted = False
        self._cursor.exec_trace = look

    def _describe(self, sql: str, bindings: Bindings | None) -> Description:
        """The columns after the first step, in which SQLite prepares anew what was cached under an older schema."""
        try:
            columns = self._cursor.get_description()
        except apsw.ExecutionCompleteError:
            columns = _columns_of(self.connection.apsw, sql, bindings)
        return tuple((column[0], *NOTHING_ELSE) for column in columns)

    def _count_changes(self) -> None:
        if self._counted:
            self._counted = False
            self.rowcount = self.connection.apsw.changes()


NOTHING_ELSE = (None, None, None, None, None, None)
"""The six fields of a DB-API column description that SQLite has no answer for."""


def _columns_of(connection: apsw.Connection, sql: str, bindings: Bindings | None) -> tuple[tuple[str, str], ...]:
    """The columns of a statement that gave no rows; it is prepared once more and not run."""
    found: list[tuple[str, str]] = []

    def look(cursor: apsw.Cursor, _statement: str, _bindings: "apsw.Bindings | None") -> bool:
        found.extend(cursor.get_description())
        return False

    cursor = connection.cursor()
    cursor.convert_binding = _as_sqlite_value
    cursor.exec_trace = look
    with AS_DB_API_ERRORS, suppress(apsw.ExecTraceAbort):
        cursor.execute(sql, bindings)
    return tuple(found)


def _counts_changes(statement: str, *, readonly: bool) -> bool:
    word = _first_word(statement)
    return word in COUNTED_WORDS or (word == "WITH" and not readonly)


@lru_cache(maxsize=128)
def _first_word(statement: str) -> str:
    first = FIRST_WORD.match(statement)
    return first.group(1).upper() if first else ""


def _as_sqlite_value(_cursor: apsw.Cursor, number: int, value: object) -> "apsw.SQLiteValue":
    """What sqlite-utils stores for such a value on insert; apsw asks only about types that SQLite does not know."""
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, uuid.UUID | datetime.timedelta):
        return str(value)
    kind = type(value).__name__
    raise DB_API.ProgrammingError(f"Error binding parameter {number}: type '{kind}' is not supported")


# Errors -----------------------------------------------------------------------------------------------------------

DB_API_FAMILIES: dict[str, tuple[type[apsw.Error], ...]] = {
    "IntegrityError": (apsw.ConstraintError, apsw.MismatchError),
    "DatabaseError": (apsw.CorruptError, apsw.NotADBError, apsw.FormatError, apsw.AuthError),
    "DataError": (apsw.TooBigError,),
    "InternalError": (apsw.InternalError,),
    "ProgrammingError": (
        apsw.MisuseError,
        apsw.RangeError,
        apsw.BindingsError,
        apsw.ThreadingViolationError,
        apsw.ForkingViolationError,
        apsw.ConnectionClosedError,
        apsw.CursorClosedError,
        apsw.IncompleteExecutionError,
        apsw.ExecutionCompleteError,
        apsw.InvalidContextError,
        apsw.VFSFileClosedError,
    ),
}
"""The same families as in CPython's Modules/_sqlite/util.c; every other error is an OperationalError."""

_GUARD = (
    "A trigger fires itself without end: the engine sets recursive_triggers, so that REPLACE fires the triggers of "
    "what it deletes. Give it a WHEN that is false for its own change. See docs/sql.md#writing"
)

_BOTH: dict[type[apsw.Error], type[apsw.Error]] = {}


def as_db_api_error(error: apsw.Error) -> apsw.Error:
    """The same error as an instance of its apsw class and of the matching DB-API class."""
    kind = type(error)
    if kind not in _BOTH:
        _BOTH[kind] = type(kind.__name__, (kind, _family_of(kind)), {})
    both = _BOTH[kind](*error.args)
    both.__dict__.update(error.__dict__)
    if str(error).endswith(TOO_DEEP):
        both.add_note(_GUARD)
    both.__dict__["sqlite_errorcode"] = getattr(error, "extendedresult", None)
    return both


def _family_of(kind: type[apsw.Error]) -> type[Exception]:
    name = next((family for family, kinds in DB_API_FAMILIES.items() if kind in kinds), "OperationalError")
    return cast("type[Exception]", getattr(DB_API, name))


class _AsDbApiErrors:
    """`with AS_DB_API_ERRORS:` turns apsw's errors into ones that both libraries' users catch."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> Literal[False]:
        if isinstance(error, apsw.Error) and not isinstance(error, DB_API.Error):
            raise as_db_api_error(error) from error
        return False


AS_DB_API_ERRORS = _AsDbApiErrors()


# transform() without its losses -----------------------------------------------------------------------------------


def transform_keeping_triggers(db: sqlite_utils.Database, table: str, **changes: Any) -> None:
    """`db[table].transform(**changes)`, all or nothing, after which every trigger of the table is there again.

    Triggers follow `rename=`. Raises MigrationInvalid, with the table as it was, where transform() would lose what
    cannot be put back (COLLATE, generated columns, WITHOUT ROWID, DEFERRABLE, TEMP triggers, the affinity of an
    untyped or NUMERIC column), and where a trigger does not fit the new columns. `db` is from `utils_database`.
    """
    _refuse_losses(db, table, changes)
    with db.atomic():
        triggers = _triggers_after_rename(db, table, changes.get("rename") or {})
        for name in triggers:
            db.execute(f"DROP TRIGGER {quoted(name)}")
        db.table(table).transform(**changes)
        for sql in triggers.values():
            db.execute(sql)
        _verify_triggers(db, table, triggers)


def _refuse_losses(db: sqlite_utils.Database, table: str, changes: Mapping[str, Any]) -> None:
    losses = [
        *_columns_that_lose(db, table, changes),
        *_clauses_that_get_lost(db, table),
        *(f"TEMP trigger {name}" for name in _triggers(db, table, schema="sqlite_temp_schema")),
    ]
    if losses:
        raise MigrationInvalid(
            f"Table {table} cannot be transformed.",
            why=f"transform() would silently lose: {', '.join(losses)}",
            fix="write the new CREATE TABLE and INSERT ... SELECT in SQL; name untyped columns in types=. "
            "The table is as it was.",
        )


def _columns_that_lose(db: sqlite_utils.Database, table: str, changes: Mapping[str, Any]) -> Iterator[str]:
    connection = cast("AdaptedConnection", db.conn).apsw
    settled = {name.lower() for name in (*(changes.get("types") or ()), *(changes.get("drop") or ()))}
    for name, declared, hidden in db.execute(
        "SELECT name, type, hidden FROM pragma_table_xinfo(?)", [table]
    ).fetchall():
        if hidden in (2, 3):  # sqlite.org/pragma.html#pragma_table_xinfo: generated, virtual or stored
            yield f"generated column {name}"
            continue
        collation = connection.column_metadata(None, table, name)[1]
        if collation.upper() != "BINARY":
            yield f"COLLATE {collation} of {name}"
        if name.lower() not in settled and _changes_affinity(declared):
            yield f"the affinity of {name} ({declared or 'no type'})"


def _changes_affinity(declared: str) -> bool:
    """True where sqlite-utils writes another affinity than was declared: TEXT for no type, REAL for NUMERIC."""
    kind = declared.upper().strip()
    is_real = any(word in kind for word in ("REAL", "FLOA", "DOUB"))
    return kind == "" or (column_affinity(kind) is float and not is_real)


def _clauses_that_get_lost(db: sqlite_utils.Database, table: str) -> Iterator[str]:
    (without_rowid,) = db.execute("SELECT wr FROM pragma_table_list(?) WHERE schema = 'main'", [table]).fetchone()
    if without_rowid:
        yield "WITHOUT ROWID"
    if re.search(r"\bDEFERRABLE\b", NOT_CODE.sub(" ", db.table(table).schema), re.IGNORECASE):
        yield "DEFERRABLE"
    own_collations = db.execute(
        """
        SELECT DISTINCT part.coll
          FROM pragma_index_list(?) AS own
          JOIN pragma_index_xinfo(own.name) AS part
         WHERE own.origin = 'pk' AND part.key = 1 AND part.coll <> 'BINARY'
        """,
        [table],
    ).fetchall()
    yield from (f"COLLATE {collation} of the primary key" for (collation,) in own_collations)


def _triggers_after_rename(db: sqlite_utils.Database, table: str, rename: Mapping[str, str]) -> dict[str, str]:
    """CREATE statements by name, as SQLite rewrites them when these columns are renamed; nothing is changed."""
    try:
        with _undone(db):
            for old, new in rename.items():
                _rename_column(db, table, old, new)
            return _triggers(db, table)
    except DB_API.Error as error:
        raise MigrationInvalid(
            f"Table {table} cannot be transformed.",
            why="SQLite cannot carry its triggers through the renames of columns",
            fix="rename in steps that SQLite takes with ALTER TABLE ... RENAME COLUMN. The table is as it was.",
        ) from error


@contextmanager
def _undone(db: sqlite_utils.Database) -> Iterator[None]:
    """What happens inside is rolled back at the end: a way to ask SQLite what it would do."""
    db.execute("SAVEPOINT only_to_look")
    try:
        yield
    finally:
        db.execute("ROLLBACK TO only_to_look")
        db.execute("RELEASE only_to_look")


def _rename_column(db: sqlite_utils.Database, table: str, old: str, new: str) -> None:
    db.execute(f"ALTER TABLE {quoted(table)} RENAME COLUMN {quoted(old)} TO {quoted(new)}")


def _triggers(
    db: sqlite_utils.Database, table: str, *, schema: Literal["sqlite_schema", "sqlite_temp_schema"] = "sqlite_schema"
) -> dict[str, str]:
    sql = f"SELECT name, sql FROM {schema} WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE ORDER BY rowid"
    return dict(db.execute(sql, [table]).fetchall())


def _verify_triggers(db: sqlite_utils.Database, table: str, expected: Mapping[str, str]) -> None:
    """Each trigger is in the schema and fits: CREATE TRIGGER itself does not look at the columns that it names."""
    missing = expected.keys() - _triggers(db, table).keys()
    if missing:
        raise _triggers_unfit(table, why=f"not there again: {', '.join(sorted(missing))}")
    _compile_triggers_that_can_fire(db, table)
    _check_triggers_that_cannot(db, table, expected)


def _compile_triggers_that_can_fire(db: sqlite_utils.Database, table: str) -> None:
    every_column = ", ".join(f"{quoted(name)} = {quoted(name)}" for name in db.table(table).columns_dict)
    try:
        db.execute(f"EXPLAIN INSERT INTO {quoted(table)} DEFAULT VALUES").fetchall()
        db.execute(f"EXPLAIN UPDATE {quoted(table)} SET {every_column}").fetchall()
        db.execute(f"EXPLAIN DELETE FROM {quoted(table)}").fetchall()
    except DB_API.Error as error:
        raise _triggers_unfit(table, why="a trigger names what the new table does not have") from error


def _check_triggers_that_cannot(db: sqlite_utils.Database, table: str, expected: Mapping[str, str]) -> None:
    """UPDATE OF a dropped column compiles with nothing, but ALTER TABLE looks at every trigger of the schema."""
    column = next(iter(db.table(table).columns_dict))
    try:
        with _undone(db):
            _rename_column(db, table, column, f"{column}_only_to_look")
    except DB_API.Error as error:
        # It also stops at broken views and triggers elsewhere, which were so before and are none of ours.
        blamed = [name for name in expected if f"error in trigger {name}" in str(error)]
        if blamed:
            raise _triggers_unfit(table, why=f"{blamed[0]} names what the new table does not have") from error


def _triggers_unfit(table: str, *, why: str) -> MigrationInvalid:
    return MigrationInvalid(
        f"Table {table} cannot be transformed with its triggers.",
        why=why,
        fix="drop or rewrite the trigger in the same migration, before the transform. The table is as it was.",
    )
