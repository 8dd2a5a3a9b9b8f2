"""What a person decides about a migration without running it: it is done already, or it is left out."""

from typing import TYPE_CHECKING

from syncengine.clock import iso
from syncengine.errors import MigrationInvalid
from syncengine.local.version_table import read_installed
from syncengine.migrate.history import RunRecord, record_run
from syncengine.migrate.markers import move_markers
from syncengine.vocabulary import STORE_SCOPE, user_scope

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry

REASON_LETTERS_MAX = 500


def mark_done(store: "Store", registry: "MigrationRegistry", migration_id: str, *, user: str | None) -> None:
    """Record a migration as done, for data that was moved by other means. Raises MigrationInvalid."""
    scope = _scope(registry, migration_id, user)
    with store.transaction(durable=True):
        if (migration_id, scope) in read_installed(store).completed:
            return
        record_run(
            store, _record(store, registry, migration_id, scope, state="completed", said="marked as done by hand")
        )
        move_markers(store, registry, user=user)


def skip_migration(
    store: "Store", registry: "MigrationRegistry", migration_id: str, *, user: str | None, reason: str
) -> None:
    """Leave a migration out until somebody runs it by name. Raises MigrationInvalid for a critical one."""
    if not reason.strip() or len(reason) > REASON_LETTERS_MAX:
        raise MigrationInvalid(
            f"Migration {migration_id} was to be skipped without a reason.",
            why=f"it is kept in the history, in 1 to {REASON_LETTERS_MAX} letters",
            fix="Say why. Nothing was changed.",
        )
    if registry.get_migration_executor(migration_id).definition.critical:
        raise MigrationInvalid(
            f"Migration {migration_id} cannot be skipped.",
            why="it is critical: the app does not work without it",
            fix="Run it: engine.migrate(). Nothing was changed.",
        )
    scope = _scope(registry, migration_id, user)
    with store.transaction(durable=True):
        installed = read_installed(store)
        if (migration_id, scope) in installed.completed | installed.queued:
            raise MigrationInvalid(
                f"Migration {migration_id} cannot be skipped.", why="it has run", fix="Nothing was changed."
            )
        if (migration_id, scope) not in installed.skipped:
            record_run(store, _record(store, registry, migration_id, scope, state="skipped", said=reason))


def _scope(registry: "MigrationRegistry", migration_id: str, user: str | None) -> str:
    if registry.listed(migration_id).scope == STORE_SCOPE:
        return STORE_SCOPE
    if not user:
        raise MigrationInvalid(f"Migration {migration_id} is done for each user.", fix="Name the user.")
    return user_scope(user)


def _record(
    store: "Store", registry: "MigrationRegistry", migration_id: str, scope: str, *, state: str, said: str
) -> RunRecord:
    edge = registry.listed(migration_id).edge
    return RunRecord(
        migration=migration_id,
        scope=scope,
        from_version=str(edge.from_version),
        to_version=str(edge.to_version),
        state=state,
        method="by_hand",
        started_at=iso(store.clock.now_ms()),
        warnings=(said,),
    )
