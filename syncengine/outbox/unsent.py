"""What of a user exists on this device alone: counted, and written whole to a file before it may be destroyed."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncengine.clock import iso
from syncengine.errors import ExportImpossible
from syncengine.local.identifiers import quoted
from syncengine.outbox.capture import synced_collections
from syncengine.outbox.group_names import with_groups
from syncengine.outbox.reconcile import keyless_rows, unheard_rows
from syncengine.outbox.row_body import LiveRows, RowUnreadable, collection_columns, column_names

if TYPE_CHECKING:
    from syncengine.local.store import Row, Store

PAGE_ROWS = 500
GROUP = 8
"""Where it stands in a change."""
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """What the cloud does not have for good."""

    changes: int
    """Entries of the outbox, without the engine's own steps."""
    quarantined: int
    """Things that wait in quarantine for a decision."""
    rows: int
    """Rows that nobody has queued yet, and those without a key, which nobody can queue. One whose own put waits in
    quarantine is counted there."""
    oldest_at: str | None
    """Since when the oldest waits, as ISO-8601 UTC."""

    @property
    def count(self) -> int:
        return self.changes + self.quarantined + self.rows


def unsent_of(store: "Store", owner: str) -> Unsent:
    """As the store has it now."""
    changes, changed_at = store.rows("users", "unsent_entries", owner=owner)[0]
    items, item_at = store.rows("users", "unsent_items", owner=owner)[0]
    rows = sum(
        len(unheard_rows(store, name, owner=owner)) + keyless_rows(store, name, owner=owner)
        for name in synced_collections(store)
    )
    return Unsent(
        changes=changes,
        quarantined=items,
        rows=rows,
        oldest_at=min((at for at in (changed_at, item_at) if at is not None), default=None),
    )


# The file.


def export_unsent(store: "Store", owner: str, path: str) -> int:
    """Write all of it to a new file (0600), one JSON object a line, and read it back; how many lines but the first.

    What is parked goes along. Inside a transaction, so that nothing comes in between. Raises ExportImpossible where
    the file is there already, cannot be made, or does not hold what was written; then none is left.
    """
    try:
        made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise _impossible(path, type(error).__name__) from error
    try:
        with os.fdopen(made, "w+b") as file:
            written, counts = hashlib.sha256(), Counter[str]()
            for record in _records(store, owner):
                line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
                written.update(line + b"\n")
                counts[record["what"]] += 1
                file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        _check(path, digest=written.digest(), counts=counts)
    except OSError as error:
        Path(path).unlink()
        raise _impossible(path, type(error).__name__) from error
    except BaseException:
        Path(path).unlink()
        raise
    return sum(counts.values()) - 1


def _check(path: str, *, digest: bytes, counts: Counter[str]) -> None:
    """Another reading of the file, from the start."""
    read, found = hashlib.sha256(), Counter[str]()
    with Path(path).open("rb") as file:
        for line in file:
            read.update(line)
            try:
                found[json.loads(line.decode("utf-8", "surrogatepass"))["what"]] += 1
            except (ValueError, KeyError, TypeError) as error:
                raise _impossible(path, "a line of it cannot be read back") from error
    if read.digest() != digest or found != counts:
        raise _impossible(path, "it does not hold what was written")


def _impossible(path: str, why: str) -> ExportImpossible:
    return ExportImpossible(
        f"What was not sent cannot be written to {path}.",
        why=why,
        fix="Name a file that is not there yet, in a folder that can be written to. Nothing was changed.",
    )


def _records(store: "Store", owner: str) -> Iterator[dict[str, Any]]:
    yield {
        "what": "export",
        "format": FORMAT,
        "app": store.value("state", "get", name="app"),
        "user": owner,
        "made_at": iso(store.clock.now_ms()),
    }
    rows = LiveRows(store)
    for row in _pages(store, owner, "changes"):
        yield _change(store, rows, owner, row)
    for row in _pages(store, owner, "items"):
        yield _item(store, rows, owner, row)
    for row in _pages(store, owner, "parked"):
        yield _parked(row)
    for collection in synced_collections(store):
        for key in unheard_rows(store, collection, owner=owner):
            body = _live(store, rows, owner, collection, key)
            yield {"what": "row", "collection": collection, "key": _text(key), "row": body}
        key_column = quoted(collection_columns(store, collection)[0])
        for body in _as_they_lie(store, owner, collection, f"{key_column} IS NULL"):
            yield {"what": "row", "collection": collection, "key": None, "row": body}


