"""Does anybody notice? A mutant is put in and worlds are lived through until one breaks a promise."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from simulator.mutants import MUTANTS, mutant_of
from simulator.mutants.surgery import Mutant
from simulator.world.history import live
from simulator.world.outcome import Outcome
from simulator.world.plan import plan_of

WORLDS_MAX = 15
"""A mutant that so many worlds do not notice has survived."""
SEEDS_FILE = Path(__file__).parent / "caught.json"
"""By mutant: a seed that notices it, so that the gate need not search."""

CANARY = mutant_of("whole rows are sent")
"""Every run must catch it: a run that has lost its judges would be green for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caught:
    """Which world noticed, and what it said."""

    mutant: str
    outcome: Outcome
    worlds: int

    @property
    def promise(self) -> str:
        assert self.outcome.broken is not None
        return self.outcome.broken[0]

    def __str__(self) -> str:
        assert self.outcome.broken is not None
        said = self.outcome.broken[1].partition("\n")[0]
        return f"{self.mutant}: seed {self.outcome.seed} says {self.promise}: {said[:100]}"


def catch(mutant: Mutant, *, worlds_max: int = WORLDS_MAX, folder: Path | None = None) -> Caught | None:
    """The first world that notices, beginning with the one that did before; None: it survives."""
    with mutant.at_work():
        for number, seed in enumerate(seeds_to_try(mutant, worlds_max=worlds_max), start=1):
            outcome = live_with(mutant, seed, folder=folder)
            if outcome.broken is not None:
                return Caught(mutant=mutant.name, outcome=outcome, worlds=number)
    return None


def live_with(mutant: Mutant, seed: int, *, folder: Path | None = None) -> Outcome:
    """One world of the kind in which this mutant shows. It is at work already."""
    plan = replace(plan_of(seed, mutant.profile), **mutant.plan)
    return live(seed, plan=plan, profile=mutant.profile, folder=folder)


def seeds_to_try(mutant: Mutant, *, worlds_max: int) -> list[int]:
    known = remembered().get(mutant.name)
    first = [] if known is None else [known]
    return [*first, *(seed for seed in range(worlds_max) if seed not in first)][:worlds_max]


def remembered() -> dict[str, int]:
    """Empty before the first time."""
    if not SEEDS_FILE.exists():
        return {}
    found: dict[str, int] = json.loads(SEEDS_FILE.read_text(encoding="utf-8"))
    return found


def remember(caught: Iterable[Caught]) -> None:
    """Write down the seeds."""
    seeds = {one.mutant: one.outcome.seed for one in caught}
    ordered = {mutant.name: seeds[mutant.name] for mutant in MUTANTS if mutant.name in seeds}
    SEEDS_FILE.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
