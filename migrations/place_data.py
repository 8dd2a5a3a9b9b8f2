"""What the Places API said of a place, in the forms of its old and its new edition, made into one."""

from collections.abc import Iterable, Mapping

from pydantic import JsonValue

from migrations.geometry import Position, is_null_island, position_in

SECRET_PARAMETERS = frozenset({"key", "api_key", "apikey", "access_token", "token", "signature"})
"""Query parameters of a picture's address that open the app's own account."""

PRICE_LEVELS = {
    # developers.google.com/maps/documentation/places/web-service/reference/rest/v1/places#PriceLevel,
    # in the order of the old API's numbers 0 to 4.
    "PRICE_LEVEL_FREE": 0,
    "PRICE_LEVEL_INEXPENSIVE": 1,
    "PRICE_LEVEL_MODERATE": 2,
    "PRICE_LEVEL_EXPENSIVE": 3,
    "PRICE_LEVEL_VERY_EXPENSIVE": 4,
}


def without_secrets(value: JsonValue) -> JsonValue:
    """The same value, however deep, with API keys taken out of each web address in it."""
    if isinstance(value, str):
        return without_secret_parameters(value) if "?" in value else value
    if isinstance(value, list):
        return [without_secrets(element) for element in value]
    if isinstance(value, dict):
        return {name: without_secrets(element) for name, element in value.items()}
    return value


def without_secret_parameters(address: str) -> str:
    """The web address without the parameters that are secret; all else letter by letter as it was."""
    if not address.lower().startswith(("http://", "https://")):
        return address
    page, question, rest = address.partition("?")
    if not question:
        return address
    query, mark, fragment = rest.partition("#")
    kept = [part for part in query.split("&") if part.partition("=")[0].lower() not in SECRET_PARAMETERS]
    return page + ("?" + "&".join(kept) if kept else "") + mark + fragment


def category_text(value: object) -> str | None:
    """The category: the text itself, or the `text` of the new API's `{text, languageCode}`."""
    if isinstance(value, Mapping):
        value = value.get("text")
    return value if isinstance(value, str) and value else None


def price_level(value: object) -> int | None:
    """0 (free) to 4 (very expensive), from the old API's number or the new one's word; None where it is neither."""
    if isinstance(value, str):
        return PRICE_LEVELS.get(value)
    number = whole_number(value)
    return number if number is not None and 0 <= number <= 4 else None


def real_position(candidates: Iterable[object]) -> Position | None:
    """The first candidate that is a position other than 0, 0.

    A ping kept its places' coordinates under other names than the code that read them, which then wrote 0, 0.
    """
    for candidate in candidates:
        position = position_in(candidate)
        if position is not None and not is_null_island(position):
            return position
    return None


def positions_of(place: Mapping[str, JsonValue]) -> tuple[object, ...]:
    """Where a place's data may hold its position, surest first."""
    geometry = place.get("geometry")
    nested = geometry.get("location") if isinstance(geometry, Mapping) else None
    return (place, place.get("location"), nested)


def text(value: object) -> str | None:
    """The value if it is a text with something in it."""
    return value if isinstance(value, str) and value else None


def number(value: object) -> float | None:
    """The value if it is a number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def whole_number(value: object) -> int | None:
    """The value if it is a number without a fraction."""
    found = number(value)
    return int(found) if found is not None and found.is_integer() else None


def texts(value: object) -> list[str]:
    """The texts in the value if it is a list, in order."""
    return [element for element in value if isinstance(element, str)] if isinstance(value, list) else []
