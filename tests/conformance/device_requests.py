"""Short ways to say what a device asks."""

import itertools
from typing import Any

from syncengine.remote.wire import (
    EntryKind,
    HelloRequest,
    PullRequest,
    PushEntry,
    PushRequest,
    RowChange,
    RowsRequest,
)

_numbers = itertools.count(1)


def request_id() -> str:
    return f"request-{next(_numbers)}"


def hello(
    *,
    user: str = "ann",
    device: str = "phone",
    epoch: int = 1,
    app: str = "heros-path",
    confirmed: int = 0,
    cursor: str | None = None,
    ended: int = 0,
) -> HelloRequest:
    return HelloRequest(
        request_id=request_id(),
        user=user,
        app=app,
        device=device,
        epoch=epoch,
        schema_version="1.0.0",
        confirmed_seq=confirmed,
        cursor=cursor,
        ended_epoch=ended,
    )


def push(*entries: PushEntry, user: str = "ann", device: str = "phone", epoch: int = 1) -> PushRequest:
    return PushRequest(
        request_id=request_id(), user=user, device=device, epoch=epoch, schema_version="1.0.0", entries=entries
    )


def rows(
    *, user: str = "ann", collection: str = "journeys", after: str | None = None, limit: int = 100
) -> RowsRequest:
    return RowsRequest(request_id=request_id(), user=user, collection=collection, after=after, limit=limit)


def pull(cursor: str | None = None, *, user: str = "ann", device: str = "phone", limit: int = 1_000) -> PullRequest:
    return PullRequest(request_id=request_id(), user=user, device=device, cursor=cursor, limit=limit)


def put(sequence: int, key: str, body: dict, **more: Any) -> PushEntry:
    return _row_entry(EntryKind.PUT, sequence, key, body, **more)


def patch(sequence: int, key: str, body: dict, **more: Any) -> PushEntry:
    return _row_entry(EntryKind.PATCH, sequence, key, body, **more)


def delete(sequence: int, key: str, **more: Any) -> PushEntry:
    return _row_entry(EntryKind.DELETE, sequence, key, None, **more)


def lift(sequence: int, key: str, body: dict, *, lifts: tuple[int, ...] | None, **more: Any) -> PushEntry:
    return _row_entry(EntryKind.LIFT, sequence, key, body, lifts=lifts, **more)


def changes(sequence: int, key: str, *each: RowChange, **more: Any) -> PushEntry:
    return _row_entry(EntryKind.CHANGES, sequence, key, None, changes=each, **more)


def void(sequence: int) -> PushEntry:
    return PushEntry(
        sequence=sequence, group=sequence, kind=EntryKind.VOID, collection="", key="", shape_version="1.0.0"
    )


def migration(sequence: int, *changes: RowChange, cloud_version: str | None = None) -> PushEntry:
    return PushEntry(
        sequence=sequence,
        group=sequence,
        kind=EntryKind.MIGRATION,
        collection="",
        key="",
        shape_version="2.0.0",
        migration="journeys_to_seconds",
        changes=changes,
        cloud_version=cloud_version,
    )


def change(kind: str, key: str, body: dict | None = None, *, if_version: int | None = None) -> RowChange:
    return RowChange(kind=EntryKind(kind), collection="journeys", key=key, set=body, if_version=if_version)


def _row_entry(
    kind: EntryKind,
    sequence: int,
    key: str,
    body: dict | None,
    *,
    group: int | None = None,
    shape: str = "1.0.0",
    base: int | None = None,
    refuse: bool = False,
    **more: Any,
) -> PushEntry:
    return PushEntry(
        sequence=sequence,
        group=sequence if group is None else group,
        kind=kind,
        collection="journeys",
        key=key,
        set=body,
        shape_version=shape,
        base_version=base,
        on_conflict="refuse" if refuse else "merge",
        **more,
    )
