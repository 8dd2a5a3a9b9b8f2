"""Where a device stands in a user's changes, as a text that only the cloud reads. Pure.

A cursor is signed, so that what another user, another database or a broken store says is told from the one thing that
matters here: a true cursor of ours that our own rows contradict. Then the database was restored from an older copy.
"""

import base64
import binascii
import hashlib
import hmac
import struct
from dataclasses import dataclass
from enum import Enum, auto

from syncengine.vocabulary import UserId

LIFE_MAX = 2**62
"""Lives are counted in milliseconds since 1970, so there is always a later one."""

_NUMBERS = struct.Struct(">QQQQQ")
_WITHIN_READING = struct.Struct(">QQQQQQ")
_SEAL_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Everything up to a row version of a group has been read; `mark` is that of the commit which gave `told_at`."""

    epoch: int
    group_version: int
    version: int
    mark: int
    floor: int = 0
    """Where the floor was when this reading began at the start: it needs no tombstone from below."""
    head: int = 0
    """Where the head was when a page ended before it; 0 at the head. A row that a later commit took behind the page
    stands before it in a copy from before that commit, and would never be read."""

    @property
    def told_at(self) -> int:
        """The last version that has a part in what was read."""
        return max(self.group_version, self.head)


class Standing(Enum):
    """What a cursor is worth now."""

    GOOD = auto()
    BELOW_FLOOR = auto()
    """Tombstones that its device has not read are gone."""
    OTHER_EPOCH = auto()
    """It is of another life of these rows, or not ours."""
    CONTRADICTED = auto()
    """It is ours and of this life, and yet no commit here is the one that it tells of."""


def written_cursor(position: Position, *, user: UserId, key: bytes) -> str:
    """About 64 letters that can stand in an address, and some more in the middle of a reading."""
    each = (position.epoch, position.group_version, position.version, position.mark, position.floor)
    numbers = _WITHIN_READING.pack(*each, position.head) if position.head else _NUMBERS.pack(*each)
    return base64.urlsafe_b64encode(numbers + _seal(numbers, user=user, key=key)).rstrip(b"=").decode()


def read_cursor(text: str, *, user: UserId, key: bytes) -> Position | None:
    """What `written_cursor` wrote for this user with this key; None for anything else."""
    numbers, seal = _parts(text)
    read = _read(numbers)
    if read is None or not hmac.compare_digest(seal, _seal(numbers, user=user, key=key)):
        return None
    epoch, group_version, version, mark, floor, *head = read
    position = Position(
        epoch=epoch, group_version=group_version, version=version, mark=mark, floor=floor, head=head[0] if head else 0
    )
    # base64 can write the same bytes in several ways.
    return position if written_cursor(position, user=user, key=key) == text else None


def life_told_by(text: str) -> int | None:
    """The life of the rows that a cursor names, whoever wrote it; None for what is no cursor.

    A database that was made anew cannot check what the lost one has signed. A device may say what it likes here: it
    changes nothing but the life of its own user's rows, and how they are compared.
    """
    numbers, seal = _parts(text)
    read = _read(numbers) if len(seal) == _SEAL_BYTES else None
    return read[0] if read is not None and read[0] <= LIFE_MAX else None


def _parts(text: str) -> tuple[bytes, bytes]:
    """Numbers and seal, as far as they are there."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b"", b""
    return raw[:-_SEAL_BYTES], raw[-_SEAL_BYTES:]


def _read(numbers: bytes) -> tuple[int, ...] | None:
    """None for what has the length of neither form."""
    for form in (_NUMBERS, _WITHIN_READING):
        if len(numbers) == form.size:
            return form.unpack(numbers)
    return None


def standing(position: Position | None, *, epoch: int, head: int, floor: int, mark: int) -> Standing:
    """`mark` is what the database has for the commit that gave `told_at`; 0 where it has none."""
    if position is None or position.epoch != epoch:
        return Standing.OTHER_EPOCH
    if position.told_at > head:
        return Standing.CONTRADICTED
    if max(position.version, position.floor) < floor:
        return Standing.BELOW_FLOOR
    return Standing.GOOD if position.mark == mark else Standing.CONTRADICTED


def _seal(numbers: bytes, *, user: UserId, key: bytes) -> bytes:
    return hashlib.blake2b(numbers + user.encode(), key=key, digest_size=_SEAL_BYTES).digest()
