"""A large collection is rewritten beside the live table: nothing is lost of what anybody writes meanwhile."""

import random
from contextlib import suppress

import apsw
import pytest
from imports import JourneyV2, JourneyV3, seconds_v3, to_seconds
from migrate_world import dump
from shadow_world import BATCH, ShadowWorld, agrees, leaves_nothing_behind, result_of

from syncengine import cast, declared
from syncengine.errors import MigrationFailed, MigrationInvalid, QuarantineBudgetExceeded
from syncengine.migrate.shadow import filling, kept_table


@pytest.fixture
def world(tmp_path):
    return ShadowWorld(tmp_path)


def method_of(engine):
    return engine._store.query("SELECT state, method FROM _sync_run ORDER BY run_id DESC LIMIT 1")[0]


def test_a_large_collection_is_filled_in_batches_and_takes_the_place_of_the_old_table(world):
    with world.open() as engine:
        result = result_of(engine.migrate())
        assert (result.state, result.counts.read, result.counts.written) == ("completed", 100, 100)
        assert result.batches == 100 // BATCH
        assert method_of(engine) == ("completed", "shadow")
        agrees(engine._store)
        leaves_nothing_behind(engine._store, kept=["_sync_old_journeys"])
        assert kept_table(engine._store, collection="journeys", migration="seconds-v3") == "_sync_old_journeys"
        assert engine.migrate() is None


def test_both_ways_leave_the_same_store(tmp_path):
    dumps = []
    for number, rows_min in enumerate((1, 1_000)):
        (tmp_path / str(number)).mkdir()
        world = ShadowWorld(tmp_path / str(number))
        with world.open(shadow_rows_min=rows_min, restore_point_keep_days=0) as engine:
            engine.migrate()
            without = ("_sync_run", "_sync_restore_point", "_sync_lease")
            dumps.append(dump(engine._store, without=without))
    assert dumps[0] == dumps[1]


OLD_VERSION_WRITES = {
    "insert behind the cursor": "INSERT INTO journeys VALUES ('ann', 'w-00000a', 3.5, NULL)",
    "insert before the cursor": "INSERT INTO journeys VALUES ('ann', 'w-99999', 3.5, 'late')",
    "update behind": "UPDATE journeys SET minutes = 99 WHERE id = 'w-00003'",
    "update before": "UPDATE journeys SET minutes = 99 WHERE id = 'w-00091'",
    "update all": "UPDATE journeys SET minutes = minutes + 1",
    "delete behind": "DELETE FROM journeys WHERE id = 'w-00002'",
    "delete before": "DELETE FROM journeys WHERE id = 'w-00095'",
    "delete all": "DELETE FROM journeys",
    "replace of its own key": "INSERT OR REPLACE INTO journeys VALUES ('ann', 'w-00004', 8, 't4')",
    "replace of another row": "INSERT OR REPLACE INTO journeys VALUES ('ann', 'w-77777', 8, 't5')",
    "upsert": "INSERT INTO journeys VALUES ('ann', 'w-00006', 9, 'x') "
    "ON CONFLICT (user_id, id) DO UPDATE SET minutes = 77",
    "a key that moves ahead": "UPDATE journeys SET id = 'w-99998' WHERE id = 'w-00001'",
    "a key that moves back": "UPDATE journeys SET id = 'w-00000b' WHERE id = 'w-00098'",
    "an owner that changes": "UPDATE journeys SET user_id = 'zoe' WHERE id = 'w-00007'",
    "or ignore": "UPDATE OR IGNORE journeys SET minutes = 55, title = 't9' WHERE id IN ('w-00008', 'w-00009')",
    "titles that change places": "UPDATE journeys SET title = NULL WHERE id IN ('w-00000', 'w-00099'); "
    "UPDATE journeys SET title = 't99' WHERE id = 'w-00000'; UPDATE journeys SET title = 't0' WHERE id = 'w-00099'",
}


