"""What is written down of a page's rows beside their tables: versions, what is parked, what is set aside."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import orjson

from syncengine.clock import iso
from syncengine.migrate.rejection import Rejection
from syncengine.outbox.row_set import know_row_sets
from syncengine.sync.calls import PulledRow
from syncengine.sync.live_table import LiveTable
from syncengine.sync.merge import Conflict, Fields
from syncengine.sync.parking import Reason, park, unpark
from syncengine.sync.pending import Key, record_conflicts
from syncengine.sync.position import Position

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry

_KEY_AND_VERSION = itemgetter(*map(PulledRow._fields.index, ("key", "version")))

ROWS_AT_ONCE = 1_000
"""Of whose versions one statement takes note: it may change as many pages of the file, and holds a copy of each."""

DELETED_AT_CLOUD = "deleted_at_cloud"
"""The code of a local edit whose row another device deleted."""
PARENT_DELETED = "parent_deleted"
"""The code of a row that went with the row that it refers to."""
LeftBehind = tuple[int, int, int]
"""Is anything of this user parked, from the cloud in quarantine, of a migration in quarantine?"""
NOTHING_LEFT: LeftBehind = (0, 0, 0)
MENDED = "another device mended the row, and it came from the cloud"
"""What an item says that was settled by this."""
OF_ROWS_HERE = (DELETED_AT_CLOUD, PARENT_DELETED)
"""What was set aside with these codes is what a person wrote: nothing that comes later takes its place."""


@dataclass(slots=True, kw_only=True)
class Applied:
    """What a page did: rows written or deleted, conflicts, rows parked, and quarantine items."""

    rows: int = 0
    conflicts: int = 0
    parked: int = 0
    items: list[int] = field(default_factory=list)
    collections: set[str] = field(default_factory=set)


class PageRecord:
    """The counts of one page, and what the store knows of its rows afterwards. Inside the page's transaction."""

    def __init__(self, store: "Store", registry: "MigrationRegistry", *, owner: str, position: Position) -> None:
        self.applied = Applied()
        self._store = store
        self._registry = registry
        self._owner = owner
        self._position = position
        self._now = iso(store.clock.now_ms())

    def marks(self) -> tuple[int, int, int]:
        """The counts by now, for `back_to`."""
        return self.applied.conflicts, self.applied.parked, len(self.applied.items)

    def back_to(self, marks: tuple[int, int, int]) -> None:
        """What was counted since was undone."""
        self.applied.conflicts, self.applied.parked, items = marks
        del self.applied.items[items:]

    # What came in.

    def came_together(self, table: LiveTable, items: Sequence[PulledRow]) -> None:
        """Whole rows of the present shape that nobody had edited here."""
        position = self._position
        facts = {
            "collection": table.name,
            "owner": self._owner,
            "shape_version": table.shape_text,
            "server_epoch": position.server_epoch,
            "resync": position.resync,
        }
        left = self._left_behind()
        self._settle_mended(items, left)
        for first in range(0, len(items), ROWS_AT_ONCE):
            some = items[first : first + ROWS_AT_ONCE]
            versions = orjson.dumps(dict(map(_KEY_AND_VERSION, some))).decode()
            self._remember("remember_rows", **facts, versions=versions)
        self.applied.rows += len(items)
        self._let_go(items, left)

    def came(self, table: LiveTable, item: PulledRow, body: Fields | None, *, is_whole: bool) -> None:
        """One row. Fields that the table does not have are kept beside it; where not `is_whole`, a part of it is
        still parked or set aside."""
        extra = None
        if body is not None and not body.keys() <= table.known:
            extra = json.dumps({name: value for name, value in body.items() if name not in table.known})
        left = self._left_behind() if is_whole else NOTHING_LEFT
        self._settle_mended([item], left)
        self._remember("remember_row", **self._facts(item), extra=extra)
        self._let_go([item], left)

    def saw(self, item: PulledRow) -> None:
        """Its version is known, but it was not taken."""
        self._remember("saw_row", **self._facts(item))

    def _remember(self, name: str, **facts: Any) -> None:
        if not self._store.run("pull", name, **facts):
            # The first of its collection and owner.
            know_row_sets(self._store, owner=self._owner, collections=[facts["collection"]])
            self._store.run("pull", name, **facts)

    def _facts(self, item: PulledRow) -> dict[str, Any]:
        return {
            "collection": item.collection,
            "owner": self._owner,
            "row_key": item.key,
            "version": item.version,
            "shape_version": item.shape_version,
            "server_epoch": self._position.server_epoch,
            "deleted": item.body is None,
            "resync": self._position.resync,
        }

    def _left_behind(self) -> LeftBehind:
        found: LeftBehind = self._store.rows("pull", "any_left_behind", owner=self._owner)[0]
        return found

    def _settle_mended(self, items: Sequence[PulledRow], left: LeftBehind) -> None:
        """Another device has mended what this one's migration had set aside, and nobody had changed it here.

        Before its new version is noted: a row that the cloud has never had from anybody is not known to be the same.
        """
        for item in items if left[2] else ():
            if item.body is not None:
                row = {"collection": item.collection, "owner": self._owner, "row_key": item.key}
                self._store.run("pull", "resolve_mended", **row, version=item.version, note=MENDED, now=self._now)

    def _let_go(self, items: Sequence[PulledRow], left: LeftBehind) -> None:
        """Earlier copies of these rows wait for nothing any more."""
        is_parked, is_aside, _ = left
        if is_parked:
            for item in items:
                unpark(self._store, item, owner=self._owner)
        if is_aside:
            for item in items:
                row = {"collection": item.collection, "owner": self._owner, "row_key": item.key}
                self._store.run("pull", "resolve_pulled", **row, now=self._now)

    def conflicts(self, conflicts: Sequence[Conflict], row: Key, *, policy: str, version: int) -> None:
        """Fields that both sides had changed."""
        record_conflicts(self._store, conflicts, owner=self._owner, row=row, policy=policy, version=version)
        self.applied.conflicts += len(conflicts)

    # What is not taken.

    def park(self, item: PulledRow, reason: Reason) -> None:
        """It may be taken later."""
        self.park_part(item, reason)
        self.saw(item)

    def park_part(self, item: PulledRow, reason: Reason) -> None:
        """The row came in, and something that lay beside it did not."""
        park(self._store, item, owner=self._owner, reason=reason)
        self.applied.parked += 1

    def refuse(self, item: PulledRow, why: Rejection) -> None:
        """A person has to decide."""
        self.set_aside(item, item.body or {}, why, shape=item.shape_version)
        self.saw(item)
        unpark(self._store, item, owner=self._owner)

    def set_aside_edited(self, item: PulledRow, table: LiveTable, local: Fields) -> None:
        """The whole local row, with the edits that another device's deletion has made void."""
        why = Rejection(code=DELETED_AT_CLOUD, text="another device deleted the row while it was edited here")
        self.set_aside(item, local, why, shape=table.shape_text)

    def set_aside(
        self, item: PulledRow, body: Fields, why: Rejection, *, shape: str, owner: str | None = None
    ) -> None:
        """A row into quarantine as its desk reads it, with its owner. Of the cloud's rows the newest copy alone."""
        owner = owner or self._owner
        collection = self._registry.collections.get(item.collection)
        owner_column = None if collection is None else collection.owner
        values = {
            "owner": owner,
            "collection": item.collection,
            "row_key": item.key,
            "body": json.dumps(dict(body) if owner_column is None else {**body, owner_column: owner}),
            "error_code": why.code,
            "error_text": why.text,
            "field": why.field,
            "shape_version": shape,
        }
        item_id = None
        if why.code not in OF_ROWS_HERE:
            item_id = self._store.value("pull", "set_pulled_aside_again", **values)
        if item_id is None:
            item_id = self._store.value("pull", "set_pulled_aside", **values, now=self._now)
        self.applied.items.append(int(item_id))


__all__ = ["DELETED_AT_CLOUD", "Applied", "PageRecord"]
