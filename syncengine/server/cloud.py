"""The cloud's calls: exactly once by sequence, groups whole, users apart. No HTTP here, only typed values.

The server calls it from its request handlers and the simulator calls it directly.
"""

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import orjson

from syncengine.clock import Clock, iso
from syncengine.errors import BatchRefused, SequenceGap
from syncengine.remote.json_text import INTEGER_MAX
from syncengine.remote.wire import (
    PROTOCOL,
    Action,
    CloudRow,
    EntryResult,
    HealthAnswer,
    HelloAnswer,
    HelloRequest,
    Limits,
    PullAnswer,
    PullRequest,
    PushAnswer,
    PushRequest,
    RequestModel,
    RowsAnswer,
    RowsRequest,
    cursor_gone,
    wrong_user,
)
from syncengine.server.changes import ChangesPage, PageHead, as_text, as_values, read_changes
from syncengine.server.cursor import Position, Standing, life_told_by, read_cursor, standing, written_cursor
from syncengine.server.judge import entry_fault
from syncengine.server.metrics import Metrics
from syncengine.server.new_rows import new_rows, receipts_of
from syncengine.server.push_reading import Entry, Push, RowEntry, push_of
from syncengine.server.quota import Tally, refuse_over_quota
from syncengine.server.receipts import Receipt, told
from syncengine.server.rows_at_work import WAITING_BYTES_MAX, RowsAtWork
from syncengine.server.settling import Settling, keys_of
from syncengine.server.storage import Lane, Made, Storage, Tenant, TokenTaken, Transaction, UserUnknown
from syncengine.vocabulary import SchemaVersion, UserId

FORGET_ROWS_MAX = 10_000
"""Tombstones of one transaction."""

_DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudLimits:
    """What one request may hold. Told to devices in `hello`."""

    entries_max: int = 5_000
    """More in one push: refused whole with 413. As many as the engine's largest group has."""
    body_bytes_max: int = 16 * 1024 * 1024
    """A larger request, unpacked: refused with 413."""
    page_bytes_max: int = 4 * 1024 * 1024
    """A page of rows ends when it holds this much; a single larger row or group comes alone."""
    group_bytes_max: int = 256 * 1024 * 1024
    """Of all rows that one group changes, as they are then: so much is held in memory at once. More: rejected."""
    user_rows_max: int | None = None
    user_bytes_max: int | None = None
    """Of all living rows of one user, as letters of JSON. A push that would add to more: refused whole with 507."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What became of a push: for all its entries a status and a receipt, some for a run of entries."""

    device_seq: int
    results: tuple[tuple[str, Receipt], ...]