@pytest.mark.parametrize("sql", OLD_VERSION_WRITES.values(), ids=OLD_VERSION_WRITES)
def test_what_the_sqlite3_command_writes_while_the_table_is_filled_comes_over(world, sql):
    def write(number):
        if number == 5:
            world.command_line(sql)

    with world.open(between=write) as engine:
        result = result_of(engine.migrate())
        assert (result.state, result.counts.quarantined) == ("completed", 0)
        agrees(engine._store)
        leaves_nothing_behind(engine._store, kept=["_sync_old_journeys"])


@pytest.mark.parametrize("seed", range(12))
def test_a_process_of_the_old_version_may_write_anything_at_any_time(world, seed):
    chance = random.Random(seed)
    other = world.other_process()

    def write(number):
        for _ in range(chance.randrange(40) if number < 60 else 0):
            one, two, title = (f"{kind}{chance.randrange(120):05}" for kind in ("w-", "w-", "t"))
            sql = chance.choice(
                [
                    f"INSERT OR REPLACE INTO journeys VALUES ('ann', '{one}', 8, '{title}')",
                    f"INSERT OR IGNORE INTO journeys VALUES ('bob', '{one}', 2, '{title}')",
                    f"UPDATE OR IGNORE journeys SET minutes = minutes + 1 WHERE id = '{one}'",
                    f"UPDATE OR IGNORE journeys SET id = '{two}', title = '{title}' WHERE id = '{one}'",
                    f"UPDATE OR REPLACE journeys SET id = '{two}' WHERE id = '{one}'",
                    f"DELETE FROM journeys WHERE id = '{one}'",
                ]
            )
            other.execute(sql).fetchall()

    with world.open(between=write) as engine:
        result = result_of(engine.migrate())
        assert result.state == "completed", result.failure
        agrees(engine._store)
        assert result.counts.quarantined == 0
        assert result.counts.read == engine._store.query("SELECT count(*) FROM journeys")[0][0]
    other.close()


def test_rows_that_go_unseen_between_any_two_steps_up_to_the_swap_are_gone_afterwards(tmp_path):
    """REPLACE deletes what it meets without a trigger where recursive_triggers is off."""
    world = ShadowWorld(tmp_path, rows=200)
    other = world.other_process()
    other.set_busy_timeout(0)

    def replace_one(number):
        at = 2 * (60 - number)
        with suppress(apsw.BusyError):  # the swap itself holds the lock
            # A title is there once.
            other.execute(f"UPDATE OR REPLACE journeys SET title = 't{at + 1}' WHERE title = 't{at}'")

    with world.open(between=replace_one) as engine:
        result = result_of(engine.migrate())
        assert (result.state, result.counts.quarantined) == ("completed", 0), result.failure
        agrees(engine._store)
        assert 140 < result.counts.read < 180, "it was swapped while rows went"
    other.close()


@pytest.mark.parametrize("verb", ["UPDATE", "UPDATE OR IGNORE", "UPDATE OR REPLACE"])
def test_a_row_that_is_written_once_more_while_it_is_converted_again_is_not_forgotten(world, verb):
    other = world.other_process()
    other.set_busy_timeout(0)
    seen = []

    def converting(old: JourneyV2) -> JourneyV3:
        if old.id == "w-00003":
            seen.append(old.minutes)
            with suppress(apsw.BusyError):  # the swap itself holds the lock
                # Between the reading and the writing of this very row.
                other.execute(f"{verb} journeys SET minutes = minutes + 1 WHERE id = 'w-00003'")
        return to_seconds(old)

    def touch_many(number):
        if number == 9:
            other.execute("INSERT INTO journeys SELECT 'bob', id, minutes, NULL FROM journeys")

    with world.open(seconds_v3(converting, consent="auto"), between=touch_many) as engine:
        assert result_of(engine.migrate()).state == "completed"
        agrees(engine._store)
    assert len(seen) > 2
    other.close()


