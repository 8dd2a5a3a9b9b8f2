"""Rows as the app of version 2.0.0 wrote them into its tables, with all the oddities of generation 1, counted.

Invented data; each oddity is one that the app's own code could produce.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from syncengine.clock import iso

Row = dict[str, str | int | float | None]
"""Column to value as SQLite keeps it: JSON and times as text, booleans as 0 and 1."""

FIRST_DAY_MS = 1_752_300_000_000  # 2025-07-12T06:00:00Z, when generation 1 began
DAY_MS = 24 * 3_600_000
FIX_INTERVAL_MS = 4_000  # tracking asked for one fix in one to five seconds

PLACE_NAMES = ("Fuglen", "根津美術館", "Café Kitsuné ☕", "🏯 Edo", 'O\'Brien "The" Pub')
PLACE_TYPES = ("cafe", "museum", "bar", "park", "bakery")


@dataclass(kw_only=True)
class Generation1Counts:
    """How many rows of each kind there are, counted while they were made."""

    journeys: int = 0
    journeys_without_times: int = 0  # variant 1a
    journeys_in_milliseconds: int = 0  # variant 1b
    journeys_in_seconds: int = 0  # variant 1b, by the background service
    journeys_in_kilometres: int = 0
    journeys_without_route: int = 0  # variant 1c
    journeys_with_one_broken_point: int = 0
    journeys_beyond_repair: int = 0
    journeys_deleted_softly: int = 0
    discoveries: int = 0
    discoveries_consolidated: int = 0  # variant d2
    discoveries_at_zero: int = 0
    places: int = 0
    places_found_again: int = 0  # at 0, 0, with their position in place_data
    places_without_position: int = 0
    places_saved_and_dismissed: int = 0
    dismissed: int = 0
    dismissed_forever: int = 0


@dataclass(frozen=True, kw_only=True)
class Generation1Rows:
    """One user's rows by collection, and what is in them."""

    user: str
    journeys: tuple[Row, ...]
    places: tuple[Row, ...]
    dismissed_places: tuple[Row, ...]
    profile: tuple[Row, ...]
    preferences: tuple[Row, ...]
    counts: Generation1Counts

    def inserts(self) -> Iterator[tuple[str, tuple[str | int | float | None, ...]]]:
        """SQL and values, one row at a time."""
        for collection in ("journeys", "places", "dismissed_places", "profile", "preferences"):
            for row in getattr(self, collection):
                columns, marks = ", ".join(row), ", ".join("?" * len(row))
                yield f"INSERT INTO {collection} ({columns}) VALUES ({marks})", tuple(row.values())


def generation1_rows(
    *, user: str, seed: int = 1, journeys: int = 70, places: int = 40, dismissed: int = 8
) -> Generation1Rows:
    """Rows for one user; the same seed gives the same rows."""
    maker = _Maker(user=user, chance=random.Random(seed))
    return Generation1Rows(
        user=user,
        journeys=tuple(maker.journey(number) for number in range(journeys)),
        places=tuple(row for number in range(places) for row in maker.discoveries(number)),
        dismissed_places=tuple(maker.dismissed(number) for number in range(dismissed)),
        profile=(maker.profile(),),
        preferences=(maker.preferences(),),
        counts=maker.counts,
    )


