"""How an app reads, writes and copies its store."""

import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import apsw
import pytest
from migrate_world import registry_of

from syncengine import Engine, tables
from syncengine.errors import (
    CollectionNotReady,
    EngineClosed,
    MigrationDenied,
    StoreAlreadyOpen,
    StoreSuperseded,
    TransactionEnded,
)

ROOT = Path(__file__).resolve().parents[2]
NOTES = """
CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, text TEXT UNIQUE, PRIMARY KEY (user_id, id)) STRICT
"""


def notes_registry():
    return registry_of(tables(id="notes-table", from_version="1.0.0", to_version="2.0.0", create=(NOTES,)))


@pytest.fixture
def engine(tmp_path):
    with Engine.open(tmp_path / "app.db", registry=notes_registry()) as engine:
        engine.migrate()
        yield engine


def add(db, key, text=None):
    db.execute("INSERT INTO notes VALUES ('ann', ?, ?)", (key, text))


def keys(engine):
    with engine.read() as db:
        return [row["id"] for row in db["notes"].rows]


def test_before_migrate_the_app_can_neither_read_nor_write(tmp_path):
    with Engine.open(tmp_path / "app.db", registry=notes_registry()) as engine:
        with pytest.raises(CollectionNotReady), engine.read():
            pass
        with pytest.raises(CollectionNotReady), engine.write():
            pass
        engine.migrate()
        with engine.write() as db:
            add(db, "a")
        assert keys(engine) == ["a"]


def test_an_app_writes_its_own_tables_with_sqlite_utils(engine):
    with engine.write() as db:
        db["notes"].insert({"user_id": "ann", "id": "a", "text": "one"})
        db["notes"].upsert({"user_id": "ann", "id": "a", "text": "two"}, pk=("user_id", "id"))
        db["own"].insert({"id": 1, "free": "form"}, pk="id")
        db["own"].add_column("colour", str)
        db["notes"].enable_fts(["text"])
    with engine.read() as db:
        assert [row["text"] for row in db["notes"].search("two")] == ["two"]
        assert db["own"].count == 1


def test_an_exception_in_a_write_undoes_all_of_it(engine):
    with pytest.raises(KeyboardInterrupt), engine.write() as db:  # noqa: PT012  (the block is the transaction that fails)
        add(db, "a")
        db["own"].create({"id": int})
        raise KeyboardInterrupt
    assert keys(engine) == []
    with engine.read() as db:
        assert not db["own"].exists()


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM _sync_outbox",
        "INSERT INTO _sync_state VALUES ('x', 'y')",
        "COMMIT",
        "ROLLBACK",
        "ATTACH ':memory:' AS x",
        "DROP VIEW migration_history",
        "CREATE TRIGGER t AFTER INSERT ON notes BEGIN DELETE FROM _sync_outbox; END",
    ],
)
def test_a_write_cannot_touch_the_engine_nor_end_the_transaction(engine, sql):
    with pytest.raises(MigrationDenied), engine.write() as db:  # noqa: PT012  (the block is the transaction that fails)
        add(db, "a")
        db.execute(sql)
    assert keys(engine) == []
    assert engine._store.query("SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND name = 't'") == [(0,)]


def test_a_write_inside_a_write_leaves_the_outer_one_guarded(engine):
    with engine.write() as outer:
        with engine.write() as inner:
            add(inner, "a")
        with pytest.raises(apsw.AuthError):
            outer.execute("COMMIT")
        add(outer, "b")
    assert keys(engine) == ["a", "b"]


def test_after_sqlite_has_rolled_back_by_itself_nothing_more_of_the_block_is_written(engine):
    with engine.write() as db:
        add(db, "a", "same")
    with pytest.raises(TransactionEnded), engine.write() as db:  # noqa: PT012  (the block is the transaction that fails)
        add(db, "b")
        with pytest.raises(apsw.ConstraintError):
            db.execute("INSERT OR ROLLBACK INTO notes VALUES ('ann', 'c', 'same')")
        with pytest.raises(MigrationDenied):
            add(db, "d")
    assert keys(engine) == ["a"]
    with engine.write() as db:
        add(db, "e")
    assert keys(engine) == ["a", "e"]


