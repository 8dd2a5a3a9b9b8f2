"""What the cloud's answers do to the outbox, in one durable transaction."""

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from syncengine.clock import iso
from syncengine.local.version_table import read_installed, write_cloud_version
from syncengine.outbox.barrier_page import Barrier, Page
from syncengine.outbox.consequences import Consequences, fields_of
from syncengine.outbox.delivery import Event, State, next_state
from syncengine.outbox.entry import CONFLICT, GONE, AllApplied, Batch, Entry, Kind, Result, Results, Settled, entry_of
from syncengine.outbox.filing import file_entries
from syncengine.outbox.numbered_rows import collections_of, ids_of, kinds_of, shapes_of
from syncengine.outbox.overwritten import record_fallen_away, record_overwritten
from syncengine.outbox.row_set import know_row_sets
from syncengine.outbox.rows_aside import RowsAside
from syncengine.outbox.set_aside import resolve_void, set_aside
from syncengine.vocabulary import SchemaVersion, user_scope

if TYPE_CHECKING:
    from syncengine.local.store import Store

Also = Callable[[str], None]
"""Called with the owner inside the transaction that confirms, after the entries are gone."""


def confirm(
    store: "Store",
    batch: Batch,
    results: Results,
    *,
    server_epoch: int = 0,
    also: Also | None = None,
) -> Settled:
    """Settle each entry of a batch by its result; all of it, or nothing when the transaction fails.

    An entry without a result stays claimed and is sent again, and so does one whose number another copy of this store
    had used. One that another process has settled meanwhile, or whose epoch has ended, is passed over.
    `server_epoch`: the life of the cloud's rows that its versions belong to.
    """
    with store.transaction(durable=True):
        settling = _Settling(store, batch, server_epoch=server_epoch)
        if not (isinstance(results, AllApplied) and settling.settle_all(results)):
            answers = {result.sequence: result for result in results}
            settling.look_up()
            settling.part(answers)
            for sent in batch.entries:
                settling.settle(sent, answers.get(sent.sequence or 0))
        settling.write()
        store.run("drain", "confirm", owner=batch.owner, applied=settling.applied)
        if also is not None:
            also(batch.owner)
    return settling.settled()


