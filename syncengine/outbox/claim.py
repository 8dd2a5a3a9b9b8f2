"""Choose what is sent next, give it numbers, and freeze it on disk before a byte leaves the device."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from syncengine.errors import QuotaExceeded, TextUnreadable
from syncengine.outbox.choice import Choice, Limits, claimed_entries, units
from syncengine.outbox.delivery import Event, State, next_state
from syncengine.outbox.entry import Batch, Entry, Kind, entry_of, numbered
from syncengine.outbox.filing import file_entries
from syncengine.outbox.firing_order import put_in_order
from syncengine.outbox.holding import hold_behind_open_items
from syncengine.outbox.numbered_rows import BASE_VERSION, ENTRY_ID, GROUP, KIND, NumberedRows
from syncengine.outbox.numbering import DrainState, ensure_drain, has_doubtful
from syncengine.outbox.shared_keys import set_aside_shared_keys
from syncengine.outbox.unreadable_keys import set_aside_unreadable

if TYPE_CHECKING:
    from syncengine.local.store import Store

RUN_ENTRIES_MIN = 4
"""Shorter runs of ids are not worth a statement of their own."""


def claim(
    store: "Store",
    owner: str,
    *,
    limits: Limits,
    token: str | None = None,
    fresh: bool = True,
    behind: Batch | None = None,
) -> Batch:
    """The next batch of one queue, durable before it is returned; empty when nothing can be sent.

    First comes what is claimed already: same numbers, same bodies, same order. Only then are waiting entries
    numbered, oldest first and groups whole (`fresh=False`: never), and edits of one row joined. What a migration step
    or a quarantine item holds back is passed over. A step of a migration comes alone, and without a number.
    Where the cloud had no room, what waits comes along with what is claimed.

    `token` is by chance, another one each time: it tells this claim from that of a copy of the store. `behind` is a
    batch that is on its way now: what comes after it is claimed, and no step of a migration.

    While something is queued that another copy of this store may have sent, the cloud is asked to apply nothing on
    a row that has changed there, and nothing newer is joined to it.
    """
    with store.transaction(durable=True):
        drain = ensure_drain(store, owner)
        put_in_order(store)
        doubtful_to = drain.doubtful_to if drain.doubtful_to and has_doubtful(store, owner) else 0
        refusing = _refusing(store, all_of_them=doubtful_to > 0)
        entries: Sequence[Entry] = _claimed_again(
            store, owner, limits, epoch=drain.epoch, after=_last_sequence(behind)
        )
        if not entries and fresh:
            entries = _claimed_now(store, owner, limits, drain, token=token, behind=behind, refusing=refusing)
        elif fresh and drain.last_error == QuotaExceeded.code() and len(entries) < limits.entries_max:
            # The cloud had no room for these alone; a deletion that waits behind them may make some.
            known = Batch(owner=owner, epoch=drain.epoch, entries=entries, refusing=refusing)
            left = _left(limits, entries)
            more = _claimed_now(store, owner, left, drain, token=token, behind=known, refusing=refusing)
            entries = (*entries, *more)
        return Batch(owner=owner, epoch=drain.epoch, entries=entries, refusing=refusing)


def _refusing(store: "Store", *, all_of_them: bool) -> frozenset[str]:
    """Collections whose entries the cloud shall not apply on a row that has changed there."""
    if all_of_them:
        return frozenset(name for name, *_ in store.rows("outbox", "synced_collections"))
    return frozenset(name for (name,) in store.rows("outbox", "refusing_collections"))


def _left(limits: Limits, entries: Sequence[Entry]) -> Limits:
    size_bytes = sum(entry.size_bytes for entry in entries)
    return replace(
        limits, entries_max=limits.entries_max - len(entries), bytes_max=max(limits.bytes_max - size_bytes, 0)
    )


def _last_sequence(behind: Batch | None) -> int:
    return (behind.entries[-1].sequence or 0) if behind is not None and behind.entries else 0


def _claimed_again(store: "Store", owner: str, limits: Limits, *, epoch: int, after: int) -> tuple[Entry, ...]:
    batch: list[Entry] = []
    size_bytes = 0
    for unit in _parts(units(claimed_entries(store, owner, limits, epoch=epoch, after=after))):
        size_bytes += sum(entry.size_bytes for entry in unit)
        if batch and (len(batch) + len(unit) > limits.entries_max or size_bytes > limits.bytes_max):
            break
        batch += unit
    return tuple(map(_emptied, batch))


def _parts(groups: Iterator[list[Entry]]) -> Iterator[list[Entry]]:
    """Groups whole. Empty numbers are nobody's: as many as were too much for one request are sent in several."""
    for group in groups:
        if all(entry.kind is Kind.VOID for entry in group):
            yield from ([entry] for entry in group)
        else:
            yield group


