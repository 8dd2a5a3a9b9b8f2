"""Converting rows and reading a large source, each against the same work by hand, in turn in one process."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import apsw
from pydantic import BaseModel, ConfigDict

from syncengine import (
    Collection,
    Engine,
    ListedMigration,
    MigrationRegistry,
    Settings,
    migration,
    open_source,
    tables,
)

ROWS = 20_000
PAIRS = 5

NOTES_V1 = "CREATE TABLE notes (id TEXT NOT NULL PRIMARY KEY, body TEXT NOT NULL, minutes REAL NOT NULL) STRICT"
NOTES_V2 = "CREATE TABLE notes (id TEXT NOT NULL PRIMARY KEY, body TEXT NOT NULL, seconds INTEGER NOT NULL) STRICT"


class NoteV1(BaseModel):
    """A row before."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    id: str
    body: str
    minutes: float


class NoteV2(BaseModel):
    """A row after."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    id: str
    body: str
    seconds: int


notes_tables = tables(id="tables", from_version="1.0.0", to_version="2.0.0", create=(NOTES_V1,))


@migration(id="rows", collection="notes", from_version="2.0.0", to_version="3.0.0", table=NOTES_V2)
def notes_rows(old: NoteV1) -> NoteV2:
    return NoteV2(id=old.id, body=old.body, seconds=round(old.minutes * 60))


LISTED = (
    ListedMigration("tables", "1.0.0 > 2.0.0", "tests.benchmarks.conversion:notes_tables"),
    ListedMigration("rows", "2.0.0 > 3.0.0", "tests.benchmarks.conversion:notes_rows"),
)


def registry(target: str) -> MigrationRegistry:
    collections = [Collection("notes", owner=None)]
    return MigrationRegistry(
        app="bench", baseline="1.0.0", target=target, collections=collections, migrations=LISTED, asks_for_major=False
    )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _print_ratio(name: str, ours: list[float], theirs: list[float]) -> None:
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    mine, other = (statistics.median(times) * 1000 for times in (ours, theirs))
    print(f"{name}: {ratio:.2f} times  ({mine:.1f} ms against {other:.1f} ms)")


def row_migration(folder: Path) -> None:
    """A row function over all rows, against a loop by hand with the same two models without checks."""
    pairs = [_one_row_migration(folder / f"rows-{number}.db") for number in range(PAIRS)]
    _print_ratio(
        f"migration of {ROWS} rows against a loop by hand", [ours for ours, _ in pairs], [by for _, by in pairs]
    )


def _one_row_migration(path: Path) -> tuple[float, float]:
    rows = [(f"n{number:06}", "x" * 200, number / 7) for number in range(ROWS)]
    with Engine.open(path, registry=registry("2.0.0")) as engine:
        engine.migrate()
        with engine.write() as db:
            db.conn.executemany("insert into notes values (?, ?, ?)", rows)
    with Engine.open(path, registry=registry("3.0.0"), settings=Settings(batch_rows=1_000)) as engine:
        ours = _seconds(engine.migrate)
    connection = apsw.Connection(str(path.with_suffix(".hand")))
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute(NOTES_V1)
    with connection:
        connection.executemany("INSERT INTO notes VALUES (?, ?, ?)", rows)
    by_hand = _seconds(lambda: _by_hand(connection))
    connection.close()
    return ours, by_hand


def _by_hand(connection: apsw.Connection) -> None:
    with connection:
        connection.execute(NOTES_V2.replace("TABLE notes", "TABLE notes_2"))
        found = connection.execute("SELECT * FROM notes").fetchall()
        made = [notes_rows.function(NoteV1(id=key, body=body, minutes=minutes)) for key, body, minutes in found]
        values = [(note.id, note.body, note.seconds) for note in made]
        connection.executemany("INSERT INTO notes_2 VALUES (?, ?, ?)", values)
        connection.execute("DROP TABLE notes")
        connection.execute("ALTER TABLE notes_2 RENAME TO notes")


def source_reading(folder: Path) -> None:
    """Elements of a large JSON value as a stream, against json.loads of the whole."""
    points = [{"latitude": 52.5 + number / 1e5, "longitude": 13.4} for number in range(200)]
    walks = json.dumps([{"id": str(number), "coords": points} for number in range(500)])
    dump = folder / "dump.json"
    dump.write_text(json.dumps([["walks", walks]]))

    def stream() -> int:
        return sum(1 for _ in open_source(str(dump)).elements("walks"))

    def whole() -> int:
        return len(json.loads(json.loads(dump.read_text())[0][1]))

    pairs = [(_seconds(stream), _seconds(whole)) for _ in range(PAIRS)]
    _print_ratio(
        "reading 500 walks as a stream against json.loads", [mine for mine, _ in pairs], [by for _, by in pairs]
    )


def report() -> None:
    """Print both ratios."""
    with tempfile.TemporaryDirectory(prefix="syncengine-bench-") as folder:
        row_migration(Path(folder))
        source_reading(Path(folder))


if __name__ == "__main__":
    report()
