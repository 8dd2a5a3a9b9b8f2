"""Capture in an engine: groups of a write(), the shapes that migrations make, and triggers that somebody lost."""

import json

import imports
import pytest
import restore_world
from flow_world import FOUR, THREE, column
from rollback_world import ImportExecutor, make_v2, open_at, seconds_v3, write_phone
from shadow_world import ShadowWorld, make_tables

from syncengine import Settings, archive, declared, rename
from syncengine.errors import GroupTooLarge
from syncengine.outbox.capture import verify_capture

NAMES = [f"_sync_capture_journeys_{event}" for event in ("delete", "insert", "rekey", "update")]


def entries(engine, columns="kind, row_key, set_json, shape_version"):
    return engine._store.query(f"SELECT {columns} FROM _sync_outbox WHERE kind <> 'migration' ORDER BY entry_id")


def groups(engine):
    query = "SELECT g.group_id FROM _sync_outbox JOIN _sync_group AS g USING (entry_id) WHERE kind <> 'migration' "
    return [group for (group,) in engine._store.query(f"{query} ORDER BY entry_id")]


def forget(engine):
    with engine._store.transaction():
        engine._store.query("DELETE FROM _sync_outbox")


def triggers(engine, collection="journeys"):
    rows = engine._store.query(
        "SELECT name FROM sqlite_schema WHERE tbl_name = ? AND name GLOB '_sync_capture_*' ORDER BY name",
        (collection,),
    )
    return [name for (name,) in rows]


def as_they_ought_to_be(engine):
    with engine._store.transaction():
        return verify_capture(engine._store) == ()


def add(engine, *keys, **columns):
    with engine.write() as db:
        for key in keys:
            db["journeys"].insert({"user_id": "ann", "id": key, **columns})


@pytest.fixture
def engine(tmp_path):
    with open_at(tmp_path / "app.db", make_v2(), target="2.0.0", settings=Settings(group_entries_max=4)) as engine:
        engine.migrate()
        yield engine


# Groups.


def test_what_one_write_queues_is_one_group_and_the_next_write_another(engine):
    add(engine, "a", "b", minutes=1.0)
    add(engine, "c", minutes=1.0)
    first, again, other = groups(engine)
    assert first == again < other


def test_a_write_inside_a_write_is_of_the_same_group(engine):
    with engine.write() as db:
        db["journeys"].insert({"user_id": "ann", "id": "a", "minutes": 1.0})
        add(engine, "b", minutes=1.0)
        db["journeys"].insert({"user_id": "ann", "id": "c", "minutes": 1.0})
    assert len(set(groups(engine))) == 1


def test_what_another_program_wrote_before_is_not_in_the_group_of_a_write(engine):
    by_others = "INSERT INTO journeys (user_id, id, minutes) VALUES ('ann', ?, 1.0)"
    for key in ("cli", "cli again"):
        with engine._store.transaction():
            engine._store.query(by_others, (key,))
    add(engine, "a", "b", minutes=1.0)
    with engine._store.transaction():
        engine._store.query(by_others, ("cli after",))
    before, again, own, own_too, after = groups(engine)
    assert before == again < own == own_too < after


def test_a_write_that_queues_nothing_leaves_the_groups_alone(engine):
    add(engine, "a", minutes=1.0)
    with engine._store.transaction():
        engine._store.query("UPDATE _sync_outbox SET fresh = 1")
    with engine.write() as db:
        db.execute("UPDATE journeys SET minutes = minutes")
    assert entries(engine, "fresh") == [(1,)]


def test_a_write_of_more_than_one_group_may_hold_is_refused_whole(engine):
    with pytest.raises(GroupTooLarge, match="5 changes"):
        add(engine, *"abcde", minutes=1.0)
    assert entries(engine) == []
    with engine.read() as db:
        assert db["journeys"].count == 0
    add(engine, *"abcd", minutes=1.0)
    assert len(set(groups(engine))) == 1


def test_a_write_of_more_bytes_than_one_group_may_hold_is_refused_whole(tmp_path):
    rows = [{"user_id": "ann", "id": f"w{n}", "minutes": 1.0, "title": f"{n}" * 900} for n in range(6)]
    with open_at(tmp_path / "app.db", make_v2(), target="2.0.0", settings=Settings(group_bytes_max=3_000)) as engine:
        engine.migrate()
        with pytest.raises(GroupTooLarge, match="bytes"), engine.write() as db:
            db["journeys"].insert_all(rows[:4])
        assert entries(engine) == []
        with engine.write() as db:
            db["journeys"].insert_all(rows[:2])
        with engine.write(atomic=False) as db:
            db["journeys"].insert_all(rows[2:])
        assert len(entries(engine)) == 6


def test_a_bulk_load_is_one_transaction_and_several_groups(engine):
    with engine.write(atomic=False) as db:
        db["journeys"].insert_all({"user_id": "ann", "id": f"w{n}", "minutes": 1.0} for n in range(10))
    add(engine, "last", minutes=1.0)
    found = groups(engine)
    assert found == sorted(found)
    assert [found.count(group) for group in sorted(set(found))] == [4, 4, 2, 1]


