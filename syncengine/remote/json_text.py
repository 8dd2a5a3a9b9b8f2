"""JSON as it travels: read with limits, written only when every value survives the way.

RFC 8259 leaves open what duplicate names, huge numbers and lone surrogates mean; here they mean an error.
"""

import json
import math
import re
from itertools import chain
from typing import NamedTuple

import orjson
from pydantic import JsonValue

INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**63 - 1
"""What SQLite, PostgreSQL and most languages hold as an integer."""

_INTEGER_DIGITS_MAX = 20

# A string that is never closed runs to the end of the text, so each byte is looked at once.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_DIGITS_ALIKE = bytes(ord("0") if each in b"0123456789" else each for each in range(256))
_BLANKS = b" \t\n\r"
_LONG_NUMBER = b"0" * 19
_LONG_INTEGERS = tuple(bytes((before,)) + _LONG_NUMBER for before in b"[,:-")
_CONTAINERS = frozenset((dict, list))
_NOT_A_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE = re.compile("[\ud800-\udfff]")


class JsonRefused(ValueError):
    """Text that is no JSON, or JSON that we do not take. The reason holds no part of the text."""


def read_json(raw: bytes, *, depth_max: int) -> JsonValue:
    """The value of a whole JSON text.

    Raises JsonRefused for text that is not UTF-8 or not JSON, nests deeper than `depth_max`, repeats a name in
    an object, or holds NaN, Infinity, integers beyond 64 bit, floats beyond double or lone surrogates.
    """
    value, is_good = read_json_to_judge(raw, depth_max=depth_max)
    fault = None if is_good else value_fault(value)
    if fault:
        raise JsonRefused(fault)
    return value


def read_json_to_judge(raw: bytes, *, depth_max: int) -> tuple[JsonValue, bool]:
    """Like `read_json`, but values that we do not take come through, so that one bad row can be told by itself.

    Numbers out of range come as infinite, a lone surrogate as NUL: `value_fault` finds both. True beside the value:
    it has nothing to find.
    """
    plain = _read_plain(raw, depth_max=depth_max)
    if plain is not None:
        return plain, True
    value = _parsed(raw, depth_max=depth_max)
    if b"\\u" not in raw:
        return value, False
    text = json.dumps(value, ensure_ascii=False)
    if not _SURROGATE.search(text):
        return value, False
    return _loaded(_SURROGATE.sub(r"\\u0000", text)), False


def _read_plain(raw: bytes, *, depth_max: int) -> JsonValue | None:
    """What nearly all text is, at a fifth of the cost; None where only the careful reading can tell.

    orjson refuses infinite numbers and lone surrogates by itself. It takes the last of two equal names, so the names
    of what it read are counted against the text.
    """
    read = read_uncounted(raw)
    return read[0] if read and read[1].has_names(names_of(read[0], depth_max=depth_max)) else None


class TextRead(NamedTuple):
    """A text whose value was read, without its blanks."""

    squeezed: bytes

    def has_names(self, number: int) -> bool:
        """Whether it certainly has so many names, those that are repeated counted each time."""
        # Every name has its colon: where there are no more colons, there are no more names.
        return self.squeezed.count(b":") == number or self._names() == number

    def _names(self) -> int | None:
        """None where a quote behind a backslash may stand for itself."""
        names = self.squeezed.count(b'":')
        if b"\\" in self.squeezed:
            if b'\\\\"' in self.squeezed:
                return None
            names -= self.squeezed.count(b'\\":')  # quotes in texts, as those of JSON in a text
        return names


def read_uncounted(raw: bytes) -> tuple[JsonValue, TextRead] | None:
    """The value, and its text: unless that has as many names as `names_of` the value, one was repeated.

    None where there may be NUL in a string, or an integer near or beyond 64 bit. Plain searches: a pattern would take
    longer than the parsing.
    """
    # Without blanks each name touches its colon, and each number what is before it.
    squeezed = raw.translate(_DIGITS_ALIKE, _BLANKS)
    if (b"\\" in raw and b"\\u0000" in raw) or _may_hold_long_integer(squeezed):
        return None
    try:
        value: JsonValue = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return value, TextRead(squeezed)


