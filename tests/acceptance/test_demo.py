"""The story that the demo tells is true: it ends well, fits on a screen, and fails where the proof does not hold."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.emulator import lacking
from simulator.proof import CloudLedger, Rows, compare

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "simulator", "demo", "--keep", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def line_of(story: list[str], who: str) -> str:
    return next(line for line in story if line.startswith(who))


def numbers_in(pattern: str, line: str) -> list[int]:
    found = re.search(pattern, line)
    assert found is not None, line
    return [int(number) for number in found.groups()]


def test_the_story_fits_on_a_screen(story: list[str]) -> None:
    assert len(story) <= 45


def test_the_app_migrates_over_a_skipped_version_while_it_is_offline(story: list[str]) -> None:
    assert "1.0.0 > 2.0.0, then 2.0.0 > 3.0.0" in line_of(story, "plan")
    assert line_of(story, "consent").endswith("asked once about 1.0.0 > 2.0.0, 2.0.0 > 3.0.0, and agrees")
    assert "probe: offline" in line_of(story, "app")
    assert "401 read = 392 written + 1 merged + 8 in quarantine" in line_of(story, "savepoint")
    assert "outbox: 470 waiting" in line_of(story, "queue")


def test_the_store_is_shown_by_tables_that_anybody_can_read(story: list[str]) -> None:
    text = "\n".join(story)
    assert "migration_status" in text
    assert "a walk needs 2 points; this one has 0" in text


def test_the_cut_hides_from_the_app_what_the_server_has_done(story: list[str]) -> None:
    known, there = numbers_in(r"knows of (\d+) at the server, the server has (\d+)", line_of(story, "cut"))
    assert 0 < known < there < 470


def test_the_kill_falls_in_mid_upload(story: list[str]) -> None:
    confirmed, claimed, waiting = numbers_in(
        r"(\d+) confirmed, (\d+) claimed, (\d+) waiting", line_of(story, "kill -9")
    )
    assert confirmed > 0
    assert claimed > 0
    assert waiting > 0
    assert confirmed + claimed + waiting == 470


def test_a_second_device_is_upgraded_with_its_edits_queued(story: list[str]) -> None:
    assert "still at 2.0.0 and never online: 3 walks recorded" in line_of(story, "tablet")
    read, converted = numbers_in(r"3\.0\.0 .* (\d+) entries read = (\d+) converted \+ 0", line_of(story, "upgrade"))
    assert read == converted > 3
    assert line_of(story, "together").endswith("now both devices have the same 464")


def test_a_conflict_is_decided_alike_on_both_devices_and_told(story: list[str]) -> None:
    assert "the phone's was first and stays" in line_of(story, "conflict")
    assert '│ preferences │ language │ "fr"       │ "de"        │ server │ server_wins │' in story
    assert line_of(story, "resolved").endswith("both have fr")


def test_every_row_arrives_once(story: list[str]) -> None:
    proof = "464 rows at the server, each once, 0 missing, 0 twice; both devices equal; 9 in quarantine with reasons"
    assert story[-1] == f"proof: {proof}"


@pytest.fixture(scope="module")
def firestore_story(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    reason = lacking()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("firestore-demo")
    done = subprocess.run(
        [sys.executable, "-m", "simulator", "demo", "--backend", "firestore", "--keep", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_the_same_story_ends_as_well_in_googles_firestore(firestore_story: list[str]) -> None:
    known, there = numbers_in(r"knows of (\d+) at the server, the server has (\d+)", line_of(firestore_story, "cut"))
    assert 0 < known < there < 470
    assert "Google's Firestore emulator under the shipped security rules" in line_of(firestore_story, "cloud")
    proof = "464 rows at the server, each once, 0 missing, 0 twice; both devices equal; 9 in quarantine with reasons"
    assert firestore_story[-1] == f"proof: {proof}"


def test_the_same_story_ends_as_well_on_postgresql_and_only_in_an_empty_database(
    database: str, tmp_path: Path
) -> None:
    def demo(folder: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "simulator", "demo", "--database", database, "--keep", str(tmp_path / folder)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    done = demo("first")
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.splitlines()
    assert "a process of its own on PostgreSQL" in line_of(told, "cloud")
    proof = "464 rows at the server, each once, 0 missing, 0 twice; both devices equal; 9 in quarantine with reasons"
    assert told[-1] == f"proof: {proof}"
    again = demo("second")
    assert again.returncode != 0
    assert "has users already" in again.stdout + again.stderr


ROWS: Rows = {("journeys", "a"): {"id": "a", "distance": 1.5}, ("journeys", "b"): {"id": "b", "distance": None}}
ONCE = {("journeys", "a"): 1, ("journeys", "b"): 1}
LEDGER = CloudLedger(effects=ONCE, receipts=2, rejected=0)


def test_a_proof_holds_for_two_equal_sides() -> None:
    assert compare(ROWS, ROWS, LEDGER).holds


def test_an_edit_that_was_made_is_an_effect_more() -> None:
    ledger = CloudLedger(effects={**ONCE, ("journeys", "a"): 2}, receipts=3, rejected=0)
    assert compare(ROWS, ROWS, ledger, edits={("journeys", "a"): 1}).holds
    assert compare(ROWS, ROWS, ledger, edits={("journeys", "b"): 1}).twice == 1


def test_a_profile_is_written_again_with_the_status_of_its_migrations() -> None:
    rows: Rows = {("profile", "ann"): {"id": "ann"}}
    assert compare(rows, rows, CloudLedger(effects={("profile", "ann"): 3}, receipts=3, rejected=0)).holds


@pytest.mark.parametrize(
    ("local", "cloud", "ledger"),
    [
        ({}, {}, CloudLedger(effects={}, receipts=0, rejected=0)),
        (ROWS, {("journeys", "a"): ROWS["journeys", "a"]}, LEDGER),
        ({("journeys", "a"): ROWS["journeys", "a"]}, ROWS, LEDGER),
        (ROWS, {**ROWS, ("journeys", "b"): {"id": "b", "distance": 0}}, LEDGER),
        (ROWS, ROWS, CloudLedger(effects={**ONCE, ("journeys", "b"): 2}, receipts=3, rejected=0)),
        (ROWS, ROWS, CloudLedger(effects=ONCE, receipts=3, rejected=1)),
    ],
    ids=["nothing", "missing", "unknown", "different", "twice", "rejected"],
)
def test_a_proof_fails_for_anything_else(local: Rows, cloud: Rows, ledger: CloudLedger) -> None:
    assert not compare(local, cloud, ledger).holds
