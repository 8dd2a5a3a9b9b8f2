"""A user who is wiped leaves nothing in the store's files; the others keep everything."""

import os

import pytest
from drain_world import Line, MovableClock
from users_world import (
    COLLECTIONS,
    NOTES,
    add_notes,
    another_process,
    found_on_disk,
    opened,
    registry,
    rows_of,
)

from syncengine import Collection, Engine, Settings, migration, tables
from syncengine.errors import StoreBusy, UnsentChanges, WipeRefused
from syncengine.local.restore_points import make_restore_point
from syncengine.local.restoring import restore
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.vocabulary import UserId
from tests.integration.restore_world import key_of

MARKER = "canary-7f3a91"
ANN = "ann-5d41402a"
"""An id that is nowhere by chance."""
BOB = "bob-7d793037"


@pytest.fixture
def cloud(tmp_path):
    clock = MovableClock()
    cloud = Cloud(SqliteStorage(str(tmp_path / "memory"), clock=clock), clock=clock)
    cloud.accept_token(UserId(ANN), token="a token of ann")
    yield cloud
    cloud.close()


@pytest.fixture
def folder(tmp_path):
    """Of the store alone."""
    return tmp_path / "app"


def with_a_past(engine, line):
    """Rows of both, sent and unsent, changed and deleted; and every table of the engine holds something of ann."""
    for number in range(60):
        long = "x" * (9_000 if number % 10 == 0 else 10)
        add_notes(engine, f"{MARKER}-{number}", owner=ANN, text=f"{MARKER} {number} {long}", tagged=number % 3 == 0)
        add_notes(engine, f"b{number}", owner=BOB, text=f"bob's {number}", tagged=number % 3 == 0)
    engine.sync_now()
    with engine.write() as db:
        db.execute(f"DELETE FROM tags WHERE user_id = '{ANN}' AND id LIKE '%3'")
        db.execute(f"UPDATE notes SET text = text || ' again' WHERE user_id = '{ANN}' AND id LIKE '%5'")
        db.execute(f"UPDATE notes SET text = 'short' WHERE user_id = '{ANN}' AND id LIKE '%0'")
    line.lost_answers = 1
    with pytest.raises(Exception, match="lost"):
        engine.sync_now()
    add_notes(engine, f"{MARKER}-unsent", owner=ANN, text=MARKER)
    store = engine._store
    with store.transaction():
        for owner, text in ((ANN, MARKER), (BOB, "bob's own")):
            _note_everywhere(store, owner, text)


EVERYWHERE = """
INSERT INTO _sync_quarantine (
  origin, owner, collection, row_key, body, body_original, error_code, error_text, note, created_at
) VALUES ('migration', :owner, 'notes', :text, :text, :text, 'x', :text, :text, 'now');
INSERT INTO _sync_parked (owner, collection, row_key, version, shape_version, reason, body, parked_at)
VALUES (:owner, 'notes', :text, 4, '9.0.0', 'newer_shape', json_quote(:text), 'now');
INSERT INTO _sync_conflict (
  owner, collection, row_key, field, local_json, server_json, winner, policy, created_at
) VALUES (:owner, 'notes', :text, 'text', json_quote(:text), json_quote(:text), 'local', 'merge', 'now');
INSERT INTO _sync_archive VALUES ('notes', :owner, :text, 'text', :text, 'm', 'now');
INSERT INTO _sync_receipt VALUES (length(:owner || :text), :owner, 'notes', :text, 'merged_away', 'now');
INSERT INTO _sync_shadow_made VALUES ('notes', :owner, :text, :owner, :text);
INSERT INTO _sync_run (
  migration, scope, from_version, to_version, state, started_at, ended_at, duration_ms, warnings, error_text
) VALUES (
  'm', 'user:' || :owner, '1.0.0', '2.0.0', 'failed', 'now', 'now', 1, json_array(:text), :text
), (
  'm', 'store', '1.0.0', '2.0.0', 'failed', 'now', 'now', 1, json_array(:text || ' was trimmed'), :text
);
INSERT INTO _sync_source VALUES ('phone ' || length(:text), 'm', :owner, 'now');
INSERT INTO _sync_state VALUES ('agreed to 1.0.0 > 2.0.0 for user:' || :owner, 'yes');
INSERT INTO _sync_state VALUES ('quarantine_code of ' || :owner, 'code');
INSERT OR IGNORE INTO _sync_version VALUES ('user:' || :owner, '2.0.0', NULL, NULL, 'now');
"""


