"""Documents that an older app keeps elsewhere, brought over into rows: again whenever the older app writes one.

The older app does not raise the user's counter, so its documents are found by the server's time that it leaves in
them. That time is taken when a commit begins, and commits land in another order, so the last minutes are always read
again; a document that was read before is known by its `updateTime`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

import orjson

from syncengine.firestore.account import Account
from syncengine.firestore.commit import CommitTooLarge, make_commit
from syncengine.firestore.names import document_id
from syncengine.firestore.pages import pages
from syncengine.firestore.rest import Found, Rest
from syncengine.firestore.state import Lane, State
from syncengine.firestore.values import body_of, decoded, encoded
from syncengine.remote.json_text import value_fault
from syncengine.remote.wire import Document, EntryKind, PushEntry, RowChange
from syncengine.server.receipts import Receipt

OVERLAP_MS = 90_000
"""Firestore ends a commit after 60 seconds; so long a document may appear behind one with a later time."""
DOCUMENTS_OF_COMMIT = 50
RECORD_BYTES_MAX = 900_000
"""Of what is remembered of the rows; of larger ones all fields count as changed the next time."""
SET_ASIDE = "set_aside"

Place = dict[str, str]
"""How far a tree is brought over: by name since it was begun, or up to a moment of the server's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OldRow:
    """What an older document is as a row; `body` has the columns as they travel."""

    collection: str
    key: str
    body: Document = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OlderTree:
    """Where an older app keeps documents, and what rows they are."""

    id: str
    path: str
    """With {uid} for the user: journeys/{uid}/journeys."""
    converted: Callable[[str, Document], Sequence[OldRow]]
    """From the document's id and fields. Pure; what it raises sets the document aside, which stays where it is."""
    shape_version: str
    """Of the rows. Devices lift them as they lift every older shape."""
    changed_field: str = "updatedAt"
    """Into which the older app writes the server's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BroughtOver:
    """What became of the older documents that were looked at: `read` is the sum of the others."""

    read: int = 0
    written: int = 0
    kept: int = 0
    """A row was there already, or had been deleted there: it stays as it is."""
    unchanged: int = 0
    set_aside: int = 0
    missing: int = 0
    """Of a check: not brought over in their present state. 0 means that everything is accounted for."""

    def plus(self, other: "BroughtOver") -> "BroughtOver":
        return BroughtOver(**{name: getattr(self, name) + getattr(other, name) for name in BroughtOver.__slots__})

    @property
    def is_whole(self) -> bool:
        """Whether each document that was read is accounted for, and none is missing."""
        parts = self.written + self.kept + self.unchanged + self.set_aside + self.missing
        return self.read == parts and self.missing == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is remembered of an older document, beside the rows and in the commit that wrote them."""

    update_time: str
    outcome: str
    reason: str = ""
    rows: str = field(default="{}", repr=False)
    """The rows that it was, as JSON, so that only what changed since travels."""


class Decided(NamedTuple):
    """What is to become of one older document."""

    found: Found
    record: Record
    changes: tuple[RowChange, ...] = ()