@dataclass(kw_only=True)
class _Maker:
    user: str
    chance: random.Random
    counts: Generation1Counts = field(default_factory=Generation1Counts)

    def journey(self, number: int) -> Row:
        """Every seventh to twentieth row is odd in its own way; the rest is as the writer meant it."""
        self.counts.journeys += 1
        start_ms = FIRST_DAY_MS + number * DAY_MS // 3
        route = self._route(start_ms, points=self.chance.randint(15, 60))
        kind = number % 10
        row = self._timed(number, route)
        if kind in (1, 2):
            row = self._without_times(number, route)
        elif kind == 3:
            row = self._without_route(number)
        elif kind in (4, 5):
            self.counts.journeys_in_seconds += 1
            row["duration"] = self._span_ms(route) / 1_000
        elif kind == 6:
            self.counts.journeys_in_kilometres += 1
            row["distance"] = float(str(row["distance"])) / 1_000
        else:
            self.counts.journeys_in_milliseconds += 1
        if number % 40 == 17:
            self.counts.journeys_with_one_broken_point += 1
            row["route"] = _json([*route[:5], {**route[5], "latitude": None}, *route[6:]])
        elif number % 40 == 27:
            self.counts.journeys_beyond_repair += 1
            row["route"] = _json([{**point, "longitude": None} for point in route])
        if number % 20 == 10:
            self.counts.journeys_deleted_softly += 1
            row |= {"is_deleted": 1, "deleted_at": _timestamp(start_ms + DAY_MS)}
        return row

    def _timed(self, number: int, route: list[dict[str, float | None]]) -> Row:
        start_ms, span_ms = int(route[0]["timestamp"] or 0), self._span_ms(route)
        return {
            "user_id": self.user,
            "id": self._random_id(),
            "name": f"Walk - {number} 🚶",
            "start_time": start_ms,
            "end_time": start_ms + span_ms,
            "route": _json(route),
            "distance": 11.1 * (len(route) - 1),
            "duration": float(span_ms),
            "status": "completed",
            "is_completed": number % 2,
            "reviewed_discoveries_count": number % 4,
            "total_discoveries_count": 4,
            "completion_percentage": 25 * (number % 4),
            "last_status_update": _timestamp(start_ms + span_ms),
            "created_at": _timestamp(start_ms + span_ms),
            "updated_at": iso(start_ms + span_ms),
        }

    def _without_times(self, number: int, route: list[dict[str, float | None]]) -> Row:
        self.counts.journeys_without_times += 1
        points = [{"latitude": point["latitude"], "longitude": point["longitude"]} for point in route]
        return {
            "user_id": self.user,
            "id": self._random_id(),
            "name": "Journey 7/12/2025",
            "route": _json(points),
            "distance": 0.0,
            "duration": 0.0,
            "start_location": _json(points[0]),
            "end_location": _json(points[-1]),
            "created_at": _timestamp(FIRST_DAY_MS + number * DAY_MS // 3),
            "updated_at": _timestamp(FIRST_DAY_MS + number * DAY_MS // 3),
        }

    def _without_route(self, number: int) -> Row:
        self.counts.journeys_without_route += 1
        return {
            "user_id": self.user,
            "id": self._random_id(),
            "name": "12 Jul 25 18:57",
            "route": "[]",
            "distance": 0.0,
            "duration": 0.0,
            "created_at": str(FIRST_DAY_MS + number * DAY_MS // 3),
        }

    def _route(self, start_ms: int, *, points: int) -> list[dict[str, float | None]]:
        """North in steps of about 11.1 metres, one fix each four seconds."""
        latitude, longitude = 35.6 + self.chance.random() / 10, 139.7 + self.chance.random() / 10
        return [
            {
                "latitude": round(latitude + step / 10_000, 6),
                "longitude": round(longitude, 6),
                "timestamp": start_ms + step * FIX_INTERVAL_MS,
            }
            for step in range(points)
        ]

    def _span_ms(self, route: list[dict[str, float | None]]) -> int:
        return int((route[-1]["timestamp"] or 0) - (route[0]["timestamp"] or 0))

    def discoveries(self, number: int) -> list[Row]:
        """One to three documents of one place that disagree in every way that the app allowed."""
        self.counts.places += 1
        position = {"latitude": round(35.6 + number / 1_000, 6), "longitude": round(139.7 + number / 1_000, 6)}
        rows = [self._as_discovered(number, copy, position) for copy in range(1 + number % 3)]
        if number % 4 == 1:
            rows.append(self._as_consolidated(number, position))
        at_zero = [row for row in rows if row["location"] == _json({"lat": 0, "lng": 0})]
        self.counts.discoveries += len(rows)
        self.counts.discoveries_at_zero += len(at_zero)
        if len(at_zero) == len(rows):
            known = '"latitude"' in str(rows[0]["place_data"])
            self.counts.places_found_again += known
            self.counts.places_without_position += not known
        self.counts.places_saved_and_dismissed += any(row["saved"] for row in rows) and any(
            row["dismissed"] for row in rows
        )
        return rows

    def _as_discovered(self, number: int, copy: int, position: dict[str, float]) -> Row:
        lost, forgotten = number % 6 == 0, number % 12 == 0
        name, kind = PLACE_NAMES[number % 5], PLACE_TYPES[number % 5]
        data = {
            "name": name,
            "types": [kind, "point_of_interest"],
            "rating": 4.1,
            "photos": [{"photo_reference": "abc", "url": "https://maps.example/photo?ref=abc&key=FAKE-maps-key-1"}],
        }
        location = {"lat": 0, "lng": 0} if lost else {"lat": position["latitude"], "lng": position["longitude"]}
        return {
            "user_id": self.user,
            "id": self._random_id(),
            "journey_id": f"journey-{copy}",
            "place_id": f"ChIJ-{number:05d}",
            "place_name": name,
            "place_type": kind,
            "location": _json(location),
            "discovered_at": _timestamp(FIRST_DAY_MS + (number - copy) * DAY_MS),
            "saved": int(number % 5 == 0 and copy == 0),
            "dismissed": int(number % 5 in (0, 1) and copy == 1),
            "place_data": _json(data if forgotten or not lost else {**data, **position}),
            "created_at": _timestamp(FIRST_DAY_MS + number * DAY_MS),
            "updated_at": iso(FIRST_DAY_MS + number * DAY_MS),
        }

    def _as_consolidated(self, number: int, position: dict[str, float]) -> Row:
        self.counts.discoveries_consolidated += 1
        row = self._as_discovered(number, 0, position)
        return row | {
            "journey_id": None,
            "discovered_at": None,
            "location": _json({"lat": 0, "lng": 0}),
            "place_data": _json({"name": row["place_name"], "primaryType": row["place_type"], **position}),
            "saved": 0,
            "source": "consolidated",
            "all_sources": _json(["ping", "sar", "ping"]),
            "ping_count": 2,
            "sar_count": 1,
        }

    def dismissed(self, number: int) -> Row:
        """Every fourth is for ever."""
        forever = number % 4 == 0
        self.counts.dismissed += 1
        self.counts.dismissed_forever += forever
        return {
            "user_id": self.user,
            "id": f"ChIJ-dismissed-{number}",
            "place_id": f"ChIJ-dismissed-{number}",
            "dismissed_at": _timestamp(FIRST_DAY_MS + number * DAY_MS),
            "dismissed_forever": int(forever),
            "reason": "user_dismissed_forever" if forever else "user_dismissed_temporary",
            "place_data": _json({"name": PLACE_NAMES[number % 5]}),
        }

    def profile(self) -> Row:
        """After the app's own clean-up, which left nulls, and with a time where the ping credits should be."""
        credits_as_time = {"seconds": 1_752_304_987, "nanoseconds": 0}
        return {
            "user_id": self.user,
            "id": self.user,
            "email": f"{self.user}@example.org",
            "email_verified": 1,
            "last_sign_in_at": iso(FIRST_DAY_MS),
            "is_new_user": 1,
            "stats": _json({"totalWalks": 12, "totalDistance": 34_567.8, "totalTime": 9_000, "discoveries": 5}),
            "friends": "[]",
            "ping_data": _json({"creditsRemaining": credits_as_time, "lastPingTime": None, "totalPingsUsed": 7}),
            "created_at": _timestamp(FIRST_DAY_MS),
            "updated_at": _timestamp(FIRST_DAY_MS),
        }

    def preferences(self) -> Row:
        return {
            "user_id": self.user,
            "id": "preferences",
            "language": "ja",
            "enabled_types": _json(["cafe", "museum"]),
            "disabled_types": _json(["bar"]),
            "min_rating": 4.0,
            "map_tutorial_seen": 1,
        }

    def _random_id(self) -> str:
        return f"{self.chance.getrandbits(80):020x}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _timestamp(instant_ms: int) -> str:
    """As the JSON of a Firestore timestamp."""
    return _json({"seconds": instant_ms // 1_000, "nanoseconds": instant_ms % 1_000 * 1_000_000})
