"""Runs of many transactions: killed, paused, cancelled, taken over, fenced, on a full disk, with other code."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import apsw
import pytest
from imports import JourneyV2, JourneyV3, make_v2, seconds_v3, to_seconds
from migrate_world import dump, registry_of
from shadow_world import BATCH, STEADY, BatchClock, ShadowWorld, agrees, leaves_nothing_behind, result_of, sent

from syncengine import Engine, Settings
from syncengine.errors import CalledFromInside, DiskFull, MigrationFailed, ReconciliationFailed, StoreBusy
from syncengine.events import MigrationEnded, MigrationProgressed, MigrationStarted
from syncengine.migrate.checks import refuse_filling
from syncengine.migrate.shadow import ask_of_runner, drop_kept_tables, filling, kept_table

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = ("_sync_run", "_sync_lease", "_sync_restore_point")


@pytest.fixture
def world(tmp_path):
    return ShadowWorld(tmp_path)


class PowerIsGone(BaseException):
    """No `except Exception` stops it."""


def stop_at(number_of_batch, how=PowerIsGone):
    def between(number):
        if number == number_of_batch:
            raise how

    return between


def progress_of(engine):
    return engine._store.query("SELECT state, rows_read, batches FROM _sync_shadow")


# Killed.


def test_a_run_that_broke_off_goes_on_at_its_last_batch(world):
    with world.open(between=stop_at(6)) as engine, pytest.raises(PowerIsGone):
        engine.migrate()
    seen = []

    with world.open(target="2.0.0") as engine:
        (_, rows, _), made = progress_of(engine)[0], engine._store.query("SELECT count(*) FROM journeys_new_")
        assert made == [(rows,)]
        assert rows == 6 * BATCH
        with engine.write() as db:  # by the app's old version, while nobody fills
            db.execute("UPDATE journeys SET minutes = 50 WHERE id = 'w-00001'")
    with world.open() as engine:
        executor = engine._registry.get_migration_executor("seconds-v3")
        made_of = executor.made_of

        def counting(rows, work):
            seen.extend(row[1] for row in rows)
            return made_of(rows, work)

        executor.made_of = counting  # the author's code is the same
        result = result_of(engine.migrate())
        assert (result.counts.read, result.batches) == (100, 10)
        assert seen[: 100 - rows] == [f"w-{n:05}" for n in range(rows, 100)]
        assert set(seen[100 - rows :]) == {"w-00001"}  # and what its entry says, before the swap and in it
        agrees(engine._store)
        leaves_nothing_behind(engine._store, kept=["_sync_old_journeys"])


VICTIM = """
import sys
sys.path.insert(0, "tests/integration")
from test_shadow_runs import victims_registry, VICTIMS_SETTINGS
from syncengine import Engine
with Engine.open(sys.argv[1], registry=victims_registry(), settings=VICTIMS_SETTINGS) as engine:
    engine.migrate()
