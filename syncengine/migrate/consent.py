"""Before rows are changed or imported by a major version, the user is asked; with nobody to ask it waits.

What is asked is decided before anything is run, once for the whole path.
"""

import inspect
import logging
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from syncengine.clock import iso
from syncengine.local.identifiers import quoted
from syncengine.logs import log_event
from syncengine.migrate.paging import rows_of
from syncengine.migrate.safety import is_risky
from syncengine.migrate.shape import table_exists

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.plan import Plan, Step
    from syncengine.migrate.registry import Hop, MigrationRegistry

_logger = logging.getLogger("syncengine.migrate")

ROWS_TO_ESTIMATE_MIN = 1_000
"""Fewer rows than these in the history say nothing about the speed of this machine."""

DECLINED = "the user declined"
COROUTINE = "the app's consent callback is a coroutine, which nobody awaits here (see syncengine.callbacks)"
NOBODY = "the user has to agree, and the app gave nobody to ask (consent=)"


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionPreview:
    """What is to become of one collection, in words for its user."""

    collection: str
    rows: int
    """That are there now."""
    changes: tuple[str, ...]
    """One sentence for each migration that changes it."""
    imports_from: tuple[str, ...] = ()
    """The legacy stores that rows are added from, by the app's names."""
    labels: tuple[str, ...] = ()
    """What its rows are, as the app labels the collection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRequest:
    """What the user is asked. `print(request)` shows it; it holds no rows."""

    plan: "Plan"
    hops: tuple["Hop", ...]
    """What waits for the answer; the hops before run in any case."""
    preview: tuple[CollectionPreview, ...]
    restore_point: bool
    """A sealed copy of the store is made before, and this can be taken back."""
    estimate_ms: int | None
    """By the speed of earlier migrations of this store; None where there were too few."""

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        return {
            "plan": self.plan.to_json(),
            "hops": [str(hop) for hop in self.hops],
            "preview": [asdict(preview) for preview in self.preview],
            "restorePoint": self.restore_point,
            "estimateMs": self.estimate_ms,
        }

    def __str__(self) -> str:
        lines = [f"Your data is to be brought from version {self.hops[0].from_version} to {self.plan.target}."]
        for preview in self.preview:
            labels = f" ({', '.join(preview.labels)})" if preview.labels else ""
            lines.append(f"  {preview.collection}: {preview.rows} {'row' if preview.rows == 1 else 'rows'}{labels}")
            lines.extend(f"    {change}" for change in preview.changes)
            lines.extend(f"    rows are added from {source}" for source in preview.imports_from)
        if self.restore_point:
            lines.append("  A restore point is made before.")
        if self.estimate_ms is not None:
            lines.append(f"  About {max(1, round(self.estimate_ms / 1000))} s.")
        return "\n".join(lines)


Consent = Callable[[ConsentRequest], bool]


def consent_request(
    store: "Store", registry: "MigrationRegistry", plan: "Plan", *, sources: Collection[str]
) -> ConsentRequest | None:
    """What has to be asked before this plan is run; None where nothing that is there changes unasked.

    The first tables of an empty store, an import without its source, and a hop that was begun with consent are no
    question.
    """
    asking = _first_that_asks(store, registry, plan, sources)
    if asking is None:
        return None
    steps = [step for step in plan.steps if step.hop >= asking.hop]
    counts = {name: _rows(store, name) for step in steps for name in step.collections}
    risky = any(is_risky(registry.get_migration_executor(step.id)) for step in steps)
    return ConsentRequest(
        plan=plan,
        hops=tuple(dict.fromkeys(step.hop for step in steps)),
        preview=tuple(_preview(registry, name, rows, steps, sources) for name, rows in counts.items()),
        restore_point=risky and any(counts.values()),
        estimate_ms=_estimate_ms(store, sum(counts.values())),
    )


def _first_that_asks(
    store: "Store", registry: "MigrationRegistry", plan: "Plan", sources: Collection[str]
) -> "Step | None":
    """Rows that an earlier step of the same path brings in are there when a later one comes to them."""
    filled: set[str] = set()
    for step in plan.steps:
        brings = _source(registry, step) in sources
        if step.asks and (brings or _changes_rows(store, step, filled)) and not _was_agreed_to(store, step):
            return step
        if brings:
            filled.update(step.collections)
    return None


def _changes_rows(store: "Store", step: "Step", filled: set[str]) -> bool:
    return not step.imports and any(name in filled or _has_rows(store, name) for name in step.collections)


def _was_agreed_to(store: "Store", step: "Step") -> bool:
    """The answer was yes, and nothing was taken back since; a hop that stopped half way is not asked about twice."""
    return store.value("run_history", "agreed", name=_record_of(step), scope=step.scope) is not None


def note_agreement(store: "Store", request: ConsentRequest) -> None:
    """Keep when the user agreed to each hop, for the store and for this user."""
    steps = [step for step in request.plan.steps if step.hop in request.hops and step.asks]
    with store.transaction(durable=True):
        for name in dict.fromkeys(map(_record_of, steps)):
            store.run("state", "set", name=name, value=iso(store.clock.now_ms()))


def _record_of(step: "Step") -> str:
    return f"agreed to {step.hop} for {step.scope}"


def _source(registry: "MigrationRegistry", step: "Step") -> str | None:
    return registry.get_migration_executor(step.id).definition.source


def _has_rows(store: "Store", name: str) -> bool:
    return table_exists(store, name) and bool(store.query(f"SELECT 1 FROM {quoted(name)} LIMIT 1"))


def _rows(store: "Store", name: str) -> int:
    return rows_of(store, name) if table_exists(store, name) else 0


def _preview(
    registry: "MigrationRegistry", name: str, rows: int, steps: "list[Step]", sources: Collection[str]
) -> CollectionPreview:
    mine = [registry.get_migration_executor(step.id).definition for step in steps if name in step.collections]
    return CollectionPreview(
        collection=name,
        rows=rows,
        changes=tuple(one.description or one.name for one in mine),
        imports_from=tuple(one.source for one in mine if one.source is not None and one.source in sources),
        labels=registry.collections[name].labels,
    )


def _estimate_ms(store: "Store", rows: int) -> int | None:
    rows_before, ms_before = store.rows("run_history", "speed")[0]
    if rows_before < ROWS_TO_ESTIMATE_MIN or not ms_before:
        return None
    return int(rows * ms_before / rows_before)


def answer_of(consent: Consent | None, request: ConsentRequest) -> str | None:
    """None when the user agreed, else why not. Only True is a yes, and what the callback raises is a no."""
    if consent is None:
        return NOBODY
    try:
        answer = consent(request)
    except Exception as error:  # noqa: BLE001  (whatever a host's dialog raises, nobody has agreed)
        log_event(_logger, logging.WARNING, "the consent callback failed", error=type(error).__name__)
        return f"the app's consent callback failed ({type(error).__name__})"
    if inspect.iscoroutine(answer):
        answer.close()
        return COROUTINE
    return None if answer is True else DECLINED
