"""Milliseconds or seconds: which one a duration is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.durations import duration_of
from migrations.routes import metres

WALK_S = st.integers(30, 86_400)


@given(WALK_S)
def test_the_walks_own_times_tell_milliseconds_from_seconds(seconds: int) -> None:
    span_ms = seconds * 1_000
    assert duration_of(float(span_ms), span_ms=span_ms, distance_m=None).seconds == seconds
    assert duration_of(float(seconds), span_ms=span_ms, distance_m=None).seconds == seconds


@given(st.integers(30, 86_400), st.integers(-30, 30))
def test_a_pause_at_the_end_does_not_change_the_unit(seconds: int, off_ms: int) -> None:
    found = duration_of(float(seconds * 1_000 + off_ms), span_ms=seconds * 1_000, distance_m=None)
    assert found.seconds == pytest.approx(seconds, abs=0.05)
    assert not found.is_repair


@given(st.integers(86_401, 86_400_000))
def test_without_times_what_is_too_long_for_seconds_is_milliseconds(value: int) -> None:
    assert duration_of(float(value), span_ms=None, distance_m=None).seconds == value / 1_000


@given(st.integers(1, 29_999))
def test_without_times_what_is_too_short_for_milliseconds_is_seconds(value: int) -> None:
    found = duration_of(float(value), span_ms=None, distance_m=None)
    assert (found.seconds, found.is_repair) == (value, True)


@pytest.mark.parametrize(("distance_m", "seconds"), [(60_000.0, 40_000.0), (50.0, 40.0), (None, 40.0)])
def test_between_the_two_the_walkers_speed_decides_and_else_the_writers_unit(
    distance_m: float | None, seconds: float
) -> None:
    assert duration_of(40_000.0, span_ms=None, distance_m=distance_m).seconds == seconds


def test_zero_meant_not_known_unless_the_times_say_more() -> None:
    assert duration_of(0.0, span_ms=None, distance_m=900.0).seconds is None
    assert duration_of(0.0, span_ms=60_000, distance_m=900.0).seconds == 60.0
    assert duration_of(None, span_ms=60_000, distance_m=None).seconds == 60.0


def test_a_negative_duration_is_none() -> None:
    assert duration_of(-5.0, span_ms=60_000, distance_m=None).seconds is None


@given(st.floats(0.001, 1e12), st.none() | st.integers(1, 10**9), st.none() | st.floats(0, 1e6))
def test_a_duration_is_the_value_or_a_thousandth_of_it(
    value: float, span_ms: int | None, distance_m: float | None
) -> None:
    assert duration_of(value, span_ms=span_ms, distance_m=distance_m).seconds in (value, value / 1_000)


@pytest.mark.parametrize(
    ("value", "along", "expected"),
    [
        (0.0, 812.5, 812.5),
        (None, 812.5, 812.5),
        (0.0, None, None),
        (800.0, 812.5, 800.0),
        (0.8, 812.5, 800.0),
        (883.0, 34.0, 883.0),  # the app's own two measures of one walk: no unit explains that
        (5.0, None, 5.0),
    ],
)
def test_a_distance_is_in_metres_or_not_known(
    value: float | None, along: float | None, expected: float | None
) -> None:
    assert metres(value, along=along) == expected
