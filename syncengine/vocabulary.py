"""The small words that every package shares: versions, ids, times.

Read at every start of every app, so it imports nothing: `typing` alone would be a third of an idle start.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NewType

    UserId = NewType("UserId", str)
    TimestampMs = NewType("TimestampMs", int)
else:
    UserId = str
    TimestampMs = int
    """Milliseconds since 1970-01-01T00:00:00Z, by the wall clock."""

STORE_SCOPE = "store"
"""Scope of what is done once for all owners: DDL and every change of shape."""

VERSION_PART_DIGITS_MAX = 6


class SchemaVersion(tuple[int, int, int]):
    """A semantic version of the whole data model: "2.0.0". Orders as numbers, prints as written."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> SchemaVersion:
        """Read "1", "1.2" or "1.2.3"; missing parts are 0.

        Raises ValueError for anything else: signs, blanks, pre-release tags, parts of a million and more.
        """
        parts = text.split(".")
        if not 1 <= len(parts) <= 3 or not all(_is_version_part(part) for part in parts):
            raise ValueError(f"not a schema version: {text!r} (expected digits like 2.0.0)")
        numbers = [int(part) for part in parts] + [0, 0]
        return cls((numbers[0], numbers[1], numbers[2]))

    @property
    def major(self) -> int:
        return self[0]

    @property
    def minor(self) -> int:
        return self[1]

    @property
    def patch(self) -> int:
        return self[2]

    def way_to(self, end: SchemaVersion) -> str:
        """ "1.0.0 > 2.0.0"; the version alone where both are one."""
        return str(self) if self == end else f"{self} > {end}"

    def __str__(self) -> str:
        return f"{self[0]}.{self[1]}.{self[2]}"

    def __repr__(self) -> str:
        return f"SchemaVersion({self})"


def _is_version_part(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) <= VERSION_PART_DIGITS_MAX


def user_scope(user: str) -> str:
    """The scope of what is done for one user only: "user:<id>"."""
    return f"user:{user}"
