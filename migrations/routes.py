"""The points of a walk in version 2.0.0: which are whole, how long they are, how far apart in time."""

from collections.abc import Sequence
from typing import NamedTuple

from migrations.geometry import length_m, missing_coordinate, position_in
from migrations.shapes_v2 import Point
from migrations.walks import BROKEN_POINTS_SHARE_MAX
from syncengine import Quarantine

AGREEING_SHARE_MAX = 0.5
"""A distance within half of the length of its points is in the same unit: a thousandfold error is far outside."""

FULL_NAMES = {"lat": "latitude", "lng": "longitude"}  # short in a third shape, which the README of the app shows


class Route(NamedTuple):
    """The points that have a position, under the names latitude and longitude, and how long the way along them is."""

    points: list[Point]
    length_m: float | None
    """None for fewer than two points."""


def repaired(points: Sequence[Point]) -> Route:
    """The route without the points that have no position.

    Raises Quarantine where that is more than a tenth of them: nobody can say then where the walk went.
    """
    found = [position_in(point) for point in points]
    broken = [place for place, position in enumerate(found) if position is None]
    if len(broken) > BROKEN_POINTS_SHARE_MAX * len(found):
        field = f"route.{broken[0]}.{missing_coordinate(points[broken[0]])}"
        raise Quarantine(f"{len(broken)} of {len(found)} points have no position", field=field)
    positions = [position for position in found if position is not None]
    whole = [_named_in_full(point) for point, position in zip(points, found, strict=True) if position is not None]
    return Route(whole, length_m(positions) if len(positions) > 1 else None)


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
    if "latitude" in point:
        return point
    return {FULL_NAMES.get(name, name): value for name, value in point.items()}
