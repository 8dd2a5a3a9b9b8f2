"""`status`, `plan`, `history`, `outbox`, `quarantine` and `doctor` say what is so, and change nothing."""

import hashlib
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.cli_process import ROOT, SECRET, Command

LOOKS = ("status", "history", "outbox", "quarantine", "doctor")
STATUS_KEYS = [
    *(
        "store",
        "user",
        "synced",
        "migration",
        "collections",
        "outbox",
        "others_unsent",
        "reading",
        "quarantined",
        "erasures",
        "connectivity",
        "sync",
    ),
]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture(scope="module")
def made_at_two(tmp_path_factory: pytest.TempPathFactory) -> Command:
    command = Command(tmp_path_factory.mktemp("at-two"))
    assert command.migrate("TWO").status == 0
    return command


@pytest.fixture
def at_two(made_at_two: Command, tmp_path: Path) -> Command:
    return made_at_two.again(tmp_path)


@pytest.fixture(scope="module")
def made_with_quarantine(made_at_two: Command, tmp_path_factory: pytest.TempPathFactory) -> Command:
    command = made_at_two.again(tmp_path_factory.mktemp("with-quarantine"))
    command.write_notes("5", "many", "3")
    assert command.migrate("THREE").status == 4
    return command


@pytest.fixture
def with_quarantine(made_with_quarantine: Command, tmp_path: Path) -> Command:
    """Two good notes wait for the cloud, one lies in quarantine."""
    return made_with_quarantine.again(tmp_path)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# What is not there, and what is not ours.


@pytest.mark.parametrize("words", [*[(look,) for look in LOOKS], ("plan", "--app", "notes_app:TWO")])
def test_a_look_at_a_missing_store_is_an_error_and_makes_none(command: Command, words: tuple[str, ...]) -> None:
    ran = command(*words)
    assert ran.status == 1
    assert ran.out == ""
    assert ran.err.startswith(f"There is no store at {command.store}.\n  why:  ")
    assert ran.err.endswith("  help: docs/recovery.md#store-missing\n")
    assert not command.store.exists()


@pytest.mark.parametrize("look", LOOKS)
def test_another_programs_database_is_refused_and_left_as_it_was(command: Command, look: str) -> None:
    other = sqlite3.connect(command.store)
    other.execute("CREATE TABLE songs (title)")
    other.commit()
    other.close()
    before = _digest(command.store)
    ran = command(look, "--json")
    assert (ran.status, ran.out) == (1, "")
    assert ran.error["code"] == "store_foreign"
    assert "another program" in ran.error["what"]
    assert _digest(command.store) == before
    assert [path.name for path in command.folder.glob("app.db*")] == ["app.db"]


@pytest.mark.parametrize("look", LOOKS)
def test_a_text_file_is_refused_and_left_as_it_was(command: Command, look: str) -> None:
    command.store.write_text("dear diary\n" * 500)
    ran = command(look, "--json")
    assert (ran.status, ran.error["code"]) == (1, "store_foreign")
    assert command.store.read_text() == "dear diary\n" * 500


@pytest.mark.parametrize("look", LOOKS)
def test_an_empty_file_is_no_store_and_does_not_become_one(command: Command, look: str) -> None:
    command.store.touch()
    ran = command(look, "--json")
    assert (ran.status, ran.error["code"]) == (1, "store_missing")
    assert command.store.stat().st_size == 0


def test_a_store_of_a_newer_engine_is_named_and_not_read(at_two: Command) -> None:
    at_two.execute_many("UPDATE _sync_state SET value = ? WHERE name = 'engine_schema'", [("99",)])
    assert at_two("status", "--json").error["code"] == "store_superseded"
    examined = at_two("doctor", "--json")
    assert examined.status == 1
    tables = next(check for check in examined.json["checks"] if check["check"] == "engine tables")
    assert tables["verdict"] == "bad"


@pytest.mark.parametrize("words", [(look,) for look in LOOKS] + [("plan", "--app", "notes_app:THREE")])
def test_no_look_changes_the_store(with_quarantine: Command, words: tuple[str, ...]) -> None:
    with_quarantine.query("PRAGMA wal_checkpoint(TRUNCATE)")
    before = _digest(with_quarantine.store)
    with_quarantine(*words)
    with_quarantine(*words, "--json")
    assert _digest(with_quarantine.store) == before


# status and plan.


def test_status_of_a_store_that_no_cloud_has_confirmed_is_local_and_0(at_two: Command) -> None:
    ran = at_two("status", "--app", "notes_app:TWO", "--user", "ann")
    assert ran.status == 0
    assert "state          local\n" in ran.out
    assert "version        2.0.0 of 2.0.0, 0 migrations pending\n" in ran.out


