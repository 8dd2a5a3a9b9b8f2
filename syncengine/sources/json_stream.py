"""Cuts a long JSON array into its elements while it is read, in memory for one element.

JSON is RFC 8259. An element is cut out by its strings and brackets only; whether it is valid inside shows when
it is decoded, so that one bad element spoils no other.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from syncengine.errors import SourceBroken

_QUOTE, _BACKSLASH, _COMMA = b'"\\,'
_OPEN_ARRAY, _CLOSE_ARRAY, _OPEN_OBJECT, _CLOSE_OBJECT = b"[]{}"
_CLOSER_OF = {_OPEN_ARRAY: _CLOSE_ARRAY, _OPEN_OBJECT: _CLOSE_OBJECT}
_END = -1

OVERSIZED_BYTES_KEPT = 1024 * 1024
"""Of an element above its limit so many first bytes are kept, or as many as the limit allows."""
BRACKETS_OPEN_MAX = 16 * 1024 * 1024
"""One byte is held for each; above it the value counts as broken there."""

_BLANKS = re.compile(rb"[ \t\n\r]*+")
_SCALAR = re.compile(rb'[^ \t\n\r,"\[\]{}]*+')
_STRING_BODY = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_QUOTE_OR_BRACKET = re.compile(rb'["\[\]{}]')


def _shallow_element() -> re.Pattern[bytes]:
    """One element of up to four levels (a walk has three) and the comma or bracket after it, in one match.

    All repeats are possessive: a match never goes back, so its time is linear in the bytes it looks at.
    """
    string = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
    plain = rb'[^"\[\]{}]*+'
    inside = plain + rb"(?:" + string + plain + rb")*+"
    for _level in range(3):
        nested = string + rb"|\{" + inside + rb"\}|\[" + inside + rb"\]"
        inside = plain + rb"(?:(?:" + nested + rb")" + plain + rb")*+"
    scalar = rb'[^ \t\n\r,"\[\]{}]++'
    value = rb"\{" + inside + rb"\}|\[" + inside + rb"\]|" + string + rb"|" + scalar
    blanks = rb"[ \t\n\r]*+"
    return re.compile(blanks + rb"(" + value + rb")" + blanks + rb"([,\]])", re.DOTALL)


_SHALLOW_ELEMENT = _shallow_element()


class BrokenJson(SourceBroken):
    """A value stops being JSON at a place; all whole elements before it were handed over.

    `at_byte`: where the element that could not be read starts, in bytes from the value's start.
    `remainder`: the value's bytes from there to its end, or the first of them if `remainder_truncated`.
    """

    def __init__(self, why: str, *, at_byte: int, remainder: bytes, remainder_truncated: bool) -> None:
        super().__init__(
            "A value of the legacy store is not whole JSON.",
            why=f"{why}, at byte {at_byte}",
            fix="What comes before this byte was read. The store was not changed; look at the rest by hand.",
        )
        self.at_byte = at_byte
        self.remainder = remainder
        self.remainder_truncated = remainder_truncated


@dataclass(frozen=True, slots=True, kw_only=True)
class OversizedElement:
    """Stands where an element above its limit was; the reading goes on after it.

    `at_byte`: where the element starts, in bytes from the value's start.
    """

    at_byte: int
    first_bytes: bytes
    element_bytes_max: int


def array_elements(
    chunks: Iterable[bytes], *, element_bytes_max: int, single_object: bool = False
) -> Iterator[bytes | OversizedElement]:
    """The raw JSON bytes of each element of a top-level array, in order, without the blanks around it.

    `chunks` may be cut anywhere, inside strings, escapes and characters too. With `single_object` a value that
    is one object counts as an array of that object. An element above `element_bytes_max` is passed over, in memory
    for its limit, and an OversizedElement comes in its place. Raises BrokenJson, after the elements before it, for
    a value that is no array, is cut off, or goes on after its end.
    """
    window = _Window(chunks, element_bytes_max=element_bytes_max)
    first = window.skip_blanks()
    if first == _OPEN_ARRAY:
        window.at += 1
        yield from _elements(window)
    elif first == _OPEN_OBJECT and single_object:
        yield _element(window)
    else:
        raise window.broken("the value is empty" if first == _END else "the value is no JSON array")
    if window.skip_blanks() != _END:
        raise window.broken("text follows after the end of the value")


def _elements(window: "_Window") -> Iterator[bytes | OversizedElement]:
    if window.skip_blanks() == _CLOSE_ARRAY:
        window.at += 1
        return
    after = _COMMA
    while after == _COMMA:
        match = _SHALLOW_ELEMENT.match(window.seen, window.at)
        if match is not None and match.end(1) - match.start(1) <= window.element_bytes_max:
            window.at = match.end()
            after = window.seen[window.at - 1]
            yield match[1]
        else:
            # Cut by a chunk's border, nested deeper, or broken.
            window.skip_blanks()
            yield _element(window)
            after = window.skip_blanks()
            if after not in (_COMMA, _CLOSE_ARRAY):
                raise window.broken("the array is cut off" if after == _END else "a comma is missing")
            window.at += 1


def _element(window: "_Window") -> bytes | OversizedElement:
    scan = _ElementScan()
    length = 0
    while not scan.whole:
        length = scan.advance(window.seen, window.at + length) - window.at
        if length > window.element_bytes_max:
            return _passed_over(window, scan, length=length)
        if scan.mismatch:
            raise window.broken(scan.mismatch)
        if not scan.whole and not window.grow():
            raise window.broken("the value is cut off")
    element = bytes(window.seen[window.at : window.at + length])
    window.at += length
    return element


def _passed_over(window: "_Window", scan: "_ElementScan", *, length: int) -> OversizedElement:
    """Go to the end of an element of which `length` bytes were scanned; each chunk is forgotten after its scan."""
    at_byte = window.at_byte
    kept_bytes = min(OVERSIZED_BYTES_KEPT, window.element_bytes_max)
    first_bytes = bytes(window.seen[window.at : window.at + kept_bytes])
    window.at += length
    while not scan.whole:
        if scan.mismatch or not window.grow():
            why = scan.mismatch or "the value is cut off"
            raise BrokenJson(why, at_byte=at_byte, remainder=first_bytes, remainder_truncated=True)
        window.at = scan.advance(window.seen, window.at)
    return OversizedElement(at_byte=at_byte, first_bytes=first_bytes, element_bytes_max=window.element_bytes_max)


class _ElementScan:
    """How far one element has been read: the brackets still open, and whether a string or a scalar is."""

    def __init__(self) -> None:
        self.whole = False
        self.mismatch = ""
        self._closers = bytearray()
        self._in_string = False
        self._in_scalar = False

    def advance(self, seen: bytearray, position: int) -> int:
        """Read on from `position` to the element's end or to the end of what was seen; where it stopped."""
        while position < len(seen) and not self.whole and not self.mismatch:
            if self._in_string:
                position = _end_of(_STRING_BODY, seen, position)
                if position == len(seen) or seen[position] == _BACKSLASH:
                    return position
                self._in_string = False
                position += 1
                self.whole = not self._closers
            elif self._closers:
                match = _QUOTE_OR_BRACKET.search(seen, position)
                if match is None:
                    return len(seen)
                position = match.end()
                self._take_structure(seen[position - 1])
            else:
                position = self._start(seen, position)
        return position

    def _start(self, seen: bytearray, position: int) -> int:
        first = seen[position]
        if not self._in_scalar and (first == _QUOTE or first in _CLOSER_OF):
            self._take_structure(first)
            return position + 1
        end = _end_of(_SCALAR, seen, position)
        if end == position and not self._in_scalar:
            self.mismatch = "a value is missing"
        self._in_scalar = True
        self.whole = end < len(seen)
        return end

    def _take_structure(self, byte: int) -> None:
        if byte == _QUOTE:
            self._in_string = True
        elif byte in _CLOSER_OF:
            self._closers.append(_CLOSER_OF[byte])
            if len(self._closers) > BRACKETS_OPEN_MAX:
                self.mismatch = "brackets are nested too deep"
        elif self._closers.pop() != byte:
            self.mismatch = "a bracket is closed by one of another kind"
        else:
            self.whole = not self._closers