def test_the_app_goes_on_writing_other_collections_through_its_own_engine(tmp_path):
    world = ShadowWorld(tmp_path)
    with world.open(target="2.0.0") as engine, engine.write() as db:
        db.execute("CREATE TABLE loose (id TEXT NOT NULL PRIMARY KEY)")
    written = []

    def write(number):
        with engine.write() as db:
            db.execute("INSERT INTO loose VALUES (?)", (f"n{number}",))
        written.append(number)

    with world.open(between=write) as engine:
        assert result_of(engine.migrate()).state == "completed"
        assert engine._store.query("SELECT count(*) FROM loose") == [(len(written),)]
    assert len(written) >= 10


# What a row becomes.


def test_a_split_a_drop_and_a_renamed_row_are_made_again_when_their_row_changes(world):
    def shared(old: JourneyV2) -> list[JourneyV3] | None:
        kind = int(old.id[-1])
        if kind == 0:
            return None
        first = JourneyV3(user_id=old.user_id, id=old.id, seconds=round(old.minutes), title=None)
        if kind == 1:
            return [first, first.model_copy(update={"id": old.id + "-b", "title": old.title})]
        if kind == 2:
            return [first.model_copy(update={"id": "renamed-" + old.id})]
        return [first]

    def write(number):
        if number == 8:
            world.command_line(
                "DELETE FROM journeys WHERE id IN ('w-00000', 'w-00001', 'w-00002');"
                "UPDATE journeys SET minutes = 50 WHERE id IN ('w-00010', 'w-00011', 'w-00012', 'w-00013');"
                "UPDATE journeys SET id = 'w-00100' WHERE id = 'w-00021';"
                "UPDATE journeys SET id = 'w-00101' WHERE id = 'w-00020';"
                # A row of the key that a split has made, which comes and goes.
                "INSERT INTO journeys VALUES ('ann', 'w-00031-b', 1, NULL);"
                "DELETE FROM journeys WHERE id = 'w-00031-b';"
            )

    with world.open(seconds_v3(shared, consent="auto"), between=write) as engine:
        result = result_of(engine.migrate())
        assert result.state == "completed", result.failure
        rows = dict(engine._store.query("SELECT id, seconds FROM journeys"))
        old = dict(engine._store.query("SELECT id, minutes FROM _sync_old_journeys"))
        wanted = {}
        for key, minutes in old.items():
            kind, seconds = int(key[-1]), round(minutes)
            wanted |= {
                0: {},
                1: {key: seconds, key + "-b": seconds},
                2: {"renamed-" + key: seconds},
            }.get(kind, {key: seconds})
        assert rows == wanted
        assert (result.counts.read, result.counts.dropped) == (len(old), sum(key[-1] == "0" for key in old))
        leaves_nothing_behind(engine._store, kept=["_sync_old_journeys"])


def test_rows_that_cannot_be_converted_are_in_quarantine_after_the_swap_and_not_before(world):
    before = []

    def refusing(old: JourneyV2) -> JourneyV3:
        if old.id in ("w-00004", "w-00005", "w-00050"):
            raise ValueError("a secret value")
        return to_seconds(old)

    def look(number):
        before.append(engine._store.query("SELECT count(*) FROM _sync_quarantine")[0][0])
        if number == 8:
            world.command_line("DELETE FROM journeys WHERE id = 'w-00005'")

    with world.open(seconds_v3(refusing, consent="auto"), between=look) as engine:
        result = result_of(engine.migrate())
        assert (result.counts.read, result.counts.written, result.counts.quarantined) == (99, 97, 2)
        items = engine._store.query(
            "SELECT origin, migration, owner, collection, row_key, error_code, shape_version FROM _sync_quarantine "
            "WHERE origin = 'migration' ORDER BY row_key"
        )
        assert items == [
            ("migration", "seconds-v3", "ann", "journeys", key, "conversion_failed", "2.0.0")
            for key in ("w-00004", "w-00050")
        ]
        assert '"minutes":4.0' in engine._store.query("SELECT body FROM _sync_quarantine ORDER BY row_key")[0][0]
        assert set(before) == {0}
        leaves_nothing_behind(engine._store, kept=["_sync_old_journeys"])


