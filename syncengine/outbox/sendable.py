"""Can an entry ever be sent? By the protocol's own rules; pure, and what it says holds no contents."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from syncengine.outbox.entry import Entry, Kind

KEY_BYTES_MAX = 1_024
"""The protocol's: a longer key is `bad_key`."""
BODY_DEPTH_MAX = 60
"""The protocol refuses more than 64 levels of JSON; four of them are around a body."""
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1

_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why an entry can never be sent: a word for programs, a sentence for people."""

    code: str
    why: str


BAD_KEY = Fault(
    code="bad_key", why=f"its key is empty, longer than {KEY_BYTES_MAX} bytes, or holds control characters"
)
KEY_NOT_UTF8 = Fault(code="key_not_utf8", why="its key is not UTF-8; the row is where it was")
TEXT_HOLDS_NUL = Fault(code="text_holds_nul", why="a text of the row holds the character NUL")
NO_OBJECT = Fault(code="bad_value", why="its body is not a JSON object")
TOO_DEEP = Fault(code="bad_value", why=f"its body nests deeper than {BODY_DEPTH_MAX} levels")
HALF_PAIR = Fault(code="bad_value", why="a text of its body holds half a surrogate pair")
NOT_FINITE = Fault(code="number_not_finite", why="its body holds a number that JSON cannot say")
TOO_LARGE_INTEGER = Fault(code="bad_value", why="an integer of its body does not fit in 64 bit")


def entry_fault(entry: Entry) -> Fault | None:
    """Why this change of a row can never be sent, or None. A body that is not read yet is not judged."""
    if entry.kind not in {Kind.PUT, Kind.PATCH, Kind.DELETE}:
        return None
    key = entry.row_key
    if not key or _CONTROL.search(key) or len(key.encode()) > KEY_BYTES_MAX:
        return BAD_KEY
    return None if entry.set_json is None else body_fault(entry.set_json)


def body_fault(set_json: str) -> Fault | None:
    """Why this JSON text can never be a row's body, or None."""
    try:
        body = json.loads(set_json)
    except RecursionError:
        return TOO_DEEP
    except ValueError:
        # SQLite has checked that it is JSON; what is left is an integer of thousands of digits.
        return TOO_LARGE_INTEGER
    return _value_fault(body) if isinstance(body, dict) else NO_OBJECT


def _value_fault(body: dict[str, Any]) -> Fault | None:
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
