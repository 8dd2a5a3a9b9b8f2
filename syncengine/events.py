"""What a host may hear: typed events, sent to its listener or its analytics. None holds the contents of a row."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Listener = Callable[[object], None]
"""Receives events on the thread where they happen; what it raises is logged by type and harms nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStarted:
    """A run begins. `total` is None where it is not known how many rows there are."""

    migration: str
    total: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressShown:
    """From now on a person sees progress, or does not any more. Before the first one, show nothing.

    A `migrate()` that is forecast to be over soon (`silent_ms_max`) has none. `forecast_ms` is what the whole of it
    takes, None where that is unknown.
    """

    visible: bool
    forecast_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationProgressed:
    """So many rows are done; only grows, at most ten times a second.

    `percent` (0 to 99), `rows_per_s` and `left_ms` (a moving average) are None while they are unknown.
    """

    migration: str
    done: int
    total: int | None
    percent: int | None = None
    rows_per_s: float | None = None
    left_ms: int | None = None
    visible: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationEnded:
    """The run has ended, well or not; the last event of it."""

    migration: str
    success: bool
    stats: dict[str, Any] = field(default_factory=dict)
    visible: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationMessage:
    """A sentence for the user; type is info, warning or error.

    Success is only told of where progress was seen; a failure always, with what to do.
    """

    message: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeChanged:
    """The backend looks otherwise than before; verdict and reason are words."""

    verdict: str
    verdict_before: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundStarted:
    """A sync round begins. `sendable` entries wait for nothing but the cloud."""

    reason: str
    sendable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSent:
    """So many entries are on their way, under these numbers; the cloud may or may not get them."""

    entries: int
    epoch: int
    first_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfirmed:
    """The cloud has so many entries for good; `sendable` are left."""

    applied: int
    sendable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryQuarantined:
    """An entry was set aside for a person, whole."""

    item_id: int
    error_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePulled:
    """A page from the cloud is in the store: rows written or deleted, fields that both sides had changed, and rows
    that cannot be taken yet. `collections` are those that may have changed."""

    rows: int
    conflicts: int
    parked: int
    collections: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundEnded:
    """The last event of a round. `ended` says why in a word: "drained", "held", an error's code, and so on."""

    ended: str
    applied: int
    sendable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreChanged:
    """What a subscription hears: these collections may have changed since the last one, or `status()` has."""

    collections: tuple[str, ...]
    status_changed: bool

    def and_then(self, later: "StoreChanged") -> "StoreChanged":
        """The two as one."""
        return StoreChanged(
            collections=tuple(sorted({*self.collections, *later.collections})),
            status_changed=self.status_changed or later.status_changed,
        )


# For analytics: no user, no key, no row, no path.


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMeasured:
    """What one run of a migration cost. `memory_growth_bytes` is how far the process's peak rose, None where the
    system does not say."""

    migration: str
    state: str
    rows: int
    quarantined: int
    duration_ms: int
    cpu_ms: int
    memory_growth_bytes: int | None
    error_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptShown:
    """The app was asked for the user's consent."""

    from_version: str
    to_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptAnswered:
    """The answer came."""

    accepted: bool
    waited_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationDeferred:
    """A migration waits for consent."""

    migration: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStopped:
    """A person stopped a run: cancelled or paused."""

    migration: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressSeen:
    """So long a person looked at progress in one `migrate()`."""

    visible_ms: int