def _emptied(entry: Entry) -> Entry:
    """An empty number travels without its row's name, which may be what could not be sent."""
    return entry._replace(collection="", row_key="") if entry.kind is Kind.VOID else entry


def _claimed_now(
    store: "Store",
    owner: str,
    limits: Limits,
    drain: DrainState,
    *,
    token: str | None,
    behind: Batch | None,
    refusing: frozenset[str],
) -> Sequence[Entry]:
    choices = partial(Choice, store, owner, limits, behind=behind, refusing=refusing, doubtful_to=drain.doubtful_to)
    chosen, choice = _choose_behind_items(store, owner, choices)
    if not chosen or chosen[0][KIND] == Kind.MIGRATION:
        return tuple(map(entry_of, chosen))
    return _number(store, chosen, choice, drain, token=token)


def _choose_behind_items(
    store: "Store", owner: str, choices: Callable[[], Choice]
) -> tuple[list[tuple[Any, ...]], Choice]:
    try:
        with store.savepoint("choose"):
            return _choose_what_may_go(store, owner, choices)
    except TextUnreadable:
        # A key or a text that no request can carry.
        set_aside_unreadable(store, owner)
    return _choose_what_may_go(store, owner, choices)


def _choose_what_may_go(
    store: "Store", owner: str, choices: Callable[[], Choice]
) -> tuple[list[tuple[Any, ...]], Choice]:
    set_aside_shared_keys(store, owner)
    hold_behind_open_items(store, owner)
    return _choose(store, choices)


def _choose(store: "Store", choices: Callable[[], Choice]) -> tuple[list[tuple[Any, ...]], Choice]:
    while True:
        choice = choices()
        entries = choice.entries()
        # Each time round, an entry has left the queue: it is unreadable, or its row came and went.
        if entries or not (choice.has_set_aside or choice.squash.vanished):
            return entries, choice
        if not choice.has_set_aside:
            file_entries(store)
            _let_vanish(store, choice)


def _number(
    store: "Store", chosen: list[tuple[Any, ...]], choice: Choice, drain: DrainState, *, token: str | None
) -> Sequence[Entry]:
    entries = _numbered(store, chosen, choice, drain, token=token)
    _write_joined(store, choice)
    _let_vanish(store, choice)
    next_sequence = drain.next_sequence + len(entries)
    store.run("drain", "take_sequences", owner=entries[0].owner, next_sequence=next_sequence)
    # What is written from now on is another group, even by a process that began before.
    store.run("outbox", "close_group")
    return entries


def _numbered(
    store: "Store", chosen: list[tuple[Any, ...]], choice: Choice, drain: DrainState, *, token: str | None
) -> Sequence[Entry]:
    claimed = next_state(State.WAITING, Event.CLAIM)
    if set(map(type, chosen)) == {tuple}:
        rows = NumberedRows(
            chosen, first=drain.next_sequence, epoch=drain.epoch, state=claimed, token=token, names=choice.rows
        )
        if chosen[-1][ENTRY_ID] - chosen[0][ENTRY_ID] + 1 == len(chosen):
            _write_run(store, chosen, first=rows[0])
        else:
            _write_numbers_of(store, chosen, list(rows))
        return rows
    entries = numbered(chosen, first=drain.next_sequence, epoch=drain.epoch, state=claimed, token=token)
    _write_numbers_of(store, chosen, entries)
    return tuple(entries)


