"""Documents pushed to a server and pulled by another store, against PouchDB and its Express server, over loopback.

Each side is a client process with two stores and a server process. 200 walks go over first, which is not counted:
modules are loaded then, connections open, and code is compiled. Then 10,000 walks of about 350 bytes are written in
transactions of 1,000, pushed by one store and pulled by the other. Rounds of both sides in turn; PouchDB 9 with
LevelDB on both ends, pushes and pulls of 1,000, without gzip. LevelDB does not sync its commits to the disk here;
SQLite does, at the server and where the device confirms and reads.

"Push" ends when the device has confirmed the last document, as PouchDB's `replicate.to` does. Our round then reads
what is new in the cloud, which here is what it has just sent itself: "push and read" has both in it.

    python -m tests.benchmarks.pouchdb --documents 10000 --rounds 7

Needs Linux, node and npm; without them it says so. The packages go to a temporary folder.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from syncengine import Engine
from syncengine.events import BatchConfirmed
from tests.benchmarks.drain import TOKEN, started
from tests.benchmarks.drain import server as our_server
from tests.benchmarks.peers_sync import npm
from tests.benchmarks.peers_sync.walks_app import INSERT, opened, values_of, walks

ROOT = Path(__file__).parents[2]
WANTED = 6
WARM_UP, GROUP, BATCH = 200, 1_000, 1_000
COMPARED = (("push", "push"), ("pull", "pull"), ("push and read", "push"))
"""(phase of ours, phase of theirs); the goal is for the first two."""

Phases = dict[str, dict[str, float]]
"""By name: wall seconds, processor seconds of the client, and of the server."""


def report(*, documents: int = 10_000, rounds: int = 7) -> None:
    """Print documents per second of both, and the ratios."""
    if not npm.have_node() or sys.platform != "linux":
        print("PouchDB: this is not Linux with node and npm, nothing to compare with")
        return
    with tempfile.TemporaryDirectory(prefix="syncengine-bench-") as name:
        folder = Path(name)
        npm.install(folder)
        path = folder / "walks.json"
        path.write_text(json.dumps(list(walks(documents + WARM_UP))))
        pairs = [_round(folder, path, number) for number in range(rounds)]
    print(f"{documents:,} documents against PouchDB, {rounds} rounds, load {os.getloadavg()[0]:.1f}:")
    for name, phases in (("ours", [ours for ours, _ in pairs]), ("PouchDB", [theirs for _, theirs in pairs])):
        _print_side(name, phases, documents)
    for phase, other in COMPARED:
        _print_ratio(phase, [(ours[phase], theirs[other]) for ours, theirs in pairs], goal=phase == other)


def _print_side(name: str, rounds: list[Phases], documents: int) -> None:
    for phase in dict(COMPARED) if name == "ours" else ("push", "pull"):
        seconds, cpu, server_cpu = (
            statistics.median(each[phase][what] for each in rounds) for what in ("seconds", "cpu", "server_cpu")
        )
        client_us, server_us = (spent / documents * 1e6 for spent in (cpu, server_cpu))
        print(
            f"  {name:7} {phase:13} {documents / seconds:8,.0f} documents/s; microseconds of processor time for each:"
            f" client {client_us:.0f}, server {server_us:.0f}"
        )


def _print_ratio(phase: str, pairs: list[tuple[dict[str, float], dict[str, float]]], *, goal: bool) -> None:
    by_wall = statistics.median(theirs["seconds"] / ours["seconds"] for ours, theirs in pairs)
    by_processor = statistics.median(
        (theirs["cpu"] + theirs["server_cpu"]) / (ours["cpu"] + ours["server_cpu"]) for ours, theirs in pairs
    )
    print(
        f"  {phase}: {by_wall:.1f} times the documents/s of PouchDB{f' (wanted: at least {WANTED})' if goal else ''};"
        f" {by_processor:.1f} times by processor time of client and server"
    )


def _round(folder: Path, documents: Path, number: int) -> tuple[Phases, Phases]:
    """Ours and theirs; who begins changes from round to round."""
    sides = {"ours": _ours, "theirs": _theirs}
    found: dict[str, Phases] = {}
    for side in sorted(sides, reverse=number % 2 == 1):
        with tempfile.TemporaryDirectory(prefix=f"{side}-", dir=folder) as stores:
            found[side] = sides[side](Path(stores), documents, folder)
    return found["ours"], found["theirs"]


def _ours(stores: Path, documents: Path, _packages: Path) -> Phases:
    with our_server(stores) as (url, pid):
        arguments = ["--client", url, "--server", str(pid), "--path", str(documents), "--folder", str(stores)]
        return _phases([sys.executable, "-m", "tests.benchmarks.pouchdb", *arguments], cwd=ROOT)


def _theirs(stores: Path, documents: Path, packages: Path) -> Phases:
    cloud = stores / "cloud"
    cloud.mkdir()
    command = ["node", "pouchdb_server.mjs", str(cloud)]
    with started(command, cwd=packages, NODE_ENV="production") as (url, pid):
        arguments = [url, str(pid), str(documents), str(stores), str(WARM_UP), str(BATCH)]
        return _phases(["node", "pouchdb_client.mjs", *arguments], cwd=packages)


def _phases(command: list[str], *, cwd: Path) -> Phases:
    """What a client prints, by phase; the last that it says of one."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NODE_ENV": "production"}
    done = subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, env=environment)
    return {told.pop("phase"): told for told in map(json.loads, done.stdout.splitlines())}


