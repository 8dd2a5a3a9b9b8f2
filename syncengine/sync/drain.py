"""One round: hand the queue of one user to the cloud. A generator that yields calls and receives answers.

It never blocks, sleeps or reads a clock; no transaction is open while a call is in flight. Whatever drives it
(a thread, the simulator) carries each call, sends the answer in, or throws the error in.
"""

import random
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from syncengine.clock import fresh_id
from syncengine.errors import (
    AuthRequired,
    BackendUnavailable,
    BackendUnreachable,
    BatchRefused,
    EngineClosed,
    NotOurServer,
    ProtocolViolation,
    RateLimited,
    SequenceGap,
    StoreBusy,
    SyncEngineError,
)
from syncengine.events import BatchConfirmed, BatchSent, EntryQuarantined, Listener
from syncengine.outbox.entry import Batch, Kind
from syncengine.outbox.numbering import DrainState
from syncengine.settings import Settings
from syncengine.sync.backoff import wait_after_failure_ms
from syncengine.sync.barrier import Barriers, StepSetAside, next_page
from syncengine.sync.calls import Answer, Call, Hello, HelloSaid, Push, PushSaid

if TYPE_CHECKING:
    from syncengine.outbox.queue import Outbox

EPOCHS_PER_ROUND_MAX = 4
"""New epochs that one round may begin before it gives up until the next."""
EPOCH_STEP_MAX = 1_000_000
"""Two copies of one device begin epochs of their own: a step by chance keeps them apart."""
UNAVAILABLE_FACTOR = 4
"""A lone entry that the cloud breaks on (5xx) gets this many times the tries of one that it refuses (4xx)."""

