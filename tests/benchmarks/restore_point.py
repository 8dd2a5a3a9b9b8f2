"""A restore point against the same by hand: SQLite's backup to a file, and the `age` command line on it, in turn.

Ours also compares the rows, runs the integrity check and opens the sealed file again: that is shown apart.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import apsw

from syncengine import KeyFile, Settings, SystemClock
from syncengine.local import restore_points
from syncengine.local.keys import SealingKey
from syncengine.local.sealing import seal
from syncengine.local.store import Store

RATIO_WANTED = 1.3
PAIRS = 5
PAGES_OF_ONE_STEP = 1_000


def report(*, megabytes: int) -> None:
    """Print both times, the ratio, and what the checks cost on top."""
    if shutil.which("age") is None:
        print("restore point: age is not installed, nothing to compare with")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "app.db"
        key = KeyFile(f"{path}.key").identity()
        store = _filled(path, megabytes=megabytes)
        try:
            _print(store, path, key=key)
        finally:
            store.close()


def _filled(path: Path, *, megabytes: int) -> Store:
    store = Store(str(path), settings=Settings(), clock=SystemClock())
    with store.transaction():
        store.query("CREATE TABLE walks (id INTEGER PRIMARY KEY, route TEXT)")
        store.query("CREATE INDEX walks_by_start ON walks (substr(route, 1, 20))")
        store.query(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO walks SELECT i, hex(randomblob(500)) FROM n",
            (megabytes * 950,),
        )
    store.query("PRAGMA wal_checkpoint(TRUNCATE)")
    return store


def _print(store: Store, path: Path, *, key: SealingKey) -> None:
    pairs = []
    for _ in range(PAIRS + 1):
        ours = _timed(lambda: _sealed_by_us(store, path, key=key))
        theirs = _timed(lambda: _sealed_by_hand(path, recipient=key.recipient))
        pairs.append((ours, theirs))
    ratio = statistics.median(ours / theirs for ours, theirs in pairs[1:])
    whole = statistics.median(_timed(lambda: _made(store, path)) for _ in range(PAIRS))
    print(
        f"restore point of {path.stat().st_size / 1e6:.0f} MB: {statistics.median(a for a, _ in pairs[1:]):.2f} s, "
        f"backup API and age {statistics.median(b for _, b in pairs[1:]):.2f} s, ratio {ratio:.2f} "
        f"(wanted: at most {RATIO_WANTED}); with all checks {whole:.2f} s"
    )


def _timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _sealed_by_us(store: Store, path: Path, *, key: SealingKey) -> None:
    """The copying and the sealing of a restore point, by its own code."""
    plain, sealed = path.with_name("ours.db"), path.with_name("ours.age")
    reader = store.reader()
    try:
        reader.execute("BEGIN")
        restore_points.copy_pages(reader, str(plain), between=lambda: None)
    finally:
        reader.close(True)
    with plain.open("rb") as source, sealed.open("wb") as target:
        seal(source, target, key=key)
        target.flush()
        os.fsync(target.fileno())
    plain.unlink()
    sealed.unlink()


def _sealed_by_hand(path: Path, *, recipient: str) -> None:
    plain, sealed = path.with_name("theirs.db"), path.with_name("theirs.age")
    source, target = apsw.Connection(str(path)), apsw.Connection(str(plain))
    with target.backup("main", source, "main") as backup:
        while not backup.done:
            backup.step(PAGES_OF_ONE_STEP)
    target.close()
    source.close()
    subprocess.run(["age", "-r", recipient, "-o", sealed, plain], check=True)
    with sealed.open("rb") as written:
        os.fsync(written.fileno())
    plain.unlink()
    sealed.unlink()


def _made(store: Store, path: Path) -> None:
    point = restore_points.make_restore_point(store, keys=KeyFile(f"{path}.key"), reason="benchmark")
    os.unlink(point.path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    report(megabytes=parser.parse_args().megabytes)
