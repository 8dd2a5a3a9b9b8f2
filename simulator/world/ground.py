"""What everything in a world stands on: time, chance, events in their order, and the trace of what happened."""

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from simulator.world.chance import Chance
from simulator.world.clock import WorldTime
from simulator.world.ordinals import Ordinals

DETAIL_CHARACTERS_MAX = 400
EVENTS_MAX = 200_000
"""A world with more than this turns on the spot."""


class PromiseBroken(Exception):
    """What the engine promises was found not to be so: "P2: and a sentence"."""

    @property
    def told(self) -> tuple[str, str]:
        """The promise, and the sentence."""
        promise, _, sentence = str(self).partition(": ")
        return promise, sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. `who`: a device, "cloud", "network" or "person".

    `outbox_depth` and `version` are those of the device at that moment, where it was asked for them.
    """

    at_ms: int
    who: str
    kind: str
    detail: str = ""
    outbox_depth: int | None = None
    version: str | None = None

    def __str__(self) -> str:
        return f"{self.at_ms:>9} {self.who:<8} {self.kind} {self.detail}".rstrip()


class Ground:
    """Events of the same moment happen in the order in which they were planned."""

    def __init__(self, seed: int, *, skip: frozenset[int] = frozenset(), lanes: Sequence[str] = ()) -> None:
        self.seed = seed
        self.time = WorldTime()
        self.chance = Chance(seed)
        self.ordinals = Ordinals(skip, lanes=lanes)
        self.seen: Counter[str] = Counter()
        """How often each kind of thing happened."""
        self.table: Counter[tuple[str, str]] = Counter()
        """How often each fault met each phase of a device."""
        self.events: list[Event] = []
        self._trace = hashlib.sha256()
        self._planned: list[tuple[int, int, Callable[[], object]]] = []
        self._numbers = count()
        self._events = 0

    def note(
        self, who: str, kind: str, *facts: object, outbox_depth: int | None = None, version: str | None = None
    ) -> None:
        """One event of the trace. Facts are the same in every process: no path, no pid, no real time."""
        detail = " ".join(map(str, facts))
        self._trace.update(f"{self.time.at_ms} {who} {kind} {detail} {outbox_depth} {version}\n".encode())
        self.events.append(
            Event(
                at_ms=self.time.at_ms,
                who=who,
                kind=kind,
                detail=detail.replace("\n", " ")[:DETAIL_CHARACTERS_MAX],
                outbox_depth=outbox_depth,
                version=version,
            )
        )

    def saw(self, kind: str, *, phase: str | None = None) -> None:
        """Count it, and where it is a fault, what the device did when it came."""
        self.seen[kind] += 1
        if phase is not None:
            self.table[kind, phase] += 1

    @property
    def trace_hash(self) -> str:
        """A hash of all events."""
        return self._trace.hexdigest()

    def after(self, wait_ms: int, event: Callable[[], object]) -> None:
        """Plan an event."""
        heapq.heappush(self._planned, (self.time.at_ms + max(wait_ms, 0), next(self._numbers), event))

    def go_on(self, *, until: Callable[[], bool], until_ms: int | None = None) -> None:
        """Let things happen until it is so, until the moment has come, or until nothing is planned."""
        while not until() and self._planned:
            if until_ms is not None and self._planned[0][0] > until_ms:
                break
            moment, _, event = heapq.heappop(self._planned)
            self.time.reach(moment)
            self._events += 1
            if self._events > EVENTS_MAX:
                raise PromiseBroken(f"P10: more than {EVENTS_MAX} events, and no end")
            event()
        if until_ms is not None and not until():
            self.time.reach(until_ms)
