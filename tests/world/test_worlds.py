"""Whole worlds: every promise holds in each, and a seed is the same world in every process."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from simulator.world.history import live, plan_of

SEEDS = range(int(os.environ.get("SYNCENGINE_WORLDS", "12")))
"""More of them by the environment variable, or by `python -m simulator run --seeds 1000`."""

TRACE_OF = "import sys; from simulator.world.history import live; print(live(int(sys.argv[1])).trace)"


@pytest.mark.parametrize("seed", SEEDS)
def test_every_promise_holds_in_a_world(seed, tmp_path):
    outcome = live(seed, folder=tmp_path)
    assert not outcome.broken, str(outcome)


def test_a_seed_is_the_same_world_in_another_process_with_another_hash_seed(tmp_path):
    seed = 3
    here = live(seed, folder=tmp_path)
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    there = subprocess.run(
        [sys.executable, "-c", TRACE_OF, str(seed)], env=environment, capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == here.trace
    assert live(seed + 1, folder=tmp_path).trace != here.trace


def test_every_kind_of_fault_happens_within_a_few_worlds(tmp_path):
    """A fault that never fires proves nothing."""
    seen: dict[str, int] = {}
    for seed in range(3):
        plan = replace(
            plan_of(seed),
            users=2,
            switches_users=True,
            upgrades=True,
            partitions=True,
            power_share=0.02,
            clocks_jump=True,
            clones=True,
            restores_cloud=True,
            forgets_tombstones=True,
        )
        outcome = live(seed, plan=plan, folder=tmp_path)
        assert not outcome.broken, str(outcome)
        for kind, times in outcome.seen.items():
            seen[kind] = seen.get(kind, 0) + times
    expected = {
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
        "raw_write",
        "slow",
        "stranger",
        "tombstones_forgotten",
        "twice",
        "upgrade_with_entries_queued",
        "user_switched",
        "write",
    }
    assert expected <= seen.keys(), sorted(expected - seen.keys())
