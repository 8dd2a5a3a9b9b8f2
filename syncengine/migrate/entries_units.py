"""Queued entries of one collection in units that are converted together: the entries of one row, mostly.

Entries that change several rows tie the entries of these rows together.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from syncengine.migrate.entries_chain import Change, Queued, queued_of

if TYPE_CHECKING:
    from syncengine.local.store import Store

PAGE_ROWS = 500
"""Rows whose entries are in memory at once."""

RowName = tuple[str, str]
"""Owner and key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Entries of one owner that have to be looked at together, oldest first."""

    owner: str
    edits: tuple[Queued, ...]

    def changes_by_key(self) -> dict[str, list[tuple[Queued, Change]]]:
        """What is done to each row, in order. What was squashed is in the entry that it travels in."""
        found: dict[str, list[tuple[Queued, Change]]] = {}
        for edit in self.edits:
            for change in () if edit.state == "squashed" else edit.changes:
                found.setdefault(change.key, []).append((edit, change))
        return found


def units_of_rows(
    store: "Store", collection: str, *, shape_version: str, only_simple: bool = False
) -> Iterator[list[Unit]]:
    """Entries and open items of a collection that are not of this shape, some units at a time.

    Entries may be rewritten meanwhile. `only_simple` leaves out what is tied to other rows, or to quarantine.
    """
    tied = _tied(store, collection, shape_version)
    if not only_simple:
        yield from _in_pages(tied.units)
    first: RowName = ("", "")
    while True:
        names = store.rows(
            "entries",
            "rows_page",
            collection=collection,
            shape_version=shape_version,
            owner=first[0],
            row_key=first[1],
            rows_max=PAGE_ROWS,
        )
        if not names:
            return
        last: RowName = (names[-1][0], names[-1][1])
        yield [unit for unit in _page(store, collection, first, last, shape_version) if not tied.holds(unit)]
        first = last


def _page(store: "Store", collection: str, first: RowName, last: RowName, shape_version: str) -> Iterator[Unit]:
    rows = store.rows(
        "entries",
        "of_rows",
        collection=collection,
        shape_version=shape_version,
        owner=first[0],
        row_key=first[1],
        last_owner=last[0],
        last_key=last[1],
    )
    for (owner, _), of_one in groupby(map(queued_of, rows), key=lambda edit: (edit.owner, edit.row_key)):
        yield Unit(owner=owner, edits=tuple(of_one))


def _in_pages(units: list[Unit]) -> Iterator[list[Unit]]:
    for start in range(0, len(units), PAGE_ROWS):
        yield units[start : start + PAGE_ROWS]


def units_of_owners(store: "Store", collection: str) -> Iterator[list[Unit]]:
    """The same with all entries of an owner in one unit, for rows that are merged with others."""
    items = items_of(store, collection)
    for (owner,) in store.rows("entries", "owners", collection=collection):
        own = [queued_of(row) for row in store.rows("entries", "of_owner", collection=collection, owner=owner)]
        own += [item for item in items if item.owner == owner]
        yield [Unit(owner=owner, edits=tuple(sorted(own, key=_order)))]


def items_of(store: "Store", collection: str) -> list[Queued]:
    """Open quarantine items that were entries: what came after them stands on them."""
    return [queued_of(row) for row in store.rows("entries", "items", collection=collection)]


def _order(edit: Queued) -> int:
    return edit.entry_id


class _Tied:
    """Rows that are tied to others by entries of several rows, or that have quarantine items."""

    def __init__(self) -> None:
        self.units: list[Unit] = []
        self.names: set[RowName] = set()

    def holds(self, unit: Unit) -> bool:
        return (unit.owner, unit.edits[0].row_key) in self.names


def _tied(store: "Store", collection: str, shape_version: str) -> _Tied:
    """What was staged and taken already has this shape, whatever it is tied to."""
    known = {"collection": collection, "shape_version": shape_version}
    several = [queued_of(row) for row in store.rows("entries", "of_several_rows", **known)]
    tied = _Tied()
    for owner, keys, special in _together([*items_of(store, collection), *several]):
        edits = {(edit.entry_id, edit.item_id): edit for edit in special}
        for key in keys:
            rows = store.rows("entries", "of_row", owner=owner, row_key=key, **known)
            edits.update({(edit.entry_id, None): edit for edit in map(queued_of, rows)})
            tied.names.add((owner, key))
        tied.units.append(Unit(owner=owner, edits=tuple(sorted(edits.values(), key=_order))))
    return tied


def _together(special: Iterable[Queued]) -> list[tuple[str, set[str], list[Queued]]]:
    """(owner, keys, entries) of those that share a row, directly or through another one."""
    sets: list[tuple[str, set[str], list[Queued]]] = []
    for edit in special:
        keys = {edit.row_key, *(change.key for change in edit.changes)}
        edits = [edit]
        for other in [one for one in sets if one[0] == edit.owner and one[1] & keys]:
            sets.remove(other)
            keys |= other[1]
            edits = [*other[2], *edits]
        sets.append((edit.owner, keys, edits))
    return sets
