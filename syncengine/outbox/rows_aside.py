"""Rows of the cloud that lie in quarantine here, as no rule of their table took them: whoever edits the row in the
table has not seen what they hold, though their version is known."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from syncengine.clock import iso
from syncengine.outbox.entry import Kind

if TYPE_CHECKING:
    from syncengine.local.store import Store

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChange:
    """What was sent of one row, and what it replaced."""

    collection: str
    row_key: str
    kind: str
    shape_version: str
    before: Fields = field(repr=False)
    set: Fields = field(repr=False)
    theirs: Fields = field(repr=False)


class RowsAside:
    """Those of one user, during one confirmation. Inside its transaction."""

    def __init__(self, store: "Store", owner: str) -> None:
        self._store = store
        self._owner = owner
        self.are_there = bool(store.value("outbox", "any_row_aside", owner=owner))

    def replaced_by(self, change: RowChange, *, version: int | None) -> Fields:
        """What of the row in quarantine the change took the place of, or nothing. From now on the item holds the row
        as the change has left it. `version`: which the change made; an older one than the item's replaced nothing of
        it."""
        row = {"owner": self._owner, "collection": change.collection, "row_key": change.row_key}
        found = self._store.rows("outbox", "row_aside", **row, version=version)
        if not found:
            return {}
        [(item_id, text, shape_version, owner_column)] = found
        body = _object(text)
        theirs = {name: value for name, value in body.items() if name != owner_column}
        if change.kind == Kind.DELETE:
            self._store.run("pull", "resolve_pulled", **row, now=iso(self._store.clock.now_ms()))
            return theirs
        is_same_shape = shape_version == change.shape_version
        if is_same_shape:
            left = orjson.dumps({**body, **change.set}).decode()
            self._store.run("outbox", "row_aside_is_now", item_id=item_id, body=left)
        is_whole = change.kind == Kind.PUT and is_same_shape
        return {
            name: value
            for name, value in theirs.items()
            if (is_whole or name in change.set) and change.set.get(name) != value
        }


def _object(text: str) -> dict[str, Any]:
    """The row of an item; none where its values were erased."""
    with suppress(orjson.JSONDecodeError):
        found = orjson.loads(text)
        if isinstance(found, dict):
            return found
    return {}


__all__ = ["Fields", "RowChange", "RowsAside"]
