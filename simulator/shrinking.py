"""A failure made small: actions and faults are left out as long as the same promise is broken.

Zeller and Hildebrandt's ddmin ("Simplifying and Isolating Failure-Inducing Input", 2002) over the ordinals of a
world. It works because an action that is left out changes nothing else that is drawn.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simulator.replay import Replay, kept
from simulator.world.outcome import Outcome
from simulator.world.plan import Plan

TRIES_MAX = 400
"""Worlds that one shrinking may live through."""
LEFT_OUT_FACTOR = 4
"""A world with fewer actions may go on longer than the whole one, and draw more; those are left out, too."""

Lived = Callable[[Replay], Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """The smaller failure, and how many actions are left of how many. `tries`: worlds that were lived through."""

    replay: Replay
    left: int
    whole: int
    tries: int


def shrunk(failure: Replay, *, tries_max: int = TRIES_MAX, lived: Lived = Replay.live) -> Shrunk:
    """A world of the same seed in which the same promise is broken by fewer actions.

    Raises ValueError where the failure does not happen: there is nothing to shrink then.
    """
    trial = _Trial(failure.promise, lived=lived, tries_max=tries_max)
    whole = trial.outcome(failure)
    if failure.promise is None or not trial.is_same(whole):
        raise ValueError(f"the file says that {failure.promise} is broken, and it is not")
    smaller = _with_smaller_plan(failure, trial)
    begun = trial.outcome(smaller)
    limit = LEFT_OUT_FACTOR * max(begun.actions, 1)
    present = [number for number in begun.drawn if number not in smaller.skip]

    def without_all_but(numbers: Sequence[int]) -> Replay:
        return replace(smaller, skip=frozenset(range(limit)).difference(numbers))

    few = _ddmin(sorted(set(present)), lambda numbers: trial.fails(without_all_but(numbers)))
    # Where leaving out what comes later makes the failure go away, the mask has to be as it was.
    least = without_all_but(few)
    if not trial.fails(least, last=True):
        least = smaller
    return Shrunk(replay=least, left=kept(trial.outcome(least)), whole=kept(whole), tries=trial.tries)


class _Trial:
    """Does a smaller world still fail in the same way?"""

    def __init__(self, promise: str | None, *, lived: Lived, tries_max: int) -> None:
        self.tries = 0
        self._promise = promise
        self._lived = lived
        self._tries_max = tries_max

    def outcome(self, replay: Replay) -> Outcome:
        self.tries += 1
        return self._lived(replay)

    def is_same(self, outcome: Outcome) -> bool:
        return outcome.broken is not None and outcome.broken[0] == self._promise

    def fails(self, replay: Replay, *, last: bool = False) -> bool:
        """False when the tries are used up: what is small already stays as it is."""
        return (last or self.tries < self._tries_max) and self.is_same(self.outcome(replay))


def _with_smaller_plan(failure: Replay, trial: _Trial) -> Replay:
    """One thing after the other that a whole world has is taken away. Only where nothing is left out by number yet:
    in another plan the numbers mean other things."""
    if failure.skip:
        return failure
    for change in _smaller(failure.plan):
        candidate = replace(failure, plan=replace(failure.plan, **change))
        if candidate.plan != failure.plan and trial.fails(candidate):
            failure = candidate
    return failure


def _smaller(plan: Plan) -> Iterator[dict[str, Any]]:
    yield {"power_share": 0.0, "records_disk": False}
    yield {"has_weather": False}
    # A truth that is one already stays out of it; `upgrades=False` begins with other versions, and is a try as well.
    for name, value in plan.to_json().items():
        if value is True:
            yield {name: False}
    yield {"users": 1}
    for devices in range(1, plan.devices):
        yield {"devices": devices}
    for edits in (1, 2, 4, 8):
        if edits < plan.edits_per_device:
            yield {"edits_per_device": edits}


def _ddmin(numbers: list[int], fails: Callable[[Sequence[int]], bool]) -> list[int]:
    """A part of the numbers that fails, and of which no piece can be taken away; all of them if no part does."""
    if fails([]):
        return []
    pieces = 2
    while len(numbers) >= 2:
        size = -(-len(numbers) // pieces)
        parts = [numbers[at : at + size] for at in range(0, len(numbers), size)]
        smaller = _smaller_of(parts, fails)
        if smaller is not None:
            numbers, pieces = smaller, max(pieces - 1, 2) if len(smaller) > size else 2
        elif size == 1:
            return numbers
        else:
            pieces = min(2 * pieces, len(numbers))
    return numbers


def _smaller_of(parts: list[list[int]], fails: Callable[[Sequence[int]], bool]) -> list[int] | None:
    """One part alone, or all but one."""
    for part in parts:
        if len(parts) > 1 and fails(part):
            return part
    if len(parts) > 2:
        for at in range(len(parts)):
            rest = [number for part in (*parts[:at], *parts[at + 1 :]) for number in part]
            if fails(rest):
                return rest
    return None


# The command.


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which file, and where to."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the replay file of a failure")
    parser.add_argument("--to", type=Path, metavar="FILE", help="the smaller one (default: beside it, .small.json)")
    parser.add_argument("--tries", type=int, default=TRIES_MAX, metavar="N", help=f"worlds at most ({TRIES_MAX})")


def run(asked: argparse.Namespace) -> int:
    """0 when a smaller file was written."""
    try:
        done = shrunk(Replay.read(asked.file), tries_max=asked.tries)
    except (ValueError, KeyError, OSError) as error:
        print(f"{asked.file}: {error}", file=sys.stderr)
        return 1
    path = asked.to or asked.file.with_suffix(".small.json")
    done.replay.write(path)
    print(f"{done.left} of {done.whole} actions are left, after {done.tries} worlds: {path}")
    outcome = done.replay.live()
    print(outcome)
    return 0
