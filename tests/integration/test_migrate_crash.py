"""The version and the data never disagree, wherever the power goes."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from imports import PROFILE, ImportExecutor, make_v2, seconds_v3, upload_walks, walk, write_phone
from migrate_world import StoppedClock, dump, quiet_write, registry_of

from syncengine import Engine, Settings, SystemClock
from syncengine.local.store import Store
from syncengine.testing.crash import EVERY_CRASH

ROOT = Path(__file__).resolve().parents[2]


class PowerIsGone(BaseException):
    """No `except Exception` stops it."""


def whole_registry():
    """Tables, an import, an upload, and a rebuild of the table: all in one migrate()."""
    return registry_of(
        make_v2(PROFILE),
        ImportExecutor(),
        upload_walks(),
        seconds_v3(),
        target="3.0.0",
        profile=("profile", "status"),
    )


def open_engine(path, phone, **options):
    return Engine.open(
        path,
        registry=whole_registry(),
        user="ann",
        sources={"phone": str(phone)},
        clock=StoppedClock(),
        settings=Settings(batch_rows=3),
        **options,
    )


def crash_at(statement_number, path, phone):
    """Run migrate() up to the Nth statement, then drop the file as a dead process would; False if it got through."""
    engine = open_engine(path, phone)
    connection = engine._store.connection
    seen = 0

    def trace(cursor, sql, bindings):
        nonlocal seen
        seen += 1
        if seen >= statement_number:
            raise PowerIsGone
        return True

    connection.exec_trace = trace
    try:
        engine.migrate()
    except PowerIsGone:
        return True
    finally:
        # Whatever is open is never committed: the connection goes, as it goes with its process.
        connection.exec_trace = None
        engine.close()
    return False


def agrees(path):
    """P1: what the version table says is what the tables are; None when it holds, else what is wrong."""
    store = Store(str(path), settings=Settings(), clock=SystemClock())
    try:
        version = store.query("SELECT schema_version FROM _sync_version WHERE scope = 'store'")
        version = version[0][0] if version else "1.0.0"
        columns = [row[0] for row in store.query("SELECT name FROM pragma_table_info('journeys')")]
        shapes = {
            "1.0.0": [[], ["user_id", "id", "minutes", "title"]],
            "2.0.0": [["user_id", "id", "minutes", "title"]],
            "3.0.0": [["user_id", "id", "seconds", "title"]],
        }
        done = {row[0] for row in store.query("SELECT migration FROM _sync_run WHERE state = 'completed'")}
        taken = store.query("SELECT count(*) FROM _sync_source")[0][0]
        rows = store.query("SELECT count(*) FROM journeys")[0][0] if columns else 0
        aside = store.query("SELECT count(*) FROM _sync_quarantine")[0][0]
        assert columns in shapes[version]
        assert ("tables-v2" in done) is bool(columns)
        assert ("seconds-v3" in done) is (version == "3.0.0")
        assert (rows, aside) == ((6, 1) if "import-walks" in done else (0, 0))
        assert taken == 2 * ("import-walks" in done)  # by its place and by its content
        assert "journeys_new_" not in {row[0] for row in store.query("SELECT name FROM sqlite_schema")}
        assert store.query("PRAGMA integrity_check") == [("ok",)]
    finally:
        store.close()


def test_after_a_crash_before_any_statement_markers_and_data_agree_and_the_next_start_finishes(tmp_path):
    walks = [walk(n) for n in range(5)] + [walk(8, 13), walk(0), walk(9)]
    phone = write_phone(tmp_path / "phone.json", walks)
    with open_engine(tmp_path / "undisturbed.db", phone) as engine:
        engine.migrate()
        undisturbed = dump(engine._store)
    number, crashed = 0, True
    step = 1 if os.environ.get(EVERY_CRASH) == "1" else 2
    while crashed:
        number += step
        path = tmp_path / f"{number}.db"
        crashed = crash_at(number, path, phone)
        agrees(path)
        with open_engine(path, phone) as engine:
            engine.migrate()
            assert dump(engine._store) == undisturbed, f"after a crash before statement {number}"
        for found in tmp_path.glob(f"{number}.db*"):
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    assert number > 150, "the whole of migrate() was walked through"


VICTIM = """
import sys
sys.path.insert(0, "tests/integration")
from test_migrate_crash import rows_registry
from syncengine import Engine
with Engine.open(sys.argv[1], registry=rows_registry()) as engine:
    print("ready", flush=True)
    sys.stdin.readline()
    engine.migrate()
    print("done", flush=True)
"""


def rows_registry(target="3.0.0"):
    steps = [make_v2()] + ([seconds_v3()] if target == "3.0.0" else [])
    return registry_of(*steps, target=target)


@pytest.mark.slow
def test_a_process_killed_while_it_migrates_leaves_the_old_rows_or_the_new_ones(tmp_path):
    path, rows = tmp_path / "app.db", 20_000
    with Engine.open(path, registry=rows_registry("2.0.0")) as engine:
        engine.migrate()
        with quiet_write(engine) as db:
            values = [("ann", f"w-{n:06}", 1.0, None) for n in range(rows)]
            db.conn.executemany("INSERT INTO journeys VALUES (?, ?, ?, ?)", values)
    finished = 0
    for attempt in range(10):
        victim = subprocess.Popen(
            [sys.executable, "-c", VICTIM, str(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert victim.stdout.readline() == "ready\n"
        victim.stdin.write("go\n")
        victim.stdin.flush()
        SystemClock().pause(20 + 40 * attempt)
        victim.send_signal(signal.SIGKILL)
        finished += victim.communicate(timeout=30)[0] == "done\n"
        with Engine.open(path, registry=rows_registry()) as engine:
            migrated = engine._store.query("SELECT schema_version FROM _sync_version")[0][0] == "3.0.0"
            column, value = ("seconds", 60) if migrated else ("minutes", 1.0)
            found = engine._store.query(f"SELECT count(*), min({column}), max({column}) FROM journeys")
            assert found == [(rows, value, value)]
            assert engine._store.query("PRAGMA integrity_check") == [("ok",)]
        if migrated:
            break
    with Engine.open(path, registry=rows_registry()) as engine:
        engine.migrate()
        assert engine._store.query("SELECT count(*), sum(seconds) FROM journeys") == [(rows, rows * 60)]
    assert finished < 10
