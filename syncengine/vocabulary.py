"""The small words that every package shares: versions, ids, times."""

from typing import NamedTuple, NewType

UserId = NewType("UserId", str)
DeviceId = NewType("DeviceId", str)
EntryId = NewType("EntryId", int)
Sequence = NewType("Sequence", int)
MigrationId = NewType("MigrationId", str)
TimestampMs = NewType("TimestampMs", int)
"""Milliseconds since 1970-01-01T00:00:00Z, by the wall clock."""

STORE_SCOPE = "store"
"""Scope of what is done once for all owners: DDL and every change of shape."""

VERSION_PART_MAX = 1_000_000


class SchemaVersion(NamedTuple):
    """A semantic version of the whole data model: "2.0.0". Orders as numbers, prints as written."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> "SchemaVersion":
        """Read "1", "1.2" or "1.2.3"; missing parts are 0.

        Raises ValueError for anything else: signs, blanks, pre-release tags, parts of a million and more.
        """
        parts = text.split(".")
        if not 1 <= len(parts) <= 3 or not all(_is_version_part(part) for part in parts):
            raise ValueError(f"not a schema version: {text!r} (expected digits like 2.0.0)")
        numbers = [int(part) for part in parts] + [0, 0]
        return cls(numbers[0], numbers[1], numbers[2])

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


def _is_version_part(part: str) -> bool:
    return part.isascii() and part.isdigit() and int(part) < VERSION_PART_MAX


def user_scope(user: str) -> str:
    """The scope of what is done for one user only: "user:<id>"."""
    return f"user:{user}"
