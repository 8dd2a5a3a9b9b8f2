"""Where a queued change is: asked by the number that it was given when it was written."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from syncengine.arguments import whole_number
from syncengine.clock import iso
from syncengine.local.identifiers import quoted
from syncengine.outbox.entry import Kind
from syncengine.outbox.holding import HELD

if TYPE_CHECKING:
    from syncengine.local.store import Row, Store
    from syncengine.local.version_table import Readable

ENTRY_NUMBER_MAX = 2**63 - 1
"""What SQLite counts rows with (sqlite.org/datatype3.html)."""
REACHABLE = frozenset({"online", "metered", "unknown"})
"""Verdicts of the probe that are no reason to wait."""


class Where(StrEnum):
    """What has become of an entry."""

    WAITING = "waiting"
    CLAIMED = "claimed"
    SQUASHED = "squashed"
    HELD = "held"
    QUARANTINED = "quarantined"
    CONFIRMED = "confirmed"
    MERGED_AWAY = "merged_away"
    DISCARDED = "discarded"
    UNKNOWN = "unknown"


FINAL = frozenset({Where.CONFIRMED, Where.MERGED_AWAY, Where.DISCARDED, Where.UNKNOWN})
"""Nothing more happens to it."""
_BEFORE_RESTORE = (
    "the cloud had confirmed it, and was restored from an older copy since; rows that it lost are told to it again, "
    "as they stand here: explain() says of a row whether the cloud has it"
)
NEEDS_A_PERSON = frozenset({Where.QUARANTINED, Where.HELD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One queued change, as the store says now. It holds nothing of the row's contents.

    `state`: waiting, claimed (numbered; the cloud may or may not have it), squashed (it travels in entry `into`),
    held (behind quarantine item `item_id`), quarantined (as that item), confirmed (the cloud has it for good, or
    nothing was left to tell it), merged_away (the cloud's value won), discarded (a person gave it up), unknown.
    """

    entry_id: int
    state: Where
    why: str
    """A sentence."""
    owner: str | None = None
    kind: str | None = None
    collection: str | None = None
    key: str | None = None
    sequence: int | None = None
    since: str | None = None
    """When it was written, set aside or merged away, as ISO-8601 UTC."""
    attempts: int = 0
    into: int | None = None
    item_id: int | None = None

    @property
    def is_final(self) -> bool:
        """Nothing more happens to it, whoever acts."""
        return self.state in FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What keeps the whole queue of a user. `until`: no try by ourselves before, as ISO-8601 UTC; None: now."""

    verdict: str
    reason: str
    attempts: int
    error: str | None
    until: str | None

    @property
    def is_reachable(self) -> bool:
        return self.verdict in REACHABLE or self.only_sends

    @property
    def only_sends(self) -> bool:
        """The app is too old to read from the cloud, which takes what waits here."""
        return self.reason == "too_old_to_read"


def rest_of(moment: "Readable", owner: str | None, *, now: str) -> Rest:
    """As far as the store says."""
    network = dict(moment.rows("status", "network", owner=owner))
    waits = moment.rows("receipts", "waits_of_queue", owner=owner, now=now)
    attempts, until, error = waits[0] if waits else (0, None, None)
    return Rest(
        verdict=str(network.get("probe_verdict", "unknown")),
        reason=str(network.get("probe_reason", "")),
        attempts=attempts,
        error=error,
        until=until,
    )


def receipt(moment: "Readable", entry_id: int, *, now: str) -> Receipt:
    """The receipt of an entry; "unknown" for a number that was never given here, or whose queue was destroyed.

    `now` as ISO-8601 UTC: a wait that is over is none.
    """
    if not 0 < entry_id <= ENTRY_NUMBER_MAX:
        return _unknown(entry_id, "no entry has such a number")
    rows = moment.rows("receipts", "entry", entry_id=entry_id)
    items = moment.rows("receipts", "item_of_entry", entry_id=entry_id)
    if rows and rows[0][2] != Kind.VOID:
        return _of_entry(moment, rows[0], now=now)
    if items and items[0][5] in (None, "discarded"):
        return _of_item(entry_id, items[0])
    if items and items[0][5] == "restored" and (again := _with_its_row(moment, entry_id, items[0])):
        return again
    ends = moment.rows("receipts", "end_of_entry", entry_id=entry_id)
    return _of_end(entry_id, ends[0]) if ends else _gone(moment, entry_id)


def receipt_of(store: "Store", entry_id: int, *, user: str | None) -> Receipt:
    """The same for who is signed in: what is queued of another user is as if it were not.

    Raises TypeError for what is no int.
    """
    entry_id = whole_number(entry_id, of="an entry", found="engine.last_entries() says those of a write")
    found = receipt(store, entry_id, now=iso(store.clock.now_ms()))
    return found if found.owner in (None, user) else _unknown(entry_id, "this user has no entry with the number")


def _of_entry(moment: "Readable", row: "Row", *, now: str) -> Receipt:
    entry_id, owner, kind, collection, key, state, sequence, into, held_by, _, attempts, migration, since = row
    return Receipt(
        entry_id=entry_id,
        state=Where(state),
        why=_why(moment, row, now=now),
        owner=owner,
        kind=kind,
        collection=collection or None,
        key=key if kind != Kind.MIGRATION else migration,
        sequence=sequence,
        since=since,
        attempts=attempts,
        into=into,
        item_id=held_by,
    )


def _why(moment: "Readable", row: "Row", *, now: str) -> str:
    entry_id, owner, _, collection, _, state, _, into, held_by, error, *_ = row
    if state == Where.SQUASHED:
        return f"it travels in entry {into}, a change of the same row"
    if state == HELD:
        return f"it waits behind quarantine item {held_by}, on which a person has to decide"
    if state == Where.CLAIMED:
        return "it was sent or is about to be; the cloud has not confirmed it yet" + _resting(
            rest_of(moment, owner, now=now)
        )
    if error == "conflict":
        return (
            "its row has changed at the cloud, and the collection asks to look at that first: the next round reads it"
        )
    barrier = moment.rows("receipts", "barrier_before", owner=owner, collection=collection, entry_id=entry_id)
    if barrier:
        return f"migration {barrier[0][0]} changes its collection at the cloud first"
    ahead = int(moment.rows("receipts", "ahead", owner=owner, entry_id=entry_id)[0][0])
    turn = f"behind {ahead} {'other' if ahead == 1 else 'others'}" if ahead else "in the next round"
    return f"it waits for its turn {turn}" + _resting(rest_of(moment, owner, now=now))


def _resting(rest: Rest) -> str:
    """What keeps the whole queue."""
    said = "" if rest.is_reachable else f"; the network is {rest.verdict}"
    if rest.until is not None:
        said += f"; {rest.attempts} tries failed ({rest.error}), the next is not before {rest.until}"
    elif rest.attempts:
        said += f"; {rest.attempts} tries failed ({rest.error}), and the next waits for nothing"
    return said


def _of_item(entry_id: int, row: "Row") -> Receipt:
    item_id, owner, collection, key, reason, resolution, since = row
    is_open = resolution is None
    return Receipt(
        entry_id=entry_id,
        state=Where.QUARANTINED if is_open else Where.DISCARDED,
        why=f"it lies in quarantine as item {item_id}: {reason}" if is_open else f"a person gave up item {item_id}",
        owner=owner,
        collection=collection,
        key=key,
        since=since,
        item_id=item_id,
    )


def _with_its_row(moment: "Readable", entry_id: int, item: "Row") -> Receipt | None:
    """Of an entry whose row came back from quarantine whole: what has queued that row; None when that has arrived."""
    item_id, owner, collection, key, _, _, since = item
    queued = moment.rows("receipts", "entries_of_row", owner=owner, collection=collection, row_key=key)
    if not queued:
        return None
    into = int(queued[-1][0])
    return Receipt(
        entry_id=entry_id,
        state=Where.SQUASHED,
        why=f"its row came back from quarantine item {item_id}, and travels in entry {into}",
        owner=owner,
        collection=collection,
        key=key,
        since=since,
        into=into,
    )


def _of_end(entry_id: int, row: "Row") -> Receipt:
    ended, owner, collection, key, since, item_id, reason, resolution = row
    if ended == "queued":
        return _confirmed(entry_id)
    state, why = Where.MERGED_AWAY, "the cloud had another value, which won; see the conflicts"
    if ended == "set_aside":
        state, why = _set_aside(item_id, reason, resolution)
    return Receipt(
        entry_id=entry_id,
        state=state,
        why=why,
        owner=owner,
        collection=collection,
        key=key,
        since=since,
        item_id=item_id,
    )


def _set_aside(item_id: int | None, reason: str | None, resolution: str | None) -> tuple[Where, str]:
    if item_id is None:
        return Where.UNKNOWN, "its row was set aside, and the quarantine item is gone by now"
    if resolution is None:
        return Where.QUARANTINED, f"its row lies in quarantine as item {item_id}: {reason}"
    if resolution == "discarded":
        return Where.DISCARDED, f"a person gave up item {item_id}"
    return Where.MERGED_AWAY, f"its row came back from quarantine item {item_id}, and was queued anew"


def _gone(moment: "Readable", entry_id: int) -> Receipt:
    newest, unknown_until, restored_until = moment.rows("receipts", "newest")[0]
    if entry_id > newest:
        return _unknown(entry_id, "this store has not given the number yet")
    if entry_id <= unknown_until:
        return _unknown(entry_id, "it is not queued, and queues were given up or restored since it was")
    if entry_id <= restored_until:
        return _unknown(entry_id, _BEFORE_RESTORE)
    return _confirmed(entry_id)


def _confirmed(entry_id: int) -> Receipt:
    return Receipt(entry_id=entry_id, state=Where.CONFIRMED, why="the cloud has it, or nothing was left to tell it")


def _unknown(entry_id: int, why: str) -> Receipt:
    return Receipt(entry_id=entry_id, state=Where.UNKNOWN, why=why)


def live_row_select(collection: str, *, key_column: str, owner_column: str, nobodys: bool) -> str:
    """1 for a live row of `:key` and `:owner`; of nobody, where `nobodys`."""
    whose = f"coalesce({quoted(owner_column)}, '') = ''" if nobodys else f"{quoted(owner_column)} = :owner"
    return f"SELECT 1 FROM {quoted(collection)} WHERE {quoted(key_column)} = :key AND {whose} LIMIT 1"
