"""What everything in a world stands on: time, chance, events in their order, and the trace of what happened."""

import hashlib
import heapq
from collections import Counter, deque
from collections.abc import Callable
from itertools import count

from simulator.world.chance import Chance
from simulator.world.clock import WorldTime

LINES_KEPT = 80
EVENTS_MAX = 200_000
"""A world with more than this turns on the spot."""


class PromiseBroken(Exception):
    """What the engine promises was found not to be so; the message names the promise."""


class Ground:
    """Events of the same moment happen in the order in which they were planned."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.time = WorldTime()
        self.chance = Chance(seed)
        self.seen: Counter[str] = Counter()
        """How often each kind of thing happened."""
        self.last: deque[str] = deque(maxlen=LINES_KEPT)
        """The end of the trace, for people."""
        self._trace = hashlib.sha256()
        self._planned: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()
        self._events = 0

    def note(self, *facts: object) -> None:
        """One line of the trace. Facts are the same in every process: no path, no pid, no real time."""
        line = f"{self.time.at_ms} {' '.join(map(str, facts))}"
        self._trace.update(line.encode())
        self.last.append(line)

    def saw(self, kind: str) -> None:
        self.seen[kind] += 1

    @property
    def trace(self) -> str:
        """A hash of all lines."""
        return self._trace.hexdigest()

    def after(self, wait_ms: int, event: Callable[[], None]) -> None:
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
