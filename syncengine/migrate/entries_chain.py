"""What queued entries do to rows, and what each row was before and after each of them. Pure.

The live row stands behind the last entry of its row. From there one goes back: what an entry set is laid over the
row, then what was there before it. Where an edit came past the queue, that is still the best that is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as with_default
from enum import Enum
from typing import Any

from syncengine.migrate.entries_body import Values, column_values, is_utf8, parsed, values_of


class Unknown(Enum):
    """A row that nothing tells about: it is not there any more, and nobody wrote down what it was."""

    ROW = "unknown"


State = Values | None | Unknown
"""A row without its owner; None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an entry does to one row. Its repr shows no row contents."""

    kind: str
    """put, patch, delete, or lift."""
    key: str
    set: Values | None = with_default(default=None, repr=False)
    """None for a put that names only its row, and for a delete."""
    before: Values | None = with_default(default=None, repr=False)
    if_version: int | None = None

    @property
    def names_only_its_row(self) -> bool:
        return self.kind == "put" and self.set is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """An entry, or an open quarantine item that was one, as far as its conversion is concerned."""

    entry_id: int
    owner: str
    row_key: str
    kind: str
    shape_version: str
    state: str
    changes: tuple[Change, ...] = with_default(repr=False)
    item_id: int | None = None
    fault: str | None = None
    """Why its JSON cannot be read, when it cannot."""
    is_utf8: bool = True
    """False where a text of it stands as bytes in its changes."""

    @property
    def has_number(self) -> bool:
        return self.state == "claimed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One row on its way through one entry."""

    edit: Queued
    change: Change
    before: State = with_default(repr=False)
    after: State = with_default(repr=False)


def queued_of(row: Sequence[Any]) -> Queued:
    """The entry in a row of entries.sql's selects."""
    entry_id, owner, row_key, kind, set_json, before_json, shape_version, state, *item = row
    fault, changes = None, tuple[Change, ...]()
    try:
        if kind == "changes":
            changes = tuple(_member(one) for one in parsed(set_json))
        else:
            changes = (Change(kind=kind, key=row_key, set=values_of(set_json), before=values_of(before_json)),)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        fault = "its JSON is not that of an entry"
    return Queued(
        entry_id=entry_id,
        owner=owner,
        row_key=row_key,
        kind=kind,
        shape_version=shape_version,
        state=state,
        changes=changes,
        item_id=item[0] if item else None,
        fault=fault,
        is_utf8=is_utf8(set_json, before_json),
    )


def _member(one: dict[str, Any]) -> Change:
    found = {name: None if one.get(name) is None else column_values(one[name]) for name in ("set", "before")}
    return Change(kind=one["kind"], key=one["key"], if_version=one.get("if_version"), **found)


def passages(changes: Sequence[tuple[Queued, Change]], *, live: Values | None) -> list[Passage]:
    """What one row was before and after each of its changes, oldest first as they are given."""
    found: list[Passage] = []
    state: State = live
    for edit, change in reversed(changes):
        after, before, state = _back(change, state)
        found.append(Passage(edit=edit, change=change, before=before, after=after))
    found.reverse()
    return _filled(found)


def _back(change: Change, state: State) -> tuple[State, State, State]:
    """(after, before, what the earlier changes ended with), from what the later ones began with."""
    if change.kind == "delete":
        before = Unknown.ROW if change.before is None else change.before
        return None, before, before
    known = state if isinstance(state, dict) else None
    if change.kind in ("put", "lift"):
        after: State = state if change.set is None else {**(known or {}), **change.set}
        # A put for the sake of the cloud alone stands on the same row.
        return after, None, after
    if known is None:
        return Unknown.ROW, Unknown.ROW, Unknown.ROW
    after = {**known, **(change.set or {})}
    before = {**after, **(change.before or {})}
    return after, before, before


def _filled(found: list[Passage]) -> list[Passage]:
    """What could not be told from behind is told from before, where an earlier entry says it."""
    state: State = Unknown.ROW
    filled: list[Passage] = []
    for passage in found:
        told = _forth(passage, state)
        filled.append(told)
        state = told.after
    return filled


def _forth(passage: Passage, state: State) -> Passage:
    change, edit = passage.change, passage.edit
    if not isinstance(state, dict):
        return passage
    if change.kind == "delete" and passage.before is Unknown.ROW:
        return Passage(edit=edit, change=change, before=state, after=None)
    if change.kind == "patch" and passage.after is Unknown.ROW:
        before = {**state, **(change.before or {})}
        return Passage(edit=edit, change=change, before=before, after={**before, **(change.set or {})})
    return passage
