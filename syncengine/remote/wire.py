"""Protocol 1 as values: what a device asks and what the cloud answers. The server speaks through the same models.

docs/protocol.md tells the rules; the golden files under tests/golden/wire hold one example of each message.
"""

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, JsonValue, SkipValidation

from syncengine.errors import AuthRequired, CursorGone, ProtocolViolation
from syncengine.remote.json_text import INTEGER_MAX

PROTOCOL = 1
PROTOCOL_HEADER = "Syncengine-Protocol"
"""On every answer of the cloud, so that a login page of a hotel cannot pass for it."""

USER_HEADER = "Syncengine-User"
"""On every answer to a signed-in user: whose it is, as `user_mark` writes it."""

REQUEST_ID_LENGTH_MAX = 64
NAME_LENGTH_MAX = 128
USER_LENGTH_MAX = 200
ROWS_PER_PAGE_MAX = 1_000
PULL_ITEMS_MAX = 5_000
"""What one page is asked for at most; a page that ends within a group holds more, to end with it."""
CURSOR_LENGTH_MAX = 512
WRONG_USER = "wrong_user"
"""The code with 403: the token is good, but not this user's."""

# Of what an answer repeats: none can hold NUL.
WITHOUT_NUL = r"^[^\x00]+$"
RequestId = Annotated[str, Field(min_length=1, max_length=REQUEST_ID_LENGTH_MAX, pattern=WITHOUT_NUL)]
# No control character: Unicode's general category Cc, in words that every dialect of patterns knows.
_NO_CONTROL = r"^[^\x00-\x1f\x7f-\x9f]*$"
ShortName = Annotated[str, Field(min_length=1, max_length=NAME_LENGTH_MAX, pattern=_NO_CONTROL)]
UserName = Annotated[str, Field(min_length=1, max_length=USER_LENGTH_MAX, pattern=_NO_CONTROL)]
Key = Annotated[str, Field(pattern=_NO_CONTROL)]
Number = Annotated[int, Field(ge=0, le=INTEGER_MAX)]
Cursor = Annotated[str, Field(min_length=1, max_length=CURSOR_LENGTH_MAX)]
GoneReason = Literal["below_floor", "other_epoch"]
EntryNumber = Annotated[int, Field(ge=1, le=INTEGER_MAX)]
Document = dict[str, SkipValidation[JsonValue]]
"""Values are not looked at again: only `json_text` reads and writes them, and it takes no others."""


class EntryKind(StrEnum):
    """What an entry does; the values travel."""

    PUT = "put"
    PATCH = "patch"
    DELETE = "delete"
    CHANGES = "changes"
    LIFT = "lift"
    MIGRATION = "migration"
    VOID = "void"


class Action(StrEnum):
    """What the cloud tells a device to do next; the values travel."""

    OK = "ok"
    DRAIN_ONLY = "drain_only"
    UPGRADE_APP = "upgrade_app"
    RESYNC = "resync"


