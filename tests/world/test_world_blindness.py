"""Every judge is needed: without it there is a bug that nobody else notices."""

import pytest

from simulator.mutants import Mutant, mutant_of
from simulator.mutants.blindness import RAISED, judges, noticed_by, survives_without
from simulator.mutants.catching import catch, remembered

NOTICED_BY_NOBODY_ELSE = {
    "P1": "markers move after the change",
    "P2": "what lay beside a row is lost when it is lifted",
    "P3": "what came before is done again",
    "P4": "groups are torn apart",
    "P5": "a start asks the cloud",
    "P6": "a done migration is reported as failed",
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


SEEN_BY_ONE = {
    RAISED: "a migration is done and not marked",
    "check_agreement": "deletions are not read",
    "check_answers": "every write is called a merge",
    "check_bytes_stay": "an older app tidies a newer store",
    "check_conversion": "an upgrade takes waiting edits back",
    "check_copies": "no copy is made before a risky step",
    "check_copy_opens": "the copy before a risky step is empty",
    "check_damage_is_told": "damage is called by another name",
    "check_deleted_by_somebody": "what goes with its parent is not kept",
    "check_deletions_get_through": "deletions wait behind what there is no room for",
    "check_diagnostics_are_silent": "diagnostics hold rows",
    "check_groups": "groups are torn apart",
    "check_imported": "an import tidies the phone",
    "check_is_at_rest": "the end of a reading is not noted",
    "check_last_words": "what lay beside a row is lost when it is lifted",
    "check_markers": "markers move after the change",
    "check_migrated": "a done migration is reported as failed",
    "check_no_byte_is_left": "a copy of who is wiped stays",
    "check_nothing_lost": "a refused entry is dropped, and status does not hide it",
    "check_nothing_was_said": "what people write is logged",
    "check_once": "a lost answer makes new numbers",
    "check_order": "two edits of a row change places",
    "check_own_edits_stay": "pending edits are not replayed",
    "check_pace": "every request is taken",
    "check_parents_are_there": "rows may refer to nothing",
    "check_progress": "no end is told",
    "check_reason": "a refusal is called a lost line",
    "check_refuses_writes": "what an older app writes is swallowed",
    "check_rests": "the cloud is asked again before it may be",
    "check_rows_stay": "after an upgrade rows are read again",
    "check_runs_add_up": "a run counts a row too many",
    "check_runs_read_all": "a row is not in the history",
    "check_says_why": "nobody hears why a store may only be read",
    "check_start_is_offline": "a start waits",
    "check_stopped_as_before": "a stopped migration leaves a trace",
    "check_truthful": "status always says synced",
    "check_users_apart": "what comes from the cloud is kept for another user as well",
    "check_wait": "the next try never comes",
}


@pytest.mark.parametrize("judge", sorted(judges()))
def test_no_judge_can_be_left_out_for_there_is_a_bug_that_only_it_sees(judge):
    name = SEEN_BY_ONE[judge]
    assert noticed_by(mutant_of(name), remembered()[name]) == {judge}


def test_a_world_without_a_bug_is_noticed_by_no_judge():
    harmless = Mutant(name="nothing is wrong", put_in=lambda surgery: None, caught_by=())
    assert noticed_by(harmless, 0) == frozenset()
