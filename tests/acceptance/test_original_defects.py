"""The fifteen ways in which the app's own migration lost or misread data, each as what happens here instead."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import migrations
from syncengine import (
    BaseMigrationExecutor,
    Engine,
    Item,
    MigrationDefinition,
    MigrationRegistry,
    Put,
    Settings,
    Work,
    open_source,
)
from syncengine.errors import CollectionNotReady, QuarantineBudgetExceeded
from syncengine.events import MigrationEnded, MigrationProgressed

ROOT = Path(__file__).resolve().parents[2]
USER = "user-1"
DATE = "2025-07-12T07:23:07.123Z"


def walk(number: int, *, points: int = 3, latitude: float = 35.66) -> dict[str, Any]:
    coords = [{"latitude": latitude + step / 1_000, "longitude": 139.7} for step in range(points)]
    return {"id": str(1_752_304_987_000 + number), "coords": coords, "date": DATE}


def walks(count: int, **shape: Any) -> str:
    return json.dumps([walk(number, **shape) for number in range(count)])


class Device:
    """One phone: a legacy store as a dump of its keys, and the engine's file beside it."""

    def __init__(self, folder: Path, **values: str) -> None:
        self.store = folder / "app.db"
        self.legacy = folder / "dump.json"
        self.legacy.write_text(json.dumps(values), encoding="utf-8")

    def open(self, user: str = USER, **options: Any) -> Engine:
        options.setdefault("registry", migrations.registry())
        options = {"consent": lambda request: True, **options}
        return Engine.open(self.store, user=user, sources={"asyncstorage": str(self.legacy)}, **options)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine over the iOS store of a real library: 60 walks, 41 saved and 8 dismissed places, not yet migrated."""
    legacy = ROOT / "tests" / "data" / "asyncstorage" / "ios-library-2.2.0"
    with Engine.open(
        tmp_path / "app.db",
        registry=migrations.registry(),
        user=USER,
        sources={"asyncstorage": str(legacy)},
        consent=lambda request: True,
    ) as opened:
        yield opened


def legacy_values() -> dict[str, str]:
    text = (ROOT / "tests" / "data" / "asyncstorage" / "expected.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def rows(engine: Engine, sql: str) -> list[tuple[Any, ...]]:
    with engine.read() as db:
        return list(db.execute(sql).fetchall())


def result_of(engine: Engine, migration: str) -> Any:
    report = engine.migrate()
    assert report is not None
    return next(result for result in report.results if result.migration_id == migration)


# 1. It read `savedRoutes`; the app had written `@saved_routes`. A user with walks only was told that all was done.


class WrongKeyExecutor(BaseMigrationExecutor):
    definition = MigrationDefinition(
        id="wrong-key",
        name="",
        description="",
        from_version="1.0.0",
        to_version="2.0.0",
        collections=("journeys",),
        after=("herospath-tables-v2",),
        scope="user",
        source="asyncstorage",
    )

    def items(self, work: Work) -> Iterator[Item]:
        return work.elements("savedRoutes")

    def convert(self, item: Item, work: Work) -> Put | None:
        return None


def test_a_key_that_is_not_there_is_questioned_with_the_one_that_is(tmp_path: Path) -> None:
    registry = MigrationRegistry(
        app="wrong-key",
        baseline="1.0.0",
        target="2.0.0",
        collections=migrations.COLLECTIONS,
        migrations=migrations.MIGRATIONS[:1],
    )
    registry.register_migration("wrong-key", WrongKeyExecutor())
    device = Device(tmp_path, **{"@saved_routes": walks(3)})
    with device.open(registry=registry) as opened:
        result = result_of(opened, "wrong-key")
    assert any("savedRoutes" in warning and "did you mean `@saved_routes`?" in warning for warning in result.warnings)


def test_a_user_who_has_walks_and_nothing_else_gets_them_all(tmp_path: Path) -> None:
    with Device(tmp_path, **{"@saved_routes": walks(3)}).open() as opened:
        opened.migrate()
        assert rows(opened, "SELECT count(*) FROM journeys") == [(3,)]


# 2. It expected name, timestamp and route where there were id, coords and date: every route became empty.


def test_no_walk_arrives_with_an_empty_route(engine: Engine) -> None:
    engine.migrate()
    lengths = rows(engine, "SELECT min(json_array_length(route)), count(*) FROM journeys")
    assert lengths[0][0] >= 2
    assert lengths[0][1] == 58


# 3. It looked for `geometry.location.lat`; the places had `latitude` or none. Each was skipped with a console.warn.


def test_every_saved_place_arrives_with_coordinates_or_without(engine: Engine) -> None:
    counts = result_of(engine, "places-storage-v1-to-v2").counts
    assert (counts.read, counts.written, counts.merged, counts.quarantined) == (41, 40, 1, 0)
    saved = json.loads(legacy_values()["savedPlaces"])
    with_coordinates = {place["placeId"] for place in saved if "latitude" in place}
    found = {row[0] for row in rows(engine, "SELECT place_id FROM places WHERE latitude IS NOT NULL AND saved")}
    assert found == with_coordinates


# 4. The time of the migration was written over the date of each walk.


def test_each_walk_keeps_the_date_that_it_had(engine: Engine) -> None:
    engine.migrate()
    entries = [entry for entry in json.loads(legacy_values()["@saved_routes"]) if isinstance(entry, dict)]
    expected = {entry["date"] for entry in entries if len(entry["coords"]) > 1}
    found = rows(
        engine,
        "SELECT strftime('%Y-%m-%dT%H:%M:%f', created_at_ms / 1000.0, 'unixepoch') || 'Z' FROM journeys "
        "WHERE date_known",
    )
    assert {row[0] for row in found} == expected


# 5. Errors were swallowed one by one, and the answer was `success: true` even for none of N.


def test_an_import_that_cannot_read_most_of_its_rows_is_a_failure_and_changes_nothing(tmp_path: Path) -> None:
    with Device(tmp_path, **{"@saved_routes": walks(40, points=0)}).open() as opened:
        with pytest.raises(QuarantineBudgetExceeded, match="40 of 40 rows failed"):
            opened.migrate()
        status = opened.migrations.get_migration_status(USER).to_json()
        completed = [run["id"] for run in status["completedMigrations"] if run["success"]]
        assert "journey-storage-v1-to-v2" not in completed
        assert status["currentSchemaVersion"] == "1.0.0"


def test_what_could_not_be_imported_is_counted_and_can_be_looked_at(engine: Engine) -> None:
    counts = result_of(engine, "journey-storage-v1-to-v2").counts
    assert counts.read == 61  # 60 under @saved_routes, and lastRoute
    assert (counts.written, counts.merged, counts.dropped, counts.quarantined) == (58, 1, 0, 2)
    assert engine.status().quarantined == 2


# 6. Killed half way and started again, it wrote each walk a second time under a new random id.

KILLED_HALF_WAY = """
import os, signal, sys
from syncengine import Engine, Settings
from syncengine.events import MigrationProgressed
import migrations

