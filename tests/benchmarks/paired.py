"""Two commands in turn, as whole processes: ratios hold on a machine whose speed drifts, single times do not."""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Medians in milliseconds of wall time, and the median of the ratios pair by pair."""

    ours_ms: float
    theirs_ms: float
    ratio: float


def run_in_pairs(ours: list[str], theirs: list[str], *, rounds: int) -> Pair:
    """One uncounted run of each, then `rounds` of both in turn."""
    times = [(_wall_ms(ours), _wall_ms(theirs)) for _ in range(rounds + 1)][1:]
    return Pair(
        ours_ms=statistics.median(mine for mine, _ in times),
        theirs_ms=statistics.median(other for _, other in times),
        ratio=statistics.median(mine / other for mine, other in times),
    )


def _wall_ms(command: list[str]) -> float:
    # Without its cache of compiled modules, Python would compile ours anew at each start.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begun = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, env=environment)
    return (time.perf_counter() - begun) * 1000
