"""The part of the migration service that looks and changes nothing: versions, plan, status, checks."""

from dataclasses import replace
from typing import TYPE_CHECKING

from syncengine.local.version_table import read_installed
from syncengine.migrate.consent import consent_request
from syncengine.migrate.definition import Counts
from syncengine.migrate.pace import Pace
from syncengine.migrate.path_run import PathRun
from syncengine.migrate.plan import Plan
from syncengine.migrate.planning import plan_of, version_of_plan
from syncengine.migrate.reporter import MigrationProgressReporter
from syncengine.migrate.results import (
    MigrationProgress,
    MigrationReport,
    MigrationResult,
    MigrationStatus,
    PendingMigration,
)
from syncengine.migrate.run import run_step
from syncengine.migrate.service_frame import ServiceFrame
from syncengine.migrate.shadow_state import filling
from syncengine.migrate.statistics import HistoryLine, MigrationStatistics, history_of, statistics_of
from syncengine.migrate.status import status_of
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion, user_scope

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.consent import ConsentRequest

REHEARSED_ROWS_MAX = 10_000
"""Of each collection; an even part of a larger one."""


class Looking(ServiceFrame):
    """What a page shows before anybody presses a button."""

    def get_current_schema_version(self, user: str | None = None) -> str:
        """The version that the store, or one user, has reached."""
        scope = STORE_SCOPE if user is None else user_scope(user)
        return str(read_installed(self._store).schema_version(scope) or self._registry.baseline)

    def plan(self, user: str | None = None, *, to: str | None = None, rehearse: bool = False) -> Plan:
        """What is left to do, as a value; nothing is run. With `to` up to that version and no further.

        `rehearse` runs it on a private copy of the store, and the plan's `rehearsal` says what came of it.
        Raises MigrationInvalid for a version to which no hop leads.
        """
        plan = self._plan(user, to=version_of_plan(self._registry, to))
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
        return plan_of(self._store, self._registry, user=user, to=to)

    def _run_on_copy(self, copy: "Store", plan: Plan) -> MigrationReport:
        quiet = MigrationProgressReporter(clock=copy.clock)
        context = replace(
            self._context(plan.user, {}), store=copy, reporter=quiet, pace=Pace(clock=copy.clock), keys=None
        )
        return PathRun(
            plan,
            context,
            run=lambda step: run_step(step, context),
        ).go()

    def consent_needed(self, user: str | None = None) -> "ConsentRequest | None":
        """What `run` would ask the user; None where it would ask nothing."""
        return consent_request(self._store, self._registry, self._plan(user), sources=self._sources)

    def has_migrated(self, user: str | None = None) -> bool:
        """Is everything done that this device can do? Online migrations may still wait for the cloud."""
        plan = self.plan(user)
        return plan.superseded is None and not (plan.steps or plan.skipped or plan.held_back)

    def get_migration_status(self, user: str | None = None) -> MigrationStatus:
        """Done, to do, and the versions."""
        return status_of(self._store, self._registry, user=user)

    def status(self, user: str | None = None) -> MigrationStatus:
        """The same by a shorter name."""
        return self.get_migration_status(user)

    def pending(self, user: str | None = None) -> tuple[PendingMigration, ...]:
        """What this user's data still needs, queued ones as well."""
        return self.get_migration_status(user).pending

    def history(self, user: str | None = None) -> tuple[HistoryLine, ...]:
        """Every attempt for the store and for this user, oldest first; nothing of other users."""
        return history_of(self._store, user=user)

    def statistics(self, user: str | None = None) -> MigrationStatistics:
        """Runs, rows, failures, time, and which data types were migrated."""
        return statistics_of(self._store, self._registry, user=user)

    def rewriting(self) -> dict[str, str]:
        """The large collections that are being rewritten, by any process, or were paused; each with its migration."""
        return filling(self._store)

    def progress_of(self, migration_id: str) -> MigrationProgress:
        """How far the present or last run in this process got; 0 of unknown before the first."""
        self._registry.listed(migration_id)
        return self._progress.get(migration_id) or MigrationProgress(migration_id=migration_id, done=0, total=None)

    def validate_migrated_data(self, user: str | None, data_type: str) -> MigrationResult:
        """Check stored rows against their present shape; changes nothing.

        `data_type` is a collection, or a migration's id for all of its collections. Errors name key and field,
        never values. Raises RegistryInvalid for another name.
        """
        from syncengine.migrate.validation import validate_collection

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
