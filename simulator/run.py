"""Worlds by their seeds: each is a whole history of devices, people and faults; the first broken promise is told."""

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import count, islice

from simulator.world.history import live
from simulator.world.outcome import Outcome

PROCESSES_MAX = 64


def add_options(parser: argparse.ArgumentParser) -> None:
    """How many worlds, and which."""
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="how many worlds (default 20)")
    parser.add_argument("--from", type=int, default=0, dest="first", metavar="S", help="the first seed (default 0)")
    parser.add_argument("--seed", type=int, metavar="S", help="only this world, with the end of its trace")
    parser.add_argument("--partitions", action="store_true", help="small worlds in which only lines are cut")
    parser.add_argument("--processes", type=int, default=1, metavar="P", help="worlds at the same time (default 1)")


def run(asked: argparse.Namespace) -> int:
    """0 when every promise held in every world."""
    live_one = _partitions_of if asked.partitions else live
    if asked.seed is not None:
        return _show(live_one(asked.seed))
    seeds = islice(count(asked.first), asked.seeds)
    seen: Counter[str] = Counter()
    broken: list[int] = []
    with ProcessPoolExecutor(max_workers=min(max(asked.processes, 1), PROCESSES_MAX)) as pool:
        for outcome in pool.map(live_one, seeds):
            seen.update(outcome.seen)
            if outcome.broken:
                broken.append(outcome.seed)
                print(outcome, flush=True)
    _tell_seen(seen)
    print(f"{asked.seeds} worlds, {len(broken)} with a broken promise" + (f": seeds {broken}" if broken else ""))
    return 1 if broken else 0


def _partitions_of(seed: int) -> Outcome:
    return live(seed, profile="partitions")


def _show(outcome: Outcome) -> int:
    print(outcome)
    _tell_seen(outcome.seen)
    return 1 if outcome.broken else 0


def _tell_seen(seen: Counter[str]) -> None:
    """What happened, and how often: a fault that never fired has proved nothing."""
    for kind, times in sorted(seen.items()):
        print(f"  {times:7}  {kind}")
