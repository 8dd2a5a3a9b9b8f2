"""Pushes and pulls at the server against a handler written by hand: rows per second, processor time, memory.

`python -m tests.benchmarks.server_push` prints the ratios. Each server is a process of its own, the same uvicorn
with the same settings, and both commit with `synchronous = FULL`. The handler by hand is a Starlette route: orjson
reads the request, its rows go into one table with an index for reading on, `json_patch` merges, orjson writes the
answer. It knows one token, and neither numbers, groups, shapes, conflicts nor limits.
"""

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import httpx
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from syncengine.server import __main__ as shipped
from syncengine.server.console import listening
from tests.benchmarks.drain import TOKEN, server, started

TABLES = """
CREATE TABLE document (
  tenant TEXT NOT NULL, collection TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL,
  shape_version TEXT NOT NULL, changed_at TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (tenant, collection, key)
);
CREATE INDEX document_by_version ON document (tenant, version);
"""
WRITE = """
INSERT INTO document (tenant, collection, key, version, shape_version, changed_at, body) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, collection, key) DO UPDATE
SET version = excluded.version, shape_version = excluded.shape_version, changed_at = excluded.changed_at,
    body = excluded.body
"""
PATCH = """
UPDATE document SET version = ?, changed_at = ?, body = json_patch(body, ?)
WHERE tenant = ? AND collection = ? AND key = ?
"""
READ = """
SELECT collection, key, version, shape_version, body FROM document
WHERE tenant = ? AND version > ? ORDER BY version LIMIT ?
"""
NOW = "2025-01-01T00:00:00.000Z"


class Spent(NamedTuple):
    """Seconds of wall time, and of the server's processor time."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One server that runs."""

    url: str
    pid: int
    database_seconds: Callable[[], float] = lambda: 0.0
    """Processor time of a database that is not in the same process."""

    def processor_seconds(self) -> float:
        """Of everything that works for this side, so far."""
        return processor_seconds(self.pid) + self.database_seconds()


def serve_by_hand(folder: str) -> None:
    """The handler by hand on a free port, which it says like the shipped server."""
    connection = apsw.Connection(str(Path(folder) / "hand.db"))
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA synchronous = FULL").fetchall()
    connection.execute(TABLES).fetchall()

    def pushed(raw: bytes) -> bytes:
        asked = orjson.loads(raw)
        tenant = asked["user"]
        connection.execute("BEGIN IMMEDIATE")
        head = connection.execute("SELECT max(version) FROM document WHERE tenant = ?", (tenant,)).get or 0
        entries = list(enumerate(asked["entries"], head + 1))
        puts = [
            (tenant, e["collection"], e["key"], n, e["shape_version"], NOW, orjson.dumps(e["set"]).decode())
            for n, e in entries
            if e["kind"] == "put"
        ]
        patches = [
            (n, NOW, orjson.dumps(e["set"]).decode(), tenant, e["collection"], e["key"])
            for n, e in entries
            if e["kind"] == "patch"
        ]
        connection.executemany(WRITE, puts)
        connection.executemany(PATCH, patches)
        connection.execute("COMMIT")
        results = [{"sequence": e["sequence"], "status": "applied", "version": n} for n, e in entries]
        return orjson.dumps({"request_id": asked["request_id"], "results": results})

    def pulled(tenant: str, after: int, limit: int) -> bytes:
        return page_of(connection.execute(READ, (tenant, after, limit)).fetchall(), after=after, limit=limit)

    serve(pushed, pulled)


def page_of(rows: Sequence[tuple[Any, ...]], *, after: int, limit: int) -> bytes:
    """The answer to a pull by hand; bodies go through as they are stored."""
    items = [
        {"collection": c, "key": k, "version": v, "shape_version": s, "body": orjson.Fragment(b)}
        for c, k, v, s, b in rows
    ]
    return orjson.dumps({"items": items, "cursor": str(rows[-1][2] if rows else after), "more": len(rows) == limit})


