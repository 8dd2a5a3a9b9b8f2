"""What is skipped, left for the background or paused holds back only what waits for it, and is taken up again."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from flow_world import FOUR, THREE, WalkThrough, column, columns, filled, history, registry
from shadow_world import ShadowWorld

from syncengine import Engine, Settings, SystemClock, tables
from syncengine.errors import CollectionNotReady, MigrationInvalid
from syncengine.events import MigrationProgressed, MigrationStarted, MigrationStopped

ROOT = Path(__file__).resolve().parents[2]
TAGS = "CREATE TABLE loose (id TEXT PRIMARY KEY) STRICT"


def states(engine):
    return {name: state.state for name, state in engine.status().collections.items()}


# Failing.


class Fails(WalkThrough):
    """Its own mistake, and no row's."""

    def convert(self, item, work) -> None:
        raise MemoryError("what a user wrote")


def test_a_failure_that_is_not_critical_raises_nothing_and_is_told_with_its_reason_wherever_one_looks(tmp_path):
    steps = [Fails(1, id="fails"), column("later", **FOUR), tables(id="tags", create=(TAGS,), **FOUR)]
    why = "Migration fails failed at batch 1: MemoryError in the migration's code: convert, test_flow.py line "
    with Engine.open(filled(tmp_path / "app.db"), registry=registry(*steps, target="4.0.0")) as engine:
        assert engine.status().migration.failed == ()
        report = engine.migrate()
        assert [result.migration_id for result in report.failed] == ["fails"]
        [failed] = engine.status().migration.failed
        assert (failed.id, failed.scope) == ("fails", "store")
        told = [repr(report), repr(report.failed[0]), failed.why, repr(engine.status())]
        told += [str(engine.migrations.history()[-2].error_text)]
        with pytest.raises(CollectionNotReady) as refused, engine.write() as db:
            db["notes"].insert({"user_id": "ann", "id": "n-9"})
        assert refused.value.why.startswith(why.replace("Migration", "migration"))
        assert "the next engine.migrate() runs it again" in refused.value.fix
        assert [states(engine)[name] for name in ("notes", "loose")] == ["blocked", "usable"]
    assert all(why in text for text in told), told
    assert not any("what a user wrote" in text for text in told)


def test_a_failure_is_not_told_any_more_once_the_mended_migration_has_run(tmp_path):
    path = filled(tmp_path / "app.db")
    with Engine.open(path, registry=registry(Fails(1, id="fails"))) as engine:
        assert not engine.migrate().success
    with Engine.open(path, registry=registry(WalkThrough(1, id="fails"))) as engine:
        assert engine.migrate().failed == ()
        assert engine.status().migration.failed == ()
        assert "failed" not in repr(engine.status())


# Skipping.


def test_what_is_skipped_holds_back_its_dependants_and_later_hops_of_its_collection_and_nothing_else(tmp_path):
    steps = [
        column("skipped"),
        column("dependant", collection="places", after=("skipped",)),
        column("same_hop"),
        column("later", **FOUR),
        column("later_elsewhere", collection="places", **FOUR),
        tables(id="tags", create=(TAGS,), **FOUR),
    ]
    with Engine.open(filled(tmp_path / "app.db"), registry=registry(*steps, target="4.0.0")) as engine:
        engine.migrations.skip("skipped", None, "the users of this device do not need it")
        report = engine.migrate()
        assert [result.migration_id for result in report.results] == ["same_hop", "tags"]
        assert report.blocked == ("dependant", "later", "later_elsewhere")
        assert ("skipped", "skipped") in history(engine)
        assert [step.id for step in engine.plan().skipped] == ["skipped"]
        assert engine.migrations.get_current_schema_version() == "2.0.0"  # along completed hops only
        assert (states(engine)["notes"], states(engine)["loose"]) == ("blocked", "usable")
        assert "was skipped" in engine.status().collections["notes"].why
        # Run by its name, it is skipped no more, and the rest follows.
        assert engine.migrations.run(only="skipped").success
        assert engine.migrate().success
        assert engine.migrations.get_current_schema_version() == "4.0.0"
        assert set(states(engine).values()) == {"usable"}


def test_the_reason_of_a_skip_is_in_the_history(tmp_path):
    with Engine.open(filled(tmp_path / "app.db"), registry=registry(column("c"))) as engine:
        for _ in range(2):
            engine.migrations.skip("c", None, "waits for the new phone")
        rows = engine._store.query("SELECT method, warnings FROM _sync_run WHERE state = 'skipped'")
    assert rows == [("by_hand", '["waits for the new phone"]')]


