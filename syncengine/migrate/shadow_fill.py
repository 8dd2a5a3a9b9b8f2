"""Filling the new table: page after page of the live one, then again the rows that somebody wrote meanwhile.

The write lock is held for the writing of one batch at a time. What is read before it may be old when it is written:
then a trigger has touched the row, and it is converted again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from syncengine.errors import QuarantineBudgetExceeded, ReconciliationFailed
from syncengine.local.identifiers import quoted
from syncengine.local.sqlite_errors import ConstraintError
from syncengine.local.statements import statement
from syncengine.migrate.batches import log_batch
from syncengine.migrate.checks import check_budget
from syncengine.migrate.definition import Counts
from syncengine.migrate.entries import stage_entries
from syncengine.migrate.entries_made import key_text
from syncengine.migrate.pace import Cancelled, Paused
from syncengine.migrate.paging import Queried, behind, page_of
from syncengine.migrate.shadow_check import refuse_unequal, touch_extra, touch_missing
from syncengine.migrate.shadow_pace import Checkpoints, Courtesy, adapted
from syncengine.migrate.shadow_rows import Converted, LiveReader, RowConverter, RowWriter
from syncengine.migrate.shadow_state import Key, Shadow, save
from syncengine.migrate.shadow_watch import still_noted

if TYPE_CHECKING:
    from syncengine.local.store import Row
    from syncengine.migrate.lease import Lease
    from syncengine.migrate.rebuild import RebuildingExecutor
    from syncengine.migrate.run_context import RunContext
    from syncengine.migrate.shadow_table import Layout
    from syncengine.migrate.work import Work

FEW_TOUCHED = 100
"""So many rows are left for the transaction that swaps."""
TOUCHED_ROWS_MAX = 1_000
"""Rows of one round of catching up."""
ALL = -1
"""LIMIT -1 is none (sqlite.org/lang_select.html#limitoffset)."""
ROUNDS_MAX = 10_000
"""Whoever writes faster than this gets their rows converted in the swap, which then takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """A row that somebody wrote, by its key."""

    touch_id: int
    owner: Any
    key: Any


class Filling:
    """One run's way through the rows; `shadow` is the state of the last committed batch."""

    def __init__(
        self,
        shadow: Shadow,
        *,
        executor: "RebuildingExecutor",
        work: "Work",
        layout: "Layout",
        context: "RunContext",
        lease: "Lease",
        reader: LiveReader,
        checkpoints: Checkpoints,
    ) -> None:
        self.shadow = shadow
        self._executor = executor
        self._work = work
        self.layout = layout
        self._context = context
        self._store = context.store
        self._lease = lease
        self._reader = reader
        self._checkpoints = checkpoints
        self._converter = RowConverter(executor, work, layout)
        self._writer = RowWriter(executor, work, layout)
        self._courtesy = Courtesy(context.store)
        self._select = executor.insert_select(work)

    @property
    def is_by_sql(self) -> bool:
        """Does SQLite convert most rows by itself?"""
        return self._select is not None

    # The live table, page by page.

    def fill(self) -> None:
        """To its end. Raises Cancelled, Paused, LeaseLost, QuarantineBudgetExceeded, and what the code raises."""
        while until := self._end_of_page(self.shadow.cursor):
            self._context.pace.between_batches()
            begun_ms, before = self._store.clock.monotonic_ms(), self.shadow.counts
            held_ms = self._batch(until)
            took_ms = self._store.clock.monotonic_ms() - begun_ms
            self._log(before, ms=took_ms)
            rows = adapted(self.shadow.batch_rows, took_ms=took_ms, settings=self._store.settings)
            self.shadow = replace(self.shadow, batch_rows=rows)
            self._between(held_ms)

    def _log(self, before: Counts, *, ms: int) -> None:
        after = self.shadow.counts
        added = Counts(read=after.read - before.read, quarantined=after.quarantined - before.quarantined)
        # A row that fails here is set aside by itself: no batch is done again.
        log_batch(self._executor.definition.id, self.shadow.batches, added, ms=ms, undone=False)

    def _between(self, held_ms: int) -> None:
        """After a batch, when the write lock is free."""
        self._context.reporter.update_progress(self.shadow.read)
        self._check_budget()
        self._checkpoints.after_batch()
        self._courtesy.after(held_ms)

    def _end_of_page(self, after: Key | None) -> Key | None:
        """The key of the last row of the next page; None behind the last row."""
        where, values = self._range(after, None)
        start = f" FROM {quoted(self._executor.collection)} WHERE {where} ORDER BY "
        forth = ", ".join(map(quoted, self.layout.order))
        back = ", ".join(f"{quoted(key)} DESC" for key in self.layout.order)
        for rest in (f"{forth} LIMIT 1 OFFSET {self.shadow.batch_rows - 1}", f"{back} LIMIT 1"):
            if found := page_of(self._reader, self.layout.order, start + rest, values):
                return tuple(found[0])
        return None

    def _range(self, after: Key | None, until: Key | None) -> tuple[str, dict[str, Any]]:
        """The condition for the rows behind one key and up to another."""
        order, parts = self.layout.order, ["1"]
        values: dict[str, Any] = {}
        if after is not None:
            parts.append(behind(order, after))
            values |= {f"last_{number}": value for number, value in enumerate(after)}
        if until is not None:
            marks = ", ".join(f":until_{number}" for number in range(len(order)))
            parts.append(f"({', '.join(map(quoted, order))}) <= ({marks})")
            values |= {f"until_{number}": value for number, value in enumerate(until)}
        return " AND ".join(parts), values

    def _batch(self, until: Key) -> int:
        """One page: read, converted, written with its cursor. How long the write lock was held, in milliseconds."""
        where, values = self._range(self.shadow.cursor, until)
        by_code = where if self._select is None else f"{where} AND ({self._select[1]}) IS NOT TRUE"
        rows = self._converter.converted(self._read(by_code, values))
        try:
            return self._in_transaction(lambda: self._written(rows, until, where, values, careful=False))
        except ConstraintError:
            if self._select is None:
                raise
            return self._in_transaction(lambda: self._written(rows, until, where, values, careful=True))

    def _written(
        self, rows: Sequence[Converted], until: Key, where: str, values: dict[str, Any], *, careful: bool
    ) -> Shadow:
        shadow = self.shadow
        if self._select is not None:
            insert = self._insert_row_by_row if careful else self._insert_or_fail
            shadow = insert(f"{where} AND ({self._select[1]})", values, shadow)
        shadow = self._writer.write(rows, shadow, decide=False)
        return replace(shadow, cursor=until, batches=shadow.batches + 1)

    def _read(self, where: str, values: dict[str, Any]) -> "list[Row]":
        rest = f" FROM {quoted(self._executor.collection)} WHERE {where}"
        return page_of(self._reader, self.layout.source, rest, values)

    def _insert_or_fail(self, where: str, values: dict[str, Any], shadow: Shadow) -> Shadow:
        """The rows of the page that need no Python, as they are at this moment.

        Raises ConstraintError with a part of them written, so the caller's transaction has to go.

        To be able to undo this statement alone, SQLite would first copy each page of an index that it changes
        (sqlite.org/tempfiles.html#statement_journal_files).
        """
        assert self._select is not None
        live, new = quoted(self._executor.collection), quoted(self._executor.new_table)
        names = ", ".join(map(quoted, self.layout.new))
        self._store.query(
            f"INSERT OR FAIL INTO {new} ({names}) SELECT {self._select[0]} FROM {live} WHERE {where}", values
        )
        rows = self._store.connection.changes()
        self._executor.keep_originals_where(where, values, self._work)
        return replace(shadow, written=shadow.written + rows)

    def _insert_row_by_row(self, where: str, values: dict[str, Any], shadow: Shadow) -> Shadow:
        """The same rows, where one of them meets another."""
        live = quoted(self._executor.collection)
        found = page_of(self._store, self.layout.source, f" FROM {live} WHERE {where}", values)
        return self._writer.write(self._converter.converted(found), shadow, decide=False)

    # One batch, however it came about.

    def _in_transaction(self, write: Callable[[], Shadow]) -> int:
        """Write a batch, its counts and its cursor together, if this run still has the lease."""
        clock = self._store.clock
        with self._store.transaction():
            begun_ms = clock.monotonic_ms()
            self._lease.renew()
            self._look_what_is_asked()
            self.check_noted()
            shadow = replace(write(), warnings=self._all_warnings())
            save(self._store, shadow)
        self.shadow = shadow
        return clock.monotonic_ms() - begun_ms

    def check_noted(self) -> None:
        """Inside a transaction. Raises TableDisturbed where something may have been written that was not noted."""
        self.shadow = still_noted(self._store, self.shadow, new_table=self._executor.new_table)

    def _look_what_is_asked(self) -> None:
        asked = self._store.value("shadow", "asked", collection=self.shadow.collection)
        if asked is not None:
            raise Cancelled if asked == "cancel" else Paused

    def _all_warnings(self) -> tuple[str, ...]:
        """Each once: a row that is converted again warns again."""
        return tuple(dict.fromkeys(self._work.all_warnings()))

    def _check_budget(self) -> None:
        """Stop early where the rows to come cannot make up for those that failed."""
        counts, definition = self.shadow.counts, self._executor.definition
        if not counts.quarantined:
            return
        at_best = replace(counts, read=max(counts.read, self.shadow.rows_total))
        settings, first = self._store.settings, self.shadow.first
        try:
            check_budget(definition, at_best, settings=settings, first=first)
        except QuarantineBudgetExceeded:
            check_budget(definition, counts, settings=settings, first=first)  # says what was read by now
            raise

    # What was written meanwhile.

    def catch_up(self) -> None:
        """Convert touched rows again until few are left. Raises what `fill` raises."""
        for _ in range(ROUNDS_MAX):
            if self.touched(FEW_TOUCHED + 1) <= FEW_TOUCHED:
                return
            self._context.pace.between_batches()
            self._between(self._round())

    def _round(self) -> int:
        touches = self._touches(self._reader)
        rows = self._converter.converted(self._present(self._reader, touches))
        return self._in_transaction(lambda: self._again(touches, rows))

    def stage_entries(self) -> None:
        """What waits in the outbox, before the lock is held for the swap; the rest is converted in it."""

        def one_page(stage: Callable[[], bool]) -> bool:
            self._context.pace.between_batches()
            with self._store.transaction():
                self._lease.renew()
                self.check_noted()
                return stage()

        stage_entries(self._executor, self._work, each=one_page)

    def touched(self, rows_max: int) -> int:
        """How many rows wait to be converted again, counted up to a limit."""
        values = {"collection": self.shadow.collection, "rows_max": rows_max}
        return int(self._reader.query(statement("shadow", "touched_count"), values)[0][0])

    def settle(self, *, mending: bool) -> None:
        """Inside the transaction that swaps: convert all that is left, when nobody can write any more.

        Raises ReconciliationFailed where the new table does not account for every row then. With `mending` what is
        missing is looked for first, under the lock: before that it was looked for while others could write, and a row
        that went unseen since would never be found out.
        """
        before, warnings, new = self.shadow, list(self._work.warnings), self._executor.new_table
        try:
            with self._store.savepoint("settling"):
                self._convert_touched()
                refuse_unequal(self._store, self.shadow, new_table=new)
        except ReconciliationFailed:
            if not mending:
                raise
            self.shadow, self._work.warnings[:] = before, warnings
            touch_missing(self._store, self._store, before, self.layout, new=new)
            touch_extra(self._store, self._store, before, self.layout, new=new)
            self._convert_touched()
            refuse_unequal(self._store, self.shadow, new_table=new)

    def _convert_touched(self) -> None:
        touches = self._touches(self._store, rows_max=ALL)
        rows = self._converter.converted(self._present(self._store, touches))
        shadow = self._exchanged(touches, rows, decide=True)
        self.shadow = replace(shadow, warnings=self._all_warnings())

    def _touches(self, source: Queried, *, rows_max: int = TOUCHED_ROWS_MAX) -> list[Touch]:
        values = {"collection": self.shadow.collection, "rows_max": rows_max}
        return [
            Touch(touch_id=touch_id, owner=owner, key=key)
            for touch_id, owner, key in source.query(statement("shadow", "touched"), values)
        ]

    def _present(self, source: Queried, touches: Sequence[Touch]) -> "list[Row]":
        """The rows of these keys that are there; none for a key that was deleted."""
        where = " AND ".join(f"{quoted(key)} IS ?" for key in self.layout.keys)
        rest = f" FROM {quoted(self._executor.collection)} WHERE {where}"
        width = len(self.layout.keys)
        return [
            row
            for touch in touches
            for row in page_of(source, self.layout.source, rest, (touch.owner, touch.key)[-width:])
        ]

    def _again(self, touches: Sequence[Touch], rows: Sequence[Converted]) -> Shadow:
        """Those of a round that nobody has touched once more since they were read."""
        decide = self._only_postponed_are_left()
        still = [touch for touch in touches if self._store.value("shadow", "is_touched", touch_id=touch.touch_id)]
        keys = {(touch.owner, touch.key) for touch in still}
        shadow = self._exchanged(still, [row for row in rows if (row.owner, row.key) in keys], decide=decide)
        return replace(shadow, batches=shadow.batches + 1)

    def _only_postponed_are_left(self) -> bool:
        """Then the new table holds nothing that is old, and a row that meets another there does so for good."""
        postponed = self._writer.postponed
        left = self._touches(self._store, rows_max=len(postponed) + 1)
        return all(touch.touch_id in postponed for touch in left)

    def _exchanged(self, touches: Sequence[Touch], rows: Sequence[Converted], *, decide: bool) -> Shadow:
        """What these rows had become is taken out, all of it before anything is put in."""
        shadow = self.shadow
        for touch in touches:
            self._store.run("shadow", "untouch", touch_id=touch.touch_id)
            row = {"owner": str(touch.owner), "row_key": key_text(touch.key)}
            self._store.run("entries", "unstage", collection=shadow.collection, **row)
            shadow = self._writer.take_out(touch.owner, touch.key, shadow)
        return self._writer.write(rows, shadow, decide=decide)
