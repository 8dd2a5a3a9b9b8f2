"""What an entry says in the new shape: the difference between what its rows became before it and after it. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as with_default
from typing import Any

from syncengine.migrate.declared_values import same_value
from syncengine.migrate.entries_body import Values, json_of, json_text
from syncengine.migrate.entries_chain import Change, Queued

Made = Mapping[str, Values]
"""Rows of the new shape by key, without their owner."""

HAS_NEVER_BEEN = 0
"""The `if_version` of a change that is left out where the cloud has the row already, or had it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How an entry travels from now on."""

    kind: str
    row_key: str
    set_json: str | None = with_default(default=None, repr=False)
    before_json: str | None = with_default(default=None, repr=False)


def changes_between(
    change: Change,
    *,
    before: Made,
    after: Made,
    unknown: Values,
    has: Callable[[str], bool],
) -> list[Change]:
    """What takes the rows that were made before a change to those made after it.

    `unknown` are fields that the old shape had no column for: they go on. `has` tells of a row beside the changed one
    whether the cloud has it, or will by then: where not, it is sent whole first, unless another device was quicker.
    """
    found = [Change(kind="delete", key=key, before=row) for key, row in before.items() if key not in after]
    if change.kind == "delete" and change.key not in before:
        found.insert(0, Change(kind="delete", key=change.key))
    for key, row in after.items():
        more = unknown if key == change.key else {}
        if key not in before:
            found.append(Change(kind="put", key=key, set={**row, **more}, if_version=change.if_version))
            continue
        edited = _difference(key, before[key], {**row, **more})
        if edited is not None and key != change.key and not has(key):
            found.append(Change(kind="put", key=key, set=before[key], if_version=HAS_NEVER_BEEN))
        found += [edited] if edited is not None else []
    return found


def _difference(key: str, old: Values, new: Values) -> Change | None:
    names = [name for name, value in new.items() if name not in old or not same_value(old[name], value)]
    if not names:
        return None
    return Change(
        kind="patch",
        key=key,
        set={name: new[name] for name in names},
        before={name: old[name] for name in names if name in old},
    )


def form_of(edit: Queued, changes: Sequence[Change], *, collection: str, takes_new_key: bool) -> Form | None:
    """The new form; None for an entry of which nothing is left. One that holds a number is never None.

    `takes_new_key`: where all it does is done to one row under a new key, it may become an entry of that row.
    """
    if not changes:
        # The cloud expects every number: it arrives empty, as that of a body that cannot be sent.
        return Form(kind="void", row_key=edit.row_key) if edit.has_number else None
    (first, *more) = changes
    if not more and first.if_version is None and (first.key == edit.row_key or takes_new_key):
        kind = "lift" if edit.kind == "lift" and first.kind == "put" else first.kind
        return Form(kind=kind, row_key=first.key, set_json=json_of(first.set), before_json=json_of(first.before))
    return Form(kind="changes", row_key=edit.row_key, set_json=members_json(changes, collection=collection))


def members_json(changes: Sequence[Change], *, collection: str) -> str:
    """The `set_json` of an entry that does all this together."""
    return json_text([_member(change, collection) for change in changes])


def _member(change: Change, collection: str) -> dict[str, Any]:
    said = {"kind": change.kind, "collection": collection, "key": change.key}
    member: dict[str, Any] = {**said, "set": change.set, "before": change.before}
    if change.if_version is not None:
        member["if_version"] = change.if_version
    return member
