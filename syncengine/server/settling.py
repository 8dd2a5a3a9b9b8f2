"""What becomes of the entries of one push: groups whole, one receipt for each number. Touches rows in memory only."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from syncengine.remote.wire import Document, EntryKind, PushEntry, RowChange
from syncengine.server.judge import GROUP_REJECTED, EntryRejected, Fault
from syncengine.server.push_reading import Entry, RowEntry
from syncengine.server.receipts import Receipt, Receipts
from syncengine.server.rows_at_work import RowsAtWork
from syncengine.server.rules import Change, Place, Status, new_row
from syncengine.vocabulary import SchemaVersion


class _GroupInConflict(Exception):
    """A member stands on another version than the row has, and its sender wants to decide."""


class Settling:
    """The entries of one device, group by group. `cloud_version` is what the user's documents have reached."""

    def __init__(
        self, rows: RowsAtWork, *, writer: str, cloud_version: str | None, faults: Mapping[int, Fault]
    ) -> None:
        """`faults`: why entries can never be stored, by sequence."""
        self.cloud_version = cloud_version
        self._rows = rows
        self._writer = writer
        self._faults = faults
        self._receipts = Receipts()

    def settle(self, entries: Sequence[Entry]) -> list[Receipt]:
        """Receipts for all; every number is used up, whatever became of its entry."""
        for _, group in groupby(entries, key=_group_of):
            members = [*group]
            if len(members) == 1 and type(members[0]) is RowEntry:
                self._settle_alone(members[0])
            else:
                for receipt in self._settle_group(members):
                    self._receipts.add(receipt)
        return self._receipts.all()

    def _settle_alone(self, entry: RowEntry) -> None:
        """The same as for a group of one member, with less ado: most entries are alone."""
        rows = self._rows
        sequence, _, kind, collection, key, body, _, shape, token, _ = entry
        place = (collection, key)
        status: Status = "applied"
        overwrote: Document | None = None
        try:
            if kind is EntryKind.PUT and rows.is_new(place):
                row = new_row(body, shape_version=shape, version=rows.head + 1, writer=self._writer)
            else:
                made, status, _, overwrote = rows.judge(place, self._change(entry))
                if made is None:
                    self._receipts.add(Receipt(sequence, status, token))
                    return
                row = made
            rows.keep_alone(place, row)
        except EntryRejected as rejected:
            self._receipts.add(_rejected(entry, fault=rejected.fault))
        else:
            if overwrote is None:
                self._receipts.add_effect(sequence, status, token=token, version=row.version)
            else:
                self._receipts.add(Receipt(sequence, status, token, row.version, overwrote=overwrote))

    def _settle_group(self, members: list[Entry]) -> list[Receipt]:
        """All members applied or none."""
        if any(entry.sequence in self._faults for entry in members):
            return _all_rejected(members, faults=self._faults)
        before = self.cloud_version
        receipts: list[Receipt] = []
        try:
            for entry in members:
                receipts.append(self._apply(entry))
        except (EntryRejected, _GroupInConflict) as undone:
            self._rows.undo_group()
            self.cloud_version = before
            if isinstance(undone, EntryRejected):
                return _all_rejected(members, faults={members[len(receipts)].sequence: undone.fault})
            return [Receipt(entry.sequence, "conflict", entry.token) for entry in members]
        self._rows.keep_group()
        return receipts

    def _apply(self, entry: Entry) -> Receipt:
        if isinstance(entry, RowEntry):
            return self._apply_to_row(entry)
        match entry.kind:
            case EntryKind.VOID:
                return Receipt(entry.sequence, "applied", entry.token)
            case EntryKind.MIGRATION:
                return self._apply_migration(entry)
            case EntryKind.CHANGES:
                return self._apply_changes(entry)
            case _:
                return self._apply_to_row(entry)

    def _apply_to_row(self, entry: Entry) -> Receipt:
        said = self._rows.apply((entry.collection, entry.key), self._change(entry))
        if said.status == "conflict":
            raise _GroupInConflict
        version = said.row.version if said.row else None
        skipped = (entry.key,) if said.skipped else None
        return Receipt(entry.sequence, said.status, entry.token, version, skipped=skipped, overwrote=said.overwrote)

    def _change(self, entry: Entry) -> Change:
        return Change(
            entry.kind,
            entry.set,
            entry.shape_version,
            entry.base_version,
            self._writer,
            entry.on_conflict == "refuse",
            () if isinstance(entry, RowEntry) else entry.lifts or (),
        )

    def _apply_changes(self, entry: PushEntry) -> Receipt:
        """The rows that one edited row became. What the sender saw of that row says whether it stands."""
        own: Place = (entry.collection, entry.key)
        if entry.on_conflict == "refuse":
            self._refuse_conflict(own, entry)
        version: int | None = None
        status: Status = "applied"
        skipped: list[str] = []
        overwrote: Document = {}
        for number, change in enumerate(entry.changes or ()):
            place = (change.collection, change.key)
            if self._moved_on(place, change):
                skipped.append(change.key)
                continue
            seen = entry.base_version if place == own else None
            base = seen if change.if_version is None else change.if_version
            said = self._rows.apply(place, Change(change.kind, change.set, entry.shape_version, base, self._writer))
            version = said.row.version if said.row else version
            status = "merged" if said.status == "merged" else status
            if said.overwrote:
                overwrote[str(number)] = said.overwrote
        left_out = tuple(skipped) or None
        return Receipt(entry.sequence, status, entry.token, version, skipped=left_out, overwrote=overwrote or None)

    def _moved_on(self, place: Place, change: RowChange) -> bool:
        """Whether the row is not at the version that the change is for."""
        return change.if_version is not None and change.if_version != self._rows.version(place)

    def _refuse_conflict(self, own: Place, entry: PushEntry) -> None:
        asked = Change(
            EntryKind.DELETE, None, entry.shape_version, entry.base_version, self._writer, refuse=True
        )  # what refuses a delete refuses any change
        if self._rows.judge(own, asked).status == "conflict":
            raise _GroupInConflict

    def _apply_migration(self, entry: PushEntry) -> Receipt:
        """Changes whose row moved on are skipped: the row was rewritten by someone who knew better."""
        version: int | None = None
        skipped: list[str] = []
        for change in entry.changes or ():
            place = (change.collection, change.key)
            if self._moved_on(place, change):
                skipped.append(change.key)
                continue
            asked = Change(
                change.kind, change.set, entry.shape_version, change.if_version, self._writer, of_migration=True
            )
            said = self._rows.apply(place, asked)
            version = said.row.version if said.row else version
        if entry.cloud_version is not None:
            self._raise_cloud_version(entry.cloud_version)
        return Receipt(entry.sequence, "applied", entry.token, version, skipped=tuple(skipped))

    def _raise_cloud_version(self, reached: str) -> None:
        before = self.cloud_version
        if before is None or SchemaVersion.parse(reached) > SchemaVersion.parse(before):
            self.cloud_version = str(SchemaVersion.parse(reached))


def keys_of(entries: Iterable[Entry]) -> Mapping[str, set[str]]:
    """The keys, by collection, of the rows that entries without a fault are about."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if isinstance(entry, RowEntry):
            found[entry.collection].add(entry.key)
            continue
        if entry.key and entry.kind not in (EntryKind.VOID, EntryKind.MIGRATION):
            found[entry.collection].add(entry.key)
        for change in entry.changes or ():
            found[change.collection].add(change.key)
    return found


_group_of = attrgetter("group")


def _all_rejected(members: list[Entry], *, faults: Mapping[int, Fault]) -> list[Receipt]:
    return [_rejected(entry, fault=faults.get(entry.sequence, GROUP_REJECTED)) for entry in members]


def _rejected(entry: Entry, *, fault: Fault) -> Receipt:
    return Receipt(entry.sequence, "rejected", entry.token, code=fault.code, message=fault.message)
