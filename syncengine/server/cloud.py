"""The cloud's rules: exactly once by sequence, groups whole, users apart. No HTTP here, only typed values.

The server calls it from its request handlers and the simulator calls it directly.
"""

import hashlib
import random
import threading
from dataclasses import dataclass
from itertools import groupby, pairwise

from syncengine.clock import Clock, iso
from syncengine.errors import BatchRefused, SequenceGap
from syncengine.remote.wire import (
    Action,
    CloudRow,
    Document,
    EntryKind,
    EntryResult,
    HealthAnswer,
    HelloAnswer,
    HelloRequest,
    Limits,
    PullAnswer,
    PullRequest,
    PushAnswer,
    PushEntry,
    PushRequest,
    RequestModel,
    RowChange,
    RowsAnswer,
    RowsRequest,
    cursor_gone,
    wrong_user,
)
from syncengine.server.changes import ChangesPage, PageHead, Place, as_text, as_values, read_changes
from syncengine.server.cursor import Position, Standing, read_cursor, standing, written_cursor
from syncengine.server.judge import GONE, GROUP_REJECTED, EntryRejected, Fault, body_bytes, entry_fault
from syncengine.server.storage import Lane, Receipt, Storage, StoredDocument, Tenant
from syncengine.vocabulary import SchemaVersion, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudLimits:
    """What one request may hold. Told to devices in `hello`."""

    entries_max: int = 5_000
    """More in one push: refused whole with 413. As many as the engine's largest group has."""
    body_bytes_max: int = 16 * 1024 * 1024
    """A larger request: refused with 413."""
    page_bytes_max: int = 4 * 1024 * 1024
    """A page of rows ends when it holds this much; a single larger row comes alone."""


