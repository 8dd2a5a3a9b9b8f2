"""How a person hears of a migration: start, progress, end. At most ten times a second."""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from syncengine.events import MigrationEnded, MigrationMessage, MigrationProgressed, MigrationStarted
from syncengine.logs import log_event

if TYPE_CHECKING:
    from syncengine.clock import Clock

_logger = logging.getLogger("syncengine.migrate")

REPORT_EVERY_MS = 100


class MigrationProgressReporter:
    """Turns the run's steps into events for a listener; counts only grow and the last event is an end."""

    def __init__(self, *, clock: "Clock", listener: Callable[[object], None] | None = None) -> None:
        self._clock = clock
        self._listener = listener
        self._migration = ""
        self._total: int | None = None
        self._done = 0
        self._said_at_ms: int | None = None

    def start_migration(self, migration_id: str, total_items: int | None) -> None:
        """A run begins; None where the total is not known."""
        self._migration, self._total, self._done, self._said_at_ms = migration_id, total_items, 0, None
        self._say(MigrationStarted(migration=migration_id, total=total_items))

    def update_progress(self, items_processed: int) -> None:
        """So many items are done since the start."""
        self._done = max(self._done, items_processed)
        now = self._clock.monotonic_ms()
        if self._said_at_ms is None or now - self._said_at_ms >= REPORT_EVERY_MS:
            self._said_at_ms = now
            self._say(MigrationProgressed(migration=self._migration, done=self._done, total=self._total))

    def complete_migration(self, success: bool, stats: Mapping[str, Any]) -> None:
        """The run has ended; nothing more is said of it."""
        self._say(MigrationEnded(migration=self._migration, success=success, stats=dict(stats)))

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
