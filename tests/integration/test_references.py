"""Rows that refer to nothing: a migration makes none, and does not stop for those that were there before it."""

import subprocess

import pytest
from migrate_world import registry_of
from shadow_world import STEADY, BatchClock, leaves_nothing_behind, result_of

from syncengine import Engine, Settings, migration, tables
from syncengine.errors import ReconciliationFailed

PARENT = "CREATE TABLE journeys (user_id TEXT NOT NULL, id TEXT NOT NULL, title TEXT, PRIMARY KEY (user_id, id))"
CHILD = """CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, journey TEXT, PRIMARY KEY (user_id, id),
  FOREIGN KEY (user_id, journey) REFERENCES journeys)"""
ROWS = (
    "INSERT INTO journeys VALUES ('ann', 'j', ''); "
    "INSERT INTO notes VALUES ('ann', 'n-good', 'j'), ('ann', 'n-lost', 'gone')"
)
NOTES = "SELECT id, journey FROM notes ORDER BY id"
BOTH = pytest.mark.parametrize("beside", [False, True])


def opened(path, function, collection, *, beside):
    """A store in which one note, written by the command line, refers to nothing; and a migration that comes next."""
    first = tables(id="tables-v2", from_version="1.0.0", to_version="2.0.0", create=(PARENT, CHILD))
    facts = {"id": "second", "from_version": "2.0.0", "to_version": "3.0.0", "lossy": True, "consent": "auto"}
    table = PARENT if collection == "journeys" else CHILD
    second = migration(collection=collection, table=table, shadow=beside, **facts)(function)
    settings = Settings(**STEADY)
    with Engine.open(path, registry=registry_of(first), settings=settings) as engine:
        engine.migrate()
    subprocess.run(["sqlite3", path, ROWS], check=True)
    return Engine.open(
        path, registry=registry_of(first, second, target="3.0.0"), settings=settings, clock=BatchClock()
    )


def as_it_is(old: dict) -> dict:
    return old


def renamed(old: dict) -> dict:
    return {**old, "id": "other"}


def exchanged(old: dict) -> dict:
    """The lost one finds a parent, the good one loses its own: as many refer to nothing as before."""
    return {**old, "journey": "j" if old["journey"] == "gone" else "went"}


@BOTH
@pytest.mark.parametrize("collection", ["journeys", "notes"])
def test_a_row_that_referred_to_nothing_before_stays_and_is_said(tmp_path, collection, beside):
    with opened(tmp_path / "app.db", as_it_is, collection, beside=beside) as engine:
        result = result_of(engine.migrate(), "second")
        assert result.state == "completed"
        assert [warning for warning in result.warnings if "doctor" in warning] == [
            "1 rows refer to nothing, as before: `syncengine doctor` names their tables"
        ]
        assert engine._store.query(NOTES) == [("n-good", "j"), ("n-lost", "gone")]
        kept = [f"_sync_old_{collection}"] if beside else []
        leaves_nothing_behind(engine._store, kept=kept)


@BOTH
@pytest.mark.parametrize(("collection", "function"), [("journeys", renamed), ("notes", exchanged)])
def test_a_row_that_would_refer_to_nothing_from_now_on_stops_the_migration(tmp_path, collection, function, beside):
    with opened(tmp_path / "app.db", function, collection, beside=beside) as engine:
        failure = result_of(engine.migrations.migrate_all_data(), "second").failure
        assert isinstance(failure, ReconciliationFailed)
        assert "1 rows of ['notes'] that referred to something before it" in str(failure)
        assert engine._store.query(NOTES) == [("n-good", "j"), ("n-lost", "gone")]
        leaves_nothing_behind(engine._store)


def test_a_child_whose_parent_has_no_table_stops_nothing_either(tmp_path):
    with opened(tmp_path / "app.db", as_it_is, "notes", beside=False) as engine:
        subprocess.run(["sqlite3", tmp_path / "app.db", "DROP TABLE journeys"], check=True)
        assert result_of(engine.migrate(), "second").state == "completed"
        assert engine._store.query(NOTES) == [("n-good", "j"), ("n-lost", "gone")]
