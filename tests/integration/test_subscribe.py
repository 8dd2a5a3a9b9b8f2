"""Subscriptions: whoever changes something, it is heard soon, not too often, and harms nobody."""

import asyncio
import subprocess
import sys
import threading

import pytest
from drain_world import Line, MovableClock
from users_world import ROOT, add_notes, another_process, opened

from syncengine.callbacks import CallbackQueue, on_asyncio
from syncengine.clock import SystemClock
from syncengine.errors import BackendUnreachable
from syncengine.events import StoreChanged
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.vocabulary import UserId

WAIT_S = 20


@pytest.fixture
def cloud(tmp_path):
    clock = MovableClock()
    cloud = Cloud(SqliteStorage(str(tmp_path / "memory"), clock=clock), clock=clock)
    cloud.accept_token(UserId("ann"), token="a token of ann")
    yield cloud
    cloud.close()


@pytest.fixture
def engine(tmp_path):
    with opened(tmp_path / "app") as engine:
        yield engine


class Ear:
    """Hears, and waits until it has heard what a test waits for."""

    def __init__(self):
        self.heard = []
        self.at_ms = []
        self._changed = threading.Condition()

    def __call__(self, change):
        with self._changed:
            self.heard.append(change)
            self.at_ms.append(SystemClock().monotonic_ms())
            self._changed.notify_all()

    def names(self):
        return {name for change in self.heard for name in change.collections}

    def waits_for(self, *names, status=False):
        def is_there():
            return set(names) <= self.names() and (not status or any(change.status_changed for change in self.heard))

        with self._changed:
            assert self._changed.wait_for(is_there, timeout=WAIT_S), (names, status, self.heard)

    def forget(self):
        with self._changed:
            self.heard.clear()
            self.at_ms.clear()


def is_quiet(ear, *, ms=400):
    SystemClock().pause(ms)
    return ear.heard == []


def threads():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("syncengine")}


# Who changes it.


def test_what_this_process_writes_is_heard_with_its_collections_and_the_status(engine):
    ear = Ear()
    with engine.subscribe(ear):
        add_notes(engine, "a")
        ear.waits_for("notes", status=True)
        assert "tags" not in ear.names()


def test_what_is_not_synced_is_heard_too(engine):
    ear = Ear()
    with engine.subscribe(ear, collections=("looks",)):
        with engine.write() as db:
            db["looks"].insert({"name": "font", "value": "big"})
        ear.waits_for("looks")


def test_who_wants_one_collection_hears_of_no_other_but_of_the_status(engine):
    tags, notes = Ear(), Ear()
    with engine.subscribe(tags, collections=("tags",)), engine.subscribe(notes, collections=("notes",)):
        add_notes(engine, "a")
        notes.waits_for("notes")
        tags.waits_for(status=True)
        assert tags.names() == set()


WRITER = """
import sys
from pathlib import Path
import users_world
with users_world.opened(Path(sys.argv[1])) as engine:
    users_world.add_notes(engine, *sys.argv[2:])
"""


def test_what_another_process_writes_is_heard(engine, tmp_path):
    ear = Ear()
    with engine.subscribe(ear):
        other = another_process(WRITER, tmp_path / "app", "theirs")
        other.communicate(timeout=60)
        assert other.returncode == 0
        ear.waits_for("notes", status=True)


def test_an_edit_by_the_command_line_is_heard(engine, tmp_path):
    ear = Ear()
    with engine.subscribe(ear):
        sql = "INSERT INTO notes VALUES ('ann', 'by-hand', 'text')"
        subprocess.run(["sqlite3", tmp_path / "app" / "app.db", sql], check=True, timeout=60)
        ear.waits_for("notes")


def test_what_another_process_writes_without_a_trace_in_the_queue_is_heard(engine, tmp_path):
    """A collection that is not synced; a page that it has read from the cloud."""
    ear = Ear()
    with engine.subscribe(ear):
        for sql, names in (
            ("INSERT INTO looks VALUES ('font', 'big')", ("looks",)),
            ("INSERT INTO _sync_cursor (owner, cursor, updated_at) VALUES ('ann', 'c1', 'now')", ("notes", "tags")),
        ):
            subprocess.run(["sqlite3", tmp_path / "app" / "app.db", sql], check=True, timeout=60)
            ear.waits_for(*names)


def test_a_page_from_the_cloud_is_heard_with_its_collections(tmp_path, cloud):
    with (
        opened(tmp_path / "one", backend=Line(cloud, "ann")) as one,
        opened(tmp_path / "two", backend=Line(cloud, "ann")) as two,
    ):
        add_notes(one, "a")
        one.sync_now()
        two.sync_now()
        add_notes(one, "b")
        one.sync_now()
        ear = Ear()
        with two.subscribe(ear):
            two.sync_now()
            ear.waits_for("notes")
            assert "tags" not in ear.names()
            assert two._store.query("SELECT count(*) FROM notes") == [(2,)]


def test_a_change_of_user_is_heard(engine):
    ear = Ear()
    with engine.subscribe(ear):
        engine.switch_user("bob")
        ear.waits_for("notes", "tags", "looks", status=True)


def test_a_failed_round_is_heard_as_a_change_of_status(tmp_path, cloud):
    line = Line(cloud, "ann")
    with opened(tmp_path / "app", backend=line) as engine:
        line.down = BackendUnreachable("No route.")
        ear = Ear()
        with engine.subscribe(ear, collections=()):
            with pytest.raises(BackendUnreachable):
                engine.sync_now()
            ear.waits_for(status=True)


