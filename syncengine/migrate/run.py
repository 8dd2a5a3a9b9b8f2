"""The run of one step: one transaction, or many for a large collection; begun anew where a failure passes by itself.

A migration that fails is rolled back to its SAVEPOINT, and the failure is recorded in the transaction around it,
which commits: the store is as it was, and the history says why. A failure that takes the transaction along is
recorded in one of its own.
"""

import logging
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from syncengine.errors import SyncEngineError
from syncengine.local.sqlite_errors import SqliteError
from syncengine.local.version_table import read_installed
from syncengine.logs import log_event
from syncengine.migrate.checks import (
    check_found_nothing,
    refuse_filling,
    refuse_inside,
    refuse_overtaken,
)
from syncengine.migrate.definition import Counts
from syncengine.migrate.erasing import NOT_YET, ZeroedPages, finish_erasures
from syncengine.migrate.migration_run import Run, Undone
from syncengine.migrate.policy import Kind, kind_of, wait_before_retry_ms
from syncengine.migrate.queueing import queue_what_came_late
from syncengine.migrate.rebuild import RebuildingExecutor
from syncengine.migrate.results import MigrationResult
from syncengine.migrate.run_context import RunContext
from syncengine.migrate.safety import protect
from syncengine.migrate.starter import Starter
from syncengine.vocabulary import STORE_SCOPE

if TYPE_CHECKING:
    from syncengine.migrate.plan import Step


_logger = logging.getLogger("syncengine.migrate")


def run_step(step: "Step", context: RunContext, *, again: bool = False) -> MigrationResult:
    """Run one migration to its end, or leave the store as it was.

    `again` runs an import once more that has found nothing so far. Raises MigrationInvalid for any other.

    When another process has done it meanwhile, the result says `already`. Raises MigrationFailed and its kinds,
    StoreBusy, DiskFull, StoreDamaged. After `cancel` the state is `cancelled`. A risky migration for which no restore
    point can be made does not run: KeyUnavailable, RestorePointImpossible. ConsentMissing where there are rows after
    all that the user was not asked about.
    """
    with context.store.lock:
        refuse_inside(context.store, step)
    executor = context.registry.get_migration_executor(step.id)
    erases = executor.definition.erases
    restore_point_id = protect(step, executor, context)
    with ZeroedPages(context.store, wanted=erases):
        result = _run(step, context, again=again, restore_point_id=restore_point_id)
    # A private copy, which has no keys, goes as a whole.
    if result.state != "completed" or context.keys is None or finish_erasures(context.store, patient=erases):
        return result
    return replace(result, warnings=(*result.warnings, NOT_YET)) if erases else result


def _run(step: "Step", context: RunContext, *, again: bool, restore_point_id: int | None) -> MigrationResult:
    beside = None if again else _beside(step, context, restore_point_id=restore_point_id)
    if beside is not None:
        return beside
    retries, told = 0, False
    while True:
        try:
            return _attempt(step, context, again=again, told=told, restore_point_id=restore_point_id)
        except Undone as undone:
            retries, told = retries + 1, undone.run.reported
            if kind_of(undone.error) is not Kind.TRANSIENT or retries > context.store.settings.transient_retries_max:
                return _end_undone(undone)
        wait_ms = wait_before_retry_ms(retries, chance=context.chance, settings=context.store.settings)
        log_event(_logger, logging.WARNING, "migration will be retried", migration=step.id, wait_ms=wait_ms)
        context.store.clock.pause(wait_ms)


def _beside(step: "Step", context: RunContext, *, restore_point_id: int | None) -> MigrationResult | None:
    """The result of a run of many transactions; None for a migration that is done in one."""
    from syncengine.migrate.shadow import NotBeside, after_other_process, drop_other_shadows, run_shadow, wants_shadow

    executor = context.registry.get_migration_executor(step.id)
    wanted = wants_shadow(step, executor, context)
    drop_other_shadows(step, executor, context, own=not wanted)
    if not wanted:
        return after_other_process(step, executor, context)
    assert isinstance(executor, RebuildingExecutor)
    try:
        return run_shadow(step, executor, context, restore_point_id=restore_point_id)
    except NotBeside:
        log_event(_logger, logging.WARNING, "a large collection is rewritten in one transaction", migration=step.id)
        return None


def _attempt(
    step: "Step", context: RunContext, *, again: bool, told: bool, restore_point_id: int | None
) -> MigrationResult:
    executor = context.registry.get_migration_executor(step.id)
    store = context.store
    # A late import steps live tables aside; references are checked before the end in any case.
    rebuilds = executor.rebuilds_tables or step.scope != STORE_SCOPE
    run = None
    try:
        with store.lock, Starter(store, rebuilds=rebuilds), store.transaction(durable=True):
            installed = read_installed(store)
            if again:
                check_found_nothing(store, step)
            elif (step.id, step.scope) in installed.completed | installed.queued:
                return _already(step)
            refuse_overtaken(step, installed.schema_version(STORE_SCOPE) or context.registry.baseline)
            refuse_filling(store, executor.definition.collections)
            run = Run(step, executor, context, reported=told, restore_point_id=restore_point_id)
            with context.second_look.around(step) if context.second_look else nullcontext():
                result = run.perform()
            if again and result.success:
                queue_what_came_late(step, context, executor.definition.collections)
    except (SyncEngineError, SqliteError) as error:
        # The COMMIT failed, or what came last before it.
        if run is None:
            raise
        raise Undone(run, error) from error
    run.report_end(success=result.success)
    return result


def _end_undone(undone: Undone) -> MigrationResult:
    """Record the failure in a transaction of its own, if that works; raise what stops all migrations."""
    run, failure = undone.run, undone.run.failure(undone.error)
    try:
        with run.store.transaction(durable=True):
            run.record("failed", failure)
    except (SyncEngineError, SqliteError) as error:
        log_event(
            _logger,
            logging.ERROR,
            "failed migration could not be recorded",
            migration=run.step.id,
            error=type(error).__name__,
        )
    run.report_end(success=False)
    if kind_of(undone.error) is Kind.TRANSIENT:
        return run.result("failed", failure)
    raise failure from undone.error


def _already(step: "Step") -> MigrationResult:
    return MigrationResult(success=True, migration_id=step.id, scope=step.scope, state="already", counts=Counts())


__all__ = ["Run", "RunContext", "run_step"]
