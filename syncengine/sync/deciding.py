"""At the end of a reading: rows that reach others are written, and what foreign keys do to those is kept and told.

While the row is written capture is on, as it is for an app. What it writes of the row itself is dropped; what becomes
of its children is sent like an edit of the app, and what was deleted goes to quarantine as it was.
"""

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from syncengine.clock import iso
from syncengine.migrate.rejection import Rejection
from syncengine.outbox.filing import file_entries
from syncengine.sync.calls import PulledRow
from syncengine.sync.kin import Fate, Kin, readable
from syncengine.sync.landing import Landing, Landings
from syncengine.sync.live_table import LiveTable
from syncengine.sync.merge import Conflict, Fields
from syncengine.sync.page_record import PARENT_DELETED, PageRecord
from syncengine.sync.pending import Key, body_of, pending_edits
from syncengine.sync.resync import queue_row

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry

_WHY = Rejection(code=PARENT_DELETED, text="another device deleted the row that it refers to")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`keeps`: what rows here refer to stays as it is. `orphans`: rows that have lost their parents just now."""

    keeps: bool = False
    orphans: set[Key] = field(default_factory=set)


class DecidingLandings(Landings):
    """One row of the cloud, with all that follows from it."""

    def __init__(
        self,
        store: "Store",
        registry: "MigrationRegistry",
        *,
        owner: str,
        record: PageRecord,
        kin: Kin,
        decision: Decision,
    ) -> None:
        super().__init__(store, registry, owner=owner, record=record)
        self._kin = kin
        self._keeps = decision.keeps
        self._orphans = decision.orphans

    def _write(self, landing: Landing) -> None:
        body = landing.body
        if body is None or landing.key != landing.item.key or landing.others:
            super()._write(landing)
            return
        fate = self._kin.fate(landing.table, body, orphans=frozenset(self._orphans))
        if fate.orphaned:
            self._write_orphan(landing, body)
            return
        kept = self._kin.changed_targets(landing.table, landing.key, body) if self._keeps else {}
        super()._write(replace(landing, body={**body, **fate.changes, **kept}))
        self._tell(landing, fate, kept)

    def _write_orphan(self, landing: Landing, body: Fields) -> None:
        """It goes as its parent went; here it may never have come."""
        super()._write(replace(landing, body=None))
        table, item = landing.table, landing.item
        if table.read(self._owner, landing.key) is None:
            self._record.set_aside(item, body, _WHY, shape=table.shape_text)
            queue_row(self._store, "queue_delete", self._owner, table, landing.key)
            self._orphans.add((table.name, landing.key))

    def _tell(self, landing: Landing, fate: Fate, kept: Fields) -> None:
        """The cloud hears what its row says here instead."""
        table, body, item = landing.table, landing.body or {}, landing.item
        local = table.read(self._owner, landing.key) or {}
        instead = {name: value for name, value in {**fate.changes, **kept}.items() if local.get(name) == value}
        if instead:
            before = {name: body.get(name) for name in instead}
            self._store.run(
                "pull",
                "queue_patch",
                **self._entry(landing.item),
                set_json=json.dumps(instead),
                before_json=json.dumps(before),
                shape_version=table.shape_text,
            )
        conflicts = [
            Conflict(field=name, local=kept[name], server=body[name], winner="local")
            for name in kept
            if name in instead
        ]
        self._record.conflicts(conflicts, (table.name, landing.key), policy=table.merge_policy, version=item.version)

    def _reaches(self, landing: Landing) -> bool:
        body = landing.body
        return body is None or bool(self._kin.changed_targets(landing.table, landing.key, body))

    # What is captured.

    def is_captured(self, involved: tuple[str, ...]) -> bool:
        return True

    def _put(self, table: LiveTable, key: str, body: Fields | None) -> None:
        store = self._store
        file_entries(store)
        store.run("outbox", "close_group")
        newest = int(store.value("outbox", "newest"))
        if not (table.has_rules_of_app and table.says(self._owner, key, body)):
            super()._put(table, key, body)
        if table.has_rules_of_app:
            self._insist(table, key, body)
        others = self._without_own(newest, (table.name, key))
        # Each can be sent, and refused, without the others.
        store.run("outbox", "cut_into_groups", after=newest, entries_max=1)
        store.run("outbox", "close_group")
        file_entries(store)
        for entry_id, owner, row, before, shape in others:
            self._lose(entry_id, owner, row, before, shape)

    def _without_own(self, newest: int, own: Key) -> list[tuple[int, str, Key, Fields, str]]:
        """The deletions of other rows. What triggers wrote of the row itself was nobody's edit."""
        mine, others = [], []
        for entry_id, owner, kind, collection, key, before, shape in self._store.rows(
            "pull", "captured_since", after=newest
        ):
            if (owner, collection, readable(key)) == (self._owner, *own):
                mine.append(entry_id)
            elif kind == "delete":
                others.append((entry_id, owner, (collection, readable(key)), _object(before), shape))
        if mine:
            self._store.run("pull", "drop_captured", entries=json.dumps(mine))
        return others

    def _lose(self, entry_id: int, owner: str, row: Key, before: Fields, shape: str) -> None:
        """A row went with its parent. What was not sent of it, or was not known where that was deleted, is kept."""
        store = self._store
        gone = PulledRow(collection=row[0], key=row[1], version=0, shape_version=shape, body=None)
        edits = [edit for edit in pending_edits(store, owner, [gone]).get(row, []) if edit.entry_id != entry_id]
        known_deleted = self._kin.known_deleted(row, owner=owner)
        for edit in edits:
            if not edit.frozen:
                now = iso(store.clock.now_ms())
                store.run("receipts", "note_end", entry_id=edit.entry_id, ended="set_aside", now=now)
                store.run("pull", "drop_entry", entry_id=edit.entry_id)
        if known_deleted is not False and not any(edit.frozen for edit in edits):
            store.run("pull", "drop_entry", entry_id=entry_id)  # the cloud has no such row
        if edits or not known_deleted:
            self._record.set_aside(gone, before, _WHY, shape=shape, owner=owner)


def _object(raw: bytes | None) -> Fields:
    return body_of(readable(raw)) or {}


__all__ = ["DecidingLandings", "Decision"]
