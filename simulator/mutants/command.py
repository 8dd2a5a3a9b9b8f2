"""Bugs are put into the engine, one after the other: each must be noticed by a world, and by the right promise."""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from simulator.mutants import MUTANTS, mutant_of
from simulator.mutants.catching import WORLDS_MAX, Caught, catch, remember


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which, and how hard to try."""
    parser.add_argument("names", nargs="*", metavar="WORDS", help="only those whose sentence holds these words")
    parser.add_argument("--worlds", type=int, default=WORLDS_MAX, metavar="N", help=f"for each ({WORLDS_MAX})")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="at the same time (default 1)")
    parser.add_argument("--remember", action="store_true", help="write the seeds down that noticed them")


def run(asked: argparse.Namespace) -> int:
    """0 when all were caught by a promise that they break; else 1."""
    wanted = [m.name for m in MUTANTS if not asked.names or any(word in m.name for word in asked.names)]
    escaped = 0
    caught: list[Caught] = []
    with ProcessPoolExecutor(max_workers=max(asked.jobs, 1)) as pool:
        for name, found in zip(wanted, pool.map(partial(_caught, asked.worlds), wanted), strict=True):
            is_right = found is not None and found.promise in mutant_of(name).caught_by
            escaped += not is_right
            print(f"{'ok ' if is_right else 'BAD'} {found or name + ': survives'}", flush=True)
            caught += [found] if found is not None else []
    if asked.remember and not asked.names:
        remember(caught)
    print(f"{len(wanted)} mutants, {len(wanted) - escaped} caught")
    return 1 if escaped else 0


def _caught(worlds_max: int, name: str) -> Caught | None:
    return catch(mutant_of(name), worlds_max=worlds_max)
