"""Hero's Path in worlds: people walk, find places and change their settings, and its own migrations take them along.

2.0.0 makes the tables of generation 1, and a profile and preferences for each user. 3.0.0 gives all of them another
shape: units in the names, places merged, a profile without gaps. What `migrations` does to a row is said here once
more in a few lines, for the rows that these people write.
"""

import json
from datetime import datetime
from typing import Any

from migrations import registry
from simulator.world.app import Columns, Reading, Shape, Step, WorldApp
from syncengine.migrate.registry import MigrationRegistry

_OLD, _NEW = _VERSIONS = ("2.0.0", "3.0.0")
_WALKED_MS = 1_752_300_000_000
_LASTED_MS = 1_860_000
_HIDDEN_AT = "2025-07-12T07:20:00.000Z"
_HIDDEN_MS = 1_752_304_800_000


def _both(*columns: str) -> dict[str, Columns]:
    return dict.fromkeys(_VERSIONS, columns)


def _walk(version: str, key: str) -> Reading:
    times: Reading = {"start_time": _WALKED_MS, "end_time": _WALKED_MS + _LASTED_MS, "distance": 2_100.5}
    counts: Reading = {
        "is_completed": 1,
        "reviewed_discoveries_count": 2,
        "total_discoveries_count": 2,
        "completion_percentage": 100,
        "status": "completed",
    }
    if version == _OLD:
        return {**times, "duration": float(_LASTED_MS), **counts}
    return {**_renamed(times, _UNITS), "duration_s": _LASTED_MS / 1_000, **counts}


_UNITS = {
    "start_time": "start_time_ms",
    "end_time": "end_time_ms",
    "distance": "distance_m",
    "last_status_update": "last_status_update_ms",
    "deleted_at": "deleted_at_ms",
    "created_at": "created_at_ms",
    "updated_at": "updated_at_ms",
}


def _renamed(row: Reading, names: dict[str, str]) -> Reading:
    return {names.get(name, name): value for name, value in row.items()}


def _read_walk(body: Reading, shape: str, version: str) -> Reading:
    if (shape, version) != (_OLD, _NEW):
        return dict(body)
    row = _renamed(body, _UNITS)
    duration = row.pop("duration")
    row["duration_s"] = None if duration is None else duration / 1_000
    ends = {name: row.pop(name) for name in ("start_location", "end_location")}
    legacy = {name: {"was": json.loads(place), "became": None} for name, place in ends.items() if place}
    if row["is_completed"] is None:
        # It was imported: a phone had a line and a day, and nothing of these.
        legacy |= {name: {"was": None, "became": usual} for name, usual in _USUAL.items()}
        day = datetime.fromisoformat(row["created_at_ms"])
        row |= {**_USUAL, "is_completed": 0, "created_at_ms": int(day.timestamp()) * 1_000}
    return {**row, "legacy": _as_text(legacy)}


_COUNTS = ("reviewed_discoveries_count", "total_discoveries_count", "completion_percentage")
_USUAL: Reading = {"is_completed": False, **dict.fromkeys(_COUNTS, 0)}


def _place(version: str, key: str) -> Reading:
    return {"place_id": key, "saved": 1}


_OF_A_PLACE: Reading = {
    "latitude": None,
    "longitude": None,
    "types": "[]",
    "address": None,
    "rating": None,
    "user_ratings_total": None,
    "price_level": None,
    "discovered_at_ms": None,
    "discovery_count": 1,
    "ping_count": 0,
    "sar_count": 0,
    "sources": "[]",
    "journey_ids": "[]",
    "created_at_ms": None,
    "updated_at_ms": None,
}


def _read_place(body: Reading, shape: str, version: str) -> Reading:
    if (shape, version) != (_OLD, _NEW):
        return dict(body)
    kept = {name: body[name] for name in ("id", "place_id", "saved", "dismissed", "place_data")}
    return {**kept, "name": body["place_name"], "category": body["place_type"], **_OF_A_PLACE}


def _dismissal(version: str, key: str) -> Reading:
    if version == _OLD:
        return {"place_id": key, "dismissed_at": _HIDDEN_AT, "dismissed_forever": 1}
    return {"place_id": key, "dismissed_at_ms": _HIDDEN_MS}


def _read_dismissal(body: Reading, shape: str, version: str) -> Reading:
    if (shape, version) != (_OLD, _NEW):
        return dict(body)
    kept = {name: body[name] for name in ("id", "place_id", "reason", "journey_id", "place_data")}
    return {**kept, "dismissed_at_ms": _HIDDEN_MS, "dismissed_until_ms": None, "legacy": "{}"}


_PREFERENCES: Reading = {"notifications": True, "privacy": "public", "units": "metric"}
_ALL_PREFERENCES: Reading = {**_PREFERENCES, "theme": "auto", "mapStyle": "default"}
_LEGACY: dict[str, Any] = {
    "email_verified": {"was": None, "became": False},
    "is_new_user": {"was": None, "became": False},
    "preferences": {"was": _PREFERENCES, "became": _ALL_PREFERENCES},
    "ping_data": {"was": {"creditsRemaining": 50, "totalPingsUsed": 0}, "became": [50, 0, None, None]},
}


def _read_profile(body: Reading, shape: str, version: str) -> Reading:
    if (shape, version) != (_OLD, _NEW):
        return dict(body)
    names = ("id", "email", "display_name", "photo_url", "bio", "location", "stats", "friends", "migration_status")
    return {
        **{name: body[name] for name in names},
        "email_verified": 0,
        "last_sign_in_at_ms": None,
        "is_new_user": 0,
        "preferences": _as_text(_ALL_PREFERENCES),
        "credits_remaining": 50,
        "total_pings_used": 0,
        "last_ping_at_ms": None,
        "last_credit_reset_at_ms": None,
        "created_at_ms": None,
        "updated_at_ms": None,
        "legacy": _as_text(_LEGACY),
    }


