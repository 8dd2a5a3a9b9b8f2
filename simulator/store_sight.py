"""What is in a database file, seen from outside by another process, while its owner runs or after it was killed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncengine.local.connection import open_reader

if TYPE_CHECKING:
    import apsw

BUSY_WAIT_MS_MAX = 5_000


class Sight:
    """One moment of a file; it cannot be written to."""

    def __init__(self, connection: "apsw.Connection") -> None:
        self._connection = connection

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self._connection.execute(sql, values).fetchall()

    def bodies(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """The same, each row by the names of its columns."""
        cursor = self._connection.execute(sql, values)
        return [dict(zip([name for name, _ in cursor.get_description()], row, strict=True)) for row in cursor]


@contextmanager
def sight(path: Path) -> Iterator[Sight]:
    """Look into a file that exists."""
    connection = open_reader(str(path), busy_wait_ms=BUSY_WAIT_MS_MAX)
    try:
        connection.execute("BEGIN")
        yield Sight(connection)
    finally:
        connection.close(True)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSight:
    """How far the queue has got, and what was set aside. `version` is None before the first migration."""

    version: str | None
    waiting: int
    claimed: int
    confirmed: int
    quarantined: int
    quarantined_without_reason: int


def see_queue(store: Path) -> QueueSight:
    """The queue as it is committed now."""
    with sight(store) as seen:
        (body,) = seen.bodies(
            """
            SELECT schema_version AS version, waiting, claimed, confirmed, quarantined,
              (SELECT count(*) FROM _sync_quarantine WHERE trim(error_text) = '') AS quarantined_without_reason
            FROM sync_status
            """
        )
    return QueueSight(**body)
