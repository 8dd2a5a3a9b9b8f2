"""Row functions on plain dicts: as fast as a loop by hand, and no row is lost for it."""

import json
from typing import TypedDict

import pytest
from migrate_world import registry_of
from pydantic import BaseModel, ConfigDict

from syncengine import Engine, Quarantine, Settings, migration, tables
from syncengine.errors import MigrationInvalid
from syncengine.migrate.definition import Counts
from syncengine.migrate.row_migration import PlainRowExecutor

V2 = "CREATE TABLE loose (id TEXT NOT NULL PRIMARY KEY, minutes REAL, tags TEXT, done INTEGER) STRICT"
V3 = "CREATE TABLE loose (id TEXT NOT NULL PRIMARY KEY, seconds INTEGER NOT NULL, tags TEXT, done INTEGER) STRICT"


class Old(TypedDict):
    id: str
    minutes: float | None
    tags: list[str]
    done: bool | None


class New(TypedDict):
    id: str
    seconds: int
    tags: list[str]
    done: bool


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)
    id: str
    seconds: int
    tags: list[str]
    done: bool


@pytest.fixture
def world(tmp_path):
    def change(function, rows, **facts):
        """The result, the new rows, and what is in quarantine, after all went through the function."""
        make = tables(id="tables", from_version="1.0.0", to_version="2.0.0", create=(V2,))
        facts = {"table": V3, "id": "rows", **facts}
        rewrite = migration(collection="loose", from_version="2.0.0", to_version="3.0.0", **facts)(function)
        assert isinstance(rewrite, PlainRowExecutor)
        with Engine.open(tmp_path / "app.db", registry=registry_of(make, target="2.0.0")) as engine:
            engine.migrate()
            with engine.write() as db:
                db.conn.executemany("INSERT INTO loose VALUES (?, ?, ?, ?)", rows)
        settings = Settings(quarantine_rows_max=1000, batch_rows=10)
        registry = registry_of(make, rewrite, target="3.0.0")
        with Engine.open(tmp_path / "app.db", registry=registry, settings=settings) as engine:
            result = engine.migrations.migrate_all_data().results[-1]
            found = engine._store.query("SELECT * FROM loose ORDER BY id")
            aside = engine._store.query("SELECT row_key, body, error_code, error_text, field FROM _sync_quarantine")
        return result, found, aside

    return change


def rows(count):
    return [(f"r{number:03}", number / 2, '["a"]', number % 2) for number in range(count)]


def seconds_of(old: dict) -> dict:
    return {"id": old["id"], "seconds": int(old["minutes"] * 60), "tags": old["tags"], "done": old["done"]}


@pytest.mark.parametrize("count", [0, 1, 10, 35])
def test_each_plain_row_comes_over_and_what_is_not_hinted_stays_as_it_lies(world, count):
    result, found, aside = world(seconds_of, rows(count))
    assert found == [(f"r{number:03}", number * 30, '["a"]', number % 2) for number in range(count)]
    assert (result.counts, aside) == (Counts(read=count, written=count), [])


def with_hints(old: Old) -> New:
    assert isinstance(old["tags"], list)
    assert old["done"] in (None, False, True)
    assert not isinstance(old["done"], int) or isinstance(old["done"], bool)
    seconds = round((old["minutes"] or 0) * 60)
    return {"id": old["id"], "seconds": seconds, "tags": [*old["tags"], "b"], "done": old["done"] is True}


def test_a_typed_dict_says_which_columns_are_json_and_which_are_bool(world):
    _, found, aside = world(with_hints, [("x", 1.0, '["ä"]', 1), ("y", None, "[]", None)])
    assert (found, aside) == ([("x", 60, '["ä","b"]', 1), ("y", 0, '["b"]', 0)], [])


class Turned(TypedDict):
    tags: str
    done: int
    seconds: int
    id: str


def test_values_come_into_their_own_columns_whatever_the_order_of_the_hint(world):
    def turned(old: dict) -> Turned:
        return {"tags": old["tags"], "done": old["done"], "seconds": int(old["minutes"] * 60), "id": old["id"]}

    _, found, aside = world(turned, rows(12))
    assert found == [(f"r{number:03}", number * 30, '["a"]', number % 2) for number in range(12)]
    assert aside == []


