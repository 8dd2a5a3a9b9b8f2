"""How large the next batch is, and how long the write lock stays free for others after it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.settings import Settings

BATCH_ROWS_MIN = 10
BATCH_ROWS_MAX = 10_000
_STEP_MAX = 2.0
_QUIET_SHARE = 0.1
_BUSY_SHARE = 1.0
_BUSY_BATCHES = 20
_REST_MS_MAX = 200
_CACHE_SIZE = -8_000
"""8 MB instead of SQLite's 2 (sqlite.org/pragma.html#pragma_cache_size); a million rows took 0.6 of the time."""
_CHECKPOINT_PAGES_DEFAULT = 1_000
"""SQLITE_DEFAULT_WAL_AUTOCHECKPOINT (sqlite.org/pragma.html#pragma_wal_autocheckpoint)."""
_CHECKPOINT_PAGES = 8_000
"""32 MiB with SQLite's pages of 4 KiB."""


def adapted(rows: int, *, took_ms: int, settings: "Settings") -> int:
    """The size of the next batch, from that of the last: towards `batch_ms_target`, at most twice or half of it."""
    factor = settings.batch_ms_target / max(took_ms, 1)
    factor = min(max(factor, 1 / _STEP_MAX), _STEP_MAX)
    return min(max(round(rows * factor), BATCH_ROWS_MIN), BATCH_ROWS_MAX)


class Checkpoints:
    """While it lasts, commits of this store leave the checkpoint to `after_batch`, which needs no write lock.

    A checkpoint syncs the file twice; after each thousand pages (SQLite's default) that is as much time again as a
    batch of rows that SQLite converts by itself.
    """

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._pages = 0

    def __enter__(self) -> "Checkpoints":
        self._store.connection.set_wal_hook(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._store.is_usable:
            self._store.connection.wal_autocheckpoint(_CHECKPOINT_PAGES_DEFAULT)

    def _note(self, _connection: object, _database: str, pages: int) -> int:
        self._pages = pages
        return 0  # SQLITE_OK

    def after_batch(self) -> None:
        """Copy the write-ahead log into the file when it is large enough; readers and writers go on meanwhile."""
        if self._pages >= _CHECKPOINT_PAGES:
            self._pages = 0
            self._store.query("PRAGMA wal_checkpoint(PASSIVE)")


class LargerCache:
    """While it lasts, SQLite keeps more pages in memory: every batch comes back to the same leaves of the indexes.

    Only where SQLite converts the rows, so that there are none of them in Python's memory.
    """

    def __init__(self, store: "Store", *, wanted: bool) -> None:
        self._store = store
        self._wanted = wanted
        self._before = int(store.query("PRAGMA cache_size")[0][0])

    def __enter__(self) -> None:
        if self._wanted:
            self._store.query(f"PRAGMA cache_size = {_CACHE_SIZE}")

    def __exit__(self, *_: object) -> None:
        if self._wanted and self._store.is_usable:
            self._store.query(f"PRAGMA cache_size = {self._before}")


class Courtesy:
    """Rests between batches, longer while others write.

    Who waits for SQLite's write lock looks every 100 ms or oftener (sqlite3_busy_timeout), whether it is free at that
    very moment: a lock that is held back to back would starve them.
    """

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._version = store.data_version()
        self._busy_batches = 0

    def after(self, held_ms: int) -> None:
        """Rest for a share of the time that the lock was held."""
        version = self._store.data_version()
        if version != self._version:
            self._version, self._busy_batches = version, _BUSY_BATCHES
        share = _BUSY_SHARE if self._busy_batches else _QUIET_SHARE
        self._busy_batches = max(self._busy_batches - 1, 0)
        rest_ms = min(round(held_ms * share), _REST_MS_MAX)
        if rest_ms > 0:
            self._store.clock.pause(rest_ms)
