"""What capture adds to an inserted row, against the triggers of PowerSync's raw tables.

Each side is measured with and without its triggers, in processor time; what is compared is the difference. Both run
in the SQLite of this Python, on a file, WAL, synchronous = NORMAL. Theirs needs the core extension of PowerSync,
which is taken from the npm package `@powersync/node` into a temporary folder. Where it cannot be had, the same
trigger writes the same text to a plain table: less than theirs does, so a lower bound for theirs. "Explicit" and
"inferred" are the two ways of docs.powersync.com/client-sdks/advanced/raw-tables: written by hand, or made by the
extension.

    python -m tests.benchmarks.capture_peers [--extension libpowersync_x64.linux.so]
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apsw

from syncengine import Engine
from tests.benchmarks.peers_sync import npm
from tests.benchmarks.peers_sync.walks_app import INSERT, opened, values_of, walks
from tests.benchmarks.walks import COLUMNS, new_table

PACKAGE = "@powersync/node@1.1.0"
"""Core 0.5.3; its shared libraries are in the package, so no install script has to download them."""
LIBRARIES = {
    ("linux", "x86_64"): "libpowersync_x64.linux.so",
    ("linux", "aarch64"): "libpowersync_aarch64.linux.so",
    ("darwin", "x86_64"): "libpowersync_x64.macos.dylib",
    ("darwin", "arm64"): "libpowersync_aarch64.macos.dylib",
}
WANTED = 0.5
BULK_ROWS, BULKS, SINGLE_ROWS = 1_000, 3, 200

# docs.powersync.com, client-sdks/advanced/raw-tables: "Explicit triggers". What it writes to takes no other values.
_DATA = ", ".join(f"'{name}', NEW.{name}" for name in COLUMNS if name != "id")
TRIGGER = (
    "CREATE TRIGGER walks_insert AFTER INSERT ON walks FOR EACH ROW BEGIN"
    " INSERT INTO powersync_crud (op, id, type, data) VALUES ('PUT', NEW.id, 'walks', json_object({data})); END"
)
INFERRED = "SELECT powersync_create_raw_table_crud_trigger(?, 'walks_insert', 'INSERT')"
PLAIN_QUEUE = "CREATE TABLE powersync_crud (entry INTEGER PRIMARY KEY AUTOINCREMENT, op, id, type, data)"

Values = Sequence[tuple[Any, ...]]


class Ours:
    """An engine; each transaction is a `write()`."""

    def __init__(self, path: Path, *, captured: bool) -> None:
        self._engine: Engine = opened(path, captured=captured)

    def bulk(self, rows: Values) -> None:
        """All rows in one transaction."""
        with self._engine.write() as db:
            db.conn.executemany(INSERT, rows)

    def singly(self, rows: Values) -> None:
        """A transaction for each."""
        for row in rows:
            with self._engine.write() as db:
                db.execute(INSERT, row)

    def queued(self) -> int:
        """How many edits wait."""
        return self._engine.status().outbox.waiting

    def close(self) -> None:
        """Closes the file."""
        self._engine.close()


class Theirs:
    """A connection; `trigger` is "explicit", "inferred", "plain table" or ""."""

    def __init__(self, path: Path, *, trigger: str, extension: Path | None) -> None:
        self._connection = connection = apsw.Connection(str(path))
        for sql in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON", "recursive_triggers = ON"):
            connection.execute(f"PRAGMA {sql}").fetchall()
        self._queue = "ps_crud" if extension and trigger in ("explicit", "inferred") else "powersync_crud"
        if self._queue == "ps_crud":
            connection.enable_load_extension(True)
            connection.load_extension(str(extension), "sqlite3_powersync_init")
            with connection:
                connection.execute("SELECT powersync_init()").fetchall()
        else:
            connection.execute(PLAIN_QUEUE)
        connection.execute(new_table("walks"))
        if trigger == "inferred":
            connection.execute(INFERRED, (json.dumps({"name": "walks", "table_name": "walks"}),)).fetchall()
        elif trigger:
            connection.execute(TRIGGER.format(data=_DATA))
        self._insert = f"INSERT INTO walks VALUES ({', '.join('?' * len(COLUMNS))})"

    def bulk(self, rows: Values) -> None:
        """All rows in one transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(self._insert, rows)
        self._connection.execute("COMMIT")

    def singly(self, rows: Values) -> None:
        """A transaction for each."""
        for row in rows:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(self._insert, row)
            self._connection.execute("COMMIT")

    def queued(self) -> int:
        """How many edits wait."""
        return int(self._connection.execute(f"SELECT count(*) FROM {self._queue}").get)

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()


