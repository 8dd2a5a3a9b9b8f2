"""What people write: every value says whose it is, which edit wrote it, and for which field; no two are equal.

So anybody who sees a value, at the cloud or in a queue, knows what it is the effect of.
"""

import re
from collections.abc import Iterator

_WORD = re.compile(r"[a-z]+~[a-z0-9]+~\d+~[a-z]+")


def word(user: str, device: str, number: int, field: str) -> str:
    """The value that edit `number` of a device writes to a field."""
    return f"{user}~{device}~{number}~{field}"


def words_in(text: str | None) -> frozenset[str]:
    """All such values in a text, such as the JSON of an entry."""
    return frozenset(_WORD.findall(text or ""))


def user_of(found: str) -> str:
    """Whose value it is."""
    return found.partition("~")[0]


def field_of(found: str) -> str:
    """The field it was written to, by the name that it has in every version."""
    return found.rpartition("~")[2]


def strangers(texts: Iterator[str], *, user: str) -> list[str]:
    """Values of other users among these."""
    return sorted({found for text in texts for found in words_in(text) if user_of(found) != user})
