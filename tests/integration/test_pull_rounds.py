"""Rounds of several devices with one cloud: everything arrives, conflicts are told, and all come to agree."""

import json
import threading

import pytest
from sync_world import World

from syncengine.errors import BackendUnreachable, QuotaExceeded
from syncengine.events import PagePulled
from syncengine.outbox.receipts import Where
from syncengine.remote.wire import PushEntry, PushRequest, RowsRequest
from syncengine.settings import Settings
from syncengine.sync.calls import Pull
from syncengine.vocabulary import UserId


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def test_what_one_device_writes_the_other_reads(world):
    one, two = world.device("one"), world.device("two")
    one.add("a", title="walk", minutes=3)
    assert one.sync().applied == 1
    report = two.sync()
    assert (report.ended, report.pulled) == ("drained", 1)
    assert two.plans() == {"a": ("walk", 3, None)}
    two.write("UPDATE plans SET minutes = 4")
    two.sync()
    one.sync()
    assert one.plans() == {"a": ("walk", 4, None)}
    assert one.outbox() == two.outbox() == []
    assert one.engine.status().synced
    assert any(isinstance(event, PagePulled) and event.collections == ("plans",) for event in two.events)


def test_different_fields_edited_offline_are_both_kept(world):
    one, two = world.device("one"), world.device("two")
    one.add("a", title="walk", minutes=3)
    world.settle()
    one.write("UPDATE plans SET title = 'of one'")
    two.write("UPDATE plans SET minutes = 9")
    world.settle()
    assert one.plans() == two.plans() == {"a": ("of one", 9, None)}
    assert one.conflicts() == two.conflicts() == []


def test_the_device_whose_edit_came_second_keeps_what_the_first_had_written(world):
    one, two = world.device("one"), world.device("two")
    one.add("a", title="walk", minutes=3)
    one.add("b", title="ride", minutes=7)
    world.settle()
    one.write("UPDATE plans SET title = 'of one', minutes = 4 WHERE id = 'a'")
    one.write("UPDATE plans SET title = 'changed' WHERE id = 'b'")
    two.write("UPDATE plans SET title = 'of two' WHERE id = 'a'")
    two.write("DELETE FROM plans WHERE id = 'b'")
    world.settle()
    assert one.plans() == two.plans() == {"a": ("of two", 4, None)}
    assert one.conflicts() == []
    row = '{"id":"b","title":"changed","minutes":7,"note":null}'
    assert two.conflicts() == [
        ("a", "title", '"of two"', '"of one"', "local"),
        ("b", "*", "null", row, "local"),
    ]


def test_a_lost_answer_loses_no_conflict(world):
    one, two = world.device("one"), world.device("two")
    one.add("a", title="walk", minutes=3)
    world.settle()
    one.write("UPDATE plans SET title = 'of one'")
    one.sync()
    two.write("UPDATE plans SET title = 'of two'")
    two.line.lost_answers = 1
    with pytest.raises(BackendUnreachable):
        two.sync()
    world.clock.wall_ms += 3_600_000
    world.settle()
    assert two.conflicts() == [("a", "title", '"of two"', '"of one"', "local")]


@pytest.mark.parametrize("merge", ["merge", "client_wins", "server_wins", max])
def test_the_same_field_edited_offline_is_a_conflict_that_ends_alike_everywhere(tmp_path, merge):
    def longer(base, local, server):
        return {"title": max(local["title"], server["title"], key=len)}

    world = World(tmp_path)
    merge = longer if callable(merge) else merge
    one, two = world.device("one", merge=merge), world.device("two", merge=merge)
    one.add("a", title="walk", minutes=3)
    world.settle()
    one.write("UPDATE plans SET title = 'of one, long'")
    two.write("UPDATE plans SET title = 'of two', minutes = 5")
    world.settle(one, two)
    titles = {device.plans()["a"][0] for device in world.devices}
    assert titles == {"of two" if merge in ("merge", "client_wins") else "of one, long"}
    assert {device.plans()["a"][1] for device in world.devices} == {5}
    assert one.outbox() == two.outbox() == []
    world.close()


