"""What a host hears of migrations: result of one run, status of one user, progress; JSON as the design has it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from syncengine.migrate.definition import Counts, EntryCounts
from syncengine.vocabulary import SchemaVersion

if TYPE_CHECKING:
    from syncengine.errors import SyncEngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRow:
    """A row that a migration could not convert. Holds a key: show it, do not log it."""

    collection: str
    key: str = field(repr=False)
    reason: str
    """With the field, where one is to blame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationResult:
    """What one run did. `duration_ms` by the monotonic clock; errors and warnings hold no row contents."""

    success: bool
    migration_id: str
    scope: str
    state: str
    """completed, queued (waits for the cloud), failed, cancelled, paused, or already (had run before)."""
    counts: Counts
    entries: EntryCounts = field(default_factory=EntryCounts)
    """What became of the outbox entries that were queued in the shape of before."""
    batches: int = 0
    batches_undone: int = 0
    duration_ms: int = 0
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    failure: "SyncEngineError | None" = None
    """The error itself, for hosts that raise it."""
    refused: tuple[RefusedRow, ...] = ()
    """Of a run that failed: the first rows that it could not convert."""

    def __repr__(self) -> str:
        counts = f"read={self.counts.read}, written={self.counts.written}, quarantined={self.counts.quarantined}"
        told = f"{counts}, errors={len(self.errors)}, warnings={len(self.warnings)}"
        why = f", why={self.why!r}" if self.why else ""
        return f"MigrationResult({self.migration_id!r}, scope={self.scope!r}, state={self.state!r}, {told}{why})"

    @property
    def why(self) -> str:
        """What went wrong, in one line; empty where nothing did."""
        return "" if self.failure is None else self.failure.in_one_line()

    def to_json(self) -> dict[str, Any]:
        """Exactly the keys success, migrationId, stats, errors, warnings. Duration in milliseconds."""
        return {
            "success": self.success,
            "migrationId": self.migration_id,
            "stats": {
                "totalItems": self.counts.read,
                "processedItems": self.counts.accounted,
                "failedItems": self.counts.quarantined,
                "duration": self.duration_ms,
            },
            "errors": list(self.errors),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """A migration that was not run because nobody has agreed to it yet."""

    migration_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationReport:
    """What one `migrate()` did, migration by migration."""

    current: SchemaVersion
    target: SchemaVersion
    results: tuple[MigrationResult, ...] = ()
    blocked: tuple[str, ...] = ()
    """Not run: something that they wait for is not done."""
    deferred: tuple[Deferred, ...] = ()
    """Not run: they wait for the user's consent."""
    background: tuple[str, ...] = ()
    """Left for `engine.start()` or `run_background`."""
    left_out: tuple[str, ...] = ()
    """Skipped by a person, or rolled back: each runs again when it is asked for, by `run(only=...)`."""
    paused: bool = False
    """Stopped by `pause()`; after `resume()` the next `migrate()` goes on."""
    retried: int = 0
    """Rows that came back from quarantine, for the code that had refused them is another now."""

    def __repr__(self) -> str:
        """Where the store is now, what ran and how it ended, why what failed did, how much was set aside or left."""
        ran = ", ".join(_ended(result) for result in self.results)
        others = {"blocked": self.blocked, "deferred": self.deferred, "background": self.background}
        left = "".join(f", {name}={len(some)}" for name, some in others.items() if some)
        at = f"at {self.current}" + (f", wanted {self.target}" if self.current != self.target else "")
        aside = {"rows_set_aside": self.quarantined, "entries_set_aside": self.entries_quarantined}
        told = "".join(f", {name}={some}" for name, some in aside.items() if some)
        return f"MigrationReport({at}, success={self.success}, ran=[{ran}]{told}{left})"

    @property
    def success(self) -> bool:
        """All that was to be done now is done. Queued online migrations and those of the background count as done."""
        return not (self.blocked or self.deferred or self.paused) and all(result.success for result in self.results)

    @property
    def failed(self) -> tuple[MigrationResult, ...]:
        """What was rolled back, with the reason; `migrate()` raises for one of them only where that is critical."""
        return tuple(result for result in self.results if result.failure is not None)

    @property
    def queued(self) -> tuple[str, ...]:
        """Online migrations that now wait for the cloud."""
        return tuple(result.migration_id for result in self.results if result.state == "queued")

    @property
    def quarantined(self) -> int:
        """Rows that were set aside; what failed or was paused has set nothing aside."""
        return sum(result.counts.quarantined for result in self.results if result.success)

    @property
    def entries_quarantined(self) -> int:
        """Queued edits that could not be converted and were set aside: they are not sent before a person decides."""
        return sum(result.entries.quarantined for result in self.results if result.success)


def _ended(result: MigrationResult) -> str:
    return f"{result.migration_id} {result.state}" + (f" ({result.why})" if result.why else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedMigration:
    """One line of a user's history."""

    id: str
    completed_at: str
    success: bool
    counts: Counts
    duration_ms: int

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "completedAt": self.completed_at,
            "success": self.success,
            "stats": {
                "itemsProcessed": self.counts.accounted,
                "itemsSucceeded": self.counts.accounted - self.counts.quarantined,
                "itemsFailed": self.counts.quarantined,
                "duration": self.duration_ms,
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingMigration:
    """A migration that this user's data still needs; `queued` when it only waits for the cloud."""

    id: str
    required_for_version: str
    queued: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "requiredForVersion": self.required_for_version}


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStatus:
    """Where one user stands."""

    user: str | None
    completed: tuple[CompletedMigration, ...]
    pending: tuple[PendingMigration, ...]
    current_schema_version: str
    target_schema_version: str

    def to_json(self) -> dict[str, Any]:
        """Exactly the keys userId, completedMigrations, pendingMigrations, currentSchemaVersion,
        targetSchemaVersion."""
        return {
            "userId": self.user,
            "completedMigrations": [migration.to_json() for migration in self.completed],
            "pendingMigrations": [migration.to_json() for migration in self.pending],
            "currentSchemaVersion": self.current_schema_version,
            "targetSchemaVersion": self.target_schema_version,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationProgress:
    """How far a run is. `total` is None while it is unknown; `done` only grows; `ended` is the last one said."""

    migration_id: str
    done: int
    total: int | None
    ended: bool = False
    rows_per_s: float | None = None
    left_ms: int | None = None
    """By a moving average; None while it is unknown."""

    @property
    def percent(self) -> int | None:
        """0 to 100, or None while the total is unknown."""
        if self.ended:
            return 100
        return None if not self.total else min(99, self.done * 100 // self.total)
