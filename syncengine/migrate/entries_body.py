"""The values that a queued entry carries, as columns keep them, and as JSON again."""

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

Values = dict[str, Any]
"""Column values by name: of a whole row but its owner, or of what has changed."""


def values_of(body: bytes | str | None) -> Values | None:
    """The column values in an entry's JSON; None where there is none. Raises ValueError for what is no object.

    Text that is not UTF-8 is bytes among them.
    """
    if body is None:
        return None
    found = parsed(body)
    if not isinstance(found, dict):
        raise ValueError("no object")  # noqa: TRY004  (what is asked of the caller is one kind of error)
    return column_values(found)


def parsed(body: bytes | str) -> Any:
    """What an entry's JSON says. Raises ValueError."""
    if isinstance(body, str):
        return json.loads(body)
    # SQLite keeps text as it is given; what is not UTF-8 is half surrogates meanwhile (PEP 383).
    return json.loads(body.decode("utf-8", "surrogateescape"))


def readable_json(body: bytes | None) -> str | None:
    """The same JSON, with text that is not UTF-8 as a blob. Broken JSON is a text."""
    if body is None:
        return None
    try:
        return json_text(_readable(parsed(body)))
    except (ValueError, RecursionError):
        return json_text(body.decode("utf-8", "backslashreplace"))


def _readable(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _readable(value) for name, value in found.items()}
    if isinstance(found, list):
        return [_readable(value) for value in found]
    return _text_or_bytes(found) if isinstance(found, str) else found


def is_utf8(*bodies: bytes | str | None) -> bool:
    """False where a text could not be read as such."""
    try:
        for body in bodies:
            if isinstance(body, bytes):
                body.decode()
    except UnicodeDecodeError:
        return False
    return True


def column_values(found: Mapping[str, Any]) -> Values:
    """The same of a parsed object."""
    return {name: _column_value(value) for name, value in found.items()}


def json_of(values: Mapping[str, Any] | None) -> str | None:
    """Column values as an entry carries them: numbers bit for bit, blobs as `{"$blob": "<base64>"}`."""
    return None if values is None else json_text(values)


def json_text(found: Any) -> str:
    """JSON text of anything that is made of column values."""
    try:
        return _dumped(found)
    except ValueError:  # a number that is not finite, somewhere
        return _dumped(_sayable(found))


def _dumped(found: Any) -> str:
    text = json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_blob)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can say
        return json.dumps(found, allow_nan=False, separators=(",", ":"), default=_blob)
    return text


def _blob(value: Any) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"$blob": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} is no column's value")


def _sayable(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _sayable(value) for name, value in found.items()}
    if isinstance(found, list):
        return [_sayable(value) for value in found]
    if isinstance(found, float) and not math.isfinite(found):
        return {"$real": repr(found)}
    return found


def _column_value(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, dict):
        return _marked_value(value)
    if isinstance(value, str):
        return value if value.isascii() else _text_or_bytes(value)
    return _said(value) if isinstance(value, list) else value


def _text_or_bytes(value: str) -> str | bytes:
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape")
    return value


def _marked_value(value: dict[str, Any]) -> Any:
    if value.keys() == {"$blob"}:
        return base64.b64decode(value["$blob"])
    if value.keys() == {"$hex"}:
        return bytes.fromhex(value["$hex"])
    if value.keys() == {"$real"}:
        return float(value["$real"])
    return _said(value)


def _said(value: Any) -> str:
    """JSON in a column is text; of what came from a JSON function a trigger may have written the JSON itself."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
