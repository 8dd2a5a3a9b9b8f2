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
        self._before_ms = store.settings.busy_wait_ms_max

    def __enter__(self) -> None:
        connection = self._store.connection
        self._before_ms = connection.execute("PRAGMA busy_timeout").get
        connection.set_busy_timeout(max(self._before_ms, self._store.settings.starter_wait_ms_max))

    def __exit__(self, *_: object) -> None:
        if self._store.is_usable:
            self._store.connection.set_busy_timeout(self._before_ms)