CALL_FAILURES = (
    BackendUnreachable,
    BackendUnavailable,
    NotOurServer,
    AuthRequired,
    BatchRefused,
    SequenceGap,
    ProtocolViolation,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """What a round did. `ended`: "drained" (nothing left to send), "bounded" (more is left for the next round),
    "another_process" (it is sending), "upgrade_app", "stopped", or the code of `error`."""

    ended: str
    pushes: int = 0
    applied: int = 0
    pulled: int = 0
    """Rows that came from the cloud."""
    items: tuple[int, ...] = ()
    """Quarantine items that it made."""
    sendable: int = 0
    """Entries that are left and wait for nothing but the cloud."""
    error: SyncEngineError | None = None

    def __repr__(self) -> str:
        """How many items, for there may be thousands."""
        told = f"pushes={self.pushes}, applied={self.applied}, pulled={self.pulled}, items={len(self.items)}"
        error = type(self.error).__name__ if self.error else None
        return f"RoundReport(ended={self.ended!r}, {told}, sendable={self.sendable}, error={error})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What the reading part of a round did. `ended`: "at_head", "bounded" (more is left for the next round),
    "another_process", or why nothing was read."""

    ended: str
    rows: int = 0
    items: tuple[int, ...] = ()
    """Quarantine items that it made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundHooks:
    """What a round calls beside the cloud: `settle` inside each transaction that confirms, `tell` with events."""

    settle: Callable[[str], None] | None = None
    tell: Listener = lambda event: None


Round = Generator[Call, Answer, RoundReport]


def drain_round(
    outbox: "Outbox",
    *,
    owner: str,
    device: str,
    app: str,
    schema_version: str,
    settings: Settings,
    chance: random.Random,
    barriers: Barriers,
    hooks: RoundHooks | None = None,
) -> Round:
    """Send what is claimed and what waits, in order, until nothing is left or a call fails; a RoundReport.

    A failed call ends the round: the durable wait is recorded, claimed entries stay claimed and are sent again
    under the same numbers. Entries that the cloud rejects, or cannot read even alone, go to quarantine.
    """
    speaker = Speaker(app=app, device=device, schema_version=schema_version)
    draining = Draining(outbox, owner, speaker, settings=settings, chance=chance, barriers=barriers, hooks=hooks)
    return (yield from draining.run(draining.deliver()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """Who speaks to the cloud."""

    app: str
    device: str
    schema_version: str


class Standing(Enum):
    """What the cloud's highest number says about ours."""

    AGREES = 1
    CLOUD_KNOWS_MORE = 2
    CLOUD_LOST_SOME = 3


def standing(drain: DrainState, *, device_seq: int) -> Standing:
    """Compare the numbers. Pure.

    The cloud knows more when this store is a copy, or was restored from an older one. It lost some when it was
    itself restored: it no longer knows what it had confirmed.
    """
    if device_seq >= drain.next_sequence:
        return Standing.CLOUD_KNOWS_MORE
    if device_seq < drain.confirmed_sequence:
        return Standing.CLOUD_LOST_SOME
    return Standing.AGREES


class Draining:
    """The state of one round that sends."""

    def __init__(
        self,
        outbox: "Outbox",
        owner: str,
        speaker: Speaker,
        *,
        settings: Settings,
        chance: random.Random,
        barriers: Barriers,
        hooks: RoundHooks | None = None,
    ) -> None:
        self.hooks = hooks or RoundHooks()
        self.said: HelloSaid | None = None
        """The answer to the last hello."""
        self.pulled = Pulled(ended="")
        self._outbox = outbox
        self._owner = owner
        self._speaker = speaker
        self._settings = settings
        self._chance = chance
        self._barriers = barriers
        # A lost lease costs only traffic; this is longer than any one call.
        self._lease = outbox.lease(fresh_id(chance), lease_ms=2 * settings.request_wait_ms_max)
        self._entries_max = settings.push_entries_max
        self._bytes_max = settings.push_bytes_max
        self._pushes = 0
        self._applied = 0
        self._refusals = 0
        self._epochs = 0
        self._items: list[int] = []

    def run(self, parts: Generator[Call, Answer, str]) -> Round:
        """The parts of a round under the lease; how they ended, or what ended them."""
        if not self.keep_lease():
            return self._report("another_process")
        try:
            return self._report((yield from parts))
        except CALL_FAILURES as error:
            return self._failed(error)
        finally:
            # A lease that cannot be given back ends by itself.
            with suppress(StoreBusy, EngineClosed):
                self._lease.release()

    def keep_lease(self) -> bool:
        """Renew the right to send; False when another process has it now."""
        return self._lease.take()

    def deliver(self) -> Generator[Call, Answer, str]:
        """Say hello and send the queue."""
        action = yield from self._greet()
        if action in {"upgrade_app", "bounded"}:
            return action
        return (yield from self.send_all())

    def send_all(self) -> Generator[Call, Answer, str]:
        """Send until nothing is left that could be sent, or the round's pushes are used up."""
        while self._pushes < self._settings.round_pushes_max:
            self._pushes += 1
            if not self.keep_lease():
                return "another_process"
            batch = self._claim(fresh=True)
            if not batch.entries:
                self._pushes -= 1
                self._outbox.record_success(self._owner)
                return "drained"
            yield from self._send(batch)
        return "bounded"

    def _report(self, ended: str, *, error: SyncEngineError | None = None) -> RoundReport:
        return RoundReport(
            ended=ended,
            pushes=self._pushes,
            applied=self._applied,
            pulled=self.pulled.rows,
            items=(*self._items, *self.pulled.items),
            sendable=self._outbox.sendable(self._owner),
            error=error,
        )

    def _failed(self, error: SyncEngineError) -> RoundReport:
        attempts = self._outbox.drain_state(self._owner).attempts + 1
        retry_after_ms = error.retry_after_ms if isinstance(error, BackendUnavailable) else None
        wait_ms = wait_after_failure_ms(
            attempts, chance=self._chance, settings=self._settings, retry_after_ms=retry_after_ms
        )
        self._outbox.record_failure(self._owner, error.code(), wait_ms=wait_ms)
        return self._report(error.code(), error=error)

    # Where do we stand?

    def _greet(self) -> Generator[Call, Answer, str]:
        """Agree with the cloud about the numbers, then about what is done already; the action that it wants.

        "bounded" when the round has no pushes left to settle what is claimed.
        """
        while True:
            drain = self._outbox.drain_state(self._owner)
            said = yield self._hello(drain.epoch)
            assert isinstance(said, HelloSaid)
            self.said = said
            found = standing(drain, device_seq=said.device_seq)
            if found is Standing.AGREES:
                break
            if found is Standing.CLOUD_KNOWS_MORE and not (yield from self._settle_claimed()):
                return "bounded"  # a new epoch now would send again what the cloud has
            self._begin_epoch()
        self._entries_max = min(self._settings.push_entries_max, said.entries_max)
        self._bytes_max = min(self._settings.push_bytes_max, said.bytes_max)
        if said.cloud_version is not None:
            self._outbox.cloud_has_reached(self._owner, said.cloud_version, also=self.hooks.settle)
        return said.action

    def _hello(self, epoch: int) -> Hello:
        speaker = self._speaker
        return Hello(
            user=self._owner,
            app=speaker.app,
            device=speaker.device,
            epoch=epoch,
            schema_version=speaker.schema_version,
        )

    def _settle_claimed(self) -> Generator[Call, Answer, bool]:
        """What has a number that the cloud knows is settled by the cloud's first answer; True when all is."""
        while (batch := self._claim(fresh=False)).entries:
            if self._pushes >= self._settings.round_pushes_max:
                return False
            self._pushes += 1
            yield from self._send(batch)
        return True

    def _begin_epoch(self) -> None:
        self._epochs += 1
        if self._epochs > EPOCHS_PER_ROUND_MAX:
            raise ProtocolViolation(
                "This device and the cloud cannot agree on the numbers of its entries.",
                why=f"{EPOCHS_PER_ROUND_MAX} new epochs did not help",
                fix="Nothing was lost; the queue is kept. Look whether another device uses a copy of this store.",
            )
        self._outbox.begin_epoch(self._owner, step=1 + self._chance.randrange(EPOCH_STEP_MAX))

    # Send.

    def _claim(self, *, fresh: bool) -> Batch:
        entries_max = min(self._entries_max, self._outbox.drain_state(self._owner).batch_entries_max)
        return self._outbox.claim(self._owner, entries_max=entries_max, bytes_max=self._bytes_max, fresh=fresh)

    def _send(self, batch: Batch) -> Generator[Call, Answer, None]:
        step = batch.barrier
        if step is None or step.sequence is not None:
            yield from self._push(batch)
            return
        page = yield from next_page(self._outbox, step, barriers=self._barriers, also=self.hooks.settle)
        if isinstance(page, StepSetAside):
            self._tell_items((page.item_id,), code=page.code)
        elif page is not None:
            yield from self._push(page)

    def _push(self, batch: Batch) -> Generator[Call, Answer, None]:
        first = batch.entries[0].sequence or 0
        self.hooks.tell(BatchSent(entries=len(batch.entries), epoch=batch.epoch, first_sequence=first))
        speaker = self._speaker
        try:
            said = yield Push(
                user=batch.owner, device=speaker.device, schema_version=speaker.schema_version, batch=batch
            )
        except BatchRefused as error:
            self._refused(batch, error)
        except SequenceGap as gap:
            yield from self._gap(gap, first=first)
        except (BackendUnavailable, BackendUnreachable) as error:
            self._not_taken(batch, error)
            raise
        else:
            assert isinstance(said, PushSaid)
            self._confirm(batch, said)

    def _confirm(self, batch: Batch, said: PushSaid) -> None:
        settled = self._outbox.confirm(batch, said.results, also=self.hooks.settle)
        if settled.unanswered == len(batch.entries):
            raise ProtocolViolation(
                "The backend answered a push without a word about any of its entries.",
                fix="Nothing was lost; they are sent again.",
            )
        self._refusals = 0
        self._applied += settled.applied
        self._outbox.record_success(self._owner)
        self._grow()
        self.hooks.tell(BatchConfirmed(applied=settled.applied, sendable=self._outbox.sendable(self._owner)))
        self._tell_items(settled.items, code="rejected")

    def _tell_items(self, items: tuple[int, ...], *, code: str) -> None:
        self._items += items
        for item_id in items:
            self.hooks.tell(EntryQuarantined(item_id=item_id, error_code=code))

    def _grow(self) -> None:
        batch_max = self._outbox.drain_state(self._owner).batch_entries_max
        if batch_max < self._settings.push_entries_max:
            self._outbox.resize_batches(self._owner, entries_max=2 * batch_max)

    def _refused(self, batch: Batch, error: BatchRefused) -> None:
        """The cloud cannot read the request: halve it, down to the one entry or group at fault."""
        if batch.is_one_unit:
            self._refused_alone(batch, error, attempts_max=self._settings.attempts_of_one_entry_max)
            return
        self._refusals += 1
        too_large = error.status == 413
        if too_large or self._refusals >= self._settings.attempts_before_halving:
            self._refusals = 0
            self._halve(batch)

    def _halve(self, batch: Batch) -> None:
        self._outbox.resize_batches(self._owner, entries_max=len(batch.entries) // 2)

    def _refused_alone(self, batch: Batch, error: SyncEngineError, *, attempts_max: int) -> None:
        if all(entry.kind is Kind.VOID for entry in batch.entries):
            raise error  # an empty number cannot be at fault
        attempts = self._outbox.count_attempt(batch.entries, error_code=error.code())
        if attempts < attempts_max:
            return
        message = f"the backend could not take it, {attempts} times, sent alone"
        items = self._outbox.void(batch.entries, code=error.code(), message=message)
        self._tell_items(items, code=error.code())

    def _not_taken(self, batch: Batch, error: BackendUnavailable | BackendUnreachable) -> None:
        """No answer, or 5xx: a smaller batch next time, for this one may be what the cloud or the line breaks on.

        A lone entry goes to quarantine only after many rounds in which the cloud answered hello and broke on it.
        """
        if isinstance(error, RateLimited) or getattr(error, "retry_after_ms", None) is not None:
            return
        if not batch.is_one_unit:
            self._halve(batch)
        elif isinstance(error, BackendUnavailable):
            attempts_max = UNAVAILABLE_FACTOR * self._settings.attempts_of_one_entry_max
            self._refused_alone(batch, error, attempts_max=attempts_max)

    def _gap(self, gap: SequenceGap, *, first: int) -> Generator[Call, Answer, None]:
        """The cloud lost what it had confirmed, so it has none of these: they get new numbers."""
        if not 0 < gap.expected < first:
            raise gap
        self._begin_epoch()
        yield from self._greet()


__all__ = [
    "Draining",
    "Pulled",
    "Round",
    "RoundHooks",
    "RoundReport",
    "Speaker",
    "Standing",
    "drain_round",
    "standing",
]
