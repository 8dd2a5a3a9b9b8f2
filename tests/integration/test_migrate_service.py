"""The service that apps and the command line use: order, status, single runs, cancelling, and what is heard."""

import json
from pathlib import Path

import pytest
from imports import PROFILE, ImportExecutor, make_v2, seconds_v3, upload_walks, walk, write_phone
from migrate_world import StoppedClock, dump, registry_of

from syncengine import (
    Engine,
    MigrationDefinition,
    MigrationResult,
    MigrationStatus,
    Settings,
    SystemClock,
    add,
    declared,
    tables,
    upload,
)
from syncengine.errors import MigrationFailed, MigrationInvalid, RegistryInvalid, StoreSuperseded
from syncengine.events import MigrationEnded, MigrationProgressed, MigrationStarted
from syncengine.migrate.definition import Counts
from syncengine.migrate.markers import move_markers
from syncengine.migrate.results import CompletedMigration, PendingMigration
from syncengine.outbox.capture import capture_off
from syncengine.outbox.row_set import know_row_sets

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "status"
NOTES = "CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (user_id, id)) STRICT"


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def column(name, *, from_version, to_version, **facts):
    """A migration that adds a column of its own id to the notes."""
    facts = {"id": name, "from_version": from_version, "to_version": to_version, **facts}
    return declared(collection="notes", changes=(add(name, "TEXT", default="x"),), **facts)


def make_notes(**facts):
    return tables(**{"id": "notes", "from_version": "1.0.0", "to_version": "2.0.0", "create": (NOTES,), **facts})


def columns(engine):
    return [row[0] for row in engine._store.query("SELECT name FROM pragma_table_info('notes')")][2:]


def history(engine):
    return [tuple(row) for row in engine._store.query("SELECT migration, state FROM _sync_run ORDER BY run_id")]


def fails(work):
    raise ValueError("a secret")


def failing(name, **facts):
    executor = column(name, **facts)
    executor.verify = fails
    return executor


# Order.


def test_skipped_versions_run_every_hop_in_order(tmp_path):
    steps = [
        column("d", from_version="3.0.0", to_version="3.1.0"),
        column("c", from_version="2.0.1", to_version="3.0.0"),
        column("b", from_version="2.0.0", to_version="2.0.1"),
        make_notes(),
    ]
    with Engine.open(tmp_path / "app.db", registry=registry_of(*steps, target="3.1.0")) as engine:
        engine.migrate()
        assert columns(engine) == ["b", "c", "d"]
        assert history(engine) == [(name, "completed") for name in ("notes", "b", "c", "d")]
        assert engine.migrations.get_current_schema_version() == "3.1.0"
        assert engine.migrate() is None


def test_a_store_of_the_version_between_runs_only_what_is_left(tmp_path):
    steps = [make_notes(), column("b", from_version="2.0.0", to_version="3.0.0")]
    with Engine.open(tmp_path / "app.db", registry=registry_of(*steps[:1])) as engine:
        engine.migrate()
    with Engine.open(tmp_path / "app.db", registry=registry_of(*steps, target="3.0.0")) as engine:
        assert [step.id for step in engine.plan().steps] == ["b"]
        engine.migrate()
        assert engine.migrations.has_migrated()


def squash():
    return tables(
        id="all-at-once",
        from_version="1.0.0",
        to_version="3.0.0",
        create=(NOTES.replace("id TEXT NOT NULL, P", "id TEXT NOT NULL, b TEXT NOT NULL DEFAULT 'x', P"),),
    )


def squashing_registry():
    edge = squash()
    edge.definition = MigrationDefinition(
        id="all-at-once",
        name="",
        description="",
        from_version="1.0.0",
        to_version="3.0.0",
        collections=("notes",),
        stands_for=("notes", "b"),
    )
    return registry_of(make_notes(), column("b", from_version="2.0.0", to_version="3.0.0"), edge, target="3.0.0")


