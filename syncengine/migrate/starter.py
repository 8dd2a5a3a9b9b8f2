"""What has to be set around a migration's transaction, because inside it cannot be."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncengine.local.store import Store


class Starter:
    """Around the transaction: wait long for another starter, and switch foreign keys off for a rebuild.

    `PRAGMA foreign_keys` is a no-op inside a transaction, and DROP TABLE of a parent with it ON deletes the
    children by CASCADE without a word. Other threads are held out by the store's lock.
    """

    def __init__(self, store: "Store", *, rebuilds: bool) -> None:
        self._store = store
        self._rebuilds = rebuilds

    def __enter__(self) -> None:
        self._store.check_usable()
        connection = self._store.connection
        connection.set_busy_timeout(self._store.settings.starter_wait_ms_max)
        if self._rebuilds:
            connection.execute("PRAGMA foreign_keys = OFF")

    def __exit__(self, *_: object) -> None:
        connection = self._store.connection
        connection.set_busy_timeout(self._store.settings.busy_wait_ms_max)
        connection.execute("PRAGMA foreign_keys = ON")
