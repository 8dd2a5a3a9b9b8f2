"""The way in for every other store: a JSON file of keys and text values that the app wrote itself.

Either {"key": "value", …} or [["key", "value"], …], as `multiGet(await getAllKeys())` answers; null is no value.
The file is indexed once; its values are then read from it piece by piece, however long they are.
"""

import codecs
import json
import mmap
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from syncengine.errors import SourceBroken, SourceMissing
from syncengine.local.regular_file import open_regular
from syncengine.sources.source import CHUNK_BYTES, ChunkedSource

_BLANKS = rb"[ \t\n\r]*+"
_TEXT = rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"'
_KEY_AND_VALUE = _TEXT + _BLANKS + rb"%b" + _BLANKS + rb"(?:" + _TEXT + rb"|null)"


class _Shape(NamedTuple):
    """How a dump is written: what opens it, one item, what is between items, what closes it."""

    opening: re.Pattern[bytes]
    item: re.Pattern[bytes]
    closing: re.Pattern[bytes]


def _shape(opening: bytes, item: bytes, closing: bytes) -> _Shape:
    patterns = (_BLANKS + part + _BLANKS for part in (opening, item, closing))
    return _Shape(*(re.compile(pattern, re.DOTALL) for pattern in patterns))


_SHAPES = (
    _shape(rb"\{", _KEY_AND_VALUE % rb":", rb"\}"),
    _shape(rb"\[", rb"\[" + _BLANKS + _KEY_AND_VALUE % rb"," + _BLANKS + rb"\]", rb"\]"),
)
_ITEM_COMMA = re.compile(rb",")

# The longest start of a piece that ends between two characters: no half escape, no half surrogate pair.
_HIGH, _LOW = r"\\u[dD][89abAB][0-9a-fA-F]{2}", r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_NO_LOW_FOLLOWS = r"(?=[^\\]|\\[^u]|\\u(?![dD][c-fC-F])[0-9a-fA-F]{4})"
_OTHER = r"\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\[^u]"
_WHOLE_CHARACTERS = re.compile(rf"[^\\]*+(?:(?:{_HIGH}{_LOW}|{_HIGH}{_NO_LOW_FOLLOWS}|{_OTHER})[^\\]*+)*+", re.DOTALL)


class _Span(NamedTuple):
    """Where a value's text is in the file, between its quotes."""

    start: int
    end: int


def open_json_dump(path: str | Path, *, chunk_bytes: int = CHUNK_BYTES) -> "JsonDump":
    """The values of a dump file, which is read in place, so many bytes of a value at a time.

    Of a key that is there twice the last value counts.

    Raises SourceMissing; SourceBroken when it is not wholly in one of the two shapes.
    """
    path = Path(path)
    if not path.exists():
        raise SourceMissing(
            f"There is no JSON dump at {path}.", fix="Check the path that the app gave; nothing was changed."
        )
    spans = _index(path)
    present = {key: span for key, span in spans.items() if span is not None}
    return JsonDump(path, spans=present, chunk_bytes=chunk_bytes)


class JsonDump(ChunkedSource):
    """A Source over one file of JSON."""

    def __init__(self, path: Path, *, spans: dict[str, _Span], chunk_bytes: int) -> None:
        super().__init__(identity=f"json-dump:{os.path.realpath(path)}", problems=(), held=ExitStack())
        self._path = path
        self._spans = spans
        self._chunk_bytes = chunk_bytes

    def keys(self) -> tuple[str, ...]:
        return tuple(sorted(self._spans))

    def size(self, key: str) -> int | None:
        span = self._spans.get(key)
        return None if span is None else span.end - span.start

    def _chunks(self, key: str) -> Iterator[bytes]:
        return _unescaped(self._pieces(self._spans[key]), path=self._path)

    def _pieces(self, span: _Span) -> Iterator[bytes]:
        try:
            with open_regular(self._path) as file:
                file.seek(span.start)
                left = span.end - span.start
                while left and (piece := file.read(min(left, self._chunk_bytes))):
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise _broken(self._path, error.strerror or type(error).__name__) from error


def _index(path: Path) -> dict[str, _Span | None]:
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise _broken(path, "it is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _spans_in(content, path)
    except OSError as error:
        raise _broken(path, error.strerror or type(error).__name__) from error


def _spans_in(content: mmap.mmap, path: Path) -> dict[str, _Span | None]:
    shape, position = _opened(content, path)
    spans: dict[str, _Span | None] = {}
    while (closed := shape.closing.match(content, position)) is None:
        if spans:
            position = _expect(_ITEM_COMMA, content, position, path).end()
        item = _expect(shape.item, content, position, path)
        position = item.end()
        key = b"".join(_unescaped(iter((item[1],)), path=path)).decode("utf-8", "surrogatepass")
        spans[key] = None if item.start(2) < 0 else _Span(item.start(2), item.end(2))
    if closed.end() != len(content):
        raise _broken(path, f"text follows after its end, at byte {closed.end()}")
    return spans


def _opened(content: mmap.mmap, path: Path) -> tuple[_Shape, int]:
    for shape in _SHAPES:
        opened = shape.opening.match(content)
        if opened is not None:
            return shape, opened.end()
    raise _broken(path, "it is neither a JSON object nor an array")


def _expect(pattern: re.Pattern[bytes], content: mmap.mmap, position: int, path: Path) -> re.Match[bytes]:
    match = pattern.match(content, position)
    if match is None:
        raise _broken(path, f"byte {position} starts no key with a text value")
    return match


def _unescaped(pieces: Iterator[bytes], *, path: Path) -> Iterator[bytes]:
    """The text that a JSON string literal stands for, as UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest = ""
    try:
        for piece in pieces:
            rest += decoder.decode(piece)
            match = _WHOLE_CHARACTERS.match(rest)
            whole = match.end() if match else 0
            yield _utf8(_literal(rest[:whole], path))
            rest = rest[whole:]
        yield _utf8(_literal(rest + decoder.decode(b"", True), path))
    except UnicodeDecodeError as error:
        raise _broken(path, f"a text in it is not UTF-8: {error.reason}") from None


def _literal(escaped: str, path: Path) -> str:
    try:
        return str(json.loads(f'"{escaped}"', strict=False))
    except json.JSONDecodeError as error:
        # The error holds the text, so it is not kept as the cause.
        raise _broken(path, f"a text in it is no JSON: {error.msg}") from None


def _utf8(text: str) -> bytes:
    # JavaScript text may hold half a surrogate pair.
    return text.encode("utf-8", "surrogatepass")


def _broken(path: Path, why: str) -> SourceBroken:
    return SourceBroken(
        f"{path} is not a whole JSON dump of keys and text values.",
        why=why,
        fix='Write it as [["key", "value"], …] or {"key": "value", …}; this file was not changed.',
    )
