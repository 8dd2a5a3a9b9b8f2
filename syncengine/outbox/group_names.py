"""Which group an entry belongs to, for those who read a queue in its order; the view `_sync_group` says it of one.

What a trigger wrote goes with the entry before it, so a group needs its name before one of its members leaves alone:
whoever takes such a one out has all named first (`file_entries`).
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncengine.local.store import Store

Row = tuple[Any, ...]


def with_groups(store: "Store", rows: list[Row], *, place: int, before: Sequence[Any] = ()) -> list[Row]:
    """Each with the name of its group at `place`, which is None where the entry goes with the one before it.

    That may be an entry of another user, so it need not be among the rows. They begin with the number of the entry.
    `before`: the last row of the page before.
    """
    if None not in map(itemgetter(place), rows):
        return rows
    named: list[Row] = []
    last = before
    for row in rows:
        if row[place] is None:
            last = (*row[:place], _group_before(store, row[0], last, place=place), *row[place + 1 :])
        else:
            last = row
        named.append(last)
    return named


def goes_with_others(rows: Sequence[Row], *, place: int, before: Sequence[Any] = ()) -> bool:
    """Whether one of them goes with an entry before it that is not among them, nor `before`."""
    ids_before = [before[0] if before else None, *(row[0] for row in rows)]
    return any(row[place] is None and row[0] - 1 != last for row, last in zip(rows, ids_before, strict=False))


def _group_before(store: "Store", entry_id: int, last: Sequence[Any], *, place: int) -> int:
    if last and last[0] == entry_id - 1:
        return int(last[place])
    begin = store.value("outbox", "begin_of_group", after=last[0] if last else 0, entry_id=entry_id)
    return int(last[place] if begin is None else begin)


__all__ = ["goes_with_others", "with_groups"]
