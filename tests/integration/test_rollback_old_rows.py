"""Going back without a way down: the rows of before, and what was edited, added or deleted since."""

import json

import pytest
from imports import V2, V3, JourneyV2, JourneyV3
from migrate_world import quiet_write
from rollback_world import add_walks, contents, make_v2, open_at, seconds_v3, walks_of

from syncengine import Settings, migration, tables
from syncengine.errors import RollbackRefused

LOOSE_V2, LOOSE_V3 = V2.replace(" UNIQUE", ""), V3.replace(" UNIQUE", "")
ROWS = [
    ("ann", "a", 1.0, "park"),
    ("ann", "b", 2.0, "park"),
    ("ann", "c", 3.0, "lake"),
    ("ann", "d", 1e300, "hill"),
    ("bob", "e", 4.0, "lake"),
]


def longest(old: list[JourneyV2]) -> JourneyV3:
    best = max(old, key=lambda walk: walk.minutes)
    return JourneyV3(user_id=best.user_id, id=best.id, seconds=round(best.minutes * 60), title=best.title)


def merge_v3():
    return migration(
        id="merge-v3",
        collection="journeys",
        from_version="2.0.0",
        to_version="3.0.0",
        table=LOOSE_V3,
        group_by="title",
        lossy=True,
    )(longest)


def steps():
    return tables(id="tables-v2", from_version="1.0.0", to_version="2.0.0", create=(LOOSE_V2,)), merge_v3()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "app.db"
    with open_at(path, *steps(), target="2.0.0") as engine:
        engine.migrate()
        add_walks(engine, *ROWS)
        with engine._store.transaction():
            engine._store.query("CREATE INDEX own ON journeys (title)")
            engine._store.query(
                "CREATE TRIGGER counted AFTER DELETE ON journeys BEGIN"
                " INSERT INTO journeys SELECT old.user_id, old.id || 'x', 1, NULL WHERE 0; END"
            )
    with open_at(path, *steps()) as engine:
        engine.migrate()
        assert walks_of(engine) == [
            ("ann", "b", 120, "park"),
            ("ann", "c", 180, "lake"),
            ("bob", "e", 240, "lake"),
        ]
    return path


def test_a_merge_goes_back_to_the_rows_of_the_restore_point(path):
    with open_at(path, *steps()) as engine:
        report = engine.migrations.rollback("merge-v3", "ann", consent={"bob"})
        assert (report.state, report.undone[0].method) == ("rolled_back", "restore_point")
        assert walks_of(engine) == ROWS
        assert engine._store.query("SELECT resolution FROM _sync_quarantine WHERE origin <> 'outbox'") == [
            ("restored",)
        ]
        found = engine._store.query(
            "SELECT name FROM sqlite_schema WHERE tbl_name = 'journeys' AND sql NOT NULL AND name NOT LIKE '_sync%'"
        )
        assert sorted(found) == [("counted",), ("journeys",), ("own",)]
        assert engine._store.query("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'journeys!_%' ESCAPE '!'") == [
            (0,)
        ]


def test_what_is_newer_collides_and_goes_to_quarantine_only_when_somebody_says_so(path):
    with open_at(path, *steps()) as engine:
        with quiet_write(engine) as db:
            db.execute("UPDATE journeys SET seconds = 99 WHERE id = 'b'")
            db.execute("INSERT INTO journeys VALUES ('ann', 'new', 60, 'moor')")
            db.execute("DELETE FROM journeys WHERE id = 'c'")
        before = contents(engine)
        for choice in ("stop", "keep"):
            report = engine.migrations.rollback("merge-v3", "ann", consent={"bob"}, on_collision=choice)
            assert report.state == "stopped"
            assert [(c.key, c.code) for c in report.collisions] == [
                ("b", "edited_since"),
                ("new", "new_since"),
                ("c", "deleted_since"),
            ]
            assert contents(engine) == before
        report = engine.migrations.rollback("merge-v3", "ann", consent={"bob"}, on_collision="overwrite")
        assert (report.state, report.lost, report.restored) == ("rolled_back", 2, 2)
        assert walks_of(engine) == ROWS
        items = engine._store.query("SELECT body FROM _sync_quarantine WHERE origin = 'restore' ORDER BY item_id")
        assert [json.loads(body)["seconds"] for (body,) in items] == [99, 60]


ODD_NOTES = (
    "CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, text TEXT COLLATE NOCASE, number,"
    " PRIMARY KEY (user_id, id))"
)