def test_a_critical_migration_a_done_one_and_one_without_a_reason_cannot_be_skipped(tmp_path):
    steps = [column("critical", critical=True), column("c"), WalkThrough(1, scope="user", id="mine")]
    with Engine.open(filled(tmp_path / "app.db"), registry=registry(*steps)) as engine:
        for name, user, reason in (
            ("critical", None, "x"),
            ("make", None, "x"),
            ("c", None, " "),
            ("mine", None, "whose?"),
        ):
            with pytest.raises(MigrationInvalid):
                engine.migrations.skip(name, user, reason)
        engine.migrations.skip("mine", "ann", "ann has none")
        assert [step.id for step in engine.migrations.plan("bob").steps if step.scope != "store"] == ["mine"]
        assert [step.id for step in engine.migrations.plan("ann").skipped] == ["mine"]
        assert "skipped" not in dict(history(engine)[:-1]).values()


# Readiness.


@pytest.fixture
def half_ready(tmp_path):
    """At 2.0.0: the notes wait for a migration, the places do not."""
    bad = column("bad")
    bad.verify = lambda work: 1 / 0
    with Engine.open(filled(tmp_path / "app.db"), registry=registry(bad)) as engine:
        assert not engine.migrate().success
        yield engine


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM notes",
        "SELECT id FROM Notes",
        "SELECT * FROM places WHERE id IN (SELECT id FROM notes)",
        "SELECT * FROM all_notes",
    ],
)
def test_reading_a_collection_that_is_not_ready_is_refused_by_name_with_what_to_do(half_ready, sql):
    with half_ready._store.transaction():
        half_ready._store.query("CREATE VIEW all_notes AS SELECT * FROM notes")
    with half_ready.read() as db, pytest.raises(CollectionNotReady, match="notes is not ready") as refused:
        db.execute(sql).fetchall()
    assert "bad failed" in refused.value.why
    assert "syncengine history" in refused.value.fix


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO notes VALUES ('ann', 'new')",
        "UPDATE notes SET id = 'x'",
        "DELETE FROM notes",
        "DROP TABLE notes",
        "ALTER TABLE notes ADD COLUMN more TEXT",
        "INSERT INTO places SELECT user_id, id FROM notes",
    ],
)
def test_writing_a_collection_that_is_not_ready_is_refused_and_nothing_of_the_block_is_kept(half_ready, sql):
    def write():
        with half_ready.write() as db:
            db.execute("INSERT INTO places VALUES ('ann', 'p-1')")
            db.execute(sql)

    with pytest.raises(CollectionNotReady, match="notes is not ready"):
        write()
    with half_ready.read() as db:
        assert db["places"].count == 0


def test_the_other_collections_work_meanwhile(half_ready):
    with half_ready.write() as db:
        db["places"].insert({"user_id": "ann", "id": "p-1"})
    with half_ready.read() as db:
        assert [row["id"] for row in db["places"].rows] == ["p-1"]
    assert states(half_ready)["places"] == "usable"


def test_a_table_that_is_still_to_be_made_is_not_ready_and_cannot_be_made_by_the_app(tmp_path):
    make_tags = tables(id="tags", create=(TAGS,), critical=False, after=("bad",), **THREE)
    bad = column("bad")
    bad.verify = lambda work: 1 / 0
    with Engine.open(filled(tmp_path / "app.db"), registry=registry(bad, make_tags)) as engine:
        engine.migrate()
        with pytest.raises(CollectionNotReady, match="loose is not ready"), engine.read() as db:
            db.execute("SELECT * FROM loose")
        with pytest.raises(CollectionNotReady, match="loose is not ready"), engine.write() as db:
            db["loose"].insert({"id": "mine"})


# The background.


def background_registry(*more):
    slow = WalkThrough(40, id="slow", when="background")
    return slow, registry(column("now"), slow, *more)


def test_what_is_for_the_background_is_left_by_migrate_and_its_collection_stays_usable(tmp_path):
    slow, known = background_registry(column("after_slow", after=("slow",)))
    with Engine.open(filled(tmp_path / "app.db"), registry=known) as engine:
        report = engine.migrate()
        assert (report.success, report.background, columns(engine)) == (True, ("slow", "after_slow"), ["now"])
        assert slow.looked == []
        assert states(engine)["places"] == "usable"
        assert engine.migrations.run_background().success
        assert (len(slow.looked), columns(engine)) == (40, ["now", "after_slow"])
        assert engine.migrate() is None


