"""`explain`, `receipt`, `logout` and `wipe` from the command line."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from users_world import found_on_disk

from tests.integration.cli_process import SECRET, Command

APP = ("--app", "notes_app:TWO")


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Two of ann's notes are on this device alone: a change of one is queued, the other never was."""
    command = Command(tmp_path)
    assert command.migrate("TWO").status == 0
    command.write_notes("5", "3")
    with closing(sqlite3.connect(command.folder / "app.db")) as connection, connection:
        connection.execute("UPDATE notes SET stars = '4' WHERE id = 'n1'")
    return command


def entries(command: Command) -> list[int]:
    return [entry["entry"] for entry in command("outbox", "--json").json]


def test_explain_says_why_a_row_is_not_synced_and_shows_nothing_of_it(command: Command) -> None:
    ran = command("explain", "notes", "n1", "--user", "ann")
    assert ran.status == 3
    assert ran.out.startswith("notes n1 of ann: not synced\n")
    assert f"entry {entries(command)[0]} (patch, waiting, " in ran.out
    assert SECRET not in ran.out
    assert "the row is here, and was never queued" in command("explain", "notes", "n2", "--user", "ann").out
    found = command("explain", "notes", "nowhere", "--user", "ann", "--json").json
    assert (found["synced"], [obstacle["fix"] for obstacle in found["obstacles"]]) == (False, ["Check key and user."])


def test_a_key_that_would_steer_the_terminal_does_not(command: Command) -> None:
    ran = command("explain", "notes", "a\x1b[2Jb", "--user", "ann")
    assert (ran.status, "\x1b" in ran.out) == (3, False)


def test_receipt_follows_an_entry_by_its_number(command: Command) -> None:
    first = entries(command)[0]
    ran = command("receipt", str(first), "--json")
    assert (ran.status, ran.json["state"], ran.json["key"]) == (3, "waiting", "n1")
    assert command("receipt", "999").status == 0
    assert "unknown" in command("receipt", "999").out
    assert command("receipt", "0").status == 2


def test_logout_is_refused_with_unsent_changes_and_keeps_exports_or_destroys_them(command: Command) -> None:
    ran = command("logout", *APP, "--user", "ann")
    assert (ran.status, ran.err.splitlines()[0]) == (1, "2 changes of this user are on this device alone.")
    assert "what becomes of them: --unsent keep, export or destroy. Nothing" in ran.err
    ran = command("logout", *APP, "--user", "ann", "--unsent", "keep")
    assert (ran.status, ran.out) == (0, "2 changes were on this device alone: kept\n")
    ran = command("logout", *APP, "--user", "ann", "--unsent", "export")
    assert (ran.status, "--unsent export needs a new file: give --export-to FILE." in ran.err) == (2, True)
    ran = command("logout", *APP, "--user", "ann", "--export-to", "left.jsonl")
    assert (ran.status, "the file of --unsent export, and of nothing else" in ran.err) == (2, True)
    ran = command("logout", *APP, "--user", "ann", "--unsent", "export", "--export-to", "left.jsonl", "--json")
    assert ran.json == {"unsent": 2, "became": "exported", "exported_to": "left.jsonl"}
    lines = [json.loads(line) for line in (command.folder / "left.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines[1:]] == ["n1", "n2"]
    assert command.query("SELECT count(*) FROM notes") == [(0,)]


def test_wipe_takes_a_user_off_and_names_the_copies_that_hold_them(command: Command) -> None:
    assert command("restore-points", "make", "--reason", "by hand").status == 0
    ran = command("wipe", "ann", *APP)
    assert "what becomes of them: --unsent export or destroy. Nothing" in ran.err
    ran = command("wipe", "ann", *APP, "--unsent", "destroy")
    assert ran.status == 1
    assert "--delete-restore-points deletes them: for all users" in ran.err
    assert "restore point 1 (by hand, " in ran.err
    assert command.query("SELECT count(*) FROM notes") == [(2,)]
    ran = command("wipe", "ann", *APP, "--unsent", "destroy", "--delete-restore-points")
    assert (ran.status, ran.out) == (0, "2 rows were taken off this device\nrestore points deleted: 1\n")
    found = found_on_disk(command.folder, SECRET)
    assert [name for name in found if "__pycache__" not in name] == ["notes_app.py"]
    assert command("wipe", "ann", *APP, "--store", "nowhere.db").status == 1
    assert not (command.folder / "nowhere.db").exists()