def test_who_only_looks_and_who_has_nothing_to_migrate_waits_for_no_library_of_models_or_tables(
    at_two: Command,
) -> None:
    app = ("--app", "notes_app:TWO", "--user", "ann")
    for words in (("status",), ("status", *app), ("plan", *app), ("migrate", *app)):
        told = at_two(*words, PYTHONPROFILEIMPORTTIME="1").err
        loaded = {line.rpartition("|")[2].strip() for line in told.splitlines()}
        assert "apsw" in loaded
        assert not loaded & {"pydantic", "sqlite_utils"}, words


def test_status_says_3_while_an_edit_waits(at_two: Command) -> None:
    edit = (
        "import notes_app, syncengine, sys\n"
        "with syncengine.Engine.open(sys.argv[1], registry=notes_app.TWO) as engine, engine.write() as db:\n"
        "    db['notes'].insert({'user_id': 'ann', 'id': 'n1', 'text': '', 'stars': '1'})\n"
    )
    subprocess.run(
        [sys.executable, "-c", edit, str(at_two.store)],
        cwd=at_two.folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{at_two.folder}"},
        check=True,
    )
    ran = at_two("status", "--app", "notes_app:TWO", "--user", "ann")
    assert (ran.status, "state          waiting\n" in ran.out) == (3, True)
    told = at_two("status", "--json").json
    assert (told["synced"], told["outbox"]["waiting"]) == (False, 1)


def test_status_says_3_while_a_migration_is_pending(at_two: Command) -> None:
    ran = at_two("status", "--app", "notes_app:THREE", "--user", "ann", "--json")
    assert ran.status == 3
    assert list(ran.json) == STATUS_KEYS
    assert ran.json["synced"] is False
    assert ran.json["collections"]["notes"]["state"] == "blocked"
    told = at_two("status", "--app", "notes_app:THREE").out
    assert "not ready: notes  migration count-stars has not been run. Call engine.migrate()." in told
    assert ran.json["migration"] == {
        "current": "2.0.0",
        "target": "3.0.0",
        "cloud": None,
        "pending": 2,
        "queued": 0,
        "failed": [],
        "superseded": None,
    }


def test_status_names_a_collection_that_another_tool_has_altered(at_two: Command) -> None:
    alter = "ALTER TABLE notes ADD COLUMN mood TEXT"
    with sqlite3.connect(at_two.store) as connection:
        connection.execute(alter)
    ran = at_two("status", "--app", "notes_app:TWO", "--user", "ann", "--json")
    found = ran.json["collections"]["notes"]
    assert (found["state"], found["why"]) == ("read-only", "the column mood is new")
    told = at_two("status", "--app", "notes_app:TWO").out
    assert "read-only: notes  the column mood is new. Put it back as it was" in told


def test_status_without_the_app_says_what_the_rows_say_and_no_more(at_two: Command) -> None:
    ran = at_two("status", "--json")
    assert ran.status == 0
    assert (ran.json["migration"]["current"], ran.json["migration"]["target"]) == ("2.0.0", None)
    assert ran.json["migration"]["pending"] is None


def test_status_says_3_while_entries_wait(at_two: Command) -> None:
    at_two.write_notes("5", "3")
    assert at_two.migrate("THREE").status == 0
    ran = at_two("status")
    assert ran.status == 3
    assert "3 waiting, 0 being sent, 0 held, the oldest since 2" in ran.out
    assert "state          waiting" in ran.out


def test_status_says_4_while_rows_are_in_quarantine(with_quarantine: Command) -> None:
    ran = with_quarantine("status", "--user", "ann")
    assert ran.status == 4
    assert "state          needs attention" in ran.out
    assert with_quarantine("status", "--json").json["quarantined"] == 1


def test_plan_shows_what_migrate_would_do_and_does_not_do_it(at_two: Command) -> None:
    words = ("plan", "--app", "notes_app:THREE", "--user", "ann")
    ran = at_two(*words)
    assert ran.status == 3
    assert ran.out.splitlines()[0] == "2.0.0 > 3.0.0 for ann"
    assert "count-stars  (store, offline)" in ran.out
    assert [step["id"] for step in at_two(*words, "--json").json["steps"]] == ["count-stars", "send-notes"]
    assert at_two("plan", "--app", "notes_app:TWO").status == 0


