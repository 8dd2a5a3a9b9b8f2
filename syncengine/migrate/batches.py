"""What is converted in one SAVEPOINT: items, rows of a table, or a range of its keys that SQL converts by itself."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from syncengine.local.identifiers import quoted
from syncengine.local.page_cache import PageCache
from syncengine.logs import log_event
from syncengine.migrate.definition import Counts, Item
from syncengine.migrate.paging import PAGE_ROWS, behind, page_of, pages, rows_of, up_to

if TYPE_CHECKING:
    from syncengine.local.store import Row
    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.rebuild import RebuildingExecutor
    from syncengine.migrate.work import Work


_logger = logging.getLogger("syncengine.migrate")

EVERY_ROW = "1"
"""The predicate of a select list that needs no Python at all."""


class Batch(Protocol):
    """Tried as a whole; when a row of it fails, part by part; a part without parts unit by unit."""

    def apply(self) -> Counts:
        """Write what it becomes. An exception undoes all of it."""
        ...

    def parts(self) -> "Sequence[Batch]":
        """Smaller batches of the same rows; none where the next smaller thing is the unit."""
        ...

    def units(self) -> Iterator[list[Item]]:
        """The items, those together that are converted together."""
        ...


def log_batch(migration: str, batch: int, counts: Counts, *, ms: int, undone: bool) -> None:
    """For whoever debugs: the number of a batch, its rows, its time, and whether it was done again row by row."""
    log_event(
        _logger,
        logging.DEBUG,
        "batch ended",
        migration=migration,
        batch=batch,
        rows=counts.read,
        rows_quarantined=counts.quarantined,
        ms=ms,
        undone=undone,
    )


@dataclass(frozen=True, slots=True)
class UnitsBatch:
    """Items as an executor reads them."""

    executor: "BaseMigrationExecutor"
    work: "Work"
    taken: list[list[Item]]

    def apply(self) -> Counts:
        if not self.executor.grouped:
            return self.executor.apply([item for unit in self.taken for item in unit], self.work)
        counts = Counts()
        for unit in self.taken:
            counts.add(self.executor.apply(unit, self.work))
        return counts

    def parts(self) -> Sequence[Batch]:
        return ()

    def units(self) -> Iterator[list[Item]]:
        return iter(self.taken)


@dataclass(frozen=True, slots=True)
class RowsBatch:
    """Rows of the table that is rebuilt; none becomes an Item while all goes well."""

    executor: "RebuildingExecutor"
    work: "Work"
    rows: "Sequence[Row]"

    def apply(self) -> Counts:
        return self.executor.apply_rows(self.rows, self.work)

    def parts(self) -> Sequence[Batch]:
        return ()

    def units(self) -> Iterator[list[Item]]:
        return ([item] for item in self.executor.items_of(self.rows, self.work))


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeBatch:
    """The rows behind one key and up to another: INSERT … SELECT for most of them, Python for the odd ones."""

    executor: "RebuildingExecutor"
    work: "Work"
    where: str
    bindings: dict[str, Any] = field(default_factory=dict)
    rows: int | None = None
    """How many there are, where that is known."""

    def apply(self) -> Counts:
        return self._applied("INSERT")

    def apply_or_leave_half(self) -> Counts:
        """The same, where the caller undoes more than this batch when it fails.

        To be able to undo this INSERT alone, SQLite would copy pages that earlier batches changed into a statement
        journal; OR FAIL needs none (sqlite.org/tempfiles.html#statement_journal_files).
        """
        return self._applied("INSERT OR FAIL")

    def _applied(self, insert: str) -> Counts:
        select = self.executor.insert_select(self.work)
        assert select is not None
        asked, predicate = select
        plain = f"{self.where} AND ({predicate})"
        store, executor = self.work.store, self.executor
        names = ", ".join(map(quoted, executor.new_columns(self.work)))
        store.query(
            f"{insert} INTO {quoted(executor.new_table)} ({names})"
            f" SELECT {asked} FROM {quoted(executor.collection)} WHERE {plain}",
            self.bindings,
        )
        written = store.connection.changes()
        executor.keep_originals_where(plain, self.bindings, self.work)
        counts = Counts(read=written, written=written)
        if predicate != EVERY_ROW and written < self._rows():
            odd = self._read(f"{self.where} AND ({predicate}) IS NOT TRUE")
            counts.add(executor.apply_rows(odd, self.work))
        return counts

    def _rows(self) -> int:
        if self.rows is not None:
            return self.rows
        sql = f"SELECT count(*) FROM {quoted(self.executor.collection)} WHERE {self.where}"
        return int(self.work.store.query(sql, self.bindings)[0][0])

    def _read(self, where: str) -> "list[Row]":
        order = ", ".join(map(quoted, self.executor.order(self.work)))
        rest = f" FROM {quoted(self.executor.collection)} WHERE {where} ORDER BY {order}"
        return page_of(self.work.store, self.executor.source_columns(self.work), rest, self.bindings)

    def parts(self) -> Sequence[Batch]:
        rows, size = self._read(self.where), self.work.store.settings.batch_rows
        return [
            RowsBatch(self.executor, self.work, rows[start : start + size]) for start in range(0, len(rows), size)
        ]

    def units(self) -> Iterator[list[Item]]:
        return (unit for part in self.parts() for unit in part.units())


def of_units(
    units: Iterator[list[Item]], executor: "BaseMigrationExecutor", work: "Work", *, rows_max: int
) -> Iterator[Batch]:
    """Units until they hold so many items; one unit is never cut."""
    while taken := _taken(units, rows_max):
        yield UnitsBatch(executor, work, taken)


def _taken(units: Iterator[list[Item]], rows_max: int) -> list[list[Item]]:
    taken: list[list[Item]] = []
    rows = 0
    while rows < max(rows_max, 1) and (unit := next(units, None)) is not None:
        taken.append(unit)
        rows += len(unit)
    return taken


def of_rows(executor: "RebuildingExecutor", work: "Work", *, rows_max: int) -> Iterator[Batch]:
    """The table in key order, so many rows at a time."""
    columns, keys = executor.source_columns(work), executor.order(work)
    page_rows = max(rows_max, PAGE_ROWS)
    cache = PageCache(work.store)
    for page in pages(work.store, executor.collection, columns=columns, keys=keys, page_rows=page_rows):
        for start in range(0, len(page), rows_max):
            yield RowsBatch(executor, work, page[start : start + rows_max])
            cache.settle()


def of_ranges(
    executor: "RebuildingExecutor", work: "Work", *, keys: tuple[str, ...], rows_max: int
) -> Iterator[Batch]:
    """The table in ranges of these keys, none of which may be NULL."""
    table = quoted(executor.collection)
    order = ", ".join(map(quoted, keys))
    after, bindings = "1", dict[str, Any]()
    while True:
        ends = page_of(
            work.store, keys, f" FROM {table} WHERE {after} ORDER BY {order} LIMIT 1 OFFSET {rows_max - 1}", bindings
        )
        if not ends:
            yield RangeBatch(executor=executor, work=work, where=after, bindings=bindings)
            return
        until = {f"until_{number}": value for number, value in enumerate(ends[0])}
        where = f"{after} AND {up_to(keys)}"
        yield RangeBatch(executor=executor, work=work, where=where, bindings={**bindings, **until})
        after = behind(keys, ends[0])
        bindings = {f"last_{number}": value for number, value in enumerate(ends[0])}


def of_row_ids(executor: "RebuildingExecutor", work: "Work", *, row_id: str, rows_max: int) -> Iterator[Batch]:
    """The table as it lies in the file. Where row ids have few gaps, nobody has to look for the ends of ranges."""
    name, table = quoted(row_id), quoted(executor.collection)
    # Each by itself: together they would read the whole table.
    first, last = (work.store.query(f"SELECT {end}({name}) FROM {table}")[0][0] for end in ("min", "max"))
    # Counted in this very transaction, before the first batch.
    rows = work.notes["rows"] if "rows" in work.notes else rows_of(work.store, executor.collection)
    if rows == 0 or last - first >= 2 * rows:
        yield from of_ranges(executor, work, keys=(row_id,), rows_max=rows_max)
        return
    has_gaps = last - first + 1 != rows
    where = f"{name} BETWEEN :first_0 AND :until_0"
    for start in range(first, last + 1, rows_max):
        end = min(start + rows_max - 1, last)
        known = None if has_gaps else end - start + 1
        bindings = {"first_0": start, "until_0": end}
        yield RangeBatch(executor=executor, work=work, where=where, bindings=bindings, rows=known)