def test_a_squash_edge_is_taken_from_the_start_and_records_what_it_stands_for(tmp_path):
    with Engine.open(tmp_path / "app.db", registry=squashing_registry()) as engine:
        engine.migrate()
        assert columns(engine) == ["b"]
        assert sorted(history(engine)) == [("all-at-once", "completed"), ("b", "stood_for"), ("notes", "stood_for")]
        assert engine.migrations.get_migration_status().pending == ()


def test_a_store_that_has_gone_the_long_way_is_not_led_over_the_squash_edge_for_a_new_user(tmp_path):
    with Engine.open(tmp_path / "app.db", registry=registry_of(make_notes())) as engine:
        engine.migrate()
    with Engine.open(tmp_path / "app.db", registry=squashing_registry(), user="bob") as engine:
        assert [step.id for step in engine.plan().steps] == ["b"]
        assert engine.migrate().success
        assert columns(engine) == ["b"]
        assert engine.migrations.get_current_schema_version("bob") == "3.0.0"
        assert engine.migrations.get_migration_status("bob").pending == ()
        assert engine.migrate() is None


def branch_registry(target="2.0.0"):
    """1.0.0 and its hotfix 1.0.1 both lead to 2.0.0."""
    steps = [
        make_notes(id="notes-1", from_version="0.9.0", to_version="1.0.0"),
        column("hotfix", from_version="1.0.0", to_version="1.0.1"),
        column("main", from_version="1.0.0", to_version="2.0.0"),
        column("after_hotfix", from_version="1.0.1", to_version="2.0.0"),
    ]
    return registry_of(*steps, baseline="0.9.0", target=target)


def test_a_hotfix_branch_leads_to_the_newest_version_by_its_own_way(tmp_path):
    with Engine.open(tmp_path / "fixed.db", registry=branch_registry("1.0.1")) as engine:
        engine.migrate()
        assert engine.migrations.get_current_schema_version() == "1.0.1"
    for name, way in (("fixed.db", ["hotfix", "after_hotfix"]), ("plain.db", ["main"])):
        with Engine.open(tmp_path / name, registry=branch_registry(), user="ann") as engine:
            engine.migrate()
            assert columns(engine) == way
            assert engine.migrations.get_current_schema_version("ann") == "2.0.0"
            assert engine.migrations.get_migration_status("ann").pending == ()
            assert engine.status().migration.pending == 0
            assert engine.migrate() is None


@pytest.mark.parametrize("version", ["9.0.0", "2.0.5", "1.5.0"])
def test_a_version_that_the_app_does_not_know_is_left_as_it_is(tmp_path, version):
    with Engine.open(tmp_path / "app.db", registry=registry_of(make_notes()), user="ann") as engine:
        with engine._store.transaction():
            engine._store.run(
                "state", "write_schema_version", scope="store", schema_version=version, app_version="9", now=""
            )
        before = dump(engine._store, without=())
        assert "superseded" in str(engine.plan())
        assert engine.plan().steps == ()
        assert not engine.migrations.has_migrated("ann")
        with pytest.raises(StoreSuperseded):
            engine.migrate()
        with pytest.raises(MigrationInvalid):
            engine.migrations.execute_migration("notes")
        assert dump(engine._store, without=()) == before


def test_a_plan_made_before_another_process_went_another_way_is_not_carried_out(tmp_path):
    with Engine.open(tmp_path / "app.db", registry=registry_of(make_notes())) as engine:
        plan = engine.plan()
        with engine._store.transaction():
            engine._store.run(
                "state", "write_schema_version", scope="store", schema_version="2.0.0", app_version="2", now=""
            )
        from syncengine.migrate.run import run_step

        with pytest.raises(StoreSuperseded):
            run_step(plan.steps[0], engine.migrations._context(None, {}))
        assert engine._store.query("SELECT count(*) FROM sqlite_schema WHERE name = 'notes'") == [(0,)]


# What happens after a failure.


