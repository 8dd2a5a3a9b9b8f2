"""All discoveries of one place in version 2.0.0 as the one place of 3.0.0; dismissed places with an end.

The app gave each discovery a random id and looked at the first of several only, so that they disagree. The older
form has `discovered_at`; the later one has sources and counts, and 0, 0 for places that a ping found.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from migrations.instants import iso_text, utc_ms
from migrations.kept_places import DISMISSAL_MS
from migrations.legacy_values import kept, legacy_of, restored
from migrations.place_data import (
    category_text,
    number,
    positions_of,
    price_level,
    real_position,
    text,
    texts,
    whole_number,
    without_secrets,
)
from migrations.shapes_v2 import DismissedPlaceV2, PlaceV2
from migrations.shapes_v3 import DismissedPlaceV3, PlaceV3
from syncengine import Quarantine


class MergedPlace(NamedTuple):
    """The row, and sentences about what was decided or repaired."""

    row: PlaceV3
    notes: tuple[str, ...]


def merged(discoveries: Sequence[PlaceV2]) -> MergedPlace:
    """One place from all discoveries of it by one user, whatever their order.

    Saved wins over dismissed: what a user saved must not vanish because another document was not told. Of each
    detail the saved and earliest discovery that has it decides; counts are added, the first time is kept.
    """
    rows = sorted(discoveries, key=_surest_first)
    data = _merged_data(rows)
    position = real_position(place for row in rows for place in (row.location, *positions_of(row.place_data)))
    saved = any(row.saved for row in rows)
    place_id = rows[0].place_id
    place = PlaceV3(
        user_id=rows[0].user_id,
        id=place_id,
        place_id=place_id,
        name=_first(row.place_name for row in rows) or text(data.get("name")),
        category=_first(row.place_type for row in rows) or category_text(data.get("category")),
        latitude=position.latitude if position else None,
        longitude=position.longitude if position else None,
        types=list(dict.fromkeys(name for row in rows for name in texts(row.place_data.get("types")))),
        address=_first(text(data.get(name)) for name in ("formatted_address", "address", "shortAddress")),
        rating=number(data.get("rating")),
        user_ratings_total=whole_number(data.get("userRatingsTotal")),
        price_level=price_level(data.get("priceLevel")),
        saved=saved,
        dismissed=any(row.dismissed for row in rows) and not saved,
        discovered_at_ms=min(_known(_discovered_ms(row) for row in rows), default=None),
        discovery_count=len(rows),
        ping_count=sum(row.ping_count or 0 for row in rows),
        sar_count=sum(row.sar_count or 0 for row in rows),
        sources=sorted({source for row in rows for source in (*(row.all_sources or ()), row.source) if source}),
        journey_ids=sorted({row.journey_id for row in rows if row.journey_id}),
        place_data=data,
        created_at_ms=min(_known(utc_ms(row.created_at) for row in rows), default=None),
        updated_at_ms=max(_known(utc_ms(row.updated_at) for row in rows), default=None),
    )
    return MergedPlace(place, _notes(rows, place))


def _surest_first(row: PlaceV2) -> tuple[bool, bool, int, str]:
    discovered_ms = _discovered_ms(row)
    return (not row.saved, discovered_ms is None, discovered_ms or 0, row.id)


def _discovered_ms(row: PlaceV2) -> int | None:
    discovered_ms = utc_ms(row.discovered_at)
    return utc_ms(row.created_at) if discovered_ms is None else discovered_ms


def _merged_data(rows: Sequence[PlaceV2]) -> dict[str, JsonValue]:
    data: dict[str, JsonValue] = {}
    for row in rows:
        for name, value in row.place_data.items():
            if data.get(name) is None:
                data[name] = without_secrets(value)
    return data


def _notes(rows: Sequence[PlaceV2], place: PlaceV3) -> tuple[str, ...]:
    was_at_zero = any(row.location is not None and real_position([row.location]) is None for row in rows)
    notes = {
        f"{len(rows)} discoveries became one place": len(rows) > 1,
        "it was both saved and dismissed: saved wins": place.saved and any(row.dismissed for row in rows),
        "its position 0, 0 was replaced by the one in its data": was_at_zero and place.latitude is not None,
        "its position 0, 0 was taken away: it is not known": was_at_zero and place.latitude is None,
    }
    return tuple(note for note, holds in notes.items() if holds)


def newer_dismissal(old: DismissedPlaceV2) -> DismissedPlaceV3:
    """The dismissed place with the end that the app never looked at: 30 days after, unless for ever.

    Raises Quarantine where it is for a time and neither its end nor its beginning can be read.
    """
    dismissed_at_ms, until_ms = utc_ms(old.dismissed_at), utc_ms(old.dismissed_until)
    if old.dismissed_forever or old.reason == "user_dismissed_forever":
        until_ms = None
    elif until_ms is None:
        if dismissed_at_ms is None:
            raise Quarantine("neither the beginning nor the end of the dismissal can be read", field="dismissed_at")
        until_ms = dismissed_at_ms + DISMISSAL_MS
    new = DismissedPlaceV3(
        user_id=old.user_id,
        id=old.id,
        place_id=old.place_id,
        dismissed_at_ms=dismissed_at_ms,
        dismissed_until_ms=until_ms,
        reason=old.reason,
        journey_id=old.journey_id,
        place_data=old.place_data,
    )
    back, present = _plainly_older_dismissal(new), _dismissal_counterparts(new)
    entries = {name: kept(was=getattr(old, name), became=present[name], back=getattr(back, name)) for name in present}
    return new.model_copy(update={"legacy": legacy_of(entries)})


def older_dismissal(new: DismissedPlaceV3) -> DismissedPlaceV2:
    """The dismissed place as version 2.0.0 had it."""
    back, present = _plainly_older_dismissal(new), _dismissal_counterparts(new)
    values = {
        name: restored(new.legacy, column=name, present=present[name], back=getattr(back, name)) for name in present
    }
    return DismissedPlaceV2.model_validate({**dict(back), **values})


def _plainly_older_dismissal(new: DismissedPlaceV3) -> DismissedPlaceV2:
    return DismissedPlaceV2(
        user_id=new.user_id,
        id=new.id,
        place_id=new.place_id,
        dismissed_at=None if new.dismissed_at_ms is None else iso_text(new.dismissed_at_ms),
        dismissed_until=None if new.dismissed_until_ms is None else iso_text(new.dismissed_until_ms),
        dismissed_forever=new.dismissed_until_ms is None,
        reason=new.reason,
        journey_id=new.journey_id,
        place_data=new.place_data,
    )


def _dismissal_counterparts(new: DismissedPlaceV3) -> dict[str, object]:
    return {
        "dismissed_at": new.dismissed_at_ms,
        "dismissed_until": new.dismissed_until_ms,
        "dismissed_forever": new.dismissed_until_ms,
    }


def _known(instants_ms: Iterable[int | None]) -> list[int]:
    return [instant for instant in instants_ms if instant is not None]


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value), None)
