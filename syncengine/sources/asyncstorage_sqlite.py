"""AsyncStorage on Android and Windows: one SQLite table of keys and values.

Table by table as in the library's sources: `ReactDatabaseSupplier` (RKStorage), `StorageSupplier` (Room, v1.1x
with the next storage and v3), v3's named storages, and `DBStorage` on Windows.
"""

import codecs
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from syncengine.errors import SourceBroken
from syncengine.local.foreign_database import ForeignDatabase, ForeignRow, open_foreign_copy
from syncengine.sources.source import CHUNK_BYTES, ChunkedSource

ROOM_TABLE = "Storage"
# A Room file is made from RKStorage and keeps its table as a stale copy, so Room's own table goes first.
_TABLES = (ROOM_TABLE, "catalystLocalStorage", "entries", "AsyncLocalStorage")


def open_sqlite_store(path: Path, *, problems: tuple[str, ...] = ()) -> "SqliteStore":
    """The key-value table of one database file, read from a private copy of it and of its `-wal`.

    `problems` are what the caller noticed already. Raises SourceMissing; SourceBroken for a file that is no
    AsyncStorage database, is damaged, or was copied without the `-wal` that holds its rows.
    """
    with ExitStack() as held:
        database = held.enter_context(open_foreign_copy(os.fspath(path)))
        table = _table_of(database, path)
        index = _read_keys(database, table)
        if not index.rows and database.is_wal() and not _wal_of(path).exists():
            raise _without_its_wal(path, f"its table {table} holds no rows")
        stale = tuple(f"the stale table {other} was not read" for other in _stale_tables(database, table))
        return SqliteStore(
            path,
            database=database,
            table=table,
            rows=index.rows,
            problems=(*problems, *index.problems, *stale),
            held=held.pop_all(),
        )


class SqliteStore(ChunkedSource):
    """A Source over one table; long values are read in chunks from SQLite, never whole."""

    def __init__(
        self,
        path: Path,
        *,
        database: ForeignDatabase,
        table: str,
        rows: dict[str, ForeignRow],
        problems: tuple[str, ...],
        held: ExitStack,
    ) -> None:
        super().__init__(identity=f"asyncstorage-sqlite:{os.path.realpath(path)}", problems=problems, held=held)
        self.table = table
        self._database = database
        self._codec = database.codec()
        self._rows = rows

    def keys(self) -> tuple[str, ...]:
        return tuple(sorted(self._rows))

    def size(self, key: str) -> int | None:
        row = self._rows.get(key)
        return None if row is None else self._database.value_bytes(self.table, row.rowid)

    def _chunks(self, key: str) -> Iterator[bytes]:
        row = self._rows[key]
        stored = self._database.value_chunks(self.table, row.rowid, chunk_bytes=CHUNK_BYTES)
        if self._codec == "utf-8" or row.value_type == "blob":
            return stored
        return _as_utf8(stored, codec=self._codec, key=key)


class _KeyIndex(NamedTuple):
    rows: dict[str, ForeignRow]
    problems: tuple[str, ...]


def _table_of(database: ForeignDatabase, path: Path) -> str:
    for table in _TABLES:
        if database.columns(table) >= {"key", "value"}:
            return table
    if not _wal_of(path).exists() and database.is_wal():
        raise _without_its_wal(path, "it has no AsyncStorage table")
    raise SourceBroken(
        f"{path} is a SQLite database, but not of AsyncStorage.",
        why=f"it has none of the tables {', '.join(_TABLES)}",
        fix="Give the path of the app's RKStorage or AsyncStorage file; this one was not changed.",
    )


def _stale_tables(database: ForeignDatabase, table: str) -> list[str]:
    return [other for other in _TABLES if other != table and database.columns(other)]


def _wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _without_its_wal(path: Path, why: str) -> SourceBroken:
    return SourceBroken(
        f"{path} looks empty because a part of it is missing.",
        why=f"{why}, and the write-ahead log {path.name}-wal that a running app keeps is not beside it",
        fix=f"Copy {path.name} and {path.name}-wal together from the device; this file was not changed.",
    )


def _read_keys(database: ForeignDatabase, table: str) -> _KeyIndex:
    """Rows by key; NULL values are absent keys to the library, and so they are here."""
    codec = database.codec()
    rows: dict[str, ForeignRow] = {}
    odd: Counter[str] = Counter()
    for row in database.key_rows(table):
        if row.value_type == "null":
            continue
        key = _decoded(row.key, codec)
        if key is None:
            odd["with a key that is NULL or no text"] += 1
        elif row.value_type not in ("text", "blob"):
            odd["with a value that is no text"] += 1
        else:
            rows[key] = row
    return _KeyIndex(rows, tuple(f"{count} row(s) of {table} {what}" for what, count in odd.items()))


def _decoded(key: bytes | None, codec: str) -> str | None:
    try:
        return None if key is None else key.decode(codec)
    except UnicodeDecodeError:
        return None


def _as_utf8(stored: Iterator[bytes], *, codec: str, key: str) -> Iterator[bytes]:
    # JavaScript text may hold half a surrogate pair; it is passed on, so that only its own element is at fault.
    decoder = codecs.getincrementaldecoder(codec)("surrogatepass")
    for chunk in stored:
        yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
    try:
        yield decoder.decode(b"", True).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise SourceBroken(
            f"The value of {key!r} in the legacy store ends in half a character.",
            why=f"it is stored as {codec} and {error.reason}",
            fix="The store was not changed. Copy it again from the device.",
        ) from None
