"""Walks of 2.0.0, in every variant that generation 1 wrote, as walks of 3.0.0; and back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.journeys_v3 import newer, older
from migrations.shapes_v2 import JourneyV2, Point
from migrations.shapes_v3 import JourneyV3
from syncengine import Quarantine

START_MS = 1_752_652_800_000


def timed_route(count: int) -> list[Point]:
    return [
        {"latitude": 35.6 + step / 10_000, "longitude": 139.7, "timestamp": START_MS + step * 4_000}
        for step in range(count)
    ]


def bare_route(count: int) -> list[Point]:
    return [{"latitude": point["latitude"], "longitude": point["longitude"]} for point in timed_route(count)]


def as_1a(**changes: Any) -> JourneyV2:
    route = bare_route(20)
    return JourneyV2(
        user_id="u", id="j", name="Journey 7/12/2025", route=route, distance=0.0, duration=0.0,
        start_location=route[0], end_location=route[-1], created_at='{"seconds":1752304987,"nanoseconds":0}',
    ).model_copy(update=changes)  # fmt: skip


def as_1b(**changes: Any) -> JourneyV2:
    return JourneyV2(
        user_id="u", id="j", name="Walk - 23 Jul 25 10:04", start_time=START_MS, end_time=START_MS + 76_000,
        route=timed_route(20), distance=211.0, duration=76_000.0, status="completed", is_completed=True,
        reviewed_discoveries_count=1, total_discoveries_count=2, completion_percentage=50,
        created_at="2025-07-23T01:04:00.000Z", updated_at="2025-07-23T01:04:00.000Z",
    ).model_copy(update=changes)  # fmt: skip


def as_1c(**changes: Any) -> JourneyV2:
    return JourneyV2(
        user_id="u", id="j", name="12 Jul 25 18:57", route=[], distance=0.0, duration=0.0, created_at="1752304987000"
    ).model_copy(update=changes)


def test_the_later_variant_has_its_duration_in_seconds_and_nothing_kept_aside() -> None:
    new = newer(as_1b())
    assert (new.row.duration_s, new.row.distance_m, new.row.start_time_ms) == (76.0, 211.0, START_MS)
    assert (new.row.legacy, new.notes) == ({}, ())


def test_a_duration_in_seconds_is_told_from_milliseconds_and_said() -> None:
    new = newer(as_1b(duration=76.0))
    assert new.row.duration_s == 76.0
    assert new.notes == ("duration decided: seconds, by the walk's times",)


def test_the_oldest_variant_gets_its_distance_measured_and_its_duration_stays_unknown() -> None:
    row = newer(as_1a()).row
    assert row.distance_m == pytest.approx(211.3, abs=0.1)
    assert (row.duration_s, row.start_time_ms, row.status) == (None, None, "completed")
    assert row.created_at_ms == 1_752_304_987_000


def test_a_walk_without_a_route_keeps_its_name_and_date() -> None:
    new = newer(as_1c())
    assert (new.row.route, new.row.distance_m, new.row.name) == ([], None, "12 Jul 25 18:57")
    assert "it has no route; name and dates were kept" in new.notes


def test_kilometres_become_metres_by_the_length_of_the_route() -> None:
    new = newer(as_1b(distance=0.211))
    assert new.row.distance_m == 211.0
    assert "distance was in kilometres" in new.notes


def test_the_short_names_of_coordinates_become_the_long_ones() -> None:
    route: list[Point] = [{"lat": 35.6, "lng": 139.7}, {"lat": 35.7, "lng": 139.7}]
    assert newer(as_1a(route=route)).row.route[0] == {"latitude": 35.6, "longitude": 139.7}


def test_fields_that_were_added_later_get_their_defaults() -> None:
    row = newer(as_1a()).row
    counts = (row.reviewed_discoveries_count, row.total_discoveries_count, row.completion_percentage)
    assert (row.is_completed, counts) == (False, (0, 0, 0))


def test_a_route_that_is_broken_beyond_a_tenth_is_set_aside_with_the_field() -> None:
    route = timed_route(5)
    route[2] = {**route[2], "longitude": None}
    with pytest.raises(Quarantine) as caught:
        newer(as_1b(route=route))
    assert caught.value.field == "route.2.longitude"


def test_a_soft_deletion_stays_one() -> None:
    row = newer(as_1b(is_deleted=True, deleted_at='{"seconds":1752904987,"nanoseconds":0}')).row
    assert (row.is_deleted, row.deleted_at_ms) == (True, 1_752_904_987_000)


times = st.none() | st.sampled_from(["2025-07-12T07:23:07.123Z", "soon", "1752304987123", '{"seconds":1}', ""])
journeys = st.builds(
    JourneyV2,
    user_id=st.just("u"),
    id=st.just("j"),
    name=st.none() | st.text(max_size=5),
    start_time=st.none() | st.integers(0, 2 * 10**12),
    end_time=st.none() | st.integers(0, 2 * 10**12),
    date_known=st.booleans(),
    route=st.sampled_from([[], timed_route(30), bare_route(30), [*timed_route(29), {"latitude": None}]]),
    distance=st.none() | st.floats(-1, 1e6),
    duration=st.none() | st.floats(-1, 1e9),
    start_location=st.none() | st.just({"latitude": 1.0, "longitude": 2.0}),
    status=st.none() | st.sampled_from(["completed", "in_progress", "lost"]),
    is_completed=st.none() | st.booleans(),
    reviewed_discoveries_count=st.none() | st.integers(0, 9),
    last_status_update=times,
    is_deleted=st.booleans(),
    deleted_at=times,
    created_at=times,
    updated_at=times,
)


@given(journeys)
def test_the_way_back_gives_exactly_the_row_that_was_there(old: JourneyV2) -> None:
    stored = JourneyV3.model_validate_json(newer(old).row.model_dump_json())
    assert older(stored) == old


def test_what_was_changed_since_is_carried_back_and_not_undone() -> None:
    new = newer(as_1b(duration=76.0, distance=0.211)).row
    back = older(new.model_copy(update={"duration_s": 90.0, "name": "Round the park"}))
    assert (back.duration, back.distance, back.name) == (90_000.0, 0.211, "Round the park")
