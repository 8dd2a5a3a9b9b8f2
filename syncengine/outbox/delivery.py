"""The life of an entry: one table, a sentence for each arrow, no I/O."""

from enum import StrEnum


class State(StrEnum):
    """Where an entry is. The first four are words of the outbox table; a void entry is stored as claimed."""

    WAITING = "waiting"
    HELD = "held"
    CLAIMED = "claimed"
    SQUASHED = "squashed"
    VOID = "void"
    CONFIRMED = "confirmed"
    QUARANTINED = "quarantined"
    DISCARDED = "discarded"


class Event(StrEnum):
    """What can happen to an entry."""

    CLAIM = "claim"
    SQUASH = "squash"
    UNREADABLE = "unreadable"
    NOT_CONVERTED = "not_converted"
    NOTHING_LEFT = "nothing_left"
    BLOCKED = "blocked"
    RELEASED = "released"
    NOT_NEEDED = "not_needed"
    APPLIED = "applied"
    PAGE_APPLIED = "page_applied"
    PAGE_UNCHANGED = "page_unchanged"
    CONFLICT = "conflict"
    REJECTED = "rejected"
    NO_ANSWER = "no_answer"
    REFUSED_ALONE = "refused_alone"
    EPOCH_ENDED = "epoch_ended"
    FIRST_COPY_APPLIED = "first_copy_applied"
    RETRIED = "retried"
    DISCARDED = "discarded"


FIRST = State.WAITING
ENDS = frozenset({State.CONFIRMED, State.DISCARDED})

TRANSITIONS: dict[tuple[State, Event], State] = {
    # Numbered and frozen on disk before a byte is sent, so no number can ever mean two bodies.
    (State.WAITING, Event.CLAIM): State.CLAIMED,
    # A later edit of a row is joined to the one that is claimed; it leaves the outbox together with that one.
    (State.WAITING, Event.SQUASH): State.SQUASHED,
    # The entry that it travels in has left the outbox, with this edit in it: to the cloud, or to a person.
    (State.SQUASHED, Event.APPLIED): State.CONFIRMED,
    # Its row, or its key, cannot be read or can never be sent; no number was used up.
    (State.WAITING, Event.UNREADABLE): State.QUARANTINED,
    # The same of one that waits behind another already.
    (State.HELD, Event.UNREADABLE): State.QUARANTINED,
    # A migration changed the shape of its row, and cannot say what it is in the new one.
    (State.WAITING, Event.NOT_CONVERTED): State.QUARANTINED,
    # The same of one that waits behind another.
    (State.HELD, Event.NOT_CONVERTED): State.QUARANTINED,
    # The same of one that may be at the cloud: its number stays and is sent empty, unless the first copy arrived.
    (State.CLAIMED, Event.NOT_CONVERTED): State.VOID,
    # In the new shape of its row it changes nothing.
    (State.WAITING, Event.NOTHING_LEFT): State.CONFIRMED,
    # The same of one that waits behind another.
    (State.HELD, Event.NOTHING_LEFT): State.CONFIRMED,
    # Something that it builds on (its row, parent, group or migration) lies in quarantine.
    (State.WAITING, Event.BLOCKED): State.HELD,
    # A person resolved what it waited for.
    (State.HELD, Event.RELEASED): State.WAITING,
    # Nothing of a migration step is left to do, or another device has brought the cloud to its version; or a row came
    # and went before the cloud heard of it.
    (State.WAITING, Event.NOT_NEEDED): State.CONFIRMED,
    # The cloud has it for good, now or since an answer that was lost.
    (State.CLAIMED, Event.APPLIED): State.CONFIRMED,
    # One page of an online migration is done; the next gets a number of its own.
    (State.CLAIMED, Event.PAGE_APPLIED): State.WAITING,
    # A page of cloud rows held nothing to change, so nothing is sent for it.
    (State.WAITING, Event.PAGE_UNCHANGED): State.WAITING,
    # Its row has changed at the cloud, and its collection asks to look first: it waits for what the cloud has.
    (State.CLAIMED, Event.CONFLICT): State.WAITING,
    # The cloud will never take it, and said why; its number is used up.
    (State.CLAIMED, Event.REJECTED): State.QUARANTINED,
    # Timeout, 5xx, cut cable: the cloud may or may not have it. The same number and body are sent again.
    (State.CLAIMED, Event.NO_ANSWER): State.CLAIMED,
    # The cloud cannot even read it: the body goes to quarantine, the number stays and is sent empty.
    (State.CLAIMED, Event.REFUSED_ALONE): State.VOID,
    # The cloud is known not to have the number: it is taken away, the body waits for another one.
    (State.CLAIMED, Event.EPOCH_ENDED): State.WAITING,
    # The empty number arrived; the body is with a person.
    (State.VOID, Event.APPLIED): State.QUARANTINED,
    # The cloud took the first copy after all, before the answer was lost.
    (State.VOID, Event.FIRST_COPY_APPLIED): State.CONFIRMED,
    # The cloud will not even take the empty number: it is used up all the same.
    (State.VOID, Event.REJECTED): State.QUARANTINED,
    # The empty number is sent again.
    (State.VOID, Event.NO_ANSWER): State.VOID,
    # There is no number to keep any more; the body stays with a person.
    (State.VOID, Event.EPOCH_ENDED): State.QUARANTINED,
    # A person asked to send it again: a new entry, at its old place.
    (State.QUARANTINED, Event.RETRIED): State.WAITING,
    # A person gave it up.
    (State.QUARANTINED, Event.DISCARDED): State.DISCARDED,
}


def next_state(state: State, event: Event) -> State:
    """The state after `event`. An event that cannot happen in `state` is our mistake: AssertionError."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise AssertionError(f"an entry that is {state} cannot have the event {event}") from None


def mermaid() -> str:
    """The table as a Mermaid state diagram, for the docs."""
    arrows = [f"    {state} --> {after}: {event}" for (state, event), after in TRANSITIONS.items()]
    ends = [f"    {state} --> [*]" for state in State if state in ENDS]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {FIRST}", *arrows, *ends]) + "\n"
