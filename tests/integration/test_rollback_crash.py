"""A rollback that a crash cuts short is no rollback; and nobody comes between."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from imports import PROFILE
from rollback_world import (
    ImportExecutor,
    add_walks,
    dump,
    make_v2,
    open_at,
    seconds_v3,
    upload_walks,
    walk,
    walks_of,
    write_phone,
)

from syncengine import Settings, SystemClock
from syncengine.errors import CalledFromInside, RollbackRefused, StoreBusy
from syncengine.local.store import Store
from syncengine.migrate.lease import Lease

ROOT = Path(__file__).resolve().parents[2]


class PowerIsGone(BaseException):
    """No `except Exception` stops it."""


def steps():
    return make_v2(PROFILE), ImportExecutor(), upload_walks(), seconds_v3()


def prepared(path, phone):
    with open_at(path, *steps(), sources={"phone": str(phone)}, profile=("profile", "status")) as engine:
        engine.migrate()
        add_walks(engine, ("bob", "b-1", 60, "bob's"), ("ann", "own", 120, None))


def without_lease(store):
    return dump(store, without=("_sync_lease", "_sync_restore_point"))


def crash_at(number, path, phone):
    """Roll back up to the Nth statement, then drop the file as a dead process would; False if it got through."""
    engine = open_at(path, *steps(), sources={"phone": str(phone)}, profile=("profile", "status"))
    seen = 0

    def trace(cursor, sql, bindings):
        nonlocal seen
        seen += 1
        if seen >= number:
            raise PowerIsGone
        return True

    engine._store.connection.exec_trace = trace
    try:
        engine.migrations.rollback_to("1.0.0", "ann", consent={"bob"}, on_collision="keep")
    except PowerIsGone:
        return True
    finally:
        engine._store.connection.exec_trace = None
        engine.close()
    return False


def test_after_a_crash_before_any_statement_it_is_all_there_or_all_gone_back(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [walk(n) for n in range(3)] + [walk(8, 13)])
    prepared(tmp_path / "whole.db", phone)
    with open_at(tmp_path / "whole.db", *steps()) as engine:
        before = without_lease(engine._store)
    number, crashed = 0, True
    while crashed:
        number += 1
        path = tmp_path / f"{number}.db"
        path.write_bytes((tmp_path / "whole.db").read_bytes())
        crashed = crash_at(number, path, phone)
        store = Store(str(path), settings=Settings(), clock=SystemClock())
        version = store.query("SELECT schema_version FROM _sync_version WHERE scope = 'store'")[0][0]
        tables = store.query("SELECT count(*) FROM sqlite_schema WHERE name = 'journeys'")[0][0]
        if version == "3.0.0":
            assert without_lease(store) == before, f"after a crash before statement {number}"
        else:
            assert (version, tables) == ("1.0.0", 0)
        assert store.query("PRAGMA integrity_check") == [("ok",)]
        store.close()
        for found in tmp_path.glob(f"{number}.db*"):
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    assert number > 150, "the whole of the rollback was walked through"


def test_while_another_process_migrates_nothing_is_rolled_back(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [walk(0)])
    prepared(tmp_path / "app.db", phone)
    with open_at(tmp_path / "app.db", *steps(), profile=("profile", "status")) as engine:
        lease = Lease(engine._store, name="migrate", holder="another")
        assert lease.take()
        with engine._store.transaction():
            engine._store.query("UPDATE _sync_lease SET pid = 1, until_ms = 99999999")
        with pytest.raises(StoreBusy, match="migrating"):
            engine.migrations.rollback("seconds-v3", "ann", consent={"bob"})
        assert len(walks_of(engine)) == 3


def test_a_lease_that_cannot_be_given_back_hides_neither_what_was_done_nor_what_went_wrong(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [walk(0)])
    prepared(tmp_path / "app.db", phone)
    with open_at(tmp_path / "app.db", *steps(), profile=("profile", "status")) as engine:
        with engine._store.transaction():
            engine._store.query(
                "CREATE TRIGGER full BEFORE UPDATE ON _sync_lease WHEN NEW.holder = '' "
                "BEGIN SELECT RAISE(ABORT, 'as if the disk were full'); END"
            )
        with pytest.raises(RollbackRefused, match="other users"):
            engine.migrations.rollback("seconds-v3", "ann")
        assert engine.migrations.rollback("seconds-v3", "ann", consent={"bob"}).state == "rolled_back"
        assert engine._store.query("SELECT holder <> '' FROM _sync_lease WHERE name = 'migrate'") == [(1,)]


def test_a_rollback_inside_a_block_that_writes_is_refused(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [walk(0)])
    prepared(tmp_path / "app.db", phone)
    engine = open_at(tmp_path / "app.db", *steps(), profile=("profile", "status"))
    with engine, engine.write(), pytest.raises(CalledFromInside):
        engine.migrations.rollback("seconds-v3", "ann", consent={"bob"})


def test_two_threads_that_roll_back_at_once_do_it_once(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [walk(n) for n in range(3)])
    prepared(tmp_path / "app.db", phone)
    ends = []
    with open_at(tmp_path / "app.db", *steps(), profile=("profile", "status")) as engine:

        def go():
            try:
                ends.append(engine.migrations.rollback("seconds-v3", "ann", consent={"bob"}).state)
            except Exception as error:
                ends.append(type(error).__name__)

        threads = [threading.Thread(target=go) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ends.count("rolled_back") == 1
        assert set(ends) <= {"rolled_back", "RollbackRefused", "StoreBusy", "LeaseLost"}
        assert engine._store.query("SELECT count(*) FROM _sync_run WHERE state = 'rolled_back'") == [(1,)]


def test_a_collection_that_is_being_rewritten_is_not_rolled_back(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [walk(0)])
    prepared(tmp_path / "app.db", phone)
    with open_at(tmp_path / "app.db", *steps(), profile=("profile", "status")) as engine:
        with engine._store.transaction():
            engine._store.query(
                "INSERT INTO _sync_shadow"
                " (collection, migration, scope, rows_total, batch_rows, started_at, updated_at)"
                " VALUES ('journeys', 'later', 'store', 1, 1, '', '')"
            )
        with pytest.raises(RollbackRefused, match="being rewritten"):
            engine.migrations.rollback("seconds-v3", "ann", consent={"bob"})
        assert engine.migrations.rollback("seconds-v3", "ann", simulate=True).state == "impossible"


ANOTHER = """
import sys
sys.path[:0] = [".", "tests/integration"]
from rollback_world import open_at
from test_rollback_crash import steps
from syncengine.errors import SyncEngineError
with open_at(sys.argv[1], *steps(), profile=("profile", "status")) as engine:
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        print(engine.migrations.rollback("seconds-v3", "ann", consent={"bob"}).state, flush=True)
    except SyncEngineError as error:
        print(error.code(), flush=True)
"""


def test_two_processes_that_roll_back_at_once_do_it_once(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [walk(n) for n in range(3)])
    path = tmp_path / "app.db"
    prepared(path, phone)
    command = [sys.executable, "-c", ANOTHER, str(path)]
    started = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=60)[0].strip() for process in started]
    assert ends.count("rolled_back") == 1, ends
    assert set(ends) <= {"rolled_back", "rollback_refused", "store_busy", "lease_lost"}, ends
    with open_at(path, *steps(), profile=("profile", "status")) as engine:
        assert engine._store.query("SELECT count(*) FROM _sync_run WHERE state = 'rolled_back'") == [(1,)]
        assert engine.migrations.get_current_schema_version() == "2.0.0"
        assert sorted(row[2] for row in walks_of(engine)) == [1.0, 1.0, 1.0, 1.0, 2.0]
