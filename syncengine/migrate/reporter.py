"""How a person hears of migrations: start, progress, end. At most ten times a second, and nothing of short ones."""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from syncengine.events import (
    MigrationEnded,
    MigrationMessage,
    MigrationProgressed,
    MigrationStarted,
    ProgressShown,
)
from syncengine.logs import log_event
from syncengine.migrate.forecast import MEASURED_MS_MIN, Forecast

if TYPE_CHECKING:
    from syncengine.clock import Clock

_logger = logging.getLogger("syncengine.migrate")

REPORT_EVERY_MS = 100
LISTENER_SHARE_MAX = 10
"""A slow listener gets its next progress this many times later than it took for the last: a tenth of the run."""


class MigrationProgressReporter:
    """Turns the run's steps into events for a listener; counts only grow and the last event is an end."""

    def __init__(
        self, *, clock: "Clock", listener: Callable[[object], None] | None = None, silent_ms_max: int = 2_000
    ) -> None:
        self._clock = clock
        self._listener = listener
        self._silent_ms_max = silent_ms_max
        self._migration = ""
        self._total: int | None = None
        self._done = 0
        self._forecast = Forecast(now_ms=0)
        self._next_ms: int | None = None
        self._began_ms: int | None = None
        self._visible_since_ms: int | None = None

    def begin(self) -> None:
        """A `migrate()` of any number of migrations begins; nothing is visible yet."""
        self._began_ms, self._visible_since_ms = self._clock.monotonic_ms(), None

    def end(self) -> int:
        """It has ended: nothing is visible any more. How long something was."""
        since_ms, self._began_ms, self._visible_since_ms = self._visible_since_ms, None, None
        if since_ms is None:
            return 0
        self._say(ProgressShown(visible=False))
        return self._clock.monotonic_ms() - since_ms

    @property
    def is_visible(self) -> bool:
        """Does a person see progress now?"""
        return self._visible_since_ms is not None

    def start_migration(self, migration_id: str, total_items: int | None) -> None:
        """A run begins; None where the total is not known."""
        self._migration, self._total, self._done, self._next_ms = migration_id, total_items, 0, None
        self._forecast = Forecast(now_ms=self._clock.monotonic_ms())
        self._say(MigrationStarted(migration=migration_id, total=total_items))

    def update_progress(self, items_processed: int) -> None:
        """So many items are done since the start."""
        self._done = max(self._done, items_processed)
        now_ms = self._clock.monotonic_ms()
        if self._next_ms is not None and now_ms < self._next_ms:
            return
        self._forecast.saw(self._done, now_ms=now_ms)
        self._show_if_long(now_ms)
        self._say(self._progress())
        after_ms = self._clock.monotonic_ms()
        self._next_ms = max(now_ms + REPORT_EVERY_MS, after_ms + (LISTENER_SHARE_MAX - 1) * (after_ms - now_ms))

    def _progress(self) -> MigrationProgressed:
        total = self._total
        return MigrationProgressed(
            migration=self._migration,
            done=self._done,
            total=total,
            percent=min(99, self._done * 100 // total) if total else None,
            rows_per_s=self._forecast.rows_per_s,
            left_ms=self._forecast.left_ms(total),
            visible=self.is_visible,
        )

    def _show_if_long(self, now_ms: int) -> None:
        """Once visible it stays so to the end: what comes and goes is worse than either."""
        if self.is_visible:
            return
        run_ms = now_ms - self._forecast.started_ms
        past_ms = now_ms - (self._began_ms if self._began_ms is not None else self._forecast.started_ms)
        left_ms = self._forecast.left_ms(self._total) if run_ms >= MEASURED_MS_MIN else None
        if past_ms + (left_ms or 0) > self._silent_ms_max:
            self._visible_since_ms = now_ms
            self._say(ProgressShown(visible=True, forecast_ms=None if left_ms is None else past_ms + left_ms))

    def complete_migration(self, success: bool, stats: Mapping[str, Any]) -> None:
        """The run has ended; nothing more is said of it."""
        self._say(
            MigrationEnded(migration=self._migration, success=success, stats=dict(stats), visible=self.is_visible)
        )

    def show_user_feedback(self, message: str, type: str) -> None:  # noqa: A002  (the design's name)
        """A sentence for the user; type is info, warning or error."""
        self._say(MigrationMessage(message=message, type=type))

    def _say(self, event: object) -> None:
        if self._listener is None:
            return
        try:
            self._listener(event)
        except Exception as error:  # noqa: BLE001  (whatever a host's listener raises must not undo a migration)
            log_event(_logger, logging.WARNING, "a listener failed", error=type(error).__name__)
