"""How long a walk took, from numbers that some builds wrote in milliseconds and some in seconds.

The writer stored milliseconds, the list divided by 60 as if they were seconds, and the background service computed
seconds. Which it is, is decided by what else is known of the walk, in this order: its own times, what is possible
for a walk at all, and how fast a person walks.
"""

from typing import NamedTuple

SECONDS_MIN, SECONDS_MAX = 30.0, 86_400.0  # the app itself accepts walks from 30 s to 24 h
SPEED_MS_MIN, SPEED_MS_MAX = 0.2, 4.0  # metres a second: from strolling with many stops to running
SPAN_SHARE_MAX, SPAN_MS_MAX = 0.05, 2_000  # how far duration and times may differ and still agree


class Duration(NamedTuple):
    """Seconds, or None where it is not known; by which rule; whether that was a decision worth telling."""

    seconds: float | None
    rule: str
    is_repair: bool = False


def duration_of(value: float | None, *, span_ms: int | None, distance_m: float | None) -> Duration:
    """The duration that `value` means.

    `span_ms` lies between the first and the last time that is known of the walk. 0 was written for "not known".
    """
    if value is None or value == 0:
        return _by_times_alone(value, span_ms=span_ms)
    if value < 0:
        return Duration(None, "a negative duration is none", is_repair=True)
    if span_ms is not None and span_ms > 0:
        if _agree(value, span_ms):
            return Duration(value / 1_000, "milliseconds, by the walk's times")
        if _agree(value * 1_000, span_ms):
            return Duration(value, "seconds, by the walk's times", is_repair=True)
    return _by_size(value, distance_m=distance_m)


def _by_times_alone(value: float | None, *, span_ms: int | None) -> Duration:
    if span_ms is not None and span_ms > 0:
        return Duration(span_ms / 1_000, "from the walk's times", is_repair=True)
    return Duration(None, "not known", is_repair=value == 0)


def _by_size(value: float, *, distance_m: float | None) -> Duration:
    long_enough_in_milliseconds = value / 1_000 >= SECONDS_MIN
    short_enough_in_seconds = value <= SECONDS_MAX
    if not long_enough_in_milliseconds:
        return Duration(value, "seconds, by size", is_repair=True)
    if short_enough_in_seconds and _walkable(value, distance_m) and not _walkable(value / 1_000, distance_m):
        return Duration(value, "seconds, by speed", is_repair=True)
    # The writer's own unit wherever nothing speaks against it.
    return Duration(value / 1_000, "milliseconds, by size", is_repair=value / 1_000 > SECONDS_MAX)


def _agree(milliseconds: float, span_ms: int) -> bool:
    return abs(milliseconds - span_ms) <= max(SPAN_MS_MAX, SPAN_SHARE_MAX * span_ms)


def _walkable(seconds: float, distance_m: float | None) -> bool:
    return distance_m is not None and SPEED_MS_MIN <= distance_m / seconds <= SPEED_MS_MAX
