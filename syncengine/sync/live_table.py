"""The table of one collection, as rows from the cloud are written to it: rows of one owner, never another's."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from syncengine.errors import RoundFailed, TextUnreadable
from syncengine.local.identifiers import quoted
from syncengine.local.sqlite_errors import TOO_DEEP, ConstraintError, SQLError
from syncengine.migrate.definition import Quarantine
from syncengine.migrate.lifting import column_value, json_value
from syncengine.migrate.shape import columns_of
from syncengine.outbox.capture_triggers import finds_numbers
from syncengine.sync.calls import PulledRow
from syncengine.vocabulary import SchemaVersion

if TYPE_CHECKING:
    from syncengine.local.store import Store

Fields = Mapping[str, Any]

_BODY = itemgetter(PulledRow._fields.index("body"))

ROWS_AT_ONCE = 10
"""In one statement, where there are many: each costs Python some time, and SQLite a copy of each page that it changes
(sqlite.org/tempfiles.html, "Statement Journal Files")."""
TRIGGERS_NAMED_MAX = 5
_NUMBER = re.compile(r"[+-]?[0-9]+([.][0-9]+)?(e[+-]?[0-9]+)?", re.IGNORECASE)
"""As SQLite writes one."""
_CONTENTS = re.compile(r"""\s*[:'"].*""", re.DOTALL)


class Unforeseen(Exception):
    """A document is not like those before it; the table knows now, and takes it the next time."""


class LiveTable:
    """Reads and writes rows of one owner. Everything inside the caller's transaction."""

    def __init__(
        self, store: "Store", *, name: str, key: str, owner_column: str, shape_version: str, merge_policy: str
    ) -> None:
        self.name = name
        self.key = key
        self.shape_text = shape_version
        self.shape = SchemaVersion.parse(shape_version)
        self.merge_policy = merge_policy
        self._store = store
        self.owner_column = owner_column
        self.columns = tuple(column for column in columns_of(store, name) if column != owner_column)
        self.width = len(self.columns)
        self.known = frozenset(self.columns)
        self.values_of = _values_of(self.columns)
        self.holds_blobs = False
        """Documents of this collection have brought bytes: they are decoded before they are written."""
        self.names_differ = False
        """Documents of this collection have come with other fields: the names of each are compared."""
        self._app_triggers = tuple(str(trigger) for (trigger,) in store.rows("pull", "app_triggers", collection=name))
        self.has_rules_of_app = bool(self._app_triggers)
        """Triggers of the app may leave a row out without a word, so each is written by itself."""
        self._upserts: dict[tuple[int | str, ...], str] = {}
        self._inserts: dict[int, str] = {}
        declared: dict[Any, Any] = dict(store.rows("capture", "columns", collection=name))
        self._key_is_number = finds_numbers(str(declared.get(key, "")))
        self._meets_by_key = self._has_its_key()
        self.takes_many = self._meets_by_key and not self.has_rules_of_app
        """Rows may be written without a look at each."""
        # By bytes, whatever collation the columns have: "Key" and "key" are two rows at the cloud.
        mine = " AND ".join(
            f"{quoted(column)} = ?{number} AND {quoted(column)} COLLATE BINARY = ?{number}"
            for number, column in enumerate((owner_column, key), start=1)
        )
        self._delete = f"DELETE FROM {quoted(name)} WHERE {mine}"
        names = ", ".join(map(quoted, self.columns))
        self._select = f"SELECT {names} FROM {quoted(name)} WHERE {mine}"
        self._has = f"SELECT 1 FROM {quoted(name)} WHERE {mine}"
        self._mine = mine

    def expect_what_came(self, before: "LiveTable | None") -> None:
        """Documents as those that came before, when it was another one."""
        if before is not None:
            self.holds_blobs, self.names_differ = before.holds_blobs, before.names_differ

    def _has_its_key(self) -> bool:
        """Is there a rule that owner and key, byte for byte, name one row? Without one, an upsert could meet another
        user's row, or one whose key is only spelled alike."""
        wanted = {self.owner_column, self.key}
        collations: set[str] = set()
        for (index,) in self._store.query(
            'SELECT name FROM pragma_index_list(?) WHERE "unique" AND NOT partial', (self.name,)
        ):
            found = self._store.query("SELECT name, coll FROM pragma_index_xinfo(?) WHERE key", (index,))
            if {name for name, _ in found} == wanted:
                collations |= {str(collation).upper() for _, collation in found}
        return collations == {"BINARY"}

    # What a row is called at the cloud.

    def is_called(self, value: Any, key: str) -> bool:
        """Whether a row with this value as its key has this name.

        SQLite made the name, and writes some REALs with other digits than Python does: where the column makes a
        number of a text, they are compared as numbers.
        """
        if str(value) == key:
            return True
        is_number = self._key_is_number and type(value) in (int, float) and _NUMBER.fullmatch(key) is not None
        return is_number and bool(float(key) == value)

    def key_of(self, body: Fields, told: str) -> str:
        """What a row is called that was made of the one called `told`: the same, if its key is; else as capture names
        it."""
        value = body.get(self.key, told)
        if self.is_called(value, told):
            return told
        return (
            str(self._store.query("SELECT CAST(? AS TEXT)", (value,))[0][0]) if type(value) is float else str(value)
        )

    # Many rows at once.

    def write_many(self, owner: str, items: Sequence[PulledRow]) -> None:
        """Rows whose documents have just the fields that the table has.

        Raises SQLite's error for the first that it does not take, TypeError for a value that is no column's, and
        Unforeseen at the first bytes, or other fields, that this collection brings. After each of them some are
        written.
        """
        rows = map(self.values_of, map(_BODY, items))
        if self.holds_blobs:
            rows = map(self._decoded, rows)
        try:
            self._write_by_some(owner, rows, items)
        except KeyError as error:
            if self.names_differ:
                raise
            self.names_differ = True
            raise Unforeseen from error
        except TypeError as error:
            if self.holds_blobs:
                raise
            self.holds_blobs = True
            raise Unforeseen from error

    def _write_by_some(self, owner: str, rows: Iterable[tuple[Any, ...]], items: Sequence[PulledRow]) -> None:
        values, width, count = chain.from_iterable(rows), len(self.columns), len(items)
        are_new = bool(items) and not self._store.query(self._has, (owner, items[0].key))
        for at_once, times in ((ROWS_AT_ONCE, count // ROWS_AT_ONCE), (1, count % ROWS_AT_ONCE)):
            bindings = zip(repeat(owner, times), *[values] * (width * at_once), strict=False)
            if are_new:
                are_new = self._insert_while_new(bindings, at_once)
            self._store.connection.executemany(self._upsert(self.columns, rows=at_once), bindings)

    def _insert_while_new(self, bindings: Iterator[tuple[Any, ...]], at_once: int) -> bool:
        """Write rows until one is here already, and whether none was; the `bindings` behind it are left.

        OR FAIL needs no copies of the pages that it changes, where an upsert of some rows may undo itself alone. What
        it has written of the rows that it stopped at is written again with all of them.
        """
        connection, some = self._store.connection, ()

        def noted() -> Iterator[tuple[Any, ...]]:
            nonlocal some
            for each in bindings:
                some = each
                yield each

        try:
            connection.executemany(self._insert_new(at_once), noted())
        except ConstraintError:
            connection.execute(self._upsert(self.columns, rows=at_once), some)
            return False
        return True

    def _decoded(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            column_value(name, value) if type(value) is dict or type(value) is list else value
            for name, value in zip(self.columns, row, strict=True)
        )

    def delete_many(self, owner: str, keys: Iterable[str]) -> None:
        """Rows that are there go; the others were never here."""
        self._store.connection.executemany(self._delete, [(owner, key) for key in keys])

    # One row.

    def read(self, owner: str, key: str) -> dict[str, Any] | None:
        """The row as a document; None where there is none. Raises TextUnreadable for text that is no UTF-8."""
        found = self._store.query(self._select, (owner, key))
        if not found:
            return None
        return {name: _document_value(value) for name, value in zip(self.columns, found[0], strict=True)}

    def says(self, owner: str, key: str, body: Fields | None) -> bool:
        """Whether the row is there with what the document says, to the type; None: whether there is none. Raises
        Quarantine for a value that is no column's."""
        try:
            found = self._store.query(self._select, (owner, key))
        except TextUnreadable:
            return False
        if body is None or not found:
            return body is None and not found
        named = [
            (column_value(name, body[name]), value)
            for name, value in zip(self.columns, found[0], strict=True)
            if name in body
        ]
        return all(type(wanted) is type(value) and wanted == value for wanted, value in named)

    def write(self, owner: str, key: str, body: Fields) -> None:
        """Insert the row, or set the fields that the document has. Raises SQLite's error for what it does not take,
        Quarantine for a value that is no column's or a row that a trigger left out."""
        values = {name: column_value(name, body[name]) for name in self.columns if name in body}
        values.setdefault(self.key, key)
        if self._meets_by_key:
            written = self._run(self._upsert(tuple(values)), (owner, *values.values()))
        else:
            written = self._written_without_meeting(owner, key, values)
        if not written:
            raise Quarantine("a trigger of the table left the row out")

    def _written_without_meeting(self, owner: str, key: str, values: dict[str, Any]) -> int:
        assignments = ", ".join(f"{quoted(name)} = ?{number}" for number, name in enumerate(values, start=3))
        update = f"UPDATE OR ABORT {quoted(self.name)} SET {assignments} WHERE {self._mine}"
        if self._is_there_once(owner, key):
            return self._run(update, (owner, key, *values.values()))
        return self._run(_insert(self.name, (self.owner_column, *values)), (owner, *values.values()))

    def delete(self, owner: str, key: str) -> None:
        """The row goes, if it is there. Raises Quarantine where several have its key."""
        if self._meets_by_key or self._is_there_once(owner, key):
            self._run(self._delete, (owner, key))

    def _is_there_once(self, owner: str, key: str) -> bool:
        found = len(self._store.query(f"{self._has} LIMIT 2", (owner, key)))
        if found > 1:
            raise Quarantine("several rows of the table have its key")
        return found == 1

    def _run(self, sql: str, values: tuple[Any, ...]) -> int:
        connection = self._store.connection
        try:
            connection.execute(sql, values).fetchall()
        except SQLError as error:
            # What names things that are not there fails for every row, and before any is written.
            try:
                connection.execute(f"EXPLAIN {sql}", values).fetchall()
            except SQLError as for_all:
                raise self._takes_no_row(str(for_all)) from for_all
            raise Quarantine(self._why_failed(str(error))) from error
        return connection.changes()

    def _takes_no_row(self, said: str) -> RoundFailed:
        """A statement that cannot even be prepared: SQLite has named the thing, and has seen no row."""
        return RoundFailed(
            f"The table {self.name} takes no row from the cloud.",
            why=f"SQLite says: {said} (triggers of the app on it: {self._triggers_named()})",
            fix="Correct or drop the trigger. Nothing was lost or set aside; the next round reads on.",
        )

    def _triggers_named(self) -> str:
        return ", ".join(self._app_triggers[:TRIGGERS_NAMED_MAX]) or "none"

    def _why_failed(self, said: str) -> str:
        """What a trigger, a CHECK or a generated column does with this very row, SQLite cannot do."""
        if said in TOO_DEEP:
            said = f"{said}: one fires itself without end, and needs a WHEN that is false for its own change"
        else:
            # "malformed JSON"; behind a colon or a quote may stand what the row holds.
            said = _CONTENTS.split(said, maxsplit=1)[0]
        return (
            f"the table does not take it, says SQLite: {said} (triggers of the app on it: {self._triggers_named()})"
        )

    def _upsert(self, names: tuple[str, ...], *, rows: int = 1) -> str:
        sql = self._upserts.get((rows, *names))
        if sql is None:
            changed = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in names if name != self.key)
            meeting = f" ON CONFLICT ({quoted(self.owner_column)}, {quoted(self.key)}) DO "
            # Where nothing but the key is known the row is touched all the same, so that it counts as written.
            changed = changed or f"{quoted(self.key)} = {quoted(self.key)}"
            insert = _insert(self.name, (self.owner_column, *names), rows=rows)
            sql = self._upserts[(rows, *names)] = f"{insert}{meeting}UPDATE SET {changed}"
        return sql

    def _insert_new(self, rows: int) -> str:
        sql = self._inserts.get(rows)
        if sql is None:
            names = (self.owner_column, *self.columns)
            sql = self._inserts[rows] = _insert(self.name, names, rows=rows, meeting="FAIL")
        return sql

    @property
    def stands_alone(self) -> bool:
        """True where no table refers to this one, so that a row may go and come back within a transaction."""
        sql = (
            "SELECT count(*) FROM sqlite_schema AS t, pragma_foreign_key_list(t.name) AS f"
            " WHERE t.type = 'table' AND f.\"table\" = ? COLLATE NOCASE"
        )
        return not self._store.query(sql, (self.name,))[0][0]


def live_tables(store: "Store", *, before: Mapping[str, LiveTable]) -> dict[str, LiveTable]:
    """The synced collections that have a table with their key and owner. They know of documents what those `before`
    knew."""
    tables = {}
    for name, key, owner_column, shape_version, merge_policy in store.rows("pull", "collections"):
        if {key, owner_column} <= set(columns_of(store, name)):
            tables[name] = LiveTable(
                store,
                name=name,
                key=key,
                owner_column=owner_column,
                shape_version=shape_version,
                merge_policy=merge_policy,
            )
            tables[name].expect_what_came(before.get(name))
    return tables


def is_clash(error: Exception) -> bool:
    """Does the row stand against another one, so that it may fit when that one has changed?"""
    return isinstance(error, ConstraintError) and str(error).startswith(("UNIQUE", "FOREIGN KEY"))


def _insert(table: str, names: tuple[str, ...], *, rows: int = 1, meeting: str = "ABORT") -> str:
    """The owner, who is the first of them, is bound once for all rows."""
    # OR ABORT, or FAIL: a rule of the table may say REPLACE, and another row would be gone.
    marks = ", ".join([f"(?1{', ?' * (len(names) - 1)})"] * rows)
    return f"INSERT OR {meeting} INTO {quoted(table)} ({', '.join(map(quoted, names))}) VALUES {marks}"


def _values_of(columns: tuple[str, ...]) -> Any:
    if len(columns) > 1:
        return itemgetter(*columns)
    return lambda body: tuple(body[name] for name in columns)


def _document_value(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"$real": repr(value)}
    return json_value(value)


__all__ = ["LiveTable", "Unforeseen", "is_clash", "live_tables"]
