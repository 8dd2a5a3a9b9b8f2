"""Parents and children among the rows of the store: which rows of a page reach others, and whose parent has gone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from syncengine.local.identifiers import quoted
from syncengine.outbox.references import Action, Reference, by_child, by_parent, column_default, references
from syncengine.sync.live_table import Fields, LiveTable
from syncengine.sync.pending import Key

if TYPE_CHECKING:
    from syncengine.local.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A row here that refers to another one by this foreign key."""

    row: Key
    owner: str
    reference: Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What becomes of a row from the cloud whose parents were deleted. `changes`: what its columns say instead."""

    orphaned: bool = False
    changes: Fields = field(default_factory=dict, repr=False)


class Kin:
    """Asks the tables of one owner's rows. Inside the caller's transaction."""

    def __init__(self, store: "Store", owner: str, tables: Mapping[str, LiveTable]) -> None:
        self._store = store
        self._owner = owner
        self._tables = tables
        found = references(store)
        self._onto = by_parent(found)
        self._of = by_child(found)
        self.changing = frozenset(name for name, table in tables.items() if self._targets(table))
        """Collections of which other columns than the key are referred to."""

    def _targets(self, table: LiveTable) -> set[str]:
        named = {target for reference in self._onto.get(table.name, ()) for target in reference.targets}
        return named & table.known - {table.key}

    # Whom a row reaches.

    @property
    def has_references(self) -> bool:
        """Whether tables refer to each other, so that rows may come in any order only with some care."""
        return bool(self._onto)

    def is_parent(self, table: LiveTable) -> bool:
        """Whether any table refers to this one."""
        return table.name in self._onto

    def changed_targets(self, table: LiveTable, key: str, body: Fields) -> Fields:
        """The columns that others refer to and that `body` says otherwise, as they are here."""
        targets = self._targets(table)
        local = table.read(self._owner, key) if targets else None
        if local is None:
            return {}
        return {name: local[name] for name in targets if name in body and body[name] != local[name]}

    def children(self, table: LiveTable, key: str, *, targets: Fields | None = None) -> list[Child]:
        """Rows of synced collections that refer to this one; by one of these `targets`, where they are given."""
        found: list[Child] = []
        for reference in self._onto.get(table.name, ()):
            child = self._tables.get(reference.child)
            if child is None or not (targets is None or targets.keys() & set(reference.targets)):
                continue
            rows = self._store.query(_children_of(table, child, reference), (self._owner, key))
            found += [
                Child(row=(child.name, readable(child_key)), owner=readable(owner), reference=reference)
                for owner, child_key in rows
            ]
        return [child for child in found if (child.row, child.owner) != ((table.name, key), self._owner)]

    def leaves(self, child: Child, body: Fields, *, parent: Fields) -> bool:
        """Whether the child refers to another row, or none, once it is as `body` says. `parent`: the row it refers to
        now."""
        owner_column = self._tables[child.reference.child].owner_column
        pairs = [(column, target) for column, target in child.reference.pairs if column != owner_column]
        if any(column not in body for column, _ in pairs):
            return False
        return any(body[column] is None or str(body[column]) != str(parent.get(target)) for column, target in pairs)

    # Whose parent has gone.

    def fate(self, table: LiveTable, body: Fields, *, orphans: frozenset[Key]) -> Fate:
        """Of a row whose parents were deleted at the cloud, or are among these `orphans`. Nothing, where one of them
        may not go without it."""
        broken = [
            reference for reference in self._of.get(table.name, ()) if self._is_broken(reference, body, orphans)
        ]
        if any(reference.on_delete is Action.CASCADE for reference in broken):
            return Fate(orphaned=True)
        changes: dict[str, Any] = {}
        for reference in broken:
            columns = set(reference.columns)
            if reference.on_delete.refuses or columns & {table.key, table.owner_column}:
                return Fate()
            is_null = reference.on_delete is Action.SET_NULL
            changes |= {name: None if is_null else column_default(self._store, table.name, name) for name in columns}
        return Fate(changes=changes)

    def _is_broken(self, reference: Reference, body: Fields, orphans: frozenset[Key]) -> bool:
        """Only a parent that is named by its key can be known to be deleted."""
        parent, child = self._tables.get(reference.parent), self._tables[reference.child]
        if parent is None or not set(reference.targets) <= {parent.key, parent.owner_column}:
            return False
        named = {target: body.get(column) for column, target in reference.pairs if column != child.owner_column}
        key = named.pop(parent.key, None)
        if key is None or named or parent.read(self._owner, str(key)) is not None:
            return False
        row = (parent.name, str(key))
        return row in orphans or self.known_deleted(row, owner=self._owner) is True

    def known_deleted(self, row: Key, *, owner: str) -> bool | None:
        """Whether the cloud has deleted a row; None: it has never had it, as far as is known here."""
        known = self._store.rows("pull", "known_rows", owner=owner, keys=json.dumps([row]))
        return bool(known[0][-1]) if known else None


def _children_of(parent: LiveTable, child: LiveTable, reference: Reference) -> str:
    """SQLite compares by the rules of the parent's column, so this does, too (sqlite.org/foreignkeys.html)."""
    meets = " AND ".join(f"p.{quoted(target)} = c.{quoted(column)}" for column, target in reference.pairs)
    mine = " AND ".join(
        f"p.{quoted(column)} = ?{number} AND p.{quoted(column)} COLLATE BINARY = ?{number}"
        for number, column in enumerate((parent.owner_column, parent.key), start=1)
    )
    names = ", ".join(f"CAST(c.{quoted(column)} AS BLOB)" for column in (child.owner_column, child.key))
    return (
        f"SELECT {names} FROM {quoted(parent.name)} AS p CROSS JOIN {quoted(child.name)} AS c ON {meets} WHERE {mine}"
    )


def readable(raw: bytes | None) -> str:
    """Text of the store. A key that is no UTF-8 is none that the cloud has."""
    return (raw or b"").decode(errors="replace")


__all__ = ["Child", "Fate", "Kin", "readable"]
