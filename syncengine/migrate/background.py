"""Migrations that wait for no start: run beside the app, in a thread that ends with the engine."""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from syncengine.errors import SyncEngineError
from syncengine.logs import log_event

if TYPE_CHECKING:
    from syncengine.migrate.service import DataMigrationService

_logger = logging.getLogger("syncengine.migrate")


class BackgroundMigrations:
    """One pass over what was left for the background. What was interrupted goes on at the next start."""

    def __init__(self, service: "DataMigrationService", *, user: str | None, then: Callable[[], None]) -> None:
        self._service = service
        self._user = user
        self._then = then
        self._thread = threading.Thread(target=self._run, name="syncengine-background", daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Is there still something to do?"""
        return self._thread.is_alive()

    def stop(self, *, wait_ms: int) -> None:
        """Stop after the present batch, and wait for that no longer than this. Safe to repeat."""
        if self._thread.is_alive():
            self._service.pause()
            if self._thread is not threading.current_thread():
                self._thread.join(wait_ms / 1000)

    def _run(self) -> None:
        try:
            self._service.run_background(self._user)
            self._then()
        except SyncEngineError as error:
            # Told by its type: the store is as it was, and the next start tries again.
            log_event(_logger, logging.WARNING, "background migrations stopped", error=type(error).__name__)
