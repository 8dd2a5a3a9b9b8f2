"""Many worlds, in several processes: which seeds, and what is told of each."""

import argparse
import gc
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from simulator.replay import Replay
from simulator.world.disk import settle_sqlite
from simulator.world.history import live
from simulator.world.profiles import PROFILES

JOBS_MAX = 64
SEEDS_PER_DAY = 1_000_000
WORLDS_AT_ONCE = 4
"""So many are handed to a process together."""

OBJECTS_BEFORE_COLLECTING = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one process tells another of a world. `failure`: its replay file, where a promise was broken."""

    seed: int
    seen: Counter[str]
    table: Counter[tuple[str, str]]
    cpu_seconds: float
    actions: int
    text: str = ""
    failure: dict[str, Any] | None = None


def add_world_options(parser: argparse.ArgumentParser) -> None:
    """Which worlds."""
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="how many worlds (default 20)")
    parser.add_argument(
        "--from",
        default="0",
        dest="first",
        metavar="S",
        help="the first seed; `commit` or `today` for seeds that nobody has seen (default 0)",
    )
    parser.add_argument("--profile", choices=sorted(PROFILES), help="one way to draw worlds")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="worlds at the same time (default 1)")


def first_seed(word: str) -> int:
    """`commit`: another one for each commit; `today`: for each day. Raises ValueError for what is no number."""
    if word == "commit":
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        word = str(int(done.stdout[:10], 16)) if done.returncode == 0 else "today"
    if word == "today":
        return datetime.now(UTC).toordinal() * SEEDS_PER_DAY
    return int(word)


def told_of_worlds(asked: argparse.Namespace) -> Iterator[Told]:
    """Of each world in the order of the seeds."""
    first = first_seed(asked.first)
    seeds = range(first, first + asked.seeds)
    lived = partial(told_of_world, profile=asked.profile)
    with ProcessPoolExecutor(max_workers=min(max(asked.jobs, 1), JOBS_MAX), initializer=_settle) as pool:
        yield from pool.map(lived, seeds, chunksize=WORLDS_AT_ONCE)


def _settle() -> None:
    """What nobody asks for in a process that only lives through worlds, one after the other, is not done."""
    # Collect seldom, and never what was loaded before the first world: the cycles of a world are few.
    gc.freeze()
    gc.set_threshold(OBJECTS_BEFORE_COLLECTING)
    settle_sqlite()


def told_of_world(seed: int, *, profile: str | None = None) -> Told:
    """Live through one world."""
    begun = time.process_time()
    outcome = live(seed, profile=profile)
    return Told(
        seed=seed,
        seen=outcome.seen,
        table=outcome.table,
        cpu_seconds=time.process_time() - begun,
        actions=len(outcome.drawn),
        text=str(outcome) if outcome.broken else "",
        failure=Replay.of(outcome).to_json() if outcome.broken else None,
    )
