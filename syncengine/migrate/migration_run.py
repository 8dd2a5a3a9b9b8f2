"""One migration inside a transaction: batches in SAVEPOINTs, the checks, the record; the markers move with the data.

A batch that fails is rolled back to its SAVEPOINT and done again row by row; the row at fault goes to quarantine with
its reason.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from syncengine.clock import iso
from syncengine.errors import DiskFull, MigrationFailed, StoreDamaged, StoreUnusable, SyncEngineError
from syncengine.local.savepoint import translated
from syncengine.local.sqlite_errors import SqliteError
from syncengine.local.whole_row import row_as_json
from syncengine.logs import log_event
from syncengine.migrate.batches import Batch, RangeBatch, UnitsBatch, log_batch
from syncengine.migrate.checks import (
    check_all_read,
    check_budget,
    check_code,
    check_sum,
    refuse_drifted,
)
from syncengine.migrate.dangling import DanglingRows
from syncengine.migrate.definition import Counts, EntryCounts, Item
from syncengine.migrate.entries_of_run import QueuedEntries
from syncengine.migrate.erasing import ZeroedPages, forget_before, forget_late
from syncengine.migrate.history import RunRecord, code_hash, record_run
from syncengine.migrate.late import LateRow, Lift, come_back, lift_for, step_aside
from syncengine.migrate.markers import move_markers
from syncengine.migrate.online import OnlineExecutor
from syncengine.migrate.others import others_left_alone
from syncengine.migrate.pace import Cancelled, Paused
from syncengine.migrate.policy import Kind, kind_of
from syncengine.migrate.queueing import queue_online
from syncengine.migrate.rebuild import RebuildingExecutor
from syncengine.migrate.references import check_references
from syncengine.migrate.rejection import Rejection, name_of
from syncengine.migrate.repair import sentences
from syncengine.migrate.results import MigrationResult
from syncengine.migrate.row_by_row import RowByRow
from syncengine.migrate.shape import fingerprint, table_exists
from syncengine.migrate.taken import take, taken_by
from syncengine.migrate.unique_rows import UniqueRows
from syncengine.migrate.work import Work
from syncengine.outbox.capture import capture_off
from syncengine.vocabulary import STORE_SCOPE

if TYPE_CHECKING:
    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.plan import Step
    from syncengine.migrate.run_context import RunContext


_logger = logging.getLogger("syncengine.migrate")


@dataclass
class Tally:
    """How far a run is."""

    counts: Counts = field(default_factory=Counts)
    batches: int = 0
    batches_undone: int = 0


class Undone(Exception):
    """The whole transaction of a run is gone, or has to go: nothing of it was recorded in it."""

    def __init__(self, run: "Run", error: Exception) -> None:
        super().__init__()
        self.run = run
        self.error = error


class Run:
    """One migration inside a transaction: its rows, its checks, its record."""

    def __init__(
        self,
        step: "Step",
        executor: "BaseMigrationExecutor",
        context: "RunContext",
        *,
        lifting: bool = False,
        reported: bool = False,
        restore_point_id: int | None = None,
        method: str = "transaction",
    ) -> None:
        self.step = step
        self.executor = executor
        self.context = context
        self.store = context.store
        self.tally = Tally()
        self.total: int | None = None
        self.lifting = lifting
        self.reported = reported
        self.restore_point_id = restore_point_id
        self.method = method
        clock = self.store.clock
        self.started_ms = clock.monotonic_ms()
        self.started_at = iso(clock.now_ms())
        self.work = Work(
            store=self.store,
            definition=executor.definition,
            collections=context.registry.collections,
            user=context.user if step.scope != STORE_SCOPE else None,
            now_ms=clock.now_ms(),
            sources=context.sources,
            options=context.options,
            lifting=lifting,
        )
        self.rows = RowByRow(executor, self.work)
        self.entries = QueuedEntries(executor, self.work)

    def perform(self) -> MigrationResult:
        try:
            with self.store.savepoint(f"migration_{self.step.id}"):
                # Every device does by itself what a migration does to rows, so it is not queued; nor are imports.
                names = () if isinstance(self.executor, OnlineExecutor) else self.executor.definition.collections
                with capture_off(self.store, names, reshaping=True):
                    state = self._do()
                forget_before(self.store, self.executor)
                # The record and the markers are the last statements of the change itself.
                self.record(state)
                move_markers(self.store, self.context.registry, user=self.context.user)
        except Cancelled:
            self.record("cancelled")
            return self.result("cancelled")
        except Paused:
            # One transaction: nothing of it stays, and the next run does it whole.
            return self.result("paused")
        except Exception as error:
            if self._takes_all_along(error):
                raise Undone(self, error) from error
            failure = self.failure(error)
            self.record("failed", failure)
            return self.result("failed", failure)
        finally:
            self._close_source()
        return self.result(state)

    def _takes_all_along(self, error: Exception) -> bool:
        """A full disk or an interrupt has ended the transaction; what passes by itself is begun anew."""
        if not self.store.connection.in_transaction or kind_of(error) is Kind.TRANSIENT:
            return True
        return isinstance(error, SqliteError | DiskFull | StoreDamaged | StoreUnusable) and (
            kind_of(error) is Kind.CRITICAL
        )

    def _do(self) -> str:
        log_event(_logger, logging.INFO, "migration started", migration=self.step.id)
        if isinstance(self.executor, OnlineExecutor):
            return self._queue(self.executor)
        refuse_drifted(self.store, self.executor.definition.collections)
        if self._source_belongs_to_another():
            return "completed"
        lift = None
        if self.step.scope != STORE_SCOPE:
            lift = lift_for(self.store, self.context.registry, self.executor.definition)
        with others_left_alone(self.store, self.step, self.context.user):
            if lift is None:
                self.convert_rows()
            else:
                self._late_rows(lift)
            self.set_dangling_aside()
        self.check_references()
        self.record_shapes()
        self._take_source()
        return "completed"

    def convert_rows(self) -> None:
        """All of the executor's own work, without marker and record."""
        self.entries.before_rows()
        self.executor.prepare(self.work)
        unique = self._unique_rows()
        self.total = self.executor.estimate(self.work)
        self.report_start()
        self._all_batches()
        unique.drop()
        self.entries.with_rows()
        self.executor.finish(self.work)
        self.entries.after_rows()
        self.executor.verify(self.work)
        self._check()

    def _late_rows(self, lift: Lift) -> None:
        """Import in the old shape, then take the new rows through what the store went through since."""
        definitions = [self.context.registry.get_migration_executor(step.id).definition for step in lift.steps]
        erasing = [definition for definition in definitions if definition.erases]
        with ZeroedPages(self.store, wanted=bool(erasing)):
            step_aside(self.store, lift)
            for shaping in lift.shaping:
                self._lifting_run(shaping).convert_rows()
            self.convert_rows()
            for between in lift.steps:
                run = self._lifting_run(between)
                run.convert_rows()
                run.record("completed")
            come_back(self.store, self.context.registry, lift, refuse=self._refuse_lifted)
            for definition in erasing:
                forget_late(self.store, definition, scope=self.step.scope, owner=self.context.user or "")

    def _lifting_run(self, step: "Step") -> "Run":
        executor = self.context.registry.get_migration_executor(step.id)
        return Run(replace(step, scope=self.step.scope), executor, self.context, lifting=True)

    def _refuse_lifted(self, refused: LateRow) -> None:
        self.rows.put_into_quarantine(
            Rejection(code="constraint_failed", text=refused.why),
            collection=refused.collection,
            key=refused.key,
            body=row_as_json(refused.columns, refused.row),
            owner=self.work.user,
            shape_version=self._shape_version(refused.collection),
        )

    def _shape_version(self, collection: str) -> str:
        definition = self.executor.definition
        if collection in definition.collections and definition.scope == STORE_SCOPE:
            return definition.to_version
        found = self.store.value("runs", "shape_version", name=collection)
        return str(found or self.context.registry.baseline)

    # Rows.

    def _all_batches(self) -> None:
        """Where SQL converts the rows, first as if none could fail: without a SAVEPOINT for each batch."""
        by_sql = isinstance(self.executor, RebuildingExecutor) and self.executor.is_by_sql(self.work)
        if not (by_sql and self._done_in_one_go()):
            self._batches(self.executor.batches(self.work))

    def _done_in_one_go(self) -> bool:
        """False, with nothing changed, where a row failed."""
        warned = self.work.warned
        try:
            with self.store.savepoint("all_batches"):
                self._batches(self.executor.batches(self.work), convert=self._at_once)
        except Exception as error:
            if self.rows.rejection(error) is None:
                raise
            self.work.forget_warnings(since=warned)
            self.tally = Tally()
            return False
        return True

    def _at_once(self, batch: Batch) -> Counts:
        return batch.apply_or_leave_half() if isinstance(batch, RangeBatch) else self._batch(batch)

    def convert_only(self, item: Item) -> None:
        """One item alone, without what a whole run does at its end."""
        self.executor.prepare(self.work)
        self._batches(iter([UnitsBatch(self.executor, self.work, [[item]])]))

    def _batches(self, batches: Iterator[Batch], *, convert: Callable[[Batch], Counts] | None = None) -> None:
        for batch in batches:
            self.context.pace.between_batches()
            self.tally.batches += 1
            self._timed(batch, convert or self._batch)
            if not self.lifting:
                self.context.reporter.update_progress(self.tally.counts.read)
        for sentence in sentences(self.rows.repaired):
            self.work.warn(sentence)
        definition, counts = self.executor.definition, self.tally.counts
        if not self.lifting:
            check_code(definition, counts, code_faults=self.rows.code_faults, first=self.rows.first)
        check_budget(self.executor.definition, self.tally.counts, settings=self.store.settings, first=self.rows.first)

    def _timed(self, batch: Batch, convert: Callable[[Batch], Counts]) -> None:
        begun_ms, undone = self.store.clock.monotonic_ms(), self.tally.batches_undone
        counts = convert(batch)
        self.tally.counts.add(counts)
        log_batch(
            self.step.id,
            self.tally.batches,
            counts,
            ms=self.store.clock.monotonic_ms() - begun_ms,
            undone=self.tally.batches_undone > undone,
        )

    def _batch(self, batch: Batch) -> Counts:
        warned = self.work.warned
        try:
            with self.store.savepoint(f"batch_{self.tally.batches}"):
                return batch.apply()
        except Exception as error:
            if self.rows.rejection(error) is None:
                raise
        self.work.forget_warnings(since=warned)
        self.tally.batches_undone += 1
        counts = Counts()
        if parts := batch.parts():
            for part in parts:
                counts.add(self._batch(part))
            return counts
        with self.store.savepoint(f"batch_{self.tally.batches}"):
            for unit in batch.units():
                counts.add(self.rows.unit(unit))
            return counts

    def _unique_rows(self) -> UniqueRows:
        unique = UniqueRows(self.store, self.executor)
        if not self.lifting:
            unique.make()
        return unique

    def set_dangling_aside(self) -> None:
        """Rows that refer to one that was set aside go with it; they are counted, and the counts are checked."""
        gone = DanglingRows(
            self.rows,
            collections=self.context.registry.collections,
            shape_version=self._shape_version,
            from_outside=self.step.scope != STORE_SCOPE,
        ).set_aside()
        definition, counts = self.executor.definition, self.tally.counts
        for name, rows in gone.items():
            # Its own rows were counted as written; those of another collection it has not seen until now.
            own = min(rows, counts.written) if name in definition.collections else 0
            counts.add(Counts(read=rows - own, written=-own, quarantined=rows))
            self.work.warn(f"{rows} of {name} set aside: what they refer to is not there")
        if gone:
            check_sum(self.step.id, counts)
            check_budget(definition, counts, settings=self.store.settings, first=self.rows.first)

    def check_references(self) -> None:
        """No row refers to nothing that did not before. Raises ReconciliationFailed."""
        rows = check_references(self.store, self.step.id)
        if rows:
            self.work.warn(f"{rows} rows refer to nothing, as before: `syncengine doctor` names their tables")

    def _check(self) -> None:
        """All before the marker moves."""
        counts = self.tally.counts
        if self.executor.rebuilds_tables:
            check_all_read(self.step.id, counts, rows=self.total)
        check_sum(self.step.id, counts)

    # Records.

    def record_shapes(self) -> None:
        """What its collections are now, and in which version."""
        definition = self.executor.definition
        if definition.scope != STORE_SCOPE:
            return
        for name in definition.collections:
            collection = self.context.registry.collections[name]
            if table_exists(self.store, name):
                self.store.run(
                    "runs",
                    "write_collection",
                    name=name,
                    key_column=collection.key,
                    owner_column=collection.owner,
                    shape_version=definition.to_version,
                    fingerprint=fingerprint(self.store, name),
                )

    def _source_belongs_to_another(self) -> bool:
        """A legacy store has no user in it: it goes to the user who is signed in first, and to nobody else."""
        source = self.work.source if self.executor.definition.source else None
        if source is None:
            return False
        owner = taken_by(self.store, source.identity, migration=self.step.id)
        if owner is None or owner == self.context.user:
            return False
        self.work.warn("this device's legacy store was imported for another user before; nothing was imported")
        return True

    def _take_source(self) -> None:
        source = self.work.source if self.executor.definition.source else None
        if source is None or self.tally.counts.read == 0:
            return
        names = (source.identity, *self.work.values_read)
        take(self.store, names, migration=self.step.id, user=self.context.user or "")

    def _close_source(self) -> None:
        source = self.work.__dict__.get("source")
        given = self.context.sources.get(self.executor.definition.source or "")
        if source is not None and source is not given:
            source.close()

    def _queue(self, executor: OnlineExecutor) -> str:
        self.tally.counts = queue_online(executor, self.step, self.context)
        return "queued"

    def record(self, state: str, failure: SyncEngineError | None = None) -> None:
        if state in ("completed", "queued"):
            for stood_for in self.executor.definition.stands_for:
                self._record_one(stood_for, "stood_for", Counts(), None)
        self._record_one(self.step.id, state, self.tally.counts, failure)

    def _record_one(self, migration: str, state: str, counts: Counts, failure: SyncEngineError | None) -> None:
        record_run(
            self.store,
            RunRecord(
                migration=migration,
                scope=self.step.scope,
                from_version=str(self.step.hop.from_version),
                to_version=str(self.step.hop.to_version),
                state=state,
                method=self.method,
                restore_point_id=self.restore_point_id,
                counts=counts,
                entries=self.entries.counts if migration == self.step.id else EntryCounts(),
                started_at=self.started_at,
                duration_ms=self.store.clock.monotonic_ms() - self.started_ms,
                batches=self.tally.batches,
                batches_undone=self.tally.batches_undone,
                code_hash=code_hash(self.executor),
                probe_verdict=self.context.probe_verdict,
                error_code=failure.code() if failure else None,
                error_text=failure.in_one_line() if failure else None,
                warnings=self.work.all_warnings(),
            ),
        )

    def failure(self, error: Exception) -> SyncEngineError:
        """What a host is told: the engine's own words where it has some."""
        if isinstance(error, SqliteError):
            error = translated(error)
        if isinstance(error, SyncEngineError):
            return error
        return MigrationFailed(
            f"Migration {self.step.id} failed {self._where()}.",
            # SQLite's messages name tables and columns only; any other may quote a row.
            why=f"{type(error).__name__}: {error}" if isinstance(error, SqliteError) else name_of(error),
            fix="The store is as it was before this migration. Correct the migration and run it again.",
        )

    def _where(self) -> str:
        return f"at batch {self.tally.batches}" if self.tally.batches else "before its first batch"

    def report_start(self) -> None:
        """Say that it begins, with the number of its rows where that is known."""
        if not self.lifting and not self.reported:
            self.reported = True
            self.context.reporter.start_migration(self.step.id, self.total)

    def report_end(self, *, success: bool) -> None:
        if not self.reported:
            # It ended before there was anything to count; an end without a start would be of nothing.
            self.report_start()
        log_event(
            _logger,
            logging.INFO if success else logging.ERROR,
            "migration ended",
            migration=self.step.id,
            success=success,
            rows_read=self.tally.counts.read,
            rows_written=self.tally.counts.written,
            rows_quarantined=self.tally.counts.quarantined,
            batches=self.tally.batches,
            batches_undone=self.tally.batches_undone,
        )
        self.context.reporter.complete_migration(success, {"itemsProcessed": self.tally.counts.accounted})

    def result(self, state: str, failure: SyncEngineError | None = None) -> MigrationResult:
        return MigrationResult(
            success=failure is None and state not in ("cancelled", "paused"),
            migration_id=self.step.id,
            scope=self.step.scope,
            state=state,
            counts=self.tally.counts,
            entries=self.entries.counts,
            batches=self.tally.batches,
            batches_undone=self.tally.batches_undone,
            duration_ms=self.store.clock.monotonic_ms() - self.started_ms,
            errors=(str(failure),) if failure else (),
            failure=failure,
            refused=tuple(self.rows.refused) if failure else (),
            warnings=self.work.all_warnings(),
        )
