"""Real processes on one store, and the shipped server over HTTP: killed in the middle, and two at once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from syncengine.clock import SystemClock
from syncengine.local.store import Store
from syncengine.outbox.queue import Outbox
from syncengine.settings import Settings

ROOT = Path(__file__).parents[2]
ROWS = 300
TABLES = """
CREATE TABLE journeys (user_id TEXT NOT NULL, id TEXT NOT NULL, title TEXT, PRIMARY KEY (user_id, id)) STRICT;
INSERT INTO _sync_collection (name, key_column, owner_column, shape_version, fingerprint)
VALUES ('journeys', 'id', 'user_id', '2.0.0', '-');
"""

# Drains without the lease, so that two of them really send at once.
DRAINER = """
import sys
from syncengine.clock import SystemClock, system_random
from syncengine.errors import SyncEngineError
from syncengine.local.store import Store
from syncengine.outbox.lease import DrainLease
from syncengine.outbox.queue import Outbox
from syncengine.remote.http_backend import HttpBackend
from syncengine.settings import Settings
from syncengine.sync.courier import carry
from syncengine.sync.drain import drain_round

class NoLease:
    def take(self, *, check): return True
    def release(self): return None

class Unleased(Outbox):
    def lease(self, holder, *, lease_ms): return NoLease()

path, url = sys.argv[1:]
clock, chance = SystemClock(), system_random()
settings = Settings(push_entries_max=7)
store = Store(path, settings=settings, clock=clock)
backend = HttpBackend(url, token=lambda: "token-of-ann", settings=settings, clock=clock)
print("ready", flush=True)
sys.stdin.readline()
outbox = Unleased(store)
while outbox.depth("ann"):
    round_ = drain_round(outbox, owner="ann", device=store.value("state", "get", name="device_id"), app="app",
        schema_version="2.0.0", settings=settings, chance=chance, barriers={}.__getitem__)
    try:
        call = next(round_)
        while True:
            try:
                answer = carry(backend, call, request_id=f"{chance.getrandbits(64):x}")
            except SyncEngineError as error:
                call = round_.throw(error)
            else:
                print("call", flush=True)
                call = round_.send(answer)
    except StopIteration:
        pass
backend.close()
store.close()
"""


@pytest.fixture
def url(tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("ann token-of-ann\n")
    arguments = ["--port", "0", "--data", str(tmp_path / "cloud"), "--token-file", str(tokens)]
    server = started("-m", "syncengine.server", *arguments)
    yield server.stdout.readline().split()[-1]
    end(server)


def started(*arguments):
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def end(process):
    process.kill()
    process.wait(timeout=20)
    process.stdin.close()
    process.stdout.close()


def new_store(path):
    store = Store(str(path), settings=Settings(), clock=SystemClock())
    with store.transaction():
        store.connection.execute(TABLES).fetchall()
        for n in range(ROWS):
            store.query("INSERT INTO journeys VALUES ('ann', ?, 'a walk')", (f"k{n:04}",))
    Outbox(store).queue_uploads(owner="ann", collection="journeys", migration="up")
    store.close()


def drainer(path, url):
    process = started("-c", DRAINER, str(path), url)
    assert process.stdout.readline() == "ready\n"
    return process


def go(process):
    process.stdin.write("go\n")
    process.stdin.flush()


def effects(folder):
    """(rows, highest version) at the cloud: each effect raises the user's version by one."""
    from syncengine.server.cloud import Cloud
    from syncengine.server.sqlite_storage import SqliteStorage

    cloud = Cloud(SqliteStorage(str(folder / "cloud"), clock=SystemClock()), clock=SystemClock())
    from syncengine.remote.wire import RowsRequest

    rows = cloud.rows("ann", RowsRequest(request_id="r", user="ann", collection="journeys", limit=1000)).rows
    cloud.close()
    return len(rows), max(row.version for row in rows)


def queue(path):
    store = Store(str(path), settings=Settings(), clock=SystemClock())
    outbox = Outbox(store)
    found = outbox.depth("ann"), outbox.drain_state("ann")
    store.close()
    return found


def test_two_processes_that_send_at_once_deliver_each_entry_once(tmp_path, url):
    path = tmp_path / "app.db"
    new_store(path)
    both = [drainer(path, url), drainer(path, url)]
    for process in both:
        go(process)
    calls = [len(process.communicate(timeout=60)[0].splitlines()) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    depth, drain = queue(path)
    assert (depth, drain.confirmed_count, drain.epoch) == (0, ROWS, 1)
    assert effects(tmp_path) == (ROWS, ROWS)
    assert min(calls) > 1


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_process_killed_again_and_again_delivers_each_entry_once(tmp_path, url):
    path = tmp_path / "app.db"
    new_store(path)
    for calls in (2, 5, 3):
        process = drainer(path, url)
        go(process)
        for _ in range(calls):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        end(process)
    last = drainer(path, url)
    go(last)
    last.communicate(timeout=60)
    depth, drain = queue(path)
    assert (depth, drain.confirmed_count) == (0, ROWS)
    assert effects(tmp_path) == (ROWS, ROWS)
