"""What a round did, and whom it tells while it works."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from syncengine.errors import SyncEngineError
from syncengine.events import Listener

if TYPE_CHECKING:
    from syncengine.outbox.queue import Outbox

ALL_SENT = frozenset({"drained", "too_old_to_read"})
"""Endings of a round that has nothing left to send, but what is held."""
DONE = ALL_SENT | {"bounded"}
"""Endings of a round that has done what it could, and is a success."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """What a round did. `ended`: "drained" (all that may be sent was sent; see `held`), "bounded" (more is left for
    the next round), "another_process" (it is sending), "too_old_to_read" (all was sent; the cloud lets only a newer
    version of the app read), "upgrade_app" (and neither send), "stopped", or the code of `error`."""

    ended: str
    pushes: int = 0
    applied: int = 0
    pulled: int = 0
    """Rows that came from the cloud."""
    items: tuple[int, ...] = ()
    """Quarantine items that it made."""
    sendable: int = 0
    """Entries that are left and wait for nothing but the cloud."""
    held_by_item: dict[int, int] = field(default_factory=dict)
    """How many entries wait behind each quarantine item, until a person has decided about it."""
    error: SyncEngineError | None = None

    @property
    def held(self) -> int:
        """Entries that are left and may not be sent, for a quarantine item is before them."""
        return sum(self.held_by_item.values())

    @property
    def held_behind(self) -> tuple[int, ...]:
        """The numbers of these items."""
        return tuple(self.held_by_item)

    def __repr__(self) -> str:
        """How many items, for there may be thousands."""
        told = f"pushes={self.pushes}, applied={self.applied}, pulled={self.pulled}, items={len(self.items)}"
        error = type(self.error).__name__ if self.error else None
        held = f", held={self.held}" if self.held else ""
        return f"RoundReport(ended={self.ended!r}, {told}, sendable={self.sendable}{held}, error={error})"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushReport:
    """`delivered` entries took effect; `remaining` are still here. `reason`: "drained", "held" (behind quarantine),
    "time_is_over", "paused", or the code of the error that stopped it."""

    delivered: int
    remaining: int
    reason: str
    held_behind: tuple[int, ...] = ()
    """The quarantine items that a person has to decide about before the rest can go."""


def flushed(outbox: "Outbox", user: str | None, *, delivered: int, ended: str) -> FlushReport:
    """The end of a flush, with what is left of the user's queue."""
    remaining, held = (0, ()) if user is None else (outbox.depth(user), tuple(outbox.held(user)))
    if ended in ALL_SENT:
        ended = "held" if remaining else "drained"
    return FlushReport(delivered=delivered, remaining=remaining, reason=ended, held_behind=held)


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