"""
VICTIMS_SETTINGS = Settings(shadow_rows_min=1, batch_ms_target=3)


def noted(old: JourneyV2) -> JourneyV3:
    if "SHADOW_NOTES" in os.environ:
        descriptor = os.open(os.environ["SHADOW_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, (old.id + "\n").encode())
        os.close(descriptor)
    return to_seconds(old)


def victims_registry(target="3.0.0"):
    steps = [make_v2()] + ([seconds_v3(noted, consent="auto")] if target == "3.0.0" else [])
    return registry_of(*steps, target=target)


def started(script, path, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def test_a_process_that_is_killed_repeats_at_most_one_batch(tmp_path):
    path, notes, rows, kills = tmp_path / "app.db", tmp_path / "notes", 10_000, 4
    with Engine.open(path, registry=victims_registry("2.0.0")) as engine:
        engine.migrate()
        with engine.write(atomic=False) as db:
            values = [("ann", f"w-{n:06}", 1.0, None) for n in range(rows)]
            db.conn.executemany("INSERT INTO journeys VALUES (?, ?, ?, ?)", values)
        sent(engine)
    look, read, largest = apsw.Connection(str(path)), 0, 0
    look.set_busy_timeout(5_000)
    for kill in range(kills):
        victim = started(VICTIM, path, SHADOW_NOTES=str(notes))
        while (look.execute("SELECT rows_read FROM _sync_shadow").get or 0) < min(read + 500, rows * (kill + 1) // 6):
            BatchClock().pause(1)
        victim.send_signal(signal.SIGKILL)
        victim.communicate(timeout=30)
        read, batch_rows = look.execute("SELECT rows_read, batch_rows FROM _sync_shadow").fetchall()[0]
        largest = max(largest, batch_rows)
        assert read < rows
        assert look.execute("SELECT count(*) FROM journeys_new_").get == read
        assert look.execute("PRAGMA integrity_check").get == "ok"
    look.close()
    victim = started(VICTIM, path, SHADOW_NOTES=str(notes))
    victim.communicate(timeout=60)
    with Engine.open(path, registry=victims_registry(), settings=VICTIMS_SETTINGS) as engine:
        assert engine.migrate() is None
        assert engine._store.query("SELECT count(*), sum(seconds) FROM journeys") == [(rows, rows * 60)]
        leaves_nothing_behind(engine._store, kept=["_sync_old_journeys"])
    converted = len(notes.read_text().splitlines())
    assert rows <= converted <= rows + kills * 2 * largest


@pytest.mark.parametrize("statement", range(2, 400, 9))
def test_after_a_crash_before_any_statement_the_next_start_ends_with_the_same_store(tmp_path, statement):
    world = ShadowWorld(tmp_path, rows=25)
    engine = world.open()
    seen = 0

    def trace(cursor, sql, bindings):
        nonlocal seen
        seen += 1
        if seen >= statement:
            raise PowerIsGone
        return True

    engine.migrations  # noqa: B018  (made before the statements are counted)
    engine._store.connection.exec_trace = trace
    try:
        engine.migrate()
    except PowerIsGone:
        pass
    finally:
        engine._store.connection.exec_trace = None
        engine.close()
    with world.open() as engine:
        version = engine._store.query("SELECT schema_version FROM _sync_version WHERE scope = 'store'")[0][0]
        columns = [name for (name,) in engine._store.query("SELECT name FROM pragma_table_info('journeys')")]
        assert ("seconds" in columns) == (version == "3.0.0")
        engine.migrate()
        agrees(engine._store)
        assert engine._store.query("SELECT count(*) FROM _sync_run WHERE method = 'shadow'") == [(1,)]
        drop_kept_tables(engine._store)
        leaves_nothing_behind(engine._store, kept=["_sync_old_journeys"])


# Two at once.

STARTER = """
import sys
sys.path.insert(0, "tests/integration")
from shadow_world import STEADY
from test_shadow_runs import victims_registry
from syncengine import Engine, Settings
with Engine.open(sys.argv[1], registry=victims_registry(), settings=Settings(**STEADY)) as engine:
    print("ready", flush=True)
    sys.stdin.readline()
    report = engine.migrate()
    # The other one may have ended between the look whether anything is pending and the plan.
    print(report.results[-1].state if report and report.results else "nothing", flush=True)
