"""What a host may hear: typed events, sent to its listener. None holds the contents of a row."""

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
class MigrationProgressed:
    """So many rows are done; only grows, at most ten times a second."""

    migration: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationEnded:
    """The run has ended, well or not; the last event of it."""

    migration: str
    success: bool
    stats: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationMessage:
    """A sentence for the user; type is info, warning or error."""

    message: str
    type: str
