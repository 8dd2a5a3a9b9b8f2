"""A rehearsal runs the real path on a copy: what it says comes true, and the store itself is not touched."""

import json

import pytest
from migrate_world import StoppedClock, quiet_write, registry_of
from pydantic import BaseModel, ConfigDict

from syncengine import Engine, Quarantine, Settings, migration, tables
from syncengine.migrate.rehearsal import rehearse
from syncengine.migrate.service import DataMigrationService

SECRET = "canary-of-a-row"
OLD = """
CREATE TABLE journeys (
  user_id TEXT NOT NULL, id TEXT NOT NULL, minutes REAL NOT NULL, title TEXT, PRIMARY KEY (user_id, id)
) STRICT
"""
NEW = OLD.replace("minutes REAL", "seconds INTEGER")


class Old(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    user_id: str
    id: str
    minutes: float
    title: str | None


class New(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    user_id: str
    id: str
    seconds: int
    title: str | None


@migration(id="to-seconds", collection="journeys", from_version="2.0.0", to_version="3.0.0", table=NEW, critical=True)
def to_seconds(old: Old) -> New | None:
    if old.minutes < 0:
        raise Quarantine("negative", field="minutes")
    if old.title == "gone":
        return None
    return New(user_id=old.user_id, id=old.id, seconds=round(old.minutes * 60), title=old.title)


make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(OLD,))


def registry(target):
    return registry_of(make, to_seconds, target=target) if target == "3.0.0" else registry_of(make, target=target)


def filled(path, rows):
    with Engine.open(path, registry=registry("2.0.0"), clock=StoppedClock()) as engine:
        engine.migrate()
        with quiet_write(engine) as db:
            db.conn.executemany("INSERT INTO journeys VALUES (?, ?, ?, ?)", rows)


def rehearsed(engine, *, rows_max=100_000):
    def run(copy):
        return DataMigrationService(store=copy, registry=registry("3.0.0")).migrate_all_data()

    return rehearse(engine._store, registry("3.0.0"), plan=engine.migrations.plan(), run=run, rows_max=rows_max)


ROWS = [
    ("ann", "a", 1.5, SECRET),
    ("ann", "b", -1.0, None),
    ("ann", "c", 2.0, "gone"),
    ("bob", "a", 0.5, None),
]


def test_what_a_rehearsal_says_comes_true(tmp_path):
    filled(tmp_path / "app.db", ROWS)
    with Engine.open(tmp_path / "app.db", registry=registry("3.0.0")) as engine:
        said = rehearsed(engine)
        assert said.success
        [result] = said.results
        [collection] = said.collections
        assert (collection.rows_before, collection.rehearsed, collection.rows_after) == (4, 4, 2)
        [item] = said.quarantined
        assert (item.key, item.field, item.reason) == ("b", "minutes", "negative")
        really = engine.migrate()
        assert [found.counts for found in really.results] == [result.counts]
        assert engine._store.query("SELECT count(*) FROM journeys") == [(2,)]


@pytest.mark.parametrize("beside_from_rows", [1, 50_000])
def test_a_rehearsal_that_fails_names_the_rows_with_the_reason_and_says_that_nothing_would_be_set_aside(
    tmp_path, beside_from_rows
):
    filled(tmp_path / "app.db", [("ann", f"{n:02}", -1.0, SECRET) for n in range(12)])
    settings = Settings(shadow_rows_min=beside_from_rows)
    with Engine.open(tmp_path / "app.db", registry=registry("3.0.0"), settings=settings) as engine:
        said = rehearsed(engine)
    lines = str(said).splitlines()
    assert not said.success
    assert [line for line in lines if line.startswith("    journeys ")] == [
        f"    journeys {n:02}: negative (minutes)" for n in range(10)
    ]
    assert "    and 2 more" in lines
    assert "  to-seconds would change nothing and set nothing aside" in lines
    assert any("Mend the migration or them, or allow more" in line for line in lines)
    assert not any("0 rows would be set aside" in line or SECRET in line for line in lines)
    assert "'00'" not in repr(said)


def test_a_rehearsal_names_the_rows_that_would_be_set_aside(tmp_path):
    filled(tmp_path / "app.db", ROWS)
    with Engine.open(tmp_path / "app.db", registry=registry("3.0.0")) as engine:
        assert "  1 row would be set aside\n    journeys b: negative (minutes)\n" in str(rehearsed(engine))


@pytest.mark.parametrize(
    ("rows", "says"), [(1, "1 entry now (1 affected), 1 then"), (2, "2 entries now (2 affected), 2 then")]
)
def test_a_rehearsal_says_how_many_edits_wait_before_and_after(tmp_path, rows, says):
    filled(tmp_path / "app.db", [])
    with Engine.open(tmp_path / "app.db", registry=registry("2.0.0"), user="ann") as engine, engine.write() as db:
        db.conn.executemany("INSERT INTO journeys VALUES ('ann', ?, 1.0, NULL)", [(str(n),) for n in range(rows)])
    with Engine.open(tmp_path / "app.db", registry=registry("3.0.0"), user="ann") as engine:
        assert f"  outbox: {says}" in str(rehearsed(engine)).splitlines()


def test_rows_are_shown_before_and_after_field_by_field(tmp_path):
    filled(tmp_path / "app.db", ROWS)
    with Engine.open(tmp_path / "app.db", registry=registry("3.0.0")) as engine:
        shown = {row.key: row for row in rehearsed(engine).collections[0].rows}
    fields = {found.field: (found.before, found.after) for found in shown[("ann", "a")].fields}
    assert fields == {"minutes": (1.5, None), "seconds": (None, 90)}
    assert shown[("ann", "b")].is_gone
    assert shown[("ann", "c")].is_gone


def test_a_rehearsal_changes_nothing_of_the_store(tmp_path):
    filled(tmp_path / "app.db", ROWS)
    with Engine.open(tmp_path / "app.db", registry=registry("3.0.0")) as engine:

        def everything():
            return engine._store.query("SELECT type, name, sql FROM sqlite_schema ORDER BY 2"), [
                engine._store.query(f"SELECT * FROM {name} ORDER BY 1")
                for (name,) in engine._store.query("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1")
                if not name.startswith("sqlite_")
            ]

        before, version = everything(), engine._store.data_version()
        rehearsed(engine)
        assert everything() == before
        assert engine._store.data_version() == version


def test_a_large_collection_goes_with_an_even_part_and_the_estimate_counts_the_rest(tmp_path):
    filled(tmp_path / "app.db", [("ann", f"{n:05}", 1.0, None) for n in range(1_000)])
    with Engine.open(tmp_path / "app.db", registry=registry("3.0.0")) as engine:
        said = rehearsed(engine, rows_max=100)
    [collection] = said.collections
    assert (collection.rows_before, collection.rehearsed, collection.rows_after) == (1_000, 100, 100)
    assert said.estimate_ms == said.duration_ms * 10


def test_rows_are_in_what_a_person_asks_for_and_not_in_what_is_logged(tmp_path):
    filled(tmp_path / "app.db", ROWS)
    with Engine.open(tmp_path / "app.db", registry=registry("3.0.0")) as engine:
        said = rehearsed(engine)
    assert SECRET not in repr(said)
    assert SECRET not in str(said)
    text = json.dumps(said.to_json())
    assert '"quarantinedCount": 1' in text
    assert '"after": 90' in text


def test_the_copy_is_gone_also_when_the_path_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    filled(tmp_path / "app.db", ROWS)

    def run(copy):
        raise MemoryError

    with Engine.open(tmp_path / "app.db", registry=registry("3.0.0")) as engine, pytest.raises(MemoryError):
        rehearse(engine._store, registry("3.0.0"), plan=engine.plan(), run=run, rows_max=10)
    assert list((tmp_path / "temporary").iterdir()) == []
