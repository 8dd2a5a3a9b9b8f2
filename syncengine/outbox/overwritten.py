"""Conflicts that the cloud's answer tells of: an entry took the place of values that this device had never seen."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from syncengine.clock import iso
from syncengine.outbox.entry import Entry, Kind, Result
from syncengine.outbox.row_body import LiveRows, RowUnreadable, sendable_json
from syncengine.outbox.rows_aside import Fields, RowChange, RowsAside

if TYPE_CHECKING:
    from syncengine.local.store import Store

WHOLE_ROW = "*"


def record_overwritten(store: "Store", sent: Entry, answer: Result, *, aside: RowsAside | None = None) -> None:
    """Write down what another device had and lost. Inside the transaction that confirms the entry.

    `aside`: the rows whose values this device has never had in its table, though it has read them.
    """
    changes = _changes(sent, answer.overwrote or {})
    if aside is not None and aside.are_there and sent.kind is not Kind.LIFT:
        version = None if sent.kind is Kind.CHANGES else answer.version
        changes = (
            replace(each, theirs={**aside.replaced_by(each, version=version), **each.theirs}) for each in changes
        )
    for change in changes:
        for name, mine, theirs in _clashes(change):
            store.run(
                "outbox",
                "record_overwritten",
                owner=sent.owner,
                collection=change.collection,
                row_key=change.row_key,
                field=name,
                local_json=orjson.dumps(mine).decode(),
                server_json=orjson.dumps(theirs).decode(),
                winner="local",
                version=answer.version,
                now=iso(store.clock.now_ms()),
            )


def record_fallen_away(store: "Store", sent: Entry) -> None:
    """Write down a row here that another device has deleted, where nobody's edit keeps it. Inside a transaction."""
    row = None
    with suppress(RowUnreadable):
        row = LiveRows(store).body_json(sent.collection, owner=sent.owner, row_key=sent.row_key)
    store.run(
        "outbox",
        "record_overwritten",
        owner=sent.owner,
        collection=sent.collection,
        row_key=sent.row_key,
        field=WHOLE_ROW,
        local_json=row or sent.set_json or "null",
        server_json="null",
        winner="server",
        version=sent.base_version,
        now=iso(store.clock.now_ms()),
    )


def _changes(sent: Entry, overwrote: Fields) -> Iterator[RowChange]:
    """Of an entry of several rows the cloud tells by the place of each in its list."""
    if sent.kind is not Kind.CHANGES:
        yield RowChange(
            collection=sent.collection,
            row_key=sent.row_key,
            kind=sent.kind,
            shape_version=sent.shape_version,
            before=_object(sent.before_json),
            set=_object(sent.set_json),
            theirs=overwrote,
        )
        return
    for place, member in enumerate(orjson.loads(sendable_json(sent.set_json or "[]"))):
        theirs = overwrote.get(str(place))
        yield RowChange(
            collection=member["collection"],
            row_key=member["key"],
            kind=member["kind"],
            shape_version=sent.shape_version,
            before=member.get("before") or {},
            set=member.get("set") or {},
            theirs=theirs if isinstance(theirs, dict) else {},
        )


def _clashes(change: RowChange) -> Iterator[tuple[str, Any, Any]]:
    """(field, ours, theirs) where both sides changed what was before; of a delete the whole row."""
    before, theirs = change.before, change.theirs
    if change.kind == Kind.DELETE:
        if any(before.get(name) != value for name, value in theirs.items()):
            yield WHOLE_ROW, None, theirs
        return
    for name, value in theirs.items():
        if name not in before or before[name] != value:
            yield name, change.set.get(name), value


def _object(text: str | None) -> Fields:
    found: Fields = orjson.loads(sendable_json(text)) if text else {}
    return found
