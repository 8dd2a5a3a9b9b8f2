"""What the database did by itself to rows whose parent a person deleted, as their foreign keys say: nobody's edit.

It is captured like an edit, in the group of the deletion. Where such a row is gone at the cloud nothing is lost with
it, and the deletion has to arrive.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from syncengine.outbox.entry import Entry, Kind
from syncengine.outbox.references import Action, Reference, by_child, column_default, references
from syncengine.outbox.row_body import RowUnreadable, sendable_json

if TYPE_CHECKING:
    from syncengine.local.store import Store

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """A row that was deleted in the same group, as it was."""

    collection: str
    row: Fields = field(repr=False)


class Consequences:
    """Tells them from what a person did, by the foreign keys of the store."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._of = by_child(references(store))
        self._columns = {name: (key, owner) for name, key, owner in store.rows("outbox", "synced_collections")}

    def deleted_in_batch(self, patch: Entry, entries: Iterable[Entry]) -> list[Deleted]:
        """Among the entries of a batch that holds the whole group."""
        return [
            self._deleted(entry.collection, entry.row_key, entry.before_json)
            for entry in entries
            if entry.kind is Kind.DELETE and entry.group_id == patch.group_id
        ]

    def deleted_beside(self, entry_id: int) -> list[Deleted]:
        """Among the entries that are still in the outbox."""
        entries_max = self._store.settings.group_entries_max
        found = self._store.rows("outbox", "deletions_of_group", entry_id=entry_id, entries_max=entries_max)
        return [self._deleted(*row) for row in found]

    def is_one(self, collection: str, *, set_: Fields, before: Fields, deleted: Sequence[Deleted]) -> bool:
        """Whether a patch is no more than what deleting these rows did to its own."""
        done: set[str] = set()
        for reference in self._of.get(collection, ()) if deleted and collection in self._columns else ():
            columns = self._pairs(reference)
            if self._was_left(reference, columns, before, deleted) and self._is_done(reference, columns, set_):
                done |= columns.keys()
        return bool(set_) and set_.keys() <= done

    def _pairs(self, reference: Reference) -> dict[str, str]:
        """Without the owner, whose column is in no body."""
        _, owner = self._columns[reference.child]
        return {column: target for column, target in reference.pairs if column != owner}

    def _was_left(
        self, reference: Reference, columns: dict[str, str], before: Fields, deleted: Sequence[Deleted]
    ) -> bool:
        """Whether the row that it referred to is among the deleted ones."""
        return any(
            each.collection == reference.parent
            and all(_are_same(before.get(column), each.row.get(target)) for column, target in columns.items())
            for each in deleted
            if columns.keys() <= before.keys()
        )

    def _is_done(self, reference: Reference, columns: dict[str, str], set_: Fields) -> bool:
        if not columns.keys() <= set_.keys():
            return False
        if reference.on_delete is Action.SET_NULL:
            return all(set_[column] is None for column in columns)
        return reference.on_delete is Action.SET_DEFAULT and all(
            _are_same(set_[column], column_default(self._store, reference.child, column)) for column in columns
        )

    def _deleted(self, collection: str, row_key: str, before_json: str | None) -> Deleted:
        row = fields_of(before_json)
        if collection in self._columns:
            row[self._columns[collection][0]] = row_key
        return Deleted(collection=collection, row=row)


def fields_of(text: str | None) -> Fields:
    """What an entry sets, or what was there before; nothing where that cannot be read."""
    try:
        found: Fields = orjson.loads(sendable_json(text)) if text else {}
    except RowUnreadable:
        return {}
    return found


def _are_same(one: Any, other: Any) -> bool:
    """A key may be a number in one table and text in the other."""
    return one is other if one is None or other is None else str(one) == str(other)


__all__ = ["Consequences", "Deleted", "fields_of"]
