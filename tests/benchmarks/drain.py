"""Draining the queue against a hand-written loop on the same server; over a slow round trip; and when it is long.

`python -m tests.benchmarks.drain` prints the ratios. Each measurement is a process of its own.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import httpx
import orjson

from syncengine.clock import SystemClock
from syncengine.local.store import Store
from syncengine.outbox.queue import Outbox
from syncengine.remote.encoded_push import AllApplied, EncodedPush, all_applied
from syncengine.remote.http_answer import answer_of_body
from syncengine.remote.http_backend import HttpBackend
from syncengine.remote.wire import HelloAnswer, HelloRequest, Limits, PushAnswer
from syncengine.settings import Settings
from syncengine.sync.calls import HelloSaid, PushSaid
from syncengine.sync.carriage import Carriage
from syncengine.sync.carrying import Driver
from syncengine.sync.courier import carry
from syncengine.sync.drain import Draining, Speaker
from syncengine.sync.encoding import encoded_entries
from syncengine.sync.round import sync_round

ROOT = Path(__file__).parents[2]
BY_HAND_WANTED, SLOW_LINE_WANTED, LONG_QUEUE_WANTED = 0.75, 15_000, 1.2
TOKEN = "token-of-ann"
TABLES = """
CREATE TABLE walks (user_id TEXT NOT NULL, id TEXT NOT NULL, title TEXT, PRIMARY KEY (user_id, id)) STRICT;
INSERT INTO _sync_collection (name, key_column, owner_column, shape_version, fingerprint)
VALUES ('walks', 'id', 'user_id', '2.0.0', '-');
"""
BODY = """'{"id":"w' || printf('%07d', n) || '","title":"a walk along the river","length_m":' || (n * 1.5)
 || ',"steps":' || n || ',"private":false}'"""
NUMBERS = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)"


@contextmanager
def server(folder: Path, *, database: str | None = None) -> Iterator[tuple[str, int]]:
    """The shipped server on a free port: its address and its process. Its database is in the folder, or elsewhere."""
    tokens = folder / "tokens"
    tokens.write_text(f"ann {TOKEN}\n")
    arguments = ["--port", "0", "--database", database or str(folder / "cloud"), "--token-file", str(tokens)]
    with started([sys.executable, "-m", "syncengine.server", *arguments]) as found:
        yield found


@contextmanager
def started(command: list[str], *, cwd: Path = ROOT, **environment: str) -> Iterator[tuple[str, int]]:
    """A server in a process of its own, which prints its address once it listens: that address and its process."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1], process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


class Delayed(HttpBackend):
    """The same line with so much more of a round trip."""

    delay_ms = 0

    def hello(self, request: HelloRequest) -> HelloAnswer:
        time.sleep(self.delay_ms / 1000)
        return super().hello(request)

    def push_encoded(self, push: EncodedPush) -> PushAnswer | AllApplied:
        time.sleep(self.delay_ms / 1000)
        return super().push_encoded(push)


class AtOnce:
    """A cloud that takes everything in no time: what is measured is the device."""

    delay_ms = 0

    def __init__(self) -> None:
        self.sequence = 0

    def hello(self, request: HelloRequest) -> HelloAnswer:
        time.sleep(self.delay_ms / 1000)
        return HelloAnswer(
            request_id=request.request_id,
            server_time="",
            server_epoch=1,
            device_seq=self.sequence,
            cloud_version=None,
            action="ok",
            limits=Limits(entries_max=5_000, bytes_max=16 * 1024 * 1024),
        )

    def push_encoded(self, push: EncodedPush) -> PushAnswer | AllApplied:
        time.sleep(self.delay_ms / 1000)
        push.body()
        self.sequence = push.sequences[-1]
        answer = {
            "protocol": 1,
            "request_id": push.request_id,
            "server_time": "",
            "device_seq": self.sequence,
            "results": [{"sequence": number, "status": "applied", "version": number} for number in push.sequences],
        }
        raw = orjson.dumps(answer)
        return all_applied(raw, push) or answer_of_body(200, raw, model=PushAnswer, depth_max=64)

    def close(self) -> None:
        """Nothing to close."""


