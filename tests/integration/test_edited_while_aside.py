"""A row that another device wrote lies in quarantine here, and its row in the table is edited: nothing of the other's
goes without a record."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncengine.outbox.entry import AllApplied
from syncengine.outbox.queue import Outbox
from syncengine.outbox.rows_aside import RowChange, RowsAside
from tests.integration.sync_world import Device, World

TAKES_NOTHING_OF_TWOS = (
    "CREATE TRIGGER app BEFORE UPDATE ON plans WHEN new.title LIKE '%by two%' BEGIN SELECT RAISE(ABORT, 'no'); END"
)
THEIRS = ("a", "title", '"mine"', '"by two"', "local")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def one(world: World) -> Device:
    """A device at which another's title lies in quarantine."""
    one, two = world.device("one"), world.device("two")
    one.add("a", title="old", minutes=1)
    world.settle()
    one.write(TAKES_NOTHING_OF_TWOS)
    two.write("UPDATE plans SET title = 'by two' WHERE id = 'a'")
    world.settle(two, one)
    assert one.quarantine() == [("pull", "a", "constraint_failed")]
    assert one.plans() == {"a": ("old", 1, None)}
    return one


def test_an_edit_over_a_title_in_quarantine_records_the_title(world, one):
    one.write("UPDATE plans SET title = 'mine' WHERE id = 'a'")
    world.settle()
    assert one.conflicts() == [THEIRS]
    assert one.quarantine() == []
    assert [device.plans()["a"][0] for device in world.devices] == ["mine", "mine"]


def test_the_record_is_made_once_however_often_the_row_is_edited_before_it_is_sent(world, one):
    for title in ("mine", "later", "last"):
        with one.engine.write() as db:
            db.execute("UPDATE plans SET title = ? WHERE id = 'a'", (title,))
            db.execute("INSERT INTO plans (user_id, id) VALUES ('ann', ?)", (title,))
    world.settle()
    assert [(key, field, theirs) for key, field, _, theirs, _ in one.conflicts()] == [("a", "title", '"by two"')]


def test_an_edit_of_another_field_records_nothing_and_leaves_the_title_in_quarantine(world, one):
    one.write("UPDATE plans SET minutes = 5 WHERE id = 'a'")
    world.settle()
    assert one.conflicts() == []
    assert one.quarantine() == [("pull", "a", "constraint_failed")]
    assert world.devices[1].plans() == {"a": ("by two", 5, None)}
    one.write("UPDATE plans SET title = 'mine' WHERE id = 'a'")
    world.settle()
    assert one.conflicts() == [THEIRS]


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM plans WHERE id = 'a'", "INSERT OR REPLACE INTO plans VALUES ('ann', 'a', 'mine', 1, NULL)"],
    ids=["deleted", "replaced"],
)
def test_who_takes_a_row_away_that_lies_in_quarantine_has_a_record_of_all_of_it(world, one, statement):
    one.write(statement)
    world.settle()
    [(key, field, mine, theirs, winner)] = one.conflicts()
    assert (key, field, mine, winner) == ("a", "*", "null", "local")
    assert '"by two"' in theirs
    assert "user_id" not in theirs
    assert one.quarantine() == []


def test_what_the_other_device_wrote_after_the_row_in_quarantine_is_recorded_too(world, one):
    world.devices[1].write("UPDATE plans SET title = 'by two again' WHERE id = 'a'")
    world.devices[1].sync()
    one.write("UPDATE plans SET title = 'mine' WHERE id = 'a'")
    world.settle()
    assert [each[1:] for each in one.conflicts()] == [("title", '"mine"', '"by two again"', "local")]


def test_an_answer_to_what_was_sent_before_the_row_in_quarantine_takes_nothing_of_it(one):
    store = one.engine._store
    mine = RowChange(
        collection="plans",
        row_key="a",
        kind="patch",
        shape_version="1.0.0",
        before={"title": "old"},
        set={"title": "mine"},
        theirs={},
    )
    [(known,)] = one.query("SELECT version FROM _sync_row WHERE row_key = 'a'")
    with store.transaction():
        aside = RowsAside(store, "ann")
        assert aside.replaced_by(mine, version=known) == {}
        assert aside.replaced_by(mine, version=known + 1) == {"title": "by two"}
        assert aside.replaced_by(mine, version=known + 2) == {}


def test_an_answer_that_all_was_applied_records_the_title_too(one):
    one.write("UPDATE plans SET title = 'mine' WHERE id = 'a'")
    outbox = Outbox(one.engine._store)
    batch = outbox.claim("ann", entries_max=10, bytes_max=100_000)
    [sent] = batch.entries
    answer = AllApplied(first=sent.sequence, versions=[sent.base_version + 1])
    assert outbox.confirm(batch, answer).applied == 1
    assert one.conflicts() == [THEIRS]
