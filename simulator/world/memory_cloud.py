"""A cloud in memory, written by hand from docs/protocol.md and sharing no code with the server."""

import copy
import itertools
import json
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Literal

from simulator.world.memory_rows import MemoryRow, Rejected, is_conflict, row_after, stands_on, unseen_values
from syncengine.errors import AuthRequired, BackendUnreachable, CursorGone, QuotaExceeded, SequenceGap
from syncengine.remote.json_text import INTEGER_MAX, value_fault
from syncengine.remote.wire import (
    Action,
    CloudRow,
    EntryKind,
    EntryResult,
    HealthAnswer,
    HelloAnswer,
    HelloRequest,
    Limits,
    PullAnswer,
    PullItem,
    PullRequest,
    PushAnswer,
    PushEntry,
    PushRequest,
    RequestModel,
    RowChange,
    RowsAnswer,
    RowsRequest,
)
from syncengine.vocabulary import SchemaVersion

ROW_BYTES_MAX = 1_000_000
TIME = "2025-07-21T15:30:00.000Z"

Effect = Literal["applied", "merged"]

_marks = itertools.count(1)
_epochs = itertools.count(1_000)


class Conflict(Exception):
    """An entry that its sender wants to decide anew."""


@dataclass
class MemoryUser:
    """One user's rows by collection and key, receipts by device, epoch and sequence, commits by last version."""

    name: str
    rows: dict[tuple[str, str], MemoryRow] = field(default_factory=dict)
    counter: int = 0
    epoch: int = field(default_factory=lambda: next(_epochs))
    epoch_head: int = 0
    floor: int = 0
    cloud_version: str | None = None
    receipts: dict[tuple[str, int], dict[int, tuple[EntryResult | None, str | None]]] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    group_of: dict[int, int] = field(default_factory=dict)
    commits: list[tuple[int, int]] = field(default_factory=list)

    def used_up(self, lane: tuple[str, int]) -> int:
        device, epoch = lane
        if 0 < epoch <= self.ended.get(device, 0):
            return INTEGER_MAX
        return max(self.receipts.get(lane, {}), default=0)

    @property
    def living(self) -> int:
        return sum(row.body is not None for row in self.rows.values())

    def mark_at(self, version: int) -> int:
        return next((mark for last, mark in self.commits if last >= version), 0) if version else 0

    def cursor(self, version: int, *, after: str | None) -> str:
        """`after`: where the page began; a reading from the start needs no tombstone from before it."""
        floor = self.floor if after is None else json.loads(after)[4]
        return json.dumps([self.name, self.epoch, version, self.mark_at(self.counter), floor, self.counter])

    def place(self, cursor: str | None) -> int:
        """Raises CursorGone."""
        if cursor is None:
            return 0
        try:
            name, epoch, found, mark, floor, counter = json.loads(cursor)
            version, told_at = int(found), int(counter)
        except (ValueError, TypeError):
            raise CursorGone("not ours", reason="other_epoch") from None
        if (name, epoch) != (self.name, self.epoch):
            raise CursorGone("another life", reason="other_epoch")
        if version <= self.counter and max(version, floor) < self.floor:
            raise CursorGone("forgotten", reason="below_floor")
        if told_at > self.counter or mark != self.mark_at(told_at):
            self.begin_life()
            raise CursorGone("restored", reason="other_epoch")
        return version

    def is_of_earlier_life(self, cursor: str | None) -> bool:
        return 0 < self.life_told_by(cursor) < self.epoch

    def life_told_by(self, cursor: str | None) -> int:
        """0 for what is no cursor of this user's."""
        try:
            name, epoch, *_ = json.loads(cursor or "")
        except (ValueError, TypeError):
            return 0
        return int(epoch) if name == self.name else 0

    def begin_life(self, *, above: int = 0) -> None:
        self.epoch, self.epoch_head = max(next(_epochs), above + 1), self.counter