class Bringing:
    """Brings one user's documents of one tree over. Any device may, and any number at once; all come to the same."""

    def __init__(self, rest: Rest, account: Account, tree: OlderTree, *, commit_bytes_max: int) -> None:
        self._rest = rest
        self._account = account
        self._tree = tree
        self._commit_bytes_max = commit_bytes_max
        parent, _, self._collection = tree.path.format(uid=document_id(account.user)).rpartition("/")
        self._parent = f"{rest.root}/{parent}"
        self._lane = Lane(f"older.{tree.id}", 0)

    def place(self) -> Place:
        """How far it has come. Raises Contended."""
        state, read_time, _ = self._account.state()
        return state.older.get(self._tree.id) or {"began": read_time}

    def parts(self, place: Place) -> Iterator[tuple[list[Found], Place]]:
        """What is left from a place on, and the place that is reached with each part.

        First all documents by name; from then on those whose server's time is young.
        """
        if "since" in place:
            yield from self._changed(place["since"])
            return
        for part in batched(self._by_name(after=place.get("name")), DOCUMENTS_OF_COMMIT):
            yield part, {"began": place["began"], "name": part[-1].name}
        yield [], {"since": place["began"]}

    def write(self, found: list[Found], place: Place, *, again: bool = False) -> BroughtOver:
        """These documents as rows, what is remembered of them, and the place, in one commit. Raises Contended.

        `again`: also what was set aside before and has not changed since.
        """
        state, _, _ = self._account.state()
        known = self._records(found)
        fresh = [each for each in found if not _is_known(each, known.get(each.name), again=again)]
        decided = [self._decided(each, known.get(each.name)) for each in fresh]
        entries = self._entries(decided, first=state.device_seq(self._lane) + 1)
        if not decided and place == state.older.get(self._tree.id):
            return BroughtOver(read=len(found), unchanged=len(found))
        reached = replace(state, older={**state.older, self._tree.id: place})
        try:
            writes, records = self._commit(decided, entries, state=reached)
        except CommitTooLarge:
            half = len(found) // 2
            before = self.write(found[:half], state.older.get(self._tree.id) or place, again=again)
            return before.plus(self.write(found[half:], place, again=again))
        self._account.commit(writes, decided_on=state)
        outcomes = Counter(each.outcome for each in records)
        return BroughtOver(read=len(found), unchanged=len(found) - len(fresh), **outcomes)

    def check(self) -> BroughtOver:
        """Each document of the tree against what is remembered of it. Changes nothing."""
        said = BroughtOver()
        for part in batched(self._by_name(after=None), DOCUMENTS_OF_COMMIT):
            known = self._records(part)
            outcomes = Counter(_outcome(each, known.get(each.name)) for each in part)
            said = said.plus(BroughtOver(read=len(part), **outcomes))
        return said

    def _by_name(self, *, after: str | None) -> Iterator[Found]:
        query: dict[str, Any] = {
            "from": [{"collectionId": self._collection}],
            "orderBy": [{"field": {"fieldPath": "__name__"}}],
        }
        if after is not None:
            query["startAt"] = {"values": [{"referenceValue": after}], "before": False}
        return pages(self._rest, self._parent, query, page_max=DOCUMENTS_OF_COMMIT)

    def _changed(self, since: str) -> Iterator[tuple[list[Found], Place]]:
        path = {"fieldPath": self._tree.changed_field}
        young = {"timestampValue": earlier(since, by_ms=OVERLAP_MS)}
        query = {
            "from": [{"collectionId": self._collection}],
            "where": {"fieldFilter": {"field": path, "op": "GREATER_THAN_OR_EQUAL", "value": young}},
            "orderBy": [{"field": path}, {"field": {"fieldPath": "__name__"}}],
        }
        last = since
        for part in batched(
            pages(self._rest, self._parent, query, page_max=DOCUMENTS_OF_COMMIT), DOCUMENTS_OF_COMMIT
        ):
            last = max(last, str(decoded(part[-1].fields[self._tree.changed_field])), key=moment)
            yield part, {"since": last}

    def _records(self, found: list[Found]) -> dict[str, Record]:
        names = {self._record_name(each): each.name for each in found}
        records = self._rest.read_all([*names])
        return {
            names[name]: Record(**{key: decoded(value) for key, value in each.fields.items()})
            for name, each in records.items()
        }

    def _record_name(self, found: Found) -> str:
        document = found.name.rsplit("/", 1)[1]
        return f"{self._account.names.user}/~brought/{document_id(self._tree.id)}~{document}"

    def _decided(self, found: Found, known: Record | None) -> Decided:
        before: dict[str, Document] = orjson.loads(known.rows) if known else {}
        try:
            rows = self._tree.converted(found.name.rsplit("/", 1)[1], body_of(found.fields))
            fault = next((said for row in rows if (said := value_fault(row.body))), None)
        except Exception as error:  # noqa: BLE001 - an author's code may raise anything; the document stays
            return Decided(found, Record(update_time=found.update_time, outcome=SET_ASIDE, reason=_reason(error)))
        if fault:
            return Decided(found, Record(update_time=found.update_time, outcome=SET_ASIDE, reason=fault))
        text = orjson.dumps({f"{row.collection}/{row.key}": row.body for row in rows}).decode()
        record = Record(
            update_time=found.update_time, outcome="written", rows=text if len(text) < RECORD_BYTES_MAX else "{}"
        )
        is_known = known is not None and known.outcome != SET_ASIDE
        changes = [_change(row, before.get(f"{row.collection}/{row.key}"), is_known=is_known) for row in rows]
        return Decided(found, record, tuple(each for each in changes if each is not None))

    def _entries(self, decided: list[Decided], *, first: int) -> list[PushEntry]:
        working = [each for each in decided if each.changes]
        return [
            PushEntry(
                sequence=sequence,
                group=sequence,
                kind=EntryKind.CHANGES,
                shape_version=self._tree.shape_version,
                changes=each.changes,
            )
            for sequence, each in enumerate(working, first)
        ]

    def _commit(
        self, decided: list[Decided], entries: list[PushEntry], *, state: State
    ) -> tuple[list[dict[str, Any]], list[Record]]:
        writes = [state.write(self._account.names.state)]
        receipts: list[Receipt] = []
        if entries:
            commit = make_commit(
                self._rest,
                self._account.names,
                self._account.user,
                lane=self._lane,
                entries=entries,
                state=state,
                mark=self._account.fresh_mark(),
                bytes_max=self._commit_bytes_max,
            )
            writes = commit.writes
            receipts = [each.at(each.sequence + n) for each in commit.receipts for n in range(each.entries)]
        told = iter(receipts)
        records = [_with_outcome(each, next(told) if each.changes else None) for each in decided]
        for each, record in zip(decided, records, strict=True):
            fields = {name: encoded(getattr(record, name)) for name in Record.__slots__}
            writes.append({"update": {"name": self._record_name(each.found), "fields": fields}})
        if len(decided) > 1 and sum(len(orjson.dumps(write)) for write in writes) > self._commit_bytes_max:
            raise CommitTooLarge
        return writes, records


