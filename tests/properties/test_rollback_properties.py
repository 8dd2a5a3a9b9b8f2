"""Up, random edits, back, up again: whatever the rows and the edits, no row is lost."""

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from syncengine import Engine, Quarantine, migration, tables
from tests.integration.migrate_world import StoppedClock, registry_of

TABLE = """
CREATE TABLE notes (
  user_id TEXT NOT NULL, id TEXT NOT NULL, {column} NOT NULL, word TEXT, PRIMARY KEY (user_id, id)
) STRICT
"""
V2, V3 = TABLE.format(column="tenths INTEGER"), TABLE.format(column="whole REAL")


class Old(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str
    tenths: int
    word: str | None


class New(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str
    whole: float
    word: str | None


def up(old: Old) -> New:
    if old.tenths == 66:
        raise Quarantine("no such number", field="tenths")
    return New(user_id=old.user_id, id=old.id, whole=old.tenths / 10, word=old.word)


def down(new: New) -> Old:
    tenths = new.whole * 10
    if tenths != round(tenths):
        raise Quarantine("no whole tenths", field="whole")
    return Old(user_id=new.user_id, id=new.id, tenths=round(tenths), word=new.word)


KEYS = st.tuples(st.sampled_from(["ann", "bob"]), st.sampled_from([f"n{n}" for n in range(6)]))
WORDS = st.none() | st.text("ab'\"\\{}é", max_size=4)
ROWS = st.dictionaries(KEYS, st.tuples(st.sampled_from([0, 7, 10, 66, 12345]), WORDS), max_size=10)
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["put", "delete"]), KEYS, st.sampled_from([0.0, 1.5, 2.25, 30.0]), st.none() | st.just("e")
    ),
    max_size=8,
)


def steps(way_down):
    step = migration(
        id="step",
        collection="notes",
        from_version="2.0.0",
        to_version="3.0.0",
        table=V3,
        lossy=way_down is None,
        quarantine_rows_max=99,
    )(up)
    if way_down is not None:
        step.down(way_down)
    return tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(V2,)), step


def whereabouts(engine):
    """(owner, key) of every row, in the table or open in quarantine."""
    rows = engine._store.query("SELECT user_id, id FROM notes")
    items = engine._store.query("SELECT body FROM _sync_quarantine WHERE origin <> 'outbox' AND resolution IS NULL")
    bodies = [json.loads(body) for (body,) in items]
    return {*rows, *((body["user_id"], body["id"]) for body in bodies)}


def edit(engine, edits):
    with engine.write() as db:
        for kind, key, whole, word in edits:
            db.execute("DELETE FROM notes WHERE user_id = ? AND id = ?", key)
            if kind == "put":
                db.execute("INSERT INTO notes VALUES (?, ?, ?, ?)", (*key, whole, word))


def there_and_back(rows, edits, *, way_down, folder):
    path, everybody = Path(folder) / "app.db", {"ann", "bob"}
    with Engine.open(path, registry=registry_of(*steps(way_down)), clock=StoppedClock()) as engine:
        engine.migrate()
        with engine._store.transaction():
            for key, (tenths, word) in rows.items():
                engine._store.query("INSERT INTO notes VALUES (?, ?, ?, ?)", (*key, tenths, word))
        before = set(engine._store.query("SELECT * FROM notes"))
    with Engine.open(path, registry=registry_of(*steps(way_down), target="3.0.0"), clock=StoppedClock()) as engine:
        engine.migrate()
        edit(engine, edits)
        there = whereabouts(engine)
        newer = set(engine._store.query("SELECT * FROM notes"))
        report = engine.migrations.rollback("step", on_collision="overwrite", consent=everybody)
        assert report.state == "rolled_back", report
        assert there <= whereabouts(engine)
        after = set(engine._store.query("SELECT * FROM notes"))
        aside = engine._store.query("SELECT body FROM _sync_quarantine WHERE origin = 'restore'")
        engine.migrations.execute_migration("step")
        assert there <= whereabouts(engine)
        again = set(engine._store.query("SELECT * FROM notes"))
    return before, newer, after, {tuple(json.loads(body).values()) for (body,) in aside}, again


@settings(max_examples=25, deadline=None)
@given(ROWS, EDITS)
def test_by_the_way_down_edits_stay_and_what_has_no_way_back_is_whole_in_quarantine(rows, edits):
    with tempfile.TemporaryDirectory() as folder:
        _, newer, after, aside, again = there_and_back(rows, edits, way_down=down, folder=folder)
    assert aside == {row for row in newer if row[2] == 2.25}
    edited = {(*row[:2], round(row[2] * 10), row[3]) for row in newer - aside}
    assert edited <= after
    assert newer - aside <= again


@settings(max_examples=25, deadline=None)
@given(ROWS, EDITS)
def test_without_a_way_down_the_rows_of_before_are_there_and_every_edit_is_in_quarantine(rows, edits):
    if not rows:
        return  # then no restore point is needed, and none was made
    with tempfile.TemporaryDirectory() as folder:
        before, newer, after, aside, again = there_and_back(rows, edits, way_down=None, folder=folder)
    converted = {(*row[:2], row[2] / 10, row[3]) for row in before if row[2] != 66}
    assert after == before
    assert aside == newer - converted
    assert again == converted
