"""`migrate` and `sync` as processes: what they do, how they end, and what is untouched when they fail."""

import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conformance.server_process import ServerProcess
from tests.integration.cli_process import SECONDS_MAX, SECRET, Command

SYNC = ("sync", "--app", "notes_app:THREE", "--user", "ann")


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
def made_queued(made_at_two: Command, tmp_path_factory: pytest.TempPathFactory) -> Command:
    command = made_at_two.again(tmp_path_factory.mktemp("queued"))
    command.write_notes("5", "3")
    assert command.migrate("THREE").status == 0
    return command


@pytest.fixture
def queued(made_queued: Command, tmp_path: Path) -> Command:
    """Two notes wait for the cloud."""
    return made_queued.again(tmp_path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("cloud")) as running:
        yield running


# migrate.


def test_migrate_makes_a_private_store_and_says_so(command: Command) -> None:
    ran = command.migrate("TWO")
    assert ran.status == 0
    assert ran.err == f"Making a new store at {command.store}.\n"
    assert ran.out.endswith("The store is at 2.0.0 of 2.0.0.\n")
    assert command.store.stat().st_mode & 0o777 == 0o600


def test_migrate_with_nothing_to_do_says_so_with_0(at_two: Command) -> None:
    ran = at_two.migrate("TWO")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == "Nothing to do.\nThe store is at 2.0.0 of 2.0.0.\n"


def test_migrate_prints_what_became_of_each_migration(at_two: Command) -> None:
    at_two.write_notes("5", "3")
    ran = at_two.migrate("THREE")
    assert ran.status == 0
    assert ran.out.splitlines()[0].split()[:5] == ["MIGRATION", "SCOPE", "STATE", "READ", "WRITTEN"]
    assert ran.out.splitlines()[1].split()[:5] == ["count-stars", "store", "completed", "2", "2"]
    assert ran.out.splitlines()[2].split()[:3] == ["send-notes", "user:ann", "queued"]
    assert "\n1 migration waits for the cloud; see `syncengine sync`.\n" in ran.out


def test_migrate_for_programs_is_one_json_document(at_two: Command) -> None:
    at_two.write_notes("5", "many")
    ran = at_two.migrate("THREE", "--json")
    assert (ran.status, ran.err) == (4, "")
    assert list(ran.json) == [
        "current",
        "target",
        "success",
        "quarantined",
        "retried",
        "blocked",
        "left_out",
        "deferred",
        "paused",
        "results",
    ]
    first = ran.json["results"][0]
    assert (first["migrationId"], first["state"], first["scope"]) == ("count-stars", "completed", "store")
    assert first["counts"] == {"read": 2, "written": 1, "merged": 0, "dropped": 0, "quarantined": 1}


def test_migrate_says_4_when_rows_were_set_aside(at_two: Command) -> None:
    at_two.write_notes("5", "many")
    ran = at_two.migrate("THREE")
    assert ran.status == 4
    assert "\n1 row was set aside; see `syncengine quarantine`.\n" in ran.out


def test_migrate_counts_several_rows_in_the_plural(at_two: Command) -> None:
    at_two.write_notes("many", "few")
    assert "\n2 rows were set aside; see `syncengine quarantine`.\n" in at_two.migrate("THREE").out


def test_migrate_says_4_when_only_queued_edits_were_set_aside(at_two: Command) -> None:
    """The row was mended before the update; what it was first is queued still."""
    at_two.execute_many("INSERT INTO notes VALUES ('ann', ?, 'text', 'many')", [("n1",)])
    at_two.execute_many("UPDATE notes SET stars = '4' WHERE id = ?", [("n1",)])
    ran = at_two.migrate("THREE", "--yes")
    assert ran.status == 4
    assert "\n1 queued edit was set aside and will not be sent; see `syncengine quarantine`.\n" in ran.out
    assert at_two.query("SELECT id, stars FROM notes") == [("n1", 4)]
    assert [item["origin"] for item in at_two("quarantine", "--json").json] == ["outbox"]


