"""What is sent for an entry: its body as the wire has it, read from its row where it names only that."""

from typing import TYPE_CHECKING, Any

import orjson

from syncengine.outbox.delivery import Event, State, next_state
from syncengine.outbox.entry import Entry, Kind
from syncengine.outbox.filing import file_entries
from syncengine.outbox.row_body import LiveRows, RowUnreadable, sendable_json
from syncengine.outbox.sendable import KEY_IS_NO_TEXT, entry_fault
from syncengine.outbox.set_aside import set_aside

if TYPE_CHECKING:
    from syncengine.local.store import Store


class Freezer:
    """Freezes bodies within one transaction."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._live_rows = LiveRows(store)

    def frozen(self, entry: Entry, *, extra: str | None, is_first: bool = False) -> Entry | None:
        """The entry with the body that will be sent; None when it went to quarantine instead, or
        was not needed.

        `extra` are the fields of its row that this app does not know: a whole row goes back with them. `is_first`:
        the cloud has not heard of its row, as far as is known here, so a part of the row is sent as a whole one.
        """
        try:
            entry = _sendable(entry)
            if entry.kind is Kind.PUT and entry.set_json is None:
                entry = self._with_body(entry)
            elif entry.kind is Kind.PATCH and is_first:
                entry = self._as_whole_row(entry)
        except RowUnreadable as error:
            if entry.kind is Kind.DELETE and error.code == KEY_IS_NO_TEXT.code:
                self._let_go(entry)  # the cloud has never had it
                return None
            set_aside(self._store, entry, event=Event.UNREADABLE, error_code=error.code, error_text=error.why)
            return None
        if extra is not None and entry.kind is Kind.PUT and entry.set_json is not None:
            return entry._replace(set_json=_over(extra, entry.set_json))
        return entry

    def _let_go(self, entry: Entry) -> None:
        next_state(State(entry.state), Event.NOT_NEEDED)
        file_entries(self._store)
        self._store.run("outbox", "delete_squashed", entry_id=entry.entry_id)
        self._store.run("outbox", "delete", entry_id=entry.entry_id)

    def _with_body(self, entry: Entry) -> Entry:
        """Raises RowUnreadable."""
        body = self._live_rows.body_json(entry.collection, owner=entry.owner, row_key=entry.row_key)
        body = body if body is not None else self._body_before_deletion(entry)
        if body is not None:
            return entry._replace(set_json=body)
        if self._row_is_set_aside(entry):
            raise RowUnreadable("row_in_quarantine", "its row lies in quarantine")
        # The user deleted the row after it was queued. An earlier upload may have reached the cloud, so it is
        # deleted there too; deleting what the cloud never had does no harm.
        return entry._replace(kind=Kind.DELETE)

    def _as_whole_row(self, entry: Entry) -> Entry:
        """Raises RowUnreadable. A part of a row of which nothing is left here stays what it is."""
        body = self._live_rows.body_json(entry.collection, owner=entry.owner, row_key=entry.row_key)
        body = body if body is not None else self._body_before_deletion(entry)
        return entry if body is None else entry._replace(kind=Kind.PUT, set_json=body, before_json=None)

    def _body_before_deletion(self, entry: Entry) -> str | None:
        """The row as it was when it was queued, from the edits that have followed; they are sent later."""
        file_entries(self._store)
        undone: dict[str, Any] = {}
        for kind, before_json in self._store.rows(
            "outbox",
            "edits_after",
            collection=entry.collection,
            owner=entry.owner,
            row_key=entry.row_key,
            entry_id=entry.entry_id,
        ):
            before = orjson.loads(before_json or "{}")
            undone = {**before, **undone}
            if kind == Kind.DELETE:
                return sendable_json(orjson.dumps(undone).decode()) if before else None
        return None

    def _row_is_set_aside(self, entry: Entry) -> bool:
        return bool(
            self._store.value(
                "quarantine",
                "row_is_set_aside",
                collection=entry.collection,
                owner=entry.owner,
                row_key=entry.row_key,
            )
        )


def _sendable(entry: Entry) -> Entry:
    """Raises RowUnreadable."""
    text = None if entry.set_json is None else sendable_json(entry.set_json)
    fault = entry_fault(entry)
    if fault is not None:
        raise RowUnreadable(fault.code, fault.why)
    return entry if text is entry.set_json else entry._replace(set_json=text)


def _over(extra: str, set_json: str) -> str:
    return orjson.dumps({**orjson.loads(extra), **orjson.loads(set_json)}).decode()
