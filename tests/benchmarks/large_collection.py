"""A large collection rewritten beside the live table: who waits how long, how much memory, how much time.

`python -m tests.benchmarks.large_collection` takes about five minutes and 2 GB in the folder for temporary files.
"""

import shutil
import subprocess
import sys
import tempfile
import threading
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
    add,
    cast,
    declared,
    migration,
    tables,
)

ROWS = 1_000_000
FEW_ROWS = 100_000
BY_HAND_WANTED = 1.5
NOTE = "x" * 180

NOTES_V1 = (
    "CREATE TABLE notes (id TEXT NOT NULL PRIMARY KEY, body TEXT NOT NULL, minutes REAL NOT NULL, day TEXT) STRICT"
)
NOTES_V2 = (
    "CREATE TABLE notes (id TEXT NOT NULL PRIMARY KEY, body TEXT NOT NULL, seconds INTEGER NOT NULL, day TEXT) STRICT"
)
OTHERS = "CREATE TABLE others (id TEXT NOT NULL PRIMARY KEY, n INTEGER) STRICT"
BY_DAY = "CREATE INDEX notes_by_day ON notes (day)"


class NoteV1(BaseModel):
    """A row before."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    id: str
    body: str
    minutes: float
    day: str | None


class NoteV2(BaseModel):
    """A row after."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    id: str
    body: str
    seconds: int
    day: str | None


made = tables(id="made", from_version="1.0.0", to_version="2.0.0", create=(f"{NOTES_V1}; {BY_DAY}", OTHERS))


@migration(
    id="by-code",
    collection="notes",
    from_version="2.0.0",
    to_version="3.0.0",
    table=NOTES_V2,
    backup="never",
    consent="auto",
)
def by_code(old: NoteV1) -> NoteV2:
    return NoteV2(id=old.id, body=old.body, seconds=round(old.minutes * 60), day=old.day)


by_sql = declared(
    id="by-sql",
    collection="notes",
    from_version="2.0.0",
    to_version="3.0.0",
    changes=(cast("minutes", int), add("colour", "TEXT", default="grey")),
    backup="never",
    consent="auto",
)


def registry(target: str, step: str = "by_code") -> MigrationRegistry:
    listed = (
        ListedMigration("made", "1.0.0 > 2.0.0", "tests.benchmarks.large_collection:made"),
        ListedMigration(step.replace("_", "-"), "2.0.0 > 3.0.0", f"tests.benchmarks.large_collection:{step}"),
    )
    return MigrationRegistry(
        app="bench",
        baseline="1.0.0",
        target=target,
        collections=[Collection("notes", owner=None), Collection("others", owner=None)],
        migrations=listed,
    )


def make_store(path: Path, rows: int) -> None:
    """A store with so many notes."""
    with Engine.open(path, registry=registry("2.0.0")) as engine:
        engine.migrate()
        with engine.write() as db:
            db.conn.executemany(
                "INSERT INTO notes VALUES (?, ?, ?, ?)",
                ((f"n{number:08}", NOTE, float(number % 60), f"2025-{number % 365:03}") for number in range(rows)),
            )


def resident_mb() -> float:
    """Memory of this process that is really there."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


class Watch(threading.Thread):
    """The highest memory, looked at every 20 ms."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.start_mb = self.peak_mb = resident_mb()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            self.peak_mb = max(self.peak_mb, resident_mb())


class Writer(threading.Thread):
    """Writes every 20 ms and remembers how long it took."""

    def __init__(self, write: Callable[[int], object]) -> None:
        super().__init__(daemon=True)
        self._write = write
        self.waits: list[float] = []
        self.over = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.over.wait(0.02):
            begun = time.perf_counter()
            self._write(number)
            self.waits.append(time.perf_counter() - begun)
            number += 1

    def stop(self) -> str:
        self.over.set()
        self.join()
        waits = sorted(self.waits)
        middle, late = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
        most = f"median {middle * 1000:.0f} ms, 99 % {late * 1000:.0f} ms"
        return f"{len(waits)} writes, {most}, longest {waits[-1]:.2f} s"


OLD_VERSION = """
import json, sys, time
import apsw
connection = apsw.Connection(sys.argv[1])
connection.set_busy_timeout(30_000)
connection.execute("PRAGMA foreign_keys = ON").fetchall()
rows, waits, number = int(sys.argv[2]), [], 0
print("ready", flush=True)
while True:
    first, second = f"n{number * 7919 % rows:08}", f"n{number * 104729 % rows:08}"
    try:
        for sql, values in (
            ("UPDATE notes SET minutes = minutes + 1 WHERE id = ?", (first,)),
            ("INSERT INTO notes VALUES (?, 'late', 1, NULL)", (f"late{number}",)),
            ("DELETE FROM notes WHERE id = ?", (second,)),
        ):
            begun = time.perf_counter()
            connection.execute(sql, values)
            waits.append(time.perf_counter() - begun)
            time.sleep(0.01)
    except apsw.SQLError:
        break  # the table has another shape now: the old version is told to stop
    number += 1
waits.sort()
print(json.dumps([len(waits), waits[len(waits) // 2], waits[len(waits) * 99 // 100], waits[-1]]), flush=True)
"""


