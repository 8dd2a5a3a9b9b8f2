"""A ceiling on bytes per second: a bucket that fills at that rate and lends no more than a moment's worth."""

import threading

from syncengine.clock import Clock

MOMENTS_PER_SECOND = 8
"""The bucket holds an eighth of a second, and no single read or write is larger."""
PIECE_BYTES_MIN = 256


class Bandwidth:
    """Shared by all connections of one backend. `bytes_per_s_max` 0: no ceiling."""

    def __init__(self, bytes_per_s_max: int, *, clock: Clock) -> None:
        self._rate = bytes_per_s_max
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at_ms = 0.0
        """The monotonic moment at which all that was spent so far has been earned."""

    @property
    def piece_bytes_max(self) -> int | None:
        """What is moved at once; None: any size."""
        return max(self._rate // MOMENTS_PER_SECOND, PIECE_BYTES_MIN) if self._rate else None

    def spend(self, size_bytes: int) -> int:
        """Count so many bytes; how many milliseconds have to pass before they may be moved."""
        if not self._rate:
            return 0
        with self._lock:
            now_ms = self._clock.monotonic_ms()
            # What was not used is not saved up beyond a moment.
            begin_ms = max(self._free_at_ms, now_ms - 1000 / MOMENTS_PER_SECOND)
            self._free_at_ms = begin_ms + size_bytes * 1000 / self._rate
            return max(0, round(self._free_at_ms - now_ms))
