"""A row as a document: the app's fields as they are, and one field `_sync` that is ours. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from syncengine.firestore.answers import violation
from syncengine.firestore.rest import Found
from syncengine.firestore.state import condition
from syncengine.firestore.values import META, Fields, body_of, decoded, encoded, native_fields
from syncengine.remote.wire import Document
from syncengine.server.rules import Patch, Row
from syncengine.server.storage import UNREAD

META_MASK = tuple(
    f"{META}.{name}" for name in ("version", "group", "shape", "writer", "stood_on", "patches", "deleted", "form")
)
"""All that a change needs to know of a row which it replaces."""

_SIMPLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRow:
    """A row as it was read. `fields`: its body in Firestore's types; None where it is text or was not read."""

    row: Row
    group_version: int
    update_time: str
    fields: Fields | None = field(repr=False)


def stored_row(found: Found, *, patches: tuple[Patch, ...] = (), is_whole: bool = True) -> StoredRow | None:
    """None for a document that another program made; it is no row until one of ours is written over it."""
    meta = meta_of(found)
    if "version" not in meta:
        return None
    lives = not meta.get("deleted")
    is_text = meta.get("form") == "json"
    body = UNREAD if lives and not is_whole else None
    if lives and is_whole:
        body = meta["json"] if is_text else orjson.dumps(body_of(found.fields)).decode()
    return StoredRow(
        row=Row(meta["version"], meta["shape"], body, patches, meta["writer"], meta["stood_on"]),
        group_version=meta["group"],
        update_time=found.update_time,
        fields=None if is_text or not is_whole else {k: v for k, v in found.fields.items() if k != META},
    )


def meta_of(found: Found) -> dict[str, Any]:
    """What is ours in a row's document, as JSON."""
    meta = decoded(found.fields[META]) if META in found.fields else {}
    if not isinstance(meta, dict):
        raise violation("what is ours in a row's document is no map")
    return meta


def row_body(found: Found) -> Document:
    """What a living row holds."""
    meta = meta_of(found)
    body: Document = orjson.loads(meta["json"]) if meta.get("form") == "json" else body_of(found.fields)
    return body


def row_write(
    name: str, row: Row, *, key: str, group_version: int, before: StoredRow | None, update_time: str | None
) -> dict[str, Any]:
    """To bring a row's document to what the row is now; of a body that was read only the changed fields travel."""
    meta: dict[str, Any] = {
        "version": row.version,
        "group": group_version,
        "shape": row.shape_version,
        "writer": row.writer,
        "stood_on": row.stood_on,
        "patches": len(row.patches),
    }
    if row.body is None:
        return _tombstone(name, meta, update_time=update_time)
    fields = native_fields(orjson.loads(row.body))
    # Only living rows have a key: a query by it finds no others.
    meta |= {"key": key} if fields is not None else {"key": key, "form": "json", "json": row.body}
    changed = None if fields is None or before is None or before.fields is None else _changed(before.fields, fields)
    written = fields or {}
    if changed is not None:
        written = {each: value for each, value in written.items() if each in changed}
    write: dict[str, Any] = {
        "update": {"name": name, "fields": {**written, META: encoded(meta)}},
        "updateTransforms": [_server_time("at")],
        "currentDocument": condition(update_time),
    }
    if changed is not None:
        write["updateMask"] = {"fieldPaths": [META, *map(_path, changed)]}
    return write


def beside_write(name: str, patches: Iterable[Patch]) -> dict[str, Any]:
    """What lies beside a row; nothing: the document goes."""
    lying = [
        {"patch": each.patch, "kind": each.kind, "shape": each.shape_version, "body": each.body} for each in patches
    ]
    if not lying:
        return {"delete": name}
    return {"update": {"name": name, "fields": {"patches": encoded(lying)}}}


def patches_of(found: Found) -> tuple[Patch, ...]:
    """What `beside_write` was made of."""
    try:
        lying = decoded(found.fields["patches"])
        return tuple(Patch(each["patch"], each["kind"], each["shape"], each["body"]) for each in lying)
    except (KeyError, TypeError) as error:
        raise violation("what lies beside a row cannot be read") from error


def _tombstone(name: str, meta: dict[str, Any], *, update_time: str | None) -> dict[str, Any]:
    return {
        "update": {"name": name, "fields": {META: encoded({**meta, "deleted": True})}},
        "updateTransforms": [_server_time("at"), _server_time("deleted_at")],
        "currentDocument": condition(update_time),
    }


def _server_time(name: str) -> dict[str, Any]:
    return {"fieldPath": f"{META}.{name}", "setToServerValue": "REQUEST_TIME"}


def _changed(before: Fields, after: Fields) -> list[str]:
    """Names of fields that differ, or are in one of both only."""
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def _path(name: str) -> str:
    """A field's name as a path: "Field paths must be quoted with backticks" unless simple (google.firestore.v1)."""
    if _SIMPLE.match(name):
        return name
    quoted = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{quoted}`"
