"""Other programs alter the live table, its triggers or the schema while a collection is rewritten beside it."""

import subprocess
import sys

import pytest
from imports import V2
from migrate_world import dump
from shadow_world import ShadowWorld, agrees, leaves_nothing_behind, result_of

from syncengine.errors import MigrationDenied, MigrationInvalid, TableDisturbed
from syncengine.migrate.shadow_triggers import trigger_names

WITHOUT = ("_sync_run", "_sync_lease", "_sync_restore_point")
EDIT = "UPDATE journeys SET minutes = 50 WHERE id = 'w-00001'; "
TRIGGERS = trigger_names("journeys")


@pytest.fixture
def world(tmp_path):
    return ShadowWorld(tmp_path)


def transform(world):
    """By another process: a second SQLite library in this one would break its locks."""
    told = [sys.executable, "-m", "sqlite_utils", "transform", world.path, "journeys", "--default", "title", "none"]
    subprocess.run(told, check=True)


def follow_the_recipe(world):
    """sqlite.org/lang_altertable.html: make a new table, copy, drop the old one, rename."""
    create = V2.replace("journeys", "j2")
    world.command_line(
        f"BEGIN; {create} INSERT INTO j2 SELECT * FROM journeys; DROP TABLE journeys; "
        "ALTER TABLE j2 RENAME TO journeys; COMMIT"
    )


def drop_the_triggers(world):
    world.command_line("".join(f"DROP TRIGGER {name};" for name in TRIGGERS))


def texts(world):
    names = ", ".join(f"'{name}'" for name in TRIGGERS)
    return world.command_line(f"SELECT sql || ';' FROM sqlite_schema WHERE name IN ({names}) ORDER BY rowid")


def after_an_edit(world, number, disturb, *, at):
    if number == at:
        disturb(world)
        world.command_line(EDIT)


@pytest.mark.parametrize("disturb", [transform, follow_the_recipe, drop_the_triggers])
@pytest.mark.parametrize("at", [5, 9])
def test_what_is_written_while_nothing_is_noted_comes_over(world, disturb, at):
    with world.open(between=lambda number: after_an_edit(world, number, disturb, at=at)) as engine:
        result = result_of(engine.migrate())
        assert (result.state, result.counts.read) == ("completed", 100)
        assert engine._store.query("SELECT seconds FROM journeys WHERE id = 'w-00001'") == [(3000,)]
        assert engine._store.query("PRAGMA integrity_check") == [("ok",)]
        leaves_nothing_behind(engine._store, kept=["_sync_old_journeys"])


def test_triggers_that_are_put_back_as_they_were_have_missed_what_was_written_meanwhile(world):
    def disturb(number):
        if number == 5:
            put_back = texts(world)
            drop_the_triggers(world)
            world.command_line(EDIT)
            world.command_line(put_back)

    with world.open(between=disturb) as engine:
        assert result_of(engine.migrate()).state == "completed"
        agrees(engine._store)
        leaves_nothing_behind(engine._store, kept=["_sync_old_journeys"])


def test_a_trigger_that_is_made_anew_never_has_its_old_place(world):
    """Else nobody could tell it from the one that was dropped."""
    seen = []

    def disturb(number):
        if number == 5:
            for name in TRIGGERS:
                place = f"SELECT rowid FROM sqlite_schema WHERE name = '{name}'"
                sql = world.command_line(f"SELECT sql FROM sqlite_schema WHERE name = '{name}'")
                seen.append(world.command_line(f"{place}; DROP TRIGGER {name}; {sql}; {place}").split())

    with world.open(between=disturb) as engine:
        engine.migrate()
        assert len(seen) == len(TRIGGERS)
        assert all(int(after) > int(before) for before, after in seen)


def test_a_change_of_another_table_begins_nothing_anew(world):
    def disturb(number):
        if number in {3, 5, 7, 9}:
            world.command_line(
                f"CREATE TABLE other_{number} (a); CREATE INDEX journeys_{number} ON journeys (minutes)"
            )
            world.command_line(EDIT)

    with world.open(between=disturb) as engine:
        result = result_of(engine.migrate())
        assert result.batches <= 10 + 1
        agrees(engine._store)


def test_a_table_that_is_made_anew_again_and_again_stops_the_run_with_a_reason(world):
    def disturb(number):
        if number % 4 == 3:
            transform(world)

    with world.open(between=disturb) as engine:
        before = dump(engine._store, without=WITHOUT)[1]["journeys"]
        result = result_of(engine.migrations.migrate_all_data())
        assert isinstance(result.failure, TableDisturbed)
        assert "4 times" in str(result.failure)
        assert dump(engine._store, without=WITHOUT)[1]["journeys"] == before
        leaves_nothing_behind(engine._store)


def test_the_filled_table_that_another_program_drops_is_filled_anew(world):
    def disturb(number):
        if number == 5:
            world.command_line("DROP TABLE journeys_new_")

    with world.open(between=disturb) as engine:
        assert result_of(engine.migrate()).state == "completed"
        agrees(engine._store)


def test_a_vacuum_meanwhile_does_no_harm(world):
    def disturb(number):
        if number == 5:
            world.command_line(f"VACUUM; {EDIT}")

    with world.open(between=disturb) as engine:
        assert result_of(engine.migrate()).state == "completed"
        agrees(engine._store)


def test_other_columns_stop_the_run_at_once(world):
    def disturb(number):
        if number == 5:
            world.command_line("ALTER TABLE journeys ADD COLUMN mood TEXT")

    with world.open(between=disturb) as engine:
        result = result_of(engine.migrations.migrate_all_data())
        assert isinstance(result.failure, MigrationInvalid)
        assert result.batches == 5


def test_the_apps_own_code_cannot_write_the_table_that_is_being_filled(world):
    refused = []

    def disturb(number):
        if number == 5:
            for sql in ("UPDATE journeys_new_ SET seconds = 1", "DELETE FROM _sync_shadow_touched"):
                with pytest.raises(MigrationDenied), app.write() as db:
                    db.execute(sql)
                refused.append(sql)

    with world.open(between=disturb) as app:
        app.migrate()
        assert len(refused) == 2
        agrees(app._store)
