"""The life of an entry, as a table."""

import itertools

import pytest

from syncengine.outbox.delivery import ENDS, FIRST, TRANSITIONS, Event, State, mermaid, next_state


def reachable_from(start):
    found, frontier = {start}, [start]
    while frontier:
        state = frontier.pop()
        after = {to for (at, _), to in TRANSITIONS.items() if at is state} - found
        found |= after
        frontier += after
    return found


def test_every_state_is_reached_from_the_first_and_leads_to_confirmed_or_to_a_person():
    assert reachable_from(FIRST) == set(State)
    for state in set(State) - ENDS:
        assert reachable_from(state) & ENDS, state


def test_nothing_leaves_an_end():
    assert not [at for at, _ in TRANSITIONS if at in ENDS]


def test_every_event_happens_somewhere():
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_only_a_claimed_or_void_entry_can_be_rejected():
    assert {at for at, event in TRANSITIONS if event is Event.REJECTED} == {State.CLAIMED, State.VOID}


def test_no_failure_of_the_line_takes_a_number_away():
    for state in (State.CLAIMED, State.VOID):
        assert next_state(state, Event.NO_ANSWER) is state


@pytest.mark.parametrize(("state", "event"), sorted(set(itertools.product(State, Event)) - set(TRANSITIONS), key=str))
def test_an_event_that_cannot_happen_is_our_own_mistake(state, event):
    with pytest.raises(AssertionError, match="cannot have the event"):
        next_state(state, event)


def test_the_diagram_has_an_arrow_for_each_transition():
    lines = mermaid().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert "    claimed --> void: refused_alone" in lines
    assert sum(": " in line for line in lines) == len(TRANSITIONS)


def test_each_arrow_has_its_sentence():
    import inspect

    import syncengine.outbox.delivery as module

    table = inspect.getsource(module).partition("TRANSITIONS")[2].partition("\n}")[0].splitlines()[1:]
    arrows = [number for number, line in enumerate(table) if line.strip().startswith("(State.")]
    assert len(arrows) == len(TRANSITIONS)
    assert all(table[number - 1].strip().startswith("# ") for number in arrows)
