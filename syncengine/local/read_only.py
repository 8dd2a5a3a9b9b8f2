"""Why a store is open for reading only, and the connection that can do no more."""

import os
from dataclasses import dataclass

import apsw

from syncengine.errors import SyncEngineError
from syncengine.local.connection import set_pragma
from syncengine.local.savepoint import raise_translated

# What SQLite says when it cannot make or write the -shm that reading in WAL mode needs.
_NO_PLACE = (apsw.ReadOnlyError, apsw.CantOpenError, apsw.IOError, apsw.FullError)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOnlyReason:
    """What is wrong with the store, and the way back. `code` is the word of it for tables and JSON."""

    code: str
    what: str
    why: str
    fix: str
    error: type[SyncEngineError]
    """The class of what `write()`, `migrate()` and `start()` raise; its family says who must act."""

    def as_error(self) -> SyncEngineError:
        """The same as an error to raise."""
        return self.error(self.what, why=self.why, fix=self.fix)


def reason_of(error: SyncEngineError) -> ReadOnlyReason:
    """The reason that an error gives."""
    return ReadOnlyReason(code=error.code(), what=error.what, why=error.why, fix=error.fix, error=type(error))


def open_looking(path: str, *, busy_wait_ms: int, is_lasting: bool = False) -> apsw.Connection:
    """A connection that writes nothing, to a file in whatever state; what cannot be read is said when it is read.

    A lasting one must be closed with `close_untouched`: it is opened as a writer is, so that SQLite takes its own
    -wal and -shm away again at the end.
    """
    flags = None if is_lasting else apsw.SQLITE_OPEN_READONLY
    connection = _opened(path, busy_wait_ms=busy_wait_ms, flags=flags)
    try:
        # Reads the first page, and parses no schema: that may be what is damaged.
        connection.execute("PRAGMA schema_version").fetchall()
    except _NO_PLACE:
        if _has_bytes(path + "-wal"):
            return connection  # what lies there would be missing from every answer
        connection.close(True)
        return _opened(_immutable(path), busy_wait_ms=0, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    except apsw.Error:
        return connection
    return connection


def _opened(name: str, *, busy_wait_ms: int, flags: int | None) -> apsw.Connection:
    try:
        connection = apsw.Connection(name) if flags is None else apsw.Connection(name, flags=flags)
        connection.set_busy_timeout(busy_wait_ms)
        set_pragma(connection, "query_only", "ON", 1)
        set_pragma(connection, "trusted_schema", "OFF", 0)
    except apsw.Error as error:
        raise_translated(error)  # not even the first page can be read
    return connection


def _immutable(path: str) -> str:
    """Read without locks and without -shm (sqlite.org/uri.html#uriimmutable): for a folder that takes no new file."""
    name = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{name}?immutable=1"


def _has_bytes(path: str) -> bool:
    try:
        return os.stat(path).st_size > 0
    except FileNotFoundError:
        return False
