"""Carries a call to a backend and its answer back: the border between our values and the wire."""

from collections.abc import Callable
from itertools import repeat
from typing import TYPE_CHECKING

from pydantic import ValidationError

from syncengine.errors import AuthRequired, SyncEngineError
from syncengine.outbox.entry import AllApplied, Result
from syncengine.remote import encoded_push, wire
from syncengine.remote.encoded_push import EncodedPush, TakesEncodedPush
from syncengine.remote.plain_page import GivesPlainPages, PlainPage
from syncengine.sync.calls import (
    Answer,
    Beside,
    Carried,
    Hello,
    HelloSaid,
    Pull,
    PulledRow,
    PullSaid,
    Push,
    PushSaid,
    Rows,
    RowsSaid,
    SeenRow,
)
from syncengine.sync.encoding import entry_values

if TYPE_CHECKING:
    from syncengine.remote.backend import Backend


Heard = Callable[[wire.HelloAnswer | SyncEngineError | None], object]
"""Learns how each call ended: the answer to a hello, an error, or None for another answer."""


def carry(backend: "Backend", call: Carried, *, request_id: str, heard: Heard = lambda outcome: None) -> Answer:
    """The backend's answer to a call. Raises what the backend raises; AuthRequired for a name that cannot travel."""
    try:
        _check_user(call.user, request_id=request_id)
        answer = _carry(backend, call, request_id, heard)
    except SyncEngineError as error:
        heard(error)
        raise
    if not isinstance(call, Hello):
        heard(None)
    return answer


def _check_user(user: str, *, request_id: str) -> None:
    try:
        wire.RequestModel(request_id=request_id, user=user)
    except ValidationError as error:
        raise AuthRequired(
            "The name of the signed-in user cannot stand in a request.",
            why=f"it has to be 1 to {wire.USER_LENGTH_MAX} characters long, without control characters",
            fix="Open the engine with a name for this user that the backend knows; the queue is kept.",
        ) from error


def _carry(backend: "Backend", call: Carried, request_id: str, heard: Heard) -> Answer:
    match call:
        case Hello():
            return _hello(backend, call, request_id, heard)
        case Push():
            return _push(backend, call, request_id)
        case Rows():
            return _rows(backend, call, request_id)
        case Pull():
            return _pull(backend, call, request_id)


def _hello(backend: "Backend", call: Hello, request_id: str, heard: Heard) -> HelloSaid:
    answer = backend.hello(
        wire.HelloRequest(
            request_id=request_id,
            user=call.user,
            app=call.app,
            device=call.device,
            epoch=call.epoch,
            schema_version=call.schema_version,
            confirmed_seq=call.confirmed_seq,
            cursor=call.cursor,
            ended_epoch=call.ended_epoch,
        )
    )
    heard(answer)
    return HelloSaid(
        device_seq=answer.device_seq,
        cloud_version=answer.cloud_version,
        action=answer.action.value,
        entries_max=answer.limits.entries_max,
        bytes_max=answer.limits.bytes_max,
        server_epoch=answer.server_epoch,
        head=answer.head,
        floor=answer.floor,
    )


def _push(backend: "Backend", call: Push, request_id: str) -> PushSaid:
    if call.encoded is not None and isinstance(backend, TakesEncodedPush):
        push = _encoded_push(call, call.encoded, request_id)
        answer = backend.push_encoded(push)
        if isinstance(answer, encoded_push.AllApplied):
            return PushSaid(results=AllApplied(first=push.sequences[0], versions=answer.versions))
    else:
        answer = _push_values(backend, call, request_id)
    return PushSaid(results=tuple(map(_result, answer.results)))


def _encoded_push(call: Push, entries: bytes, request_id: str) -> EncodedPush:
    sent = call.batch.entries
    first, last = sent[0].sequence or 0, sent[-1].sequence or 0
    return EncodedPush(
        request_id=request_id,
        user=call.user,
        device=call.device,
        epoch=call.batch.epoch,
        schema_version=call.schema_version,
        sequences=range(first, last + 1),
        entries=entries,
        compress=call.compress,
    )


def _push_values(backend: "Backend", call: Push, request_id: str) -> wire.PushAnswer:
    return backend.push(
        wire.PushRequest(
            request_id=request_id,
            user=call.user,
            device=call.device,
            epoch=call.batch.epoch,
            schema_version=call.schema_version,
            entries=tuple(map(wire.PushEntry.model_validate, entry_values(call.batch))),
        )
    )


def _rows(backend: "Backend", call: Rows, request_id: str) -> RowsSaid:
    limit = min(call.rows_max, wire.ROWS_PER_PAGE_MAX)
    answer = backend.rows(
        wire.RowsRequest(
            request_id=request_id, user=call.user, collection=call.collection, after=call.after, limit=limit
        )
    )
    rows = tuple(
        SeenRow(key=row.key, version=row.version, body=row.body, shape_version=row.shape_version)
        for row in answer.rows
    )
    return RowsSaid(rows=rows, after=answer.next)


def _pull(backend: "Backend", call: Pull, request_id: str) -> PullSaid:
    limit = min(call.items_max, wire.PULL_ITEMS_MAX)
    request = wire.PullRequest(
        request_id=request_id, user=call.user, device=call.device, cursor=call.cursor, limit=limit
    )
    answer = backend.pull_plain(request) if isinstance(backend, GivesPlainPages) else backend.pull(request)
    if isinstance(answer, PlainPage):
        rows = _plain_rows(answer)
    else:
        rows = tuple(map(_pulled_row, answer.items))
    return PullSaid(
        rows=rows,
        cursor=answer.cursor,
        more=answer.more,
        server_epoch=answer.server_epoch,
        epoch_head=answer.epoch_head,
    )


def _plain_rows(page: PlainPage) -> tuple[PulledRow, ...]:
    values = zip(
        page.collections, page.keys, page.versions, page.shape_versions, page.bodies, repeat(()), strict=False
    )
    # As `_make` does, without a call of Python for each row.
    return tuple(map(tuple.__new__, repeat(PulledRow), values))


def _pulled_row(item: wire.PullItem) -> PulledRow:
    return PulledRow(
        collection=item.collection,
        key=item.key,
        version=item.version,
        shape_version=item.shape_version,
        body=item.body,
        patches=tuple(
            Beside(patch=each.patch, kind=each.kind.value, set=each.set, shape_version=each.shape_version)
            for each in item.patches
        ),
    )


def _result(result: wire.EntryResult) -> Result:
    return Result(
        sequence=result.sequence,
        status=result.status,
        outcome=result.outcome,
        version=result.version,
        code=result.code,
        message=result.message,
        skipped=result.skipped or (),
        overwrote=result.overwrote,
    )