def test_start_runs_the_background_beside_the_app_without_a_cloud(tmp_path):
    done = threading.Event()
    slow, known = background_registry()

    def hear(event):
        if isinstance(event, MigrationStarted) and event.migration == "slow":
            assert threading.current_thread().name == "syncengine-background"
            done.set()

    with Engine.open(filled(tmp_path / "app.db"), registry=known, listener=hear) as engine:
        engine.migrate()
        engine.start()
        engine.start()
        assert done.wait(20)
        with engine.write() as db:
            db["notes"].insert({"user_id": "ann", "id": "meanwhile", "now": "x"})
        engine._session.background._thread.join(20)
        assert engine.migrate() is None
    assert len(slow.looked) == 40


def test_closing_stops_the_background_in_time_and_the_next_start_does_it(tmp_path):
    path, begun, go_on = filled(tmp_path / "app.db"), threading.Event(), threading.Event()
    slow, known = background_registry()

    def hear(event):
        if isinstance(event, MigrationProgressed) and event.migration == "slow":
            begun.set()
            go_on.wait(20)

    engine = Engine.open(path, registry=known, listener=hear, settings=Settings(batch_rows=1))
    engine.migrate()
    engine.start()
    assert begun.wait(20)
    closing = threading.Thread(target=engine.close)
    closing.start()
    go_on.set()
    closing.join(20)
    assert not closing.is_alive()
    assert not engine._session.background.is_running
    assert 0 < len(slow.looked) < 40
    slow.looked.clear()
    with Engine.open(path, registry=known) as engine:
        assert engine.migrations.run_background().success
        assert len(slow.looked) == 40


# Pause, resume, cancel.


def pausing(engine, word):
    def hear(event):
        if isinstance(event, MigrationProgressed) and event.migration == "walk" and event.done >= 3:
            getattr(engine.migrations, word)()

    return hear


def test_a_pause_stops_between_two_batches_lasts_and_ends_with_resume(tmp_path):
    walk, told = WalkThrough(50), []
    given = {"registry": registry(column("first"), walk), "settings": Settings(batch_rows=1)}
    with Engine.open(filled(tmp_path / "app.db"), analytics=told.append, clock=Ticks(), **given) as engine:
        engine.migrations._listener = pausing(engine, "pause")
        report = engine.migrate()
        looked = len(walk.looked)
        assert (report.paused, report.success) == (True, False)
        assert 3 <= looked < 50
        assert [result.state for result in report.results] == ["completed", "paused"]
        assert MigrationStopped(migration="walk", state="paused") in told
        again = engine.migrate()
        assert (again.paused, again.results, len(walk.looked)) == (True, (), looked)
        engine.migrations._listener = None
        engine.migrations.resume()
        assert engine.migrate().success
        assert len(walk.looked) == looked + 50  # a small migration is done whole


class Ticks(SystemClock):
    """Each look at it takes a second, so that every batch is reported."""

    at_ms = 0

    def monotonic_ms(self):
        self.at_ms += 1_000
        return self.at_ms


def test_a_cancel_is_for_one_run_and_the_next_one_is_not_cancelled(tmp_path):
    walk, told = WalkThrough(50), []
    given = {"registry": registry(walk, column("z")), "settings": Settings(batch_rows=1), "clock": Ticks()}
    with Engine.open(filled(tmp_path / "app.db"), analytics=told.append, **given) as engine:
        engine.migrations._listener = pausing(engine, "cancel")
        report = engine.migrate()
        assert [result.state for result in report.results] == ["cancelled"]
        assert not report.paused
        assert MigrationStopped(migration="walk", state="cancelled") in told
        engine.migrations._listener = None
        assert engine.migrate().success


def test_pause_comes_from_any_thread_and_waits_for_no_more_than_a_batch(tmp_path):
    walk, begun = WalkThrough(10_000), threading.Event()

    def hear(event):
        if isinstance(event, MigrationProgressed):
            begun.set()

    given = {"registry": registry(walk), "settings": Settings(batch_rows=1), "listener": hear}
    with Engine.open(filled(tmp_path / "app.db"), **given) as engine:
        reports = []
        running = threading.Thread(target=lambda: reports.append(engine.migrate()))
        running.start()
        assert begun.wait(20)
        engine.migrations.pause()
        running.join(20)
        assert reports[0].paused
        assert len(walk.looked) < 10_000