def _as_text(value: Reading) -> str:
    return json.dumps(value, separators=(",", ":"))


def _read_preferences(body: Reading, shape: str, version: str) -> Reading:
    if (shape, version) != (_OLD, _NEW):
        return dict(body)
    row = _renamed(body, {"enabled_types": "place_types", "disabled_types": "place_types_off"})
    del row["map_tutorial_seen"]
    return {**row, "max_discoveries": 20}


def _registry(version: str) -> MigrationRegistry:
    return registry(target=version)


_SHAPES = {
    "journeys": Shape(
        columns=_both("name"),
        fields={"name": ("walk",)},
        others={
            _OLD: (
                *("start_time", "end_time", "date_known", "route", "distance", "duration", "start_location"),
                *("end_location", "status", "is_completed", *_COUNTS, "last_status_update", "is_deleted"),
                *("deleted_at", "created_at", "updated_at"),
            ),
            _NEW: (
                *("start_time_ms", "end_time_ms", "date_known", "route", "distance_m", "duration_s", "status"),
                *("is_completed", *_COUNTS, "last_status_update_ms", "is_deleted", "deleted_at_ms"),
                *("created_at_ms", "updated_at_ms", "legacy"),
            ),
        },
        also=_walk,
        read=_read_walk,
    ),
    "places": Shape(
        columns={_OLD: ("place_name", "place_type"), _NEW: ("name", "category")},
        fields={"place_name": ("place",), "name": ("place",), "place_type": ("kind",), "category": ("kind",)},
        others={
            _OLD: (
                *(
                    "journey_id",
                    "place_id",
                    "location",
                    "discovered_at",
                    "saved",
                    "dismissed",
                    "place_data",
                    "source",
                ),
                *("all_sources", "ping_count", "sar_count", "created_at", "updated_at"),
            ),
            _NEW: ("place_id", "saved", "dismissed", "place_data", *_OF_A_PLACE),
        },
        also=_place,
        read=_read_place,
    ),
    "dismissed_places": Shape(
        columns=_both("reason"),
        others={
            _OLD: ("place_id", "dismissed_at", "dismissed_until", "dismissed_forever", "journey_id", "place_data"),
            _NEW: ("place_id", "dismissed_at_ms", "dismissed_until_ms", "journey_id", "place_data", "legacy"),
        },
        also=_dismissal,
        read=_read_dismissal,
    ),
    "profile": Shape(
        columns=_both("display_name", "bio", "location"),
        fields={"display_name": ("alias",), "location": ("home",)},
        others={
            _OLD: (
                *("email", "photo_url", "email_verified", "last_sign_in_at", "is_new_user", "preferences", "stats"),
                *("friends", "ping_data", "migration_status", "created_at", "updated_at"),
            ),
            _NEW: (
                *(
                    "email",
                    "photo_url",
                    "email_verified",
                    "last_sign_in_at_ms",
                    "is_new_user",
                    "preferences",
                    "stats",
                ),
                *("friends", "credits_remaining", "total_pings_used", "last_ping_at_ms", "last_credit_reset_at_ms"),
                *("migration_status", "created_at_ms", "updated_at_ms", "legacy"),
            ),
        },
        read=_read_profile,
        is_made=False,
        is_merged=False,
    ),
    "preferences": Shape(
        columns={_OLD: ("language", "enabled_types"), _NEW: ("language", "place_types")},
        fields={"enabled_types": ("liked",), "place_types": ("liked",)},
        lists=frozenset({"enabled_types", "place_types"}),
        others={
            _OLD: (
                *("show_saved_places", "disabled_types", "min_rating", "dismissal_preference", "onboarding_shown"),
                "map_tutorial_seen",
            ),
            _NEW: (
                *("show_saved_places", "place_types_off", "min_rating", "dismissal_preference", "onboarding_shown"),
                "max_discoveries",
            ),
        },
        read=_read_preferences,
        is_made=False,
        is_merged=False,
    ),
    "app_state": Shape(columns=_both("value"), fields={"value": ("kept",)}, lists=frozenset({"value"})),
}

HEROS_PATH = WorldApp(
    versions=_VERSIONS,
    shapes=_SHAPES,
    steps=(
        Step(migration="herospath-tables-v2", version=_OLD, collections=tuple(_SHAPES)),
        Step(migration="journeys-schema-v2-to-v3", version=_NEW, collections=("journeys",), rewrites=True),
        Step(migration="places-schema-v2-to-v3", version=_NEW, collections=("places",), rewrites=True),
        Step(migration="dismissed-places-v2-to-v3", version=_NEW, collections=("dismissed_places",), rewrites=True),
        Step(migration="profile-schema-v2-to-v3", version=_NEW, collections=("profile",), rewrites=True),
        Step(migration="preferences-schema-v2-to-v3", version=_NEW, collections=("preferences",)),
    ),
    registry_at=_registry,
    uploads={
        f"{kind}-upload-{version}": names
        for kind, names in (
            ("journeys", ("journeys",)),
            ("places", ("places", "dismissed_places")),
            # The profile once more, to say what is done, when no upload waits any longer.
            ("profile", ("profile", "profile", "preferences")),
        )
        for version in ("v2", "v3")
    },
    keeps_copies=True,
    is_installed=True,
    written=("journeys", "places", "dismissed_places", "profile", "preferences"),
    marks="app_state",
)
