"""Which collections an app may use now: those whose shape is the app's. The others say why, and what to do."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from syncengine.errors import CollectionNotReady, SyncEngineError
from syncengine.local.bars import Bars
from syncengine.local.version_table import read_installed
from syncengine.migrate.lease import is_held
from syncengine.migrate.planning import plan_of
from syncengine.migrate.shadow_others import LEASE
from syncengine.migrate.shadow_state import filling
from syncengine.vocabulary import STORE_SCOPE

if TYPE_CHECKING:
    from syncengine.clock import Clock
    from syncengine.local.store import Store
    from syncengine.local.version_table import Readable
    from syncengine.migrate.plan import Plan, Step
    from syncengine.migrate.registry import MigrationRegistry

USABLE = "usable"
READ_ONLY = "read-only"
BLOCKED = "blocked"
NONE_DRIFTED: Mapping[str, SyncEngineError] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionState:
    """`state`: usable, read-only, or blocked (neither read nor written). `why` and `fix` are sentences."""

    state: str
    why: str = ""
    fix: str = ""
    labels: tuple[str, ...] = ()
    """What its rows are, as the app labels the collection."""


def collection_states(store: "Store", registry: "MigrationRegistry") -> dict[str, CollectionState]:
    """The state of each declared collection, by name."""
    if store.read_only is not None:
        reason = store.read_only
        state = CollectionState(state=READ_ONLY, why=reason.what, fix=reason.fix)
        return {name: replace(state, labels=each.labels) for name, each in registry.collections.items()}
    return states_of(bars_of(registry, store, clock=store.clock, drifted=store.drifted), registry)


def states_of(bars: Bars, registry: "MigrationRegistry") -> dict[str, CollectionState]:
    """The same of what is barred."""
    return {name: replace(_state(bars, name), labels=each.labels) for name, each in registry.collections.items()}


def _state(bars: Bars, name: str) -> CollectionState:
    for barred, state in ((bars.touch, BLOCKED), (bars.write, READ_ONLY)):
        error = barred.get(name)
        if error is not None:
            return CollectionState(state=state, why=error.why or error.what, fix=error.fix)
    return CollectionState(state=USABLE)


def bars_of(
    registry: "MigrationRegistry",
    moment: "Readable",
    *,
    clock: "Clock",
    drifted: Mapping[str, SyncEngineError] = NONE_DRIFTED,
) -> Bars:
    """What must not be touched, and what not be written, as one moment of the store has it.

    A user's own migrations bar nothing: they bring rows, and the shape is the store's. Nor do those of the
    background, whose author says that old and new code accept both shapes.
    """
    installed = read_installed(moment)
    touch: dict[str, SyncEngineError] = {}
    if (installed.schema_version(STORE_SCOPE) or registry.baseline) != registry.target:
        plan, being_rewritten = plan_of(moment, registry), filling(moment)
        last = {str(migration): (state, why) for migration, state, why in moment.rows("run_history", "last_states")}
        for step in (*plan.skipped, *plan.held_back, *plan.steps):
            if step.scope == STORE_SCOPE and step.when != "background":
                for name in step.collections:
                    rewrites = being_rewritten.get(name) == step.id
                    error = _rewritten(name, step, moment, clock) if rewrites else _not_ready(name, step, plan, last)
                    touch.setdefault(name, error)
    return Bars(touch=touch, write=dict(drifted))


def _not_ready(
    name: str, step: "Step", plan: "Plan", last: Mapping[str, tuple[str, str | None]]
) -> CollectionNotReady:
    state, reason = last.get(step.id, ("", None))
    why, fix = f"migration {step.id} has not been run", "Call engine.migrate()."
    if step in plan.skipped or step in plan.held_back:
        word = "skipped" if step in plan.skipped else "rolled back"
        why, fix = (
            f"migration {step.id} was {word}",
            f"Run it: engine.migrations.run(only={step.id!r}), or `syncengine migrate --only {step.id}`.",
        )
    elif state == "failed":
        why = _failed(step, reason or "the reason is not known")
        fix = "Mend what is named: the next engine.migrate() runs it again. `syncengine history` has every try."
    elif step.asks:
        fix = "Call engine.migrate(). Where rows would change it asks the user first (consent=)."
    return CollectionNotReady(f"The collection {name} is not ready.", why=why, fix=fix)


def _failed(step: "Step", reason: str) -> str:
    """Most reasons begin like this, and it is said once."""
    said = f"migration {step.id} failed"
    return said + (reason[len(said) :] if reason.lower().startswith(said.lower()) else f": {reason}")


def _rewritten(name: str, step: "Step", moment: "Readable", clock: "Clock") -> CollectionNotReady:
    """How far its last committed batch came, and whether anybody is at it."""
    state, read, total, _ = moment.rows("shadow", "progress", collection=name)[0]
    rows = f"{read:,} of {total:,} rows"
    if state == "paused":
        why = f"migration {step.id}, which rewrites it, was paused at {rows}"
        fix = (
            "Call engine.migrate(): it goes on there. Where this engine was paused, engine.migrations.resume() first."
        )
    elif is_held(moment, LEASE, clock=clock):
        why, fix = f"migration {step.id} is rewriting it: {rows}", "Wait for it."
    else:
        why = f"migration {step.id} began to rewrite it, and nobody is at it: {rows}"
        fix = "Call engine.migrate(): it goes on there."
    return CollectionNotReady(f"The collection {name} is not ready.", why=why, fix=fix)


def bars_at(store: "Store", registry: "MigrationRegistry", moment: "Readable") -> Bars:
    """The same for a block that reads or writes. Raises CollectionNotReady where nothing can be used.

    That is so before the first migration, too.
    """
    bars = bars_of(registry, moment, clock=store.clock, drifted=store.drifted)
    version = read_installed(moment).schema_version(STORE_SCOPE)
    if bars.touch and (version is None or set(bars.touch) == set(registry.collections)):
        first = next(iter(bars.touch.values()))
        raise CollectionNotReady(
            f"The store is at {version or registry.baseline} and the app expects {registry.target}.",
            why=first.why,
            fix=first.fix,
        )
    return bars