def _note_everywhere(store, owner, text):
    for sql in EVERYWHERE.strip().split(";\n"):
        store.query(sql, {"owner": owner, "text": text})


def nothing_is_left(engine, folder):
    assert found_on_disk(folder, MARKER, ANN) == []
    store = engine._store
    assert store.query("SELECT count(*) FROM _sync_erasure WHERE finished_at IS NULL") == [(0,)]
    assert store.query("PRAGMA integrity_check") == [("ok",)]
    assert store.query("PRAGMA foreign_key_check") == []


def test_no_file_holds_a_byte_of_a_wiped_user_and_the_others_have_everything(folder, cloud):
    line = Line(cloud, ANN)
    with opened(folder, ANN, backend=line) as engine:
        with_a_past(engine, line)
        with engine._store.transaction():
            engine._store.query("ANALYZE")
        of_bob = rows_of(engine, BOB)
        assert found_on_disk(folder, MARKER)
        assert {"notes", "tags", "_sync_outbox", "_sync_quarantine", "_sync_parked", "_sync_conflict"} <= set(of_bob)
        report = engine.wipe(ANN, unsent="destroy")
        assert (report.rows, report.finished) == ({"notes": 61, "tags": 18}, True)
        assert report.unsent.quarantined == 1
        nothing_is_left(engine, folder)
        assert rows_of(engine, ANN) == {}
        assert rows_of(engine, BOB) == of_bob
        assert engine.status().user is None
        assert engine._store.query("SELECT count(*) FROM _sync_outbox WHERE owner = ?", (BOB,)) == [(80,)]
        assert engine._store.query("SELECT imported_by FROM _sync_source ORDER BY imported_by") == [("",), (BOB,)]


def test_a_wiped_user_may_come_back_and_gets_what_the_cloud_has(folder, cloud):
    clock = MovableClock()
    line = Line(cloud, ANN)
    with opened(folder, ANN, backend=line, clock=clock) as engine:
        add_notes(engine, "n1", "n2", owner=ANN)
        engine.sync_now()
        line.lost_answers = 1
        add_notes(engine, "n3", owner=ANN)
        with pytest.raises(Exception, match="lost"):
            engine.sync_now()
        engine.wipe(ANN, unsent="destroy")
        clock.wall_ms += 3_600_000
        engine.switch_user(ANN)
        engine.migrate()
        engine.sync_now()
        add_notes(engine, "n4", owner=ANN)
        assert engine.sync_now().applied == 1
        assert [key for (key,) in engine._store.query("SELECT id FROM notes ORDER BY id")] == ["n1", "n2", "n3", "n4"]
        numbers = [(request.epoch, entry.sequence) for request in line.pushed for entry in request.entries]
        assert len(set(numbers)) == len(numbers)  # no number of before was given again


def test_another_user_than_the_signed_in_one_is_wiped_and_the_signed_in_one_goes_on(folder):
    with opened(folder, ANN) as engine:
        add_notes(engine, "b", owner=BOB, text=MARKER)
        add_notes(engine, "a", owner=ANN)
        engine.wipe(BOB, unsent="destroy")
        assert engine.status().user == ANN
        assert found_on_disk(folder, MARKER, BOB) == []
        assert set(rows_of(engine, ANN)) >= {"notes", "_sync_outbox"}


def test_unsent_changes_are_not_wiped_unasked_and_may_be_exported_first(folder, tmp_path):
    with opened(folder, ANN) as engine:
        add_notes(engine, "a", owner=ANN, text=MARKER)
        before = rows_of(engine, ANN)
        with pytest.raises(UnsentChanges) as refused:
            engine.wipe(ANN)
        assert 'becomes of them: unsent="export" or "destroy". Nothing' in str(refused.value)
        assert (rows_of(engine, ANN), engine.status().user) == (before, ANN)
        report = engine.wipe(ANN, unsent="export", export_to=tmp_path / "left.jsonl")
        assert report.exported_to == str(tmp_path / "left.jsonl")
        assert MARKER in (tmp_path / "left.jsonl").read_text()
        nothing_is_left(engine, folder)


# Restore points.


