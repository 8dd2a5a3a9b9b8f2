"""The story that the demo tells is true: it ends well, fits on a screen, and fails where the proof does not hold."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert len(story) <= 40


def test_the_app_migrates_over_a_skipped_version_while_it_is_offline(story: list[str]) -> None:
    assert "1.0.0 > 2.0.0, then 2.0.0 > 3.0.0" in line_of(story, "plan")
    assert line_of(story, "consent").endswith("asked once about 1.0.0 > 2.0.0, 2.0.0 > 3.0.0, and agrees")
    assert "probe: offline" in line_of(story, "app")
    assert "401 read = 392 written + 1 merged + 8 in quarantine" in line_of(story, "savepoint")
    assert "outbox: 463 waiting" in line_of(story, "queue")


def test_the_store_is_shown_by_tables_that_anybody_can_read(story: list[str]) -> None:
    text = "\n".join(story)
    assert "migration_status" in text
    assert "a walk needs 2 points; this one has 0" in text


def test_the_cut_hides_from_the_app_what_the_server_has_done(story: list[str]) -> None:
    known, there = numbers_in(r"knows of (\d+) at the server, the server has (\d+)", line_of(story, "cut"))
    assert 0 < known < there < 463


def test_the_kill_falls_in_mid_upload(story: list[str]) -> None:
    confirmed, claimed, waiting = numbers_in(
        r"(\d+) confirmed, (\d+) claimed, (\d+) waiting", line_of(story, "kill -9")
    )
    assert confirmed > 0
    assert claimed > 0
    assert waiting > 0
    assert confirmed + claimed + waiting == 463


def test_every_row_arrives_once(story: list[str]) -> None:
    assert story[-1] == "proof: 461 rows at the server, each once, 0 missing, 0 twice; 9 in quarantine with reasons"


ROWS: Rows = {("journeys", "a"): {"id": "a", "distance": 1.5}, ("journeys", "b"): {"id": "b", "distance": None}}
LEDGER = CloudLedger(documents=2, effects=3, receipts=2, rejected=0)


def test_a_proof_holds_for_two_equal_sides() -> None:
    assert compare(ROWS, ROWS, LEDGER).holds


@pytest.mark.parametrize(
    ("local", "cloud", "ledger"),
    [
        ({}, {}, CloudLedger(documents=0, effects=1, receipts=0, rejected=0)),
        (ROWS, {("journeys", "a"): ROWS["journeys", "a"]}, LEDGER),
        ({("journeys", "a"): ROWS["journeys", "a"]}, ROWS, LEDGER),
        (ROWS, {**ROWS, ("journeys", "b"): {"id": "b", "distance": 0}}, LEDGER),
        (ROWS, ROWS, CloudLedger(documents=2, effects=4, receipts=3, rejected=0)),
        (ROWS, ROWS, CloudLedger(documents=2, effects=3, receipts=3, rejected=1)),
    ],
    ids=["nothing", "missing", "unknown", "different", "twice", "rejected"],
)
def test_a_proof_fails_for_anything_else(local: Rows, cloud: Rows, ledger: CloudLedger) -> None:
    assert not compare(local, cloud, ledger).holds
