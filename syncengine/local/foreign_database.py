"""Another program's database, read from a private copy: key-value tables, with values of any length."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import apsw

from syncengine.errors import SourceBroken
from syncengine.local.copies import open_copy
from syncengine.local.identifiers import quoted

_CODEC_OF = {"UTF-8": "utf-8", "UTF-16le": "utf-16-le", "UTF-16be": "utf-16-be"}


class ForeignRow(NamedTuple):
    """Where a value is, without the value. `key` is the raw text, None for a key that is no text."""

    rowid: int
    key: bytes | None
    value_type: str
    """By SQLite's typeof: text, blob, null, integer, real."""


class ForeignDatabase:
    """Reads only. Every method raises SourceBroken when SQLite finds the file damaged."""

    def __init__(self, connection: apsw.Connection, *, path: str) -> None:
        self._connection = connection
        self._path = path

    def codec(self) -> str:
        """How text lies in the file, as the name of a Python codec."""
        with self._reading():
            return _CODEC_OF[self._connection.execute("PRAGMA encoding").get]

    def is_wal(self) -> bool:
        """Whether what is committed may lie in a `-wal` file beside the main one."""
        with self._reading():
            return bool(self._connection.execute("PRAGMA journal_mode").get == "wal")

    def columns(self, table: str) -> frozenset[str]:
        """The names of a table's columns; empty when there is no such table."""
        with self._reading():
            rows = self._connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
            return frozenset(str(name) for (name,) in rows)

    def key_rows(self, table: str) -> list[ForeignRow]:
        """Each row of a table with the columns `key` and `value`."""
        sql = (
            "SELECT rowid,"
            " CASE typeof(key) WHEN 'text' THEN CAST(key AS BLOB) END,"
            " typeof(value)"
            f" FROM {quoted(table)}"
        )
        with self._reading():
            return [ForeignRow(*row) for row in self._connection.execute(sql)]

    def value_bytes(self, table: str, rowid: int) -> int:
        """The length of a text or blob value as it is stored, without reading it."""
        with self._reading():
            length = self._connection.blob_open("main", table, "value", rowid, False).length()
        return length

    def value_chunks(self, table: str, rowid: int, *, chunk_bytes: int) -> Iterator[bytes]:
        """A text or blob value as it is stored, `chunk_bytes` at a time."""
        with self._reading(), self._connection.blob_open("main", table, "value", rowid, False) as blob:
            while chunk := blob.read(chunk_bytes):
                yield chunk

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            raise SourceBroken(
                f"{self._path} is damaged, or not laid out as expected.",
                why=type(error).__name__,
                fix="It was not changed. Copy it again, together with its -wal file.",
            ) from error


@contextmanager
def open_foreign_copy(path: str) -> Iterator[ForeignDatabase]:
    """A private copy of the database at `path` with its `-wal`, deleted at the end; the original is only read.

    Raises SourceMissing, SourceBroken.
    """
    with open_copy(path) as connection:
        yield ForeignDatabase(connection, path=path)
