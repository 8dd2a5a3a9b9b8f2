"""Rows that repeat a UNIQUE index, or refer to a row that was set aside, go to quarantine; the others come over."""

import json

import pytest
from migrate_world import quiet_write, registry_of
from pydantic import BaseModel, ConfigDict

from syncengine import (
    BaseMigrationExecutor,
    Engine,
    Item,
    MigrationDefinition,
    Put,
    Quarantine,
    Settings,
    cast,
    declared,
    migration,
    tables,
)
from syncengine.errors import MigrationFailed, QuarantineBudgetExceeded, ReconciliationFailed

JOURNEYS = (
    "CREATE TABLE journeys (user_id TEXT NOT NULL, id TEXT NOT NULL, title TEXT, minutes REAL,"
    " PRIMARY KEY (user_id, id)) STRICT"
)
PLACES = (
    "CREATE TABLE places (user_id TEXT NOT NULL, id TEXT NOT NULL, journey TEXT, PRIMARY KEY (user_id, id),"
    " FOREIGN KEY (user_id, journey) REFERENCES journeys (user_id, id)) STRICT, WITHOUT ROWID"
)
NOTES = (
    "CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, place TEXT, reply_to TEXT,"
    " PRIMARY KEY (user_id, id),"
    " FOREIGN KEY (user_id, place) REFERENCES places (user_id, id),"
    " FOREIGN KEY (user_id, reply_to) REFERENCES notes (user_id, id)) STRICT"
)


class Walk(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str
    title: str | None
    minutes: float | None


def same(old: Walk) -> Walk:
    if old.minutes == 13:
        raise Quarantine("thirteen minutes", field="minutes")
    return old


def step(function=same, indexes="", **facts):
    facts = {"table": JOURNEYS + ";" + indexes, "id": "rows", "critical": True, **facts}
    return migration(collection="journeys", from_version="2.0.0", to_version="3.0.0", **facts)(function)


class World:
    def __init__(self, path):
        self.path = path
        self.make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(JOURNEYS, PLACES, NOTES))

    def open(self, *steps, target="3.0.0", **options):
        return Engine.open(self.path, registry=registry_of(self.make, *steps, target=target), **options)

    def fill(self, journeys, places=(), notes=(), *also):
        with self.open(target="2.0.0") as engine:
            engine.migrate()
            with quiet_write(engine) as db:
                db.conn.executemany("INSERT INTO journeys VALUES (?, ?, ?, ?)", journeys)
                db.conn.executemany("INSERT INTO places VALUES (?, ?, ?)", places)
                db.conn.executemany("INSERT INTO notes VALUES (?, ?, ?, ?)", notes)
            with engine._store.transaction():
                for sql in also:
                    engine._store.query(sql)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "app.db")


def aside(engine):
    return [(item.collection, item.owner, item.key, item.error_code) for item in engine.quarantine.items()]


def keys(engine, table="journeys"):
    return [f"{owner} {key}" for owner, key in engine._store.query(f"SELECT user_id, id FROM {table} ORDER BY 1, 2")]


# UNIQUE.

SAME = [("ann", "a", "lake", 1.0), ("ann", "b", "lake", 2.0), ("ann", "c", "wood", 3.0), ("bob", "a", "lake", 4.0)]


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_the_first_row_by_key_keeps_a_value_of_a_new_unique_index_and_the_others_are_set_aside(world, batch_rows):
    world.fill(SAME)
    unique = step(indexes="CREATE UNIQUE INDEX one_title ON journeys (user_id, title)")
    with world.open(unique, settings=Settings(batch_rows=batch_rows)) as engine:
        counts = engine.migrate().results[0].counts
        assert (counts.read, counts.written, counts.quarantined) == (4, 3, 1)
        assert keys(engine) == ["ann a", "ann c", "bob a"]
        assert aside(engine) == [("journeys", "ann", "b", "constraint_failed")]
        assert json.loads(engine.quarantine.item(1).body)["title"] == "lake"
        assert indexes(engine) == ["one_title"]