class _Settling:
    """What the answers say, gathered: what leaves is written in a few statements."""

    def __init__(self, store: "Store", batch: Batch, *, server_epoch: int) -> None:
        self.applied = 0
        self._store = store
        self._batch = batch
        self._server_epoch = server_epoch
        self._present: dict[int, tuple[int, str]] = {}
        self._fallen: set[int] = set()
        self._parted: set[int] = set()
        self._leaving: list[int] = []
        self._sequences: list[int] = []
        self._versions: list[tuple[object, ...]] = []
        self._items: list[int] = []
        self._unanswered = self._conflicts = self._reused = 0
        self._aside = RowsAside(store, batch.owner)

    def settle_all(self, results: AllApplied) -> bool:
        """Settle a batch of edits of one row each that were all applied and are all here still; False: not such."""
        if self._aside.are_there:
            return False
        entries = self._batch.entries
        first, last = entries[0].sequence or 0, entries[-1].sequence or 0
        if first != results.first or len(entries) != len(results) or not _OF_ONE_ROW.issuperset(kinds_of(entries)):
            return False
        of_batch = {"owner": self._batch.owner, "epoch": self._batch.epoch, "first": first, "last": last}
        [(count, lowest, highest)] = self._store.rows("outbox", "still_as_sent", **of_batch)
        if count != len(entries):
            return False
        self._leaving = ids_of(entries)
        self._sequences = list(range(first, last + 1))
        versions, shift = results.versions, results.versions[0] - first
        is_run = versions == list(range(first + shift, last + shift + 1))
        if is_run and shapes_of(entries) == {lowest} == {highest}:
            know_row_sets(self._store, owner=self._batch.owner, collections=collections_of(entries))
            self._store.run("outbox", "remember_versions", shift=shift, server_epoch=self._server_epoch, **of_batch)
            return True
        self._versions = [
            (collection, owner, row_key, version, self._server_epoch, shape_version, kind is Kind.DELETE)
            for (collection, owner, row_key, shape_version, kind), version in zip(
                map(_OF_ROW, entries), versions, strict=True
            )
        ]
        return True

    def look_up(self) -> None:
        """Which entries of the batch are still here."""
        self._present = _present(self._store, self._batch)

    def part(self, answers: Mapping[int, Result]) -> None:
        """Groups that were rejected for what the database itself did to a row that is gone: the rest goes again."""
        gone = [
            sent
            for sent in self._batch.entries
            if (answer := answers.get(sent.sequence or 0)) is not None and answer.was_rejected and answer.code == GONE
        ]
        if not gone:
            return
        consequences = Consequences(self._store)
        for sent in gone:
            deleted = consequences.deleted_in_batch(sent, self._batch.entries)
            set_, before = fields_of(sent.set_json), fields_of(sent.before_json)
            if consequences.is_one(sent.collection, set_=set_, before=before, deleted=deleted):
                self._fallen.add(sent.sequence or 0)
                self._parted.add(sent.group_id)

    def settle(self, sent: Entry, answer: Result | None) -> None:
        present = self._present.get(sent.sequence or 0)
        if answer is None:
            self._unanswered += 1
        elif answer.first_answer == "reused":
            self._reused += 1
        elif present is not None:
            entry_id, kind = present
            if sent.group_id in self._parted and kind != Kind.VOID:
                self._part_from(entry_id, sent)
            elif kind in _PLAIN and kind == sent.kind and answer.took_effect:
                self._leaves(sent, answer)
                if answer.overwrote or self._aside.are_there:
                    record_overwritten(self._store, sent, answer, aside=self._aside)
            else:
                self._settle_one(entry_id, answer)

    def write(self) -> None:
        """What took effect leaves, and what travelled in it; the versions of its rows are remembered."""
        batch = self._batch
        for first, last in _runs(self._sequences):
            of_run = {"owner": batch.owner, "epoch": batch.epoch, "first": first, "last": last}
            self.applied += self._store.run("outbox", "delete_run", **of_run)
        if self._leaving:
            ends = {"owner": batch.owner, "first": min(self._leaving), "last": max(self._leaving)}
            self.applied += self._store.run("outbox", "delete_squashed_of", **ends)
        self._store.run("outbox", "close_behind")
        know_row_sets(self._store, owner=batch.owner, collections={str(name) for name, *_ in self._versions})
        self._store.run_many("outbox", "remember_version", self._versions)

    def settled(self) -> Settled:
        return Settled(
            applied=self.applied,
            unanswered=self._unanswered,
            items=tuple(self._items),
            conflicts=self._conflicts,
            reused=self._reused,
        )

    def _leaves(self, entry: Entry, answer: Result) -> None:
        self._leaving.append(entry.entry_id)
        self._sequences.append(answer.sequence)
        # Several changes have several versions, and a lift that was passed over has changed nothing: pulling tells.
        if answer.version is not None and entry.kind is not Kind.CHANGES and not answer.skipped:
            self._versions.append(
                (
                    entry.collection,
                    entry.owner,
                    entry.row_key,
                    answer.version,
                    self._server_epoch,
                    entry.shape_version,
                    entry.kind is Kind.DELETE,
                )
            )

    def _part_from(self, entry_id: int, sent: Entry) -> None:
        entry = entry_of(self._store.rows("outbox", "entry", entry_id=entry_id)[0])
        _set_back(self._store, entry)
        if sent.sequence in self._fallen:
            self._conflicts += 1
            next_state(State.WAITING, Event.NOTHING_LEFT)
            record_fallen_away(self._store, sent)
            now = iso(self._store.clock.now_ms())
            self._store.run("receipts", "note_end", entry_id=entry_id, ended="merged_away", now=now)
            self._store.run("pull", "drop_entry", entry_id=entry_id)

    def _settle_one(self, entry_id: int, answer: Result) -> None:
        entry = entry_of(self._store.rows("outbox", "entry", entry_id=entry_id)[0])
        if entry.kind is Kind.VOID:
            self.applied += _settle_void(self._store, entry, answer)
            return
        self.applied += answer.took_effect
        if answer.was_in_conflict:
            self._conflicts += 1
            _set_back(self._store, entry)
        elif answer.was_rejected:
            self._items.append(
                _reject(self._store, entry, code=answer.code or "rejected", message=answer.message or "")
            )
        else:
            item = _settle_page(self._store, entry, skipped=answer.skipped)
            self._items += [item] if item is not None else []


_PLAIN = frozenset({Kind.PUT, Kind.PATCH, Kind.DELETE, Kind.CHANGES, Kind.LIFT})
"""Entries that leave when they have taken effect."""


_OF_ONE_ROW = frozenset({Kind.PUT, Kind.PATCH, Kind.DELETE})
_OF_ROW = attrgetter("collection", "owner", "row_key", "shape_version", "kind")


