"""What is parked gets another try: when this app has learnt a shape, and when rows that it waits for have come."""

import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from syncengine.local.stored import SHAPE_VERSION, stored_version
from syncengine.migrate.rejection import Rejection
from syncengine.sync.apply import Applied, Applier
from syncengine.sync.calls import PulledRow
from syncengine.sync.parking import UNTIL_MIGRATED, Reason, item_from_json
from syncengine.sync.position import OF_NO_READING, Position, standing
from syncengine.vocabulary import SchemaVersion

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry

PAGE_ROWS = 500


def apply_parked(
    store: "Store",
    registry: "MigrationRegistry",
    *,
    owner: str | None = None,
    reasons: Collection[Reason] = UNTIL_MIGRATED,
) -> int:
    """Take in what a migration has made readable, of one owner or of all; how many rows.

    After `migrate()`, and at the start of a round. What still cannot be taken stays parked, or goes to quarantine.
    """
    taken = 0
    for of_owner in sorted(_owners_of_readable(store, owner, reasons)):
        applier = Applier(store, registry, owner=of_owner)
        taken += try_parked(applier, standing(store, of_owner), reasons=reasons).rows
    return taken


def _owners_of_readable(store: "Store", owner: str | None, reasons: Collection[Reason]) -> set[str]:
    """Of whom something is parked whose shape is here now. Most often nothing is parked at all."""
    parked = store.rows("pull", "parked_shapes")
    if not parked:
        return set()
    shapes = {str(row[0]): stored_version(row[3], SHAPE_VERSION) for row in store.rows("pull", "collections")}
    return {
        of_owner
        for of_owner, collection, shape, reason in parked
        if owner in (None, of_owner)
        and reason in reasons
        and collection in shapes
        and _is_readable(str(shape), shapes[collection])
    }


def _is_readable(shape: str, present: SchemaVersion) -> bool:
    try:
        return SchemaVersion.parse(shape) <= present
    except ValueError:
        return False


def try_parked(
    applier: Applier, position: Position, *, reasons: Collection[Reason], pages_max: int | None = None
) -> Applied:
    """Apply what is parked for these reasons as if it had come now; each page in a transaction of its own.

    To a reading from the start that is under way it is as unseen as before.
    """
    told, position = Applied(), replace(position, resync=OF_NO_READING)
    for number, items in enumerate(parked_rows(applier, reasons)):
        if pages_max is not None and number >= pages_max:
            break
        done = applier.apply(items, position=position, moves_cursor=False)
        told.rows += done.rows
        told.conflicts += done.conflicts
        told.items += done.items
        told.collections |= done.collections
    return told


def _pages(store: "Store", owner: str, reasons: Collection[Reason]) -> Iterator[list[PulledRow]]:
    after, wanted = 0, json.dumps([reason.value for reason in reasons])
    while rows := store.rows("pull", "parked_for", owner=owner, after=after, reasons=wanted, rows_max=PAGE_ROWS):
        after = rows[-1][0]
        yield [item_from_json(body) for _, _, body in rows]


def parked_rows(applier: Applier, reasons: Collection[Reason]) -> Iterator[list[PulledRow]]:
    """What is parked for these reasons and has not changed at the cloud since, by pages, oldest first."""
    for items in _pages(applier.store, applier.owner, reasons):
        yield _newest(applier, items)


def _newest(applier: Applier, items: list[PulledRow]) -> list[PulledRow]:
    """Not those whose row has changed at the cloud since, by an edit of ours: their next copy is on its way."""
    keys = json.dumps([[item.collection, item.key] for item in items])
    known = {
        (collection, key): version
        for collection, key, version, _, _ in applier.store.rows("pull", "known_rows", owner=applier.owner, keys=keys)
    }
    return [item for item in items if known.get((item.collection, item.key), 0) <= item.version]


def give_up_clashes(applier: Applier) -> tuple[int, ...]:
    """At the end of the reading: rows that clash with others to quarantine; the ids of the items.

    All that could make room for them has come.
    """
    why = Rejection(code="constraint_failed", text="another row has the same value where the table wants each once")
    given_up: list[int] = []
    for items in _pages(applier.store, applier.owner, (Reason.CLASH,)):
        given_up += applier.refuse(items, why, position=standing(applier.store, applier.owner))
    return tuple(given_up)


__all__ = ["apply_parked", "give_up_clashes", "parked_rows", "try_parked"]
