"""One round: hand the queue of one user to the cloud. A generator that yields calls and receives answers.

It never blocks, sleeps or reads a clock; no transaction is open while a call is in flight. Whatever drives it
(a thread, the simulator) carries each call, sends the answer in, or throws the error in.
"""

import random
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from syncengine.clock import fresh_id
from syncengine.errors import (
    AuthRequired,
    BackendUnavailable,
    BackendUnreachable,
    BatchRefused,
    CursorGone,
    NotOurServer,
    ProtocolViolation,
    QuotaExceeded,
    SequenceGap,
    SyncEngineError,
)
from syncengine.events import BatchConfirmed, BatchSent, EntryQuarantined
from syncengine.outbox.entry import Batch, Settled
from syncengine.outbox.numbering import DrainState
from syncengine.outbox.sendable import INTEGER_MAX
from syncengine.outbox.settlement import end_conflicts
from syncengine.settings import Settings
from syncengine.sync.barrier import Barriers, StepSetAside, next_page
from syncengine.sync.calls import Answer, Begin, Call, End, Hello, HelloSaid, Push, PushSaid
from syncengine.sync.carriage import Carriage
from syncengine.sync.failure_note import note_failure
from syncengine.sync.line import next_entries_max
from syncengine.sync.refusals import Refusals
from syncengine.sync.report import DONE, Pulled, RoundHooks, RoundReport
from syncengine.sync.standing import Standing, standing

if TYPE_CHECKING:
    from syncengine.outbox.queue import Outbox

EPOCHS_PER_ROUND_MAX = 4
"""New epochs that one round may begin before it gives up until the next."""
EPOCH_STEP_MAX = 1_000_000
"""Two copies of one device begin epochs of their own: a step by chance keeps them apart."""
COUNTED_ENTRIES_MAX = 2_000
"""A longer queue is not counted anew after each batch."""