def test_restore_points_with_rows_of_the_user_are_named_and_go_with_consent_only(folder):
    path = folder / "app.db"
    with opened(folder, None) as engine:
        without = make_restore_point(engine._store, keys=key_of(path), reason="before anybody came")
    with opened(folder, ANN) as engine:
        store = engine._store
        add_notes(engine, "a", owner=ANN, text=MARKER)
        held = make_restore_point(store, keys=key_of(path), reason="with ann in it")
        before = rows_of(engine, ANN)
        with pytest.raises(WipeRefused, match="Sealed copies") as refused:
            engine.wipe(ANN, unsent="destroy")
        assert f"restore point {held.restore_point_id} (with ann in it" in refused.value.why
        assert f"restore point {without.restore_point_id} " not in refused.value.why
        assert rows_of(engine, ANN) == before
        report = engine.wipe(ANN, unsent="destroy", restore_points="delete")
        assert report.restore_points == (held.restore_point_id,)
        assert [point.restore_point_id for point in engine.restore_points()] == [without.restore_point_id]
        assert sorted(file.name for file in folder.glob("app.db-restore/*.age")) == [os.path.basename(without.path)]
        nothing_is_left(engine, folder)
        restore(store, without.restore_point_id, keys=key_of(path))  # the way back for the others is whole
        assert found_on_disk(folder, MARKER) == []


def test_a_restore_point_that_cannot_be_opened_counts_as_one_that_holds_something(folder):
    path = folder / "app.db"
    with opened(folder, ANN) as engine:
        make_restore_point(engine._store, keys=key_of(path), reason="by hand")
        (folder / "app.db.key").unlink()
        with pytest.raises(WipeRefused, match="cannot be looked into"):
            engine.wipe(ANN)
        engine.wipe(ANN, restore_points="delete")
        assert engine.restore_points() == ()


def test_the_sealed_copy_of_a_damaged_store_is_named_as_well(folder):
    with opened(folder, ANN) as engine:
        (folder / "app.db-restore").mkdir(mode=0o700)
        copy = folder / "app.db-restore" / "20260101-1.damaged.age"
        copy.write_bytes(b"sealed")
        with pytest.raises(WipeRefused, match="Sealed copies") as refused:
            engine.wipe(ANN)
        assert copy.name in refused.value.why
        engine.wipe(ANN, restore_points="delete")
        assert not copy.exists()


# What stands in the way.

READER = """
import sys
from syncengine.local.read_only import open_looking
connection = open_looking(sys.argv[1], busy_wait_ms=0)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM notes").fetchall()
print("reading", flush=True)
sys.stdin.readline()
"""


def test_another_process_that_reads_holds_the_log_and_the_next_open_finishes(folder):
    with opened(folder, ANN) as engine:
        add_notes(engine, "a", owner=ANN, text=MARKER)
        add_notes(engine, "b", owner=BOB)
        with another_process(READER, folder / "app.db") as reader:
            assert reader.stdout.readline() == "reading\n"
            report = engine.wipe(ANN, unsent="destroy")
            assert (report.finished, engine.status().erasures.unfinished) == (False, ("wipe",))
            assert found_on_disk(folder, MARKER)
            reader.stdin.write("\n")
            reader.stdin.flush()
            reader.wait(20)
    with opened(folder, BOB) as engine:
        assert engine.status().erasures.unfinished == ()
        nothing_is_left(engine, folder)


KILLED = """
import os, sys
from pathlib import Path
import users_world
from syncengine.migrate import erasing
from syncengine import users
users.finish_erasures = lambda store, patient: os._exit(9)
engine = users_world.opened(Path(sys.argv[1]), sys.argv[2])
engine.wipe(sys.argv[2], unsent="destroy", restore_points="delete")
"""


def test_a_process_that_dies_right_after_the_commit_leaves_the_rest_to_the_next_open(folder):
    path = folder / "app.db"
    with opened(folder, ANN) as engine:
        add_notes(engine, *(f"a{number}" for number in range(50)), owner=ANN, text=MARKER)
        make_restore_point(engine._store, keys=key_of(path), reason="with ann in it")
    process = another_process(KILLED, folder, ANN)
    process.communicate(timeout=60)
    assert process.returncode == 9
    assert list(folder.glob("app.db-restore/*.age"))
    with opened(folder, BOB) as engine:
        assert engine.restore_points() == ()
        assert list(folder.glob("app.db-restore/*.age")) == []
        nothing_is_left(engine, folder)


