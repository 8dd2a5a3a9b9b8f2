"""Triggers of the app fire on rows from the cloud, and the devices come to the same rows all the same."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from syncengine.errors import RoundFailed
from tests.integration.kin_world import Device, World
from tests.integration.pull_world import Device as Reader
from tests.integration.pull_world import journey, note

FOLDERS = "CREATE TABLE folders (user_id TEXT NOT NULL, id TEXT NOT NULL, t TEXT, PRIMARY KEY (user_id, id)) STRICT"
NOTES = (
    "CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, folder TEXT, t TEXT, at TEXT,"
    " PRIMARY KEY (user_id, id)) STRICT"
)
LOG = "CREATE TABLE log (user_id TEXT NOT NULL, id TEXT NOT NULL, t TEXT, PRIMARY KEY (user_id, id)) STRICT"
NAMES = ("folders", "notes", "log")

CASCADE = """CREATE TRIGGER app_cascade AFTER DELETE ON folders BEGIN
  DELETE FROM notes WHERE user_id = old.user_id AND folder = old.id;
END"""
STAMP = """CREATE TRIGGER app_stamp AFTER UPDATE ON notes WHEN new.at IS old.at BEGIN
  UPDATE notes SET at = hex(randomblob(8)) WHERE user_id = new.user_id AND id = new.id;
END"""
LOGGED = """CREATE TRIGGER app_log AFTER UPDATE OF t ON notes WHEN new.t IS NOT old.t BEGIN
  INSERT INTO log VALUES (new.user_id, lower(hex(randomblob(8))), new.t);
END"""

TOUCH = """CREATE TRIGGER app_touch AFTER UPDATE ON notes BEGIN
  UPDATE folders SET t = hex(randomblob(8)) WHERE user_id = new.user_id AND id = new.folder;
