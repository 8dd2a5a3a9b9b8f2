"""What a newer shape says in another way, kept so that the way back gives exactly what was there."""

from collections.abc import Mapping
from typing import cast

from pydantic import JsonValue


def kept(*, was: object, became: object, back: object) -> dict[str, JsonValue] | None:
    """What to keep of a value: nothing where the way back finds it by itself."""
    return None if back == was else cast(dict[str, JsonValue], {"was": was, "became": became})


def legacy_of(values: Mapping[str, dict[str, JsonValue] | None]) -> dict[str, JsonValue]:
    """The legacy column, by column of the older shape, without those that need nothing kept."""
    return {name: entry for name, entry in values.items() if entry is not None}


def restored(legacy: Mapping[str, JsonValue], *, column: str, present: object, back: object) -> object:
    """The older value: the one that was there, unless it was changed since; then what the way back makes of it."""
    entry = legacy.get(column)
    if not isinstance(entry, dict) or entry["became"] != present:
        return back
    return entry["was"]
