"""Row migrations against loops by hand and against other tools, each way in a process of its own, in turns.

    python -m tests.benchmarks.peers --rows 100000 --rounds 5

Prints medians of processor time and the ratio pair by pair. A tool that is not installed is left out.
"""

import argparse
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
GOALS = (
    ("plain-ours", "plain-by_hand", "at most 1.15"),
    ("models-ours", "models-by_hand", "at most 1.25"),
    ("by_sql-ours", "by_sql-by_hand", "at most 1.25"),
    ("sqlite-utils", "plain-ours", "at least 1.5"),
    ("alembic", "plain-ours", "at least 1.6"),
    ("django", "plain-ours", "at least 4"),
)
"""(way, what it is compared with, the ratio that is wanted)."""
MODULES = {"sqlite-utils": "sqlite_utils", "alembic": "alembic", "django": "django"}


def measured(way: str, rows: int) -> dict[str, float]:
    """Processor and wall seconds of one run, and its megabytes of memory above its start."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory(prefix="syncengine-bench-") as folder:
        command = [sys.executable, "-m", "tests.benchmarks.one_way", way, str(rows), folder]
        done = subprocess.run(
            command, check=True, cwd=ROOT, env={**environment, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
        )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def in_turns(*, rows: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """All ways once per round, in another order each time."""
    ways = sorted({way for goal in GOALS for way in goal[:2]})
    ways = [way for way in ways if importlib.util.find_spec(MODULES.get(way, "json"))]
    chance = random.Random(1)
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in chance.sample(ways, len(ways)):
            found[way].append(measured(way, rows))
    return found


def report(*, rows: int = 100_000, rounds: int = 5, rows_many: int = 0) -> None:
    """Print what was found, and the memory at ten times the rows."""
    found = in_turns(rows=rows, rounds=rounds)
    print(f"{rows:,} rows, {rounds} rounds, load {os.getloadavg()[0]:.1f}; median processor seconds:")
    for way, runs in found.items():
        cpu, megabytes = (statistics.median(run[what] for run in runs) for what in ("cpu", "megabytes"))
        print(f"  {way:15} {cpu:7.3f} s  {rows / cpu:9,.0f} rows/s  peak {megabytes:6.1f} MB above the start")
    for way, other, wanted in GOALS:
        if way in found:
            ratios = [mine["cpu"] / its["cpu"] for mine, its in zip(found[way], found[other], strict=True)]
            print(f"  {way} is {statistics.median(ratios):.2f} times {other} (wanted: {wanted})")
    if rows_many:
        few, many = measured("plain-ours", rows)["megabytes"], measured("plain-ours", rows_many)["megabytes"]
        print(
            f"  memory: {rows:,} rows {few:.1f} MB, {rows_many:,} rows {many:.1f} MB"
            " (wanted: at most 12, not growing)"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows-many", type=int, default=0)
    chosen = parser.parse_args()
    report(rows=chosen.rows, rounds=chosen.rounds, rows_many=chosen.rows_many)
