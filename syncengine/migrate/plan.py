"""What would be run, as a value: decided here, printed, tested, and then run elsewhere. No I/O."""

from collections.abc import Collection
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from syncengine.errors import RegistryInvalid
from syncengine.migrate.registry import Hop, ListedMigration, MigrationRegistry
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion, user_scope

if TYPE_CHECKING:
    from syncengine.local.version_table import Installed
    from syncengine.migrate.definition import MigrationDefinition
    from syncengine.migrate.rehearsal import Rehearsal


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One migration that will run, for one scope."""

    id: str
    name: str
    hop: Hop
    scope: str
    online: bool
    critical: bool
    after: tuple[str, ...]
    collections: tuple[str, ...] = ()
    imports: bool = False
    """Reads a legacy store. A later run of it takes its rows through what the store went through meanwhile."""
    asks: bool = False
    """The user is asked before it changes or imports rows."""
    erases: bool = False
    """Nothing of what its collections hold now survives it."""
    when: str = "startup"
    labels: tuple[str, ...] = ()
    """What the rows of its collections are, as the app labels them."""

    def __str__(self) -> str:
        marks = [self.scope, "waits for the cloud" if self.online else "offline"]
        if self.critical:
            marks.append("critical")
        if self.erases:
            marks.append("erases")
        if self.asks:
            marks.append("asks first")
        if self.when == "background":
            marks.append("in the background")
        if self.labels:
            marks.append(f"holds {', '.join(self.labels)}")
        return f"{self.id}  ({', '.join(marks)})"

    def waits_for(self, undone: "Step") -> bool:
        """May this step not run as long as that one is not done?

        By `after`, or because it would find the rows of a collection in another shape than it expects. An import that
        is left out holds back no store: its rows come in later, and go the same way.
        """
        if undone.id in self.after:
            return True
        if undone.online or not set(self.collections) & set(undone.collections):
            return False
        if undone.hop.to_version <= self.hop.from_version:
            return self.scope != STORE_SCOPE or not undone.imports
        return undone.hop == self.hop and undone.scope == STORE_SCOPE and self.scope != STORE_SCOPE

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "hop": str(self.hop),
            "scope": self.scope,
            "online": self.online,
            "critical": self.critical,
            "asks": self.asks,
            "erases": self.erases,
            "when": self.when,
            "after": list(self.after),
            "collections": list(self.collections),
            "labels": list(self.labels),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A path from the version that is there to the version that is wanted. `print(plan)` shows it."""

    current: SchemaVersion
    target: SchemaVersion
    user: str | None
    steps: tuple[Step, ...]
    queued: tuple[str, ...] = ()
    """Online migrations of this user that wait in the outbox already."""
    superseded: str | None = None
    """Why this app has no way on from the store's version; nothing is run then."""
    skipped: tuple[Step, ...] = ()
    """Left out by a person; `run(only=...)` does one all the same."""
    held_back: tuple[Step, ...] = ()
    """Rolled back, and not run again before somebody asks for it."""
    rehearsal: "Rehearsal | None" = None
    """What it did to a private copy, where that was asked for."""

    @property
    def is_empty(self) -> bool:
        return not self.steps

    @property
    def hops(self) -> tuple[Hop, ...]:
        """The hops of all steps, in order."""
        return tuple(dict.fromkeys(step.hop for step in self.steps))

    def __str__(self) -> str:
        if self.superseded:
            return f"{self.current}: superseded. {self.superseded}"
        if self.is_empty:
            waiting = f"; {len(self.queued)} queued for the cloud" if self.queued else ""
            return "\n".join([f"{self.current}: nothing to do{waiting}", *self._left_out()])
        lines = [self.current.way_to(self.target) + (f" for {self.user}" if self.user else "")]
        for hop in self.hops:
            lines.append(f"  {hop}")
            lines.extend(f"    {step}" for step in self.steps if step.hop == hop)
        lines.extend(f"  {erasure(step.id, step.collections)}" for step in self.steps if step.erases)
        return "\n".join([*lines, *self._left_out()])

    def _left_out(self) -> list[str]:
        return [f"  skipped: {step.id}" for step in self.skipped] + [
            f"  rolled back: {step.id}" for step in self.held_back
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "current": str(self.current),
            "target": str(self.target),
            "user": self.user,
            "superseded": self.superseded,
            "queued": list(self.queued),
            "skipped": [step.id for step in self.skipped],
            "heldBack": [step.id for step in self.held_back],
            "steps": [step.to_json() for step in self.steps],
        }


def make_plan(
    installed: "Installed",
    registry: MigrationRegistry,
    *,
    user: str | None = None,
    to: SchemaVersion | None = None,
    held_back: Collection[tuple[str, str]] = (),
) -> Plan:
    """All that is left to do for the store, and for the user if one is given; with `to` no hop that leads past it.

    `held_back` has (migration, scope) of what was rolled back and is not to run by itself. Raises RegistryInvalid for
    dependencies that cannot be met. A store that is newer than the registry, or at a version that it does not know,
    gives a plan that is `superseded` and empty.
    """
    current = installed.schema_version(STORE_SCOPE) or registry.baseline
    if not registry.knows(current):
        why = f"the store is at {current}; this app knows versions up to {registry.target}. Update the app."
        return Plan(current=current, target=registry.target, user=user, steps=(), superseded=why)
    of_store = set(registry.get_migration_path(current, registry.target))
    of_user: set[Hop] = set()
    if user is not None:
        own = installed.schema_version(user_scope(user)) or registry.baseline
        if registry.knows(own):
            of_user = set(registry.path_of_user(own))
    # The two may go different ways: what the store has behind it is not run again for a user who comes later.
    steps = [
        step
        # Where the store takes a squash edge, its tables are made before a user's import fills them.
        for hop in sorted(of_store | of_user, key=lambda hop: (hop.from_version, hop not in of_store, hop))
        if to is None or hop.to_version <= to
        for step in _steps_of_hop(hop, installed, registry, user)
        if hop in (of_store if step.scope == STORE_SCOPE else of_user)
    ]
    _check_dependencies(steps, registry)
    apart = {(step.id, step.scope) for step in steps} & (installed.skipped | set(held_back))
    return Plan(
        current=current,
        target=to or registry.target,
        user=user,
        steps=tuple(step for step in steps if (step.id, step.scope) not in apart),
        queued=_queued(installed, user),
        skipped=tuple(step for step in steps if (step.id, step.scope) in installed.skipped),
        held_back=tuple(step for step in steps if (step.id, step.scope) in apart - installed.skipped),
    )


