"""Repair rules mend one field of a row at fault, once; the old value is kept, and the warning says no values."""

import json

import pytest
from imports import ImportExecutor, make_v2, walk, write_phone
from migrate_world import quiet_write, registry_of
from pydantic import BaseModel, ConfigDict, Field

from syncengine import Engine, Quarantine, Work, cast, clamp, declared, default, migration, tables, trim, using
from syncengine.errors import MigrationInvalid


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str


class OldWalk(Strict):
    minutes: float = Field(ge=0, le=1000)
    mode: str | None
    route: list[int] | None


class NewWalk(Strict):
    seconds: int
    mode: str = Field(min_length=2)
    route: list[int]


OLD = (
    "CREATE TABLE journeys (user_id TEXT NOT NULL, id TEXT NOT NULL, minutes REAL, mode TEXT, route TEXT,"
    " PRIMARY KEY (user_id, id)) STRICT"
)
NEW = (
    "CREATE TABLE journeys (user_id TEXT NOT NULL, id TEXT NOT NULL, seconds INTEGER NOT NULL, mode TEXT NOT NULL,"
    " route TEXT NOT NULL, PRIMARY KEY (user_id, id)) STRICT"
)


def to_new(old: OldWalk) -> NewWalk:
    if old.mode == "car":
        raise Quarantine("no cars", field="mode")
    mode = old.mode or ""
    return NewWalk(
        user_id=old.user_id, id=old.id, seconds=int(old.minutes * 60), mode=mode, route=sorted(old.route or [])
    )


def run(tmp_path, rows, *repairs, function=to_new, **facts):
    """Migrate these rows with these rules; an engine to look at, and its result."""
    make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(OLD,))
    with Engine.open(tmp_path / "app.db", registry=registry_of(make, target="2.0.0")) as engine:
        engine.migrate()
        with quiet_write(engine) as db:
            db.conn.executemany("INSERT INTO journeys VALUES ('ann', ?, ?, ?, ?)", rows)
    facts = {"id": "rows", "table": NEW, "critical": True, "repairs": repairs, **facts}
    step = migration(collection="journeys", from_version="2.0.0", to_version="3.0.0", **facts)(function)
    engine = Engine.open(tmp_path / "app.db", registry=registry_of(make, step, target="3.0.0"))
    report = engine.migrate()
    return engine, report.results[0]


def written(engine):
    return engine._store.query("SELECT id, seconds, mode, route FROM journeys ORDER BY id")


def kept(engine):
    return engine._store.query(
        "SELECT owner, row_key, field, value, migration FROM _sync_archive ORDER BY row_key, field"
    )


def aside(engine):
    return [(item.key, item.field, json.loads(item.body)) for item in engine.quarantine.items()]


def test_a_value_out_of_bounds_is_clamped_counted_and_kept_as_it_was(tmp_path):
    rows = [
        ("a", 5.0, "walk", "[]"),
        ("b", -3.0, "walk", "[]"),
        ("c", 5000.0, "walk", "[]"),
        ("d", -0.5, "walk", "[]"),
    ]
    engine, result = run(tmp_path, rows, clamp("minutes", at_least=0, at_most=1000))
    with engine:
        assert [(row[0], row[1]) for row in written(engine)] == [("a", 300), ("b", 0), ("c", 60_000), ("d", 0)]
        assert kept(engine) == [
            ("ann", "b", "minutes", -3.0, "rows"),
            ("ann", "c", "minutes", 5000.0, "rows"),
            ("ann", "d", "minutes", -0.5, "rows"),
        ]
        assert result.warnings == ("3 rows repaired: minutes clamped",)
        assert (result.counts.written, result.counts.quarantined) == (4, 0)


def test_a_rule_answers_errors_of_its_own_field_only(tmp_path):
    rows = [("a", -3.0, "walk", "[]"), ("b", 1.0, "car", "[]")]
    engine, result = run(tmp_path, rows, default("route", "[7]"), clamp("minutes", at_least=0))
    with engine:
        assert written(engine) == [("a", 0, "walk", "[]")]
        assert [(key, field) for key, field, _ in aside(engine)] == [("b", "mode")]
        assert kept(engine) == [("ann", "a", "minutes", -3.0, "rows")]
        assert result.warnings == ("1 row repaired: minutes clamped",)


