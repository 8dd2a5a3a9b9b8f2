"""A whole stored row as text, for quarantine."""

import base64
import math
from collections.abc import Sequence
from typing import Any

import orjson


def row_as_json(columns: Sequence[str], row: Sequence[Any]) -> str:
    """A row as JSON text; bytes as {"$blob": base64}, numbers that JSON has no word for as {"$real": "inf"}."""
    return orjson.dumps({name: _plain(value) for name, value in zip(columns, row, strict=True)}).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$blob": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$real": repr(value)}
    return value
