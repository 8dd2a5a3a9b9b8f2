"""Other programs' databases: a private copy to read, or a plain new file to write a sample into."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from syncengine.errors import SourceBroken, SourceMissing


def open_foreign(path: str) -> apsw.Connection:
    """A plain database of no particular kind, for writing samples of other programs' files."""
    return apsw.Connection(path)


@contextmanager
def open_copy(path: str) -> Iterator[apsw.Connection]:
    """A private copy of somebody else's database and of its `-wal`, opened; the original is only read.

    Opening in place would checkpoint, and would miss what is still in the `-wal` if that is left behind.
    Raises SourceMissing, SourceBroken.
    """
    if not os.path.isfile(path):
        raise SourceMissing(
            f"There is no file {os.path.basename(path)} to import from.",
            why=f"{path} does not exist or is no regular file",
            fix="Check the path that the app gave; nothing was changed.",
        )
    with tempfile.TemporaryDirectory(prefix="syncengine-copy-") as folder:
        copy = os.path.join(folder, "copy.db")
        try:
            shutil.copyfile(path, copy)
            if os.path.isfile(path + "-wal"):
                shutil.copyfile(path + "-wal", copy + "-wal")
            connection = apsw.Connection(copy)
        except (OSError, apsw.Error) as error:
            raise _unreadable_source(path, error) from error
        try:
            _read_first_page(connection, path)
            yield connection
        finally:
            connection.close(True)


def _read_first_page(connection: apsw.Connection, path: str) -> None:
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except apsw.Error as error:
        raise _unreadable_source(path, error) from error


def _unreadable_source(path: str, error: Exception) -> SourceBroken:
    return SourceBroken(
        f"{os.path.basename(path)} cannot be read as a SQLite database.",
        why=type(error).__name__,
        fix="The original was not changed. Check that the file is whole and not locked by its device.",
    )
