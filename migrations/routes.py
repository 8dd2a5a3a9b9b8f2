"""The points of a walk in version 2.0.0: which are whole, how long they are, how far apart in time."""

from collections.abc import Sequence

from migrations.geometry import length_m, position_in
from migrations.shapes_v2 import Point
from migrations.walks import BROKEN_POINTS_SHARE_MAX
from syncengine import Quarantine

AGREEING_SHARE_MAX = 0.5
"""A distance within half of the length of its points is in the same unit: a thousandfold error is far outside."""


def whole_points(route: Sequence[Point]) -> list[Point]:
    """The points that have a position, under the names latitude and longitude (a third shape had lat and lng).

    Raises Quarantine where more than a tenth has none: nobody can say then where the walk went.
    """
    broken = [place for place, point in enumerate(route) if position_in(point) is None]
    if len(broken) > BROKEN_POINTS_SHARE_MAX * len(route):
        raise Quarantine(f"{len(broken)} of {len(route)} points have no position", field=f"route.{broken[0]}")
    return [_named_in_full(point) for point in route if position_in(point) is not None]


def length_of(route: Sequence[Point]) -> float | None:
    """Metres along the points; None where there are fewer than two."""
    positions = [position for point in route if (position := position_in(point))]
    return length_m(positions) if len(positions) > 1 else None


def times_of(route: Sequence[Point]) -> tuple[int | None, int | None]:
    """The first and the last time of the points (ms), where they have any."""
    times = [int(time) for point in route if (time := point.get("timestamp")) is not None]
    return (times[0], times[-1]) if times else (None, None)


def metres(value: float | None, *, along: float | None) -> float | None:
    """The distance in metres: 0 and less were written for "not known", and one build wrote kilometres.

    `along` is the length of the points in metres, which also stands in for what is not known.
    """
    if value is None or value <= 0:
        return along
    is_kilometres = along and abs(value * 1_000 - along) <= AGREEING_SHARE_MAX * along
    return value * 1_000 if is_kilometres else value


def _named_in_full(point: Point) -> Point:
    full = {"lat": "latitude", "lng": "longitude"}
    return {full.get(name, name): value for name, value in point.items()}
