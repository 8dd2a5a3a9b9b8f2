"""`syncengine restore-points`: what is there, a new one, and the way back, in words and for programs."""

import json
import os

import pytest

from tests.integration.cli_process import SECRET, Command


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    command = Command(tmp_path_factory.mktemp("migrated"))
    command.migrate("TWO")
    command.write_notes("5", "4")
    assert command.migrate("THREE").status == 0
    return command


@pytest.fixture
def command(migrated, tmp_path):
    """A store of version 3 that was migrated from one with two notes."""
    return migrated.again(tmp_path)


def points(command, *words):
    return command("restore-points", *words)


def test_a_store_without_any_says_so(tmp_path):
    command = Command(tmp_path)
    command.migrate("TWO")
    ran = points(command)
    assert (ran.status, ran.out) == (0, "There is no restore point.\n")


def test_the_list_says_what_each_was_made_for(command):
    ran = points(command)
    assert ran.status == 0
    assert "before count-stars" in ran.out
    [point] = points(command, "--json").json
    assert (point["state"], point["schema_version"], point["rows"]["notes"]) == ("good", "2.0.0", 2)
    assert SECRET not in ran.out + json.dumps(point)


def test_a_file_that_is_gone_or_altered_is_an_error(command):
    [point] = points(command, "--json").json
    with open(point["path"], "ab") as file:
        file.write(b"x")
    assert (points(command).status, "altered" in points(command).out) == (1, True)
    os.unlink(point["path"])
    assert (points(command).status, "missing" in points(command).out) == (1, True)


def test_one_is_made_on_request(command):
    made = points(command, "make", "--reason", "before the holidays", "--json").json
    assert made["reason"] == "before the holidays"
    assert len(points(command, "--json").json) == 2


def test_another_key_file_may_be_named(command):
    key = command.folder / "elsewhere.key"
    assert points(command, "make", "--key-file", str(key)).status == 0
    assert key.exists()
    ran = points(command, "restore", "2", "--app", "notes_app:THREE", "--user", "ann", "--json")
    assert (ran.status, ran.error["code"]) == (1, "restore_point_unusable")
    back = points(command, "restore", "2", "--app", "notes_app:THREE", "--user", "ann", "--key-file", str(key))
    assert back.status == 0


def test_a_simulation_says_what_going_back_would_lose_and_changes_nothing(command):
    command.execute_many("INSERT INTO notes VALUES ('ann', ?, 'new', 1)", [("n9",)])
    ran = points(command, "restore", "1", "--app", "notes_app:THREE", "--user", "ann", "--simulate")
    assert ran.status == 0
    assert "would go back" in ran.out
    assert "1 row goes to quarantine" in ran.out
    assert command.query("SELECT count(*) FROM notes") == [(3,)]


def test_going_back_sets_aside_what_was_written_since_and_says_so(command):
    command.execute_many("INSERT INTO notes VALUES ('ann', ?, 'new', 1)", [("n9",)])
    ran = points(command, "restore", "1", "--app", "notes_app:THREE", "--user", "ann", "--json")
    assert ran.status == 4
    assert (ran.json["lost"], ran.json["to_version"], ran.json["simulated"]) == (1, "2.0.0", False)
    assert command.query("SELECT stars FROM notes ORDER BY id") == [("5",), ("4",)]
    # The row as it was, and the entry that would have sent it.
    found = command.query("SELECT origin, row_key FROM _sync_quarantine ORDER BY origin DESC")
    assert found == [("restore", "n9"), ("outbox", "n9")]
    assert command.query("SELECT count(*) FROM _sync_outbox") == [(0,)]
    assert command.migrate("THREE").status == 0
    assert command.query("SELECT kind, row_key FROM _sync_outbox ORDER BY entry_id") == [
        ("put", "n1"),
        ("put", "n2"),
        ("migration", ""),
    ]


def test_other_users_have_to_be_named(command):
    command.execute_many("INSERT INTO notes VALUES ('bob', ?, 'new', 1)", [("n9",)])
    words = ("restore", "1", "--app", "notes_app:THREE", "--user", "ann")
    refused = points(command, *words, "--json")
    assert (refused.status, refused.error["code"]) == (1, "restore_refused")
    assert points(command, *words, "--consent", "bob").status == 4


@pytest.mark.parametrize("words", [("make",), ("restore", "1", "--app", "notes_app:TWO")])
def test_no_command_makes_a_store(tmp_path, words):
    command = Command(tmp_path)
    assert points(command, *words).status == 1
    assert not command.store.exists()