def test_what_a_conversion_warned_of_before_its_row_was_mended_is_taken_back(tmp_path):
    def warns(old: OldWalk, work: Work) -> NewWalk:
        work.warn(f"a journey by {old.mode}", row_key=old.id)
        return to_new(old)

    rows = [("a", 1.0, "car", "[]"), ("b", 1.0, "bike", "[]")]
    engine, result = run(tmp_path, rows, default("mode", "walk"), function=warns)
    with engine:
        assert result.warnings == (
            "a: a journey by walk",
            "b: a journey by bike",
            "1 row repaired: mode set to its default",
        )


def test_a_row_that_needs_two_rules_gets_both_and_each_at_most_once(tmp_path):
    tried = []

    def counted(value):
        tried.append(value)
        return value - 1

    rows = [("a", -1.0, "car", "[]"), ("b", -1.0, "walk", "[]")]
    engine, _ = run(tmp_path, rows, using("minutes", counted), clamp("minutes", at_least=0), default("mode", "walk"))
    with engine:
        assert written(engine) == [("a", 0, "walk", "[]"), ("b", 0, "walk", "[]")]
        assert tried == [-1.0, -1.0], "once for each row, in the order of the rules"
        assert ("ann", "a", "minutes", -1.0, "rows") in kept(engine), "the first value, not one in between"


def test_what_no_rule_can_mend_is_set_aside_as_it_was_and_nothing_is_kept_of_the_tries(tmp_path):
    rows = [("a", -1.0, "car", "[]"), ("b", 2.0, "walk", "[]")]
    engine, result = run(tmp_path, rows, clamp("minutes", at_least=0), default("mode", "car"))
    with engine:
        original = {"user_id": "ann", "id": "a", "minutes": -1.0, "mode": "car", "route": "[]"}
        assert aside(engine) == [("a", "mode", original)]
        assert kept(engine) == []
        assert result.warnings == ()
        assert written(engine) == [("b", 120, "walk", "[]")]


def test_a_rule_answers_an_error_of_the_new_field_where_it_says_so(tmp_path):
    def in_new_words(old: OldWalk) -> NewWalk:
        if old.minutes > 100:
            raise Quarantine("too long", field="seconds")
        return to_new(old)

    engine, _ = run(
        tmp_path, [("a", 200.0, "walk", "[]")], clamp("minutes", at_most=100, on="seconds"), function=in_new_words
    )
    with engine:
        assert written(engine) == [("a", 6000, "walk", "[]")]


def test_a_json_column_is_mended_as_a_value_and_kept_as_the_text_that_it_was(tmp_path):
    def only_numbers(route):
        return [point for point in route if isinstance(point, int)]

    engine, result = run(tmp_path, [("a", 1.0, "walk", '[3, "x",  1]')], using("route", only_numbers))
    with engine:
        assert written(engine) == [("a", 60, "walk", "[1,3]")]
        assert kept(engine) == [("ann", "a", "route", '[3, "x",  1]', "rows")]
        assert result.warnings == ("1 row repaired: route repaired by only_numbers",)


def test_blanks_are_trimmed_and_a_missing_value_gets_its_default(tmp_path):
    rows = [("a", 1.0, " x   ", "[]"), ("b", 1.0, None, "[]")]

    def long_enough(old: OldWalk) -> NewWalk:
        if old.mode != (old.mode or "").strip():
            raise Quarantine("blanks", field="mode")
        return to_new(old)

    engine, result = run(tmp_path, rows, trim("mode"), default("mode", "unspecified"), function=long_enough)
    with engine:
        assert [row[2] for row in written(engine)] == ["unspecified", "unspecified"]
        assert result.warnings == ("2 rows repaired: mode set to its default", "1 row repaired: mode trimmed")


