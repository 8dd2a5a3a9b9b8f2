"""Two rows are never taken for one at the cloud: what no text of its own names is set aside with its reason."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.capture_world import CaptureWorld
from tests.integration.kin_world import World

FAULT = "key_is_no_text"


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Callable[[str], World]]:
    """Two devices with a table of notes whose columns are `user_id`, `id` as told, and `t`."""
    made: list[World] = []

    def of(key: str, rules: str = "PRIMARY KEY (user_id, id)) STRICT") -> World:
        create = f"CREATE TABLE notes (user_id TEXT NOT NULL, id {key} NOT NULL, t TEXT, {rules}"
        made.append(World(tmp_path, (create,), ("notes",)))
        return made[-1]

    yield of
    for world in made:
        world.close()


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("TEXT", "'a'", "x'61'"),
        ("VARCHAR(9)", "'a'", "x'61'"),
        ("INTEGER", "7", "x'37'"),
        ("NUMERIC", "7", "x'37'"),
        ("REAL", "7.5", "x'372e35'"),
        ("", "'7'", "7"),
        ("", "'7.5'", "7.5"),
        ("BLOB", "'a'", "x'61'"),
    ],
)
def test_of_two_rows_whose_keys_differ_in_storage_alone_the_one_that_its_text_finds_is_sent(notes, key, good, bad):
    world = notes(key, "PRIMARY KEY (user_id, id))")
    world.one.write(f"INSERT INTO notes VALUES ('ann', {good}, 'good')")
    world.one.write(f"INSERT INTO notes VALUES ('ann', {bad}, 'bad')")
    world.settle()
    assert list(world.at_cloud("notes").values()) == [("good",)]
    assert list(world.two.rows("notes").values()) == [("good",)]
    assert [code for _, code in world.one.open_items()] == [FAULT]
    assert world.one.engine.status().quarantined == 1
    assert "give it a text as key" in world.one.engine.quarantine.items()[0].error_text
    world.one.engine.reconcile()
    world.settle()
    assert [code for _, code in world.one.open_items()] == [FAULT]
    world.one.write(f"UPDATE notes SET t = 'newer' WHERE id = {good}")
    world.settle()
    assert list(world.at_cloud("notes").values()) == list(world.two.rows("notes").values()) == [("newer",)]
    world.two.write("DELETE FROM notes")
    world.settle()
    assert world.at_cloud("notes") == {}
    assert list(world.one.rows("notes").values()) == [("bad",)]


@pytest.mark.parametrize(
    ("key", "values"), [("INTEGER", "1"), ("INTEGER", "'x1'"), ("REAL", "7.5"), ("NUMERIC", "0.5"), ("ANY", "'1'")]
)
def test_a_key_that_its_text_finds_is_sent_edited_and_deleted_on_both_devices(notes, key, values):
    world = notes(key, "PRIMARY KEY (user_id, id))" + (" STRICT" if key == "ANY" else ""))
    world.one.write(f"INSERT INTO notes VALUES ('ann', {values}, 'x')")
    world.settle()
    world.two.write("UPDATE notes SET t = 'y'")
    world.settle()
    assert list(world.one.rows("notes").values()) == [("y",)]
    world.two.write("DELETE FROM notes")
    world.settle()
    assert (world.one.rows("notes"), world.at_cloud("notes")) == ({}, {})


def test_a_real_number_with_more_digits_than_its_text_has_is_not_taken_for_another(tmp_path):
    """0.1 + 0.2 and 0.3 have one text where SQLite writes fifteen digits, as it did before 3.54."""
    world = CaptureWorld(tmp_path, "CREATE TABLE walks (user_id TEXT, id REAL)")
    world.cli("INSERT INTO walks VALUES ('ann', 0.3), ('ann', 0.1 + 0.2)")
    assert len({key for (key,) in world.raw("row_key")} - {"0.3"}) == 1
    world.store.close()


def test_a_row_that_is_given_a_text_as_its_key_is_sent(notes):
    world = notes("TEXT", "PRIMARY KEY (user_id, id))")
    world.one.write("INSERT INTO notes VALUES ('ann', x'61', 'x')")
    world.settle()
    (item,) = world.one.engine.quarantine.items()
    world.one.write("UPDATE notes SET id = 'b'")
    world.one.engine.quarantine.discard(item.item_id, reason="it has another key now")
    world.settle()
    assert list(world.at_cloud("notes")) == list(world.two.rows("notes")) == ["b"]
