"""What becomes of one call on its way to the cloud and back: decided beforehand, so that nothing has to wait."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from syncengine.errors import (
    BackendUnavailable,
    BackendUnreachable,
    NotOurServer,
    ProtocolViolation,
    RateLimited,
    SyncEngineError,
)

QUICK_MS = (5, 60)
SLOW_MS = (1_000, 25_000)
GIVEN_UP_MS = 30_000
"""When a device stops to wait for an answer."""
LATE_MS = (31_000, 240_000)
"""A request may still arrive long after that, behind others that were sent later."""
REST_MS = 20_000
"""What a cloud that is asked too much asks for."""

NO_ANSWER, BROKEN, LIMITED, STRANGER, GARBLED = "no_answer", "broken", "limited", "stranger", "garbled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How likely each fault is for one call; each seed has its own mix."""

    cut_before: float = 0.0
    """The request never arrives."""
    cut_after: float = 0.0
    """The cloud has done it, and its answer is lost."""
    slow: float = 0.0
    late: float = 0.0
    """It arrives when nobody waits any more, and others have overtaken it."""
    twice: float = 0.0
    """It arrives a second time, now or minutes later."""
    broken: float = 0.0
    """5xx, before or after the cloud has done it."""
    limited: float = 0.0
    """429, before it has done anything."""
    stranger: float = 0.0
    """A login page answers in its place."""
    garbled: float = 0.0
    """The cloud has done it, and what comes back is no answer to it."""


CALM = Weather()
HIGHEST = {
    "cut_before": 0.25,
    "cut_after": 0.25,
    "slow": 0.3,
    "late": 0.15,
    "twice": 0.3,
    "broken": 0.2,
    "limited": 0.1,
    "stranger": 0.15,
    "garbled": 0.1,
}
FAULT_SHARE = 0.6
"""So many of the kinds of faults does a seed have."""


def weather_of(chance: random.Random) -> Weather:
    """A mix of faults: with all of them at once, some would hide others."""
    mix = {}  # all are drawn, whatever becomes of them
    for each in fields(Weather):
        is_there, strength = chance.random() < FAULT_SHARE, chance.random()
        mix[each.name] = HIGHEST[each.name] * strength if is_there else 0.0
    return Weather(**mix)


OF_KIND = {
    "slow": Weather(slow=0.9),
    "timeouts": Weather(slow=0.3, late=0.3, cut_before=0.2),
    "portal": Weather(stranger=0.6, garbled=0.1),
    "lost_answers": Weather(cut_after=0.45, garbled=0.1, twice=0.2),
    "repeats": Weather(twice=0.6, late=0.2, slow=0.2),
}
"""Where not a mix, but one kind of trouble is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """When the request arrives at the cloud (each time that it does), and what the device hears, and when.

    `fate` empty: the answer to its first arrival; else one of the words above.
    """

    arrivals_ms: tuple[int, ...]
    heard_ms: int
    fate: str = ""
    names: tuple[str, ...] = field(default=())
    """The faults that were drawn, for the counters."""


def passage(
    weather: Weather, chance: random.Random, *, partition: str = "", allowed: Callable[[], bool] = lambda: True
) -> Passage:
    """Draw one. `partition`: "both" nothing passes; "answers" requests pass and answers do not.

    `allowed` is asked when there is a fault; where it says no, the call passes without any.
    """
    there_ms, back_ms = chance.randint(*QUICK_MS), chance.randint(*QUICK_MS)
    drawn = {each.name: chance.random() < getattr(weather, each.name) for each in fields(Weather)}
    again_ms, late_ms, slow_ms = chance.randint(1, LATE_MS[1]), chance.randint(*LATE_MS), chance.randint(*SLOW_MS)
    is_done_first = chance.random() < 0.5
    if any(drawn.values()) and not allowed():
        drawn = dict.fromkeys(drawn, False)
    if partition == "both":
        return Passage(arrivals_ms=(), heard_ms=there_ms, fate=NO_ANSWER, names=("partition",))
    if partition == "answers":
        return Passage(arrivals_ms=(there_ms,), heard_ms=GIVEN_UP_MS, fate=NO_ANSWER, names=("answers_cut",))
    arrivals: tuple[int, ...] = (there_ms,)
    heard_ms, fate = there_ms + back_ms, ""
    names = [name for name, happens in drawn.items() if happens]
    if drawn["slow"]:
        heard_ms += slow_ms
    if drawn["cut_before"]:
        arrivals, fate = (), NO_ANSWER
    elif drawn["late"]:
        arrivals, heard_ms, fate = (late_ms,), GIVEN_UP_MS, NO_ANSWER
    elif drawn["limited"]:
        arrivals, fate = (), LIMITED
    elif drawn["stranger"]:
        arrivals, fate = (), STRANGER
    elif drawn["broken"]:
        arrivals, fate = arrivals if is_done_first else (), BROKEN
    elif drawn["cut_after"]:
        fate = NO_ANSWER
    elif drawn["garbled"]:
        fate = GARBLED
    if drawn["twice"] and arrivals:
        arrivals = (*arrivals, arrivals[0] + again_ms)
    return Passage(arrivals_ms=arrivals, heard_ms=heard_ms, fate=fate, names=tuple(names))


def error_of(fate: str) -> SyncEngineError:
    """What a backend raises then."""
    match fate:
        case "broken":
            return BackendUnavailable("The world's cloud is broken.")
        case "limited":
            return RateLimited("The world's cloud wants a rest.", retry_after_ms=REST_MS)
        case "stranger":
            return NotOurServer("Another server answered.")
        case "garbled":
            return ProtocolViolation("The answer belongs to another request.")
        case _:
            return BackendUnreachable("No answer came.")
