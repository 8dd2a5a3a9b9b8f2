"""The entries of nearly every batch: rows of the outbox to which nothing is done but be numbered."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from operator import itemgetter
from typing import Any, overload

from syncengine.outbox.entry import Entry, numbered

ENTRY_ID, KIND, COLLECTION, KEY, BODY, BASE_VERSION, SHAPE, GROUP, TOKEN = 0, 4, 5, 6, 7, 9, 10, 12, 20
"""Where these stand in an entry, and in the row that it is read from."""
Row = tuple[str, str]
"""Collection and key."""
ROW = itemgetter(COLLECTION, KEY)
_ENTRY_ID, _KIND, _COLLECTION, _SHAPE = map(itemgetter, (ENTRY_ID, KIND, COLLECTION, SHAPE))


class NumberedRows(Sequence[Entry]):
    """Puts and patches beyond doubt with the numbers from `first` on. An entry is made when somebody looks at it:
    those that are sent and applied are never looked at one by one.
    """

    __slots__ = ("_rows", "epoch", "first", "names", "state", "token")

    def __init__(
        self,
        rows: list[tuple[Any, ...]],
        *,
        first: int,
        epoch: int,
        state: str,
        token: str | None,
        names: AbstractSet[Row] | None = None,
    ) -> None:
        """`names`: collection and key of each, where they are known."""
        self._rows = rows
        self.first = first
        self.epoch = epoch
        self.state = state
        self.token = token
        self.names = names

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries(self._rows, first=self.first))

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Entry, ...]: ...
    def __getitem__(self, place: int | slice) -> Entry | tuple[Entry, ...]:
        if isinstance(place, slice):
            return tuple(self)[place]
        at = range(len(self._rows))[place]
        return self._entries(self._rows[at : at + 1], first=self.first + at)[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"NumberedRows({len(self._rows)} from {self.first})"

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """As they were read, without their numbers."""
        return self._rows

    @property
    def last(self) -> int:
        """The last number."""
        return self.first + len(self._rows) - 1

    def _entries(self, rows: list[tuple[Any, ...]], *, first: int) -> list[Entry]:
        return numbered(rows, first=first, epoch=self.epoch, state=self.state, token=self.token)


def rows_of(entries: Sequence[Entry]) -> AbstractSet[Row]:
    """Collection and key of each."""
    if isinstance(entries, NumberedRows) and entries.names is not None:
        return entries.names
    return frozenset(map(ROW, _as_read(entries)))


def ids_of(entries: Sequence[Entry]) -> list[int]:
    """The local ids, in order."""
    return list(map(_ENTRY_ID, _as_read(entries)))


def kinds_of(entries: Sequence[Entry]) -> set[str]:
    """Which there are."""
    return set(map(_KIND, _as_read(entries)))


def collections_of(entries: Sequence[Entry]) -> set[str]:
    """Which there are."""
    return set(map(_COLLECTION, _as_read(entries)))


def shapes_of(entries: Sequence[Entry]) -> set[str]:
    """Which there are."""
    return set(map(_SHAPE, _as_read(entries)))


def _as_read(entries: Sequence[Entry]) -> Sequence[tuple[Any, ...]]:
    return entries.rows if isinstance(entries, NumberedRows) else entries
