"""Find what no trigger saw, by comparing the live rows with what is queued and what the cloud is known to have.

Edits can pass the triggers by: blob I/O (sqlite.org/c3ref/blob_open.html), REPLACE in a program that leaves
`recursive_triggers` off, triggers that somebody dropped. Entries made here name only their row; its body is read when
it is sent.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncengine.local.identifiers import quoted
from syncengine.outbox.capture import captured_table, synced_collections
from syncengine.outbox.capture_triggers import key_text
from syncengine.outbox.filing import file_entries
from syncengine.outbox.firing_order import put_in_order
from syncengine.outbox.row_body import collection_columns
from syncengine.outbox.unreadable_keys import set_aside_unreadable_keys

if TYPE_CHECKING:
    from syncengine.local.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What one collection lacked in the queue."""

    collection: str
    puts: int
    """Rows that the cloud has never heard of."""
    deletes: int
    """Rows that the cloud has and that are gone here."""
    withheld: int = 0
    """Such rows of users of whom no row is left in the table. Nothing was queued for them: a table that was made anew
    looks the same as one that somebody has emptied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileReport:
    """What was queued, by collection; those where nothing was missed are not listed."""

    collections: tuple[Reconciled, ...] = ()

    @property
    def queued(self) -> int:
        return sum(found.puts + found.deletes for found in self.collections)


def reconcile(store: "Store") -> ReconcileReport:
    """Queue a put for each live row that is neither queued nor known to be at the cloud, and a delete for each row
    that is known to be there and gone here; each is a group of its own. One transaction; safe to repeat.

    A row in quarantine or parked is not gone. Where all rows of a user are gone from a table, none is deleted at the
    cloud; it is reported and said.
    """
    with store.transaction():
        put_in_order(store)
        file_entries(store)
        newest = store.value("outbox", "newest")
        found = [_reconciled(store, collection) for collection in synced_collections(store)]
        for (owner,) in store.rows("capture", "owners_since", after=newest):
            set_aside_unreadable_keys(store, owner, after=newest)
    return ReconcileReport(collections=tuple(one for one in found if one.puts or one.deletes or one.withheld))


def _reconciled(store: "Store", collection: str) -> Reconciled:
    puts = _queue(store, collection, _missing_puts(store, collection))
    gone, has_rows = _missing_deletes(store, collection), _has_rows(store, collection)
    deletes = _queue(store, collection, f"{gone} AND {has_rows}")
    withheld = int(store.query(f"SELECT count(*) FROM ({gone} AND NOT {has_rows})", {"collection": collection})[0][0])
    if withheld:
        store.say(
            f"{withheld} rows of {collection}, all that a user had, are gone, as after its table was made anew. "
            "They were not deleted at the cloud. To have them again, sign the user out with what is unsent exported, "
            "and in again: then the cloud is read from the start."
        )
    return Reconciled(collection=collection, puts=puts, deletes=deletes, withheld=withheld)


def _queue(store: "Store", collection: str, select: str) -> int:
    """Queue what a SELECT of owner, kind and key finds; how many."""
    first_group = store.value("outbox", "advance_groups", count=1)
    _, _, shape_version = collection_columns(store, collection)
    store.query(
        "INSERT INTO _sync_outbox (entry_id, owner, kind, collection, row_key, shape_version, group_id, created_ms) "
        "SELECT (SELECT entry_id FROM _sync_newest_entry) + row_number() OVER (ORDER BY owner, row_key), "
        "owner, kind, :collection, row_key, :shape_version, "
        f":group + row_number() OVER (ORDER BY owner, row_key) - 1, :now_ms FROM ({select}) ORDER BY owner, row_key",
        {
            "collection": collection,
            "shape_version": shape_version,
            "group": first_group,
            "now_ms": store.clock.now_ms(),
        },
    )
    queued = store.connection.changes()
    if queued:
        store.rows("outbox", "advance_groups", count=queued)
    return queued


_LAST_ENTRY = (
    "(SELECT {what} FROM _sync_outbox AS o WHERE o.collection = :collection AND o.owner = row.owner "
    "AND o.row_key = row.row_key AND o.fresh IS NULL ORDER BY o.entry_id DESC LIMIT 1)"
)
_LAST_KIND = _LAST_ENTRY.format(what="o.kind")
_AT_CLOUD = (
    "EXISTS (SELECT 1 FROM _sync_row AS r WHERE r.collection = :collection AND r.owner = row.owner "
    "AND r.row_key = row.row_key AND NOT r.deleted)"
)
_PUT_ASIDE = (
    "EXISTS (SELECT 1 FROM _sync_quarantine AS q WHERE q.collection = :collection AND q.owner = row.owner "
    "AND q.row_key = row.row_key AND q.resolution IS NULL AND q.origin = 'outbox' "
    "AND json_extract(q.body, '$.kind') = 'put')"
)


def _missing_puts(store: "Store", collection: str) -> str:
    rows = _live_rows(store, collection)
    return (
        f"SELECT owner, 'put' AS kind, row_key FROM ({rows}) AS row "
        f"WHERE CASE WHEN {_LAST_KIND} IS NULL THEN NOT {_AT_CLOUD} ELSE {_LAST_KIND} = 'delete' END"
    )


def unheard_rows(store: "Store", collection: str, *, owner: str) -> list[bytes]:
    """The keys of an owner's live rows that are neither queued nor known to be at the cloud; one may be no UTF-8.

    Without those of which nothing is queued and whose own put waits in quarantine: that is heard of.
    """
    file_entries(store)
    select = (
        f"SELECT CAST(row_key AS BLOB) FROM ({_missing_puts(store, collection)}) AS row "
        f"WHERE owner = :owner AND ({_LAST_KIND} IS NOT NULL OR NOT {_PUT_ASIDE})"
    )
    found = store.query(select, {"collection": collection, "owner": owner})
    return [bytes(key) for (key,) in found]


def keyless_rows(store: "Store", collection: str, *, owner: str) -> int:
    """How many of an owner's live rows have no key, as a table may have that is not STRICT: nothing can name them."""
    key, owner_column, _ = collection_columns(store, collection)
    which = f"{quoted(owner_column)} = ? AND {quoted(key)} IS NULL"
    return int(store.query(f"SELECT count(*) FROM {quoted(collection)} WHERE {which}", (owner,))[0][0])


