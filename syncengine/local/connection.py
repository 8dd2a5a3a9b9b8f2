"""Open SQLite the one right way: private files, settings that are read back, never a foreign file."""

from __future__ import annotations

import os

import apsw

from syncengine.errors import COPY_FIRST, PragmaRefused, StoreBusy, StoreDamaged, StoreForeign, StoreUnusable
from syncengine.local.savepoint import raise_translated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from syncengine.clock import Clock

APPLICATION_ID = 0x53594E43
"""The letters SYNC, in the SQLite header, so that `file` and other tools can tell."""

SERVER_APPLICATION_ID = 0x53594E53

# What safety depends on; the value is what SQLite must answer when it is asked.
_SAFETY_PRAGMAS = (
    ("foreign_keys", "ON", 1),
    ("recursive_triggers", "ON", 1),
    ("trusted_schema", "OFF", 0),
)
_READ_WRITE = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
_SYNCHRONOUS = {"NORMAL": 1, "FULL": 2}
_OPEN_RETRY_MS = 5
_SMALLEST_DATABASE_BYTES = 512
"""One page of the smallest size (sqlite.org/fileformat2.html)."""
_WAL_BYTES_KEPT = 16 * 1024 * 1024
_SERVER_CACHE_KIB = 16 * 1024


def open_store(
    path: str,
    *,
    busy_wait_ms: int,
    synchronous: str,
    clock: Clock,
    examine: Callable[[apsw.Connection], None] = lambda _: None,
) -> apsw.Connection:
    """The writer connection to a store, made 0600 when it is new.

    `examine` looks at it before anything is set or written, and raises what stands against writing to it. Raises
    StoreForeign for another program's database or no database at all, StoreDamaged, StoreUnusable, PragmaRefused,
    StoreBusy; a file that was refused is left as it was, byte for byte.
    """
    deadline_ms = clock.monotonic_ms() + busy_wait_ms
    while True:
        try:
            return _open_own(
                path, APPLICATION_ID, busy_wait_ms=busy_wait_ms, synchronous=synchronous, examine=examine
            )
        except apsw.BusyError as error:
            # Turning a new file to WAL needs it alone, and SQLite does not wait for that: others start too.
            if clock.monotonic_ms() >= deadline_ms:
                raise StoreBusy(
                    "The store could not be opened: other processes kept it busy.", fix="Try again."
                ) from error
            clock.pause(_OPEN_RETRY_MS)
        except apsw.Error as error:
            raise_translated(error)


def open_server_db(path: str) -> apsw.Connection:
    """The reference server's database; each of its commits has reached the disk."""
    connection = _open_own(path, SERVER_APPLICATION_ID, busy_wait_ms=10_000, synchronous="FULL")
    # Negative: in KiB (sqlite.org/pragma.html). A push's keys are all over the index: more than the default 2 MB.
    set_pragma(connection, "cache_size", f"-{_SERVER_CACHE_KIB}", -_SERVER_CACHE_KIB)
    return connection


def library_version() -> str:
    """Of the SQLite that this process uses for its stores, like 3.51.3."""
    return apsw.sqlite_lib_version()


def open_reader(path: str, *, busy_wait_ms: int) -> apsw.Connection:
    """A connection that cannot write, to a store that exists."""
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(busy_wait_ms)
    set_pragma(connection, "query_only", "ON", 1)
    set_pragma(connection, "trusted_schema", "OFF", 0)
    return connection


def _open_own(
    path: str,
    application_id: int,
    *,
    busy_wait_ms: int,
    synchronous: str,
    examine: Callable[[apsw.Connection], None] = lambda _: None,
) -> apsw.Connection:
    create_private(path)
    if 0 < _size(path) < _SMALLEST_DATABASE_BYTES:
        # SQLite would take it for an empty database and write over it.
        raise StoreForeign(f"{path} is not a SQLite database.", fix="Give another path; this file was not changed.")
    try:
        # URI: so that another store can be attached for reading only. An absolute name is never taken for one itself.
        connection = apsw.Connection(os.path.abspath(path), flags=_READ_WRITE)
    except apsw.Error as error:
        raise StoreForeign(
            f"{path} cannot be opened as a SQLite database.",
            why=type(error).__name__,
            fix="Check the path and its permissions; nothing was changed.",
        ) from error
    try:
        connection.set_busy_timeout(busy_wait_ms)
        _refuse_foreign(connection, path, application_id)
        examine(connection)
        _refuse_unwritable(connection, path)
        _set_up(connection, application_id, synchronous=synchronous)
    except BaseException:
        close_untouched(connection, path)
        raise
    return connection


