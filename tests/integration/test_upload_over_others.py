"""An upgrade uploads rows that other devices have changed, or deleted, since this one has read them."""

import pytest
import sync_world
from sync_world import World

from syncengine import ListedMigration, MigrationRegistry, upload
from syncengine.errors import BackendUnreachable

UPLOAD = upload(id="plans-upload", from_version="1.0.0", to_version="2.0.0", collections=("plans",))


def uploading(version: str, merge) -> MigrationRegistry:
    """The app of these worlds, whose 2.0.0 sends all plans once more."""
    plain = REGISTRY(version, merge)
    listed = ListedMigration("plans-upload", "1.0.0 > 2.0.0", UPLOAD, scope="user", online=True)
    return MigrationRegistry(
        app="plans",
        baseline="0.0.0",
        target=version,
        collections=plain.collections.values(),
        migrations=(*plain.migrations, listed),
        asks_for_major=False,
    )


REGISTRY = sync_world.registry


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(sync_world, "registry", uploading)
    made = World(tmp_path)
    yield made
    made.close()


def two_that_agree(world):
    """Both have one plan."""
    first, second = world.device("first"), world.device("second")
    first.add("a", title="mine", note="old")
    first.add("b", title="hers")
    world.settle()
    assert first.plans() == second.plans()
    return first, second


def test_an_upload_takes_no_newer_value_of_another_device_away(world):
    first, second = two_that_agree(world)
    first.write("UPDATE plans SET note = 'new' WHERE id = 'a'")
    first.sync()
    second.restart("2.0.0")
    second.sync()
    assert second.plans()["a"] == ("mine", None, "new")
    first.restart("2.0.0")
    world.settle()
    assert first.plans() == second.plans()
    assert first.plans()["a"] == ("mine", None, "new")
    assert first.conflicts() == second.conflicts() == []
    assert second.outbox() == []


def test_an_upload_brings_no_row_back_that_another_device_has_deleted(world):
    first, second = two_that_agree(world)
    first.write("DELETE FROM plans WHERE id = 'a'")
    first.sync()
    second.restart("2.0.0")
    second.sync()
    world.settle()
    assert sorted(first.plans()) == sorted(second.plans()) == ["b"]
    assert first.quarantine() == second.quarantine() == []


def test_an_edit_here_is_done_on_top_of_what_another_device_wrote_before_the_upload(world):
    first, second = two_that_agree(world)
    first.write("UPDATE plans SET note = 'new' WHERE id = 'a'")
    first.sync()
    second.write("UPDATE plans SET title = 'ours' WHERE id = 'a'")
    second.restart("2.0.0")
    second.write("UPDATE plans SET seconds = 60 WHERE id = 'a'")
    second.sync()
    assert second.plans()["a"] == ("ours", 60, "new")
    first.restart("2.0.0")
    world.settle()
    assert first.plans()["a"] == ("ours", 60, "new")
    assert second.outbox() == []


def test_only_while_an_upload_waits_is_everything_read_before_anything_is_sent(world):
    _, second = two_that_agree(world)
    second.restart("2.0.0")
    pull = second.line.pull
    second.line.pull = cut
    second.failed_sync()
    assert [kind for kind, _ in second.outbox()] == ["put", "put", "migration"]
    second.line.pull = pull
    second.sync()
    assert second.outbox() == []
    second.write("UPDATE plans SET note = 'ours' WHERE id = 'a'")
    second.line.pull = cut
    second.failed_sync()
    assert second.outbox() == []


def cut(_):
    raise BackendUnreachable("The line was cut.")


def test_while_an_upload_waits_a_restored_cloud_is_told_again_what_it_lost(world):
    first, second = two_that_agree(world)
    world.backup()
    second.write("UPDATE plans SET note = 'new' WHERE id = 'a'")
    second.add("c", title="late")
    second.sync()
    second.restart("2.0.0")
    world.restore()
    first.write("UPDATE plans SET minutes = 2 WHERE id = 'b'")
    first.sync()
    world.settle(second)
    assert second.plans() == {"a": ("mine", None, "new"), "b": ("hers", 120, None), "c": ("late", None, None)}
    assert second.conflicts() == []
