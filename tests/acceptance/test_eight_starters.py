"""Eight processes start the app at once: one run of each migration, the right data, and nobody fails."""

import subprocess
import sys
from pathlib import Path

import pytest

import migrations
from simulator.asyncstorage_writer import write_store
from syncengine import Engine

ROOT = Path(__file__).resolve().parents[2]

STARTER = """
import sys
import migrations
from syncengine import Engine
sys.stdin.readline()
sources = {"asyncstorage": sys.argv[2]}
yes = lambda request: True
with Engine.open(sys.argv[1], registry=migrations.registry(), user="ann", sources=sources, consent=yes) as e:
    report = e.migrate()
    assert report is None or report.success, report
    assert e.migrations.has_migrated("ann")
    with e.read() as db:
        print(db["journeys"].count, db["places"].count, db["dismissed_places"].count)
"""


@pytest.mark.acceptance
def test_eight_processes_that_start_at_once_migrate_once(tmp_path):
    legacy = write_store(tmp_path / "phone", walks=300, places=40, dismissed=8, seed=3).path
    with Engine.open(
        tmp_path / "alone.db",
        registry=migrations.registry(),
        user="ann",
        sources={"asyncstorage": str(legacy)},
        consent=lambda request: True,
    ) as engine:
        engine.migrate()
        wanted, once = rows(engine), runs(engine)
    path = tmp_path / "app.db"
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, str(path), str(legacy)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for starter in starters:
        starter.stdin.write("go\n")
        starter.stdin.flush()
    answers = [starter.communicate(timeout=100) for starter in starters]
    assert [starter.returncode for starter in starters] == [0] * 8, answers
    assert len({said for said, _ in answers}) == 1
    with Engine.open(path, registry=migrations.registry(), user="ann") as engine:
        assert engine.migrate() is None
        assert runs(engine) == once
        assert rows(engine) == wanted
        assert engine._store.query("PRAGMA integrity_check") == [("ok",)]


def runs(engine):
    """One line for each migration that was run; none twice."""
    found = engine._store.query("SELECT migration, scope, state, rows_read, rows_written FROM _sync_run ORDER BY 1")
    assert len(found) == len({(migration, scope) for migration, scope, *_ in found})
    return found


def rows(engine):
    """What does not depend on the time of the run."""
    selects = {
        "journeys": "SELECT id, name, route, distance_m, start_time_ms FROM journeys ORDER BY id",
        "places": "SELECT id, name, latitude, longitude FROM places ORDER BY id",
        "dismissed_places": "SELECT id, reason, legacy FROM dismissed_places ORDER BY id",
        "quarantine": "SELECT migration, row_key, body FROM _sync_quarantine ORDER BY 1, 2",
        "outbox": "SELECT kind, collection, row_key, migration FROM _sync_outbox ORDER BY 1, 2, 3, 4",
    }
    return {name: engine._store.query(sql) for name, sql in selects.items()}