def test_migrate_for_programs_says_what_became_of_queued_edits(at_two: Command) -> None:
    at_two.execute_many("INSERT INTO notes VALUES ('ann', ?, 'text', 'many')", [("n1",)])
    at_two.execute_many("UPDATE notes SET stars = '4' WHERE id = ?", [("n1",)])
    ran = at_two.migrate("THREE", "--yes", "--json")
    assert ran.status == 4
    assert ran.json["results"][0]["entries"] == {"read": 2, "converted": 1, "quarantined": 1, "queued": 0}


NOTHING = "imported nothing from old-app"


def test_an_import_that_found_nothing_is_told_on_both_streams_with_0(at_two: Command) -> None:
    ran = at_two.migrate("IMPORTING")
    assert (ran.status, ran.err) == (0, f"imports: {NOTHING}\n")
    assert f"\n{NOTHING}; once it is there: syncengine migrate --again imports\n" in ran.out


def test_asking_for_an_import_again_without_a_user_is_a_wrong_call(at_two: Command) -> None:
    ran = at_two("migrate", "--app", "notes_app:IMPORTING", "--again", "imports")
    assert (ran.status, "--again needs --user" in ran.err) == (2, True)


def test_an_import_can_be_asked_for_again_once_its_source_is_there(at_two: Command) -> None:
    source = at_two.folder / "old-app.json"
    source.write_text('[["note", "[]"]]')
    near = at_two.migrate("IMPORTING", "--source", f"old-app={source}")
    assert NOTHING in near.out
    source.write_text('[["notes", "[\\"n1\\", \\"n2\\"]"]]')
    ran = at_two.migrate("IMPORTING", "--source", f"old-app={source}", "--again", "imports")
    assert (ran.status, NOTHING in ran.out) == (0, False)
    assert ran.out.splitlines()[1].split()[:5] == ["imports", "user:ann", "completed", "2", "2"]
    assert at_two.query("SELECT id FROM notes ORDER BY id") == [("n1",), ("n2",)]


def test_a_failed_migration_is_5_rolled_back_and_told_without_the_rows(at_two: Command) -> None:
    at_two.write_notes("5")
    ran = at_two.migrate("BROKEN")
    assert ran.status == 5
    assert ran.err.startswith(
        "Migration breaks failed at batch 1.\n  why:  RuntimeError in the migration's code: verify, "
    )
    assert SECRET not in ran.err + ran.out
    assert "The store is at 2.0.0 of 3.0.0." in ran.out
    assert at_two.query("SELECT count(*) FROM notes") == [(1,)]
    assert at_two.query("SELECT schema_version FROM _sync_version WHERE scope = 'store'") == [("2.0.0",)]
    again = at_two.migrate("BROKEN", "--json")
    assert again.status == 5
    assert again.error["code"] == "migration_failed"
    assert again.json["results"][0]["state"] == "failed"


def test_migrate_of_another_programs_file_is_1_and_changes_nothing(command: Command) -> None:
    command.store.write_text("dear diary\n" * 500)
    ran = command.migrate("TWO", "--json")
    assert (ran.status, ran.error["code"]) == (1, "store_foreign")
    assert command.store.read_text() == "dear diary\n" * 500


def test_migrate_of_a_store_that_is_newer_than_the_app_is_1(queued: Command) -> None:
    ran = queued.migrate("TWO", "--json")
    assert (ran.status, ran.error["code"]) == (1, "store_superseded")


def test_two_processes_that_migrate_at_once_make_one_run(at_two: Command) -> None:
    at_two.write_notes(*"54321")
    words = ("migrate", "--app", "notes_app:THREE", "--user", "ann")
    both = [at_two.begin(*words), at_two.begin(*words)]
    ends = [(process.communicate(timeout=SECONDS_MAX), process.returncode) for process in both]
    assert [status for _, status in ends] == [0, 0], ends
    runs = at_two("history", "--json").json
    assert [run["migration"] for run in runs] == ["make-notes", "count-stars", "send-notes"]
    assert len(at_two("outbox", "--json").json) == 6, "five notes, and the step that tells the cloud its version"


def _wait_for(line: str, process: "subprocess.Popen[str]") -> None:
    assert process.stderr is not None
    for said in process.stderr:
        if line in said:
            return
    raise AssertionError(f"{line!r} was never said")


