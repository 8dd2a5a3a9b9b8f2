"""Large collections: a new table is filled beside the live one in many short transactions, then takes its place.

The app's old version goes on reading and writing meanwhile. A process that dies is followed by one that goes on at
the last batch; until the swap, the way back is to drop what was filled.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from syncengine.errors import (
    CalledFromInside,
    LeaseLost,
    MigrationInvalid,
    ReconciliationFailed,
    SyncEngineError,
    TableDisturbed,
)
from syncengine.local.sqlite_errors import SqliteError
from syncengine.local.version_table import read_installed
from syncengine.logs import log_event
from syncengine.migrate.checks import (
    check_budget,
    check_code,
    check_sum,
    refuse_drifted,
    refuse_overtaken,
)
from syncengine.migrate.entries_of_run import QueuedEntries
from syncengine.migrate.erasing import forget_before
from syncengine.migrate.kept_tables import (
    drop_kept_tables,
    drop_shadow,
    forget_notes,
    give_up,
    kept_ddl,
    kept_table,
    sweep,
)
from syncengine.migrate.markers import move_markers
from syncengine.migrate.migration_run import Run
from syncengine.migrate.pace import Cancelled, Paused
from syncengine.migrate.paging import rows_of
from syncengine.migrate.policy import Kind, kind_of, wait_before_retry_ms
from syncengine.migrate.rebuild import RebuildingExecutor
from syncengine.migrate.rejection import Rejection
from syncengine.migrate.repair import sentences
from syncengine.migrate.shadow_check import touch_extra, touch_missing
from syncengine.migrate.shadow_fill import FEW_TOUCHED, Filling
from syncengine.migrate.shadow_others import TAKEOVERS_MAX, after_other_process, drop_other_shadows, new_lease
from syncengine.migrate.shadow_pace import Checkpoints, LargerCache
from syncengine.migrate.shadow_rows import LiveReader, refused_rows
from syncengine.migrate.shadow_size import first_batch_rows, is_large
from syncengine.migrate.shadow_state import Shadow, ask_of_runner, filling, load, save, with_state
from syncengine.migrate.shadow_swap import refuse_other_columns, swap
from syncengine.migrate.shadow_table import KeysCompareAlike, NotBeside, code_of, is_ordinary, layout_of, make_beside
from syncengine.migrate.shadow_triggers import make_triggers
from syncengine.migrate.shadow_waiting import Waiting
from syncengine.migrate.shadow_watch import schema_number, seal_of
from syncengine.migrate.shape import columns_of
from syncengine.migrate.starter import Starter
from syncengine.migrate.work import key_columns
from syncengine.outbox.capture import capture_off
from syncengine.vocabulary import STORE_SCOPE

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.plan import Step
    from syncengine.migrate.results import MigrationResult
    from syncengine.migrate.run_context import RunContext
    from syncengine.vocabulary import SchemaVersion

__all__ = [
    "NotBeside",
    "after_other_process",
    "ask_of_runner",
    "drop_kept_tables",
    "drop_other_shadows",
    "drop_shadow",
    "filling",
    "kept_ddl",
    "kept_table",
    "run_shadow",
    "wants_shadow",
]

SWAPS_MAX = 20
"""The last one takes whatever was touched, however long it holds the lock."""
BEGUN_ANEW_MAX = 3
"""So many times for what another program did to the table."""
TOUCHED_IN_SWAP_MAX = 10 * FEW_TOUCHED

_logger = logging.getLogger("syncengine.migrate")


def wants_shadow(step: "Step", executor: "BaseMigrationExecutor", context: "RunContext") -> bool:
    """Is this a collection to rewrite beside the live table: one that is large, or whose author says so?"""
    if not isinstance(executor, RebuildingExecutor) or executor.grouped or step.scope != STORE_SCOPE:
        return False
    store, wanted = context.store, executor.definition.shadow
    if wanted is False or not is_ordinary(store, executor.collection) or not executor.rewrites_rows(store):
        return False
    return bool(wanted) or filling(store).get(executor.collection) == step.id or is_large(store, executor.collection)


def run_shadow(
    step: "Step", executor: "RebuildingExecutor", context: "RunContext", *, restore_point_id: int | None
) -> "MigrationResult":
    """Run one migration to its end, over many transactions, or leave the store as it was.

    The result's state is completed, failed, cancelled, paused (all is kept; the next run goes on), or `already` when
    another process has done it. Raises NotBeside, with nothing changed, where it has to be done in one transaction;
    MigrationInvalid where its author demanded this way; CalledFromInside, StoreBusy, DiskFull, StoreDamaged.
    """
    try:
        with _one_at_a_time(context.store, step):
            return _ShadowRun(step, executor, context, restore_point_id).perform()
    except NotBeside as why:
        if not executor.definition.shadow or isinstance(why, KeysCompareAlike):
            raise
        raise MigrationInvalid(
            f"Migration {step.id} says shadow=True, and {executor.collection} cannot be rewritten that way.",
            why=str(why),
            fix="Leave shadow= out: it is then done in one transaction. Nothing was changed.",
        ) from why


@contextmanager
def _one_at_a_time(store: "Store", step: "Step") -> Iterator[None]:
    """A lease is between processes; threads of this one wait here."""
    with store.migrating:
        if store.is_migrating:
            raise CalledFromInside(
                f"Migration {step.id} was started by a listener of the migration that is running.",
                why="it would wait for itself",
                fix="Let the listener return, and call engine.migrate() afterwards. Nothing was changed.",
            )
        store.is_migrating = True
        try:
            yield
        finally:
            store.is_migrating = False


class _ShadowRun:
    """One attempt, from taking the lease to giving it back."""

    def __init__(
        self, step: "Step", executor: RebuildingExecutor, context: "RunContext", restore_point_id: int | None
    ) -> None:
        self.step = step
        self.executor = executor
        self.context = context
        self.store = context.store
        self.collection = executor.collection
        self.run = Run(step, executor, context, restore_point_id=restore_point_id, method="shadow")
        self.work = self.run.work
        self.lease = new_lease(context)

    def perform(self) -> "MigrationResult":
        waiting = Waiting(self.step, self.context, collection=self.collection, lease=self.lease)
        lost: LeaseLost | None = None
        for _ in range(TAKEOVERS_MAX):
            ended = waiting.for_turn()
            if ended is not None:
                return ended
            try:
                return self._with_lease()
            except LeaseLost as error:
                lost = error  # another process goes on with it: wait for that one
            finally:
                if self.store.is_usable:
                    with suppress(SyncEngineError, SqliteError):
                        self.lease.release()  # whoever needs it finds that this process has ended, or its time
        assert lost is not None
        raise lost

    def _with_lease(self) -> "MigrationResult":
        shadow = self._resumed()
        if shadow is not None and self.store.value("shadow", "asked", collection=self.collection) == "cancel":
            return self._given_up("cancelled")
        if shadow is None:
            shadow = self._begun()
        self._adopt(shadow)
        self.run.report_start()
        self.context.reporter.update_progress(shadow.read)
        try:
            self._to_the_end(shadow)
        except Cancelled:
            return self._given_up("cancelled")
        except Paused:
            return self._paused()
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001  (whatever an author's code raises is recorded as a failure)
            return self._failed(error)
        self.run.report_end(success=True)
        self._sweep()
        return self.run.result("completed")

    # The beginning.

    def _resumed(self) -> Shadow | None:
        """What an earlier run left, if it was begun by the same code on the same columns; else it is dropped."""
        shadow = load(self.store, self.collection)
        if shadow is None:
            return None
        same = (
            shadow.migration == self.step.id
            and shadow.scope == self.step.scope
            and shadow.source == columns_of(self.store, self.collection)
            and shadow.code is not None
            and shadow.code == code_of(self.executor, self.work)
        )
        if not same:
            log_event(_logger, logging.INFO, "a shadow of other code is dropped", migration=shadow.migration)
            drop_shadow(self.store, self.collection)
            return None
        return with_state(self.store, shadow, "filling") if shadow.state != "filling" else shadow

    def _begun(self, *, anew: int = 0) -> Shadow:
        store, executor = self.store, self.executor
        forget_notes(store, self.collection, migration=self.step.id)
        batch_rows = first_batch_rows(store, self.collection)
        with store.lock, Starter(store, rebuilds=False), store.transaction(durable=True):
            self.lease.renew()
            if self.context.second_look:
                self.context.second_look.look(self.step)
            refuse_overtaken(self.step, self._version())
            refuse_drifted(store, executor.definition.collections)
            make_triggers(store, self.collection, keys=key_columns(self.work.collections[self.collection]))
            create, indexes = make_beside(executor, self.work)
            layout_of(executor, self.work)
            shadow = Shadow(
                collection=self.collection,
                migration=self.step.id,
                scope=self.step.scope,
                code=code_of(executor, self.work),
                source=columns_of(store, self.collection),
                started_at=self.run.started_at,
                rows_total=rows_of(store, self.collection),
                batch_rows=batch_rows,
                restore_point_id=self.run.restore_point_id,
                repaired={},
                indexes=indexes,
                create=create,
                seal=seal_of(store, self.collection, new_table=executor.new_table),
                schema_number=schema_number(store),
                begun_anew=anew,
            )
            save(store, shadow)
        log_event(_logger, logging.INFO, "migration started", migration=self.step.id)
        return shadow

    def _version(self) -> "SchemaVersion":
        registry = self.context.registry
        return read_installed(self.store).schema_version(STORE_SCOPE) or registry.baseline

    def _adopt(self, shadow: Shadow) -> None:
        self.run.total = shadow.rows_total
        self.run.started_at = shadow.started_at
        self.run.restore_point_id = shadow.restore_point_id or self.run.restore_point_id
        self.work.warnings[:] = shadow.warnings
        self._count(shadow)

    def _count(self, shadow: Shadow) -> None:
        self.run.tally.counts = shadow.counts
        self.run.tally.batches = shadow.batches
        self.run.tally.batches_undone = shadow.batches_undone
        self.run.rows.first = shadow.first

    # The middle.

    def _to_the_end(self, shadow: Shadow) -> None:
        """Fill, catch up, check, swap; what passes by itself is tried again from the last committed batch on."""
        retries = 0
        while True:
            try:
                self._fill_and_swap(shadow)
                return
            except (LeaseLost, Cancelled, Paused):
                raise
            except TableDisturbed as error:
                shadow = self._begun_anew(error)
            except Exception as error:
                settings = self.store.settings
                retries += 1
                if kind_of(error) is not Kind.TRANSIENT or retries > settings.transient_retries_max:
                    raise
                self.store.clock.pause(wait_before_retry_ms(retries, chance=self.context.chance, settings=settings))
                shadow = load(self.store, self.collection) or shadow

    def _begun_anew(self, why: TableDisturbed) -> Shadow:
        """After another program altered the live table or its triggers. Raises TableDisturbed where it does so again
        and again, MigrationInvalid where the columns are others now."""
        shadow = load(self.store, self.collection)
        if shadow is None or shadow.begun_anew == BEGUN_ANEW_MAX:
            raise why
        refuse_other_columns(self.store, shadow)
        log_event(_logger, logging.WARNING, "a table was altered meanwhile: begun anew", migration=self.step.id)
        with self.store.transaction(durable=True):
            self.lease.renew()
            give_up(self.store, self.collection)
        sweep(self.store, self.collection)  # the names of its indexes are wanted again
        self.work.forget_warnings(since=0)
        begun = self._begun(anew=shadow.begun_anew + 1)
        self._adopt(begun)
        return begun

    def _fill_and_swap(self, shadow: Shadow) -> None:
        reader, checkpoints = LiveReader(self.store), Checkpoints(self.store)
        try:
            filling_run = Filling(
                shadow,
                executor=self.executor,
                work=self.work,
                layout=layout_of(self.executor, self.work),
                context=self.context,
                lease=self.lease,
                reader=reader,
                checkpoints=checkpoints,
            )
            try:
                with checkpoints, LargerCache(self.store, wanted=filling_run.is_by_sql):
                    filling_run.fill()
                    self._touch_missing(filling_run, reader)
                    self._swap(filling_run, reader)
            finally:
                self._count(filling_run.shadow)
        finally:
            reader.close()

    def _touch_missing(self, filling_run: Filling, reader: LiveReader) -> None:
        filling_run.catch_up()
        touch_missing(self.store, reader, filling_run.shadow, filling_run.layout, new=self.executor.new_table)

    def _swap(self, filling_run: Filling, reader: LiveReader) -> None:
        mended = False
        for number in range(1, SWAPS_MAX + 2):  # one more, in case the last one was the first that did not add up
            filling_run.catch_up()
            filling_run.stage_entries()
            before, warnings = filling_run.shadow, list(self.work.warnings)
            try:
                if self._swapped(filling_run, last=number >= SWAPS_MAX, mending=mended):
                    return
            except ReconciliationFailed:
                if mended:
                    raise
                mended = True
                filling_run.shadow, self.work.warnings[:] = before, warnings
                self._touch_missing(filling_run, reader)
                touch_extra(self.store, reader, before, filling_run.layout, new=self.executor.new_table)

    # The end.

    def _swapped(self, filling_run: Filling, *, last: bool, mending: bool) -> bool:
        """The one transaction that makes the new table the live one. False where too much was written meanwhile."""
        store, executor = self.store, self.executor
        with store.lock, Starter(store, rebuilds=True), store.transaction(durable=True):
            if not last and filling_run.touched(TOUCHED_IN_SWAP_MAX + 1) > TOUCHED_IN_SWAP_MAX:
                return False
            self.lease.renew()
            refuse_overtaken(self.step, self._version())
            filling_run.check_noted()
            filling_run.settle(mending=mending)
            shadow = filling_run.shadow
            self._count(shadow)
            self._judge(shadow)
            self._put_into_quarantine(shadow)
            self.run.entries = QueuedEntries(executor, self.work)
            self.run.entries.with_rows()
            with capture_off(store, (self.collection,), reshaping=True):
                swap(executor, self.work, shadow)
                self.run.entries.after_rows()
                if _refers(store, self.collection):
                    self.run.set_dangling_aside()
                    self.run.check_references()
                executor.verify(self.work)
                check_sum(self.step.id, self.run.tally.counts)
                self.run.record_shapes()
                forget_before(store, executor)
            store.run("shadow", "remove", collection=self.collection)
            # The record and the markers are the last statements of the change itself.
            self.run.record("completed")
            move_markers(store, self.context.registry, user=self.context.user)
        return True

    def _judge(self, shadow: Shadow) -> None:
        definition, counts = self.executor.definition, shadow.counts
        check_code(definition, counts, code_faults=shadow.code_faults, first=shadow.first)
        check_budget(definition, counts, settings=self.store.settings, first=shadow.first)
        for sentence in sentences(shadow.repaired):
            self.work.warn(sentence)

    def _put_into_quarantine(self, shadow: Shadow) -> None:
        has_owner = self.context.registry.collections[self.collection].owner is not None
        for owner, key, body, code, text, field in self.store.rows("shadow", "aside", collection=self.collection):
            self.run.rows.put_into_quarantine(
                Rejection(code=code, text=text, field=field),
                collection=self.collection,
                key=str(key),
                body=body,
                owner=str(owner) if has_owner else None,
                shape_version=self.executor.definition.from_version,
            )
        self.run.rows.first = shadow.first

    def _paused(self) -> "MigrationResult":
        shadow = load(self.store, self.collection)
        assert shadow is not None, "who has the lease alone removes it"
        with_state(self.store, shadow, "paused")
        self.run.report_end(success=False)
        return self.run.result("paused")

    def _given_up(self, state: str, failure: SyncEngineError | None = None) -> "MigrationResult":
        """From one transaction on, which also records it, the live table is as it was; then what is left goes."""
        with self.store.transaction(durable=True):
            self.lease.renew()
            self.run.rows.refused.extend(refused_rows(self.store, self.collection))
            give_up(self.store, self.collection)
            self.run.record(state, failure)
        self._sweep(given_up=True)
        self.run.report_end(success=False)
        return self.run.result(state, failure)

    def _sweep(self, *, given_up: bool = False) -> None:
        """What is left is of no use to anybody; where it cannot be deleted now, the next run does it."""
        try:
            if given_up:
                forget_notes(self.store, self.collection, migration=self.step.id)
            sweep(self.store, self.collection)
        except (SyncEngineError, SqliteError) as error:
            log_event(_logger, logging.WARNING, "what a rewriting left is still there", error=type(error).__name__)

    def _failed(self, error: Exception) -> "MigrationResult":
        """What passes by itself keeps what was filled; a full disk gives it back, if it can, and is raised."""
        failure = self.run.failure(error)
        if not self.store.is_usable:
            raise failure from error
        if kind_of(error) is Kind.TRANSIENT:
            with self.store.transaction(durable=True):
                self.run.record("failed", failure)
            self.run.report_end(success=False)
            return self.run.result("failed", failure)
        if kind_of(error) is Kind.CRITICAL and not isinstance(error, ReconciliationFailed):
            with suppress(SyncEngineError, SqliteError):
                self._given_up("failed", failure)
            raise failure from error
        return self._given_up("failed", failure)


def _refers(store: "Store", table: str) -> bool:
    """Does this table refer to another, or another to it?"""
    return bool(
        store.query(
            "SELECT 1 FROM sqlite_schema AS s JOIN pragma_foreign_key_list(s.name) AS f "
            "WHERE s.type = 'table' AND (s.name = :table OR lower(f.\"table\") = lower(:table)) LIMIT 1",
            {"table": table},
        )
    )
