"""How far a user's queue has got: epoch, next number, batch size, and the durable wait after failures."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from syncengine.clock import iso
from syncengine.outbox.delivery import Event, State, next_state

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainState:
    """One user's row of _sync_drain."""

    epoch: int
    next_sequence: int
    confirmed_sequence: int
    confirmed_count: int
    batch_entries_max: int
    attempts: int
    next_try_at: str | None
    last_success_at: str | None
    last_error: str | None
    ended_epoch: int = 0
    """What has a number of this epoch or a lower one was destroyed here; 0: nothing was."""
    doubtful_to: int = 0
    """Another copy of this store may have sent the entries up to this one; 0: none of them."""


def drain_state(store: "Store", owner: str) -> DrainState:
    """The user's state; that of a new queue when nothing was ever sent."""
    found = store.row("drain", "get", owner=owner)
    if found is None:
        wiped = _wiped_epoch(store)
        found = (wiped + 1, 1, 0, 0, first_batch_entries(store.settings), 0, None, None, None, wiped, 0)
    return DrainState(
        epoch=found[0],
        next_sequence=found[1],
        confirmed_sequence=found[2],
        confirmed_count=found[3],
        batch_entries_max=found[4],
        attempts=found[5],
        next_try_at=found[6],
        last_success_at=found[7],
        last_error=found[8],
        ended_epoch=found[9],
        doubtful_to=found[10],
    )


def _wiped_epoch(store: "Store") -> int:
    return int(store.value("drain", "wiped_epoch") or 0)


def first_batch_entries(settings: "Settings") -> int:
    """How many entries the first batch of a new queue holds."""
    return min(settings.push_entries_first, settings.push_entries_max)


def ensure_drain(store: "Store", owner: str) -> DrainState:
    """The same, written down. Inside a transaction."""
    _begin(store, owner)
    return drain_state(store, owner)


def _begin(store: "Store", owner: str) -> None:
    entries_max = first_batch_entries(store.settings)
    store.run("drain", "begin", owner=owner, entries_max=entries_max, wiped_epoch=_wiped_epoch(store))


def begin_epoch(store: "Store", owner: str, *, step: int = 1, is_copy: bool = False) -> None:
    """Count from 1 under a new epoch; claimed entries lose their number and wait, empty numbers go.

    Only where it is known that the cloud does not have the claimed entries under their numbers. `is_copy`: another
    copy of this store has gone on counting, so it may have sent what is queued here, under numbers of its own.
    """
    with store.transaction(durable=True):
        _begin(store, owner)
        if is_copy:
            store.run("outbox", "close_group")
            store.run("drain", "doubt", owner=owner)
        store.run("outbox", "drop_voids", owner=owner)
        store.run("outbox", "unnumber", owner=owner, state=next_state(State.CLAIMED, Event.EPOCH_ENDED))
        store.run("drain", "begin_epoch", owner=owner, step=step)


def has_doubtful(store: "Store", owner: str) -> bool:
    """Whether something is queued that another copy of this store may have sent."""
    return bool(store.value("drain", "has_doubtful", owner=owner))


def end_epoch(store: "Store", owner: str) -> None:
    """The same where the entries were destroyed, and may be on their way: the cloud is told to do nothing with them.

    Whether it has some of them or lacks them does not matter then.
    """
    with store.transaction(durable=True):
        _begin(store, owner)
        store.run("drain", "end_epoch", owner=owner)
        begin_epoch(store, owner)


def record_failure(store: "Store", owner: str, error_code: str, *, wait_ms: int) -> None:
    """Remember a failure, and not to try by ourselves for `wait_ms`."""
    with store.transaction():
        _begin(store, owner)
        next_try_at = iso(store.clock.now_ms() + wait_ms)
        store.run("drain", "failed", owner=owner, next_try_at=next_try_at, error_code=error_code)


def record_answer(store: "Store", owner: str) -> None:
    """The cloud took something: no wait, no failures."""
    with store.transaction():
        _begin(store, owner)
        store.run("drain", "answered", owner=owner)


def record_success(store: "Store", owner: str) -> None:
    """A round has done all that it could: no wait, no failures, and when that was."""
    with store.transaction():
        _begin(store, owner)
        store.run("drain", "succeeded", owner=owner, now=iso(store.clock.now_ms()))


def resize_batches(store: "Store", owner: str, *, entries_max: int) -> None:
    """Later batches hold at most so many entries; never less than one, never more than the setting."""
    bounded = max(1, min(entries_max, store.settings.push_entries_max))
    with store.transaction():
        _begin(store, owner)
        store.run("drain", "resize", owner=owner, entries_max=bounded)


def wait_before_next_try_ms(store: "Store", owner: str) -> int:
    """How long to wait before trying by ourselves; 0: now.

    The wall clock may have jumped: a time further away than the longest wait that we ever write means now.
    """
    next_try_at = drain_state(store, owner).next_try_at
    if next_try_at is None:
        return 0
    wait_ms = round(datetime.fromisoformat(next_try_at).timestamp() * 1000) - store.clock.now_ms()
    settings = store.settings
    longest_ms = max(settings.retry_wait_ms_max, settings.retry_after_ms_max) + settings.retry_wait_ms_min
    return wait_ms if 0 < wait_ms <= longest_ms else 0
