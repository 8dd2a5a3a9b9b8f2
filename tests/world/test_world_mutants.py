"""The checks bite: an engine with a bug is found out within a few worlds, and by the promise that it breaks."""

import pytest

from simulator.mutants import MUTANTS, Mutant, mutant_of
from simulator.mutants.catching import CANARY, catch, remembered
from simulator.world.history import live
from syncengine.outbox.queue import Outbox

MUTANTS_MIN = 30


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_an_engine_with_a_bug_is_found_out(mutant: Mutant, tmp_path):
    caught = catch(mutant, folder=tmp_path)
    assert caught is not None, f"no world noticed that {mutant.name}"
    assert caught.promise in mutant.caught_by, str(caught)


def test_each_has_a_sentence_of_its_own_and_a_seed_that_notices_it():
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names) >= MUTANTS_MIN
    assert remembered().keys() == set(names), "python -m simulator mutants --remember"


def test_afterwards_the_engine_is_as_it_was(tmp_path):
    claim = Outbox.claim
    with CANARY.at_work():
        assert Outbox.claim is not claim
    assert Outbox.claim is claim
    assert mutant_of(CANARY.name) is CANARY
    assert live(0, folder=tmp_path).broken is None
