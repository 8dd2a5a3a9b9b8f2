"""What the engine is doing, as one frozen value; derived from rows and never from a flag that could stick."""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from syncengine.clock import iso
from syncengine.errors import StoreDamaged, SyncEngineError
from syncengine.local.version_table import read_installed
from syncengine.migrate.erasing import NOTHING_ERASED, ErasureState, read_erasures
from syncengine.migrate.failures import FailedMigration, failed_migrations
from syncengine.migrate.planning import plan_of
from syncengine.migrate.readiness import USABLE, CollectionState, collection_states
from syncengine.vocabulary import STORE_SCOPE, user_scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from syncengine.local.store import Store
    from syncengine.migrate.plan import Plan
    from syncengine.migrate.registry import MigrationRegistry

Part = TypeVar("Part")

NetworkHint = tuple[bool | None, bool | None, str]
"""What the host says: online, metered, and when it said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationState:
    """`pending` still has to run on this device; `queued` waits for the cloud; `failed` is pending, too."""

    current: str
    target: str
    cloud: str | None
    pending: int
    queued: int
    failed: tuple[FailedMigration, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxState:
    """A user's entries by state, and of all users where nobody is signed in; times as ISO-8601 UTC. `unsent`: all
    that are not at the cloud yet, as far as is known here: the `waiting`, the
    `claimed`, whose answer has not come, and the `held`, which wait behind quarantine."""

    unsent: int
    waiting: int
    claimed: int
    held: int
    confirmed: int
    oldest_at: str | None


NOTHING_WAITS = OutboxState(unsent=0, waiting=0, claimed=0, held=0, confirmed=0, oldest_at=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connectivity:
    """The last verdict of the probe and what it rests on, from this process or another one. `at`: since when it
    holds. It does not change by itself: where nobody starts or syncs, it is what was last known."""

    verdict: str
    reason: str | None
    at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncState:
    """`activity`: stopped (not started), paused, running, or no_backend. `last_success_at`: when a round last did all
    that it could, sent and read. `attempts` and `last_error`: how many have failed since the cloud last took
    something, and the code of the last one, at the cloud or here. `next_try_at`: until then the background waits
    after a failure; None: for nothing."""

    activity: str
    attempts: int
    last_success_at: str | None
    next_try_at: str | None
    last_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingState:
    """What came from the cloud for a user, or for all where nobody is signed in. `at_head`: the last page was the
    end; None where nothing was read yet. `read_at`: when the last
    page came. `parked` rows cannot be taken yet; `conflicts` are fields that both sides had changed."""

    at_head: bool | None
    read_at: str | None
    parked: int
    conflicts: int


NOTHING_READ = ReadingState(at_head=None, read_at=None, parked=0, conflicts=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything a settings page or a support person asks first."""

    user: str | None
    read_only: str | None
    """The code of what makes the store read-only, or None. Of a damaged store, what cannot be read counts as 0."""
    synced: bool
    """A cloud has confirmed, and nothing is left: outbox empty, read to the end, nothing parked or in quarantine, no
    migration pending, the app not too old for the cloud."""
    migration: MigrationState
    outbox: OutboxState
    others_unsent: int
    """What other users of this device have not sent; 0 where nobody is signed in, as `outbox` counts all then."""
    reading: ReadingState
    quarantined: int
    """What waits for a person: of this user, and what is nobody's."""
    connectivity: Connectivity
    sync: SyncState
    erasures: ErasureState
    """What may still hold values that a migration has erased."""
    collections: dict[str, CollectionState]
    """Which collections the app may use now, and why not."""

    def __repr__(self) -> str:
        """What is asked first; the fields have the rest."""
        left = f"waiting={self.outbox.waiting}, claimed={self.outbox.claimed}, held={self.outbox.held}"
        told = f"version={self.migration.current!r}, {left}, quarantined={self.quarantined}"
        how = f"verdict={self.connectivity.verdict!r}, activity={self.sync.activity!r}"
        if self.others_unsent:
            told += f", others_unsent={self.others_unsent}"
        if self.migration.failed:
            how += f", failed={ {failed.id: failed.why for failed in self.migration.failed} }"
        if waits := [name for name, state in self.collections.items() if state.state != USABLE]:
            how += f", not_usable={waits}"
        return f"Status(user={self.user!r}, synced={self.synced}, {told}, {how})"

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        return asdict(self)


