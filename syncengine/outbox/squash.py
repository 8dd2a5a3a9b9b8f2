"""Two unsent edits of one row as one. Pure: what may be joined, and what the joined edit says."""

from collections.abc import Callable
from enum import Enum
from itertools import count
from operator import itemgetter
from typing import Any

import orjson

from syncengine.outbox.entry import Entry, Kind, entry_of
from syncengine.outbox.sendable import body_fault

ROW_KINDS = frozenset({Kind.PUT, Kind.PATCH, Kind.DELETE})
"""Entries of any other kind touch more than one row, or none: nothing is joined over them."""

Row = tuple[str, str]
"""Collection and key."""


class Vanished(Enum):
    """A row that came and went before the cloud heard of it: nothing is left to send."""

    VANISHED = 1


VANISHED = Vanished.VANISHED
_ROW = itemgetter(5, 6)


def row_of(entry: Entry) -> Row:
    return entry.collection, entry.row_key


def joined(earlier: Entry, later: Entry, *, cloud_never_had_it: bool = False) -> Entry | Vanished | None:
    """`earlier` with `later` in it, at the place of `earlier`; None where two entries they must stay.

    Sending the joined entry does to the cloud's row what sending both in order does. `cloud_never_had_it`: neither
    this row nor an earlier entry of it has been sent, and `earlier` is where it began.
    """
    if row_of(earlier) != row_of(later) or earlier.shape_version != later.shape_version:
        return None
    match earlier.kind, later.kind:
        case ((Kind.PUT | Kind.PATCH), Kind.PATCH):
            return _with_fields(earlier, later)
        case Kind.PUT, Kind.DELETE:
            if cloud_never_had_it:
                return VANISHED
            # Before both there was no row here.
            return earlier._replace(kind=Kind.DELETE, set_json=None)
        case Kind.PATCH, Kind.DELETE:
            return _deletion(earlier, later)
    # What follows a deletion begins anew, and a whole row over a part of one does not only add to it.
    return None


def _with_fields(earlier: Entry, later: Entry) -> Entry | None:
    """The later value of each field, and the value that it had before the first."""
    if earlier.set_json is None or later.set_json is None:
        return None
    now = _both(earlier.set_json, later.set_json)
    if earlier.kind is Kind.PUT:
        return None if now is None else earlier._replace(set_json=now)
    before = _both(later.before_json or "{}", earlier.before_json or "{}")
    if now is None or before is None:
        return None
    return earlier._replace(set_json=now, before_json=before)


def _deletion(earlier: Entry, later: Entry) -> Entry | None:
    """The row as it was before both is what this deletion takes away."""
    before = later.before_json
    if before is not None and earlier.before_json is not None:
        before = _both(before, earlier.before_json)
        if before is None:
            return None
    return earlier._replace(kind=Kind.DELETE, set_json=None, before_json=before)


def _both(under: str, over: str) -> str | None:
    """The fields of both objects, those of `over` on top; None for what cannot be written again as it is."""
    if body_fault(under) is not None or body_fault(over) is not None:
        return None
    return _written({**_object(under), **_object(over)})


def _object(text: str) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(text)
    return found


def _written(fields: dict[str, Any]) -> str:
    return orjson.dumps(fields).decode()


