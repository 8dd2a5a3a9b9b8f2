"""A write of an older shape lies beside a row, and is lifted over what was written to the row after it."""

import pytest
from sync_world import World


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def devices(world):
    """A newer one and an older one; the row is in the newer shape at the cloud."""
    newer, older = world.device("newer", "2.0.0"), world.device("older", "1.0.0")
    older.add("x", title="walk", minutes=1)
    world.settle(older, newer)
    newer.write("UPDATE plans SET name = 'long walk'")
    world.settle(newer, older)
    return newer, older


def test_a_value_that_a_patch_is_lifted_over_is_recorded_where_it_was_written_after_the_patch(world, devices):
    newer, older = devices
    older.write("UPDATE plans SET minutes = 5")
    older.sync()
    newer.write("UPDATE plans SET seconds = 120, note = 'by hand'")
    newer.sync()
    assert newer.plans() == {"x": ("long walk", 300, "by hand")}
    assert newer.conflicts() == [("x", "seconds", "120", "300", "server")]
    world.settle()
    assert len(newer.conflicts()) == 1


def test_edits_of_an_older_device_one_after_the_other_are_no_conflicts(world, devices):
    newer, older = devices
    for minutes in (5, 6, 7):
        older.write("UPDATE plans SET minutes = ?", minutes)
        world.settle(older, newer)
    assert newer.plans() == {"x": ("long walk", 420, None)}
    assert newer.conflicts() == older.conflicts() == []


def test_the_same_value_is_no_conflict(world, devices):
    newer, older = devices
    older.write("UPDATE plans SET minutes = 5")
    older.sync()
    newer.write("UPDATE plans SET seconds = 300")
    world.settle()
    assert newer.plans()["x"][1] == 300
    assert newer.conflicts() == []


def test_an_edit_of_another_field_that_comes_after_the_patch_is_no_conflict(world, devices):
    newer, older = devices
    older.write("UPDATE plans SET note = 'of the older'")
    older.sync()
    newer.write("UPDATE plans SET seconds = 300")
    world.settle()
    assert newer.plans() == {"x": ("long walk", 300, "of the older")}
    assert [row for row in newer.conflicts() if row[1] == "seconds"] == []