OTHER_PROCESS = """
import sys
from imports import make_v2, seconds_v3
from migrate_world import registry_of
from syncengine import Engine

registry = registry_of(make_v2(), seconds_v3(), target="3.0.0")
with Engine.open(sys.argv[1], registry=registry) as engine:
    print(engine.status().collections["journeys"].why)
    getattr(engine.migrations, sys.argv[2])()
"""


@pytest.mark.parametrize(("word", "state"), [("pause", "paused"), ("cancel", "cancelled")])
def test_another_process_sees_that_a_collection_is_rewritten_and_may_stop_it(tmp_path, word, state):
    world, said = ShadowWorld(tmp_path), []

    def ask(number):
        if number == 3:
            command = [sys.executable, "-c", OTHER_PROCESS, str(world.path), word]
            path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "integration")])
            environment = {**os.environ, "PYTHONPATH": path}
            said.append(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)

    with world.open(between=ask) as engine:
        report = engine.migrate()
        assert [result.state for result in report.results] == [state]
        assert report.results[0].batches < 10
    assert said == ["migration seconds-v3 is rewriting it: 30 of 100 rows\n"]
    with world.open() as engine:
        engine.migrations.resume()
        assert engine.migrate().success
        assert engine.status().collections["journeys"].state == "usable"


# What a settings page shows.


def keys_of(value):
    """The keys of JSON at every level; of a list those of its first element."""
    if isinstance(value, dict):
        return {name: keys_of(inner) for name, inner in value.items()}
    return [keys_of(value[0])] if isinstance(value, list) and value else type(value).__name__


@pytest.mark.parametrize("name", ["migration_status", "migration_result"])
def test_what_a_real_run_gives_has_exactly_the_keys_of_the_design(tmp_path, name):
    steps = [WalkThrough(3, scope="user"), column("later", critical=True, **FOUR)]
    steps[1].verify = lambda work: 1 / 0
    path = filled(tmp_path / "app.db")
    with Engine.open(path, registry=registry(*steps, target="4.0.0"), user="ann") as engine:
        report = engine.migrations.run("ann")
        status = engine.migrations.status("ann").to_json()
        found = {"migration_status": status, "migration_result": report.results[0].to_json()}[name]
    design = json.loads((ROOT / "tests" / "golden" / "status" / f"{name}.json").read_text(encoding="utf-8"))
    design = {**design, **{word: [] for word in ("errors", "warnings") if word in design}}
    assert keys_of(found) == keys_of(design)


def test_history_and_statistics_tell_what_was_migrated_for_whom(tmp_path):
    bad = column("bad", collection="places")
    bad.verify = lambda work: 1 / 0
    steps = [WalkThrough(5, scope="user"), bad]
    for user in ("ann", "bob"):
        with Engine.open(filled(tmp_path / f"{user}.db"), registry=registry(*steps), user=user) as engine:
            engine.migrate()
            engine.migrations.skip("bad", None, "not now")
            lines = engine.migrations.history(user)
            assert [(line.migration, line.state) for line in lines] == [
                ("make", "completed"),
                ("bad", "failed"),
                ("walk", "completed"),
                ("bad", "skipped"),
            ]
            assert (lines[1].error_code, lines[2].counts.dropped) == ("migration_failed", 5)
            assert lines[3].warnings == ("not now",)
            said = engine.migrations.statistics(user)
            assert (said.runs, said.completed, said.failed, said.rows_read) == (3, 2, 1, 5)
            assert said.last_run_at == lines[2].ended_at
            assert said.data_types == {"notes": 0, "places": 0}
            assert said.to_json()["dataTypes"] == said.data_types
            assert [line.scope for line in engine.migrations.history("somebody else")] == ["store"] * 3
            assert [pending.id for pending in engine.migrations.pending(user)] == ["bad"]


class NextMonth(SystemClock):
    def now_ms(self):
        return super().now_ms() + 31 * 24 * 60 * 60 * 1_000


def test_a_start_in_the_background_deletes_what_was_kept_for_the_way_back_when_its_time_is_over(tmp_path):
    world = ShadowWorld(tmp_path)
    with world.open() as engine:
        assert engine.migrate().success
    for clock, there in ((SystemClock(), 1), (NextMonth(), 0)):
        with world.open(clock=clock) as engine:
            engine.start()
            if engine._session.background is not None:
                engine._session.background._thread.join(20)
            [(kept,)] = engine._store.query("SELECT count(*) FROM sqlite_schema WHERE name = '_sync_old_journeys'")
            assert kept == there
