"""Hero's Path's migrations on a real store: from AsyncStorage, from generation 1's own rows, for a late user."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import migrations
from migrations import journeys_v3
from migrations.shapes_v2 import JourneyV2
from migrations.shapes_v3 import JourneyV3
from migrations.v2_0_0 import IMPORT_AND_UPLOAD
from simulator.asyncstorage_writer import Kind, write_store
from simulator.generation1_rows import Generation1Rows, generation1_rows
from simulator.heros_path_values import FAKE_API_KEY
from syncengine import Engine, MigrationResult

DATA = Path(__file__).resolve().parents[1] / "data" / "asyncstorage"
COLLECTIONS = ("journeys", "places", "dismissed_places", "profile", "preferences", "app_state")


def rows(engine: Engine, sql: str) -> list[tuple[Any, ...]]:
    with engine.read() as db:
        return list(db.execute(sql).fetchall())


def results(engine: Engine) -> dict[str, MigrationResult]:
    report = engine.migrate()
    assert report is not None
    assert report.success
    return {result.migration_id: result for result in report.results}


def imported(folder: Path, source: Path, *, user: str = "user-1") -> Engine:
    return Engine.open(
        folder / "app.db",
        registry=migrations.registry(),
        user=user,
        sources={"asyncstorage": str(source)},
        consent=lambda request: True,
    )


@pytest.mark.parametrize("kind", ["ios-library-2.2.0", "android-rkstorage-wal"])
def test_a_real_legacy_store_arrives_whole_on_both_platforms(tmp_path: Path, kind: str) -> None:
    with imported(tmp_path, DATA / kind) as engine:
        done = results(engine)
        counted = {name: rows(engine, f"SELECT count(*) FROM {name}")[0][0] for name in COLLECTIONS}
        assert done["journeys-schema-v2-to-v3"].counts.quarantined == 0
    assert counted == {
        "journeys": 58, "places": 40, "dismissed_places": 8, "profile": 1, "preferences": 1, "app_state": 2,
    }  # fmt: skip


def test_the_settings_of_a_real_legacy_store_are_kept(tmp_path: Path) -> None:
    with imported(tmp_path, DATA / "ios-library-2.2.0") as engine:
        results(engine)
        chosen = rows(engine, "SELECT language, min_rating, dismissal_preference, max_discoveries FROM preferences")
        assert chosen == [("ja", 3.0, "30days", 20)]
        types = rows(engine, "SELECT place_types, place_types_off FROM preferences")[0]
        assert json.loads(types[0]) == ["art_gallery", "bar", "cafe", "park", "restaurant"]
        assert json.loads(types[1]) == ["bakery", "museum"]
        style = rows(engine, "SELECT json_extract(preferences, '$.theme', '$.mapStyle') FROM profile")
        assert style == [('["auto","default"]',)]


def test_a_mark_that_no_screen_needs_any_more_is_archived_and_not_lost(tmp_path: Path) -> None:
    with imported(tmp_path, DATA / "ios-library-2.2.0") as engine:
        results(engine)
        archived = engine._store.query("SELECT collection, owner, field, value FROM _sync_archive")
    assert archived == [("preferences", "user-1", "map_tutorial_seen", 1)]


def test_a_key_that_nobody_knows_is_named_and_left_where_it_is(tmp_path: Path) -> None:
    with imported(tmp_path, DATA / "ios-library-2.2.0") as engine:
        warnings = " ".join(results(engine)["app-state-storage-v1-to-v2"].warnings)
    assert "`@broken`" in warnings
    assert "`unrelated_😀_key`" in warnings
    assert "@saved_routes" not in warnings


def test_the_last_walk_is_not_written_twice_even_where_it_has_no_id(tmp_path: Path) -> None:
    points = [{"latitude": 35.6, "longitude": 139.7}, {"latitude": 35.7, "longitude": 139.7}]
    other = [{"latitude": 35.0, "longitude": 139.0}, {"latitude": 35.1, "longitude": 139.0}]
    walks = [
        {"id": "1", "coords": other, "date": "2025-07-12T07:23:07.123Z"},
        {"id": "2", "coords": points, "date": "2025-07-13T07:23:07.123Z"},
    ]
    last = {"coords": points, "date": "2025-07-13T07:23:07.123Z"}
    dump = tmp_path / "dump.json"
    dump.write_text(json.dumps({"@saved_routes": json.dumps(walks), "lastRoute": json.dumps(last)}))
    with imported(tmp_path, dump) as engine:
        counts = results(engine)["journey-storage-v1-to-v2"].counts
        assert (counts.read, counts.written, counts.merged) == (3, 2, 1)
        assert rows(engine, "SELECT id FROM journeys ORDER BY id") == [("1",), ("2",)]


@pytest.mark.parametrize("kind", ["android", "android-room", "ios"])
def test_every_walk_and_place_of_an_invented_history_is_accounted_for(tmp_path: Path, kind: Kind) -> None:
    written = write_store(tmp_path / "old", kind=kind, walks=400, places=60, dismissed=10, seed=7)
    with imported(tmp_path, written.path) as engine:
        done = results(engine)
        walks, places = done["journey-storage-v1-to-v2"].counts, done["places-storage-v1-to-v2"].counts
        last = 1  # lastRoute, which repeats a walk
        assert walks.read == written.walks_total + last
        assert walks.merged == last
        assert written.walks_empty <= walks.quarantined <= written.walks_empty + written.walks_null_latitude
        assert places.read == written.places_total
        assert places.merged == written.places_repeated_id
        assert done["dismissed-places-storage-v1-to-v2"].counts.read == written.dismissed_total
        undated = rows(engine, "SELECT count(*) FROM journeys WHERE NOT date_known")
        assert undated == [(written.walks_bare_array,)]


def test_no_api_key_is_left_anywhere_in_the_tables(tmp_path: Path) -> None:
    written = write_store(tmp_path / "old", kind="ios", walks=20, places=60, seed=3)
    assert written.thumbnails_with_key > 0
    with imported(tmp_path, written.path) as engine:
        results(engine)
        for name in COLLECTIONS:
            with engine.read() as db:
                assert all(FAKE_API_KEY not in str(row) for row in db[name].rows), name


@pytest.fixture
def generation1(tmp_path: Path) -> Iterator[tuple[Engine, Generation1Rows]]:
    """An engine of 3.0.0 over a store that the app of 2.0.0 has filled, not yet migrated."""
    path = tmp_path / "app.db"
    made = generation1_rows(user="user-1", seed=5)
    with Engine.open(path, registry=migrations.registry(target="2.0.0")) as engine:
        engine.migrate()
        with engine.write() as db:
            for sql, values in made.inserts():
                db.execute(sql, values)
    with Engine.open(path, registry=migrations.registry(), user="user-1", consent=lambda request: True) as engine:
        yield engine, made


def test_every_oddity_of_generation_1_becomes_what_its_rule_says(
    generation1: tuple[Engine, Generation1Rows],
) -> None:
    engine, made = generation1
    done, counts = results(engine), made.counts
    journeys = done["journeys-schema-v2-to-v3"].counts
    assert (journeys.read, journeys.quarantined) == (counts.journeys, counts.journeys_beyond_repair)
    places = done["places-schema-v2-to-v3"].counts
    assert (places.read, places.written) == (counts.discoveries, counts.places)
    assert places.merged == counts.discoveries - counts.places
    found = {
        "without_position": "SELECT count(*) FROM places WHERE latitude IS NULL",
        "at_zero": "SELECT count(*) FROM places WHERE latitude = 0 AND longitude = 0",
        "forever": "SELECT count(*) FROM dismissed_places WHERE dismissed_until_ms IS NULL",
        "without_route": "SELECT count(*) FROM journeys WHERE route = '[]'",
        "deleted": "SELECT count(*) FROM journeys WHERE is_deleted AND deleted_at_ms IS NOT NULL",
        "credits": "SELECT credits_remaining FROM profile",
        "units": "SELECT json_extract(preferences, '$.units') FROM profile",
    }
    assert {name: rows(engine, sql)[0][0] for name, sql in found.items()} == {
        "without_position": counts.places_without_position,
        "at_zero": 0,
        "forever": counts.dismissed_forever,
        "without_route": counts.journeys_without_route,
        "deleted": counts.journeys_deleted_softly,
        "credits": 50,
        "units": "metric",
    }


def test_each_duration_and_distance_of_generation_1_is_in_the_right_unit(
    generation1: tuple[Engine, Generation1Rows],
) -> None:
    engine, made = generation1
    results(engine)
    timed = rows(
        engine,
        "SELECT duration_s, distance_m, (end_time_ms - start_time_ms) / 1000.0, json_array_length(route) "
        "FROM journeys WHERE name LIKE 'Walk - %'",
    )
    in_milliseconds = made.counts.journeys_in_milliseconds + made.counts.journeys_in_kilometres
    expected = in_milliseconds + made.counts.journeys_in_seconds - made.counts.journeys_beyond_repair
    assert len(timed) == expected
    for duration_s, distance_m, span_s, points in timed:
        assert duration_s == span_s
        assert distance_m == pytest.approx(11.1 * points, abs=12)


def test_saved_wins_over_dismissed_in_every_place_that_was_both(
    generation1: tuple[Engine, Generation1Rows],
) -> None:
    engine, made = generation1
    warnings = results(engine)["places-schema-v2-to-v3"].warnings
    assert sum("saved wins" in warning for warning in warnings) == made.counts.places_saved_and_dismissed
    assert rows(engine, "SELECT count(*) FROM places WHERE saved AND dismissed") == [(0,)]


def test_every_stored_walk_of_generation_1_finds_its_way_back_exactly(
    generation1: tuple[Engine, Generation1Rows],
) -> None:
    engine, made = generation1
    results(engine)
    was = {str(row["id"]): row for row in made.journeys}
    json_columns = ("route", "legacy", "start_location", "end_location")
    with engine.read() as db:
        for stored in db["journeys"].rows:
            parsed = {name: json.loads(value) if name in json_columns else value for name, value in stored.items()}
            back = journeys_v3.older(JourneyV3.model_validate(parsed, strict=False))
            old = was[back.id]
            given = {
                name: json.loads(str(value)) if name in json_columns and value else value
                for name, value in old.items()
            }
            assert back == JourneyV2.model_validate(given, strict=False)


def test_a_user_who_signs_in_after_the_store_has_moved_on_imports_into_the_new_tables(tmp_path: Path) -> None:
    with Engine.open(
        tmp_path / "app.db", registry=migrations.registry(), user="first", consent=lambda request: True
    ) as engine:
        results(engine)
    with imported(tmp_path, DATA / "ios-library-2.2.0", user="late") as engine:
        results(engine)
        late = "SELECT count(*) FROM journeys WHERE user_id = 'late' AND duration_s IS NULL AND distance_m > 0"
        assert rows(engine, late) == [(58,)]
        assert rows(engine, "SELECT count(*) FROM places WHERE user_id = 'late' AND saved") == [(40,)]
        assert engine.status().quarantined == 2  # the two empty walks
        chosen = rows(engine, "SELECT max_discoveries, language FROM preferences WHERE user_id = 'late'")
        assert chosen == [(20, "ja")]
        for name in COLLECTIONS:
            checked = engine.migrations.validate_migrated_data("late", name)
            assert checked.success, checked.errors


@pytest.mark.parametrize("data_type", sorted(IMPORT_AND_UPLOAD))
def test_one_data_type_can_be_taken_to_the_cloud_alone(tmp_path: Path, data_type: str) -> None:
    registry = migrations.registry(target="2.0.0")
    source = {"asyncstorage": str(DATA / "ios-library-2.2.0")}
    with Engine.open(
        tmp_path / "app.db", registry=registry, user="user-1", sources=source, consent=lambda request: True
    ) as engine:
        engine.migrations.execute_migration("herospath-tables-v2")
        storage: Any = engine.migrations.executor("app-state-storage-v1-to-v2")
        done = storage.migrate_from_async_storage_to_firestore("user-1", data_type)
        assert [result.state for result in done] == ["completed"] * (len(done) - 1) + ["queued"]
        assert done[0].counts.written > 0


def test_dismissed_and_saved_places_can_be_migrated_apart_and_neither_counts_as_the_other(tmp_path: Path) -> None:
    registry = migrations.registry(target="2.0.0")
    source = {"asyncstorage": str(DATA / "ios-library-2.2.0")}
    with Engine.open(
        tmp_path / "app.db", registry=registry, user="user-1", sources=source, consent=lambda request: True
    ) as engine:
        engine.migrations.execute_migration("herospath-tables-v2")
        places: Any = engine.migrations.executor("places-storage-v1-to-v2")
        assert places.migrate_dismissed_places("user-1").counts.written == 8
        assert places.migrate_saved_places("user-1").counts.written == 40


def test_the_list_of_migrations_tells_the_truth_about_each() -> None:
    registry = migrations.registry()
    for listed in registry.migrations:
        assert registry.get_migration_executor(listed.id).definition.description
    seeds = [registry.listed(name).hop for name in ("journey-storage-v1-to-v2", "places-schema-v2-to-v3")]
    assert seeds == ["1.0.0 > 2.0.0", "2.0.0 > 3.0.0"]
