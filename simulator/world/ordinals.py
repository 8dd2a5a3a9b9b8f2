"""Every action and every fault of a world has a number, so that a run can leave some out and keep all others."""

from collections.abc import Sequence


class Ordinals:
    """What is planned has the first numbers, in its order. What comes up on the way is numbered by its lane, such as
    the network of one device: a lane's numbers do not depend on what happens on the others."""

    def __init__(self, skip: frozenset[int], *, lanes: Sequence[str]) -> None:
        self._skip = skip
        self._lanes = {name: at for at, name in enumerate(lanes)}
        self._times = dict.fromkeys(lanes, 0)
        self._planned = 0
        self.drawn: list[int] = []
        """All that were given, those left out too."""

    @property
    def count(self) -> int:
        """All numbers are below it."""
        return max(self.drawn, default=-1) + 1

    def planned(self) -> bool:
        """Number what is planned now; whether it is to happen."""
        assert not any(self._times.values()), "all is planned before the first thing happens"
        ordinal, self._planned = self._planned, self._planned + 1
        return self._give(ordinal)

    def on_the_way(self, lane: str) -> bool:
        """Number what has come up on a lane; whether it is to happen."""
        times, self._times[lane] = self._times[lane], self._times[lane] + 1
        return self._give(self._planned + times * len(self._lanes) + self._lanes[lane])

    def _give(self, ordinal: int) -> bool:
        self.drawn.append(ordinal)
        return ordinal not in self._skip
