"""What a store holds, as a value to compare: schema and rows, without times and without what differs run by run."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncengine.clock import SystemClock
from syncengine.local.identifiers import quoted
from syncengine.local.store import Store
from syncengine.settings import Settings

LeftOut = Mapping[str, Collection[str]]
"""By table, the columns that are not compared: those that hold the time of a run."""

# Device, leases, copies and how far an erasure is are of one run; the history is compared by what came of it.
_NOT_COMPARED = frozenset(
    {"_sync_state", "_sync_lease", "_sync_restore_point", "_sync_erasure", "_sync_run", "_sync_drain"}
)
_OF_ONE_RUN = re.compile(r".*_(at|until|ms|hash)|(run|entry|item|aside|touch|conflict|parked|restore_point)_id|fresh")
GROUP_OF_ENTRY = "(SELECT g.group_id FROM _sync_group AS g WHERE g.entry_id = _sync_outbox.entry_id)"
_HISTORY = (
    "SELECT DISTINCT migration, scope, state, rows_read, rows_written, rows_merged, rows_dropped, rows_quarantined "
    "FROM _sync_run WHERE state NOT IN ('failed', 'cancelled')"
)


@dataclass(frozen=True, slots=True)
class Contents:
    """Schema and rows of a store. Two of them are equal when no app could tell the stores apart."""

    schema: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]
    sound: bool
    """SQLite's own check of the whole file found nothing, and no foreign key leads nowhere."""

    def differences(self, other: "Contents") -> tuple[str, ...]:
        """A sentence for each table that differs, with counts and without values."""
        found = [] if self.sound and other.sound else ["SQLite's integrity check or a foreign key fails"]
        if self.schema != other.schema:
            odd = sorted(set(self.schema) ^ set(other.schema))
            found.append("the schema differs: " + "; ".join(" ".join(sql.split())[:100] for sql in odd))
        for table in sorted(self.rows.keys() | other.rows.keys()):
            mine, theirs = self.rows.get(table, ()), other.rows.get(table, ())
            if mine != theirs:
                only = len(set(mine) - set(theirs)), len(set(theirs) - set(mine))
                found.append(f"{table}: {len(mine)} and {len(theirs)} rows; only in one or the other: {only}")
        return tuple(found)


def contents_of(path: Path, *, leave_out: LeftOut | None = None) -> Contents:
    """All that the store at `path` holds. Opens it, so that what a crash left in its -wal is taken in."""
    store = Store(str(path), settings=Settings(), clock=SystemClock())
    try:
        tables = [
            str(name)
            for (name,) in store.query("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            if name not in _NOT_COMPARED and not name.startswith("sqlite_")
        ]
        rows = {table: _rows(store, table, leave_out or {}) for table in tables}
        rows["_sync_run"] = tuple(sorted(map(repr, store.query(_HISTORY))))
        return Contents(schema=_schema(store), rows=rows, sound=_is_sound(store))
    finally:
        store.close()


def _schema(store: Store) -> tuple[str, ...]:
    """ALTER TABLE RENAME writes names in quotes, which an author did not. Capture follows the tables."""
    found = store.query(
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT GLOB '_sync_capture_*' ORDER BY type, name"
    )
    return tuple(str(sql).replace('"', "") for (sql,) in found)


def _rows(store: Store, table: str, leave_out: LeftOut) -> tuple[str, ...]:
    columns = [str(name) for (name,) in store.query("SELECT name FROM pragma_table_info(?)", (table,))]
    ours, left_out = table.startswith("_sync_"), leave_out.get(table, ())
    kept = [name for name in columns if name not in left_out and not (ours and _OF_ONE_RUN.fullmatch(name))]
    kept.sort()  # ALTER TABLE puts a column last, where another way may have it first
    found = store.query(f"SELECT {', '.join(map(_value, kept))} FROM {quoted(table)}" + _order(table))
    if table != "_sync_outbox":
        return tuple(sorted(map(repr, found)))
    # What is queued has an order that matters; rows of a table have none.
    return tuple(repr(_without(dict(zip(kept, row, strict=True)), leave_out)) for row in found)


def _value(column: str) -> str:
    """Its value; of an entry that belongs to a group, whether or not it is named already."""
    return GROUP_OF_ENTRY if column == "group_id" else quoted(column)


def _without(entry: dict[str, Any], leave_out: LeftOut) -> dict[str, Any]:
    """An entry, and in it the fields that are compared."""
    left_out = leave_out.get(entry["collection"], ())
    for part in ("set_json", "before_json", "original_json") if left_out else ():
        entry[part] = entry[part] and _without_fields(json.loads(entry[part]), left_out)
    return entry


def _without_fields(body: Any, left_out: Collection[str]) -> Any:
    """A body, or an entry as it was first written, with its bodies inside."""
    if not isinstance(body, dict):
        return body
    return {name: _without_fields(value, left_out) for name, value in body.items() if name not in left_out}


def _order(table: str) -> str:
    return " ORDER BY entry_id" if table == "_sync_outbox" else ""


def _is_sound(store: Store) -> bool:
    whole = store.query("PRAGMA integrity_check") == [("ok",)]
    return whole and not store.query("PRAGMA foreign_key_check")
