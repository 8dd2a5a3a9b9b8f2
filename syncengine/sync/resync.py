"""Reading from the start again: after the cloud forgot old deletions, or was restored from an older copy of itself.

The outbox is always kept. What the cloud had confirmed and lost is told to it again.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from syncengine.sync.calls import PulledRow
from syncengine.sync.live_table import LiveTable
from syncengine.sync.merge import WHOLE_ROW, Conflict, Edit, Fields
from syncengine.sync.pending import Key, pending_edits, record_conflicts
from syncengine.sync.position import Position

if TYPE_CHECKING:
    from syncengine.local.store import Store

PAGE_ROWS = 1_000


class Retelling:
    """A page read from a cloud that was restored: what is newer here is told, what is newer there is taken.

    Versions say which is newer for rows of the copy alone. What was written since counts on from an older number, and
    is taken whatever its version.
    """

    def __init__(self, store: "Store", owner: str, *, position: Position, tables: Mapping[str, LiveTable]) -> None:
        self.conflicts = 0
        self._store = store
        self._owner = owner
        self._server_epoch = position.server_epoch
        self._epoch_head = position.epoch_head
        self._tables = tables

    def split(
        self, rows: Sequence[PulledRow], edits: Mapping[Key, list[Edit]]
    ) -> tuple[list[PulledRow], list[PulledRow]]:
        """Rows that stay as they are here and are queued for the cloud, and rows that are taken from it."""
        keys = json.dumps([[row.collection, row.key] for row in rows])
        known = {
            (collection, key): (version, bool(deleted))
            for collection, key, version, epoch, deleted in self._store.rows(
                "pull", "known_rows", owner=self._owner, keys=keys
            )
            if epoch < self._server_epoch  # what was heard in this life is no news
        }
        told, taken = [], []
        for row in rows:
            table, before = self._tables.get(row.collection), known.get((row.collection, row.key))
            waiting = edits.get((row.collection, row.key), [])
            if table is not None and before is not None and self._is_told(row, table, before, waiting):
                told.append(row)
            else:
                taken.append(row)
        return told, taken

    def _is_told(self, row: PulledRow, table: LiveTable, before: tuple[int, bool], waiting: list[Edit]) -> bool:
        version, was_deleted = before
        local = table.read(self._owner, row.key)
        is_of_new_life = self._epoch_head is not None and row.version > self._epoch_head
        if is_of_new_life or row.version >= version:
            if not waiting:
                self._note_loss(row, table, local, was_deleted=was_deleted)
            return False
        if local is not None:
            tell_again(self._store, self._owner, table, row.key, waiting=waiting)
            return True
        if was_deleted and row.body is not None and not waiting:
            queue_row(self._store, "queue_delete", self._owner, table, row.key)
        # A row that was never taken here cannot be told.
        return was_deleted or bool(waiting)

    def _note_loss(self, row: PulledRow, table: LiveTable, local: Fields | None, *, was_deleted: bool) -> None:
        """Theirs is as new or newer, or nobody can say: it stays, and what was here is written down.

        A row that was deleted here may have been sent again by a device that had not heard of that.
        """
        if local is None:
            is_back = was_deleted and row.body is not None
            lost = [Conflict(field=WHOLE_ROW, local=None, server=row.body, winner="server")] if is_back else []
        elif row.body is None:
            lost = [Conflict(field=WHOLE_ROW, local=local, server=None, winner="server")]
        elif row.shape_version == table.shape_text and not row.patches:
            lost = [
                Conflict(field=name, local=value, server=row.body[name], winner="server")
                for name, value in local.items()
                if name in row.body and row.body[name] != value
            ]
        else:
            return
        place = (row.collection, row.key)
        record_conflicts(self._store, lost, owner=self._owner, row=place, policy="server_wins", version=row.version)
        self.conflicts += len(lost)


def tell_again(store: "Store", owner: str, table: LiveTable, key: str, *, waiting: Sequence[Edit]) -> None:
    """Queue the whole row as it is here; edits that wait are in it."""
    for edit in waiting:
        if not edit.frozen:
            store.run("pull", "drop_entry", entry_id=edit.entry_id)
    queue_row(store, "queue_put", owner, table, key)


def queue_row(store: "Store", name: str, owner: str, table: LiveTable, key: str) -> None:
    """Queue an entry of one row, as the statement of this name makes it, in a group of its own."""
    store.run(
        "pull",
        name,
        owner=owner,
        collection=table.name,
        row_key=key,
        shape_version=table.shape_text,
        group_id=store.value("outbox", "advance_groups", count=2) - 1,
        now_ms=store.clock.now_ms(),
    )


Deleted = Callable[[Sequence[PulledRow]], object]
"""Applies rows as deleted at the cloud, in a transaction of its own."""


def settle_unseen(
    store: "Store",
    owner: str,
    *,
    resync: int,
    reason: str,
    epoch_head: int | None,
    tables: Callable[[], Mapping[str, LiveTable]],
    delete: Deleted,
) -> None:
    """At the end of a reading from the start: rows that the cloud had once and that it did not bring.

    After "below_floor" they were deleted there, and so were those that were sent before the "first" reading; after
    "other_epoch" the cloud lost them, and is told again, deletions too: but those up to its `epoch_head` it had
    forgotten by itself. In pages, each in a transaction of its own; after a crash the rest is done.
    """
    after = ("", 0)
    while rows := store.rows(
        "pull",
        "unseen_rows",
        owner=owner,
        resync=resync,
        row_key=after[0],
        row_set_id=after[1],
        rows_max=PAGE_ROWS,
    ):
        after = rows[-1][1], rows[-1][5]
        if reason != "other_epoch":
            delete([_gone(*row[:4]) for row in rows if not row[4]])
            forgotten = [(row[0], row[1]) for row in rows if row[4]]
            _forget(store, owner, forgotten)
        else:
            lost_deletions = {(row[0], row[1]) for row in rows if row[4] and row[2] > (epoch_head or 0)}
            _tell_lost(store, owner, [_gone(*row[:4]) for row in rows], tables(), lost_deletions=lost_deletions)


def _gone(collection: str, key: str, version: int, shape_version: str) -> PulledRow:
    return PulledRow(collection=collection, key=key, version=version, shape_version=shape_version, body=None)


def _tell_lost(
    store: "Store",
    owner: str,
    rows: list[PulledRow],
    tables: Mapping[str, LiveTable],
    *,
    lost_deletions: Collection[Key],
) -> None:
    keys = [(row.collection, row.key) for row in rows]
    with store.transaction(durable=True):
        edits = pending_edits(store, owner, rows)
        for collection, key in keys:
            table, waiting = tables.get(collection), edits.get((collection, key), [])
            if table is None:
                continue
            if table.read(owner, key) is not None:
                tell_again(store, owner, table, key, waiting=waiting)
            elif (collection, key) in lost_deletions and not waiting:
                queue_row(store, "queue_delete", owner, table, key)
        _forget(store, owner, keys)


def _forget(store: "Store", owner: str, keys: list[Key]) -> None:
    with store.transaction(durable=True):
        for collection, key in keys:
            store.run("pull", "forget_row", collection=collection, owner=owner, row_key=key)
            store.run("pull", "unpark", collection=collection, owner=owner, row_key=key)
