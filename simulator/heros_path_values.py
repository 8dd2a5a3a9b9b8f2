"""What Hero's Path of July 2025 kept about an invented user: AsyncStorage keys and values, oddities included.

Each value is produced in pieces, so that a history of any length needs memory for one walk. Everything follows from
the counts asked for and one `random.Random`. Shares: 5 % of the walks are bare arrays, 2 % empty, 1 % repeat an
id, 1 % have 300 to 3,000 points and the rest 2 to 60; 30 % of the places have no coordinates.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from syncengine.clock import iso

FAKE_API_KEY = "FAKE-maps-key-7"
"""Each thumbnail URL has it, as the app leaked its real one: nothing may carry it on."""

HISTORY_START_MS = 1_740_787_200_000  # 2025-03-01T00:00:00Z
HISTORY_MS = 270 * 24 * 3_600_000  # to 2025-11-26, over four changes of daylight saving time
DST_CHANGES_MS = (
    1_741_514_400_000,  # 2025-03-09T10:00:00Z, Los Angeles springs forward
    1_743_296_400_000,  # 2025-03-30T01:00:00Z, Europe springs forward
    1_761_440_400_000,  # 2025-10-26T01:00:00Z, Europe falls back
    1_762_074_000_000,  # 2025-11-02T09:00:00Z, Los Angeles falls back
)


class WalkKind(Enum):
    """What is odd about a walk, if anything."""

    ORDINARY = auto()
    BARE_ARRAY = auto()
    EMPTY = auto()
    REPEATED_ID = auto()
    LONG = auto()
    NULL_LATITUDE = auto()
    AT_DST_CHANGE = auto()


_SHARES = (
    (WalkKind.BARE_ARRAY, 0.05),
    (WalkKind.EMPTY, 0.02),
    (WalkKind.REPEATED_ID, 0.01),
    (WalkKind.LONG, 0.01),
    (WalkKind.NULL_LATITUDE, 0.001),
    (WalkKind.AT_DST_CHANGE, 0.001),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkPlan:
    """Which of the walks are odd, decided before one is written."""

    total: int
    odd: dict[int, WalkKind]

    def count(self, kind: WalkKind) -> int:
        return sum(found is kind for found in self.odd.values())


def plan_walks(total: int, *, chance: random.Random) -> WalkPlan:
    """At least one walk of each odd kind, as far as there is room; the first and the last are ordinary."""
    wanted = [kind for kind, share in _SHARES for _ in range(max(1, round(total * share)))]
    room = range(1, max(1, total - 1))
    places = chance.sample(room, min(len(room), len(wanted)))
    return WalkPlan(total=total, odd=dict(zip(places, wanted, strict=False)))


class Walks:
    """Writes the value of `@saved_routes`; afterwards, what `lastRoute` holds and how many points there were."""

    def __init__(self, plan: WalkPlan, *, chance: random.Random) -> None:
        self.last_route = ""
        self.points_total = 0
        self._plan = plan
        self._chance = chance
        self._last_id = ""

    def pieces(self) -> Iterator[str]:
        """The JSON array, walk by walk."""
        yield "["
        for index in range(self._plan.total):
            kind = self._plan.odd.get(index, WalkKind.ORDINARY)
            yield ("," if index else "") + self._walk(index, kind)
        yield "]"

    def _walk(self, index: int, kind: WalkKind) -> str:
        started_ms = self._started_ms(index, kind)
        points = [] if kind is WalkKind.EMPTY else _points(_point_count(kind, self._chance), self._chance)
        if kind is WalkKind.NULL_LATITUDE:
            points[0] = '{"latitude":null,"longitude":139.7}'  # JSON.stringify writes NaN as null
        self.points_total += len(points)
        coords = f"[{','.join(points)}]"
        if kind is WalkKind.BARE_ARRAY:
            return coords
        walk_id = self._last_id if kind is WalkKind.REPEATED_ID else str(started_ms)
        if kind is not WalkKind.EMPTY:
            self._last_id = walk_id
        self.last_route = f'{{"id":"{walk_id}","coords":{coords},"date":"{iso(started_ms)}"}}'
        return self.last_route

    def _started_ms(self, index: int, kind: WalkKind) -> int:
        if kind is WalkKind.AT_DST_CHANGE:
            # One minute around the change; the index keeps the ids apart.
            return DST_CHANGES_MS[index % len(DST_CHANGES_MS)] - 30_000 + index % 60_000
        step_ms = HISTORY_MS // self._plan.total
        return HISTORY_START_MS + index * step_ms + self._chance.randrange(step_ms)


def _point_count(kind: WalkKind, chance: random.Random) -> int:
    return chance.randrange(300, 3_001) if kind is WalkKind.LONG else chance.randrange(2, 61)


def _points(count: int, chance: random.Random) -> list[str]:
    """A random walk through Tokyo in steps of up to 3.5 m, as JavaScript writes its numbers."""
    latitude, longitude = 35_600_000 + chance.randrange(100_000), 139_650_000 + chance.randrange(100_000)
    points = []
    for _ in range(count):
        step = chance.getrandbits(12)
        latitude += (step & 63) - 31
        longitude += (step >> 6) - 31
        points.append(f'{{"latitude":{latitude / 1e6!r},"longitude":{longitude / 1e6!r}}}')
    return points


_NAMES = ("Fuglen", "根津美術館", 'O\'Brien "The" Pub', "🏯 Edo", "Café de l'Ambre", "Ramen/Soba 24h")
_CATEGORIES = ("cafe", "bar", "museum", "park", "restaurant", "art_gallery", "bakery")
_PRICES: tuple[int | str, ...] = (2, "PRICE_LEVEL_MODERATE", 0, "PRICE_LEVEL_EXPENSIVE")

# Any: these are the app's own JSON objects, of three shapes mixed in one list.
Place = dict[str, Any]


def make_places(total: int, *, chance: random.Random) -> list[Place]:
    """The saved places in the order they were saved: without coordinates, with, and with details; one twice."""
    without_coordinates = round(total * 0.3)
    detailed = round(total * 0.4)
    generations = [1] * without_coordinates + [3] * detailed
    generations += [2] * (total - len(generations))
    places = [_place(index, generation, chance) for index, generation in enumerate(generations)]
    if total > 2:
        places[-1] = dict(places[-2])  # two taps on the same heart
    return places


def _place(index: int, generation: int, chance: random.Random) -> Place:
    category = chance.choice(_CATEGORIES)
    place: Place = {
        "placeId": f"ChIJ-walked-{index:05}",
        "name": f"{_NAMES[index % len(_NAMES)]} {index}",
        "category": category,
        "description": f"{index}-1 Tomigaya",
        "thumbnail": _thumbnail(index) if index % 4 else None,
        "rating": chance.randrange(20, 50) / 10,
        "userRatingsTotal": chance.randrange(9_999),
    }
    if generation >= 2:
        place["latitude"] = (35_600_000 + chance.randrange(200_000)) / 1e6
        place["longitude"] = (139_600_000 + chance.randrange(200_000)) / 1e6
    if generation >= 3:
        place |= _details(index, category)
    return place


def _thumbnail(index: int) -> str:
    return f"https://maps.example/photo?maxwidth=400&photoreference=r{index}&key={FAKE_API_KEY}"


def _details(index: int, category: str) -> Place:
    address = f"{index}-1 Tomigaya, Shibuya City"
    details: Place = {
        "types": [category, "point_of_interest"],
        "priceLevel": _PRICES[index % len(_PRICES)],
        "address": address,
        "shortAddress": "Tomigaya",
        "formatted_address": address,
    }
    if index % 3 == 0:
        details["category"] = {"text": category.replace("_", " ").title(), "languageCode": "en"}
    return details


def make_dismissed(total: int) -> list[str | Place]:
    """Dismissed places: every third an object, the others bare ids."""
    return [
        f"ChIJ-dismissed-{index:05}"
        if index % 3
        else {
            "placeId": f"ChIJ-dismissed-{index:05}",
            "name": f"Dismissed {index}",
            "category": "bar",
            "dismissedAt": iso(HISTORY_START_MS + index * 86_400_000),
        }
        for index in range(total)
    ]


BROKEN_KEYS = ("@background_location_data",)


def settings_values() -> Iterator[tuple[str, str]]:
    """The keys that hold no walks and no places: JSON, plain text, and one value that a crash cut off."""
    yield "@explored_segments", "[]"
    yield "@user_language", "ja"
    yield "@show_saved_places", "true"
    yield "@discovery_preferences", compact_json({name: name != "museum" for name in _CATEGORIES})
    yield "@discovery_min_rating", "3.0"
    yield "@dismissal_preference", "30days"
    yield "@discovery_onboarding_shown", "true"
    yield "discoveries_onboarding_shown_user-1", "true"
    yield "@background_location_data", _cut_off_locations()
    yield "@user_ui_theme", "adventure"
    yield "@user_map_style", "night"
    yield "@map_tutorial_seen", "true"


def _cut_off_locations() -> str:
    fix = '{"latitude":35.6,"longitude":139.7,"timestamp":1752304987123,"accuracy":5.0}'
    return f"[{fix},{fix},{fix[:40]}"


def compact_json(value: object) -> str:
    """As JSON.stringify writes it: no blanks, characters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
