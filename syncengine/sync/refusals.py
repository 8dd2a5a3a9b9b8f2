"""What is done with a batch that the cloud did not take: smaller ones, until what is at fault stands alone."""

from typing import TYPE_CHECKING

from syncengine.errors import BackendUnavailable, BackendUnreachable, BatchRefused, RateLimited, SyncEngineError
from syncengine.outbox.entry import Batch

if TYPE_CHECKING:
    from syncengine.outbox.queue import Outbox
    from syncengine.settings import Settings

UNAVAILABLE_FACTOR = 4
"""A lone entry that the cloud breaks on (5xx) gets this many times the tries of one that it refuses (4xx)."""


class Refusals:
    """Those of one round. Each method says which quarantine items came of it."""

    def __init__(self, outbox: "Outbox", owner: str, *, settings: "Settings") -> None:
        self._outbox = outbox
        self._owner = owner
        self._settings = settings
        self._in_a_row = 0

    def end(self) -> None:
        """The cloud took something."""
        self._in_a_row = 0

    def refused(self, batch: Batch, error: BatchRefused) -> tuple[int, ...]:
        """The cloud cannot read the request: halve it, down to the one entry or group at fault."""
        if batch.is_one_unit:
            return self._alone(batch, error, attempts_max=self._settings.attempts_of_one_entry_max)
        self._in_a_row += 1
        if error.status == 413 or self._in_a_row >= self._settings.attempts_before_halving:
            self._in_a_row = 0
            self._halve(batch)
        return ()

    def not_taken(self, batch: Batch, error: BackendUnavailable | BackendUnreachable) -> tuple[int, ...]:
        """No answer, or 5xx: a smaller batch next time, for this one may be what the cloud or the line breaks on.

        A lone entry goes to quarantine only after many rounds in which the cloud answered hello and broke on it.
        """
        if isinstance(error, RateLimited) or getattr(error, "retry_after_ms", None) is not None:
            return ()
        if not batch.is_one_unit:
            self._halve(batch)
        elif isinstance(error, BackendUnavailable):
            attempts_max = UNAVAILABLE_FACTOR * self._settings.attempts_of_one_entry_max
            return self._alone(batch, error, attempts_max=attempts_max)
        return ()

    def _halve(self, batch: Batch) -> None:
        self._outbox.resize_batches(self._owner, entries_max=len(batch.entries) // 2)

    def _alone(self, batch: Batch, error: SyncEngineError, *, attempts_max: int) -> tuple[int, ...]:
        if batch.is_empty_numbers:
            raise error  # it cannot be at fault
        attempts = self._outbox.count_attempt(batch.entries, error_code=error.code())
        if attempts < attempts_max:
            return ()
        message = f"the backend could not take it, {attempts} times, sent alone"
        return self._outbox.void(batch.entries, code=error.code(), message=message)


__all__ = ["Refusals"]