def test_a_function_of_the_author_that_raises_sets_the_row_aside(tmp_path):
    def breaks(value):
        raise RuntimeError(f"the secret {value}")

    engine, _ = run(tmp_path, [("a", -1.0, "walk", "[]"), ("b", 1.0, "walk", "[]")], using("minutes", breaks))
    with engine:
        [item] = engine.quarantine.items()
        assert (item.key, item.error_code) == ("a", "conversion_failed")
        assert "secret" not in item.error_text


def test_a_member_of_a_group_that_is_bad_by_itself_is_mended_before_its_group_is_merged(tmp_path):
    def merged(old: list[OldWalk]) -> list[NewWalk]:
        first = old[0]
        seconds = int(sum(row.minutes for row in old) * 60)
        return [NewWalk(user_id=first.user_id, id=first.id, seconds=seconds, mode="walk", route=[])]

    rows = [("a", 1.0, "walk", "[]"), ("b", -5.0, "walk", "[]"), ("c", 2.0, "walk", "[]")]
    engine, result = run(tmp_path, rows, clamp("minutes", at_least=0), function=merged, group_by="mode")
    with engine:
        assert written(engine) == [("a", 180, "walk", "[]")]
        assert kept(engine) == [("ann", "b", "minutes", -5.0, "rows")]
        assert (result.counts.merged, result.counts.quarantined) == (2, 0)


class Mending(ImportExecutor):
    repairs = (default("minutes", 1, on="minutes"),)


def test_an_import_mends_elements_of_its_legacy_store(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [walk(1), walk(2, 13)])
    registry = registry_of(make_v2(), Mending(), target="2.0.0")
    with Engine.open(tmp_path / "app.db", registry=registry, user="ann", sources={"phone": str(phone)}) as engine:
        report = engine.migrate()
        assert engine._store.query("SELECT id, minutes FROM journeys ORDER BY id") == [
            ("w-00001", 1.0),
            ("w-00002", 1.0),
        ]
        assert kept(engine) == [("ann", "@walks[1]", "minutes", 13, "import-walks")]
        assert "1 row repaired: minutes set to its default" in report.results[1].warnings


def test_a_cast_is_mended_too(tmp_path):
    with Engine.open(tmp_path / "app.db", registry=registry_of(make_v2(), target="2.0.0")) as engine:
        engine.migrate()
        with quiet_write(engine) as db:
            rows = [("ann", "a", 1.5, None), ("ann", "b", 2.0, None)]
            db.conn.executemany("INSERT INTO journeys VALUES (?, ?, ?, ?)", rows)
    casting = declared(
        id="casting",
        collection="journeys",
        from_version="2.0.0",
        to_version="3.0.0",
        changes=(cast("minutes", int),),
        repairs=(using("minutes", round),),
    )
    with Engine.open(tmp_path / "app.db", registry=registry_of(make_v2(), casting, target="3.0.0")) as engine:
        assert engine.migrate().success
        assert engine._store.query("SELECT id, minutes FROM journeys ORDER BY id") == [("a", 2), ("b", 2)]
        assert ("ann", "a", "minutes", 1.5, "casting") in kept(engine)


def test_a_new_rule_is_new_code_and_brings_back_what_was_set_aside_without_it(tmp_path):
    rows = [("a", -1.0, "walk", "[]")]
    engine, result = run(tmp_path, rows)
    with engine:
        assert result.counts.quarantined == 1
    make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(OLD,))
    facts = {"id": "rows", "table": NEW, "critical": True, "repairs": (clamp("minutes", at_least=0),)}
    step = migration(collection="journeys", from_version="2.0.0", to_version="3.0.0", **facts)(to_new)
    with Engine.open(tmp_path / "app.db", registry=registry_of(make, step, target="3.0.0")) as engine:
        assert engine.migrate().retried == 1
        assert written(engine) == [("a", 0, "walk", "[]")]


def test_a_clamp_without_a_bound_is_refused():
    with pytest.raises(MigrationInvalid):
        clamp("minutes")


def test_rules_that_do_not_apply_leave_a_row_alone():
    assert clamp("x", at_least=0).function("text") == "text"
    assert clamp("x", at_least=0).function(True) is True
    assert trim("x").function(5) == 5
