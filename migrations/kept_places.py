"""Saved and dismissed places as generation 0 kept them, read as rows of version 2.0.0."""

import hashlib
from collections.abc import Mapping

import orjson
from pydantic import JsonValue

from migrations.instants import iso_text, utc_ms
from migrations.place_data import category_text, positions_of, price_level, real_position, text, without_secrets
from migrations.shapes_v2 import DismissedPlaceV2, PlaceV2, Point
from syncengine import Quarantine

DISMISSAL_MS = 30 * 24 * 3_600_000
"""How long "30 days" hides a place; also where the user wanted to be asked: it can be hidden once more."""

Entry = dict[str, JsonValue]


class PlaceIds:
    """Gives each saved place a row id. The app let a place be saved twice: the same content gets the same id, to
    be merged; other content gets the place's id with a hash behind it, so that neither is lost."""

    def __init__(self) -> None:
        self._first_content: dict[str, str] = {}

    def note(self, value: object) -> None:
        """Tell of each entry once, in the order of the source, before its id is asked for."""
        if isinstance(value, Mapping) and (place_id := text(value.get("placeId"))):
            self._first_content.setdefault(place_id, _content_hash(value))

    def id_of(self, entry: Entry) -> str:
        """The row id of an entry that was noted."""
        place_id, content = place_id_in(entry), _content_hash(entry)
        return place_id if self._first_content.get(place_id, content) == content else f"{place_id}-{content}"


def read_place(value: object) -> Entry:
    """An entry with its placeId. Raises Quarantine for anything else."""
    if not isinstance(value, dict):
        raise Quarantine("a saved place is an object; this is none")
    place_id_in(value)
    return value


def place_id_in(entry: Entry) -> str:
    """Google's id of the place. Raises Quarantine where there is none."""
    place_id = text(entry.get("placeId"))
    if place_id is None:
        raise Quarantine("the place has no id", field="placeId")
    return place_id


def saved_place(entry: Entry, *, user: str, id: str) -> PlaceV2:  # noqa: A002  (the column's name)
    """The row of a saved place, in any of its three variants.

    Without coordinates (the oldest variant) the location is NULL, never 0, 0. When it was saved is not known.
    """
    cleaned = without_secrets(entry)
    assert isinstance(cleaned, dict)
    category = category_text(cleaned.get("category"))
    data = {**cleaned, "category": category}
    if "priceLevel" in cleaned:
        data["priceLevel"] = price_level(cleaned["priceLevel"])
    return PlaceV2(
        user_id=user,
        id=id,
        place_id=place_id_in(entry),
        place_name=text(entry.get("name")),
        place_type=category,
        location=_location(cleaned),
        saved=True,
        place_data=data,
    )


def dismissed_place(value: object, *, user: str, preference: str | None, now_ms: int) -> DismissedPlaceV2:
    """The row of a dismissed place, which was kept as its id alone or as an object.

    It stays hidden for ever only where the user chose so. Otherwise until 30 days after the dismissal or, where
    that was not recorded, after now: the choice still holds for once, but no longer without end.
    """
    entry: Entry = {"placeId": value} if isinstance(value, str) else read_place(value)
    place_id = place_id_in(entry)
    dismissed_at_ms = utc_ms(entry.get("dismissedAt"))
    forever = preference == "forever"
    since_ms = now_ms if dismissed_at_ms is None else dismissed_at_ms
    details: Entry = {name: entry[name] for name in ("name", "category", "types") if name in entry}
    return DismissedPlaceV2(
        user_id=user,
        id=place_id,
        place_id=place_id,
        dismissed_at=None if dismissed_at_ms is None else iso_text(dismissed_at_ms),
        dismissed_until=None if forever else iso_text(since_ms + DISMISSAL_MS),
        dismissed_forever=forever,
        reason="migrated_from_async_storage",
        place_data=details or None,
    )


def _location(entry: Entry) -> Point | None:
    position = real_position(positions_of(entry))
    return None if position is None else {"lat": position.latitude, "lng": position.longitude}


def _content_hash(entry: Mapping[str, object]) -> str:
    return hashlib.sha256(orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
