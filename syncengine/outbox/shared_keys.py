"""Rows of one owner that have the same key, as a table without a rule against it may hold: none is sent for another.

The cloud would keep the last of them, and bring that one back over the others.
"""

from typing import TYPE_CHECKING, NamedTuple

import orjson

from syncengine.local.identifiers import quoted
from syncengine.outbox.capture import captured_table
from syncengine.outbox.capture_triggers import key_text
from syncengine.outbox.delivery import Event
from syncengine.outbox.entry import entry_of
from syncengine.outbox.filing import file_entries
from syncengine.outbox.sendable import KEY_IS_SHARED
from syncengine.outbox.set_aside import set_aside

if TYPE_CHECKING:
    from syncengine.local.store import Store


class Loose(NamedTuple):
    """A collection whose table lets two rows of an owner have one key."""

    collection: str
    owner_column: str
    key_text: str
    """A piece of SQL over a row `live`."""


def set_aside_shared_keys(store: "Store", owner: str) -> None:
    """Quarantine the first that waits of each row whose key another row has, too; the rest is held behind it.

    A deletion of one of several rows is a new copy of the one that is left. Inside a transaction. Only where a table
    has no rule that owner and key name one row it costs a reading of that table.
    """
    for loose in _loose(store):
        file_entries(store)
        if store.value("outbox", "waits_in", owner=owner, collection=loose.collection) is not None:
            _set_aside_shared(store, owner, loose)
            _keep_what_is_left(store, owner, loose)


def _set_aside_shared(store: "Store", owner: str, loose: Loose) -> None:
    select = f"SELECT {_names(loose)} GROUP BY 1 HAVING count(*) > 1"
    shared = [bytes(key).decode(errors="replace") for (key,) in store.query(select, (owner,))]
    rows = {"owner": owner, "collection": loose.collection, "keys": orjson.dumps(shared).decode()}
    for (entry_id,) in store.rows("outbox", "first_waiting_of", **rows) if shared else ():
        entry = entry_of(store.rows("outbox", "entry", entry_id=entry_id)[0])
        set_aside(store, entry, event=Event.UNREADABLE, error_code=KEY_IS_SHARED.code, error_text=KEY_IS_SHARED.why)


def _keep_what_is_left(store: "Store", owner: str, loose: Loose) -> None:
    gone = store.rows("outbox", "last_is_delete", owner=owner, collection=loose.collection)
    if gone:
        left = {bytes(key) for (key,) in store.query(f"SELECT {_names(loose)}", (owner,))}
        kept = [entry_id for entry_id, key in gone if bytes(key) in left]
        store.run("outbox", "tell_row_instead", entries=orjson.dumps(kept).decode())


def _names(loose: Loose) -> str:
    owner, collection = quoted(loose.owner_column), quoted(loose.collection)
    return f"CAST({loose.key_text} AS BLOB) FROM {collection} AS live WHERE live.{owner} = ?"


def _loose(store: "Store") -> tuple[Loose, ...]:
    schema = store.schema_number()
    if store.loose_tables is None or store.loose_tables[0] != schema:
        found = [(captured_table(store, name), owner) for name, owner in store.rows("outbox", "loose_collections")]
        store.loose_tables = (
            schema,
            tuple(Loose(table.name, owner, key_text(table, "live")) for table, owner in found if table is not None),
        )
    return store.loose_tables[1]


__all__ = ["set_aside_shared_keys"]
