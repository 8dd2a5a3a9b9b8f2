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
_SEAL_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Everything up to a row version of a group has been read; `mark` is that of the commit which gave it."""

    epoch: int
    group_version: int
    version: int
    mark: int
    floor: int = 0
    """Where the floor was when this reading began at the start: it needs no tombstone from below."""


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
    """About 64 letters that can stand in an address."""
    numbers = _NUMBERS.pack(position.epoch, position.group_version, position.version, position.mark, position.floor)
    return base64.urlsafe_b64encode(numbers + _seal(numbers, user=user, key=key)).rstrip(b"=").decode()


def read_cursor(text: str, *, user: UserId, key: bytes) -> Position | None:
    """What `written_cursor` wrote for this user with this key; None for anything else."""
    numbers, seal = _parts(text)
    if len(numbers) != _NUMBERS.size or not hmac.compare_digest(seal, _seal(numbers, user=user, key=key)):
        return None
    epoch, group_version, version, mark, floor = _NUMBERS.unpack(numbers)
    position = Position(epoch=epoch, group_version=group_version, version=version, mark=mark, floor=floor)
    # base64 can write the same bytes in several ways.
    return position if written_cursor(position, user=user, key=key) == text else None


def life_told_by(text: str) -> int | None:
    """The life of the rows that a cursor names, whoever wrote it; None for what is no cursor.

    A database that was made anew cannot check what the lost one has signed. A device may say what it likes here: it
    changes nothing but the life of its own user's rows, and how they are compared.
    """
    numbers, seal = _parts(text)
    is_whole = len(numbers) == _NUMBERS.size and len(seal) == _SEAL_BYTES
    life = int(_NUMBERS.unpack(numbers)[0]) if is_whole else None
    return life if life is not None and life <= LIFE_MAX else None


def _parts(text: str) -> tuple[bytes, bytes]:
    """Numbers and seal, as far as they are there."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b"", b""
    return raw[: _NUMBERS.size], raw[_NUMBERS.size :]


def standing(position: Position | None, *, epoch: int, head: int, floor: int, mark: int) -> Standing:
    """`mark` is what the database has for the position's commit; 0 where it has none."""
    if position is None or position.epoch != epoch:
        return Standing.OTHER_EPOCH
    if position.group_version > head:
        return Standing.CONTRADICTED
    if max(position.version, position.floor) < floor:
        return Standing.BELOW_FLOOR
    return Standing.GOOD if position.mark == mark else Standing.CONTRADICTED


def _seal(numbers: bytes, *, user: UserId, key: bytes) -> bytes:
    return hashlib.blake2b(numbers + user.encode(), key=key, digest_size=_SEAL_BYTES).digest()
