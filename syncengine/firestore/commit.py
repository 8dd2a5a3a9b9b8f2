"""One commit of a push: read what its entries are about, settle them by the cloud's rules, write it whole."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from syncengine.firestore.answers import Contended
from syncengine.firestore.names import ID_BYTES_MAX, Names, document_id
from syncengine.firestore.receipts import RECEIPT_BYTES_MAX, receipts_text, receipts_write
from syncengine.firestore.rest import AnswerTooLarge, Found, Rest
from syncengine.firestore.rows import META_MASK, StoredRow, beside_write, meta_of, patches_of, row_write, stored_row
from syncengine.firestore.state import Lane, State
from syncengine.remote.wire import EntryKind, PushEntry
from syncengine.server.judge import GROUP_TOO_LARGE, Fault, entry_fault
from syncengine.server.receipts import Receipt
from syncengine.server.rows_at_work import RowsAtWork
from syncengine.server.rules import Patch, Place, Row
from syncengine.server.settling import Settling, keys_of
from syncengine.vocabulary import UserId

WRITE_BYTES_MAX = 1_400_000
"""A row's fields at their largest, with its name and what is ours. Only very many patches beside a row are larger."""

_BAD_NAME = Fault(code="bad_key", message=f"Its name or key is reserved in Firestore or over {ID_BYTES_MAX} bytes.")


class CommitTooLarge(Exception):
    """What these entries write does not fit into one commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What to write, what to tell, and the user's state after it."""

    writes: list[dict[str, Any]] = field(repr=False)
    receipts: list[Receipt]
    state: State


class RowsInDocuments:
    """Stands in the place of a database for the rows of one commit: all are read before, none is written here."""

    def __init__(self, rest: Rest, names: Names) -> None:
        self.written: dict[Place, tuple[Row, int]] = {}
        """Rows with the last version of the group that changed them."""
        self.beside: dict[Place, tuple[Patch, ...]] = {}
        self._rest = rest
        self._names = names
        self._stored: dict[Place, StoredRow] = {}
        self._update_times: dict[Place, str] = {}

    def prepare(self, places: set[Place], *, whole: set[Place]) -> None:
        """Read all rows: `whole` with their bodies, the others without."""
        all_names = {self._names.row(*place): place for place in places}
        found = self._heads([*all_names])
        whole_names = {name for place in whole if (name := self._names.row(*place)) in found}
        found |= self._rest.read_all(sorted(whole_names))
        heads = {all_names[name]: stored_row(each, is_whole=name in whole_names) for name, each in found.items()}
        beside = self._read_beside(
            place for place, stored in heads.items() if stored is not None and _has_patches(found, self._names, place)
        )
        for name, each in found.items():
            place = all_names[name]
            self._update_times[place] = each.update_time
            stored = heads[place]
            if stored is not None:
                self._stored[place] = replace(stored, row=stored.row._replace(patches=beside.get(place, ())))

    def read_rows(self, user: UserId, *, keys: Mapping[str, Collection[str]]) -> dict[Place, Row]:
        """The rows that are there; bodies that were not read come as UNREAD."""
        asked = _places(keys)
        return {place: self._stored[place].row for place in asked if place in self._stored}

    def body(self, user: UserId, *, place: Place) -> str:
        """What a living row holds: as it is written by now, or else as it lies in Firestore."""
        if place in self.written:
            return self.written[place][0].body or ""
        known = self._stored[place]
        name = self._names.row(*place)
        found = self._rest.read_all([name]).get(name)
        stored = found and stored_row(found, patches=known.row.patches)
        if not stored or stored.update_time != known.update_time:
            raise Contended("a row changed while it was read")
        self._stored[place] = stored
        return stored.row.body or ""

    def write_rows(self, user: UserId, *, rows: Mapping[Place, Row], group_versions: Mapping[Place, int]) -> None:
        self.written |= {place: (rows[place], group_version) for place, group_version in group_versions.items()}

    def write_patches(self, user: UserId, *, patches: Mapping[Place, tuple[Patch, ...]]) -> None:
        self.beside |= patches

    def writes(self) -> list[dict[str, Any]]:
        """All of it, as Firestore's writes."""
        rows = [
            row_write(
                self._names.row(*place),
                row,
                key=place[1],
                group_version=group_version,
                before=self._stored.get(place),
                update_time=self._update_times.get(place),
            )
            for place, (row, group_version) in self.written.items()
        ]
        return rows + [beside_write(self._names.beside(*place), patches) for place, patches in self.beside.items()]

    def _heads(self, names: list[str]) -> dict[str, Found]:
        try:
            return self._rest.read(names, mask=META_MASK).found if names else {}
        except AnswerTooLarge:
            half = len(names) // 2
            return self._heads(names[:half]) | self._heads(names[half:])

    def _read_beside(self, places: Iterable[Place]) -> dict[Place, tuple[Patch, ...]]:
        names = {self._names.beside(*place): place for place in places}
        found = self._rest.read_all([*names])
        return {names[name]: patches_of(each) for name, each in found.items()}