def _is_known(found: Found, known: Record | None, *, again: bool) -> bool:
    return known is not None and known.update_time == found.update_time and not (again and known.outcome == SET_ASIDE)


def _outcome(found: Found, known: Record | None) -> str:
    return known.outcome if known is not None and known.update_time == found.update_time else "missing"


def _change(row: OldRow, before: Document | None, *, is_known: bool) -> RowChange | None:
    """The first time the row is made, unless there ever was one; later only what the older app changed travels."""
    if before is None and not is_known:
        kind, fields, if_version = EntryKind.PUT, row.body, 0
        return RowChange(kind=kind, collection=row.collection, key=row.key, set=fields, if_version=if_version)
    old = before or {}
    changed = {name: row.body.get(name) for name in {**old, **row.body} if old.get(name) != row.body.get(name)}
    if not changed:
        return None
    return RowChange(kind=EntryKind.PATCH, collection=row.collection, key=row.key, set=changed)


def _with_outcome(decided: Decided, receipt: Receipt | None) -> Record:
    """Nothing to do is as good as done."""
    if receipt is None:
        return decided.record
    if receipt.outcome == "rejected":
        # A row that is deleted by now stays deleted.
        outcome, reason = ("kept", "") if receipt.code == "gone" else (SET_ASIDE, str(receipt.code))
        return replace(decided.record, outcome=outcome, reason=reason)
    is_kept = len(receipt.skipped or ()) == len(decided.changes)
    return replace(decided.record, outcome="kept") if is_kept else decided.record


def _reason(error: Exception) -> str:
    """Without contents: the class alone."""
    return type(error).__name__


def moment(text: str) -> datetime:
    """A time of Firestore's."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def earlier(text: str, *, by_ms: int) -> str:
    """A time of Firestore's, so much before."""
    return (moment(text) - timedelta(milliseconds=by_ms)).isoformat().replace("+00:00", "Z")


def batched(found: Iterator[Found], size: int) -> Iterator[list[Found]]:
    """Lists of so many, the last one shorter."""
    while part := list(islice(found, size)):
        yield part
