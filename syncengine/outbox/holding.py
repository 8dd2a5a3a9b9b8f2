"""What waits behind a quarantined entry: the same row, its foreign-key children, its group, a migration's rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from syncengine.errors import TextUnreadable
from syncengine.local.identifiers import quoted
from syncengine.outbox.delivery import Event, State, next_state
from syncengine.outbox.entry import Kind
from syncengine.outbox.filing import file_entries
from syncengine.outbox.references import references
from syncengine.outbox.sendable import is_utf8

if TYPE_CHECKING:
    from syncengine.local.store import Store

HELD = next_state(State.WAITING, Event.BLOCKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """Something that later entries build on and that the cloud does not have."""

    entry_id: int
    kind: Kind
    collection: str
    row_key: str
    group_id: int
    collections_json: str | None
    """Of a migration: what it holds back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An open quarantine item of the outbox."""

    item_id: int
    owner: str
    blocker: Blocker


def item_of(row: Sequence[Any]) -> Item:
    """The item in a row of quarantine.sql's open items."""
    return Item(item_id=row[0], owner=row[1], blocker=_blocker_of(row[2:]))


def hold_behind_open_items(store: "Store", owner: str) -> None:
    """Hold what was written since behind all open items of this queue."""
    for row in store.rows("quarantine", "open_items", owner=owner):
        hold_behind(store, item_of(row))


def hold_behind(store: "Store", item: Item) -> None:
    """Hold every waiting entry that builds on this item, directly or through another held one."""
    file_entries(store)
    children = _ChildTables(store)
    held_before = store.rows("outbox", "held_behind", owner=item.owner, item_id=item.item_id, state=HELD)
    blockers = [item.blocker, *map(_blocker_of, held_before)]
    # Each held entry is visited once, so this ends with the queue.
    while blockers:
        blockers.extend(_hold_one(store, item, blockers.pop(), children))


def _hold_one(store: "Store", item: Item, blocker: Blocker, children: "_ChildTables") -> list[Blocker]:
    common: dict[str, Any] = {"owner": item.owner, "item_id": item.item_id, "state": HELD}
    if blocker.kind is Kind.MIGRATION:
        collections = blocker.collections_json or "[]"
        held = store.rows("outbox", "hold_behind_barrier", after=blocker.entry_id, collections=collections, **common)
    else:
        held = store.rows(
            "outbox",
            "hold_row",
            collection=blocker.collection,
            row_key=blocker.row_key,
            after=blocker.entry_id,
            **common,
        )
    held += store.rows("outbox", "hold_group", group_id=blocker.group_id, **common)
    if blocker.kind is Kind.PUT:
        for child, key in children.of(blocker.collection, owner=item.owner, row_key=blocker.row_key):
            held += store.rows("outbox", "hold_row", collection=child, row_key=key, after=0, **common)
    return [_blocker_of(row) for row in held]


def _blocker_of(row: Sequence[Any]) -> Blocker:
    return Blocker(
        entry_id=row[0],
        kind=Kind(row[1]),
        collection=row[2],
        row_key=row[3],
        group_id=row[4],
        collections_json=row[5],
    )


class _ChildTables:
    """Which synced collections point to which by foreign keys; read from the schema once."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._synced = {name: (key, owner) for name, key, owner in store.rows("outbox", "synced_collections")}
        self._links = [
            (found.child, found.parent, column)
            for found in references(store)
            if found.child in self._synced and found.parent in self._synced
            for column, target in found.pairs
            if target == self._synced[found.parent][0]
        ]

    def of(self, parent: str, *, owner: str, row_key: str) -> Iterable[tuple[str, str]]:
        """(collection, key) of the live rows of this owner that point to a row of `parent`."""
        for child, pointed, column in self._links:
            if pointed == parent:
                key_column, owner_column = self._synced[child]
                where = f"FROM {quoted(child)} WHERE {quoted(column)} = ? AND {quoted(owner_column)} = ?"
                yield from ((child, key) for key in self._keys(quoted(key_column), where, (row_key, owner)))

    def _keys(self, column: str, where: str, values: tuple[str, str]) -> list[Any]:
        """The keys; one that is not UTF-8 is left out, for its row is never sent."""
        try:
            return [key for (key,) in self._store.query(f"SELECT {column} {where}", values)]
        except TextUnreadable:
            raw = self._store.query(f"SELECT CAST({column} AS BLOB) {where}", values)
            return [key.decode() for (key,) in raw if is_utf8(key)]