def _missing_deletes(store: "Store", collection: str) -> str:
    """A put that names only its row becomes a delete by itself when the row is gone."""
    key, owner, _ = collection_columns(store, collection)
    names_only = _LAST_ENTRY.format(what="o.kind = 'put' AND o.set_json IS NULL")
    known = (
        "SELECT owner, row_key FROM _sync_row WHERE collection = :collection AND NOT deleted "
        "UNION SELECT owner, row_key FROM _sync_outbox WHERE collection = :collection AND kind IN ('put', 'patch')"
    )
    live = (
        f"SELECT 1 FROM {quoted(collection)} AS l "
        f"WHERE l.{quoted(owner)} = row.owner AND l.{quoted(key)} = row.row_key"
    )
    return (
        f"SELECT owner, 'delete' AS kind, row_key FROM ({known}) AS row WHERE NOT EXISTS ({live}) "
        f"AND CASE WHEN {_LAST_KIND} IS NULL THEN 1 ELSE {_LAST_KIND} IN ('put', 'patch') AND NOT {names_only} END "
        "AND NOT EXISTS (SELECT 1 FROM _sync_quarantine AS q WHERE q.collection = :collection "
        "AND q.owner = row.owner AND q.row_key = row.row_key AND q.resolution IS NULL) "
        "AND NOT EXISTS (SELECT 1 FROM _sync_parked AS p WHERE p.collection = :collection "
        "AND p.owner = row.owner AND p.row_key = row.row_key)"
    )


def _has_rows(store: "Store", collection: str) -> str:
    """Whether a row of the same user is left in the table."""
    _, owner, _ = collection_columns(store, collection)
    return f"row.owner IN (SELECT {quoted(owner)} FROM {quoted(collection)})"


def _live_rows(store: "Store", collection: str) -> str:
    key, owner, _ = collection_columns(store, collection)
    table = captured_table(store, collection)
    row_key = f"CAST(l.{quoted(key)} AS TEXT)" if table is None else key_text(table, "l")
    return (
        f"SELECT CAST(l.{quoted(owner)} AS TEXT) AS owner, CAST({row_key} AS TEXT) AS row_key "
        f"FROM {quoted(collection)} AS l WHERE l.{quoted(owner)} <> '' AND l.{quoted(key)} IS NOT NULL"
    )