def _runs(sequences: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of numbers that follow each other; they rise."""
    if sequences and sequences[-1] - sequences[0] + 1 == len(sequences):
        yield sequences[0], sequences[-1]
        return
    for _, run in groupby(enumerate(sequences), key=lambda numbered: numbered[1] - numbered[0]):
        numbers = [sequence for _, sequence in run]
        yield numbers[0], numbers[-1]


def _present(store: "Store", batch: Batch) -> dict[int, tuple[int, str]]:
    """By number: the entries of the batch that are still here, as they are now."""
    if not batch.entries:
        return {}
    first, last = batch.entries[0].sequence, batch.entries[-1].sequence
    rows = store.rows("outbox", "still_claimed", owner=batch.owner, epoch=batch.epoch, first=first, last=last)
    return {sequence: (entry_id, kind) for sequence, entry_id, kind in rows}


def _set_back(store: "Store", entry: Entry) -> None:
    """It waits until a row of its group has been pulled, or all that the cloud has."""
    waiting = next_state(State.CLAIMED, Event.CONFLICT)
    store.run("outbox", "set_back", entry_id=entry.entry_id, state=waiting, last_error=CONFLICT)


def end_conflicts(store: "Store", owner: str) -> None:
    """All that the cloud has was read, so what it had refused before can be sent.

    The cloud refuses groups whole. The edit of the row that had changed there may have left its group since, and the
    rows of the others may never come in a page, for nobody changed them.
    """
    file_entries(store)
    with store.transaction(durable=True):
        store.run("outbox", "end_conflicts", owner=owner)


def _reject(store: "Store", entry: Entry, *, code: str, message: str) -> int:
    return set_aside(store, entry, event=Event.REJECTED, error_code=code, error_text=message)


def _settle_void(store: "Store", void: Entry, answer: Result) -> bool:
    """The number is used up; True where what it had stood for took effect before it was made empty."""
    # An empty number has no row version, so a version in the first answer is that of the body: the cloud took it
    # before we made the number empty.
    first_copy_arrived = answer.status == "duplicate" and answer.took_effect and answer.version is not None
    if first_copy_arrived:
        next_state(State.VOID, Event.FIRST_COPY_APPLIED)
        resolve_void(store, void)
    else:
        next_state(State.VOID, Event.REJECTED if answer.was_rejected else Event.APPLIED)
    # A migration that has left nothing of an entry has kept what travelled in it.
    store.run("outbox", "delete_squashed", entry_id=void.entry_id)
    store.run("outbox", "delete", entry_id=void.entry_id)
    return first_copy_arrived


def _settle_page(store: "Store", entry: Entry, *, skipped: tuple[str, ...]) -> int | None:
    barrier = Barrier.from_json(entry.barrier_json or "")
    if barrier.page is None:
        raise AssertionError("a numbered migration step has a page")
    if barrier.reads is None:
        # It only told the version: the last thing that a step does.
        reach_cloud_version(store, entry.owner, version=barrier.cloud_version)
        next_state(State.CLAIMED, Event.APPLIED)
        store.run("outbox", "delete", entry_id=entry.entry_id)
        return None
    after = barrier.after_page(barrier.page, skipped=_changed_meanwhile(barrier.page, skipped))
    if after.again and after.again.tries >= store.settings.attempts_of_one_entry_max:
        why = f"{len(skipped)} cloud rows changed again and again between reading and writing"
        return _reject(store, entry, code="rows_keep_changing", message=why)
    go_on(store, entry, after)
    return None


def _changed_meanwhile(page: Page, skipped: tuple[str, ...]) -> tuple[str, ...]:
    """The skipped keys whose row was read at another version; a new row that is there already needs nothing."""
    read = {change["key"] for change in page.changes if change["if_version"]}
    return tuple(key for key in skipped if key in read)


def reach_cloud_version(store: "Store", owner: str, *, version: str | None) -> None:
    """Record which version a user's cloud data has reached; it never goes back. Inside a transaction."""
    if version is None:
        return
    reached = SchemaVersion.parse(version)
    known = read_installed(store).cloud_versions.get(user_scope(owner))
    if known is None or known < reached:
        write_cloud_version(store, owner, version=reached)


def go_on(store: "Store", entry: Entry, barrier: Barrier) -> None:
    """A migration step goes on with its next page, or leaves when nothing is left. Inside a transaction."""
    state = State(entry.state)
    claimed = state is State.CLAIMED
    if barrier.is_done:
        next_state(state, Event.APPLIED if claimed else Event.NOT_NEEDED)
        store.run("outbox", "delete", entry_id=entry.entry_id)
        return
    waiting = next_state(state, Event.PAGE_APPLIED if claimed else Event.PAGE_UNCHANGED)
    store.run("outbox", "put_back", entry_id=entry.entry_id, state=waiting, barrier_json=barrier.to_json())