def indexes(engine):
    sql = (
        "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = 'journeys' ORDER BY 1"
    )
    return [row[0] for row in engine._store.query(sql)]


@pytest.mark.parametrize(
    ("index", "left"),
    [
        ("CREATE UNIQUE INDEX one ON journeys (upper(title))", ["ann a", "ann c"]),
        ("CREATE UNIQUE INDEX one ON journeys (title) WHERE minutes > 1.5", ["ann a", "ann b", "ann c", "ann d"]),
        ("CREATE UNIQUE INDEX one ON journeys (minutes > 2.5)", ["ann a", "ann c"]),
        ('CREATE UNIQUE INDEX IF NOT EXISTS "one" ON "journeys" ("title" COLLATE NOCASE)', ["ann a", "ann c"]),
    ],
)
def test_expressions_conditions_and_collations_of_the_index_are_its_own(world, index, left):
    world.fill([*SAME[:3], ("ann", "d", "LAKE", 4.0), ("ann", "e", "wood", 5.0)])
    with world.open(step(indexes=index)) as engine:
        engine.migrate()
        assert keys(engine) == left
        assert len(left) + len(aside(engine)) == 5
        assert indexes(engine) == ["one"]


def test_a_unique_index_of_the_old_table_is_kept_and_kept_to(world):
    world.fill(SAME, (), (), "CREATE UNIQUE INDEX one_length ON journeys (minutes)")

    def rounded(old: Walk) -> Walk:
        return old.model_copy(update={"minutes": old.minutes // 2})

    with world.open(step(rounded)) as engine:
        assert engine.migrate().quarantined == 1
        assert keys(engine) == ["ann a", "ann b", "bob a"]
        assert indexes(engine) == ["one_length"]


def test_too_many_repetitions_stop_the_migration_with_the_name_of_the_column(world):
    world.fill([("ann", f"{n:02}", "lake", 1.0) for n in range(30)])
    unique = step(indexes="CREATE UNIQUE INDEX one_title ON journeys (title)")
    with world.open(unique) as engine:
        with pytest.raises(QuarantineBudgetExceeded, match=r"29 of 30 rows failed.*title"):
            engine.migrate()
        assert len(keys(engine)) == 30
        assert indexes(engine) == []


def test_a_cast_that_makes_two_rows_alike_sets_the_second_aside(world):
    world.fill(
        [("ann", "a", "7", 1.0), ("ann", "b", "07", 2.0)], (), (), "CREATE UNIQUE INDEX one ON journeys (title)"
    )
    casting = declared(
        id="rows", collection="journeys", from_version="2.0.0", to_version="3.0.0", changes=(cast("title", int),)
    )
    with world.open(casting) as engine:
        assert engine.migrate().success
        assert keys(engine) == ["ann a"]
        assert aside(engine) == [("journeys", "ann", "b", "constraint_failed")]


# Parents and children.

FAMILY = (
    [("ann", "j1", "good", 1.0), ("ann", "j2", "bad", 13.0), ("bob", "j2", "good", 1.0)],
    [("ann", "p1", "j1"), ("ann", "p2", "j2"), ("ann", "p3", None), ("bob", "p2", "j2")],
    [("ann", "n1", "p1", None), ("ann", "n2", "p2", None), ("ann", "n3", None, "n2"), ("bob", "n2", "p2", None)],
)


def test_what_refers_to_a_row_that_was_set_aside_is_set_aside_too_down_to_its_last_descendant(world):
    world.fill(*FAMILY)
    with world.open(step()) as engine:
        result = engine.migrate().results[0]
        assert aside(engine) == [
            ("journeys", "ann", "j2", "quarantined_by_rule"),
            ("places", "ann", "p2", "parent_set_aside"),
            ("notes", "ann", "n2", "parent_set_aside"),
            ("notes", "ann", "n3", "parent_set_aside"),
        ]
        assert keys(engine, "places") == ["ann p1", "ann p3", "bob p2"]
        assert keys(engine, "notes") == ["ann n1", "bob n2"]
        assert engine._store.query("PRAGMA foreign_key_check") == []
        counts = result.counts
        assert (counts.read, counts.written, counts.quarantined) == (6, 2, 4)
        assert "1 of places set aside: what they refer to is not there" in result.warnings
        place = engine.quarantine.item(2)
        assert (place.error_text, place.shape_version) == ("its parent in journeys was set aside", "2.0.0")


def test_parent_and_children_come_back_one_after_the_other_and_never_a_child_first(world):
    world.fill(*FAMILY)
    with world.open(step()) as engine:
        engine.migrate()

    def all_of_them(old: Walk) -> Walk:
        return old

    with world.open(step(all_of_them), settings=Settings(retry_quarantined=False)) as engine:
        desk = engine.quarantine
        outcome = desk.retry(2)
        assert (outcome.resolved, outcome.why) == (False, "it refers to a row that is not there")
        assert all(desk.retry(item).resolved for item in (1, 2, 3, 4))
        assert keys(engine, "notes") == ["ann n1", "ann n2", "ann n3", "bob n2"]
        assert engine._store.query("PRAGMA foreign_key_check") == []
        assert desk.items() == ()


def test_descendants_count_for_the_budget(world):
    journeys, places, _ = FAMILY
    world.fill(journeys, [*places, *[("ann", f"q{n}", "j2") for n in range(20)]])
    with world.open(step()) as engine:
        with pytest.raises(QuarantineBudgetExceeded):
            engine.migrate()
        assert len(keys(engine, "places")) == 24
        assert aside(engine) == []


def test_a_parent_that_went_for_another_reason_stops_the_migration_as_ever(world):
    world.fill(*FAMILY)

    def drops(old: Walk) -> Walk | None:
        return None if old.minutes == 13 else old

    with world.open(step(drops)) as engine:
        with pytest.raises(ReconciliationFailed):
            engine.migrate()
        assert aside(engine) == []
        assert len(keys(engine, "places")) == 4


def test_a_table_that_is_no_collection_is_not_touched(world):
    journeys, *_ = FAMILY
    legs = (
        "CREATE TABLE legs (user_id TEXT, journey TEXT, FOREIGN KEY (user_id, journey) "
        "REFERENCES journeys (user_id, id))"
    )
    world.fill(journeys, (), (), legs, "INSERT INTO legs VALUES ('ann', 'j2')")
    with world.open(step()) as engine:
        with pytest.raises(MigrationFailed):
            engine.migrate()
        assert engine._store.query("SELECT count(*) FROM legs") == [(1,)]


class PlacesImport(BaseMigrationExecutor):
    """Places of the old app; one of them names a journey that is not there."""

    definition = MigrationDefinition(
        id="places-import",
        name="",
        description="",
        from_version="2.0.0",
        to_version="3.0.0",
        collections=("places",),
        scope="user",
        critical=True,
    )

    def items(self, work):
        for key, journey in (("p1", "j1"), ("p2", "nowhere"), ("p3", None)):
            yield Item(key, journey)

    def convert(self, item, work):
        return Put("places", {"user_id": work.user, "id": item.key, "journey": item.value})


def test_an_imported_row_that_refers_to_nothing_is_set_aside_and_the_others_come_over(world):
    world.fill([("ann", "j1", "good", 1.0)])
    with world.open(PlacesImport(), user="ann") as engine:
        counts = engine.migrate().results[0].counts
        assert (counts.read, counts.written, counts.quarantined) == (3, 2, 1)
        assert keys(engine, "places") == ["ann p1", "ann p3"]
        assert aside(engine) == [("places", "ann", "p2", "no_parent")]
        with quiet_write(engine) as db:
            db.execute("INSERT INTO journeys VALUES ('ann', 'nowhere', NULL, NULL)")
        assert engine.quarantine.retry(1).resolved
        assert keys(engine, "places") == ["ann p1", "ann p2", "ann p3"]
