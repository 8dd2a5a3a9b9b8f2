"""Is an entry fit to be stored? Pure; what it says holds no contents."""

import re
from dataclasses import dataclass
from functools import lru_cache

from syncengine.remote.json_text import value_fault
from syncengine.remote.wire import Document, EntryKind, PushEntry, RowChange
from syncengine.vocabulary import SchemaVersion

ROW_BYTES_MAX = 1_000_000
"""Bytes of one row's JSON. Firestore's limit for a document is about the same (1 MiB), so rows can move there."""

KEY_BYTES_MAX = 1_024
CHANGES_MAX = 5_000
LIFTS_MAX = 1_000

_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}\Z")
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_ROW_KINDS = (EntryKind.PUT, EntryKind.PATCH, EntryKind.DELETE)


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
GROUP_TOO_LARGE = Fault(code="group_too_large", message="The rows that its group changes are too large together.")
ROW_TOO_LARGE = Fault(code="row_too_large", message=f"The row's JSON is larger than {ROW_BYTES_MAX} bytes.")


def entry_fault(entry: PushEntry, *, values_are_good: bool = False) -> Fault | None:
    """Why this entry can never be stored, or None. What depends on the rows there is found when it is applied.

    `values_are_good`: `value_fault` has nothing to find in it, as whoever read the text has seen.
    """
    if not is_version(entry.shape_version) or not (entry.cloud_version is None or is_version(entry.cloud_version)):
        return BAD_VERSION
    fault = _misfit(entry)
    if fault or entry.kind is EntryKind.VOID:
        return fault
    if entry.kind in (EntryKind.MIGRATION, EntryKind.CHANGES):
        return _changes_fault(entry, values_are_good=values_are_good)
    return _row_fault(entry, values_are_good=values_are_good)


def _misfit(entry: PushEntry) -> Fault | None:
    """Fields that belong to another kind of entry."""
    kind = entry.kind
    if kind is EntryKind.MIGRATION:
        if not entry.migration or entry.set is not None:
            return _bad_entry("A migration entry needs its migration's id and no set.")
        if value_fault(entry.migration):
            return _bad_value("its migration's id")
    elif entry.migration is not None or entry.cloud_version is not None:
        return _bad_entry("A row change carries what belongs to a migration.")
    if kind is EntryKind.CHANGES:
        if not entry.changes or entry.set is not None:
            return _bad_entry("Several changes need their list and no set.")
    elif entry.changes is not None and kind is not EntryKind.MIGRATION:
        return _bad_entry("A row change carries a list of changes.")
    if kind is EntryKind.LIFT:
        if not entry.lifts or len(entry.lifts) > LIFTS_MAX or entry.base_version is None:
            return _bad_entry("A lift needs the version it was made from and the patches that it holds.")
    elif entry.lifts is not None:
        return _bad_entry("Only a lift names patches.")
    return None


def _changes_fault(entry: PushEntry, *, values_are_good: bool) -> Fault | None:
    changes = entry.changes or ()
    if entry.kind is EntryKind.CHANGES and (entry.collection or entry.key):
        fault = _name_fault(entry)
        if fault:
            return fault
    if len(changes) > CHANGES_MAX:
        return _bad_entry(f"An entry changes more than {CHANGES_MAX} rows.")
    faults = (_change_fault(change, values_are_good=values_are_good) for change in changes)
    return next((fault for fault in faults if fault), None)


def _change_fault(change: RowChange, *, values_are_good: bool) -> Fault | None:
    if change.kind not in _ROW_KINDS:
        return _bad_entry("A change is a put, a patch or a delete.")
    return _row_fault(change, values_are_good=values_are_good)


def _row_fault(change: PushEntry | RowChange, *, values_are_good: bool) -> Fault | None:
    return _name_fault(change) or _set_fault(change.kind, change.set, values_are_good=values_are_good)


def _name_fault(change: PushEntry | RowChange) -> Fault | None:
    if not is_collection(change.collection):
        return Fault(
            code="bad_key", message="The collection's name is not a letter and up to 63 letters, digits, _ . -"
        )
    key = change.key
    if not key or _CONTROL.search(key) or len(key.encode()) > KEY_BYTES_MAX:
        return Fault(
            code="bad_key",
            message=f"The key is empty, longer than {KEY_BYTES_MAX} bytes, or holds control characters.",
        )
    return None


def _set_fault(kind: EntryKind, body: Document | None, *, values_are_good: bool) -> Fault | None:
    if (body is None) != (kind is EntryKind.DELETE):
        return _bad_entry("A put, patch or lift needs a set, a delete has none.")
    fault = None if values_are_good else value_fault(body)
    return _bad_value(fault) if fault else None


def is_collection(name: str) -> bool:
    """Whether a collection may have this name."""
    return _COLLECTION.match(name) is not None


@lru_cache(maxsize=1_000)
def is_version(text: str) -> bool:
    """Whether it is like 2.0.0."""
    try:
        SchemaVersion.parse(text)
    except ValueError:
        return False
    return True


def _bad_entry(message: str) -> Fault:
    return Fault(code="bad_entry", message=message)


def _bad_value(what: str) -> Fault:
    return Fault(code="bad_value", message=f"The row cannot be stored: {what}.")
