"""Choose what is sent next, give it numbers, and freeze it on disk before a byte leaves the device."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING

from syncengine.errors import TextUnreadable
from syncengine.outbox.barrier_page import Barrier
from syncengine.outbox.delivery import Event, State, next_state
from syncengine.outbox.entry import Batch, Entry, Kind, entry_of
from syncengine.outbox.holding import hold_behind_open_items
from syncengine.outbox.numbering import ensure_drain
from syncengine.outbox.row_body import LiveRows, RowUnreadable
from syncengine.outbox.sendable import entry_fault
from syncengine.outbox.set_aside import set_aside
from syncengine.outbox.unreadable_keys import set_aside_unreadable_keys

if TYPE_CHECKING:
    from syncengine.local.store import Store

PAGE_ENTRIES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one batch holds; a single larger group goes alone."""

    entries_max: int
    bytes_max: int


@dataclass(slots=True)
class _Filling:
    """A batch while it is filled."""

    limits: Limits
    entries: list[Entry] = field(default_factory=list)
    size_bytes: int = 0

    def takes(self, unit: list[Entry]) -> bool:
        """Add a group if there is room for all of it; an empty batch takes any."""
        size_bytes = sum(entry.size_bytes for entry in unit)
        too_many = len(self.entries) + len(unit) > self.limits.entries_max
        if self.entries and (too_many or self.size_bytes + size_bytes > self.limits.bytes_max):
            return False
        self.entries += unit
        self.size_bytes += size_bytes
        return True


def claim(store: "Store", owner: str, *, limits: Limits, fresh: bool = True) -> Batch:
    """The next batch of one queue, durable before it is returned; empty when nothing can be sent.

    First comes what is claimed already: same numbers, same bodies, same order. Only then are waiting entries
    numbered, oldest first and groups whole (`fresh=False`: never). What a migration step or a quarantine item
    holds back is passed over. A step of a migration comes alone, and without a number.
    """
    with store.transaction(durable=True):
        drain = ensure_drain(store, owner)
        claimed = _claimed_again(store, owner, limits)
        if claimed or not fresh:
            return Batch(owner=owner, epoch=drain.epoch, entries=tuple(claimed))
        chosen = _choose_behind_items(store, owner, limits)
        if chosen and chosen[0].kind is not Kind.MIGRATION:
            chosen = _number(store, chosen, epoch=drain.epoch, first=drain.next_sequence)
        return Batch(owner=owner, epoch=drain.epoch, entries=tuple(chosen))


def _claimed_again(store: "Store", owner: str, limits: Limits) -> list[Entry]:
    batch = _Filling(limits)
    for unit in _units(_pages(store, "claimed", owner)):
        if not batch.takes(unit):
            break
    return [_emptied(entry) for entry in batch.entries]


def _emptied(entry: Entry) -> Entry:
    """An empty number travels without its row's name, which may be what could not be sent."""
    return replace(entry, collection="", row_key="") if entry.kind is Kind.VOID else entry


def _choose_behind_items(store: "Store", owner: str, limits: Limits) -> list[Entry]:
    try:
        with store.savepoint("choose"):
            hold_behind_open_items(store, owner)
            return _choose(store, owner, limits)
    except TextUnreadable:
        # A key that an earlier version queued unjudged.
        set_aside_unreadable_keys(store, owner)
    hold_behind_open_items(store, owner)
    return _choose(store, owner, limits)


def _choose(store: "Store", owner: str, limits: Limits) -> list[Entry]:
    while True:
        choice = _Choice(store, owner, limits)
        entries = choice.made()
        # Each time round, one more unreadable entry has left the queue.
        if entries or not choice.has_set_aside:
            return entries


