"""Rows of the live table on their way to the new one: read without a lock, converted without a lock, then written.

What a row became is remembered where it is not one row of the same key, so that it can be taken out again when
somebody changes the row meanwhile.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from syncengine.local.identifiers import quoted
from syncengine.local.savepoint import raise_translated
from syncengine.local.sqlite_errors import ConstraintError, SqliteError
from syncengine.local.whole_row import row_as_json
from syncengine.migrate.definition import Item
from syncengine.migrate.rejection import CODE_FAILED, Rejection, rejection_for
from syncengine.migrate.repair import RepairAttempt
from syncengine.migrate.results import RefusedRow
from syncengine.migrate.row_by_row import REFUSED_MAX
from syncengine.migrate.work import insert_sql

if TYPE_CHECKING:
    from syncengine.local.store import Row, Store
    from syncengine.migrate.rebuild import RebuildingExecutor
    from syncengine.migrate.shadow_state import Shadow
    from syncengine.migrate.shadow_table import Layout
    from syncengine.migrate.work import Work

SLICE_ROWS = 100
"""So many rows are models at once; of the others of a batch there are only values."""

# sqlite.org/rescode.html: SQLITE_CONSTRAINT_UNIQUE, _PRIMARYKEY, _ROWID
_MEETS_ANOTHER_ROW = frozenset({2067, 1555, 2579})


class LiveReader:
    """A connection of its own that reads the live table while others write."""

    def __init__(self, store: "Store") -> None:
        self._connection = store.reader()

    def query(self, sql: str, values: Mapping[str, Any] | tuple[Any, ...] = ()) -> list["Row"]:
        """All rows of a statement, as they are at one moment."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except SqliteError as error:
            raise_translated(error)

    def close(self) -> None:
        self._connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """One row of the live table, and what becomes of it."""

    row: "Row"
    owner: Any
    key: Any
    made: Sequence[tuple[Any, ...]] = ()
    rejection: Rejection | None = None
    attempt: RepairAttempt | None = None


class RowConverter:
    """Rows to values of the new table, with the executor's code; what fails is looked at row by row."""

    def __init__(self, executor: "RebuildingExecutor", work: "Work", layout: "Layout") -> None:
        self._executor = executor
        self._work = work
        self._key = layout.source.index(layout.keys[-1])
        self._owner = layout.source.index(layout.keys[0]) if len(layout.keys) > 1 else None

    def converted(self, rows: Sequence["Row"]) -> list[Converted]:
        """Raises what is not a row's fault."""
        found: list[Converted] = []
        for start in range(0, len(rows), SLICE_ROWS):
            found += self._slice(rows[start : start + SLICE_ROWS])
        return found

    def _slice(self, rows: Sequence["Row"]) -> list[Converted]:
        warned = self._work.warned
        try:
            made = self._executor.made_of(rows, self._work)
        except Exception as error:
            if rejection_for(error) is None:
                raise
        else:
            return [self._of(row, made=values) for row, values in zip(rows, made, strict=True)]
        self._work.forget_warnings(since=warned)
        return [self._one(row) for row in rows]

    def _one(self, row: "Row") -> Converted:
        """The row as it is, then after each repair rule for what was wrong."""
        owner = None if self._owner is None else str(row[self._owner])
        attempt = RepairAttempt(Item(str(row[self._key]), row, owner=owner), executor=self._executor, work=self._work)
        while True:
            try:
                made = self._executor.made_of([attempt.item.value], self._work)[0]
            except Exception as error:  # noqa: BLE001  (raised again by _after_repair where it is no row's fault)
                rejection = _after_repair(error, attempt)
                if rejection is not None:
                    return self._of(row, rejection=rejection)
            else:
                return self._of(row, made=made, attempt=attempt if attempt.done else None)

    def _of(self, row: "Row", **became: Any) -> Converted:
        owner = "" if self._owner is None else row[self._owner]
        return Converted(row=row, owner=owner, key=row[self._key], **became)


def _after_repair(error: Exception, attempt: RepairAttempt) -> Rejection | None:
    """None when a rule has changed the row, so that it is worth another try. Raises what is not the row's fault."""
    rejection = rejection_for(error)
    if rejection is None:
        raise error
    try:
        return None if attempt.next(rejection.field) else rejection
    except Exception as failed:
        worse = rejection_for(failed)
        if worse is None:
            raise
        return worse