def test_a_failed_migration_holds_back_what_waits_for_it_and_nothing_else(tmp_path):
    hop, next_hop = (
        {"from_version": "2.0.0", "to_version": "3.0.0"},
        {"from_version": "3.0.0", "to_version": "4.0.0"},
    )
    steps = [
        make_notes(),
        failing("bad", **hop),
        column("dependant", after=("bad",), **hop),
        column("other", **hop),
        column("later", **next_hop),
        tables(id="loose", create=("CREATE TABLE loose (id TEXT PRIMARY KEY) STRICT",), **next_hop),
    ]
    with Engine.open(tmp_path / "app.db", registry=registry_of(*steps, target="4.0.0")) as engine:
        report = engine.migrate()
        # `later` would find the notes in another shape than it expects; the table of another collection would not.
        assert (report.success, report.blocked) == (False, ("dependant", "later"))
        assert columns(engine) == ["other"]
        ran = [("notes", "completed"), ("bad", "failed"), ("other", "completed"), ("loose", "completed")]
        assert history(engine) == ran
        assert engine.migrations.get_current_schema_version() == "2.0.0"
        assert [step.id for step in engine.plan().steps] == ["bad", "dependant", "later"]
        assert "secret" not in repr(engine._store.query("SELECT * FROM _sync_run"))
        steps[1].verify = lambda work: None
        assert engine.migrate().success
        assert columns(engine) == ["other", "bad", "dependant", "later"]
        assert engine.migrations.get_current_schema_version() == "4.0.0"


def test_after_a_critical_failure_nothing_more_is_run_and_the_app_hears_it(tmp_path):
    hop = {"from_version": "2.0.0", "to_version": "3.0.0"}
    steps = [make_notes(), failing("bad", critical=True, **hop), column("other", **hop)]
    with Engine.open(tmp_path / "app.db", registry=registry_of(*steps, target="3.0.0")) as engine:
        with pytest.raises(MigrationFailed) as failed:
            engine.migrate()
        assert "secret" not in str(failed.value)
        assert columns(engine) == []


# Single runs and markers.


@pytest.fixture
def phone_engine(tmp_path):
    walks = [walk(n) for n in range(9)] + [walk(10, 13)]
    phone = write_phone(tmp_path / "phone.json", walks)
    registry = registry_of(
        make_v2(PROFILE),
        ImportExecutor(),
        upload_walks(),
        seconds_v3(),
        target="3.0.0",
        profile=("profile", "status"),
    )
    with Engine.open(
        tmp_path / "app.db",
        registry=registry,
        user="ann",
        sources={"phone": str(phone)},
        clock=StoppedClock(),
        settings=Settings(batch_rows=4),
    ) as engine:
        yield engine


@pytest.mark.parametrize("good", [True, False])
def test_foreign_keys_and_the_wait_for_others_are_as_before_after_a_run(tmp_path, good):
    change = column if good else failing
    steps = [make_notes(), change("b", from_version="2.0.0", to_version="3.0.0")]
    with Engine.open(tmp_path / "app.db", registry=registry_of(*steps, target="3.0.0")) as engine:
        assert engine.migrate().success is good
        pragmas = ("foreign_keys", "busy_timeout", "legacy_alter_table", "synchronous")
        assert [engine._store.query(f"PRAGMA {name}")[0][0] for name in pragmas] == [1, 5000, 0, 1]


def test_single_migrations_keep_the_order(phone_engine):
    service = phone_engine.migrations
    for early in ("import-walks", "seconds-v3", "upload-walks"):
        with pytest.raises(MigrationInvalid):
            service.execute_migration(early, "ann")
    assert service.execute_migration("tables-v2").state == "completed"
    assert service.execute_migration("tables-v2").state == "already"
    with pytest.raises(MigrationInvalid):
        service.execute_migration("import-walks")
    assert service.executor("import-walks").execute("ann", {}).counts == Counts(read=10, written=9, quarantined=1)
    assert service.execute_migration("upload-walks", "ann").state == "queued"
    assert service.execute_migration("seconds-v3", "ann").success
    assert service.has_migrated("ann")
    with pytest.raises(RegistryInvalid):
        service.execute_migration("nothing")