def report(*, rounds: int = 15, extension: Path | None = None) -> None:
    """Print what each adds per row, and the ratios."""
    with tempfile.TemporaryDirectory(prefix="syncengine-bench-") as name:
        folder = Path(name)
        if extension is None:
            extension = _fetched(folder)
        sides = _sides(folder, extension)
        try:
            _report_inserts(sides, rounds)
        finally:
            for side in sides.values():
                side.close()


def _fetched(folder: Path) -> Path | None:
    library = LIBRARIES.get((sys.platform, platform.machine()))
    if library is None or not npm.have_node():
        return None
    try:
        return npm.unpack(PACKAGE, folder) / "lib" / library
    except subprocess.CalledProcessError:
        return None


def _sides(folder: Path, extension: Path | None) -> dict[str, Ours | Theirs]:
    sides: dict[str, Ours | Theirs] = {
        "ours": Ours(folder / "captured.db", captured=True),
        "ours, no capture": Ours(folder / "uncaptured.db", captured=False),
    }
    triggers = ["explicit", "inferred"] if extension else []
    for trigger in (*triggers, "plain table", ""):
        sides[trigger] = Theirs(folder / f"theirs {trigger}.db", trigger=trigger, extension=extension)
    return sides


def _report_inserts(sides: dict[str, Ours | Theirs], rounds: int) -> None:
    bulk = _added(sides, rounds, BULK_ROWS, BULKS, name="bulk", work=lambda side, rows: side.bulk(rows))
    single = _added(sides, rounds, SINGLE_ROWS, 1, name="one", work=lambda side, rows: side.singly(rows))
    rows = (rounds + 1) * (BULK_ROWS * BULKS + SINGLE_ROWS)
    assert all(side.queued() == (0 if name in _BASE.values() else rows) for name, side in sides.items())
    if "explicit" not in sides:
        print(
            "PowerSync's extension cannot be had here: its trigger writes to a plain table, a lower bound for theirs"
        )
    print(f"{rounds} rounds, load {os.getloadavg()[0]:.1f}; microseconds of processor time added per inserted row:")
    for what, added in ((f"{BULK_ROWS:,} rows in a transaction", bulk), ("one row in a transaction", single)):
        told = ", ".join(f"{name} {statistics.median(times):.1f}" for name, times in added.items())
        print(f"  {what}: {told}")
    for what, added, goal in (("", bulk, f" (wanted: under {WANTED})"), (", one row at a time", single, "")):
        for name in [name for name in added if name != "ours"]:
            ratio = statistics.median(ours / theirs for ours, theirs in zip(added["ours"], added[name], strict=True))
            print(f"  capture adds {ratio:.2f} of {_TOLD[name]}{what}{goal if name != 'plain table' else ''}")


_BASE = {"ours": "ours, no capture", "explicit": "", "inferred": "", "plain table": ""}
_TOLD = {
    "explicit": "PowerSync's explicit trigger",
    "inferred": "the trigger that PowerSync makes itself",
    "plain table": "the explicit trigger on a plain table",
}


def _added(
    sides: dict[str, Ours | Theirs],
    rounds: int,
    count: int,
    times: int,
    *,
    name: str,
    work: Callable[[Ours | Theirs, Values], None],
) -> dict[str, list[float]]:
    """Microseconds per row above the side without triggers, for each round; the first round is not counted."""
    chance = random.Random(1)
    found: dict[str, list[float]] = {side: [] for side in sides if side in _BASE}
    for number in range(rounds + 1):
        taken = dict.fromkeys(sides, 0.0)
        for part in range(times):
            rows = values_of(list(walks(count, prefix=f"{name}-{number:03}-{part}")))
            for side in chance.sample(sorted(sides), len(sides)):
                taken[side] += _timed(partial(work, sides[side], rows))
        for side, added in found.items():
            added.append((taken[side] - taken[_BASE[side]]) / (count * times) * 1e6)
    return {side: added[1:] for side, added in found.items()}


def _timed(work: Callable[[], None]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--extension", type=Path, help="PowerSync's core extension, in place of the package from npm")
    chosen = parser.parse_args()
    report(rounds=chosen.rounds, extension=chosen.extension)
