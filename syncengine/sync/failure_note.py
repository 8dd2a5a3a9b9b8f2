"""A round that failed, in the store: how often in a row, why, and when the background tries again."""

import random
from typing import TYPE_CHECKING

from syncengine.sync.backoff import wait_after_failure_ms

if TYPE_CHECKING:
    from syncengine.outbox.queue import Outbox


def note_failure(
    outbox: "Outbox", owner: str, code: str, *, chance: random.Random, retry_after_ms: int | None = None
) -> None:
    """Count it, with a wait that grows with each in a row. Raises what the store raises; then nothing was noted."""
    wait_ms = wait_after_failure_ms(
        outbox.drain_state(owner).attempts + 1,
        chance=chance,
        settings=outbox.store.settings,
        retry_after_ms=retry_after_ms,
    )
    outbox.record_failure(owner, code, wait_ms=wait_ms)


__all__ = ["note_failure"]
