"""What an HTTP answer means: ours or not, success or which error. Pure."""

import zlib
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from syncengine.errors import (
    AuthRequired,
    BackendUnavailable,
    BatchRefused,
    CursorGone,
    NotOurServer,
    ProtocolViolation,
    QuotaExceeded,
    RateLimited,
    SequenceGap,
    SyncEngineError,
)
from syncengine.remote.json_text import JsonRefused, read_json
from syncengine.remote.wire import PROTOCOL, PROTOCOL_HEADER, WRONG_USER, ErrorAnswer, cursor_gone, wrong_user

RETRY_AFTER_MS_MIN = 1_000

# 408: our request came too slowly. 511: a portal wants a login (RFC 6585, section 6).
UNAUTHORIZED = 401
FORBIDDEN = 403
_TOO_SLOW = 408
_CURSOR_GONE = 410
_NO_ROOM = 507
"""Insufficient Storage (RFC 4918, section 11.5)."""
_NETWORK_LOGIN = 511
_REFUSED_FOR_GOOD = (400, 413, 422)

# zlib.h, inflateInit2: 15 is the largest window, 16 more expects gzip's own header and checksum.
_GZIP_WBITS = 16 + 15

Answer = TypeVar("Answer", bound=BaseModel)


def failure_by_head(
    status: int, headers: Mapping[str, str], *, now_ms: int, retry_after_ms_max: int, takes_gzip: bool = False
) -> SyncEngineError | None:
    """The error that status and headers alone tell, or None when the body is worth reading.

    429 and 5xx count from anyone: a proxy in front of our server says them too. The rest only from our own.
    """
    if status == _NETWORK_LOGIN:
        return _not_ours("the network wants a login first (511)", reason="login_page")
    if status == _NO_ROOM and headers.get(PROTOCOL_HEADER) == str(PROTOCOL):
        wait_ms = retry_after_ms(headers.get("Retry-After"), now_ms=now_ms, wait_ms_max=retry_after_ms_max)
        return _no_room(wait_ms=wait_ms)
    if status == 429 or status >= 500:
        wait_ms = retry_after_ms(headers.get("Retry-After"), now_ms=now_ms, wait_ms_max=retry_after_ms_max)
        return _unavailable(status, wait_ms=wait_ms)
    if headers.get(PROTOCOL_HEADER) != str(PROTOCOL):
        reason = "login_page" if 300 <= status < 400 or _is_page(headers) else "another_server"
        return _not_ours(f"an answer with status {status} lacks the protocol's header", reason=reason)
    if headers.get("Content-Encoding", "identity") not in ("identity", "gzip" if takes_gzip else "identity"):
        return _not_ours("the answer is compressed in a way that we did not ask for")
    is_json = headers.get("Content-Type", "").partition(";")[0].strip().lower() == "application/json"
    if status == UNAUTHORIZED or (status == FORBIDDEN and not is_json):
        return _token_refused(status)
    if status == _TOO_SLOW:
        return _unavailable(status, wait_ms=None)
    if not is_json:
        return _not_ours("the answer is no JSON", reason="login_page" if _is_page(headers) else "another_server")
    if status not in (200, FORBIDDEN, 409, _CURSOR_GONE, *_REFUSED_FOR_GOOD):
        return violation(f"status {status} is not in the protocol")
    return None