KEYS_OF_ANY_LETTERS = ODD_NOTES.replace("id TEXT NOT NULL", "id TEXT NOT NULL COLLATE NOCASE")


def same_v3(*, table=ODD_NOTES, **facts):
    return migration(
        id="same-v3",
        collection="notes",
        from_version="2.0.0",
        to_version="3.0.0",
        table=table,
        lossy=True,
        **facts,
    )(same)


def same(old: dict) -> dict:
    return old


def odd_rows(engine):
    return engine._store.query("SELECT id, hex(text), quote(number) FROM notes ORDER BY id")


def odd_notes(path, *rows, table=ODD_NOTES, **facts):
    """A store whose notes went through a migration that changed nothing, and has no way down."""
    made = tables(id="tables-v2", from_version="1.0.0", to_version="2.0.0", create=(table,))
    with open_at(path, made, target="2.0.0") as engine:
        engine.migrate()
        with engine._store.transaction():
            for row in rows:
                engine._store.query(f"INSERT INTO notes VALUES ('ann', {row})")
    return open_at(path, made, same_v3(table=table, **facts), settings=Settings(shadow_rows_min=1))


both_ways = pytest.mark.parametrize(
    ("method", "facts"), [("kept_table", {"shadow": True}), ("restore_point", {"shadow": False, "backup": "always"})]
)


@both_ways
def test_an_edit_that_sqlite_calls_equal_collides(tmp_path, method, facts):
    rows = ("'letters', 'usa trip', 1", "'type', 'x', 1", "'untouched', 'x', 1")
    with odd_notes(tmp_path / "app.db", *rows, **facts) as engine:
        before = odd_rows(engine)
        engine.migrate()
        with quiet_write(engine) as db:
            db.execute("UPDATE notes SET text = 'USA trip' WHERE id = 'letters'")
            db.execute("UPDATE notes SET number = 1.0 WHERE id = 'type'")
        report = engine.migrations.rollback("same-v3", "ann", simulate=True)
        assert {(c.key, c.code) for c in report.collisions} == {
            ("letters", "edited_since"),
            ("type", "edited_since"),
        }
        report = engine.migrations.rollback("same-v3", "ann", on_collision="overwrite")
        assert (report.undone[0].method, report.lost) == (method, 2)
        assert odd_rows(engine) == before
        items = engine._store.query(
            "SELECT body FROM _sync_quarantine WHERE origin <> 'outbox' ORDER BY row_key COLLATE BINARY"
        )
        assert [json.loads(body)["text"] for (body,) in items] == ["USA trip", "x"]
        assert [repr(json.loads(body)["number"]) for (body,) in items] == ["1", "1.0"]


def test_a_key_in_other_letters_is_another_key(tmp_path):
    path = tmp_path / "app.db"
    with odd_notes(path, "'key', 'x', 1", table=KEYS_OF_ANY_LETTERS, backup="always") as engine:
        before = odd_rows(engine)
        engine.migrate()
        with quiet_write(engine) as db:
            db.execute("UPDATE notes SET id = 'KEY' WHERE id = 'key'")
        report = engine.migrations.rollback("same-v3", "ann", on_collision="overwrite")
        assert [(c.key, c.code) for c in report.collisions] == [("KEY", "new_since"), ("key", "deleted_since")]
        assert odd_rows(engine) == before
        assert engine._store.query("SELECT row_key FROM _sync_quarantine WHERE origin <> 'outbox'") == [("KEY",)]


@both_ways
def test_text_that_is_not_utf_8_is_no_obstacle(tmp_path, method, facts):
    rows = ("'bad', CAST(x'ff41' AS TEXT), 9e999", "'blob', 'x', x'ff41'", "'good', 'x', 1")
    with odd_notes(tmp_path / "app.db", *rows, **facts) as engine:
        before = odd_rows(engine)
        engine.migrate()
        with quiet_write(engine) as db:
            db.execute("UPDATE notes SET text = CAST(x'fe' AS TEXT) WHERE id = 'good'")
            db.execute("DELETE FROM notes WHERE id = 'bad'")
        report = engine.migrations.rollback("same-v3", "ann", on_collision="overwrite")
        assert (report.undone[0].method, report.lost) == (method, 1)
        assert odd_rows(engine) == before
        assert engine._store.query("SELECT typeof(text) FROM notes WHERE id = 'bad'") == [("text",)]
        [(body,)] = engine._store.query("SELECT body FROM _sync_quarantine WHERE origin <> 'outbox'")
        assert json.loads(body)["text"] == {"$blob": "/g=="}