def serve(pushed: Callable[[bytes], bytes], pulled: Callable[[str, int, int], bytes]) -> None:
    """These two as a server, with the same web framework and settings as the shipped one."""

    async def push(request: Request) -> Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Response(status_code=401)
        raw = await request.body()
        return Response(await run_in_threadpool(pushed, raw), media_type="application/json")

    async def pull(request: Request) -> Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Response(status_code=401)
        asked = request.query_params
        text = await run_in_threadpool(pulled, asked["user"], int(asked.get("cursor", "0")), int(asked["limit"]))
        return Response(text, media_type="application/json")

    gc.set_threshold(shipped.OBJECTS_BEFORE_COLLECTION)
    app = Starlette(routes=[Route("/v1/push", push, methods=["POST"]), Route("/v1/pull", pull)])
    with listening("127.0.0.1", 0) as listener:
        shipped.AnnouncedServer(uvicorn.Config(app, **shipped.SERVING)).run(sockets=[listener])


def by_hand(folder: Path) -> AbstractContextManager[tuple[str, int]]:
    """The handler by hand in a process of its own: its address and its process."""
    return started([sys.executable, "-m", "tests.benchmarks.server_push", "--by-hand", str(folder)])


def body(numbers: range, *, kind: str = "put", device: str = "dev") -> bytes:
    """A push of puts, or of patches on the rows that those made; some 350 bytes an entry."""
    entries = []
    for n in numbers:
        key = f"w{n * 7919 % 10_000_019:08d}"
        whole = {
            "id": key,
            "title": "a walk along the river and the old canal, with a café at the end",
            "length_m": n * 1.5,
            "steps": n,
            "private": False,
            "note": "three herons, two boats, one lock and a long bench in the sun",
        }
        entries.append(
            {
                "sequence": n,
                "group": n,
                "kind": kind,
                "collection": "walks",
                "key": key,
                "set": whole if kind == "put" else {"title": "the same walk with another title", "steps": n + 1},
                "shape_version": "2.0.0",
                "token": "7c1e0d9b55aa4f3e8a2b6c4d1f0e9a8b",
                **({"base_version": n} if kind == "patch" else {}),
            }
        )
    head = {"protocol": 1, "request_id": "r", "user": "ann", "device": device, "epoch": 1, "schema_version": "2.0.0"}
    return orjson.dumps({**head, "entries": entries})


def bodies(first: int, *, entries: int, batch: int, **more: str) -> list[bytes]:
    """So many entries from a number on, in pushes of `batch`."""
    return [body(range(n, n + batch), **more) for n in range(first, first + entries, batch)]


def pushed(client: httpx.Client, side: Side, texts: list[bytes]) -> Spent:
    """All of them, one after the other."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    begun, begun_cpu = time.perf_counter(), side.processor_seconds()
    answers = [client.post(f"{side.url}/v1/push", content=text, headers=headers, timeout=60) for text in texts]
    spent = Spent(time.perf_counter() - begun, side.processor_seconds() - begun_cpu)
    for answer in answers:
        answer.raise_for_status()
        assert {result["status"] for result in orjson.loads(answer.content)["results"]} == {"applied"}
    return spent


def pulled(client: httpx.Client, side: Side, *, pages: int) -> Spent:
    """So many pages of 1,000 rows from the start."""
    asked: dict[str, Any] = {"request_id": "r", "user": "ann", "device": "reader", "limit": 1_000}
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept-Encoding": "identity"}
    begun, begun_cpu = time.perf_counter(), side.processor_seconds()
    for _ in range(pages):
        answer = client.get(f"{side.url}/v1/pull", params=asked, headers=headers, timeout=60)
        page = orjson.loads(answer.raise_for_status().content)
        assert len(page["items"]) == 1_000
        asked["cursor"] = page["cursor"]
    return Spent(time.perf_counter() - begun, side.processor_seconds() - begun_cpu)


def processor_seconds(pid: int) -> float:
    """Of all threads of another process so far; Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """What another process holds now; Linux only."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


@contextmanager
def both() -> Iterator[tuple[httpx.Client, Side, Side]]:
    """A client, the shipped server and the one by hand, with empty databases."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as running, httpx.Client() as client:
        ours, theirs = Path(name) / "ours", Path(name) / "theirs"
        ours.mkdir()
        theirs.mkdir()
        sides = [running.enter_context(server(ours)), running.enter_context(by_hand(theirs))]
        mine, other = (Side(url=url, pid=pid) for url, pid in sides)
        yield client, mine, other


