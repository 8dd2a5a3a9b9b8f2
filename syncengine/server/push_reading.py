"""The text of a push as entries: plain ones, which nearly all are, by hand; others, and refusals, by the models."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import JsonValue, ValidationError

from syncengine.remote.json_text import INTEGER_MAX, names_of, read_uncounted
from syncengine.remote.wire import NAME_LENGTH_MAX, Document, EntryKind, PushEntry, PushRequest
from syncengine.server.judge import KEY_BYTES_MAX, is_collection, is_version
from syncengine.server.request_body import BODY_DEPTH_MAX, parse_body

_KINDS = {kind.value: kind for kind in (EntryKind.PUT, EntryKind.PATCH, EntryKind.DELETE)}
_NEEDED = {"sequence", "group", "kind", "collection", "key", "shape_version"}
_ALLOWED = {"set", "base_version", "token", "on_conflict"}
_KEY_LENGTH_MAX = KEY_BYTES_MAX // 4
"""In letters, of which UTF-8 needs no more than four bytes each."""

_Words = tuple[Any, Any, Any, Any, Any]
"""Kind, collection, shape version, token and `on_conflict` of an entry."""


class RowEntry(NamedTuple):
    """A put, patch or delete without fault, with the fields that `PushEntry` has of such an entry."""

    sequence: int
    group: int
    kind: EntryKind
    collection: str
    key: str
    set: Document | None
    base_version: int | None
    shape_version: str
    token: str | None
    on_conflict: Literal["merge", "refuse"]


Entry = PushEntry | RowEntry


class Push(NamedTuple):
    """What `PushRequest` says. `values_are_good`: who read the text has looked at all its values."""

    request_id: str
    user: str
    device: str
    epoch: int
    entries: Sequence[Entry]
    values_are_good: bool


def push_of(request: PushRequest, *, values_are_good: bool = False, entries: Sequence[Entry] | None = None) -> Push:
    """The same as a `Push`, with other entries if they are given."""
    return Push(
        request.request_id,
        request.user,
        request.device,
        request.epoch,
        request.entries if entries is None else entries,
        values_are_good,
    )


def read_push(raw: bytes) -> Push:
    """Raises RequestRefused (400), for the same texts and with the same words as `parse_body` does."""
    found = _read_by_hand(raw)
    if found is not None:
        return found
    request, values_are_good = parse_body(raw, model=PushRequest)
    return push_of(request, values_are_good=values_are_good)


def _read_by_hand(raw: bytes) -> Push | None:
    """None where anything is not as usual."""
    read = read_uncounted(raw)
    if read is None:
        return None
    value, names_in_text = read
    listed = value.get("entries") if type(value) is dict else None
    if type(value) is not dict or type(listed) is not list:
        return None
    try:
        head = PushRequest.model_validate({**value, "entries": ()})
        entries = _entries(listed)
    except (TypeError, ValidationError):  # TypeError: a list or an object where a text belongs
        return None
    if _names(raw, value, entries) != names_in_text:
        return None
    return push_of(head, values_are_good=True, entries=entries)


def _names(raw: bytes, value: dict[str, JsonValue], entries: Sequence[Entry]) -> int:
    """How many names the value has.

    Where the text opens nothing but the entries and their sets, nothing else need be looked at.
    """
    sets = [entry.set for entry in entries if entry.set is not None]
    if raw.count(b"{") + raw.count(b"[") != 2 + len(entries) + len(sets):
        return names_of(value, depth_max=BODY_DEPTH_MAX)
    listed = value["entries"]
    return len(value) + sum(map(len, listed)) + sum(map(len, sets))  # type: ignore[arg-type]  # objects, as was seen


def _entries(listed: list[JsonValue]) -> list[Entry]:
    """Raises ValidationError, or TypeError, for what is no entry at all."""
    known = _Known(set(), {})
    return [_row_entry(each, known) or PushEntry.model_validate(each) for each in listed]


class _Known(NamedTuple):
    """What entries of this push were found to be good with: hundreds of them have it in common."""

    forms: set[tuple[str, ...]]
    """The names of an entry, in their order."""
    words: dict[_Words, EntryKind]


def _row_entry(each: JsonValue, known: _Known) -> RowEntry | None:
    """None for what only the models and `entry_fault` can judge."""
    if type(each) is not dict or (tuple(each) not in known.forms and not _learn_form(each, known)):
        return None
    get: Callable[..., Any] = each.get
    words: _Words = (get("kind"), get("collection"), get("shape_version"), get("token"), get("on_conflict", "merge"))
    kind = known.words.get(words) or _learn_words(words, known)
    sequence, group, key, body, base = get("sequence"), get("group"), get("key"), get("set"), get("base_version")
    if (
        kind is None
        or type(sequence) is not int
        or not 0 < sequence <= INTEGER_MAX
        or type(group) is not int
        or not 0 <= group <= INTEGER_MAX
        or type(key) is not str
        or not 0 < len(key) <= _KEY_LENGTH_MAX
        or not key.isprintable()
        or (base is not None and (type(base) is not int or not 0 <= base <= INTEGER_MAX))
        or (body is not None if kind is EntryKind.DELETE else type(body) is not dict)
    ):
        return None
    return RowEntry(sequence, group, kind, words[1], key, body, base, words[2], words[3], words[4])


def _learn_form(each: dict[str, JsonValue], known: _Known) -> bool:
    is_plain = _NEEDED <= each.keys() <= _NEEDED | _ALLOWED
    if is_plain:
        known.forms.add(tuple(each))
    return is_plain


def _learn_words(words: _Words, known: _Known) -> EntryKind | None:
    said, collection, shape, token, on_conflict = words
    kind = _KINDS.get(said)
    if (
        kind is None
        or type(collection) is not str
        or not is_collection(collection)
        or type(shape) is not str
        or not 0 < len(shape) <= NAME_LENGTH_MAX
        or not is_version(shape)
        or (token is not None and (type(token) is not str or not 0 < len(token) <= NAME_LENGTH_MAX))
        or on_conflict not in ("merge", "refuse")
    ):
        return None
    known.words[words] = kind
    return kind
