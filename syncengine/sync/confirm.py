"""What else is true once entries are confirmed: an online migration with no entry left is completed."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry


def settling(store: "Store", registry: "MigrationRegistry") -> Callable[[str], None]:
    """A function of the owner, to be called inside the transaction that confirms."""
    from syncengine.migrate.online import settle

    def settle_for(owner: str) -> None:
        settle(store, registry, user=owner)

    return settle_for
