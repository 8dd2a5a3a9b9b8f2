"""What a round did, and whom it tells while it works."""

from collections.abc import Callable
from dataclasses import dataclass

from syncengine.errors import SyncEngineError
from syncengine.events import Listener


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """What a round did. `ended`: "drained" (nothing left to send), "bounded" (more is left for the next round),
    "another_process" (it is sending), "upgrade_app", "stopped", or the code of `error`."""

    ended: str
    pushes: int = 0
    applied: int = 0
    pulled: int = 0
    """Rows that came from the cloud."""
    items: tuple[int, ...] = ()
    """Quarantine items that it made."""
    sendable: int = 0
    """Entries that are left and wait for nothing but the cloud."""
    error: SyncEngineError | None = None

    def __repr__(self) -> str:
        """How many items, for there may be thousands."""
        told = f"pushes={self.pushes}, applied={self.applied}, pulled={self.pulled}, items={len(self.items)}"
        error = type(self.error).__name__ if self.error else None
        return f"RoundReport(ended={self.ended!r}, {told}, sendable={self.sendable}, error={error})"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushReport:
    """`delivered` entries took effect; `remaining` are still here. `reason`: "drained", "held" (behind quarantine),
    "time_is_over", "paused", or the code of the error that stopped it."""

    delivered: int
    remaining: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What the reading part of a round did. `ended`: "at_head", "bounded" (more is left for the next round),
    "another_process", or why nothing was read."""

    ended: str
    rows: int = 0
    items: tuple[int, ...] = ()
    """Quarantine items that it made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundHooks:
    """What a round calls beside the cloud: `settle` inside each transaction that confirms, `tell` with events, and
    `check` inside each transaction that takes the lease or renews it: what it raises ends the round."""

    settle: Callable[[str], None] | None = None
    tell: Listener = lambda event: None
    check: Callable[[], None] = lambda: None
