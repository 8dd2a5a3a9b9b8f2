"""A rewriting that was begun and that no process is at any more can be given up at once, by whoever asks."""

from typing import TYPE_CHECKING

from syncengine.clock import fresh_id
from syncengine.migrate.definition import Counts
from syncengine.migrate.history import RunRecord, record_run
from syncengine.migrate.kept_tables import give_up, sweep
from syncengine.migrate.lease import Lease
from syncengine.migrate.shadow_others import LEASE
from syncengine.migrate.shadow_state import filling

if TYPE_CHECKING:
    import random

    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry


def give_up_abandoned(store: "Store", *, registry: "MigrationRegistry", chance: "random.Random") -> tuple[str, ...]:
    """Drop what was filled, of every collection; which collections. Nothing while any process is at it.

    The history says of each that it was cancelled, and how far it was.
    """
    if not store.migrating.acquire(blocking=False):
        return ()
    try:
        # Reentrant: this very thread may be inside a migration of its own, whose lease is not another's.
        begun = () if store.is_migrating else tuple(sorted(filling(store)))
        return begun if begun and _given_up(store, begun, registry, chance) else ()
    finally:
        store.migrating.release()


def _given_up(
    store: "Store", collections: tuple[str, ...], registry: "MigrationRegistry", chance: "random.Random"
) -> bool:
    lease = Lease(store, name=LEASE, holder=fresh_id(chance))
    if not lease.take():
        return False
    try:
        for collection in collections:
            with store.transaction(durable=True):
                lease.renew()
                _record_cancelled(store, collection, registry)
                give_up(store, collection)
            sweep(store, collection)
    finally:
        lease.release()
    return True


def _record_cancelled(store: "Store", collection: str, registry: "MigrationRegistry") -> None:
    row = store.row("shadow", "get", collection=collection)
    listed = None if row is None else next((each for each in registry.migrations if each.id == row[1]), None)
    if row is None or listed is None:
        return  # a migration that this app does not know has no versions to name
    written, dropped, aside = row[8], row[9], row[16]
    record_run(
        store,
        RunRecord(
            migration=listed.id,
            scope=row[2],
            from_version=str(listed.edge.from_version),
            to_version=str(listed.edge.to_version),
            state="cancelled",
            method="shadow",
            restore_point_id=row[13],
            counts=Counts(read=written + dropped + aside, written=written, dropped=dropped, quarantined=aside),
            started_at=row[15],
            batches=row[11],
            batches_undone=row[12],
            code_hash=row[3],
        ),
    )
