"""What has to be set around a migration's transaction, because inside it cannot be."""

from typing import TYPE_CHECKING

from syncengine.local.long_wait import LongWait

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
        self._wait = LongWait(store)

    def __enter__(self) -> None:
        self._store.check_usable()
        self._wait.__enter__()
        if self._rebuilds:
            self._store.connection.execute("PRAGMA foreign_keys = OFF")

    def __exit__(self, *_: object) -> None:
        self._wait.__exit__()
        self._store.connection.execute("PRAGMA foreign_keys = ON")
