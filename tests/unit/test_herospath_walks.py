"""Walks of generation 0, read as rows of 2.0.0."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.geometry import EARTH_RADIUS_M, Position, distance_m
from migrations.walks import RepeatedIds, Walk, WalkIds, content_hash, journey_of, read_walk
from syncengine import Quarantine

DATE = "2025-07-12T07:23:07.123Z"


def points(count: int, *, latitude: float = 35.66) -> list[dict[str, Any]]:
    return [{"latitude": latitude + step / 1_000, "longitude": 139.7} for step in range(count)]


def walk(**changes: Any) -> dict[str, Any]:
    return {"id": "1752304987123", "coords": points(3), "date": DATE} | changes


def journey(value: object) -> Any:
    return journey_of(read_walk(value), user="u", id="w").row


def reason(value: object) -> Quarantine:
    with pytest.raises(Quarantine) as caught:
        journey_of(read_walk(value), user="u", id="w")
    return caught.value


def test_a_walk_keeps_its_own_date_as_start_and_creation() -> None:
    row = journey(walk())
    assert (row.start_time, row.created_at, row.date_known) == (1_752_304_987_123, DATE, True)


def test_a_bare_array_has_no_date_and_says_so_instead_of_now() -> None:
    read = journey_of(read_walk(points(3)), user="u", id="w")
    assert (read.row.start_time, read.row.created_at, read.row.date_known) == (None, None, False)
    assert "no date" in read.notes[0]


def repeated(*walks: Walk) -> set[str]:
    found = RepeatedIds()
    for one in walks:
        found.note(one)
    return found.ids


def test_ids_that_occur_once_are_not_remembered() -> None:
    walks = [read_walk(walk(id=str(1_752_304_987_000 + number))) for number in range(500)]
    assert repeated(*walks, walks[7], walks[300]) >= {walks[7].id, walks[300].id}
    assert len(repeated(*walks)) <= 2  # two that share 24 bits are a harmless accident


def test_a_bare_array_has_the_same_id_on_every_device_and_run() -> None:
    first, second = WalkIds(repeated=set()), WalkIds(repeated=set())
    for ids in (first, second):
        ids.note(read_walk(points(3)))
    assert first.id_of(read_walk(points(3))) == second.id_of(read_walk(points(3)))
    assert first.id_of(read_walk(points(3))) != first.id_of(read_walk(points(4)))


def test_a_repeated_id_with_the_same_content_is_the_same_walk() -> None:
    one = read_walk(walk())
    ids = WalkIds(repeated=repeated(one, one))
    ids.note(one)
    ids.note(read_walk(walk()))
    assert ids.id_of(read_walk(walk())) == ids.id_of(one) == "1752304987123"


def test_a_repeated_id_with_other_content_is_another_walk_with_a_stable_id() -> None:
    one, other = read_walk(walk()), read_walk(walk(coords=points(4)))
    ids = WalkIds(repeated=repeated(one, other))
    ids.note(one)
    ids.note(other)
    assert ids.id_of(one) == "1752304987123"
    assert ids.id_of(other) == f"1752304987123-{content_hash(other)}"


@pytest.mark.parametrize("count", [0, 1])
def test_a_walk_of_fewer_than_two_points_is_set_aside_with_its_reason(count: int) -> None:
    assert reason(walk(coords=points(count))).field == "coords"


def test_one_broken_fix_among_many_is_left_out_and_said() -> None:
    coords = points(12)
    coords[4]["latitude"] = None
    read = journey_of(read_walk(walk(coords=coords)), user="u", id="w")
    assert len(read.row.route) == 11
    assert read.notes == ("1 of 12 points had no position and were left out",)


@pytest.mark.parametrize(("field", "broken"), [("latitude", None), ("longitude", "139.7"), ("longitude", 181.0)])
def test_a_walk_that_is_broken_beyond_a_tenth_names_its_first_broken_field(field: str, broken: object) -> None:
    coords = points(5)
    coords[3][field] = broken
    assert reason(walk(coords=coords)).field == f"coords.3.{field}"


def test_a_broken_point_of_a_bare_array_is_named_without_a_key_that_is_not_there() -> None:
    coords = points(5)
    del coords[2]["longitude"]
    assert reason(coords).field == "2.longitude"


def test_what_is_set_aside_does_not_quote_the_value() -> None:
    coords = points(5, latitude=77.123)
    coords[3]["latitude"] = "77.126"
    assert "77" not in str(reason(walk(coords=coords)))


@pytest.mark.parametrize("value", [None, 7, "walk", {"id": "1"}, {"id": "1", "coords": "many"}])
def test_what_is_no_walk_is_set_aside(value: object) -> None:
    assert reason(value).why


def test_the_equator_and_greenwich_are_places_like_any_other() -> None:
    row = journey(walk(coords=[{"latitude": 0.0, "longitude": 0.0}, {"latitude": 0, "longitude": 0.001}]))
    assert row.start_location == {"latitude": 0.0, "longitude": 0.0}
    assert len(row.route) == 2


def test_the_duration_is_unknown_and_not_zero() -> None:
    assert journey(walk()).duration is None


def test_the_distance_is_measured_along_the_points() -> None:
    # 0.002 degrees of latitude: 0.002 / 360 of the circumference.
    assert journey(walk()).distance == pytest.approx(222.39, abs=0.01)


def test_a_quarter_of_the_equator_is_a_quarter_of_the_equator() -> None:
    quarter = distance_m(Position(0.0, 0.0), to=Position(0.0, 90.0))
    assert quarter == pytest.approx(EARTH_RADIUS_M * 3.141592653589793 / 2)


latitudes, longitudes = st.floats(-90, 90), st.floats(-180, 180)
positions = st.builds(Position, latitudes, longitudes)


@given(positions, positions)
def test_a_distance_is_the_same_both_ways_and_at_most_half_round(here: Position, there: Position) -> None:
    assert 0 <= distance_m(here, to=there) <= EARTH_RADIUS_M * 3.1415927
    assert distance_m(here, to=there) == pytest.approx(distance_m(there, to=here))


def test_an_unreadable_date_is_no_reason_to_lose_the_walk() -> None:
    row = journey(walk(date="12 Jul"))
    assert (row.date_known, row.created_at, len(row.route)) == (False, None, 3)


def test_a_numeric_id_is_the_same_as_its_text() -> None:
    assert read_walk(walk(id=1752304987123)).id == "1752304987123"