"""


def test_two_processes_that_start_at_once_give_one_run(tmp_path):
    world = ShadowWorld(tmp_path, rows=400)
    starters = [started(STARTER, world.path) for _ in range(2)]
    for starter in starters:
        assert starter.stdout.readline() == "ready\n"
    for starter in starters:
        starter.stdin.write("go\n")
        starter.stdin.flush()
    said = sorted(starter.communicate(timeout=60)[0].strip() for starter in starters)
    assert said in (["already", "completed"], ["completed", "nothing"])
    with world.open(seconds_v3(noted, consent="auto")) as engine:
        assert engine._store.query("SELECT count(*) FROM _sync_run WHERE migration = 'seconds-v3'") == [(1,)]
        agrees(engine._store)


def test_two_threads_that_migrate_at_once_give_one_run(world):
    results = []
    with world.open() as engine:
        threads = [threading.Thread(target=lambda: results.append(engine.migrate())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        states = sorted("nothing" if report is None else result_of(report).state for report in results)
        assert states in (["already", "completed"], ["completed", "nothing"])
        agrees(engine._store)


def test_a_listener_that_migrates_is_refused(world):
    refused = []

    def listen(event):
        if isinstance(event, MigrationStarted):
            with pytest.raises(CalledFromInside):
                engine.migrate()
            refused.append(event.migration)

    engine = Engine.open(
        world.path,
        registry=registry_of(make_v2(), seconds_v3(consent="auto"), target="3.0.0"),
        settings=Settings(**STEADY),
        listener=listen,
    )
    with engine:
        assert result_of(engine.migrate()).state == "completed"
    assert refused == ["seconds-v3"]


def test_a_holder_that_was_too_slow_cannot_write_its_batch_and_takes_over_again_when_the_other_ends(world):
    other = world.other_process()
    written = []

    def take_over(number):
        if number == 4:
            # Another process waited until the lease was over, took it, wrote nothing and died.
            other.execute(
                "UPDATE _sync_lease SET fence = fence + 1, holder = 'another', pid = 1, until_ms = until_ms + 300"
            )
            written.append(other.execute("SELECT rows_read FROM _sync_shadow").get)
        if len(written) == 1 and number == 5:
            written.append(other.execute("SELECT rows_read FROM _sync_shadow").get)
            other.execute("UPDATE _sync_lease SET holder = ''")

    class Waiting(BatchClock):
        def pause(self, wait_ms):
            if len(written) == 1:
                written.append(other.execute("SELECT rows_read FROM _sync_shadow").get)
                other.execute("UPDATE _sync_lease SET holder = ''")

    with world.open(clock=Waiting(take_over)) as engine:
        result = result_of(engine.migrate())
        assert result.state == "completed", result.failure
        assert written == [4 * BATCH, 4 * BATCH], "the batch of the old fence was not written"
        assert result.counts.read == 100
        agrees(engine._store)
    other.close()


def test_who_waits_shows_the_progress_of_the_other_process_and_then_says_already(world):
    with world.open(between=stop_at(5)) as engine, pytest.raises(PowerIsGone):
        engine.migrate()
    heard = []
    other = world.other_process()
    other.execute("UPDATE _sync_lease SET holder = 'another', pid = 1, until_ms = until_ms + 600000")
    looks = 0

    class Waiting(BatchClock):
        def pause(self, wait_ms):
            nonlocal looks
            looks += 1
            if looks == 1:
                other.execute("UPDATE _sync_shadow SET rows_written = 90, rows_read = 90")
            elif looks == 2:
                other.execute(
                    "INSERT INTO _sync_run (migration, scope, from_version, to_version, state, started_at, ended_at, "
                    "duration_ms) VALUES ('seconds-v3', 'store', '2.0.0', '3.0.0', 'completed', '', '', 0)"
                )

    engine = Engine.open(
        world.path,
        registry=registry_of(make_v2(), seconds_v3(consent="auto"), target="3.0.0"),
        settings=Settings(**STEADY),
        clock=Waiting(),
        listener=heard.append,
    )
    with engine:
        result = result_of(engine.migrations.migrate_all_data())
    assert (result.state, result.success) == ("already", True)
    assert [type(event) for event in heard[:2]] == [MigrationStarted, MigrationProgressed]
    assert heard[0].total == 100
    assert isinstance(heard[-1], MigrationEnded)
    other.close()


def test_who_waits_for_a_run_that_is_paused_does_not_go_on_with_it(world):
    with world.open(between=stop_at(5)) as engine, pytest.raises(PowerIsGone):
        engine.migrate()
    other = world.other_process()
    other.execute("UPDATE _sync_lease SET holder = 'another', pid = 1, until_ms = until_ms + 600000")

    class Waiting(BatchClock):
        def pause(self, wait_ms):
            other.execute("UPDATE _sync_shadow SET state = 'paused'")
            other.execute("UPDATE _sync_lease SET holder = ''")

    with world.open(clock=Waiting()) as engine:
        assert result_of(engine.migrations.migrate_all_data()).state == "paused"
        assert [state for state, _, _ in progress_of(engine)] == ["paused"]
    other.close()


def held_by_another(world):
    """A run broke off, and another process has the right to go on with it."""
    with world.open(between=stop_at(5)) as engine, pytest.raises(PowerIsGone):
        engine.migrate()
    other = world.other_process()
    other.execute("UPDATE _sync_lease SET holder = 'another', pid = 1, until_ms = until_ms + 600000")
    return other


def test_who_does_it_in_one_transaction_waits_for_the_process_that_fills(world):
    other = held_by_another(world)
    waited = []

    class Waiting(BatchClock):
        def pause(self, wait_ms):
            waited.append(wait_ms)
            if len(waited) == 3:
                other.execute("UPDATE _sync_lease SET holder = ''")

    with world.open(seconds_v3(consent="auto", shadow=False), clock=Waiting()) as engine:
        result = result_of(engine.migrate())
        assert (result.state, result.counts.read) == ("completed", 100)
        assert len(waited) >= 3
        assert engine._store.query(
            "SELECT method FROM _sync_run WHERE state = 'completed' AND migration = ?", ("seconds-v3",)
        ) == [("transaction",)]
        leaves_nothing_behind(engine._store)
    other.close()


def test_who_does_it_in_one_transaction_is_told_that_another_process_does_not_move(world):
    other = held_by_another(world)
    with world.open(seconds_v3(consent="auto", shadow=False), starter_wait_ms_max=100) as engine:
        with pytest.raises(StoreBusy):
            engine.migrate()
        assert engine._store.query("SELECT count(*) FROM journeys WHERE minutes >= 0") == [(100,)]
        assert filling(engine._store) == {"journeys": "seconds-v3"}
    other.close()


def test_a_filling_that_begins_right_before_the_one_transaction_is_not_disturbed(world):
    other = held_by_another(world)
    with world.open(seconds_v3(consent="auto", shadow=False)) as engine:
        with pytest.raises(StoreBusy, match="is rewriting journeys in another process"), engine._store.transaction():
            refuse_filling(engine._store, ("journeys",))
        assert filling(engine._store) == {"journeys": "seconds-v3"}
    other.close()


# Paused, cancelled.


def test_a_paused_run_keeps_what_it_has_and_goes_on_later(world):
    def pause(number):
        if number == 5:
            engine.migrations.pause()

    with world.open(between=pause) as engine:
        assert result_of(engine.migrations.migrate_all_data()).state == "paused"
        state, rows, batches = progress_of(engine)[0]
        assert (state, rows) == ("paused", batches * BATCH)
        assert filling(engine._store) == {"journeys": "seconds-v3"}
    with world.open() as engine:
        result = result_of(engine.migrate())
        assert (result.state, result.batches) == ("completed", 10)
        agrees(engine._store)


def test_a_cancelled_run_leaves_the_store_as_it_was(world):
    def cancel(number):
        if number == 5:
            engine.migrations.cancel()

    with world.open(target="2.0.0") as engine:
        before = dump(engine._store, without=WITHOUT)
    with world.open(between=cancel) as engine:
        assert result_of(engine.migrations.migrate_all_data()).state == "cancelled"
        assert dump(engine._store, without=WITHOUT) == before
        leaves_nothing_behind(engine._store)
        assert engine._store.query("SELECT state FROM _sync_run ORDER BY run_id DESC LIMIT 1") == [("cancelled",)]


@pytest.mark.parametrize(("asked", "state"), [("pause", "paused"), ("cancel", "cancelled")])
def test_another_process_may_ask_for_a_pause_or_an_end(world, asked, state):
    def ask(number):
        if number == 5:
            world.command_line(f"UPDATE _sync_shadow SET asked = '{asked}'")

    with world.open(between=ask) as engine:
        result = result_of(engine.migrations.migrate_all_data())
        assert result.state == state
        assert result.counts.read == 5 * BATCH
    with world.open() as engine:
        assert result_of(engine.migrate()).state == "completed"
        agrees(engine._store)


def test_who_asks_is_told_of_which_collections(world):
    with world.open(between=stop_at(5)) as engine, pytest.raises(PowerIsGone):
        engine.migrate()
    with world.open() as engine:
        assert ask_of_runner(engine._store, "cancel") == ("journeys",)
        assert result_of(engine.migrations.migrate_all_data()).state == "cancelled"
        leaves_nothing_behind(engine._store)
        assert ask_of_runner(engine._store, "cancel") == ()


def test_progress_only_grows_and_its_last_word_is_an_end(world):
    heard = []
    engine = Engine.open(
        world.path,
        registry=registry_of(make_v2(), seconds_v3(consent="auto"), target="3.0.0"),
        settings=Settings(**STEADY),
        clock=BatchClock(
            lambda number: world.command_line("DELETE FROM journeys WHERE id < 'w-00090'") * (number == 8)
        ),
        listener=heard.append,
    )
    with engine:
        engine.migrate()
    done = [event.done for event in heard if isinstance(event, MigrationProgressed)]
    assert done == sorted(done)
    assert isinstance(heard[0], MigrationStarted)
    assert isinstance(heard[-1], MigrationEnded)
    assert heard[-1].success


# Other code, full disks, what does not add up.


def test_other_code_begins_anew(world):
    with world.open(between=stop_at(6)) as engine, pytest.raises(PowerIsGone):
        engine.migrate()

    def twice(old: JourneyV2) -> JourneyV3:
        return JourneyV3(user_id=old.user_id, id=old.id, seconds=round(old.minutes * 120), title=old.title)

    with world.open(seconds_v3(twice, consent="auto")) as engine:
        engine.migrate()
        wrong = engine._store.query(
            "SELECT count(*) FROM journeys JOIN _sync_old_journeys AS old USING (user_id, id) "
            "WHERE seconds <> minutes * 120"
        )
        assert wrong == [(0,)]
        leaves_nothing_behind(engine._store, kept=["_sync_old_journeys"])


def test_a_rewriting_whose_migration_is_gone_is_dropped(world):
    with world.open(between=stop_at(6)) as engine, pytest.raises(PowerIsGone):
        engine.migrate()
    with world.open(seconds_v3(consent="auto", id="seconds-otherwise")) as engine:
        assert result_of(engine.migrate(), "seconds-otherwise").state == "completed"
        agrees(engine._store)
        leaves_nothing_behind(engine._store, kept=["_sync_old_journeys"])


def test_a_run_that_needs_no_shadow_any_more_drops_the_one_that_was_begun(world):
    with world.open(between=stop_at(6)) as engine, pytest.raises(PowerIsGone):
        engine.migrate()
    with world.open(seconds_v3(consent="auto", shadow=False)) as engine:
        assert result_of(engine.migrate()).counts.read == 100
        leaves_nothing_behind(engine._store)


def test_a_full_disk_in_the_middle_is_said_and_the_store_is_as_it_was(tmp_path):
    world = ShadowWorld(tmp_path, rows=600)
    with world.open(target="2.0.0") as engine:
        before = dump(engine._store, without=WITHOUT)
    with world.open() as engine:
        pages = engine._store.query("PRAGMA page_count")[0][0]
        engine._store.query(f"PRAGMA max_page_count = {pages + 8}")
        with pytest.raises(DiskFull):
            engine.migrate()
        engine._store.query("PRAGMA max_page_count = 1000000")
        drop_kept_tables(engine._store)
        assert dump(engine._store, without=WITHOUT) == before
    with world.open() as engine:
        assert result_of(engine.migrate()).state == "completed"
        agrees(engine._store)


def test_rows_that_vanish_unseen_from_the_new_table_stop_the_run(world):
    swallowing = seconds_v3(
        consent="auto",
        table="""CREATE TABLE journeys (
          user_id TEXT NOT NULL, id TEXT NOT NULL, seconds INTEGER NOT NULL UNIQUE ON CONFLICT REPLACE, title TEXT,
          PRIMARY KEY (user_id, id)
        ) STRICT""",
    )
    with world.open(target="2.0.0") as engine:
        before = dump(engine._store, without=WITHOUT)
    with world.open(swallowing) as engine:
        failure = result_of(engine.migrations.migrate_all_data()).failure
        assert isinstance(failure, ReconciliationFailed)
        assert dump(engine._store, without=WITHOUT) == before


def test_a_table_that_was_altered_meanwhile_stops_the_run(world):
    def alter(number):
        if number == 5:
            world.command_line("ALTER TABLE journeys ADD COLUMN mood TEXT")

    with world.open(between=alter) as engine:
        failure = result_of(engine.migrations.migrate_all_data()).failure
        assert failure is not None
        assert "mood" not in str(failure)
        assert engine._store.query("SELECT count(*) FROM journeys WHERE mood IS NULL") == [(100,)]
        leaves_nothing_behind(engine._store)


def test_a_check_of_the_author_that_fails_after_the_swap_leaves_the_old_table(world):
    step = seconds_v3(consent="auto")
    step.verify = lambda work: (_ for _ in ()).throw(ValueError("wrong"))
    with world.open(step) as engine:
        assert isinstance(result_of(engine.migrations.migrate_all_data()).failure, MigrationFailed)
        assert engine._store.query("SELECT count(*) FROM journeys WHERE minutes >= 0") == [(100,)]
        leaves_nothing_behind(engine._store)


# Kept tables.


def test_the_old_table_is_kept_for_its_days_and_then_deleted_a_few_rows_at_a_time(tmp_path):
    world = ShadowWorld(tmp_path, rows=3_000)
    with world.open(shadow_rows_min=1, batch_ms_target=50) as engine:
        engine.migrate()
        store = engine._store
        assert drop_kept_tables(store)
        assert kept_table(store, collection="journeys", migration="seconds-v3") == "_sync_old_journeys"
        with store.transaction():
            store.query("UPDATE _sync_kept_table SET keep_until = '2020-01-01T00:00:00.000Z'")
        assert kept_table(store, collection="journeys", migration="seconds-v3") is None
        assert not drop_kept_tables(store, batches_max=1)
        left = store.query("SELECT count(*) FROM _sync_old_journeys")[0][0]
        assert 0 < left < 3_000
        assert drop_kept_tables(store)
        leaves_nothing_behind(store)


def test_no_days_mean_that_the_old_table_goes_at_once(world):
    with world.open(restore_point_keep_days=0) as engine:
        engine.migrate()
        leaves_nothing_behind(engine._store)
