"""The text of a push as entries: plain ones, which nearly all are, by hand; others, and refusals, by the models."""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from pydantic import JsonValue, ValidationError

from syncengine.remote.json_text import names_of, read_uncounted
from syncengine.remote.wire import NAME_LENGTH_MAX, Document, EntryKind, PushEntry, PushRequest
from syncengine.server.judge import KEY_BYTES_MAX, is_collection, is_version
from syncengine.server.request_body import BODY_DEPTH_MAX, parse_body


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
    value, text = read
    listed = value.get("entries") if type(value) is dict else None
    if type(value) is not dict or type(listed) is not list:
        return None
    try:
        head = PushRequest.model_validate({**value, "entries": ()})
        entries = _entries(listed)
    except (TypeError, ValidationError):  # TypeError: a list or an object where a text belongs
        return None
    if not text.has_names(_names(raw, value, entries)):
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
    return [*(_row_entries(listed) or chain.from_iterable(_entry_alone(each) for each in listed))]


def _entry_alone(each: JsonValue) -> Sequence[Entry]:
    """The one entry, for a push that has others than row entries."""
    return _row_entries([each]) or [PushEntry.model_validate(each)]


def _row_entries(listed: list[JsonValue]) -> list[RowEntry] | None:
    """None if there is one among them that only the models and `entry_fault` can judge, or none at all.

    Field by field over all entries, not entry by entry: a third of the time.
    """
    if set(map(type, listed)) != {dict}:
        return None
    forms: set[frozenset[str]] = set(map(frozenset, listed))  # type: ignore[arg-type]  # objects, as was seen
    if not all(map(_is_plain_form, forms)):
        return None
    fields = _fields(listed, forms=forms)  # type: ignore[arg-type]  # objects
    sequences, groups, said, collections, keys, bodies, bases, shapes, tokens, conflicts = fields
    if not (
        _are_numbers(sequences, lowest=1)
        and _are_numbers(groups, lowest=0)
        and _are_numbers([base for base in bases if base is not None], lowest=0)
        and _are_good_keys(keys)
        and set(zip(said, map(type, bodies), strict=True)) <= _BODIES
        and all(map(_is_good_collection, set(collections)))
        and all(map(_is_good_shape, set(shapes)))
        and all(map(_is_good_token, set(tokens)))
        and set(conflicts) <= _CONFLICTS
    ):
        return None
    kinds = map(_KINDS.__getitem__, said)
    in_order = zip(sequences, groups, kinds, collections, keys, bodies, bases, shapes, tokens, conflicts, strict=True)
    return [*map(_row_entry, in_order)]


def _fields(listed: list[dict[str, JsonValue]], *, forms: set[frozenset[str]]) -> list[Sequence[Any]]:
    """Each field of all entries, which have these forms; nearly always all have one."""
    if len(forms) > 1:
        listed = [_ABSENT | each for each in listed]
    names = [*listed[0]]
    columns = zip(*map(itemgetter(*names), listed), strict=True)
    there: dict[str, Sequence[Any]] = dict(zip(names, columns, strict=True))
    return [there.get(name) or [absent] * len(listed) for name, absent in _ABSENT.items()]


def _is_plain_form(names: frozenset[str]) -> bool:
    return _NEEDED <= names <= _ABSENT.keys()


def _are_numbers(values: Sequence[Any], *, lowest: int) -> bool:
    """True and False are none, though Python counts them as such. `read_uncounted` takes none that is too high."""
    return not values or (set(map(type, values)) == {int} and lowest <= min(values))


def _are_good_keys(keys: Sequence[Any]) -> bool:
    if set(map(type, keys)) != {str}:
        return False
    lengths = set(map(len, keys))
    return 0 not in lengths and max(lengths) <= _KEY_LENGTH_MAX and "".join(keys).isprintable()


def _is_good_collection(name: Any) -> bool:
    return type(name) is str and is_collection(name)


def _is_good_shape(version: Any) -> bool:
    return type(version) is str and 0 < len(version) <= NAME_LENGTH_MAX and is_version(version)


def _is_good_token(token: Any) -> bool:
    return token is None or (type(token) is str and 0 < len(token) <= NAME_LENGTH_MAX and token.isprintable())


_KINDS = {kind.value: kind for kind in (EntryKind.PUT, EntryKind.PATCH, EntryKind.DELETE)}
_BODIES = {("put", dict), ("patch", dict), ("delete", type(None))}
_CONFLICTS = {"merge", "refuse"}
_NEEDED = {"sequence", "group", "kind", "collection", "key", "shape_version"}
_ABSENT: dict[str, JsonValue] = {**dict.fromkeys(RowEntry._fields), "on_conflict": "merge"}
"""What fields say that are not there."""
_row_entry = partial(tuple.__new__, RowEntry)
"""`RowEntry._make` would count the fields of each."""
_KEY_LENGTH_MAX = KEY_BYTES_MAX // 4
"""In letters, of which UTF-8 needs no more than four bytes each."""
