"""How far a migration is, in words."""

from syncengine.cli.showing import counted
from syncengine.events import MigrationProgressed


def said_of(event: MigrationProgressed) -> str:
    """`100 of 2000 rows (5 %), 100 a second, 19 s left`; a total may be an estimate: the end alone says 100 %."""
    total = f" of {event.total}" if event.total else ""
    parts = [f"{event.done}{total} rows" if total else counted(event.done, "row", "rows")]
    if event.percent is not None:
        parts[0] += f" ({event.percent} %)"
    if event.rows_per_s is not None:
        parts.append(f"{round(event.rows_per_s)} a second")
    if event.left_ms is not None:
        parts.append(f"{-(-event.left_ms // 1000)} s left")
    return ", ".join(parts)