def test_what_a_new_device_begins_with_does_not_take_the_place_of_what_the_cloud_has(tmp_path):
    world = World(tmp_path)
    first = world.device("first", merge="server_wins")
    first.add("p1", title="chosen", minutes=5)
    first.sync()
    second = world.device("second", merge="server_wins")
    second.add("p1", title="default")
    world.settle(second, first)
    assert first.plans() == second.plans() == {"p1": ("chosen", 5, None)}
    assert second.outbox() == []
    world.close()


def test_a_deletion_reaches_the_other_device_and_an_edit_of_it_is_kept_with_its_whole_row(world):
    one, two = world.device("one"), world.device("two")
    for key in ("a", "b"):
        one.add(key, title=key, minutes=3)
    world.settle()
    one.write("DELETE FROM plans")
    one.sync()
    two.write("UPDATE plans SET title = 'edited' WHERE id = 'b'")
    world.settle(one, two)
    assert one.plans() == two.plans() == {}
    assert two.quarantine() == [("pull", "b", "deleted_at_cloud")]
    (item,) = two.engine.quarantine.items()
    assert two.engine.quarantine.retry(item.item_id).resolved
    world.settle(one, two)
    assert one.plans() == two.plans() == {"b": ("edited", 3, None)}


def test_where_the_client_wins_an_edited_row_that_was_deleted_elsewhere_is_made_again(tmp_path):
    world = World(tmp_path)
    one, two = (world.device(name, merge="client_wins") for name in ("one", "two"))
    one.add("a", title="a", minutes=3)
    world.settle()
    one.write("DELETE FROM plans")
    one.sync()
    two.write("UPDATE plans SET title = 'edited'")
    two.write("UPDATE plans SET minutes = 4")
    world.settle(two, one)
    assert one.plans() == two.plans() == {"a": ("edited", 4, None)}
    assert two.quarantine() == []
    assert two.outbox() == []
    world.close()


def test_parents_and_children_come_in_whatever_order(world):
    one = world.device("one")
    with one.engine.write() as db:
        db["plans"].insert({"user_id": "ann", "id": "p", "title": "plan"})
        db["steps"].insert_all([{"user_id": "ann", "id": f"s{n}", "plan": "p", "text": "t"} for n in range(5)])
    world.settle()
    one.write("UPDATE plans SET title = 'the parent is last now'")
    world.settle()
    three = world.device("three")
    three.sync()
    assert len(three.query("SELECT * FROM steps")) == 5
    assert three.parked() == []


def test_children_whose_parent_comes_pages_later_wait_for_it(tmp_path):
    world = World(tmp_path, Settings(pull_items_max=2))
    one, two = world.device("one"), world.device("two")
    one.add("p", title="plan")
    for number in range(9):
        one.write("INSERT INTO steps VALUES ('ann', ?, 'p', 't')", f"s{number}")
    world.settle(one)
    one.write("UPDATE plans SET title = 'last'")
    one.sync()
    two.sync()
    assert len(two.query("SELECT * FROM steps")) == 9
    assert two.parked() == []
    world.close()


def test_our_own_push_whose_answer_was_lost_is_no_conflict(world):
    one, two = world.device("one"), world.device("two")
    one.add("a", title="walk")
    world.settle()
    one.write("UPDATE plans SET title = 'mine'")
    one.line.lost_answers = 1
    one.failed_sync()
    one.write("UPDATE plans SET title = 'mine again'")
    world.settle()
    assert one.plans() == two.plans() == {"a": ("mine again", None, None)}
    assert one.conflicts() == two.conflicts() == []


