"""Several texts that are no UTF-8 in one row, one group or a long queue: each is set aside, the rest goes on."""

import pytest
from sync_world import World


@pytest.fixture
def device(tmp_path):
    world = World(tmp_path)
    yield world.device("a")
    world.close()


def at_cloud(device):
    other = device.world.device("looks")
    other.sync()
    return set(other.plans())


def test_a_second_unreadable_edit_of_a_row_joins_the_first_in_quarantine_and_the_queue_goes_on(device):
    device.write("INSERT INTO plans (user_id, id, title) VALUES ('ann', 'bad', CAST(x'ff' AS TEXT))")
    device.write("UPDATE plans SET title = CAST(x'fe' AS TEXT)")
    device.add("innocent", title="hello")
    assert device.sync().ended == "drained"
    assert device.quarantine() == [("outbox", "bad", "text_not_utf8")] * 2
    assert device.engine.status().quarantined == 2
    assert device.outbox() == []
    assert at_cloud(device) == {"innocent"}


def test_two_unreadable_rows_of_one_group_are_both_set_aside_and_the_third_waits_behind_them(device):
    with device.engine.write() as db:
        for key, text in (("bad", "CAST(x'ff' AS TEXT)"), ("good", "'x'"), ("worse", "CAST(x'fe' AS TEXT)")):
            db.execute(f"INSERT INTO plans (user_id, id, title) VALUES ('ann', '{key}', {text})")
    device.add("innocent", title="hello")
    assert device.sync().ended == "drained"
    assert [key for _, key, _ in device.quarantine()] == ["bad", "worse"]
    assert device.query("SELECT row_key, state FROM _sync_outbox") == [("good", "held")]
    assert at_cloud(device) == {"innocent"}


def test_an_unreadable_edit_behind_one_that_is_set_aside_already_waits_and_is_found_when_that_is_given_up(device):
    device.write("INSERT INTO plans (user_id, id, title) VALUES ('ann', 'bad', 'a' || char(0))")
    device.sync()
    device.write("UPDATE plans SET title = CAST(x'fe' AS TEXT)")
    device.add("innocent", title="hello")
    assert device.sync().ended == "drained"
    assert [row[2] for row in device.quarantine()] == ["text_holds_nul"]
    assert at_cloud(device) == {"innocent"}
    [(item,)] = device.query("SELECT item_id FROM _sync_quarantine")
    device.engine.quarantine.discard(item, reason="test")
    assert device.sync().ended == "drained"
    assert [row[2] for row in device.quarantine()] == ["text_not_utf8"]


def test_unreadable_edits_of_one_row_far_from_each_other_in_the_queue_are_all_set_aside(device):
    device.write("INSERT INTO plans (user_id, id, title) VALUES ('ann', 'bad', CAST(x'ff' AS TEXT))")
    with device.engine.write() as db:
        for number in range(600):
            db.execute("INSERT INTO plans (user_id, id) VALUES ('ann', ?)", (f"k{number}",))
    device.write("UPDATE plans SET title = CAST(x'fe' AS TEXT) WHERE id = 'bad'")
    assert device.sync().ended == "drained"
    assert [row[1:] for row in device.quarantine()] == [("bad", "text_not_utf8")] * 2
    assert len(at_cloud(device)) == 600
