"""Entries of a large collection are converted before the swap, page by page, so that the swap only writes them down.

What is staged holds for the entry and the row as they were then: a row that is touched since takes its entries out
again, and an entry that has changed is converted in the swap, with all of its row.
"""

from typing import TYPE_CHECKING, Any

from syncengine.local.statements import statement
from syncengine.migrate.entries_chain import Queued
from syncengine.migrate.entries_form import Form
from syncengine.migrate.entries_units import RowName

if TYPE_CHECKING:
    from syncengine.local.store import Store


class StagingWriter:
    """Takes the forms that one page of a conversion has decided."""

    def __init__(self, store: "Store", *, collection: str, shape_version: str) -> None:
        self._store = store
        self._collection = collection
        self._shape_version = shape_version
        self._staged: list[dict[str, Any]] = []

    def stage(self, forms: "list[tuple[Queued, Form]]") -> None:
        """All entries of one row."""
        self._staged += [
            {
                "entry_id": edit.entry_id,
                "collection": self._collection,
                "shape_version": self._shape_version,
                "kind": form.kind,
                "row_key": form.row_key,
                "set_json": form.set_json,
                "before_json": form.before_json,
            }
            for edit, form in forms
        ]

    def flush(self) -> None:
        """Write them beside the entries as these are now."""
        self._store.connection.executemany(statement("entries", "stage"), self._staged)
        self._staged.clear()


def take_staged(store: "Store", *, collection: str, set_aside: "frozenset[RowName]") -> None:
    """In the swap: what is staged and still holds becomes the form of its entry; then nothing is staged any more."""
    store.run("entries", "unstage_changed", collection=collection)
    for owner, key in set_aside:
        store.run("entries", "unstage", collection=collection, owner=owner, row_key=key)
    store.run("entries", "unstage_rows_in_part", collection=collection)
    store.run("entries", "take_staged", collection=collection)
    store.run("entries", "forget_all_staged", collection=collection)
