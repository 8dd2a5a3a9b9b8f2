"""Queue an online migration in the outbox, beside the user's own entries."""

from typing import TYPE_CHECKING

from syncengine.local.version_table import read_installed
from syncengine.migrate.definition import Counts
from syncengine.outbox.queue import Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from syncengine.local.version_table import Installed
    from syncengine.migrate.online import OnlineExecutor
    from syncengine.migrate.plan import Step
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.migrate.run import RunContext


def queue_online(executor: "OnlineExecutor", step: "Step", context: "RunContext") -> Counts:
    """Queue its entries; behind the last online migration of a hop, the word to the cloud that it is reached."""
    assert context.user is not None, "an online migration belongs to a user"
    outbox = Outbox(context.store)
    queued = executor.queue(outbox, user=context.user)
    if _is_last_of_hop(step, context):
        outbox.queue_barrier(
            owner=context.user,
            migration=f"cloud-version-{step.hop.to_version}",
            collections=_collections_of_hop(step, context),
            cloud_version=str(step.hop.to_version),
            works=False,
        )
    return Counts(read=queued)


def _is_last_of_hop(step: "Step", context: "RunContext") -> bool:
    installed = read_installed(context.store)
    gone = {migration for migration, scope in installed.completed | installed.queued if scope == step.scope}
    return all(
        listed.id in gone for listed in context.registry.of_hop(step.hop) if listed.online and listed.id != step.id
    )


def _collections_of_hop(step: "Step", context: "RunContext") -> tuple[str, ...]:
    names: set[str] = set()
    for listed in context.registry.of_hop(step.hop):
        if listed.online:
            names |= set(context.registry.get_migration_executor(listed.id).definition.collections)
    return tuple(sorted(names))


def queue_what_came_late(step: "Step", context: "RunContext", collections: tuple[str, ...]) -> None:
    """Rows that were imported after their collections had been uploaded are queued by themselves."""
    assert context.user is not None, "an import belongs to a user"
    sent = uploaded_collections(context.registry, read_installed(context.store), scope=step.scope)
    for name in sorted(sent & set(collections)):
        Outbox(context.store).queue_uploads(owner=context.user, collection=name, migration=None)


def uploaded_collections(registry: "MigrationRegistry", installed: "Installed", *, scope: str) -> set[str]:
    """Collections whose rows of one user the cloud has, or will have: what is new there is queued by itself."""
    online = _online(registry, installed, scope=scope)
    return {name for names, is_queued in online if is_queued for name in names}


def waits_for_upload(registry: "MigrationRegistry", installed: "Installed", *, collection: str, scope: str) -> bool:
    """Whether a migration that has not run for this user yet is the first to send the rows of a collection."""
    of_it = [is_queued for names, is_queued in _online(registry, installed, scope=scope) if collection in names]
    return bool(of_it) and not any(of_it)


def _online(
    registry: "MigrationRegistry", installed: "Installed", *, scope: str
) -> "Iterator[tuple[tuple[str, ...], bool]]":
    """The collections of each online migration, and whether it has been queued for this scope."""
    gone = installed.completed | installed.queued
    for listed in registry.wanted():
        if listed.online:
            names = registry.get_migration_executor(listed.id).definition.collections
            yield names, (listed.id, scope) in gone
