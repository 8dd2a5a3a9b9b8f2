"""What becomes of a row that was changed here and at the cloud: a pure decision, field by field.

The cloud's row is the ground; the edits that were not sent yet are done again on top of it. A field that both sides
changed to different values is a conflict: the collection's policy decides it, and it is told in any case.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Fields = Mapping[str, Any]
"""A row, or a part of it: JSON values by the names of its columns."""

Decide = Callable[[Fields | None, Fields | None, Fields | None], Fields | None]
"""`Collection(merge=function)`: asked with the row as it was before the local edits, as it is here, and as it is at
the cloud; None for a row that is not there. Returns the row as it shall be, None to delete it. A field that is left
out is the one side's that changed it; the cloud's, where both did."""

WHOLE_ROW = "*"
"""In place of a field: the conflict is about the row itself, which one side deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """An entry of the outbox for the row. `set` None: a delete, or a put of the row as it is when it is sent."""

    entry_id: int
    kind: str
    set: Fields | None = field(default=None, repr=False)
    before: Fields | None = field(default=None, repr=False)
    frozen: bool = False
    """It has a number, and may be at the cloud: it stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Both sides changed a field. `winner`: local, server or merged."""

    local: Any = field(repr=False)
    server: Any = field(repr=False)
    winner: str
    field: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """`row`: what the table holds from now on (None: no row). `edits` replace the entries of the same ids, in their
    order; `dropped` entries have nothing left to do, `beaten` ones of them because the cloud's value won; `set_aside`
    ones go to quarantine with the local row."""

    row: Fields | None = field(repr=False)
    edits: tuple[Edit, ...] = ()
    dropped: tuple[int, ...] = ()
    set_aside: tuple[int, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    beaten: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The name of a collection's policy, and its function if it has one. `has_moved`: the edits are in doubt, as
    another copy of this store may have sent them, and the row has changed at the cloud since; so they neither take it
    away nor make it again.
    """

    name: str = "merge"
    decide: Decide | None = None
    has_moved: bool = False

    @property
    def prefers_server(self) -> bool:
        return self.name == "server_wins"


def merged(server: Fields | None, *, local: Fields | None, edits: Sequence[Edit], policy: Policy) -> Merged:
    """The row and the edits after the cloud's row came in. `local` is the row as it is here; None: not there.

    `server` None: deleted at the cloud. Without edits the cloud's row is taken as it is. Raises only what the
    policy's function raises.
    """
    if not edits:
        return Merged(row=server)
    outcome = _merged(server, local=local, edits=edits, policy=policy)
    return replace(outcome, beaten=_beaten(outcome, local, edits)) if outcome.conflicts else outcome


def one_after_the_other(first: Merged, then: Merged) -> Merged:
    """Both, where the second was decided on top of the first one's row."""
    return Merged(
        row=then.row,
        edits=first.edits + then.edits,
        dropped=first.dropped + then.dropped,
        set_aside=first.set_aside + then.set_aside,
        conflicts=first.conflicts + then.conflicts,
        beaten=first.beaten | then.beaten,
    )


def _beaten(outcome: Merged, local: Fields | None, edits: Sequence[Edit]) -> frozenset[int]:
    """Of the dropped ones those with a value that lost; the others say what is so already, or were overtaken here."""
    lost = {conflict.field for conflict in outcome.conflicts if conflict.winner != "local"}
    return frozenset(
        edit.entry_id
        for edit in edits
        if edit.entry_id in outcome.dropped and (WHOLE_ROW in lost or not lost.isdisjoint(_body(edit, local)))
    )


def _merged(server: Fields | None, *, local: Fields | None, edits: Sequence[Edit], policy: Policy) -> Merged:
    here = _Here.of(edits, local)
    if server is None:
        return _over_tombstone(here, local, edits, policy)
    if here.values is None:
        return _deleted_here(server, here, edits, policy)
    return _changed_here(server, here, local, edits, policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Here:
    """What the edits did together. `base`: the row before them as far as they say; None: they made it.

    `values`: the fields that they set, and to what; None: they deleted the row. `sent`: what the cloud may have of
    them already, by field.
    """

    base: Fields | None
    values: Fields | None
    sent: Mapping[str, Sequence[Any]]

    @classmethod
    def of(cls, edits: Sequence[Edit], local: Fields | None) -> "_Here":
        base: dict[str, Any] = {}
        values: dict[str, Any] | None = {}
        sent: dict[str, list[Any]] = {}
        is_made_anew = False
        for edit in edits:
            for name, value in _body(edit, local).items() if edit.frozen and edit.kind != "delete" else ():
                sent.setdefault(name, []).append(value)
            if not is_made_anew:
                for name, value in (edit.before or {}).items():
                    base.setdefault(name, value)
            if edit.kind == "delete":
                values = None
            elif edit.kind == "put":
                is_made_anew = True
                values = dict(_body(edit, local))
            else:
                values = {**(values or {}), **_body(edit, local)}
        return cls(base=None if edits[0].kind == "put" else base, values=values, sent=sent)

    def base_row(self, local: Fields | None) -> Fields | None:
        """The whole row as it was before the edits; what they do not name is as it is here."""
        return None if self.base is None else {**(local or {}), **self.base}


def _body(edit: Edit, local: Fields | None) -> Fields:
    return (local or {}) if edit.set is None else edit.set


# Living at the cloud, and edited here.


def _changed_here(server: Fields, here: _Here, local: Fields | None, edits: Sequence[Edit], policy: Policy) -> Merged:
    assert here.values is not None
    clashing = [name for name, mine in here.values.items() if _clashes(name, mine, server, here)]
    wanted: Fields | None = {**server, **here.values}
    undisputed = {**server, **{name: mine for name, mine in here.values.items() if name not in clashing}}
    if clashing and policy.prefers_server:
        wanted = undisputed
    elif clashing and policy.decide is not None:
        present = {**server, **(local or {}), **here.values}
        wanted = _over(undisputed, policy.decide(here.base_row(local), present, server))
    conflicts = tuple(
        _conflict(name, local=here.values[name], server=server.get(name), row=wanted) for name in clashing
    )
    if wanted is None:
        return replace(_delete_instead(server, edits), conflicts=conflicts)
    return replace(_replayed(server, wanted, local, edits), conflicts=conflicts)


def _clashes(name: str, mine: Any, server: Fields, here: _Here) -> bool:
    if name not in server or server[name] == mine or server[name] in here.sent.get(name, ()):
        return False
    return here.base is None or name not in here.base or here.base[name] != server[name]


def _over(row: Fields | None, decided: Fields | None) -> Fields | None:
    return None if decided is None else {**(row or {}), **decided}


def _conflict(name: str, *, local: Any, server: Any, row: Fields | None) -> Conflict:
    value = None if row is None else row.get(name)
    winner = "local" if value == local else "server" if value == server else "merged"
    return Conflict(field=name, local=local, server=server, winner=winner)


def _replayed(server: Fields, wanted: Fields, local: Fields | None, edits: Sequence[Edit]) -> Merged:
    """Each edit once more, from the cloud's row to the wanted one; one that changes nothing any more is dropped."""
    state = dict(server)
    last = max((number for number, edit in enumerate(edits) if not edit.frozen), default=-1)
    kept: list[Edit] = []
    dropped: list[int] = []
    for number, edit in enumerate(edits):
        if edit.frozen:
            state.update(_body(edit, local) if edit.kind != "delete" else {})
            continue
        new = _names_of_edit(edit, local, wanted, state)
        if number == last:
            new |= {name: value for name, value in wanted.items() if _differs(state, name, value)}
        if not new:
            dropped.append(edit.entry_id)
        elif edit.kind == "put" and edit.set is None:
            state.update(new)  # it is sent as the row is then
        else:
            before = {name: state.get(name) for name in new}
            kept.append(replace(edit, kind="patch", set=new, before=before))
            state.update(new)
    return Merged(row={**state, **wanted}, edits=tuple(kept), dropped=tuple(dropped))


def _names_of_edit(edit: Edit, local: Fields | None, wanted: Fields, state: Fields) -> dict[str, Any]:
    """What an edit still changes: not a field that the cloud won in the end, nor what is so already."""
    if edit.kind == "delete":
        return {}
    return {
        name: value
        for name, value in _body(edit, local).items()
        if _differs(state, name, value) and (name not in state or _differs(state, name, wanted.get(name)))
    }


def _differs(state: Fields, name: str, value: Any) -> bool:
    return name not in state or state[name] != value


def _delete_instead(server: Fields, edits: Sequence[Edit]) -> Merged:
    """The last edit deletes the row; the others have nothing left to do."""
    free = [edit for edit in edits if not edit.frozen]
    last = tuple(replace(edit, kind="delete", set=None, before=server) for edit in free[-1:])
    return Merged(row=None, edits=last, dropped=_ids(free[:-1]))


# Living at the cloud, and deleted here.


def _deleted_here(server: Fields, here: _Here, edits: Sequence[Edit], policy: Policy) -> Merged:
    deleting = _delete_instead(server, edits)
    if (
        not policy.has_moved
        and here.base is not None
        and all(server.get(name) == value for name, value in here.base.items())
    ):
        return deleting
    row: Fields | None = None
    if policy.prefers_server:
        row = server
    elif policy.decide is not None:
        row = _over(server, policy.decide(here.base, None, server))
    winner = "local" if row is None else "server" if row == server else "merged"
    conflict = Conflict(field=WHOLE_ROW, local=None, server=server, winner=winner)
    if row is None:
        return replace(deleting, conflicts=(conflict,))
    return replace(_instead_of_delete(server, row, edits), conflicts=(conflict,))


def _instead_of_delete(server: Fields, row: Fields, edits: Sequence[Edit]) -> Merged:
    """The row is back; the last edit becomes what its function changed about it, if anything."""
    free = [edit for edit in edits if not edit.frozen]
    new = {name: value for name, value in row.items() if _differs(server, name, value)}
    if not new or not free:
        return Merged(row=row, dropped=_ids(free))
    before = {name: server.get(name) for name in new}
    last = replace(free[-1], kind="patch", set=new, before=before)
    return Merged(row=row, edits=(last,), dropped=_ids(free[:-1]))


# Deleted at the cloud, and edited here.


def _over_tombstone(here: _Here, local: Fields | None, edits: Sequence[Edit], policy: Policy) -> Merged:
    free = [edit for edit in edits if not edit.frozen]
    if here.values is None:
        return Merged(row=None, dropped=_ids(free))
    making = max((number for number, edit in enumerate(free) if edit.kind == "put"), default=None)
    if making is not None and policy.has_moved:
        conflict = Conflict(field=WHOLE_ROW, local=local, server=None, winner="server")
        return Merged(row=None, dropped=_ids(free), conflicts=(conflict,))
    if making is not None:
        # It was made, or made again, here: what was done to it before is over.
        return Merged(row=local, dropped=_ids(free[:making]))
    if any(edit.frozen and edit.kind == "put" for edit in edits):
        return Merged(row=local)
    row: Fields | None = None
    if policy.name == "client_wins":
        row = local
    elif policy.decide is not None:
        row = _over(local, policy.decide(here.base_row(local), local, None))
    winner = "server" if row is None else "local" if row == local else "merged"
    conflicts = (Conflict(field=WHOLE_ROW, local=local, server=None, winner=winner),)
    if row is None:
        told = _ids(free)
        return Merged(row=None, set_aside=told, conflicts=conflicts)
    again = tuple(replace(edit, kind="put", set=row, before=None) for edit in free[-1:])
    return Merged(row=row, edits=again, dropped=_ids(free[:-1]), conflicts=conflicts)


def _ids(edits: Sequence[Edit]) -> tuple[int, ...]:
    return tuple(edit.entry_id for edit in edits)
