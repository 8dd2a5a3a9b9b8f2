"""Walks of version 2.0.0, in all variants that the app wrote, in the one shape of 3.0.0; and back.

The variant is seen row by row: the oldest rows have start_location and no times, later ones have times on each
point, and those that the app's own migration wrote have no route at all.
"""

from typing import NamedTuple

from migrations.durations import Duration, duration_of
from migrations.instants import iso_text, utc_ms
from migrations.legacy_values import kept, legacy_of, restored
from migrations.routes import metres, repaired, times_of
from migrations.shapes_v2 import JourneyV2
from migrations.shapes_v3 import JourneyV3, Legacy

NAME = "Walk"
STATUSES = frozenset({"completed", "in_progress"})
MILLISECONDS = 1_000


class NewJourney(NamedTuple):
    """The row, and sentences about what was decided or repaired."""

    row: JourneyV3
    notes: tuple[str, ...]


def newer(old: JourneyV2) -> NewJourney:
    """The walk with one unit each: metres, seconds, milliseconds since 1970 UTC.

    Raises Quarantine where more than a tenth of the points has no position.
    """
    route = repaired(old.route)
    first_ms, last_ms = times_of(route.points)
    start_ms = first_ms if old.start_time is None else old.start_time
    end_ms = last_ms if old.end_time is None else old.end_time
    distance_m = metres(old.distance, along=route.length_m)
    span_ms = _span(first_ms, last_ms) or _span(old.start_time, old.end_time)
    duration = duration_of(old.duration, span_ms=span_ms, distance_m=distance_m)
    row = JourneyV3(
        user_id=old.user_id,
        id=old.id,
        name=old.name or NAME,
        start_time_ms=start_ms,
        end_time_ms=end_ms,
        date_known=old.date_known,
        route=route.points,
        distance_m=distance_m,
        duration_s=duration.seconds,
        status=old.status if old.status in STATUSES else "completed",
        is_completed=bool(old.is_completed),
        reviewed_discoveries_count=old.reviewed_discoveries_count or 0,
        total_discoveries_count=old.total_discoveries_count or 0,
        completion_percentage=old.completion_percentage or 0,
        last_status_update_ms=utc_ms(old.last_status_update),
        is_deleted=old.is_deleted,
        deleted_at_ms=utc_ms(old.deleted_at),
        created_at_ms=utc_ms(old.created_at),
        updated_at_ms=utc_ms(old.updated_at),
    )
    return NewJourney(row.model_copy(update={"legacy": _legacy(old, row)}), _notes(old, row, duration))


def older(new: JourneyV3) -> JourneyV2:
    """The walk as version 2.0.0 had it; what was changed since is carried back in the app's own units."""
    plain = _plainly_older(new)
    values = {
        column: restored(new.legacy, column=column, present=present, back=getattr(plain, column))
        for column, present in _counterparts(new).items()
    }
    return JourneyV2.model_validate({**dict(plain), **values})


def _plainly_older(new: JourneyV3) -> JourneyV2:
    # Not validated: `older` does that once, at its end, for the whole row.
    return JourneyV2.model_construct(
        user_id=new.user_id,
        id=new.id,
        name=new.name,
        start_time=new.start_time_ms,
        end_time=new.end_time_ms,
        date_known=new.date_known,
        route=new.route,
        distance=new.distance_m,
        duration=None if new.duration_s is None else round(new.duration_s * MILLISECONDS, 3),
        status=new.status,
        is_completed=new.is_completed,
        reviewed_discoveries_count=new.reviewed_discoveries_count,
        total_discoveries_count=new.total_discoveries_count,
        completion_percentage=new.completion_percentage,
        last_status_update=_text(new.last_status_update_ms),
        is_deleted=new.is_deleted,
        deleted_at=_text(new.deleted_at_ms),
        created_at=_text(new.created_at_ms),
        updated_at=_text(new.updated_at_ms),
    )


def _counterparts(new: JourneyV3) -> dict[str, object]:
    """What stands in the newer row for each column of the older one whose value may have been changed."""
    return {
        "name": new.name,
        "start_time": new.start_time_ms,
        "end_time": new.end_time_ms,
        "route": new.route,
        "distance": new.distance_m,
        "duration": new.duration_s,
        "start_location": None,
        "end_location": None,
        "status": new.status,
        "is_completed": new.is_completed,
        "reviewed_discoveries_count": new.reviewed_discoveries_count,
        "total_discoveries_count": new.total_discoveries_count,
        "completion_percentage": new.completion_percentage,
        "last_status_update": new.last_status_update_ms,
        "deleted_at": new.deleted_at_ms,
        "created_at": new.created_at_ms,
        "updated_at": new.updated_at_ms,
    }


def _legacy(old: JourneyV2, new: JourneyV3) -> Legacy:
    back = _plainly_older(new)
    return legacy_of(
        {
            column: kept(was=getattr(old, column), became=present, back=getattr(back, column))
            for column, present in _counterparts(new).items()
        }
    )


def _notes(old: JourneyV2, new: JourneyV3, duration: Duration) -> tuple[str, ...]:
    left_out = len(old.route) - len(new.route)
    notes = {
        f"duration decided: {duration.rule}": duration.is_repair,
        f"{left_out} of {len(old.route)} points had no position and were left out": left_out > 0,
        "distance was in kilometres": bool(old.distance and new.distance_m == old.distance * 1_000),
        "it has no route; name and dates were kept": not new.route,
    }
    return tuple(note for note, holds in notes.items() if holds)


def _span(start_ms: int | None, end_ms: int | None) -> int | None:
    return None if start_ms is None or end_ms is None or end_ms <= start_ms else end_ms - start_ms


def _text(instant_ms: int | None) -> str | None:
    return None if instant_ms is None else iso_text(instant_ms)
