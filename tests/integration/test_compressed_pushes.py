"""Pushes over real HTTP to the shipped server: as they stand in the queue, and compressed."""

import random

from drain_world import TABLES

from syncengine.clock import SystemClock
from syncengine.local.store import Store
from syncengine.migrate.registry import MigrationRegistry
from syncengine.outbox.queue import Outbox
from syncengine.remote.encoded_push import EncodedPush
from syncengine.remote.http_backend import HttpBackend
from syncengine.remote.wire import PushAnswer, RowsRequest
from syncengine.settings import Settings
from syncengine.sync.runner import SyncRunner
from tests.conformance.server_process import ServerProcess

ROWS = 1_200


class Watched(HttpBackend):
    """Notes how each push was sent."""

    compressed: list[bool]

    def push_encoded(self, push: EncodedPush) -> PushAnswer:
        self.compressed.append(push.compress)
        return super().push_encoded(push)


def drained(tmp_path, settings, *, metered=None):
    """Sync a queue to a server process; how the pushes were sent, how large, and what the server has then."""
    clock = SystemClock()
    store = Store(str(tmp_path / "app.db"), settings=settings, clock=clock)
    with store.transaction():
        store.connection.execute(TABLES).fetchall()
        for number in range(ROWS):
            store.query("INSERT INTO journeys (user_id, id, title) VALUES ('ann', ?, 'a walk')", (f"k{number:04}",))
    Outbox(store).queue_uploads(owner="ann", collection="journeys", migration="up")
    registry = MigrationRegistry(app="app", baseline="2.0.0", target="2.0.0", collections=(), migrations=())
    with ServerProcess(tmp_path / "cloud") as server:
        token = server.sign_in("ann")
        backend = Watched(server.url, token=lambda: token, settings=settings, clock=clock)
        backend.compressed = []
        events = []
        runner = SyncRunner(
            store=store,
            registry=registry,
            backend=backend,
            user="ann",
            chance=random.Random(5),
            listener=events.append,
        )
        runner.set_network(metered=metered)
        report = runner.sync_now(timeout_ms=60_000)
        request = RowsRequest(request_id="r", user="ann", collection="journeys", limit=1_000)
        page = backend.rows(request)
        rest = backend.rows(request.model_copy(update={"after": page.next}))
        runner.close()
    depth = Outbox(store).depth("ann")
    store.close()
    assert (report.ended, report.applied, depth) == ("drained", ROWS, 0)
    assert len(page.rows) + len(rest.rows) == ROWS
    return backend.compressed


def test_bodies_are_compressed_when_the_host_says_always(tmp_path):
    assert set(drained(tmp_path, Settings(compress="always"))) == {True}


def test_bodies_are_compressed_on_a_metered_network(tmp_path):
    assert set(drained(tmp_path, Settings(), metered=True)) == {True}


def test_bodies_go_as_they_are_when_the_host_says_never_and_get_larger(tmp_path):
    pushes = drained(tmp_path, Settings(compress="never", push_entries_first=100), metered=True)
    assert set(pushes) == {False}
    assert len(pushes) < ROWS / 100
