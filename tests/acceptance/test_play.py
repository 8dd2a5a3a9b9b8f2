"""A person switches the network by a file, sees what becomes of it, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.play import Line, line_after
from syncengine.clock import SystemClock

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 60

needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are listed by /proc")


def play(folder: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "simulator", "play", "--dir", str(folder), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def playing(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    process = play(tmp_path / "play")
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=SECONDS_MAX)


def processes_about(folder: Path) -> list[str]:
    """The command lines of running processes that name a file of this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words and str(os.getpid()) != entry.parent.name:
            found.append(words)
    return found


def lines_until(process: "subprocess.Popen[str]", words: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(f"it ended without a line with {words!r}: {lines}")


def test_a_toggled_network_shows_both_states_and_ends_clean(tmp_path: Path) -> None:
    process = play(tmp_path / "play", "--for", "8", "--toggle", "2")
    shown, complaints = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0, shown + complaints
    assert complaints == ""
    assert "network off | probe: offline" in shown
    assert "network on  | probe: online" in shown
    assert "draining" in shown
    assert shown.splitlines()[-1].startswith("Ended: the app and the server are gone.")
    assert processes_about(tmp_path) == []


def test_a_file_that_comes_and_goes_switches_the_network(playing: "subprocess.Popen[str]", tmp_path: Path) -> None:
    flag = tmp_path / "play" / "online"
    lines_until(playing, "network off | probe: offline")
    flag.touch()
    drained = lines_until(playing, "5 at the server | draining")
    assert any(line.startswith("network on  | probe: online") for line in drained)
    flag.unlink()
    lines_until(playing, "network off | probe: offline")


@needs_proc
def test_ctrl_c_ends_both_processes(playing: "subprocess.Popen[str]", tmp_path: Path) -> None:
    lines_until(playing, "network off | probe: offline")
    assert len(processes_about(tmp_path)) == 3
    playing.send_signal(signal.SIGINT)
    assert playing.wait(SECONDS_MAX) == 0
    assert processes_about(tmp_path) == []


@needs_proc
def test_the_end_of_a_killed_player_is_the_end_of_its_processes(
    playing: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    lines_until(playing, "network off | probe: offline")
    playing.kill()
    playing.wait(SECONDS_MAX)
    clock = SystemClock()
    deadline_ms = clock.monotonic_ms() + 10_000
    while processes_about(tmp_path) and clock.monotonic_ms() < deadline_ms:
        clock.pause(50)
    assert processes_about(tmp_path) == []


def test_a_folder_that_was_played_in_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    first = play(tmp_path / "play", "--for", "0")
    first.communicate(timeout=SECONDS_MAX)
    assert first.returncode == 0
    before = sorted(tmp_path.rglob("*"))
    _, complaints = (second := play(tmp_path / "play")).communicate(timeout=SECONDS_MAX)
    assert second.returncode == 1
    assert complaints == f"{tmp_path}/play is not new. Give --dir a folder that is not there yet, or is empty.\n"
    assert sorted(tmp_path.rglob("*")) == before


def test_the_line_says_what_the_app_said_last() -> None:
    line = Line()
    for fact in (
        {"said": "migrated", "version": "3.0.0", "waiting": 8, "claimed": 2, "confirmed": 0},
        {"said": "ProbeChanged", "verdict": "online", "verdict_before": "unknown", "reason": "backend_answered"},
        {"said": "BatchConfirmed", "applied": 4, "sendable": 6},
    ):
        line = line_after(line, fact)
    assert line == Line(version="3.0.0", probe="online", waiting=6, confirmed=4)
    assert str(line_after(line, {"said": "BatchConfirmed", "applied": 6, "sendable": 0})).endswith("| synced")
