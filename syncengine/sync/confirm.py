"""What else is true once entries are confirmed: an online migration with no entry left is completed."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from syncengine.events import Listener
from syncengine.outbox.stay import Stay
from syncengine.sync.report import RoundHooks

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry


def settling(store: "Store", registry: "MigrationRegistry") -> Callable[[str], None]:
    """A function of the owner, to be called inside the transaction that confirms."""
    from syncengine.migrate.online import settle

    def settle_for(owner: str) -> None:
        settle(store, registry, user=owner)

    return settle_for


def hooks_of(store: "Store", registry: "MigrationRegistry", *, stay: Stay, tell: Listener) -> RoundHooks:
    """Those of an engine's rounds: nothing is confirmed of a user who was taken off the device."""
    settle = settling(store, registry)

    def settle_for(owner: str) -> None:
        stay.check()
        settle(owner)

    return RoundHooks(settle=settle_for, tell=tell, check=stay.check)
