"""Before a risky step there is a restore point."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from syncengine.clock import fresh_id, system_random
from syncengine.errors import LeaseLost, StoreBusy
from syncengine.local.identifiers import quoted
from syncengine.local.restore_points import make_restore_point, restore_point
from syncengine.local.version_table import read_installed
from syncengine.migrate.lease import LEASE_MS, Lease

if TYPE_CHECKING:
    from syncengine.local.keys import KeyProvider
    from syncengine.local.store import Store
    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.plan import Step
    from syncengine.migrate.run import RunContext

LEASE = "restore-point"
WAIT_MS = 20
RENEW_MS = LEASE_MS // 4


def protect(step: "Step", executor: "BaseMigrationExecutor", context: "RunContext") -> int | None:
    """The restore point that covers this step, made now if none was made after `context.began_after`.

    None where none is needed: the step is not risky, no row is there, another process has done it, or the store is a
    private copy (`context.keys` is None). Raises KeyUnavailable, RestorePointImpossible, DiskFull, StoreBusy:
    the step must not run then.
    """
    store = context.store
    if context.keys is None or not is_risky(executor) or not _has_rows(store):
        return None
    underway = store.value("restore_points", "of_shadow", migration=step.id)
    if underway is not None and _is_good(store, underway):
        return int(underway)
    since = context.began_after
    if since is None:
        since = int(store.value("restore_points", "newest_of_all"))
    lease = Lease(store, name=LEASE, holder=fresh_id(system_random()))
    deadline_ms = store.clock.monotonic_ms() + store.settings.starter_wait_ms_max
    while True:
        if lease.take():
            try:
                return _made(step, store, lease, keys=context.keys, since=since)
            except LeaseLost:
                pass  # this machine slept; whoever took over makes one
            finally:
                lease.release()
        if store.clock.monotonic_ms() >= deadline_ms:
            raise StoreBusy(
                "Another process has been making a restore point for too long.", fix="Nothing was changed; try again."
            )
        store.clock.pause(WAIT_MS)


def is_risky(executor: "BaseMigrationExecutor") -> bool:
    """Does this migration want a restore point, where there are rows?"""
    definition = executor.definition
    if definition.online or definition.backup == "never":
        return False
    return definition.critical or executor.rebuilds_tables or definition.backup == "always"


def _has_rows(store: "Store") -> bool:
    tables = [name for (name,) in store.rows("restore_points", "tables_of_the_app")]
    return any(store.query(f"SELECT 1 FROM {quoted(name)} LIMIT 1") for name in tables)


def _made(step: "Step", store: "Store", lease: Lease, *, keys: "KeyProvider", since: int) -> int | None:
    """Under the lease: nobody else makes one now, and what others made or did meanwhile can be seen."""
    installed = read_installed(store)
    if (step.id, step.scope) in installed.completed | installed.queued:
        return None
    there = store.value("restore_points", "made_since", since=since)
    if there is not None and _is_good(store, there):
        return int(there)
    point = make_restore_point(store, keys=keys, reason=f"before {step.id}", between=_renewing(store, lease))
    return point.restore_point_id


def _is_good(store: "Store", restore_point_id: int) -> bool:
    from syncengine.errors import RestorePointUnknown

    try:
        return restore_point(store, restore_point_id).state == "good"
    except RestorePointUnknown:
        return False


def _renewing(store: "Store", lease: Lease) -> Callable[[], None]:
    renewed_ms = store.clock.monotonic_ms()

    def between() -> None:
        nonlocal renewed_ms
        if store.clock.monotonic_ms() - renewed_ms < RENEW_MS:
            return
        try:
            with store.transaction():
                lease.renew()
        except StoreBusy:
            return  # somebody writes for long; the next piece tries again
        renewed_ms = store.clock.monotonic_ms()

    return between