def read_status(
    store: "Store",
    registry: "MigrationRegistry",
    *,
    user: str | None,
    activity: str,
    hint: NetworkHint | None = None,
    unnoted_error: str | None = None,
) -> Status:
    """The status as the store has it now, in one transaction-free look. Damage is no reason to say nothing.

    `unnoted_error`: what ended the last round, where the store could not take a note of it.
    """
    migration = _as_far_as(store, lambda: _migration_state(store, registry, user), _unknown(registry))
    outbox, others_unsent = _as_far_as(store, lambda: _outbox_state(store, user), (NOTHING_WAITS, 0))
    reading = _as_far_as(store, lambda: _reading_state(store, user), NOTHING_READ)
    quarantined = _as_far_as(store, lambda: int(store.value("looks", "quarantined", user=user)), 0)
    network: dict[str, str] = _as_far_as(store, lambda: dict(store.rows("status", "network", owner=user or "")), {})
    sync = _as_far_as(store, lambda: _sync_state(store, user, activity), _never_sent(activity))
    if unnoted_error is not None:
        sync = replace(sync, last_error=unnoted_error)
    erasures = _as_far_as(store, lambda: read_erasures(store), NOTHING_ERASED)
    collections = _as_far_as(store, lambda: collection_states(store, registry), None)
    connectivity = _connectivity(network, hint)
    left = outbox.unsent + quarantined + migration.pending + migration.queued + reading.parked
    left += reading.at_head is False or connectivity.verdict == "schema_blocked"
    read_only = store.read_only
    return Status(
        user=user,
        read_only=None if read_only is None else read_only.code,
        synced=not left and read_only is None and sync.last_success_at is not None,
        migration=migration,
        outbox=outbox,
        others_unsent=others_unsent,
        reading=reading,
        quarantined=quarantined,
        connectivity=connectivity,
        sync=sync,
        erasures=erasures,
        collections=collection_states(store, registry) if collections is None else collections,
    )


def _connectivity(network: dict[str, str], hint: NetworkHint | None) -> Connectivity:
    """The last verdict. What the host has said since then counts before the background has looked at it."""
    verdict, reason = str(network.get("probe_verdict", "unknown")), network.get("probe_reason")
    seen = Connectivity(verdict=verdict, reason=reason, at=network.get("probe_at"))
    if hint is None:
        return seen
    online, metered, said_at = hint
    if online is False:
        return Connectivity(verdict="offline", reason="host_says_offline", at=said_at)
    if reason == "host_says_offline":
        return Connectivity(verdict="unknown", reason="not_looked_yet", at=said_at)
    if metered and verdict == "online":
        return Connectivity(verdict="metered", reason="host_says_metered", at=seen.at)
    if verdict == "metered" and not metered:
        return Connectivity(verdict="online", reason="backend_answered", at=seen.at)
    return seen


def _as_far_as(store: "Store", read: "Callable[[], Part]", otherwise: Part) -> Part:
    """A part of the status, or what stands for it in a store that cannot be read whole."""
    try:
        return read()
    except StoreDamaged as error:
        # What is read here the engine wrote, so nothing else can be there but by damage.
        store.note_damage(error, why=error.why)
        return otherwise
    except SyncEngineError:
        if store.read_only is None:
            raise
        return otherwise


def _unknown(registry: "MigrationRegistry") -> MigrationState:
    return MigrationState(current="unknown", target=str(registry.target), cloud=None, pending=0, queued=0)


def _never_sent(activity: str) -> SyncState:
    return SyncState(activity=activity, attempts=0, last_success_at=None, next_try_at=None, last_error=None)


def _migration_state(store: "Store", registry: "MigrationRegistry", user: str | None) -> MigrationState:
    installed = read_installed(store)
    # A plan knows which way this store goes; it loads no migration where nothing is pending.
    plan = plan_of(store, registry, user=user)
    cloud = installed.cloud_versions.get(user_scope(user)) if user else None
    return MigrationState(
        current=str(installed.schema_version(STORE_SCOPE) or registry.baseline),
        target=str(registry.target),
        cloud=None if cloud is None else str(cloud),
        pending=len(plan.steps),
        queued=len(plan.queued),
        failed=_failed(store, plan),
    )


def _failed(store: "Store", plan: "Plan") -> tuple[FailedMigration, ...]:
    """Nothing is looked up where nothing is pending."""
    pending = {(step.id, step.scope) for step in plan.steps}
    found = failed_migrations(store, user=plan.user) if pending else ()
    return tuple(failed for failed in found if (failed.id, failed.scope) in pending)


def _outbox_state(store: "Store", user: str | None) -> tuple[OutboxState, int]:
    """With what the others have not sent."""
    waiting, claimed, held, oldest_at, others = store.rows("looks", "queue", user=user)[0]
    found = OutboxState(
        unsent=waiting + claimed + held,
        waiting=waiting,
        claimed=claimed,
        held=held,
        confirmed=int(store.rows("looks", "drain", user=user)[0][0]),
        oldest_at=oldest_at,
    )
    return found, others


def _reading_state(store: "Store", user: str | None) -> ReadingState:
    at_head, read_at, parked, conflicts = store.rows("looks", "reading", user=user)[0]
    return ReadingState(
        at_head=None if at_head is None else bool(at_head),
        read_at=read_at,
        parked=parked,
        conflicts=conflicts,
    )


def _sync_state(store: "Store", user: str | None, activity: str) -> SyncState:
    row = store.row("status", "drain", owner=user or "") or (0, None, None, None)
    attempts, last_success_at, next_try_at, last_error = row
    if next_try_at is not None and next_try_at <= iso(store.clock.now_ms()):
        next_try_at = None
    return SyncState(
        activity=activity,
        attempts=int(attempts),
        last_success_at=last_success_at,
        next_try_at=next_try_at,
        last_error=last_error,
    )
