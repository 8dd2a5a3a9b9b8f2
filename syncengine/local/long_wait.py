"""Waiting longer for the store's write lock than an app's own writes do, for what a person asked for once."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from syncengine.local.store import Store


class LongWait:
    """`with LongWait(store):` every write of the store waits up to `starter_wait_ms_max`; as before afterwards.

    Other writers take turns with this one by chance only, so the usual time may pass beside a busy one.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> None:
        # The connection is one thread's at a time, also for this.
        with self._store.lock:
            self._store.long_waits += 1
            self._store.connection.set_busy_timeout(self._store.settings.starter_wait_ms_max)

    def __exit__(self, *_: object) -> None:
        with self._store.lock:
            self._store.long_waits -= 1
            # The last of those that wait long, in whatever order they end.
            if self._store.is_usable and self._store.long_waits == 0:
                self._store.connection.set_busy_timeout(self._store.settings.busy_wait_ms_max)
