"""What the app takes for granted in a profile, and which values it no longer knows."""

from pydantic import JsonValue

DISPLAY_NAME = "Hero Explorer"
PROFILE_PREFERENCES: dict[str, JsonValue] = {"notifications": True, "privacy": "public", "units": "metric"}
PROFILE_STATS: dict[str, JsonValue] = {"totalWalks": 0, "totalDistance": 0, "totalTime": 0, "discoveries": 0}

CREDITS_FULL = 50
CREDITS_MAX = 1_000_000
"""The app's own repair: more than this is a time that was written into the wrong field."""

THEMES = frozenset({"light", "dark", "auto"})
THEMES_NARROWED = {"adventure": "auto"}
"""The decoration `adventure` has no counterpart; with `auto` the device decides between light and dark."""

MAP_STYLES = frozenset({"default", "satellite", "terrain"})
MAP_STYLES_NARROWED = {"standard": "default", "night": "default", "adventure": "terrain"}
"""`standard` is called `default` now. `night` was that map in dark, and dark is now the theme's business. A walker
who chose `adventure` gets the map that shows the ground."""


def credits_left(value: object) -> int:
    """The credits, or the full 50 where the value is none: a timestamp, a number beyond all bounds, text."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= CREDITS_MAX:
        return CREDITS_FULL
    return int(value) if float(value).is_integer() else CREDITS_FULL


def theme(value: object) -> str:
    """light, dark or auto; auto for all that has no counterpart."""
    if isinstance(value, str) and value in THEMES:
        return value
    return THEMES_NARROWED.get(str(value), "auto")


def map_style(value: object) -> str:
    """default, satellite or terrain; default for all that has no counterpart."""
    if isinstance(value, str) and value in MAP_STYLES:
        return value
    return MAP_STYLES_NARROWED.get(str(value), "default")