def _end_of(pattern: re.Pattern[bytes], seen: bytearray, position: int) -> int:
    """Where a pattern that also matches nothing ends."""
    match = pattern.match(seen, position)
    return position if match is None else match.end()


class _Window:
    """The part of the value that is in memory: from the present element on."""

    def __init__(self, chunks: Iterable[bytes], *, element_bytes_max: int) -> None:
        self.seen = bytearray()
        self.at = 0
        self.element_bytes_max = element_bytes_max
        self._dropped = 0
        self._chunks = iter(chunks)

    @property
    def at_byte(self) -> int:
        """`at` in bytes from the value's start."""
        return self._dropped + self.at

    def grow(self) -> bool:
        """Forget what lies before `at` and read one more chunk; False at the value's end."""
        for chunk in self._chunks:
            if chunk:
                del self.seen[: self.at]
                self._dropped += self.at
                self.at = 0
                self.seen += chunk
                return True
        return False

    def skip_blanks(self) -> int:
        """Go to the next byte that is no blank, and look at it; _END when there is none."""
        while True:
            self.at = _end_of(_BLANKS, self.seen, self.at)
            if self.at < len(self.seen):
                return self.seen[self.at]
            if not self.grow():
                return _END

    def broken(self, why: str) -> BrokenJson:
        """The error for a break in the element that starts at `at`; reads on to keep what follows."""
        at_byte = self.at_byte
        kept_bytes_max = self.element_bytes_max
        while len(self.seen) - self.at <= kept_bytes_max and self.grow():
            pass
        remainder = bytes(self.seen[self.at : self.at + kept_bytes_max])
        return BrokenJson(
            why,
            at_byte=at_byte,
            remainder=remainder,
            remainder_truncated=len(self.seen) - self.at > kept_bytes_max,
        )
