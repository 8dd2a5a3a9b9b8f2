"""Hero's Path's migrations under the test kit that every app can use."""

from pathlib import Path

import pytest
from hypothesis import strategies as st

import migrations
from migrations import v3_0_0
from migrations.shapes_v2 import DismissedPlaceV2, JourneyV2, ProfileV2
from simulator.asyncstorage_writer import write_store
from simulator.generation1_rows import generation1_rows
from syncengine import Engine, SystemClock
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.testing import (
    StoppedClock,
    all_paths,
    check_paths,
    check_rollback,
    crash_everywhere,
    fill,
    frozen,
    offline_midway,
    round_trip,
    row_strategy,
    store_at,
    two_starters,
)
from syncengine.vocabulary import UserId
from tests.integration.drain_world import Line

LOCK = Path(migrations.__file__).with_name("lock.json")
STATUS = {"profile": ("migration_status",)}


def rows_of_2(*, user="ann", **counts):
    made = generation1_rows(user=user, seed=11, **counts)
    names = ("journeys", "places", "dismissed_places", "profile", "preferences")
    return {name: getattr(made, name) for name in names}


@pytest.fixture(scope="module")
def phone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phone") / "store"
    return {"asyncstorage": str(write_store(folder, kind="ios", walks=40, places=20, dismissed=5, seed=5).path)}


def test_a_store_can_be_at_each_of_the_three_versions():
    assert [str(ways) for ways in all_paths(migrations.REGISTRY)] == [
        "1.0.0-to-2.0.0",
        "1.0.0-to-3.0.0",
        "2.0.0-to-3.0.0",
    ]


@pytest.mark.parametrize("ways", all_paths(migrations.REGISTRY), ids=str)
def test_every_way_from_every_version_gives_the_same_valid_rows(ways, phone, tmp_path):
    from_2 = str(ways.from_version) == "2.0.0"
    held = check_paths(
        ways,
        registry=migrations.REGISTRY,
        folder=tmp_path,
        user=None if from_2 else "ann",  # whose profile the import has made, while these rows bring their own
        rows=rows_of_2() if from_2 else 0,
        sources=None if from_2 else phone,
    )
    assert held["journeys"] > 30
    assert held["places"] > 10
    assert held["profile"] == 1


def test_wherever_the_power_goes_walks_are_all_of_version_2_or_all_of_version_3(tmp_path):
    def build(path):
        store_at(migrations.REGISTRY, "2.0.0", path=path)
        fill(path, registry=migrations.registry(target="2.0.0"), rows=rows_of_2(journeys=30, places=8, dismissed=4))

    def run(path):
        with Engine.open(
            path, registry=migrations.REGISTRY, clock=StoppedClock(), consent=lambda request: True
        ) as engine:
            migrated = engine.migrations.execute_migration("journeys-schema-v2-to-v3")
            assert migrated.success, migrated

    def agrees(path):
        with Engine.open(path, registry=migrations.REGISTRY) as engine:
            columns = engine._store.query("SELECT name FROM pragma_table_info('journeys')")
            done = engine._store.query("SELECT 1 FROM _sync_run WHERE migration = 'journeys-schema-v2-to-v3'")
            assert (("duration_s",) in columns) is bool(done), "the rows and the history disagree"

    report = crash_everywhere(
        folder=tmp_path, build=build, run=run, check=agrees, images_max=60, statements_max=15, leave_out=STATUS
    )
    assert report.old > 10
    assert report.new > 5
    assert report.between == 0


# Rows that the app could have written: any text, any choice, and numbers within what a walk can be.
POINTS = st.fixed_dictionaries(
    {"latitude": st.floats(-89, 89), "longitude": st.floats(-179, 179)},
    optional={"timestamp": st.integers(1_600_000_000_000, 1_800_000_000_000)},
)
MOMENTS = st.none() | st.sampled_from(
    ["2025-07-12T07:23:07.123Z", "1752304987000", '{"seconds":1752304987,"nanoseconds":0}', "2025-07-12"]
)
MILLISECONDS = st.none() | st.integers(1_600_000_000_000, 1_800_000_000_000)
WALKS = row_strategy(
    JourneyV2,
    route=st.lists(POINTS, max_size=4),
    start_location=st.none() | POINTS,
    end_location=st.none() | POINTS,
    start_time=MILLISECONDS,
    end_time=MILLISECONDS,
    distance=st.none() | st.floats(0, 1e6),
    duration=st.none() | st.floats(0, 1e9),
    last_status_update=MOMENTS,
    deleted_at=MOMENTS,
    created_at=MOMENTS,
    updated_at=MOMENTS,
)
ROWS = {
    "journeys_v2_to_v3": WALKS,
    "dismissed_places_v2_to_v3": row_strategy(DismissedPlaceV2, dismissed_at=MOMENTS, dismissed_until=MOMENTS),
    "profile_v2_to_v3": row_strategy(ProfileV2),
}


@pytest.mark.parametrize("name", ROWS)
def test_each_row_that_goes_to_version_3_finds_its_way_back(name):
    report = round_trip(getattr(v3_0_0, name), rows=ROWS[name], examples_max=150)
    assert report.back > 100


@pytest.mark.parametrize(
    "migration",
    [
        "journeys-schema-v2-to-v3",
        "dismissed-places-v2-to-v3",
        "profile-schema-v2-to-v3",
        "preferences-schema-v2-to-v3",
    ],
)
def test_each_migration_of_a_shape_can_be_rolled_back_and_run_again_on_a_store_of_the_apps_own_rows(
    migration, tmp_path
):
    report = check_rollback(migration, registry=migrations.REGISTRY, path=tmp_path / "app.db", rows=rows_of_2())
    assert [undone.id for undone in report.undone] == [migration]


def test_the_merge_of_places_says_that_there_is_no_way_back():
    assert round_trip(v3_0_0.places_v2_to_v3).rows == 0


@pytest.mark.acceptance
def test_an_app_that_is_opened_twice_at_once_migrates_once(tmp_path, phone):
    path = store_at(migrations.REGISTRY, "2.0.0", path=tmp_path / "app.db", user="ann", sources=phone)
    two_starters(path, registry="migrations:REGISTRY", user="ann", leave_out=STATUS)


def test_without_a_network_the_uploads_wait_and_afterwards_all_arrives(tmp_path, phone):
    cloud = Cloud(SqliteStorage(str(tmp_path / "cloud"), clock=SystemClock()), clock=SystemClock())
    cloud.accept_token(UserId("ann"), token="a token of ann")
    report = offline_midway(
        tmp_path / "app.db",
        registry=migrations.REGISTRY,
        user="ann",
        sources=phone,
        backend=lambda: Line(cloud, "ann"),
    )
    cloud.close()
    assert "journeys-upload-v3" in report.queued
    assert report.starts > 10
    assert report.entries > 40


def test_the_released_migrations_are_the_code_that_was_frozen():
    frozen(migrations.REGISTRY, LOCK)