def test_plan_for_a_store_that_is_newer_than_the_app_says_so_with_1(with_quarantine: Command) -> None:
    ran = with_quarantine("plan", "--app", "notes_app:TWO")
    assert ran.status == 1
    assert ran.out.startswith("3.0.0: superseded.")


def test_status_for_a_store_that_is_newer_than_the_app_says_so_and_what_to_do(with_quarantine: Command) -> None:
    told = with_quarantine("status", "--app", "notes_app:TWO").out
    assert " 3.0.0, newer than this app, which knows versions up to 2.0.0" in told
    assert "read-only" in told
    assert "the store is at 3.0.0; this app knows versions up to 2.0.0. Update the app.\n" in told
    assert "pending" not in told


# history, outbox, quarantine.


def test_history_lists_runs_oldest_first_good_and_bad(at_two: Command) -> None:
    at_two.migrate("BROKEN")
    lines = at_two("history").out.splitlines()
    assert lines[0].split()[:5] == ["RUN", "MIGRATION", "SCOPE", "HOP", "STATE"]
    assert [line.split()[1] for line in lines[1:]] == ["make-notes", "breaks"]
    runs = at_two("history", "--json").json
    assert [(run["state"], run["error"]) for run in runs] == [("completed", None), ("failed", "migration_failed")]


def test_history_and_status_say_why_a_migration_failed(at_two: Command) -> None:
    at_two.migrate("BROKEN")
    why = "Migration breaks failed at batch 1: RuntimeError in the migration's code: verify, notes_app.py line "
    assert at_two("history").out.splitlines()[2].partition("  migration_failed  ")[2].startswith(why)
    assert next(run["reason"] for run in at_two("history", "--json").json) is None
    for words in (("status",), ("status", "--app", "notes_app:BROKEN")):
        ran = at_two(*words)
        assert ran.status == 3
        [line] = [line for line in ran.out.splitlines() if line.startswith("failed: breaks ")]
        assert line.removeprefix("failed: breaks").lstrip().startswith(why)
    [failed] = at_two("status", "--json").json["migration"]["failed"]
    assert (failed["id"], failed["scope"], failed["why"].startswith(why)) == ("breaks", "store", True)
    assert "failed" not in at_two("status", "--app", "notes_app:TWO").out  # of which it is no part


def test_history_counts_the_warnings_of_a_run_and_tells_them_to_programs(at_two: Command) -> None:
    at_two.migrate("IMPORTING")
    header, _, line = (each.split() for each in at_two("history").out.splitlines())
    assert header[10:12] == ["WARNINGS", "MS"]
    # The hop takes three words.
    assert (line[1], line[12]) == ("imports", "1")
    runs = at_two("history", "--json").json
    assert [run["warnings"] for run in runs] == [[], ["no source 'old-app' was given, so nothing was imported"]]


def test_a_long_list_is_cut_where_asked_and_says_so(at_two: Command) -> None:
    at_two.migrate("BROKEN")
    ran = at_two("history", "--rows-max", "1", "--json")
    assert [run["migration"] for run in ran.json] == ["breaks"]
    assert ran.err == "There are more than 1; see --rows-max.\n"


def test_outbox_lists_what_waits_and_why_without_the_rows(with_quarantine: Command) -> None:
    ran = with_quarantine("outbox")
    assert ran.status == 0
    assert "for its turn" in ran.out
    assert SECRET not in ran.out
    entries = with_quarantine("outbox", "--json").json
    assert [(entry["what"], entry["key"], entry["state"]) for entry in entries][:2] == [
        ("notes", "n1", "waiting"),
        ("notes", "n3", "waiting"),
    ]
    assert with_quarantine("outbox", "--user", "bob").out == "Nothing waits.\n"