def test_a_migration_done_by_other_means_is_marked_and_not_run(phone_engine):
    service = phone_engine.migrations
    service.execute_migration("tables-v2")
    with pytest.raises(MigrationInvalid):
        service.mark_migration_complete(None, "import-walks")
    for _ in range(2):
        service.mark_migration_complete("ann", "import-walks")
    phone_engine.migrate()
    assert phone_engine._store.query("SELECT count(*) FROM journeys") == [(0,)]
    assert history(phone_engine).count(("import-walks", "completed")) == 1


def test_the_marker_never_says_more_than_the_data(phone_engine):
    service = phone_engine.migrations
    with pytest.raises(MigrationInvalid):
        service.update_schema_version("2.0.0")
    service.execute_migration("tables-v2")
    assert service.update_schema_version("2.0.0") == "2.0.0"
    with pytest.raises(MigrationInvalid):
        service.update_schema_version("2.0.0", "ann")
    with pytest.raises(ValueError, match="not a schema version"):
        service.update_schema_version("two")
    assert service.get_current_schema_version("ann") == "1.0.0"


def test_stored_rows_are_checked_against_their_present_shape(phone_engine):
    phone_engine.migrate()
    service = phone_engine.migrations
    assert service.validate_migrated_data("ann", "journeys").counts == Counts(read=9, written=9)
    with phone_engine._store.transaction():
        phone_engine._store.query("ALTER TABLE journeys RENAME TO old")
        phone_engine._store.query("CREATE TABLE journeys AS SELECT * FROM old")
        phone_engine._store.query("UPDATE journeys SET seconds = 'a secret' WHERE id = 'w-00003'")
        phone_engine._store.query("INSERT INTO journeys SELECT 'bob', id, 'wrong', title FROM old LIMIT 1")
    before = dump(phone_engine._store, without=())
    found = service.validate_migrated_data("ann", "seconds-v3")
    assert (found.success, found.counts) == (False, Counts(read=9, written=8, quarantined=1))
    assert found.errors == ("journeys w-00003: seconds: Input should be a valid integer",)
    assert service.validate_migrated_data(None, "journeys").counts.quarantined == 2
    with pytest.raises(RegistryInvalid):
        service.validate_migrated_data("ann", "nothing")
    assert dump(phone_engine._store, without=()) == before


def test_cancelling_between_batches_leaves_the_store_as_it_was_and_the_next_run_completes(phone_engine):
    service = phone_engine.migrations
    service.execute_migration("tables-v2")
    before = dump(phone_engine._store)
    heard = []

    def cancel_on_progress(event):
        heard.append(event)
        if isinstance(event, MigrationProgressed) and event.migration == "import-walks":
            service.cancel()

    service._listener = cancel_on_progress
    report = service.migrate_all_data("ann")
    assert [result.state for result in report.results] == ["cancelled"]
    assert not report.success
    assert dump(phone_engine._store) == before
    assert heard[-1] == MigrationEnded(migration="import-walks", success=False, stats={"itemsProcessed": 4})
    service._listener = None
    # A single run after a cancelled one is not cancelled too.
    assert service.execute_migration("import-walks", "ann").state == "completed"
    assert service.migrate_all_data("ann").success


# What is said.


def test_the_definition_the_status_and_the_result_have_exactly_the_keys_of_the_design():
    definition = MigrationDefinition(
        id="journey-storage-v1-to-v2",
        name="Journey Storage Migration V1 to V2",
        description="Migrates journey data from AsyncStorage to Firestore",
        from_version="1.0.0",
        to_version="2.0.0",
        collections=("journeys",),
        critical=True,
    )
    status = MigrationStatus(
        user="user123",
        completed=(
            CompletedMigration(
                id=definition.id,
                completed_at="2025-07-21T15:30:00.000Z",
                success=True,
                counts=Counts(read=42, written=42),
                duration_ms=3500,
            ),
        ),
        pending=(PendingMigration(id="places-schema-v2-to-v3", required_for_version="3.0.0"),),
        current_schema_version="2.0.0",
        target_schema_version="3.0.0",
    )
    result = MigrationResult(
        success=True,
        migration_id=definition.id,
        scope="user:user123",
        state="completed",
        counts=Counts(read=42, written=42),
        duration_ms=3500,
    )
    assert definition.to_json() == golden("migration_definition")
    assert status.to_json() == golden("migration_status")
    assert result.to_json() == golden("migration_result")


