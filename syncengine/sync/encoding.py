"""Entries as they travel: the fields of `wire.PushEntry`, those that say nothing left out."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

import orjson

from syncengine.errors import BatchRefused
from syncengine.outbox.barrier_page import Barrier
from syncengine.outbox.entry import Batch, Entry, Kind
from syncengine.outbox.numbered_rows import (
    BASE_VERSION,
    BODY,
    COLLECTION,
    GROUP,
    KEY,
    KIND,
    SHAPE,
    TOKEN,
    NumberedRows,
)
from syncengine.remote.json_text import value_fault

Body = Callable[[str], Any]
"""Makes of a body's JSON text what stands in the entry."""

_SHARED = itemgetter(KIND, COLLECTION, SHAPE, TOKEN)
_SEQUENCE = attrgetter("sequence")
_WITH_BODY = frozenset({Kind.PUT, Kind.PATCH, Kind.LIFT})
_OF_ROWS = frozenset({Kind.PUT, Kind.PATCH, Kind.DELETE, Kind.CHANGES})


def encoded_entries(batch: Batch) -> bytes:
    """The batch as the JSON list that travels. Bodies go in as they are: they were judged when they were claimed.

    Raises BatchRefused for the changes of a migration that JSON cannot say.
    """
    entries = batch.entries
    if isinstance(entries, NumberedRows):
        texts = _encoded_rows(entries.rows, range(entries.first, entries.last + 1), entries, batch.refusing)
    else:
        texts = []
        for has_body, run in groupby(entries, key=_writes_a_body):
            part = list(run)
            if has_body:
                texts += _encoded_rows(part, map(_SEQUENCE, part), part, batch.refusing)
            else:
                texts += [_encoded(entry, batch.refusing) for entry in part]
    return f"[{','.join(texts)}]".encode()


def _writes_a_body(entry: Entry) -> bool:
    return entry.set_json is not None and (entry.kind is Kind.PUT or entry.kind is Kind.PATCH)


def _encoded_rows(
    rows: Sequence[tuple[Any, ...]],
    sequences: Iterable[int | None],
    entries: Sequence[Entry],
    refusing: frozenset[str],
) -> list[str]:
    """Puts and patches with bodies: what those of one kind and collection share is written once. `rows`: the entries,
    or what they were read from.
    """
    places = {shared: place for place, shared in enumerate(map(_SHARED, rows))}
    heads = {shared: f'{_head(entries[place], refusing)},"key":"' for shared, place in places.items()}
    told = zip(sequences, rows, map(heads.__getitem__, map(_SHARED, rows)), _keys_in_json(rows), strict=True)
    return [
        f'{{"sequence":{sequence},"group":{row[GROUP]}{head}{key}","set":{row[BODY]}}}'
        if row[BASE_VERSION] is None
        else f'{{"sequence":{sequence},"group":{row[GROUP]}{head}{key}","set":{row[BODY]},'
        f'"base_version":{row[BASE_VERSION]}}}'
        for sequence, row, head, key in told
    ]


def _keys_in_json(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """Without the quotes around. Printable ASCII without these two stands in JSON as it is (RFC 8259, section 7)."""
    keys = [row[KEY] for row in rows]
    together = "".join(keys)
    if together.isascii() and together.isprintable() and '"' not in together and "\\" not in together:
        return keys
    return [orjson.dumps(key)[1:-1].decode() for key in keys]


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
