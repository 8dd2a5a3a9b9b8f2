"""A migration that erases leaves nothing of the old values in any file of the store, whenever a process dies."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from pydantic import BaseModel, ConfigDict

from syncengine import (
    BaseMigrationExecutor,
    Collection,
    Engine,
    ListedMigration,
    MigrationDefinition,
    MigrationRegistry,
    Quarantine,
    Settings,
    SystemClock,
    archive,
    cast,
    clamp,
    declared,
    erase,
    migration,
    rename,
)
from syncengine.cli.checks import examined
from syncengine.errors import MigrationInvalid, RestorePointImpossible, RestorePointUnknown, RollbackRefused
from syncengine.local.restore_points import (
    make_restore_point,
    opened_restore_point,
    restore_point,
    restore_points,
)
from syncengine.local.store import Store
from syncengine.migrate.erasing import forget_before
from tests.integration.imports import (
    ImportExecutor,
    JourneyV2,
    JourneyV3,
    make_v2,
    seconds_v3,
    walk,
    write_phone,
)
from tests.integration.migrate_world import registry_of
from tests.integration.restore_world import (
    MAKE,
    ROOT,
    fill,
    folder_of,
    key_of,
    note,
    opened,
    sealed_files,
)

MARKER = "canary-7f3a91"
KINDS = ("row function", "declared", "executor", "shadow", "shadow by SQL")


@pytest.fixture
def path(tmp_path):
    (tmp_path / "store").mkdir()
    return tmp_path / "store" / "app.db"


class Note(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    user_id: str
    id: str
    text: str | None
    minutes: float | None


def nameless(old: Note) -> Note:
    if old.minutes == 13:
        raise Quarantine("thirteen minutes", field="minutes")
    return Note(user_id=old.user_id, id=old.id, text=None, minutes=old.minutes)


class Blanking(BaseMigrationExecutor):
    """By SQL of its author, in place."""

    definition = MigrationDefinition(
        id="forget",
        name="Forget",
        description="Forgets the texts.",
        from_version="1.1.0",
        to_version="2.0.0",
        collections=("notes",),
        critical=True,
        erases=True,
    )

    def items(self, work):
        return iter(())

    def finish(self, work):
        work.db.execute("UPDATE notes SET text = NULL")


def forgetting(kind="row function", **facts):
    facts = {"id": "forget", "from_version": "1.1.0", "to_version": "2.0.0", "erases": True, **facts}
    if kind == "executor":
        return Blanking()
    if "declared" in kind or "SQL" in kind:
        return declared(collection="notes", changes=(erase("text"),), shadow="shadow" in kind or None, **facts)
    return migration(collection="notes", shadow=kind == "shadow" or None, **facts)(nameless)


def registry_with(*steps, target="2.0.0", **facts):
    return registry_of(MAKE, *steps, target=target, **facts)


def agreeing(path, *steps, target="2.0.0", **facts):
    facts = {"consent": lambda request: True, **facts}
    return opened(path, registry=registry_with(*(steps or (forgetting(),)), target=target), **facts)


def marked(number, **columns):
    # Some lie on overflow pages.
    return note(f"n-{number:05}", text=f"{MARKER}-{number}-" + "x" * (9_000 if number % 10 == 0 else 20), **columns)


def with_a_past(path, rows=200):
    """A store whose rows were changed and deleted before, and that has two restore points."""
    fill(path, [marked(number, minutes=float(number % 7)) for number in range(rows)])
    with opened(path, registry=registry_with(target="1.1.0")) as engine:
        with engine.write() as db:
            db.execute("DELETE FROM notes WHERE id LIKE '%3'")
            db.execute("UPDATE notes SET text = text || ' again' WHERE id LIKE '%5'")
            db.execute("UPDATE notes SET text = 'short' WHERE id LIKE '%0'")
        with engine._store.transaction():
            engine._store.query("DELETE FROM _sync_outbox")  # as if all had been sent
        for reason in ("by hand", "once more"):
            make_restore_point(engine._store, keys=key_of(path), reason=reason)
    return path


def found_on_disk(path):
    """Files beside the store that hold the marker, as another process sees them: this one has locks on them."""
    done = subprocess.run(
        ["grep", "--recursive", "--files-with-matches", "--binary-files=text", MARKER, path.parent],
        capture_output=True,
        text=True,
        check=False,
    )
    return sorted(os.path.relpath(line, path.parent) for line in done.stdout.splitlines())


def found_sealed(path, engine):
    """Restore points whose content holds the marker."""
    found = []
    for point in restore_points(engine._store):
        with opened_restore_point(engine._store, point.restore_point_id, keys=key_of(path)) as plain:
            if MARKER.encode() in plain.read_bytes():
                found.append(point.restore_point_id)
    return found


def nothing_is_left(path, engine):
    engine.export_diagnostics(path.parent / "diagnostics.json", redact=False)
    assert found_on_disk(path) == []
    assert found_sealed(path, engine) == []
    recorded = {os.path.basename(point.path) for point in restore_points(engine._store)}
    assert {file.name for file in sealed_files(path)} == recorded
    assert engine._store.query("SELECT count(*) FROM _sync_erasure WHERE finished_at IS NULL") == [(0,)]
    assert engine._store.query("SELECT * FROM _sync_state WHERE name = 'erasing'") == []
    assert engine._store.query("PRAGMA integrity_check") == [("ok",)]


# What goes.


@pytest.mark.parametrize("kind", KINDS)
def test_no_file_of_the_store_holds_an_old_value_while_the_engine_is_still_open(path, kind, caplog):
    with_a_past(path)
    assert found_on_disk(path) == ["app.db"]
    with agreeing(path, forgetting(kind), settings=Settings(batch_rows=20), guard=False) as engine:
        [result] = engine.migrate().results
        assert (result.state, result.warnings) == ("completed", ())
        assert result.counts.read == (0 if kind == "executor" else 180)
        nothing_is_left(path, engine)
        assert engine._store.query("SELECT count(*) FROM notes") == [(180,)]
        assert engine._store.query("SELECT name FROM sqlite_schema WHERE name GLOB '_sync_old_*'") == []
        assert engine._store.query("PRAGMA secure_delete") == [(0,)]
    assert MARKER not in caplog.text


def test_restore_points_from_before_go_and_say_why(path):
    with_a_past(path)
    with agreeing(path) as engine:
        engine.migrate()
        assert engine.restore_points() == ()
        assert engine._store.query("SELECT reason, gone_because, gone_at IS NULL FROM _sync_restore_point") == [
            ("by hand", "forget erased what it holds", 0),
            ("once more", "forget erased what it holds", 0),
            ("before forget", "forget erased what it holds", 0),
        ]
        later = make_restore_point(engine._store, keys=key_of(path), reason="afterwards")
        engine.migrate()
        assert [point.restore_point_id for point in engine.restore_points()] == [later.restore_point_id]


def test_a_file_that_nobody_recorded_goes_if_it_is_older(path):
    with_a_past(path)
    older, newer = (folder_of(path) / f"{name}.age" for name in ("older", "newer"))
    an_hour_ago_s = SystemClock().now_ms() // 1_000 - 3_600  # younger than what is swept in any case
    for file, at_s in ((older, an_hour_ago_s), (newer, 4_000_000_000)):
        file.write_bytes(b"sealed by a process that was killed")
        os.utime(file, (at_s, at_s))
    with agreeing(path) as engine:
        engine.migrate()
    assert (older.exists(), newer.exists()) == (False, True)


def test_when_it_fails_every_way_back_is_still_there(path):
    fill(path, [marked(1, minutes=13.0), marked(2, minutes=1.0)])
    with agreeing(path, forgetting(quarantine_rows_max=0, quarantine_ratio_max=0.0)) as engine:
        [result] = engine.migrate().results
        assert result.state == "failed"
        assert len(engine.restore_points()) == 1
        assert found_sealed(path, engine) == [1]
        assert engine._store.query("SELECT * FROM _sync_erasure") == []


def test_a_later_step_of_the_same_start_gets_a_restore_point_of_its_own(path):
    renamed = declared(
        id="later", collection="notes", from_version="2.0.0", to_version="2.1.0", changes=(cast("minutes", str),)
    )
    with_a_past(path)
    with agreeing(path, forgetting(), renamed, target="2.1.0") as engine:
        assert engine.migrate().success
        assert [point.reason for point in engine.restore_points()] == ["before later"]
        nothing_is_left(path, engine)


def test_what_earlier_migrations_kept_goes_too(path):
    notes = [note(f"n-{number:05}", text=f"{MARKER}-{number}", minutes=1.0) for number in range(50)]
    title = migration(
        id="earlier", collection="notes", from_version="1.1.0", to_version="1.2.0", shadow=True, consent="auto"
    )(lambda_free)
    archived = declared(
        id="archived", collection="notes", from_version="1.2.0", to_version="1.3.0", changes=(archive("text"),)
    )
    last = declared(
        id="forget",
        collection="notes",
        from_version="1.3.0",
        to_version="2.0.0",
        changes=(rename("minutes", "m"),),
        erases=True,
    )
    fill_unseen(path, notes)
    with agreeing(path, title, archived, target="1.3.0") as engine:
        engine.migrate()
        assert engine._store.query("SELECT count(*) FROM _sync_archive") == [(50,)]
        assert engine._store.query("SELECT count(*) FROM _sync_kept_table") == [(1,)]
    with agreeing(path, title, archived, last) as engine:
        engine.migrate()
        assert engine._store.query("SELECT * FROM _sync_archive") == []
        assert engine._store.query("SELECT * FROM _sync_kept_table") == []
        nothing_is_left(path, engine)


def lambda_free(old: Note) -> Note:
    return Note(user_id=old.user_id, id=old.id, text=old.text, minutes=old.minutes)


def test_no_value_is_archived_not_even_for_a_moment(path):
    def shortened(old: Note) -> Note:
        if old.minutes is not None and old.minutes > 5:
            raise Quarantine("too long", field="minutes")
        return Note(user_id=old.user_id, id=old.id, text=old.text, minutes=old.minutes)

    repaired = migration(
        id="forget",
        collection="notes",
        from_version="1.1.0",
        to_version="2.0.0",
        erases=True,
        repairs=(clamp("minutes", at_most=5),),
    )(shortened)
    cast_too = declared(
        id="cast",
        collection="notes",
        from_version="2.0.0",
        to_version="2.1.0",
        changes=(cast("text", int),),
        erases=True,
    )
    fill_unseen(path, [note("n-1", text="007", minutes=123456.5), note("n-2", text="8", minutes=1.0)])
    archived = []

    def watching(cursor, sql, bindings):
        if "INSERT INTO _sync_archive" in sql:
            archived.append(sql)
        return True

    with agreeing(path, repaired, cast_too, target="2.1.0") as engine:
        engine._store.connection.exec_trace = watching
        assert [result.counts.written for result in engine.migrate().results] == [2, 2]
        assert engine._store.query("SELECT text, minutes FROM notes ORDER BY id") == [(7, 5.0), (8, 1.0)]
        assert archived == []


# Whenever a process dies.

VICTIM = """
import os, signal, sys
from tests.integration.test_erasing import agreeing, forgetting
from pathlib import Path

