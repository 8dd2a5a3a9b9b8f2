"""What a run of worlds has met: how often each thing happened, and each fault in each phase of a device.

A fault that never fired has proved nothing, so one that is missing after many worlds fails the run.
"""

import argparse
from collections import Counter
from collections.abc import Iterable

from simulator.worlds import Told, add_world_options, told_of_worlds

WORLDS_ENOUGH = 2_000
"""After so many worlds every probe that is not rare must have fired."""

FAULTS = (
    "answers_cut",
    "broken",
    "clock_jumped",
    "cloned",
    "cloud_restored",
    "cut_after",
    "cut_before",
    "garbled",
    "late",
    "limited",
    "partition",
    "power_cut",
    "slow",
    "stranger",
    "tombstones_forgotten",
    "twice",
    "upgrade",
    "upgrade_with_entries_queued",
    "user_switched",
)
ACTIONS = ("raw_write", "write", "round_drained")
PROBES = (*FAULTS, *ACTIONS)
RARE: dict[str, str] = {}
"""Probes that may be at zero, each with the reason."""


def never_fired(seen: Counter[str]) -> list[str]:
    """Probes at zero that are not rare."""
    return [name for name in PROBES if not seen[name] and name not in RARE]


def seen_in(told: Iterable[Told]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in told:
        total.update(one.seen)
    return total


def table_in(told: Iterable[Told]) -> Counter[tuple[str, str]]:
    total: Counter[tuple[str, str]] = Counter()
    for one in told:
        total.update(one.table)
    return total


def counts_as_text(seen: Counter[str]) -> str:
    """One line for each thing that happened."""
    return "\n".join(f"  {times:9,}  {kind}" for kind, times in sorted(seen.items()))


def table_as_text(table: Counter[tuple[str, str]]) -> str:
    """Faults down, phases across; a dot where they never met."""
    faults = sorted({fault for fault, _ in table})
    phases = sorted({phase for _, phase in table})
    wide = max((len(fault) for fault in faults), default=5)
    cell = max(8, *(len(phase) + 1 for phase in phases)) if phases else 8
    lines = ["fault \\ phase".ljust(wide) + "".join(phase.rjust(cell) for phase in phases)]
    for fault in faults:
        counts = (table[fault, phase] for phase in phases)
        lines.append(fault.ljust(wide) + "".join((f"{count:,}" if count else "·").rjust(cell) for count in counts))
    return "\n".join(lines)


# The command.


def add_options(parser: argparse.ArgumentParser) -> None:
    """How many worlds."""
    add_world_options(parser)


def run(asked: argparse.Namespace) -> int:
    """0, or 4 when a probe never fired in so many worlds that it should have."""
    told = list(told_of_worlds(asked))
    seen = seen_in(told)
    print(f"{len(told)} worlds from seed {told[0].seed}" if told else "no worlds")
    print(counts_as_text(seen))
    print()
    print(table_as_text(table_in(told)))
    missing = never_fired(seen)
    if missing:
        print(f"\nnever: {', '.join(missing)}")
    return 4 if missing and len(told) >= WORLDS_ENOUGH else 0
