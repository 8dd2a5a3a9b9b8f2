"""The rows of one collection and owner, as the record of what the cloud has of rows numbers them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncengine.local.store import Store


def know_row_sets(store: "Store", *, owner: str, collections: Iterable[str]) -> None:
    """Give each a number where it has none: before the first of its rows is remembered. Inside a transaction."""
    for collection in sorted(collections):
        store.run("outbox", "know_row_set", owner=owner, collection=collection)


__all__ = ["know_row_sets"]
