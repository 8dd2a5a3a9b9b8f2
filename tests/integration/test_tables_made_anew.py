"""Another program makes a synced table anew while the app runs, and capture's triggers go with the old one."""

import subprocess
from contextlib import suppress

import pytest
from sync_world import PLANS_V1, World

REBUILT = (
    "BEGIN",
    PLANS_V1.replace("TABLE plans", "TABLE new_plans").rstrip(";"),
    "INSERT INTO new_plans SELECT * FROM plans",
    "DROP TABLE plans",
    "ALTER TABLE new_plans RENAME TO plans",
    "COMMIT",
)
"""As sqlite.org/lang_altertable.html#otheralter tells it to."""


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def here(world):
    here = world.device("a")
    for key in ("x", "y"):
        here.add(key, title="old")
    here.sync()
    here.events.clear()
    return here


def by_command_line(device, *statements):
    done = subprocess.run(
        ["sqlite3", str(device.path / "app.db"), "; ".join(statements)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def said(device):
    return [event.message for event in device.events if hasattr(event, "message")]


def of_cloud(world):
    there = world.device("b")
    there.sync()
    return there.plans()


def test_the_next_block_of_the_app_is_captured_whole_and_what_was_missed_is_told(world, here):
    by_command_line(here, "PRAGMA foreign_keys = OFF", *REBUILT)
    here.write("UPDATE plans SET title = 'new' WHERE id = 'x'")
    here.add("z")
    assert here.outbox() == [("patch", "x"), ("put", "z")]
    [sentence] = said(here)
    assert "Edits of plans may not have been queued" in sentence
    assert "contents alone were changed meanwhile are not found" in sentence
    here.sync()
    assert of_cloud(world) == here.plans()
    assert len(said(here)) == 1


@pytest.mark.parametrize("look", ["sync", "reconcile"])
def test_a_round_and_reconcile_put_capture_back_for_other_programs(world, here, look):
    by_command_line(here, "PRAGMA foreign_keys = OFF", *REBUILT)
    here.sync() if look == "sync" else here.engine.reconcile()
    assert len(said(here)) == 1
    by_command_line(here, "UPDATE plans SET title = 'by hand' WHERE id = 'y'")
    here.sync()
    assert of_cloud(world)["y"][0] == "by hand"


def test_a_page_of_the_cloud_puts_capture_back(world, here):
    there = world.device("b")
    there.sync()
    there.write("UPDATE plans SET note = 'from b'")
    there.sync()
    pull = here.line.pull

    def rebuild_and_pull(request):
        here.line.pull = pull
        by_command_line(here, "PRAGMA foreign_keys = OFF", *REBUILT)
        return pull(request)

    here.line.pull = rebuild_and_pull
    here.sync()
    assert len(said(here)) == 1
    by_command_line(here, "UPDATE plans SET title = 'by hand' WHERE id = 'y'")
    assert here.outbox() == [("patch", "y")]


def test_a_block_that_is_undone_undoes_the_mending_and_the_next_one_does_it_again(here):
    by_command_line(here, "PRAGMA foreign_keys = OFF", *REBUILT)
    with pytest.raises(ZeroDivisionError), here.engine.write():
        raise ZeroDivisionError
    here.write("UPDATE plans SET title = 'new' WHERE id = 'x'")
    assert here.outbox() == [("patch", "x")]


def test_a_schema_whose_number_a_mending_had_that_was_undone_is_looked_at(here):
    by_command_line(here, "PRAGMA foreign_keys = OFF", *REBUILT)
    undone = schema_of_a_block_that_is_undone(here)
    while here.engine._store.schema_number() < undone:
        by_command_line(here, "CREATE TABLE more (id)" if not tables(here) else "DROP TABLE more")
    assert here.engine._store.schema_number() == undone
    here.write("UPDATE plans SET title = 'new' WHERE id = 'x'")
    assert here.outbox() == [("patch", "x")]


def schema_of_a_block_that_is_undone(device):
    seen = []
    with suppress(ZeroDivisionError), device.engine.write():
        seen.append(device.engine._store.schema_number())
        raise ZeroDivisionError
    return seen[0]


def tables(device):
    return device.query("SELECT 1 FROM sqlite_schema WHERE name = 'more'")


def test_a_table_that_got_another_shape_is_not_written_until_it_is_as_it_was(here):
    from syncengine.errors import ShapeDrifted

    by_command_line(here, "ALTER TABLE plans ADD COLUMN mood TEXT")
    with pytest.raises(ShapeDrifted):
        here.add("z")
    by_command_line(here, "ALTER TABLE plans DROP COLUMN mood")
    here.add("z")
    assert here.outbox() == [("put", "z")]


def test_a_known_schema_is_looked_at_no_further(here, monkeypatch):
    from syncengine.migrate import drift

    here.add("z")
    monkeypatch.setattr(drift, "look_again", lambda _: pytest.fail("the schema had not changed"))
    here.add("w")
    assert here.outbox() == [("put", "z"), ("put", "w")]


def test_a_collection_that_is_gone_as_a_whole_is_not_deleted_at_the_cloud(world, here):
    by_command_line(here, "PRAGMA foreign_keys = OFF", "DROP TABLE plans", PLANS_V1)
    here.sync()
    here.events.clear()
    report = here.engine.reconcile()
    assert [(one.collection, one.puts, one.deletes, one.withheld) for one in report.collections] == [
        ("plans", 0, 0, 2)
    ]
    assert report.queued == 0
    assert "They were not deleted at the cloud" in said(here)[0]
    here.sync()
    assert list(of_cloud(world)) == ["x", "y"]


def test_what_was_withheld_comes_back_with_the_next_sign_in(tmp_path, here):
    by_command_line(here, "PRAGMA foreign_keys = OFF", "DROP TABLE plans", PLANS_V1)
    assert here.engine.reconcile().collections[0].withheld == 2
    here.engine.logout(unsent="export", export_to=tmp_path / "unsent.jsonl")
    here.engine.switch_user("ann")
    here.sync()
    assert list(here.plans()) == ["x", "y"]


def test_a_user_with_a_row_left_has_the_others_deleted_at_the_cloud(world, here):
    by_command_line(here, "PRAGMA foreign_keys = OFF", *REBUILT[:-1], "DELETE FROM plans WHERE id = 'y'", "COMMIT")
    report = here.engine.reconcile()
    assert [(one.deletes, one.withheld) for one in report.collections] == [(1, 0)]
    here.sync()
    assert list(of_cloud(world)) == ["x"]