def test_conflicts_lists_no_values_and_says_where_they_are(at_two: Command) -> None:
    assert at_two("conflicts").err == ""
    columns = "owner, collection, row_key, field, local_json, server_json, winner, policy, created_at"
    values = ("ann", "notes", "n1", "text", f'"{SECRET}"', '"theirs"', "server", "server_wins", "now")
    at_two.execute_many(f"INSERT INTO _sync_conflict ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [values])
    ran = at_two("conflicts")
    assert ran.status == 0
    assert SECRET not in ran.out + ran.err
    shown = ran.err.splitlines()[0].removeprefix("Both values: ")
    both = subprocess.run(shlex.split(shown), capture_output=True, text=True, check=True, cwd=at_two.folder).stdout
    assert SECRET in both
    assert "theirs" in both
    assert at_two("conflicts", "--json").err == ""


def test_a_key_cannot_steer_the_terminal(at_two: Command) -> None:
    key = "\x1b[2J\x07n"
    at_two.execute_many("INSERT INTO notes VALUES ('ann', ?, 'text', '1')", [(key,)])
    at_two.migrate("THREE")
    shown = at_two("outbox").out
    assert "\x1b" not in shown
    assert "\\x1b[2J\\x07n" in shown
    assert at_two("outbox", "--json").json[0]["key"] == key


def test_quarantine_lists_reasons_without_the_rows_and_says_4(with_quarantine: Command) -> None:
    ran = with_quarantine("quarantine")
    assert ran.status == 4
    assert "cannot become int" in ran.out
    assert SECRET not in ran.out
    assert "many" not in ran.out
    items = with_quarantine("quarantine", "--json").json
    assert [(item["item"], item["field"], item["resolution"]) for item in items] == [(1, "stars", None)]


def test_quarantine_show_gives_one_row_whole(with_quarantine: Command) -> None:
    ran = with_quarantine("quarantine", "show", "1")
    assert ran.status == 0
    assert SECRET in ran.out
    assert SECRET in with_quarantine("quarantine", "--json", "show", "1").json["body"]
    assert SECRET in with_quarantine("quarantine", "show", "1", "--json").json["body"]


def test_quarantine_show_of_an_unknown_item_is_an_error(with_quarantine: Command) -> None:
    ran = with_quarantine("quarantine", "show", "7", "--json")
    assert (ran.status, ran.error["code"]) == (1, "quarantine_item_unknown")


def test_resolved_items_are_listed_only_when_asked_for(with_quarantine: Command) -> None:
    with_quarantine.execute_many("UPDATE _sync_quarantine SET resolution = ?", [("discarded",)])
    assert with_quarantine("quarantine").out == "Nothing is in quarantine.\n"
    ran = with_quarantine("quarantine", "--all", "--json")
    assert (ran.status, ran.json[0]["resolution"]) == (0, "discarded")


# doctor.


def _verdicts(command: Command) -> dict[str, str]:
    return {check["check"]: check["verdict"] for check in command("doctor", "--json").json["checks"]}


def test_doctor_finds_nothing_wrong_with_a_sound_store(at_two: Command) -> None:
    ran = at_two("doctor")
    assert ran.status == 0
    assert ran.out.splitlines()[0].split() == ["VERDICT", "CHECK", "FOUND", "FIX"]
    assert set(_verdicts(at_two).values()) == {"ok"}
    assert at_two("doctor", "--json").json["verdict"] == "ok"


def test_doctor_names_damage_and_says_1(at_two: Command) -> None:
    at_two.write_notes(*"12345" * 200)
    at_two.query("PRAGMA wal_checkpoint(TRUNCATE)")
    root, page_bytes = at_two.query("SELECT rootpage, 0 FROM sqlite_schema WHERE name = 'notes'")[0]
    page_bytes = at_two.query("PRAGMA page_size")[0][0]
    with at_two.store.open("r+b") as file:
        file.seek((root - 1) * page_bytes)
        file.write(b"\xff" * page_bytes)
    ran = at_two("doctor")
    assert ran.status == 1
    assert any(line.startswith("bad") and "integrity" in line for line in ran.out.splitlines())


def test_doctor_survives_a_file_whose_first_page_is_broken(at_two: Command) -> None:
    at_two.query("PRAGMA wal_checkpoint(TRUNCATE)")
    with at_two.store.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 900)
    ran = at_two("doctor", "--json")
    assert ran.status == 1
    assert ran.json["verdict"] == "bad"


def test_what_a_damaged_store_keeps_doctor_from_seeing_is_told_once_and_the_way_back_is_named(
    at_two: Command,
) -> None:
    at_two("restore-points", "make")
    at_two.query("PRAGMA wal_checkpoint(TRUNCATE)")
    with at_two.store.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 2_000)
    examined = at_two("doctor")
    unreadable = [line for line in examined.out.splitlines() if "cannot be read" in line]
    assert len(unreadable) == len(set(unreadable)) == 1
    assert " checks " in unreadable[0]
    assert "`syncengine restore-points` says which copy can take its place" in unreadable[0]
    assert _verdicts(at_two)["outbox"] == "bad"
    assert "`syncengine restore-points` which copy can take its place" in at_two("status").err
    listed = at_two("restore-points")
    assert listed.status == 1
    [sealed] = Path(f"{at_two.store}-restore").glob("*.age")
    assert listed.out.splitlines()[1].startswith(f"{sealed}  ")
    assert "put a sealed file in its place: syncengine restore-points rescue FILE" in listed.err
    assert at_two("restore-points", "rescue", str(sealed)).status == 0
    assert at_two("status").status == 0
    assert "damaged" not in at_two("restore-points").out


