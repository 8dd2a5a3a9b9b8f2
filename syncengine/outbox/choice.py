"""Which waiting entries make up the next batch: one walk through the queue, oldest first."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from syncengine.outbox.barrier_page import Barrier
from syncengine.outbox.entry import CONFLICT, Entry, Kind, entry_of
from syncengine.outbox.freezing import Freezer
from syncengine.outbox.sendable import is_plain, is_plain_key
from syncengine.outbox.squash import Row, Squash, row_of

if TYPE_CHECKING:
    from syncengine.local.store import Store

WINDOW_ENTRIES = 20_000
"""A walk that has something to send looks at no more than this, however much is joined into it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one batch holds; a single larger group goes alone."""

    entries_max: int
    bytes_max: int

    @property
    def page_entries(self) -> int:
        """How many entries are read at once: a little more than a batch, for its last group may go on."""
        return min(max(self.entries_max + 8, 64), 2_000)


class Choice:
    """The entries of the next batch, and what became of others on the way.

    `in_flight`: rows whose entries are on their way now. `refusing`: collections whose entries the cloud judges by
    the version that they stand on, so that one row has one entry on its way.
    """

    def __init__(
        self, store: "Store", owner: str, limits: Limits, *, in_flight: frozenset[Row], refusing: frozenset[str]
    ) -> None:
        self._store = store
        self._owner = owner
        self._limits = limits
        self._in_flight = in_flight
        self._refusing = refusing
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
        self.squash = Squash(self._is_new)
        self.has_set_aside = False

    def entries(self) -> list[Entry]:
        """The entries of the next batch, bodies frozen; or one migration step; or none."""
        looked_at = 0
        for unit in units(self._waiting()):
            looked_at += len(unit)
            if looked_at < WINDOW_ENTRIES and len(unit) == 1 and self._takes_plain(unit[0]):
                continue
            if unit[0].kind is Kind.MIGRATION:
                # Its turn comes when nothing that was written before it is left to send, or on its way.
                if not self._taken and not self._in_flight:
                    return unit
                self.squash.fence()
            elif self._is_held_back(unit):
                # What is written later to the same rows must not overtake.
                self._passed.update(map(row_of, unit))
            elif not self._takes(unit) or (looked_at >= WINDOW_ENTRIES and self._taken):
                break
        return [] if self.has_set_aside else self.squash.entries

    def _waiting(self) -> Iterator[Entry]:
        for row in pages(self._store, "waiting", self._owner, self._limits.page_entries, by=0):
            entry = entry_of(row)
            extra, is_unpulled = row[-2:]
            if extra is not None:
                self._extra[entry.entry_id] = extra
            if is_unpulled:
                self._unpulled.add(entry.entry_id)
            yield entry

    def _takes_plain(self, entry: Entry) -> bool:
        """Take what nearly every entry is: one edit of a row that is written once, with a body beyond doubt.

        Saves two thirds of the time; False says nothing but that all has to be looked at.
        """
        body, row = entry.set_json, (entry.collection, entry.row_key)
        if (
            body is None
            or row in self._taken
            or row in self._in_flight
            or not (entry.kind is Kind.PUT or (entry.kind is Kind.PATCH and entry.base_version is not None))
            or self._passed
            or self._barriers
            or entry.entry_id in self._unpulled
            or entry.entry_id in self._extra
            or not is_plain_key(entry.row_key)
            or not is_plain(body)
        ):
            return False
        size_bytes = entry.size_bytes
        if not self._has_room(1, size_bytes):
            return False
        self.squash.append_first(entry, row, is_new=entry.base_version is None)
        self._taken.add(row)
        self._size_bytes += size_bytes
        return True

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
        return (
            row not in self._taken
            and row not in self._in_flight
            and not self._store.value(
                "outbox",
                "has_earlier",
                collection=entry.collection,
                owner=entry.owner,
                row_key=entry.row_key,
                entry_id=entry.entry_id,
            )
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

    def _is_new(self, entry: Entry) -> bool:
        """The cloud would hear of this row for the first time, and here is where it began."""
        row = row_of(entry)
        return (
            entry.kind is Kind.PUT
            and entry.base_version is None
            and entry.entry_id not in self._uploads
            and row not in self._in_flight
            and row not in self._taken
        )


def units(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    """Neighbours of one group together."""
    for _, unit in groupby(entries, key=attrgetter("group_id")):
        yield list(unit)


def claimed_entries(store: "Store", owner: str, limits: Limits, *, epoch: int, after: int) -> Iterator[Entry]:
    """What has a number above `after`, in the order of the numbers."""
    return map(entry_of, pages(store, "claimed", owner, limits.page_entries, by=2, after=after, epoch=epoch))


def pages(
    store: "Store", name: str, owner: str, page_entries: int, *, by: int, after: int = 0, **more: Any
) -> Iterator[tuple[Any, ...]]:
    """Rows of the outbox page by page, in the order of column `by`: a queue may be longer than memory should hold."""
    while True:
        page = store.rows("outbox", name, owner=owner, after=after, entries_max=page_entries, **more)
        yield from page
        if len(page) < page_entries:
            return
        after = page[-1][by]


__all__ = ["Choice", "Limits", "claimed_entries", "units"]
