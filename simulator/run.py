"""Worlds by their seeds: each is a whole history of devices, people and faults.

Exit status: 0 every promise held; 1 one was broken (a replay file says how); 2 the question was wrong; 3 a bug that
is put in on purpose was not noticed; 4 a fault never happened in so many worlds that it should have.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from simulator.coverage import WORLDS_ENOUGH, counts_as_text, never_fired
from simulator.mutants.catching import CANARY, catch
from simulator.replay import Replay
from simulator.timeline import write_timeline
from simulator.world.history import live
from simulator.worlds import Told, add_world_options, first_seed, told_of_worlds

FAILURES_SHOWN = 5


def add_options(parser: argparse.ArgumentParser) -> None:
    """How many worlds, and which."""
    add_world_options(parser)
    parser.add_argument("--seed", type=int, metavar="S", help="only this world, with the end of its trace")
    parser.add_argument("--timeline", type=Path, metavar="FILE", help="draw the world of --seed as an HTML page")
    parser.add_argument("--trace", action="store_true", help="print the whole trace of the world of --seed")
    parser.add_argument("--failures", type=Path, metavar="FOLDER", help="where replay files of failures go")


def run(asked: argparse.Namespace) -> int:
    """The exit status."""
    if asked.seed is not None:
        return _one(asked)
    print(f"{asked.seeds} worlds from seed {first_seed(asked.first)}", flush=True)
    seen: Counter[str] = Counter()
    broken: list[int] = []
    cpu_seconds = 0.0
    for told in told_of_worlds(asked):
        seen.update(told.seen)
        cpu_seconds += told.cpu_seconds
        if told.failure is not None:
            broken.append(told.seed)
            _tell_failure(told, _folder(asked), shown=len(broken) <= FAILURES_SHOWN)
    print(counts_as_text(seen))
    per_world = cpu_seconds / max(asked.seeds, 1)
    print(f"{asked.seeds} worlds, {per_world:.2f} s of processor time each, {len(broken)} with a broken promise")
    return 1 if broken else _of_the_run_itself(asked, seen)


def _of_the_run_itself(asked: argparse.Namespace, seen: Counter[str]) -> int:
    """Would it have noticed? A canary, and what never happened."""
    caught = catch(CANARY)
    if caught is None:
        print(f"NOT noticed: a bug that was put in on purpose ({CANARY.name}). So this run has proved nothing.")
        return 3
    print(f"noticed, as it must be: a bug that was put in on purpose in a world of its own ({caught})")
    missing = never_fired(seen) if asked.seeds >= WORLDS_ENOUGH and asked.profile is None else []
    if missing:
        print(f"never happened: {', '.join(missing)}")
    return 4 if missing else 0


def _folder(asked: argparse.Namespace) -> Path:
    """Made when the first failure comes."""
    if asked.failures is None:
        asked.failures = Path(tempfile.mkdtemp(prefix="syncengine-failures-"))
    asked.failures.mkdir(parents=True, exist_ok=True)
    folder: Path = asked.failures
    return folder


def _tell_failure(told: Told, folder: Path, *, shown: bool) -> None:
    assert told.failure is not None
    path = folder / f"seed-{told.seed}.json"
    Replay.from_json(told.failure).write(path)
    print(told.text if shown else told.text.partition("\n")[0])
    print(f"  its file: python -m simulator replay {path}\n  smaller:  python -m simulator shrink {path}", flush=True)


def _one(asked: argparse.Namespace) -> int:
    outcome = live(asked.seed, profile=asked.profile)
    if asked.trace:
        print("\n".join(map(str, outcome.trace)))
    print(outcome)
    print(counts_as_text(outcome.seen))
    if asked.timeline is not None:
        write_timeline(outcome, asked.timeline)
        print(f"drawn: {asked.timeline}")
    if outcome.broken and asked.failures is not None:
        path = _folder(asked) / f"seed-{outcome.seed}.json"
        Replay.of(outcome).write(path)
        print(f"its file: python -m simulator replay {path}")
    return 1 if outcome.broken else 0
