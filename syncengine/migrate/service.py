"""The service that apps, the command line and pages use: status, plan, run, history. `engine.migrations`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from syncengine.errors import CalledFromInside, MigrationInvalid, StoreSuperseded
from syncengine.events import MigrationDeferred, ProgressSeen, PromptAnswered, PromptShown
from syncengine.local.restore_points import prune_restore_points
from syncengine.local.version_table import read_installed
from syncengine.migrate.by_hand import mark_done, skip_migration
from syncengine.migrate.consent import NOBODY, SecondLook, answer_of, consent_request, note_agreement
from syncengine.migrate.definition import Counts
from syncengine.migrate.drift import note_shapes
from syncengine.migrate.kept_tables import drop_kept_tables
from syncengine.migrate.markers import move_markers
from syncengine.migrate.named_parents import makers_of_parents
from syncengine.migrate.path_run import PathRun, Which, check_sources, report_of
from syncengine.migrate.plan import Plan, Step, all_steps_of_hop, reached
from syncengine.migrate.planning import version_of_plan
from syncengine.migrate.reporter import MigrationProgressReporter
from syncengine.migrate.results import MigrationReport, MigrationResult
from syncengine.migrate.run import run_step
from syncengine.migrate.service_back import GoingBack
from syncengine.migrate.service_looking import Looking
from syncengine.migrate.shadow_state import ask_of_runner, filling
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion, user_scope

if TYPE_CHECKING:
    from syncengine.migrate.consent import ConsentRequest
    from syncengine.migrate.executor import BaseMigrationExecutor


class DataMigrationService(Looking, GoingBack):
    """Migrations of one open store. `user` None means the store alone."""

    def executor(self, migration_id: str) -> "BaseMigrationExecutor":
        """The executor of a migration, attached to this service."""
        return self._registry.get_migration_executor(migration_id, service=self)

    # Running.

    def check_and_handle_migration(self, user: str | None = None) -> MigrationReport:
        """At the start of an app: see whether anything is pending, and if so do it."""
        return self.run(user)

    def migrate_all_data(
        self, user: str | None = None, *, options: Mapping[str, Any] | None = None
    ) -> MigrationReport:
        """The design's name for `run` of all that is pending."""
        return self.run(user, options=options)

    def run(
        self,
        user: str | None = None,
        *,
        only: str | None = None,
        until: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> MigrationReport:
        """Do all that can be done offline and queue the rest; `until` a version, or `only` one migration.

        A failed migration leaves the store as it was before it, and so does one that is stopped. After a critical
        failure nothing more is run; after another only what waits for it is left out. Who names one migration by
        `only` has agreed to it, and runs it although it was skipped. Raises StoreSuperseded, StoreBusy,
        MigrationInvalid.
        """
        if only is not None:
            result = self.execute_migration(only, user, options=options)
            return report_of(self._context(user, {}), results=(result,), paused=result.state == "paused")
        to = version_of_plan(self._registry, until)
        return self._go(self._plan(user, to=to), options=options or {}, which="startup")

    def run_background(self, user: str | None = None) -> MigrationReport:
        """Do what was left for the background, in this thread. It asks nobody: what nobody has agreed to waits."""
        return self._go(self._plan(user), options={}, which="background")

    def _go(self, plan: Plan, *, options: Mapping[str, Any], which: Which) -> MigrationReport:
        self._forget_cancel()
        self._store.check_writable()
        if plan.superseded:
            raise StoreSuperseded(
                "The store is newer than this app, or of a version that it does not know.",
                why=plan.superseded,
                fix="Update the app. The store was not changed.",
            )
        check_sources(plan, self._registry, self._sources)
        look = SecondLook(self._store, self._registry)
        context = replace(self._context(plan.user, options), second_look=look)
        request = consent_request(self._store, self._registry, plan, sources=self._sources)
        refused = None if request is None else self._ask(request, may_ask=which != "background")
        run = PathRun(
            plan,
            context,
            run=lambda step: self._analytics.measured(step, lambda step: run_step(step, context)),
            deferred_from=request.hops[0] if request is not None and refused is not None else None,
            reason=refused or "",
            which=which,
        )
        context.reporter.begin()
        try:
            report = run.go()
            if not report.results:
                self._settle_markers(plan.user)
                report = replace(report, current=SchemaVersion.parse(self.get_current_schema_version()))
            self._tell(report, context.reporter)
        finally:
            if visible_ms := context.reporter.end():
                self._analytics.tell(ProgressSeen(visible_ms=visible_ms))
        self._tidy_up(report)
        return report

    def _tidy_up(self, report: MigrationReport) -> None:
        """What is there now is how it should be, and what was kept for the way back goes when its time is over."""
        if self._store.read_only is None:
            note_shapes(self._store)
        if report.success:
            prune_restore_points(self._store)
        drop_kept_tables(self._store)

    def _ask(self, request: "ConsentRequest", *, may_ask: bool) -> str | None:
        """None when the user agreed, else why the hops of the request wait."""
        if not may_ask or self._consent is None:
            return NOBODY
        if self._is_asking:
            raise CalledFromInside(
                "engine.migrate() was called while the user is being asked.",
                why="it would ask the same again",
                fix="Let consent= return its answer, and call engine.migrate() afterwards. Nothing was changed.",
            )
        self._is_asking = True
        try:
            return self._answer(request)
        finally:
            self._is_asking = False

    def _answer(self, request: "ConsentRequest") -> str | None:
        clock = self._store.clock
        began_ms = clock.monotonic_ms()
        hops = request.hops
        self._analytics.tell(PromptShown(from_version=str(hops[0].from_version), to_version=str(hops[-1].to_version)))
        refused = answer_of(self._consent, request)
        if refused is None:
            note_agreement(self._store, self._registry, request)
        self._analytics.tell(PromptAnswered(accepted=refused is None, waited_ms=clock.monotonic_ms() - began_ms))
        return refused

    def _tell(self, report: MigrationReport, reporter: MigrationProgressReporter) -> None:
        """Success where it was awaited; what failed always, with what to do."""
        for deferred in report.deferred:
            self._analytics.tell(MigrationDeferred(migration=deferred.migration_id))
        failures = [result.failure for result in report.results if result.failure is not None]
        for failure in failures:
            reporter.show_user_feedback(" ".join(filter(None, (failure.what, failure.fix))), "error")
        if report.success and report.results and reporter.is_visible:
            reporter.show_user_feedback(f"Your data is now at version {report.current}.", "info")

    def _settle_markers(self, user: str | None) -> None:
        """A hop without migrations for this scope moves the marker all the same."""
        installed = read_installed(self._store)
        scopes = [(STORE_SCOPE, None)] + ([(user_scope(user), user)] if user else [])
        if any(
            installed.schema_version(scope) != reached(installed, self._registry, user=who) for scope, who in scopes
        ):
            with self._store.transaction(durable=True):
                move_markers(self._store, self._registry, user=user)

    def execute_migration(
        self, migration_id: str, user: str | None = None, *, options: Mapping[str, Any] | None = None
    ) -> MigrationResult:
        """Run one pending migration, if what it comes after is done; `already` where it has run.

        Raises MigrationInvalid when it cannot be run now.
        """
        listed = self._registry.listed(migration_id)
        plan = self._plan(user)
        undone = (*plan.steps, *plan.skipped, *plan.held_back)
        step = next((step for step in undone if step.id == migration_id), None)
        if step is None:
            scope = STORE_SCOPE if listed.scope == STORE_SCOPE or user is None else user_scope(user)
            done = read_installed(self._store)
            if (migration_id, scope) in done.completed | done.queued:
                return MigrationResult(
                    success=True, migration_id=migration_id, scope=scope, state="already", counts=Counts()
                )
            raise MigrationInvalid(
                f"Migration {migration_id} is not part of what this store needs.",
                why=plan.superseded or ("it is done for each user; none was named" if user is None else str(plan)),
                fix="See engine.plan().",
            )
        context = self._context(user, options or {})
        executor = self._registry.get_migration_executor(migration_id)
        earlier = [other.id for other in undone if step.waits_for(other)]
        earlier += makers_of_parents(self._store, step, undone, executor=executor)
        if earlier or not PathRun(replace(plan, skipped=(), held_back=()), context, run=_never).may_run(step):
            raise MigrationInvalid(
                f"Migration {migration_id} cannot run yet.",
                why=f"before it come {', '.join(dict.fromkeys([*step.after, *earlier]))}",
                fix="Run engine.migrate(), which keeps the order. What was rolled back it leaves to you: name each "
                "with engine.migrations.run(only=...), oldest first.",
            )
        self._forget_cancel()
        return self._analytics.measured(step, lambda step: run_step(step, context))

    def import_again(self, migration_id: str, user: str) -> MigrationResult:
        """Run an import once more that has found nothing so far, because its source was not there or not named.

        What it imports goes through all that the store went through since, and is queued for the cloud. Raises
        MigrationInvalid for a migration that reads no legacy store, that has imported rows, or has not run.
        """
        listed = self._registry.listed(migration_id)
        if self._registry.get_migration_executor(migration_id).definition.source is None:
            raise MigrationInvalid(f"Migration {migration_id} reads no legacy store.", fix="See engine.plan().")
        if not user:
            raise MigrationInvalid(f"Migration {migration_id} is done for each user.", fix="Name the user.")
        step = next(
            step for step in all_steps_of_hop(listed.edge, self._registry, user=user) if step.id == migration_id
        )
        self._forget_cancel()
        return run_step(step, self._context(user, {}), again=True)

    def cancel(self) -> None:
        """Stop the running migration between two batches and undo it. From any thread, also in another process.

        The rewriting of a large collection that no process is at any more, or that was paused, is undone at once.
        """
        self._asked = "cancel"
        if self._tell_other_processes("cancel"):
            from syncengine.migrate.abandoned import give_up_abandoned

            give_up_abandoned(self._store, registry=self._registry, chance=self._chance)

    def _tell_other_processes(self, what: str | None) -> tuple[str, ...]:
        """Only the rewriting of a large collection leaves the store free to be told; without one nothing is written.

        A run of this very process has the lock and hears `_asked`: it lets go after its present batch. Gives the
        collections whose rewriting was told.
        """
        store = self._store
        if not store.lock.acquire(timeout=store.settings.busy_wait_ms_max / 1000):
            return ()
        try:
            if store.is_usable and not store.connection.in_transaction and filling(store):
                return ask_of_runner(store, what)
            return ()
        finally:
            store.lock.release()

    def pause(self) -> None:
        """Stop between two batches, and run nothing more with this engine until `resume()`. From any thread.

        What a large collection has got so far is kept, also by another process, which hears of it; a small migration
        is undone, and done whole later. For other engines and processes it lasts until their next `migrate()`.
        """
        self._asked = "pause"
        self._tell_other_processes("pause")

    def resume(self) -> None:
        """Let the next `run` of this engine go on after `pause()`; take back one that no process has heard yet."""
        self._asked = None
        self._tell_other_processes(None)

    def _forget_cancel(self) -> None:
        """It was meant for the run before; a pause lasts until `resume()`."""
        if self._asked == "cancel":
            self._asked = None

    def skip(self, migration_id: str, user: str | None, reason: str) -> None:
        """Leave out a migration that is not critical, until `run(only=...)` runs it; the reason is in the history.

        What waits for it is left out as well. Raises MigrationInvalid.
        """
        skip_migration(self._store, self._registry, migration_id, user=user, reason=reason)

    # By hand.

    def update_schema_version(self, new_version: str, user: str | None = None) -> str:
        """Move the marker to a version whose migrations have all been done; what it says afterwards.

        The engine does this by itself. Raises MigrationInvalid for a version that has not been reached: the
        marker never says more than the data.
        """
        with self._store.transaction(durable=True):
            version = reached(read_installed(self._store), self._registry, user=user)
            if SchemaVersion.parse(new_version) > version:
                raise MigrationInvalid(
                    f"The data has not reached version {new_version}.",
                    why=f"the migrations up to {version} are done",
                    fix="Run the pending migrations: engine.migrate().",
                )
            move_markers(self._store, self._registry, user=user)
        return self.get_current_schema_version(user)

    def mark_migration_complete(self, user: str | None, migration_id: str) -> None:
        """Record a migration as done without running it, for data that was moved by other means."""
        mark_done(self._store, self._registry, migration_id, user=user)


def _never(step: Step) -> MigrationResult:
    raise AssertionError(f"{step.id} was only to be looked at")
