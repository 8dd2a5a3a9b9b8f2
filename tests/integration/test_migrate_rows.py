"""Row functions: every row is in the new table, merged, dropped by rule, or whole in quarantine."""

import json
from collections.abc import Iterator
from contextlib import closing

import apsw
import pytest
from migrate_world import dump, forget_how_tables_were_made, quiet_write, registry_of
from pydantic import BaseModel, ConfigDict

from syncengine import (
    BaseMigrationExecutor,
    Engine,
    Item,
    MigrationDefinition,
    Quarantine,
    Settings,
    migration,
    tables,
)
from syncengine.errors import MigrationInvalid, QuarantineBudgetExceeded, ReconciliationFailed, ShapeDrifted
from syncengine.migrate.definition import Counts

V2 = """
CREATE TABLE journeys (
  user_id TEXT NOT NULL, id TEXT NOT NULL, minutes REAL, tags TEXT, place TEXT, PRIMARY KEY (user_id, id)
) STRICT;
CREATE INDEX journeys_by_place ON journeys (place);
"""
V3 = """
CREATE TABLE journeys (
  user_id TEXT NOT NULL,
  id TEXT NOT NULL,
  seconds INTEGER NOT NULL CHECK (seconds < 1000000),
  tags TEXT NOT NULL,
  place TEXT UNIQUE,
  PRIMARY KEY (user_id, id)
) STRICT;
CREATE INDEX journeys_by_seconds ON journeys (seconds);
"""


class Row(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str


class JourneyV2(Row):
    minutes: float | None
    tags: list[str] | None
    place: str | None


class JourneyV3(Row):
    seconds: int | None
    tags: list[str]
    place: str | None


def to_seconds(old: JourneyV2) -> JourneyV3:
    if old.minutes == 13:
        raise Quarantine("thirteen minutes", field="minutes")
    if old.minutes == 666:
        raise RuntimeError(f"the secret of {old.id}")
    seconds = None if old.minutes is None else int(old.minutes * 60)
    return JourneyV3(user_id=old.user_id, id=old.id, seconds=seconds, tags=old.tags or [], place=old.place)


def make_v2():
    return tables(id="tables", from_version="1.0.0", to_version="2.0.0", create=(V2,))


def rows_migration(function=to_seconds, **facts):
    facts = {"table": V3, "id": "rows", "critical": True, **facts}
    return migration(collection="journeys", from_version="2.0.0", to_version="3.0.0", **facts)(function)


class World:
    """A store at 2.0.0 with rows of the test's, and what a migration to 3.0.0 makes of them."""

    def __init__(self, folder):
        self.path = folder / "app.db"

    def open(self, *executors, target="3.0.0", **options):
        options.setdefault("settings", Settings(quarantine_rows_max=1000))
        return Engine.open(self.path, registry=registry_of(make_v2(), *executors, target=target), **options)

    def fill(self, rows, *statements):
        with self.open(target="2.0.0") as engine:
            engine.migrate()
            with quiet_write(engine) as db:
                db.executemany = db.conn.executemany
                db.executemany("INSERT INTO journeys VALUES (?, ?, ?, ?, ?)", rows)
                for sql in statements:
                    db.execute(sql)
        return self

    def migrate(self, function=to_seconds, **facts):
        with self.open(rows_migration(function, **facts)) as engine:
            report = engine.migrations.migrate_all_data()
            found = engine._store.query("SELECT * FROM journeys ORDER BY user_id, id")
            aside = engine._store.query(
                "SELECT owner, row_key, body, error_code, error_text, field FROM _sync_quarantine "
                "WHERE origin = 'migration' ORDER BY item_id"
            )
        return report.results[-1], found, aside


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def journeys(count, **values):
    facts = {"minutes": 1.0, "tags": "[]", "place": None, **values}
    return [("ann", f"j-{number:05}", *facts.values()) for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200, 250])
