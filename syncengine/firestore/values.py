"""Row bodies as Firestore's typed values and back, exactly. Pure.

The shapes are those of `google.firestore.v1.Value`; sizes are counted as Firestore's documentation does in "Storage
size calculations".
"""

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any

import orjson

from syncengine.remote.wire import Document

Value = dict[str, Any]
Fields = dict[str, Value]

META = "_sync"
"""The one field of a row's document that is ours and not the app's."""

NATIVE_BYTES_MAX = 1_000_000
"""By Firestore's count; a document may have 1,048,576 with its name and what is ours."""
ENCODED_BYTES_MAX = 1_200_000
"""Of the typed JSON: lists of small numbers grow tenfold in it, and a commit has to hold at least one row."""
NATIVE_LEAVES_MAX = 10_000
"""A document has at most 40,000 index entries, and a leaf has up to three."""
DEPTH_MAX = 18
"""Maps and lists nest at most 20 deep; two are around ours."""
FIELD_NAME_BYTES_MAX = 1_500

_BLOB = "$blob"


class NotNative(ValueError):
    """A value that Firestore's types cannot hold so that it comes back exactly."""


def native_fields(body: Document) -> Fields | None:
    """A body as typed fields, which other programs can read; None where it would not come back as it is."""
    try:
        fields = {_checked_name(name, is_top=True): encoded(value, depth=1) for name, value in body.items()}
    except NotNative:
        return None
    counted = size_bytes({"mapValue": {"fields": fields}})
    if counted > NATIVE_BYTES_MAX or _leaves(fields) > NATIVE_LEAVES_MAX:
        return None
    return fields if len(orjson.dumps(fields)) <= ENCODED_BYTES_MAX else None


def body_of(fields: Mapping[str, Value]) -> Document:
    """What `native_fields` was made of; what other programs wrote comes in the nearest JSON."""
    return {name: decoded(value) for name, value in fields.items() if name != META}


def encoded(value: object, *, depth: int = 0) -> Value:
    """One JSON value. Raises NotNative."""
    if depth > DEPTH_MAX:
        raise NotNative("it nests too deep")
    match value:
        case None:
            return {"nullValue": None}
        case bool():
            return {"booleanValue": value}
        case int():
            return {"integerValue": str(value)}
        case float():
            return _double(value)
        case str():
            return {"stringValue": value}
        case list() | tuple():
            return _list(list(value), depth=depth)
        case dict():
            return _map(value, depth=depth)
        case _:
            raise NotNative("it is no JSON")


def decoded(value: Value) -> Any:
    """One typed value as JSON. Raises NotNative for what is no value."""
    for kind, content in value.items():
        match kind:
            case "nullValue":
                return None
            case "integerValue":
                return int(content)
            case "doubleValue":
                return _finite(float(content))
            case "bytesValue":
                return {_BLOB: content}
            case "arrayValue":
                return [decoded(each) for each in content.get("values", ())]
            case "mapValue":
                return {name: decoded(each) for name, each in content.get("fields", {}).items()}
            case "booleanValue" | "stringValue" | "timestampValue" | "referenceValue" | "geoPointValue":
                return content
    raise NotNative("it has no type that is known here")


def size_bytes(value: Value) -> int:
    """How Firestore counts it against a document's limit."""
    (kind, content), *_ = value.items()
    match kind:
        case "stringValue" | "referenceValue":
            return len(content.encode()) + 1
        case "bytesValue":
            return len(content) * 3 // 4
        case "arrayValue":
            return sum(map(size_bytes, content.get("values", ())))
        case "mapValue":
            fields = content.get("fields", {})
            return 32 + sum(len(name.encode()) + 1 + size_bytes(each) for name, each in fields.items())
        case "nullValue" | "booleanValue":
            return 1
        case _:
            return 8


def _double(value: float) -> Value:
    # The sign of -0.0 is lost on the way.
    if not math.isfinite(value) or (value == 0 and math.copysign(1, value) < 0):
        raise NotNative("a number would change")
    return {"doubleValue": value}


def _finite(number: float) -> float | None:
    """Another program may write NaN, which JSON has not."""
    return number if math.isfinite(number) else None


def _list(values: list[Any], *, depth: int) -> Value:
    if any(isinstance(each, list | tuple) for each in values):
        raise NotNative("a list lies directly in a list")
    return {"arrayValue": {"values": [encoded(each, depth=depth + 1) for each in values]}}


def _map(value: dict[str, Any], *, depth: int) -> Value:
    if value.keys() == {_BLOB} and _is_base64(value[_BLOB]):
        return {"bytesValue": value[_BLOB]}
    return {
        "mapValue": {"fields": {_checked_name(name): encoded(each, depth=depth + 1) for name, each in value.items()}}
    }


def _is_base64(text: object) -> bool:
    """Whether it is bytes in the one way in which they come back."""
    try:
        return isinstance(text, str) and base64.b64encode(base64.b64decode(text, validate=True)).decode() == text
    except (binascii.Error, ValueError):
        return False


def _checked_name(name: str, *, is_top: bool = False) -> str:
    is_reserved = name.startswith("__") and name.endswith("__")
    if not name or is_reserved or len(name.encode()) > FIELD_NAME_BYTES_MAX or (is_top and name == META):
        raise NotNative("a field's name is reserved")
    return name


def _leaves(fields: Mapping[str, Value]) -> int:
    found = 0
    unseen = list(fields.values())
    while unseen:
        value = unseen.pop()
        below = [
            *value.get("arrayValue", {}).get("values", ()),
            *value.get("mapValue", {}).get("fields", {}).values(),
        ]
        found += not below
        unseen += below
    return found