def test_long_work_tells_a_log_its_progress_and_ctrl_c_rolls_it_back(at_two: Command) -> None:
    (at_two.folder / "things.txt").write_text("2000")
    process = at_two.begin("migrate", "--app", "notes_app:SLOW")
    _wait_for("crawls: 100 of 2000 rows (5 %)", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=SECONDS_MAX)
    assert (process.returncode, err) == (3, "")
    assert "crawls     store  cancelled" in out
    assert at_two("history", "--json").json[-1]["state"] == "cancelled"
    assert at_two.query("SELECT schema_version FROM _sync_version WHERE scope = 'store'") == [("2.0.0",)]


def test_a_program_that_asks_for_json_hears_no_progress(at_two: Command) -> None:
    (at_two.folder / "things.txt").write_text("220")
    ran = at_two("migrate", "--app", "notes_app:SLOW", "--json")
    assert (ran.status, ran.err) == (0, "")
    assert ran.json["results"][0]["counts"]["dropped"] == 220


def _on_a_terminal(at_two: Command, *, term: str) -> str:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "syncengine", "migrate", "--app", "notes_app:SLOW", "--store", str(at_two.store)],
        cwd=at_two.folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "TERM": term},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    said = _all_of(ours)
    assert process.wait(timeout=SECONDS_MAX) == 0
    return said


def _all_of(terminal: int) -> str:
    """Linux says EIO when the other end of a pty is closed."""
    said = b""
    with suppress(OSError):
        while piece := os.read(terminal, 10_000):
            said += piece
    os.close(terminal)
    return said.decode()


def test_a_terminal_gets_one_line_that_changes_and_goes_away(at_two: Command) -> None:
    (at_two.folder / "things.txt").write_text("320")
    said = _on_a_terminal(at_two, term="dumb")
    assert "\rcrawls: 100 of 320 rows (31 %)" in said
    assert "\rcrawls: 300 of 320 rows (93 %)" in said
    assert "\n" not in said
    assert said.endswith(" \r")


def test_a_terminal_of_today_gets_bars_where_rich_is_installed(at_two: Command) -> None:
    pytest.importorskip("rich", reason="bars are an extra")
    (at_two.folder / "things.txt").write_text("320")
    said = _on_a_terminal(at_two, term="xterm-256color")
    assert "100 of 320 rows (31 %)" in said
    assert "━" in said
    assert "\x1b[2K" in said.rpartition("rows")[2]  # at last the line is wiped


def test_short_work_shows_nothing_on_a_terminal(at_two: Command) -> None:
    (at_two.folder / "things.txt").write_text("150")
    for term in ("dumb", "xterm-256color"):
        assert _on_a_terminal(at_two, term=term) == ""


def test_without_anybody_to_ask_a_major_version_waits_with_3_and_yes_agrees(at_two: Command) -> None:
    at_two.write_notes("5")
    ran = at_two.migrate("ASKING")
    assert ran.status == 3
    assert "not run: count-stars: the user has to agree" in ran.out
    assert "To agree: syncengine migrate --yes" in ran.out
    asked = at_two.migrate("ASKING", "--json")
    assert [left["id"] for left in asked.json["deferred"]] == ["count-stars", "send-notes"]
    agreed = at_two.migrate("ASKING", "--yes")
    assert agreed.status == 0
    assert "The store is at 3.0.0 of 3.0.0." in agreed.out


def test_only_one_migration_is_run_when_it_is_named(at_two: Command) -> None:
    at_two.write_notes("5")
    ran = at_two.migrate("ASKING", "--only", "count-stars", "--json")
    assert [result["migrationId"] for result in ran.json["results"]] == ["count-stars"]
    until = at_two.migrate("THREE", "--until", "2.0.0")
    assert "Nothing to do." in until.out


# sync.


def _address(server: ServerProcess) -> tuple[str, str]:
    return ("--cloud-url", server.url)


