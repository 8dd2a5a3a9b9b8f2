"""A push whose entries are JSON already: nothing of them is parsed, copied or checked again on their way out."""

import zlib
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import orjson

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

    def push_encoded(self, push: EncodedPush) -> PushAnswer:
        """The same as `Backend.push`."""
        ...


def gzipped(body: bytes) -> bytes:
    """One gzip member (RFC 1952)."""
    compressing = zlib.compressobj(QUICKEST_LEVEL, zlib.DEFLATED, GZIP_WINDOW)
    return compressing.compress(body) + compressing.flush()
