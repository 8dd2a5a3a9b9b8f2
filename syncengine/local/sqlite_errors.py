"""SQLite's own errors, for code that has to tell a bad row from a bad disk without opening SQLite itself."""

from apsw import BusyError, ConstraintError, CorruptError, FullError, IOError, MismatchError, ReadOnlyError, SQLError  # noqa: A004
from apsw import Error as SqliteError

__all__ = [
    "BusyError",
    "ConstraintError",
    "CorruptError",
    "FullError",
    "IOError",
    "MismatchError",
    "ReadOnlyError",
    "SQLError",
    "SqliteError",
]
