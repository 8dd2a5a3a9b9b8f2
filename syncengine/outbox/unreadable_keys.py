"""Entries whose key, or whose texts, are no UTF-8. SQLite keeps such text as it is given; no request can carry it."""

from typing import TYPE_CHECKING

from syncengine.errors import TextUnreadable
from syncengine.outbox.delivery import Event
from syncengine.outbox.entry import entry_of
from syncengine.outbox.filing import file_entries
from syncengine.outbox.sendable import KEY_NOT_UTF8, TEXT_NOT_UTF8, is_utf8
from syncengine.outbox.set_aside import set_aside

if TYPE_CHECKING:
    from syncengine.local.store import Store

PAGE_ENTRIES = 500

SUBSTITUTE = "\x1a"
"""ECMA-48: stands in the place of a character that was found to be invalid. It makes a key that is never sent, so a
retried item cannot name another row."""


def set_aside_unreadable(store: "Store", owner: str) -> None:
    """Quarantine what waits and has a key or a text that is no UTF-8. Inside a transaction.

    The item's texts have U+FFFD for each byte that is none; the row itself stays as it is.
    """
    file_entries(store)
    set_aside_unreadable_keys(store, owner)
    # All are found before the first is moved: what it holds back may be another of them.
    for entry_id in _made_readable(store, owner):
        entry = entry_of(store.rows("outbox", "entry", entry_id=entry_id)[0])
        fault = TEXT_NOT_UTF8
        set_aside(store, entry, event=Event.UNREADABLE, error_code=fault.code, error_text=fault.why)


def _made_readable(store: "Store", owner: str) -> list[int]:
    """The entries whose texts were not, oldest first."""
    made: list[int] = []
    after = 0
    while True:
        page = store.rows("outbox", "waiting_texts_as_bytes", owner=owner, after=after, entries_max=PAGE_ENTRIES)
        for entry_id, *texts in page:
            if not all(text is None or is_utf8(text) for text in texts):
                _make_readable(store, entry_id, *texts)
                made.append(entry_id)
        if len(page) < PAGE_ENTRIES:
            return made
        after = page[-1][0]


def set_aside_unreadable_keys(store: "Store", owner: str, *, after: int = 0) -> None:
    """Quarantine what waits, was written after the entry `after` and has such a key. Inside a transaction.

    The item's key has U+001A for each byte that is no text; the row itself stays as it is.
    """
    while True:
        try:
            page = store.rows("outbox", "waiting_keys", owner=owner, after=after, entries_max=PAGE_ENTRIES)
        except TextUnreadable:
            page = store.rows("outbox", "waiting_keys_as_bytes", owner=owner, after=after, entries_max=PAGE_ENTRIES)
            _set_aside_those_of(store, dict(page))
        if len(page) < PAGE_ENTRIES:
            return
        after = page[-1][0]


def _set_aside_those_of(store: "Store", keys: dict[int, bytes]) -> None:
    unreadable = {entry_id: key for entry_id, key in keys.items() if not is_utf8(key)}
    # All are readable before the first is moved: what it holds back may be another of them.
    for entry_id, key in unreadable.items():
        store.run("outbox", "rename_key", entry_id=entry_id, row_key=_readable(key))
        # A row that was captured whole holds its key as well.
        _make_readable(store, entry_id, *store.rows("outbox", "texts_as_bytes", entry_id=entry_id)[0])
    for entry_id in unreadable:
        entry = entry_of(store.rows("outbox", "entry", entry_id=entry_id)[0])
        set_aside(store, entry, event=Event.UNREADABLE, error_code=KEY_NOT_UTF8.code, error_text=KEY_NOT_UTF8.why)


def _make_readable(store: "Store", entry_id: int, *texts: bytes | None) -> None:
    set_json, before_json = (None if text is None else text.decode(errors="replace") for text in texts)
    store.run("outbox", "rewrite_texts", entry_id=entry_id, set_json=set_json, before_json=before_json)


def _readable(key: bytes) -> str:
    return key.decode(errors="replace").replace("\N{REPLACEMENT CHARACTER}", SUBSTITUTE)
