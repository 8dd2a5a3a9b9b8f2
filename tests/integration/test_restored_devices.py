"""A device's store is put back from a backup, or copied: what it had not sent then takes effect once, never later."""

import shutil

import pytest
from sync_world import World

from syncengine.errors import BackendUnreachable
from syncengine.outbox.numbering import begin_epoch, has_doubtful


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def back_up(device):
    device.engine.close()
    shutil.copy(device.path / "app.db", device.path / "backup.db")
    device.open(device.version)


def put_back(device, version=None):
    device.engine.close()
    for path in device.path.glob("app.db*"):
        if path.is_file():
            path.unlink()
    shutil.copy(device.path / "backup.db", device.path / "app.db")
    device.open(version or device.version)


def no_way(request):
    raise BackendUnreachable("The line was cut.")


def set_title(device, key, title):
    device.write("UPDATE plans SET title = ? WHERE id = ?", title, key)


def delete(device, key):
    device.write("DELETE FROM plans WHERE id = ?", key)


def with_a_backup_of_what_waits(world, merge="merge"):
    """Drafts wait while the store is backed up; then they are sent, and newer edits of the same rows."""
    one, two = world.device("one", merge=merge), world.device("two", merge=merge)
    for key in ("changed", "deleted", "made alike"):
        one.add(key, title="first")
    world.settle()
    set_title(one, "changed", "draft")
    one.add("made", title="draft")
    one.add("made and deleted", title="draft")
    delete(one, "deleted")
    delete(one, "made alike")
    back_up(one)
    world.settle()
    for key in ("changed", "made"):
        set_title(one, key, "final")
    one.add("deleted", title="again")
    one.add("made alike", title="first")
    delete(one, "made and deleted")
    world.settle()
    return one, two


FINAL = {
    "changed": ("final", None, None),
    "deleted": ("again", None, None),
    "made": ("final", None, None),
    "made alike": ("first", None, None),
}


@pytest.mark.parametrize("merge", ["merge", "client_wins", "server_wins"])
def test_what_was_sent_after_the_backup_is_not_done_again_over_newer_edits(world, merge):
    one, two = with_a_backup_of_what_waits(world, merge)
    put_back(one)
    world.settle()
    assert one.plans() == two.plans() == FINAL
    assert one.outbox() == one.quarantine() == two.conflicts() == []
    assert sorted((key, field, winner) for key, field, _, _, winner in one.conflicts()) == [
        ("changed", "title", "server"),
        ("deleted", "*", "server"),
        ("made", "title", "server"),
        ("made alike", "*", "server"),
        ("made and deleted", "*", "server"),
    ]


def test_a_row_that_nobody_has_sent_arrives_from_a_store_that_was_put_back(world):
    one, two = with_a_backup_of_what_waits(world)
    put_back(one)
    one.add("offline", title="mine")
    world.settle()
    assert one.engine.status().synced
    assert one.plans() == two.plans()
    assert one.plans()["offline"] == ("mine", None, None)


def test_edits_of_other_fields_and_of_rows_that_nobody_changed_arrive_from_a_copy_that_goes_on(world):
    one, two = world.device("one"), world.device("two")
    for key in ("shared", "still", "deleted"):
        one.add(key, title="first")
    world.settle()
    back_up(one)
    set_title(one, "shared", "by the first copy")
    world.settle()
    put_back(one)
    one.write("UPDATE plans SET note = 'of the second copy' WHERE id IN ('shared', 'still')")
    delete(one, "deleted")
    world.settle()
    rows = {
        "shared": ("by the first copy", None, "of the second copy"),
        "still": ("first", None, "of the second copy"),
    }
    assert one.plans() == two.plans() == rows
    assert one.conflicts() == one.quarantine() == one.outbox() == []


def recognised_but_not_read(world):
    """The device knows that it was put back, and the line was cut before it has read anything."""
    one, two = with_a_backup_of_what_waits(world)
    put_back(one)
    pull = one.line.pull
    one.line.pull = no_way
    one.failed_sync()
    one.line.pull = pull
    return one, two


def test_that_a_store_was_put_back_is_known_after_a_crash(world):
    one, two = recognised_but_not_read(world)
    one.restart()
    world.settle()
    assert one.plans() == two.plans() == FINAL


def test_that_a_store_was_put_back_is_known_after_an_upgrade(world):
    one, two = recognised_but_not_read(world)
    one.restart("2.0.0")
    two.restart("2.0.0")
    world.settle()
    assert one.plans() == two.plans() == FINAL
    assert one.quarantine() == one.outbox() == []


def test_what_is_written_after_a_store_was_put_back_is_sent_over_what_the_cloud_has(world):
    one, two = recognised_but_not_read(world)
    set_title(one, "changed", "newest")
    set_title(one, "made", "newest")
    for key in ("deleted", "made alike"):
        one.add(key, title="newest")
    world.settle()
    assert one.plans() == two.plans() == dict.fromkeys(FINAL, ("newest", None, None))


@pytest.mark.parametrize("newer_is_written", ["before it is claimed", "while it is on its way"])
def test_a_row_that_changes_between_the_reading_and_the_push_is_not_overwritten_by_what_is_in_doubt(
    world, newer_is_written
):
    one, two = world.device("one"), world.device("two")
    for key in ("contested", "other"):
        one.add(key, title="first")
    world.settle()
    back_up(one)
    set_title(one, "other", "sent after the backup")
    world.settle()
    put_back(one)
    set_title(one, "contested", "in doubt")
    pull, push = one.line.pull, one.line.push
    one.line.pull = no_way
    one.failed_sync()
    one.line.pull = pull
    if newer_is_written == "before it is claimed":
        set_title(one, "contested", "newer")

    def another_is_first(request):
        one.line.push = push
        set_title(two, "contested", "final")
        two.sync()
        if newer_is_written == "while it is on its way":
            set_title(one, "contested", "newer")
        return push(request)

    one.line.push = another_is_first
    world.settle()
    assert one.plans() == two.plans()
    assert one.plans()["contested"] == ("newer", None, None)
    assert ("contested", "title", '"in doubt"', '"final"', "server") in one.conflicts()


def test_one_users_queue_is_in_doubt_and_not_anothers(world):
    one = world.device("one")
    one.write("INSERT INTO plans (user_id, id) VALUES ('ann', 'a'), ('bob', 'b')")
    store = one.engine._store
    for owner, is_copy in (("ann", True), ("bob", False)):
        begin_epoch(store, owner, is_copy=is_copy)
    assert [has_doubtful(store, owner) for owner in ("ann", "bob")] == [True, False]
    one.sync()
    assert not has_doubtful(store, "ann")