END"""
INDEX = (
    "CREATE VIRTUAL TABLE words USING fts5 (t, content='notes')",
    """CREATE TRIGGER app_words_insert AFTER INSERT ON notes BEGIN
      INSERT INTO words (rowid, t) VALUES (new.rowid, new.t);
    END""",
    """CREATE TRIGGER app_words_delete AFTER DELETE ON notes BEGIN
      INSERT INTO words (words, rowid, t) VALUES ('delete', old.rowid, old.t);
    END""",
    """CREATE TRIGGER app_words_update AFTER UPDATE ON notes BEGIN
      INSERT INTO words (words, rowid, t) VALUES ('delete', old.rowid, old.t);
      INSERT INTO words (rowid, t) VALUES (new.rowid, new.t);
    END""",
)


class _Devices(World):
    """Three devices whose apps have the same triggers."""

    def __init__(self, folder: Path, *triggers: str, **more: int) -> None:
        super().__init__(folder, (FOLDERS, NOTES, LOG), NAMES, **more)
        self.three = Device(self, "three")
        for device in self.devices:
            device.write(*triggers)

    @property
    def devices(self) -> tuple[Device, ...]:
        return (self.one, self.two, self.three) if hasattr(self, "three") else (self.one, self.two)

    def settle_until_quiet(self, rounds_max: int = 6) -> None:
        """Rounds until one brings nothing new to any device or the cloud."""
        before = None
        for _ in range(rounds_max):
            self.settle(*self.devices, rounds=1)
            now = [self.at_cloud(name) for name in NAMES], self._versions()
            if now == before:
                return
            before = now
        raise AssertionError("the devices go on telling each other something new")

    def _versions(self) -> list[list[tuple[object, ...]]]:
        return [
            device.query("SELECT collection, row_key, version FROM _sync_row ORDER BY 1, 2")
            for device in self.devices
        ]

    def all_agree(self) -> None:
        self.settle_until_quiet()
        for name in NAMES:
            assert [device.rows(name) for device in self.devices] == [self.at_cloud(name)] * len(self.devices)
        assert [device.waits() for device in self.devices] == [[]] * len(self.devices)
        assert [device.open_items() for device in self.devices] == [[]] * len(self.devices)
        assert [device.engine.reconcile().queued for device in self.devices] == [0] * len(self.devices)


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[Callable[..., _Devices]]:
    made: list[_Devices] = []

    def of(*triggers: str, **more: int) -> _Devices:
        made.append(_Devices(tmp_path, *triggers, **more))
        return made[-1]

    yield of
    for world in made:
        world.close()


def test_what_a_trigger_deletes_with_a_row_from_the_cloud_goes_on_all_devices(devices):
    world = devices(CASCADE)
    world.one.write(
        "INSERT INTO folders VALUES ('ann', 'f', 'x')", "INSERT INTO notes VALUES ('ann', 'n', 'f', '', '')"
    )
    world.settle_until_quiet()
    world.three.write("INSERT INTO notes VALUES ('ann', 'late', 'f', '', '')")
    world.settle(world.three, world.one, rounds=1)
    world.two.write("DELETE FROM folders")
    world.all_agree()
    assert world.at_cloud("notes") == {}


def test_an_edit_that_comes_back_from_the_cloud_fires_no_trigger(devices):
    world = devices(STAMP, LOGGED)
    world.one.write("INSERT INTO notes VALUES ('ann', 'a', NULL, 'x', '2020'), ('ann', 'b', NULL, 'x', '2020')")
    world.settle_until_quiet()
    assert world.one.rows("notes") == {"a": (None, "x", "2020"), "b": (None, "x", "2020")}
    world.one.write("UPDATE notes SET t = 'y' WHERE id = 'a'")
    edited = world.one.rows("notes")
    world.settle(world.one, rounds=2)
    assert world.one.rows("notes") == edited
    assert len(world.one.rows("log")) == 1
    world.all_agree()
    assert world.at_cloud("notes") == edited


def test_a_row_that_a_trigger_changes_again_is_as_the_cloud_says(devices):
    world = devices("CREATE TRIGGER app AFTER INSERT ON notes BEGIN UPDATE notes SET at = hex(randomblob(8)); END")
    world.one.write("INSERT INTO notes VALUES ('ann', 'a', NULL, 'x', '')")
    world.settle_until_quiet()
    world.two.write("INSERT INTO notes VALUES ('ann', 'b', NULL, 'x', '')")
    edited = world.two.rows("notes")
    world.all_agree()
    assert world.at_cloud("notes") == edited


def test_a_row_that_a_trigger_would_not_let_be_is_written_without_triggers(devices):
    world = devices(
        "CREATE TRIGGER app AFTER UPDATE ON notes WHEN new.at IS NOT 'mine' BEGIN UPDATE notes SET at = 'mine'; END",
        "CREATE TRIGGER app_again AFTER DELETE ON notes"
        " BEGIN INSERT INTO notes VALUES (old.user_id, old.id, NULL, 'again', ''); END",
    )
    world.three.write("DROP TRIGGER app", "DROP TRIGGER app_again")
    world.one.write("INSERT INTO notes VALUES ('ann', 'a', NULL, 'x', ''), ('ann', 'b', NULL, 'x', '')")
    world.settle_until_quiet()
    world.three.write("UPDATE notes SET at = 'three' WHERE id = 'a'", "DELETE FROM notes WHERE id = 'b'")
    world.all_agree()
    assert world.at_cloud("notes") == {"a": (None, "x", "three")}


def test_rows_that_a_trigger_makes_elsewhere_come_to_all_devices(devices):
    world = devices(LOGGED)
    world.one.write("INSERT INTO notes VALUES ('ann', 'a', NULL, 'x', '')")
    world.settle_until_quiet()
    world.one.write("UPDATE notes SET t = 'y'")
    world.all_agree()
    assert len(world.at_cloud("log")) == 3, "each device has logged the change that it saw"


def test_of_a_row_on_the_page_the_page_decides_whatever_triggers_do_to_it(devices):
    """The folder's new name comes behind the note whose trigger writes to it."""
    world = devices(TOUCH)
    world.one.write(
        "INSERT INTO folders VALUES ('ann', 'f', 'x')",
        "INSERT INTO notes VALUES ('ann', 'a', 'f', 'x', ''), ('ann', 'b', 'f', 'x', '')",
    )
    world.settle_until_quiet()
    world.one.write("UPDATE notes SET t = 'y'")
    edited = world.one.rows("folders")
    world.all_agree()
    assert world.at_cloud("folders") == edited


def test_what_triggers_do_to_a_row_that_a_later_page_brings_is_settled(devices):
    """Each reader's trigger writes to the folder before it has read what the folder's name is by now."""
    world = devices(TOUCH, pull_items_max=1)
    world.one.write(
        "INSERT INTO folders VALUES ('ann', 'f', 'x')", "INSERT INTO notes VALUES ('ann', 'a', 'f', 'x', '')"
    )
    world.settle_until_quiet()
    world.three.write("DROP TRIGGER app_touch")
    for number in range(5):
        world.three.write(f"UPDATE notes SET t = '{number}'")
        world.three.write(f"UPDATE folders SET t = '{number}'")
        world.three.sync()
    world.all_agree()
    assert world.at_cloud("notes") == {"a": ("f", "4", "")}


