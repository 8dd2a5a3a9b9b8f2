"""Firestore documents of generation 1, under `journeys/{uid}/…`, as rows of version 2.0.0 under `users/{uid}/…`.

The tables of 2.0.0 have generation 1's shapes, so a document becomes a row by its columns' names; its times come as
ISO-8601 text. Several variants lie side by side: the shape tells which one it is, and what a variant lacks is NULL.
An app of generation 1 goes on writing there; `TREES` are given to the FirestoreBackend, which brings it over again.
"""

from collections.abc import Mapping, Sequence

import orjson
from pydantic import JsonValue

from migrations.instants import iso_text, utc_ms
from migrations.place_data import text, without_secrets
from syncengine import OlderTree, OldRow, Quarantine

SHAPE = "2.0.0"

Fields = Mapping[str, JsonValue]
Columns = dict[str, JsonValue]


def journey_rows(id: str, document: Fields) -> Sequence[OldRow]:  # noqa: A002  (the column's name)
    """A walk, in any of its variants 1a, 1b and 1c. Raises Quarantine for a document without a route."""
    route = document.get("route")
    if not isinstance(route, list):
        raise Quarantine("the walk has no array of points", field="route")
    created_ms = utc_ms(document.get("createdAt"))
    start_ms = utc_ms(document.get("startTime"))
    row: Columns = {
        "id": id,
        "name": text(document.get("name")),
        "start_time": start_ms,
        "end_time": utc_ms(document.get("endTime")),
        "date_known": int(start_ms is not None or created_ms is not None),
        "route": _json(route),
        "distance": _real(document.get("distance")),
        "duration": _real(document.get("duration")),
        "start_location": _json_or_null(document.get("startLocation")),
        "end_location": _json_or_null(document.get("endLocation")),
        "status": text(document.get("status")),
        "is_completed": _flag(document.get("isCompleted")),
        "reviewed_discoveries_count": _whole(document.get("reviewedDiscoveriesCount")),
        "total_discoveries_count": _whole(document.get("totalDiscoveriesCount")),
        "completion_percentage": _whole(document.get("completionPercentage")),
        "last_status_update": _time(document.get("lastStatusUpdate")),
        "is_deleted": _flag(document.get("isDeleted")) or 0,
        "deleted_at": _time(document.get("deletedAt")),
        "created_at": None if created_ms is None else iso_text(created_ms),
        "updated_at": _time(document.get("updatedAt")),
    }
    return [OldRow(collection="journeys", key=id, body=row)]


def discovery_rows(id: str, document: Fields) -> Sequence[OldRow]:  # noqa: A002
    """A discovery or a saved place, in both of its forms. Raises Quarantine where no place is named."""
    row: Columns = {
        "id": id,
        "journey_id": text(document.get("journeyId")),
        "place_id": _place_id(document),
        "place_name": text(document.get("placeName")),
        "place_type": text(document.get("placeType")),
        "location": _json_or_null(document.get("location")),
        "discovered_at": _time(document.get("discoveredAt")),
        "saved": _flag(document.get("saved")) or 0,
        "dismissed": _flag(document.get("dismissed")) or 0,
        "place_data": _json(without_secrets(document.get("placeData")) or {}),
        "source": text(document.get("source")),
        "all_sources": _json_or_null(document.get("allSources")),
        "ping_count": _whole(document.get("pingCount")),
        "sar_count": _whole(document.get("sarCount")),
        "created_at": _time(document.get("createdAt")),
        "updated_at": _time(document.get("updatedAt")),
    }
    return [OldRow(collection="places", key=id, body=row)]


def dismissed_rows(id: str, document: Fields) -> Sequence[OldRow]:  # noqa: A002
    """A place that the user does not want to see; its id is Google's of the place."""
    data = document.get("placeData")
    row: Columns = {
        "id": id,
        "place_id": text(document.get("placeId")) or id,
        "dismissed_at": _time(document.get("dismissedAt")),
        "dismissed_until": None,
        "dismissed_forever": _flag(document.get("dismissedForever")) or 0,
        "reason": text(document.get("reason")),
        "journey_id": text(document.get("journeyId")),
        "place_data": None if data is None else _json(without_secrets(data)),
    }
    return [OldRow(collection="dismissed_places", key=id, body=row)]


def _place_id(document: Fields) -> str:
    found = text(document.get("placeId"))
    if found is None:
        raise Quarantine("the place has no id", field="placeId")
    return found


def _json(value: JsonValue) -> str:
    return orjson.dumps(value).decode()


def _json_or_null(value: JsonValue) -> str | None:
    return None if value is None else _json(value)


def _time(value: JsonValue) -> str | None:
    instant_ms = utc_ms(value)
    return None if instant_ms is None else iso_text(instant_ms)


def _real(value: JsonValue) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: JsonValue) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _flag(value: JsonValue) -> int | None:
    return int(value) if isinstance(value, bool | int) else None


TREES = (
    OlderTree(id="journeys-1", path="journeys/{uid}/journeys", converted=journey_rows, shape_version=SHAPE),
    OlderTree(id="discoveries-1", path="journeys/{uid}/discoveries", converted=discovery_rows, shape_version=SHAPE),
    OlderTree(
        id="dismissed-1",
        path="journeys/{uid}/dismissed",
        converted=dismissed_rows,
        shape_version=SHAPE,
        changed_field="dismissedAt",
    ),
)
"""Dismissed places were written once and carry no other time."""