def _queued(installed: "Installed", user: str | None) -> tuple[str, ...]:
    if user is None:
        return ()
    return tuple(sorted(migration for migration, scope in installed.queued if scope == user_scope(user)))


def _steps_of_hop(hop: Hop, installed: "Installed", registry: MigrationRegistry, user: str | None) -> list[Step]:
    gone = installed.completed | installed.queued
    steps = all_steps_of_hop(hop, registry, user=user)
    return [step for step in steps if (step.id, step.scope) not in gone]


def all_steps_of_hop(hop: Hop, registry: MigrationRegistry, *, user: str | None = None) -> list[Step]:
    """Every step of a hop in its order, done or not; those of users only where a user is given."""
    steps = []
    for listed in registry.of_hop(hop):
        scope = _scope(listed, user)
        if scope is not None:
            executor = registry.get_migration_executor(listed.id)
            definition = executor.definition
            steps.append(
                Step(
                    id=listed.id,
                    name=definition.name,
                    hop=hop,
                    scope=scope,
                    online=listed.online,
                    critical=definition.critical,
                    after=definition.after,
                    collections=definition.collections,
                    imports=definition.source is not None,
                    asks=executor.changes_rows and _asks(definition, hop, registry),
                    erases=definition.erases,
                    when=definition.when,
                    labels=registry.labels_of(definition.collections),
                )
            )
    return _in_order(steps)


def erasure(migration: str, collections: Collection[str]) -> str:
    """What people read of a migration that erases."""
    names = ", ".join(collections)
    return (
        f"{migration} erases what {names} held before: there is no way back, and restore points from before go. "
        f"Rows of {names} in quarantine may keep old values until each is retried or discarded: "
        "syncengine quarantine"
    )


def _asks(definition: "MigrationDefinition", hop: Hop, registry: MigrationRegistry) -> bool:
    """What cannot be taken back is asked about, whatever the app says of major versions."""
    if definition.consent is None:
        return definition.erases or (hop.is_major and registry.asks_for_major)
    return definition.consent == "ask"


def _scope(listed: ListedMigration, user: str | None) -> str | None:
    if listed.scope == STORE_SCOPE:
        return STORE_SCOPE
    return user_scope(user) if user is not None else None


def _in_order(steps: list[Step]) -> list[Step]:
    """Dependencies first; then offline before online, the store before users, critical first, then by id."""
    by_id = {step.id: step for step in steps}
    sorter = TopologicalSorter({step.id: [name for name in step.after if name in by_id] for step in steps})
    try:
        sorter.prepare()
    except CycleError as error:
        raise RegistryInvalid(
            "Migrations depend on each other in a circle.", why=" after ".join(error.args[1])
        ) from error
    ordered: list[Step] = []
    ready: list[Step] = []
    while sorter.is_active():
        ready.extend(by_id[name] for name in sorter.get_ready())
        ready.sort(key=lambda step: (step.online, step.scope != STORE_SCOPE, not step.critical, step.id))
        following = ready.pop(0)
        ordered.append(following)
        sorter.done(following.id)
    return ordered


def _check_dependencies(steps: list[Step], registry: MigrationRegistry) -> None:
    known = {migration.id: migration for migration in registry.migrations}
    for step in steps:
        for name in step.after:
            if name not in known:
                raise RegistryInvalid(f"Migration {step.id} comes after {name}, which is not listed.")
            if known[name].edge > step.hop and known[name].edge.from_version >= step.hop.to_version:
                raise RegistryInvalid(f"Migration {step.id} comes after {name}, which belongs to a later hop.")


def reached(installed: "Installed", registry: MigrationRegistry, *, user: str | None) -> SchemaVersion:
    """The highest version whose migrations are all done, of the store (`user` None) or of one user.

    Online migrations count when they are queued: the cloud's version is another marker. No user is ahead of
    the store.
    """
    scope = STORE_SCOPE if user is None else user_scope(user)
    kind = STORE_SCOPE if user is None else "user"
    version = installed.schema_version(scope) or registry.baseline
    if not registry.knows(version):
        return version
    gone = installed.completed | installed.queued
    limit = registry.target if user is None else (installed.schema_version(STORE_SCOPE) or registry.baseline)
    path = registry.path_of_user(version) if user else registry.get_migration_path(version, registry.target)
    for hop in path:
        mine = [listed for listed in registry.of_hop(hop) if listed.scope == kind]
        if hop.to_version > limit or any((listed.id, scope) not in gone for listed in mine):
            break
        version = hop.to_version
    return version
