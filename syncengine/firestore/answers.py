"""What Firestore's answers mean: by their status word, never by the HTTP code. Pure.

409 is both ALREADY_EXISTS and ABORTED, 400 both INVALID_ARGUMENT and FAILED_PRECONDITION (google.rpc.Code).
"""

from collections.abc import Mapping
from typing import Any

from syncengine.errors import (
    AuthRequired,
    BackendUnavailable,
    BatchRefused,
    NotOurServer,
    ProtocolViolation,
    RateLimited,
    SyncEngineError,
)
from syncengine.remote.http_answer import FORBIDDEN, UNAUTHORIZED, printable, retry_after_ms

DEPTH_MAX = 256
"""Levels of JSON: each level of a row takes three."""


class Contended(Exception):
    """Another writer was quicker, so nothing was written: read again and decide anew."""


_CONTENDED = frozenset({"ALREADY_EXISTS", "ABORTED", "FAILED_PRECONDITION", "NOT_FOUND"})
_PASSING = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "CANCELLED", "UNKNOWN", "ABORTED"})
_REFUSED = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})
_NETWORK_LOGIN = 511

# The emulator says so to a token that is none, where the real one says UNAUTHENTICATED.
_EMULATORS_BAD_TOKEN = "invalid jwt"  # noqa: S105 - a message, no token
# "gRPC message exceeds maximum size", "Transaction too big. Decrease transaction size.",
# "Request payload size exceeds the limit", "maximum 500 writes allowed per request"
_TOO_LARGE = ("exceeds", "too big", "too large", "maximum")


def refusal(
    status: int,
    body: Any,
    headers: Mapping[str, str],
    *,
    now_ms: int,
    retry_after_ms_max: int,
    writes: bool = False,
) -> SyncEngineError | Contended:
    """The error that an answer with another status than 200 is. `body`: its JSON, None for none."""
    word, message = _status_word(body)
    wait_ms = retry_after_ms(headers.get("Retry-After"), now_ms=now_ms, wait_ms_max=retry_after_ms_max)
    if not word:
        return _without_word(status, wait_ms=wait_ms)
    if word in _REFUSED or (word == "INVALID_ARGUMENT" and message == _EMULATORS_BAD_TOKEN):
        return token_refused(word)
    if writes and word in _CONTENDED:
        return Contended(word)
    if writes and word in ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT") and any(each in message for each in _TOO_LARGE):
        return _batch_refused(word, status=413)
    if word == "RESOURCE_EXHAUSTED":
        return RateLimited(
            "Firestore asks for fewer requests.", why=word, fix="It is tried again later.", retry_after_ms=wait_ms
        )
    if word in _PASSING:
        return _unavailable(word, wait_ms=wait_ms)
    if writes and word == "INVALID_ARGUMENT":
        return _batch_refused(word, status=400)
    return violation(f"it says {printable(word)}")


def violation(why: str) -> ProtocolViolation:
    """The error for an answer of Firestore's that is not as documented, or a question that it does not take."""
    return ProtocolViolation(
        "Firestore's answer is not as expected.",
        why=why,
        fix="Nothing of the answer was used. Compare the project's rules and indexes with docs/firestore.md.",
    )


def not_firestore(why: str) -> NotOurServer:
    """The error for what did not come from Firestore."""
    return NotOurServer(
        "Something answered in Firestore's place.",
        why=why,
        fix="Nothing of the answer was used. A network's login page may want attention.",
    )


def token_refused(word: str) -> AuthRequired:
    """The error for a token that Firestore, or the project's rules, do not take."""
    return AuthRequired(
        "Firestore refused the token.",
        why=f"{word}: it is over, another user's, or the project's rules forbid this",
        fix="Sign in again; the queue is kept. For a new project: compare its rules with docs/firestore.md.",
        status=FORBIDDEN if word == "PERMISSION_DENIED" else UNAUTHORIZED,
    )


def _status_word(body: Any) -> tuple[str, str]:
    """A query wraps its error in a list."""
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("status"), str):
        return "", ""
    return error["status"], str(error.get("message", "")).strip().lower()


def _without_word(status: int, *, wait_ms: int | None) -> SyncEngineError:
    """A proxy, a front end of Google's or a login page."""
    if status == 429:
        return RateLimited(
            "Firestore asks for fewer requests.",
            why="status 429",
            fix="It is tried again later.",
            retry_after_ms=wait_ms,
        )
    if status >= 500 and status != _NETWORK_LOGIN:
        return _unavailable(f"status {status}", wait_ms=wait_ms)
    return not_firestore(f"an answer with status {status} has no status word")


def _unavailable(why: str, *, wait_ms: int | None) -> BackendUnavailable:
    return BackendUnavailable(
        "Firestore cannot serve now.", why=why, fix="It is tried again later.", retry_after_ms=wait_ms
    )


def _batch_refused(word: str, *, status: int) -> BatchRefused:
    return BatchRefused(
        "Firestore refused a whole commit.",
        why=word,
        fix="The queue is kept; the batch is halved to find the entry at fault.",
        status=status,
    )
