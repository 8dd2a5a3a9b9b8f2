"""A path that is run: step after step, and what each failure, skip or missing consent leaves out."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Literal

from syncengine.errors import MigrationInvalid
from syncengine.local.version_table import read_installed
from syncengine.migrate.consent import CAME_SINCE, ConsentMissing
from syncengine.migrate.pace import Cancelled, Paused
from syncengine.migrate.results import Deferred, MigrationReport, MigrationResult
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion

if TYPE_CHECKING:
    from syncengine.local.version_table import Installed
    from syncengine.migrate.plan import Plan, Step
    from syncengine.migrate.registry import Hop, MigrationRegistry
    from syncengine.migrate.run import RunContext

RunStep = Callable[["Step"], MigrationResult]
Which = Literal["startup", "background", "all"]


class PathRun:
    """One plan on its way. What is not done holds back only what waits for it."""

    def __init__(
        self,
        plan: "Plan",
        context: "RunContext",
        *,
        run: RunStep,
        deferred_from: "Hop | None" = None,
        reason: str = "",
        which: Which = "all",
    ) -> None:
        self._plan = plan
        self._context = context
        self._run = run
        self._deferred_from = deferred_from
        self._reason = reason
        self._which = which
        self._chain: list[Step] = []
        """Steps of the background, and what waits for them."""
        self._undone: list[Step] = [*plan.skipped, *plan.held_back]
        self._results: list[MigrationResult] = []
        self._blocked: list[str] = []
        self._deferred: list[Deferred] = []
        self._left: list[str] = []

    def go(self) -> MigrationReport:
        """Run what can be run. After a critical failure, and when asked to stop, nothing more."""
        for step in self._plan.steps:
            try:
                self._context.pace.look()
            except Paused:
                return self._report(paused=True)
            except Cancelled:
                break
            if not self._take(step):
                self._undone.append(step)
                if self._has_to_stop(step):
                    break
        return self._report(paused=any(result.state == "paused" for result in self._results))

    def _take(self, step: "Step") -> bool:
        """Is this step done afterwards?"""
        if self._deferred_from is not None and step.hop >= self._deferred_from:
            self._deferred.append(Deferred(migration_id=step.id, reason=self._reason))
            return False
        if step.when == "background" or any(step.waits_for(other) for other in self._chain):
            self._chain.append(step)
            if self._which == "startup":
                self._left.append(step.id)
                return False
        elif self._which == "background":
            return False
        if not self.may_run(step):
            self._blocked.append(step.id)
            return False
        try:
            result = self._run(step)
        except ConsentMissing:
            self._deferred_from, self._reason = step.hop, CAME_SINCE
            self._deferred.append(Deferred(migration_id=step.id, reason=CAME_SINCE))
            return False
        self._results.append(result)
        return result.success

    def _has_to_stop(self, step: "Step") -> bool:
        last = self._results[-1] if self._results else None
        if last is None or last.migration_id != step.id:
            return False
        return last.state in ("cancelled", "paused") or (last.failure is not None and step.critical)

    def may_run(self, step: "Step") -> bool:
        """Nothing that it waits for is undone; for an online one, queued before it is enough."""
        if any(step.waits_for(other) for other in self._undone):
            return False
        installed = read_installed(self._context.store)
        there = installed.completed | installed.queued if step.online else installed.completed
        scopes = {STORE_SCOPE, step.scope}
        return all(
            any((name, scope) in there for scope in scopes) or self._overtaken(name, installed) for name in step.after
        )

    def _overtaken(self, migration_id: str, installed: "Installed") -> bool:
        """The store came to this migration's version, or past it, by another way: a squash edge or a branch."""
        registry = self._context.registry
        listed = registry.listed(migration_id)
        version = installed.schema_version(STORE_SCOPE) or registry.baseline
        return listed.scope == STORE_SCOPE and listed.edge.to_version <= version

    def _report(self, *, paused: bool) -> MigrationReport:
        return report_of(
            self._context,
            results=tuple(self._results),
            blocked=tuple(self._blocked),
            deferred=tuple(self._deferred),
            background=tuple(self._left),
            left_out=tuple(step.id for step in (*self._plan.skipped, *self._plan.held_back)),
            paused=paused,
        )


def report_of(
    context: "RunContext",
    *,
    results: tuple[MigrationResult, ...],
    blocked: tuple[str, ...] = (),
    deferred: tuple[Deferred, ...] = (),
    background: tuple[str, ...] = (),
    left_out: tuple[str, ...] = (),
    paused: bool = False,
) -> MigrationReport:
    """The report of what was done, with the version that the store has now."""
    registry = context.registry
    version: SchemaVersion = read_installed(context.store).schema_version(STORE_SCOPE) or registry.baseline
    return MigrationReport(
        current=version,
        target=registry.target,
        results=results,
        blocked=blocked,
        deferred=deferred,
        background=background,
        left_out=left_out,
        paused=paused,
    )


def check_sources(plan: "Plan", registry: "MigrationRegistry", sources: Collection[str]) -> None:
    """A source under a name that nobody asked for, while one is missing, is a slip of the pen."""
    definitions = [registry.get_migration_executor(step.id).definition for step in plan.steps]
    wanted = {definition.source for definition in definitions if definition.source is not None}
    missing, unknown = sorted(wanted - set(sources)), sorted(set(sources) - wanted)
    if missing and unknown:
        raise MigrationInvalid(
            f"The app gives the source {', '.join(unknown)}, and its migrations read {', '.join(missing)}.",
            why="nothing would be imported, and the import would count as done",
            fix="Give the source under the name that the migration has for it. Nothing was run.",
        )