def test_sync_sends_the_queue_and_says_0(queued: Command, server: ServerProcess) -> None:
    token = server.sign_in("ann")
    ran = queued(*SYNC, *_address(server), SYNCENGINE_TOKEN=token)
    # Progress is shown from the first second on, which a busy machine may need.
    assert (ran.status, ran.err.removeprefix("2 sent, 1 to go\n")) == (0, "")
    assert ran.out.endswith(" 0 left (drained).\n")
    assert queued("outbox").out == "Nothing waits.\n"
    assert queued("status", "--app", "notes_app:THREE", "--user", "ann", "--json").json["synced"] is True
    assert token not in queued.store.read_bytes().decode("latin-1")


def test_sync_until_empty_reads_the_token_from_a_file(queued: Command, server: ServerProcess) -> None:
    file = queued.folder / "token"
    file.write_text(server.sign_in("ann") + "\n")
    words = (*SYNC, *_address(server), "--token-file", str(file), "--until-empty", "--json")
    ran = queued(*words)
    assert ran.status == 0
    assert (ran.json["ended"], ran.json["remaining"], ran.json["quarantined"]) == ("drained", 0, 0)
    again = queued(*words)
    assert (again.status, again.json["applied"]) == (0, 0)


def test_sync_with_rows_in_quarantine_says_4(at_two: Command, server: ServerProcess) -> None:
    at_two.write_notes("5", "many")
    at_two.migrate("THREE")
    ran = at_two(*SYNC, *_address(server), SYNCENGINE_TOKEN=server.sign_in("ann"))
    assert ran.status == 4
    assert "1 in quarantine; see `syncengine quarantine`." in ran.out


@pytest.mark.parametrize("more", [(), ("--until-empty",)])
def test_sync_says_how_many_entries_wait_behind_which_item(
    at_two: Command, server: ServerProcess, more: tuple[str, ...]
) -> None:
    words = ("sync", "--app", "notes_app:TWO", "--user", "ann", *_address(server), *more)
    token = server.sign_in("ann")
    at_two.execute_many("INSERT INTO notes VALUES ('ann', 'bad', 'a' || char(0) || 'b', ?)", [("1",)])
    assert "1 in quarantine" in at_two(*words, SYNCENGINE_TOKEN=token).out
    at_two.execute_many("UPDATE notes SET stars = ? WHERE id = 'bad'", [("2",)])
    ran = at_two(*words, SYNCENGINE_TOKEN=token)
    assert ran.out.splitlines() == [
        "0 sent, 1 left (held).",
        "1 entry waits behind quarantine item 1, until somebody has decided about it.",
        "1 in quarantine; see `syncengine quarantine`.",
    ]
    assert ran.status == 4
    said = at_two(*words, "--json", SYNCENGINE_TOKEN=token).json
    assert (said["ended"], said["held"], said["held_behind"]) == ("held", 1, [1])


def test_sync_and_status_of_an_app_that_is_too_old_to_read_say_so(queued: Command, tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "strict", "--schema-min", "notes=9.0.0") as strict:
        ran = queued(*SYNC, *_address(strict), SYNCENGINE_TOKEN=strict.sign_in("ann"))
    assert ran.status == 3
    assert ran.out.splitlines()[-2:] == [
        "3 sent, 0 left (too_old_to_read).",
        "This app is too old for the cloud: what waited was sent, nothing is read. Update the app.",
    ]
    words = ("status", "--app", "notes_app:THREE", "--user", "ann")
    said = queued(*words)
    assert said.status == 3
    assert "schema_blocked: this app may send and not read; update it" in said.out
    found = queued(*words, "--json").json
    assert (found["outbox"]["unsent"], found["synced"]) == (0, False)


def test_status_says_of_the_network_since_when_and_that_it_is_what_was_last_known(
    queued: Command, tmp_path: Path
) -> None:
    with ServerProcess(tmp_path / "ending") as ending:
        assert queued(*SYNC, *_address(ending), SYNCENGINE_TOKEN=ending.sign_in("ann")).status == 0
    at = queued("status", "--user", "ann", "--json").json["connectivity"]["at"]
    said = queued("status", "--user", "ann").out
    assert [line.split(maxsplit=1)[1] for line in said.splitlines() if line.startswith("network ")] == [
        f"online (last known, since {at})"
    ]


