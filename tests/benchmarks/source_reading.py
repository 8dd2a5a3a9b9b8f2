"""Reading a large source as a stream, against json.loads of the whole, in turn in one process."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from syncengine import open_source

PAIRS = 5


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _print_ratio(name: str, ours: list[float], theirs: list[float]) -> None:
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    mine, other = (statistics.median(times) * 1000 for times in (ours, theirs))
    print(f"{name}: {ratio:.2f} times, {mine:.1f} ms against {other:.1f} ms (no goal: the price of little memory)")


def source_reading(folder: Path) -> None:
    """Elements of a large JSON value as a stream, against json.loads of the whole."""
    points = [{"latitude": 52.5 + number / 1e5, "longitude": 13.4} for number in range(200)]
    walks = json.dumps([{"id": str(number), "coords": points} for number in range(500)])
    dump = folder / "dump.json"
    dump.write_text(json.dumps([["walks", walks]]))

    def stream() -> int:
        return sum(1 for _ in open_source(str(dump)).elements("walks"))

    def whole() -> int:
        return len(json.loads(json.loads(dump.read_text())[0][1]))

    pairs = [(_seconds(stream), _seconds(whole)) for _ in range(PAIRS)]
    _print_ratio(
        "reading 500 walks as a stream against json.loads", [mine for mine, _ in pairs], [by for _, by in pairs]
    )


def report() -> None:
    """Print the ratio."""
    with tempfile.TemporaryDirectory(prefix="syncengine-bench-") as folder:
        source_reading(Path(folder))


if __name__ == "__main__":
    report()
