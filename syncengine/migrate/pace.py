"""What happens between two batches: somebody may ask to stop, and the processor gets its rest."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncengine.clock import Clock

REST_MS_MAX = 1_000
"""However long a batch was, the next one does not wait longer for its turn."""


class Cancelled(Exception):
    """The host asked to stop for good; what was begun is undone whole."""


class Paused(Exception):
    """The host asked for a pause; what has been committed stays, and the migration goes on later."""


class Pace:
    """Looked at between batches. `asked` says "cancel", "pause" or nothing; from any thread."""

    def __init__(
        self, *, clock: "Clock", cpu_share_max: float = 1.0, asked: Callable[[], str | None] = lambda: None
    ) -> None:
        self._clock = clock
        self._cpu_share_max = cpu_share_max
        self._asked = asked
        self._cpu_ms = clock.cpu_ms()
        self._owed_ms = 0.0

    def between_batches(self) -> None:
        """Rest as long as the share of the processor demands. Raises Cancelled or Paused when asked to."""
        self.look()
        now_ms = self._clock.cpu_ms()
        used_ms, self._cpu_ms = now_ms - self._cpu_ms, now_ms
        if self._cpu_share_max >= 1.0:
            return
        # A short batch may use less than the clock's grain: what it owes adds up.
        self._owed_ms += used_ms * (1 / self._cpu_share_max - 1)
        rest_ms = int(min(self._owed_ms, REST_MS_MAX))
        if rest_ms > 0:
            self._owed_ms = 0.0 if rest_ms == REST_MS_MAX else self._owed_ms - rest_ms
            self._clock.pause(rest_ms)

    def look(self) -> None:
        """Raises Cancelled or Paused when asked to; rests never."""
        asked = self._asked()
        if asked == "cancel":
            raise Cancelled
        if asked == "pause":
            raise Paused