class Squash:
    """Entries in order, each joined to an earlier one of its row where that is safe.

    `is_new`: whether an entry is the first that the cloud would hear of its row.
    """

    def __init__(self, is_new: Callable[[Entry], bool]) -> None:
        self.travels: dict[int, int] = {}
        """An entry that is joined to another one, and which."""
        self.vanished: list[int] = []
        """Entries that leave unsent."""
        self._is_new = is_new
        self._places: list[tuple[Any, ...] | None] = []
        self._joinable: dict[Row, int] = {}
        self._unlisted: list[tuple[int, list[tuple[Any, ...]]]] = []
        self._began: set[int] = set()
        self._left_out = 0

    @property
    def entries(self) -> list[Entry]:
        """What is left to send."""
        return [entry if isinstance(entry, Entry) else entry_of(entry) for entry in self.left]

    @property
    def left(self) -> list[tuple[Any, ...]]:
        """The same, where what came as a row of the outbox and was joined to nothing still is one."""
        return [entry for entry in self._places if entry is not None]

    def __len__(self) -> int:
        return len(self._places) - self._left_out

    def add(self, entry: Entry) -> None:
        """The next entry: joined, or with a place of its own."""
        if not self.joins(entry):
            self.append(entry)

    def append(self, entry: Entry) -> None:
        """An entry with a place of its own; later ones of its row may join it."""
        if entry.kind not in ROW_KINDS:
            self.fence()
            self._places.append(entry)
            return
        row = row_of(entry)
        joinable = self._listed()
        if row not in joinable and self._is_new(entry):
            self._began.add(len(self._places))
        joinable[row] = len(self._places)
        self._places.append(entry)

    def append_first(self, entries: list[tuple[Any, ...]]) -> None:
        """Puts and patches with bodies, each the first of its row; as rows of the outbox."""
        self._unlisted.append((len(self._places), entries))
        self._places += entries

    def _listed(self) -> dict[Row, int]:
        """The last place of each row that an edit may join. Made up to date when somebody asks: mostly nobody."""
        for first, entries in self._unlisted:
            self._joinable.update(zip(map(_ROW, entries), count(first), strict=False))
        self._unlisted.clear()
        return self._joinable

    def append_apart(self, group: list[tuple[Any, ...]]) -> None:
        """Members of a group of several rows, each the first of its row; as rows of the outbox."""
        self._places += group

    def append_group(self, entries: list[Entry]) -> None:
        """Members of a group of several rows: nothing is joined to them, nor over them."""
        joinable = self._listed()
        for entry in entries:
            joinable.pop(row_of(entry), None)
        self._places += entries

    def joins(self, entry: Entry) -> bool:
        """Join an entry to the last one of its row, if that is safe."""
        place = self._listed().get(row_of(entry))
        earlier = None if place is None else self._at(place)
        if place is None or earlier is None:
            return False
        both = joined(earlier, entry, cloud_never_had_it=place in self._began)
        if both is None:
            return False
        if isinstance(both, Vanished):
            self.vanished += (earlier.entry_id, entry.entry_id)
            self._places[place] = None
            self._left_out += 1
            del self._listed()[row_of(entry)]
        else:
            self.travels[entry.entry_id] = earlier.entry_id
            self._places[place] = both
        return True

    def _at(self, place: int) -> Entry | None:
        found = self._places[place]
        if found is None or isinstance(found, Entry):
            return found
        entry = self._places[place] = entry_of(found)
        if entry.kind is Kind.PUT and entry.base_version is None:
            self._began.add(place)
        return entry

    def joins_upload(self, entry: Entry) -> bool:
        """Join a whole row, read just now, to an earlier whole one: it was edited before its upload was queued."""
        row = row_of(entry)
        place = self._listed().get(row)
        earlier = None if place is None else self._at(place)
        if place is None or earlier is None or earlier.shape_version != entry.shape_version:
            return False
        if not earlier.kind is entry.kind is Kind.PUT:
            return False
        both = _with_fields(earlier, entry)
        if both is None:
            return False
        self.travels[entry.entry_id] = earlier.entry_id
        self._places[place] = both
        self._began.discard(place)
        return True

    def fence(self) -> None:
        """Nothing that comes from now on joins what was before."""
        self._unlisted.clear()
        self._joinable.clear()

    def take_notes(self, other: "Squash") -> None:
        """What another one has joined and left out is so here, too."""
        self.travels |= other.travels
        self.vanished += other.vanished


__all__ = ["ROW_KINDS", "VANISHED", "Row", "Squash", "Vanished", "joined", "row_of"]
