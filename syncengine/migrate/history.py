"""The run history: one row for each attempt, written in the transaction of the attempt."""

import hashlib
import inspect
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from syncengine.clock import iso
from syncengine.migrate.definition import Counts, EntryCounts
from syncengine.migrate.results import CompletedMigration

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.executor import BaseMigrationExecutor

SOURCES_KEPT_MAX = 256
"""More migrations than a start runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What is remembered of one attempt."""

    migration: str
    scope: str
    from_version: str
    to_version: str
    state: str
    method: str = "transaction"
    """How it was done, or undone: transaction, shadow, queue, by_hand, down, kept_table or restore_point."""
    restore_point_id: int | None = None
    """The sealed copy that was made before it, if one was."""
    counts: Counts = field(default_factory=Counts)
    entries: EntryCounts = field(default_factory=EntryCounts)
    started_at: str
    duration_ms: int = 0
    batches: int = 0
    batches_undone: int = 0
    code_hash: str | None = None
    probe_verdict: str = "unknown"
    error_code: str | None = None
    error_text: str | None = None
    warnings: tuple[str, ...] = ()


def record_run(store: "Store", record: RunRecord) -> None:
    """Write one attempt into the history."""
    store.run(
        "runs",
        "record",
        migration=record.migration,
        scope=record.scope,
        from_version=record.from_version,
        to_version=record.to_version,
        state=record.state,
        method=record.method,
        restore_point_id=record.restore_point_id,
        rows_read=record.counts.read,
        rows_written=record.counts.written,
        rows_merged=record.counts.merged,
        rows_dropped=record.counts.dropped,
        rows_quarantined=record.counts.quarantined,
        entries_read=record.entries.read,
        entries_converted=record.entries.converted,
        entries_quarantined=record.entries.quarantined,
        batches=record.batches,
        batches_undone=record.batches_undone,
        code_hash=record.code_hash,
        probe_verdict=record.probe_verdict,
        started_at=record.started_at,
        ended_at=iso(store.clock.now_ms()),
        duration_ms=record.duration_ms,
        error_code=record.error_code,
        error_text=record.error_text,
        warnings=orjson.dumps(record.warnings).decode(),
    )


def runs_of(store: "Store", *, scope: str, state: str) -> list[tuple[str, int, str]]:
    """(migration, rows read, started at) of the runs in a state, oldest first."""
    return [
        (str(migration), int(rows), str(at))
        for migration, rows, at in store.rows("runs", "in_state", scope=scope, state=state)
    ]


def completed_runs(store: "Store", *, scopes: tuple[str, ...]) -> tuple[CompletedMigration, ...]:
    """All attempts that ended, good or bad, of these scopes, oldest first."""
    found = []
    for scope, migration, state, ended_at, read, written, merged, dropped, quarantined, duration_ms in store.rows(
        "runs", "history"
    ):
        if scope in scopes and state in ("completed", "failed"):
            counts = Counts(read, written, merged, dropped, quarantined)
            found.append(
                CompletedMigration(
                    id=migration,
                    completed_at=ended_at,
                    success=state == "completed",
                    counts=counts,
                    duration_ms=duration_ms,
                )
            )
    return tuple(found)


def code_hash(executor: "BaseMigrationExecutor") -> str | None:
    """SHA-256 over the source of a migration's code, its declared changes and its repair rules.

    None where a frozen app has no sources.
    """
    code: Any = getattr(executor, "function", type(executor))
    declared = repr(getattr(executor, "changes", ()))
    # Of the engine's own kinds only what the author declares: another version of the engine is no other migration.
    is_ours = code.__module__.startswith("syncengine.")
    try:
        rules = [f"{rule}{rule.on}{rule.constants}{_source(rule.function)}" for rule in executor.repairs]
        return hashlib.sha256("\n".join(["" if is_ours else _source(code), declared, *rules]).encode()).hexdigest()
    except (OSError, TypeError):
        return None


@lru_cache(maxsize=SOURCES_KEPT_MAX)
def _source(code: Any) -> str:
    """Read once in a process: it is parsed out of its whole file, which takes milliseconds."""
    return inspect.getsource(code)
