"""A request's body with a cap on bytes, depth and time, as one of the protocol's models; and its query."""

import asyncio
import zlib
from typing import Protocol, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel, JsonValue, ValidationError

from syncengine.remote.json_text import JsonRefused, read_json_to_judge

BODY_DEPTH_MAX = 64
BODY_WAIT_SECONDS_MAX = 30.0
QUERY_FIELDS_MAX = 100
DISCARD_BYTES_MAX = 64 * 1024 * 1024

# zlib.h, inflateInit2: 15 is the largest window, 16 more expects gzip's own header and checksum.
_GZIP_WBITS = 16 + 15

Model = TypeVar("Model", bound=BaseModel)


class RequestRefused(Exception):
    """An answer that is no success: status, a word for programs, a sentence for people, no contents."""

    def __init__(self, status: int, *, code: str, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(code)
        self.retry_after_s = retry_after_s
        self.status = status
        self.code = code
        self.message = message


class Room(Protocol):
    """What counts how much is held at once."""

    def take(self, size_bytes: int) -> None:
        """Raises RequestRefused where there is no room for so many bytes more."""
        ...

    def give_back(self) -> None:
        """All that was taken."""
        ...


async def read_body(request: Request, *, bytes_max: int, room: Room) -> bytes:
    """The whole body. Raises RequestRefused (413, 408), and what `room` raises."""
    body = _Body(bytes_max=bytes_max, room=room)
    try:
        async with asyncio.timeout(BODY_WAIT_SECONDS_MAX):
            async for chunk in request.stream():
                body.add(chunk)
                if body.size > DISCARD_BYTES_MAX:
                    break
    except TimeoutError as error:
        too_slow = RequestRefused(408, code="too_slow", message="The request's body came too slowly.")
        raise body.refusal or too_slow from error
    if body.refusal is not None:
        raise body.refusal
    return bytes(body.kept)


class _Body:
    """What has come. Once it is refused, the rest is read and thrown away: closing on a sender that still writes
    would lose our answer.
    """

    def __init__(self, *, bytes_max: int, room: Room) -> None:
        self.kept = bytearray()
        self.size = 0
        self.refusal: RequestRefused | None = None
        self._bytes_max = bytes_max
        self._room = room

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.refusal is not None:
            return
        try:
            self._refuse_too_large()
            self._room.take(len(chunk))
            self.kept += chunk
        except RequestRefused as refusal:
            self.refusal, self.kept = refusal, bytearray()
            self._room.give_back()

    def _refuse_too_large(self) -> None:
        if self.size > self._bytes_max:
            raise RequestRefused(413, code="too_large", message=f"A request holds at most {self._bytes_max} bytes.")


def unpacked(raw: bytes, *, encoding: str, bytes_max: int) -> bytes:
    """A body as it was before `Content-Encoding`. Raises RequestRefused (400, 413).

    A few bytes of gzip can stand for gigabytes, so it is unpacked no further than `bytes_max`.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return raw
        case "gzip":
            return _gunzipped(raw, bytes_max=bytes_max)
        case _:
            raise RequestRefused(400, code="malformed", message="A body comes as it is or as gzip.")


def _gunzipped(raw: bytes, *, bytes_max: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=_GZIP_WBITS)
    try:
        body = unpacker.decompress(raw, bytes_max + 1)
    except zlib.error as error:
        raise RequestRefused(400, code="malformed", message="The body is not gzip.") from error
    if len(body) > bytes_max:
        raise RequestRefused(413, code="too_large", message=f"A request holds at most {bytes_max} bytes.")
    if not unpacker.eof or unpacker.unused_data:
        raise RequestRefused(400, code="malformed", message="The body is not one whole gzip member.")
    return body


def parse_body(raw: bytes, *, model: type[Model]) -> tuple[Model, bool]:
    """The body as `model`, and whether all its values are good. Raises RequestRefused (400)."""
    try:
        value, values_are_good = read_json_to_judge(raw, depth_max=BODY_DEPTH_MAX)
        return validated(value, model=model), values_are_good
    except JsonRefused as error:
        raise RequestRefused(400, code="malformed", message=f"Not JSON that we take: {error}.") from error


def validated(value: JsonValue, *, model: type[Model]) -> Model:
    """Raises RequestRefused (400) naming the fields that are wrong, not what they hold."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise RequestRefused(400, code="malformed", message=_fields_at_fault(error)) from error


def query_of(query: bytes) -> dict[str, str]:
    """What stands behind the `?` of an address. Raises RequestRefused (400) for what is no UTF-8, once unescaped, and
    for a name that is there twice."""
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX)
    except UnicodeDecodeError as error:
        raise RequestRefused(400, code="malformed", message="The query is not UTF-8.") from error
    except ValueError as error:
        raise RequestRefused(400, code="malformed", message="The query has too many fields.") from error
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RequestRefused(400, code="malformed", message="The query has one name twice.")
    return found


def _fields_at_fault(error: ValidationError) -> str:
    """An unknown field's own name may be anything, so only places in the model are told."""
    places = {
        ".".join(str(step) for step in fault["loc"] if isinstance(step, int) or step.isidentifier())[:80]
        for fault in error.errors(include_input=False, include_url=False)
        if fault["type"] != "extra_forbidden"
    }
    told = ", ".join(sorted(places)[:5]) or "unknown fields"
    return f"Not by the protocol: {told}."
