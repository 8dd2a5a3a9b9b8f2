"""How fast a run is and how long it still takes: from its last seconds, and unknown until they say something."""

from collections import deque

WINDOW_MS = 10_000
"""What lies further back says nothing about the speed now."""
SAMPLES_MAX = 100
MEASURED_MS_MIN = 100
"""Shorter than this, a rate is chance."""


class Forecast:
    """Fed with what is done and when; a moving average over the last ten seconds."""

    def __init__(self, *, now_ms: int) -> None:
        self.started_ms = now_ms
        self._seen: deque[tuple[int, int]] = deque([(now_ms, 0)], maxlen=SAMPLES_MAX)

    def saw(self, done: int, *, now_ms: int) -> None:
        """So many are done now."""
        self._seen.append((now_ms, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now_ms - WINDOW_MS:
            self._seen.popleft()

    @property
    def rows_per_s(self) -> float | None:
        """None while too little has been seen."""
        (from_ms, before), (to_ms, done) = self._seen[0], self._seen[-1]
        if to_ms - from_ms < MEASURED_MS_MIN or done <= before:
            return None
        return (done - before) * 1000 / (to_ms - from_ms)

    def left_ms(self, total: int | None) -> int | None:
        """How long the rest takes at this speed; None while the speed or the total is unknown, or the total wrong."""
        rate, done = self.rows_per_s, self._seen[-1][1]
        if rate is None or total is None or done > total:
            return None
        return int((total - done) * 1000 / rate)
