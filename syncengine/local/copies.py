"""Other programs' databases: a private copy to read, or a plain new file to write a sample into."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from syncengine.errors import SourceBroken, SourceMissing
from syncengine.local.private_folder import private_folder
from syncengine.local.regular_file import open_regular

_COPY_BYTES = 1024 * 1024
# The write-ahead log's format is https://www.sqlite.org/fileformat2.html#walformat
_WAL_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_SALT_IN_HEADER = slice(16, 24)
_SALT_IN_FRAME = slice(8, 16)


def open_foreign(path: str) -> apsw.Connection:
    """A plain database of no particular kind, for writing samples of other programs' files."""
    return apsw.Connection(path)


@contextmanager
def open_copy(path: str) -> Iterator[apsw.Connection]:
    """A private copy of somebody else's database and of its `-wal`, opened; the original is only read.

    Opening in place would checkpoint, and would miss what is still in the `-wal` if that is left behind.
    Raises SourceMissing, SourceBroken.
    """
    if not os.path.exists(path):
        raise SourceMissing(
            f"There is no file {os.path.basename(path)} to import from.",
            why=f"{path} does not exist",
            fix="Check the path that the app gave; nothing was changed.",
        )
    with private_folder("copy") as folder:
        copy = os.path.join(folder, "copy.db")
        try:
            _copy_file(path, copy)
            if os.path.lexists(path + "-wal"):
                _copy_file(path + "-wal", copy + "-wal")
                _refuse_torn_wal(copy + "-wal", path)
            connection = apsw.Connection(copy)
        except (OSError, apsw.Error) as error:
            raise _unreadable_source(path, error) from error
        try:
            _read_first_page(connection, path)
            yield connection
        finally:
            connection.close(True)


def _copy_file(path: str, copy: str) -> None:
    with open_regular(path) as original, open(copy, "xb") as target:
        shutil.copyfileobj(original, target, _COPY_BYTES)


def _refuse_torn_wal(wal: str, path: str) -> None:
    """SQLite passes in silence over a frame that was cut off, and over the commits from there on."""
    if _is_torn(wal, size_bytes=os.path.getsize(wal)):
        raise SourceBroken(
            f"{os.path.basename(path)}-wal, the write-ahead log, was copied short, so rows would be missing.",
            why="it ends inside a frame",
            fix="Copy the database and its -wal together from the device, with the old app stopped; "
            "nothing was changed.",
        )


def _is_torn(wal: str, *, size_bytes: int) -> bool:
    if size_bytes < _WAL_HEADER_BYTES:
        return size_bytes > 0
    with open(wal, "rb") as file:
        header = file.read(_WAL_HEADER_BYTES)
        frame_bytes = _FRAME_HEADER_BYTES + int.from_bytes(header[8:12])
        frames, torn_bytes = divmod(size_bytes - _WAL_HEADER_BYTES, frame_bytes)
        # SQLite writes a frame's header and its page apart: an app killed between leaves a header, uncommitted.
        if torn_bytes in (0, _FRAME_HEADER_BYTES):
            return False
        # PRAGMA journal_size_limit, which Android sets, may cut a frame of the log's last round: SQLite needs
        # none of those, and tells them by their salt. A torn frame too short to show it is as the one before.
        shown = frames if torn_bytes >= _SALT_IN_FRAME.stop else frames - 1
        if shown < 0:
            return True
        file.seek(_WAL_HEADER_BYTES + shown * frame_bytes)
        return file.read(_FRAME_HEADER_BYTES)[_SALT_IN_FRAME] == header[_SALT_IN_HEADER]


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
