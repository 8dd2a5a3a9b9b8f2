"""SQLite's page cache in a long transaction: what is written goes to the -wal in good order, and once."""

from typing import TYPE_CHECKING

import apsw

if TYPE_CHECKING:
    from syncengine.local.store import Store


class PageCache:
    """The cache of a store's connection while one transaction writes more than fits into it.

    A full cache gives its changed pages to the -wal one by one, and not the oldest first: SQLite begins to look
    somewhere in the list of them (pcache.c, `pSynced`). So it often takes what is changed again at once, and writes
    it twice.
    """

    def __init__(self, store: "Store") -> None:
        self._connection = store.connection
        self._spilled = self._pages_spilled()

    def settle(self) -> None:
        """Write out all changed pages if the cache has been full since the last time. The transaction goes on."""
        if self._pages_spilled() > self._spilled:
            self._connection.cache_flush()
            self._spilled = self._pages_spilled()

    def _pages_spilled(self) -> int:
        return self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_SPILL)[0]
