"""Peak memory of an import and a row migration: ten times the walks must not need more than a little more."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MEGABYTES_WANTED = 16

_MIGRATE = """
import json, resource, sys
from syncengine import Engine
from migrations import REGISTRY
import migrations.v2_0_0, migrations.v3_0_0
import syncengine.migrate.service, syncengine.sources.asyncstorage

def peak_kb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak_kb()
opened = Engine.open(
    "app.db", registry=REGISTRY, user="ann", sources={"asyncstorage": "legacy"}, consent=lambda request: True
)
with opened as engine:
    report = engine.migrate()
    walks = [result.counts.read for result in report.results if result.migration_id == "journey-storage-v1-to-v2"]
    assert report.success
print(json.dumps({"kb": peak_kb() - before, "walks": walks[0]}))
"""

_WRITE = """
import sys
from pathlib import Path
from simulator.asyncstorage_writer import write_store
write_store(Path("legacy"), kind="ios", walks=int(sys.argv[1]), places=40, dismissed=8, seed=1)
"""


def peak_megabytes(walks: int) -> float:
    """Peak minus start of a process that imports so many walks and takes them to the newest version."""
    import json

    with tempfile.TemporaryDirectory() as folder:
        _run(_WRITE, str(walks), folder=folder)
        found = json.loads(_run(_MIGRATE, folder=folder))
    assert found["walks"] >= walks
    return float(found["kb"]) / 1024


def _run(code: str, *arguments: str, folder: str) -> str:
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2]))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def report(*, few: int, many: int) -> None:
    """Print both peaks and their difference."""
    small, large = peak_megabytes(few), peak_megabytes(many)
    print(
        f"import and row migration, peak minus start: {few:,} walks {small:.1f} MB, {many:,} walks {large:.1f} MB, "
        f"difference {large - small:.1f} MB (wanted: at most {MEGABYTES_WANTED})"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=100_000)
    chosen = parser.parse_args()
    report(few=chosen.few, many=chosen.many)
