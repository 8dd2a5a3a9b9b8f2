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
class RoundEnded:
    """The last event of a round. `ended` says why in a word: "drained", "held", an error's code, and so on."""

    ended: str
    applied: int
    sendable: int