class _Choice:
    """One walk through the queue, oldest first."""

    def __init__(self, store: "Store", owner: str, limits: Limits) -> None:
        self._store = store
        self._owner = owner
        self._batch = _Filling(limits)
        self._live_rows = LiveRows(store)
        self._barriers = [
            (entry_id, frozenset(Barrier.from_json(text).collections))
            for entry_id, _, text in store.rows("outbox", "barriers", owner=owner)
        ]
        self._rows_passed: set[tuple[str, str]] = set()
        self.has_set_aside = False

    def made(self) -> list[Entry]:
        """The entries of the next batch, bodies frozen; or one migration step; or none."""
        for unit in _units(_pages(self._store, "waiting", self._owner)):
            if unit[0].kind is Kind.MIGRATION:
                # Its turn comes when nothing that was written before it is left to send.
                if not self._batch.entries:
                    return unit
            elif not self._is_held_back(unit):
                frozen = self._frozen(unit)
                if self.has_set_aside:
                    return []  # what was chosen may be held now
                if not self._batch.takes(frozen):
                    break
            else:
                # What is written later to the same rows must not overtake.
                self._rows_passed.update((entry.collection, entry.row_key) for entry in unit)
        return self._batch.entries

    def _is_held_back(self, unit: list[Entry]) -> bool:
        return any(
            (entry.collection, entry.row_key) in self._rows_passed or self._is_behind_barrier(entry) for entry in unit
        )

    def _is_behind_barrier(self, entry: Entry) -> bool:
        return any(
            entry_id < entry.entry_id and entry.collection in collections for entry_id, collections in self._barriers
        )

    def _frozen(self, unit: list[Entry]) -> list[Entry]:
        frozen = [_freeze(self._store, entry, self._live_rows) for entry in unit]
        self.has_set_aside = None in frozen
        return [entry for entry in frozen if entry is not None]


def _freeze(store: "Store", entry: Entry, live_rows: LiveRows) -> Entry | None:
    """The entry with the body that will be sent; None when it went to quarantine instead."""
    fault = entry_fault(entry)
    if fault is not None:
        set_aside(store, entry, event=Event.UNREADABLE, error_code=fault.code, error_text=fault.why)
        return None
    if entry.kind is not Kind.PUT or entry.set_json is not None:
        return entry
    try:
        body = live_rows.body_json(entry.collection, owner=entry.owner, row_key=entry.row_key)
    except RowUnreadable as error:
        set_aside(store, entry, event=Event.UNREADABLE, error_code=error.code, error_text=error.why)
        return None
    if body is not None:
        return replace(entry, set_json=body)
    if _row_is_set_aside(store, entry):
        why = "its row lies in quarantine"
        set_aside(store, entry, event=Event.UNREADABLE, error_code="row_in_quarantine", error_text=why)
        return None
    # The user deleted the row after it was queued. An earlier upload may have reached the cloud, so it is deleted
    # there too; deleting what the cloud never had does no harm.
    return replace(entry, kind=Kind.DELETE)


def _row_is_set_aside(store: "Store", entry: Entry) -> bool:
    return bool(
        store.value(
            "quarantine",
            "row_is_set_aside",
            collection=entry.collection,
            owner=entry.owner,
            row_key=entry.row_key,
        )
    )


def _number(store: "Store", chosen: list[Entry], *, epoch: int, first: int) -> list[Entry]:
    claimed = next_state(State.WAITING, Event.CLAIM)
    numbered = [
        replace(entry, sequence=first + index, epoch=epoch, state=claimed) for index, entry in enumerate(chosen)
    ]
    for entry in numbered:
        write_number(store, entry)
    store.run("drain", "take_sequences", owner=chosen[0].owner, next_sequence=first + len(chosen))
    # What is written from now on is another group, even by a process that began before.
    store.rows("outbox", "advance_groups", count=1)
    return numbered


def write_number(store: "Store", entry: Entry) -> None:
    """Write down the number and the frozen body. Inside a durable transaction."""
    store.run(
        "outbox",
        "number",
        entry_id=entry.entry_id,
        sequence=entry.sequence,
        epoch=entry.epoch,
        state=entry.state,
        kind=entry.kind,
        set_json=entry.set_json,
        barrier_json=entry.barrier_json,
    )


def _units(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    """Neighbours of one group together."""
    for _, unit in groupby(entries, key=lambda entry: entry.group_id):
        yield list(unit)


def _pages(store: "Store", name: str, owner: str) -> Iterator[Entry]:
    """Entries page by page: a queue may be longer than memory should hold."""
    after = 0
    while True:
        rows = store.rows("outbox", name, owner=owner, after=after, entries_max=PAGE_ENTRIES)
        page = [entry_of(row) for row in rows]
        yield from page
        if len(page) < PAGE_ENTRIES:
            return
        after = page[-1].sequence or page[-1].entry_id