def test_too_many_rows_in_quarantine_stop_the_run_early_and_leave_the_store_as_it_was(world):
    calls = []

    def refusing(old: JourneyV2) -> JourneyV3:
        calls.append(old.id)
        raise ValueError

    without = ("_sync_run", "_sync_lease", "_sync_restore_point")
    with world.open(target="2.0.0") as engine:
        before = dump(engine._store, without=without)
    with world.open(seconds_v3(refusing, consent="auto")) as engine:
        result = result_of(engine.migrations.migrate_all_data())
        assert result.state == "failed"
        assert isinstance(result.failure, QuarantineBudgetExceeded)
        assert max(calls) < "w-00050", "it did not go on to the end"
        assert method_of(engine) == ("failed", "shadow")
        after = dump(engine._store, without=without)
        assert after[0] == before[0]
        assert {name: rows for name, rows in after[1].items() if rows != before[1][name]} == {}
        leaves_nothing_behind(engine._store)


def test_a_row_that_repeats_a_unique_index_of_the_new_shape_is_set_aside(tmp_path):
    world = ShadowWorld(tmp_path)
    with world.open(target="2.0.0") as engine, engine.write() as db:
        db.execute("UPDATE journeys SET minutes = rowid")
        db.execute("UPDATE journeys SET minutes = 500 WHERE id IN ('w-00001', 'w-00011', 'w-00021')")
    unique = seconds_v3(
        consent="auto",
        table="""CREATE TABLE journeys (
          user_id TEXT NOT NULL, id TEXT NOT NULL, seconds INTEGER NOT NULL, title TEXT, PRIMARY KEY (user_id, id)
        ) STRICT; CREATE UNIQUE INDEX journeys_once ON journeys (seconds);""",
    )
    with world.open(unique) as engine:
        result = result_of(engine.migrate())
        assert (result.state, result.counts.quarantined) == ("completed", 2), result
        aside = engine._store.query(
            "SELECT row_key, error_code FROM _sync_quarantine WHERE origin = 'migration' ORDER BY row_key"
        )
        assert aside == [("w-00011", "constraint_failed"), ("w-00021", "constraint_failed")]


def test_a_row_that_meets_only_what_another_was_before_is_not_set_aside(world):
    with world.open(target="2.0.0") as engine, engine.write() as db:
        db.execute("UPDATE journeys SET minutes = rowid")
        db.execute("UPDATE journeys SET minutes = 777 WHERE id IN ('w-00001', 'w-00090')")

    def write(number):
        if number == 5:
            world.command_line("UPDATE journeys SET minutes = 5000 WHERE id = 'w-00001'")

    unique = seconds_v3(
        consent="auto",
        table="""CREATE TABLE journeys (
          user_id TEXT NOT NULL, id TEXT NOT NULL, seconds INTEGER NOT NULL UNIQUE, title TEXT,
          PRIMARY KEY (user_id, id)
        ) STRICT""",
    )
    with world.open(unique, between=write) as engine:
        result = result_of(engine.migrate())
        assert (result.state, result.counts.quarantined) == ("completed", 0), result.failure
        agrees(engine._store)


