"""SQLite's own errors, for code that has to tell a bad row from a bad disk without opening SQLite itself."""

from apsw import (
    BusyError,
    CantOpenError,
    ConstraintError,
    CorruptError,
    FullError,
    InterruptError,
    IOError,  # noqa: A004
    MismatchError,
    NoMemError,
    NotADBError,
    ReadOnlyError,
    SQLError,
)
from apsw import Error as SqliteError

TOO_DEEP = ("triggers nested too deep", "too many levels of trigger recursion")
"""What it says, as an SQLError, of a trigger that fires itself without end."""

__all__ = [
    "TOO_DEEP",
    "BusyError",
    "CantOpenError",
    "ConstraintError",
    "CorruptError",
    "FullError",
    "IOError",
    "InterruptError",
    "MismatchError",
    "NoMemError",
    "NotADBError",
    "ReadOnlyError",
    "SQLError",
    "SqliteError",
]
