"""Rows that go back by a way down: what is kept, what collides, what comes back, what is recorded."""

import pytest
from migrate_world import quiet_write
from rollback_world import (
    V2,
    JourneyV2,
    JourneyV3,
    add_walks,
    contents,
    make_v2,
    open_at,
    seconds_v3,
    to_minutes,
    to_seconds,
    walks_of,
)

from syncengine import Quarantine, clamp, tables
from syncengine.errors import RollbackFailed, RollbackRefused
from syncengine.events import MigrationMessage

ROWS = [("ann", "a-1", 1.5, "one"), ("ann", "a-2", 2.0, None), ("bob", "b-1", 3.25, "three")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.db"


def at_three(path, *rows, **options):
    """An engine of version 3 whose rows were written at version 2."""
    with open_at(path, make_v2(), seconds_v3(), target="2.0.0") as engine:
        engine.migrate()
        add_walks(engine, *(rows or ROWS))
    engine = open_at(path, make_v2(), seconds_v3(), **options)
    engine.migrate()
    return engine


def test_rows_go_there_and_back_and_the_version_with_them(path):
    with at_three(path) as engine:
        report = engine.migrations.rollback("seconds-v3", "ann", consent={"bob"})
        assert report.state == "rolled_back", report
        assert walks_of(engine) == ROWS
        assert engine.migrations.get_current_schema_version() == "2.0.0"
        assert engine.migrations.get_current_schema_version("ann") == "2.0.0"
        shapes = engine._store.query("SELECT name, shape_version FROM _sync_collection")
        assert shapes == [("journeys", "2.0.0")]
    with open_at(path, make_v2(), target="2.0.0") as older:
        assert older.migrate() is None
        with older.read() as db:
            assert db["journeys"].count == 3


def test_the_store_is_as_it_was_before_the_migration(path):
    with open_at(path, make_v2(), seconds_v3(), target="2.0.0") as engine:
        engine.migrate()
        add_walks(engine, *ROWS)
        before = contents(engine)
    with open_at(path, make_v2(), seconds_v3()) as engine:
        engine.migrate()
        engine.migrations.rollback("seconds-v3", "ann", consent={"bob"})
        schema, rows = contents(engine)
    assert schema == before[0]
    for table in ("journeys", "_sync_quarantine", "_sync_outbox", "_sync_archive"):
        assert rows[table] == before[1][table]


def test_a_listener_hears_of_a_rollback_that_was_done_and_of_no_other(path):
    heard = []
    with at_three(path, ("ann", "a", 1.0, "x"), ("ann", "b", 13 / 60, "y"), listener=heard.append) as engine:
        heard.clear()
        engine.migrations.rollback("seconds-v3", "ann", simulate=True)
        engine.migrations.rollback("seconds-v3", "ann")
        assert heard == []
        engine.migrations.rollback("seconds-v3", "ann", on_collision="keep")
        assert heard == [MigrationMessage(message="Rolled back. In quarantine: 1.", type="warning")]


def test_edits_that_were_made_since_go_back_too(path):
    with at_three(path) as engine:
        with quiet_write(engine) as db:
            db.execute("UPDATE journeys SET seconds = 600 WHERE id = 'a-1'")
            db.execute("INSERT INTO journeys VALUES ('ann', 'a-3', 60, 'new')")
            db.execute("DELETE FROM journeys WHERE id = 'b-1'")
        report = engine.migrations.rollback("seconds-v3", "ann")
        assert walks_of(engine) == [
            ("ann", "a-1", 10.0, "one"),
            ("ann", "a-2", 2.0, None),
            ("ann", "a-3", 1.0, "new"),
        ]
        assert (report.undone[0].counts.before, report.undone[0].counts.after, report.lost) == (3, 3, 0)


def test_a_simulation_says_what_would_be_done_and_changes_nothing(path):
    with at_three(path) as engine:
        add_walks(engine, ("ann", "a-9", 13, None))
        before = contents(engine)
        report = engine.migrations.rollback("seconds-v3", "ann", simulate=True)
        assert report.state == "simulated"
        assert report.plan.others == ("bob",)
        assert [(c.owner, c.key, c.code) for c in report.collisions] == [("ann", "a-9", "conversion_failed")]
        assert contents(engine) == before
        assert engine._store.query("SELECT count(*) FROM _sync_run WHERE state = 'rolled_back'") == [(0,)]


def test_collisions_are_listed_and_nothing_is_done_unless_somebody_decided(path):
    with at_three(path) as engine:
        add_walks(engine, ("ann", "a-9", 13, "odd"))
        before = contents(engine)
        report = engine.migrations.rollback("seconds-v3", "ann", consent={"bob"})
        assert (report.state, report.success, report.changed) == ("stopped", False, False)
        assert [(c.collection, c.key) for c in report.collisions] == [("journeys", "a-9")]
        assert "odd" not in str(report)
        assert contents(engine) == before


def test_with_keep_the_row_that_has_no_way_back_is_whole_in_quarantine(path):
    with at_three(path) as engine:
        add_walks(engine, ("ann", "a-9", 13, "odd"))
        report = engine.migrations.rollback("seconds-v3", "ann", consent={"bob"}, on_collision="keep")
        assert (report.state, report.lost) == ("rolled_back", 1)
        assert walks_of(engine) == ROWS
        items = engine._store.query(
            "SELECT origin, owner, row_key, body, shape_version FROM _sync_quarantine WHERE origin <> 'outbox'"
        )
        body = '{"user_id":"ann","id":"a-9","seconds":13,"title":"odd"}'
        assert items == [("restore", "ann", "a-9", body, "3.0.0")]


def test_what_the_migration_had_set_aside_comes_back_into_the_table(path):
    rows = [*ROWS, ("ann", "a-8", 9e300, "endless")]
    with at_three(path, *rows) as engine:
        assert engine.status().quarantined == 2  # the row, and the edit that waits to be sent
        report = engine.migrations.rollback("seconds-v3", "ann", consent={"bob"})
        assert engine.status().quarantined == 0
        assert report.restored == 1
        assert walks_of(engine) == sorted(rows)
        assert engine._store.query("SELECT resolution FROM _sync_quarantine WHERE origin <> 'outbox'") == [
            ("restored",)
        ]


def test_other_users_have_to_be_named_before_their_rows_go_back(path):
    with at_three(path) as engine:
        before = contents(engine)
        with pytest.raises(RollbackRefused, match="bob"):
            engine.migrations.rollback("seconds-v3", "ann")
        with pytest.raises(RollbackRefused, match="ann, bob"):
            engine.migrations.rollback("seconds-v3")
        assert contents(engine) == before


def test_the_history_says_who_asked_why_and_how(path):
    with at_three(path) as engine:
        engine.migrations.rollback("seconds-v3", "ann", consent={"bob"}, why="walks look wrong")
        line = engine._store.query(
            "SELECT migration, scope, state, method, rows_read, rows_written, note FROM _sync_run"
            " WHERE state = 'rolled_back'"
        )
        assert line == [
            ("seconds-v3", "store", "rolled_back", "down", 3, 3, "asked for by ann: walks look wrong"),
        ]


def test_what_was_rolled_back_is_held_until_somebody_asks_for_it(path):
    with at_three(path) as engine:
        engine.migrations.rollback("seconds-v3", "ann", consent={"bob"})
        assert engine.migrate().results == ()
        assert [step.id for step in engine.plan().held_back] == ["seconds-v3"]
        assert engine.migrations.get_current_schema_version() == "2.0.0"
        assert engine.migrations.execute_migration("seconds-v3", "ann").state == "completed"
        assert walks_of(engine)[0] == ("ann", "a-1", 90, "one")
        assert engine.migrations.get_current_schema_version("ann") == "3.0.0"
        assert engine.migrate() is None


def test_other_code_runs_by_itself_again(path):
    with at_three(path) as engine:
        engine.migrations.rollback("seconds-v3", "ann", consent={"bob"})

    def mended(old: "JourneyV2") -> "JourneyV3":
        return to_seconds(old)

    mended.__annotations__ = to_seconds.__annotations__
    with open_at(path, make_v2(), seconds_v3(mended)) as engine:
        assert [result.state for result in engine.migrate().results] == ["completed"]


def test_a_way_down_that_fails_for_every_row_is_wrong_itself(path):
    def slip(new: "JourneyV3") -> "JourneyV2":
        return new.minutes

    slip.__annotations__ = to_minutes.__annotations__
    with at_three(path):
        pass
    with open_at(path, make_v2(), seconds_v3(down=slip)) as engine:
        before = contents(engine)
        with pytest.raises(RollbackFailed, match="failed for every row"):
            engine.migrations.rollback("seconds-v3", "ann", consent={"bob"}, on_collision="keep")
        assert contents(engine) == before


def test_rolling_back_what_has_not_run_is_refused(path):
    with at_three(path) as engine:
        engine.migrations.rollback("seconds-v3", "ann", consent={"bob"})
        with pytest.raises(RollbackRefused, match="rolled back already"):
            engine.migrations.rollback("seconds-v3", "ann", consent={"bob"})


def test_before_rows_go_back_there_is_a_restore_point_but_none_for_what_is_stopped(path):
    with at_three(path) as engine:
        made = "SELECT count(*) FROM _sync_restore_point WHERE reason LIKE 'before the rollback%'"
        with quiet_write(engine) as db:
            db.execute("INSERT INTO journeys VALUES ('ann', 'odd', 13, NULL)")
        assert engine.migrations.rollback("seconds-v3", "ann", consent={"bob"}).restore_point_id is None
        assert engine._store.query(made) == [(0,)]
        report = engine.migrations.rollback("seconds-v3", "ann", consent={"bob"}, on_collision="keep")
        assert engine._store.query(made) == [(1,)]
        lost = engine.migrations.restore(report.restore_point_id, "ann", consent={"bob"})
        assert walks_of(engine)[-1] == ("bob", "b-1", 195, "three")
        assert ("ann", "odd", 13, None) in walks_of(engine), lost


def test_what_a_rule_had_repaired_is_as_it_was_unless_somebody_edited_it(path):
    rows = [("ann", "a", -1.0, "low"), ("ann", "b", -2.0, "edited"), ("ann", "c", 3.0, "good")]
    repairs = (clamp("minutes", at_least=0.0, on="seconds"),)
    steps = (make_v2(), seconds_v3(never_below_zero, repairs=repairs))
    with open_at(path, *steps, target="2.0.0") as engine:
        engine.migrate()
        add_walks(engine, *rows)
    with open_at(path, *steps) as engine:
        assert "2 rows repaired: minutes clamped" in engine.migrate().results[0].warnings
        assert [row[2] for row in walks_of(engine)] == [0, 0, 180]
        with quiet_write(engine) as db:
            db.execute("UPDATE journeys SET seconds = 30 WHERE id = 'b'")
        assert engine.migrations.rollback("seconds-v3", "ann").state == "rolled_back"
        assert walks_of(engine) == [rows[0], ("ann", "b", 0.5, "edited"), rows[2]]
        assert engine._store.query("SELECT count(*) FROM _sync_archive") == [(0,)]


def never_below_zero(old: JourneyV2) -> JourneyV3:
    if old.minutes < 0:
        raise Quarantine("below zero", field="seconds")
    return to_seconds(old)


POINTS = """
CREATE TABLE places (
  user_id TEXT NOT NULL, id TEXT NOT NULL, walk TEXT NOT NULL, PRIMARY KEY (user_id, id),
  FOREIGN KEY (user_id, walk) REFERENCES journeys (user_id, id)
) STRICT
"""


def test_rows_whose_parent_has_no_way_back_collide_with_it(path):
    with open_at(path, make_v2(POINTS), seconds_v3()) as engine:
        engine.migrate()
        add_walks(engine, ("ann", "odd", 13, None), ("ann", "even", 60, None))
        with quiet_write(engine) as db:
            db.execute("INSERT INTO places VALUES ('ann', 'p1', 'odd'), ('ann', 'p2', 'even')")
        report = engine.migrations.rollback("seconds-v3", "ann")
        assert (report.state, [(c.collection, c.key, c.code) for c in report.collisions]) == (
            "stopped",
            [("journeys", "odd", "conversion_failed"), ("places", "p1", "parent_set_aside")],
        )
        report = engine.migrations.rollback("seconds-v3", "ann", on_collision="keep")
        assert (report.state, report.lost) == ("rolled_back", 2)
        assert engine._store.query("SELECT id FROM places") == [("p2",)]
        assert engine._store.query("PRAGMA foreign_key_check") == []


def test_rows_that_are_not_of_the_older_shape_stop_it(path):
    """The way down passes by its own model, and the table takes anything."""

    def wordy(new: JourneyV3) -> JourneyV2:
        return JourneyV2.model_construct(user_id=new.user_id, id=new.id, minutes="many", title=new.title)

    lax = tables(id="tables-v2", from_version="1.0.0", to_version="2.0.0", create=(V2.replace(" STRICT", ""),))
    with open_at(path, lax, seconds_v3(down=wordy)) as engine:
        engine.migrate()
        add_walks(engine, ("ann", "a", 60, None))
        before = contents(engine)
        with pytest.raises(RollbackFailed, match="not of the older shape"):
            engine.migrations.rollback("seconds-v3", "ann", on_collision="keep")
        assert contents(engine) == before
