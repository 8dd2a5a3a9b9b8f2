"""Is an entry fit to be stored? Pure; what it says holds no contents."""

import re
from dataclasses import dataclass

from syncengine.remote.json_text import value_fault, write_json
from syncengine.remote.wire import Document, EntryKind, PushEntry, RowChange
from syncengine.vocabulary import SchemaVersion

ROW_BYTES_MAX = 1_000_000
"""Bytes of one row's JSON. Firestore's limit for a document is about the same (1 MiB), so rows can move there."""

KEY_BYTES_MAX = 1_024
CHANGES_MAX = 5_000

_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}\Z")
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why an entry is rejected: a word for programs, a sentence for people."""

    code: str
    message: str


class EntryRejected(Exception):
    """Raised while a group is being applied; the group is undone."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.code)
        self.fault = fault


BAD_VERSION = Fault(code="bad_value", message="A version is not like 2.0.0.")
GONE = Fault(code="gone", message="The row to patch does not exist or was deleted.")
GROUP_REJECTED = Fault(code="group_rejected", message="Another entry of its group was rejected.")
ROW_TOO_LARGE = Fault(code="row_too_large", message=f"The row's JSON is larger than {ROW_BYTES_MAX} bytes.")


def entry_fault(entry: PushEntry) -> Fault | None:
    """Why this entry can never be stored, or None. What depends on the rows there is found when it is applied."""
    if not _is_version(entry.shape_version) or not _is_version(entry.cloud_version or "0"):
        return BAD_VERSION
    if entry.kind is EntryKind.VOID:
        return None
    if entry.kind is EntryKind.MIGRATION:
        return _migration_fault(entry)
    if entry.changes is not None or entry.migration is not None or entry.cloud_version is not None:
        return _bad_entry("A row change carries what belongs to a migration.")
    return _row_fault(entry.kind, entry.collection, entry.key, entry.set)


def body_bytes(body: Document) -> bytes:
    """The JSON to store. Raises EntryRejected when it is too large, merged rows included."""
    text = write_json(body)
    if len(text) > ROW_BYTES_MAX:
        raise EntryRejected(ROW_TOO_LARGE)
    return text


def _migration_fault(entry: PushEntry) -> Fault | None:
    if not entry.migration or entry.set is not None:
        return _bad_entry("A migration entry needs its migration's id and no set.")
    if value_fault(entry.migration):
        return _bad_value("its migration's id")
    changes = entry.changes or ()
    if len(changes) > CHANGES_MAX:
        return _bad_entry(f"A migration entry changes more than {CHANGES_MAX} rows.")
    faults = (_change_fault(change) for change in changes)
    return next((fault for fault in faults if fault), None)


def _change_fault(change: RowChange) -> Fault | None:
    if change.kind in (EntryKind.MIGRATION, EntryKind.VOID):
        return _bad_entry("A change is a put, a patch or a delete.")
    return _row_fault(change.kind, change.collection, change.key, change.set)


def _row_fault(kind: EntryKind, collection: str, key: str, body: Document | None) -> Fault | None:
    if not _COLLECTION.match(collection):
        return Fault(
            code="bad_key", message="The collection's name is not a letter and up to 63 letters, digits, _ . -"
        )
    if not key or _CONTROL.search(key) or len(key.encode()) > KEY_BYTES_MAX:
        return Fault(
            code="bad_key",
            message=f"The key is empty, longer than {KEY_BYTES_MAX} bytes, or holds control characters.",
        )
    if (body is None) != (kind is EntryKind.DELETE):
        return _bad_entry("A put or patch needs a set, a delete has none.")
    fault = value_fault(body)
    return _bad_value(fault) if fault else None


def _is_version(text: str) -> bool:
    try:
        SchemaVersion.parse(text)
    except ValueError:
        return False
    return True


def _bad_entry(message: str) -> Fault:
    return Fault(code="bad_entry", message=message)


def _bad_value(what: str) -> Fault:
    return Fault(code="bad_value", message=f"The row cannot be stored: {what}.")
