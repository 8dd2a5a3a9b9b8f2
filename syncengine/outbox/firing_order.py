"""Capture is there and fires before the triggers of the app, so that an edit is queued before those that answer it.

Triggers go with their table when another program makes it anew, as SQLite's own recipe for what ALTER TABLE cannot do
tells it to (sqlite.org/lang_altertable.html#otheralter). So wherever the schema is not the one last found right, they
are compared before anything is written.

SQLite fires the newest trigger of a table first (tried with 3.40.1 and 3.54.1; a restart or VACUUM changes nothing).
A trigger that somebody makes later than capture would have its own edits queued first, and the queue, played back,
would end with what they had replaced.
"""

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

from syncengine.errors import TextUnreadable
from syncengine.local.identifiers import quoted
from syncengine.logs import log_event
from syncengine.outbox.capture import captured_table, drop_capture, install_capture, verify_capture
from syncengine.outbox.capture_triggers import CapturedTable, row_json
from syncengine.outbox.entry import Kind
from syncengine.outbox.filing import file_entries

if TYPE_CHECKING:
    from syncengine.local.store import Store

_logger = logging.getLogger("syncengine.outbox")

_OF_ONE_ROW = frozenset({Kind.PUT, Kind.PATCH, Kind.DELETE})


def put_in_order(store: "Store") -> tuple[str, ...]:
    """Put capture back where it went with its table, and let it fire first where others have made triggers since; the
    collections where anything was done.

    What may have been missed is said. What was queued in the other order is changed so that it ends with the rows as
    they are. Inside a transaction; quick where the schema is the one that was last found right.
    """
    schema = store.schema_number()
    if schema == store.schema_in_order:
        return ()
    changed: tuple[str, ...] = ()
    if not store.value("capture", "schema_is_known"):
        changed = (*_put_back(store), *_fire_first(store))
    if not changed:  # else it may be undone, and the number be that of another schema
        store.schema_in_order = schema
    return changed


def missed(collection: str) -> str:
    """The sentence about a collection whose capture was not as it ought to be; it is logged, too."""
    log_event(_logger, logging.WARNING, "the capture of edits was put right", collection=collection)
    return (
        f"Edits of {collection} may not have been queued for the cloud, and are from now on: another program had "
        "made the table or its triggers anew. engine.reconcile() finds rows that are new or gone since. Rows that "
        "the cloud knows and whose contents alone were changed meanwhile are not found: write them once more."
    )


def _put_back(store: "Store") -> tuple[str, ...]:
    mended = verify_capture(store, but=store.drifted)
    for collection in mended:
        store.say(missed(collection))
    return mended


def _fire_first(store: "Store") -> tuple[str, ...]:
    late = [str(name) for (name,) in store.rows("capture", "fires_late") if name not in store.drifted]
    for collection in late:
        table = captured_table(store, collection)
        if table is not None:
            _straighten(store, table)
        drop_capture(store, collection)
        install_capture(store, collection)
    return tuple(late)


def _straighten(store: "Store", table: CapturedTable) -> None:
    file_entries(store)
    for (entry_id,) in store.rows("capture", "edited_again", collection=table.name):
        # What is no UTF-8 goes to quarantine when its turn comes.
        with suppress(TextUnreadable):
            _straighten_row(store, table, entry_id=entry_id)


def _straighten_row(store: "Store", table: CapturedTable, *, entry_id: int) -> None:
    found = [_Edit(*row) for row in store.rows("capture", "edits_of_row", entry_id=entry_id)]
    if any(edit.kind not in _OF_ONE_ROW for edit in found):
        return
    live = _live_row(store, table, entry_id=entry_id)
    _end_with(Kind.DELETE if live is None else Kind.PUT, found)
    for name, edit in _last_writers(found).items():
        if live is not None and name in live and not _is_same(edit.fields[name], live[name]):
            edit.write(name, live[name])
    changed = [edit.as_stored() for edit in found if edit.is_changed]
    store.run_many("capture", "rewrite", changed)


class _Edit:
    """One entry of a row that is not sent yet."""

    def __init__(self, entry_id: int, kind: str, set_json: str | None, before_json: str | None) -> None:
        self.kind = kind
        self.fields: dict[str, Any] = orjson.loads(set_json or "{}")
        self.is_changed = False
        self._entry_id = entry_id
        self._set_json, self._before_json = set_json, before_json

    def write(self, name: str, value: Any) -> None:
        self.fields[name] = value
        self._set_json = orjson.dumps(self.fields).decode()
        self.is_changed = True

    def trade_places(self, other: "_Edit") -> None:
        self._entry_id, other._entry_id = other._entry_id, self._entry_id
        self.is_changed = other.is_changed = True

    def as_stored(self) -> tuple[object, ...]:
        return (self.kind, self._set_json, self._before_json, self._entry_id)


def _end_with(kind: Kind, edits: list[_Edit]) -> None:
    """A row that is there does not end with its deletion, and one that is gone ends with it."""
    if (edits[-1].kind == Kind.DELETE) is (kind is Kind.DELETE):
        return
    for place in reversed(range(len(edits))):
        if edits[place].kind == kind:
            edits[place].trade_places(edits[-1])
            edits[place], edits[-1] = edits[-1], edits[place]
            return


def _last_writers(edits: list[_Edit]) -> dict[str, _Edit]:
    """Which entry decides a field, once all are at the cloud."""
    writers: dict[str, _Edit] = {}
    for edit in edits:
        writers |= dict.fromkeys(edit.fields, edit)
    return writers


def _live_row(store: "Store", table: CapturedTable, *, entry_id: int) -> dict[str, Any] | None:
    """As capture would queue it."""
    key, owner = f"live.{quoted(table.key)}", f"live.{quoted(table.owner.name)}"
    found = store.query(
        f"SELECT {row_json(table, 'live')} FROM _sync_outbox AS e JOIN {quoted(table.name)} AS live "
        f"ON {owner} = e.owner AND {key} = e.row_key AND CAST({key} AS TEXT) = e.row_key COLLATE BINARY "
        "WHERE e.entry_id = ?",
        (entry_id,),
    )
    return orjson.loads(found[0][0]) if found else None


def _is_same(one: Any, other: Any) -> bool:
    """1 is 1.0 in a comparison."""
    return type(one) is type(other) and bool(one == other)


__all__ = ["missed", "put_in_order"]
