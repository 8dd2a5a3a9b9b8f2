"""Entries as they travel: the fields of `wire.PushEntry`, those that say nothing left out."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from syncengine.errors import BatchRefused
from syncengine.outbox.barrier_page import Barrier
from syncengine.outbox.entry import Batch, Entry, Kind
from syncengine.remote.json_text import value_fault

Body = Callable[[str], Any]
"""Makes of a body's JSON text what stands in the entry."""

_WITH_BODY = frozenset({Kind.PUT, Kind.PATCH, Kind.LIFT})
_OF_ROWS = frozenset({Kind.PUT, Kind.PATCH, Kind.DELETE, Kind.CHANGES})


def encoded_entries(batch: Batch) -> bytes:
    """The batch as the JSON list that travels. Bodies go in as they are: they were judged when they were claimed.

    Raises BatchRefused for the changes of a migration that JSON cannot say.
    """
    heads: dict[tuple[str, str, str, str | None], str] = {}
    texts: list[str] = []
    for entry in batch.entries:
        _, _, sequence, _, kind, collection, key, body, _, base_version, shape_version, *_, token = entry
        if body is None or sequence is None or (kind is not Kind.PUT and kind is not Kind.PATCH):
            texts.append(_encoded(entry, batch.refusing))
            continue
        named = kind, collection, shape_version, token
        head = heads.get(named) or heads.setdefault(named, _head(entry, batch.refusing))
        stands_on = "" if base_version is None else f',"base_version":{base_version}'
        name = orjson.dumps(key).decode()
        texts.append(f'{{"sequence":{sequence},"group":{entry.group_id}{head}{stands_on},"key":{name},"set":{body}}}')
    return f"[{','.join(texts)}]".encode()


def _head(entry: Entry, refusing: frozenset[str]) -> str:
    """What the entries of one kind and collection share, with a comma before it."""
    values = _values(entry, refusing, body=orjson.Fragment)
    for own in ("sequence", "group", "key", "base_version", "set"):
        values.pop(own, None)
    return "," + orjson.dumps(values)[1:-1].decode()


def _encoded(entry: Entry, refusing: frozenset[str]) -> str:
    values = _values(entry, refusing, body=orjson.Fragment)
    if entry.kind is Kind.MIGRATION:
        _refuse_unsayable(values)
    return orjson.dumps(values).decode()


def entry_values(batch: Batch) -> Iterator[dict[str, Any]]:
    """The same as values, for a backend that takes them so."""
    return (_values(entry, batch.refusing, body=json.loads) for entry in batch.entries)


def _values(entry: Entry, refusing: frozenset[str], *, body: Body) -> dict[str, Any]:
    if entry.sequence is None:
        raise AssertionError("only a numbered entry is sent")
    values: dict[str, Any] = {
        "sequence": entry.sequence,
        "group": entry.group_id,
        "kind": entry.kind,
        "collection": entry.collection,
        "key": entry.row_key,
        "shape_version": entry.shape_version,
    }
    if entry.claim_token is not None:
        values["token"] = entry.claim_token
    if entry.base_version is not None:
        values["base_version"] = entry.base_version
    if entry.collection in refusing and entry.kind in _OF_ROWS:
        values["on_conflict"] = "refuse"
    if entry.set_json is not None and entry.kind in _WITH_BODY:
        values["set"] = body(entry.set_json)
    if entry.kind is Kind.CHANGES:
        values["changes"] = _changes(entry)
    elif entry.kind is Kind.LIFT:
        values["lifts"] = json.loads(entry.before_json or "[]")
    elif entry.kind is Kind.MIGRATION:
        values |= _page(entry)
    return values


def _changes(entry: Entry) -> list[dict[str, Any]]:
    """The row changes of one edit; the values from before stay here."""
    changes: list[dict[str, Any]] = json.loads(entry.set_json or "[]")
    return [{name: value for name, value in change.items() if name != "before"} for change in changes]


def _page(entry: Entry) -> dict[str, Any]:
    """A migration step sends its page's changes; the version is told alone, after the last page took effect."""
    barrier = Barrier.from_json(entry.barrier_json or "")
    if barrier.page is None:
        raise AssertionError("a numbered migration step has a page")
    version = barrier.cloud_version if barrier.reads is None else None
    return {"migration": entry.migration, "changes": list(barrier.page.changes), "cloud_version": version}


def _refuse_unsayable(values: dict[str, Any]) -> None:
    fault = value_fault(values.get("changes"))
    if fault is not None:
        raise BatchRefused(
            "The request cannot be written as JSON.",
            why=fault,
            fix="Nothing was sent; the batch is halved to find the entry at fault.",
        )
