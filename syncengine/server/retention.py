"""Forgets what was deleted long ago, once a day, while the server runs."""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from syncengine.clock import Clock

EVERY_MS = 24 * 60 * 60 * 1000
STOP_SECONDS_MAX = 5

_log = logging.getLogger("syncengine.server")


class Forget(Protocol):
    """Forgets what may be forgotten, and ends early when it is over; how many rows."""

    def __call__(self, *, is_over: Callable[[], bool]) -> int: ...


class Retention:
    """Between `start` and `stop`, on a thread of its own: at once, and then once a day."""

    def __init__(self, forget: Forget, *, clock: Clock) -> None:
        self._forget = forget
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, name="retention", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Wait, for a bounded time, for the transaction at work."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS_MAX)

    def _live(self) -> None:
        while True:
            try:
                self._forget(is_over=self._stop.is_set)
            except Exception as error:  # noqa: BLE001 - a database that is away today is there tomorrow
                _log.error("old deletions could not be forgotten", extra={"error": type(error).__name__})
            if self._clock.wait(self._stop, EVERY_MS):
                return