def test_a_write_wakes_the_runner_only_when_it_has_queued_something(engine, monkeypatch):
    heard = []
    monkeypatch.setattr(engine, "_wake", heard.append)
    add(engine, "a", minutes=1.0)
    with engine.write() as db:
        db.execute("UPDATE journeys SET minutes = minutes")
    with pytest.raises(GroupTooLarge):
        add(engine, *"bcdef", minutes=1.0)
    assert heard.count("edited") == 1


def test_reconcile_is_part_of_the_engine(engine):
    with engine._store.transaction(), engine._store.without_triggers():
        engine._store.query("INSERT INTO journeys VALUES ('ann', 'unseen', 1.0, NULL)")
    assert engine.reconcile().queued == 1
    assert entries(engine, "kind, row_key") == [("put", "unseen")]


# Migrations.


def test_collections_are_captured_from_the_migration_on_that_made_them(engine):
    assert triggers(engine) == NAMES
    add(engine, "a", minutes=2.0, title="sea")
    assert entries(engine) == [("put", "a", '{"id":"a","minutes":2.0,"title":"sea"}', "2.0.0")]


def test_rows_that_a_migration_rewrites_are_not_queued_and_later_edits_have_the_new_shape(tmp_path):
    path = tmp_path / "app.db"
    with open_at(path, make_v2(), target="2.0.0") as engine:
        engine.migrate()
        add(engine, "a", minutes=2.0)
        forget(engine)
    with open_at(path, make_v2(), seconds_v3(consent="auto")) as engine:
        engine.migrate()
        assert entries(engine) == []
        assert triggers(engine) == NAMES
        with engine.write() as db:
            db.execute("UPDATE journeys SET seconds = 7")
        assert entries(engine) == [("patch", "a", '{"seconds":7}', "3.0.0")]
        assert as_they_ought_to_be(engine)


def test_a_migration_that_fails_leaves_capture_as_it_was(tmp_path):
    def refuse(old):
        raise RuntimeError

    refuse.__annotations__ = seconds_v3().function.__annotations__
    path = tmp_path / "app.db"
    with open_at(path, make_v2(), target="2.0.0") as engine:
        engine.migrate()
        add(engine, "a", minutes=2.0)
        forget(engine)
        store = engine._store
        before = store.query("SELECT name, sql FROM sqlite_schema ORDER BY name")
    with open_at(
        path, make_v2(), seconds_v3(refuse, consent="auto", critical=False, quarantine_rows_max=0)
    ) as engine:
        report = engine.migrate()
        assert [result.success for result in report.results] == [False]
        assert engine._store.query("SELECT name, sql FROM sqlite_schema ORDER BY name") == before
        assert as_they_ought_to_be(engine)


def test_renamed_and_dropped_columns_leave_no_trigger_behind(tmp_path):
    path = tmp_path / "app.db"
    made = make_tables(imports.V2.replace("UNIQUE", ""))
    changes = (rename("minutes", "duration"), archive("title"))
    changed = declared(id="change", name="Change", collection="journeys", changes=changes, **THREE)
    with open_at(path, made, target="2.0.0") as engine:
        engine.migrate()
        add(engine, "a", minutes=2.0, title="sea")
        forget(engine)
    with open_at(path, made, changed) as engine:
        engine.migrate()
        with engine.write() as db:
            db.execute("UPDATE journeys SET duration = 3.0")
            db.execute("DELETE FROM journeys")
        assert entries(engine, "kind, set_json, before_json, shape_version") == [
            ("patch", '{"duration":3.0}', '{"duration":2.0}', "3.0.0"),
            ("delete", None, '{"id":"a","duration":3.0}', "3.0.0"),
        ]
        assert as_they_ought_to_be(engine)


def test_an_added_column_is_captured(tmp_path):
    steps = (make_v2(), column("mood", collection="journeys", **THREE), column("sky", collection="journeys", **FOUR))
    with open_at(tmp_path / "app.db", *steps, target="4.0.0") as engine:
        engine.migrate()
        add(engine, "a", minutes=2.0)
        assert json.loads(entries(engine)[0][2]) == {
            "id": "a",
            "minutes": 2.0,
            "title": None,
            "mood": "x",
            "sky": "x",
        }


def test_imports_are_not_queued_as_edits(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [{"id": "w1", "minutes": 3.0, "title": "sea"}])
    steps = (make_v2(), ImportExecutor())
    with open_at(tmp_path / "app.db", *steps, target="2.0.0", sources={"phone": phone}) as engine:
        engine.migrate()
        with engine.read() as db:
            assert db["journeys"].count == 1
        assert entries(engine) == []
        assert triggers(engine) == NAMES


def test_a_rollback_brings_the_triggers_of_the_old_shape_back(tmp_path):
    path = tmp_path / "app.db"
    with open_at(path, make_v2(), seconds_v3(consent="auto")) as engine:
        engine.migrate()
        add(engine, "a", seconds=120)
        forget(engine)
        engine.migrations.rollback("seconds-v3", "ann", consent=("ann",))
        assert entries(engine) == []
        assert as_they_ought_to_be(engine)
    with open_at(path, make_v2(), target="2.0.0") as engine:
        with engine.write() as db:
            db.execute("UPDATE journeys SET minutes = 5.0")
        assert entries(engine) == [("patch", "a", '{"minutes":5.0}', "2.0.0")]


