"""What a rollback would undo, and how, as a value: decided here, printed, tested, then done elsewhere. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from syncengine.errors import RollbackRefused
from syncengine.migrate.registry import Hop
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion, user_scope

if TYPE_CHECKING:
    from syncengine.migrate.registry import MigrationRegistry

IMPOSSIBLE = "impossible"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The newest good run of one migration in one scope."""

    run_id: int
    migration: str
    scope: str
    state: str
    hop: Hop
    restore_point_id: int | None
    rows_read: int
    rows_written: int
    rows_dropped: int
    started_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How one migration can be undone here; `method` "impossible" says in `why` what is missing."""

    method: str
    why: str = ""
    kept_table: str | None = None
    restore_point_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a plan is made from: the history, and what is left of each migration."""

    applied: tuple[Applied, ...]
    versions: Mapping[str, SchemaVersion]
    cloud_versions: Mapping[str, SchemaVersion]
    """By scope; the cloud never goes back."""
    collections: Mapping[str, tuple[str, ...]]
    """By migration; those that this app does not list are missing."""
    after: Mapping[str, tuple[str, ...]]
    ways: Mapping[tuple[str, str], Way]
    """By migration and scope."""
    owners: Mapping[str, tuple[str, ...]]
    """By collection: whose rows there are."""
    refers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By migration: the tables that its own tables refer to, in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoStep:
    """One migration that will be undone, in one scope."""

    id: str
    scope: str
    hop: Hop
    way: Way
    collections: tuple[str, ...]
    because_of: str | None
    """The migration that it builds on; None for what was asked for."""
    applied: Applied

    @property
    def user(self) -> str | None:
        return None if self.scope == STORE_SCOPE else self.scope.partition(":")[2]

    def __str__(self) -> str:
        marks = [self.scope, WORDS.get(self.way.method, self.way.method)]
        if self.because_of is not None:
            marks.append(f"builds on {self.because_of}")
        why = f": {self.way.why}" if self.way.why else ""
        return f"{self.id}  ({', '.join(marks)}){why}"


WORDS = {
    "down": "by its way down",
    "kept_table": "by the old table, which is still there",
    "restore_point": "by the rows of restore point",
    "undo": "by its own undo",
    "taken_out": "its rows are taken out",
    "dropped": "its tables are dropped",
    "queue": "what still waits is taken out of the outbox",
    IMPOSSIBLE: "cannot be undone",
}
"""In a plan that people read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackPlan:
    """What is undone, newest first, and whom it touches. `print(plan)` shows it."""

    asked: str
    """A migration's id, or "to 2.0.0"."""
    user: str | None
    """Who asks."""
    current: SchemaVersion
    target: SchemaVersion
    """The store's version now and afterwards."""
    steps: tuple[UndoStep, ...]
    users: tuple[str, ...] = ()
    """Every user whose rows, queue or version it touches."""
    warnings: tuple[str, ...] = ()

    @property
    def others(self) -> tuple[str, ...]:
        """The users who have to be named in the consent."""
        return tuple(user for user in self.users if user != self.user)

    @property
    def impossible(self) -> tuple[UndoStep, ...]:
        return tuple(step for step in self.steps if step.way.method == IMPOSSIBLE)

    def __str__(self) -> str:
        lines = [f"rollback of {self.asked}: {self.current.way_to(self.target)}"]
        lines += [f"  {step}" for step in self.steps]
        if any(step.scope == STORE_SCOPE for step in self.steps):
            lines.append(f"  goes back for all owners: {', '.join(self.users) or 'there are no rows'}")
        lines += [f"  note: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return {
            "asked": self.asked,
            "user": self.user,
            "current": str(self.current),
            "target": str(self.target),
            "users": list(self.users),
            "consentNeeded": list(self.others),
            "warnings": list(self.warnings),
            "steps": [
                {
                    "id": step.id,
                    "scope": step.scope,
                    "hop": str(step.hop),
                    "method": step.way.method,
                    "why": step.way.why,
                    "becauseOf": step.because_of,
                }
                for step in self.steps
            ],
        }


