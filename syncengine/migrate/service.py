"""The service that apps, the command line and pages use: status, plan, run, history. `engine.migrations`."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from syncengine.clock import iso
from syncengine.errors import MigrationInvalid, StoreSuperseded
from syncengine.events import (
    MigrationDeferred,
    MigrationEnded,
    MigrationProgressed,
    MigrationStarted,
    ProgressSeen,
    PromptAnswered,
    PromptShown,
)
from syncengine.local.keys import KEY_FILE_ENDS, KeyFile
from syncengine.local.version_table import read_installed
from syncengine.migrate.by_hand import mark_done, skip_migration
from syncengine.migrate.consent import NOBODY, Consent, answer_of, consent_request
from syncengine.migrate.definition import Counts
from syncengine.migrate.markers import move_markers
from syncengine.migrate.measuring import Analytics
from syncengine.migrate.pace import Pace
from syncengine.migrate.path_run import PathRun, check_sources, report_of
from syncengine.migrate.plan import Plan, Step, all_steps_of_hop, make_plan, reached
from syncengine.migrate.reporter import MigrationProgressReporter
from syncengine.migrate.results import MigrationProgress, MigrationReport, MigrationResult, MigrationStatus
from syncengine.migrate.rollback_held import held_back
from syncengine.migrate.run import RunContext, run_step
from syncengine.migrate.status import status_of
from syncengine.migrate.validation import validate_collection
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion, user_scope

if TYPE_CHECKING:
    from syncengine.local.keys import KeyProvider
    from syncengine.local.restore_points import RestorePoint
    from syncengine.local.restoring import RestoreReport
    from syncengine.local.store import Store
    from syncengine.migrate.consent import ConsentRequest
    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.migrate.rollback import Rollback
    from syncengine.migrate.rollback_report import RollbackReport

REHEARSED_ROWS_MAX = 10_000
"""Of each collection; an even part of a larger one."""


class DataMigrationService:
    """Migrations of one open store. `user` None means the store alone."""

    def __init__(
        self,
        *,
        store: "Store",
        registry: "MigrationRegistry",
        sources: Mapping[str, Any] | None = None,
        listener: Callable[[object], None] | None = None,
        probe_verdict: Callable[[], str] = lambda: "unknown",
        consent: Consent | None = None,
        analytics: Callable[[object], None] | None = None,
        keys: "KeyProvider | None" = None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._sources = dict(sources or {})
        self._probe_verdict = probe_verdict
        self._progress: dict[str, MigrationProgress] = {}
        self._asked: str | None = None
        self._listener = listener
        self._consent = consent
        self._keys = keys or KeyFile(store.path + KEY_FILE_ENDS)
        self._analytics = Analytics(clock=store.clock, callback=analytics)
        self._reporter = MigrationProgressReporter(
            clock=store.clock, listener=self._heard, silent_ms_max=store.settings.silent_ms_max
        )

    def _heard(self, event: object) -> None:
        match event:
            case MigrationStarted():
                self._progress[event.migration] = MigrationProgress(
                    migration_id=event.migration, done=0, total=event.total
                )
            case MigrationProgressed():
                self._progress[event.migration] = MigrationProgress(
                    migration_id=event.migration,
                    done=event.done,
                    total=event.total,
                    rows_per_s=event.rows_per_s,
                    left_ms=event.left_ms,
                )
            case MigrationEnded():
                last = self._progress[event.migration]
                done = int(event.stats.get("itemsProcessed", last.done))
                self._progress[event.migration] = replace(last, done=done, left_ms=None, ended=True)
        if self._listener is not None:
            self._listener(event)

    # Versions.

    def get_current_schema_version(self, user: str | None = None) -> str:
        """The version that the store, or one user, has reached."""
        scope = STORE_SCOPE if user is None else user_scope(user)
        return str(read_installed(self._store).schema_version(scope) or self._registry.baseline)

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

    # Status.

    def plan(self, user: str | None = None, *, to: str | None = None, rehearse: bool = False) -> Plan:
        """What is left to do, as a value; nothing is run. With `to` up to that version and no further.

        `rehearse` runs it on a private copy of the store, and the plan's `rehearsal` says what came of it.
        Raises MigrationInvalid for a version to which no hop leads.
        """
        plan = self._plan(user, to=None if to is None else self._version(to))
        if not rehearse:
            return plan
        from syncengine.migrate.rehearsal import rehearse as rehearsed

        rehearsal = rehearsed(
            self._store,
            self._registry,
            plan=plan,
            run=lambda copy: self._run_on_copy(copy, plan),
            rows_max=REHEARSED_ROWS_MAX,
        )
        return replace(plan, rehearsal=rehearsal)

    def _plan(self, user: str | None, *, to: SchemaVersion | None = None) -> Plan:
        held = held_back(self._store, self._registry)
        return make_plan(read_installed(self._store), self._registry, user=user, to=to, held_back=held)

    def _version(self, text: str) -> SchemaVersion:
        version = SchemaVersion.parse(text)
        ends = {listed.edge.to_version for listed in self._registry.wanted()} | {self._registry.baseline}
        if version not in ends:
            raise MigrationInvalid(f"No migration leads to version {text}.", fix="See `syncengine plan`.")
        return version

    def _run_on_copy(self, copy: "Store", plan: Plan) -> MigrationReport:
        quiet = MigrationProgressReporter(clock=copy.clock)
        context = replace(
            self._context(plan.user, {}), store=copy, reporter=quiet, pace=Pace(clock=copy.clock), keys=None
        )
        return PathRun(plan, context, run=lambda step: run_step(step, context), background=True).go()

    def consent_needed(self, user: str | None = None) -> "ConsentRequest | None":
        """What `run` would ask the user; None where it would ask nothing."""
        return consent_request(self._store, self._registry, self._plan(user), sources=self._sources)

    def has_migrated(self, user: str | None = None) -> bool:
        """Is everything done that this device can do? Online migrations may still wait for the cloud."""
        plan = self.plan(user)
        return plan.is_empty and plan.superseded is None

    def get_migration_status(self, user: str | None = None) -> MigrationStatus:
        """Done, to do, and the versions."""
        return status_of(self._store, self._registry, user=user)

    def progress_of(self, migration_id: str) -> MigrationProgress:
        """How far the present or last run in this process got; 0 of unknown before the first."""
        self._registry.listed(migration_id)
        return self._progress.get(migration_id) or MigrationProgress(migration_id=migration_id, done=0, total=None)

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
            return report_of(self._context(user, {}), results=(result,))
        to = None if until is None else self._version(until)
        return self._go(self._plan(user, to=to), options=options or {}, background=False)

    def run_background(self, user: str | None = None) -> MigrationReport:
        """Do what was left for the background, in this thread. It asks nobody: what nobody has agreed to waits."""
        return self._go(self._plan(user), options={}, background=True)

    def _go(self, plan: Plan, *, options: Mapping[str, Any], background: bool) -> MigrationReport:
        self._forget_cancel()
        if plan.superseded:
            raise StoreSuperseded(
                "The store is newer than this app, or of a version that it does not know.",
                why=plan.superseded,
                fix="Update the app. The store was not changed.",
            )
        check_sources(plan, self._registry, self._sources)
        context = self._context(plan.user, options)
        request = consent_request(self._store, self._registry, plan, sources=self._sources)
        refused = None if request is None else self._ask(request, may_ask=not background)
        run = PathRun(
            plan,
            context,
            run=lambda step: self._analytics.measured(step, lambda step: run_step(step, context)),
            deferred_from=request.hops[0] if request is not None and refused is not None else None,
            reason=refused or "",
            background=background,
        )
        self._reporter.begin()
        try:
            report = run.go()
            if not report.results:
                self._settle_markers(plan.user)
                report = replace(report, current=SchemaVersion.parse(self.get_current_schema_version()))
            self._tell(report)
        finally:
            if visible_ms := self._reporter.end():
                self._analytics.tell(ProgressSeen(visible_ms=visible_ms))
        return report

    def _ask(self, request: "ConsentRequest", *, may_ask: bool) -> str | None:
        """None when the user agreed, else why the hops of the request wait."""
        if not may_ask or self._consent is None:
            return NOBODY
        clock = self._store.clock
        began_ms = clock.monotonic_ms()
        hops = request.hops
        self._analytics.tell(PromptShown(from_version=str(hops[0].from_version), to_version=str(hops[-1].to_version)))
        refused = answer_of(self._consent, request)
        self._analytics.tell(PromptAnswered(accepted=refused is None, waited_ms=clock.monotonic_ms() - began_ms))
        return refused

    def _tell(self, report: MigrationReport) -> None:
        """Success where it was awaited; what failed always, with what to do."""
        for deferred in report.deferred:
            self._analytics.tell(MigrationDeferred(migration=deferred.migration_id))
        failures = [result.failure for result in report.results if result.failure is not None]
        for failure in failures:
            self._reporter.show_user_feedback(" ".join(filter(None, (failure.what, failure.fix))), "error")
        if report.success and report.results and self._reporter.is_visible:
            self._reporter.show_user_feedback(f"Your data is now at version {report.current}.", "info")

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
        earlier = [other.id for other in undone if step.waits_for(other)]
        if earlier or not PathRun(replace(plan, skipped=(), held_back=()), context, run=_never).may_run(step):
            raise MigrationInvalid(
                f"Migration {migration_id} cannot run yet.",
                why=f"before it come {', '.join(dict.fromkeys([*step.after, *earlier]))}",
                fix="Run engine.migrate(), which keeps the order.",
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
        """Stop the running migration between two batches and undo it. From any thread."""
        self._asked = "cancel"

    def pause(self) -> None:
        """Stop between two batches, and run nothing more until `resume()`. From any thread.

        What a large collection has got so far is kept; a small migration is undone, and done whole later.
        """
        self._asked = "pause"

    def resume(self) -> None:
        """Let the next `run` go on after `pause()`."""
        self._asked = None

    def _forget_cancel(self) -> None:
        """It was meant for the run before; a pause lasts until `resume()`."""
        if self._asked == "cancel":
            self._asked = None

    def skip(self, migration_id: str, user: str | None, reason: str) -> None:
        """Leave out a migration that is not critical, until `run(only=...)` runs it; the reason is in the history.

        What waits for it is left out as well. Raises MigrationInvalid.
        """
        skip_migration(self._store, self._registry, migration_id, user=user, reason=reason)

    # Going back.

    def rollback(
        self,
        migration_id: str,
        user: str | None = None,
        *,
        simulate: bool = False,
        on_collision: str = "stop",
        consent: Collection[str] | None = None,
        why: str = "",
        emergency: bool = False,
    ) -> "RollbackReport":
        """Undo a migration and all that builds on it, for this user or, where it is of the store, for all owners.

        `simulate` says what would be done and changes nothing. `on_collision`: what becomes of rows that cannot go
        back as they are ("stop": nothing is done; "keep"; "overwrite"; see docs/recovery.md). `consent` names the
        other users whose rows may go back. `emergency` goes back to the newest good restore point at once, in
        developer mode only. What was rolled back runs again when it is asked for, or when its code is another.
        Raises RollbackRefused, RollbackFailed, DeveloperModeRequired, StoreBusy; the store is then as it was.
        """
        way = self._way_back(user, on_collision=on_collision, consent=consent, why=why)
        if emergency:
            return way.in_emergency(simulate=simulate)
        return way.of(migration_id, simulate=simulate)

    def rollback_to(
        self,
        version: str,
        user: str | None = None,
        *,
        simulate: bool = False,
        on_collision: str = "stop",
        consent: Collection[str] | None = None,
        why: str = "",
    ) -> "RollbackReport":
        """Undo everything that led past a version, of the store and of all users. Otherwise as `rollback`."""
        way = self._way_back(user, on_collision=on_collision, consent=consent, why=why)
        return way.to(SchemaVersion.parse(version), simulate=simulate)

    def rollback_migration(self, migration_id: str, user: str | None = None) -> "RollbackReport":
        """The design's name for `rollback`."""
        return self.rollback(migration_id, user)

    def _way_back(
        self, user: str | None, *, on_collision: str, consent: Collection[str] | None, why: str
    ) -> "Rollback":
        from syncengine.migrate.rollback import Rollback

        return Rollback(self._context(user, {}), on_collision=on_collision, consent=consent, why=why)

    # Restore points.

    def make_restore_point(self, reason: str = "asked for by the app") -> "RestorePoint":
        """Seal a copy of the store as it is now. Raises KeyUnavailable, RestorePointImpossible, DiskFull."""
        from syncengine.local.restore_points import make_restore_point

        return make_restore_point(self._store, keys=self._keys, reason=reason)

    def restore(
        self,
        restore_point_id: int,
        user: str | None = None,
        *,
        simulate: bool = False,
        consent: Collection[str] = (),
    ) -> "RestoreReport":
        """Take the whole store back to a restore point; what that loses goes to quarantine.

        Rows that only a migration changed since are not lost. `consent` names the other users whose rows it touches.
        Errors and the rest: those of `syncengine.local.restoring.restore`.
        """
        from syncengine.local.restoring import restore
        from syncengine.migrate.brought_forward import bring_forward

        context = self._context(user, {})
        return restore(
            self._store,
            restore_point_id,
            keys=self._keys,
            simulate=simulate,
            user=user,
            consent=consent,
            bring_forward=lambda copy: bring_forward(copy, context),
        )

    def _context(self, user: str | None, options: Mapping[str, Any]) -> RunContext:
        return RunContext(
            store=self._store,
            registry=self._registry,
            user=user,
            reporter=self._reporter,
            sources=self._sources,
            options=options,
            probe_verdict=self._probe_verdict(),
            keys=self._keys,
            began_at=iso(self._store.clock.now_ms()),
            pace=Pace(
                clock=self._store.clock,
                cpu_share_max=self._store.settings.cpu_share_max,
                asked=lambda: self._asked,
            ),
        )

    def mark_migration_complete(self, user: str | None, migration_id: str) -> None:
        """Record a migration as done without running it, for data that was moved by other means."""
        mark_done(self._store, self._registry, migration_id, user=user)

    def validate_migrated_data(self, user: str | None, data_type: str) -> MigrationResult:
        """Check stored rows against their present shape; changes nothing.

        `data_type` is a collection, or a migration's id for all of its collections. Errors name key and field,
        never values. Raises RegistryInvalid for another name.
        """
        names: tuple[str, ...]
        if data_type in self._registry.collections:
            names = (data_type,)
        else:
            names = self._registry.get_migration_executor(data_type).definition.collections
        counts, errors = Counts(), []
        for name in names:
            found, wrong = validate_collection(self._store, self._registry, name, user=user)
            counts.add(found)
            errors.extend(wrong)
        scope = STORE_SCOPE if user is None else user_scope(user)
        return MigrationResult(
            success=not errors,
            migration_id=data_type,
            scope=scope,
            state="validated",
            counts=counts,
            errors=tuple(errors),
        )


def _never(step: Step) -> MigrationResult:
    raise AssertionError(f"{step.id} was only to be looked at")
