"""Which user has taken in a legacy store: it has no user in it, so it goes to whoever is signed in first.

A store is known again by its place, and each of its values by how it begins: an update may move the store, the old
app may go on adding to it, and a copy is no other store.
"""

import hashlib
from itertools import takewhile
from typing import TYPE_CHECKING

from syncengine.clock import iso
from syncengine.errors import SourceBroken

if TYPE_CHECKING:
    from collections.abc import Iterable

    from syncengine.local.store import Store
    from syncengine.sources.source import Source

BEGINNING_BYTES = 64 * 1024
TELLING_BYTES_MIN = 64
"""A shorter value, such as a setting, may be the same for two users by chance."""


def taken_by(store: "Store", name: str, *, migration: str) -> str | None:
    """Who has imported this store or value with this migration; None when nobody has."""
    owner = store.value("runs", "source_taken_by", source=name, migration=migration)
    return None if owner is None else str(owner)


def take(store: "Store", names: "Iterable[str]", *, migration: str, user: str) -> None:
    """Record that this user has imported them, in the transaction of the import."""
    for name in names:
        store.run(
            "runs",
            "take_source",
            source=name,
            migration=migration,
            imported_by=user,
            now=iso(store.clock.now_ms()),
        )


def name_of_value(source: "Source", key: str) -> str | None:
    """What a value is known by; None for one that is too short to tell users apart, or that cannot be read."""
    size = source.size(key)
    if size is None or size < TELLING_BYTES_MIN:
        return None
    try:
        begins = _beginning(source, key, size)
    except SourceBroken:
        return None
    return f"value {hashlib.sha256(repr((key, begins)).encode()).hexdigest()}" if begins else None


def _beginning(source: "Source", key: str, size: int) -> object:
    if size <= BEGINNING_BYTES:
        return source.text(key)
    room = BEGINNING_BYTES

    def fits(element: object) -> bool:
        nonlocal room
        room -= len(element) if isinstance(element, bytes) else BEGINNING_BYTES
        return room > 0

    return list(takewhile(fits, source.elements(key)))