def test_a_device_that_only_may_drain_hands_over_its_queue_and_reads_nothing(world):
    old, new = world.device("old", "1.0.0"), world.device("new", "2.0.0")
    new.add("a", name="of the new one")
    new.sync()
    world.accept_only_from("2.0.0")
    old.add("b", title="of the old one", minutes=2)
    pulls = []
    pull = old.line.pull
    old.line.pull = lambda request: pulls.append(request) or pull(request)
    report = old.sync()
    assert report.applied == 1
    assert pulls == []
    assert list(old.plans()) == ["b"]
    new.sync()
    assert new.plans()["b"] == ("of the old one", 120, None)


def test_a_long_reading_goes_on_in_the_next_round(tmp_path):
    world = World(tmp_path, Settings(pull_items_max=3, round_pulls_max=2))
    one, two = world.device("one"), world.device("two")
    for number in range(10):
        one.add(f"k{number}", title="t")
    one.sync()
    assert two.sync().ended == "bounded"
    assert len(two.plans()) == 6
    assert not two.engine.status().synced
    assert two.sync().ended == "drained"
    assert len(two.plans()) == 10
    world.close()


# Two versions of the app.


def test_old_and_new_devices_edit_one_row_and_agree(world):
    old, new = world.device("old", "1.0.0"), world.device("new", "1.0.0")
    old.add("a", title="walk", minutes=3, note="n")
    world.settle()
    new.restart("2.0.0")
    old.write("UPDATE plans SET minutes = 5, note = 'of old'")
    new.write("UPDATE plans SET name = 'of new'")
    world.settle()
    assert new.plans() == {"a": ("of new", 300, "of old")}
    assert old.plans()["a"][1:] == (5, "of old"), "the last known form stays"
    assert old.parked() == [("a", "newer_shape")]
    assert old.outbox() == new.outbox() == []
    old.write("UPDATE plans SET note = 'later, of old'")
    world.settle()
    assert new.plans() == {"a": ("of new", 300, "later, of old")}
    old.restart("2.0.0")
    world.settle()
    assert old.plans() == new.plans()
    assert old.parked() == []
    assert old.outbox() == new.outbox() == []


@pytest.mark.parametrize("has_read", [False, True], ids=["unread", "read_and_parked"])
def test_an_old_devices_edit_over_another_old_ones_beside_a_newer_row_is_a_conflict_that_is_recorded(world, has_read):
    one, two, new = (world.device(name, "1.0.0") for name in ("one", "two", "new"))
    one.add("a", title="walk", minutes=3, note="n")
    world.settle()
    new.restart("2.0.0")
    new.write("UPDATE plans SET name = 'of new'")
    world.settle()
    one.write("UPDATE plans SET minutes = 5, note = 'of both'")
    one.sync()
    if has_read:
        two.sync()
        assert two.parked() == [("a", "newer_shape")], "it cannot know what the other one has written"
    two.write("UPDATE plans SET minutes = 8, note = 'of both'")
    two.sync()
    assert two.conflicts() == [("a", "minutes", "8", "5", "local")]
    two.write("UPDATE plans SET minutes = 9")
    world.settle()
    assert len(two.conflicts()) == 1, "over its own value it is none"
    assert new.plans() == {"a": ("of new", 540, "of both")}


def test_any_number_of_new_devices_lift_once(world):
    devices = [world.device(name, "1.0.0") for name in ("old", "two", "three")]
    old, two, three = devices
    old.add("a", title="walk", minutes=3)
    world.settle()
    two.restart("2.0.0")
    three.restart("2.0.0")
    two.write("UPDATE plans SET name = 'of two'")
    old.write("UPDATE plans SET minutes = 8")
    old.sync()
    two.line.down = three.line.down = None
    world.settle(rounds=5)
    assert two.plans() == three.plans() == {"a": ("of two", 480, None)}
    versions = [device.query("SELECT version FROM _sync_row WHERE row_key = 'a'") for device in (two, three)]
    assert versions[0] == versions[1]
    world.settle(rounds=2)
    assert versions[0] == two.query("SELECT version FROM _sync_row WHERE row_key = 'a'"), "it comes to rest"


# Reading from the start again.


