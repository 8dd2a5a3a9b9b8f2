"""Rows of a page that would change rows beyond it: they wait until all has been read.

A child may have been moved or deleted on a later page. Only at the end is known who is left.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from syncengine.sync.calls import PulledRow
from syncengine.sync.kin import Child, Kin
from syncengine.sync.landing import Landing, Landings
from syncengine.sync.merge import Fields
from syncengine.sync.pending import Key


@dataclass(slots=True, kw_only=True)
class _Reaching:
    """A row that is deleted, or that others know by something else from now on, and those others."""

    landing: Landing
    parent: Fields = field(repr=False)
    children: list[Child] = field(repr=False)


def held_back(page: Landings, *, kin: Kin, owner: str) -> list[Landing]:
    """Those that may only be written once all that the cloud has was read."""
    parents = [landing for landing in page.singles if kin.is_parent(landing.table)]
    reaching = [found for landing in parents if (found := _reaching(landing, kin, owner))]
    if not reaching:
        return []
    on_page = _OnPage(page.singles, page.many, kin=kin, owner=owner)
    held: dict[Key, Landing] = {}
    while staying := [each for each in reaching if not on_page.all_leave(each, held)]:
        # Each time round, one at least is held, and what it would have taken along stays as well.
        held |= {_row(each.landing): each.landing for each in staying}
        reaching = [each for each in reaching if _row(each.landing) not in held]
    return list(held.values())


def _reaching(landing: Landing, kin: Kin, owner: str) -> _Reaching | None:
    table, targets = landing.table, None
    if landing.body is not None:
        targets = kin.changed_targets(table, landing.key, landing.body)
    elif landing.lifted is not None:
        return None
    children = [] if targets == {} else kin.children(table, landing.key, targets=targets)
    parent = table.read(owner, landing.key) if children else None
    return None if parent is None else _Reaching(landing=landing, parent=parent, children=children)


class _OnPage:
    """What the page says of rows, by collection and key."""

    def __init__(
        self, landings: Iterable[Landing], many: Mapping[str, Sequence[PulledRow]], *, kin: Kin, owner: str
    ) -> None:
        self._kin = kin
        self._owner = owner
        self._singles = {_row(landing): landing for landing in landings}
        self._many = {(name, item.key): item for name, items in many.items() for item in items}

    def all_leave(self, reaching: _Reaching, held: Mapping[Key, Landing]) -> bool:
        return not reaching.landing.edits and all(
            child.row not in held and self._leaves(child, reaching.parent) for child in reaching.children
        )

    def _leaves(self, child: Child, parent: Fields) -> bool:
        if child.owner != self._owner:
            return False
        landing, item = self._singles.get(child.row), self._many.get(child.row)
        if landing is not None:
            if landing.edits:
                return False
            return landing.body is None or self._kin.leaves(child, landing.body, parent=parent)
        return item is not None and item.body is not None and self._kin.leaves(child, item.body, parent=parent)


def _row(landing: Landing) -> Key:
    return landing.table.name, landing.key


__all__ = ["held_back"]