def test_every_row_comes_over_whatever_the_number(world, count):
    result, found, aside = world.fill(journeys(count)).migrate()
    assert found == [("ann", f"j-{number:05}", 60, "[]", None) for number in range(count)]
    assert (result.counts, aside) == (Counts(read=count, written=count), [])
    assert result.batches == -(-count // 100)


@pytest.mark.parametrize("batch_rows", [1, 7])
def test_no_batch_size_loses_a_row(world, batch_rows):
    world.fill(journeys(23))
    with world.open(rows_migration(), settings=Settings(batch_rows=batch_rows)) as engine:
        engine.migrate()
        assert engine._store.query("SELECT count(*) FROM journeys") == [(23,)]


def test_one_bad_row_undoes_its_batch_once_and_is_set_aside_alone_and_whole(world):
    rows = journeys(250)
    rows[150] = ("ann", "j-00150", 13.0, '["a"]', "p")
    result, found, aside = world.fill(rows).migrate()
    assert len(found) == 249
    assert (result.counts, result.batches_undone) == (Counts(read=250, written=249, quarantined=1), 1)
    [(owner, key, body, code, text, field)] = aside
    assert (owner, key, code, text, field) == ("ann", "j-00150", "quarantined_by_rule", "thirteen minutes", "minutes")
    assert json.loads(body) == {"user_id": "ann", "id": "j-00150", "minutes": 13.0, "tags": '["a"]', "place": "p"}


@pytest.mark.parametrize(
    ("bad", "code", "says"),
    [
        ({"minutes": None}, "constraint_failed", "NOT NULL constraint failed: journeys_new_.seconds"),
        ({"minutes": 1e9}, "constraint_failed", "seconds < 1000000"),
        ({"place": "same"}, "constraint_failed", "UNIQUE constraint failed: journeys_new_.place"),
        ({"tags": "no json"}, "shape_invalid", "list"),
        ({"tags": "[1]"}, "shape_invalid", "string"),
        ({"minutes": 666.0}, "conversion_failed", "RuntimeError"),
        ({"minutes": float("inf")}, "conversion_failed", "OverflowError"),
    ],
    ids=["NOT NULL", "CHECK", "UNIQUE", "no JSON", "wrong JSON", "f raises", "infinity"],
)
def test_a_row_that_does_not_fit_is_set_aside_with_its_reason_and_without_its_values(world, bad, code, says):
    rows = journeys(3)
    rows[0] = ("ann", "j-00000", 1.0, "[]", "same")
    rows[1] = journeys(2, **bad)[1]
    result, found, aside = world.fill(rows).migrate()
    assert [row[1] for row in found] == ["j-00000", "j-00002"]
    assert result.counts == Counts(read=3, written=2, quarantined=1)
    [(_, key, body, found_code, text, _)] = aside
    assert (key, found_code) == ("j-00001", code)
    assert says in text
    assert "secret" not in text
    assert json.loads(body)["id"] == "j-00001"


def test_infinity_is_still_infinity_in_quarantine(world):
    _, _, aside = world.fill(journeys(1, minutes=float("-inf"))).migrate()
    assert json.loads(aside[0][2])["minutes"] == {"$real": "-inf"}


def wrong_type(old: JourneyV2) -> JourneyV3:
    return old if old.id == "j-00001" else to_seconds(old)  # type: ignore[return-value]  # that is the mistake


def test_a_function_that_returns_another_type_has_its_row_set_aside(world):
    result, found, aside = world.fill(journeys(3)).migrate(wrong_type)
    assert (len(found), result.counts.quarantined) == (2, 1)
    assert "JourneyV2" in aside[0][4]


def split_or_drop(old: JourneyV2) -> list[JourneyV3] | None:
    if old.minutes == 0:
        return None
    half = to_seconds(old)
    return [half.model_copy(update={"id": f"{old.id}-{part}"}) for part in ("a", "b")]


def test_a_row_may_become_two_or_none(world):
    rows = journeys(3)
    rows[1] = ("ann", "j-00001", 0.0, "[]", None)
    result, found, _ = world.fill(rows).migrate(split_or_drop, lossy=True)
    assert [row[1] for row in found] == ["j-00000-a", "j-00000-b", "j-00002-a", "j-00002-b"]
    assert result.counts == Counts(read=3, written=2, dropped=1)


def longest(old: list[JourneyV2]) -> JourneyV3 | None:
    if any(row.minutes == 13 for row in old):
        raise Quarantine("thirteen")
    best = max(old, key=lambda row: row.minutes or 0)
    return None if best.minutes == 0 else to_seconds(best)


def test_rows_of_one_group_become_one_and_the_rest_counts_as_merged(world):
    rows = [("ann", f"{place}{n}", float(n), "[]", place) for place in "abc" for n in (1, 2, 3)]
    rows += [("bob", "a9", 9.0, "[]", "d"), ("ann", "z0", 0.0, "[]", "z"), ("ann", "z1", 0.0, "[]", "z")]
    result, found, _ = world.fill(rows).migrate(longest, group_by="place")
    assert [(row[0], row[1], row[2]) for row in found] == [
        ("ann", "a3", 180),
        ("ann", "b3", 180),
        ("ann", "c3", 180),
        ("bob", "a9", 540),
    ]
    assert result.counts == Counts(read=12, written=4, merged=6, dropped=2)


def test_a_bad_row_leaves_its_group_and_the_others_are_merged_without_it(world):
    rows = [("ann", "a1", 1.0, "[]", "a"), ("ann", "a2", 2.0, "no json", "a"), ("ann", "a3", 3.0, "[]", "a")]
    result, found, aside = world.fill(rows).migrate(longest, group_by="place")
    assert [row[1] for row in found] == ["a3"]
    assert result.counts == Counts(read=3, written=1, merged=1, quarantined=1)
    assert [row[1] for row in aside] == ["a2"]


def test_a_group_that_is_refused_is_set_aside_row_by_row(world):
    rows = [("ann", "a1", 1.0, "[]", "a"), ("ann", "a2", 13.0, "[]", "a"), ("ann", "b", 1.0, "[]", "b")]
    result, found, aside = world.fill(rows).migrate(longest, group_by="place")
    assert [row[1] for row in found] == ["b"]
    assert result.counts == Counts(read=3, written=1, quarantined=2)
    assert [json.loads(row[2])["id"] for row in aside] == ["a1", "a2"]


@pytest.mark.parametrize("count", [99, 100, 250])
def test_rows_without_a_group_value_are_one_group_and_none_is_lost_behind_a_page(world, count):
    rows = [*journeys(count), ("ann", "k-1", 2.0, "[]", "a"), ("ann", "k-2", 3.0, "[]", "a")]
    result, found, _ = world.fill(rows).migrate(longest, group_by="place")
    assert result.counts == Counts(read=count + 2, written=2, merged=count)
    assert [row[1] for row in found] == ["j-00000", "k-2"]


def test_no_more_rows_are_set_aside_than_allowed_and_then_the_store_is_as_it_was(world):
    rows = journeys(500)
    for number in range(0, 60, 10):
        rows[number] = ("ann", f"j-{number:05}", 13.0, "[]", None)
    world.fill(rows, "CREATE TRIGGER t AFTER INSERT ON journeys BEGIN SELECT 1; END")
    with world.open(rows_migration(quarantine_rows_max=1), settings=Settings()) as engine:
        before = dump(engine._store)
        with pytest.raises(QuarantineBudgetExceeded) as stopped:
            engine.migrate()
        assert dump(engine._store) == before
        last = engine._store.query("SELECT state, error_code FROM _sync_run ORDER BY run_id DESC LIMIT 1")
        assert last == [("failed", "quarantine_budget_exceeded")]
        assert "6 of 500" in stopped.value.why
    result, found, _ = world.migrate(quarantine_rows_max=6)
    assert (result.counts.quarantined, len(found)) == (6, 494)


@pytest.mark.parametrize(("bad", "stops"), [(10, False), (11, True)])
def test_ten_rows_or_one_in_a_hundred_may_be_set_aside_by_default(world, bad, stops):
    rows = journeys(200)
    rows[:bad] = journeys(bad, minutes=13.0)
    world.fill(rows)
    with world.open(rows_migration(), settings=Settings()) as engine:
        assert (engine.migrations.migrate_all_data().results[-1].failure is not None) is stops


def test_the_rest_of_a_run_that_failed_is_the_same_run_once_it_is_mended(world):
    world.fill(journeys(120, minutes=13.0))
    with world.open(rows_migration(), settings=Settings()) as engine:
        first = engine.migrations.migrate_all_data()
        second = engine.migrations.migrate_all_data()
        assert [type(report.results[0].failure) for report in (first, second)] == [QuarantineBudgetExceeded] * 2
        assert engine.plan().steps[0].id == "rows"
    result, found, aside = world.migrate(quarantine_rows_max=120)
    assert (result.success, found, len(aside)) == (True, [], 120)


class LyingExecutor(BaseMigrationExecutor):
    definition = MigrationDefinition(
        id="lying", name="", description="", from_version="2.0.0", to_version="3.0.0", collections=("journeys",)
    )

    def items(self, work) -> Iterator[Item]:
        yield from (Item(str(number), None) for number in range(150))

    def apply(self, items, work):
        work.store.query("DELETE FROM journeys")
        return Counts(read=len(items), written=len(items) - 1)


def test_an_executor_whose_counts_do_not_add_up_is_rolled_back(world):
    world.fill(journeys(5))
    with world.open(LyingExecutor()) as engine:
        before = dump(engine._store)
        failure = engine.migrations.migrate_all_data().results[-1].failure
        assert isinstance(failure, ReconciliationFailed)
        assert "read 150" in failure.why
        assert "148" in failure.why
        assert dump(engine._store) == before


def test_a_key_that_does_not_tell_rows_apart_loses_no_row(world):
    with world.open(target="2.0.0") as engine:
        engine.migrate()
        with engine._store.transaction():
            engine._store.query("DROP TABLE journeys")
            engine._store.query("CREATE TABLE journeys (user_id TEXT, id TEXT, minutes REAL, tags TEXT, place TEXT)")
        forget_how_tables_were_made(engine._store)
        with quiet_write(engine) as db:
            db.conn.executemany(
                "INSERT INTO journeys VALUES (?, ?, 1, '[]', NULL)", [("ann", "the same")] * 150 + [(None, "n")] * 120
            )
    with world.open(rows_migration()) as engine:
        before = dump(engine._store)
        failure = engine.migrations.migrate_all_data().results[-1].failure
        assert isinstance(failure, ReconciliationFailed)
        assert "270" in failure.why
        assert dump(engine._store) == before


def test_rows_without_an_owner_are_set_aside_and_none_is_lost(world):
    with world.open(target="2.0.0") as engine:
        engine.migrate()
        with engine._store.transaction():
            engine._store.query("DROP TABLE journeys")
            engine._store.query(
                "CREATE TABLE journeys (user_id, id TEXT, minutes INTEGER, tags TEXT, place TEXT, "
                "PRIMARY KEY (user_id, id))"
            )
        forget_how_tables_were_made(engine._store)
        with quiet_write(engine) as db:
            rows = [(None, f"n-{number:03}", 1.0) for number in range(230)] + [
                ("ann", "j", 1.0),
                ("bob", "j", "long"),
            ]
            db.conn.executemany("INSERT INTO journeys VALUES (?, ?, ?, '[]', NULL)", rows)
    result, found, aside = world.migrate()
    assert found == [("ann", "j", 60, "[]", None)]
    assert result.counts == Counts(read=232, written=1, quarantined=231)
    # Text in an INTEGER column of a table that is not STRICT, as it was.
    assert json.loads(aside[-1][2])["minutes"] == "long"


def test_a_column_that_the_model_does_not_name_stops_the_migration(world):
    world.fill(journeys(2))
    with closing(apsw.Connection(str(world.path))) as by_hand:
        by_hand.execute("ALTER TABLE journeys ADD COLUMN added_by_hand TEXT")
    with world.open(rows_migration()) as engine:
        before = dump(engine._store)
        failure = engine.migrations.migrate_all_data().results[-1].failure
        assert isinstance(failure, ShapeDrifted)
        assert "added_by_hand" in failure.why
        assert dump(engine._store) == before


def test_a_table_that_exists_already_is_not_made_again(tmp_path):
    with Engine.open(tmp_path / "app.db", registry=registry_of(make_v2())) as engine:
        with engine._store.transaction():
            engine._store.query("CREATE TABLE journeys (x)")
        before = dump(engine._store)
        failure = engine.migrations.migrate_all_data().results[-1].failure
        assert isinstance(failure, MigrationInvalid)
        assert dump(engine._store) == before


AROUND = (
    (
        "CREATE TABLE legs (user_id TEXT, journey TEXT, n INTEGER, FOREIGN KEY (user_id, journey) "
        "REFERENCES journeys (user_id, id) ON DELETE CASCADE)"
    ),
    "INSERT INTO legs VALUES ('ann', 'j-00000', 1), ('ann', 'j-00001', 2)",
    "CREATE INDEX journeys_by_minutes ON journeys (minutes)",
    "CREATE INDEX by_user_and_place ON journeys (user_id, place) WHERE place IS NOT NULL",
    "CREATE TABLE audit (what TEXT)",
    "CREATE TRIGGER audited AFTER INSERT ON journeys BEGIN INSERT INTO audit VALUES (NEW.id); END",
    "CREATE VIEW places AS SELECT place, count(*) AS n FROM journeys GROUP BY place",
)


def test_a_rebuild_keeps_triggers_views_indexes_and_the_rows_that_refer_to_it(world):
    world.fill(journeys(3), *AROUND)
    result, _, _ = world.migrate()
    assert result.success, result.errors
    assert result.warnings == ("index journeys_by_minutes was left out: its columns are gone",)
    with world.open(rows_migration()) as engine:
        names = {row[0] for row in engine._store.query("SELECT name FROM sqlite_schema WHERE tbl_name = 'journeys'")}
        assert {"audited", "journeys_by_place", "by_user_and_place", "journeys_by_seconds"} <= names
        assert engine._store.query("SELECT count(*) FROM legs") == [(2,)]
        assert engine._store.query("SELECT count(*) FROM audit") == [(0,)]
        assert engine._store.query("PRAGMA foreign_keys") == [(1,)]
        with engine.write() as db:
            assert [row["n"] for row in db["places"].rows] == [3]
            db.execute("INSERT INTO journeys VALUES ('ann', 'new', 1, '[]', NULL)")
            assert db["audit"].count == 1
            db.execute("DELETE FROM journeys WHERE id = 'j-00000'")
            assert db["legs"].count == 1
            with pytest.raises(apsw.ConstraintError):
                db.execute("INSERT INTO legs VALUES ('ann', 'nowhere', 1)")


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        (
            "CREATE TRIGGER t AFTER INSERT ON journeys BEGIN UPDATE journeys SET minutes = 1; END",
            "trigger on journeys",
        ),
        (
            "CREATE TRIGGER t AFTER DELETE ON notes BEGIN DELETE FROM journeys WHERE minutes = 1; END",
            "trigger on notes",
        ),
        ("CREATE VIEW long AS SELECT id FROM journeys WHERE minutes > 60", "view long"),
    ],
)
def test_a_trigger_or_view_that_the_new_shape_would_break_stops_the_migration(world, sql, what):
    world.fill(journeys(3), "CREATE TABLE notes (id TEXT)", sql)
    with world.open(rows_migration()) as engine:
        before = dump(engine._store)
        failure = engine.migrations.migrate_all_data().results[-1].failure
        assert isinstance(failure, MigrationInvalid)
        assert what in failure.why
        assert dump(engine._store) == before


