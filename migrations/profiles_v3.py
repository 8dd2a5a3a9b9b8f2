"""Profiles of version 2.0.0, repaired, in the shape of 3.0.0; and back."""

from typing import NamedTuple

from pydantic import JsonValue

from migrations.instants import iso_text, utc_ms
from migrations.legacy_values import kept, legacy_of, restored
from migrations.place_data import whole_number
from migrations.profile_defaults import (
    DISPLAY_NAME,
    PROFILE_PREFERENCES,
    PROFILE_STATS,
    credits_left,
    map_style,
    theme,
)
from migrations.shapes_v2 import ProfileV2
from migrations.shapes_v3 import Legacy, ProfileV3


class NewProfile(NamedTuple):
    """The row, and sentences about what was decided or repaired."""

    row: ProfileV3
    notes: tuple[str, ...]


def newer(old: ProfileV2) -> NewProfile:
    """The profile with nothing missing that the app reads, theme and map style among those that there are."""
    pings = old.ping_data or {}
    row = ProfileV3(
        user_id=old.user_id,
        id=old.id,
        email=old.email,
        display_name=DISPLAY_NAME if old.display_name is None else old.display_name,
        photo_url=old.photo_url,
        email_verified=bool(old.email_verified),
        last_sign_in_at_ms=utc_ms(old.last_sign_in_at),
        is_new_user=bool(old.is_new_user),
        bio=old.bio or "",
        location=old.location or "",
        preferences=_preferences(old.preferences),
        stats=_filled(old.stats, defaults=PROFILE_STATS),
        friends=old.friends or [],
        credits_remaining=credits_left(pings.get("creditsRemaining")),
        total_pings_used=max(0, whole_number(pings.get("totalPingsUsed")) or 0),
        last_ping_at_ms=utc_ms(pings.get("lastPingTime")),
        last_credit_reset_at_ms=utc_ms(pings.get("lastCreditReset")),
        migration_status=old.migration_status,
        created_at_ms=utc_ms(old.created_at),
        updated_at_ms=utc_ms(old.updated_at),
    )
    return NewProfile(row.model_copy(update={"legacy": _legacy(old, row)}), _notes(old, row))


def older(new: ProfileV3) -> ProfileV2:
    """The profile as version 2.0.0 had it; what was changed since is carried back."""
    plain = _plainly_older(new)
    values = {
        column: restored(new.legacy, column=column, present=present, back=getattr(plain, column))
        for column, present in _counterparts(new).items()
    }
    return ProfileV2.model_validate({**dict(plain), **values})


def _preferences(old: dict[str, JsonValue] | None) -> dict[str, JsonValue]:
    filled = _filled(old, defaults=PROFILE_PREFERENCES)
    return {**filled, "theme": theme(filled.get("theme")), "mapStyle": map_style(filled.get("mapStyle"))}


def _filled(old: dict[str, JsonValue] | None, *, defaults: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The old values, with defaults where there is none or null."""
    return {**defaults, **{name: value for name, value in (old or {}).items() if value is not None}}


def _plainly_older(new: ProfileV3) -> ProfileV2:
    # Not validated: `older` does that once, at its end, for the whole row.
    return ProfileV2.model_construct(
        user_id=new.user_id,
        id=new.id,
        email=new.email,
        display_name=new.display_name,
        photo_url=new.photo_url,
        email_verified=new.email_verified,
        last_sign_in_at=_text(new.last_sign_in_at_ms),
        is_new_user=new.is_new_user,
        bio=new.bio,
        location=new.location,
        preferences=new.preferences,
        stats=new.stats,
        friends=new.friends,
        ping_data={
            "creditsRemaining": new.credits_remaining,
            "totalPingsUsed": new.total_pings_used,
            "lastPingTime": new.last_ping_at_ms,
            "lastCreditReset": _text(new.last_credit_reset_at_ms),
        },
        migration_status=new.migration_status,
        created_at=_text(new.created_at_ms),
        updated_at=_text(new.updated_at_ms),
    )


def _counterparts(new: ProfileV3) -> dict[str, object]:
    """What stands in the newer row for each column of the older one whose value may have been changed."""
    pings = [new.credits_remaining, new.total_pings_used, new.last_ping_at_ms, new.last_credit_reset_at_ms]
    return {
        "display_name": new.display_name,
        "email_verified": new.email_verified,
        "last_sign_in_at": new.last_sign_in_at_ms,
        "is_new_user": new.is_new_user,
        "bio": new.bio,
        "location": new.location,
        "preferences": new.preferences,
        "stats": new.stats,
        "friends": new.friends,
        "ping_data": pings,
        "created_at": new.created_at_ms,
        "updated_at": new.updated_at_ms,
    }


def _legacy(old: ProfileV2, new: ProfileV3) -> Legacy:
    back = _plainly_older(new)
    return legacy_of(
        {
            column: kept(was=getattr(old, column), became=present, back=getattr(back, column))
            for column, present in _counterparts(new).items()
        }
    )


def _notes(old: ProfileV2, new: ProfileV3) -> tuple[str, ...]:
    chosen, pings = old.preferences or {}, old.ping_data or {}
    notes = {
        "its preferences were null and are the defaults now": old.preferences is None,
        "its ping credits were corrupt and are full now": "creditsRemaining" in pings
        and pings["creditsRemaining"] != new.credits_remaining,
        "its theme has no counterpart and is `auto` now": chosen.get("theme") not in (None, new.preferences["theme"]),
        "its map style got its nearest counterpart": chosen.get("mapStyle")
        not in (None, new.preferences["mapStyle"]),
    }
    return tuple(note for note, holds in notes.items() if holds)


def _text(instant_ms: int | None) -> str | None:
    return None if instant_ms is None else iso_text(instant_ms)
