"""Whole worlds: every promise holds in each, and a seed is the same world in every process."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from simulator.mutants import mutant_of
from simulator.world.history import live
from simulator.world.plan import Plan, plan_of
from simulator.world.profiles import PROFILES

SEEDS = range(int(os.environ.get("SYNCENGINE_WORLDS", "12")))
"""More of them by the environment variable, or by `python -m simulator run --seeds 1000`."""

TRACE_OF = "import sys; from simulator.world.history import live; print(live(int(sys.argv[1])).trace_hash)"


@pytest.mark.parametrize("seed", SEEDS)
def test_every_promise_holds_in_a_world(seed):
    outcome = live(seed)
    assert not outcome.broken, str(outcome)


def test_a_seed_is_the_same_world_in_another_process_with_another_hash_seed():
    seed = 3
    here = live(seed)
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    there = subprocess.run(
        [sys.executable, "-c", TRACE_OF, str(seed)], env=environment, capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == here.trace_hash
    assert live(seed + 1).trace_hash != here.trace_hash


def test_an_action_that_is_left_out_changes_nothing_else_that_is_drawn():
    plan = replace(plan_of(5), power_share=0.0)
    whole = live(5, plan=plan)
    skip = frozenset(range(plan.edits_per_device))
    assert set(whole.drawn) >= skip
    assert whole.actions == max(whole.drawn) + 1
    fewer = live(5, plan=plan, skip=skip)
    first = next(one for one, other in zip(whole.trace, fewer.trace, strict=False) if one != other)
    assert first.kind == "writes", "up to the first edit that was left out they are one world"
    assert len([event for event in fewer.trace if event.kind == "sends"]) > 5
    assert live(5, plan=plan, skip=skip).trace_hash == fewer.trace_hash


def test_a_world_without_its_actions_is_quiet():
    whole = live(1)
    quiet = live(1, skip=frozenset(range(10 * whole.actions)))
    assert not quiet.broken, str(quiet)
    assert quiet.seen.keys() <= {"round_drained", "upgrade"}, quiet.seen


@pytest.mark.parametrize("seed", range(3))
def test_over_http_a_world_is_the_same_as_with_calls_handed_over_as_values(seed):
    plan = plan_of(seed)
    over_http = live(seed, plan=replace(plan, lane="wire"))
    assert not over_http.broken, str(over_http)
    assert over_http.trace_hash == live(seed, plan=replace(plan, lane="core")).trace_hash


@pytest.mark.parametrize("profile", PROFILES)
def test_every_promise_holds_in_worlds_of_each_profile(profile):
    for seed in range(2):
        outcome = live(seed, profile=profile)
        assert not outcome.broken, str(outcome)


def test_each_report_of_the_field_has_a_profile_and_mutants_that_there_are():
    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
    part = page.partition("## What broke other engines")[2].partition("##")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 7
    for _, profile, mutants in rows:
        assert profile.strip("`") in PROFILES
        assert all(mutant_of(name) for name in mutants.split("; "))


def test_a_plan_goes_into_json_and_comes_back():
    plan = plan_of(7, "partitions")
    assert Plan.from_json(plan.to_json()) == plan
    with pytest.raises(ValueError, match="another simulator"):
        Plan.from_json({"devices": 2})


def test_every_kind_of_fault_happens_within_a_few_worlds():
    """A fault that never fires proves nothing."""
    seen: dict[str, int] = {}
    for seed in range(8):
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
        outcome = live(seed, plan=plan)
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