def test_what_was_broken_before_does_not_stop_the_migration(world):
    world.fill(journeys(3), "CREATE VIEW broken AS SELECT gone FROM journeys")
    assert world.migrate()[0].success


def test_a_row_that_others_refer_to_is_not_set_aside_behind_their_back(world):
    rows = journeys(2)
    rows[0] = ("ann", "j-00000", 13.0, "[]", None)
    world.fill(rows, *AROUND[:2])
    with world.open(rows_migration()) as engine:
        before = dump(engine._store)
        failure = engine.migrations.migrate_all_data().results[-1].failure
        assert isinstance(failure, ReconciliationFailed)
        assert "legs" in failure.why
        assert dump(engine._store) == before


HARD_TEXTS = [
    "",
    "\0",
    "a\0b",
    "🚶‍♀️ \U0010ffff",
    "'\"`;--",
    "\u2028\x1b[31m",
    "null",
    "123",
    '"quoted"',
    "x" * 5_000_000,
]


def test_hard_texts_and_a_row_of_five_megabytes_come_over_as_they_are(world):
    rows = [
        ("ann", f"{n:02}{text[:20]}", 1.0, json.dumps([text]), text + str(n)) for n, text in enumerate(HARD_TEXTS)
    ]
    result, found, _ = world.fill(rows).migrate()
    assert result.success, result.errors
    assert [(row[1], json.loads(row[3]), row[4]) for row in found] == sorted(
        (row[1], json.loads(row[3]), row[4]) for row in rows
    )