def test_doctor_names_rows_that_refer_to_nothing(at_two: Command) -> None:
    at_two.execute_many("INSERT INTO notes VALUES ('ann', ?, '', '')", [("n1",)])
    at_two.query("CREATE TABLE tags (note TEXT REFERENCES gone (id))")
    at_two.query("CREATE TABLE gone (id TEXT PRIMARY KEY)")
    at_two.execute_many("INSERT INTO tags VALUES (?)", [("n9",)])
    assert _verdicts(at_two)["foreign keys"] == "bad"


@pytest.mark.skipif(os.name != "posix", reason="modes are a matter of POSIX")
def test_doctor_warns_of_a_store_that_others_may_read(at_two: Command) -> None:
    at_two.store.chmod(0o644)
    ran = at_two("doctor", "--json")
    assert ran.status == 0
    found = next(check for check in ran.json["checks"] if check["check"] == "file modes")
    assert (found["verdict"], found["fix"]) == ("warn", "chmod 600 these files")
    assert "app.db is 0644" in found["found"]


def test_doctor_warns_of_a_copy_of_the_same_device(at_two: Command) -> None:
    at_two.query("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(at_two.store, at_two.folder / "app copy.db")
    before = sorted(path.name for path in at_two.folder.glob("app copy*"))
    assert _verdicts(at_two)["copies"] == "warn"
    assert sorted(path.name for path in at_two.folder.glob("app copy*")) == before


def test_doctor_does_not_take_another_device_for_a_copy(at_two: Command) -> None:
    (at_two.folder / "other").mkdir()
    other = Command(at_two.folder / "other")
    other.migrate("TWO")
    other.query("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(other.store, at_two.folder / "other.db")
    assert _verdicts(at_two)["copies"] == "ok"


def test_doctor_warns_of_private_copies_that_a_killed_process_left(at_two: Command) -> None:
    left = at_two.folder / "syncengine-snapshot-x1"
    left.mkdir()
    assert _verdicts(at_two)["leftovers"] == "ok"
    two_hours_ago = time.time() - 7200
    os.utime(left, (two_hours_ago, two_hours_ago))
    assert _verdicts(at_two)["leftovers"] == "warn"


def test_doctor_warns_of_what_has_waited_for_long_and_of_quarantine(with_quarantine: Command) -> None:
    assert _verdicts(with_quarantine) | {"outbox": "ok", "quarantine": "warn"} == _verdicts(with_quarantine)
    with_quarantine.execute_many("UPDATE _sync_outbox SET created_ms = ?", [(1_735_689_600_000,)])
    assert _verdicts(with_quarantine)["outbox"] == "warn"


# The command itself.


def test_help_says_what_each_exit_status_means(command: Command) -> None:
    ran = command("--help")
    assert ran.status == 0
    assert [line.split()[0] for line in ran.out.splitlines() if line[:4].strip() == "" and line[4:5].isdigit()] == [
        *"0123456"
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--stor", "x"),
        ("plan",),
        ("plan", "--app", "notes_app"),
        ("plan", "--app", "notes_app:NOTES"),
        ("plan", "--app", "notes_app:MISSING"),
        ("plan", "--app", "no_such_module:REGISTRY"),
        ("migrate", "--app", "notes_app:TWO", "--source", "asyncstorage"),
        ("history", "--rows-max", "0"),
        ("sync", "--app", "notes_app:TWO", "--user", "ann"),
        ("sync", "--app", "notes_app:TWO", "--user", "ann", "--cloud-url", "x", "--token", "t"),
    ],
)
def test_a_wrong_call_is_2_and_makes_no_store(command: Command, words: tuple[str, ...]) -> None:
    ran = command(*words)
    assert ran.status == 2
    assert ran.err.startswith("Usage: ")
    assert not command.store.exists()


def test_the_store_may_be_named_before_or_after_show(with_quarantine: Command) -> None:
    path = str(with_quarantine.store)
    assert with_quarantine("quarantine", "--store", path, "show", "1", SYNCENGINE_STORE="").status == 0
    assert with_quarantine("quarantine", "show", "1", "--store", path, SYNCENGINE_STORE="").status == 0
    assert with_quarantine("quarantine", "show", "1", SYNCENGINE_STORE="").status == 2
    assert with_quarantine("quarantine", SYNCENGINE_STORE="").status == 2
