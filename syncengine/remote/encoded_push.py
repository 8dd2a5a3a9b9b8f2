"""A push whose entries are JSON already: nothing of them is parsed, copied or checked again on their way out."""

import zlib
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import orjson
from pydantic import ValidationError

from syncengine.remote.json_text import INTEGER_MAX
from syncengine.remote.wire import PROTOCOL, PushAnswer

# zlib.h, deflateInit2: 15 is the largest window, 16 more writes gzip's own header and checksum.
GZIP_WINDOW = 16 + 15
QUICKEST_LEVEL = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPush:
    """What `PushRequest` holds; `entries` is its JSON list. The sender has seen to it that every value can travel."""

    request_id: str
    user: str
    device: str
    epoch: int
    schema_version: str
    sequences: range
    """The numbers of the entries, in their order."""
    entries: bytes = field(repr=False)
    compress: bool = False

    def body(self) -> bytes:
        """The request as it travels."""
        body = orjson.dumps(
            {
                "protocol": PROTOCOL,
                "request_id": self.request_id,
                "user": self.user,
                "device": self.device,
                "epoch": self.epoch,
                "schema_version": self.schema_version,
                "entries": orjson.Fragment(self.entries),
            }
        )
        return gzipped(body) if self.compress else body


@runtime_checkable
class TakesEncodedPush(Protocol):
    """A backend that need not look at entries."""

    def push_encoded(self, push: EncodedPush) -> "PushAnswer | AllApplied":
        """The same as `Backend.push`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AllApplied:
    """Each entry was applied as it came, and the row has this version now; in the order of the entries."""

    versions: list[int] = field(repr=False)


def all_applied(raw: bytes, push: EncodedPush) -> AllApplied | None:
    """What nearly every answer to a push says, at a fraction of the cost of the models and by the same rules.

    None for every other answer, for one that may be wrong, and for one with other white space or another order of
    names than the protocol shows: then the models judge it. No object is made for each result.
    """
    head, name, rest = raw.partition(_RESULTS)
    results, end, tail = rest.rpartition(b"]")
    if results.translate(None, _DIGITS) != b",".join([_APPLIED] * len(push.sequences)):
        return None
    around = head + name + end + tail
    if any(odd in around for odd in _ODD):
        return None
    try:
        answer = orjson.loads(around)
        numbers = orjson.loads(b"[" + _without_names(results) + b"]")
        said = PushAnswer.model_validate(answer)
    except (ValueError, TypeError, ValidationError):
        return None
    sequences, versions = numbers[::2], numbers[1::2]
    is_plain = (
        said.request_id == push.request_id
        and said.device_seq >= push.sequences[-1]
        and sequences == list(push.sequences)
        and max(versions) <= INTEGER_MAX
        and around.count(b'":') == len(answer)  # orjson takes the last of two equal names
    )
    return AllApplied(versions=versions) if is_plain else None


def _without_names(results: bytes) -> bytes:
    """The numbers alone, a comma between each two. A blank stays where a name was: no digit joins another one's."""
    for text, instead in _NAMES:
        results = results.replace(text, instead)
    return results


_RESULTS = b'"results":['
_NAMES = ((b'{"sequence":', b" "), (b',"status":"applied","version":', b","), (b"}", b" "))
_APPLIED = b"".join(text for text, _ in _NAMES)
_DIGITS = b"0123456789"
# A text with an escape, and a name that does not touch its colon.
_ODD = (b"\\", b'" ', b'"\n', b'"\t', b'"\r')


def gzipped(body: bytes) -> bytes:
    """One gzip member (RFC 1952)."""
    compressing = zlib.compressobj(QUICKEST_LEVEL, zlib.DEFLATED, GZIP_WINDOW)
    return compressing.compress(body) + compressing.flush()
