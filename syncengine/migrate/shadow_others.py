"""What others have begun beside live tables: waited for while somebody is at it, dropped where nobody will end it."""

from typing import TYPE_CHECKING

from syncengine.clock import fresh_id
from syncengine.local.version_table import read_installed
from syncengine.migrate.kept_tables import drop_shadow
from syncengine.migrate.lease import Lease
from syncengine.migrate.shadow_state import filling
from syncengine.migrate.shadow_waiting import Waiting

if TYPE_CHECKING:
    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.plan import Step
    from syncengine.migrate.results import MigrationResult
    from syncengine.migrate.run_context import RunContext

LEASE = "migrate"
TAKEOVERS_MAX = 100


def drop_other_shadows(step: "Step", executor: "BaseMigrationExecutor", context: "RunContext", *, own: bool) -> None:
    """What was begun and will never be ended: by a migration that is no longer known or pending, or, of this step's
    collections, by any other than this step (`own`: by this one, too). Nothing while another process is at it."""
    store, registry = context.store, context.registry
    begun = filling(store)
    if not begun:
        return
    known = {listed.id for listed in registry.migrations}
    done = {migration for migration, _ in read_installed(store).completed}
    over = [
        collection
        for collection, migration in begun.items()
        if migration not in known
        or migration in done
        or (collection in executor.definition.collections and (own or migration != step.id))
    ]
    lease = new_lease(context)
    if over and lease.take():
        try:
            for collection in over:
                drop_shadow(store, collection)
        finally:
            lease.release()


def after_other_process(
    step: "Step", executor: "BaseMigrationExecutor", context: "RunContext"
) -> "MigrationResult | None":
    """Wait while another process rewrites a collection of this step, which is to be done in one transaction.

    None when nothing is in its way any more; else what to give back: `already`, or what was asked for meanwhile.
    Raises StoreBusy when the other process does not move.
    """
    for _ in range(TAKEOVERS_MAX):
        busy = sorted(set(filling(context.store)) & set(executor.definition.collections))
        if not busy:
            break
        lease = new_lease(context)
        ended = Waiting(step, context, collection=busy[0], lease=lease).for_turn()
        if ended is not None:
            return ended
        lease.release()
        drop_other_shadows(step, executor, context, own=True)
    return None


def new_lease(context: "RunContext") -> Lease:
    """The right to rewrite collections, for this run to take."""
    return Lease(context.store, name=LEASE, holder=fresh_id(context.chance))
