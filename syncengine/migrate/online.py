"""Migrations that need the cloud: queued in the outbox now, settled when the cloud has confirmed them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from syncengine.errors import MigrationInvalid
from syncengine.local.version_table import read_installed
from syncengine.migrate.definition import Counts, MigrationDefinition
from syncengine.migrate.executor import BaseMigrationExecutor
from syncengine.migrate.history import RunRecord, record_run, runs_of
from syncengine.migrate.markers import move_markers
from syncengine.vocabulary import user_scope

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.outbox.queue import Outbox


class OnlineExecutor(BaseMigrationExecutor):
    """A migration whose work is done at the cloud, through the outbox."""

    def queue(self, outbox: "Outbox", *, user: str) -> int:
        """Put the work into the user's outbox, in the caller's transaction; how many entries."""
        raise MigrationInvalid(f"{type(self).__name__} does not say what it queues.", fix="Write `queue`.")


class UploadExecutor(OnlineExecutor):
    """Send every row of the user that the cloud has never seen: one key-only put each."""

    def queue(self, outbox: "Outbox", *, user: str) -> int:
        definition = self.definition
        return sum(
            outbox.queue_uploads(owner=user, collection=name, migration=definition.id)
            for name in definition.collections
        )


def upload(
    *,
    id: str,  # noqa: A002
    from_version: str,
    to_version: str,
    collections: tuple[str, ...],
    name: str = "",
    description: str = "",
    after: tuple[str, ...] = (),
    critical: bool = False,
    consent: str | None = None,
) -> UploadExecutor:
    """A migration that uploads the user's rows of these collections."""
    executor = UploadExecutor()
    executor.definition = MigrationDefinition(  # type: ignore[misc]  # an author's class has one, this kind many
        id=id,
        name=name or id,
        description=description,
        from_version=from_version,
        to_version=to_version,
        collections=collections,
        after=after,
        critical=critical,
        consent=consent,
        online=True,
        scope="user",
    )
    return executor


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudRow:
    """A row as the cloud has it now."""

    collection: str
    key: str
    version: int
    body: dict[str, Any]
    shape_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudChange:
    """What is to become of a cloud row: kind put (`set` is the whole row), patch (`set` is what changes) or
    delete. It takes effect only if the row is still as it was read."""

    kind: str
    collection: str
    key: str
    set: dict[str, Any] | None = None


class CloudMigrationExecutor(OnlineExecutor):
    """A change of documents that are at the cloud already; the local store is not touched.

    It waits in the outbox as a barrier: entries of its collections that were queued later wait behind it.
    """

    def cloud_changes(self, rows: Sequence[CloudRow]) -> Iterable[CloudChange]:
        """The changes for a page of rows. Pure, and empty for rows that are right already."""
        raise MigrationInvalid(f"{type(self).__name__} does not say what it changes.", fix="Write `cloud_changes`.")

    def queue(self, outbox: "Outbox", *, user: str) -> int:
        definition = self.definition
        outbox.queue_barrier(
            owner=user,
            migration=definition.id,
            collections=definition.collections,
            cloud_version=None,
            works=True,
        )
        return 1


def settle(store: "Store", registry: "MigrationRegistry", *, user: str) -> tuple[str, ...]:
    """Mark the user's queued migrations as completed where nothing of them waits any more, oldest first.

    In the transaction that confirmed the entries. An unfinished one holds back those queued after it, since
    one entry may carry a row for both. Returns the ids that were completed.
    """
    scope = user_scope(user)
    installed = read_installed(store)
    done = []
    for migration, queued_rows, started_at in runs_of(store, scope=scope, state="queued"):
        if (migration, scope) in installed.completed or migration not in {m.id for m in registry.migrations}:
            continue
        if store.value("runs", "has_unconfirmed", owner=user, migration=migration):
            break
        refused = store.value("runs", "entries_refused", owner=user, migration=migration)
        listed = registry.listed(migration)
        record_run(
            store,
            RunRecord(
                migration=migration,
                scope=scope,
                from_version=str(listed.edge.from_version),
                to_version=str(listed.edge.to_version),
                state="completed",
                counts=Counts(read=queued_rows, written=queued_rows - refused, quarantined=refused),
                started_at=started_at,
            ),
        )
        done.append(migration)
    if done:
        _tell_profile(store, registry, user)
    return tuple(done)


def _tell_profile(store: "Store", registry: "MigrationRegistry", user: str) -> None:
    """The profile says what is done; once nothing is queued any more, the cloud's copy of it is told, too."""
    from syncengine.outbox.queue import Outbox

    move_markers(store, registry, user=user)
    installed = read_installed(store)
    scope = user_scope(user)
    if registry.profile is None or any(where == scope for _, where in installed.queued):
        return
    name = registry.profile[0]
    uploads = [
        listed.id for listed in registry.wanted() if listed.online and (listed.id, scope) in installed.completed
    ]
    if any(name in registry.get_migration_executor(upload).definition.collections for upload in uploads):
        Outbox(store).queue_uploads(owner=user, collection=name, migration=None)