def die(event):
    if isinstance(event, MigrationProgressed) and event.migration == "journey-storage-v1-to-v2" and event.done >= 10:
        os.kill(os.getpid(), signal.SIGKILL)

with Engine.open(sys.argv[1], registry=migrations.registry(), user="user-1", sources={"asyncstorage": sys.argv[2]},
    consent=lambda request: True,
                 settings=Settings(batch_rows=10), listener=die) as engine:
    engine.migrate()
"""


@pytest.mark.acceptance
def test_an_import_that_was_killed_half_way_is_done_once_when_it_is_started_again(tmp_path: Path) -> None:
    device = Device(tmp_path, **{"@saved_routes": walks(60)})
    killed = run_python(KILLED_HALF_WAY, str(device.store), str(device.legacy))
    assert killed.wait(60) == -signal.SIGKILL
    with device.open() as opened:
        opened.migrate()
        assert rows(opened, "SELECT count(*), count(DISTINCT id) FROM journeys") == [(60, 60)]


# 7. `lat ||` took 0 for missing, and a field that was undefined made the upload throw.


def test_a_walk_over_the_equator_at_greenwich_is_a_walk(tmp_path: Path) -> None:
    entry = {"id": "1", "coords": [{"latitude": 0, "longitude": 0}, {"latitude": 0.001, "longitude": 0.0}]}
    place = {"placeId": "p", "name": "Buoy", "latitude": 0.0, "longitude": 9.5}
    values = {"@saved_routes": json.dumps([entry]), "savedPlaces": json.dumps([place])}
    with Device(tmp_path, **values).open() as opened:
        opened.migrate()
        assert rows(opened, "SELECT json_extract(route, '$[0].latitude'), date_known FROM journeys") == [(0, 0)]
        assert rows(opened, "SELECT latitude, longitude, rating FROM places") == [(0.0, 9.5, None)]


# 8. Data without a user in it went to whoever signed in: the second user got the first one's walks.


def test_the_second_user_of_a_device_does_not_get_the_first_ones_walks(tmp_path: Path) -> None:
    place = json.dumps([{"placeId": "p", "name": "Fuglen"}])
    device = Device(tmp_path, **{"@saved_routes": walks(3), "savedPlaces": place, "@user_ui_theme": "dark"})
    with device.open("aoi") as opened:
        opened.migrate()
    with device.open("ben") as opened:
        opened.migrate()
        owners = "SELECT user_id FROM journeys UNION SELECT user_id FROM places"
        assert rows(opened, owners) == [("aoi",)]
        assert rows(opened, "SELECT user_id FROM profile ORDER BY user_id") == [("aoi",), ("ben",)]
        assert rows(opened, "SELECT json_extract(preferences, '$.theme') FROM profile WHERE user_id = 'ben'") == [
            ("auto",)
        ]


# 9. Its rollback took the flag away and left the data: the next start wrote everything twice.


def test_an_import_whose_record_was_lost_writes_nothing_twice(tmp_path: Path) -> None:
    device = Device(tmp_path, **{"@saved_routes": walks(5)})
    at_2 = migrations.registry(target="2.0.0")
    with device.open(registry=at_2) as opened:
        opened.migrate()
        store = opened._store
        with store.transaction():
            store.query("DELETE FROM _sync_run WHERE migration = 'journey-storage-v1-to-v2'")
            store.query("DELETE FROM _sync_version WHERE scope = 'user:user-1'")
            store.query("DELETE FROM _sync_source")
    with device.open(registry=migrations.registry(target="2.0.0")) as opened:
        again = result_of(opened, "journey-storage-v1-to-v2").counts
        assert (again.read, again.written, again.merged) == (5, 0, 5)
        assert rows(opened, "SELECT count(*) FROM journeys") == [(5,)]


# 10. The settings page called `checkMigrationStatus`, which did not exist.


def test_the_status_that_a_settings_page_shows_exists_before_and_after(engine: Engine) -> None:
    before = engine.migrations.get_migration_status(USER).to_json()
    assert {migration["id"] for migration in before["pendingMigrations"]} >= {
        "journey-storage-v1-to-v2",
        "places-schema-v2-to-v3",
    }
    engine.migrate()
    after = engine.migrations.get_migration_status(USER).to_json()
    assert set(after) == {
        "userId", "completedMigrations", "pendingMigrations", "currentSchemaVersion", "targetSchemaVersion",
    }  # fmt: skip
    assert (before["currentSchemaVersion"], after["currentSchemaVersion"]) == ("1.0.0", "3.0.0")


# 11. The user was signed in before the migration ran, so the screens edited rows that it was moving.


def test_the_app_cannot_write_before_its_data_has_arrived(engine: Engine) -> None:
    with pytest.raises(CollectionNotReady), engine.write() as db:
        db.execute("DELETE FROM journeys")
    engine.migrate()
    with engine.write() as db:
        db.execute("UPDATE journeys SET name = 'Round the park'")


# 12. Each dismissed place was dismissed for ever, whatever the user had chosen.


@pytest.mark.parametrize(("choice", "ends"), [("30days", True), ("ask", True), ("forever", False), (None, True)])
def test_a_dismissal_lasts_as_long_as_the_user_chose(tmp_path: Path, choice: str | None, ends: bool) -> None:
    place = {"placeId": "p", "name": "Bar", "dismissedAt": DATE}
    values = {"dismissedPlaces": json.dumps([place]), **({"@dismissal_preference": choice} if choice else {})}
    with Device(tmp_path, **values).open() as opened:
        opened.migrate()
        thirty_days_ms = 30 * 24 * 3_600_000
        expected = 1_752_304_987_123 + thirty_days_ms if ends else None
        assert rows(opened, "SELECT dismissed_until_ms FROM dismissed_places") == [(expected,)]


# 13. One value that was broken JSON made the status throw and blocked every start.


def test_one_broken_value_blocks_nothing_else_and_is_set_aside_whole(tmp_path: Path) -> None:
    device = Device(tmp_path, **{"@saved_routes": walks(3), "@discovery_preferences": '{"cafe": tr'})
    with device.open() as opened:
        assert result_of(opened, "profile-storage-v1-to-v2").counts.quarantined == 1
        assert opened.migrations.get_migration_status(USER).current_schema_version == "3.0.0"
        assert rows(opened, "SELECT count(*) FROM journeys") == [(3,)]
        aside = opened._store.query("SELECT row_key, body FROM _sync_quarantine")
        assert aside == [("@discovery_preferences", '{"cafe": tr')]


def test_a_history_whose_end_is_torn_off_keeps_every_walk_before_the_tear(tmp_path: Path) -> None:
    with Device(tmp_path, **{"@saved_routes": walks(9)[:-40]}).open() as opened:
        counts = result_of(opened, "journey-storage-v1-to-v2").counts
        assert (counts.read, counts.written, counts.quarantined) == (9, 8, 1)


# 14. Nothing recorded what had been taken, and a later clean-up deleted walks that never had been.


def test_the_legacy_store_stays_as_it_is_and_what_was_taken_is_recorded(engine: Engine) -> None:
    legacy = ROOT / "tests" / "data" / "asyncstorage" / "ios-library-2.2.0"
    before = {path: path.read_bytes() for path in legacy.rglob("*") if path.is_file()}
    engine.migrate()
    assert {path: path.read_bytes() for path in legacy.rglob("*") if path.is_file()} == before
    taken = engine._store.query("SELECT migration, imported_by FROM _sync_source ORDER BY migration")
    assert ("journey-storage-v1-to-v2", USER) in taken
    with open_source(str(legacy)) as source:
        assert source.size("@saved_routes")


# 15. Backup, validation, progress, batches, a lock, versions and paths were promised in a comment only.


def test_progress_only_grows_and_ends_and_work_is_done_in_batches(tmp_path: Path) -> None:
    heard: list[object] = []
    device = Device(tmp_path, **{"@saved_routes": walks(55)})
    with device.open(settings=Settings(batch_rows=10), listener=heard.append) as opened:
        assert result_of(opened, "journey-storage-v1-to-v2").batches == 6
    mine = [event for event in heard if getattr(event, "migration", "") == "journey-storage-v1-to-v2"]
    done = [event.done for event in mine if isinstance(event, MigrationProgressed)]
    assert done == sorted(done)
    assert isinstance(mine[-1], MigrationEnded)
    assert mine[-1].stats["itemsProcessed"] == 55


def test_the_path_from_version_to_version_can_be_read_before_it_is_gone(engine: Engine) -> None:
    path = migrations.registry().get_migration_path("1.0.0", "3.0.0")
    assert [str(hop) for hop in path] == ["1.0.0 > 2.0.0", "2.0.0 > 3.0.0"]
    assert "journey-storage-v1-to-v2" in str(engine.plan())


@pytest.mark.parametrize("collection", ["journeys", "places", "dismissed_places", "profile", "preferences"])
def test_what_has_arrived_is_checked_against_its_shape(engine: Engine, collection: str) -> None:
    engine.migrate()
    checked = engine.migrations.validate_migrated_data(USER, collection)
    assert checked.success, checked.errors
    assert checked.counts.read > 0


MIGRATE = """
import sys
from syncengine import Engine
import migrations

sources = {"asyncstorage": sys.argv[2]}
with Engine.open(sys.argv[1], registry=migrations.registry(), user="user-1", sources=sources,
    consent=lambda request: True) as engine:
    engine.migrate()
"""


@pytest.mark.acceptance
def test_two_processes_that_start_at_once_import_once(tmp_path: Path) -> None:
    device = Device(tmp_path, **{"@saved_routes": walks(200)})
    both = [run_python(MIGRATE, str(device.store), str(device.legacy)) for _ in range(2)]
    assert [process.wait(90) for process in both] == [0, 0]
    with device.open() as opened:
        assert opened.migrate() is None
        assert rows(opened, "SELECT count(*) FROM journeys") == [(200,)]
        imports = "SELECT count(*) FROM _sync_run WHERE migration = 'journey-storage-v1-to-v2'"
        assert opened._store.query(imports) == [(1,)]


def run_python(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT)