class WireModel(BaseModel):
    """Frozen and strict; unknown fields are errors, and an error never quotes the input."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)


def lean(message: WireModel) -> dict[str, Any]:
    """A request or an answer as it travels: what is null or says nothing new is left out, the protocol never."""
    return {"protocol": PROTOCOL, **message.model_dump(exclude_defaults=True)}


class RequestModel(WireModel):
    """What every request carries. The answer repeats `request_id`, so it cannot be another request's.

    `user` is whose queue this is; the cloud takes nothing when the token is another user's.
    """

    protocol: Literal[1] = 1
    request_id: RequestId
    user: UserName


class AnswerModel(WireModel):
    """What every answer carries. `server_time` is ISO-8601 UTC with milliseconds, for people only."""

    protocol: Literal[1] = 1
    request_id: RequestId
    server_time: str


class HelloRequest(RequestModel):
    """Who is there: first call of a round."""

    app: ShortName
    device: ShortName
    epoch: Number
    schema_version: ShortName
    confirmed_seq: Number = 0
    """The highest sequence of this epoch that the cloud has confirmed: less at the cloud means that it lost some."""
    cursor: Cursor | None = None
    """Where this device would pull on; None for the start."""
    ended_epoch: Number = 0
    """No number of this epoch of the device, or of a lower one, may take effect any more; 0: none has ended so."""


class Limits(WireModel):
    """The largest push that this cloud takes."""

    entries_max: EntryNumber
    bytes_max: EntryNumber


class HelloAnswer(AnswerModel):
    """`device_seq` is the highest sequence applied or rejected of this user, device and epoch; 0 for none.

    `head` is the highest version that a row of this user has; `floor` the version below which tombstones are gone:
    a cursor from before it reads from the start (`resync`).
    """

    server_epoch: Number
    device_seq: Number
    head: Number = 0
    floor: Number = 0
    cloud_version: str | None = None
    action: Annotated[Action, Field(strict=False)]
    limits: Limits


class RowChange(WireModel):
    """One put, patch or delete of an entry that has several.

    `if_version`: only if the row, or its tombstone, is at that version (0: there never was one), else skipped.
    """

    kind: Annotated[EntryKind, Field(strict=False)]
    collection: str
    key: str
    set: Document | None = None
    if_version: Number | None = None


class PushEntry(WireModel):
    """One entry of the outbox as it travels. Neighbours with equal `group` take effect together or not at all."""

    sequence: EntryNumber
    group: Number
    kind: Annotated[EntryKind, Field(strict=False)]
    collection: str = ""
    key: str = ""
    set: Document | None = None
    base_version: Number | None = None
    shape_version: ShortName
    migration: str | None = None
    changes: Annotated[tuple[RowChange, ...] | None, Field(strict=False)] = None
    cloud_version: str | None = None
    token: ShortName | None = None
    """By chance, given with the number: a duplicate with another token was sent by a copy of the store."""
    on_conflict: Literal["merge", "refuse"] = "merge"
    """`refuse`: only on the version `base_version`, else the result is `conflict`."""
    lifts: Annotated[tuple[Number, ...] | None, Field(strict=False)] = None
    """Of a lift: the patches that are in its `set` now."""


class PushRequest(RequestModel):
    """Entries of one device in the order of their sequences, without gaps."""

    device: ShortName
    epoch: Number
    schema_version: ShortName
    entries: Annotated[tuple[PushEntry, ...], Field(strict=False)]


class EntryResult(WireModel):
    """What became of one entry. A duplicate repeats in `outcome` and the rest what was told the first time.

    `merged`: applied on a row that had changed since `base_version`. `conflict`: not applied for that reason, as
    asked.
    `overwrote`: values of other writers that the sender had not seen, and that this entry took the place of; of a
    delete the whole row; of several changes these by the place of each in the list, from "0" on.
    `reused`: this sequence came before with another token, so another copy of the store used it; nothing was done.
    """

    sequence: EntryNumber
    status: Literal["applied", "merged", "conflict", "duplicate", "rejected", "reused"]
    outcome: Literal["applied", "merged", "conflict", "rejected"] | None = None
    version: Number | None = None
    code: str | None = None
    message: str | None = None
    skipped: Annotated[tuple[str, ...] | None, Field(strict=False)] = None
    overwrote: Document | None = None


class PushAnswer(AnswerModel):
    """One result for each entry, in the order of the request."""

    device_seq: Number
    results: Annotated[tuple[EntryResult, ...], Field(strict=False)]


class RowsRequest(RequestModel):
    """A page of one collection's living rows, in byte order of their keys, after the key `after`."""

    collection: ShortName
    after: Key | None = None
    limit: Annotated[int, Field(ge=1, le=ROWS_PER_PAGE_MAX)] = 100


class CloudRow(WireModel):
    """One living row as the cloud holds it."""

    key: str
    version: Number
    body: Document
    shape_version: str
    deleted: Literal[False] = False


class RowsAnswer(AnswerModel):
    """`next` is the `after` of the next page, None at the end. A page may be shorter than asked for."""

    rows: Annotated[tuple[CloudRow, ...], Field(strict=False)]
    next: str | None = None


class PullRequest(RequestModel):
    """What has changed since the cursor; None: from the start."""

    device: ShortName
    cursor: Cursor | None = None
    limit: Annotated[int, Field(ge=1, le=PULL_ITEMS_MAX)] = 1_000


class BesidePatch(WireModel):
    """A write under another shape than the document's, kept beside it until a device lifts it.

    `patch` is the row's version that it got: its order, and its name.
    """

    patch: EntryNumber
    kind: Annotated[EntryKind, Field(strict=False)]
    set: Document
    shape_version: str


