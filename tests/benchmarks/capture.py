"""What capture adds to an app's edits: the same table with and without an owner, in turn, in processor time.

The bulk is 1,000 rows of twelve columns in one `engine.write()`; the single edits have a `write()` each. "Raw" are
the same statements on SQLite alone, without the block around them, which costs more than a row.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from syncengine import Collection, Engine, ListedMigration, MigrationRegistry, tables
from tests.benchmarks.walks import COLUMNS, converted, new_table, old_rows

BULK_WANTED, ONE_ROW_WANTED = 3.1, 1.4
BULK_ROWS, SINGLE_ROWS = 1_000, 200

INSERT = f"INSERT INTO walks VALUES ('ann', {', '.join('?' * len(COLUMNS))})"
UPDATE = "UPDATE walks SET name = name || '.', steps = steps + 1 WHERE user_id = 'ann' AND id = ?"


def report(*, rounds: int = 15) -> None:
    """Print the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        captured = _opened(Path(folder) / "captured.db", owner="user_id")
        plain = _opened(Path(folder) / "plain.db", owner=None)
        try:
            for name, work, rows, wanted in _WORKS:
                times = [(work(captured, number), work(plain, number)) for number in range(rounds + 1)][1:]
                ratio = statistics.median(ours / theirs for ours, theirs in times)
                microseconds = statistics.median(theirs for _, theirs in times) / rows * 1e6
                goal = f" (wanted: at most {wanted})" if wanted else ""
                print(f"capture, {name}: {ratio:.2f} times{goal}, of {microseconds:.1f} us a row")
        finally:
            captured.close()
            plain.close()


def _opened(path: Path, *, owner: str | None) -> Engine:
    table = new_table("walks").replace("(id TEXT NOT NULL PRIMARY KEY", "(user_id TEXT NOT NULL, id TEXT NOT NULL", 1)
    table = table.replace(") STRICT", ", PRIMARY KEY (user_id, id)) STRICT")
    make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(table,))
    registry = MigrationRegistry(
        app="capture",
        baseline="1.0.0",
        target="2.0.0",
        collections=[Collection("walks", owner=owner)],
        migrations=[ListedMigration("make", "1.0.0 > 2.0.0", make)],
    )
    engine = Engine.open(path, registry=registry)
    engine.migrate()
    return engine


def _rows(count: int, *, name: str) -> list[tuple[object, ...]]:
    rows = (converted({"id": f"{name}-{key}", "payload": payload}) for key, payload in old_rows(count))
    return [tuple(row[column] for column in COLUMNS) for row in rows]


def _timed(work: Callable[[], None]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _bulk(engine: Engine, number: int) -> float:
    rows = _rows(BULK_ROWS, name=f"bulk-{number:03}")

    def work() -> None:
        with engine.write() as db:
            db.conn.executemany(INSERT, rows)

    return _timed(work)


def _bulk_update(engine: Engine, number: int) -> float:
    keys = [row[:1] for row in _rows(BULK_ROWS, name=f"bulk-{number:03}")]

    def work() -> None:
        with engine.write() as db:
            db.conn.executemany(UPDATE, keys)

    return _timed(work)


def _bulk_delete(engine: Engine, number: int) -> float:
    def work() -> None:
        with engine.write() as db:
            db.execute("DELETE FROM walks WHERE id GLOB ?", (f"bulk-{number:03}-*",))

    return _timed(work)


def _single(engine: Engine, number: int) -> float:
    rows = _rows(SINGLE_ROWS, name=f"one-{number:03}")

    def work() -> None:
        for row in rows:
            with engine.write() as db:
                db.execute(INSERT, row)

    return _timed(work)


def _single_raw(engine: Engine, number: int) -> float:
    rows = _rows(SINGLE_ROWS, name=f"raw-{number:03}")
    store = engine._store

    def work() -> None:
        for row in rows:
            with store.transaction():
                store.connection.execute(INSERT, row)

    return _timed(work)


_WORKS: tuple[tuple[str, Callable[[Engine, int], float], int, float | None], ...] = (
    ("1,000 rows inserted", _bulk, BULK_ROWS, BULK_WANTED),
    ("1,000 rows updated in two columns", _bulk_update, BULK_ROWS, None),
    ("1,000 rows deleted", _bulk_delete, BULK_ROWS, None),
    ("a write() of one row", _single, SINGLE_ROWS, ONE_ROW_WANTED),
    ("a raw transaction of one row", _single_raw, SINGLE_ROWS, None),
)

if __name__ == "__main__":
    report()