class Cloud:
    """All users' rows and receipts in one database. May be used from any thread.

    `user` is whom the caller has authenticated; he is made when he comes first. Raises AuthRequired, and does
    nothing, for another user's request.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        clock: Clock,
        limits: CloudLimits | None = None,
        schema_min: Mapping[str, SchemaVersion] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """`schema_min`: by app, the lowest schema version that may still read; older ones hand over their queues."""
        self.limits = limits or CloudLimits()
        self._schema_min = schema_min or {}
        self._metrics = metrics or Metrics()
        self._storage = storage
        self._clock = clock
        self._cursor_key = storage.cursor_key()

    def close(self) -> None:
        """Wait for the calls at work, then close the database."""
        self._storage.close()

    def cut_off(self) -> None:
        """Refuse who comes, and end the calls that wait for the database. `close` is still to be called."""
        self._storage.cut_off()

    def add_token(self, user: UserId, *, chance: random.Random) -> str:
        """A fresh token of this user, who is made when new. Only its hash is kept: it cannot be shown again."""
        token = f"{chance.getrandbits(256):064x}"
        self.accept_token(user, token=token)
        return token

    def accept_token(self, user: UserId, *, token: str) -> None:
        """Let `token` stand for this user from now on. Raises TokenTaken where it stands for another."""
        token_hash = _hashed(token)
        if self._storage.user_of_token(token_hash) not in (None, user):
            raise TokenTaken(user)
        self._storage.add_token(user, token_hash=token_hash)

    def user_of(self, token: str) -> UserId | None:
        """Whose token it is; None for nobody's."""
        return self._storage.user_of_token(_hashed(token))

    def is_there(self) -> bool:
        """Whether the database answers, takes writes and is still the one that was opened. Raises what it raises."""
        return self._storage.cursor_key() == self._cursor_key

    def health(self, nonce: str) -> HealthAnswer:
        """The nonce back: only a server that is really there can know it."""
        return HealthAnswer(nonce=nonce, server_time=self._now())

    def hello(self, user: UserId, request: HelloRequest) -> HelloAnswer:
        """Where this device and this user stand. Changes no rows; a restored database begins another life here."""
        _refuse_other_user(user, request)
        lane = Lane(user=user, device=request.device, epoch=request.epoch)

        def stand(stored: Transaction) -> tuple[int, bool, Tenant]:
            if request.ended_epoch:
                stored.end_epochs(replace(lane, epoch=request.ended_epoch))
            device_seq = stored.device_sequence(lane)
            may_read_on = self._may_read_on(stored, user, cursor=request.cursor)
            has_lost = request.confirmed_seq > device_seq
            if has_lost:
                _use_up(stored, lane)
                if not self._is_of_earlier_life(stored, user, cursor=request.cursor):
                    stored.raise_epoch(user)
            return device_seq, may_read_on and not has_lost, stored.tenant(user)

        device_seq, may_read_on, tenant = self._write(user, stand)
        return HelloAnswer(
            request_id=request.request_id,
            server_time=self._now(),
            server_epoch=tenant.server_epoch,
            device_seq=device_seq,
            head=tenant.head,
            floor=tenant.floor,
            cloud_version=tenant.cloud_version,
            action=self._action(request, may_read_on=may_read_on),
            limits=Limits(entries_max=self.limits.entries_max, bytes_max=self.limits.body_bytes_max),
        )

    def push(self, user: UserId, request: PushRequest) -> PushAnswer:
        """Each entry's effect and its receipt, in one transaction for the whole request.

        Raises SequenceGap, BatchRefused for too many entries, or QuotaExceeded; then nothing was changed.
        """
        pushed = self._pushed(user, push_of(request))
        return PushAnswer(
            request_id=request.request_id,
            server_time=self._now(),
            device_seq=pushed.device_seq,
            results=tuple(EntryResult.model_validate(result) for result in told(pushed.results)),
        )

    def push_text(self, user: UserId, push: Push) -> bytes:
        """The same answer as JSON."""
        pushed = self._pushed(user, push)
        return orjson.dumps(
            {
                "protocol": PROTOCOL,
                "request_id": push.request_id,
                "server_time": self._now(),
                "device_seq": pushed.device_seq,
                "results": told(pushed.results),
            }
        )

    def pull(self, user: UserId, request: PullRequest) -> PullAnswer:
        """What has changed since the cursor. Raises CursorGone."""
        return as_values(*self._pulled(user, request))

    def pull_text(self, user: UserId, request: PullRequest) -> bytes:
        """The same answer as JSON. Raises CursorGone."""
        return as_text(*self._pulled(user, request))

    def rows(self, user: UserId, request: RowsRequest) -> RowsAnswer:
        """One page of the user's living rows, without what lies beside them."""
        _refuse_other_user(user, request)
        rows, more = self._read(user, lambda stored: self._living(stored, user, request))
        return RowsAnswer(
            request_id=request.request_id,
            server_time=self._now(),
            rows=tuple(rows),
            next=rows[-1].key if more else None,
        )

    def _living(self, stored: Transaction, user: UserId, request: RowsRequest) -> tuple[list[CloudRow], bool]:
        """Rows of a page, and whether others follow. Raises UserUnknown."""
        stored.tenant(user)
        rows: list[CloudRow] = []
        size_bytes = 0
        for found in stored.page(
            user, collection=request.collection, after=request.after or "", limit=request.limit + 1
        ):
            size_bytes += found.body_bytes
            if len(rows) == request.limit or (rows and size_bytes > self.limits.page_bytes_max):
                return rows, True
            rows.append(
                CloudRow(key=found.key, version=found.version, body=found.body, shape_version=found.shape_version)
            )
        return rows, False

    def compact(self, *, keep_days: int, is_over: Callable[[], bool] = lambda: False) -> int:
        """Forget rows that were deleted more than so many days ago; how many. Cursors from before read anew.

        Ends early, between two users, when `is_over`.
        """
        before_ms = self._clock.now_ms() - keep_days * _DAY_MS
        forgotten = 0
        for user in self._storage.users():
            if is_over():
                break
            forgotten += self._compact(user, before_ms=before_ms)
        self._metrics.forgot(forgotten)
        return forgotten

    def _compact(self, user: UserId, *, before_ms: int) -> int:
        def forget_some(stored: Transaction) -> int:
            old = stored.old_tombstones(user, before_ms=before_ms, rows_max=FORGET_ROWS_MAX)
            if old:
                stored.forget(user, tombstones=old)
            return len(old)

        forgotten = 0
        with suppress(UserUnknown):  # gone since the users were listed
            while some := self._storage.write(user, forget_some):
                forgotten += some
        return forgotten

    def _action(self, request: HelloRequest, *, may_read_on: bool) -> Action:
        lowest = self._schema_min.get(request.app)
        if lowest is not None and _version_or_none(request.schema_version, lowest=lowest) is None:
            return Action.DRAIN_ONLY
        return Action.OK if may_read_on else Action.RESYNC

    def _is_of_earlier_life(self, stored: Transaction, user: UserId, *, cursor: str | None) -> bool:
        """Whether the life after the loss has begun: another device told of it before, or the database is a new one,
        which cannot read the lost one's cursors but for the life that they name.
        """
        life = life_told_by(cursor) if cursor is not None else None
        return life is not None and life < stored.tenant(user).server_epoch

    def _may_read_on(self, stored: Transaction, user: UserId, *, cursor: str | None) -> bool:
        if cursor is None:
            return True
        tenant, life = stored.tenant(user), life_told_by(cursor) or 0
        _, found = self._stood(stored, user, cursor=cursor, tenant=tenant)
        # Or the device knows a later life: this one is an older copy, or was made anew by a clock that is behind.
        if found is Standing.CONTRADICTED or life > tenant.server_epoch:
            stored.raise_epoch(user, above=life)
        return found is Standing.GOOD

    def _pushed(self, user: UserId, push: Push) -> Pushed:
        _refuse_other_user(user, push)
        if len(push.entries) > self.limits.entries_max:
            raise BatchRefused(f"A push holds at most {self.limits.entries_max} entries.", status=413)
        lane = Lane(user=user, device=push.device, epoch=push.epoch)
        pushed = self._write(user, lambda stored: self._push_in(stored, lane, push))
        self._metrics.pushed(pushed.results)
        return pushed

    def _push_in(self, stored: Transaction, lane: Lane, push: Push) -> Pushed:
        entries = push.entries
        device_seq = stored.device_sequence(lane)
        _refuse_gap(entries, device_seq=device_seq)
        results = self._repeated(stored, lane, entries=entries, device_seq=device_seq)
        fresh = entries[len(results) :]
        if fresh:
            results += self._settled(stored, lane, entries=fresh, values_are_good=push.values_are_good)
            device_seq = fresh[-1].sequence
        return Pushed(device_seq=device_seq, results=tuple(results))

    def _repeated(
        self, stored: Transaction, lane: Lane, *, entries: Sequence[Entry], device_seq: int
    ) -> list[tuple[str, Receipt]]:
        """What was answered before. Bodies are not compared: sequence and token alone say that it is the same entry.

        Behind a number that another copy of the store used nothing is done: the order of this one's edits would be
        lost.
        """
        known = [entry for entry in entries if entry.sequence <= device_seq]
        if not known:
            return []
        receipts = stored.receipts(lane, first=known[0].sequence, last=known[-1].sequence)
        repeated = [_told_again(entry, receipts.get(entry.sequence)) for entry in known]
        if any(status == "reused" for status, _ in repeated):
            repeated += [("reused", Receipt(entry.sequence, "lost")) for entry in entries[len(known) :]]
        return repeated

    def _settled(
        self, stored: Transaction, lane: Lane, *, entries: Sequence[Entry], values_are_good: bool
    ) -> list[tuple[str, Receipt]]:
        tenant = stored.tenant(lane.user)
        made = self._added(stored, lane, tenant, entries=entries) or self._judged(
            stored, lane, tenant, entries=entries, values_are_good=values_are_good
        )
        refuse_over_quota(
            tenant,
            rows_more=made.rows_more,
            bytes_more=made.bytes_more,
            rows_max=self.limits.user_rows_max,
            bytes_max=self.limits.user_bytes_max,
        )
        stored.write_receipts(lane, receipts=made.receipts)
        if made.head > tenant.head:
            stored.write_mark(lane.user, last_version=made.head)
        stored.write_tenant(
            lane.user,
            head=made.head,
            cloud_version=made.cloud_version,
            rows_more=made.rows_more,
            bytes_more=made.bytes_more,
        )
        return [(receipt.outcome, receipt) for receipt in made.receipts]

    def _added(self, stored: Transaction, lane: Lane, tenant: Tenant, *, entries: Sequence[Entry]) -> "_Made | None":
        """None, and nothing was written, where the entries have to be judged one by one."""
        bytes_max = min(WAITING_BYTES_MAX, self.limits.group_bytes_max)
        rows = new_rows(entries, head=tenant.head, writer=lane.writer, bytes_max=bytes_max)
        if rows is None or not stored.add_rows(lane.user, rows=rows, head=tenant.head):
            return None
        return _Made(
            receipts=receipts_of(entries, rows),
            head=rows.versions[-1],
            cloud_version=tenant.cloud_version,
            rows_more=len(rows.keys),
            bytes_more=sum(rows.sizes),
        )

    def _judged(
        self, stored: Transaction, lane: Lane, tenant: Tenant, *, entries: Sequence[Entry], values_are_good: bool
    ) -> "_Made":
        faults = {
            entry.sequence: fault
            for entry in entries
            if not isinstance(entry, RowEntry) and (fault := entry_fault(entry, values_are_good=values_are_good))
        }
        sound = [entry for entry in entries if entry.sequence not in faults] if faults else entries
        tally = Tally(stored)
        rows = RowsAtWork(
            tally,
            lane.user,
            keys=keys_of(sound),
            head=tenant.head,
            group_bytes_max=self.limits.group_bytes_max,
        )
        settling = Settling(rows, writer=lane.writer, cloud_version=tenant.cloud_version, faults=faults)
        receipts = settling.settle(entries)
        rows.write()
        return _Made(
            receipts=receipts,
            head=rows.head,
            cloud_version=settling.cloud_version,
            rows_more=tally.rows_more,
            bytes_more=tally.bytes_more,
        )

    def _pulled(self, user: UserId, request: PullRequest) -> tuple[ChangesPage, PageHead]:
        """Raises CursorGone; a restored database is noticed here, and then begins another life."""
        _refuse_other_user(user, request)

        def read(stored: Transaction) -> tuple[tuple[ChangesPage, PageHead] | None, Standing]:
            tenant = stored.tenant(user)
            after, found = self._read_on(stored, user, cursor=request.cursor, tenant=tenant)
            page = self._page(stored, user, request, after=after, tenant=tenant) if found is Standing.GOOD else None
            return page, found

        page, found = self._read(user, read)
        if page is not None:
            return page
        if found is Standing.CONTRADICTED:
            self._write(user, lambda stored: stored.raise_epoch(user))
        raise cursor_gone("below_floor" if found is Standing.BELOW_FLOOR else "other_epoch")

    def _page(
        self, stored: Transaction, user: UserId, request: PullRequest, *, after: Position, tenant: Tenant
    ) -> tuple[ChangesPage, PageHead]:
        page = read_changes(
            stored,
            user,
            after=(after.group_version, after.version),
            head=tenant.head,
            items_max=request.limit,
            bytes_max=self.limits.page_bytes_max,
        )
        head = PageHead(
            request_id=request.request_id,
            server_time=self._now(),
            server_epoch=tenant.server_epoch,
            epoch_head=tenant.epoch_head,
            cursor=self._cursor(stored, user, page=page, begun=after, tenant=tenant),
        )
        return page, head

    def _read_on(
        self, stored: Transaction, user: UserId, *, cursor: str | None, tenant: Tenant
    ) -> tuple[Position, Standing]:
        start = Position(epoch=tenant.server_epoch, group_version=0, version=0, mark=0, floor=tenant.floor)
        if cursor is None:
            return start, Standing.GOOD
        position, found = self._stood(stored, user, cursor=cursor, tenant=tenant)
        return position or start, found

    def _stood(
        self, stored: Transaction, user: UserId, *, cursor: str, tenant: Tenant
    ) -> tuple[Position | None, Standing]:
        position = read_cursor(cursor, user=user, key=self._cursor_key)
        mark = stored.mark_at(user, version=position.told_at) if position else 0
        found = standing(position, epoch=tenant.server_epoch, head=tenant.head, floor=tenant.floor, mark=mark)
        return position, found

    def _cursor(
        self, stored: Transaction, user: UserId, *, page: ChangesPage, begun: Position, tenant: Tenant
    ) -> str:
        group_version, version = page.last
        mark = stored.mark_at(user, version=tenant.head)
        head = tenant.head if page.more else 0
        position = replace(begun, group_version=group_version, version=version, mark=mark, head=head)
        return written_cursor(position, user=user, key=self._cursor_key)

    def _write(self, user: UserId, work: Callable[[Transaction], Made]) -> Made:
        return self._known(user, lambda: self._storage.write(user, work))

    def _read(self, user: UserId, work: Callable[[Transaction], Made]) -> Made:
        return self._known(user, lambda: self._storage.read(user, work))

    def _known(self, user: UserId, ask: Callable[[], Made]) -> Made:
        """Whoever is authenticated is made known in the call that finds him missing, since a database may be put back
        to before he came.
        """
        try:
            return ask()
        except UserUnknown:
            self._storage.welcome(user)
            return ask()

    def _now(self) -> str:
        return iso(self._clock.now_ms())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What a push has made of the rows, and where they stand then."""

    receipts: Sequence[Receipt]
    head: int
    cloud_version: str | None
    rows_more: int
    bytes_more: int


def _use_up(stored: Transaction, lane: Lane) -> None:
    """The database lacks what it had confirmed: all numbers of the lane are used up from now on.

    So the same loss is not found twice, and what was sent before it and comes late is not done over what is written
    after it.
    """
    stored.write_receipts(lane, receipts=[Receipt(INTEGER_MAX, "lost")])


def _version_or_none(text: str, *, lowest: SchemaVersion) -> SchemaVersion | None:
    """The version if it is at least `lowest`."""
    try:
        found = SchemaVersion.parse(text)
    except ValueError:
        return None
    return found if found >= lowest else None


def _refuse_other_user(user: UserId, request: RequestModel | Push) -> None:
    """Raises AuthRequired when a device sends one user's queue under the token of another."""
    if request.user != user:
        raise wrong_user()


def _refuse_gap(entries: Sequence[Entry], *, device_seq: int) -> None:
    """Raises SequenceGap unless the entries follow each other and what the cloud has."""
    expected = min(entries[0].sequence, device_seq + 1) if entries else 0
    for entry in entries:
        if entry.sequence != expected:
            raise _gap(expected)
        expected += 1


def _gap(expected: int) -> SequenceGap:
    return SequenceGap(f"The next sequence of this device is {expected}.", expected=expected)


def _told_again(entry: Entry, receipt: Receipt | None) -> tuple[str, Receipt]:
    """Another token, or a number of which nothing is known any more: it was another entry's."""
    tokens = {entry.token, receipt.token if receipt else None} - {None}
    if receipt is None or receipt.outcome == "lost" or len(tokens) > 1:
        return "reused", Receipt(entry.sequence, "lost")
    return "duplicate", receipt


def _hashed(token: str) -> str:
    """Tokens hold 256 random bits, so a plain hash cannot be searched and needs no salt."""
    return hashlib.sha256(token.encode()).hexdigest()
