"""Which user has taken in a legacy store: it has no user in it, so it goes to whoever is signed in first.

A store is known again by its place and by its content: an update may move it, and a copy is no other store.
"""

import hashlib
from typing import TYPE_CHECKING

from syncengine.clock import iso
from syncengine.errors import SourceBroken

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.sources.source import Source

WHOLE_BYTES_MAX = 64 * 1024
"""Of a larger value only its size is looked at."""


def taken_by(store: "Store", source: "Source", *, migration: str) -> str | None:
    """Who has imported this store with this migration; None when nobody has."""
    for name in _names(source):
        owner = store.value("runs", "source_taken_by", source=name, migration=migration)
        if owner is not None:
            return str(owner)
    return None


def take(store: "Store", source: "Source", *, migration: str, user: str) -> None:
    """Record that this user has imported it, in the transaction of the import."""
    for name in _names(source):
        store.run(
            "runs",
            "take_source",
            source=name,
            migration=migration,
            imported_by=user,
            now=iso(store.clock.now_ms()),
        )


def _names(source: "Source") -> tuple[str, str]:
    digest = hashlib.sha256()
    for key in source.keys():  # noqa: SIM118  (a Source is no mapping)
        size = source.size(key)
        digest.update(f"{key!r} {size} {_text(source, key, size)!r}\n".encode())
    return source.identity, f"content {digest.hexdigest()}"


def _text(source: "Source", key: str, size: int | None) -> str | None:
    if size is None or size > WHOLE_BYTES_MAX:
        return None
    try:
        return source.text(key)
    except SourceBroken:
        return None
