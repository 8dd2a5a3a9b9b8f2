"""FirestoreBackend: the Backend of one signed-in user over Firestore's REST API. There is no server of ours.

What the reference server does in a transaction of its database, the device does here in one commit: it reads the
user's state and rows, settles the entries by the same rules, and writes rows, receipts and state all or none, under
the condition that nobody has changed the state since. docs/firestore.md has the layout, the rules and the limits.
"""

import os
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby, pairwise
from typing import TypeVar

import orjson

from syncengine.clock import Clock, SystemClock, iso, system_random
from syncengine.errors import AuthRequired, BackendAddressRefused, BackendUnavailable, BatchRefused, SequenceGap
from syncengine.firestore.account import Account
from syncengine.firestore.answers import Contended, not_firestore
from syncengine.firestore.commit import Commit, CommitTooLarge, make_commit
from syncengine.firestore.names import health_name, is_document_id
from syncengine.firestore.older_tree import Bringing, BroughtOver, OlderTree
from syncengine.firestore.pages import PAGE_BYTES_MAX, pages, read_page
from syncengine.firestore.rest import PRODUCTION, Found, Rest
from syncengine.firestore.rows import meta_of, row_body
from syncengine.firestore.state import Lane, State
from syncengine.firestore.values import META, decoded
from syncengine.remote.address import is_this_machine
from syncengine.remote.json_text import INTEGER_MAX
from syncengine.remote.wire import (
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
    PushEntry,
    PushRequest,
    RequestModel,
    RowsAnswer,
    RowsRequest,
    cursor_gone,
)
from syncengine.server.cursor import Position, Standing, life_told_by
from syncengine.server.receipts import Receipt, told
from syncengine.settings import Settings
from syncengine.vocabulary import SchemaVersion, UserId

ENTRIES_MAX = 5_000
"""Of one push: as many as the engine's largest group has."""
PUSH_BYTES_MAX = 16 * 1024 * 1024
COMMIT_ENTRIES_MAX = 500
"""More of several groups take several commits. Firestore itself has had no limit on writes since 2023."""
COMMIT_BYTES_MAX = 9_000_000
"""Firestore, "Usage and limits": "Maximum API request size: 10 MiB"."""
EMULATOR_COMMIT_BYTES_MAX = 3_500_000
"""The emulator takes 4 MiB: "gRPC message exceeds maximum size 4194304"."""
ATTEMPTS_MAX = 8
"""So often a call is decided anew because another device of the user was quicker; each time one of them got on."""
OLDER_DOCUMENTS_OF_HELLO = 500
"""So many documents of older apps are looked at at once; the rest at the next round."""
FIRST_WAIT_MS_MAX = 25
"""Doubled from one attempt to the next, so that devices of one user that write at once do not step on each other."""

_DAY_MS = 24 * 60 * 60 * 1000
# Project ids and database ids of Google Cloud; "google.com:" begins those of old domains.
_NAME = re.compile(r"[a-z0-9:.(_-][a-z0-9:._)-]{0,99}\Z")

Answer = TypeVar("Answer")


