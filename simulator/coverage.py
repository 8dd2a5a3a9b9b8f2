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
    "cloud_disk_full",
    "cloud_disk_io",
    "cloud_power_cut",
    "cloud_restored",
    "cut_after",
    "cut_before",
    "damaged",
    "disk_full",
    "disk_io",
    "disk_read_only",
    "downgrade",
    "garbled",
    "late",
    "limited",
    "logout_destroyed",
    "logout_exported",
    "logout_nothing",
    "logout_refused",
    "made_room",
    "partition",
    "phone_imported",
    "power_cut",
    "requests_limited",
    "rows_limited",
    "slow",
    "stranger",
    "tombstones_forgotten",
    "twice",
    "upgrade",
    "upgrade_cancelled",
    "upgrade_paused",
    "upgrade_with_entries_queued",
    "user_switched",
    "wiped",
)
CONSEQUENCES = (
    "conflict_recorded",
    "no_room",
    "quarantined_deleted_at_cloud",
    "quarantined_gone",
    "quarantined_group_rejected",
    "quarantined_parent_deleted",
    "refused_disk_full",
    "refused_store_damaged",
    "refused_store_foreign",
    "refused_store_unusable",
    "round_backend_unavailable",
    "round_backend_unreachable",
    "round_drained",
    "round_not_our_server",
    "round_protocol_violation",
    "round_quota_exceeded",
    "round_rate_limited",
    "store_begun_anew",
    "store_rescued",
    "too_many_requests",
)
ACTIONS = ("raw_write", "write")
PROBES = (*FAULTS, *CONSEQUENCES, *ACTIONS)
RARE: dict[str, str] = {
    "quarantined_gone": "a patch has to be on its way while the deletion of its row is; once in a hundred worlds",
    "store_begun_anew": "only where a store is damaged beyond what can be rescued",
}
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
    lines = ["fault \\ phase".ljust(wide) + "".join((phase or "-").rjust(cell) for phase in phases)]
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
