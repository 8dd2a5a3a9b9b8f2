"""Two rows are never taken for one at the cloud: what no text of its own names is set aside with its reason."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncengine import Collection, Engine, add, declared, tables
from syncengine.sync.apply import Applier
from syncengine.sync.position import Position
from tests.integration.capture_world import CaptureWorld
from tests.integration.drain_world import TABLES, MovableClock
from tests.integration.kin_world import World
from tests.integration.migrate_world import registry_of
from tests.integration.pull_world import Device, journey, pulled

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


REALS = ("1.0 / 3", "15.0 / 7", "1e30", "1e-7", "1732400000.123456", "-0.1", "5")


@pytest.mark.parametrize("key", ["REAL", "NUMERIC"])
def test_rows_whose_keys_are_any_finite_real_come_through_and_their_echo_too(notes, key):
    world = notes(key, "PRIMARY KEY (user_id, id))")
    world.one.write(*(f"INSERT INTO notes VALUES ('ann', {real}, 'x')" for real in REALS))
    world.settle()
    assert [device.open_items() for device in world.devices] == [[], []]
    assert world.one.rows("notes") == world.two.rows("notes")
    assert len(world.two.rows("notes")) == len(world.at_cloud("notes")) == len(REALS)
    world.two.write("UPDATE notes SET t = 'y'")
    world.settle()
    assert list(world.one.rows("notes").values()) == [("y",)] * len(REALS)
    assert len(world.at_cloud("notes")) == len(REALS)
    world.two.write("DELETE FROM notes")
    world.settle()
    assert (world.one.rows("notes"), world.at_cloud("notes")) == ({}, {})
    assert [device.open_items() for device in world.devices] == [[], []]


@pytest.mark.parametrize(
    ("key", "name", "value"), [("TEXT", "1.50", 1.5), ("REAL", "1_0", 10.0), ("REAL", "2.5", 1.5), ("REAL", "x", 1.5)]
)
def test_a_row_whose_name_is_not_its_key_is_set_aside(tmp_path, key, name, value):
    device = Device(tmp_path, tables=TABLES.replace(" id TEXT", f" id {key}"))
    device.page(journey(name, id=value))
    assert (device.rows(), [item[:3] for item in device.quarantine()]) == (
        {},
        [("pull", name, "quarantined_by_rule")],
    )
    device.close()


def test_a_row_of_an_older_shape_keeps_its_name_when_its_key_is_a_real(tmp_path):
    create = "CREATE TABLE notes (user_id TEXT NOT NULL, id REAL NOT NULL, t TEXT, PRIMARY KEY (user_id, id)) STRICT"
    make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(create,))
    mood = declared(
        id="mood", collection="notes", from_version="2.0.0", to_version="3.0.0", changes=(add("mood", "TEXT"),)
    )
    registry = registry_of(make, mood, target="3.0.0", collections=(Collection("notes"),))
    with Engine.open(tmp_path / "app.db", registry=registry, user="ann", clock=MovableClock()) as engine:
        engine.migrate()
        old = pulled("notes", "0.33333333333333332", 1, {"id": 1 / 3, "t": "x"})
        at = Position(cursor="c", server_epoch=1, at_head=True, resync=1)
        Applier(engine._store, registry, owner="ann").apply([old], position=at)
        assert engine._store.query("SELECT * FROM notes") == [("ann", 1 / 3, "x", None)]
        assert engine._store.query("SELECT kind, row_key FROM _sync_outbox") == []
        assert engine.quarantine.items() == ()


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


# Several rows with one key.

LOOSE = ("TEXT", "at TEXT) STRICT")


@pytest.fixture
def twice(notes: Callable[..., World]) -> World:
    """On the first device two rows have the key `a`, and one has `b`."""
    world = notes(*LOOSE)
    insert = "INSERT INTO notes VALUES ('ann', '{}', '{}', '')"
    world.one.write(insert.format("a", "first"), insert.format("b", "x"))
    world.one.write(insert.format("a", "second"))
    world.one.write(insert.format("c", "y"))
    world.settle()
    return world


def texts(world: World) -> list[list[str]]:
    """Of the first device, of the second, and at the cloud."""
    on_devices = [[t for (t,) in device.query("SELECT t FROM notes ORDER BY t")] for device in world.devices]
    return [*on_devices, sorted(str(t) for t, _ in world.at_cloud("notes").values())]


def test_of_two_rows_with_one_key_none_is_lost_and_none_is_sent_for_the_other(twice):
    assert twice.one.open_items() == [("a", "key_is_shared")]
    assert texts(twice) == [["first", "second", "x", "y"], ["y"], ["y"]]
    assert twice.one.engine.status().quarantined == 1
    twice.settle()
    assert twice.one.open_items() == [("a", "key_is_shared")]


@pytest.mark.parametrize(
    ("mend", "left"),
    [
        ("DELETE FROM notes WHERE t = 'second'", ["first"]),
        ("DELETE FROM notes WHERE t = 'first'", ["second"]),
        ("UPDATE notes SET id = 'd' WHERE t = 'first'", ["first", "second"]),
        ("UPDATE notes SET id = 'd' WHERE t = 'second'", ["first", "second"]),
        ("DELETE FROM notes WHERE id = 'a'", []),
    ],
)
def test_once_each_has_a_key_of_its_own_what_is_left_is_sent(twice, mend, left):
    twice.one.write(mend)
    (item,) = twice.one.engine.quarantine.items()
    twice.one.engine.quarantine.retry(item.item_id)
    twice.settle()
    assert texts(twice) == [sorted([*left, "x", "y"])] * 3
    assert (twice.one.open_items(), twice.one.waits()) == ([], [])


@pytest.mark.parametrize("theirs", ["UPDATE notes SET t = 'theirs'", "DELETE FROM notes"])
def test_what_the_cloud_brings_for_a_key_that_two_rows_have_is_written_over_neither(notes, theirs):
    world = notes(*LOOSE)
    world.one.write("INSERT INTO notes VALUES ('ann', 'a', 'first', '')")
    world.settle()
    world.one.write("INSERT INTO notes VALUES ('ann', 'a', 'second', '')")
    world.two.write(theirs)
    world.settle()
    assert texts(world)[0] == ["first", "second"]
    assert ("a", "key_is_shared") in world.one.open_items()


@pytest.mark.parametrize("mend", ["UPDATE notes SET id = 'd'", "DELETE FROM notes"])
@pytest.mark.parametrize("when", ["before any round", "once it is set aside"])
def test_what_another_device_wrote_meanwhile_of_a_row_whose_key_was_shared_is_recorded(notes, mend, when):
    world = notes(*LOOSE)
    world.one.write("INSERT INTO notes VALUES ('ann', 'a', 'first', '')")
    world.settle()
    world.two.write("UPDATE notes SET t = 'theirs'")
    world.two.sync()
    world.one.write("INSERT INTO notes VALUES ('ann', 'a', 'second', '')")
    if when == "once it is set aside":
        world.one.sync()
    world.one.write(f"{mend} WHERE t = 'second'")
    for item in world.one.engine.quarantine.items():
        world.one.engine.quarantine.retry(item.item_id)
    world.settle()
    on_one, on_two, at_cloud = texts(world)
    assert on_one == on_two == at_cloud
    recorded = world.one.query("SELECT row_key, field FROM _sync_conflict WHERE server_json = '\"theirs\"'")
    assert recorded == [("a", "t")]


@pytest.mark.parametrize(
    ("key", "rules"),
    [
        ("TEXT", "PRIMARY KEY (user_id, id))"),
        ("TEXT", "UNIQUE (id)) STRICT"),
        ("TEXT", "UNIQUE (id, user_id)) STRICT"),
        ("INTEGER PRIMARY KEY", "at TEXT)"),
    ],
)
def test_a_table_with_a_rule_that_a_key_names_one_row_is_not_read_for_each_claim(notes, key, rules):
    world = notes(key, rules)
    world.one.write("INSERT INTO notes (user_id, id) VALUES ('ann', 1)")
    world.settle()
    assert list(world.two.rows("notes")) != []
    assert world.one.engine._store.loose_tables[1] == ()
