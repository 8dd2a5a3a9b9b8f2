"""From the outbox into quarantine, and back or away when a person has decided."""

from typing import TYPE_CHECKING

from syncengine.clock import iso
from syncengine.errors import EntryInDoubt, QuarantineItemUnknown
from syncengine.outbox.delivery import Event, State, next_state
from syncengine.outbox.entry import Entry, Kind, entry_of
from syncengine.outbox.filing import file_entries
from syncengine.outbox.holding import Item, hold_behind, item_of
from syncengine.outbox.row_body import collection_columns
from syncengine.outbox.row_set import know_row_sets

if TYPE_CHECKING:
    from syncengine.local.store import Store

REASON_LENGTH_MAX = 500


def set_aside(store: "Store", entry: Entry, *, event: Event, error_code: str, error_text: str) -> int:
    """Move a whole entry into quarantine and hold what builds on it; the item's id. Inside a transaction."""
    before = State.VOID if entry.kind is Kind.VOID else State(entry.state)
    after = next_state(before, event)
    file_entries(store)
    item_id: int = store.value(
        "quarantine",
        "set_aside",
        entry_id=entry.entry_id,
        error_code=error_code,
        error_text=error_text[:REASON_LENGTH_MAX],
        now=iso(store.clock.now_ms()),
    )
    store.run("outbox", "delete_squashed", entry_id=entry.entry_id)  # they are in its body
    if after is State.VOID:
        store.run("outbox", "make_void", entry_id=entry.entry_id)
    else:
        store.run("outbox", "delete", entry_id=entry.entry_id)
    hold_behind(store, open_item(store, item_id))
    return item_id


def open_item(store: "Store", item_id: int) -> Item:
    """An unresolved item of the outbox. Raises QuarantineItemUnknown."""
    found = store.row("quarantine", "open_item", item_id=item_id)
    if found is None:
        raise QuarantineItemUnknown(
            f"There is no open quarantine item {item_id} that came from the outbox.",
            why="it was resolved already, came from elsewhere, or never was",
            fix="List the open ones: select * from sync_quarantine. Nothing was changed.",
        )
    return item_of(found)


def retry(store: "Store", item_id: int) -> tuple[int, ...]:
    """Queue an item again at its old place, with all open items of its group; the ids of the new entries.

    They are in the group that they were in: what of it waits goes with them, and is held with them.

    Raises QuarantineItemUnknown, and EntryInDoubt while the cloud may still turn out to have it; nothing is
    changed then.
    """
    with store.transaction(durable=True):
        open_item(store, item_id)
        mates = [mate for (mate,) in store.rows("quarantine", "group_of_item", item_id=item_id)]
        return tuple(_queue_again(store, open_item(store, mate)) for mate in mates)


def _queue_again(store: "Store", item: Item) -> int:
    entry_id = item.blocker.entry_id
    if store.row("outbox", "entry", entry_id=entry_id) is not None:
        raise EntryInDoubt(
            f"Quarantine item {item.item_id} cannot be sent again yet.",
            why="the cloud has not said whether it took the first copy",
            fix="Sync once, then try again. Nothing was changed.",
        )
    next_state(State.QUARANTINED, Event.RETRIED)
    store.run("quarantine", "queue_again", item_id=item.item_id, now_ms=store.clock.now_ms())
    _close(store, item, resolution="retried")
    return entry_id


def queue_row(store: "Store", *, owner: str, collection: str, row_key: str) -> None:
    """Let a row that came back from quarantine be sent as it is then. Inside a transaction.

    An upload that was set aside because the row was goes back to its place. A put takes the place of what was set
    aside of a group that has other rows still, for a group arrives whole; else a new put is queued.
    """
    row = {"owner": owner, "collection": collection, "row_key": row_key}
    waits = store.value("quarantine", "waits_for_row", **row)
    if waits is not None:
        retry(store, waits)
        return
    file_entries(store)
    _, _, shape_version = collection_columns(store, collection)
    put = {"shape_version": shape_version, "now_ms": store.clock.now_ms(), **row}
    if not store.run("quarantine", "queue_row_in_its_groups", **put):
        group_id = store.value("outbox", "advance_groups", count=2) - 1
        store.run("quarantine", "queue_row", group_id=group_id, **put)


def discard(store: "Store", item_id: int) -> None:
    """Give an item up; what waited behind it goes on. Raises QuarantineItemUnknown."""
    with store.transaction(durable=True):
        item = open_item(store, item_id)
        next_state(State.QUARANTINED, Event.DISCARDED)
        _read_again(store, item)
        _close(store, item, resolution="discarded")


def _read_again(store: "Store", item: Item) -> None:
    """The row may hold what was given up, or lack it, and nobody knows what the cloud has: all is read once more.

    What that does not bring is deleted here, like any row that went while this device was away.
    """
    row = {"owner": item.owner, "collection": item.blocker.collection, "row_key": item.blocker.row_key}
    know_row_sets(store, owner=item.owner, collections=[item.blocker.collection])
    if store.run("quarantine", "suppose_row", item_id=item.item_id, **row):
        store.run("quarantine", "read_again", owner=item.owner, now=iso(store.clock.now_ms()))


def release(store: "Store", item_id: int) -> int:
    """What waits behind a resolved item waits for its turn again; how many entries."""
    with store.transaction():
        waiting = next_state(State.HELD, Event.RELEASED)
        return store.run("outbox", "release", item_id=item_id, state=waiting)


def resolve_void(store: "Store", void: Entry) -> None:
    """The cloud had the first copy: its item is no longer a person's business. Inside a transaction."""
    item_id = store.value(
        "quarantine",
        "item_of_entry",
        collection=void.collection,
        owner=void.owner,
        row_key=void.row_key,
        entry_id=void.entry_id,
    )
    if item_id is not None:
        _close(store, open_item(store, item_id), resolution="retried")


def _close(store: "Store", item: Item, *, resolution: str) -> None:
    store.run("quarantine", "resolve", item_id=item.item_id, resolution=resolution, now=iso(store.clock.now_ms()))
    release(store, item.item_id)


def void(store: "Store", entries: tuple[Entry, ...], *, error_code: str, error_text: str) -> tuple[int, ...]:
    """Take the bodies of claimed entries that the cloud cannot read into quarantine; the items' ids.

    Their numbers stay and are delivered empty, for the cloud expects every number. An entry that is void or gone
    already is left alone.
    """
    with store.transaction(durable=True):
        present = [store.row("outbox", "entry", entry_id=entry.entry_id) for entry in entries]
        bodies = [entry_of(row) for row in present if row is not None]
        return tuple(
            set_aside(store, entry, event=Event.REFUSED_ALONE, error_code=error_code, error_text=error_text)
            for entry in bodies
            if entry.kind is not Kind.VOID and entry.state == State.CLAIMED
        )
