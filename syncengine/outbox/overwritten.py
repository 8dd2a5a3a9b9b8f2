"""Conflicts that the cloud's answer tells of: an entry took the place of values that this device had never seen."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson

from syncengine.clock import iso
from syncengine.outbox.entry import Entry, Kind, Result
from syncengine.outbox.row_body import sendable_json

if TYPE_CHECKING:
    from syncengine.local.store import Store

WHOLE_ROW = "*"


def record_overwritten(store: "Store", sent: Entry, answer: Result) -> None:
    """Write down what another device had and lost. Inside the transaction that confirms the entry."""
    for field, mine, theirs in _clashes(sent, answer.overwrote or {}):
        store.run(
            "outbox",
            "record_overwritten",
            owner=sent.owner,
            collection=sent.collection,
            row_key=sent.row_key,
            field=field,
            local_json=orjson.dumps(mine).decode(),
            server_json=orjson.dumps(theirs).decode(),
            version=answer.version,
            now=iso(store.clock.now_ms()),
        )


def _clashes(sent: Entry, theirs: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(field, ours, theirs) where both sides changed what was before; of a delete the whole row."""
    before, mine = _object(sent.before_json), _object(sent.set_json)
    if sent.kind is Kind.DELETE:
        if any(before.get(name) != value for name, value in theirs.items()):
            yield WHOLE_ROW, None, theirs
        return
    for name, value in theirs.items():
        if name not in before or before[name] != value:
            yield name, mine.get(name), value


def _object(text: str | None) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(sendable_json(text)) if text else {}
    return found