@dataclass(slots=True)
class _Closure:
    """What has to be undone together: each applied run, and because of which."""

    ground: Ground
    registry: "MigrationRegistry"
    found: dict[int, Applied] = field(default_factory=dict)
    because_of: dict[int, str | None] = field(default_factory=dict)

    def add(self, applied: Applied, *, because_of: str | None) -> None:
        if applied.run_id in self.found:
            return
        self.found[applied.run_id] = applied
        self.because_of[applied.run_id] = because_of
        for other in self.ground.applied:
            if self._builds_on(other, applied):
                self.add(other, because_of=applied.migration)

    def _builds_on(self, other: Applied, applied: Applied) -> bool:
        of_store = applied.scope == STORE_SCOPE
        if other.state == "stood_for" or not (of_store or other.scope == applied.scope) or _is_lifted(other, self):
            return False
        if applied.migration in self.ground.after.get(other.migration, ()):
            return True
        if self._refers_to_dropped(other, applied):
            return True
        if not self._share(other, applied):
            return False
        if of_store and other.scope == STORE_SCOPE:
            return other.run_id > applied.run_id
        return other.hop.from_version >= applied.hop.to_version

    def _refers_to_dropped(self, other: Applied, applied: Applied) -> bool:
        """SQLite refuses every write to a table whose foreign key names one that is not there."""
        way = self.ground.ways.get((applied.migration, applied.scope))
        if way is None or way.method != "dropped" or other.run_id < applied.run_id:
            return False
        dropped = {name.lower() for name in self.ground.collections.get(applied.migration, ())}
        return not dropped.isdisjoint(self.ground.refers.get(other.migration, ()))

    def _share(self, one: Applied, other: Applied) -> bool:
        """Of a migration that this app does not list nobody knows what it touched: then all that came before it."""
        mine, theirs = (self.ground.collections.get(run.migration) for run in (one, other))
        return mine is None or theirs is None or bool(set(mine) & set(theirs))

    @property
    def version(self) -> SchemaVersion:
        """The store's version afterwards."""
        there = self.ground.versions.get(STORE_SCOPE, self.registry.baseline)
        return min(
            [there, *(run.hop.from_version for run in self.found.values() if run.scope == STORE_SCOPE)],
        )

    def add_what_has_no_way_on(self) -> None:
        """From the version before, another way may lead forward than the one that was gone: then that goes whole."""
        while True:
            version = self.version
            if not self.registry.knows(version):
                return
            path = self.registry.get_migration_path(version, self.registry.target)
            stray = [
                run
                for run in self.ground.applied
                if run.run_id not in self.found
                and run.scope == STORE_SCOPE
                and run.state != "stood_for"
                and run.hop.to_version > version
                and run.hop not in path
            ]
            if not stray:
                return
            self.add(stray[-1], because_of=next(iter(self.found.values())).migration)


def _is_lifted(run: Applied, closure: _Closure) -> bool:
    """A migration of the store in a user's history: rows of one who came late went through it."""
    listed = {migration.id: migration for migration in closure.registry.migrations}.get(run.migration)
    return listed is not None and listed.scope == STORE_SCOPE and run.scope != STORE_SCOPE


def plan_of_migration(
    ground: Ground, registry: "MigrationRegistry", *, migration_id: str, user: str | None
) -> RollbackPlan:
    """The plan for one migration and all that builds on it. Raises RollbackRefused where it has not run."""
    listed = registry.listed(migration_id)
    scope = STORE_SCOPE if listed.scope == STORE_SCOPE else user_scope(user or "")
    if scope == user_scope(""):
        raise RollbackRefused(
            f"Migration {migration_id} is done for each user, and no user was named.",
            fix="Name the user. Nothing was changed.",
        )
    applied = next((run for run in ground.applied if (run.migration, run.scope) == (migration_id, scope)), None)
    if applied is None:
        raise RollbackRefused(
            f"Migration {migration_id} cannot be rolled back.",
            why="it has not run here, or it was rolled back already",
            fix="See engine.migrations.history() or `syncengine history`. Nothing was changed.",
        )
    if applied.state == "stood_for":
        raise RollbackRefused(
            f"Migration {migration_id} cannot be rolled back by itself.",
            why="another one did its work in one step",
            fix="Roll that one back. Nothing was changed.",
        )
    closure = _Closure(ground, registry)
    closure.add(applied, because_of=None)
    closure.add_what_has_no_way_on()
    return _plan(closure, asked=migration_id, user=user)


