"""Entries and open items written in their new form, left out where nothing is left of them, or set aside."""

from typing import TYPE_CHECKING, Any

from syncengine.errors import TextUnreadable
from syncengine.local.statements import statement
from syncengine.migrate.entries_body import readable_json
from syncengine.migrate.entries_chain import Queued
from syncengine.migrate.entries_form import Form
from syncengine.migrate.rejection import Rejection
from syncengine.outbox.delivery import Event, State, next_state
from syncengine.outbox.entry import entry_of
from syncengine.outbox.set_aside import set_aside

if TYPE_CHECKING:
    from syncengine.local.store import Store


class EntryWriter:
    """Writes what one conversion decides; `left` counts the entries of which the new shape says nothing."""

    def __init__(self, store: "Store", *, migration: str, shape_version: str) -> None:
        self._store = store
        self._migration = migration
        self._shape_version = shape_version
        self._rewrites: list[dict[str, Any]] = []
        self._relabels: list[dict[str, Any]] = []
        self.left = 0

    def relabel(self, edit: Queued) -> None:
        """It says the same in the new shape."""
        if edit.item_id is None:
            self._relabels.append({"entry_id": edit.entry_id, "shape_version": self._shape_version})
        else:
            self._store.run("entries", "relabel_item", item_id=edit.item_id, shape_version=self._shape_version)

    def write(self, edit: Queued, form: Form | None) -> None:
        """Its new form; None: nothing of it is left."""
        if form is None:
            self._leave(edit)
            return
        values = {
            "kind": form.kind,
            "row_key": form.row_key,
            "set_json": form.set_json,
            "before_json": form.before_json,
            "shape_version": self._shape_version,
        }
        if edit.item_id is not None:
            self._store.run("entries", "rewrite_item", item_id=edit.item_id, **values)
            return
        self._make_readable(edit)
        self._rewrites.append({"entry_id": edit.entry_id, **values})
        self.left += form.kind == "void"

    def _leave(self, edit: Queued) -> None:
        if edit.item_id is not None:
            # A person decides about it: it stays, and would send nothing.
            self.write(edit, Form(kind="patch", row_key=edit.row_key, set_json="{}", before_json="{}"))
            return
        next_state(State(edit.state), Event.NOTHING_LEFT)
        self._store.run("entries", "leave", entry_id=edit.entry_id)
        self.left += 1

    def set_aside(self, edit: Queued, why: Rejection) -> None:
        """Into quarantine with its original. What lies there already stays as it is."""
        if edit.item_id is None:
            self._make_readable(edit)
            self.set_aside_entry(edit.entry_id, why)

    def set_aside_entry(self, entry_id: int, why: Rejection) -> None:
        """The same of an entry by its id."""
        try:
            found = self._store.rows("outbox", "entry", entry_id=entry_id)
        except TextUnreadable:
            self._write_readable(entry_id)
            found = self._store.rows("outbox", "entry", entry_id=entry_id)
        text = why.text if why.field is None else f"{why.text} ({why.field})"
        item_id = set_aside(
            self._store, entry_of(found[0]), event=Event.NOT_CONVERTED, error_code=why.code, error_text=text
        )
        self._store.run("entries", "set_aside_by_migration", item_id=item_id, migration=self._migration)

    def _make_readable(self, edit: Queued) -> None:
        if not edit.is_utf8 and edit.item_id is None:
            self._write_readable(edit.entry_id)

    def _write_readable(self, entry_id: int) -> None:
        """Nothing can read a row of the outbox that holds text which is not UTF-8."""
        bodies = self._store.rows("entries", "as_bytes", entry_id=entry_id)[0]
        set_json, before_json, original_json = map(readable_json, bodies)
        self._store.run(
            "entries",
            "make_readable",
            entry_id=entry_id,
            set_json=set_json,
            before_json=before_json,
            original_json=original_json,
        )

    def flush(self) -> None:
        """Write what was decided so far."""
        connection = self._store.connection
        if self._rewrites:
            connection.executemany(statement("entries", "rewrite"), self._rewrites)
        if self._relabels:
            connection.executemany(statement("entries", "relabel"), self._relabels)
        self._rewrites.clear()
        self._relabels.clear()
