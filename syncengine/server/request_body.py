"""A request's body with a cap on bytes, depth and time, as one of the protocol's models; and its query."""

import asyncio
import zlib
from typing import TypeVar
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


async def read_body(request: Request, *, bytes_max: int) -> bytes:
    """The whole body. Raises RequestRefused (413, 408)."""
    try:
        async with asyncio.timeout(BODY_WAIT_SECONDS_MAX):
            return await _read_capped(request, bytes_max=bytes_max)
    except TimeoutError as error:
        raise RequestRefused(408, code="too_slow", message="The request's body came too slowly.") from error


async def _read_capped(request: Request, *, bytes_max: int) -> bytes:
    body = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= bytes_max:
            body += chunk
        elif size > DISCARD_BYTES_MAX:
            break
    # The rest was read and thrown away: closing on a sender that still writes would lose our answer.
    if size > bytes_max:
        raise RequestRefused(413, code="too_large", message=f"A request holds at most {bytes_max} bytes.")
    return bytes(body)


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