def test_a_result_counts_what_failed_among_what_was_processed(phone_engine):
    phone_engine.migrations.execute_migration("tables-v2")
    said = phone_engine.migrations.execute_migration("import-walks", "ann").to_json()
    assert said["stats"] == {"totalItems": 10, "processedItems": 10, "failedItems": 1, "duration": 0}
    line = phone_engine.migrations.get_migration_status("ann").to_json()["completedMigrations"][-1]
    assert line["stats"] == {"itemsProcessed": 10, "itemsSucceeded": 9, "itemsFailed": 1, "duration": 0}


def test_the_users_profile_row_holds_the_status_of_the_same_moment(phone_engine):
    service = phone_engine.migrations
    service.execute_migration("tables-v2")
    with phone_engine._store.transaction():
        for user in ("ann", "bob"):
            phone_engine._store.query("INSERT INTO profile VALUES (?, 'me', NULL)", (user,))
    phone_engine.migrate()
    [(anns,), (bobs,)] = phone_engine._store.query("SELECT status FROM profile ORDER BY user_id")
    assert json.loads(anns) == service.get_migration_status("ann").to_json()
    assert json.loads(anns)["currentSchemaVersion"] == "3.0.0"
    assert bobs is None


def test_the_status_in_a_profile_that_the_cloud_has_never_heard_of_is_not_sent_as_a_change_of_it(phone_engine):
    phone_engine.migrations.execute_migration("tables-v2")
    store = phone_engine._store
    with store.transaction(), capture_off(store, ("profile",)):
        store.query("INSERT INTO profile VALUES ('ann', 'me', NULL)")  # as an import does
    phone_engine.migrate()
    assert store.query("SELECT kind FROM _sync_outbox WHERE collection = 'profile'") == []
    with store.transaction():
        know_row_sets(store, owner="ann", collections=["profile"])
        store.query(
            "INSERT INTO _sync_row (row_set_id, collection, owner, row_key, version, shape_version)"
            " SELECT row_set_id, collection, owner, 'me', 1, '2.0.0' FROM _sync_row_set"
        )
        move_markers(store, phone_engine._registry, user="ann")
        store.query("UPDATE profile SET status = NULL")
        move_markers(store, phone_engine._registry, user="ann")
    assert store.query("SELECT DISTINCT kind FROM _sync_outbox WHERE collection = 'profile'") == [("patch",)]


def test_pending_is_what_this_way_still_needs_and_queued_is_said(phone_engine):
    status = phone_engine.migrations.get_migration_status("ann")
    assert [pending.id for pending in status.pending] == ["tables-v2", "import-walks", "upload-walks", "seconds-v3"]
    phone_engine.migrate()
    [left] = phone_engine.migrations.get_migration_status("ann").pending
    assert (left.id, left.queued) == ("upload-walks", True)
    assert phone_engine.migrations.has_migrated("ann")


class SlowClock(SystemClock):
    """Each look at it takes so long."""

    def __init__(self, step_ms):
        self.step_ms = step_ms
        self.at_ms = 0

    def monotonic_ms(self):
        self.at_ms += self.step_ms
        return self.at_ms


def listen(tmp_path, clock, walks):
    phone = write_phone(tmp_path / "phone.json", walks)
    heard = []
    registry = registry_of(make_v2(), ImportExecutor(), upload_walks(), seconds_v3(), target="3.0.0")
    with Engine.open(
        tmp_path / "app.db",
        registry=registry,
        user="ann",
        sources={"phone": str(phone)},
        clock=clock,
        settings=Settings(batch_rows=1),
        listener=heard.append,
    ) as engine:
        engine.migrate()
        progress = engine.migrations.progress_of("seconds-v3")
    return heard, progress