def test_rows_deleted_before_the_cloud_forgot_are_deleted_here_too(world):
    one, two = world.device("one"), world.device("two")
    for key in ("a", "b", "c"):
        one.add(key, title=key)
    world.settle()
    one.write("DELETE FROM plans WHERE id IN ('a', 'b')")
    one.sync()
    two.write("UPDATE plans SET title = 'edited' WHERE id = 'b'")
    two.add("new", title="made here")
    world.clock.wall_ms += 100 * 24 * 3_600_000
    assert world.cloud.compact(keep_days=90) == 2
    one.add("d", title="d")
    one.sync()
    world.settle()
    assert two.plans().keys() == one.plans().keys() == {"c", "d", "new"}
    assert two.quarantine() == [("pull", "b", "deleted_at_cloud")]
    assert two.query("SELECT resync_reason, at_head FROM _sync_cursor") == [(None, 1)]


def no_way(request):
    raise BackendUnreachable("No route.")


def test_an_update_within_the_reading_brings_no_row_back_whose_deletion_the_cloud_forgot(world):
    new, old = world.device("new", "2.0.0"), world.device("old")
    new.write("INSERT INTO plans VALUES ('ann', 'a', 'of the newer shape', 60, NULL)")
    world.settle()
    assert old.parked() == [("a", "newer_shape")]
    new.write("DELETE FROM plans WHERE id = 'a'")
    new.write("INSERT INTO plans VALUES ('ann', 'b', 'stays', 60, NULL)")
    new.sync()
    world.clock.wall_ms += 100 * 24 * 3_600_000
    assert world.cloud.compact(keep_days=90) == 1
    old.line.pull = no_way
    old.failed_sync()
    assert old.query("SELECT resync_reason, at_head FROM _sync_cursor") == [("below_floor", 0)]
    old.restart("2.0.0")
    world.settle()
    assert old.plans().keys() == new.plans().keys() == {"b"}
    assert old.query("SELECT resync_reason, at_head FROM _sync_cursor") == [(None, 1)]


def test_what_was_sent_before_anything_was_read_goes_when_its_deletion_is_forgotten_before_the_first_reading(world):
    one, two = world.device("one"), world.device("two")
    two.add("a", title="sent and never read")
    two.add("b", title="stays")
    pull = two.line.pull
    two.line.pull = no_way
    two.failed_sync()
    one.sync()
    one.write("DELETE FROM plans WHERE id = 'a'")
    one.sync()
    world.clock.wall_ms += 100 * 24 * 3_600_000
    assert world.cloud.compact(keep_days=90) == 1
    two.line.pull = pull
    world.settle()
    assert two.plans().keys() == one.plans().keys() == {"b"}
    assert two.query("SELECT resync_reason, at_head FROM _sync_cursor") == [(None, 1)]


def test_a_cloud_restored_from_an_older_copy_is_told_again_what_it_lost(world):
    one, two = world.device("one"), world.device("two")
    one.add("kept", title="kept")
    one.add("changed", title="old")
    one.add("deleted", title="deleted")
    world.settle()
    world.backup()
    one.write("UPDATE plans SET title = 'confirmed later' WHERE id = 'changed'")
    one.write("DELETE FROM plans WHERE id = 'deleted'")
    one.add("made", title="made later")
    world.settle()
    assert one.plans() == two.plans()
    before = one.plans()
    world.restore()
    world.settle(rounds=4)
    assert one.plans() == two.plans() == before
    assert one.outbox() == two.outbox() == []
    three = world.device("three")
    three.sync()
    assert three.plans() == before


def test_a_cloud_restored_within_a_round_hears_what_it_had_confirmed_and_is_told_again(world):
    one, two = world.device("one"), world.device("two")
    one.sync()
    world.backup()
    one.add("a", title="confirmed")
    pull, hello = one.line.pull, one.line.hello
    one.line.pull = no_way
    one.failed_sync()
    one.line.pull = pull
    one.add("b", title="sent next")

    def restored_behind_it(request):
        one.line.hello = hello
        answer = hello(request)
        world.restore()
        two.add("c", title="of the new life")
        two.sync()
        return answer

    one.line.hello = restored_behind_it
    one.sync()
    world.settle()
    assert one.plans() == two.plans()
    assert two.plans().keys() == {"a", "b", "c"}


