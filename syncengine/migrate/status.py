"""Where a store or a user stands: done, to do, and the versions."""

from typing import TYPE_CHECKING

from syncengine.local.version_table import read_installed
from syncengine.migrate.history import completed_runs
from syncengine.migrate.planning import plan_of
from syncengine.migrate.results import MigrationStatus, PendingMigration
from syncengine.vocabulary import STORE_SCOPE, user_scope

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry


def status_of(store: "Store", registry: "MigrationRegistry", *, user: str | None) -> MigrationStatus:
    """The status of one user, store-scoped migrations included; of the store alone without a user."""
    installed = read_installed(store)
    mine = STORE_SCOPE if user is None else user_scope(user)
    # Of the way that this store goes: others in the list lead over squash edges and branches.
    plan = plan_of(store, registry, user=user)
    left = {step.id for step in (*plan.steps, *plan.skipped, *plan.held_back)} | set(plan.queued)
    pending = [
        PendingMigration(
            id=listed.id,
            required_for_version=str(listed.edge.to_version),
            queued=listed.id in plan.queued,
        )
        for listed in registry.migrations
        if listed.id in left
    ]
    current = installed.schema_version(mine) or registry.baseline
    return MigrationStatus(
        user=user,
        completed=completed_runs(store, scopes=(STORE_SCOPE, mine)),
        pending=tuple(pending),
        current_schema_version=str(current),
        target_schema_version=str(registry.target),
    )