class RowWriter:
    """Puts converted rows into the new table, and takes them out again. Inside the transaction of a batch."""

    def __init__(self, executor: "RebuildingExecutor", work: "Work", layout: "Layout") -> None:
        self._executor = executor
        self._work = work
        self._store = work.store
        self._layout = layout
        self.postponed: set[int] = set()
        """Touches of rows that met another one, made by this run itself. These rows are not in the new table."""
        self._insert = insert_sql(executor.new_table, layout.new)
        self._collection = executor.collection
        self._key = layout.new.index(layout.keys[-1])
        self._owner = layout.new.index(layout.keys[0]) if len(layout.keys) > 1 else None
        self._by_key = " AND ".join(f"{quoted(key)} IS ?" for key in layout.keys)

    # In.

    def write(self, rows: Sequence[Converted], shadow: "Shadow", *, decide: bool) -> "Shadow":
        """The state with these rows counted in.

        A row that meets another one in the new table is touched, to be tried again when nothing else is on its way;
        with `decide` nothing is, so it is that row's own fault.
        """
        good = [row for row in rows if row.rejection is None]
        try:
            with self._store.savepoint(f"batch_{shadow.batches + 1}"):
                self._store.connection.executemany(self._insert, [values for row in good for values in row.made])
        except Exception as error:
            if self._rejection(error) is None:
                raise
            shadow = replace(shadow, batches_undone=shadow.batches_undone + 1)
            good, rows = self._one_by_one(good, rows, decide=decide)
        self._executor.keep_originals([row.row for row in good], self._work)
        shadow = self._count(good, shadow)
        for row in rows:
            if row.rejection is not None:
                shadow = self._set_aside(row, row.rejection, shadow)
        return shadow

    def _rejection(self, error: Exception) -> Rejection | None:
        return rejection_for(error) if self._store.connection.in_transaction else None

    def _one_by_one(
        self, good: Iterable[Converted], rows: Iterable[Converted], *, decide: bool
    ) -> tuple[list[Converted], list[Converted]]:
        """Those that are in now, and with them those that are to be set aside."""
        written = []
        aside = [row for row in rows if row.rejection is not None]
        for row in good:
            try:
                with self._store.savepoint("row"):
                    self._store.connection.executemany(self._insert, row.made)
            except Exception as error:
                rejection = self._rejection(error)
                if rejection is None:
                    raise
                if _meets_another(error) and not decide:
                    self.touch(row.owner, row.key)
                else:
                    aside.append(replace(row, rejection=rejection))
            else:
                written.append(row)
        return written, [*written, *aside]

    def touch(self, owner: Any, key: Any) -> None:
        """Have this row converted again, behind those that wait already."""
        self._store.run("shadow", "touch", collection=self._collection, owner=owner, row_key=key)
        self.postponed.add(self._store.connection.last_insert_rowid())

    def _count(self, good: Iterable[Converted], shadow: "Shadow") -> "Shadow":
        written = dropped = extra = 0
        repaired = Counter(shadow.repaired)
        for row in good:
            made = len(row.made)
            written += 1 if made else 0
            dropped += 0 if made else 1
            extra += max(made - 1, 0)
            if made != 1 or self._key_of(row.made[0]) != (row.owner, row.key):
                self._remember(row)
            if row.attempt is not None:
                row.attempt.keep_originals()
                repaired.update(row.attempt.done)
        return replace(
            shadow,
            written=shadow.written + written,
            dropped=shadow.dropped + dropped,
            extra=shadow.extra + extra,
            repaired=repaired,
        )

    def _key_of(self, values: tuple[Any, ...]) -> tuple[Any, Any]:
        return ("" if self._owner is None else values[self._owner], values[self._key])

    def _remember(self, row: Converted) -> None:
        for owner, key in [self._key_of(values) for values in row.made] or [(None, None)]:
            self._store.run(
                "shadow",
                "remember_made",
                collection=self._collection,
                owner=row.owner,
                row_key=row.key,
                made_owner=owner,
                made_key=key,
            )

    def _set_aside(self, row: Converted, why: Rejection, shadow: "Shadow") -> "Shadow":
        self._store.run(
            "shadow",
            "set_aside",
            collection=self._collection,
            owner=row.owner,
            row_key=row.key,
            body=row_as_json(self._layout.source, row.row),
            error_code=why.code,
            error_text=why.text,
            field=why.field,
        )
        return replace(
            shadow,
            aside=shadow.aside + 1,
            first=shadow.first or why,
            code_faults=shadow.code_faults + (why.code == CODE_FAILED),
        )

    # Out.

    def take_out(self, owner: Any, key: Any, shadow: "Shadow") -> "Shadow":
        """The state without what this row of the live table has become so far."""
        row = {"collection": self._collection, "owner": owner, "row_key": key}
        self._store.run("shadow", "forget_originals", **row, migration=shadow.migration)
        lines, made = self._store.rows("shadow", "made_count", **row)[0]
        if lines:
            self._take_out_made(row)
            left = replace(shadow, extra=shadow.extra - made + 1, written=shadow.written - 1)
            return left if made else replace(shadow, dropped=shadow.dropped - 1)
        if aside := self._store.run("shadow", "forget_aside", **row):
            return replace(shadow, aside=shadow.aside - aside)
        if self._store.value("shadow", "made_by_another", **row):
            return shadow
        return replace(shadow, written=shadow.written - self._delete(owner, key))

    def _take_out_made(self, row: dict[str, Any]) -> None:
        for owner, key in self._store.rows("shadow", "made", **row):
            self._delete(owner, key)
        self._store.run("shadow", "forget_made", **row)

    def _delete(self, owner: Any, key: Any) -> int:
        values = (key,) if self._owner is None else (owner, key)
        self._store.query(f"DELETE FROM {quoted(self._executor.new_table)} WHERE {self._by_key}", values)
        return self._store.connection.changes()


def refused_rows(store: "Store", collection: str) -> list[RefusedRow]:
    """The first rows that were set aside, for whoever asks why the rewriting was given up."""
    found = store.rows("shadow", "first_aside", collection=collection, most=REFUSED_MAX)
    return [
        RefusedRow(collection=collection, key=str(key), reason=Rejection(code="", text=text, field=field).told)
        for key, text, field in found
    ]


def _meets_another(error: Exception) -> bool:
    # apsw sets it on every error of SQLite, but does not declare it.
    return isinstance(error, ConstraintError) and getattr(error, "extendedresult", 0) in _MEETS_ANOTHER_ROW
