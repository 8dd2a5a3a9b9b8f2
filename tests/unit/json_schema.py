"""Does a value fit a JSON Schema of ours? As much of JSON Schema 2020-12 as the published description uses."""

import re
from collections.abc import Iterator
from typing import Any

from syncengine.server.openapi import schemas

SCHEMAS = schemas()
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
KNOWN = {
    "$ref", "additionalProperties", "anyOf", "const", "default", "description", "enum", "items", "maxLength",
    "maximum", "minLength", "minimum", "pattern", "properties", "required", "title", "type",
}  # fmt: skip


def schema_faults(value: Any, schema: dict[str, Any], place: str = "$") -> list[str]:
    """Where the value does not fit; an unknown word in the schema is a fault, too."""
    return list(_faults(value, schema, place))


def _faults(value: Any, schema: dict[str, Any], place: str) -> Iterator[str]:
    if schema.keys() - KNOWN:
        yield f"{place}: the schema says {sorted(schema.keys() - KNOWN)}"
    if "$ref" in schema:
        yield from _faults(value, SCHEMAS[schema["$ref"].rpartition("/")[2]], place)
    if "anyOf" in schema and all(schema_faults(value, each, place) for each in schema["anyOf"]):
        yield f"{place}: fits none of several"
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        yield f"{place}: not one of those named"
    kinds = TYPES.get(schema.get("type", ""), (object,))
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds and object not in kinds):
        yield f"{place}: not {schema['type']}"
        return
    yield from _inner_faults(value, schema, place)


def _inner_faults(value: Any, schema: dict[str, Any], place: str) -> Iterator[str]:
    if isinstance(value, dict):
        yield from _object_faults(value, schema, place)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _faults(each, schema.get("items", {}), f"{place}[{number}]")
    elif isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            yield f"{place}: too short or too long"
        # Python knows no \\P{Cc}; of the ASCII characters it is the same.
        pattern = schema.get("pattern", "").replace(r"\P{Cc}", r"[^\x00-\x1f\x7f]")
        if not re.search(pattern, value):
            yield f"{place}: does not match"
    elif isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{place}: too small or too large"


def _object_faults(value: dict[str, Any], schema: dict[str, Any], place: str) -> Iterator[str]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    yield from (f"{place}: lacks {name}" for name in schema.get("required", ()) if name not in value)
    for name, each in value.items():
        if name in properties:
            yield from _faults(each, properties[name], f"{place}.{name}")
        elif others is False:
            yield f"{place}: {name} is unknown"
        elif isinstance(others, dict):
            yield from _faults(each, others, f"{place}.{name}")
