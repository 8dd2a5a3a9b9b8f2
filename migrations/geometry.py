"""Points on the Earth: which numbers are one, and how far it is from one to the next."""

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

EARTH_RADIUS_M = 6_371_008.8  # mean radius R1 of the GRS80 ellipsoid (Moritz, Geodetic Reference System 1980)


class Position(NamedTuple):
    """A place on the Earth, in degrees. 0.0 is a value like any other."""

    latitude: float
    longitude: float


def degrees(value: object, *, limit: float) -> float | None:
    """The value as degrees between -limit and limit; None where it is not a finite number in that range."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= limit else None


def position_in(value: object) -> Position | None:
    """The position in `{latitude, longitude}` or `{lat, lng}`; None where either is missing or no number."""
    if not isinstance(value, Mapping):
        return None
    latitude = degrees(value.get("latitude", value.get("lat")), limit=90)
    longitude = degrees(value.get("longitude", value.get("lng")), limit=180)
    return None if latitude is None or longitude is None else Position(latitude, longitude)


def missing_coordinate(value: object) -> str:
    """Which field of a point that has no position is at fault: latitude before longitude."""
    point = value if isinstance(value, Mapping) else {}
    latitude = degrees(point.get("latitude", point.get("lat")), limit=90)
    return "latitude" if latitude is None else "longitude"


def is_null_island(position: Position) -> bool:
    """Both exactly 0: open sea, where the app put each place whose coordinates it had not found."""
    return position == (0.0, 0.0)


def length_m(positions: Iterable[Position]) -> float:
    """Metres along the positions in their order, to the centimetre."""
    return round(sum(distance_m(here, to=there) for here, there in pairwise(positions)), 2)


def distance_m(here: Position, *, to: Position) -> float:
    """Metres along the great circle (haversine formula: R. W. Sinnott, Sky and Telescope 68, 1984)."""
    south, north = math.radians(here.latitude), math.radians(to.latitude)
    half_height = (north - south) / 2
    half_width = math.radians(to.longitude - here.longitude) / 2
    chord = math.sin(half_height) ** 2 + math.cos(south) * math.cos(north) * math.sin(half_width) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(min(1.0, chord)))