CALL_FAILURES = (
    BackendUnreachable,
    BackendUnavailable,
    NotOurServer,
    AuthRequired,
    BatchRefused,
    SequenceGap,
    CursorGone,
    ProtocolViolation,
    QuotaExceeded,
)


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
        carriage: Carriage | None = None,
    ) -> None:
        self.hooks = hooks or RoundHooks()
        self._carriage = carriage or Carriage()
        self.line = self._carriage.line
        self.said: HelloSaid | None = None
        """The answer to the last hello."""
        self.pulled = Pulled(ended="")
        self._outbox = outbox
        self._owner = owner
        self._speaker = speaker
        self._settings = settings
        self._chance = chance
        self._barriers = barriers
        # A lost lease costs only traffic; half of this is as long as any one call may take.
        self._lease = outbox.lease(fresh_id(chance), lease_ms=2 * settings.request_wait_ms_max)
        self._entries_max = settings.push_entries_max
        self._bytes_max = settings.push_bytes_max
        self._ahead: Batch | None = None
        self._ahead_encoded: tuple[Batch, bytes] | None = None
        self._settling = False
        self._copied: Batch | None = None
        """The last batch with numbers that another copy of the store had used."""
        self._heard: tuple[Batch, PushSaid] | None = None
        """The last answer, while it is not confirmed yet."""
        self._sendable = 0
        self._pushes = 0
        self.applied = 0
        self._refusals = Refusals(outbox, owner, settings=settings)
        self._epochs = 0
        self._items: list[int] = []

    def run(self, parts: Generator[Call, Answer, str]) -> Round:
        """The parts of a round under the lease; how they ended, or what ended them."""
        if not self.keep_lease():
            return self._report("another_process")
        try:
            ended = yield from parts
            self._confirm_heard()
            if ended in DONE and self.keep_lease():
                self._outbox.record_success(self._owner)
            return self._report(ended)
        except CALL_FAILURES as error:
            self._confirm_heard()
            return self._failed(error)
        finally:
            # A lease that cannot be given back, also for a disk that fails, ends by itself.
            with suppress(SyncEngineError):
                self._lease.release()

    def keep_lease(self) -> bool:
        """Renew the right to send; False when another process has it now. Raises what the hooks' `check` does."""
        return self._lease.take(check=self.hooks.check)

    def deliver(self) -> Generator[Call, Answer, str]:
        """Say hello and send the queue."""
        action = yield from self.greet()
        if action in {"upgrade_app", "bounded"}:
            return action
        return (yield from self.send_all())

    def send_numbered(self) -> Generator[Call, Answer, str]:
        """Send what has its number already and may be at the cloud or not, and nothing else; "bounded", or how the
        cloud answered the hello of a new epoch.
        """
        if not (yield from self._settle_claimed()):
            return "bounded"
        if self._copied is None:
            return "drained"
        self._begin_epoch(is_copy=True)
        return (yield from self.greet())

    def send_all(self) -> Generator[Call, Answer, str]:
        """Send until nothing is left that could be sent, or the round's pushes are used up."""
        if self.pulled.ended == "at_head" and self.keep_lease():
            end_conflicts(self._outbox.store, self._owner)
        while self._pushes < self._settings.round_pushes_max:
            self._pushes += 1
            if not self.keep_lease():
                return "another_process"
            batch = self._ahead or self._claim()
            self._ahead = None
            if not batch.entries:
                self._pushes -= 1
                return "drained"
            yield from self._send(batch)
        return "bounded"

    def _report(self, ended: str, *, error: SyncEngineError | None = None) -> RoundReport:
        return RoundReport(
            ended=ended,
            pushes=self._pushes,
            applied=self.applied,
            pulled=self.pulled.rows,
            items=(*self._items, *self.pulled.items),
            sendable=self._outbox.sendable(self._owner),
            held_by_item=self._outbox.held(self._owner),
            error=error,
        )

    def _failed(self, error: SyncEngineError) -> RoundReport:
        self.keep_lease()  # nothing is noted of a user who is gone
        retry_after_ms = getattr(error, "retry_after_ms", None)
        note_failure(self._outbox, self._owner, error.code(), chance=self._chance, retry_after_ms=retry_after_ms)
        return self._report(error.code(), error=error)

    # Where do we stand?

    def greet(self) -> Generator[Call, Answer, str]:
        """Agree with the cloud about the numbers, then about what is done already; the action that it wants.

        "bounded" when the round has no pushes left to settle what is claimed.
        """
        self._sendable = self._outbox.sendable(self._owner)
        while True:
            drain = self._outbox.drain_state(self._owner)
            said = yield self._hello(drain)
            assert isinstance(said, HelloSaid)
            self.said = said
            self.line = self.line.heard(took_ms=said.took_ms)
            found = standing(drain, device_seq=said.device_seq)
            if found is Standing.AGREES:
                break
            if found is Standing.CLOUD_KNOWS_MORE and not (yield from self._settle_claimed()):
                return "bounded"  # a new epoch now would send again what the cloud has
            self._begin_epoch(is_copy=found is Standing.CLOUD_KNOWS_MORE)
        self._entries_max = min(self._settings.push_entries_max, said.entries_max)
        self._bytes_max = min(self._settings.push_bytes_max, said.bytes_max)
        if said.cloud_version is not None:
            self._outbox.cloud_has_reached(self._owner, said.cloud_version, also=self.hooks.settle)
        return said.action

    def none_arrived(self) -> Generator[Call, Answer, bool]:
        """Whether the cloud still has nothing of what is numbered here and not answered."""
        drain = self._outbox.drain_state(self._owner)
        said = yield self._hello(drain)
        assert isinstance(said, HelloSaid)
        return said.device_seq == drain.confirmed_sequence

    def _hello(self, drain: DrainState) -> Hello:
        speaker = self._speaker
        return Hello(
            user=self._owner,
            app=speaker.app,
            device=speaker.device,
            epoch=drain.epoch,
            schema_version=speaker.schema_version,
            confirmed_seq=drain.confirmed_sequence,
            cursor=self._outbox.cursor(self._owner),
            ended_epoch=drain.ended_epoch,
        )

    def _settle_claimed(self, device_seq: int = INTEGER_MAX) -> Generator[Call, Answer, bool]:
        """What has a number that the cloud knows is settled by the cloud's first answer.

        What is still claimed afterwards is not at the cloud: its number is higher, or another copy of this store
        used it for something else. False when the round has no pushes left.
        """
        self._copied = None
        while (batch := self._claimed_up_to(device_seq)).entries:
            if self._pushes >= self._settings.round_pushes_max:
                return False
            self._pushes += 1
            with self._nothing_ahead():
                yield from self._send(batch)
        return True

    def _claimed_up_to(self, device_seq: int) -> Batch:
        batch = self._claim(fresh=False, behind=self._copied)
        known = tuple(entry for entry in batch.entries if (entry.sequence or 0) <= device_seq)
        return replace(batch, entries=known)

    def _begin_epoch(self, *, is_copy: bool = False) -> None:
        self._epochs += 1
        if self._epochs > EPOCHS_PER_ROUND_MAX:
            raise ProtocolViolation(
                "This device and the cloud cannot agree on the numbers of its entries.",
                why=f"{EPOCHS_PER_ROUND_MAX} new epochs did not help",
                fix="Nothing was lost; the queue is kept. Look whether another device uses a copy of this store.",
            )
        self._outbox.begin_epoch(self._owner, step=1 + self._chance.randrange(EPOCH_STEP_MAX), is_copy=is_copy)

    # Send.

    def _claim(self, *, fresh: bool = True, behind: Batch | None = None) -> Batch:
        drain = self._outbox.drain_state(self._owner)
        has_no_room = drain.last_error == QuotaExceeded.code()
        entries_max = self._entries_max if has_no_room else min(self._entries_max, drain.batch_entries_max)
        return self._outbox.claim(
            self._owner,
            entries_max=entries_max,
            bytes_max=min(self._bytes_max, self.line.bytes_max(self._settings)),
            token=fresh_id(self._chance),
            fresh=fresh,
            behind=behind,
        )

    def _send(self, batch: Batch) -> Generator[Call, Answer, None]:
        step = batch.barrier
        if step is None or step.sequence is not None:
            yield from self._push(batch)
            return
        page = yield from next_page(
            self._outbox, step, barriers=self._barriers, token=fresh_id(self._chance), also=self.hooks.settle
        )
        if isinstance(page, StepSetAside):
            self._tell_items((page.item_id,), code=page.code)
        elif page is not None:
            yield from self._push(page)

    def _push(self, batch: Batch) -> Generator[Call, Answer, None]:
        first = batch.entries[0].sequence or 0
        self.hooks.tell(BatchSent(entries=len(batch.entries), epoch=batch.epoch, first_sequence=first))
        try:
            push = self._as_push(batch)
            said = yield from self._carried(push)
        except BatchRefused as error:
            self._ahead = None
            self._tell_items(self._refusals.refused(batch, error), code=error.code())
        except SequenceGap as gap:
            self._ahead = None
            yield from self._gap(gap, first=first)
        except (BackendUnavailable, BackendUnreachable) as error:
            self._tell_items(self._refusals.not_taken(batch, error), code=error.code())
            raise
        else:
            yield from self._answered(push, said)

    def _as_push(self, batch: Batch) -> Push:
        """Raises BatchRefused for what cannot be written as JSON."""
        if self._ahead_encoded is not None and self._ahead_encoded[0] is batch:
            encoded: bytes | None = self._ahead_encoded[1]
        else:
            encoded = self._encoded(batch)
        self._ahead_encoded = None
        return Push(
            user=batch.owner,
            device=self._speaker.device,
            schema_version=self._speaker.schema_version,
            batch=batch,
            encoded=encoded,
            compress=self.line.compresses(self._settings, metered=self._carriage.metered),
        )

    def _encoded(self, batch: Batch) -> bytes | None:
        return None if self._carriage.encode is None else self._carriage.encode(batch)

    def _carried(self, push: Push) -> Generator[Call, Answer, PushSaid]:
        """The answer to a push; while it is on its way, the one before is confirmed and the next one prepared."""
        if not self._carriage.overlaps:
            said = yield push
        else:
            yield Begin(push=push)
            self._confirm_heard(sending=push.batch)
            self._encode_ahead()
            said = yield End()
        assert isinstance(said, PushSaid)
        return said

    def _may_claim_ahead(self, batch: Batch) -> bool:
        return not self._settling and batch.barrier is None and self._pushes < self._settings.round_pushes_max

    def _claimed_behind(self, batch: Batch | None) -> Batch | None:
        """What comes after a batch that is on its way."""
        ahead = self._claim(behind=batch)
        return None if not ahead.entries or ahead.barrier is not None else ahead

    def _encode_ahead(self) -> None:
        if self._ahead is None:
            return
        # What cannot be written as JSON is found when its turn comes.
        with suppress(BatchRefused):
            encoded = self._encoded(self._ahead)
            self._ahead_encoded = None if encoded is None else (self._ahead, encoded)

    @contextmanager
    def _nothing_ahead(self) -> Iterator[None]:
        """Nothing is claimed ahead while it is open what the numbers mean."""
        self._settling = True
        try:
            yield
        finally:
            self._settling = False

    def _answered(self, push: Push, said: PushSaid) -> Generator[Call, Answer, None]:
        sent_bytes = len(push.encoded) if push.encoded else sum(entry.size_bytes for entry in push.batch.entries)
        self.line = self.line.pushed(sent_bytes=sent_bytes, took_ms=said.took_ms, compressed=push.compress)
        if self._ahead is not None and said.all_took_effect(len(push.batch.entries)):
            self._heard = (push.batch, said)  # confirmed while the next push is on its way
            return
        settled = self._settled(push.batch, said)
        self._tell_settled(push.batch, settled)
        if not settled.reused:
            return
        self._copied = push.batch
        if not self._settling:
            yield from self._leave_to_the_copy()

    def _confirm_heard(self, *, sending: Batch | None = None) -> None:
        """Confirm the last answer, and claim what comes after the batch that is being sent: one wait for the disk.

        A killed process confirms it in its next life: the same numbers are then answered as duplicates.
        """
        heard, self._heard = self._heard, None
        claims = sending is not None and self._may_claim_ahead(sending)
        if heard is None and not claims:
            return
        settled = None
        with self._outbox.store.transaction(durable=True):
            if heard is not None:
                settled = self._settled(*heard)
            if claims:
                self._ahead = self._claimed_behind(sending)
        if heard is not None and settled is not None:
            self._tell_settled(heard[0], settled)

    def _leave_to_the_copy(self) -> Generator[Call, Answer, None]:
        """Another copy of this store has used our numbers: what is ours is sent under a new epoch.

        First all that may have arrived is settled. Nothing else is sent under the old numbers, or it would come
        before what was written earlier.
        """
        self._ahead = None
        said = yield self._hello(self._outbox.drain_state(self._owner))
        assert isinstance(said, HelloSaid)
        if (yield from self._settle_claimed(said.device_seq)):
            self._begin_epoch(is_copy=True)
            yield from self.greet()

    def _settled(self, batch: Batch, said: PushSaid) -> Settled:
        """Write down what the cloud said."""
        server_epoch = self.said.server_epoch if self.said is not None else 0
        with self._outbox.store.transaction(durable=True):
            settled = self._outbox.confirm(batch, said.results, server_epoch=server_epoch, also=self.hooks.settle)
            if settled.unanswered == len(batch.entries):
                raise ProtocolViolation(
                    "The backend answered a push without a word about any of its entries.",
                    fix="Nothing was lost; they are sent again.",
                )
            self._outbox.record_answer(self._owner)
            self._resize(sent=len(batch.entries), took_ms=said.took_ms)
        return settled

    def _tell_settled(self, batch: Batch, settled: Settled) -> None:
        self._refusals.end()
        self.applied += settled.applied
        self.hooks.tell(BatchConfirmed(applied=settled.applied, sendable=self._left_after(len(batch.entries))))
        self._tell_items(settled.items, code="rejected")

    def _left_after(self, sent: int) -> int:
        """How many entries are left. Counting takes as long as the queue; where many are left, about will do."""
        self._sendable -= sent
        if self._sendable < COUNTED_ENTRIES_MAX:
            self._sendable = self._outbox.sendable(self._owner)
        return self._sendable

    def _tell_items(self, items: tuple[int, ...], *, code: str) -> None:
        self._items += items
        for item_id in items:
            self.hooks.tell(EntryQuarantined(item_id=item_id, error_code=code))

    def _resize(self, *, sent: int, took_ms: int) -> None:
        present = self._outbox.drain_state(self._owner).batch_entries_max
        entries_max = next_entries_max(present, sent=sent, took_ms=took_ms, settings=self._settings)
        if entries_max != present:
            self._outbox.resize_batches(self._owner, entries_max=entries_max)

    def _gap(self, gap: SequenceGap, *, first: int) -> Generator[Call, Answer, None]:
        """The cloud lost what it had confirmed, so it has none of these: they get new numbers.

        Under the old numbers it first hears up to where it had confirmed, or it would never know that it lost them.
        """
        if not 0 < gap.expected < first:
            raise gap
        epoch = self._outbox.drain_state(self._owner).epoch
        yield from self.greet()
        if self._outbox.drain_state(self._owner).epoch == epoch:
            self._begin_epoch()
            yield from self.greet()


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
