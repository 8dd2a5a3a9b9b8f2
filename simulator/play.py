"""App and server run while a person switches the network on and off, by a file that comes and goes."""

import argparse
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from simulator.gate import Gate
from simulator.stage import AppProcess, Fact, Stage, running_server, set_stage
from syncengine.clock import Clock, SystemClock
from syncengine.local.watch import FileFlagWatcher

WALKS = 600
PLACES = 60
BATCH_ENTRIES = 5
LATENCY_MS = 60
"""Small batches on a slow line: a queue of some 660 entries takes half a minute, so there is time to play."""

TURN_MS = 200
"""How often it is looked whether it is time to flip the network or to end."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What a person may choose."""
    parser.add_argument("--dir", help="play in this new folder, and leave all files there")
    parser.add_argument("--toggle", type=float, metavar="SECONDS", help="flip the network by itself, so often")
    parser.add_argument("--for", type=float, dest="seconds", metavar="SECONDS", help="end by itself after so long")


def run(asked: argparse.Namespace) -> int:
    """Until Ctrl-C or the end of the time; both processes are gone afterwards."""
    with ExitStack() as stack:
        folder = Path(asked.dir or stack.enter_context(tempfile.TemporaryDirectory(prefix="syncengine-play-")))
        try:
            stage = _new_stage(folder)
        except FileExistsError:
            print(f"{folder} is not new. Give --dir a folder that is not there yet, or is empty.", file=sys.stderr)
            return 1
        table = _Table(sys.stdout, is_tty=sys.stdout.isatty())
        with suppress(KeyboardInterrupt):
            _play(stage, table, toggle_ms=_ms(asked.toggle), end_ms=_ms(asked.seconds), clock=SystemClock())
        table.end("Ended: the app and the server are gone." + (f" The files are in {folder}" if asked.dir else ""))
    return 0


def _new_stage(folder: Path) -> Stage:
    """Raises FileExistsError where somebody has played before, and leaves that play's files as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    return set_stage(folder, walks=WALKS, places=PLACES, seed=1)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _play(stage: Stage, table: "_Table", *, toggle_ms: int | None, end_ms: int | None, clock: Clock) -> None:
    flag = stage.folder / "online"
    flag.unlink(missing_ok=True)
    with running_server(stage) as server_url, Gate(server_url, latency_ms=LATENCY_MS) as gate:
        print(f"The network is on while this file is there:  touch {flag}   rm {flag}   (Ctrl-C ends)", flush=True)
        watcher = FileFlagWatcher(str(flag), lambda present: _switch(gate, table, on=present))
        watcher.start()
        try:
            with _start_app(stage, gate, flag, clock) as app:
                _follow(app, table, flag, toggle_ms=toggle_ms, end_ms=end_ms, clock=clock)
        finally:
            watcher.stop()


def _start_app(stage: Stage, gate: Gate, flag: Path, clock: Clock) -> AppProcess:
    (user,) = stage.users
    return AppProcess(stage, user=user, cloud_url=gate.url, clock=clock, batch=BATCH_ENTRIES, online_flag=flag)


def _switch(gate: Gate, table: "_Table", *, on: bool) -> None:
    if on:
        gate.open()
    else:
        gate.shut()
    table.network(on=on)


def _follow(
    app: AppProcess, table: "_Table", flag: Path, *, toggle_ms: int | None, end_ms: int | None, clock: Clock
) -> None:
    began_ms = clock.monotonic_ms()
    flips = 0
    while end_ms is None or clock.monotonic_ms() - began_ms < end_ms:
        for fact in app.facts_until(clock.monotonic_ms() + TURN_MS):
            table.heard(fact)
        if toggle_ms is not None and clock.monotonic_ms() - began_ms >= (flips + 1) * toggle_ms:
            flips += 1
            _flip(flag)


def _flip(flag: Path) -> None:
    if flag.exists():
        flag.unlink()
    else:
        flag.touch()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What is shown: the network as the person set it, and all else as the app says it."""

    network_on: bool = False
    version: str = "1.0.0"
    probe: str = "unknown"
    waiting: int = 0
    confirmed: int = 0

    def __str__(self) -> str:
        network = "on " if self.network_on else "off"
        doing = "migrating" if self.version == "1.0.0" else self._doing()
        return (
            f"network {network} | probe: {self.probe:<7} | at {self.version} | outbox: {self.waiting:>3} waiting | "
            f"{self.confirmed:>3} at the server | {doing}"
        )

    def _doing(self) -> str:
        if not self.waiting:
            return "synced"
        return "draining" if self.probe == "online" else "waiting for the network"


def line_after(line: Line, fact: Fact) -> Line:
    """The line after the app has said one more thing. Pure."""
    match fact["said"]:
        case "migrated":
            waiting = fact["waiting"] + fact["claimed"]
            return replace(line, version=fact["version"], waiting=waiting, confirmed=fact["confirmed"])
        case "ProbeChanged":
            return replace(line, probe=fact["verdict"])
        case "BatchConfirmed":
            return replace(line, waiting=fact["sendable"], confirmed=line.confirmed + fact["applied"])
        case "RoundEnded":
            return replace(line, waiting=fact["sendable"])
        case _:
            return line


class _Table:
    """Shows the line: over and over in one place on a terminal, else once for each change."""

    def __init__(self, out: TextIO, *, is_tty: bool) -> None:
        self._out = out
        self._is_tty = is_tty
        self._line = Line()
        self._lock = threading.Lock()  # the network is told on the watcher's thread

    def heard(self, fact: Fact) -> None:
        with self._lock:
            if fact["said"] == "consent":
                self._out.write(f"consent   the user is asked once about {', '.join(fact['hops'])}, and agrees\n")
            self._show(line_after(self._line, fact))

    def network(self, *, on: bool) -> None:
        with self._lock:
            self._show(replace(self._line, network_on=on))

    def _show(self, line: Line) -> None:
        if line != self._line:
            self._line = line
            # Return to the first column, and clear what the longer line before may have left behind it.
            self._out.write(f"\r{line}\x1b[K" if self._is_tty else f"{line}\n")
            self._out.flush()

    def end(self, sentence: str) -> None:
        self._out.write(("\n" if self._is_tty else "") + sentence + "\n")
        self._out.flush()
