"""What a migration's code may use while it runs: sources to read, rows to write, warnings to leave."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from syncengine.errors import MigrationInvalid, SourceMissing, TransactionEnded
from syncengine.local.identifiers import quoted
from syncengine.migrate.definition import Item, MigrationDefinition, Put, Quarantine
from syncengine.migrate.shape import columns_of
from syncengine.migrate.taken import name_of_value, taken_by

if TYPE_CHECKING:
    import sqlite_utils

    from syncengine.local.store import Store
    from syncengine.migrate.registry import Collection
    from syncengine.sources.json_stream import OversizedElement
    from syncengine.sources.source import Source

WARNINGS_MAX = 1_000
"""More are counted, not kept."""


@dataclass(kw_only=True)
class Work:
    """One run, as its migration's code sees it."""

    store: "Store"
    definition: MigrationDefinition
    collections: "Mapping[str, Collection]"
    user: str | None
    now_ms: int
    sources: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    warnings_left_out: int = 0
    values_read: dict[str, None] = field(default_factory=dict)
    """Names of the legacy values that this run has read, in order."""
    lifting: bool = False
    """These rows come late: they go through a table without indexes, beside the live one."""
    notes: dict[Any, Any] = field(default_factory=dict)
    """What the engine's own executors remember for the length of a run, and no longer."""
    _inserts: dict[tuple[str, tuple[str, ...], str], str] = field(default_factory=dict)

    def warn(self, text: str, *, row_key: str | None = None) -> None:
        """Leave a sentence for the result and the history. Say what was done, not what the row holds."""
        sentence = f"{row_key}: {text}" if row_key else text
        if row_key is None and sentence in self.warnings:
            return
        if len(self.warnings) < WARNINGS_MAX:
            self.warnings.append(sentence)
        else:
            self.warnings_left_out += 1

    @property
    def warned(self) -> int:
        """How many warnings there are by now, kept or only counted."""
        return len(self.warnings) + self.warnings_left_out

    def forget_warnings(self, *, since: int) -> None:
        """Take back those of a batch that was undone: it is done again, and warns again."""
        del self.warnings[since:]
        self.warnings_left_out = max(0, since - len(self.warnings))

    def all_warnings(self) -> tuple[str, ...]:
        """What was left, in order; the last says how many there was no room for."""
        more = (f"and {self.warnings_left_out} more warnings",) if self.warnings_left_out else ()
        return (*self.warnings, *more)

    # Reading a legacy store.

    @cached_property
    def source(self) -> "Source | None":
        """The legacy store that the definition names; None, with a warning, where there is none.

        What is odd about it is left as warnings, once for the run.
        """
        from syncengine.sources import open_source

        name = self.definition.source
        given = self.sources.get(name) if name else None
        if given is None:
            self.warn(f"no source {name!r} was given, so nothing was imported")
            return None
        try:
            # What has elements is the host's own Source.
            source: Source = given if hasattr(given, "elements") else open_source(given)
        except SourceMissing as error:
            self.warn(f"{error.what} Nothing was imported.")
            return None
        for problem in source.problems():
            self.warn(f"the source {name!r}: {problem}")
        return source

    def elements(self, key: str) -> Iterator[Item]:
        """The elements of the JSON array under a key, one at a time. What is broken comes as a broken Item."""
        source = self._source_with(key)
        if source is None:
            return
        from syncengine.sources.json_stream import BrokenJson

        number = 0
        bytes_max = self.store.settings.source_element_bytes_max
        try:
            for raw in source.elements(key, element_bytes_max=bytes_max):
                yield _element_item(f"{key}[{number}]", raw)
                number += 1
        except BrokenJson as error:
            why = f"broken JSON at byte {error.at_byte} of the value"
            if error.remainder_truncated:
                why += "; only the first bytes of the rest are kept here, the source still holds the rest"
            yield Item(f"{key}[{number}]", None, error.remainder, broken=why)

    def json(self, key: str) -> Iterator[Item]:
        """The one JSON document under a key, if the key is there."""
        for item in self.text(key):
            yield parsed_item(key, item.raw)

    def text(self, key: str) -> Iterator[Item]:
        """The plain text under a key, if the key is there."""
        source = self._source_with(key)
        text = source.text(key) if source else None
        if text is not None:
            yield Item(key, text, text.encode("utf-8", "surrogatepass"))

    def _source_with(self, key: str) -> "Source | None":
        """The source if it has this key; a missing one is questioned."""
        source = self.source
        if source is None:
            return None
        if source.size(key) is None:
            misses = source.near_misses(key)
            hint = f"; did you mean {' or '.join(f'`{name}`' for name in misses)}?" if misses else ""
            self.warn(f"found no `{key}`{hint}")
            return None
        name = name_of_value(source, key)
        if name is not None:
            owner = taken_by(self.store, name, migration=self.definition.id)
            if owner is not None and owner != self.user:
                self.warn(f"`{key}` was imported for another user before; it was left where it is")
                return None
            self.values_read[name] = None
        return source

    # Writing rows.

    @cached_property
    def db(self) -> "sqlite_utils.Database":
        """The store as a sqlite_utils.Database inside the engine's transaction; may write only this
        migration's collections, and cannot end the transaction (MigrationDenied)."""
        from syncengine.local.authorizer import guarded_database, only

        return guarded_database(self.store.connection, may_write=only(self.definition.collections))

    def write(self, put: Put) -> bool:
        """Write one row; False when it met one that is there already and `if_exists` is "merge"."""
        if put.collection not in self.definition.collections:
            raise MigrationInvalid(
                f"Migration {self.definition.id} writes to {put.collection}, which it does not declare.",
                fix="Name the collection in its definition.",
            )
        values = _column_values(put)
        connection = self.store.connection
        if not connection.in_transaction:
            raise TransactionEnded(
                f"The transaction of migration {self.definition.id} has ended, so nothing more is written.",
                why="SQLite rolled it back: INSERT OR ROLLBACK, RAISE(ROLLBACK), a full disk or an interrupt",
                fix="Let the error that ended it pass.",
            )
        connection.execute(self._insert(put, tuple(values)), tuple(values.values())).fetchall()
        written = connection.changes() > 0
        if not written and put.if_exists != "merge":
            raise Quarantine("a trigger of the table left the row out")
        return written

    def _insert(self, put: Put, columns: tuple[str, ...]) -> str:
        known = (put.collection, columns, put.if_exists)
        sql = self._inserts.get(known)
        if sql is None:
            sql = self._inserts[known] = insert_sql(
                put.collection, columns, suffix=self._conflict_clause(put, columns)
            )
        return sql

    def _conflict_clause(self, put: Put, columns: tuple[str, ...]) -> str:
        if put.if_exists not in ("fail", "merge", "replace"):
            raise MigrationInvalid(f"if_exists={put.if_exists!r} is not known.", fix="fail, merge or replace.")
        if put.if_exists == "fail":
            return ""
        # Only the key: a row that breaks another UNIQUE rule is no copy of the row that it meets.
        keys = key_columns(self.collections[put.collection])
        meeting = f" ON CONFLICT ({', '.join(map(quoted, keys))}) DO "
        changed = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in columns if name not in keys)
        if put.if_exists == "merge" or not changed:
            return meeting + "NOTHING"
        return f"{meeting}UPDATE SET {changed}"

    def columns(self, collection: str) -> tuple[str, ...]:
        """The columns of a collection's table, in order."""
        return columns_of(self.store, collection)