class Cloud:
    """All users' rows and receipts in one folder. May be used from any thread; one call works at a time.

    `user` is whom the caller has authenticated. Raises AuthRequired, and does nothing, for another user's request.
    """

    def __init__(self, storage: Storage, *, clock: Clock, limits: CloudLimits | None = None) -> None:
        self.limits = limits or CloudLimits()
        self._storage = storage
        self._clock = clock
        self._lock = threading.Lock()
        self._cursor_key = storage.cursor_key()

    def close(self) -> None:
        """Wait for the call at work, then close the database."""
        with self._lock:
            self._storage.close()

    def add_token(self, user: UserId, *, chance: random.Random) -> str:
        """A fresh token of this user, who is made when new. Only its hash is kept: it cannot be shown again."""
        token = f"{chance.getrandbits(256):064x}"
        self.accept_token(user, token=token)
        return token

    def accept_token(self, user: UserId, *, token: str) -> None:
        """Let `token` stand for this user from now on."""
        with self._lock:
            self._storage.add_token(user, token_hash=_hashed(token))

    def user_of(self, token: str) -> UserId | None:
        """Whose token it is; None for nobody's."""
        with self._lock:
            return self._storage.user_of_token(_hashed(token))

    def health(self, nonce: str) -> HealthAnswer:
        """The nonce back: only a server that is really there can know it."""
        return HealthAnswer(nonce=nonce, server_time=self._now())

    def hello(self, user: UserId, request: HelloRequest) -> HelloAnswer:
        """Where this device and this user stand. Changes nothing."""
        _refuse_other_user(user, request)
        lane = Lane(user=user, device=request.device, epoch=request.epoch)
        with self._lock:
            tenant = self._storage.tenant(user)
            return HelloAnswer(
                request_id=request.request_id,
                server_time=self._now(),
                server_epoch=tenant.server_epoch,
                device_seq=self._storage.device_sequence(lane),
                head=tenant.head,
                floor=tenant.floor,
                cloud_version=tenant.cloud_version,
                action=Action.OK,
                limits=Limits(entries_max=self.limits.entries_max, bytes_max=self.limits.body_bytes_max),
            )

    def push(self, user: UserId, request: PushRequest) -> PushAnswer:
        """Each entry's effect and its receipt, in one transaction for the whole request.

        Raises SequenceGap, or BatchRefused for too many entries; then nothing was changed.
        """
        _refuse_other_user(user, request)
        if len(request.entries) > self.limits.entries_max:
            raise BatchRefused(f"A push holds at most {self.limits.entries_max} entries.", status=413)
        lane = Lane(user=user, device=request.device, epoch=request.epoch)
        with self._lock, self._storage.transaction():
            device_seq = self._storage.device_sequence(lane)
            _refuse_gap(request.entries, device_seq=device_seq)
            results = self._duplicates(lane, entries=request.entries, device_seq=device_seq)
            fresh = [entry for entry in request.entries if entry.sequence > device_seq]
            before = self._storage.tenant(user).head
            for _, members in groupby(fresh, key=lambda entry: entry.group):
                results += self._settle_group(lane, members=list(members))
            head = self._storage.tenant(user).head
            if head > before:
                self._storage.write_mark(user, last_version=head)
        return PushAnswer(
            request_id=request.request_id,
            server_time=self._now(),
            device_seq=fresh[-1].sequence if fresh else device_seq,
            results=tuple(results),
        )

    def pull(self, user: UserId, request: PullRequest) -> PullAnswer:
        """What has changed since the cursor. Raises CursorGone."""
        return as_values(*self._pulled(user, request))

    def pull_text(self, user: UserId, request: PullRequest) -> bytes:
        """The same answer as JSON. Raises CursorGone."""
        return as_text(*self._pulled(user, request))

    def _pulled(self, user: UserId, request: PullRequest) -> tuple[ChangesPage, PageHead]:
        _refuse_other_user(user, request)
        with self._lock:
            tenant = self._storage.tenant(user)
            page = read_changes(
                self._storage,
                user,
                after=self._place(user, cursor=request.cursor, tenant=tenant),
                head=tenant.head,
                items_max=request.limit,
                bytes_max=self.limits.page_bytes_max,
            )
            cursor = self._cursor(user, place=page.last, epoch=tenant.server_epoch)
        head = PageHead(
            request_id=request.request_id,
            server_time=self._now(),
            server_epoch=tenant.server_epoch,
            cursor=cursor,
        )
        return page, head

    def _place(self, user: UserId, *, cursor: str | None, tenant: Tenant) -> Place:
        """Where to read on. Raises CursorGone; a restored database is noticed here, and then begins another life."""
        if cursor is None:
            return (0, 0)
        position = read_cursor(cursor, user=user, key=self._cursor_key)
        match self._standing(user, position=position, tenant=tenant):
            case Standing.BELOW_FLOOR:
                raise cursor_gone("below_floor")
            case Standing.CONTRADICTED:
                self._storage.raise_epoch(user)
                raise cursor_gone("other_epoch")
            case Standing.OTHER_EPOCH:
                raise cursor_gone("other_epoch")
        assert position is not None
        return (position.group_version, position.version)

    def _standing(self, user: UserId, *, position: Position | None, tenant: Tenant) -> Standing:
        mark = self._storage.mark_at(user, version=position.group_version) if position else 0
        return standing(position, epoch=tenant.server_epoch, head=tenant.head, floor=tenant.floor, mark=mark)

    def _cursor(self, user: UserId, *, place: Place, epoch: int) -> str:
        group_version, version = place
        mark = self._storage.mark_at(user, version=group_version)
        position = Position(epoch=epoch, group_version=group_version, version=version, mark=mark)
        return written_cursor(position, user=user, key=self._cursor_key)

    def rows(self, user: UserId, request: RowsRequest) -> RowsAnswer:
        """One page of the user's living rows."""
        _refuse_other_user(user, request)
        rows: list[CloudRow] = []
        size_bytes = 0
        more = False
        with self._lock:
            for found in self._storage.page(
                user, collection=request.collection, after=request.after or "", limit=request.limit + 1
            ):
                size_bytes += found.body_bytes
                more = len(rows) == request.limit or (bool(rows) and size_bytes > self.limits.page_bytes_max)
                if more:
                    break
                rows.append(_cloud_row(found.key, found.document))
        return RowsAnswer(
            request_id=request.request_id,
            server_time=self._now(),
            rows=tuple(rows),
            next=rows[-1].key if more else None,
        )

    def _duplicates(self, lane: Lane, *, entries: tuple[PushEntry, ...], device_seq: int) -> list[EntryResult]:
        """What was answered before. Bodies are not compared: the sequence alone says that it is the same entry."""
        known = [entry.sequence for entry in entries if entry.sequence <= device_seq]
        if not known:
            return []
        receipts = self._storage.receipts(lane, first=known[0], last=known[-1])
        return [_result(receipts[sequence], duplicate=True) for sequence in known]

    def _settle_group(self, lane: Lane, *, members: list[PushEntry]) -> list[EntryResult]:
        """All members applied or none; each gets its receipt, and its sequence is used up either way."""
        faults = {entry.sequence: fault for entry in members if (fault := entry_fault(entry))}
        receipts = _all_rejected(members, faults=faults) if faults else self._apply_group(lane, members=members)
        for receipt in receipts:
            self._storage.write_receipt(lane, receipt=receipt)
        return [_result(receipt, duplicate=False) for receipt in receipts]

    def _apply_group(self, lane: Lane, *, members: list[PushEntry]) -> list[Receipt]:
        receipts: list[Receipt] = []
        try:
            with self._storage.savepoint():
                before = self._storage.tenant(lane.user).head
                for entry in members:
                    receipts.append(self._apply(lane.user, entry=entry))
                self._storage.close_group(lane.user, before=before, last=self._storage.tenant(lane.user).head)
        except EntryRejected as rejected:
            culprit = members[len(receipts)].sequence
            return _all_rejected(members, faults={culprit: rejected.fault})
        return receipts

    def _apply(self, user: UserId, *, entry: PushEntry) -> Receipt:
        if entry.kind is EntryKind.VOID:
            return Receipt(sequence=entry.sequence, outcome="applied")
        if entry.kind is EntryKind.MIGRATION:
            return self._apply_migration(user, entry=entry)
        change = RowChange(kind=entry.kind, collection=entry.collection, key=entry.key, set=entry.set)
        version = self._change_row(user, change=change, shape_version=entry.shape_version)
        return Receipt(sequence=entry.sequence, outcome="applied", version=version)

    def _apply_migration(self, user: UserId, *, entry: PushEntry) -> Receipt:
        """Changes whose row moved on are skipped: the row was rewritten by someone who knew better."""
        version: int | None = None
        skipped: list[str] = []
        for change in entry.changes or ():
            if change.if_version is not None and change.if_version != self._version_of(user, change=change):
                skipped.append(change.key)
            else:
                version = self._change_row(user, change=change, shape_version=entry.shape_version)
        if entry.cloud_version is not None:
            self._raise_cloud_version(user, reached=entry.cloud_version)
        return Receipt(sequence=entry.sequence, outcome="applied", version=version, skipped=tuple(skipped))

    def _version_of(self, user: UserId, *, change: RowChange) -> int:
        """The row's version, of a tombstone too; 0 for a row that never was."""
        found = self._storage.document(user, collection=change.collection, key=change.key)
        return found.version if found else 0

    def _raise_cloud_version(self, user: UserId, *, reached: str) -> None:
        before = self._storage.tenant(user).cloud_version
        if before is None or SchemaVersion.parse(reached) > SchemaVersion.parse(before):
            self._storage.write_cloud_version(user, cloud_version=str(SchemaVersion.parse(reached)))

    def _change_row(self, user: UserId, *, change: RowChange, shape_version: str) -> int:
        """Write the row as it is after the change; return its version. Raises EntryRejected."""
        found = self._storage.document(user, collection=change.collection, key=change.key)
        body = _changed_body(change, found=found)
        return self._storage.write_document(
            user,
            collection=change.collection,
            key=change.key,
            body=None if body is None else body_bytes(body),
            shape_version=_shape_after(change, found=found, shape_version=shape_version),
        )

    def _now(self) -> str:
        return iso(self._clock.now_ms())