def test_after_a_restore_newer_rows_of_the_new_life_stay_and_ours_are_told(world):
    one, two = world.device("one"), world.device("two")
    one.add("a", title="old")
    world.settle()
    world.backup()
    one.write("UPDATE plans SET title = 'lost life'")
    one.sync()
    world.restore()
    for number in range(4):
        two.write("UPDATE plans SET title = ?", f"new life {number}")
        two.sync()
    world.settle()
    assert one.plans() == two.plans() == {"a": ("new life 3", None, None)}
    assert [(key, field, mine) for key, field, mine, *_ in one.conflicts()] == [("a", "title", '"lost life"')]


@pytest.mark.parametrize("who_comes_first", ["the editor", "the other"])
def test_edits_that_wait_stand_on_what_a_restored_cloud_is_told_again(world, who_comes_first):
    one, two = world.device("one"), world.device("two")
    one.add("changed", title="old")
    world.settle()
    world.backup()
    one.write("UPDATE plans SET title = 'confirmed later'")
    one.add("made", title="made later")
    world.settle()
    for key in ("changed", "made"):
        one.write("UPDATE plans SET note = 'waits' WHERE id = ?", key)
    world.restore()
    world.settle(*((one, two) if who_comes_first == "the editor" else (two, one)))
    rows = {"changed": ("confirmed later", None, "waits"), "made": ("made later", None, "waits")}
    assert one.plans() == two.plans() == rows
    assert one.quarantine() == two.quarantine() == one.outbox() == []


def test_a_reading_that_was_cut_goes_on_before_anything_is_sent_to_a_restored_cloud(world):
    one = world.device("one")
    world.settle()
    world.backup()
    one.add("made", title="made later")
    world.settle()
    one.write("UPDATE plans SET note = 'waits'")
    world.restore()
    pull = one.line.pull

    def cut(request):
        raise BackendUnreachable("The line was cut.")

    one.line.pull = cut
    one.failed_sync()
    one.failed_sync()
    one.line.pull = pull
    world.settle()
    assert world.cloud.rows("ann", RowsRequest(request_id="r", user="ann", collection="plans")).rows[0].body == {
        "id": "made",
        "title": "made later",
        "minutes": None,
        "note": "waits",
    }
    assert one.quarantine() == one.outbox() == []


def test_what_was_confirmed_before_the_first_reading_is_told_again_to_a_restored_cloud(world):
    world.backup()
    one = world.device("one")
    one.add("a", title="confirmed")
    pull = one.line.pull

    def cut(request):
        raise BackendUnreachable("The line was cut.")

    one.line.pull = cut
    one.failed_sync()
    assert one.outbox() == []
    world.restore()
    one.line.pull = pull
    world.settle()
    two = world.device("two")
    two.sync()
    assert two.plans() == one.plans() == {"a": ("confirmed", None, None)}


def test_a_deletion_in_the_new_life_of_a_restored_cloud_is_not_undone(world):
    one, two = world.device("one"), world.device("two")
    world.settle()
    world.backup()
    for key in ("x", "y", "z"):
        one.add(key, title=key)
    two.add("a", title="of two")
    world.settle()
    world.restore()
    two.write("DELETE FROM plans WHERE id = 'a'")
    two.sync()
    one.sync()
    world.settle()
    assert one.plans() == two.plans() == {key: (key, None, None) for key in ("x", "y", "z")}
    assert one.outbox() == two.outbox() == []