def test_two_triggers_that_answer_each_other_come_to_rest(devices):
    world = devices(
        "CREATE TRIGGER app_down AFTER UPDATE OF t ON folders BEGIN"
        " UPDATE notes SET at = hex(randomblob(8)) WHERE folder = new.id; END",
        "CREATE TRIGGER app_up AFTER UPDATE OF at ON notes BEGIN"
        " UPDATE folders SET t = hex(randomblob(8)) WHERE id = new.folder AND t IS 'by hand'; END",
    )
    world.one.write(
        "INSERT INTO folders VALUES ('ann', 'f', 'x')", "INSERT INTO notes VALUES ('ann', 'a', 'f', 'x', '')"
    )
    world.settle_until_quiet()
    world.one.write("UPDATE folders SET t = 'by hand'")
    world.two.write("INSERT INTO notes VALUES ('ann', 'b', 'f', 'x', '')")
    world.three.write("UPDATE folders SET t = 'by hand'", "UPDATE notes SET t = 'y'")
    world.all_agree()


def test_triggers_that_write_what_follows_from_the_rows_agree_on_every_device(devices):
    """As each reader's trigger fires again: count(*) is the same for all, where a count raised by one is not."""
    world = devices(
        """CREATE TRIGGER app_count AFTER INSERT ON notes BEGIN
          UPDATE folders SET t = (SELECT count(*) FROM notes WHERE folder = new.folder) WHERE id = new.folder;
          INSERT OR IGNORE INTO log VALUES (new.user_id, 'made ' || new.id, new.t);
        END""",
        pull_items_max=1,
    )
    world.one.write("INSERT INTO folders VALUES ('ann', 'f', 0)")
    for key in "abc":
        world.one.write(f"INSERT INTO notes VALUES ('ann', '{key}', 'f', 'x', '')")
    world.all_agree()
    world.two.write("INSERT INTO notes VALUES ('ann', 'd', 'f', 'x', '')")
    world.three.write("INSERT INTO notes VALUES ('ann', 'e', 'f', 'x', '')")
    world.all_agree()
    assert world.at_cloud("folders") == {"f": ("5",)}
    assert sorted(world.at_cloud("log")) == [f"made {key}" for key in "abcde"]


def test_a_trigger_that_fires_itself_without_end_is_told_with_what_to_do(devices):
    world = devices("CREATE TRIGGER app AFTER UPDATE ON notes BEGIN UPDATE notes SET at = 'now'; END")
    world.one.write("INSERT INTO notes VALUES ('ann', 'a', NULL, 'x', '')")
    with pytest.raises(sqlite3.OperationalError) as raised:
        world.one.write("UPDATE notes SET t = 'y'")
    assert "WHEN" in "".join(raised.value.__notes__)
    assert world.one.rows("notes") == {"a": (None, "x", "")}


@pytest.mark.parametrize(
    ("does", "text", "why"),
    [
        ("UPDATE notes SET at = 'now'", "y", "triggers nested too deep: one fires itself without end"),
        ("SELECT new.t -> '$.a'", "secret", "malformed JSON (triggers of the app on it: app_own)"),
        ("SELECT json_extract('{}', new.t)", "secret", "bad JSON path (triggers of the app on it: app_own)"),
    ],
)
def test_a_row_from_the_cloud_at_which_a_trigger_fails_is_set_aside_and_the_others_go_on(devices, does, text, why):
    world = devices()
    world.two.write("INSERT INTO notes VALUES ('ann', 'a', NULL, '{}', ''), ('ann', 'b', NULL, '{}', '')")
    world.settle_until_quiet()
    world.one.write(f"CREATE TRIGGER app_own AFTER UPDATE ON notes WHEN new.id = 'a' BEGIN {does}; END")
    world.two.write(f"UPDATE notes SET t = '{text}' WHERE id = 'a'", "UPDATE notes SET t = '[]' WHERE id = 'b'")
    world.two.write("INSERT INTO folders VALUES ('ann', 'f', 'x')")
    world.settle(world.two, world.one, rounds=2)
    assert world.one.rows("notes") == {"a": (None, "{}", ""), "b": (None, "[]", "")}
    assert world.one.rows("folders") == {"f": ("x",)}
    (item,) = world.one.engine.quarantine.items()
    assert (item.origin, item.key, item.error_code) == ("pull", "a", "quarantined_by_rule")
    assert why in item.error_text
    assert "app_own" in item.error_text
    assert "secret" not in item.error_text
    world.one.write("DROP TRIGGER app_own")
    world.one.engine.quarantine.retry(item.item_id)
    world.all_agree()


