"""Columns added, renamed, cast and archived without code: no value is lost or bent."""

import json

import pytest
from migrate_world import dump, registry_of

from syncengine import Engine, Settings, add, archive, cast, declared, rename, tables
from syncengine.errors import MigrationInvalid
from syncengine.migrate.definition import Counts

NOTES = """
CREATE TABLE notes (
  user_id TEXT NOT NULL, id TEXT NOT NULL, minutes TEXT NOT NULL, mood TEXT, place TEXT, PRIMARY KEY (user_id, id)
) STRICT;
CREATE INDEX notes_by_minutes ON notes (minutes);
CREATE INDEX notes_by_place ON notes (place);
"""


class World:
    def __init__(self, folder):
        self.path = folder / "app.db"
        self.table = NOTES

    def open(self, *changes, target="3.0.0", settings=None):
        make = tables(id="tables", from_version="1.0.0", to_version="2.0.0", create=(self.table,))
        steps = [make]
        if target == "3.0.0":
            steps.append(
                declared(id="change", collection="notes", from_version="2.0.0", to_version="3.0.0", changes=changes)
            )
        settings = settings or Settings(quarantine_rows_max=1000)
        return Engine.open(self.path, registry=registry_of(*steps, target=target), settings=settings)

    def fill(self, *rows, then=()):
        with self.open(target="2.0.0") as engine:
            engine.migrate()
            with engine.write() as db:
                db.conn.executemany(
                    "INSERT INTO notes (user_id, id, minutes, mood, place) VALUES (?, ?, ?, ?, ?)", rows
                )
                for sql in then:
                    db.execute(sql)
        return self

    def change(self, *changes):
        with self.open(*changes) as engine:
            result = engine.migrations.migrate_all_data().results[-1]
            cursor = engine._store.connection.execute("SELECT * FROM notes ORDER BY user_id, id")
            rows = [dict(zip([d[0] for d in cursor.description], row, strict=True)) for row in cursor]
            aside = engine._store.query(
                "SELECT owner, row_key, body, error_text, field FROM _sync_quarantine WHERE origin = 'migration'"
            )
            kept = engine._store.query("SELECT owner, row_key, field, value FROM _sync_archive ORDER BY row_key")
        return result, rows, aside, kept


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def note(key, minutes="5", mood=None, place=None, owner="ann"):
    return (owner, key, minutes, mood, place)


def test_a_column_with_a_default_is_there_for_old_rows(world):
    changes = (add("theme", "TEXT", default="it's; light"), add("n", "INTEGER", default=-3), add("free", "TEXT"))
    result, rows, _, _ = world.fill(note("a")).change(*changes)
    assert result.success, result.errors
    assert (rows[0]["theme"], rows[0]["n"], rows[0]["free"]) == ("it's; light", -3, None)


def test_a_renamed_column_keeps_its_values_and_its_index(world):
    world.fill(note("a", place="home"), then=["CREATE VIEW homes AS SELECT place FROM notes"])
    result, rows, _, _ = world.change(rename("place", "where"))
    assert result.success, result.errors
    assert rows[0]["where"] == "home"
    with world.open(rename("place", "where")) as engine, engine.read() as db:
        assert [index.columns for index in db["notes"].indexes if index.name == "notes_by_place"] == [["where"]]
        assert list(db["homes"].rows) == [{"where": "home"}]


def test_a_cast_changes_an_indexed_column_that_is_required_and_has_a_view(world):
    then = ["CREATE VIEW minutes_only AS SELECT minutes FROM notes", "CREATE TABLE audit (x)"]
    then.append("CREATE TRIGGER t AFTER UPDATE OF minutes ON notes BEGIN INSERT INTO audit VALUES (NEW.minutes); END")
    world.fill(note("a", "5"), note("b", "70"), then=then)
    result, rows, aside, _ = world.change(cast("minutes", int))
    assert result.success, result.errors
    assert [row["minutes"] for row in rows] == [5, 70]
    assert aside == []
    with world.open(cast("minutes", int)) as engine:
        sql = engine._store.query("SELECT sql FROM sqlite_schema WHERE name = 'notes'")[0][0]
        assert '"minutes" INTEGER NOT NULL' in sql
        with engine.write() as db:
            assert sorted(row["minutes"] for row in db["minutes_only"].rows) == [5, 70]
            assert "notes_by_minutes" in {index.name for index in db["notes"].indexes}
            assert db["audit"].count == 0
            db.execute("UPDATE notes SET minutes = 6 WHERE id = 'a'")
            assert db["audit"].count == 1


@pytest.mark.parametrize(
    "text", ["five", "5.5", "", "1_000", "9" * 30, "0x10", "nan", "\0"], ids=lambda text: repr(text)[:12]
)
def test_a_value_that_is_no_whole_number_takes_its_row_whole_to_quarantine(world, text):
    world.fill(note("a"), note("bad", text, mood="sad"), note("c"))
    result, rows, aside, _ = world.change(cast("minutes", int))
    assert [row["id"] for row in rows] == ["a", "c"]
    assert result.counts == Counts(read=3, written=2, quarantined=1)
    [(owner, key, body, why, _)] = aside
    assert (owner, key) == ("ann", "bad")
    whole = json.loads(body)
    assert (whole["minutes"], whole["mood"]) == (text, "sad")
    assert text == "" or text not in why


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999", "1_0.5"])
def test_a_number_that_is_not_finite_is_no_number(world, text):
    _, rows, aside, _ = world.fill(note("a", "0.5"), note("b", text)).change(cast("minutes", float))
    assert [row["minutes"] for row in rows] == [0.5]
    assert json.loads(aside[0][2])["minutes"] == text