def _pages(store: "Store", owner: str, name: str) -> Iterator["Row"]:
    after = 0
    read: dict[str, Callable[[], list[Row]]] = {
        "changes": lambda: with_groups(
            store, store.rows("users", "changes", owner=owner, after=after, rows_max=PAGE_ROWS), place=GROUP
        ),
        "items": lambda: store.rows("users", "items", owner=owner, after=after, rows_max=PAGE_ROWS),
        "parked": lambda: store.rows("users", "parked", owner=owner, after=after, rows_max=PAGE_ROWS),
    }
    while page := read[name]():
        yield from page
        after = page[-1][0]


def _change(store: "Store", rows: LiveRows, owner: str, row: "Row") -> dict[str, Any]:
    entry, kind, collection, key, set_json, before, original, shape, group, state, at = row
    change = {
        "what": "change",
        "entry": entry,
        "kind": kind,
        "collection": collection,
        "key": _text(key),
        "shape": shape,
        "group": group,
        "state": state,
        "written_at": at,
        "set": _json(set_json),
        "before": _json(before),
        "original": _json(original),
    }
    if kind == "put" and set_json is None:
        change["row"] = _live(store, rows, owner, collection, key)
    return change


def _item(store: "Store", rows: LiveRows, owner: str, row: "Row") -> dict[str, Any]:
    """One of the outbox that only names its row goes with the row."""
    item, origin, migration, collection, key, body, first, shape, code, text, at = row
    found = {
        "what": "quarantined",
        "item": item,
        "origin": origin,
        "migration": migration,
        "collection": collection,
        "key": _text(key),
        "shape": shape,
        "error": code,
        "reason": text,
        "set_aside_at": at,
        "body": _text(body),
        "body_original": _text(first),
    }
    if origin == "outbox" and _names_only(body):
        found["row"] = _live(store, rows, owner, collection, key)
    return found


def _names_only(body: bytes) -> bool:
    entry = _json(body)
    return isinstance(entry, dict) and entry.get("kind") == "put" and entry.get("set") is None


def _parked(row: "Row") -> dict[str, Any]:
    parked, collection, key, body, shape, version, reason, at = row
    return {
        "what": "parked",
        "parked": parked,
        "collection": collection,
        "key": _text(key),
        "shape": shape,
        "version": version,
        "reason": reason,
        "parked_at": at,
        "body": _json(body),
    }


def _live(store: "Store", rows: LiveRows, owner: str, collection: str, key: bytes) -> Any:
    """The whole row as it would be sent; one that cannot be sent as it lies in the file."""
    try:
        body = rows.body_json(collection, owner=owner, row_key=key.decode("utf-8"))
    except (RowUnreadable, UnicodeDecodeError):
        key_column = quoted(collection_columns(store, collection)[0])
        found = _as_they_lie(store, owner, collection, f"CAST(CAST({key_column} AS TEXT) AS BLOB) = ?", key)
        return next(iter(found), None)
    return None if body is None else json.loads(body)


def _as_they_lie(store: "Store", owner: str, collection: str, which: str, *values: bytes) -> list[dict[str, Any]]:
    """Rows with each value as its type and its bytes, in hex, or as SQL writes the number."""
    _, owner_column, _ = collection_columns(store, collection)
    names = [name for name in column_names(store, collection) if name != owner_column]
    exact = ", ".join(
        f"typeof({name}), CASE WHEN typeof({name}) IN ('text', 'blob') THEN hex(CAST({name} AS BLOB)) "
        f"ELSE quote({name}) END"
        for name in map(quoted, names)
    )
    found = store.query(
        f"SELECT {exact} FROM {quoted(collection)} WHERE {quoted(owner_column)} = ? AND {which}", (owner, *values)
    )
    return [
        {name: {f"${kind}": value} for name, kind, value in zip(names, row[::2], row[1::2], strict=True)}
        for row in found
    ]


def _json(raw: bytes | None) -> Any:
    """What capture or the cloud wrote, as it says itself."""
    if raw is None:
        return None
    try:
        return json.loads(raw)
    except ValueError:
        return _text(raw)


def _text(raw: bytes | None) -> Any:
    if raw is None:
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return {"$hex": raw.hex()}