def test_a_deletion_at_which_a_trigger_fails_keeps_the_row_on_all_devices_and_is_told(devices):
    """As where a trigger refuses it."""
    world = devices("CREATE TRIGGER app BEFORE DELETE ON notes WHEN old.t = 'no' BEGIN DELETE FROM notes; END")
    world.two.write("INSERT INTO notes VALUES ('ann', 'a', NULL, 'no', ''), ('ann', 'b', NULL, 'x', '')")
    world.settle_until_quiet()
    world.two.write("DROP TRIGGER app", "DELETE FROM notes")
    world.all_agree()
    assert list(world.at_cloud("notes")) == ["a"]
    assert world.three.conflicts() == [("a", "*", "local")]


def test_a_trigger_that_fails_for_every_row_ends_the_round_with_no_row_set_aside(devices):
    """As it names what is not there: no row is to blame, and none needs a person once it is mended."""
    world = devices()
    world.one.write("CREATE TRIGGER app AFTER INSERT ON notes BEGIN DELETE FROM nowhere; END")
    world.two.write("INSERT INTO notes VALUES ('ann', 'a', NULL, 'x', '')")
    world.two.sync()
    with pytest.raises(RoundFailed) as failed:
        world.one.sync()
    assert failed.value.why == "SQLite says: no such table: main.nowhere (triggers of the app on it: app)"
    assert isinstance(failed.value.__cause__, apsw.SQLError)
    assert world.one.open_items() == []
    world.one.write("DROP TRIGGER app")
    world.clock.wall_ms += 3_600_000
    world.all_agree()
    assert list(world.one.rows("notes")) == ["a"]


def test_a_parent_that_is_deleted_last_of_all_takes_along_what_triggers_delete(tmp_path):
    lists = "CREATE TABLE lists (user_id TEXT, id TEXT NOT NULL UNIQUE, t TEXT, PRIMARY KEY (user_id, id)) STRICT"
    items = (
        "CREATE TABLE items (user_id TEXT, id TEXT NOT NULL, up TEXT REFERENCES lists (id) ON DELETE SET NULL,"
        " t TEXT, PRIMARY KEY (user_id, id)) STRICT"
    )
    world = World(tmp_path, (lists, items), ("lists", "items"))
    try:
        for device in world.devices:
            device.write(
                "CREATE TRIGGER app AFTER UPDATE OF up ON items WHEN new.up IS NULL"
                " BEGIN UPDATE items SET t = 'alone' WHERE id = new.id; END",
                "CREATE TRIGGER again AFTER DELETE ON lists BEGIN INSERT INTO lists VALUES ('ann', old.id, ''); END",
            )
        world.one.write("INSERT INTO lists VALUES ('ann', 'l', ''), ('ann', 'm', '')")
        world.settle()
        world.two.write("INSERT INTO items VALUES ('ann', 'i', 'l', 'x')")
        world.one.write("DROP TRIGGER again", "DELETE FROM lists WHERE id = 'l'")
        world.settle(world.one, world.two)
        world.all_agree()
        assert world.one.rows("items") == {"i": (None, "alone")}
        assert list(world.two.rows("lists")) == ["m"]
    finally:
        world.close()


def test_a_full_text_index_that_triggers_keep_follows_the_rows_of_the_cloud(devices):
    world = devices(*INDEX, STAMP)
    world.one.write("INSERT INTO notes VALUES ('ann', 'a', NULL, 'red', ''), ('ann', 'b', NULL, 'green', '')")
    world.settle_until_quiet()
    world.two.write("UPDATE notes SET t = 'blue' WHERE id = 'a'", "DELETE FROM notes WHERE id = 'b'")
    world.one.write("UPDATE notes SET folder = 'f' WHERE id = 'a'")
    world.all_agree()
    for device in world.devices:
        found = [
            device.query(f"SELECT count(*) FROM words WHERE words MATCH '{w}'") for w in ("red", "green", "blue")
        ]
        assert found == [[(0,)], [(0,)], [(1,)]]
        device.write("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")


def test_a_row_that_no_rule_takes_leaves_nothing_of_its_triggers(devices):
    world = devices(
        "CREATE TRIGGER app AFTER INSERT ON notes BEGIN INSERT INTO log VALUES (new.user_id, new.id, new.t);"
        " SELECT RAISE(ABORT, 'no') WHERE new.t = 'no'; END"
    )
    world.three.write("DROP TRIGGER app")
    world.three.write("INSERT INTO notes VALUES ('ann', 'a', NULL, 'no', ''), ('ann', 'b', NULL, 'x', '')")
    world.settle(world.three, world.one, world.three, rounds=2)
    assert world.one.open_items() == [("a", "constraint_failed")]
    assert list(world.one.rows("notes")) == ["b"]
    assert list(world.one.rows("log")) == list(world.at_cloud("log")) == ["b"]
    assert world.one.waits() == []


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    device = Reader(tmp_path)
    yield device
    device.close()