def make_commit(
    rest: Rest,
    names: Names,
    user: UserId,
    *,
    lane: Lane,
    entries: Sequence[PushEntry],
    state: State,
    mark: int,
    bytes_max: int,
    is_too_large: bool = False,
) -> Commit:
    """The effects of these entries on what is there now, with their receipts. Nothing is written yet.

    `is_too_large`: the one group that they are cannot be written; its entries are answered so. Raises CommitTooLarge,
    Contended.
    """
    faults = _faults(entries)
    if is_too_large:
        faults.setdefault(entries[0].sequence, GROUP_TOO_LARGE)
    sound = [entry for entry in entries if entry.sequence not in faults]
    documents = RowsInDocuments(rest, names)
    keys = {} if is_too_large else keys_of(sound)
    documents.prepare(_places(keys), whole=_places_to_read(sound))
    rows = RowsAtWork(
        documents,
        user,
        keys=keys,
        head=state.head,
        group_bytes_max=bytes_max,
    )
    settling = Settling(rows, writer=lane.writer, cloud_version=state.cloud_version, faults=faults)
    receipts = settling.settle(entries)
    rows.write()
    after = _state_after(state, documents, lane=lane, entries=entries, head=rows.head, mark=mark)
    after = replace(after, cloud_version=settling.cloud_version)
    text = receipts_text(receipts)
    own = receipts_write(
        names.receipt(lane.writer, entries[-1].sequence),
        receipts,
        text=text,
        head=after.head if after.head > state.head else None,
        mark=after.mark,
    )
    writes = [after.write(names.state), own, *documents.writes()]
    _check_size(writes, text=text, bytes_max=bytes_max)
    return Commit(writes=writes, receipts=receipts, state=after)


def _faults(entries: Iterable[PushEntry]) -> dict[int, Fault]:
    found = {}
    for entry in entries:
        fault = entry_fault(entry) or _name_fault(entry)
        if fault:
            found[entry.sequence] = fault
    return found


def _name_fault(entry: PushEntry) -> Fault | None:
    for collection, key in _places(keys_of([entry])):
        is_reserved = collection.startswith("__") and collection.endswith("__")
        if is_reserved or len(document_id(key).encode()) > ID_BYTES_MAX:
            return _BAD_NAME
    return None


def _places(keys: Mapping[str, Collection[str]]) -> set[Place]:
    return {(collection, key) for collection, of_it in keys.items() for key in of_it}


def _places_to_read(entries: Iterable[PushEntry]) -> set[Place]:
    """Rows that are patched: their fields are needed, to write only those that change."""
    patched = {(entry.collection, entry.key) for entry in entries if entry.kind is EntryKind.PATCH}
    return patched | {
        (change.collection, change.key)
        for entry in entries
        for change in entry.changes or ()
        if change.kind is EntryKind.PATCH
    }


def _state_after(
    state: State, documents: RowsInDocuments, *, lane: Lane, entries: Sequence[PushEntry], head: int, mark: int
) -> State:
    collections = dict(state.collections)
    for (collection, _), (row, _) in documents.written.items():
        collections[collection] = max(collections.get(collection, 0), row.version)
    after = state.with_sequence(lane, entries[-1].sequence)
    return replace(after, head=head, mark=mark if head > state.head else state.mark, collections=collections)


def _check_size(writes: Sequence[dict[str, Any]], *, text: str, bytes_max: int) -> None:
    if len(text) > RECEIPT_BYTES_MAX:
        raise CommitTooLarge
    sizes = [len(orjson.dumps(write)) for write in writes]
    if sum(sizes) > bytes_max or max(sizes) > WRITE_BYTES_MAX:
        raise CommitTooLarge


def _has_patches(found: Mapping[str, Found], names: Names, place: Place) -> bool:
    return bool(meta_of(found[names.row(*place)]).get("patches"))
