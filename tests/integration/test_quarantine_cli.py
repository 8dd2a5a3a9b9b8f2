"""`syncengine quarantine edit`, `retry`, `discard` and `export` decide about an item, and say what came of it."""

import json
import stat
from pathlib import Path

import pytest

from tests.integration.cli_process import SECRET, Command

APP = ("--app", "notes_app:THREE")
TWO_ITEMS = {1: "n2", 2: "n4"}


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Command:
    command = Command(tmp_path_factory.mktemp("migrated"))
    assert command.migrate("TWO").status == 0
    command.write_notes("5", "many", "3", "lots")
    assert command.migrate("THREE", "--yes").status == 4
    return command


@pytest.fixture
def command(migrated: Command, tmp_path: Path) -> Command:
    """Two of ann's four notes lie in quarantine."""
    return migrated.again(tmp_path)


def body(key: str, stars: object) -> str:
    return json.dumps({"user_id": "ann", "id": key, "text": SECRET, "stars": stars})


def notes(command: Command) -> list[tuple[object, ...]]:
    return command.query("SELECT id, stars FROM notes ORDER BY id")


def test_an_item_is_edited_and_tried_again(command: Command) -> None:
    (command.folder / "n2.json").write_text(body("n2", "4"))
    assert command("quarantine", "edit", "1", "--body", "n2.json", *APP).status == 0
    ran = command("quarantine", "retry", "1", *APP)
    assert (ran.status, ran.out) == (0, "item 1 came back\n")
    assert notes(command) == [("n1", 5), ("n2", 4), ("n3", 3)]
    listed = command("quarantine", "--all", "--json").json
    assert [(item["item"], item["resolution"]) for item in listed] == [(2, None), (1, "edited")]


def test_an_item_is_shown_and_edited_in_the_shape_that_it_was_written_in(command: Command) -> None:
    assert command("quarantine", "show", "1", "--json").json["shape"] == "2.0.0"
    (command.folder / "n2.json").write_text(body("n2", "4"))
    ran = command("quarantine", "edit", "1", "--body", "n2.json", *APP)
    assert ran.out == "item 1 has a new body in the shape of 2.0.0; see `syncengine quarantine retry 1`\n"


def test_retry_says_which_other_items_it_settled_and_does_not_try_them_again(tmp_path: Path) -> None:
    command = Command(tmp_path)
    command.migrate("TWO")
    command.execute_many("INSERT INTO notes VALUES ('ann', ?, 'text', 'many')", [("n1",)])  # queued as well
    command.migrate("THREE", "--yes")
    assert [item["origin"] for item in command("quarantine", "--json").json] == ["migration", "outbox"]
    (tmp_path / "n1.json").write_text(body("n1", "4"))
    command("quarantine", "edit", "1", "--body", "n1.json", *APP)
    ran = command("quarantine", "retry", "1", "2", *APP)
    assert (ran.status, ran.out) == (0, "item 1 came back, and settled what else was of it: item 2\n")


def test_migrate_with_mended_code_brings_items_back_and_says_how_many(command: Command) -> None:
    app = command.folder / "notes_app.py"
    mended = 'changes=(cast("stars", int),), repairs=(using("stars", lambda text: len(text)),)'
    app.write_text(
        app.read_text().replace('changes=(cast("stars", int),)', mended).replace("upload,\n", "upload, using,\n")
    )
    ran = command.migrate("THREE", "--yes")
    assert ran.status in (0, 3), ran.err
    assert "2 rows came back from quarantine.\n" in ran.out
    assert notes(command) == [("n1", 5), ("n2", 4), ("n3", 3), ("n4", 4)]
    assert command.migrate("THREE", "--yes", "--json").json["retried"] == 0


def test_a_body_that_does_not_fit_is_refused_by_field_without_the_row(command: Command) -> None:
    (command.folder / "n2.json").write_text(body("n2", "4 or 5"))
    ran = command("quarantine", "edit", "1", "--body", "n2.json", *APP)
    assert ran.status == 1
    assert ran.err.startswith("The new body of quarantine item 1 was not taken.\n  why:  stars: cannot become int\n")
    assert SECRET not in ran.err


def test_no_edit_gives_a_row_to_another_user(command: Command) -> None:
    (command.folder / "n2.json").write_text(body("n2", "4").replace('"ann"', '"bob"'))
    ran = command("quarantine", "edit", "1", "--body", "n2.json", *APP)
    assert (ran.status, "user_id: it would be another user's" in ran.err) == (1, True)


def test_what_stays_is_said_with_its_reason_and_4(command: Command) -> None:
    ran = command("quarantine", "retry", "1", "2", *APP)
    assert (ran.status, ran.out) == (4, "item 1 stays: cannot become int\nitem 2 stays: cannot become int\n")
    [first, second] = command("quarantine", "retry", "1", "2", *APP, "--json").json
    assert (first["item_id"], first["resolved"], first["field"]) == (1, False, "stars")
    assert second["item_id"] == 2


def test_an_item_is_given_up_only_with_a_reason_and_its_body_is_kept(command: Command) -> None:
    assert command("quarantine", "discard", "1", *APP).status == 2
    assert command("quarantine", "discard", "1", "--reason", "a test", *APP).out == "item 1 was given up\n"
    shown = command("quarantine", "show", "1", "--json").json
    assert (shown["resolution"], shown["note"], SECRET in shown["body"]) == ("discarded", "a test", True)
    ran = command("quarantine", "retry", "1", *APP, "--json")
    assert (ran.status, ran.error["code"]) == (1, "quarantine_item_unknown")


def test_another_user_cannot_decide(command: Command) -> None:
    ran = command("quarantine", "discard", "1", "--reason", "mine", "--user", "bob", *APP)
    assert (ran.status, "There is no open quarantine item 1." in ran.err) == (1, True)
    assert command("quarantine", "export", "bobs.json", "--user", "bob").out == "0 items were written to bobs.json\n"


def test_an_export_is_whole_private_and_never_written_over(command: Command) -> None:
    ran = command("quarantine", "export", "rows.json")
    assert (ran.status, ran.out) == (0, "2 items were written to rows.json\n")
    path = command.folder / "rows.json"
    assert [(item["item"], item["key"]) for item in json.loads(path.read_text())] == list(TWO_ITEMS.items())
    assert SECRET in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = command("quarantine", "export", "rows.json")
    assert (again.status, again.err.startswith("Quarantine cannot be exported to rows.json.")) == (1, True)


def test_a_wrong_path_makes_no_store(command: Command) -> None:
    ran = command("quarantine", "retry", "1", *APP, "--store", "nowhere.db")
    assert ran.status == 1
    assert not (command.folder / "nowhere.db").exists()