def test_another_process_in_the_middle_of_a_round_is_not_overtaken(folder):
    with opened(folder, ANN) as engine:
        add_notes(engine, "a", owner=ANN)
        before = rows_of(engine, ANN)
        holding = "import sys; sys.path.insert(0, 'tests/integration'); " + LEASE_HOLDER
        with another_process(holding, folder, BOB) as holder:
            assert holder.stdout.readline() == "holding\n"
            with pytest.raises(StoreBusy, match="Another process"):
                engine.wipe(ANN, unsent="destroy")
            assert rows_of(engine, ANN) == before
            holder.stdin.write("\n")
            holder.stdin.flush()
            holder.wait(20)
        engine.wipe(ANN, unsent="destroy")


LEASE_HOLDER = """
from pathlib import Path
import users_world
from syncengine.outbox.queue import Outbox
engine = users_world.opened(Path(sys.argv[1]), sys.argv[2])
assert Outbox(engine._store).lease("another", lease_ms=60_000).take()
print("holding", flush=True)
sys.stdin.readline()
"""


def made_with(sql):
    """The tables of the world, and something of the app's beside them."""
    return registry(
        also=(tables(id="also", from_version="2.0.0", to_version="2.1.0", create=(sql,)),),
        target="2.1.0",
        collections=(*COLLECTIONS, Collection("shared", owner="user_id"), Collection("parts", key="id", owner=None)),
    )


SHARED = """CREATE TABLE shared (user_id TEXT NOT NULL, id TEXT NOT NULL, of TEXT, note TEXT,
PRIMARY KEY (user_id, id), FOREIGN KEY (of, note) REFERENCES notes (user_id, id) ON DELETE {action}) STRICT;"""
PARTS = """CREATE TABLE parts (id TEXT PRIMARY KEY, of TEXT, note TEXT, text TEXT,
FOREIGN KEY (of, note) REFERENCES notes (user_id, id) ON DELETE CASCADE) STRICT;"""


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "RESTRICT", "NO ACTION"])
def test_rows_of_others_that_hang_on_it_stop_it(folder, action):
    with opened(folder, ANN, registry=made_with(SHARED.format(action=action))) as engine:
        add_notes(engine, "a", owner=ANN)
        with engine.write() as db:
            db["shared"].insert({"user_id": BOB, "id": "s", "of": ANN, "note": "a"})
        before = rows_of(engine, ANN), rows_of(engine, BOB)
        with pytest.raises(WipeRefused):
            engine.wipe(ANN, unsent="destroy")
        assert (rows_of(engine, ANN), rows_of(engine, BOB)) == before


def test_rows_without_an_owner_that_hang_on_it_go_with_it(folder):
    with opened(folder, ANN, registry=made_with(PARTS)) as engine:
        add_notes(engine, "a", owner=ANN)
        add_notes(engine, "b", owner=BOB)
        with engine.write() as db:
            db["parts"].insert_all(
                [
                    {"id": "p", "of": ANN, "note": "a", "text": MARKER},
                    {"id": "q", "of": BOB, "note": "b", "text": "his"},
                ]
            )
        engine.wipe(ANN, unsent="destroy")
        assert engine._store.query("SELECT id FROM parts") == [("q",)]
        nothing_is_left(engine, folder)


# Old tables.


def louder(old: dict) -> dict:
    return {**old, "text": f"{old['text']}!"}


def quieter(new: dict) -> dict:
    return {**new, "text": str(new["text"])[:-1]}


def test_old_tables_keep_the_rows_of_the_others_alone(folder):
    loud = migration(
        id="loud", collection="notes", from_version="2.0.0", to_version="2.1.0", table=NOTES, shadow=True
    )(louder)
    with opened(folder, ANN) as engine:
        for number in range(30):
            add_notes(engine, f"a{number}", owner=ANN, text=f"{MARKER} {number}")
            add_notes(engine, f"b{number}", owner=BOB, text=f"bob's {number}")
    later = registry(also=(loud.down(quieter) and loud,), target="2.1.0")
    with Engine.open(folder / "app.db", registry=later, user=ANN, settings=Settings()) as engine:
        engine.migrate()
        [(kept,)] = engine._store.query("SELECT table_name FROM _sync_kept_table")
        engine.wipe(ANN, unsent="destroy", restore_points="delete")
        assert engine._store.query(f'SELECT DISTINCT user_id FROM "{kept}"') == [(BOB,)]
        nothing_is_left(engine, folder)
        assert engine.migrations.rollback("loud", BOB).success
        assert engine._store.query("SELECT text FROM notes WHERE id = 'b7'") == [("bob's 7",)]
