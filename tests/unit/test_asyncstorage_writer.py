"""The generator's stores are what the real library would have left, and are counted exactly."""

import hashlib
import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import apsw
import pytest

from simulator.asyncstorage_writer import Kind, write_store
from syncengine.sources import BrokenJson, open_source

KINDS: tuple[Kind, ...] = ("android", "android-room", "ios")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


def texts_in(folder: Path) -> dict[str, str]:
    with open_source(folder) as source:
        return {key: text for key, text in zip(source.keys(), map(source.text, source.keys()), strict=True) if text}


def digests_in(folder: Path) -> tuple[tuple[str, str], ...]:
    texts = sorted(texts_in(folder).items())
    return tuple((key, hashlib.sha256(text.encode()).hexdigest()) for key, text in texts)


def walks_in(folder: Path) -> list[Any]:
    with open_source(folder) as source:
        return [json.loads(element) for element in source.elements("@saved_routes")]


def test_what_is_read_is_what_was_written(tmp_path: Path, kind: Kind) -> None:
    written = write_store(tmp_path, kind=kind, walks=300)
    assert digests_in(tmp_path) == written.digests
    assert written.value_bytes == sum(len(text.encode()) for text in texts_in(tmp_path).values())
    with open_source(tmp_path) as source:
        assert source.identity.endswith(str(written.path))


def test_the_same_seed_gives_the_same_values_in_every_kind_and_another_seed_others(tmp_path: Path) -> None:
    digests = {write_store(tmp_path / kind, kind=kind, seed=7).digests for kind in KINDS}
    assert len(digests) == 1
    assert write_store(tmp_path / "other", seed=8).digests not in digests


def test_the_counts_of_walks_are_exact(tmp_path: Path) -> None:
    written = write_store(tmp_path, walks=2_000)
    walks = walks_in(tmp_path)
    objects = [walk for walk in walks if isinstance(walk, dict)]
    routes = [walk["coords"] if isinstance(walk, dict) else walk for walk in walks]
    ids = Counter(walk["id"] for walk in objects)

    assert written.walks_total == len(walks) == 2_000
    assert written.walks_bare_array == len(walks) - len(objects) == 100
    assert written.walks_empty == sum(not route for route in routes) == 40
    assert written.walks_repeated_id == sum(ids.values()) - len(ids) == 20
    assert written.walks_long == sum(len(route) >= 300 for route in routes) == 20
    assert written.points_total == sum(map(len, routes))
    assert all(2 <= len(route) <= 3_000 for route in routes if route)
    assert written.walks_null_latitude == sum(any(point["latitude"] is None for point in route) for route in routes)
    assert written.walks_null_latitude == 2
    assert all(walk.keys() == {"id", "coords", "date"} for walk in objects)


def test_some_walks_start_within_a_minute_of_a_change_of_daylight_saving_time(tmp_path: Path) -> None:
    written = write_store(tmp_path, walks=2_000)
    moments = [datetime.fromisoformat(walk["date"]) for walk in walks_in(tmp_path) if isinstance(walk, dict)]
    near = [moment for moment in moments if _changes_offset(moment)]
    assert written.walks_at_dst_change == 2
    assert len(near) >= 2


def _changes_offset(moment: datetime) -> bool:
    zones = (ZoneInfo("Europe/Berlin"), ZoneInfo("America/Los_Angeles"))
    before, after = (
        datetime.fromtimestamp(moment.timestamp() + seconds, tz=ZoneInfo("UTC")) for seconds in (-60, 60)
    )
    return any(before.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset() for zone in zones)


def test_last_route_is_the_last_walk_that_has_an_id(tmp_path: Path) -> None:
    write_store(tmp_path)
    with open_source(tmp_path) as source:
        assert json.loads(source.text("lastRoute") or "") == walks_in(tmp_path)[-1]


def test_the_counts_of_places_are_exact(tmp_path: Path, kind: Kind) -> None:
    written = write_store(tmp_path, kind=kind, places=200, dismissed=10)
    with open_source(tmp_path) as source:
        places = [json.loads(element) for element in source.elements("savedPlaces")]
        dismissed = [json.loads(element) for element in source.elements("dismissedPlaces")]
    assert written.places_total == len(places) == 200
    assert written.places_repeated_id == len(places) - len({place["placeId"] for place in places}) == 1
    assert written.places_without_coordinates == sum("latitude" not in place for place in places) == 60
    assert written.places_with_category_object == sum(isinstance(place["category"], dict) for place in places) > 5
    assert written.thumbnails_with_key == sum("key=FAKE" in (place["thumbnail"] or "") for place in places) > 100
    assert any(not place["name"].isascii() for place in places)
    assert written.dismissed_total == len(dismissed) == 10
    assert written.dismissed_objects == sum(isinstance(place, dict) for place in dismissed) == 4


