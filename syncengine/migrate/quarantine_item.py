"""One thing that was set aside, as a value; and what came of trying it again."""

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from syncengine.errors import QuarantineExportRefused, QuarantineItemUnknown

if TYPE_CHECKING:
    from syncengine.local.store import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineItem:
    """What was set aside, and why. Its repr does not show the body."""

    item_id: int
    origin: str
    """migration, outbox, pull or restore."""
    migration: str | None
    owner: str | None
    """None: it belongs to nobody, and every user sees it."""
    collection: str
    key: str | None
    """The key of the row, or where an element stood in its legacy store: "@saved_routes[12]"."""
    body: str = field(repr=False)
    """The whole thing as text: a row as JSON, a legacy element as it lay there, an outbox entry as JSON."""
    edited: bool
    """A person has changed the body; the first one is kept in `_sync_quarantine.body_original`."""
    error_code: str
    error_text: str
    field: str | None
    attempts: int
    shape_version: str | None
    """The shape that the body is written in; None for an element of a legacy store."""
    code_hash: str | None
    """Of the migration's code that refused it last."""
    note: str | None
    """Why a person gave it up."""
    resolution: str | None
    """retried, edited (and retried), discarded, restored; None while it waits for a person."""
    created_at: str
    resolved_at: str | None

    def to_json(self) -> dict[str, Any]:
        """All of it, the body too."""
        return {
            "item": self.item_id,
            "origin": self.origin,
            "migration": self.migration,
            "owner": self.owner,
            "collection": self.collection,
            "key": self.key,
            "field": self.field,
            "error": self.error_code,
            "reason": self.error_text,
            "attempts": self.attempts,
            "shape": self.shape_version,
            "edited": self.edited,
            "note": self.note,
            "resolution": self.resolution,
            "since": self.created_at,
            "resolved_at": self.resolved_at,
            "body": self.body,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOutcome:
    """What came of trying an item again. `resolved` False: it stays in quarantine, for the reason that is given."""

    item_id: int
    resolved: bool
    rows: int = 0
    """Rows that were written to their collections; 0 for a resolved one: left out by rule."""
    entries: tuple[int, ...] = ()
    """Outbox entries that wait for their turn again."""
    why: str | None = None
    field: str | None = None


def item_of(row: "Row") -> QuarantineItem:
    """The item in a row of quarantine.sql's `items`."""
    names = tuple(QuarantineItem.__dataclass_fields__)
    values = dict(zip(names, row, strict=True))
    return QuarantineItem(**{**values, "edited": bool(values["edited"])})


def row_from_json(body: str) -> dict[str, Any] | None:
    """The column values that `row_as_json` wrote; None for what is no row."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict):
        return None
    return {name: _column_value(value) for name, value in found.items()}


def _column_value(value: Any) -> Any:
    if isinstance(value, Mapping) and value.keys() == {"$blob"}:
        return base64.b64decode(value["$blob"])
    if isinstance(value, Mapping) and value.keys() == {"$real"}:
        return float(value["$real"])
    if isinstance(value, bool):
        return int(value)
    return orjson.dumps(value).decode() if isinstance(value, list | dict) else value


def write_items(items: "Sequence[QuarantineItem]", path: "str | os.PathLike[str]") -> None:
    """A JSON list of the items, whole, in a new file that only its owner can read. Raises QuarantineExportRefused."""
    text = orjson.dumps([item.to_json() for item in items], option=orjson.OPT_INDENT_2)
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "wb") as file:
            file.write(text + b"\n")
    except OSError as error:
        raise QuarantineExportRefused(
            f"Quarantine cannot be exported to {os.fspath(path)}.",
            why=type(error).__name__,
            fix="Name a file that is not there yet, in a folder that can be written to.",
        ) from error


def unknown(item_id: int) -> QuarantineItemUnknown:
    """The error for an item that is not there, is another user's, or was resolved already."""
    return QuarantineItemUnknown(
        f"There is no open quarantine item {item_id}.",
        why="it was resolved already, belongs to another user, or never was",
        fix="List the open ones: `syncengine quarantine`. Nothing was changed.",
    )