def _write_numbers_of(store: "Store", chosen: list[tuple[Any, ...]], entries: list[Entry]) -> None:
    """Those to which nothing was done, by runs of ids that follow each other; the others one by one."""
    one_by_one: list[Entry] = []
    place = 0
    for (is_as_it_was, _), run in groupby(map(_as_it_was, chosen, entries)):
        length = sum(1 for _ in run)
        if is_as_it_was and length >= RUN_ENTRIES_MIN:
            _write_run(store, chosen[place : place + length], first=entries[place])
        else:
            one_by_one += entries[place : place + length]
        place += length
    write_numbers(store, one_by_one)


def _write_run(store: "Store", rows: list[tuple[Any, ...]], *, first: Entry) -> None:
    """Rows of the outbox whose ids follow each other; of rows that the cloud does not have, none is looked for."""
    stands_on_nothing = all(row[BASE_VERSION] is None for row in rows)
    assert first.sequence is not None
    for group_id, begin, last in _runs_of_groups(rows):
        store.run(
            "outbox",
            "number_new_run" if stands_on_nothing else "number_run",
            shift=first.entry_id - first.sequence,
            epoch=first.epoch,
            state=first.state,
            token=first.claim_token,
            group_id=group_id,
            first=begin,
            last=last,
        )


def _runs_of_groups(rows: list[tuple[Any, ...]]) -> Iterator[tuple[int | None, int, int]]:
    """Each group with its first and last entry. None: those in a row whose group is named already or has their id."""
    ids, names = [row[ENTRY_ID] for row in rows], [row[GROUP] for row in rows]
    if ids == names:
        yield None, ids[0], ids[-1]
        return
    groups = groupby(rows, key=itemgetter(GROUP))
    for is_alone, run in groupby((list(group) for _, group in groups), key=_is_alone):
        if is_alone:
            alone = [row[ENTRY_ID] for (row,) in run]
            yield None, alone[0], alone[-1]
        else:
            yield from ((group[0][GROUP], group[0][ENTRY_ID], group[-1][ENTRY_ID]) for group in run)


def _is_alone(group: list[tuple[Any, ...]]) -> bool:
    # Names that the engine has given itself are above every id.
    return len(group) == 1 and group[0][GROUP] >= group[0][ENTRY_ID]


def _as_it_was(chosen: tuple[Any, ...], entry: Entry) -> tuple[bool, int]:
    return type(chosen) is tuple, entry[0] - entry[2]  # type: ignore[operator]  # it has a number now


def _write_joined(store: "Store", choice: Choice) -> None:
    squashed = next_state(State.WAITING, Event.SQUASH)
    travels = choice.squash.travels
    pairs = [(_survivor(entry_id, travels), entry_id) for entry_id in travels]
    store.run_many("outbox", "squash", [(squashed, into, each) for into, each in pairs])
    store.run_many("outbox", "squash_again", pairs)


def _survivor(entry_id: int, travels: dict[int, int]) -> int:
    """Where it ends up: what it was joined to may have been joined itself."""
    while entry_id in travels:
        entry_id = travels[entry_id]
    return entry_id


def _let_vanish(store: "Store", choice: Choice) -> None:
    """Entries of rows that came and went leave, and those that were joined to them."""
    next_state(State.WAITING, Event.NOT_NEEDED)
    travels = choice.squash.travels
    gone = set(choice.squash.vanished)
    gone |= {entry_id for entry_id in travels if _survivor(entry_id, travels) in gone}
    store.run_many("outbox", "delete_squashed", [(entry_id,) for entry_id in gone])
    store.run_many("outbox", "delete", [(entry_id,) for entry_id in gone])


def write_numbers(store: "Store", entries: list[Entry]) -> None:
    """Write down the numbers and the frozen bodies. Inside a durable transaction."""
    store.run_many(
        "outbox",
        "number",
        map(_AS_NUMBERED, entries),
    )


_AS_NUMBERED = attrgetter(
    "sequence",
    "epoch",
    "state",
    "kind",
    "set_json",
    "before_json",
    "base_version",
    "barrier_json",
    "claim_token",
    "group_id",
    "entry_id",
)


__all__ = ["Limits", "claim", "write_numbers"]