def told(what: str, pairs: list[tuple[Spent, Spent]], *, rows: int) -> None:
    """One line: rows per second and processor time of both, and the medians of the ratios pair by pair."""
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    wall = statistics.median(other.wall / mine.wall for mine, other in pairs)
    cpu = statistics.median(other.cpu / mine.cpu for mine, other in pairs)
    per_s = [rows / statistics.median(one.wall for one in side) for side in (ours, theirs)]
    each_us = [statistics.median(one.cpu for one in side) / rows * 1e6 for side in (ours, theirs)]
    print(
        f"{what}: {per_s[0]:,.0f} rows/s, by hand {per_s[1]:,.0f}, ratio {wall:.2f};"
        f" processor time per row {each_us[0]:.1f} us, by hand {each_us[1]:.1f}, ratio {cpu:.2f}",
        flush=True,
    )


def compared(client: httpx.Client, ours: Side, theirs: Side, *, entries: int, rounds: int, batch: int) -> None:
    """Puts, pages and patches of both sides in turn, printed; the first round of puts is not counted."""
    puts: list[tuple[Spent, Spent]] = []
    for n in range(rounds + 1):
        texts = bodies(n * entries + 1, entries=entries, batch=batch)
        puts.append((pushed(client, ours, texts), pushed(client, theirs, texts)))
    told(f"pushes of {batch:,} puts", puts[1:], rows=entries)
    pages = [
        (pulled(client, ours, pages=entries // 1_000), pulled(client, theirs, pages=entries // 1_000))
        for _ in range(rounds)
    ]
    told("pages of 1,000 rows", pages, rows=entries)
    patches: list[tuple[Spent, Spent]] = []
    for n in range(rounds):
        texts = bodies(n * entries + 1, entries=entries, batch=batch, kind="patch", device="other")
        patches.append((pushed(client, ours, texts), pushed(client, theirs, texts)))
    told(f"pushes of {batch:,} patches", patches, rows=entries)


def report(*, entries: int = 20_000, rounds: int = 5, many: int = 1_000_000) -> None:
    """Puts, patches, pages and memory, printed."""
    for batch in (500, 5_000):
        with both() as (client, ours, theirs):
            compared(client, ours, theirs, entries=entries, rounds=rounds, batch=batch)
    memory(rows=many)


def memory(*, rows: int, database: str | None = None) -> None:
    """What the shipped server holds after a tenth of the rows, and after all."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        url, pid = running.enter_context(server(folder, database=database))
        client = running.enter_context(httpx.Client())
        side = Side(url=url, pid=pid)
        held: list[float] = []
        for first in range(1, rows + 1, rows // 10):
            for n in range(first, first + rows // 10, 5_000):
                pushed(client, side, [body(range(n, n + 5_000))])
            held.append(resident_mb(pid))
    print(f"memory after {rows // 10:,} rows {held[0]:.0f} MB, after {rows:,} rows {held[-1]:.0f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--by-hand", metavar="FOLDER")
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many", type=int, default=1_000_000)
    asked = parser.parse_args()
    if asked.by_hand:
        serve_by_hand(asked.by_hand)
    else:
        report(entries=asked.entries, rounds=asked.rounds, many=asked.many)