def test_half_of_a_surrogate_pair_in_json_is_set_aside_and_nothing_is_lost(world):
    rows = journeys(2)
    rows[0] = ("ann", "j-00000", 1.0, '["\\ud83d"]', None)
    result, _, aside = world.fill(rows).migrate()
    assert result.counts == Counts(read=2, written=1, quarantined=1)
    assert json.loads(aside[0][2])["tags"] == '["\\ud83d"]'


def test_text_that_is_no_utf_8_is_set_aside_and_the_rows_around_it_come_over(world):
    rows = journeys(150)
    world.fill(rows, "UPDATE journeys SET place = CAST(x'61ff' AS TEXT) WHERE id = 'j-00042'")
    result, found, aside = world.migrate()
    assert (len(found), result.counts) == (149, Counts(read=150, written=149, quarantined=1))
    [(_, key, body, code, _, field)] = aside
    assert (key, code, field) == ("j-00042", "shape_invalid", "0.place")
    assert json.loads(body)["place"] == {"$blob": "Yf8="}


def test_a_table_whose_columns_stay_is_rewritten_in_its_own_shape(world):
    def trimmed(old: JourneyV2) -> JourneyV2:
        return old.model_copy(update={"place": "home"})

    result, found, _ = world.fill(journeys(3)).migrate(trimmed, table=None)
    assert result.success, result.errors
    assert {row[4] for row in found} == {"home"}


