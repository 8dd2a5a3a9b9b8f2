"""What waits, page by page, cut into parts: groups as they are, and stretches of edits with nothing special."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter, ne
from typing import TYPE_CHECKING, Any

import orjson

from syncengine.outbox.filing import file_entries
from syncengine.outbox.group_names import goes_with_others, with_groups
from syncengine.outbox.sendable import INTEGER_MAX, INTEGER_MIN, KEY_BYTES_MAX, is_plain, is_plain_key

if TYPE_CHECKING:
    from syncengine.local.store import Store

Row = tuple[Any, ...]
"""As `waiting` selects it: an entry, and what is known of its row at the cloud."""
Part = tuple[bool, list[Row]]
"""True: edits with bodies beyond doubt, each a group of its own, or all of one. False: the rows of one group."""

WINDOW_IDS, PASSED_IDS_MAX = 5_000, 2_500
UTF8_BYTES_MAX = 4
"""Of one letter."""
OWNER, KEY, BODY, GROUP = 1, 6, 7, 12
EXTRA, IS_UNPULLED, MAY_BE_PLAIN = 21, 22, 23
_ROW = itemgetter(5, 6)
_VALUES_OF_KIND = frozenset({str, int, float, bool, type(None)})


def waiting_parts(
    store: "Store",
    owner: str,
    *,
    page_entries: Callable[[int], int],
    is_full: Callable[[], bool],
    on_their_way: Sequence[int] = (),
) -> Iterator[Part]:
    """All that waits, oldest first. `page_entries`: how many are read at once, asked before each page
    with how many are read already and belong to its first group.
    `is_full`: asked after each; then what is read already of a group of several rows is not read to its end.
    `on_their_way`: entries of this owner that do not wait, as they are being sent.

    A queue may be longer than memory should hold.
    """
    rest: list[Row] = []
    group_entries_max, group_bytes_max = store.settings.group_entries_max, store.settings.group_bytes_max

    def room() -> int:
        return page_entries(len(rest))

    for page in _pages(store, owner, room, on_their_way):
        rows = rest + page
        if len(rows) > group_entries_max:
            rows = _in_groups_of_at_most(group_entries_max, rows, store=store)
        if _letters(rows) > group_bytes_max // UTF8_BYTES_MAX:
            rows = _in_groups_of_bytes(group_bytes_max, rows, store=store)
        cut = _begin_of_last_group(rows)
        rest = rows[cut:]
        yield from _parts(rows[:cut])
        if is_full() and len(set(map(_ROW, rest))) > 1:
            return  # nothing is added to a full batch, and no group of several rows is joined to what is in it
    yield from _parts(rest)


def _pages(
    store: "Store", owner: str, page_entries: Callable[[], int], on_their_way: Sequence[int]
) -> Iterator[list[Row]]:
    filed_to, oldest_behind, newest = store.rows("outbox", "filed_to")[0]
    yield from _filed_pages(store, owner, page_entries, after=0, until=filed_to)
    after = max(filed_to, oldest_behind - 1)
    before: Row = ()
    while after < newest:
        entries_max = page_entries()
        until = min(after + WINDOW_IDS, newest)
        page = store.rows("outbox", "waiting_behind", owner=owner, after=after, until=until, entries_max=entries_max)
        if page and goes_with_others(page, place=GROUP, before=before):
            # Their group has to have its name before a part of it leaves.
            file_entries(store)
            yield from _filed_pages(store, owner, page_entries, after=after, until=newest)
            return
        if page:
            page = with_groups(store, page, place=GROUP, before=before)
            before = page[-1]
            yield page
        if len(page) == entries_max:
            after = page[-1][0]
        elif _others(after, until, on_their_way) - len(page) < PASSED_IDS_MAX:
            after = until
        else:
            # Others wait there, too, and more than one would pass each time.
            file_entries(store)
            yield from _filed_pages(store, owner, page_entries, after=until, until=newest)
            return


def _others(after: int, until: int, on_their_way: Sequence[int]) -> int:
    """How many ids there are behind one, up to another; those on their way leave soon, and are not passed again."""
    return (until - after) - sum(after < entry_id <= until for entry_id in on_their_way)


def _filed_pages(
    store: "Store", owner: str, page_entries: Callable[[], int], *, after: int, until: int
) -> Iterator[list[Row]]:
    while after < until:
        entries_max = page_entries()
        page = store.rows("outbox", "waiting", owner=owner, after=after, until=until, entries_max=entries_max)
        if page:
            yield page
        if len(page) < entries_max:
            return
        after = page[-1][0]


def _in_groups_of_at_most(entries_max: int, rows: list[Row], *, store: "Store") -> list[Row]:
    """Cut what no block of `engine.write()` has made, which is judged before it commits: the cloud takes no more."""
    cut: list[Row] = []
    for group_id, run in groupby(rows, key=itemgetter(GROUP)):
        group = list(run)
        if len(group) > entries_max:
            first = group[0][0]
            _cut(store, group[0], group_id=group_id, entries_max=entries_max)
            group = [_of_group(row, first + (row[0] - first) // entries_max * entries_max) for row in group]
        cut += group
    return cut


def _letters(rows: list[Row]) -> int:
    return sum(map(len, filter(None, map(itemgetter(BODY), rows))))


def _in_groups_of_bytes(bytes_max: int, rows: list[Row], *, store: "Store") -> list[Row]:
    """The same for few and large rows. What is read later of a group belongs to its last part."""
    cut: list[Row] = []
    for group_id, run in groupby(rows, key=itemgetter(GROUP)):
        size_bytes, part = 0, group_id
        for row in run:
            row_bytes = len((row[BODY] or "").encode())
            if size_bytes and size_bytes + row_bytes > bytes_max:
                size_bytes, before, part = 0, part, row[0]
                _cut(store, row, group_id=before, entries_max=INTEGER_MAX)
            size_bytes += row_bytes
            cut.append(row if part == group_id else _of_group(row, part))
    return cut


def _cut(store: "Store", first: Row, *, group_id: int, entries_max: int) -> None:
    """From this entry of a group on."""
    store.run("outbox", "cut_group", first=first[0], owner=first[OWNER], group_id=group_id, entries_max=entries_max)


def _of_group(row: Row, group_id: int) -> Row:
    return (*row[:GROUP], group_id, *row[GROUP + 1 :])


def _begin_of_last_group(rows: list[Row]) -> int:
    begin = len(rows) - 1
    while begin and rows[begin - 1][GROUP] == rows[begin][GROUP]:
        begin -= 1
    return begin


def _parts(rows: list[Row]) -> Iterator[Part]:
    groups = [row[GROUP] for row in rows]
    are_plain = _are_plain(rows)
    if all(map(ne, groups, groups[1:])):
        yield from _stretches(rows, are_plain)
        return
    place = 0
    for is_alone, run in groupby(map(_is_other, groups, [None, *groups], [*groups[1:], None])):
        end = place + sum(1 for _ in run)
        if is_alone:
            yield from _stretches(rows[place:end], are_plain[place:end])
        else:
            yield from _groups(rows[place:end], are_plain[place:end])
        place = end


def _stretches(rows: list[Row], are_plain: list[bool]) -> Iterator[Part]:
    """Of rows that are groups of their own."""
    place = 0
    for is_plain_here, run in groupby(are_plain):
        part = rows[place : place + sum(1 for _ in run)]
        place += len(part)
        if is_plain_here:
            yield True, part
        else:
            yield from ((False, [row]) for row in part)


def _groups(rows: list[Row], are_plain: list[bool]) -> Iterator[Part]:
    place = 0
    for _, run in groupby(rows, key=itemgetter(GROUP)):
        group = list(run)
        yield all(are_plain[place : place + len(group)]), group
        place += len(group)


def _are_plain(rows: list[Row]) -> list[bool]:
    if not rows:
        return []
    may_be = [bool(row[MAY_BE_PLAIN]) for row in rows]
    looked_at = rows if all(may_be) else [row for row, may in zip(rows, may_be, strict=True) if may]
    if _are_beyond_doubt([row[KEY] for row in looked_at], [row[BODY] for row in looked_at]):
        return may_be
    return [may and is_plain_key(row[KEY]) and is_plain(row[BODY]) for row, may in zip(rows, may_be, strict=True)]


def _is_other(group: int, before: int | None, after: int | None) -> bool:
    return before != group != after


def _are_beyond_doubt(keys: list[str], bodies: list[str]) -> bool:
    """`is_plain_key` and `is_plain` of all at once, in half the time; False says nothing of any one of them."""
    if not keys:
        return True
    every_key = "".join(keys)
    if not (every_key.isascii() and every_key.isprintable() and len(min(keys, key=len)) > 0):
        return False
    if len(max(keys, key=len)) > KEY_BYTES_MAX or "\\u0000" in "".join(bodies):
        return False
    try:
        # Each object is dropped at once: thousands that stay would be searched for garbage again and again.
        values = list(chain.from_iterable(map(dict.values, map(orjson.loads, bodies))))
    except (orjson.JSONDecodeError, TypeError):  # TypeError: no object
        return False
    if not _VALUES_OF_KIND.issuperset(map(type, values)):
        return False
    numbers = [value for value in values if value.__class__ is int or value.__class__ is float]
    return not numbers or INTEGER_MIN <= min(numbers) <= max(numbers) < INTEGER_MAX


__all__ = ["BODY", "EXTRA", "GROUP", "IS_UNPULLED", "KEY", "Part", "Row", "waiting_parts"]
