"""Rows that refer to a row which a migration has set aside: they are set aside too, instead of stopping it."""

from collections import Counter
from typing import TYPE_CHECKING

from syncengine.local.identifiers import quoted
from syncengine.local.whole_row import row_as_json
from syncengine.migrate.references import Link, broken_links
from syncengine.migrate.rejection import Rejection
from syncengine.migrate.shape import columns_of
from syncengine.migrate.work import key_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from syncengine.local.store import Row, Store
    from syncengine.migrate.registry import Collection
    from syncengine.migrate.row_by_row import RowByRow

PARENT_SET_ASIDE = "parent_set_aside"
NO_PARENT = "no_parent"


class DanglingRows:
    """What refers to nothing at the end of a run. Foreign keys are off then, and were kept before it."""

    def __init__(
        self,
        rows: "RowByRow",
        *,
        collections: "Mapping[str, Collection]",
        shape_version: "Callable[[str], str]",
        from_outside: bool,
    ) -> None:
        self._rows = rows
        self._store: Store = rows.store
        self._collections = collections
        self._shape_version = shape_version
        self._from_outside = from_outside
        """The rows were imported: what they refer to need not have been there."""

    def set_aside(self) -> "Counter[str]":
        """How many rows of each collection went; one whose parent is gone for another reason stays, for the check."""
        gone: Counter[str] = Counter()
        while found := sum((self._of(link) for link in broken_links(self._store)), Counter[str]()):
            gone += found
        return gone

    def _of(self, link: Link) -> "Counter[str]":
        collection = self._collections.get(link.child)
        if collection is None:
            return Counter()
        columns = columns_of(self._store, link.child)
        went = [
            row for row in self._broken(link, columns) if self._may_go(link, dict(zip(columns, row, strict=True)))
        ]
        for row in went:
            self._move(link, collection, columns, row)
        return Counter({link.child: len(went)})

    def _broken(self, link: Link, columns: tuple[str, ...]) -> "list[Row]":
        names = ", ".join(f"c.{quoted(name)}" for name in columns)
        return self._store.query(f"SELECT {names} FROM {quoted(link.child)} AS c WHERE {link.nowhere}")

    def _may_go(self, link: Link, row: "dict[str, object]") -> bool:
        return self._from_outside or self._parent_was_set_aside(link, row)

    def _parent_was_set_aside(self, link: Link, row: "dict[str, object]") -> bool:
        parent = self._collections.get(link.parent)
        if parent is None:
            return False
        named = dict(zip(link.keys, (row[name] for name in link.columns), strict=True))
        if parent.key not in named or not named.keys() <= set(key_columns(parent)):
            return False
        aside = self._rows.set_aside_keys.get((link.parent, str(named[parent.key])), set())
        return bool(aside) if parent.owner not in named else str(named[parent.owner]) in aside

    def _move(self, link: Link, collection: "Collection", columns: tuple[str, ...], row: "Row") -> None:
        values = dict(zip(columns, row, strict=True))
        known = self._parent_was_set_aside(link, values)
        why = f"its parent in {link.parent} was set aside" if known else f"its parent in {link.parent} is not there"
        self._rows.put_into_quarantine(
            Rejection(code=PARENT_SET_ASIDE if known else NO_PARENT, text=why, field=link.columns[-1]),
            collection=link.child,
            key=str(values[collection.key]),
            body=row_as_json(columns, row),
            owner=str(values[collection.owner]) if collection.owner is not None else None,
            shape_version=self._shape_version(link.child),
        )
        keys = key_columns(collection)
        where = " AND ".join(f"{quoted(key)} IS ?" for key in keys)
        with self._store.without_triggers():
            self._store.query(f"DELETE FROM {quoted(link.child)} WHERE {where}", tuple(values[key] for key in keys))