def _may_hold_long_integer(squeezed: bytes) -> bool:
    """Of many digits, those after a point are a fraction and those after a quote a text."""
    return _LONG_NUMBER in squeezed and (
        squeezed.startswith(_LONG_NUMBER) or any(each in squeezed for each in _LONG_INTEGERS)
    )


def names_of(value: JsonValue, *, depth_max: int) -> int:
    """How many names all objects of a value have; -1 where it nests deeper than `depth_max`."""
    found = 0
    level = [value]
    for _ in range(depth_max + 1):
        objects = [part for part in level if type(part) is dict]
        lists = [part for part in level if type(part) is list]
        if not objects and not lists:
            return found
        found += sum(map(len, objects))
        level = list(chain.from_iterable(chain(map(dict.values, objects), lists)))
        if _CONTAINERS.isdisjoint(map(type, level)):
            level = []  # as in nearly every document: leaves alone
    return -1


def write_json(value: object) -> bytes:
    """The value as compact UTF-8 JSON.

    Raises JsonRefused for what `read_json` would refuse: orjson by itself turns NaN into null without a word.
    """
    fault = value_fault(value)
    if fault:
        raise JsonRefused(fault)
    return orjson.dumps(value)


def value_fault(value: object) -> str | None:
    """Why this value cannot travel, or None. Looks into dicts, lists and tuples; says nothing of the contents."""
    unseen = [value]
    while unseen:
        part = unseen.pop()
        if isinstance(part, dict):
            unseen.extend(part)
            unseen.extend(part.values())
        elif isinstance(part, list | tuple):
            unseen.extend(part)
        else:
            fault = _leaf_fault(part)
            if fault:
                return fault
    return None


def _leaf_fault(leaf: object) -> str | None:
    if isinstance(leaf, str):
        return _text_fault(leaf)
    if isinstance(leaf, float) and not math.isfinite(leaf):
        return "a number is not finite"
    if isinstance(leaf, int) and not INTEGER_MIN <= leaf <= INTEGER_MAX:
        return "an integer does not fit in 64 bit"
    return None


def _text_fault(text: str) -> str | None:
    if text.isascii():
        return "a text holds the character NUL" if "\0" in text else None
    if "\0" in text:
        return "a text holds the character NUL"
    return "a text holds half a surrogate pair" if _SURROGATE.search(text) else None


def _parsed(raw: bytes, *, depth_max: int) -> JsonValue:
    _refuse_depth(raw, depth_max=depth_max)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise JsonRefused("the text is not UTF-8") from None
    return _loaded(text)


def _loaded(text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text, object_pairs_hook=_object, parse_int=_integer)
    except JsonRefused:
        raise
    except (ValueError, RecursionError) as error:
        # From None: a JSONDecodeError keeps the whole document.
        raise JsonRefused(f"the text is not JSON ({type(error).__name__})") from None
    return value


def _refuse_depth(raw: bytes, *, depth_max: int) -> None:
    """Count nesting before any parser recurses."""
    if raw.count(b"[") + raw.count(b"{") <= depth_max:
        return
    depth = 0
    for bracket in _STRING.sub(b"", raw).translate(None, _NOT_A_BRACKET):
        depth += 1 if bracket in b"[{" else -1
        if depth > depth_max:
            raise JsonRefused(f"the text nests deeper than {depth_max} levels")


def _object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JsonRefused("an object repeats a name")
    return found


def _integer(digits: str) -> int | float:
    # int() of a very long text takes quadratic time; infinite is refused later like any number out of range.
    return int(digits) if len(digits) <= _INTEGER_DIGITS_MAX else math.inf