def test_what_a_write_was_given_is_of_no_use_afterwards(engine):
    with engine.write() as db:
        add(db, "a")
    with pytest.raises(sqlite3.ProgrammingError):
        add(db, "b")
    assert keys(engine) == ["a"]


def test_reading_cannot_write_and_sees_one_moment(engine):
    with engine.read() as db:
        with pytest.raises(apsw.ReadOnlyError):
            add(db, "a")
        db.execute("PRAGMA query_only = OFF")
        with pytest.raises(apsw.ReadOnlyError):
            add(db, "a")
        assert db["notes"].count == 0
        with engine.write() as writing:
            add(writing, "b")
        assert db["notes"].count == 0
    assert keys(engine) == ["b"]


@pytest.mark.parametrize(
    "statements",
    [
        ("ATTACH '{}' AS other",),
        ("COMMIT", "VACUUM INTO '{}'"),
        ("COMMIT", "ATTACH '{}' AS other"),
        ("COMMIT", "VACUUM"),
    ],
)
def test_reading_opens_and_makes_no_other_file(engine, tmp_path, statements):
    before = sorted(tmp_path.iterdir())

    def attempt():
        with engine.read() as db:
            for statement in statements:
                db.execute(statement.format(tmp_path / "other.db"))

    with pytest.raises(MigrationDenied):
        attempt()
    assert sorted(tmp_path.iterdir()) == before
    with engine.read() as db:
        assert db["notes"].count == 0


def test_a_process_of_the_old_version_neither_reads_nor_writes_after_a_newer_one_has_migrated(engine, tmp_path):
    code = """
import sys
sys.path.insert(0, "tests/integration")
from migrate_world import registry_of
from test_snapshot_and_hosting import NOTES
from syncengine import Engine, add, declared, tables
registry = registry_of(
    tables(id="notes-table", from_version="1.0.0", to_version="2.0.0", create=(NOTES,)),
    declared(id="more", collection="notes", from_version="2.0.0", to_version="3.0.0", changes=(add("n", "INTEGER"),)),
    target="3.0.0",
)
with Engine.open(sys.argv[1], registry=registry) as engine:
    engine.migrate()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "app.db")],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(StoreSuperseded), engine.write() as db:
        add(db, "a")
    with pytest.raises(StoreSuperseded), engine.read():
        pass
    with pytest.raises(StoreSuperseded):
        engine.migrate()
    assert engine.plan().superseded is not None
    assert engine._store.query("SELECT count(*) FROM notes") == [(0,)]


def test_a_snapshot_is_a_whole_private_store_that_any_sqlite_may_open(engine):
    with engine.write() as db:
        for number in range(500):
            add(db, f"n-{number}", "x" * 100 + str(number))
    with engine.snapshot() as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        copy = sqlite3.connect(path)
        ours = engine._store.query("SELECT * FROM notes ORDER BY id")
        assert copy.execute("SELECT * FROM notes ORDER BY id").fetchall() == ours
        schema = "SELECT type, name, sql FROM sqlite_schema ORDER BY type, name"
        assert copy.execute(schema).fetchall() == engine._store.query(schema)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        copy.close()
        assert [found.name for found in path.parent.iterdir()] == [path.name]
    assert not path.parent.exists()


def test_a_snapshot_holds_no_writer_out_and_shows_the_moment_it_was_taken(engine):
    with engine.write() as db:
        add(db, "before")
    with engine.write() as db:
        add(db, "inside")
        with engine.snapshot() as path:
            copy = sqlite3.connect(path)
            assert copy.execute("SELECT id FROM notes").fetchall() == [("before",)]
            copy.close()
    done = []

    def write():
        with engine.write() as db:
            add(db, "meanwhile")
        done.append(True)

    with engine.snapshot():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(10)
        assert done == [True]


def test_a_closed_engine_says_so_and_one_process_has_one_engine(engine, tmp_path):
    with pytest.raises(StoreAlreadyOpen):
        Engine.open(tmp_path / "app.db", registry=notes_registry())
    engine.close()
    engine.close()
    with pytest.raises(EngineClosed), engine.write():
        pass
    with pytest.raises(EngineClosed), engine.snapshot():
        pass