def test_a_rollback_that_drops_the_table_takes_its_triggers_along(engine):
    engine.migrations.rollback("tables-v2", "ann")
    assert triggers(engine) == []
    assert as_they_ought_to_be(engine)


# Beside the live table.


def test_edits_are_captured_while_a_large_collection_is_rewritten_and_after(tmp_path):
    world = ShadowWorld(tmp_path, rows=60)
    with world.open(target="2.0.0") as engine:
        forget(engine)
    other = world.other_process()

    def between(number):
        if number == 2:
            other.execute("UPDATE journeys SET title = 'mine' WHERE id = 'w-00003'")

    with world.open(imports.seconds_v3(consent="auto"), between=between) as engine:
        report = engine.migrate()
        assert report.results[-1].success
        assert engine._store.query("SELECT method FROM _sync_run WHERE migration = 'seconds-v3'") == [("shadow",)]
        assert entries(engine, "kind, row_key") == [("patch", "w-00003")]
        assert triggers(engine) == NAMES
        assert triggers(engine, "_sync_old_journeys") == []
        assert as_they_ought_to_be(engine)
        with engine.write() as db:
            db.execute("UPDATE journeys SET seconds = 7 WHERE id = 'w-00004'")
        assert entries(engine)[-1] == ("patch", "w-00004", '{"seconds":7}', "3.0.0")
    other.close()


def test_a_kept_table_that_comes_back_is_captured_in_its_old_shape(tmp_path):
    world = ShadowWorld(tmp_path, rows=30)
    with world.open(imports.seconds_v3(consent="auto")) as engine:
        engine.migrate()
        engine.migrations.rollback("seconds-v3", None, consent=("ann",))
        assert as_they_ought_to_be(engine)
        assert triggers(engine) == NAMES
    with world.open(target="2.0.0") as engine:
        forget(engine)
        with engine.write() as db:
            db.execute("UPDATE journeys SET minutes = 5.5 WHERE id = 'w-00004'")
        assert entries(engine) == [("patch", "w-00004", '{"minutes":5.5}', "2.0.0")]


# Lost triggers.


def lose(path, engine_of):
    with engine_of(path) as engine, engine._store.transaction():
        engine._store.query("DROP TRIGGER _sync_capture_journeys_update")


def engine_of(path, **options):
    return open_at(path, make_v2(), target="2.0.0", **options)


def test_a_start_puts_lost_triggers_right_and_says_so(tmp_path):
    path = tmp_path / "app.db"
    with engine_of(path) as engine:
        engine.migrate()
        add(engine, "a", minutes=1.0)
    lose(path, engine_of)
    heard = []
    with engine_of(path, listener=heard.append) as engine:
        assert as_they_ought_to_be(engine)
        said = [event.message for event in heard if "journeys" in getattr(event, "message", "")]
        assert len(said) == 1
        assert "reconcile()" in said[0]
    heard.clear()
    with engine_of(path, listener=heard.append):
        assert heard == []


def test_a_start_after_capture_was_off_does_not_compare_the_shapes_again(tmp_path, monkeypatch):
    from syncengine.migrate import drift
    from syncengine.outbox.capture import capture_off

    path = tmp_path / "app.db"
    with engine_of(path) as engine:
        engine.migrate()
        with engine._store.transaction(), capture_off(engine._store, ("journeys",), reshaping=True):
            engine._store.query("INSERT INTO journeys VALUES ('ann', 'pulled', 1.0, NULL)")
    looked = []
    monkeypatch.setattr(drift, "watch_shapes", lambda *args, **facts: looked.append(args))
    with engine_of(path):
        assert looked == []


def test_a_drifted_collection_keeps_its_triggers(tmp_path):
    path = tmp_path / "app.db"
    with engine_of(path) as engine:
        engine.migrate()
        with engine._store.transaction():
            engine._store.query("ALTER TABLE journeys ADD COLUMN extra TEXT")
    with engine_of(path) as engine:
        assert list(engine._store.drifted) == ["journeys"]
        assert triggers(engine) == NAMES


def test_a_restore_brings_the_triggers_of_its_time_back_and_queues_nothing(tmp_path):
    path = tmp_path / "app.db"
    restore_world.fill(path, [restore_world.note("a", minutes=1.0)])
    with restore_world.opened(path, consent=lambda request: True) as engine:
        engine.migrate()
        engine.restore(engine.restore_points()[0].restore_point_id)
        assert entries(engine) == []
        assert as_they_ought_to_be(engine)
    with restore_world.opened(path, registry=restore_world.old_app()) as engine:
        with engine.write() as db:
            db.execute("UPDATE notes SET minutes = 2.0")
        assert entries(engine)[-1] == ("patch", "a", '{"minutes":2.0}', "1.1.0")
