"""An upgrade uploads rows that other devices have changed, or deleted, since this one has read them."""

from dataclasses import replace
from typing import TypedDict

import pytest
import sync_world
from sync_world import World

from syncengine import ListedMigration, MigrationRegistry, migration, upload
from syncengine.errors import BackendUnreachable, QuotaExceeded

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


def test_deletions_get_through_where_there_is_no_room_although_all_is_read_before_an_upload(world):
    first, second = two_that_agree(world)
    world.cloud.limits = replace(world.cloud.limits, user_rows_max=2)
    second.add("c", title="one too many")
    assert isinstance(second.failed_sync(), QuotaExceeded)
    second.write("DELETE FROM plans WHERE id = 'a'")
    second.restart("2.0.0")
    second.sync()
    assert second.outbox() == []
    first.restart("2.0.0")
    first.sync()
    assert sorted(first.plans()) == sorted(second.plans()) == ["b", "c"]


class Plan(TypedDict):
    user_id: str
    id: str
    title: str | None
    minutes: int | None
    note: str | None


@migration(
    id="plans-2",
    collection="plans",
    from_version="1.0.0",
    to_version="2.0.0",
    table=sync_world.PLANS_V2,
    group_by="note",
    lossy=True,
)
def one_of_each_note(old: list[Plan]) -> dict:
    """One plan of each note: the first, with the time of all."""
    seconds = sum(each["minutes"] or 0 for each in old) * 60
    return {**{name: old[0][name] for name in ("user_id", "id", "note")}, "name": old[0]["title"], "seconds": seconds}


@pytest.fixture
def merging(world, monkeypatch):
    """2.0.0 makes one plan of those of one note, and sends all once more."""
    monkeypatch.setattr(sync_world, "plans_2", one_of_each_note)
    return world


def test_what_a_merge_says_of_rows_that_others_have_changed_since_counts_for_nothing_before_an_upload(merging):
    first, second = merging.device("first"), merging.device("second")
    first.add("a", title="mine", minutes=1, note="x")
    first.add("b", title="hers", minutes=2, note="x")
    first.add("c", title="ours", minutes=4, note="y")
    merging.settle()
    first.write("UPDATE plans SET title = 'new' WHERE id = 'c'")
    first.write("UPDATE plans SET title = 'hers, too' WHERE id = 'b'")
    first.sync()
    second.restart("2.0.0")
    assert second.plans() == {"a": ("mine", 180, "x"), "c": ("ours", 240, "y")}
    second.sync()
    assert second.plans() == {"a": ("mine", 180, "x"), "b": ("hers, too", 120, "x"), "c": ("new", 240, "y")}
    assert second.conflicts() == second.outbox() == []
    third = merging.device("third", "2.0.0")
    third.sync()
    assert third.plans() == second.plans()