def test_a_fraction_is_not_cut_off(world):
    world.table = NOTES.replace("mood TEXT", "mood TEXT, km REAL")
    world.fill(note("a"), note("b"), then=["UPDATE notes SET km = length(minutes) + 0.5 * (id = 'b')"])
    _, rows, aside, _ = world.change(cast("km", int))
    assert [(row["id"], row["km"]) for row in rows] == [("a", 1)]
    assert [(key, why) for _, key, _, why, _ in aside] == [("b", "would lose its fraction as int")]


def test_an_empty_value_stays_empty_when_it_is_cast(world):
    _, rows, aside, _ = world.fill(note("a"), note("b", mood="7")).change(cast("mood", int))
    assert ([row["mood"] for row in rows], aside) == ([None, 7], [])


@pytest.mark.parametrize("count", [0, 1, 100, 101, 250])
def test_a_cast_reaches_every_row(world, count):
    result, rows, _, _ = world.fill(*(note(f"n-{n:03}", str(n)) for n in range(count))).change(cast("minutes", int))
    assert [row["minutes"] for row in rows] == list(range(count))
    assert result.counts == Counts(read=count, written=count)


def test_an_archived_column_goes_and_its_values_are_kept(world):
    rows_before = (note("a", place="home"), note("a", place="sea", owner="bob"), note("c"))
    result, rows, _, kept = world.fill(*rows_before).change(archive("place"))
    assert result.warnings == ("index notes_by_place was left out: its columns are gone",)
    assert all("place" not in row for row in rows)
    assert kept == [("ann", "a", "place", "home"), ("bob", "a", "place", "sea")]


def test_a_view_of_an_archived_column_stops_the_migration(world):
    world.fill(note("a"), then=["CREATE VIEW homes AS SELECT place FROM notes"])
    with world.open(archive("place")) as engine:
        before = dump(engine._store)
        failure = engine.migrations.migrate_all_data().results[-1].failure
        assert isinstance(failure, MigrationInvalid)
        assert "view homes" in failure.why
        assert dump(engine._store) == before


def test_all_kinds_of_change_in_one_migration(world):
    world.fill(note("a", "5", mood="fine", place="home"))
    changes = (add("n", "INTEGER", default=1), cast("minutes", int), archive("mood"), rename("place", "where"))
    result, rows, _, kept = world.change(*changes)
    assert result.success, result.errors
    assert rows == [{"user_id": "ann", "id": "a", "where": "home", "n": 1, "minutes": 5}]
    assert kept == [("ann", "a", "mood", "fine")]


def test_a_column_that_is_not_there_stops_the_migration_and_nothing_is_changed(world):
    world.fill(note("a"))
    for changes in ((cast("nowhere", int),), (archive("nowhere"),), (rename("nowhere", "x"),)):
        with world.open(*changes) as engine:
            before = dump(engine._store)
            assert not engine.migrations.migrate_all_data().success
            assert dump(engine._store) == before


def test_a_change_that_cannot_be_declared_is_refused_at_once():
    with pytest.raises(MigrationInvalid):
        cast("minutes", bool)
    with pytest.raises(MigrationInvalid):
        add("x", "TEXT; DROP TABLE notes")


def test_a_row_that_fails_in_a_late_batch_leaves_each_row_counted_kept_and_written_once(world):
    rows = [note(key, "5", mood="calm") for key in "abcdef"]
    world.fill(*rows, note("g", "many", mood="calm"))
    few = Settings(quarantine_rows_max=1000, sql_batch_rows=2)
    with world.open(cast("minutes", int), archive("mood"), settings=few) as engine:
        result = engine.migrations.migrate_all_data().results[-1]
        assert result.success, result.errors
        assert (result.counts, result.batches) == (Counts(read=7, written=6, quarantined=1), 4)
        assert result.batches_undone >= 1
        assert engine._store.query("SELECT id, minutes FROM notes ORDER BY id") == [(key, 5) for key in "abcdef"]
        assert engine._store.query("SELECT row_key FROM _sync_archive ORDER BY row_key") == [
            (key,) for key in "abcdef"
        ]
        assert engine._store.query("SELECT row_key FROM _sync_quarantine WHERE origin = 'migration'") == [("g",)]


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_a_column_that_cannot_be_called_so_is_named_where_the_migration_failed(world, name):
    result, rows, *_ = world.fill(("ann", "n", "7", None, None)).change(rename("mood", name))
    assert result.state == "failed"
    assert result.why.endswith(f"an SQL name cannot be empty or hold a NUL, as {name!r}")
    assert rows[0]["id"] == "n"
