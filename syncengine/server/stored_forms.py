"""Rows of the cloud's tables as values, the same for every database. Pure."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from syncengine.server.receipts import Receipt
from syncengine.server.rules import Patch, Place

SERVER_SQL = str(Path(__file__).parent / "sql")

Columns = tuple[Any, ...]


def receipts_by_sequence(found: Iterable[Columns], *, first: int, last: int) -> dict[int, Receipt]:
    """Of each sequence from `first` to `last` its own receipt, from the runs that hold them."""
    runs = [_receipt(*row) for row in found]
    return {
        sequence: run.at(sequence)
        for run in runs
        for sequence in range(max(first, run.sequence), min(last, run.sequence + run.entries - 1) + 1)
    }


def _receipt(*row: Any) -> Receipt:
    known = Receipt._make(row)
    if known.overwrote is not None:
        known = known._replace(overwrote=json.loads(row[8]))
    return known._replace(skipped=tuple(json.loads(row[6]))) if row[6] else known


def json_or_none(value: object) -> str | None:
    """JSON text of what a receipt says beside its numbers."""
    return None if value is None else json.dumps(value)


def patches_by_place(found: Iterable[Columns]) -> dict[Place, tuple[Patch, ...]]:
    """Patches by collection and key, each row's in the order in which they came."""
    patches: dict[Place, tuple[Patch, ...]] = {}
    for collection, key, *patch in found:
        patches[collection, key] = (*patches.get((collection, key), ()), Patch(*patch))
    return patches


def stored_bytes(body: str | None, *, patches: tuple[Patch, ...]) -> int:
    """What a row counts for in a page, with what lies beside it; 0 for a tombstone."""
    return len(body or "") + (sum(len(each.body) for each in patches) if patches else 0)
