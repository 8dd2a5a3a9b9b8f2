"""Settings as generation 0 kept them on the device, each under its own key and most as plain text."""

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import JsonValue

from migrations.profile_defaults import CREDITS_FULL, DISPLAY_NAME, PROFILE_PREFERENCES, PROFILE_STATS
from migrations.shapes_v2 import PreferencesV2, ProfileV2

LANGUAGE = "@user_language"
SHOW_SAVED_PLACES = "@show_saved_places"
MIN_RATING = "@discovery_min_rating"
DISMISSAL_PREFERENCE = "@dismissal_preference"
UI_THEME = "@user_ui_theme"
MAP_STYLE = "@user_map_style"
MAP_TUTORIAL_SEEN = "@map_tutorial_seen"
ONBOARDING_SHOWN = "@discovery_onboarding_shown"
ONBOARDING_SHOWN_OF_USER = "discoveries_onboarding_shown_"  # followed by the user's id: the later name
MIGRATION_COMPLETE_OF_USER = "migration_complete_"  # the app's own record, set whatever had happened: not believed

PLAIN_TEXT_KEYS = (
    LANGUAGE, SHOW_SAVED_PLACES, MIN_RATING, DISMISSAL_PREFERENCE,
    UI_THEME, MAP_STYLE, MAP_TUTORIAL_SEEN, ONBOARDING_SHOWN,
)  # fmt: skip
PLACE_TYPES = "@discovery_preferences"  # JSON
ARRAYS_OF_THE_APP = ("@explored_segments", "@background_location_data")  # JSON
WALKS_AND_PLACES = ("@saved_routes", "lastRoute", "savedPlaces", "dismissedPlaces")

DISMISSAL_PREFERENCES = frozenset({"forever", "30days", "ask"})
TRUTHS = {"true": True, "false": False, "1": True, "0": False}


class ReadSettings(NamedTuple):
    """The row, and sentences about what could not be read, naming keys and never values."""

    row: PreferencesV2
    notes: tuple[str, ...]


def text_keys_of(user: str) -> tuple[str, ...]:
    """The keys of plain text that are this user's."""
    return (*PLAIN_TEXT_KEYS, ONBOARDING_SHOWN_OF_USER + user)


def is_known(key: str) -> bool:
    """Did the app write this key in any of its versions?"""
    known = (*PLAIN_TEXT_KEYS, PLACE_TYPES, *ARRAYS_OF_THE_APP, *WALKS_AND_PLACES)
    return key in known or key.startswith((ONBOARDING_SHOWN_OF_USER, MIGRATION_COMPLETE_OF_USER))


def preferences_of(settings: Mapping[str, JsonValue], *, user: str) -> ReadSettings:
    """The preferences row from whichever keys are there.

    What the user never chose stays NULL, so that the app's defaults can change; what cannot be read is NULL and
    noted. `settings` holds texts, and under `@discovery_preferences` the parsed JSON.
    """
    enabled, disabled = place_types(settings.get(PLACE_TYPES))
    row = PreferencesV2(
        user_id=user,
        id="preferences",
        language=_text(settings.get(LANGUAGE)),
        show_saved_places=truth(settings.get(SHOW_SAVED_PLACES)),
        enabled_types=enabled,
        disabled_types=disabled,
        min_rating=rating(settings.get(MIN_RATING)),
        dismissal_preference=dismissal_preference(settings.get(DISMISSAL_PREFERENCE)),
        onboarding_shown=truth(settings.get(ONBOARDING_SHOWN_OF_USER + user, settings.get(ONBOARDING_SHOWN))),
        map_tutorial_seen=truth(settings.get(MAP_TUTORIAL_SEEN)),
    )
    read = {
        SHOW_SAVED_PLACES: row.show_saved_places,
        MIN_RATING: row.min_rating,
        DISMISSAL_PREFERENCE: row.dismissal_preference,
        MAP_TUTORIAL_SEEN: row.map_tutorial_seen,
    }
    unread = (key for key, value in read.items() if value is None and settings.get(key) is not None)
    return ReadSettings(row, tuple(f"`{key}` cannot be read; the app's default holds" for key in unread))


def profile_of(settings: Mapping[str, JsonValue], *, user: str) -> ProfileV2:
    """The profile of a user who had none: the app's defaults, with the theme and map style of the device."""
    chosen = {"theme": _text(settings.get(UI_THEME)), "mapStyle": _text(settings.get(MAP_STYLE))}
    return ProfileV2(
        user_id=user,
        id=user,
        display_name=DISPLAY_NAME,
        bio="",
        location="",
        preferences={**PROFILE_PREFERENCES, **{name: value for name, value in chosen.items() if value is not None}},
        stats=dict(PROFILE_STATS),
        friends=[],
        ping_data={"creditsRemaining": CREDITS_FULL, "totalPingsUsed": 0},
    )


def place_types(value: JsonValue) -> tuple[list[str], list[str]]:
    """(switched on, switched off), each sorted: only what was chosen, because the app's defaults changed twice.

    Reads `{type: choice}`, whose choices are also written as text or numbers, and the list of those switched on.
    """
    if isinstance(value, list):
        return sorted({name for name in value if isinstance(name, str)}), []
    if not isinstance(value, dict):
        return [], []
    chosen = {name: truth(choice) for name, choice in value.items()}
    return sorted(n for n, on in chosen.items() if on is True), sorted(n for n, on in chosen.items() if on is False)


def truth(value: JsonValue) -> bool | None:
    """True or False from themselves, from `true` and `false` as text, from 1 and 0; None for all else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return {1: True, 0: False}.get(value)
    return TRUTHS.get(value.strip().lower()) if isinstance(value, str) else None


def rating(value: JsonValue) -> float | None:
    """0.0 to 5.0 from text; None for all else. 0.0 is a choice: show everything."""
    try:
        number = float(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return number if number is not None and 0.0 <= number <= 5.0 else None


def dismissal_preference(value: JsonValue) -> str | None:
    """`forever`, `30days` or `ask`; None for all else."""
    return value if isinstance(value, str) and value in DISMISSAL_PREFERENCES else None


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) and value else None
