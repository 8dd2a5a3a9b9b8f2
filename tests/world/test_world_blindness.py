"""Every judge is needed: without it there is a bug that nobody else notices."""

import pytest

from simulator.mutants import mutant_of
from simulator.mutants.blindness import survives_without
from simulator.mutants.catching import catch

NOTICED_BY_NOBODY_ELSE = {
    "P1": "markers move after the change",
    "P2": "what lay beside a row is lost when it is lifted",
    "P3": "what came before is done again",
    "P4": "groups are torn apart",
    "P5": "a start asks the cloud",
    "P6": "a migration gives up where edits wait",
    "P7": "no copy is made before a risky step",
    "P8": "a row is not in the history",
    "P9": "an upgrade takes waiting edits back",
    "P10": "deletions are not read",
    "P11": "what comes from the cloud is kept for another user as well",
    "P12": "what people write is logged",
    "P13": "an older app tidies a newer store",
    "P14": "status always says synced",
    "P15": "a migration is done and not marked",
}


@pytest.mark.parametrize("promise", NOTICED_BY_NOBODY_ELSE)
def test_without_the_judge_of_a_promise_a_bug_survives(promise, tmp_path):
    mutant = mutant_of(NOTICED_BY_NOBODY_ELSE[promise])
    caught = catch(mutant, folder=tmp_path)
    assert caught is not None
    assert caught.promise == promise, str(caught)
    assert survives_without(promise, mutant, caught.outcome.seed)
