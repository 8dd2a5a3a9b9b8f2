"""The outbox of one store: queue, claim, confirm, set aside, and how far each user's queue has got."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from syncengine.local.identifiers import quoted
from syncengine.outbox import claim as claiming
from syncengine.outbox import numbering, set_aside, settlement
from syncengine.outbox.barrier_page import Barrier, Page
from syncengine.outbox.delivery import Event, State, next_state
from syncengine.outbox.entry import Batch, Counts, Entry, Results, Settled, entry_of
from syncengine.outbox.filing import file_entries
from syncengine.outbox.lease import DrainLease
from syncengine.outbox.numbering import DrainState
from syncengine.outbox.row_body import collection_columns
from syncengine.outbox.settlement import Also
from syncengine.outbox.unreadable_keys import set_aside_unreadable_keys
from syncengine.vocabulary import SchemaVersion

if TYPE_CHECKING:
    from syncengine.local.store import Store


class Outbox:
    """What must still reach the cloud. Each method is one transaction, or joins the caller's."""

    def __init__(self, store: "Store") -> None:
        self.store = store

    # Queue.

    def queue_uploads(self, *, owner: str, collection: str, migration: str | None) -> int:
        """Queue one put for each live row of this owner, in key order; how many were queued.

        The put names only its row; the body is read when it is sent, so later edits are in it. A row that waits
        for a put already gets no second one. One whose key is not UTF-8 goes to quarantine at once.
        """
        key_column, owner_column, shape_version = collection_columns(self.store, collection)
        with self.store.transaction():
            file_entries(self.store)
            newest = self.store.value("outbox", "newest")
            first_group = self.store.value("outbox", "advance_groups", count=1)
            self.store.query(
                _upload_sql(collection, key_column=key_column, owner_column=owner_column),
                {
                    "owner": owner,
                    "collection": collection,
                    "shape_version": shape_version,
                    "group": first_group,
                    "migration": migration,
                    "now_ms": self.store.clock.now_ms(),
                },
            )
            queued: int = self.store.connection.changes()
            self.store.rows("outbox", "advance_groups", count=queued)
            set_aside_unreadable_keys(self.store, owner, after=newest)
        return queued

    def queue_barrier(
        self,
        *,
        owner: str,
        migration: str,
        collections: Iterable[str],
        cloud_version: str | None,
        works: bool,
    ) -> None:
        """Queue one step of an online migration.

        It holds back later entries of these collections. `works` reads and changes their rows at the cloud first;
        then the cloud is told `cloud_version`, if there is one.
        """
        barrier = Barrier(collections=tuple(collections), cloud_version=cloud_version, works=works)
        with self.store.transaction():
            group_id = self.store.value("outbox", "advance_groups", count=2) - 1
            self.store.run(
                "outbox",
                "append_barrier",
                owner=owner,
                group_id=group_id,
                migration=migration,
                barrier_json=barrier.to_json(),
                now_ms=self.store.clock.now_ms(),
            )

    # Send.

    def claim(
        self,
        owner: str,
        *,
        entries_max: int,
        bytes_max: int,
        token: str | None = None,
        fresh: bool = True,
        behind: Batch | None = None,
    ) -> Batch:
        """The next batch, durable before it is returned; see `claim.claim`."""
        limits = claiming.Limits(entries_max=entries_max, bytes_max=bytes_max)
        return claiming.claim(self.store, owner, limits=limits, token=token, fresh=fresh, behind=behind)

    def confirm(self, batch: Batch, results: Results, *, server_epoch: int = 0, also: Also | None = None) -> Settled:
        """Settle a batch by what the cloud said; see `settlement.confirm`."""
        return settlement.confirm(self.store, batch, results, server_epoch=server_epoch, also=also)

    def count_attempt(self, entries: Iterable[Entry], *, error_code: str) -> int:
        """Remember that the cloud could not take these alone; how often that was, for the one most tried."""
        entries = tuple(entries)
        with self.store.transaction(durable=True):
            for entry in entries:
                self.store.run("outbox", "count_attempt", entry_id=entry.entry_id, error_code=error_code)
        return max(entry.attempts for entry in entries) + 1

    def void(self, entries: Iterable[Entry], *, code: str, message: str) -> tuple[int, ...]:
        """Take the bodies of claimed entries into quarantine, keep their numbers; see `set_aside.void`."""
        return set_aside.void(self.store, tuple(entries), error_code=code, error_text=message)

    def begin_epoch(self, owner: str, *, step: int = 1, is_copy: bool = False) -> None:
        """Count from 1 again; see `numbering.begin_epoch`."""
        numbering.begin_epoch(self.store, owner, step=step, is_copy=is_copy)

    def lease(self, holder: str, *, lease_ms: int) -> DrainLease:
        """The right to send, one process at a time."""
        return DrainLease(self.store, holder=holder, lease_ms=lease_ms)

    # Steps of online migrations.

    def freeze_page(self, step: Entry, page: Page, *, token: str | None = None) -> Batch:
        """Give a step's page its number, durable before it is returned."""
        with self.store.transaction(durable=True):
            drain = numbering.ensure_drain(self.store, step.owner)
            barrier = Barrier.from_json(step.barrier_json or "").with_page(page)
            claimed = next_state(State(step.state), Event.CLAIM)
            numbered = step._replace(
                sequence=drain.next_sequence,
                epoch=drain.epoch,
                state=claimed,
                barrier_json=barrier.to_json(),
                claim_token=token,
            )
            claiming.write_numbers(self.store, [numbered])
            after = drain.next_sequence + 1
            self.store.run("drain", "take_sequences", owner=step.owner, next_sequence=after)
        return Batch(owner=step.owner, epoch=drain.epoch, entries=(numbered,))

    def go_on(self, step: Entry, barrier: Barrier, *, also: Also | None = None) -> None:
        """Move a step that has no number to a new state, or out when nothing is left to do."""
        with self.store.transaction(durable=True):
            settlement.go_on(self.store, step, barrier)
            if also is not None:
                also(step.owner)

    def cloud_has_reached(self, owner: str, version: str, *, also: Also | None = None) -> tuple[Entry, ...]:
        """Record the user's cloud version, and take out the steps that another device has done; those steps."""
        reached = SchemaVersion.parse(version)
        with self.store.transaction(durable=True):
            settlement.reach_cloud_version(self.store, owner, version=version)
            steps = tuple(step for step in self._waiting_steps(owner) if _leads_no_further(step, reached))
            for step in steps:
                next_state(State(step.state), Event.NOT_NEEDED)
                self.store.run("outbox", "delete", entry_id=step.entry_id)
            if steps and also is not None:
                also(owner)
        return steps

    def set_step_aside(self, step: Entry, *, code: str, message: str) -> int:
        """Quarantine a step that has no number; the item's id."""
        with self.store.transaction(durable=True):
            return set_aside.set_aside(self.store, step, event=Event.UNREADABLE, error_code=code, error_text=message)

    def _waiting_steps(self, owner: str) -> tuple[Entry, ...]:
        found = self.store.rows("outbox", "barriers", owner=owner)
        waiting = [entry_id for entry_id, state, _ in found if state == State.WAITING]
        return tuple(entry_of(self.store.rows("outbox", "entry", entry_id=entry_id)[0]) for entry_id in waiting)

    # Decide about what was set aside.

    def retry(self, item_id: int) -> tuple[int, ...]:
        """Queue an item and its group again, at their old place; see `set_aside.retry`."""
        return set_aside.retry(self.store, item_id)

    def discard(self, item_id: int) -> None:
        """Give an item up; what waited behind it goes on. Raises QuarantineItemUnknown."""
        set_aside.discard(self.store, item_id)

    def release(self, item_id: int) -> int:
        """What waits behind a resolved item waits for its turn again; how many entries."""
        return set_aside.release(self.store, item_id)

    # Look.

    def drain_state(self, owner: str) -> DrainState:
        return numbering.drain_state(self.store, owner)

    def counts(self, owner: str | None = None) -> Counts:
        """Entries by state, of one queue or of all."""
        return Counts(**dict(self.store.rows("outbox", "counts", owner=owner)))

    def depth(self, owner: str | None = None) -> int:
        """How many entries there are."""
        return self.counts(owner).depth

    def sendable(self, owner: str) -> int:
        """How many entries wait for nothing but the cloud, and each other."""
        return int(self.store.value("outbox", "sendable", owner=owner))

    def held(self, owner: str) -> dict[int, int]:
        """How many entries wait behind each quarantine item, by its number."""
        return dict(self.store.rows("outbox", "held", owner=owner))

    def oldest_at(self, owner: str | None = None) -> str | None:
        """Since when the oldest entry waits, as ISO-8601 UTC; None when there is none."""
        moment: str | None = self.store.value("outbox", "oldest_at", owner=owner)
        return moment

    def entries(self, *, entries_max: int, owner: str | None = None) -> tuple[Entry, ...]:
        """The oldest entries."""
        rows = self.store.rows("outbox", "entries", owner=owner, entries_max=entries_max)
        return tuple(entry_of(row) for row in rows)

    # Waits after failures, kept over restarts.

    def record_failure(self, owner: str, error_code: str, *, wait_ms: int) -> None:
        """Remember a failure, and not to try by ourselves for `wait_ms`."""
        numbering.record_failure(self.store, owner, error_code, wait_ms=wait_ms)

    def record_answer(self, owner: str) -> None:
        """The cloud took something: no wait, no failures."""
        numbering.record_answer(self.store, owner)

    def record_success(self, owner: str) -> None:
        """A round has done all that it could: no wait, no failures, and when that was."""
        numbering.record_success(self.store, owner)

    def resize_batches(self, owner: str, *, entries_max: int) -> None:
        """Later batches hold at most so many entries."""
        numbering.resize_batches(self.store, owner, entries_max=entries_max)

    def cursor(self, owner: str) -> str | None:
        """Where this user's reading stands; None: at the start."""
        cursor: str | None = self.store.value("drain", "cursor", owner=owner)
        return cursor

    def next_try_ms(self, owner: str) -> int:
        """How long to wait before trying by ourselves; 0: now."""
        return numbering.wait_before_next_try_ms(self.store, owner)


def _leads_no_further(step: Entry, reached: SchemaVersion) -> bool:
    version = Barrier.from_json(step.barrier_json or "").cloud_version
    return version is not None and SchemaVersion.parse(version) <= reached


def _upload_sql(collection: str, *, key_column: str, owner_column: str) -> str:
    key = quoted(key_column)
    return f"""
        INSERT INTO _sync_outbox (
          entry_id, owner, kind, collection, row_key, shape_version, group_id, migration, created_ms
        )
        SELECT (SELECT entry_id FROM _sync_newest_entry) + row_number() OVER (ORDER BY live.{key}),
               :owner, 'put', :collection, live.{key}, :shape_version,
               :group + row_number() OVER (ORDER BY live.{key}) - 1, :migration, :now_ms
        FROM {quoted(collection)} AS live
        WHERE live.{quoted(owner_column)} = :owner
          AND NOT EXISTS (
            SELECT 1
            FROM _sync_outbox AS o
            WHERE o.collection = :collection
              AND o.owner = :owner
              AND o.row_key = live.{key}
              AND o.fresh IS NULL
              AND o.kind = 'put'
              AND o.state = 'waiting'
          )
        ORDER BY live.{key}
    """


__all__ = ["Outbox"]
