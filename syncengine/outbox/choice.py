"""Which waiting entries make up the next batch: one walk through the queue, oldest first."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from syncengine.outbox.barrier_page import Barrier
from syncengine.outbox.entry import CONFLICT, ENTRY_BYTES_AROUND, Batch, Entry, Kind, entry_of
from syncengine.outbox.filing import file_entries
from syncengine.outbox.freezing import Freezer
from syncengine.outbox.numbered_rows import ROW, ids_of, rows_of
from syncengine.outbox.squash import Row, Squash, row_of
from syncengine.outbox.waiting import BODY, EXTRA, GROUP, IS_UNPULLED, waiting_parts

if TYPE_CHECKING:
    from syncengine.local.store import Store

PAGE_SURPLUS_ENTRIES, PAGE_ENTRIES_MIN, PAGE_ENTRIES_MAX = 8, 64, 2_000
WINDOW_ENTRIES = 20_000
"""A walk that has something to send looks at no more than this, however much is joined into it."""
_BODY_OF = itemgetter(BODY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one batch holds; a single larger group goes alone."""

    entries_max: int
    bytes_max: int


class Choice:
    """The entries of the next batch, and what became of others on the way.

    `behind`: a batch that is on its way now. `refusing`: collections whose entries the cloud judges by
    the version that they stand on, so that one row has one entry on its way. `doubtful_to`: nothing that is newer is
    joined to the entries up to this one, which another copy of this store may have sent.
    """

    def __init__(
        self,
        store: "Store",
        owner: str,
        limits: Limits,
        *,
        behind: Batch | None,
        refusing: frozenset[str],
        doubtful_to: int = 0,
    ) -> None:
        self._store = store
        self._owner = owner
        self._limits = limits
        self._on_their_way = ids_of(behind.entries) if behind is not None else []
        self._in_flight: AbstractSet[Row] = rows_of(behind.entries) if behind is not None else frozenset()
        self._refusing = refusing
        self._doubtful_to = doubtful_to
        self._freezer = Freezer(store)
        self._barriers = [
            (entry_id, frozenset(Barrier.from_json(text).collections))
            for entry_id, _, text in store.rows("outbox", "barriers", owner=owner)
        ]
        self._passed: set[Row] = set()
        self._taken: set[Row] = set()
        self._extra: dict[int, str] = {}
        self._unpulled: set[int] = set()
        self._uploads: set[int] = set()
        self._size_bytes = 0
        # No method of this object: a circle would keep all rows that were read until they are searched for garbage.
        self._is_new = partial(_is_new, uploads=self._uploads, in_flight=self._in_flight, taken=self._taken)
        self.squash = Squash(self._is_new)
        self.has_set_aside = False
        self._is_full = False
        self._ends_in_doubt = False

    def entries(self) -> list[tuple[Any, ...]]:
        """The entries of the next batch, bodies frozen; or one migration step; or none.

        Those to which nothing was done are rows of the outbox as they were read.
        """
        looked_at = 0
        parts = waiting_parts(
            self._store,
            self._owner,
            page_entries=self._page_entries,
            is_full=self._has_all_it_may_hold,
            on_their_way=self._on_their_way,
        )
        for is_plain, rows in parts:
            looked_at += len(rows)
            left = rows
            while left:
                if is_plain and looked_at < WINDOW_ENTRIES and not self._has_to_look_closely(left[0][0]):
                    left = left[self._take_plain(left) :]
                    if not left:
                        break
                    if self._is_full:
                        return self._chosen()
                unit = self._unit(left[:1] if is_plain and not _are_one_group(left) else left)
                left = left[len(unit) :]
                self._fence_doubtful(unit[0])
                if unit[0].kind is Kind.MIGRATION:
                    # Its turn comes when nothing that was written before it is left to send, or on its way.
                    if not self._taken and not self._in_flight:
                        return list(unit)
                    self.squash.fence()
                elif self._is_held_back(unit):
                    # What is written later to the same rows must not overtake.
                    self._passed.update(map(row_of, unit))
                elif not self._takes(unit) or (looked_at >= WINDOW_ENTRIES and self._taken):
                    return self._chosen()
        return self._chosen()

    def _has_to_look_closely(self, entry_id: int) -> bool:
        """Whether something may stand in the way of this entry or of those behind it."""
        return bool(self._passed or self._barriers) or self._is_doubtful(entry_id) or self._ends_in_doubt

    def _is_doubtful(self, entry_id: int) -> bool:
        return entry_id <= self._doubtful_to

    def _fence_doubtful(self, entry: Entry) -> None:
        """What is newer must not be refused together with what another copy may have sent."""
        if self._is_doubtful(entry.entry_id):
            self._ends_in_doubt = True
        elif self._ends_in_doubt:
            self.squash.fence()
            self._ends_in_doubt = False

    def _has_all_it_may_hold(self) -> bool:
        return len(self.squash) >= self._limits.entries_max

    def _page_entries(self, held: int) -> int:
        """A little more than there is room for, as the last group may go on; never so many that memory suffers."""
        room = self._limits.entries_max - len(self.squash) - held
        return min(max(room + PAGE_SURPLUS_ENTRIES, PAGE_ENTRIES_MIN), PAGE_ENTRIES_MAX)

    def _unit(self, rows: list[tuple[Any, ...]]) -> list[Entry]:
        """The entries of one group, and what is known of their rows written down."""
        for row in rows:
            if row[EXTRA] is not None:
                self._extra[row[0]] = row[EXTRA]
            if row[IS_UNPULLED]:
                self._unpulled.add(row[0])
        return list(map(entry_of, rows))

    def _take_plain(self, entries: list[tuple[Any, ...]]) -> int:
        """Take what nearly every entry is, an edit of a row that is written once, while there is room; how many.

        Saves most of the time. The first that is not taken has to be looked at closely; that says nothing else.
        """
        if len(entries) > 1 and _are_one_group(entries):
            return self._take_plain_group(entries)
        entries = entries[: max(self._limits.entries_max - len(self.squash), 0)]
        names = set(map(ROW, entries))
        size_bytes = _size_bytes(entries)
        has_room = size_bytes <= self._limits.bytes_max - self._size_bytes
        if not (has_room and len(names) == len(entries) and self._are_new(names)):
            names, size_bytes = self._first_that_fit(entries)
            entries = entries[: len(names)]
        self._taken |= names
        self._size_bytes += size_bytes
        self.squash.append_first(entries)
        return len(entries)

    def _are_new(self, names: set[Row]) -> bool:
        """None of them is chosen or on its way."""
        return names.isdisjoint(self._taken) and names.isdisjoint(self._in_flight)

    def _first_that_fit(self, entries: list[tuple[Any, ...]]) -> tuple[set[Row], int]:
        """Rows and size of those before the first that has no room, or whose row is chosen or on its way."""
        seen: set[Row] = set()
        room_bytes = self._limits.bytes_max - self._size_bytes
        taken_bytes = 0
        for entry in entries:
            row, size_bytes = ROW(entry), _size_bytes([entry])
            if row in seen or row in self._taken or row in self._in_flight or taken_bytes + size_bytes > room_bytes:
                break
            taken_bytes += size_bytes
            seen.add(row)
        return seen, taken_bytes

    def _take_plain_group(self, group: list[tuple[Any, ...]]) -> int:
        """Take it whole, or not at all; how many."""
        names = set(map(ROW, group))
        if len(names) < len(group) or not self._are_new(names):
            return 0
        size_bytes = _size_bytes(group)
        self._is_full = not self._has_room(len(group), size_bytes)
        if self._is_full:
            return 0
        self._size_bytes += size_bytes
        self._taken |= names
        self.squash.append_apart(group)
        return len(group)

    @property
    def rows(self) -> AbstractSet[Row] | None:
        """Of what was chosen; None where some of it came and went."""
        return None if self.squash.vanished else self._taken

    def _chosen(self) -> list[tuple[Any, ...]]:
        """Nothing where an entry was set aside: what was chosen may be held now."""
        return [] if self.has_set_aside else self.squash.left

    def _is_held_back(self, unit: list[Entry]) -> bool:
        if not self._passed and not self._barriers and not self._unpulled:
            return False
        return self._waits_for_pull(unit) or any(
            row_of(entry) in self._passed or self._is_behind_barrier(entry) for entry in unit
        )

    def _waits_for_pull(self, unit: list[Entry]) -> bool:
        """The cloud refused the group for a row that has changed there, and no row of it has been pulled since."""
        refused = [entry for entry in unit if entry.last_error == CONFLICT]
        return bool(refused) and all(entry.entry_id in self._unpulled for entry in refused)

    def _is_behind_barrier(self, entry: Entry) -> bool:
        return any(
            entry_id < entry.entry_id and entry.collection in collections for entry_id, collections in self._barriers
        )

    def _takes(self, unit: list[Entry]) -> bool:
        """Take a group if there is room for all of it; False when the batch is to be sent without it."""
        frozen = self._frozen(unit)
        if self.has_set_aside:
            return False  # what was chosen may be held now
        if len(frozen) == 1:
            return self._joins(frozen[0]) or self._adds_alone(frozen[0])
        group = Squash(self._is_new)
        for entry in frozen:
            group.add(entry)
        taken = self._adds_group(group.entries)
        if taken:
            self.squash.take_notes(group)
        return taken

    def _joins(self, entry: Entry) -> bool:
        """One edit of one row may join an earlier one whose group had no other row."""
        if row_of(entry) not in self._taken:
            return False
        size_bytes = self._size_bytes + entry.size_bytes
        if size_bytes > self._limits.bytes_max:
            return False
        if not (self.squash.joins(entry) or (entry.entry_id in self._uploads and self.squash.joins_upload(entry))):
            return False
        self._size_bytes = size_bytes
        return True

    def _adds_alone(self, entry: Entry) -> bool:
        size_bytes = entry.size_bytes
        if not self._has_room(1, size_bytes) or self._waits_for_an_answer([entry]):
            return False
        self.squash.append(entry)
        self._taken.add(row_of(entry))
        self._size_bytes += size_bytes
        return True

    def _adds_group(self, entries: list[Entry]) -> bool:
        if len(entries) == 1 and self._joins(entries[0]):
            return True
        size_bytes = sum(entry.size_bytes for entry in entries)
        if not self._has_room(len(entries), size_bytes) or self._waits_for_an_answer(entries):
            return False
        rows = set(map(row_of, entries))
        if len(rows) == 1:
            for entry in entries:
                self.squash.append(entry)
        else:
            self.squash.append_group(entries)
        self._taken |= rows
        self._size_bytes += size_bytes
        return True

    def _frozen(self, unit: list[Entry]) -> list[Entry]:
        frozen: list[Entry] = []
        for entry in unit:
            is_first = self._is_first_edit(entry)
            judged = self._freezer.frozen(entry, extra=self._extra.get(entry.entry_id), is_first=is_first)
            if judged is None:
                self.has_set_aside = True
                continue
            if entry.set_json is None or judged.kind is not entry.kind:
                self._uploads.add(entry.entry_id)
            frozen.append(judged)
        return frozen

    def _is_first_edit(self, entry: Entry) -> bool:
        """A part of a row that the cloud has not heard of: its upload comes later, or never."""
        if entry.kind is not Kind.PATCH or entry.base_version is not None:
            return False
        row = row_of(entry)
        if row in self._taken or row in self._in_flight:
            return False
        file_entries(self._store)
        return not self._store.value(
            "outbox",
            "has_earlier",
            collection=entry.collection,
            owner=entry.owner,
            row_key=entry.row_key,
            entry_id=entry.entry_id,
        )

    def _has_room(self, count: int, size_bytes: int) -> bool:
        """An empty batch has room for any group."""
        if not self._taken:
            return True
        limits = self._limits
        return len(self.squash) + count <= limits.entries_max and self._size_bytes + size_bytes <= limits.bytes_max

    def _waits_for_an_answer(self, entries: list[Entry]) -> bool:
        """The version that an entry stands on is known when its row's last entry has been answered."""
        return bool(self._refusing) and any(
            entry.collection in self._refusing and (row_of(entry) in self._taken or row_of(entry) in self._in_flight)
            for entry in entries
        )