def with_writers(folder: Path) -> None:
    """A row function over a million rows, while this process and the app's old version write."""
    path = folder / "written.db"
    make_store(path, ROWS)
    with Engine.open(path, registry=registry("3.0.0")) as engine:
        engine.migrations  # noqa: B018  (its imports are not what is measured)

        def write(number: int) -> None:
            with engine.write() as db:
                db.execute("INSERT INTO others VALUES (?, 1)", (f"o{number}",))

        old = subprocess.Popen(
            [sys.executable, "-c", OLD_VERSION, str(path), str(ROWS)], stdout=subprocess.PIPE, text=True
        )
        assert old.stdout is not None
        old.stdout.readline()
        writer = Writer(write)
        writer.start()
        begun = time.perf_counter()
        report = engine.migrate()
        took = time.perf_counter() - begun
        assert report is not None
        result = report.results[-1]
        print(f"{result.counts.read} rows by a row function, with writers: {took:.1f} s, {result.batches} batches")
        print(f"  this process, another collection: {writer.stop()}")
        print(
            f"  the old version, this collection (count, median, 99 %, longest, in s): {old.communicate()[0].strip()}"
        )


def memory(folder: Path) -> None:
    """The highest memory minus that at the start, for few rows and for many."""
    for rows in (FEW_ROWS, ROWS):
        path = folder / f"memory-{rows}.db"
        make_store(path, rows)
        script = (
            "import sys; from pathlib import Path; from tests.benchmarks.large_collection import peak_of;"
            "peak_of(Path(sys.argv[1]))"
        )
        done = subprocess.run([sys.executable, "-c", script, str(path)], check=True, capture_output=True, text=True)
        print(f"memory for {rows} rows: {done.stdout.strip()}")
        path.unlink()


def peak_of(path: Path) -> None:
    """Migrate a store, and print how much more memory it took than there was."""
    with Engine.open(path, registry=registry("3.0.0")) as engine:
        engine.plan()
        watch = Watch()
        watch.start()
        begun = time.perf_counter()
        engine.migrate()
        took = time.perf_counter() - begun
        watch.over.set()
        watch.join()
    print(f"{watch.peak_mb - watch.start_mb:.1f} MB above the start, {took:.1f} s")


def against_sql(folder: Path) -> None:
    """Declared changes, which SQLite makes, against one INSERT … SELECT by hand into a table with its index."""
    source = folder / "sql.db"
    make_store(source, ROWS)
    ratios = []
    for number in range(3):
        ours, by_hand = folder / f"ours-{number}.db", folder / f"hand-{number}.db"
        shutil.copy(source, ours)
        shutil.copy(source, by_hand)
        mine, other = _ours(ours), _by_hand(by_hand)
        print(f"  {mine:.2f} s against {other:.2f} s")
        ratios.append(mine / other)
        ours.unlink()
        by_hand.unlink()
    print(
        f"declared changes of {ROWS} rows against one INSERT … SELECT by hand: {sorted(ratios)[1]:.2f} times"
        f" (wanted: at most {BY_HAND_WANTED})"
    )


def _ours(path: Path) -> float:
    with Engine.open(path, registry=registry("3.0.0", "by_sql"), settings=Settings()) as engine:
        engine.plan()
        begun = time.perf_counter()
        engine.migrate()
        return time.perf_counter() - begun


def _by_hand(path: Path) -> float:
    connection = apsw.Connection(str(path))
    begun = time.perf_counter()
    with connection:
        connection.execute(
            NOTES_V1.replace("TABLE notes", "TABLE new_notes").replace("day TEXT", "day TEXT, colour TEXT")
        )
        connection.execute(BY_DAY.replace("notes", "new_notes"))
        connection.execute("INSERT INTO new_notes SELECT id, body, CAST(minutes AS INTEGER), day, 'grey' FROM notes")
        connection.execute("ALTER TABLE notes RENAME TO old_notes")
        connection.execute("ALTER TABLE new_notes RENAME TO notes")
    took = time.perf_counter() - begun
    connection.close()
    return took


def report() -> None:
    """Print it all."""
    with tempfile.TemporaryDirectory(prefix="syncengine-bench-") as folder:
        with_writers(Path(folder))
        memory(Path(folder))
        against_sql(Path(folder))


if __name__ == "__main__":
    report()