def close_untouched(connection: apsw.Connection, path: str) -> None:
    """Close without writing what lies in the -wal into a file that was refused, as the last one to close would."""
    if _size(path + "-wal"):
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.close(True)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def create_private(path: str) -> None:
    """Make the file, 0600, where there is none: SQLite gives 0644, and the file's mode goes on to -wal and -shm."""
    if os.path.islink(path) and not os.path.exists(path):
        raise StoreForeign(
            f"{path} is a link that leads nowhere.", fix="Remove the link or give the path of the file itself."
        )
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreForeign(
            f"The store {path} cannot be created.",
            why=error.strerror or type(error).__name__,
            fix="Make the folder, or give a path that this user may write.",
        ) from error


def _refuse_foreign(connection: apsw.Connection, path: str, application_id: int) -> None:
    try:
        # Tables first: who makes them has written the id before, so another starter's half-made file is no stranger.
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
        found = connection.execute("PRAGMA application_id").get
    except apsw.NotADBError as error:
        raise StoreForeign(
            f"{path} is not a SQLite database (or it is encrypted).",
            fix="Give another path; this file was not changed.",
        ) from error
    except (apsw.CorruptError, apsw.SQLError) as error:  # SQLError: a schema in a format of the future
        raise StoreDamaged(
            f"{path} is damaged.",
            why=str(error),
            fix=COPY_FIRST,
        ) from error
    if found != application_id and (found != 0 or tables):
        raise StoreForeign(
            f"{path} is a SQLite database of another program.",
            why=f"application_id is {found:#x}, not {application_id:#x}, and it holds {tables} tables and indexes",
            fix="Give another path; this file was not changed.",
        )


def _refuse_unwritable(connection: apsw.Connection, path: str) -> None:
    """SQLite opens a file that it may not write for reading, without a word."""
    if connection.readonly("main"):
        raise StoreUnusable(
            f"{os.path.basename(path)} can be read and not written.",
            why="the file, or the medium it is on, is write-protected for this user",
            fix="Give this user the right to write the file and its folder, then open the engine again.",
        )


def _set_up(connection: apsw.Connection, application_id: int, *, synchronous: str) -> None:
    for option, wanted in (
        (apsw.SQLITE_DBCONFIG_DQS_DML, 0),
        (apsw.SQLITE_DBCONFIG_DQS_DDL, 0),
        (apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0),
    ):
        if connection.config(option, wanted) != wanted:
            raise PragmaRefused(f"SQLite did not take configuration option {option}.")
    if connection.execute("PRAGMA journal_mode").get != "wal":
        set_pragma(connection, "journal_mode", "WAL", "wal")
    set_pragma(connection, "synchronous", synchronous, _SYNCHRONOUS[synchronous])
    for name, setting, answer in _SAFETY_PRAGMAS:
        set_pragma(connection, name, setting, answer)
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES_KEPT}").fetchall()
    if connection.execute("PRAGMA application_id").get == 0:
        connection.execute(f"PRAGMA application_id = {application_id}")


def set_pragma(connection: apsw.Connection, name: str, setting: str, answer: object) -> None:
    """Set a pragma and read it back: SQLite ignores what it cannot do without an error."""
    # fetchall: apsw runs a statement only as far as its rows are read.
    connection.execute(f"PRAGMA {name} = {setting}").fetchall()
    found = connection.execute(f"PRAGMA {name}").get
    if found != answer:
        raise PragmaRefused(
            f"SQLite did not set {name} to {setting}.",
            why=f"it answers {found!r}",
            fix="Use a local disk that allows it: network folders often cannot do WAL.",
        )