def _column_values(put: Put) -> Mapping[str, Any]:
    from pydantic import BaseModel  # most migrations convert rows without models

    from syncengine.migrate.row_codec import codec_of, encode_mapping

    if isinstance(put.row, BaseModel):
        codec = codec_of(type(put.row))
        return dict(zip(codec.columns, codec.encode(put.row), strict=True))
    return encode_mapping(put.row)


def key_columns(collection: "Collection") -> tuple[str, ...]:
    """The primary key: the owner column, if there is one, then the key."""
    return (collection.key,) if collection.owner is None else (collection.owner, collection.key)


def insert_sql(table: str, columns: tuple[str, ...], *, suffix: str = "") -> str:
    """INSERT with one question mark for each column."""
    names = ", ".join(map(quoted, columns))
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {quoted(table)} ({names}) VALUES ({marks}){suffix}"


def _element_item(key: str, element: "bytes | OversizedElement") -> Item:
    if isinstance(element, bytes):
        return parsed_item(key, element)
    why = (
        f"larger than {element.element_bytes_max} bytes, at byte {element.at_byte} of the value; "
        "only its first bytes are kept here, the source still holds it whole"
    )
    return Item(key, None, element.first_bytes, broken=why)


def parsed_item(key: str, raw: bytes) -> Item:
    """An element of a legacy value by its JSON text; a broken Item for what is no JSON."""
    try:
        return Item(key, orjson.loads(raw), raw)
    except orjson.JSONDecodeError as error:
        return Item(key, None, raw, broken=f"not JSON: stops making sense at character {error.pos}")
