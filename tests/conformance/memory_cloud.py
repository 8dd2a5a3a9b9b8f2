"""A cloud in memory, written by hand from docs/protocol.md and sharing no code with the server."""

import copy
import json
from itertools import groupby

from syncengine.errors import AuthRequired, BackendUnreachable, CursorGone, SequenceGap
from syncengine.remote.json_text import value_fault
from syncengine.remote.wire import (
    Action,
    CloudRow,
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


class Rejected(Exception):
    """An entry that is not taken; `args[0]` is the code."""


class MemoryUser:
    """One user's rows: (collection, key) to [version, body or None, shape version]."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: dict[tuple[str, str], tuple[int, dict | None, str]] = {}
        self.counter = 0
        self.group_of: dict[int, int] = {}
        self.cloud_version: str | None = None
        self.receipts: dict[tuple[str, int], dict[int, EntryResult]] = {}


class MemoryCloud:
    """All users; a token is the user's name with "token of " before it."""

    def __init__(self) -> None:
        self.users: dict[str, MemoryUser] = {}

    def sign_in(self, user: str) -> str:
        self.users.setdefault(user, MemoryUser(user))
        return f"token of {user}"

    def backend(self, token: str) -> "MemoryBackend":
        return MemoryBackend(self.users.get(token.removeprefix("token of ")))


class MemoryBackend:
    """A Backend for one user of a MemoryCloud; None: nobody knows the token."""

    def __init__(self, user: MemoryUser | None) -> None:
        self._user = user
        self._closed = False

    def hello(self, request: HelloRequest) -> HelloAnswer:
        user = self._signed_in(request)
        receipts = user.receipts.get((request.device, request.epoch), {})
        return HelloAnswer(
            request_id=request.request_id,
            server_time="2025-07-21T15:30:00.000Z",
            server_epoch=1,
            device_seq=max(receipts, default=0),
            head=user.counter,
            cloud_version=user.cloud_version,
            action=Action.OK,
            limits=Limits(entries_max=5_000, bytes_max=16 * 1024 * 1024),
        )

    def push(self, request: PushRequest) -> PushAnswer:
        user = self._signed_in(request)
        receipts = user.receipts.setdefault((request.device, request.epoch), {})
        expected = min(request.entries[0].sequence, max(receipts, default=0) + 1) if request.entries else 1
        for entry in request.entries:
            if entry.sequence != expected:
                raise SequenceGap("gap", expected=expected)
            expected += 1
        results = [_duplicate(receipts[e.sequence]) for e in request.entries if e.sequence in receipts]
        fresh = [entry for entry in request.entries if entry.sequence not in receipts]
        for _, members in groupby(fresh, key=lambda entry: entry.group):
            for result in _settle(user, list(members)):
                receipts[result.sequence] = result
                results.append(result)
        return PushAnswer(
            request_id=request.request_id,
            server_time="2025-07-21T15:30:00.000Z",
            device_seq=max(receipts, default=0),
            results=tuple(results),
        )

    def pull(self, request: PullRequest) -> PullAnswer:
        user = self._signed_in(request)
        after = int(request.cursor or 0)
        if after > user.counter:
            raise CursorGone("ahead", reason="other_epoch")
        changed = sorted((row[0], place) for place, row in user.rows.items() if row[0] > after)
        page: list[PullItem] = []
        for version, (collection, key) in changed:
            group = user.group_of[version]
            if len(page) >= request.limit and group != user.group_of[page[-1].version]:
                break
            _, body, shape = user.rows[collection, key]
            page.append(PullItem(collection=collection, key=key, version=version, shape_version=shape, body=body))
        more = len(page) < len(changed)
        return PullAnswer(
            request_id=request.request_id,
            server_time="2025-07-21T15:30:00.000Z",
            server_epoch=1,
            items=tuple(page),
            cursor=str(page[-1].version if more else user.counter),
            more=more,
        )

    def rows(self, request: RowsRequest) -> RowsAnswer:
        user = self._signed_in(request)
        living = sorted(
            (key, row)
            for (collection, key), row in user.rows.items()
            if collection == request.collection and row[1] is not None and key > (request.after or "")
        )
        page = living[: request.limit]
        return RowsAnswer(
            request_id=request.request_id,
            server_time="2025-07-21T15:30:00.000Z",
            rows=tuple(
                CloudRow(key=key, version=version, body=body or {}, shape_version=shape)
                for key, (version, body, shape) in page
            ),
            next=page[-1][0] if len(living) > len(page) else None,
        )

    def health(self, nonce: str) -> HealthAnswer:
        if self._closed:
            raise BackendUnreachable("closed")
        return HealthAnswer(nonce=nonce, server_time="2025-07-21T15:30:00.000Z")

    def close(self) -> None:
        self._closed = True

    def _signed_in(self, request: RequestModel) -> MemoryUser:
        if self._closed:
            raise BackendUnreachable("closed")
        if self._user is None:
            raise AuthRequired("nobody's token")
        if request.user != self._user.name:
            raise AuthRequired("another user's token")
        return self._user


def _duplicate(first: EntryResult) -> EntryResult:
    outcome = "applied" if first.status == "applied" else "rejected"
    return first.model_copy(update={"status": "duplicate", "outcome": outcome})


def _settle(user: MemoryUser, members: list[PushEntry]) -> list[EntryResult]:
    before = copy.deepcopy((user.rows, user.counter, user.cloud_version))
    results: list[EntryResult] = []
    codes: dict[int, str] = {}
    for entry in members:
        try:
            results.append(_apply(user, entry))
        except Rejected as rejected:
            codes[entry.sequence] = rejected.args[0]
    if not codes:
        for version in range(before[1] + 1, user.counter + 1):
            user.group_of[version] = user.counter
        return results
    user.rows, user.counter, user.cloud_version = before
    return [
        EntryResult(
            sequence=entry.sequence,
            status="rejected",
            code=codes.get(entry.sequence, "group_rejected"),
            message="Rejected.",
        )
        for entry in members
    ]


def _apply(user: MemoryUser, entry: PushEntry) -> EntryResult:
    if entry.kind == "void":
        return EntryResult(sequence=entry.sequence, status="applied")
    if entry.kind != "migration":
        change = RowChange(kind=entry.kind, collection=entry.collection, key=entry.key, set=entry.set)
        version = _change(user, change, entry.shape_version)
        return EntryResult(sequence=entry.sequence, status="applied", version=version)
    return _apply_migration(user, entry)


def _apply_migration(user: MemoryUser, entry: PushEntry) -> EntryResult:
    skipped, version = [], None
    for change in entry.changes or ():
        present = user.rows.get((change.collection, change.key), (0, None, ""))[0]
        if change.if_version is not None and change.if_version != present:
            skipped.append(change.key)
        else:
            version = _change(user, change, entry.shape_version)
    parse = SchemaVersion.parse
    if entry.cloud_version and parse(entry.cloud_version) > parse(user.cloud_version or "0"):
        user.cloud_version = str(parse(entry.cloud_version))
    return EntryResult(sequence=entry.sequence, status="applied", version=version, skipped=tuple(skipped))


def _change(user: MemoryUser, change: RowChange, shape: str) -> int:
    named = change.collection.replace("_", "").isalnum()
    if not named or not change.key.isprintable() or not change.key or len(change.key) > 1_024:
        raise Rejected("bad_key")
    if (change.set is None) != (change.kind == "delete"):
        raise Rejected("bad_entry")
    if value_fault(change.set):
        raise Rejected("bad_value")
    found = user.rows.get((change.collection, change.key), (0, None, "0"))
    if change.kind == "patch" and found[1] is None:
        raise Rejected("gone")
    body = {**(found[1] or {}), **(change.set or {})} if change.kind == "patch" else change.set
    if len(json.dumps(body)) > ROW_BYTES_MAX:
        raise Rejected("row_too_large")
    if change.kind == "patch":
        shape = max(found[2], shape, key=SchemaVersion.parse)
    user.counter += 1
    user.rows[change.collection, change.key] = (user.counter, body, shape)
    return user.counter
