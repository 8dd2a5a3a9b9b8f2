"""Where a store or a user stands: done, to do, and the versions."""

from typing import TYPE_CHECKING

from syncengine.local.version_table import read_installed
from syncengine.migrate.history import completed_runs
from syncengine.migrate.results import MigrationStatus, PendingMigration
from syncengine.vocabulary import STORE_SCOPE, user_scope

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry


def status_of(store: "Store", registry: "MigrationRegistry", *, user: str | None) -> MigrationStatus:
    """The status of one user, store-scoped migrations included; of the store alone without a user."""
    installed = read_installed(store)
    mine = STORE_SCOPE if user is None else user_scope(user)
    pending = []
    for listed in registry.wanted():
        scope = STORE_SCOPE if listed.scope == STORE_SCOPE else mine
        if listed.scope != STORE_SCOPE and user is None:
            continue
        if (listed.id, scope) not in installed.completed:
            pending.append(
                PendingMigration(
                    id=listed.id,
                    required_for_version=str(listed.edge.to_version),
                    queued=(listed.id, scope) in installed.queued,
                )
            )
    current = installed.schema_version(mine) or registry.baseline
    return MigrationStatus(
        user=user,
        completed=completed_runs(store, scopes=(STORE_SCOPE, mine)),
        pending=tuple(pending),
        current_schema_version=str(current),
        target_schema_version=str(registry.target),
    )
