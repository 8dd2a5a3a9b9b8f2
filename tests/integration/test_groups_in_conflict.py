"""A group is refused whole: the edit of the row that had changed is decided, and the others get to the cloud."""

import pytest
from sync_world import World


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def theirs_wins(base, mine, theirs):
    return theirs


@pytest.mark.parametrize("merge", ["server_wins", theirs_wins], ids=["server_wins", "function"])
def test_a_new_row_written_together_with_one_in_conflict_gets_to_the_cloud_in_the_same_round(world, merge):
    a, b = world.device("a", merge=merge), world.device("b", merge=merge)
    a.add("x", title="0")
    world.settle()
    a.write("UPDATE plans SET title = 'A' WHERE id = 'x'")
    with b.engine.write() as db:
        db.execute("UPDATE plans SET title = 'B' WHERE id = 'x'")
        db.execute("INSERT INTO plans (user_id, id, title) VALUES ('ann', 'z', 'precious')")
    a.sync()
    b.sync()
    a.sync()
    assert a.plans() == b.plans()
    assert {key: row[0] for key, row in a.plans().items()} == {"x": "A", "z": "precious"}
    assert b.outbox() == []


def test_an_older_row_edited_together_with_one_in_conflict_is_sent_and_the_one_in_conflict_decided(world):
    a, b = world.device("a", merge="server_wins"), world.device("b", merge="server_wins")
    a.add("x", title="0")
    a.add("y", title="0")
    world.settle()
    a.write("UPDATE plans SET title = 'A' WHERE id = 'x'")
    b.write("UPDATE plans SET title = 'B'")
    a.sync()
    b.sync()
    a.sync()
    assert {key: row[0] for key, row in a.plans().items()} == {"x": "A", "y": "B"}
    assert a.plans() == b.plans()
    assert b.outbox() == []


def test_a_renamed_row_that_had_changed_at_the_cloud_leaves_nothing_that_waits_for_ever(world):
    a, b = world.device("a", merge="server_wins"), world.device("b", merge="server_wins")
    a.add("x", title="0")
    world.settle()
    a.write("UPDATE plans SET title = 'A' WHERE id = 'x'")
    b.write("UPDATE plans SET id = 'y' WHERE id = 'x'")
    a.sync()
    b.sync()
    a.sync()
    assert b.outbox() == []
    assert a.plans() == b.plans()
    assert a.plans()["y"][0] == "0"


def test_a_mark_that_was_left_by_a_killed_round_goes_with_the_next_reading(world):
    a, b = world.device("a", merge="server_wins"), world.device("b", merge="server_wins")
    b.add("z", title="precious")
    with b.engine._store.transaction():
        b.query("UPDATE _sync_outbox SET last_error = 'conflict'")
    b.sync()
    a.sync()
    assert list(a.plans()) == ["z"]