path, kind, at = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
engine = agreeing(path, forgetting(kind))

def watching(cursor, sql, bindings):
    if at in sql:
        os.kill(os.getpid(), signal.SIGKILL)
    return True

engine._store.connection.exec_trace = watching
engine.migrate()
"""
MOMENTS = (
    "erased what it holds",  # right after the commit
    "SET gone_at",  # a file is gone, and the line does not say so
    "VACUUM",
    "SET cleared_at",
    "wal_checkpoint(TRUNCATE)",
    "SET finished_at",
)


@pytest.mark.parametrize("kind", ["row function", "shadow"])
@pytest.mark.parametrize("at", MOMENTS)
def test_what_a_process_that_was_killed_left_goes_at_the_next_start(path, kind, at):
    with_a_past(path)
    killed_at(path, kind, at)
    if at != "SET finished_at":
        assert found_on_disk(path) or sealed_files(path)
    with agreeing(path, forgetting(kind)) as engine:
        assert engine._store.query("SELECT DISTINCT schema_version FROM _sync_version") == [("2.0.0",)]
        nothing_is_left(path, engine)
        assert engine.migrate() is None


def killed_at(path, kind, at):
    victim = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(VICTIM), path, kind, at], cwd=ROOT, capture_output=True, check=False
    )
    assert victim.returncode == -signal.SIGKILL, victim.stderr.decode()


READER = """
import sys, apsw
connection = apsw.Connection(sys.argv[1])
connection.execute("BEGIN").fetchall()
connection.execute("SELECT count(*) FROM notes").fetchall()
print("reading", flush=True)
sys.stdin.readline()
"""


class Hurried(SystemClock):
    def pause(self, wait_ms):
        super().pause(min(wait_ms, 1))


@pytest.mark.parametrize("kind", ["row function", "shadow"])
def test_while_another_process_reads_the_log_it_says_so_and_the_next_start_goes_on(path, kind):
    with_a_past(path)
    reader = subprocess.Popen([sys.executable, "-c", READER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert reader.stdout.readline() == b"reading\n"
        with agreeing(path, forgetting(kind), clock=Hurried()) as engine:
            [result] = engine.migrate().results
            assert result.success
            assert result.warnings[-1] == "what it erased is not gone from every file yet; the next start goes on"
            assert engine.status().erasures.unfinished == ("forget",)
            assert found_on_disk(path)
            assert engine.restore_points() == ()
        with agreeing(path, forgetting(kind), clock=Hurried()) as engine:
            assert engine.status().erasures.unfinished == ("forget",)
    finally:
        reader.communicate(b"\n", timeout=30)
    with agreeing(path, forgetting(kind)) as engine:
        nothing_is_left(path, engine)
        assert engine.status().erasures.unfinished == ()


def test_a_start_with_nothing_pending_goes_on_too_without_a_new_engine(path):
    with_a_past(path)
    reader = subprocess.Popen([sys.executable, "-c", READER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with agreeing(path, clock=Hurried()) as engine:
        try:
            assert reader.stdout.readline() == b"reading\n"
            engine.migrate()
        finally:
            reader.communicate(b"\n", timeout=30)
        assert engine.migrate() is None
        nothing_is_left(path, engine)


def fill_unseen(path, rows):
    """Rows that nobody queues for the cloud."""
    with opened(path, registry=registry_with(target="1.1.0")) as engine:
        engine.migrate()
        store = engine._store
        with store.transaction(), store.without_triggers():
            for row in rows:
                store.query("INSERT INTO notes VALUES (:user_id, :id, :text, :minutes)", row)


@pytest.mark.parametrize("kind", ["row function", "declared", "shadow", "shadow by SQL"])
def test_without_room_to_write_the_file_anew_what_it_deletes_itself_is_zeroed_at_once(path, kind):
    settings = Settings(restore_point_free_bytes_min=2**60)
    step = forgetting(kind, backup="never")
    fill_unseen(path, [marked(number, minutes=1.0) for number in range(200)])
    with agreeing(path, step, settings=settings) as engine:
        [result] = engine.migrate().results
        assert result.success
        assert engine.status().erasures.unfinished == ("forget",)
        assert found_on_disk(path) == []
    with agreeing(path, step) as engine:
        nothing_is_left(path, engine)


# Ways back.


def test_a_restore_point_that_is_doomed_is_no_way_back_even_while_its_file_is_there(path):
    with_a_past(path)
    killed_at(path, "row function", "erased what it holds")
    store = Store(str(path), settings=Settings(), clock=SystemClock())
    try:
        assert len(sealed_files(path)) == 3
        with pytest.raises(RestorePointUnknown):
            restore_point(store, 1)
    finally:
        store.close()


def test_a_copy_that_was_begun_before_is_no_restore_point(path):
    with_a_past(path)
    erased = []

    def erase_once():
        if not erased:
            erased.append(True)
            with engine._store.transaction():
                forget_before(engine._store, Blanking())

    with opened(path, registry=registry_with(target="1.1.0")) as engine:
        with pytest.raises(RestorePointImpossible, match="erased while it was made"):
            make_restore_point(engine._store, keys=key_of(path), reason="too late", between=erase_once)
        assert len(sealed_files(path)) == 2
        assert engine._store.query("SELECT count(*) FROM _sync_restore_point") == [(2,)]


def test_there_is_no_rollback_and_the_plan_says_why(path):
    with_a_past(path)
    with agreeing(path) as engine:
        engine.migrate()
        with pytest.raises(RollbackRefused, match="it has erased what was there before"):
            engine.migrations.rollback("forget", "ann", consent=["ann"])


def test_what_contradicts_it_is_refused_when_it_is_defined():
    step = forgetting()
    with pytest.raises(MigrationInvalid, match="has a way back"):
        step.down(nameless)
    with pytest.raises(MigrationInvalid, match="archives text"):
        declared(
            id="x",
            collection="notes",
            from_version="1.1.0",
            to_version="2.0.0",
            changes=(archive("text"),),
            erases=True,
        )
    with pytest.raises(MigrationInvalid, match="does not say erases=True"):
        declared(id="x", collection="notes", from_version="1.1.0", to_version="2.0.0", changes=(erase("text"),))


@pytest.mark.parametrize("facts", [{"scope": "user"}, {"online": True, "scope": "user"}, {"source": "phone"}])
def test_only_a_migration_of_all_rows_of_the_store_may_erase(facts):
    with pytest.raises(MigrationInvalid, match="not for all rows"):
        MigrationDefinition(
            id="x",
            name="",
            description="",
            from_version="1.0.0",
            to_version="2.0.0",
            collections=(),
            erases=True,
            **facts,
        )


def test_an_executor_with_an_undo_is_refused_when_it_is_registered_or_loaded():
    class Undoing(Blanking):
        def undo(self, work):
            pass

    registry = registry_with(target="1.1.0")
    with pytest.raises(MigrationInvalid, match="has a way back"):
        registry.register_migration("forget", Undoing())
    listed = MigrationRegistry(
        app="test",
        baseline="1.1.0",
        target="2.0.0",
        collections=[Collection("notes")],
        migrations=[ListedMigration("forget", "1.1.0 > 2.0.0", Undoing)],
    )
    with pytest.raises(MigrationInvalid, match="has a way back"):
        listed.get_migration_executor("forget")


def test_it_is_lossy_by_itself():
    assert forgetting().definition.lossy


# What people are told.


def test_the_user_is_asked_also_for_a_minor_version_and_nothing_goes_without_a_yes(path):
    with_a_past(path)
    step = migration(collection="notes", id="forget", from_version="1.1.0", to_version="1.2.0", erases=True)(nameless)
    asked = []

    def no(request):
        asked.append(request)
        return False

    with agreeing(path, step, target="1.2.0", consent=no) as engine:
        assert engine.migrate().deferred[0].migration_id == "forget"
        assert len(engine.restore_points()) == 2
    [preview] = asked[0].preview
    assert (preview.erases, preview.in_quarantine) == (True, 0)
    assert str(asked[0]).splitlines()[2:] == [
        "    nameless",
        "    what it holds now is erased for good: there is no way back",
        "  A restore point is made before, and deleted when it has succeeded, with all older ones.",
    ]
    unasked = migration(
        collection="notes", id="forget", from_version="1.1.0", to_version="1.2.0", erases=True, consent="auto"
    )(nameless)
    with opened(path, registry=registry_with(unasked, target="1.2.0")) as engine:
        assert engine.migrate().success


def test_the_plan_and_a_rehearsal_say_that_it_erases_and_what_stays_in_quarantine(path):
    fill_unseen(path, [marked(1, minutes=13.0), marked(2, minutes=1.0)])
    sentence = (
        "forget erases what notes held before: there is no way back, and restore points from before go. Rows of "
        "notes in quarantine may keep old values until each is retried or discarded: syncengine quarantine"
    )
    with agreeing(path) as engine:
        plan = engine.plan()
        assert "    forget  (store, offline, erases, asks first)" in str(plan).splitlines()
        assert f"  {sentence}" in str(plan).splitlines()
        assert plan.to_json()["steps"][-1]["erases"] is True
        rehearsal = engine.migrations.plan("ann", rehearse=True).rehearsal
        assert rehearsal.keeping_old_values == rehearsal.to_json()["keepingOldValues"] == 1
        assert f"  {sentence}" in str(rehearsal).splitlines()
        assert "  rows in quarantine that would keep old values: 1" in str(rehearsal).splitlines()
        assert engine._store.query("SELECT * FROM _sync_erasure") == []


def test_rows_in_quarantine_are_kept_and_named_until_each_is_discarded(path):
    fill_unseen(path, [marked(1, minutes=13.0), marked(2, minutes=1.0)])
    with agreeing(path) as engine:
        engine.migrate()
        [item] = engine.quarantine.items()
        assert MARKER in item.body
        assert engine.status().erasures.quarantined == (item.item_id,)
        assert found_on_disk(path) == ["app.db"]
    findings = {finding.check: finding for finding in examined(str(path))}
    assert "quarantine items hold old values: 1" in findings["erasures"].found
    with agreeing(path) as engine:
        engine.quarantine.discard(item.item_id, reason="to be forgotten")
        assert engine.status().erasures.quarantined == ()
        assert engine.quarantine.item(item.item_id).body == ""
        nothing_is_left(path, engine)
    assert {finding.check: finding.verdict.name for finding in examined(str(path))}["erasures"] == "OK"


def test_a_row_that_comes_back_from_quarantine_leaves_no_old_value(path):
    fill_unseen(path, [marked(1, minutes=13.0), marked(2, minutes=1.0)])
    with agreeing(path) as engine:
        engine.migrate()

    def mended(old: Note) -> Note:
        return Note(user_id=old.user_id, id=old.id, text=None, minutes=old.minutes)

    step = migration(collection="notes", id="forget", from_version="1.1.0", to_version="2.0.0", erases=True)(mended)
    with agreeing(path, step, settings=Settings(retry_quarantined=False)) as engine:
        assert engine.quarantine.retry(1).resolved
        assert engine._store.query("SELECT id, text FROM notes ORDER BY id") == [("n-00001", None), ("n-00002", None)]
        nothing_is_left(path, engine)


def test_what_was_resolved_before_needs_its_body_no_longer(path):
    fill(path, [marked(1, minutes=1.0)])
    with opened(path, registry=registry_with(target="1.1.0")) as engine, engine._store.transaction():
        engine._store.query(
            "INSERT INTO _sync_quarantine (origin, collection, body, body_original, error_code, error_text, "
            "resolution, created_at) "
            "VALUES ('migration', 'notes', ?, ?, '', '', 'discarded', '2020-01-01T00:00:00.000Z')",
            (MARKER, MARKER),
        )
    with agreeing(path) as engine:
        engine.migrate()
        assert engine._store.query("SELECT body, body_original FROM _sync_quarantine") == [("", None)]
        nothing_is_left(path, engine)


# What is on its way to the cloud.


def queue(engine, key, *, state, sequence):
    with engine._store.transaction():
        engine._store.query(
            "INSERT INTO _sync_outbox (owner, sequence, epoch, kind, collection, row_key, set_json, before_json, "
            "shape_version, group_id, state, created_ms) "
            "VALUES ('ann', ?, 1, 'put', 'notes', ?, ?, ?, '1.1.0', 1, ?, 1577836800000)",
            (sequence, key, json.dumps({"text": MARKER}), json.dumps({"text": MARKER}), state),
        )


def test_a_queued_row_without_a_number_is_read_anew_and_its_old_body_goes(path):
    with_a_past(path)
    with opened(path, registry=registry_with(target="1.1.0")) as engine:
        queue(engine, "n-00001", state="waiting", sequence=None)
    with agreeing(path, forgetting("executor")) as engine:
        engine.migrate()
        assert engine._store.query("SELECT set_json, before_json, shape_version FROM _sync_outbox") == [
            (None, None, "2.0.0")
        ]
        nothing_is_left(path, engine)


def test_what_may_be_at_the_cloud_stays_as_it_was_sent_and_goes_when_it_has_arrived(path):
    with_a_past(path)
    with opened(path, registry=registry_with(target="1.1.0")) as engine:
        queue(engine, "n-00001", state="claimed", sequence=1)
    with agreeing(path, forgetting("executor")) as engine:
        [result] = engine.migrate().results
        assert result.warnings[-1].startswith("what it erased is not gone from every file yet")
        assert engine._store.query("SELECT set_json IS NOT NULL, before_json FROM _sync_outbox") == [(1, None)]
        assert engine.status().erasures.unfinished == ("forget",)
        with engine._store.transaction():
            engine._store.query("DELETE FROM _sync_outbox")
    with agreeing(path) as engine:
        nothing_is_left(path, engine)


@pytest.mark.parametrize("kind", ["row function", "declared"])
def test_queued_edits_are_erased_with_their_rows(path, kind):
    fill(path, [marked(number, minutes=1.0) for number in range(20)])
    with opened(path, registry=registry_with(target="1.1.0")) as engine, engine.write() as db:
        db.execute("UPDATE notes SET text = text || ' again', minutes = 2")
    with agreeing(path, forgetting(kind)) as engine:
        [result] = engine.migrate().results
        assert result.warnings == ()
        assert engine._store.query("SELECT kind, set_json FROM _sync_outbox") == [("patch", '{"minutes":2.0}')] * 20
        nothing_is_left(path, engine)


# Who comes late.


def test_rows_of_a_user_who_comes_late_leave_nothing_either(path, tmp_path):
    def untitled(old: JourneyV2) -> JourneyV3:
        return JourneyV3(user_id=old.user_id, id=old.id, seconds=round(old.minutes * 60), title=None)

    phone = write_phone(tmp_path / "phone.json", [walk(n, title=f"{MARKER}-{n}") for n in range(1, 60)])
    steps = (make_v2(), ImportExecutor(), seconds_v3(untitled, erases=True))
    registry = registry_of(*steps, target="3.0.0")
    with Engine.open(path, registry=registry, consent=lambda request: True) as engine:
        engine.migrate()
        assert engine._store.query("SELECT count(*) FROM _sync_erasure") == [(1,)]
        point = make_restore_point(engine._store, keys=key_of(path), reason="in between").restore_point_id
    with Engine.open(path, registry=registry, user="ann", sources={"phone": phone}) as engine:
        assert engine.migrate().success
        assert engine._store.query("SELECT count(*), max(title) FROM journeys") == [(59, None)]
        told = engine._store.query("SELECT migration, scope, finished_at IS NOT NULL FROM _sync_erasure")
        assert told == [("seconds-v3", "store", 1), ("seconds-v3", "user:ann", 1)]
        assert point in [kept.restore_point_id for kept in engine.restore_points()]
        nothing_is_left(path, engine)
