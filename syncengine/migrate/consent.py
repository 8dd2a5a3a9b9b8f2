"""Before rows are changed or imported by a major version, the user is asked; with nobody to ask it waits.

What is asked is decided before anything is run, once for the whole path; what was no question then is looked at again
in the transaction that would change it. A yes stands for the migrations that were shown, as their code was.
"""

import inspect
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson

from syncengine.clock import iso
from syncengine.local.identifiers import quoted
from syncengine.logs import log_event
from syncengine.migrate.erasing import open_items
from syncengine.migrate.history import code_hash
from syncengine.migrate.online import UploadExecutor
from syncengine.migrate.paging import rows_of
from syncengine.migrate.safety import is_risky
from syncengine.migrate.shape import table_exists

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.plan import Plan, Step
    from syncengine.migrate.registry import Hop, MigrationRegistry

_logger = logging.getLogger("syncengine.migrate")

ROWS_TO_ESTIMATE_MIN = 1_000
"""Fewer rows than these in the history say nothing about the speed of this machine."""

DECLINED = "the user declined"
COROUTINE = "the app's consent callback is a coroutine, which nobody awaits here (see syncengine.callbacks)"
CAME_SINCE = "it had no rows to change when this was decided; some have come since, and nobody has agreed"
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
    erases: bool = False
    """What it holds now is gone for good afterwards: no restore point, and no way back."""
    in_quarantine: int = 0
    """Of a collection that is erased: rows in quarantine. What cannot be converted there keeps its old values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRequest:
    """What the user is asked. `print(request)` shows it; it holds no rows."""

    plan: "Plan"
    hops: tuple["Hop", ...]
    """What waits for the answer; the hops before run in any case."""
    preview: tuple[CollectionPreview, ...]
    restore_point: bool
    """A sealed copy of the store is made before, and this can be taken back; what erases deletes it afterwards."""
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
            lines.extend(_of_erased(preview))
        if self.restore_point:
            erases = any(preview.erases for preview in self.preview)
            ends = ", and deleted when it has succeeded, with all older ones" if erases else ""
            lines.append(f"  A restore point is made before{ends}.")
        if self.estimate_ms is not None:
            lines.append(f"  About {max(1, round(self.estimate_ms / 1000))} s.")
        return "\n".join(lines)


def _of_erased(preview: CollectionPreview) -> Iterator[str]:
    if preview.erases:
        yield "    what it holds now is erased for good: there is no way back"
    if preview.in_quarantine:
        rows = "1 row" if preview.in_quarantine == 1 else f"{preview.in_quarantine} rows"
        yield f"    {rows} of it in quarantine may keep old values until each is retried or discarded"


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
        preview=tuple(_preview(store, registry, name, rows, steps, sources) for name, rows in counts.items()),
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
        if step.asks and (brings or _changes_rows(store, step, filled)) and not _was_agreed_to(store, registry, step):
            return step
        if brings:
            filled.update(step.collections)
    return None


def _changes_rows(store: "Store", step: "Step", filled: set[str]) -> bool:
    return not step.imports and any(name in filled or _has_rows(store, name) for name in step.collections)


def _was_agreed_to(store: "Store", registry: "MigrationRegistry", step: "Step") -> bool:
    """This very code was shown, the answer was yes, and nothing was taken back since.

    So a hop that stopped half way is not asked about twice, and what was added to it is.
    """
    code = code_hash(registry.get_migration_executor(step.id))
    shown = {"name": _record_of(step), "scope": step.scope, "migration": step.id, "code_hash": code}
    return bool(store.value("run_history", "agreed", **shown))


def note_agreement(store: "Store", registry: "MigrationRegistry", request: ConsentRequest) -> None:
    """Keep who agreed when to which migrations of each hop, for the store and for this user."""
    shown: dict[str, dict[str, str | None]] = {}
    for step in request.plan.steps:
        if step.hop in request.hops and step.asks:
            code = code_hash(registry.get_migration_executor(step.id))
            shown.setdefault(_record_of(step), {})[step.id] = code
    with store.transaction(durable=True):
        said = {"at": iso(store.clock.now_ms()), "by": request.plan.user}
        for name, migrations in shown.items():
            value = orjson.dumps({**said, "migrations": migrations}).decode()
            store.run("state", "set", name=name, value=value)


class ConsentMissing(Exception):
    """There are rows to change, and nobody was asked, because there were none before the run."""


class SecondLook:
    """Looks again inside the transaction of each step: another process may have written since it was no question."""

    def __init__(self, store: "Store", registry: "MigrationRegistry") -> None:
        self._store = store
        self._registry = registry
        self._brought: set[str] = set()
        """Collections that this very path has filled: nobody's edits."""

    @contextmanager
    def around(self, step: "Step") -> Iterator[None]:
        """Raises ConsentMissing, before anything is done."""
        self.look(step)
        empty = [name for name in step.collections if not _has_rows(self._store, name)]
        yield
        self._brought.update(name for name in empty if _has_rows(self._store, name))

    def look(self, step: "Step") -> None:
        """Raises ConsentMissing for rows that a user would have been asked about."""
        if not step.asks or step.imports or _was_agreed_to(self._store, self._registry, step):
            return
        if any(_has_rows(self._store, name) for name in step.collections if name not in self._brought):
            raise ConsentMissing


def _record_of(step: "Step") -> str:
    return f"agreed to {step.hop} for {step.scope}"


def _source(registry: "MigrationRegistry", step: "Step") -> str | None:
    return registry.get_migration_executor(step.id).definition.source


def _has_rows(store: "Store", name: str) -> bool:
    return table_exists(store, name) and bool(store.query(f"SELECT 1 FROM {quoted(name)} LIMIT 1"))


def _rows(store: "Store", name: str) -> int:
    return rows_of(store, name) if table_exists(store, name) else 0


def _said_of(executor: "BaseMigrationExecutor") -> str:
    """Its author's words; an id alone tells a person nothing. An upload says by itself what it does."""
    definition = executor.definition
    named = definition.name if definition.name != definition.id else ""
    if isinstance(executor, UploadExecutor):
        return definition.description or named or f"sent to the cloud by migration {definition.id}"
    return definition.description or named or f"changed by migration {definition.id}, which does not say how"


def _preview(
    store: "Store",
    registry: "MigrationRegistry",
    name: str,
    rows: int,
    steps: "list[Step]",
    sources: Collection[str],
) -> CollectionPreview:
    executors = [registry.get_migration_executor(step.id) for step in steps if name in step.collections]
    mine = [executor.definition for executor in executors]
    erases = any(one.erases for one in mine)
    return CollectionPreview(
        collection=name,
        rows=rows,
        changes=tuple(map(_said_of, executors)),
        imports_from=tuple(one.source for one in mine if one.source is not None and one.source in sources),
        labels=registry.collections[name].labels,
        erases=erases,
        in_quarantine=open_items(store, [name]) if erases else 0,
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
