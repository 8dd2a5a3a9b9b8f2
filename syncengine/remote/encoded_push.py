"""A push whose entries are JSON already: nothing of them is parsed, copied or checked again on their way out."""

import zlib
from dataclasses import dataclass, field
from operator import itemgetter
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

    None for every other answer, and for one that may be wrong: then the models judge it.
    """
    if any(odd in raw for odd in _ODD):
        return None
    try:
        answer = orjson.loads(raw)
        results = answer["results"]
        sequences, statuses, versions = zip(*map(_RESULT, results), strict=True)
        said = PushAnswer.model_validate({**answer, "results": ()})
    except (ValueError, LookupError, TypeError, ValidationError):
        return None
    names = len(answer) + _NAMES_OF_RESULT * len(results)
    is_plain = (
        said.request_id == push.request_id
        and said.device_seq >= push.sequences[-1]
        and sequences == tuple(push.sequences)
        and set(statuses) == {"applied"}
        and set(map(type, (*sequences, *versions))) == {int}
        and 0 <= min(versions) <= max(versions) <= INTEGER_MAX
        and set(map(len, results)) == {_NAMES_OF_RESULT}
        and raw.count(b'":') == names  # orjson takes the last of two equal names
    )
    return AllApplied(versions=list(versions)) if is_plain else None


_RESULT = itemgetter("sequence", "status", "version")
_NAMES_OF_RESULT = 3
# A text with an escape, and a name that does not touch its colon.
_ODD = (b"\\", b'" ', b'"\n', b'"\t', b'"\r')


def gzipped(body: bytes) -> bytes:
    """One gzip member (RFC 1952)."""
    compressing = zlib.compressobj(QUICKEST_LEVEL, zlib.DEFLATED, GZIP_WINDOW)
    return compressing.compress(body) + compressing.flush()