def ours(path: str, url: str, *, entries: int, batch: int, delay_ms: int) -> dict[str, float]:
    """Fill a queue, then drain it; seconds of wall and of processor time, and the process's peak in megabytes."""
    clock = SystemClock()
    settings = Settings(push_entries_max=batch, push_entries_first=min(batch, 500))
    store = Store(path, settings=settings, clock=clock)
    with store.transaction():
        store.connection.execute(TABLES).fetchall()
        store.query(
            f"{NUMBERS} INSERT INTO _sync_outbox"
            " (owner, kind, collection, row_key, set_json, shape_version, created_ms, fresh)"
            f" SELECT 'ann', 'put', 'walks', 'w' || printf('%07d', n), {BODY}, '2.0.0',"
            " 1735689600000, 2 FROM numbers",
            (entries,),
        )
    store.query("PRAGMA wal_checkpoint(TRUNCATE)")
    backend: Any = AtOnce() if url == "-" else Delayed(url, token=lambda: TOKEN, settings=settings, clock=clock)
    backend.delay_ms = delay_ms
    before_mb = _peak_mb()
    begun, begun_cpu = time.perf_counter(), time.process_time()
    while Outbox(store).sendable("ann"):
        _round(store, backend, settings)
    told = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - begun_cpu}
    assert Outbox(store).depth("ann") == 0
    assert Outbox(store).drain_state("ann").confirmed_count == entries
    backend.close()
    store.close()
    return {**told, "peak_mb": _peak_mb(), "grown_mb": _peak_mb() - before_mb}


def _round(store: Store, backend: Any, settings: Settings) -> None:
    chance = random.Random(7)
    draining = Draining(
        Outbox(store),
        "ann",
        Speaker(app="app", device="dev", schema_version="2.0.0"),
        settings=settings,
        chance=chance,
        barriers={}.__getitem__,
        carriage=Carriage(overlaps=True, encode=encoded_entries),
    )
    Driver(lambda call: _timed(backend, call, chance)).drive(sync_round(draining))


def _timed(backend: Any, call: Any, chance: random.Random) -> Any:
    begun = time.perf_counter()
    answer = carry(backend, call, request_id=f"{chance.getrandbits(64):x}")
    assert isinstance(answer, HelloSaid | PushSaid)
    return replace(answer, took_ms=max(round((time.perf_counter() - begun) * 1000), 1))


def theirs(path: str, url: str, *, entries: int, batch: int, delay_ms: int) -> dict[str, float]:
    """What one writes by hand: select, encode, post, delete, commit."""
    connection = apsw.Connection(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE outbox (id INTEGER PRIMARY KEY, key TEXT NOT NULL, body TEXT NOT NULL)")
    connection.execute(
        f"{NUMBERS} INSERT INTO outbox SELECT n, 'w' || printf('%07d', n), {BODY} FROM numbers", (entries,)
    ).fetchall()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    client = httpx.Client(headers={"Authorization": f"Bearer {TOKEN}", "Syncengine-Protocol": "1"})
    begun, begun_cpu = time.perf_counter(), time.process_time()
    while True:
        rows = connection.execute("SELECT id, key, body FROM outbox ORDER BY id LIMIT ?", (batch,)).fetchall()
        if not rows:
            break
        time.sleep(delay_ms / 1000)
        _post(client, url, rows)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM outbox WHERE id <= ?", (rows[-1][0],))
        connection.execute("COMMIT")
    told = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - begun_cpu}
    client.close()
    connection.close()
    return {**told, "peak_mb": _peak_mb(), "grown_mb": 0}