def plan_to_version(
    ground: Ground, registry: "MigrationRegistry", *, version: SchemaVersion, user: str | None
) -> RollbackPlan:
    """The plan for everything that led past a version, of all scopes. Raises RollbackRefused where nothing did."""
    known = {registry.baseline, *(listed.edge.from_version for listed in registry.migrations)}
    beyond = [run for run in ground.applied if run.hop.to_version > version and run.state != "stood_for"]
    if version not in known or not beyond:
        raise RollbackRefused(
            f"The store cannot be rolled back to version {version}.",
            why="nothing has run that leads past it" if version in known else "it is no version of this app's list",
            fix="See engine.migrations.history() or `syncengine history`. Nothing was changed.",
        )
    closure = _Closure(ground, registry)
    for run in beyond:
        if not _is_lifted(run, closure):
            closure.add(run, because_of=None)
    closure.because_of = dict.fromkeys(closure.because_of, None)
    closure.add_what_has_no_way_on()
    return _plan(closure, asked=f"to {version}", user=user)


def _plan(closure: _Closure, *, asked: str, user: str | None) -> RollbackPlan:
    newest_first = sorted(closure.found.values(), key=lambda run: (run.hop[::-1], run.run_id), reverse=True)
    steps = tuple(_step(run, closure) for run in newest_first)
    there = closure.ground.versions.get(STORE_SCOPE, closure.registry.baseline)
    return RollbackPlan(
        asked=asked,
        user=user,
        current=there,
        target=closure.version,
        steps=steps,
        users=_users(closure.ground, steps),
        warnings=(*_of_dropped(steps), *_of_clouds(closure.ground, steps)),
    )


def _step(run: Applied, closure: _Closure) -> UndoStep:
    ground = closure.ground
    unlisted = Way(method=IMPOSSIBLE, why="this app does not list it; the app that ran it can")
    return UndoStep(
        id=run.migration,
        scope=run.scope,
        hop=run.hop,
        way=ground.ways.get((run.migration, run.scope), unlisted),
        collections=ground.collections.get(run.migration, ()),
        because_of=closure.because_of[run.run_id],
        applied=run,
    )


def _users(ground: Ground, steps: tuple[UndoStep, ...]) -> tuple[str, ...]:
    """Those with rows in what is rebuilt, and those whose own migrations are undone."""
    found = {step.user for step in steps if step.user is not None}
    for step in steps:
        if step.scope == STORE_SCOPE:
            found |= {owner for name in step.collections for owner in ground.owners.get(name, ())}
    return tuple(sorted(found))


def _of_dropped(steps: tuple[UndoStep, ...]) -> tuple[str, ...]:
    return tuple(
        f"{step.id} left out {step.applied.rows_dropped} rows by rule when it ran; they do not come back"
        for step in steps
        if step.way.method == "down" and step.applied.rows_dropped
    )


def _of_clouds(ground: Ground, steps: tuple[UndoStep, ...]) -> tuple[str, ...]:
    """Whose cloud data has been told of a version that this store goes back from."""
    back_from = {step.scope: step.hop.to_version for step in steps if step.user is not None}
    return tuple(
        f"the cloud data of {scope.partition(':')[2]} is at {ground.cloud_versions[scope]} and stays there"
        for scope, version in sorted(back_from.items())
        if scope in ground.cloud_versions and ground.cloud_versions[scope] >= version
    )
