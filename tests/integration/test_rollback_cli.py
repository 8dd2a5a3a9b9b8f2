"""`syncengine rollback` as a process: it looks first, asks, goes back, and says how it ended."""

from pathlib import Path

import pytest

from tests.integration.cli_process import SECRET, Command

BACK = ("rollback", "--app", "notes_app:THREE", "--user", "ann")


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Command:
    command = Command(tmp_path_factory.mktemp("migrated"))
    assert command.migrate("TWO").status == 0
    command.write_notes("5", "3")
    command.execute_many("INSERT INTO notes VALUES (?, ?, ?, ?)", [("bob", "b1", SECRET, "4")])
    assert command.migrate("THREE").status == 0
    return command


@pytest.fixture
def at_three(migrated: Command, tmp_path: Path) -> Command:
    return migrated.again(tmp_path)


def test_simulate_prints_the_plan_and_changes_nothing(at_three: Command) -> None:
    before = at_three.query("SELECT count(*) FROM _sync_run"), at_three.query("SELECT * FROM notes")
    ran = at_three(*BACK, "count-stars", "--simulate")
    assert (ran.status, ran.err) == (0, "")
    assert "This would be done; nothing was changed." in ran.out
    assert "goes back for all owners: ann, bob" in ran.out
    assert "It needs the consent of bob (--yes)." in ran.out
    assert SECRET not in ran.out
    assert (at_three.query("SELECT count(*) FROM _sync_run"), at_three.query("SELECT * FROM notes")) == before


def test_other_users_have_to_agree(at_three: Command) -> None:
    ran = at_three(*BACK, "count-stars", "--json")
    assert (ran.status, ran.error["code"]) == (1, "rollback_refused")
    assert ran.error["fix"] == "Ask them, and say with --yes that they have agreed. Nothing was changed."
    assert at_three.query("SELECT typeof(stars) FROM notes") == [("integer",)] * 3


def test_with_yes_it_goes_back(at_three: Command) -> None:
    ran = at_three(*BACK, "count-stars", "--yes", "--why", "wrong", "--json")
    assert (ran.status, ran.json["state"]) == (0, "rolled_back")
    assert [(undone["id"], undone["method"], undone["after"]) for undone in ran.json["undone"]][-1] == (
        "count-stars",
        "down",
        3,
    )
    assert at_three.query("SELECT typeof(stars) FROM notes") == [("text",)] * 3
    assert at_three.query("SELECT schema_version FROM _sync_version") == [("2.0.0",)] * 2
    at_three.execute_many("DELETE FROM _sync_outbox WHERE owner = ?", [("ann",)])
    told = at_three("status", "--app", "notes_app:THREE", "--user", "ann").out
    lines = [line.split() for line in told.splitlines()]
    assert ["state", "blocked"] in lines
    assert ["outbox", "0", "waiting,"] in [words[:3] for words in lines]
    assert at_three.migrate("THREE").status in (0, 3)
    assert at_three.query("SELECT typeof(stars) FROM notes") == [("text",)] * 3


def test_collisions_stop_it_and_say_what_to_do(at_three: Command) -> None:
    ran = at_three(*BACK, "--to", "1.0.0", "--yes")
    assert ran.status == 1
    assert "  3 rows cannot go back as they are:\n  collision: notes n1 of ann: its table goes" in ran.out
    assert "--on-collision keep" in ran.out
    ran = at_three(*BACK, "--to", "1.0.0", "--yes", "--on-collision", "keep")
    assert ran.status == 4
    assert "3 rows were set aside" in ran.out
    assert at_three.query("SELECT count(*) FROM sqlite_schema WHERE name = 'notes'") == [(0,)]


def test_an_emergency_takes_the_store_back_to_its_newest_restore_point_only_with_a_yes(at_three: Command) -> None:
    at_three.execute_many("UPDATE notes SET stars = ? WHERE id = ?", [(9, "n1")])
    ran = at_three(*BACK, "--emergency", "--simulate")
    assert ran.status == 0
    assert "Restore point 1; 3 rows would be set aside." in ran.out
    assert at_three(*BACK, "--emergency").status == 2
    assert at_three.query("SELECT typeof(stars) FROM notes") == [("integer",)] * 3
    ran = at_three(*BACK, "--emergency", "--yes", "--why", "all is wrong")
    assert ran.status == 4
    assert "The store is as it was at the restore point" in ran.out
    assert at_three.query("SELECT id, stars FROM notes ORDER BY id") == [("b1", "4"), ("n1", "5"), ("n2", "3")]


def test_one_of_a_migration_and_a_version_is_named(at_three: Command) -> None:
    assert at_three(*BACK).status == 2
    assert at_three(*BACK, "count-stars", "--to", "1.0.0").status == 2
    assert at_three(*BACK, "count-stars", "--emergency").status == 2