def test_a_row_that_sql_converts_may_meet_what_another_was_before(tmp_path):
    table = (
        "CREATE TABLE journeys (user_id TEXT NOT NULL, id TEXT NOT NULL, minutes REAL NOT NULL, title TEXT UNIQUE,"
        " PRIMARY KEY (user_id, id)) STRICT"
    )
    world = ShadowWorld(tmp_path, table=table, values=[("ann", f"w-{n:05}", 5.0, f"t{n}") for n in range(100)])

    def write(number):
        if number == 5:
            world.command_line("UPDATE journeys SET title = 'other' WHERE id = 'w-00001'")
            world.command_line("UPDATE journeys SET title = 't1' WHERE id = 'w-00090'")

    by_sql = declared(
        id="whole-minutes",
        collection="journeys",
        from_version="2.0.0",
        to_version="3.0.0",
        changes=(cast("minutes", int),),
        consent="auto",
    )
    with world.open(by_sql, between=write) as engine:
        result = result_of(engine.migrate(), "whole-minutes")
        assert (result.state, result.counts.read, result.counts.quarantined) == ("completed", 100, 0), result.failure
        found = engine._store.query("SELECT id, title FROM journeys WHERE id IN ('w-00001', 'w-00090') ORDER BY id")
        assert found == [("w-00001", "other"), ("w-00090", "t1")]


def test_code_that_fails_by_itself_leaves_the_store_as_it_was(world):
    def failing(old: JourneyV2) -> JourneyV3:
        if old.id == "w-00066":
            raise MemoryError
        return to_seconds(old)

    with world.open(seconds_v3(failing, consent="auto")) as engine, pytest.raises(MigrationFailed):
        engine.migrate()
    with world.open(target="2.0.0") as engine:
        assert engine._store.query("SELECT count(*) FROM journeys WHERE minutes >= 0") == [(100,)]
        leaves_nothing_behind(engine._store)
        assert filling(engine._store) == {}


# Which collections.


def test_a_collection_is_large_by_its_rows_or_by_its_bytes(tmp_path):
    for number, (settings, method) in enumerate(
        [
            ({"shadow_rows_min": 100}, "shadow"),
            ({"shadow_rows_min": 101}, "transaction"),
            ({"shadow_rows_min": 101, "shadow_bytes_min": 1_000}, "shadow"),
            ({"shadow_rows_min": 101, "shadow_bytes_min": 100_000}, "transaction"),
        ]
    ):
        (tmp_path / str(number)).mkdir()
        with ShadowWorld(tmp_path / str(number)).open(**settings) as engine:
            engine.migrate()
            assert method_of(engine) == ("completed", method)


def test_the_author_decides_for_or_against(tmp_path):
    for wanted, rows_min, method in ((True, 1_000, "shadow"), (False, 1, "transaction")):
        (tmp_path / method).mkdir()
        world = ShadowWorld(tmp_path / method)
        with world.open(seconds_v3(consent="auto", shadow=wanted), shadow_rows_min=rows_min) as engine:
            engine.migrate()
            assert method_of(engine) == ("completed", method)


def test_rows_that_are_merged_cannot_be_rewritten_beside_the_live_table():
    def merged(old: list[JourneyV2]) -> list[JourneyV3]:
        return [to_seconds(row) for row in old]

    with pytest.raises(MigrationInvalid, match="shadow"):
        seconds_v3(merged, group_by="title", shadow=True)


WITHOUT_A_KEY = (
    "CREATE TABLE journeys (user_id TEXT NOT NULL, id TEXT NOT NULL, minutes REAL NOT NULL, title TEXT) STRICT"
)


def test_a_table_without_a_usable_key_is_rewritten_in_one_transaction_or_refused_where_the_author_insists(tmp_path):
    for wanted in (None, True):
        folder = tmp_path / str(wanted)
        folder.mkdir()
        world = ShadowWorld(folder, table=WITHOUT_A_KEY)
        with world.open(seconds_v3(consent="auto", shadow=wanted)) as engine:
            if wanted:
                with pytest.raises(MigrationInvalid, match="no unique index"):
                    engine.migrate()
                leaves_nothing_behind(engine._store)
                assert engine._store.query("SELECT count(*) FROM journeys WHERE minutes >= 0") == [(100,)]
            else:
                engine.migrate()
                assert method_of(engine) == ("completed", "transaction")
