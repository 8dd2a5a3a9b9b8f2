"""The service that apps, the command line and pages use: status, plan, run, history. `engine.migrations`."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from syncengine.clock import iso
from syncengine.errors import MigrationInvalid, StoreSuperseded
from syncengine.local.version_table import read_installed
from syncengine.migrate.definition import Counts
from syncengine.migrate.history import RunRecord, record_run
from syncengine.migrate.markers import move_markers
from syncengine.migrate.pace import Pace
from syncengine.migrate.plan import Plan, Step, all_steps_of_hop, make_plan, reached
from syncengine.migrate.reporter import MigrationProgressReporter
from syncengine.migrate.results import MigrationProgress, MigrationReport, MigrationResult, MigrationStatus
from syncengine.migrate.run import RunContext, run_step
from syncengine.migrate.status import status_of
from syncengine.migrate.validation import validate_collection
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion, user_scope

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.local.version_table import Installed
    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.registry import MigrationRegistry


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
    ) -> None:
        self._store = store
        self._registry = registry
        self._sources = dict(sources or {})
        self._probe_verdict = probe_verdict
        self._progress: dict[str, MigrationProgress] = {}
        self._asked: str | None = None
        self._listener = listener
        self._reporter = MigrationProgressReporter(clock=store.clock, listener=self._heard)

    def _heard(self, event: object) -> None:
        from syncengine.events import MigrationEnded, MigrationProgressed, MigrationStarted

        if isinstance(event, MigrationStarted):
            self._progress[event.migration] = MigrationProgress(
                migration_id=event.migration, done=0, total=event.total
            )
        elif isinstance(event, MigrationProgressed):
            self._progress[event.migration] = MigrationProgress(
                migration_id=event.migration, done=event.done, total=event.total
            )
        elif isinstance(event, MigrationEnded):
            last = self._progress.get(event.migration)
            done = int(event.stats.get("itemsProcessed", last.done if last else 0))
            self._progress[event.migration] = MigrationProgress(
                migration_id=event.migration, done=done, total=last.total if last else None, ended=True
            )
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

    def plan(self, user: str | None = None) -> Plan:
        """What is left to do, as a value; nothing is run."""
        return make_plan(read_installed(self._store), self._registry, user=user)

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
        return self.migrate_all_data(user)

    def migrate_all_data(
        self, user: str | None = None, *, options: Mapping[str, Any] | None = None
    ) -> MigrationReport:
        """Do all that can be done offline and queue the rest.

        A failed migration leaves the store as it was before it. After a critical one nothing more is run; after
        another its hop is finished without what depends on it. Raises StoreSuperseded, StoreBusy.
        """
        self._asked = None
        plan = self.plan(user)
        if plan.superseded:
            raise StoreSuperseded(
                "The store is newer than this app, or of a version that it does not know.",
                why=plan.superseded,
                fix="Update the app. The store was not changed.",
            )
        self._check_sources(plan)
        results: list[MigrationResult] = []
        blocked: list[str] = []
        for hop in plan.hops:
            for step in (step for step in plan.steps if step.hop == hop):
                if not self._may_run(step):
                    blocked.append(step.id)
                    continue
                results.append(run_step(step, self._context(user, options or {})))
                if (results[-1].failure is not None and step.critical) or results[-1].state in (
                    "cancelled",
                    "paused",
                ):
                    return self._report(results, blocked)
            if blocked or any(result.failure is not None for result in results):
                break
        if plan.is_empty or not results:
            self._settle_markers(user)
        return self._report(results, blocked)

    def _check_sources(self, plan: Plan) -> None:
        """A source under a name that nobody asked for, while one is missing, is a slip of the pen."""
        definitions = [self._registry.get_migration_executor(step.id).definition for step in plan.steps]
        wanted = {definition.source for definition in definitions if definition.source is not None}
        missing, unknown = sorted(wanted - set(self._sources)), sorted(set(self._sources) - wanted)
        if missing and unknown:
            raise MigrationInvalid(
                f"The app gives the source {', '.join(unknown)}, and its migrations read {', '.join(missing)}.",
                why="nothing would be imported, and the import would count as done",
                fix="Give the source under the name that the migration has for it. Nothing was run.",
            )

    def _may_run(self, step: Step) -> bool:
        """All that it comes after is done; for an online one, queued before it is enough."""
        installed = read_installed(self._store)
        there = installed.completed | installed.queued if step.online else installed.completed
        scopes = {STORE_SCOPE, step.scope}
        return all(
            any((name, scope) in there for scope in scopes) or self._overtaken(name, installed) for name in step.after
        )

    def _overtaken(self, migration_id: str, installed: "Installed") -> bool:
        """The store came to this migration's version, or past it, by another way: a squash edge or a branch."""
        listed = self._registry.listed(migration_id)
        version = installed.schema_version(STORE_SCOPE) or self._registry.baseline
        return listed.scope == STORE_SCOPE and listed.edge.to_version <= version

    def _settle_markers(self, user: str | None) -> None:
        """A hop without migrations for this scope moves the marker all the same."""
        installed = read_installed(self._store)
        scopes = [(STORE_SCOPE, None)] + ([(user_scope(user), user)] if user else [])
        if any(
            installed.schema_version(scope) != reached(installed, self._registry, user=who) for scope, who in scopes
        ):
            with self._store.transaction(durable=True):
                move_markers(self._store, self._registry, user=user)

    def _report(self, results: list[MigrationResult], blocked: list[str]) -> MigrationReport:
        current = SchemaVersion.parse(self.get_current_schema_version())
        return MigrationReport(
            current=current, target=self._registry.target, results=tuple(results), blocked=tuple(blocked)
        )

    def execute_migration(
        self, migration_id: str, user: str | None = None, *, options: Mapping[str, Any] | None = None
    ) -> MigrationResult:
        """Run one pending migration, if what it comes after is done; `already` where it has run.

        Raises MigrationInvalid when it cannot be run now.
        """
        listed = self._registry.listed(migration_id)
        plan = self.plan(user)
        step = next((step for step in plan.steps if step.id == migration_id), None)
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
        earlier = [other.id for other in plan.steps if other.hop < step.hop and not other.online]
        if earlier or not self._may_run(step):
            raise MigrationInvalid(
                f"Migration {migration_id} cannot run yet.",
                why=f"before it come {', '.join([*step.after, *earlier])}",
                fix="Run engine.migrate(), which keeps the order.",
            )
        self._asked = None
        return run_step(step, self._context(user, options or {}))

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
        self._asked = None
        return run_step(step, self._context(user, {}), again=True)

    def cancel(self) -> None:
        """Stop the running migration between two batches and undo it. From any thread."""
        self._asked = "cancel"

    def _context(self, user: str | None, options: Mapping[str, Any]) -> RunContext:
        return RunContext(
            store=self._store,
            registry=self._registry,
            user=user,
            reporter=self._reporter,
            sources=self._sources,
            options=options,
            probe_verdict=self._probe_verdict(),
            pace=Pace(
                clock=self._store.clock,
                cpu_share_max=self._store.settings.cpu_share_max,
                asked=lambda: self._asked,
            ),
        )

    def mark_migration_complete(self, user: str | None, migration_id: str) -> None:
        """Record a migration as done without running it, for data that was moved by other means."""
        listed = self._registry.listed(migration_id)
        scope = STORE_SCOPE if listed.scope == STORE_SCOPE else user_scope(user or "")
        if scope == user_scope(""):
            raise MigrationInvalid(f"Migration {migration_id} is done for each user.", fix="Name the user.")
        with self._store.transaction(durable=True):
            installed = read_installed(self._store)
            if (migration_id, scope) in installed.completed:
                return
            record_run(
                self._store,
                RunRecord(
                    migration=migration_id,
                    scope=scope,
                    from_version=str(listed.edge.from_version),
                    to_version=str(listed.edge.to_version),
                    state="completed",
                    started_at=iso(self._store.clock.now_ms()),
                    warnings=("marked as done by hand",),
                ),
            )
            move_markers(self._store, self._registry, user=user)

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
