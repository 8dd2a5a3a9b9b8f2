"""Pulled pages written to the store, against an upsert loop by hand in the same SQLite, in turn, in processor time.

Both write pages of rows of twelve columns with keys in random order, each page in one durable transaction with the
cursor. By hand: an executemany of one upsert that compares versions, and the cursor's row. Ours also looks for
edits that wait, keeps the version of each row beside the table, and leaves capture off.
"""

import random
import statistics
import tempfile
import time
import tracemalloc
from operator import itemgetter
from pathlib import Path

import apsw

from syncengine import Collection, Engine, ListedMigration, MigrationRegistry, tables
from syncengine.settings import Settings
from syncengine.sync.apply import Applier
from syncengine.sync.calls import PulledRow
from syncengine.sync.position import Position
from tests.benchmarks.walks import COLUMNS, converted, new_table, old_rows

WANTED = 1.5
PAGE_ROWS = 1_000
SETTINGS = Settings()


def report(*, pages: int = 20, rounds: int = 7, pages_many: int = 100) -> None:
    """Print the ratios, for new rows and for rows that are there; then how much memory many pages hold."""
    with tempfile.TemporaryDirectory() as folder:
        for joined in (1, SETTINGS.pull_items_max // PAGE_ROWS):
            _report_ratios(Path(folder), pages, rounds, joined=joined)
        _report_memory(Path(folder) / "many.db", pages_many)


def _report_ratios(folder: Path, pages: int, rounds: int, *, joined: int) -> None:
    """`joined`: ours gets so many pages as one, as the settings ask for."""
    measured: dict[str, list[tuple[float, float]]] = {"new rows": [], "known rows": []}
    for number in range(rounds + 1):
        ours, theirs = _Ours(folder / f"o{joined}-{number}.db"), _ByHand(folder / f"h{joined}-{number}.db")
        for version, times in enumerate(measured.values(), start=1):
            rows = _pages(pages, version=version)
            longer = [sum(rows[at : at + joined], ()) for at in range(0, pages, joined)]
            times.append((ours.cpu_us_per_row(longer), theirs.cpu_us_per_row(rows)))
        ours.close()
        theirs.close()
    for name, times in measured.items():
        ratio = statistics.median(mine / other for mine, other in times[1:])
        mine, other = (statistics.median(column) for column in zip(*times[1:], strict=True))
        print(
            f"applying pages of {joined * PAGE_ROWS:,}, {name}: {ratio:.2f} times (wanted: at most {WANTED}),"
            f" {mine:.1f} us a row against {other:.1f} by hand in pages of {PAGE_ROWS:,}"
        )


def _report_memory(path: Path, pages: int) -> None:
    ours = _Ours(path)
    held = []
    tracemalloc.start()
    for number in range(pages):
        ours.apply(_page(number, version=1))
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    ours.close()
    grown = (held[-1] - held[pages // 10]) / 1024
    print(f"applying {pages * PAGE_ROWS:,} rows in pages: {grown:.0f} KiB more held at the end than after a tenth")


def _pages(count: int, *, version: int) -> list[tuple[PulledRow, ...]]:
    return [_page(number, version=version) for number in range(count)]


def _page(number: int, *, version: int) -> tuple[PulledRow, ...]:
    rows = [converted({"id": key, "payload": payload}) for key, payload in old_rows(PAGE_ROWS)]
    keys = random.Random(number).sample(range(10**9), PAGE_ROWS)
    return tuple(
        PulledRow(
            collection="walks",
            key=f"k{key}",
            version=version * 10**6 + number * PAGE_ROWS + place,
            shape_version="2.0.0",
            body={**row, "id": f"k{key}", "steps": version},
        )
        for place, (key, row) in enumerate(zip(keys, rows, strict=True))
    )


def _table() -> str:
    table = new_table("walks").replace("(id TEXT NOT NULL PRIMARY KEY", "(user_id TEXT NOT NULL, id TEXT NOT NULL", 1)
    return table.replace(") STRICT", ", PRIMARY KEY (user_id, id)) STRICT")


class _Ours:
    def __init__(self, path: Path) -> None:
        make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(_table(),))
        registry = MigrationRegistry(
            app="apply",
            baseline="1.0.0",
            target="2.0.0",
            collections=[Collection("walks")],
            migrations=[ListedMigration("make", "1.0.0 > 2.0.0", make)],
        )
        self._engine = Engine.open(path, registry=registry, user="ann")
        self._engine.migrate()
        self._applier = Applier(self._engine._store, registry, owner="ann")

    def cpu_us_per_row(self, pages: list[tuple[PulledRow, ...]]) -> float:
        begun = time.process_time()
        for page in pages:
            self.apply(page)
        return (time.process_time() - begun) / sum(map(len, pages)) * 1e6

    def apply(self, page: tuple[PulledRow, ...]) -> None:
        at = Position(cursor=str(page[-1].version), server_epoch=1, at_head=False, resync=1)
        done = self._applier.apply(page, position=at)
        assert done.rows == len(page)

    def close(self) -> None:
        self._engine.close()


class _ByHand:
    def __init__(self, path: Path) -> None:
        self._connection = apsw.Connection(str(path))
        for sql in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA foreign_keys = ON"):
            self._connection.execute(sql).fetchall()
        self._connection.execute(_table().replace("id TEXT NOT NULL,", "id TEXT NOT NULL, _version INTEGER,", 1))
        self._connection.execute("CREATE TABLE cursor (only INTEGER PRIMARY KEY, cursor TEXT) STRICT")
        changed = ", ".join(f"{name} = excluded.{name}" for name in (*list(COLUMNS)[1:], "_version"))
        names = ", ".join(("user_id", *COLUMNS, "_version"))
        self._upsert = (
            f"INSERT INTO walks ({names}) VALUES ('ann', {', '.join('?' * len(COLUMNS))}, ?)"
            f" ON CONFLICT (user_id, id) DO UPDATE SET {changed} WHERE excluded._version >= _version"
        )
        self._values = itemgetter(*COLUMNS)

    def cpu_us_per_row(self, pages: list[tuple[PulledRow, ...]]) -> float:
        connection, values = self._connection, self._values
        begun = time.process_time()
        for page in pages:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(self._upsert, [(*values(row.body), row.version) for row in page])
            connection.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?)", (str(page[-1].version),))
            connection.execute("COMMIT")
        return (time.process_time() - begun) / sum(map(len, pages)) * 1e6

    def close(self) -> None:
        self._connection.close()


if __name__ == "__main__":
    report()
