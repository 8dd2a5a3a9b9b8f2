"""Foreign keys of the store: which rows refer to which, and what becomes of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncengine.local.store import Store


class Action(StrEnum):
    """What a foreign key says becomes of a row whose parent goes (sqlite.org/foreignkeys.html#fk_actions)."""

    NO_ACTION = "NO ACTION"
    RESTRICT = "RESTRICT"
    SET_NULL = "SET NULL"
    SET_DEFAULT = "SET DEFAULT"
    CASCADE = "CASCADE"

    @property
    def refuses(self) -> bool:
        """The parent has to stay."""
        return self in (Action.NO_ACTION, Action.RESTRICT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One foreign key: `columns` of `child` name the row of `parent` with these values in `targets`."""

    child: str
    parent: str
    columns: tuple[str, ...]
    targets: tuple[str, ...]
    on_update: Action
    on_delete: Action

    @property
    def pairs(self) -> Iterable[tuple[str, str]]:
        """Each column of the child with the parent's."""
        return zip(self.columns, self.targets, strict=True)


def references(store: "Store") -> tuple[Reference, ...]:
    """All foreign keys between the store's tables; one that fits no table is left out."""
    names = {str(name).casefold(): str(name) for (name,) in store.rows("outbox", "tables")}
    found = []
    for (child, _), rows in groupby(store.rows("outbox", "foreign_keys"), key=itemgetter(0, 1)):
        parts = list(rows)
        parent = names.get(str(parts[0][2]).casefold())
        targets = None if parent is None else _targets(store, parent, [target for *_, target, _, _ in parts])
        if parent is not None and targets is not None:
            found.append(
                Reference(
                    child=str(child),
                    parent=parent,
                    columns=tuple(str(part[3]) for part in parts),
                    targets=targets,
                    on_update=Action(parts[0][5]),
                    on_delete=Action(parts[0][6]),
                )
            )
    return tuple(found)


def _targets(store: "Store", parent: str, named: list[str | None]) -> tuple[str, ...] | None:
    """A foreign key that names no columns means the parent's primary key, column by column."""
    if None not in named:
        return tuple(map(str, named))
    primary = tuple(str(name) for (name,) in store.rows("outbox", "primary_key", collection=parent))
    return primary if len(primary) == len(named) else None


def column_default(store: "Store", table: str, column: str) -> Any:
    """What the column of a row holds that does not name it."""
    expression = store.value("outbox", "column_default", collection=table, column=column)
    return None if expression is None else store.query(f"SELECT {expression}")[0][0]


def by_parent(found: Iterable[Reference]) -> Mapping[str, tuple[Reference, ...]]:
    """The foreign keys that lead to each table."""
    onto: defaultdict[str, list[Reference]] = defaultdict(list)
    for reference in found:
        onto[reference.parent].append(reference)
    return {parent: tuple(each) for parent, each in onto.items()}


def by_child(found: Iterable[Reference]) -> Mapping[str, tuple[Reference, ...]]:
    """The foreign keys of each table."""
    of: defaultdict[str, list[Reference]] = defaultdict(list)
    for reference in found:
        of[reference.child].append(reference)
    return {child: tuple(each) for child, each in of.items()}


__all__ = ["Action", "Reference", "by_child", "by_parent", "column_default", "references"]
