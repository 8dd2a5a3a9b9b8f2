"""A user is taken off the device by one process while another one works for them."""

import pytest
from drain_world import Line, MovableClock
from users_world import add_notes, another_process, opened, rows_of

from syncengine.errors import BackendUnreachable, UserTakenOut
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.vocabulary import UserId


@pytest.fixture
def cloud(tmp_path):
    clock = MovableClock()
    cloud = Cloud(SqliteStorage(str(tmp_path / "memory"), clock=clock), clock=clock)
    for user in ("ann", "bob"):
        cloud.accept_token(UserId(user), token=f"a token of {user}")
    yield cloud
    cloud.close()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "app"


@pytest.fixture
def line(cloud):
    return Line(cloud, "ann")


@pytest.fixture
def working(folder, line):
    """The engine of a process that has synced for ann. By its clock its right to send is over long ago."""
    with opened(folder, "ann", backend=line, clock=MovableClock()) as engine:
        add_notes(engine, "a", "b")
        engine.sync_now()
        yield engine


BY_ANOTHER = """
import sys
from pathlib import Path
import users_world
with users_world.opened(Path(sys.argv[1]), sys.argv[2]) as engine:
    engine.wipe("ann", unsent="destroy") if sys.argv[3] == "wipe" else engine.logout(unsent="destroy")
"""


def taken_out(folder, *, way="wipe"):
    """By another process."""
    with another_process(BY_ANOTHER, folder, "ann", way) as process:
        assert process.wait(30) == 0


def nothing_is_left(engine):
    assert rows_of(engine, "ann") == {}
    assert engine._store.query("SELECT name FROM _sync_state WHERE name LIKE '%ann%'") == []


@pytest.mark.parametrize("way", ["wipe", "destroy"])
def test_a_user_who_was_taken_out_does_not_come_back_by_a_round_of_another_process(working, folder, way):
    add_notes(working, "unsent")
    taken_out(folder, way=way)
    before = rows_of(working, "ann")
    for _ in range(2):
        with pytest.raises(UserTakenOut, match="another process"):
            working.sync_now()
    assert working.flush().reason == "user_taken_out"
    assert rows_of(working, "ann") == before
    assert before.keys() <= ({"_sync_drain"} if way == "destroy" else set())


def test_the_background_ends_by_itself(working, folder):
    working.start()
    taken_out(folder)
    with pytest.raises(UserTakenOut):
        working.sync_now()
    assert working._session.activity == "stopped"
    nothing_is_left(working)


def test_a_user_who_signs_in_again_gets_what_the_cloud_has(working, folder):
    taken_out(folder)
    working.switch_user("ann")
    working.migrate()
    working.sync_now()
    with working.read() as db:
        assert [row["id"] for row in db["notes"].rows] == ["a", "b"]
    working.sync_now()


def test_one_who_worked_for_another_user_goes_on(folder, cloud):
    with opened(folder, "bob", backend=Line(cloud, "bob")) as of_bob:
        of_bob.sync_now()
        taken_out(folder)
        add_notes(of_bob, "of bob", owner="bob")
        assert of_bob.sync_now().ended == "drained"


def test_what_was_on_its_way_meanwhile_brings_nothing_back(working, folder, line, monkeypatch):
    """A process that slept longer than its right to send lasts."""
    pull = line.pull

    def slow(request):
        answer = pull(request)
        taken_out(folder)
        return answer

    monkeypatch.setattr(line, "pull", slow)
    with pytest.raises(UserTakenOut):
        working.sync_now()
    nothing_is_left(working)


@pytest.mark.parametrize("arrives", [True, False])
def test_the_answer_to_what_was_sent_meanwhile_leaves_nothing_behind(working, folder, line, monkeypatch, arrives):
    push = line.push

    def slow(request):
        answer = push(request)
        taken_out(folder)
        if not arrives:
            raise BackendUnreachable("The answer was lost.")
        return answer

    monkeypatch.setattr(line, "push", slow)
    add_notes(working, "c")
    with pytest.raises(UserTakenOut):
        working.sync_now()
    nothing_is_left(working)


def test_a_store_that_went_back_to_an_older_copy_of_itself_goes_on(working):
    """The copy may be older than the user's first round on this device."""
    with working._store.transaction():
        working._store.query("DELETE FROM _sync_state WHERE name IN ('stay of ann', 'takeouts')")
    assert working.sync_now().ended == "drained"
