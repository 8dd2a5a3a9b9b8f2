"""The checks bite: an engine with a bug is found out within a few worlds, and by the promise that it breaks."""

from dataclasses import replace

import pytest

from simulator.world.history import live
from simulator.world.plan import plan_of
from tests.world.mutants import MUTANTS, Mutant

WORLDS_MAX = 15


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_an_engine_with_a_bug_is_found_out(mutant: Mutant, monkeypatch):
    mutant.put_in(monkeypatch)
    found = []
    for seed in range(WORLDS_MAX):
        outcome = live(seed, plan=replace(plan_of(seed), **mutant.plan))
        if outcome.broken:
            found.append(outcome.broken)
            break
    assert found, f"{WORLDS_MAX} worlds did not notice that {mutant.name}"
    assert found[0][0] in mutant.caught_by, found[0]
