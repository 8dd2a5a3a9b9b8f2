"""A server that is told to stop ends within a bound, also where a database or somebody else's lock holds it up."""

import logging
import os
import threading
from collections.abc import Callable

from syncengine.clock import Clock

CUT_OFF_MS_MAX = 5_000
"""After the database's calls were cut off, to answer, to close and to end."""

ENDED_BY_FORCE = 1
"""The exit status."""

_log = logging.getLogger("syncengine.server")


class Ending:
    """Begun at SIGTERM: a thread that outlives no process, and whatever hangs in it does not outlive the thread."""

    def __init__(
        self, cut_off: Callable[[], None], *, clock: Clock, leave: Callable[[int], object] = os._exit
    ) -> None:
        self._cut_off = cut_off
        self._clock = clock
        self._leave = leave
        self._never = threading.Event()

    def begin(self, *, stop_seconds_max: int) -> None:
        """Requests at work may take so long; then their calls to the database end; then the process does."""
        threading.Thread(target=self._end, args=(stop_seconds_max * 1000,), name="ending", daemon=True).start()

    def _end(self, stop_ms_max: int) -> None:
        self._clock.wait(self._never, stop_ms_max)
        self._cut_off()
        self._clock.wait(self._never, CUT_OFF_MS_MAX)
        _log.error("ended by force: something was still at work; what was not answered is sent again")
        self._leave(ENDED_BY_FORCE)