def test_rows_of_all_owners_are_converted_at_once(world):
    rows = [(owner, "j", 1.0, "[]", None) for owner in ("ann", "bob", "")]
    result, found, _ = world.fill(rows).migrate()
    assert [(row[0], row[2]) for row in found] == [("", 60), ("ann", 60), ("bob", 60)]
    assert result.counts == Counts(read=3, written=3)


def test_a_group_of_a_collection_without_owner_is_set_aside_without_one(tmp_path):
    class Loose(BaseModel):
        id: str
        kind: str | None

    def merged(old: list[Loose]) -> Loose:
        raise Quarantine("no")

    merged.__annotations__ = {"old": list[Loose], "return": Loose}
    make = tables(
        id="tables",
        from_version="1.0.0",
        to_version="2.0.0",
        create=("CREATE TABLE loose (id TEXT PRIMARY KEY, kind TEXT) STRICT",),
    )
    merge = migration(collection="loose", from_version="2.0.0", to_version="3.0.0", id="merge", group_by="kind")(
        merged
    )
    with Engine.open(tmp_path / "app.db", registry=registry_of(make, merge, target="3.0.0")) as engine:
        engine.migrations.execute_migration("tables")
        with engine._store.transaction():
            engine._store.query("INSERT INTO loose VALUES ('x', 'a secret kind')")
        assert engine.migrations.execute_migration("merge").counts.quarantined == 1
        assert engine._store.query("SELECT owner, row_key FROM _sync_quarantine WHERE origin = 'migration'") == [
            (None, "x")
        ]