def test_nothing_is_heard_when_nothing_happens(engine):
    ear = Ear()
    with engine.subscribe(ear):
        add_notes(engine, "a")
        ear.waits_for("notes", status=True)
        SystemClock().pause(300)
        ear.forget()
        with engine.read() as db:
            db.execute("SELECT * FROM notes").fetchall()
        engine.status()
        assert is_quiet(ear)


# How often, and where.


def test_a_burst_is_a_few_calls_ten_a_second_at_the_most_and_the_last_change_is_in_them(engine):
    ear = Ear()
    with engine.subscribe(ear):
        for number in range(300):
            add_notes(engine, f"n{number}")
        ear.waits_for("notes")
        SystemClock().pause(300)
        waits = [later - earlier for earlier, later in zip(ear.at_ms, ear.at_ms[1:], strict=False)]
        assert all(wait >= 95 for wait in waits), waits
        assert len(ear.heard) < 100
        seen = engine._subscriptions._service._seen
        assert seen.newest_entry == engine.last_entries()[-1]


def test_a_callback_that_raises_harms_neither_the_others_nor_the_engine(engine, caplog):
    ear = Ear()

    def broken(change):
        raise SystemExit("canary of a host")

    with engine.subscribe(broken), engine.subscribe(ear):
        add_notes(engine, "a")
        ear.waits_for("notes")
        ear.forget()
        SystemClock().pause(150)
        add_notes(engine, "b")
        ear.waits_for("notes")
    assert "a subscription's callback failed" in caplog.text
    assert "canary of a host" not in caplog.text


def test_nothing_runs_before_the_first_subscription_or_after_the_last(engine):
    assert threads() == set()
    one, two = engine.subscribe(Ear()), engine.subscribe(Ear())
    assert "syncengine-subscriptions" in threads()
    one.close()
    one.close()
    assert "syncengine-subscriptions" in threads()
    two.close()
    assert threads() == set()
    ear = Ear()
    with engine.subscribe(ear):
        add_notes(engine, "a")
        ear.waits_for("notes")


def test_nothing_is_heard_after_close_also_of_the_engine(tmp_path):
    ear = Ear()
    with opened(tmp_path / "app") as engine:
        subscription = engine.subscribe(ear)
        subscription.close()
        add_notes(engine, "a")
        assert is_quiet(ear)
        engine.subscribe(ear)
    assert threads() == set()


def test_a_callback_may_close_its_own_subscription_and_the_engine(engine):
    done = threading.Event()

    def once(change):
        subscription.close()
        engine.close()
        done.set()

    subscription = engine.subscribe(once)
    add_notes(engine, "a")
    assert done.wait(WAIT_S)


def test_a_subscription_is_closed_within_a_block_that_its_callback_waits_for(engine):
    inside = threading.Event()

    def look(change):
        inside.set()
        engine.status()  # waits for the block

    subscription = engine.subscribe(look)
    engine._wake("user")
    with engine.write() as db:
        inside.wait(0.2)  # or its thread waits for the block before it calls: it has to end either way
        db["notes"].insert({"user_id": "ann", "id": "a"})
        subscription.close()
    assert engine.status().outbox.waiting == 1


def test_the_package_and_a_start_import_nothing_of_it():
    code = (
        "import sys; from syncengine.engine import Engine;"
        "print([n for n in sys.modules if n in ('watchdog', 'syncengine.subscriptions', 'syncengine.users',"
        " 'syncengine.receipts', 'syncengine.status')])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "[]"


def test_an_event_loop_hears_it_in_its_own_thread(engine):
    async def app():
        queue = on_asyncio(asyncio.get_running_loop())
        heard = asyncio.get_running_loop().create_future()

        def hear(change):
            if change.collections and not heard.done():
                heard.set_result((change, threading.get_ident()))

        with engine.subscribe(queue.listener(hear)):
            await asyncio.to_thread(add_notes, engine, "a")
            return await asyncio.wait_for(heard, WAIT_S)

    change, thread = asyncio.run(app())
    assert "notes" in change.collections
    assert thread == threading.get_ident()


def test_a_window_that_does_not_look_has_one_call_waiting_with_all_of_it(engine):
    queue, heard, direct = CallbackQueue(), [], Ear()
    with engine.subscribe(queue.listener(heard.append)), engine.subscribe(direct):
        add_notes(engine, "a")
        direct.waits_for("notes")
        direct.forget()
        with engine.write() as db:
            db["tags"].insert({"user_id": "ann", "id": "t", "note": "a"})
        direct.waits_for("tags")
    assert queue.poll() == 1
    assert heard == [StoreChanged(collections=("looks", "notes", "tags"), status_changed=True)]


@pytest.mark.parametrize("collections", ["notes", b"notes", 5, [5.0], [None]], ids=repr)
def test_what_are_no_collections_and_what_cannot_be_called_is_told_so_and_nothing_is_started(engine, collections):
    with pytest.raises(TypeError, match="collections is a "):
        engine.subscribe(print, collections=collections)
    with pytest.raises(TypeError, match="callback is a function, and not a NoneType; "):
        engine.subscribe(None)
    assert not [name for name in threads() if "subscri" in name]
