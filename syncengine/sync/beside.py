"""A pulled document in the shape that this store has: lifted, with the writes of other shapes that lay beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from syncengine.migrate.lifting import Fields, Lifter, NoWay
from syncengine.migrate.rejection import Rejection, rejection_for
from syncengine.sync.calls import Beside, PulledRow
from syncengine.sync.live_table import LiveTable
from syncengine.vocabulary import SchemaVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedBack:
    """What the cloud's document becomes when these patches are in it."""

    body: Fields = field(repr=False)
    shape_version: str
    patches: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A patch that the migrations do not take: it stays at the cloud, and a copy goes to quarantine."""

    patch: Beside
    why: Rejection


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """`rows`: what the document is in the present shape, most often one. `waits`: why a patch could not be lifted.

    `replaced`: values of the row that were written after the patches, and that these took the place of.
    """

    rows: tuple[Fields, ...] = field(repr=False)
    handed_back: HandedBack | None = None
    refused: tuple[Refused, ...] = ()
    waits: str | None = None
    replaced: Fields = field(default_factory=dict, repr=False)


class NewerShape(Exception):
    """The document, or a patch beside it, is of a shape that this app does not know yet."""


def lifted(item: PulledRow, *, lifter: Lifter, owner: str, table: LiveTable) -> Lifted:
    """Raises NewerShape, NoWay for a shape that is not known any more, and what is wrong with the document itself."""
    present = lifter.present_shape(item.collection)
    shape = _version(item.shape_version)
    shapes = [_version(patch.shape_version) for patch in item.patches]
    if present is None or max((shape, *shapes)) > present or item.body is None:
        raise NewerShape(item.collection)
    work = _Lifting(item, lifter, owner, target=max((shape, *shapes)))
    rows = work.up(item.body, shape)
    place = _place_of(item.key, rows, table)
    if place is None:
        return Lifted(rows=work.at_present(rows), waits="no_way_down" if item.patches else None)
    body = rows[place]
    for patch, version in zip(item.patches, shapes, strict=True):
        body = work.with_patch(body, patch, version)
    handed_back = None
    if work.taken:
        handed_back = HandedBack(body=body, shape_version=str(work.target), patches=tuple(work.taken))
    patched = work.at_present([body])
    was_written_since = bool(work.taken) and item.version > item.patches[-1].patch
    unpatched = work.at_present([rows[place]]) if was_written_since else ()
    return Lifted(
        rows=(*work.at_present(rows[:place]), *patched, *work.at_present(rows[place + 1 :])),
        replaced=_replaced(unpatched, patched),
        handed_back=handed_back,
        refused=tuple(work.refused),
        waits="no_way_down" if work.has_no_way else None,
    )


def _place_of(key: str, rows: Sequence[Fields], table: LiveTable) -> int | None:
    """Which of the rows the patches of the document are of: the only one, or else the one of its key."""
    if len(rows) == 1:
        return 0
    places = [place for place, row in enumerate(rows) if table.is_called(row.get(table.key), key)]
    return places[0] if len(places) == 1 else None


def _replaced(unpatched: Sequence[Fields], rows: Sequence[Fields]) -> Fields:
    if len(unpatched) != 1 or len(rows) != 1:
        return {}
    return {name: value for name, value in unpatched[0].items() if name in rows[0] and rows[0][name] != value}


def _version(text: str) -> SchemaVersion:
    try:
        return SchemaVersion.parse(text)
    except ValueError:
        raise NewerShape(text) from None


class _Lifting:
    """One document and its patches, at the newest of their shapes."""

    def __init__(self, item: PulledRow, lifter: Lifter, owner: str, *, target: SchemaVersion) -> None:
        self._collection = item.collection
        self._lifter = lifter
        self._owner = owner
        self.target = target
        self.taken: list[int] = []
        self.refused: list[Refused] = []
        self.has_no_way = False

    def up(self, body: Fields, shape: SchemaVersion) -> list[dict[str, Any]]:
        """What the document is in the target shape."""
        return self._lifter.up(self._collection, body, owner=self._owner, start=shape, end=self.target)

    def at_present(self, rows: Sequence[Fields]) -> tuple[Fields, ...]:
        """What rows of the target shape are in the present one."""
        return tuple(
            made
            for row in rows
            for made in self._lifter.up(self._collection, row, owner=self._owner, start=self.target)
        )

    def with_patch(self, body: dict[str, Any], patch: Beside, shape: SchemaVersion) -> dict[str, Any]:
        """The document with one patch in it; without, where that cannot be."""
        try:
            body = {**body, **self._fields_of(body, patch, shape)}
        except NoWay:
            self.has_no_way = True
            return body
        except Exception as error:
            why = rejection_for(error)
            if why is None:
                raise
            self.refused.append(Refused(patch=patch, why=why))
            return body
        self.taken.append(patch.patch)
        return body

    def _fields_of(self, body: Fields, patch: Beside, shape: SchemaVersion) -> Fields:
        """What a patch changes in the target shape: down, patch, up, and the difference."""
        if shape == self.target:
            return patch.set
        older = self._lifter.down(self._collection, body, owner=self._owner, start=self.target, end=shape)
        without, within = self.up(older, shape), self.up({**older, **patch.set}, shape)
        if len(without) != 1 or len(within) != 1:
            raise NoWay("it becomes another number of rows")
        return {
            name: value for name, value in within[0].items() if name not in without[0] or without[0][name] != value
        }
