"""What became of one world: the value that runs, replay files, shrinking and timelines are made of."""

from collections import Counter
from dataclasses import dataclass

from simulator.world.ground import Event
from simulator.world.plan import Plan

EVENTS_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`broken` None: every promise held; else the promise and a sentence.

    `actions`: all ordinals are below it; `drawn` are those that were given, what was left out included.
    """

    seed: int
    plan: Plan
    profile: str | None
    skip: frozenset[int]
    broken: tuple[str, str] | None
    seen: Counter[str]
    """How often each named thing happened."""
    table: Counter[tuple[str, str]]
    """How often each fault met each phase of a device."""
    trace: tuple[Event, ...]
    trace_hash: str
    actions: int
    drawn: tuple[int, ...]

    def __str__(self) -> str:
        if self.broken is None:
            return f"seed {self.seed}: every promise held, trace {self.trace_hash[:16]}"
        lines = "\n".join(f"    {event}" for event in self.trace[-EVENTS_SHOWN:])
        return (
            f"seed {self.seed}: {': '.join(self.broken)}\n  the last of its trace {self.trace_hash[:16]}:\n{lines}\n"
            f"  again: {self.again}"
        )

    @property
    def again(self) -> str:
        """The command that lives through it once more."""
        profile = f" --profile {self.profile}" if self.profile else ""
        return f"python -m simulator run --seed {self.seed}{profile}"