def _size_bytes(rows: list[tuple[Any, ...]]) -> int:
    """About how much of a push they take."""
    bodies = list(map(_BODY_OF, rows))
    is_ascii = all(map(str.isascii, bodies))
    return sum(map(len, bodies if is_ascii else map(str.encode, bodies))) + len(rows) * ENTRY_BYTES_AROUND


def _are_one_group(rows: list[tuple[Any, ...]]) -> bool:
    """Of a part: it is one group, or several that have one row each."""
    return bool(rows[0][GROUP] == rows[-1][GROUP])


def _is_new(entry: Entry, *, uploads: set[int], in_flight: AbstractSet[Row], taken: set[Row]) -> bool:
    """The cloud would hear of this row for the first time, and here is where it began."""
    row = row_of(entry)
    return (
        entry.kind is Kind.PUT
        and entry.base_version is None
        and entry.entry_id not in uploads
        and row not in in_flight
        and row not in taken
    )


def units(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    """Neighbours of one group together."""
    for _, unit in groupby(entries, key=attrgetter("group_id")):
        yield list(unit)


def claimed_entries(store: "Store", owner: str, limits: Limits, *, epoch: int, after: int) -> Iterator[Entry]:
    """What has a number above `after`, in the order of the numbers."""
    page_entries = min(max(limits.entries_max + PAGE_SURPLUS_ENTRIES, PAGE_ENTRIES_MIN), PAGE_ENTRIES_MAX)
    while True:
        page = store.rows("outbox", "claimed", owner=owner, epoch=epoch, after=after, entries_max=page_entries)
        entries = list(map(entry_of, page))
        yield from entries
        if len(page) < page_entries:
            return
        after = entries[-1].sequence or 0


__all__ = ["Choice", "Limits", "claimed_entries", "units"]
