"""Walks as generation 0 kept them under `@saved_routes` and `lastRoute`, read as rows of version 2.0.0.

A walk is `{id, coords, date}` or, in the oldest builds, the bare array of its coordinates. `coords` may be empty.
"""

import hashlib
from collections.abc import Mapping, Set
from typing import NamedTuple

import orjson

from migrations.geometry import Position, length_m, missing_coordinate, position_in
from migrations.instants import iso_text, utc_ms
from migrations.shapes_v2 import JourneyV2, Point
from syncengine import Quarantine

HASH_BITS = 24
POINTS_MIN = 2  # fewer make no walk
BROKEN_POINTS_SHARE_MAX = 0.1
"""A fix that JSON turned from NaN to null is left out; where more than this share is broken, nobody can say any
more where the walk went, and it is set aside whole."""


class Walk(NamedTuple):
    """One walk as it was found; nothing in it has been checked but its outer form."""

    id: str | None
    points: list[object]
    date: object
    points_path: str
    """Where the points are in the element, for the field path of what is set aside."""


class ReadJourney(NamedTuple):
    """The row, and sentences about what had to be repaired."""

    row: JourneyV2
    notes: tuple[str, ...] = ()


def read_walk(value: object) -> Walk:
    """A walk in either of its forms. Raises Quarantine for anything else."""
    if isinstance(value, list):
        return Walk(None, value, None, "")
    if not isinstance(value, Mapping):
        raise Quarantine("a walk is an object or an array of points; this is neither")
    points = value.get("coords")
    if not isinstance(points, list):
        raise Quarantine("the walk has no array of points", field="coords")
    id_ = value.get("id")
    known = isinstance(id_, str | int) and not isinstance(id_, bool) and id_ != ""
    return Walk(str(id_) if known else None, points, value.get("date"), "coords.")


class RepeatedIds:
    """Finds the ids that occur more than once, in 2 MiB however many walks there are.

    One bit for each hash of 24 bits: two ids may share one, and are then said to be repeated. That costs a
    comparison and changes nothing.
    """

    def __init__(self) -> None:
        self._seen = bytearray(2 ** (HASH_BITS - 3))
        self.ids: set[str] = set()

    def note(self, walk: Walk) -> None:
        """Tell of each walk once."""
        if walk.id is None:
            return
        digest = hashlib.blake2b(walk.id.encode("utf-8", "surrogatepass"), digest_size=HASH_BITS // 8).digest()
        place, bit = divmod(int.from_bytes(digest, "big"), 8)
        if self._seen[place] >> bit & 1:
            self.ids.add(walk.id)
        self._seen[place] |= 1 << bit


class WalkIds:
    """Gives each walk an id that is the same on every device and at every run.

    The app gave ids by the clock, so that two walks can share one. The first keeps it; one that differs gets
    the id with a hash of its content behind it; one that is identical gets the same id, to be merged.
    """

    def __init__(self, *, repeated: Set[str]) -> None:
        self._repeated = repeated
        self._first_content: dict[str, str] = {}

    def note(self, walk: Walk) -> None:
        """Tell of each walk once, in the order of the source, before its id is asked for."""
        if walk.id in self._repeated:
            self._first_content.setdefault(str(walk.id), content_hash(walk))

    def id_of(self, walk: Walk) -> str:
        """The id of a walk that was noted; without one of its own, by its coordinates alone."""
        if walk.id is None:
            return f"walk-{route_hash(walk)}"
        if walk.id not in self._repeated:
            return walk.id
        content = content_hash(walk)
        return walk.id if self._first_content.get(walk.id, content) == content else f"{walk.id}-{content}"


def route_hash(walk: Walk) -> str:
    """16 hexadecimal digits from the coordinates alone."""
    return _short_hash([_coordinates(point) for point in walk.points])


def content_hash(walk: Walk) -> str:
    """16 hexadecimal digits from the coordinates and the date."""
    return _short_hash([walk.points, walk.date])


def journey_of(walk: Walk, *, user: str, id: str) -> ReadJourney:  # noqa: A002  (the column's name)
    """The row of a walk: distance along its points, its own date, duration unknown.

    A walk without a date gets none, and says so: the time of the migration would be a lie.
    Raises Quarantine for fewer than two points, or too many broken ones, with the first broken field.
    """
    route = _repaired_route(walk)
    notes = route.notes
    date_ms = utc_ms(walk.date)
    if date_ms is None:
        notes = (*notes, "it has no date that can be read; it is kept without one")
    date = None if date_ms is None else iso_text(date_ms)
    return ReadJourney(
        JourneyV2(
            user_id=user,
            id=id,
            name="Walk" if date is None else f"Walk on {date[:10]}",
            start_time=date_ms,
            date_known=date is not None,
            route=route.points,
            distance=length_m(route.positions),
            start_location=_place_of(route.points[0]),
            end_location=_place_of(route.points[-1]),
            status="completed",
            created_at=date,
        ),
        notes,
    )


class _Route(NamedTuple):
    points: list[Point]
    positions: list[Position]
    notes: tuple[str, ...]


def _repaired_route(walk: Walk) -> _Route:
    found = [position_in(point) for point in walk.points]
    broken = [place for place, position in enumerate(found) if position is None]
    if len(broken) > BROKEN_POINTS_SHARE_MAX * len(found):
        field = f"{walk.points_path}{broken[0]}.{missing_coordinate(walk.points[broken[0]])}"
        raise Quarantine(f"{len(broken)} of {len(found)} points have no position", field=field)
    positions = [position for position in found if position is not None]
    if len(positions) < POINTS_MIN:
        field = walk.points_path.rstrip(".")
        raise Quarantine(f"a walk needs {POINTS_MIN} points; this one has {len(positions)}", field=field)
    points = [_numbers(point) for point, position in zip(walk.points, found, strict=True) if position is not None]
    notes = (f"{len(broken)} of {len(found)} points had no position and were left out",) if broken else ()
    return _Route(points, positions, notes)


def _numbers(point: object) -> Point:
    assert isinstance(point, Mapping)
    return {
        str(name): value
        for name, value in point.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _place_of(point: Point) -> Point:
    return {"latitude": point["latitude"], "longitude": point["longitude"]}


def _coordinates(point: object) -> object:
    position = position_in(point)
    return point if position is None else [position.latitude, position.longitude]


def _short_hash(value: object) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
