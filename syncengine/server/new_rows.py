"""A push of nothing but puts of rows that are new, as a device's first ones are: judged all at once, unread. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from syncengine.remote.wire import EntryKind
from syncengine.server.judge import ROW_BYTES_MAX
from syncengine.server.push_reading import Entry, RowEntry
from syncengine.server.receipts import Receipt, Receipts

_ROW_LETTERS_MAX = ROW_BYTES_MAX // 4
"""UTF-8 needs no more than four bytes for a letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRows:
    """Rows of one writer, field by field; nothing lies beside them."""

    writer: str
    collections: Sequence[str]
    keys: Sequence[str]
    versions: Sequence[int]
    group_versions: Sequence[int]
    shape_versions: Sequence[str]
    bodies: Sequence[str]
    sizes: Sequence[int]
    """Letters of the bodies."""


def new_rows(entries: Sequence[Entry], *, head: int, writer: str, bytes_max: int) -> NewRows | None:
    """What the rules make of the entries where none of their rows, nor a tombstone of one, is there or comes twice.

    None for any other push, for rows of more than `bytes_max` letters together, and where one may be too large.
    """
    if set(map(type, entries)) != {RowEntry}:
        return None
    _, groups, kinds, collections, keys, bodies, bases, shapes, _, _ = _columns(entries)
    are_first_puts = kinds.count(EntryKind.PUT) == bases.count(None) == len(entries)
    if not are_first_puts:
        return None
    # One after the other: what orjson writes to is larger than what it has written, and stays so.
    texts = [orjson.dumps(body).decode() for body in bodies]
    sizes = [*map(len, texts)]
    if max(sizes) > _ROW_LETTERS_MAX or sum(sizes) > bytes_max:
        return None
    versions = range(head + 1, head + 1 + len(entries))
    return NewRows(
        writer=writer,
        collections=collections,
        keys=keys,
        versions=versions,
        group_versions=_group_versions(groups, versions),
        shape_versions=shapes,
        bodies=texts,
        sizes=sizes,
    )


def receipts_of(entries: Sequence[Entry], rows: NewRows) -> list[Receipt]:
    """What became of the entries whose rows these are."""
    receipts = Receipts()
    for entry, version in zip(entries, rows.versions, strict=True):
        receipts.add_effect(entry.sequence, "applied", token=entry.token, version=version)
    return receipts.all()


def _columns(entries: Sequence[Entry]) -> list[tuple[Any, ...]]:
    return [*zip(*entries, strict=True)]


def _group_versions(groups: Sequence[int], versions: Sequence[int]) -> list[int]:
    """The last version of the group of each: neighbours of one number are one group."""
    found: list[int] = []
    group = last = -1
    for number, version in zip(reversed(groups), reversed(versions), strict=True):
        if number != group:
            group, last = number, version
        found.append(last)
    found.reverse()
    return found
