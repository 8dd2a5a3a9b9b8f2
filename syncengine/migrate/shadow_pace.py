"""How large the next batch is, and how long the write lock stays free for others after it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.settings import Settings

BATCH_ROWS_MIN = 10
BATCH_ROWS_MAX = 10_000
_STEP_MAX = 2.0
_QUIET_SHARE = 0.2
_BUSY_SHARE = 1.0
_BUSY_BATCHES = 20
_REST_MS_MAX = 200


def adapted(rows: int, *, took_ms: int, settings: "Settings") -> int:
    """The size of the next batch, from that of the last: towards `batch_ms_target`, at most twice or half of it."""
    factor = settings.batch_ms_target / max(took_ms, 1)
    factor = min(max(factor, 1 / _STEP_MAX), _STEP_MAX)
    return min(max(round(rows * factor), BATCH_ROWS_MIN), BATCH_ROWS_MAX)


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
