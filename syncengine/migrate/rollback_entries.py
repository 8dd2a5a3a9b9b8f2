"""Queued entries go back with their rows: converted by the way down, as they were before, or to quarantine."""

from typing import TYPE_CHECKING

from syncengine.migrate.definition import EntryCounts
from syncengine.migrate.entries_written import EntryWriter
from syncengine.migrate.rejection import Rejection
from syncengine.outbox.filing import file_entries

if TYPE_CHECKING:
    from syncengine.migrate.rollback_undoing import Undoing

NO_WAY_BACK = Rejection(
    code="no_way_back", text="it was written since the migration, and only the rows of before are left"
)
TABLE_DROPPED = Rejection(code="table_dropped", text="the table of its row goes")


def put_back_entries(undoing: "Undoing", name: str, *, shape_version: str) -> EntryCounts:
    """Where rows go back as they were: so do entries from before; what was written since goes to quarantine."""
    store = undoing.store
    file_entries(store)
    read = int(store.value("entries", "count", collection=name))
    if not read:
        return EntryCounts()
    store.run("entries", "restore_originals", collection=name, shape_version=shape_version)
    store.run("entries", "relabel_key_only", collection=name, shape_version=shape_version)
    _set_aside(undoing, name, NO_WAY_BACK, shape_version=shape_version)
    return _counted(undoing, name, read=read, shape_version=shape_version)


def set_entries_aside(undoing: "Undoing", name: str) -> EntryCounts:
    """Where the table goes: what names a row that was there has nowhere to go."""
    store = undoing.store
    file_entries(store)
    store.run("rollback", "take_back_puts", collection=name, owner=None, row_key=None)
    read = int(store.value("entries", "count", collection=name))
    _set_aside(undoing, name, TABLE_DROPPED, shape_version=None)
    return _counted(undoing, name, read=read, shape_version="")


def _set_aside(undoing: "Undoing", name: str, why: Rejection, *, shape_version: str | None) -> None:
    """All with a body, but those of a shape."""
    writer = EntryWriter(undoing.store, migration=undoing.step.id, shape_version=shape_version or "")
    for entry_id, shape in undoing.store.rows("entries", "with_body", collection=name):
        if shape != shape_version:
            writer.set_aside_entry(int(entry_id), why)


def _counted(undoing: "Undoing", name: str, *, read: int, shape_version: str) -> EntryCounts:
    aside = int(undoing.store.value("entries", "count_set_aside", collection=name, shape_version=shape_version))
    if aside:
        undoing.warn(f"{aside} queued entries of {name} are in quarantine")
    return EntryCounts(read=read, converted=read - aside, quarantined=aside)
