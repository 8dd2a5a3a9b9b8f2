"""A rewriting that was begun and that no process is at any more can be given up at once, by whoever asks."""

from typing import TYPE_CHECKING

from syncengine.clock import fresh_id
from syncengine.migrate.kept_tables import drop_shadow
from syncengine.migrate.lease import Lease
from syncengine.migrate.shadow_others import LEASE
from syncengine.migrate.shadow_state import filling

if TYPE_CHECKING:
    import random

    from syncengine.local.store import Store


def give_up_abandoned(store: "Store", *, chance: "random.Random") -> tuple[str, ...]:
    """Drop what was filled, of every collection; which collections. Nothing while any process is at it."""
    if not store.migrating.acquire(blocking=False):
        return ()
    try:
        # Reentrant: this very thread may be inside a migration of its own, whose lease is not another's.
        begun = () if store.is_migrating else tuple(sorted(filling(store)))
        return begun if begun and _given_up(store, begun, chance) else ()
    finally:
        store.migrating.release()


def _given_up(store: "Store", collections: tuple[str, ...], chance: "random.Random") -> bool:
    lease = Lease(store, name=LEASE, holder=fresh_id(chance))
    if not lease.take():
        return False
    try:
        for collection in collections:
            drop_shadow(store, collection)
    finally:
        lease.release()
    return True
