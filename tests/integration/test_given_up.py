"""Edits that a rescue set aside and that a person gives up: afterwards the device is as the cloud is."""

import pytest
from sync_world import World

from syncengine import Settings
from syncengine.local.keys import KeyFile
from syncengine.local.rescuing import rescue


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def rescued(device):
    """The store is damaged, and its newest sealed file takes its place."""
    sealed = device.engine.migrations.make_restore_point().path
    device.engine.close()
    path = device.path / "app.db"
    path.write_bytes(bytes(len(path.read_bytes())))
    keys = KeyFile(f"{path}.key")
    rescue(str(path), str(sealed), keys=keys, settings=Settings(), clock=device.world.clock)
    device.open(device.version)


def give_up_all(device):
    for item in device.engine.quarantine.items():
        assert item.error_code == "restored_over"
        device.engine.quarantine.discard(item.item_id, reason="seen, and given up")


@pytest.mark.parametrize("reads_first", [False, True])
@pytest.mark.parametrize("was_sent", [False, True])
def test_what_is_given_up_after_a_rescue_is_here_as_it_is_at_the_cloud(world, was_sent, reads_first):
    one, two = world.device("one"), world.device("two")
    for key in ("edited", "deleted", "kept"):
        one.add(key, title="before")
    world.settle()
    one.add("made", title="never sent")
    one.write("UPDATE plans SET note = 'never sent' WHERE id IN ('made', 'edited')")
    one.write("DELETE FROM plans WHERE id = 'deleted'")
    if was_sent:
        one.line.lost_answers = 1
        one.failed_sync()
    rescued(one)
    if reads_first:
        one.sync()
    give_up_all(one)
    world.settle()
    assert one.plans() == two.plans()
    assert one.plans().keys() == ({"edited", "kept", "made"} if was_sent else {"edited", "deleted", "kept"})
    assert one.plans()["edited"][-1] == ("never sent" if was_sent else None)
    assert one.outbox() == one.parked() == one.quarantine() == []
    assert one.engine.status().synced
