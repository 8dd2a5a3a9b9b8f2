"""Pulled pages written to the store, against an upsert loop by hand in the same SQLite, in turn, in processor time.

Both write pages of rows of twelve columns with keys in random order, each page in one durable transaction with the
cursor; then all of them once more, in newer versions. By hand: an executemany of one upsert that compares versions,
and the cursor's row. Ours also looks for edits that wait, keeps the version of each row beside the table, and leaves
capture off. "Applying" begins with rows in memory. "Reading and applying" begins with the bytes of the answer: by
hand they are parsed with orjson, and nothing is checked.
"""

import random
import statistics
import tempfile
import time
import tracemalloc
from operator import itemgetter
from pathlib import Path
from typing import Any

import apsw
import orjson

from syncengine import Collection, Engine, ListedMigration, MigrationRegistry, tables
from syncengine.remote.plain_page import PlainPage, plain_page
from syncengine.remote.wire import PullRequest
from syncengine.settings import Settings
from syncengine.sync.apply import Applier
from syncengine.sync.calls import Pull, PulledRow, PullSaid
from syncengine.sync.courier import carry
from syncengine.sync.position import Position
from tests.benchmarks.walks import COLUMNS, converted, new_table, old_rows

WANTED = 1.5
PAGE_ROWS = 1_000
SETTINGS = Settings()
ROWS = ("new rows", "known rows")
Page = tuple[PulledRow, ...]


def report(*, pages: int = 20, rounds: int = 7, pages_many: int = 100) -> None:
    """Print the ratios, for new rows and for rows that are there; then how much memory many pages hold.

    The goal is for applying: what by hand is not checked has no ratio to hold.
    """
    with tempfile.TemporaryDirectory() as folder:
        for joined in (1, SETTINGS.pull_items_max // PAGE_ROWS):
            for reads in (False, True):
                _report_ratios(Path(folder), pages, rounds, joined=joined, reads=reads)
        _report_memory(Path(folder) / "many.db", pages_many)


def _report_ratios(folder: Path, pages: int, rounds: int, *, joined: int, reads: bool) -> None:
    """`joined`: ours gets so many pages as one, as the settings ask for."""
    measured: list[list[tuple[float, float]]] = [[] for _ in ROWS]
    for number in range(rounds + 1):
        name = f"{joined}-{number}-{reads:d}.db"
        ours, theirs = _Ours(folder / f"o{name}"), _ByHand(folder / f"h{name}")
        for version, times in enumerate(measured, start=1):
            rows = _pages(pages, version=version)
            longer = [sum(rows[at : at + joined], ()) for at in range(0, pages, joined)]
            if reads:
                answers, longer_answers = _answers(rows), _answers(longer)
                del rows, longer  # or Python's collector would go through them, too
                spent = ours.cpu_us_read(longer_answers), theirs.cpu_us_read(answers)
            else:
                spent = ours.cpu_us(longer), theirs.cpu_us(rows)
            times.append((spent[0] / (pages * PAGE_ROWS), spent[1] / (pages * PAGE_ROWS)))
        ours.close()
        theirs.close()
    for name, times in zip(ROWS, measured, strict=True):
        ratio = statistics.median(mine / other for mine, other in times[1:])
        mine, other = (statistics.median(column) for column in zip(*times[1:], strict=True))
        print(
            f"{'reading and ' * reads}applying pages of {joined * PAGE_ROWS:,}, {name}: {ratio:.2f} times"
            f"{'' if reads else f' (wanted: at most {WANTED})'}, {mine:.1f} us a row against {other:.1f} by hand in"
            f" pages of {PAGE_ROWS:,}"
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


def _pages(count: int, *, version: int) -> list[Page]:
    return [_page(number, version=version) for number in range(count)]


def _page(number: int, *, version: int) -> Page:
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


def _answers(pages: list[Page]) -> list[bytes]:
    """The pages as the cloud sends them."""
    said = {"protocol": 1, "request_id": "r", "server_time": "2026-01-01T00:00:00.000Z", "server_epoch": 1}
    return [
        orjson.dumps({**said, "cursor": str(page[-1].version), "more": True, "items": list(map(_item, page))})
        for page in pages
    ]


def _item(row: PulledRow) -> dict[str, Any]:
    told = row._asdict()
    del told["patches"]
    return told


class _Arrived:
    """The bytes of one answer, as a backend."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def pull_plain(self, request: PullRequest) -> PlainPage:
        page = plain_page(self._raw, request, depth_max=SETTINGS.answer_depth_max)
        assert page is not None
        return page


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

    def cpu_us(self, pages: list[Page]) -> float:
        begun = time.process_time()
        for page in pages:
            self.apply(page)
        return (time.process_time() - begun) * 1e6

    def cpu_us_read(self, answers: list[bytes]) -> float:
        begun = time.process_time()
        for raw in answers:
            call = Pull(user="ann", device="d", cursor=None, items_max=SETTINGS.pull_items_max)
            said = carry(_Arrived(raw), call, request_id="r")  # type: ignore[arg-type]  # it only pulls
            assert isinstance(said, PullSaid)
            self.apply(said.rows)
        return (time.process_time() - begun) * 1e6

    def apply(self, page: Page) -> None:
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

    def cpu_us(self, pages: list[Page]) -> float:
        values = self._values
        begun = time.process_time()
        for page in pages:
            self._write([(*values(row.body), row.version) for row in page])
        return (time.process_time() - begun) * 1e6

    def cpu_us_read(self, answers: list[bytes]) -> float:
        values = self._values
        begun = time.process_time()
        for raw in answers:
            self._write([(*values(item["body"]), item["version"]) for item in orjson.loads(raw)["items"]])
        return (time.process_time() - begun) * 1e6

    def _write(self, rows: list[tuple[Any, ...]]) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(self._upsert, rows)
        connection.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?)", (str(rows[-1][-1]),))
        connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


if __name__ == "__main__":
    report()