def test_an_older_row_is_not_told_to_a_restored_cloud_over_one_that_was_told_before(world):
    one, two = world.device("one"), world.device("two")
    world.settle()
    world.backup()
    for key in ("x", "y", "z"):
        one.add(key, title=key)
    two.add("a", title="old")
    world.settle()
    two.write("UPDATE plans SET title = 'newer, confirmed' WHERE id = 'a'")
    two.sync()
    world.restore()
    two.sync()
    one.sync()
    world.settle()
    assert one.plans() == two.plans()
    assert one.plans()["a"] == ("newer, confirmed", None, None)
    assert [(key, field, mine) for key, field, mine, *_ in one.conflicts()] == [("a", "title", '"old"')]


def test_a_field_written_in_the_new_life_of_a_restored_cloud_is_not_erased_by_a_row_of_before(world):
    one, two = world.device("one"), world.device("two")
    one.add("a", title="walk")
    world.settle()
    world.backup()
    for minutes in (1, 2, 3):
        one.write("UPDATE plans SET minutes = ?", minutes)
        one.sync()
    two.sync()
    world.restore()
    two.sync()
    two.write("UPDATE plans SET note = 'of the new life'")
    two.sync()
    world.settle(one, two)
    assert one.plans() == two.plans() == {"a": ("walk", 3, "of the new life")}


def test_a_device_that_only_reads_loses_nothing_of_others_to_a_restored_cloud(world):
    reader, writer = world.device("one"), world.device("two")
    writer.add("a", title="before")
    world.settle()
    world.backup()
    for number in range(5):
        writer.write("UPDATE plans SET title = ?", f"of the old life {number}")
        writer.sync()
    reader.sync()
    writer.write("UPDATE plans SET minutes = 7")
    writer.sync()
    world.restore()
    writer.sync()
    writer.write("UPDATE plans SET title = 'of the new life'")
    writer.sync()
    world.settle(reader, writer)
    assert reader.plans() == writer.plans() == {"a": ("of the new life", 7, None)}
    lost = [(key, field, mine) for key, field, mine, *_ in reader.conflicts()]
    assert ("a", "title", '"of the old life 4"') in lost


def test_the_newest_row_of_a_device_that_comes_later_to_a_restored_cloud_is_recorded(world):
    behind, ahead = world.device("one"), world.device("two")
    behind.add("a", title="before")
    world.settle()
    world.backup()
    ahead.write("UPDATE plans SET title = 'older'")
    world.settle(ahead, behind, rounds=1)
    ahead.write("UPDATE plans SET title = 'newest'")
    ahead.sync()
    world.restore()
    world.settle(behind, ahead)
    assert behind.plans() == ahead.plans() == {"a": ("older", None, None)}
    assert ahead.conflicts() == [("a", "title", '"newest"', '"older"', "server")]


@pytest.mark.parametrize("is_read_back", [True, False])
def test_a_deletion_that_loses_to_an_older_edit_in_a_restored_cloud_is_recorded(world, is_read_back):
    editor, deleter = world.device("one"), world.device("two")
    editor.add("a", title="before")
    world.settle()
    world.backup()
    editor.write("UPDATE plans SET title = 'older'")
    world.settle(editor, deleter, rounds=1)
    deleter.write("DELETE FROM plans")
    if is_read_back:
        deleter.sync()
    else:
        send_alone(deleter)
    world.restore()
    world.settle(editor, deleter)
    assert editor.plans() == deleter.plans() == {"a": ("older", None, None)}
    row = '{"id": "a", "title": "older", "minutes": null, "note": null}'
    assert deleter.conflicts() == [("a", "*", "null", row, "server")]
    assert editor.conflicts() == []


