"""The notes app on two devices, with real windows: what is typed offline arrives, nothing is lost or freezes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.gate import Gate
from simulator.notes.notebook import BETWEEN, REGISTRY
from simulator.processes import ChildProcess
from syncengine import Engine
from syncengine.clock import SystemClock

pytest.importorskip("tkinter", reason="Python's tkinter is not installed (Debian: python3-tk)")

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb is not installed (Debian: xvfb)"),
]

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 30
TOKEN = "only-on-this-machine"
Seen = dict[str, Any]


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """A screen that nobody sees."""
    number, told = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(told), "-screen", "0", "1024x768x24", "-nolisten", "tcp"],
        pass_fds=(told,),
        stderr=subprocess.DEVNULL,
    )
    os.close(told)
    with os.fdopen(number) as said:
        yield f":{said.readline().strip()}"
    server.terminate()
    server.wait(SECONDS_MAX)


@pytest.fixture
def cloud_url(tmp_path: Path) -> Iterator[str]:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"ann {TOKEN}\n", encoding="utf-8")
    told = ("--port", "0", "--data", str(tmp_path / "cloud"), "--token-file", str(tokens))
    with ChildProcess("simulator.server", *told, log=tmp_path / "server.log") as server:
        line = server.line(wait_ms_max=SECONDS_MAX * 1000)
        assert line is not None
        yield line.removeprefix("listening on ")


class Window:
    """One device's app, as a process with hands and eyes on its window."""

    def __init__(self, folder: Path, *, device: str, cloud_url: str, display: str) -> None:
        told = (
            "--device",
            device,
            "--dir",
            str(folder),
            "--cloud",
            cloud_url,
            "--token-file",
            str(folder / "tokens"),
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.notes_hands", *told],
            cwd=ROOT,
            env={**os.environ, "DISPLAY": display, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._clock = SystemClock()

    def do(self, do: str, **more: str) -> Seen:
        """Do something, and look."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self._process.stdin.flush()
        seen: Seen = json.loads(self._process.stdout.readline())
        return seen

    def write_note(self, title: str, text: str) -> None:
        self.do("new")
        self.do("type", into="title", words=title)
        self.do("type", into="text", words=text)

    def sees(self, when: Callable[[Seen], bool]) -> Seen:
        """What is seen as soon as it is so. `stood_still_ms` is the longest of all looks."""
        deadline_ms = self._clock.monotonic_ms() + SECONDS_MAX * 1000
        stood_still_ms = 0
        while True:
            seen = self.do("look")
            stood_still_ms = max(stood_still_ms, seen["stood_still_ms"])
            if when(seen):
                return {**seen, "stood_still_ms": stood_still_ms}
            assert self._clock.monotonic_ms() < deadline_ms, seen
            self._clock.pause(20)

    def says(self, status: str) -> Seen:
        """The same for its line at the bottom."""
        return self.sees(lambda seen: seen["status"].startswith(status))

    def close(self) -> None:
        """As its user does, who waits for it."""
        self._process.communicate(timeout=SECONDS_MAX)
        assert self._process.returncode == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def devices(tmp_path: Path, cloud_url: str, display: str) -> Iterator[tuple[Window, Window, Gate]]:
    """Device a behind a gate, which is shut; device b with a good line."""
    with Gate(cloud_url) as gate:
        a = Window(tmp_path, device="a", cloud_url=gate.url, display=display)
        b = Window(tmp_path, device="b", cloud_url=cloud_url, display=display)
        try:
            yield a, b, gate
        finally:
            a.kill()
            b.kill()


def test_a_note_typed_offline_is_on_the_other_device_when_the_network_is_back(
    devices: tuple[Window, Window, Gate],
) -> None:
    a, b, gate = devices
    a.write_note("Milk", "two bottles.")
    a.sees(lambda seen: "waiting: offline" in seen["status"] and seen["titles"] == ["Milk"])
    assert b.says("Synced")["titles"] == []
    gate.open()
    a.says("Synced")
    b.sees(lambda seen: seen["titles"] == ["Milk"])
    assert b.do("choose", title="Milk")["text"] == "two bottles."
    b.do("delete")
    a.sees(lambda seen: seen["titles"] == [] and seen["text"] == "")
    a.close()
    b.close()


def test_of_a_note_that_was_written_on_both_devices_no_word_is_lost(devices: tuple[Window, Window, Gate]) -> None:
    a, b, gate = devices
    gate.open()
    a.write_note("Milk", "two bottles.")
    b.sees(lambda seen: seen["titles"] == ["Milk"])
    a.says("Synced")
    gate.shut()
    a.do("type", into="text", words=" and bread.")
    a.sees(lambda seen: "waiting: offline" in seen["status"])
    b.do("choose", title="Milk")
    b.do("type", into="text", words=" of oats.")
    b.do("choose", title="Milk")  # whoever looks at another note has saved this one
    b.says("Synced")
    gate.open()
    both = BETWEEN.join(("two bottles. and bread.", "two bottles. of oats."))
    assert a.says("Synced · 1 place written twice: both kept")["text"] == both
    b.sees(lambda seen: seen["text"] == both)


def test_the_window_answers_while_thousands_of_notes_come_in(
    devices: tuple[Window, Window, Gate], tmp_path: Path, cloud_url: str
) -> None:
    _, b, _ = devices
    b.says("Synced")
    with Engine.open(
        tmp_path / "c.db", registry=REGISTRY, user="ann", cloud_url=cloud_url, token=lambda: TOKEN
    ) as engine:
        engine.migrate()
        with engine.write(atomic=False) as db:
            rows = (
                {"user_id": "ann", "id": f"n{n:05}", "title": f"Note {n}", "text": "…" * 300} for n in range(10_000)
            )
            db.table("notes").insert_all({**row, "written_at_ms": number} for number, row in enumerate(rows))
        b.do("look")
        assert engine.sync_now().ended == "drained"
    seen = b.sees(lambda seen: len(seen["titles"]) == 500 and seen["titles"][0] == "Note 9999")
    assert seen["stood_still_ms"] < 500
    b.do("new")
    assert b.do("type", into="title", words="here")["stood_still_ms"] < 500