class MemoryCloud:
    """All users; a token is the user's name with "token of " before it. Its operator may do what an operator can."""

    def __init__(self, schema_min: dict[str, str] | None = None) -> None:
        self.users: dict[str, MemoryUser] = {}
        self.schema_min = schema_min or {}
        self.rows_max = 0
        """Living rows of a user; 0: as many as they like."""
        self._copy: dict[str, MemoryUser] = {}

    def sign_in(self, user: str) -> str:
        self.users.setdefault(user, MemoryUser(user))
        return f"token of {user}"

    def backend(self, token: str) -> "MemoryBackend":
        return MemoryBackend(self, token.removeprefix("token of "))

    def take_copy(self) -> None:
        self._copy = copy.deepcopy(self.users)

    def bring_copy_back(self) -> None:
        self.users = copy.deepcopy(self._copy)

    def forget_deleted(self) -> None:
        for user in self.users.values():
            for place, row in list(user.rows.items()):
                if row.body is None:
                    user.floor = max(user.floor, user.group_of[row.version])
                    del user.rows[place]


class MemoryBackend:
    """A Backend for one user of a MemoryCloud; a name that it does not have: nobody knows the token."""

    def __init__(self, cloud: MemoryCloud, name: str) -> None:
        self._cloud = cloud
        self._name = name
        self._closed = False

    def hello(self, request: HelloRequest) -> HelloAnswer:
        user = self._signed_in(request)
        receipts = user.receipts.setdefault((request.device, request.epoch), {})
        user.ended[request.device] = max(user.ended.get(request.device, 0), request.ended_epoch)
        device_seq = user.used_up((request.device, request.epoch))
        return HelloAnswer(
            request_id=request.request_id,
            server_time=TIME,
            device_seq=device_seq,
            action=self._action(user, request, receipts, device_seq),
            server_epoch=user.epoch,
            head=user.counter,
            floor=user.floor,
            cloud_version=user.cloud_version,
            limits=Limits(entries_max=5_000, bytes_max=16 * 1024 * 1024),
        )

    def _action(self, user: MemoryUser, request: HelloRequest, receipts: dict[int, Any], device_seq: int) -> Action:
        action = Action.OK
        try:
            user.place(request.cursor)
        except CursorGone:
            action = Action.RESYNC
        if user.life_told_by(request.cursor) > user.epoch:
            user.begin_life(above=user.life_told_by(request.cursor))
        if request.confirmed_seq > device_seq:
            receipts[INTEGER_MAX] = (None, None)
            if not user.is_of_earlier_life(request.cursor):
                user.begin_life()
            action = Action.RESYNC
        lowest = self._cloud.schema_min.get(request.app)
        if lowest and SchemaVersion.parse(request.schema_version) < SchemaVersion.parse(lowest):
            return Action.DRAIN_ONLY
        return action

    def push(self, request: PushRequest) -> PushAnswer:
        user, rows_max = self._signed_in(request), self._cloud.rows_max
        before = copy.deepcopy(user) if rows_max else user
        answer = self._pushed(user, request)
        if rows_max and user.living > max(rows_max, before.living):
            self._cloud.users[self._name] = before
            raise QuotaExceeded("There is no room.")
        return answer

    def _pushed(self, user: MemoryUser, request: PushRequest) -> PushAnswer:
        lane = (request.device, request.epoch)
        receipts = user.receipts.setdefault(lane, {})
        last = user.used_up(lane)
        expected = min(request.entries[0].sequence, last + 1) if request.entries else 1
        for entry in request.entries:
            if entry.sequence != expected:
                raise SequenceGap("gap", expected=expected)
            expected += 1
        results = [_again(entry, receipts.get(entry.sequence)) for entry in request.entries if entry.sequence <= last]
        fresh = [entry for entry in request.entries if entry.sequence > last]
        if any(result.status == "reused" for result in results):
            results += [EntryResult(sequence=entry.sequence, status="reused") for entry in fresh]
            fresh = []
        before = user.counter
        for _, members in groupby(fresh, key=lambda entry: entry.group):
            group = list(members)
            for entry, result in zip(group, _settle(user, lane, group), strict=True):
                receipts[entry.sequence] = (result, entry.token)
                results.append(result)
        if user.counter > before:
            user.commits.append((user.counter, next(_marks)))
        return PushAnswer(
            request_id=request.request_id,
            server_time=TIME,
            device_seq=user.used_up(lane),
            results=tuple(results),
        )

    def pull(self, request: PullRequest) -> PullAnswer:
        user = self._signed_in(request)
        after = user.place(request.cursor)
        changed = sorted((row.version, place) for place, row in user.rows.items() if row.version > after)
        page: list[PullItem] = []
        for _, group in groupby(changed, key=lambda each: user.group_of[each[0]]):
            rows = [_pull_item(place, user.rows[place]) for _, place in group]
            if page and len(page) + len(rows) > request.limit:
                break
            page += rows
        more = len(page) < len(changed)
        return PullAnswer(
            request_id=request.request_id,
            server_time=TIME,
            server_epoch=user.epoch,
            epoch_head=user.epoch_head,
            items=tuple(page),
            cursor=user.cursor(user.group_of[page[-1].version] if more else user.counter, after=request.cursor),
            more=more,
        )

    def rows(self, request: RowsRequest) -> RowsAnswer:
        user = self._signed_in(request)
        living = sorted(
            (key, row)
            for (collection, key), row in user.rows.items()
            if collection == request.collection and row.body is not None and key > (request.after or "")
        )
        page = living[: request.limit]
        return RowsAnswer(
            request_id=request.request_id,
            server_time=TIME,
            rows=tuple(
                CloudRow(key=key, version=row.version, body=row.body or {}, shape_version=row.shape)
                for key, row in page
            ),
            next=page[-1][0] if len(living) > len(page) else None,
        )

    def health(self, nonce: str) -> HealthAnswer:
        if self._closed:
            raise BackendUnreachable("closed")
        return HealthAnswer(nonce=nonce, server_time=TIME)

    def close(self) -> None:
        self._closed = True

    def _signed_in(self, request: RequestModel) -> MemoryUser:
        if self._closed:
            raise BackendUnreachable("closed")
        if self._name not in self._cloud.users:
            raise AuthRequired("nobody's token")
        if request.user != self._name:
            raise AuthRequired("The token belongs to another user.")
        return self._cloud.users[self._name]