def test_a_row_deleted_since_comes_back_only_when_somebody_says_so(path):
    with open_at(path, *steps()) as engine:
        with quiet_write(engine) as db:
            db.execute("DELETE FROM journeys WHERE id = 'c'")
        assert engine.migrations.rollback("merge-v3", "ann", consent={"bob"}).state == "stopped"
        report = engine.migrations.rollback("merge-v3", "ann", consent={"bob"}, on_collision="overwrite")
        assert (report.state, report.lost) == ("rolled_back", 0)
        assert walks_of(engine) == ROWS


def test_without_a_restore_point_it_is_refused(path):
    with open_at(path, *steps()) as engine:
        with engine._store.transaction():
            engine._store.query("UPDATE _sync_restore_point SET gone_at = made_at")
        with pytest.raises(RollbackRefused, match="no restore point"):
            engine.migrations.rollback("merge-v3", "ann", consent={"bob"})


def shortest(old: list[JourneyV3]) -> JourneyV3:
    return min(old, key=lambda walk: walk.seconds)


def test_of_two_merges_the_second_goes_back_to_what_the_first_had_made(tmp_path):
    """One restore point, of before the first, covers both."""
    again = migration(
        id="merge-v4",
        collection="journeys",
        from_version="3.0.0",
        to_version="4.0.0",
        group_by="title",
        lossy=True,
    )(shortest)
    path, both = tmp_path / "app.db", (*steps(), again)
    with open_at(path, *both, target="2.0.0") as engine:
        engine.migrate()
        add_walks(engine, *ROWS)
    with open_at(path, *both, target="4.0.0") as engine:
        engine.migrate()
        points = engine._store.query("SELECT DISTINCT restore_point_id FROM _sync_run WHERE migration LIKE 'merge%'")
        assert len(points) == 1
        report = engine.migrations.rollback("merge-v4", "ann", consent={"bob"})
        assert report.state == "rolled_back", report
        assert walks_of(engine) == [("ann", "b", 120, "park"), ("ann", "c", 180, "lake"), ("bob", "e", 240, "lake")]
        names = engine._store.query("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql NOT NULL")
        assert ("journeys_by_seconds",) in names
        report = engine.migrations.rollback("merge-v3", "ann", consent={"bob"})
        assert walks_of(engine) == ROWS


def test_a_restore_point_of_after_the_migration_is_no_way_back(path):
    with open_at(path, *steps()) as engine:
        later = engine.migrations.make_restore_point()
        with engine._store.transaction():
            engine._store.query("UPDATE _sync_run SET restore_point_id = ?", (later.restore_point_id,))
        before = contents(engine)
        with pytest.raises(RollbackRefused, match="does not hold journeys"):
            engine.migrations.rollback("merge-v3", "ann", consent={"bob"})
        assert contents(engine) == before


def test_the_old_table_of_a_shadow_run_takes_its_name_again(tmp_path):
    path, made = tmp_path / "app.db", make_v2()
    with open_at(path, made, target="2.0.0") as engine:
        engine.migrate()
        add_walks(engine, *(("ann", f"w-{n:03}", float(n), f"t{n}") for n in range(50)))
        before = walks_of(engine)
    step = seconds_v3()
    step.down_function = None
    with open_at(path, made, step, settings=Settings(shadow_rows_min=10)) as engine:
        engine.migrate()
        assert engine._store.query("SELECT method FROM _sync_run WHERE migration = 'seconds-v3'") == [("shadow",)]
        with quiet_write(engine) as db:
            db.execute("UPDATE journeys SET seconds = 5 WHERE id = 'w-007'")
        report = engine.migrations.rollback("seconds-v3", "ann", on_collision="overwrite")
        assert (report.undone[0].method, report.lost) == ("kept_table", 1)
        assert walks_of(engine) == before
        assert engine._store.query("SELECT count(*) FROM _sync_kept_table") == [(0,)]
        of_journeys = "SELECT name FROM sqlite_schema WHERE name LIKE '%journeys%' AND sql NOT NULL"
        names = engine._store.query(f"{of_journeys} AND type <> 'trigger'")
        assert names == [("journeys",)]
        assert engine._store.query("PRAGMA integrity_check") == [("ok",)]
        engine.migrations.execute_migration("seconds-v3", "ann")
        assert len(walks_of(engine)) == 50