@pytest.mark.parametrize("who_comes_first", ["the deleter", "the other"])
def test_a_deletion_of_a_row_that_a_restored_cloud_never_had_is_told_again_or_recorded(world, who_comes_first):
    other, deleter = world.device("one"), world.device("two")
    world.settle()
    world.backup()
    other.add("a", title="made later")
    world.settle()
    deleter.write("DELETE FROM plans")
    deleter.sync()
    world.restore()
    world.settle(*((deleter, other) if who_comes_first == "the deleter" else (other, deleter)))
    row = {"id": "a", "title": "made later", "minutes": None, "note": None}
    told = [(key, field, mine, theirs and json.loads(theirs)) for key, field, mine, theirs, _ in deleter.conflicts()]
    if who_comes_first == "the deleter":
        assert other.plans() == deleter.plans() == {}
        assert [(key, field, json.loads(mine)) for key, field, mine, *_ in other.conflicts()] == [("a", "*", row)]
        assert told == []
    else:
        assert other.plans() == deleter.plans() == {"a": ("made later", None, None)}
        assert told == [("a", "*", "null", row)]
        assert other.conflicts() == []
    assert other.outbox() == deleter.outbox() == []


def test_a_deletion_that_the_copy_had_forgotten_already_is_not_told_to_a_restored_cloud(world):
    one, two = world.device("one"), world.device("two")
    one.add("a", title="gone before the copy")
    world.settle()
    one.write("DELETE FROM plans")
    world.settle()
    world.clock.wall_ms += 100 * 24 * 3_600_000
    assert world.cloud.compact(keep_days=90) == 1
    world.backup()
    one.add("b", title="b")
    world.settle()
    world.restore()
    one.sync()
    sent = [entry.key for request in one.line.pushed[-1:] for entry in request.entries]
    assert sent == ["b"]
    world.settle()
    assert one.plans() == two.plans() == {"b": ("b", None, None)}


def send_alone(device):
    """A round that sends what waits, and reads nothing."""
    pull = device.line.pull
    device.line.pull = no_way
    device.failed_sync()
    device.line.pull = pull


def test_a_push_of_before_a_restore_that_comes_late_is_not_done_over_newer_edits(world):
    one = world.device("one")
    one.add("a", title="first")
    world.settle()
    world.backup()
    one.write("UPDATE plans SET title = 'second'")
    one.sync()
    one.write("UPDATE plans SET title = 'third'")
    held_back = []
    push = one.line.push

    def hold_back(request):
        held_back.append(request)
        raise BackendUnreachable("It is on its way for long.")

    one.line.push = hold_back
    one.failed_sync()
    one.line.push = push
    world.restore()
    world.settle()
    one.write("UPDATE plans SET title = 'fourth'")
    world.settle()
    late = world.cloud.push("ann", held_back[0])
    assert {result.status for result in late.results} == {"reused"}
    world.settle()
    two = world.device("two")
    two.sync()
    assert one.plans() == two.plans() == {"a": ("fourth", None, None)}
    assert one.quarantine() == one.outbox() == []


def test_a_page_that_may_hold_what_had_no_room_before_is_left_until_that_is_answered(world):
    one, two = world.device("one"), world.device("two")
    one.add("a", title="first")
    world.settle()
    one.write("UPDATE plans SET title = 'mine'")
    held_back = []
    pull = one.line.pull

    def refuse(request):
        held_back.append(request)
        return QuotaExceeded("There is no room.")

    def arrive_late(request):
        one.line.pull = pull
        world.cloud.push("ann", held_back[0])
        two.sync()
        two.write("UPDATE plans SET title = 'over mine'")
        two.sync()
        return pull(request)

    one.line.refuses, one.line.pull = refuse, arrive_late
    assert isinstance(one.failed_sync(), QuotaExceeded)
    assert one.plans() == {"a": ("mine", None, None)}
    one.line.refuses = lambda request: None
    world.settle()
    assert one.plans() == two.plans() == {"a": ("over mine", None, None)}
    assert one.outbox() == one.quarantine() == []


def test_the_cursor_never_passes_a_page_that_was_not_kept(world):
    one, two = world.device("one"), world.device("two")
    one.add("a", title="a")
    one.sync()
    pull = two.line.pull
    two.line.pull = lambda request: pull(request).model_copy(update={"cursor": "forged", "more": True})
    two.failed_sync()
    two.line.pull = pull
    world.settle()
    assert two.plans() == {"a": ("a", None, None)}
    assert two.query("SELECT at_head FROM _sync_cursor") == [(1,)]


