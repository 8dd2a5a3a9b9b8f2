"""Entries that a migration set aside, when what was in their way is gone: their row came back, or it was undone."""

from typing import TYPE_CHECKING

from syncengine.clock import iso
from syncengine.errors import EntryInDoubt
from syncengine.outbox.set_aside import release, retry

if TYPE_CHECKING:
    from syncengine.local.store import Store


def has_entries_set_aside(store: "Store", *, owner: str, collection: str, row_key: str) -> bool:
    """Did entries go to quarantine because their row did?"""
    row = {"owner": owner, "collection": collection, "row_key": row_key}
    return bool(store.rows("entries", "set_aside_with_row", **row))


def settle_with_row(store: "Store", *, owner: str, collection: str, row_key: str) -> None:
    """The row is back and queued whole, with all that these entries said. Inside a transaction."""
    row = {"owner": owner, "collection": collection, "row_key": row_key}
    for (item_id,) in store.rows("entries", "set_aside_with_row", **row):
        store.run("quarantine", "resolve", item_id=item_id, resolution="restored", now=iso(store.clock.now_ms()))
        release(store, item_id)


def queue_again(store: "Store", *, migration: str, collection: str, shape_version: str) -> int:
    """After a migration was taken back, what it could not convert has its shape again; how many wait again."""
    queued = 0
    while items := store.rows(
        "entries", "set_aside_by", migration=migration, collection=collection, shape_version=shape_version
    ):
        try:
            queued += len(retry(store, items[0][0]))
        except EntryInDoubt:
            return queued  # a person tries it when the cloud has said what it took
    return queued
