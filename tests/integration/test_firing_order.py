"""An app's own triggers that answer an edit of a row with another of the same row, made before capture or after."""

import subprocess

import pytest
from sync_world import World

from syncengine.outbox.firing_order import put_in_order

STAMP = """
    CREATE TRIGGER stamp AFTER INSERT ON plans WHEN NEW.title IS NULL BEGIN
      UPDATE plans SET title = 'stamp' WHERE user_id = NEW.user_id AND id = NEW.id;
    END
"""
UPPER = """
    CREATE TRIGGER upper AFTER UPDATE OF title ON plans WHEN NEW.title <> upper(NEW.title) BEGIN
      UPDATE plans SET title = upper(NEW.title) WHERE user_id = NEW.user_id AND id = NEW.id;
    END
"""
NO_EMPTY_ONES = """
    CREATE TRIGGER no_empty_ones AFTER INSERT ON plans WHEN NEW.note = 'go' BEGIN
      DELETE FROM plans WHERE user_id = NEW.user_id AND id = NEW.id;
    END
"""
COMES_BACK = """
    CREATE TRIGGER comes_back AFTER DELETE ON plans WHEN OLD.note = 'stay' BEGIN
      INSERT INTO plans (user_id, id, title, note) VALUES (OLD.user_id, OLD.id, 'again', OLD.note);
    END
"""


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def here(world):
    return world.device("a")


def by_command_line(device, *statements):
    done = subprocess.run(
        ["sqlite3", str(device.path / "app.db"), "; ".join(statements)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def of_cloud(world):
    there = world.device("b")
    there.sync()
    return there.plans()


@pytest.mark.parametrize("restarts", [False, True])
def test_a_value_that_a_later_trigger_fills_in_gets_to_the_cloud_and_stays(world, here, restarts):
    here.write(STAMP)
    here.add("x", minutes=5)
    if restarts:
        here.restart()
    here.sync()
    here.sync()
    assert here.plans() == of_cloud(world) == {"x": ("stamp", 5, None)}


@pytest.mark.parametrize("restarts", [False, True])
def test_a_value_that_a_later_trigger_changes_gets_to_the_cloud_and_stays(world, here, restarts):
    here.add("x", title="OLD")
    here.sync()
    here.write(UPPER)
    here.write("UPDATE plans SET title = 'new', minutes = 3")
    if restarts:
        here.restart()
    here.sync()
    assert here.plans() == of_cloud(world) == {"x": ("NEW", 3, None)}


def test_a_row_that_a_later_trigger_deletes_at_once_does_not_come_back(world, here):
    here.write(NO_EMPTY_ONES)
    here.add("x", note="go")
    here.add("y", note="stay")
    here.sync()
    here.sync()
    assert list(here.plans()) == list(of_cloud(world)) == ["y"]


def test_a_row_that_a_later_trigger_brings_back_is_not_deleted_by_its_deletion(world, here):
    here.add("x", title="first", note="stay")
    here.sync()
    here.write(COMES_BACK)
    here.write("DELETE FROM plans")
    here.sync()
    here.sync()
    assert here.plans() == of_cloud(world) == {"x": ("again", None, "stay")}


def test_triggers_and_edits_of_the_command_line_are_put_in_order_as_well(world, here):
    by_command_line(here, STAMP, "INSERT INTO plans (user_id, id, minutes) VALUES ('ann', 'x', 1)")
    here.sync()
    by_command_line(here, "INSERT INTO plans (user_id, id, minutes) VALUES ('ann', 'y', 2)")
    here.sync()
    assert here.plans() == of_cloud(world) == {"x": ("stamp", 1, None), "y": ("stamp", 2, None)}


def test_an_edit_of_the_moment_before_a_page_is_written_is_not_undone_by_it(world, here, monkeypatch):
    other = world.device("b")
    other.add("x", title="OLD")
    world.settle()
    other.write("UPDATE plans SET note = 'from b'")
    other.sync()
    pull, edits = here.line.pull, [UPPER, "UPDATE plans SET title = 'new'"]

    def pull_and_edit(request):
        answer = pull(request)
        by_command_line(here, *edits)
        edits.clear()
        return answer

    monkeypatch.setattr(here.line, "pull", pull_and_edit)
    here.sync()
    assert here.plans() == {"x": ("NEW", None, "from b")}
    other.sync()
    assert other.plans() == here.plans()


def test_from_the_first_look_on_capture_fires_first(here):
    here.write(STAMP)
    with here.engine._store.transaction():
        assert put_in_order(here.engine._store) == ("plans",)
        assert put_in_order(here.engine._store) == ()
    here.add("x")
    assert here.query("SELECT kind FROM _sync_outbox ORDER BY entry_id") == [("put",), ("patch",)]


def test_reconcile_looks_at_the_order_too(here):
    here.write(STAMP)
    here.add("x")
    here.engine.reconcile()
    here.add("y")
    assert here.query("SELECT kind FROM _sync_outbox WHERE row_key = 'y' ORDER BY entry_id") == [("put",), ("patch",)]


def test_what_waits_in_its_order_stays_as_it_is(here):
    here.add("x", title="one")
    with here.engine.write() as db:
        db.execute("UPDATE plans SET title = 'two'")
        db.execute("UPDATE plans SET title = 'three', minutes = 1")
        db.execute("DELETE FROM plans")
        db.execute("INSERT INTO plans (user_id, id, title) VALUES ('ann', 'x', 'four')")
    asked = "SELECT entry_id, kind, set_json, before_json FROM _sync_outbox ORDER BY entry_id"
    before = here.query(asked)
    here.write(STAMP)
    with here.engine._store.transaction():
        assert put_in_order(here.engine._store) == ("plans",)
    assert here.query(asked) == before


def test_values_of_all_types_are_put_right_bit_for_bit(here):
    here.write("CREATE TRIGGER third AFTER INSERT ON plans BEGIN UPDATE plans SET minutes = 9007199254740993; END")
    here.add("x", minutes=1, note='it\'s "so"')
    with here.engine._store.transaction():
        put_in_order(here.engine._store)
    last = here.query("SELECT set_json FROM _sync_outbox ORDER BY entry_id DESC")[0][0]
    assert '"minutes":9007199254740993' in last


def test_a_row_with_something_in_quarantine_is_left_to_the_person_who_looks(here):
    here.write(STAMP)
    here.add("x")
    asked = "SELECT entry_id, kind, set_json, before_json FROM _sync_outbox ORDER BY entry_id"
    before = here.query(asked)
    with here.engine._store.transaction():
        here.query(
            "INSERT INTO _sync_quarantine (origin, owner, collection, row_key, body, error_code, error_text,"
            " shape_version, created_at) VALUES ('outbox', 'ann', 'plans', 'x', '{\"entry_id\": 0}', 'x', 'x', '1',"
            " '2025-01-01T00:00:00.000Z')"
        )
        put_in_order(here.engine._store)
    assert here.query(asked) == before