def _pull_item(place: tuple[str, str], row: MemoryRow) -> PullItem:
    return PullItem(
        collection=place[0],
        key=place[1],
        version=row.version,
        shape_version=row.shape,
        body=row.body,
        patches=row.patches,
    )


def _again(entry: PushEntry, known: tuple[EntryResult | None, str | None] | None) -> EntryResult:
    first, token = known or (None, None)
    if first is None or (token and entry.token and token != entry.token):
        return EntryResult(sequence=entry.sequence, status="reused")
    return first.model_copy(update={"status": "duplicate", "outcome": first.status})


def _settle(user: MemoryUser, lane: tuple[str, int], members: list[PushEntry]) -> list[EntryResult]:
    before = (dict(user.rows), user.counter, user.cloud_version)
    results: list[EntryResult] = []
    try:
        for entry in members:
            results.append(_apply(user, lane, entry))
    except (Rejected, Conflict) as undone:
        user.rows, user.counter, user.cloud_version = before
        return [_undone(undone, entry, is_culprit=n == len(results)) for n, entry in enumerate(members)]
    for version in range(before[1] + 1, user.counter + 1):
        user.group_of[version] = user.counter
    return results


def _undone(why: Exception, entry: PushEntry, *, is_culprit: bool) -> EntryResult:
    if isinstance(why, Conflict):
        return EntryResult(sequence=entry.sequence, status="conflict")
    code = why.args[0] if is_culprit else "group_rejected"
    return EntryResult(sequence=entry.sequence, status="rejected", code=code, message="Rejected.")


def _apply(user: MemoryUser, lane: tuple[str, int], entry: PushEntry) -> EntryResult:
    if entry.kind is EntryKind.VOID:
        return EntryResult(sequence=entry.sequence, status="applied")
    if entry.kind is EntryKind.MIGRATION:
        return _apply_migration(user, lane, entry)
    if entry.kind is EntryKind.LIFT:
        return _apply_lift(user, lane, entry)
    if entry.kind is EntryKind.CHANGES:
        return _apply_changes(user, lane, entry)
    change = RowChange(kind=entry.kind, collection=entry.collection, key=entry.key, set=entry.set)
    row = user.rows.get((entry.collection, entry.key))
    status = _change(user, lane, entry, change, base=entry.base_version, refuse=entry.on_conflict == "refuse")
    unseen = unseen_values(row, lane, change, shape=entry.shape_version, base=entry.base_version)
    return EntryResult(sequence=entry.sequence, status=status, version=user.counter, overwrote=unseen or None)