def _post(client: httpx.Client, url: str, rows: list[Any]) -> None:
    request = {
        "protocol": 1,
        "request_id": "r",
        "user": "ann",
        "device": "by hand",
        "epoch": 1,
        "schema_version": "2.0.0",
        "entries": [
            {
                "sequence": number,
                "group": number,
                "kind": "put",
                "collection": "walks",
                "key": key,
                "set": orjson.Fragment(body),
                "shape_version": "2.0.0",
            }
            for number, key, body in rows
        ],
    }
    headers = {"Content-Type": "application/json"}
    answer = client.post(f"{url}/v1/push", content=orjson.dumps(request), headers=headers, timeout=60)
    answer.raise_for_status()
    results = orjson.loads(answer.content)["results"]
    assert all(result["status"] == "applied" for result in results)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(side: str, *, entries: int, batch: int, delay_ms: int = 0, at_once: bool = False) -> dict[str, float]:
    """One measurement in a process of its own, on a new store and a new cloud."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = ["--side", side, "--path", str(folder / "app.db"), "--entries", str(entries)]
        arguments += ["--batch", str(batch), "--delay-ms", str(delay_ms)]
        if at_once:
            return _child([*arguments, "--url", "-"])
        with server(folder) as (url, pid):
            begun = _processor_seconds(pid)
            told = _child([*arguments, "--url", url])
            return {**told, "server_cpu": _processor_seconds(pid) - begun}


def _processor_seconds(pid: int) -> float:
    """Of all threads of another process so far; Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _child(arguments: list[str]) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.drain", *arguments]
    ran = subprocess.run(
        command, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    told: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return told


def report(*, entries: int = 100_000, rounds: int = 3, long: int = 1_000_000) -> None:
    """All three comparisons, printed."""
    for batch in (500, 5_000):
        pairs = [
            (measured("ours", entries=entries, batch=batch), measured("theirs", entries=entries, batch=batch))
            for _ in range(rounds)
        ]
        ratio = statistics.median(theirs["seconds"] / ours["seconds"] for ours, theirs in pairs)
        ours_s, theirs_s = (statistics.median(pair[side]["seconds"] for pair in pairs) for side in (0, 1))
        each_us = [
            statistics.median(pair[side][what] for pair in pairs) / entries * 1e6
            for side, what in ((0, "cpu"), (1, "cpu"), (1, "server_cpu"))
        ]
        ours_us, theirs_us, server_us = each_us
        print(
            f"drain of {entries:,} in batches of at most {batch:,}: {entries / ours_s:,.0f} rows/s, by hand"
            f" {entries / theirs_s:,.0f}; ours / by hand {ratio:.2f} (wanted: at least {BY_HAND_WANTED});"
            " microseconds of processor time per entry:"
            f" ours {ours_us:.0f}, by hand {theirs_us:.0f}, server {server_us:.0f}"
        )
    slow = measured("ours", entries=entries, batch=5_000, delay_ms=200)
    print(
        f"with 200 ms more of a round trip: {entries / slow['seconds']:,.0f} rows/s"
        f" (wanted: at least {SLOW_LINE_WANTED:,})"
    )
    slow = measured("ours", entries=entries, batch=5_000, delay_ms=200, at_once=True)
    print(f"the same with a cloud that needs no time: {entries / slow['seconds']:,.0f} rows/s")
    few = [measured("ours", entries=10_000, batch=5_000, at_once=True) for _ in range(rounds)]
    many = measured("ours", entries=long, batch=5_000, at_once=True)
    per_few = statistics.median(one["cpu"] for one in few) / 10_000
    ratio = many["cpu"] / long / per_few
    print(
        f"{long:,} entries against 10,000, with such a cloud: {ratio:.2f} of the time per entry"
        f" (wanted: at most {LONG_QUEUE_WANTED});"
        f" peak {many['peak_mb']:.0f} MB against {few[0]['peak_mb']:.0f} MB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=("ours", "theirs"))
    parser.add_argument("--path")
    parser.add_argument("--url")
    parser.add_argument("--entries", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--delay-ms", type=int, default=0)
    asked = parser.parse_args()
    if asked.side is None:
        report()
    else:
        measure = ours if asked.side == "ours" else theirs
        told = measure(asked.path, asked.url, entries=asked.entries, batch=asked.batch, delay_ms=asked.delay_ms)
        print(json.dumps(told))
