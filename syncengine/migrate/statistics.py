"""What the history says: each attempt as a line, and the sums that a settings page shows."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from syncengine.errors import SyncEngineError
from syncengine.local.stored import stored_texts
from syncengine.migrate.definition import Counts
from syncengine.vocabulary import STORE_SCOPE, user_scope

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLine:
    """One attempt. `state`: completed, queued, failed, cancelled, skipped, stood_for, rolled_back or restored."""

    run_id: int
    migration: str
    scope: str
    from_version: str
    to_version: str
    state: str
    method: str
    counts: Counts
    started_at: str
    ended_at: str
    duration_ms: int
    error_code: str | None
    error_text: str | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStatistics:
    """Sums over the runs of the store and of one user. Times as ISO-8601 UTC; None where nothing has run."""

    runs: int
    completed: int
    failed: int
    rows_read: int
    rows_written: int
    rows_quarantined: int
    duration_ms: int
    last_run_at: str | None
    data_types: dict[str, int] = field(default_factory=dict)
    """Rows written by collection, of all that were migrated; the rows of a migration of several count for each."""
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What these collections hold, of those that the app labels."""

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        return {
            "runs": self.runs,
            "completed": self.completed,
            "failed": self.failed,
            "rowsRead": self.rows_read,
            "rowsWritten": self.rows_written,
            "rowsQuarantined": self.rows_quarantined,
            "duration": self.duration_ms,
            "lastRunAt": self.last_run_at,
            "dataTypes": self.data_types,
            "labels": {name: list(labels) for name, labels in self.labels.items()},
        }


def history_of(store: "Store", *, user: str | None) -> tuple[HistoryLine, ...]:
    """Every attempt for the store and for this user, oldest first; nothing of other users."""
    scope = STORE_SCOPE if user is None else user_scope(user)
    return tuple(_line(*row) for row in store.rows("run_history", "lines", scope=scope))


def _line(*row: Any) -> HistoryLine:
    run_id, migration, scope, from_version, to_version, state, method, *rest = row
    started_at, ended_at, duration_ms, error_code, error_text, warnings = rest[5:]
    return HistoryLine(
        run_id=run_id,
        migration=migration,
        scope=scope,
        from_version=from_version,
        to_version=to_version,
        state=state,
        method=method,
        counts=Counts(*rest[:5]),
        started_at=started_at,
        ended_at=ended_at,
        duration_ms=duration_ms,
        error_code=error_code,
        error_text=error_text,
        warnings=stored_texts(warnings, "_sync_run.warnings"),
    )


def statistics_of(store: "Store", registry: "MigrationRegistry", *, user: str | None) -> MigrationStatistics:
    """The sums of that history."""
    lines = history_of(store, user=user)
    ran = [line for line in lines if line.state in ("completed", "queued", "failed", "cancelled")]
    done = [line for line in ran if line.state == "completed"]
    data_types: dict[str, int] = {}
    for line in done:
        for name in _collections(registry, line.migration):
            data_types[name] = data_types.get(name, 0) + line.counts.written
    return MigrationStatistics(
        runs=len(ran),
        completed=len(done),
        failed=sum(line.state == "failed" for line in ran),
        rows_read=sum(line.counts.read for line in done),
        rows_written=sum(line.counts.written for line in done),
        rows_quarantined=sum(line.counts.quarantined for line in done),
        duration_ms=sum(line.duration_ms for line in ran),
        last_run_at=max((line.ended_at for line in ran), default=None),
        data_types=dict(sorted(data_types.items())),
        labels={name: each.labels for name in sorted(data_types) if (each := registry.collections[name]).labels},
    )


def _collections(registry: "MigrationRegistry", migration_id: str) -> tuple[str, ...]:
    """None of a migration that the app does not have any more."""
    try:
        return registry.get_migration_executor(migration_id).definition.collections
    except SyncEngineError:
        return ()