def _changed_body(change: RowChange, *, found: StoredDocument | None) -> Document | None:
    """The whole document after the change; None for deleted. A patch never brings a row back."""
    if change.kind is EntryKind.DELETE:
        return None
    if change.kind is EntryKind.PUT:
        return change.set
    if found is None or found.body is None:
        raise EntryRejected(GONE)
    return {**found.body, **(change.set or {})}


def _shape_after(change: RowChange, *, found: StoredDocument | None, shape_version: str) -> str:
    """A patch leaves columns of the newer of the two shapes behind; a put or delete leaves only its own."""
    if change.kind is not EntryKind.PATCH or found is None:
        return shape_version
    return max(found.shape_version, shape_version, key=SchemaVersion.parse)


def _refuse_other_user(user: UserId, request: RequestModel) -> None:
    """Raises AuthRequired when a device sends one user's queue under the token of another."""
    if request.user != user:
        raise wrong_user()


def _refuse_gap(entries: tuple[PushEntry, ...], *, device_seq: int) -> None:
    """Raises SequenceGap unless the entries follow each other and what the cloud has."""
    sequences = [entry.sequence for entry in entries]
    if sequences and sequences[0] > device_seq + 1:
        raise _gap(device_seq + 1)
    for before, after in pairwise(sequences):
        if after != before + 1:
            raise _gap(before + 1)


def _gap(expected: int) -> SequenceGap:
    return SequenceGap(f"The next sequence of this device is {expected}.", expected=expected)


def _all_rejected(members: list[PushEntry], *, faults: dict[int, Fault]) -> list[Receipt]:
    return [_rejected(entry.sequence, fault=faults.get(entry.sequence, GROUP_REJECTED)) for entry in members]


def _rejected(sequence: int, *, fault: Fault) -> Receipt:
    return Receipt(sequence=sequence, outcome="rejected", code=fault.code, message=fault.message)


def _result(receipt: Receipt, *, duplicate: bool) -> EntryResult:
    return EntryResult(
        sequence=receipt.sequence,
        status="duplicate" if duplicate else receipt.outcome,
        outcome=receipt.outcome if duplicate else None,
        version=receipt.version,
        code=receipt.code,
        message=receipt.message,
        skipped=receipt.skipped,
    )


def _cloud_row(key: str, document: StoredDocument) -> CloudRow:
    return CloudRow(key=key, version=document.version, body=document.body or {}, shape_version=document.shape_version)


def _hashed(token: str) -> str:
    """Tokens hold 256 random bits, so a plain hash cannot be searched and needs no salt."""
    return hashlib.sha256(token.encode()).hexdigest()