def test_text_that_is_no_json_where_the_hint_wants_it_is_set_aside_whole(world):
    result, found, aside = world(with_hints, [*rows(12), ("z", 1.0, "no json", 1)])
    assert (len(found), result.counts.quarantined) == (12, 1)
    assert [(key, code, field) for key, _, code, _, field in aside] == [("z", "quarantined_by_rule", "tags")]
    assert json.loads(aside[0][1]) == {"id": "z", "minutes": 1.0, "tags": "no json", "done": 1}


def odd(old: dict) -> list[dict] | dict | None:
    new = seconds_of(old)
    fate = old["id"]
    if fate == "drop":
        return None
    if fate == "split":
        return [new, {**new, "id": "split-2"}]
    if fate == "refused":
        raise Quarantine("by its fate", field="id")
    if fate == "less":
        del new["tags"]
    if fate == "more":
        new["a secret"] = 1
    if fate == "other":
        new = 7
    if fate == "list":
        new["tags"] = ["a", {"b": 1.5}]
    if fate == "unfit":
        new["seconds"] = "many"
    if fate == "object":
        new["tags"] = object()
    return new


def test_what_a_plain_function_gets_wrong_is_one_rows_matter(world):
    fates = ["drop", "split", "refused", "less", "more", "other", "list", "unfit", "object", "good"]
    result, found, aside = world(odd, [(fate, 1.0, "[]", 0) for fate in fates])
    assert [row[0] for row in found] == ["good", "list", "split", "split-2"]
    assert [row[2] for row in found if row[0] == "list"] == ['["a",{"b":1.5}]']
    assert result.counts == Counts(read=10, written=3, dropped=1, quarantined=6)
    assert {row[0]: row[2] for row in aside} == {
        "refused": "quarantined_by_rule",
        "less": "conversion_failed",
        "more": "conversion_failed",
        "other": "conversion_failed",
        "unfit": "constraint_failed",
        "object": "conversion_failed",
    }
    assert "secret" not in " ".join(row[3] for row in aside)
    assert "tags" in next(row[3] for row in aside if row[0] == "less")


def never_none(old: dict) -> dict:
    return None if old["id"] == "r001" else seconds_of(old)  # type: ignore[return-value]  # that is the mistake


def test_a_plain_function_that_may_not_drop_a_row_does_not(world):
    result, found, aside = world(never_none, rows(3))
    assert (len(found), result.counts, len(aside)) == (2, Counts(read=3, written=2, quarantined=1), 1)


def to_model(old: dict) -> Model:
    return Model(id=old["id"], seconds=int(old["minutes"] * 60), tags=json.loads(old["tags"]), done=old["done"] == 1)


def test_a_plain_row_may_become_a_model(world):
    _, found, aside = world(to_model, rows(2))
    assert (found, aside) == ([("r000", 0, '["a"]', 0), ("r001", 30, '["a"]', 1)], [])


def first(old: list[Old]) -> New:
    return with_hints(old[0])


def test_plain_rows_are_merged_by_a_named_column(world):
    result, found, _ = world(
        first, [("a", 1.0, "[]", 1), ("b", 1.0, "[]", 0), ("c", 2.0, "[]", 0)], group_by="minutes"
    )
    assert [row[0] for row in found] == ["a", "c"]
    assert result.counts == Counts(read=3, written=2, merged=1)


def all_at_once(old: list[dict]) -> dict:
    return seconds_of(old[0])


def test_hints_that_say_too_little_are_refused_at_import():
    def no_hints(old):
        return old

    facts = {"collection": "loose", "from_version": "2.0.0", "to_version": "3.0.0"}
    with pytest.raises(MigrationInvalid):
        migration(**facts)(no_hints)
    with pytest.raises(MigrationInvalid, match="does not name"):
        migration(group_by="minutes", **facts)(all_at_once)


class Missing(TypedDict):
    id: str
    seconds: int


def loses_columns(old: Old) -> Missing:
    return {"id": old["id"], "seconds": 0}


def test_a_typed_dict_that_leaves_a_column_out_stops_the_migration(world):
    result, found, _ = world(loses_columns, rows(3))
    assert isinstance(result.failure, MigrationInvalid)
    assert "tags" in result.failure.why
    assert len(found) == 3