class PullItem(WireModel):
    """One row as it is now. `body` None: deleted. `patches` in the order in which they came."""

    collection: str
    key: str
    version: Number
    shape_version: str
    body: Document | None
    patches: Annotated[tuple[BesidePatch, ...], Field(strict=False)] = ()


class PullAnswer(AnswerModel):
    """Rows in the order of their last commit, groups whole; `cursor` is where to read on, `more` if there is more."""

    server_epoch: Number
    epoch_head: Number | None = None
    """What `head` was when this life of the rows began: rows above were written in it. None: nobody knows."""
    items: Annotated[tuple[PullItem, ...], Field(strict=False)]
    cursor: Cursor
    more: bool


class HealthAnswer(WireModel):
    """The cloud is there: it repeats the nonce. Needs no token."""

    protocol: Literal[1] = 1
    nonce: str
    server_time: str


class Refusal(WireModel):
    """Why the cloud did not do what was asked. `expected` comes with `sequence_gap`, `reason` with `cursor_gone`."""

    code: str
    message: str
    expected: Number | None = None
    reason: GoneReason | None = None


class ErrorAnswer(WireModel):
    """The body of every answer whose status is not 200."""

    error: Refusal
    protocol: Literal[1] = 1


def user_mark(user: str) -> str:
    """A user's name as it can stand in a header: percent-encoded UTF-8 (RFC 3986, section 2)."""
    return quote(user, safe="")


def wrong_user() -> AuthRequired:
    """The error for a token that is good, but not that of the user whose queue it came with. Names neither."""
    return AuthRequired(
        "The token belongs to another user than the one that is signed in.",
        why="nothing was sent or read for either of them",
        fix="Sign in again as this user; the queue is kept.",
    )


def cursor_gone(reason: GoneReason) -> CursorGone:
    """The error for a cursor that cannot be read on from."""
    why = {
        "below_floor": "deletions since then are forgotten there: below_floor",
        "other_epoch": "its database is not the one that gave the cursor: other_epoch",
    }
    return CursorGone(
        "The backend cannot read on from where this device stood.",
        why=why[reason],
        fix="Nothing is lost: the next round reads from the start, and the queue is kept.",
        reason=reason,
    )


def check_push_answer(request: PushRequest, answer: PushAnswer) -> None:
    """Raises ProtocolViolation unless each entry has exactly one result and `device_seq` covers what was done."""
    check_results([entry.sequence for entry in request.entries], answer)


def check_results(asked: Sequence[int], answer: PushAnswer) -> None:
    """The same by the numbers that were sent. A number that another copy of the store used may not be covered."""
    if [result.sequence for result in answer.results] != list(asked):
        raise _violation("its results are not those of the entries that were sent")
    if any(result.status != "reused" and result.sequence > answer.device_seq for result in answer.results):
        raise _violation("it answers entries that its device_seq does not cover")
    if any((result.status == "duplicate") != (result.outcome is not None) for result in answer.results):
        raise _violation("a duplicate lacks its first outcome, or another result has one")


def check_rows_answer(request: RowsRequest, answer: RowsAnswer) -> None:
    """Raises ProtocolViolation unless keys grow from `after` on, so that paging always ends."""
    keys = [row.key for row in answer.rows]
    before = ([] if request.after is None else [request.after]) + keys
    if any(one >= other for one, other in pairwise(before)):
        raise _violation("its rows are not in key order after the one asked for")
    if len(keys) > request.limit:
        raise _violation("it holds more rows than were asked for")
    if answer.next is not None and (not keys or answer.next != keys[-1]):
        raise _violation("its next page does not begin after its last row")


def check_pull_answer(request: PullRequest, answer: PullAnswer) -> None:
    """Raises ProtocolViolation unless rows grow by version, each comes once, and paging always moves on."""
    rows = {(item.collection, item.key) for item in answer.items}
    if len(rows) != len(answer.items):
        raise _violation("a page brings one row twice")
    if any(one.version >= other.version for one, other in pairwise(answer.items)):
        raise _violation("its rows are not in the order of their versions")
    if answer.more and (not answer.items or answer.cursor == request.cursor):
        raise _violation("there is more, but the page does not move on")


def _violation(why: str) -> ProtocolViolation:
    return ProtocolViolation(
        "The backend's answer does not follow the protocol.",
        why=why,
        fix="Nothing of the answer was used. Compare the versions of app and server.",
    )