class Stopwatch:
    """Tells how long a phase took, as `peers_sync/pouchdb_client.mjs` does; a listener up to each confirmation."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._begun = self._now()

    def begin(self) -> None:
        """From now on."""
        self._begun = self._now()

    def tell(self, phase: str) -> None:
        """Print a line of JSON."""
        taken = [ended - begun for ended, begun in zip(self._now(), self._begun, strict=True)]
        print(json.dumps({"phase": phase, **dict(zip(("seconds", "cpu", "server_cpu"), taken, strict=True))}))

    def __call__(self, event: object) -> None:
        """Called by the engine where things happen."""
        if isinstance(event, BatchConfirmed):
            self.tell("push")

    def _now(self) -> tuple[float, float, float]:
        fields = Path(f"/proc/{self._server}/stat").read_text().rpartition(")")[2].split()
        server = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), time.process_time(), server


def client(url: str, *, server: int, documents: Path, folder: Path) -> None:
    """Our two stores. What is told of "push" last ends with the last confirmation."""
    rows = json.loads(documents.read_bytes())
    watch = Stopwatch(server)
    one = opened(folder / "one.db", captured=True, url=url, token=lambda: TOKEN, listener=watch)
    other = opened(folder / "other.db", captured=True, url=url, token=lambda: TOKEN)
    try:
        _write(one, rows[:WARM_UP])
        one.sync_now()
        other.sync_now()
        _write(one, rows[WARM_UP:])
        watch.begin()
        one.sync_now()
        watch.tell("push and read")
        watch.begin()
        other.sync_now()
        watch.tell("pull")
        _check(one, other, len(rows))
    finally:
        one.close()
        other.close()


def _write(engine: Engine, rows: list[dict[str, Any]]) -> None:
    for at in range(0, len(rows), GROUP):
        with engine.write() as db:
            db.conn.executemany(INSERT, values_of(rows[at : at + GROUP]))


def _check(one: Engine, other: Engine, count: int) -> None:
    """Both hold all rows, and nothing is left to do."""
    asked = "SELECT * FROM walks ORDER BY id"
    with one.read() as mine, other.read() as theirs:
        rows = list(theirs.query(asked))
        assert len(rows) == count
        assert list(mine.query(asked)) == rows
    assert one.status().synced
    assert other.status().synced


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    itself = parser.add_argument_group("used by the benchmark itself, for the process that is our client")
    itself.add_argument("--client", metavar="URL")
    itself.add_argument("--server", type=int, metavar="PID")
    itself.add_argument("--path", type=Path)
    itself.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    if chosen.client:
        client(chosen.client, server=chosen.server, documents=chosen.path, folder=chosen.folder)
    else:
        report(documents=chosen.documents, rounds=chosen.rounds)