def _apply_changes(user: MemoryUser, lane: tuple[str, int], entry: PushEntry) -> EntryResult:
    if not entry.changes or entry.set is not None:
        raise Rejected("bad_entry")
    own = user.rows.get((entry.collection, entry.key))
    if entry.on_conflict == "refuse" and is_conflict(own, lane, entry.base_version):
        raise Conflict
    merged, version, skipped = False, None, []
    overwrote: dict[str, Any] = {}
    for place, change in enumerate(entry.changes):
        row = user.rows.get((change.collection, change.key))
        base = entry.base_version if (change.collection, change.key) == (entry.collection, entry.key) else None
        if change.if_version is not None:
            _check_form(change)
            if change.if_version != (row.version if row else 0):
                skipped.append(change.key)
                continue
            base = change.if_version
        merged |= _change(user, lane, entry, change, base=base) == "merged"
        version = user.counter
        if unseen := unseen_values(row, lane, change, shape=entry.shape_version, base=base):
            overwrote[str(place)] = unseen
    status: Effect = "merged" if merged else "applied"
    return EntryResult(
        sequence=entry.sequence,
        status=status,
        version=version,
        skipped=tuple(skipped) or None,
        overwrote=overwrote or None,
    )


def _apply_lift(user: MemoryUser, lane: tuple[str, int], entry: PushEntry) -> EntryResult:
    if not entry.lifts or entry.base_version is None or entry.set is None:
        raise Rejected("bad_entry")
    place = (entry.collection, entry.key)
    row = user.rows.get(place)
    names = {each.patch for each in row.patches} if row else set()
    parse = SchemaVersion.parse
    if row is None or row.body is None or row.version != entry.base_version:
        return EntryResult(sequence=entry.sequence, status="applied", skipped=(entry.key,))
    if not names >= set(entry.lifts) or parse(entry.shape_version) < parse(row.shape):
        return EntryResult(sequence=entry.sequence, status="applied", skipped=(entry.key,))
    left = tuple(each for each in row.patches if each.patch not in entry.lifts)
    user.counter += 1
    user.rows[place] = MemoryRow(user.counter, entry.set, entry.shape_version, left, lane, row.version)
    return EntryResult(sequence=entry.sequence, status="applied", version=user.counter)


def _apply_migration(user: MemoryUser, lane: tuple[str, int], entry: PushEntry) -> EntryResult:
    skipped, version = [], None
    for change in entry.changes or ():
        row = user.rows.get((change.collection, change.key))
        if change.if_version is not None and change.if_version != (row.version if row else 0):
            skipped.append(change.key)
            continue
        _change(user, lane, entry, change, base=change.if_version, of_migration=True)
        version = user.counter
    parse = SchemaVersion.parse
    if entry.cloud_version and parse(entry.cloud_version) > parse(user.cloud_version or "0"):
        user.cloud_version = str(parse(entry.cloud_version))
    return EntryResult(sequence=entry.sequence, status="applied", version=version, skipped=tuple(skipped))


def _change(
    user: MemoryUser,
    lane: tuple[str, int],
    entry: PushEntry,
    change: RowChange,
    *,
    base: int | None,
    refuse: bool = False,
    of_migration: bool = False,
) -> Effect:
    """Do it."""
    _check_form(change)
    place = (change.collection, change.key)
    row = user.rows.get(place)
    stands = stands_on(row, lane, base)
    if refuse and is_conflict(row, lane, base):
        raise Conflict
    after = row_after(
        row, change, entry.shape_version, stands=stands, of_migration=of_migration, patch=user.counter + 1
    )
    if len(json.dumps(after.body)) > ROW_BYTES_MAX or len(json.dumps([p.set for p in after.patches])) > ROW_BYTES_MAX:
        raise Rejected("row_too_large")
    user.counter += 1
    run = row.stood_on if row and row.writer == lane and stands else (row.version if row else 0)
    user.rows[place] = replace(after, version=user.counter, writer=lane, stood_on=run)
    return "merged" if row and row.body is not None and base is not None and not stands else "applied"


def _check_form(change: RowChange) -> None:
    named = change.collection.replace("_", "").isalnum()
    if not named or not change.key.isprintable() or not change.key or len(change.key) > 1_024:
        raise Rejected("bad_key")
    if (change.set is None) != (change.kind is EntryKind.DELETE):
        raise Rejected("bad_entry")
    if value_fault(change.set):
        raise Rejected("bad_value")