class FirestoreBackend:
    """A Backend in a Firestore database. `token` is asked at each call and never kept; empty or None: AuthRequired.
    Where Firestore says that it is over, another is asked for, once (see RefreshableToken).

    A Firebase ID token acts under the project's security rules; its user is the user of the engine. `emulator` is
    "host:port" of Google's emulator on this machine; without it the variable FIRESTORE_EMULATOR_HOST counts, as it
    does for Google's own clients. Raises TokenInvalid, BackendAddressRefused.
    """

    def __init__(
        self,
        project: str,
        *,
        token: Callable[[], str | None],
        database: str = "(default)",
        emulator: str | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        chance: random.Random | None = None,
        older: Sequence[OlderTree] = (),
    ) -> None:
        """`older`: where apps of before keep documents; what they write there is brought over at each hello."""
        for name in (project, database):
            _check_name(name)
        emulator = emulator or os.environ.get("FIRESTORE_EMULATOR_HOST")
        if emulator:
            _check_emulator(emulator)
        self._clock = clock or SystemClock()
        self._chance = chance or system_random()
        self._older = tuple(older)
        self._commit_bytes_max = EMULATOR_COMMIT_BYTES_MAX if emulator else COMMIT_BYTES_MAX
        self._rest = Rest(
            f"http://{emulator}" if emulator else PRODUCTION,
            database=f"projects/{project}/databases/{database}",
            token=token,
            settings=settings or Settings(),
            clock=self._clock,
        )

    def __repr__(self) -> str:
        return f"FirestoreBackend({self._rest.root.removesuffix('/documents')!r})"

    def hello(self, request: HelloRequest) -> HelloAnswer:
        """Where this device and this user stand. Changes no rows; a restored database begins another life here."""
        account = self._account(request)
        self._bring_over(account, documents_max=OLDER_DOCUMENTS_OF_HELLO)
        return self._until_undisturbed(lambda: self._hello(account, request))

    def push(self, request: PushRequest) -> PushAnswer:
        """Each entry takes effect once, in order, groups whole; about 500 entries a commit, one after the other.

        Raises SequenceGap, or BatchRefused for too many entries; then nothing was changed.
        """
        account = self._account(request)
        if len(request.entries) > ENTRIES_MAX:
            raise BatchRefused(f"A push holds at most {ENTRIES_MAX} entries.", status=413)
        results: list[EntryResult] = []
        while True:
            device_seq, server_time, more = self._until_undisturbed(
                lambda: self._push_some(account, request, results)
            )
            if len(results) == len(request.entries) or not more:
                return PushAnswer(
                    request_id=request.request_id,
                    server_time=server_time,
                    device_seq=device_seq,
                    results=tuple(results),
                )

    def pull(self, request: PullRequest) -> PullAnswer:
        """What has changed since the cursor, all of it as it was at one moment. Raises CursorGone."""
        account = self._account(request)
        return self._until_undisturbed(lambda: self._pull(account, request))

    def rows(self, request: RowsRequest) -> RowsAnswer:
        """One page of the user's living rows, without what lies beside them."""
        names = self._account(request).names
        path = {"field": {"fieldPath": f"{META}.key"}}
        query: dict[str, object] = {"from": [{"collectionId": request.collection}], "orderBy": [path]}
        if request.after is not None:
            value = {"stringValue": request.after}
            query["where"] = {"fieldFilter": {**path, "op": "GREATER_THAN", "value": value}}
        rows: list[CloudRow] = []
        size_bytes = 0
        more = False
        for found in pages(self._rest, names.user, query, page_max=request.limit + 1):
            size_bytes += len(orjson.dumps(found.fields))
            more = len(rows) == request.limit or (bool(rows) and size_bytes > PAGE_BYTES_MAX)
            if more:
                break
            rows.append(_cloud_row(found))
        return RowsAnswer(
            request_id=request.request_id,
            server_time=self._now(),
            rows=tuple(rows),
            next=rows[-1].key if more else None,
        )

    def health(self, nonce: str) -> HealthAnswer:
        """Firestore says by name that a document is not there whose name nobody could foresee. Needs no token."""
        if not self._rest.is_missing(health_name(self._rest.root, nonce)):
            raise not_firestore("the answer does not repeat our nonce")
        return HealthAnswer(nonce=nonce, server_time=self._now())

    def refused_token_wait_ms(self) -> int | None:
        """How long a call with the present token would be refused again; see RemembersRefusals."""
        return self._rest.refused_token_wait_ms()

    def close(self) -> None:
        self._rest.close()

    def forget_deleted(self, user: str, *, keep_days: int) -> int:
        """Forget rows that were deleted more than so many days ago; how many. Cursors from before them read anew.

        Any device may, once a day or so; the floor rises in the same commit.
        """
        account = self._account_of(user)
        before = iso(self._clock.now_ms() - keep_days * _DAY_MS)
        return self._until_undisturbed(lambda: account.forget_deleted(before=before))

    def bring_over(self, user: str, *, again: bool = False) -> BroughtOver:
        """All that older apps have written and that is not there yet, as rows; what became of it.

        May be interrupted anywhere and run anew, by any device. `again`: also what was set aside before.
        """
        return self._bring_over(self._account_of(user), again=again)

    def check_older(self, user: str) -> BroughtOver:
        """Each document of the older apps against what was brought over. Changes nothing."""
        account = self._account_of(user)
        said = BroughtOver()
        for tree in self._older:
            said = said.plus(self._bringing(account, tree).check())
        return said

    def _bring_over(self, account: Account, *, documents_max: int | None = None, again: bool = False) -> BroughtOver:
        said = BroughtOver()
        for tree in self._older:
            bringing = self._bringing(account, tree)
            place = self._until_undisturbed(bringing.place)
            start = {"began": place.get("since") or place["began"]} if again else place
            for found, reached in bringing.parts(start):
                write = partial(bringing.write, found, reached, again=again)
                said = said.plus(self._until_undisturbed(write))
                if documents_max is not None and said.read >= documents_max:
                    return said
        return said

    def _bringing(self, account: Account, tree: OlderTree) -> Bringing:
        return Bringing(self._rest, account, tree, commit_bytes_max=self._commit_bytes_max)

    def _account_of(self, user: str) -> Account:
        """Raises AuthRequired, with nothing sent, for a user whom the rules could not tell from the path."""
        if not is_document_id(user):
            raise AuthRequired(
                "The id of the signed-in user cannot be the name of a document in Firestore.",
                why="it holds a slash, is . or .. or like __this__, or is too long; the security rules compare both",
                fix="Give this user another id at Firebase, without these; the queue is kept.",
            )
        return Account(self._rest, UserId(user), clock=self._clock, chance=self._chance)

    def _account(self, request: RequestModel) -> Account:
        """Raises AuthRequired, with nothing sent, where the token says that it is another user's."""
        self._rest.check_user(request.user)
        return self._account_of(request.user)

    def _hello(self, account: Account, request: HelloRequest) -> HelloAnswer:
        lane = Lane(request.device, request.epoch)
        app = account.names.app(request.app)
        state, read_time, found = account.state(also=(app,))
        ended = state.with_ended(Lane(request.device, request.ended_epoch))
        has_ended, state = ended is not state, ended
        device_seq = state.device_seq(lane)
        life, stands = None, Standing.GOOD
        if request.cursor is not None:
            life = life_told_by(request.cursor)
            _, stands = account.stood(request.cursor, state=state)
        has_lost = request.confirmed_seq > device_seq
        if has_lost:
            # All numbers of the lane are used up from now on: the same loss is not found twice, and what comes late
            # is not done.
            state = state.with_sequence(lane, INTEGER_MAX)
        if has_lost and life is not None and life < state.epoch:
            account.write(state)  # another device told of this loss before, or all was lost: the life after has begun
        elif has_lost or stands is Standing.CONTRADICTED or (life or 0) > state.epoch:
            # Or the device knows a later life: this one is of an older copy.
            state = account.begin_another_life(state, read_time=read_time, above=life or 0)
        elif has_ended:
            account.write(state)
        return HelloAnswer(
            request_id=request.request_id,
            server_time=read_time,
            server_epoch=state.epoch,
            device_seq=device_seq,
            head=state.head,
            floor=state.floor,
            cloud_version=state.cloud_version,
            action=_action(request, found.get(app), may_read_on=stands is Standing.GOOD and not has_lost),
            limits=Limits(entries_max=ENTRIES_MAX, bytes_max=PUSH_BYTES_MAX),
        )

    def _push_some(self, account: Account, request: PushRequest, results: list[EntryResult]) -> tuple[int, str, bool]:
        """One commit's worth more; the sequence reached, when, and whether entries may be left."""
        lane = Lane(request.device, request.epoch)
        left = request.entries[len(results) :]
        state, read_time, _ = account.state()
        device_seq = state.device_seq(lane)
        _refuse_gap(left, device_seq=device_seq)
        results += _repeated(account, lane, entries=left, device_seq=device_seq)
        left = request.entries[len(results) :]
        if not left:
            return device_seq, read_time, False
        commit = self._fitting(account, lane, entries=left, state=state)
        account.commit(commit.writes, decided_on=state)
        results += _results((receipt.outcome, receipt) for receipt in commit.receipts)
        return results[-1].sequence, read_time, True

    def _fitting(self, account: Account, lane: Lane, *, entries: Sequence[PushEntry], state: State) -> Commit:
        """As many of the first groups as fit into one commit; one alone that does not is rejected in it."""
        make = partial(
            make_commit,
            self._rest,
            account.names,
            account.user,
            lane=lane,
            state=state,
            mark=account.fresh_mark(),
            bytes_max=self._commit_bytes_max,
        )
        part = _whole_groups(entries, entries_max=COMMIT_ENTRIES_MAX, bytes_max=self._commit_bytes_max)
        while True:
            try:
                return make(entries=part)
            except CommitTooLarge:
                if part[0].group == part[-1].group:
                    return make(entries=part, is_too_large=True)
            part = _whole_groups(part, entries_max=len(part) // 2, bytes_max=self._commit_bytes_max)

    def _pull(self, account: Account, request: PullRequest) -> PullAnswer:
        state, read_time, transaction = account.moment()
        after = Position(epoch=state.epoch, group_version=0, version=0, mark=0, floor=state.floor)
        if request.cursor is not None:
            position, stands = account.stood(request.cursor, state=state, transaction=transaction)
            if stands is Standing.CONTRADICTED:
                account.begin_another_life(state, read_time=read_time)
            if stands is not Standing.GOOD:
                raise cursor_gone("below_floor" if stands is Standing.BELOW_FLOOR else "other_epoch")
            after = position or after
        page = read_page(
            self._rest,
            account.names,
            state=state,
            after=after.version,
            items_max=request.limit,
            transaction=transaction,
        )
        group_version, version = page.reached
        head = state.head if page.more else 0
        reached = replace(after, group_version=group_version, version=version, mark=state.mark, head=head)
        return PullAnswer(
            request_id=request.request_id,
            server_time=read_time,
            server_epoch=state.epoch,
            epoch_head=state.epoch_head,
            items=page.items,
            cursor=account.cursor(reached, state=state),
            more=page.more,
        )

    def _until_undisturbed(self, attempt: Callable[[], Answer]) -> Answer:
        """Decided anew as often as another device of the user was quicker, after a wait by chance, within a bound."""
        for turn in range(ATTEMPTS_MAX):
            try:
                return attempt()
            except Contended:
                self._clock.pause(int(self._chance.random() * FIRST_WAIT_MS_MAX * 2**turn))
        raise BackendUnavailable(
            "Other devices of the user keep writing.",
            why=f"{ATTEMPTS_MAX} commits in a row came second",
            fix="Nothing was written; it is tried again later.",
        )

    def _now(self) -> str:
        return iso(self._clock.now_ms())


def _repeated(account: Account, lane: Lane, *, entries: Sequence[PushEntry], device_seq: int) -> list[EntryResult]:
    """What was answered before. Sequence and token alone say that it is the same entry.

    Behind a number that another copy of the store used nothing is done: the order of this one's edits would be lost.
    """
    known = [entry for entry in entries if entry.sequence <= device_seq]
    if not known:
        return []
    receipts = account.receipts(lane, first=known[0].sequence, last=known[-1].sequence)
    repeated = [_told_again(entry, receipts.get(entry.sequence)) for entry in known]
    if any(each.status == "reused" for each in repeated):
        repeated += [EntryResult(sequence=entry.sequence, status="reused") for entry in entries[len(known) :]]
    return repeated


def _told_again(entry: PushEntry, receipt: Receipt | None) -> EntryResult:
    """Another token, or a number of which nothing is known any more: it was another entry's."""
    tokens = {entry.token, receipt.token if receipt else None} - {None}
    if receipt is None or len(tokens) > 1:
        return EntryResult(sequence=entry.sequence, status="reused")
    return _results([("duplicate", receipt)])[0]


def _results(receipts: Iterable[tuple[str, Receipt]]) -> list[EntryResult]:
    return [EntryResult.model_validate(each) for each in told(receipts)]


def _whole_groups(entries: Sequence[PushEntry], *, entries_max: int, bytes_max: int) -> Sequence[PushEntry]:
    """The first groups, as many as may go into one commit, at least one."""
    taken = size_bytes = 0
    for _, group in groupby(entries, key=lambda entry: entry.group):
        members = list(group)
        size_bytes += sum(len(orjson.dumps((each.set, _sets(each)))) for each in members)
        if taken and (taken + len(members) > entries_max or size_bytes > bytes_max):
            break
        taken += len(members)
    return entries[:taken]


def _sets(entry: PushEntry) -> list[object]:
    return [change.set for change in entry.changes or ()]


def _refuse_gap(entries: Sequence[PushEntry], *, device_seq: int) -> None:
    """Raises SequenceGap unless the entries follow each other and what the cloud has."""
    sequences = [entry.sequence for entry in entries]
    if sequences and sequences[0] > device_seq + 1:
        raise _gap(device_seq + 1)
    for before, after in pairwise(sequences):
        if after != before + 1:
            raise _gap(before + 1)


def _gap(expected: int) -> SequenceGap:
    return SequenceGap(f"The next sequence of this device is {expected}.", expected=expected)


def _action(request: HelloRequest, app: Found | None, *, may_read_on: bool) -> Action:
    """`app`: what the operator has set for it, as `schema_min`."""
    lowest = decoded(app.fields["schema_min"]) if app is not None and "schema_min" in app.fields else None
    if isinstance(lowest, str) and _is_older(request.schema_version, lowest):
        return Action.DRAIN_ONLY
    return Action.OK if may_read_on else Action.RESYNC


def _is_older(version: str, lowest: str) -> bool:
    try:
        return SchemaVersion.parse(version) < SchemaVersion.parse(lowest)
    except ValueError:
        return True


def _cloud_row(found: Found) -> CloudRow:
    meta = meta_of(found)
    return CloudRow(key=meta["key"], version=meta["version"], body=row_body(found), shape_version=meta["shape"])


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        raise BackendAddressRefused(
            "The name of the project or of its database cannot be used.",
            why="it holds other letters than such names have",
            fix="Give the project's id, such as herospath-prod; the database is usually (default).",
        )


def _check_emulator(address: str) -> None:
    host = address.rpartition(":")[0].strip("[]")
    if not is_this_machine(host):
        raise BackendAddressRefused(
            "The emulator's address cannot be used.",
            why="it is not host:port on this machine, and plain http elsewhere would show the token to the network",
            fix="Give an address like 127.0.0.1:8080, or take FIRESTORE_EMULATOR_HOST away.",
        )
