"""What the rows of queued entries become in the new shape, before and after each entry."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from dataclasses import field as with_default
from typing import TYPE_CHECKING, Any

from syncengine.migrate.entries_body import Values
from syncengine.migrate.entries_chain import Change, Passage, Queued, State, Unknown, passages
from syncengine.migrate.entries_form import changes_between
from syncengine.migrate.entries_made import Making, Outcome, key_text
from syncengine.migrate.rejection import Rejection

if TYPE_CHECKING:
    from syncengine.migrate.entries_units import RowName, Unit

ROW_UNKNOWN = Rejection(code="row_unknown", text="its row is gone, and nothing tells what it was")
ROW_SET_ASIDE = Rejection(code="row_set_aside", text="its row was set aside, too")
GROUP_ROWS_MAX = 10_000
"""More rows of one group are not put together again for every entry."""
GROUP_TOO_LARGE = Rejection(code="group_too_large", text="its row was merged with too many others")

EditName = tuple[int, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Became:
    """One change of an entry: what its rows are in the new shape before and after it."""

    change: Change
    before: Outcome = with_default(repr=False)
    after: Outcome = with_default(repr=False)

    @property
    def rejection(self) -> Rejection | None:
        """Why it cannot be converted, when it cannot."""
        return self.after if isinstance(self.after, Rejection) else None

    def changes(self, *, known: Collection[str], has: Callable[[str], bool]) -> list[Change]:
        """What it does in the new shape. `known` are the columns of the old one; `has`: see `changes_between`.

        A row that could not be converted before the change and can be after it is put whole.
        """
        assert not isinstance(self.after, Rejection)
        before = {} if isinstance(self.before, Rejection) else self.before
        unknown = {name: value for name, value in (self.change.set or {}).items() if name not in known}
        return changes_between(self.change, before=before, after=self.after, unknown=unknown, has=has)


def name_of(edit: Queued) -> EditName:
    """Tells an entry and its quarantine item apart."""
    return (edit.entry_id, edit.item_id)


def row_outcomes(
    units: "Iterable[Unit]", making: Making, *, set_aside: "Collection[RowName]"
) -> dict[EditName, list[Became]]:
    """Of each entry what its changes became, row by row. `set_aside` are rows that are not in the new table."""
    ways = [
        (unit.owner, way)
        for unit in units
        for key, changes in unit.changes_by_key().items()
        for way in _of_row(unit.owner, key, changes, making, set_aside)
    ]
    made = _made(ways, making)
    outcomes: dict[EditName, list[Became]] = {}
    for place, (_, way) in enumerate(ways):
        became = Became(change=way.change, before=made[2 * place], after=made[2 * place + 1])
        outcomes.setdefault(name_of(way.edit), []).append(became)
    return outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """A passage, and whether its end is a row that the new table could not take."""

    edit: Queued
    change: Change
    before: State = with_default(repr=False)
    after: State | Rejection = with_default(repr=False)


def _of_row(
    owner: str,
    key: str,
    changes: list[tuple[Queued, Change]],
    making: Making,
    set_aside: "Collection[RowName]",
) -> list[_Way]:
    if all(change.names_only_its_row for _, change in changes):
        return []
    found: list[Passage] = passages(changes, live=making.live(owner, key))
    ways = [_Way(edit=one.edit, change=one.change, before=one.before, after=one.after) for one in found]
    if (owner, key) in set_aside and ways[-1].after is not None:
        last = ways[-1]
        ways[-1] = _Way(edit=last.edit, change=last.change, before=last.before, after=ROW_SET_ASIDE)
    return [way for way in ways if not way.change.names_only_its_row]


def _made(ways: "list[tuple[str, _Way]]", making: Making) -> list[Outcome]:
    """Of each way the outcome before and after it."""
    found: list[Outcome] = []
    wanted: dict[str, list[tuple[int, Values]]] = {}
    for owner, way in ways:
        for state in (way.before, way.after):
            if isinstance(state, dict):
                wanted.setdefault(owner, []).append((len(found), state))
            found.append(_without_row(state, way.change))
    for owner, states in wanted.items():
        outcomes = making.made_of([state for _, state in states], owner=owner)
        for (place, _), outcome in zip(states, outcomes, strict=True):
            found[place] = outcome
    return found


def _without_row(state: State | Rejection, change: Change) -> Outcome:
    if isinstance(state, Rejection):
        return state
    # A delete of a row that nobody remembers is a delete of its key.
    return ROW_UNKNOWN if state is Unknown.ROW and change.kind != "delete" else {}


class GroupOutcomes:
    """The same where rows of one owner with one value become one row: the whole group, before and after."""

    def __init__(self, unit: "Unit", making: Making, *, group_by: str) -> None:
        self._unit = unit
        self._making = making
        self._group_by = group_by
        self._rows: dict[str, Values] = {}
        """All rows of the groups that matter, as they are at the point that was reached."""
        self._after: dict[EditName, list[Passage]] = {}

    def found(self, *, set_aside: "Collection[RowName]") -> dict[EditName, list[Became]]:
        """Back through time, entry by entry."""
        for key, changes in self._unit.changes_by_key().items():
            for passage in passages(changes, live=self._making.live(self._unit.owner, key)):
                self._after.setdefault(name_of(passage.edit), []).append(passage)
        self._read_groups()
        outcomes: dict[EditName, list[Became]] = {}
        for edit in reversed(self._unit.edits):
            ways = [way for way in self._after.get(name_of(edit), []) if not way.change.names_only_its_row]
            if ways:
                is_aside = any((self._unit.owner, way.change.key) in set_aside for way in ways)
                outcomes[name_of(edit)] = [self._became(ways, is_aside=is_aside)]
        return outcomes

    def _read_groups(self) -> None:
        values = {
            value
            for ways in self._after.values()
            for way in ways
            for state in (way.before, way.after)
            if isinstance(state, dict)
            for value in [state.get(self._group_by)]
        }
        for value in values:
            for row in self._making.live_group(self._unit.owner, self._group_by, value):
                self._rows[key_text(row[self._making.columns.key])] = row

    def _became(self, ways: list[Passage], *, is_aside: bool) -> Became:
        """Also goes back to before these."""
        groups = {
            state.get(self._group_by) for way in ways for state in (way.before, way.after) if isinstance(state, dict)
        }
        self._set({way.change.key: way.after for way in ways})
        after = self._made(groups)
        self._set({way.change.key: way.before for way in ways})
        before = self._made(groups)
        if any(_is_unknown(way) for way in ways):
            after = ROW_UNKNOWN
        return Became(change=ways[0].change, before=before, after=ROW_SET_ASIDE if is_aside else after)

    def _set(self, states: dict[str, State]) -> None:
        for key, state in states.items():
            if isinstance(state, dict):
                self._rows[key] = state
            else:
                self._rows.pop(key, None)

    def _made(self, groups: set[Any]) -> Outcome:
        made: dict[str, Values] = {}
        for value in groups:
            members = [row for row in self._rows.values() if row.get(self._group_by) == value]
            if len(members) > GROUP_ROWS_MAX:
                return GROUP_TOO_LARGE
            outcome = self._making.made_of_group(members, owner=self._unit.owner)
            if isinstance(outcome, Rejection):
                return outcome
            made.update(outcome)
        return made


def _is_unknown(way: Passage) -> bool:
    return Unknown.ROW in (way.before, way.after) and way.change.kind != "delete"