def test_the_broken_key_breaks_after_its_whole_elements(tmp_path: Path) -> None:
    written = write_store(tmp_path)
    assert written.broken_keys == ("@background_location_data",)
    elements = []
    with open_source(tmp_path) as source:
        reading = source.elements("@background_location_data")
        elements += [next(reading), next(reading)]
        with pytest.raises(BrokenJson):
            next(reading)
    assert len({json.loads(element)["timestamp"] for element in elements}) == 1


def test_every_other_value_is_whole_json_or_plain_text(tmp_path: Path) -> None:
    written = write_store(tmp_path)
    for key, text in texts_in(tmp_path).items():
        if text[0] in "[{" and key not in written.broken_keys:
            json.loads(text)


def test_a_store_as_copied_from_a_running_app_has_its_rows_in_the_wal_only(tmp_path: Path) -> None:
    written = write_store(tmp_path, leave_wal=True)
    wal = written.path.with_name("RKStorage-wal")
    assert wal.stat().st_size > written.value_bytes
    assert written.path.stat().st_size <= 4096
    assert len(walks_in(tmp_path)) == 60


def test_android_databases_have_the_librarys_own_layout(tmp_path: Path) -> None:
    layouts = {}
    for kind, version in (("android", 1), ("android-room", 2)):
        written = write_store(tmp_path / kind, kind=kind)
        connection = apsw.Connection(str(written.path), flags=apsw.SQLITE_OPEN_READONLY)
        assert connection.execute("PRAGMA user_version").get == version
        layouts[kind] = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        }
        table = "catalystLocalStorage" if kind == "android" else "Storage"
        assert connection.execute(f"SELECT DISTINCT typeof(value) FROM {table}").get == "text"
        connection.close()
    assert layouts["android"] == {"android_metadata", "catalystLocalStorage"}
    assert layouts["android-room"] == {"android_metadata", "catalystLocalStorage", "room_master_table", "Storage"}


def test_a_value_above_the_spool_is_text_as_well(tmp_path: Path) -> None:
    written = write_store(tmp_path, walks=4_000)
    assert written.value_bytes > 4 * 1024 * 1024
    connection = apsw.Connection(str(written.path), flags=apsw.SQLITE_OPEN_READONLY)
    sql = "SELECT typeof(value), json_array_length(value) FROM catalystLocalStorage WHERE key = '@saved_routes'"
    assert connection.execute(sql).get == ("text", 4_000)
    connection.close()


def test_an_ios_manifest_keeps_values_of_1024_utf_16_units_and_files_the_longer_ones(tmp_path: Path) -> None:
    written = write_store(tmp_path, kind="ios", dismissed=25)
    assert 1024 < len(texts_in(tmp_path)["dismissedPlaces"]) < 2048
    manifest = json.loads((written.path / "manifest.json").read_text(encoding="utf-8"))
    filed = {key for key, value in manifest.items() if value is None}
    long = {key for key, text in texts_in(tmp_path).items() if len(text.encode("utf-16-le")) > 2048}
    assert filed == long
    assert "@saved_routes" in filed
    assert {path.name for path in written.path.iterdir()} == {
        "manifest.json",
        *(hashlib.md5(key.encode()).hexdigest() for key in filed),
    }


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_the_smallest_histories_are_whole(tmp_path: Path, count: int, kind: Kind) -> None:
    written = write_store(tmp_path, kind=kind, walks=count, places=count, dismissed=count)
    assert len(walks_in(tmp_path)) == written.walks_total == count
    with open_source(tmp_path) as source:
        assert (source.text("lastRoute") is None) == (count == 0)


def test_a_store_that_is_there_is_not_written_over(tmp_path: Path, kind: Kind) -> None:
    first = write_store(tmp_path, kind=kind)
    with pytest.raises(FileExistsError):
        write_store(tmp_path, kind=kind, seed=2)
    assert digests_in(tmp_path) == first.digests


def test_a_manifest_folder_has_no_wal(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wal"):
        write_store(tmp_path, kind="ios", leave_wal=True)
    assert list(tmp_path.iterdir()) == []