@pytest.mark.parametrize("refused", [(), (journey("no", title="no"),)], ids=["together", "one by one"])
def test_a_row_that_triggers_of_other_rows_have_changed_is_as_the_page_says(reader, refused):
    """Once the journey is put right, its own trigger writes to the note, and that one's to the journey."""
    reader.app(
        "CREATE TRIGGER app_no BEFORE INSERT ON journeys WHEN new.title = 'no' BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    for event in ("INSERT", "UPDATE"):
        reader.app(
            f"CREATE TRIGGER app_{event} AFTER {event} ON notes BEGIN UPDATE journeys SET title = 'touched'; END"
        )
    reader.app(
        "CREATE TRIGGER app_back AFTER UPDATE ON journeys WHEN new.title = 'a walk'"
        " BEGIN UPDATE notes SET text = 'answered' WHERE text <> 'answered'; END"
    )
    reader.page(journey("a"), *refused, note("n"))
    assert {key: row["title"] for key, row in reader.rows().items()} == {"a": "a walk"}
    assert reader.rows("notes")["n"]["text"] == "text"
    assert reader.outbox() == []


def test_of_a_row_that_was_not_taken_the_page_decides_nothing(reader):
    reader.page(journey("no"))
    reader.app(
        "CREATE TRIGGER app_no BEFORE UPDATE ON journeys WHEN new.title = 'no' BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    reader.app(
        "CREATE TRIGGER app AFTER INSERT ON journeys BEGIN UPDATE journeys SET steps = 99 WHERE id = 'no'; END"
    )
    reader.page(journey("no", 2, title="no"), journey("b", 3))
    assert reader.rows()["no"]["steps"] == 99
    assert [(kind, key, what) for kind, key, what, _ in reader.outbox()] == [("patch", "no", {"steps": 99})]


def test_each_row_that_a_trigger_wrote_can_be_refused_without_the_others(reader):
    """Also such as comes from a page of which one row was not taken, so that the rows are written one by one."""
    make = "INSERT INTO notes (user_id, id) VALUES ('ann', ?)"
    reader.app(
        "CREATE TRIGGER app AFTER INSERT ON journeys BEGIN"
        " INSERT INTO notes (user_id, id) VALUES (new.user_id, new.id || 1), (new.user_id, new.id || 2);"
        " SELECT RAISE(ABORT, 'no') WHERE new.title = 'no'; END"
    )
    with reader.store.transaction():
        reader.store.query(make, ("mine",))
    reader.page(journey("a"), journey("no", title="no"), journey("b"))
    assert [key for _, key, *_ in reader.outbox()] == ["mine", "a1", "a2", "b1", "b2"]
    assert len(reader.store.query("SELECT DISTINCT group_id FROM _sync_group")) == 5
    with reader.store.transaction():
        reader.store.query(make, ("later",))
    assert len(reader.store.query("SELECT DISTINCT group_id FROM _sync_group")) == 6


def test_what_triggers_wrote_after_a_row_was_undone_is_known_for_theirs(reader):
    """Its entries are undone with it, and their numbers are given again."""
    reader.app("CREATE TRIGGER app AFTER INSERT ON notes BEGIN SELECT 1; END")
    reader.page(note("n1", journey="missing"), note("n2"), note("n3", journey="missing"), note("n4"))
    assert (list(reader.rows("notes")), list(reader.parked())) == (["n2", "n4"], ["n1", "n3"])
    assert reader.outbox() == []


def test_a_row_that_fires_triggers_costs_three_statements_and_the_page_the_rest(reader):
    """Is it so already, its write, and what was captured; SQLite does what the triggers say besides."""
    reader.app("CREATE TRIGGER app AFTER UPDATE ON notes BEGIN SELECT 1; END")
    reader.page(*[note(f"n{number:03}") for number in range(200)])
    ran: list[int] = []
    for version, rows in ((2, 100), (3, 200)):
        count = 0

        def counted(*_: object) -> bool:
            nonlocal count
            count += 1
            return True

        reader.store.connection.exec_trace = counted
        reader.page(*[note(f"n{number:03}", version, text=f"text {version}") for number in range(rows)])
        reader.store.connection.exec_trace = None
        ran.append(count)
    assert ran[1] - ran[0] <= 3 * 100 + 5
    assert reader.known()["n199"] == (3, 0)
