"""A store in memory, with the engine's tables and no row: what a migration makes of a table is tried there."""

from __future__ import annotations

import os
from threading import RLock

import apsw

from syncengine.local.engine_tables import upgrade_engine_tables
from syncengine.local.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from syncengine.clock import Clock
    from syncengine.settings import Settings


class ScratchStore(Store):
    """Gone when it is closed, or with its last reference."""

    def __init__(self, *, settings: Settings, clock: Clock) -> None:
        # Nothing of a file: no name to claim, no other process.
        self.path = ":memory:"
        self.settings = settings
        self.clock = clock
        self.synchronous = "OFF"
        self.lock = RLock()
        self.migrating = RLock()
        self.is_migrating = False
        self.long_waits = 0
        self.committing = False
        self.app_blocks = []
        self.read_only = None
        self.drifted = {}
        self._pid = os.getpid()
        self._closed = False
        self.connection = apsw.Connection(":memory:")
        upgrade_engine_tables(self)

    def check_file(self) -> None:
        """There is none that could be replaced."""

    def close(self) -> None:
        """Forget everything; safe to repeat."""
        if not self._closed:
            self._closed = True
            self.connection.close(True)

    def __del__(self) -> None:
        self.close()
