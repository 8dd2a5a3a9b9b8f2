"""A row of a table to a row model and back: JSON columns parsed, booleans from 0 and 1, the rest as it is."""

import base64
import math
import types
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from syncengine.local.whole_row import row_as_json

_SCALARS = (str, int, float, bool, bytes)

ColumnValue = str | int | float | bytes | None


class RowCodec:
    """Between a frozen pydantic model and the columns of the same names.

    A field whose type is no str, int, float, bool or bytes is kept as JSON text.
    """

    def __init__(self, model: type[BaseModel]) -> None:
        self.model = model
        self.columns: tuple[str, ...] = tuple(model.model_fields)
        kinds = {name: _kind(field.annotation) for name, field in model.model_fields.items()}
        self._json = frozenset(name for name, kind in kinds.items() if kind == "json")
        self._bool = frozenset(name for name, kind in kinds.items() if kind == "bool")
        self.json_columns = self._json
        """Columns that hold JSON text."""
        self._rows: TypeAdapter[list[Any]] = TypeAdapter(list[model])  # type: ignore[valid-type]  # model is a value

    def decode(self, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Models for rows of `columns`. Raises ValidationError, whose first place is the row's number."""
        return self._rows.validate_python([self._plain(row) for row in rows])

    def plain_value(self, column: str, value: Any) -> Any:
        """One column's value as the model reads it."""
        if column in self._json and isinstance(value, str):
            return _parsed(value)
        return bool(value) if column in self._bool and value in (0, 1) else value

    def _plain(self, row: Sequence[Any]) -> dict[str, Any]:
        plain = dict(zip(self.columns, row, strict=True))
        for name in self._json:
            if isinstance(plain[name], str):
                plain[name] = _parsed(plain[name])
        for name in self._bool:
            if plain[name] in (0, 1):
                plain[name] = bool(plain[name])
        return plain

    def encode(self, row: BaseModel) -> tuple[ColumnValue, ...]:
        """The column values of a model, in the order of `columns`."""
        values = row.__dict__
        return tuple(
            _json_text(values[name]) if name in self._json else _scalar(values[name]) for name in self.columns
        )


_codecs: dict[type[BaseModel], RowCodec] = {}


def codec_of(model: type[BaseModel]) -> RowCodec:
    """The codec of a model, made once."""
    codec = _codecs.get(model)
    if codec is None:
        codec = _codecs[model] = RowCodec(model)
    return codec


def encode_mapping(row: Mapping[str, Any]) -> dict[str, ColumnValue]:
    """Column values of a plain mapping: lists and mappings become JSON text."""
    return {
        name: _json_text(value) if isinstance(value, list | tuple | dict | BaseModel) else _scalar(value)
        for name, value in row.items()
    }


def why_invalid(error: ValidationError) -> tuple[str, str]:
    """What is wrong, and the path of the field; without the value, so that it may be logged.

    The message of an app's own validator may quote the value: it is replaced.
    """
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    own = first["type"] in ("value_error", "assertion_error")
    text = "Value breaks the shape's own rule" if own else first["msg"]
    return text, ".".join(str(part) for part in first["loc"])


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if hasattr(annotation, "__supertype__"):  # a NewType
        return _kind(annotation.__supertype__)
    if isinstance(annotation, types.UnionType) or get_origin(annotation) is Union:
        kinds = {_kind(part) for part in get_args(annotation) if part is not type(None)}
        if len(kinds) == 1:
            return kinds.pop()
        return "json" if "json" in kinds else "scalar"
    if get_origin(annotation) is Literal:
        return "scalar"
    if isinstance(annotation, type) and issubclass(annotation, bool):
        return "bool"
    if isinstance(annotation, type) and issubclass(annotation, (*_SCALARS, Enum)):
        return "scalar"
    return "json"


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # Left as text: validation then names the field and refuses it.
        return text


def _json_text(value: Any) -> str | None:
    if value is None:
        return None
    text = _dump(value)
    # JSON has no word for them, and orjson writes null: a value would be lost without a sign.
    if b"null" in text and _has_unwritable_number(value):
        raise ValueError("a number that is not finite cannot be kept as JSON")
    return text.decode()


def _has_unwritable_number(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, BaseModel):
        value = value.__dict__
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return False
    return any(map(_has_unwritable_number, value))


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, default=_plain_object)


def _plain_object(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, bytes):
        return {"$blob": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} cannot be kept as JSON")


def _scalar(value: Any) -> ColumnValue:
    if isinstance(value, Enum):
        return _scalar(value.value)
    if isinstance(value, bool):
        return int(value)
    if value is None or isinstance(value, _SCALARS):
        return value
    raise TypeError(f"{type(value).__name__} cannot be kept in a column")


__all__ = ["ColumnValue", "RowCodec", "codec_of", "encode_mapping", "row_as_json", "why_invalid"]
