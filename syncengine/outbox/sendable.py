"""Can an entry ever be sent? By the protocol's own rules; pure, and what it says holds no contents."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import orjson

from syncengine.outbox.entry import Entry, Kind

KEY_BYTES_MAX = 1_024
"""The protocol's: a longer key is `bad_key`."""
BODY_DEPTH_MAX = 60
"""The protocol refuses more than 64 levels of JSON; four of them are around a body."""
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1

_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_TEXT = re.compile("\x1a(X'|[-0-9])")
"""As capture marks a key that is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why an entry can never be sent: a word for programs, a sentence for people."""

    code: str
    why: str


BAD_KEY = Fault(
    code="bad_key", why=f"its key is empty, longer than {KEY_BYTES_MAX} bytes, or holds control characters"
)
KEY_IS_NO_TEXT = Fault(
    code="key_is_no_text",
    why="its key is a BLOB, or a number that no text finds in a column of its type, and the cloud tells rows by "
    "text; give it a text as key, in a column TEXT NOT NULL",
)
KEY_IS_SHARED = Fault(
    code="key_is_shared",
    why="another row of its user has the same key, and the cloud would keep one of them; give each a key of its own, "
    "retry this item, and give the table PRIMARY KEY (owner, key)",
)
KEY_NOT_UTF8 = Fault(code="key_not_utf8", why="its key is not UTF-8; the row is where it was")
TEXT_NOT_UTF8 = Fault(code="text_not_utf8", why="a text of the row is not UTF-8")
TEXT_HOLDS_NUL = Fault(code="text_holds_nul", why="a text of the row holds the character NUL")
NO_OBJECT = Fault(code="bad_value", why="its body is not a JSON object")
TOO_DEEP = Fault(code="bad_value", why=f"its body nests deeper than {BODY_DEPTH_MAX} levels")
HALF_PAIR = Fault(code="bad_value", why="a text of its body holds half a surrogate pair")
NOT_FINITE = Fault(code="number_not_finite", why="its body holds a number that JSON cannot say")
TOO_LARGE_INTEGER = Fault(code="bad_value", why="an integer of its body does not fit in 64 bit")


def entry_fault(entry: Entry) -> Fault | None:
    """Why this change of rows can never be sent, or None. A body that is not read yet is not judged."""
    if entry.kind is Kind.CHANGES:
        return _changes_fault(entry.set_json or "[]")
    if entry.kind not in {Kind.PUT, Kind.PATCH, Kind.DELETE, Kind.LIFT}:
        return None
    return key_fault(entry.row_key) or (None if entry.set_json is None else body_fault(entry.set_json))


def key_fault(key: str) -> Fault | None:
    """Why no row can have this key at the cloud, or None."""
    if is_plain_key(key):
        return None
    if _NO_TEXT.match(key):
        return KEY_IS_NO_TEXT
    return BAD_KEY if not key or _CONTROL.search(key) or len(key.encode()) > KEY_BYTES_MAX else None


def is_plain_key(key: str) -> bool:
    """True for nearly every key: printable ASCII of a length that may be."""
    return key.isascii() and key.isprintable() and 0 < len(key) <= KEY_BYTES_MAX


def _changes_fault(changes_json: str) -> Fault | None:
    """The first fault of several row changes; they are sent together or not at all."""
    if (fault := _text_fault(changes_json)) is not None:
        return fault
    for change in json.loads(changes_json):
        body = change.get("set")
        fault = key_fault(change["key"]) or (None if body is None else _value_fault(body))
        if fault is not None:
            return fault
    return None


def body_fault(set_json: str) -> Fault | None:
    """Why this JSON text can never be a row's body, or None."""
    if is_plain(set_json):
        return None
    return _text_fault(set_json) or _value_fault(json.loads(set_json))


def is_plain(set_json: str) -> bool:
    """True for the body of nearly every row: an object of texts and of numbers that nobody could doubt.

    Quicker than judging it. orjson refuses numbers beyond double and half surrogate pairs, and reads integers beyond
    64 bit as others.
    """
    if "\\u0000" in set_json:
        return False
    try:
        body = orjson.loads(set_json)
    except orjson.JSONDecodeError:
        return False
    return isinstance(body, dict) and all(map(_is_plain_value, body.values()))


def _is_plain_value(value: object) -> bool:
    kind = type(value)
    if kind is int or kind is float:
        return INTEGER_MIN <= value < INTEGER_MAX  # type: ignore[operator]  # mypy does not follow `kind`
    return kind is str or value is None or kind is bool


def _text_fault(text: str) -> Fault | None:
    """Why Python cannot read JSON that SQLite has checked."""
    try:
        json.loads(text)
    except RecursionError:
        return TOO_DEEP
    except ValueError:
        # What is left is an integer of thousands of digits.
        return TOO_LARGE_INTEGER
    return None


def _value_fault(body: Any) -> Fault | None:
    if not isinstance(body, dict):
        return NO_OBJECT
    unseen: list[tuple[Any, int]] = [(body, 1)]
    while unseen:
        part, depth = unseen.pop()
        if isinstance(part, dict | list):
            if depth > BODY_DEPTH_MAX:
                return TOO_DEEP
            inside = [*part, *part.values()] if isinstance(part, dict) else part
            unseen += [(value, depth + 1) for value in inside]
        elif (fault := _leaf_fault(part)) is not None:
            return fault
    return None


def _leaf_fault(leaf: Any) -> Fault | None:
    if isinstance(leaf, str):
        if "\0" in leaf:
            return TEXT_HOLDS_NUL
        return HALF_PAIR if _SURROGATE.search(leaf) else None
    if isinstance(leaf, float) and not math.isfinite(leaf):
        return NOT_FINITE
    if isinstance(leaf, int) and not INTEGER_MIN <= leaf <= INTEGER_MAX:
        return TOO_LARGE_INTEGER
    return None


def is_utf8(text: bytes) -> bool:
    """True for bytes that a request could carry as text."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
