"""A failure in a file: all that it takes to live through one world again, on another machine and another day."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import MISSING, dataclass, fields
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from simulator.mutants import mutant_of
from simulator.world.history import live
from simulator.world.outcome import Outcome
from simulator.world.plan import Plan

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One world, and the promise that it is known for; None: every promise held.

    `mutant` is the bug that the engine had at that time, by its sentence; None for the engine as it is.
    """

    seed: int
    plan: Plan
    profile: str | None = None
    skip: frozenset[int] = frozenset()
    promise: str | None = None
    mutant: str | None = None
    engine: str = ""
    """The version of the engine that wrote it."""
    about: str = ""
    """Why the file is kept, for people."""

    @classmethod
    def of(cls, outcome: Outcome, *, mutant: str | None = None, about: str = "") -> "Replay":
        """What has just happened."""
        return cls(
            seed=outcome.seed,
            plan=outcome.plan,
            profile=outcome.profile,
            skip=outcome.skip,
            promise=outcome.broken[0] if outcome.broken else None,
            mutant=mutant,
            engine=version("syncengine"),
            about=about or (outcome.broken[1].partition("\n")[0][:200] if outcome.broken else ""),
        )

    def live(self) -> Outcome:
        """The same world once more, by the engine that is here now."""
        with nullcontext() if self.mutant is None else mutant_of(self.mutant).at_work():
            return live(self.seed, plan=self.plan, skip=self.skip, profile=self.profile)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "engine": self.engine,
            "about": self.about,
            "seed": self.seed,
            "profile": self.profile,
            "promise": self.promise,
            "mutant": self.mutant,
            "skip": [list(run) for run in _runs(self.skip)],
            "plan": self.plan.to_json(),
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> "Replay":
        """Raises ValueError for what no simulator of this format wrote."""
        if told.get("format") != FORMAT:
            raise ValueError(f"a replay file of format {told.get('format')}; this simulator reads {FORMAT}")
        return cls(
            seed=int(told["seed"]),
            plan=Plan.from_json({**_plan_before(), **told["plan"]}),
            profile=told["profile"],
            skip=frozenset(n for first, last in told["skip"] for n in range(first, last + 1)),
            promise=told["promise"],
            mutant=told.get("mutant"),
            engine=told["engine"],
            about=told.get("about", ""),
        )

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Replay":
        """Raises ValueError and OSError."""
        return cls.from_json(json.loads(path.read_text(encoding="utf-8")))


def _plan_before() -> dict[str, Any]:
    """What a plan says of things that were not there when the file was written."""
    return {each.name: each.default for each in fields(Plan) if each.default is not MISSING}


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of numbers that follow each other."""
    ordered = sorted(numbers)
    if not ordered:
        return
    first = ordered[0]
    for before, after in pairwise(ordered):
        if after != before + 1:
            yield first, before
            first = after
    yield first, ordered[-1]


# The command.


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which files."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="replay files")
    parser.add_argument("--timeline", type=Path, metavar="FILE", help="draw the last one as an HTML page")


def run(asked: argparse.Namespace) -> int:
    """0 when every file went as it says: 1 when another promise is broken than it names, or none, or one at all."""
    outcomes = [(path, *_lived(path)) for path in asked.files]
    for path, replay, outcome in outcomes:
        print(f"{path}: {said_of(replay, outcome)}")
        if outcome.broken:
            print(outcome)
    if asked.timeline:
        from simulator.timeline import write_timeline

        write_timeline(outcomes[-1][2], asked.timeline)
    return 0 if all(as_it_says(replay, outcome) for _, replay, outcome in outcomes) else 1


def _lived(path: Path) -> tuple[Replay, Outcome]:
    try:
        replay = Replay.read(path)
    except (ValueError, KeyError, OSError) as error:
        sys.exit(f"{path} is no replay file: {error}")
    return replay, replay.live()


def as_it_says(replay: Replay, outcome: Outcome) -> bool:
    """Whether the same promise is broken as then, or none as then."""
    return (outcome.broken[0] if outcome.broken else None) == replay.promise


def said_of(replay: Replay, outcome: Outcome) -> str:
    """One line: what the file says, and what happened now."""
    now = f"{outcome.broken[0]} is broken" if outcome.broken else "every promise held"
    then = f"{replay.promise} was broken" if replay.promise else "every promise held"
    return f"{now}; when it was written {then} ({kept(outcome)} of {len(outcome.drawn)} actions happen)"


def kept(outcome: Outcome) -> int:
    """How many actions and faults were not left out."""
    return sum(number not in outcome.skip for number in outcome.drawn)


__all__: Sequence[str] = ("Replay", "as_it_says", "kept", "said_of")