def test_each_run_begins_and_ends_under_its_own_name_and_its_counts_only_grow(tmp_path):
    heard, progress = listen(tmp_path, SlowClock(1_000), [walk(n) for n in range(30)])
    ids = ["tables-v2", "import-walks", "upload-walks", "seconds-v3"]
    assert [event.migration for event in heard if isinstance(event, MigrationStarted)] == ids
    assert [event.migration for event in heard if isinstance(event, MigrationEnded)] == ids
    for name in ids:
        mine = [event for event in heard if getattr(event, "migration", "") == name]
        assert isinstance(mine[0], MigrationStarted)
        assert isinstance(mine[-1], MigrationEnded)
        done = [event.done for event in mine[1:-1]]
        assert done == sorted(done)
    # An import cannot know how many there will be; a table can.
    totals = {event.migration: event.total for event in heard if isinstance(event, MigrationStarted)}
    assert (totals["import-walks"], totals["seconds-v3"]) == (None, 30)
    assert (progress.done, progress.total, progress.percent, progress.ended) == (30, 30, 100, True)


def test_the_last_progress_is_the_whole_even_when_nothing_was_said_on_the_way(tmp_path):
    _, progress = listen(tmp_path, StoppedClock(), [walk(n) for n in range(30)])
    assert (progress.done, progress.percent) == (30, 100)


def test_progress_is_said_ten_times_a_second_at_most(tmp_path):
    clock = SlowClock(7)
    begun_ms = clock.monotonic_ms()
    heard, _ = listen(tmp_path, clock, [walk(n) for n in range(300)])
    mine = [event for event in heard if isinstance(event, MigrationProgressed) and event.migration == "seconds-v3"]
    took_ms = clock.monotonic_ms() - begun_ms
    assert 1 < len(mine) <= took_ms / 100 + 2
    assert len(mine) < 300, "there were 300 batches"


def test_a_run_that_fails_before_its_first_row_ends_under_its_own_name(tmp_path):
    heard = []
    bad = declared(
        id="bad", collection="notes", from_version="2.0.0", to_version="3.0.0", changes=(add("id", "TEXT"),)
    )
    with Engine.open(
        tmp_path / "app.db", registry=registry_of(make_notes(), bad, target="3.0.0"), listener=heard.append
    ) as engine:
        assert not engine.migrate().success
    *_, started, ended, message = heard
    assert started == MigrationStarted(migration="bad", total=None)
    assert ended == MigrationEnded(migration="bad", success=False, stats={"itemsProcessed": 0})
    assert message.type == "error"


def test_a_late_users_import_is_one_run_to_the_listener(tmp_path):
    listen(tmp_path, StoppedClock(), [])
    phone, heard = write_phone(tmp_path / "other.json", [walk(1)]), []
    registry = registry_of(make_v2(), ImportExecutor(), upload_walks(), seconds_v3(), target="3.0.0")
    with Engine.open(
        tmp_path / "app.db", registry=registry, user="bob", sources={"phone": str(phone)}, listener=heard.append
    ) as engine:
        engine.migrate()
    names = [event.migration for event in heard if not isinstance(event, MigrationProgressed)]
    assert names == ["import-walks", "import-walks", "upload-walks", "upload-walks"]


def test_a_listener_that_raises_harms_nothing(tmp_path, caplog):
    def listener(event):
        raise RuntimeError("a secret")

    with Engine.open(tmp_path / "app.db", registry=registry_of(make_notes()), listener=listener) as engine:
        assert engine.migrate().success
        assert columns(engine) == []
    assert "a listener failed" in caplog.text
    assert "secret" not in caplog.text


def test_an_upload_of_nothing_is_queued_for_the_cloud_all_the_same(tmp_path):
    steps = [make_notes(), upload(id="up", from_version="1.0.0", to_version="2.0.0", collections=("notes",))]
    with Engine.open(tmp_path / "app.db", registry=registry_of(*steps), user="ann") as engine:
        report = engine.migrate()
        assert report.queued == ("up",)
        assert engine._store.query("SELECT kind, migration FROM _sync_outbox") == [
            ("migration", "cloud-version-2.0.0")
        ]
        assert engine.plan().queued == ("up",)
        assert str(engine.plan()) == "2.0.0: nothing to do; 1 queued for the cloud"