def unpacked(raw: bytes, headers: Mapping[str, str], *, bytes_max: int) -> bytes:
    """The body as it was before compression. Raises ProtocolViolation; holds no more than `bytes_max` and a byte."""
    if headers.get("Content-Encoding", "identity") == "identity":
        return raw
    unpacker = zlib.decompressobj(wbits=_GZIP_WBITS)
    try:
        body = unpacker.decompress(raw, bytes_max + 1)
    except zlib.error as error:
        raise violation("the answer is not the gzip that it says") from error
    if len(body) > bytes_max:
        raise violation(f"the answer is larger than {bytes_max} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise violation("the answer is not one whole gzip member")
    return body


def answer_of_body(status: int, raw: bytes, *, model: type[Answer], depth_max: int) -> Answer:
    """The body as `model`. Raises the error that a body with another status than 200 tells, ProtocolViolation."""
    if status == 200:
        return _parsed(raw, model=model, depth_max=depth_max)
    if status == FORBIDDEN:
        raise _forbidden(raw, depth_max=depth_max)
    refusal = _parsed(raw, model=ErrorAnswer, depth_max=depth_max).error
    if status == 409 and refusal.code == SequenceGap.code() and refusal.expected is not None:
        raise SequenceGap(
            "The backend expects another sequence of this device.",
            why=f"it expects {refusal.expected}",
            fix="Say hello and send again from there.",
            expected=refusal.expected,
        )
    if status == 409:
        raise violation("status 409 without the sequence that is expected")
    if status == _CURSOR_GONE:
        if refusal.code == CursorGone.code() and refusal.reason is not None:
            raise cursor_gone(refusal.reason)
        raise violation("status 410 without saying why the cursor is gone")
    raise BatchRefused(
        "The backend refused the whole request.",
        why=f"status {status}, code {printable(refusal.code)}",
        fix="The queue is kept; the batch is halved to find the entry at fault.",
        status=status,
    )


def retry_after_ms(value: str | None, *, now_ms: int, wait_ms_max: int) -> int | None:
    """`Retry-After` in milliseconds: seconds or a date (RFC 9110, section 10.2.3); None for none or nonsense.

    At least a second and at most `wait_ms_max`, whatever the server asks.
    """
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        asked_ms = int(value[:9]) * 1000
    else:
        try:
            asked_ms = int(parsedate_to_datetime(value).timestamp() * 1000) - now_ms
        except (ValueError, OverflowError):
            return None
    return min(max(asked_ms, RETRY_AFTER_MS_MIN), wait_ms_max)


def violation(why: str) -> ProtocolViolation:
    """The error for an answer that is ours but wrong."""
    return ProtocolViolation(
        "The backend's answer does not follow the protocol.",
        why=why,
        fix="Nothing of the answer was used. Compare the versions of app and server.",
    )


def not_echoed(what: str) -> NotOurServer:
    """The error for an answer to somebody else's request, or from a cache."""
    return _not_ours(f"the answer does not repeat our {what}", reason="stale_answer")


def printable(word: str) -> str:
    """A word from outside, short and without anything that could forge a log line."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in word[:40])


def _parsed(raw: bytes, *, model: type[Answer], depth_max: int) -> Answer:
    try:
        return model.model_validate(read_json(raw, depth_max=depth_max))
    except JsonRefused as error:
        raise violation(str(error)) from error
    except ValidationError as error:
        places = [".".join(map(str, fault["loc"])) for fault in error.errors(include_input=False)][:3]
        raise violation("wrong at " + ", ".join(printable(place) for place in places)) from error


def _forbidden(raw: bytes, *, depth_max: int) -> AuthRequired:
    """A 403 whose body cannot be read is still a 403."""
    try:
        refusal = _parsed(raw, model=ErrorAnswer, depth_max=depth_max).error
    except ProtocolViolation:
        return _token_refused(FORBIDDEN)
    return wrong_user() if refusal.code == WRONG_USER else _token_refused(FORBIDDEN)


def _token_refused(status: int) -> AuthRequired:
    return AuthRequired(
        "The backend refused the token.",
        why=f"status {status}",
        fix="Sign in again; the queue is kept.",
        status=status,
    )


def _no_room(*, wait_ms: int | None) -> QuotaExceeded:
    return QuotaExceeded(
        "There is no room at the cloud for more of this user's rows.",
        why=f"status {_NO_ROOM}",
        fix="Delete rows, on this device or another, or ask who runs the cloud for more room; the queue is kept.",
        retry_after_ms=wait_ms,
    )


def _unavailable(status: int, *, wait_ms: int | None) -> BackendUnavailable:
    family = RateLimited if status == 429 else BackendUnavailable
    what = "The backend asks for fewer requests." if status == 429 else "The backend cannot serve now."
    return family(what, why=f"status {status}", fix="It is tried again later.", retry_after_ms=wait_ms)


def _is_page(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Type", "").lower().startswith("text/")


def _not_ours(why: str, *, reason: str = "another_server") -> NotOurServer:
    return NotOurServer(
        "Something answered in the backend's place.",
        why=why,
        fix="Nothing of the answer was used. A network's login page may want attention.",
        reason=reason,
    )
