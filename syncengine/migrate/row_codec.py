"""A row of a table to a row model and back: JSON columns parsed, booleans from 0 and 1, the rest as it is."""

import base64
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import cache
from itertools import chain
from operator import itemgetter
from sys import intern
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import orjson

from syncengine.local.whole_row import row_as_json

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from syncengine.local.store import Row
    from syncengine.migrate.row_function import RowShape

_SCALARS = (str, int, float, bool, bytes)
_KEPT_AS_THEY_ARE = frozenset({*_SCALARS, type(None)})
"""apsw binds True as 1. Enums are not among them, whatever they are made of."""

ColumnValue = str | int | float | bytes | None


class RowCodec:
    """Between a frozen pydantic model and the columns of the same names.

    A field whose type is no str, int, float, bool or bytes is kept as JSON text.
    """

    def __init__(self, model: "type[BaseModel]") -> None:
        from pydantic import TypeAdapter

        self.model = self.row_type = model
        self.name = model.__name__
        self.columns: tuple[str, ...] = tuple(model.model_fields)
        kinds = column_kinds({name: field.annotation for name, field in model.model_fields.items()})
        self._json = frozenset(name for name, kind in kinds.items() if kind == "json")
        self._bool = frozenset(name for name, kind in kinds.items() if kind == "bool")
        self._values = values_of(self.columns)
        self._json_places = [self.columns.index(name) for name in self._json]
        self.json_columns = self._json
        """Columns that hold JSON text."""
        self._rows: TypeAdapter[list[Any]] = TypeAdapter(list[model])  # type: ignore[valid-type]  # model is a value

    def decode(self, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Models for rows of `columns`. Raises ValidationError, whose first place is the row's number."""
        plain = list(as_dicts(self.columns, rows))
        for name in self._json:
            for row in plain:
                if isinstance(row[name], str):
                    row[name] = json_or_text(row[name])
        for name in self._bool:
            for row in plain:
                if row[name] in (0, 1):
                    row[name] = bool(row[name])
        return self._rows.validate_python(plain)

    def plain_value(self, column: str, value: Any) -> Any:
        """One column's value as the model reads it."""
        if column in self._json and isinstance(value, str):
            return json_or_text(value)
        return bool(value) if column in self._bool and value in (0, 1) else value

    def encode(self, row: "BaseModel") -> tuple[ColumnValue, ...]:
        """The column values of a model, in the order of `columns`."""
        return self.encode_rows([row])[0]

    def encode_rows(self, rows: "Sequence[BaseModel]") -> list[tuple[ColumnValue, ...]]:
        """The same for many models."""
        values = [self._values(row.__dict__) for row in rows]
        return columns_encoded(values, json_places=self._json_places, other=_scalar)

    def made_by(
        self, function: Callable[[Any], Any], rows: "Sequence[Row]", *, reading: "RowShape"
    ) -> list[tuple[ColumnValue, ...]] | None:
        """The columns of what a function makes of each row; None where that is not one model each.

        What cannot be stored may be among them: then the insert raises TypeError.
        """
        values, model = self._values, self.model
        # No model outlives its turn: a thousand of them would keep Python's garbage collector busy.
        made = [values(one.__dict__) for row in reading.decode(rows) if type(one := function(row)) is model]
        if len(made) != len(rows):
            return None
        return columns_encoded(made, json_places=self._json_places, other=_scalar, trusting=True)


_codecs: "dict[type[BaseModel], RowCodec]" = {}


def codec_of(model: "type[BaseModel]") -> RowCodec:
    """The codec of a model, made once."""
    codec = _codecs.get(model)
    if codec is None:
        codec = _codecs[model] = RowCodec(model)
    return codec


def values_of(columns: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """A function that takes the values of these names out of a mapping, in this order."""
    if len(columns) > 1:
        # The very strings that the author's dicts have as keys: nothing else is as quickly found to be the same.
        return itemgetter(*map(intern, columns))
    return lambda row: tuple(row[name] for name in columns)


def as_dicts(columns: tuple[str, ...], rows: Sequence[Sequence[Any]]) -> Iterable[dict[str, Any]]:
    """Each row by the names of its columns, one at a time."""
    return _dicts_of(columns)(rows)


@cache
def _dicts_of(columns: tuple[str, ...]) -> Callable[[Sequence[Sequence[Any]]], Iterable[dict[str, Any]]]:
    row, display = dict_display(columns)
    made: Callable[[Sequence[Sequence[Any]]], Iterable[dict[str, Any]]] = eval(  # noqa: S307  (see dict_display)
        f"lambda rows: ({display} for {row} in rows)", {"__builtins__": {}}
    )
    return made


def dict_display(columns: tuple[str, ...]) -> tuple[str, str]:
    """A row's values by name and the dict of them, as an author would write it: four times as fast as dict(zip(...)).

    Both are Python made of numbers and of the repr of strings alone.
    """
    names = [f"v{number}" for number in range(len(columns))]
    pairs = ", ".join(f"{column!r}: {name}" for column, name in zip(columns, names, strict=True))
    return f"({', '.join(names)},)", f"{{{pairs}}}"


def columns_encoded(
    rows: list[tuple[Any, ...]],
    *,
    json_places: Sequence[int],
    other: Callable[[Any], ColumnValue],
    trusting: bool = False,
) -> list[tuple[ColumnValue, ...]]:
    """Values as columns keep them: those of `json_places` as JSON text, bools as 0 and 1, what is odd by `other`.

    `trusting` takes it that nothing is odd; SQLite's library raises TypeError for most of what is.
    """
    if not json_places and (trusting or set(map(type, chain.from_iterable(rows))) <= _KEPT_AS_THEY_ARE):
        return rows
    # A column at a time, because most need nothing at all.
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    for place, values in enumerate(columns):
        if place in json_places:
            columns[place] = list(map(_json_text, values))
        elif not trusting and not set(map(type, values)) <= _KEPT_AS_THEY_ARE:
            columns[place] = list(map(other, values))
    return list(zip(*columns, strict=True))


def scalar_or_json(value: Any) -> ColumnValue:
    """A value as a column keeps it: lists and mappings as JSON text."""
    if type(value) in _KEPT_AS_THEY_ARE:
        return _scalar(value)
    return _json_text(value) if isinstance(value, list | tuple | dict) or _is_model(value) else _scalar(value)


def _is_model(value: Any) -> bool:
    from pydantic import BaseModel  # most migrations have none

    return isinstance(value, BaseModel)


def column_kinds(hints: Mapping[str, Any]) -> dict[str, str]:
    """Of each field by its type hint: "json", "bool" or "scalar"."""
    return {name: _kind(hint) for name, hint in hints.items()}


def encode_mapping(row: Mapping[str, Any]) -> dict[str, ColumnValue]:
    """Column values of a plain mapping: lists and mappings become JSON text."""
    return {name: scalar_or_json(value) for name, value in row.items()}


def why_invalid(error: "ValidationError") -> tuple[str, str]:
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


def json_or_text(text: str) -> Any:
    """What a JSON text says; a text that is none as it is."""
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
    if _is_model(value):
        value = value.__dict__
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return False
    return any(map(_has_unwritable_number, value))


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, default=_plain_object)


def _plain_object(value: Any) -> Any:
    if _is_model(value):
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
