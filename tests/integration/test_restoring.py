"""Going back to a restore point: one change for everybody, nothing lost without a trace, no number used twice."""

import json
import random
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from syncengine import Quarantine, Settings, migration
from syncengine.errors import CalledFromInside, CollectionNotReady, RestorePointImpossible, RestoreRefused, StoreBusy
from syncengine.local.carrying_over import AS_AT_PRESENT, AS_IT_WAS, BY_OWN_RULE
from syncengine.local.restore_points import make_restore_point
from syncengine.local.restoring import restore
from tests.integration.migrate_world import dump, quiet_write, registry_of
from tests.integration.restore_world import (
    CANARY,
    MAKE,
    NEW_TABLE,
    ROOT,
    New,
    Old,
    all_notes,
    aside,
    files_with,
    fill,
    folder_of,
    key_of,
    note,
    notes_of,
    opened,
    sealed_files,
    write,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.db"


@pytest.fixture
def engine(path):
    """A migrated store with a restore point from before."""
    fill(path, [*notes_of(4), note("b-1", user="bob", minutes=1.0)])
    with opened(path) as engine:
        engine.migrate()
        yield engine


def statement(engine, sql, *values):
    with engine._store.transaction():
        return engine._store.query(sql, values)


# What comes back, and what is set aside.


def test_the_store_is_as_it_was_then_and_migrates_anew(engine):
    report = engine.restore(1)
    assert (report.from_version, report.to_version, report.undone) == ("2.0.0", "1.1.0", (("to-seconds", "store"),))
    assert engine._store.query("SELECT id, minutes FROM notes WHERE user_id = 'ann'") == [
        (f"n-{number:04}", float(number)) for number in range(4)
    ]
    assert engine.status().migration.current == "1.1.0"
    with pytest.raises(CollectionNotReady), engine.read() as db:
        list(db["notes"].rows)
    assert engine.migrate().success
    assert all_notes(engine)[0] == ("ann", "n-0000", CANARY, 0.0, None)


def test_what_only_the_migration_changed_is_not_lost(engine):
    report = engine.restore(1)
    assert (report.lost, report.changes, report.users) == (0, (), ())
    assert aside(engine) == []


def test_what_was_written_since_is_in_quarantine_whole_and_counted(engine):
    with quiet_write(engine) as db:
        db["notes"].update(("ann", "n-0001"), {"text": "edited"})
        db["notes"].update(("ann", "n-0002"), {"stars": 5})
        db["notes"].insert(note("new", text="new"))
        db["notes"].delete(("ann", "n-0003"))
    report = engine.restore(1)
    [change] = report.changes
    assert (change.collection, change.owner, change.lost, change.returned) == ("notes", "ann", 3, 3)
    assert change.keys == ("n-0001", "n-0002", "new")
    assert [(owner, key, json.loads(body)) for owner, key, body in aside(engine)] == [
        ("ann", "n-0001", note("n-0001", text="edited", seconds=60.0, stars=None)),
        ("ann", "n-0002", note("n-0002", seconds=120.0, stars=5)),
        ("ann", "new", note("new", text="new", seconds=None, stars=None)),
    ]
    assert CANARY not in repr(report)


def test_without_the_migrations_every_row_that_differs_is_set_aside(engine):
    report = restore(engine._store, 1, keys=key_of(engine._store.path), user="ann", consent={"bob"})
    assert report.lost == 0 + len(aside(engine))
    # `seconds` is new: only a row that has nothing in it is the same.
    assert {key for _, key, _ in aside(engine)} == {"n-0000", "n-0001", "n-0002", "n-0003", "b-1"}


def test_migrations_that_fail_today_do_not_stand_in_the_way(engine, path):
    engine.close()

    @migration(id="to-seconds", collection="notes", from_version="1.1.0", to_version="2.0.0", table=NEW_TABLE)
    def broken(old: Old) -> New:
        raise RuntimeError("mended tomorrow")

    with opened(path, registry=registry_of(MAKE, broken)) as again:
        report = again.restore(1, consent={"bob"})
        assert report.lost == 5
        assert len(all_notes(again)) == 5


def test_bytes_infinity_and_text_that_is_none_come_whole_into_quarantine(engine):
    statement(engine, "CREATE TABLE photos (id TEXT PRIMARY KEY, picture BLOB, size REAL, name TEXT)")
    statement(engine, "INSERT INTO photos VALUES ('p', x'ff00', 9e999, CAST(x'ff01' AS TEXT))")
    engine.restore(1)
    [(owner, key, body)] = aside(engine)
    assert (owner, key) == (None, "p")
    assert json.loads(body) == {
        "id": "p",
        "picture": {"$blob": "/wA="},
        "size": {"$real": "inf"},
        "name": {"$blob": "/wE="},
    }


def test_an_edit_that_sqlite_calls_equal_is_in_quarantine(engine):
    make_point = engine.migrations.make_restore_point
    statement(engine, "CREATE TABLE words (word TEXT COLLATE NOCASE PRIMARY KEY, text TEXT COLLATE NOCASE, number)")
    statement(engine, "INSERT INTO words VALUES ('key', 'x', 1), ('letters', 'usa trip', 1), ('type', 'x', 1)")
    statement(engine, "INSERT INTO words VALUES ('untouched', 'x', 1.0)")
    point = make_point().restore_point_id
    statement(engine, "UPDATE words SET word = 'KEY' WHERE word = 'key'")
    statement(engine, "UPDATE words SET text = 'USA trip' WHERE word = 'letters'")
    statement(engine, "UPDATE words SET number = 1.0 WHERE word = 'type'")
    report = engine.restore(point)
    assert [(change.collection, change.lost, change.returned) for change in report.changes] == [("words", 3, 3)]
    assert [body for _, _, body in aside(engine)] == [
        '{"word":"KEY","text":"x","number":1}',
        '{"word":"letters","text":"USA trip","number":1}',
        '{"word":"type","text":"x","number":1.0}',
    ]


def test_a_column_that_is_newer_than_the_copy_counts_only_with_another_value_than_its_default(engine):
    statement(engine, "CREATE TABLE words (word TEXT PRIMARY KEY)")
    statement(engine, "INSERT INTO words VALUES ('same'), ('letters'), ('number'), ('type')")
    point = engine.migrations.make_restore_point().restore_point_id
    statement(engine, "ALTER TABLE words ADD COLUMN kind TEXT COLLATE NOCASE DEFAULT 'a'")
    statement(engine, "ALTER TABLE words ADD COLUMN size REAL DEFAULT 0")
    statement(engine, "ALTER TABLE words ADD COLUMN any_kind DEFAULT 1")
    statement(engine, "UPDATE words SET kind = 'A' WHERE word = 'letters'")
    statement(engine, "UPDATE words SET size = 1 WHERE word = 'number'")
    statement(engine, "UPDATE words SET any_kind = 1.0 WHERE word = 'type'")
    engine.restore(point)
    assert {key for _, key, _ in aside(engine)} == {"letters", "number", "type"}


def test_rows_of_a_virtual_table_that_holds_the_only_copy_are_in_quarantine(engine):
    statement(engine, "CREATE VIRTUAL TABLE diary USING fts5(entry)")
    statement(engine, "CREATE VIRTUAL TABLE places USING rtree(id, west, east)")
    statement(engine, "CREATE VIRTUAL TABLE found USING fts5(text, content='notes')")
    statement(engine, "INSERT INTO diary VALUES ('first'), ('second')")
    statement(engine, "INSERT INTO places VALUES (1, 0.5, 1.5), (2, 0.5, 1.5)")
    point = engine.migrations.make_restore_point().restore_point_id
    statement(engine, "INSERT INTO diary VALUES ('written since')")
    statement(engine, "UPDATE diary SET entry = 'Second' WHERE rowid = 2")
    statement(engine, "UPDATE places SET east = 2.5 WHERE id = 2")
    statement(engine, "INSERT INTO found (rowid, text) VALUES (9, 'an index over notes')")
    report = engine.restore(point)
    assert [(change.collection, change.lost, change.returned) for change in report.changes] == [
        ("diary", 2, 1),
        ("places", 1, 1),
    ]
    assert [body for _, _, body in aside(engine)] == [
        '{"entry":"Second"}',
        '{"entry":"written since"}',
        '{"id":2,"west":0.5,"east":2.5}',
    ]
    assert statement(engine, "SELECT rowid, entry FROM diary WHERE diary MATCH 'second'") == [(2, "second")]


def test_a_table_of_the_app_whose_name_is_like_the_engines_in_other_letters_is_the_apps(engine):
    statement(engine, "CREATE TABLE _SYNC_app (x TEXT PRIMARY KEY)")
    point = engine.migrations.make_restore_point().restore_point_id
    statement(engine, "INSERT INTO _SYNC_app VALUES ('mine')")
    assert engine.restore(point).lost == 1
    assert aside(engine) == [(None, "mine", '{"x":"mine"}')]


def test_items_of_a_migration_that_is_undone_are_resolved_because_their_rows_are_back(path):
    @migration(id="to-seconds", collection="notes", from_version="1.1.0", to_version="2.0.0", table=NEW_TABLE)
    def picky(old: Old) -> New:
        if old.id == "n-0001":
            raise Quarantine("not today")
        return New(user_id=old.user_id, id=old.id, text=old.text, seconds=None, stars=None)

    fill(path, notes_of(3))
    with opened(path, registry=registry_of(MAKE, picky)) as engine:
        engine.migrate()
        assert engine._store.query("SELECT row_key, resolution FROM _sync_quarantine") == [("n-0001", None)]
        engine.restore(1)
        assert engine._store.query("SELECT row_key, resolution FROM _sync_quarantine") == [("n-0001", "restored")]
        assert len(all_notes(engine)) == 3


def test_the_store_of_before_is_sealed_so_that_there_is_a_way_back_from_the_way_back(engine):
    with quiet_write(engine) as db:
        db["notes"].insert(note("new"))
    before = all_notes(engine)
    report = engine.restore(1)
    again = engine.restore(report.sealed_before, consent={"bob"})
    assert all_notes(engine) == before
    # Rows of an older shape are kept, too: nothing tells what of them was written since.
    assert again.lost == 5
    assert again.to_version == "2.0.0"
    assert engine.migrate() is None
    assert engine._store.query(
        "SELECT state, method FROM _sync_run WHERE migration = 'to-seconds' ORDER BY run_id"
    ) == [("completed", "transaction"), ("rolled_back", "restore_point"), ("completed", "restore_point")]


def test_the_restore_stands_in_the_history(engine):
    engine.restore(1)
    assert engine._store.query(
        "SELECT migration, from_version, to_version, method, restore_point_id FROM _sync_run WHERE state = 'restored'"
    ) == [("restore-point-1", "2.0.0", "1.1.0", "restore_point", 1)]


# Whose rows.


def test_rows_of_others_are_not_taken_back_without_their_word(engine):
    with quiet_write(engine) as db:
        db["notes"].update(("bob", "b-1"), {"text": "bob wrote this"})
        db["notes"].insert(note("new"))
    before = dump(engine._store, without=())
    with pytest.raises(RestoreRefused, match="1 other users"):
        engine.restore(1)
    assert dump(engine._store, without=()) == before
    assert len(sealed_files(engine._store.path)) == 1
    assert engine.restore(1, consent={"bob"}).users == ("ann", "bob")
    assert {owner for owner, _, _ in aside(engine)} == {"ann", "bob"}


def test_with_nobody_signed_in_every_user_has_to_agree(engine, path):
    with quiet_write(engine) as db:
        db["notes"].insert(note("new"))
    engine.close()
    with opened(path, user=None) as again:
        with pytest.raises(RestoreRefused):
            again.restore(1)
        assert again.restore(1, consent={"ann"}).lost == 1


def test_a_simulation_says_the_same_and_changes_nothing(engine):
    with quiet_write(engine) as db:
        db["notes"].insert(note("new"))
        db["notes"].delete(("bob", "b-1"))
    before, files = dump(engine._store, without=()), sealed_files(engine._store.path)
    said = engine.restore(1, simulate=True)
    assert dump(engine._store, without=()) == before
    assert sealed_files(engine._store.path) == files
    done = engine.restore(1, consent={"bob"})
    assert said.simulated
    assert not done.simulated
    assert (said.changes, said.users, said.undone) == (done.changes, done.users, done.undone)


def test_it_is_refused_inside_a_block_that_it_would_wait_for(engine):
    with quiet_write(engine) as db:
        db["notes"].insert(note("kept"))
        with pytest.raises(CalledFromInside):
            engine.restore(1)
    assert ("ann", "kept", CANARY, None, None) in all_notes(engine)


def test_it_waits_for_a_migration_of_another_thread_and_is_refused_inside_one(engine):
    store = engine._store
    begun, done = threading.Event(), []

    def migrating():
        with store.migrating:
            begun.set()
            time.sleep(0.3)
            done.append("migration")

    other = threading.Thread(target=migrating)
    other.start()
    begun.wait(10)
    engine.restore(1)
    done.append("restore")
    other.join()
    assert done == ["migration", "restore"]
    store.is_migrating = True
    with pytest.raises(CalledFromInside):
        engine.restore(1)
    store.is_migrating = False


def test_what_other_processes_had_begun_on_the_tables_is_fenced(engine):
    lease = "INSERT INTO _sync_lease VALUES ('migrate', 'somebody', ?, 'boot', 9e15, 7)"
    statement(engine, lease, 1)
    engine.restore(1)
    assert engine._store.query("SELECT holder, fence FROM _sync_lease WHERE name = 'migrate'") == [("", 8)]


# The queue.


def entry(engine, entry_id, *, sequence=None, state="waiting", kind="put", set_json='{"text": "x"}', migration=None):
    statement(
        engine,
        "INSERT INTO _sync_outbox (entry_id, owner, sequence, epoch, kind, collection, row_key, set_json,"
        " shape_version, group_id, migration, state, created_ms)"
        " VALUES (?, 'ann', ?, ?, ?, 'notes', ?, ?, '2.0.0', ?, ?, ?, 0)",
        entry_id,
        sequence,
        None if sequence is None else 1,
        kind,
        f"n-{entry_id:04}",
        set_json,
        entry_id,
        migration,
        state,
    )


def queue(engine):
    return engine._store.query("SELECT entry_id, sequence, state, set_json FROM _sync_outbox ORDER BY entry_id")


def test_numbers_are_never_given_out_twice(engine):
    statement(engine, "INSERT INTO _sync_drain (owner, epoch, next_sequence) VALUES ('ann', 3, 41)")
    statement(engine, "UPDATE _sync_state SET value = '77' WHERE name = 'group_counter'")
    statement(engine, "INSERT OR IGNORE INTO _sync_state VALUES ('group_counter', '77')")
    entry(engine, 500, set_json=None, migration="to-seconds")
    engine.restore(1)
    assert engine._store.query("SELECT epoch, next_sequence FROM _sync_drain") == [(3, 41)]
    assert engine._store.value("state", "get", name="group_counter") == "77"
    assert queue(engine) == []
    statement(
        engine,
        "INSERT INTO _sync_outbox (entry_id, owner, kind, collection, row_key, shape_version, group_id, created_ms)"
        " VALUES ((SELECT entry_id + 1 FROM _sync_newest_entry), 'ann', 'put', 'notes', 'x', '1.1.0', 1, 0)",
    )
    assert queue(engine)[0][0] == 501


def test_claimed_entries_stay_and_settled_ones_do_not_come_back(engine):
    entry(engine, 1)
    entry(engine, 2)
    entry(engine, 3)
    point = make_restore_point(engine._store, keys=key_of(engine._store.path), reason="test").restore_point_id
    statement(engine, "DELETE FROM _sync_outbox WHERE entry_id = 1")
    statement(engine, "UPDATE _sync_outbox SET sequence = 7, epoch = 1, state = 'claimed' WHERE entry_id = 2")
    statement(
        engine, """UPDATE _sync_outbox SET set_json = '{"text": "converted"}', attempts = 4 WHERE entry_id = 3"""
    )
    engine.restore(point)
    assert queue(engine) == [(2, 7, "claimed", '{"text": "x"}'), (3, None, "waiting", '{"text": "x"}')]
    assert engine._store.query("SELECT attempts FROM _sync_outbox WHERE entry_id = 3") == [(4,)]


def test_an_entry_that_lost_its_number_since_is_not_given_the_old_one_again(engine):
    entry(engine, 4, sequence=5, state="claimed")
    point = make_restore_point(engine._store, keys=key_of(engine._store.path), reason="test").restore_point_id
    statement(engine, "UPDATE _sync_outbox SET sequence = NULL, epoch = NULL, state = 'waiting' WHERE entry_id = 4")
    assert engine.restore(point).entries_set_aside == 1
    assert queue(engine) == []


def test_unsent_entries_that_were_written_since_are_set_aside_whole(engine):
    point = make_restore_point(engine._store, keys=key_of(engine._store.path), reason="test").restore_point_id
    entry(engine, 9)
    report = engine.restore(point)
    assert (report.entries_set_aside, report.users, queue(engine)) == (1, ("ann",), [])
    [(origin, owner, body)] = engine._store.query("SELECT origin, owner, body FROM _sync_quarantine")
    assert (origin, owner, json.loads(body)["set"]) == ("outbox", "ann", {"text": "x"})


def test_every_table_of_the_engine_has_a_rule(engine):
    ruled = (*AS_AT_PRESENT, *AS_IT_WAS, *BY_OWN_RULE)
    there = engine._store.query(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE '\\_sync\\_%' ESCAPE '\\'"
    )
    assert len(ruled) == len(set(ruled))
    assert sorted(ruled) == sorted(name for (name,) in there)


# Others.

OTHER = """
import sys
from syncengine.errors import CollectionNotReady
from tests.integration.restore_world import note, opened

with opened(sys.argv[1]) as engine:
    print("open", flush=True)
    for line in sys.stdin:
        word = line.split()
        try:
            if word[0] == "read":
                with engine.read() as db:
                    print(db["notes"].count, flush=True)
            if word[0] == "write":
                with engine.write() as db:
                    db["notes"].insert(note(word[1]))
                print("written", flush=True)
            if word[0] == "migrate":
                print(engine.migrate().success, flush=True)
        except CollectionNotReady:
            print("not ready", flush=True)
"""


class Other:
    """Another process with an engine of its own."""

    def __init__(self, path, code=OTHER):
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.said() == "open"

    def ask(self, words):
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        return self.said()

    def said(self):
        return self.process.stdout.readline().strip()

    def end(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


@pytest.fixture
def other(engine):
    other = Other(engine._store.path)
    yield other
    other.end()


def test_open_engines_of_other_processes_see_it_and_go_on(engine, other):
    assert other.ask("write before") == "written"
    assert other.ask("read") == "6"
    assert engine.restore(1).lost == 1
    assert other.ask("read") == "not ready"
    assert other.ask("write meanwhile") == "not ready"
    assert other.ask("migrate") == "True"
    assert other.ask("write after") == "written"
    assert other.ask("read") == "6"
    with engine.read() as db:
        assert db["notes"].count == 6
    assert engine._store.query("PRAGMA integrity_check") == [("ok",)]


def test_a_reader_keeps_its_moment_while_the_store_goes_back(engine):
    with engine.read() as db:
        before = list(db["notes"].rows)
        engine.restore(1)
        assert list(db["notes"].rows) == before
    assert engine.status().migration.current == "1.1.0"


HAMMER = """
import sys
from syncengine.errors import CollectionNotReady
from tests.integration.restore_world import note, opened

with opened(sys.argv[1]) as engine:
    print("open", flush=True)
    number = 0
    while True:
        try:
            with engine.write() as db:
                db["notes"].insert(note(f"w-{number}"))
        except CollectionNotReady:
            break
        number += 1
        print(number, flush=True)
    print("end", flush=True)
"""


def test_whatever_another_process_writes_until_the_last_moment_is_there_or_in_quarantine(engine):
    hammer = Other(engine._store.path, HAMMER)
    assert hammer.said() == "1"
    engine.restore(1)
    said = []
    while (line := hammer.said()) != "end":
        said.append(int(line))
    hammer.end()
    written = max(said, default=1)
    assert {key for _, key, _ in aside(engine)} == {f"w-{number}" for number in range(written)}


# Accidents.

KILLED = """
import sys
from tests.integration.restore_world import opened

with opened(sys.argv[1]) as engine:
    print("open", flush=True)
    engine.restore(1)
    print("done", flush=True)
"""


def test_a_process_killed_at_any_moment_leaves_the_store_as_before_or_whole(path):
    fill(path, [note(f"n-{number:04}", text=CANARY * 100, minutes=1.0) for number in range(3_000)])
    with opened(path) as engine:
        engine.migrate()
        write(engine, [note("new")])
    ends = set()
    chance = random.Random(11)
    for _ in range(12):
        child = Other(path, KILLED)
        time.sleep(chance.uniform(0.0, 0.35))
        child.process.kill()
        child.process.wait()
        child.process.stdin.close()
        child.process.stdout.close()
        with opened(path) as engine:
            version, rows = engine.status().migration.current, len(all_notes(engine))
            assert (version, rows, len(aside(engine))) in {("2.0.0", 3_001, 0), ("1.1.0", 3_000, 1)}
            assert engine._store.query("PRAGMA integrity_check") == [("ok",)]
            assert [name for name in folder_of(path).iterdir() if name.suffix != ".age"] == []
            if version == "1.1.0":
                engine.migrate()
                statement(engine, "DELETE FROM _sync_quarantine")
                write(engine, [note("new")])
        ends.add(version)
        assert files_with(folder_of(path), CANARY) == []
    assert "2.0.0" in ends


def test_no_room_for_the_copies_is_said_before_they_are_made(engine):
    engine.close()
    fill_bytes = 2**62
    with opened(engine._store.path, settings=Settings(restore_point_free_bytes_min=fill_bytes)) as full:
        before = dump(full._store)
        with pytest.raises(RestorePointImpossible, match="while it is opened"):
            full.restore(1, simulate=True)
        assert dump(full._store) == before


FULL = """
import resource, sys
from syncengine.errors import SyncEngineError
from tests.integration.restore_world import opened

with opened(sys.argv[1]) as engine:
    print("open", flush=True)
    limit_bytes = int(sys.argv[2])

    def full(event, args):
        if event == sys.argv[3]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    sys.addaudithook(full)
    sys.audit("now")
    try:
        engine.restore(1, simulate=True)
        print("done", flush=True)
    except SyncEngineError as error:
        print(error.code(), flush=True)
"""


def test_a_disk_that_is_full_at_any_of_the_copies_is_told_in_the_engines_words(path):
    fill(path, [note(f"n-{number:04}", text=CANARY * 100, minutes=1.0) for number in range(1_000)])
    with opened(path) as engine:
        engine.migrate()
        before = dump(engine._store)
    said = []
    # docs.python.org/3/library/audit_events.html: the second copy is made with shutil.
    for limit_bytes, when in ((10_000, "now"), (1_000_000, "now"), (2_000_000, "now"), (10_000, "shutil.copyfile")):
        child = subprocess.run(
            [sys.executable, "-c", FULL, path, str(limit_bytes), when],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        assert child.returncode == 0, child.stderr
        said.append(child.stdout.split()[-1])
    assert (said[0], said[-1]) == ("disk_full", "disk_full")
    assert set(said) <= {"disk_full", "store_unusable", "done"}
    with opened(path) as engine:
        assert dump(engine._store) == before


BUSY = """
import sqlite3, sys

db = sqlite3.connect(sys.argv[1], isolation_level=None)
print("open", flush=True)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
db.execute("COMMIT")
"""


@pytest.mark.parametrize(
    "go_back",
    [
        lambda engine: engine.restore(1, consent={"bob"}),
        lambda engine: engine.migrations.rollback("to-seconds", "ann", consent={"bob"}),
    ],
    ids=["restore", "rollback"],
)
def test_a_way_back_waits_longer_for_the_lock_than_writes_of_the_app_do(engine, path, go_back):
    engine.close()
    with opened(path, settings=Settings(busy_wait_ms_max=100)) as patient:
        busy = Other(path, BUSY)
        assert busy.said() == "locked"
        with pytest.raises(StoreBusy), patient.write() as db:
            db["notes"].insert(note("new"))
        threading.Timer(0.6, busy.end).start()
        go_back(patient)
        assert patient.status().migration.current == "1.1.0"
        assert patient._store.query("PRAGMA busy_timeout") == [(100,)]


LIMITED = """
import os, resource, sys
from syncengine.errors import SyncEngineError
from tests.integration.restore_world import opened

with opened(sys.argv[1]) as engine:
    print("open", flush=True)
    point = engine.migrations.make_restore_point().restore_point_id
    engine._store.query("PRAGMA wal_checkpoint(TRUNCATE)")
    size = os.stat(sys.argv[1]).st_size
    # Room for the copies, not for the store's own log, whose frames are larger than its pages.
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * 1.003), int(size * 1.003)))
    try:
        engine.restore(point)
        print("done", flush=True)
    except SyncEngineError as error:
        print(error.code(), flush=True)
"""


def test_a_disk_that_refuses_the_last_step_leaves_the_store_as_before(path):
    fill(path, [note(f"n-{number:04}", text=CANARY * 100, minutes=1.0) for number in range(3_000)])
    with opened(path) as engine:
        engine.migrate()
        write(engine, [note("new")])
        before = dump(engine._store)
    child = Other(path, LIMITED)
    assert child.said() in ("store_unusable", "disk_full")
    child.end()
    with opened(path) as engine:
        assert dump(engine._store) == before
        assert engine._store.query("PRAGMA integrity_check") == [("ok",)]
        assert engine.restore(1).lost == 1