def test_a_page_that_cannot_be_read_is_asked_for_with_fewer_rows(world):
    from syncengine.errors import ProtocolViolation

    one, two = world.device("one"), world.device("two")
    for number in range(5):
        one.add(f"k{number}", title="t" * 1000)
    one.sync()
    asked: list[int] = []
    pull = two.line.pull

    def capped(request: Pull):
        asked.append(request.limit)
        if request.limit > 10:
            raise ProtocolViolation("The answer is too large.")
        return pull(request)

    two.line.pull = capped
    assert two.sync().ended == "drained"
    assert asked[:4] == [5000, 500, 50, 5]
    assert len(two.plans()) == 5


def test_a_device_with_nothing_to_send_hears_of_changes_in_the_background(tmp_path):
    world = World(tmp_path, Settings(pull_interval_ms=30, probe_interval_ms_min=10))
    one, two = world.device("one"), world.device("two")
    two.engine.start()
    one.add("a", title="walk")
    one.sync()
    arrived = threading.Event()
    for _ in range(500):
        if two.plans() or arrived.wait(0.02):
            break
    assert two.plans() == {"a": ("walk", None, None)}
    world.close()


def test_fields_of_a_newer_app_go_back_with_a_row_that_is_replaced_here(world):
    one, two = world.device("one"), world.device("two")
    one.add("a", title="walk", minutes=3)
    world.settle()
    entry = PushEntry(
        sequence=1, group=1, kind="patch", collection="plans", key="a", set={"mood": "calm"}, shape_version="1.0.0"
    )
    world.cloud.push(
        UserId("ann"),
        PushRequest(request_id="r", user="ann", device="newer", epoch=1, schema_version="1.0.0", entries=(entry,)),
    )
    world.settle()
    two.write("INSERT OR REPLACE INTO plans VALUES ('ann', 'a', 'replaced', NULL, NULL)")
    world.settle()
    rows = world.cloud.rows(UserId("ann"), RowsRequest(request_id="r", user="ann", collection="plans", limit=10)).rows
    assert rows[0].body == {"id": "a", "title": "replaced", "minutes": None, "note": None, "mood": "calm"}
    assert one.plans() == {"a": ("replaced", None, None)}


def test_what_a_restored_cloud_had_confirmed_is_said_to_be_confirmed_no_more(world):
    one = world.device("one")
    one.add("before", title="kept")
    one.sync()
    world.backup()
    one.write("UPDATE plans SET title = 'lost'")
    one.sync()
    (lost,) = one.engine.last_entries()
    assert one.engine.receipt(lost).state is Where.CONFIRMED
    world.restore()
    one.add("waits", title="new")
    (waits,) = one.engine.last_entries()
    one.sync()
    one.add("after", title="new")
    (after,) = one.engine.last_entries()
    one.sync()
    assert [one.engine.receipt(each).state for each in (lost, waits, after)] == [
        Where.UNKNOWN,
        Where.CONFIRMED,
        Where.CONFIRMED,
    ]
    assert "restored" in one.engine.receipt(lost).why
    assert one.engine.explain("plans", "before").synced


def test_a_merge_after_a_restore_is_in_the_receipt_of_what_was_queued_then(world):
    one, two = world.device("one", merge="server_wins"), world.device("two", merge="server_wins")
    one.add("a", title="old")
    world.settle()
    world.backup()
    one.write("UPDATE plans SET note = 'lost'")
    one.sync()
    world.restore()
    one.write("UPDATE plans SET title = 'mine'")
    (mine,) = one.engine.last_entries()
    two.write("UPDATE plans SET title = 'of two'")
    two.sync()
    world.settle()
    assert one.plans() == two.plans()
    assert one.plans()["a"][0] == "of two"
    assert one.engine.receipt(mine).state is Where.MERGED_AWAY
