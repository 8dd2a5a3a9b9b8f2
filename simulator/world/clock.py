"""Time that moves only when the world says so."""

import threading

from syncengine.vocabulary import TimestampMs

BEGINNING_MS = 1_750_000_000_000
"""2025-06-15T15:06:40Z."""


class WorldTime:
    """Milliseconds since the world began."""

    def __init__(self) -> None:
        self.at_ms = 0

    def reach(self, moment_ms: int) -> None:
        """Time never goes back."""
        self.at_ms = max(self.at_ms, moment_ms)


class DeviceClock:
    """The Clock of one machine: it counts as the world does, and its wall clock may be wrong by `skew_ms`."""

    def __init__(self, time: WorldTime) -> None:
        self._time = time
        self.skew_ms = 0

    def now_ms(self) -> TimestampMs:
        return TimestampMs(BEGINNING_MS + self._time.at_ms + self.skew_ms)

    def monotonic_ms(self) -> int:
        return self._time.at_ms

    def wait(self, event: threading.Event, wait_ms: int) -> bool:
        """Nobody else is there who could set it meanwhile."""
        if not event.is_set():
            self.pause(wait_ms)
        return event.is_set()

    def pause(self, wait_ms: int) -> None:
        self._time.at_ms += wait_ms

    def cpu_ms(self) -> int:
        """Work takes no time in this world."""
        return 0

    def boot_id(self) -> str:
        return "the world"
