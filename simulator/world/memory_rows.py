"""What a change makes of one row, by hand from docs/protocol.md and sharing no code with the server."""

from dataclasses import dataclass
from typing import Any

from syncengine.remote.wire import BesidePatch, EntryKind, RowChange
from syncengine.vocabulary import SchemaVersion


class Rejected(Exception):
    """An entry that is not taken; `args[0]` is the code."""


@dataclass(frozen=True)
class MemoryRow:
    """`body` None: a tombstone. The writer's latest changes in a row began at `stood_on`."""

    version: int
    body: dict[str, Any] | None
    shape: str
    patches: tuple[BesidePatch, ...] = ()
    writer: tuple[str, int] = ("", 0)
    stood_on: int = 0


def stands_on(row: MemoryRow | None, lane: tuple[str, int], base: int | None) -> bool:
    return row is None or row.version == base or (row.writer == lane and row.stood_on <= (base or 0) < row.version)


def is_conflict(row: MemoryRow | None, lane: tuple[str, int], base: int | None) -> bool:
    if row is None or (row.body is None and base is None):
        return False
    return not stands_on(row, lane, base)


def unseen_values(
    row: MemoryRow | None, lane: tuple[str, int], change: RowChange, *, shape: str, base: int | None
) -> dict[str, Any]:
    """What of a living row the change took the place of without its writer having seen it."""
    if row is None or row.body is None:
        return {}
    stands, parse = stands_on(row, lane, base), SchemaVersion.parse
    if change.kind is EntryKind.DELETE:
        return {} if stands else dict(row.body)
    was = row.body
    if parse(row.shape) != parse(shape):
        if stands and (row.writer == lane or (change.kind is EntryKind.PUT and parse(shape) > parse(row.shape))):
            return {}
        of_its_shape = row.patches and row.patches[-1].shape_version == shape
        was = row.patches[-1].set if of_its_shape else {}
    elif stands:
        return {}
    given = change.set or {}
    return {name: old for name, old in was.items() if name in given and given[name] != old}


def row_after(
    row: MemoryRow | None, change: RowChange, shape: str, *, stands: bool, of_migration: bool, patch: int
) -> MemoryRow:
    if change.kind is EntryKind.DELETE:
        return MemoryRow(0, None, shape)
    new, old = SchemaVersion.parse(shape), SchemaVersion.parse(row.shape if row else "0")
    if row is None or row.body is None:
        if change.kind is EntryKind.PATCH:
            raise Rejected("gone")
        return MemoryRow(0, change.set, shape)
    if change.kind is EntryKind.PUT and of_migration:
        return MemoryRow(0, change.set, shape, row.patches)
    if change.kind is EntryKind.PUT and stands and new >= old:
        kept = tuple(each for each in row.patches if SchemaVersion.parse(each.shape_version) > new)
        return MemoryRow(0, change.set, shape, kept)
    if new == old or of_migration:
        newer = shape if new > old else row.shape
        return MemoryRow(0, {**row.body, **(change.set or {})}, newer, row.patches)
    return MemoryRow(0, row.body, row.shape, _patches_with(row.patches, change, shape, patch=patch))


def _patches_with(
    patches: tuple[BesidePatch, ...], change: RowChange, shape: str, *, patch: int
) -> tuple[BesidePatch, ...]:
    kind, fields = change.kind, change.set or {}
    if patches and patches[-1].shape_version == shape:
        *rest, last = patches
        patches = tuple(rest)
        fields = {**last.set, **fields}
        kind = EntryKind.PUT if EntryKind.PUT in (kind, last.kind) else kind
    return (*patches, BesidePatch(patch=patch, kind=kind, set=fields, shape_version=shape))