def test_a_cloud_that_cannot_be_reached_is_6_and_the_queue_is_kept(queued: Command) -> None:
    words = (*SYNC, "--cloud-url", "http://127.0.0.1:9", "--json")
    ran = queued(*words, SYNCENGINE_TOKEN="t")
    assert (ran.status, ran.out, ran.error["code"]) == (6, "", "backend_unreachable")
    assert ran.error["fix"] == "The queue is kept. Run the command again when the cloud can be reached."
    flushed = queued(*words, "--until-empty", "--wait-s", "20", SYNCENGINE_TOKEN="t")
    assert flushed.status == 6
    assert (flushed.json["ended"], flushed.json["remaining"]) == ("backend_unreachable", 3)
    assert len(queued("outbox", "--json").json) == 3


@pytest.mark.parametrize("token", ["", "not-a-token-of-this-server"])
def test_a_missing_or_refused_token_is_6_and_is_not_repeated(
    queued: Command, server: ServerProcess, token: str
) -> None:
    ran = queued(*SYNC, *_address(server), "--json", SYNCENGINE_TOKEN=token)
    assert (ran.status, ran.error["code"]) == (6, "auth_required")
    assert "not-a-token" not in ran.err + ran.out
    assert len(queued("outbox", "--json").json) == 3


def test_a_plain_address_of_another_machine_is_refused_with_1(queued: Command) -> None:
    ran = queued(*SYNC, "--cloud-url", "http://cloud.example", "--json", SYNCENGINE_TOKEN="t")
    assert (ran.status, ran.error["code"]) == (1, "backend_address_refused")


@pytest.mark.parametrize("more", [(), ("--until-empty",)])
def test_a_round_that_a_trigger_of_the_app_ends_is_1_with_its_name_and_no_traceback(
    at_two: Command, tmp_path: Path, more: tuple[str, ...]
) -> None:
    words = ("sync", "--app", "notes_app:TWO", "--user", "ann")
    at_two.execute_many("INSERT INTO notes VALUES ('ann', 'a', 'x', ?)", [("1",)])
    (tmp_path / "other").mkdir()
    other = Command(tmp_path / "other")
    assert other.migrate("TWO").status == 0
    other.execute_many("CREATE TRIGGER app_own AFTER INSERT ON notes BEGIN SELECT nofunc(1); END", [()])
    with ServerProcess(tmp_path / "cloud") as running:
        token = running.sign_in("ann")
        assert at_two(*words, *_address(running), SYNCENGINE_TOKEN=token).status == 0
        ran = other(*words, *_address(running), *more, SYNCENGINE_TOKEN=token)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.splitlines()[-4:-2] == [
        "The table notes takes no row from the cloud.",
        "  why:  SQLite says: no such function: nofunc (triggers of the app on it: app_own)",
    ]
    assert "Traceback" not in ran.err
    said = other("status", "--app", "notes_app:TWO", "--user", "ann", "--json").json
    assert (said["sync"]["last_error"], said["sync"]["last_success_at"]) == ("round_failed", None)


def test_sync_of_a_missing_store_is_1_and_makes_none(command: Command, server: ServerProcess) -> None:
    ran = command(*SYNC, *_address(server), "--json", SYNCENGINE_TOKEN="t")
    assert (ran.status, ran.error["code"]) == (1, "store_missing")
    assert not command.store.exists()


@pytest.mark.parametrize("words", [(), ("--until-empty",)])
def test_a_cloud_that_never_answers_is_waited_for_as_long_as_asked_then_3(
    queued: Command, words: tuple[str, ...]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = ("--cloud-url", f"http://127.0.0.1:{silent.getsockname()[1]}")
        ran = queued(*SYNC, *address, "--wait-s", "1", "--json", *words, SYNCENGINE_TOKEN="t")
    assert ran.status == 3
    if words:
        assert (ran.json["ended"], ran.json["remaining"]) == ("time_is_over", 3)
    else:
        assert ran.error["code"] == "round_unfinished"
    assert len(queued("outbox", "--json").json) == 3
