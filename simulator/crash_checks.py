"""What must be true of a store after the app was killed at any moment. Reading is one step, judging another.

The oracle is not the engine: table shapes come from undisturbed runs, row counts from whoever wrote the old store.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from simulator.asyncstorage_writer import WrittenStore
from simulator.sqlite_shell import damage
from simulator.store_sight import Sight, sight
from syncengine.local.identifiers import quoted
from syncengine.migrate.registry import MigrationRegistry
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion, user_scope

Columns = Mapping[str, tuple[str, ...]]
"""By collection, the columns of its table; a collection without a table is not in it."""
Keys = Mapping[str, frozenset[str]]
"""By collection, the keys of one user's rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFacts:
    """All that is looked at, from one moment of the file and of the server's."""

    damage: str
    broken_references: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    """By scope, what the version table says."""
    gone: frozenset[tuple[str, str]] = frozenset()
    """(migration, scope) of what was completed or queued."""
    columns: Columns = field(default_factory=dict)
    local: Keys = field(default_factory=dict)
    waiting: Keys = field(default_factory=dict)
    """Rows that an outbox entry is for."""
    cloud: Keys = field(default_factory=dict)
    set_aside: Mapping[str, int] = field(default_factory=dict)
    """Quarantine items by collection."""
    without_reason: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the facts are held against."""

    registry: MigrationRegistry
    columns_at: Mapping[str, Columns]
    """By version, the tables of an undisturbed run."""
    written: WrittenStore


def read_facts(store: Path, *, registry: MigrationRegistry, user: str, cloud_folder: Path) -> StoreFacts:
    """Look at the file and at the server's. Where there is no file yet, or nothing in it, the facts are empty."""
    if not store.exists():
        return StoreFacts(damage="")
    found_damage = damage(store)
    if found_damage:
        return StoreFacts(damage=found_damage)
    with sight(store) as seen:
        if not seen.rows("SELECT 1 FROM sqlite_schema WHERE name = '_sync_state'"):
            return StoreFacts(damage="", columns=_columns(seen, registry))
        return StoreFacts(
            damage="",
            broken_references=len(seen.rows("PRAGMA foreign_key_check")),
            versions=dict(seen.rows("SELECT scope, schema_version FROM _sync_version")),
            gone=frozenset(
                (migration, scope)
                for migration, scope in seen.rows(
                    "SELECT migration, scope FROM _sync_run WHERE state IN ('completed', 'queued')"
                )
            ),
            columns=_columns(seen, registry),
            local=_local_keys(seen, registry, user),
            waiting=_keys(seen.rows("SELECT collection, row_key FROM _sync_outbox WHERE kind = 'put'")),
            cloud=_cloud_keys(cloud_folder, user),
            set_aside=dict(seen.rows("SELECT collection, count(*) FROM _sync_quarantine GROUP BY collection")),
            without_reason=len(seen.rows("SELECT 1 FROM _sync_quarantine WHERE trim(error_text) = ''")),
        )


def _columns(seen: Sight, registry: MigrationRegistry) -> Columns:
    found = {
        name: tuple(column for (column,) in seen.rows("SELECT name FROM pragma_table_info(:name)", name=name))
        for name in registry.collections
    }
    return {name: columns for name, columns in found.items() if columns}


def read_columns(store: Path, *, registry: MigrationRegistry) -> Columns:
    """The tables of a store that nobody disturbed."""
    with sight(store) as seen:
        return _columns(seen, registry)


def _local_keys(seen: Sight, registry: MigrationRegistry, user: str) -> Keys:
    keys: dict[str, frozenset[str]] = {}
    for name in _columns(seen, registry):
        collection = registry.collections[name]
        assert collection.owner is not None
        sql = f"SELECT {quoted(collection.key)} FROM {quoted(name)} WHERE {quoted(collection.owner)} = :user"
        keys[name] = frozenset(key for (key,) in seen.rows(sql, user=user))
    return keys


def _cloud_keys(cloud_folder: Path, user: str) -> Keys:
    with sight(cloud_folder / "cloud.db") as seen:
        return _keys(seen.rows("SELECT collection, key FROM document WHERE tenant = :user", user=user))


def _keys(rows: Iterable[tuple[str, str]]) -> Keys:
    keys: dict[str, set[str]] = {}
    for collection, key in rows:
        keys.setdefault(collection, set()).add(key)
    return {collection: frozenset(found) for collection, found in keys.items()}


def faults(facts: StoreFacts, *, user: str, expected: Expected) -> list[str]:
    """Every promise that the facts break, as a sentence; none for a sound store. Pure."""
    if facts.damage:
        return [f"the file is damaged: {facts.damage}"]
    return [
        *_faults_of_records(facts),
        *_faults_of_shapes(facts, expected),
        *_faults_of_versions(facts, user, expected.registry),
        *_faults_of_imports(facts, user, expected),
        *_faults_of_uploads(facts, user, expected.registry),
    ]


def _faults_of_records(facts: StoreFacts) -> Iterator[str]:
    if facts.broken_references:
        yield f"{facts.broken_references} rows refer to nothing"
    if facts.without_reason:
        yield f"{facts.without_reason} items are in quarantine without a reason"


def _faults_of_shapes(facts: StoreFacts, expected: Expected) -> Iterator[str]:
    """Each table has the columns of the last migration that, by the history, rebuilt it."""
    registry = expected.registry
    wanted: dict[str, tuple[str, ...]] = {}
    for listed in sorted(registry.migrations, key=lambda listed: listed.edge):
        if listed.scope == STORE_SCOPE and (listed.id, STORE_SCOPE) in facts.gone:
            for name in registry.get_migration_executor(listed.id).definition.collections:
                wanted[name] = expected.columns_at[str(listed.edge.to_version)][name]
    for name in sorted(wanted.keys() | facts.columns.keys()):
        if wanted.get(name) != facts.columns.get(name):
            yield f"the history says that {name} has the columns {wanted.get(name)}; it has {facts.columns.get(name)}"


def _faults_of_versions(facts: StoreFacts, user: str, registry: MigrationRegistry) -> Iterator[str]:
    """The version table says no more and no less than the history."""
    store = _version_by_history(facts, registry, kind=STORE_SCOPE, scope=STORE_SCOPE)
    own = min(store, _version_by_history(facts, registry, kind="user", scope=user_scope(user)))
    for scope, wanted in ((STORE_SCOPE, store), (user_scope(user), own)):
        said = facts.versions.get(scope, str(registry.baseline))
        if said != str(wanted):
            yield f"the version table says {said} for {scope}; by the history it is at {wanted}"


def _version_by_history(facts: StoreFacts, registry: MigrationRegistry, *, kind: str, scope: str) -> SchemaVersion:
    undone = [
        listed.edge.from_version
        for listed in registry.migrations
        if listed.scope == kind and (listed.id, scope) not in facts.gone
    ]
    return min(undone, default=registry.target)


def _faults_of_imports(facts: StoreFacts, user: str, expected: Expected) -> Iterator[str]:
    """Each element of the old store is a row or in quarantine, once the import is done; before, nothing of it is."""
    for migration, name, elements in (
        ("journey-storage-v1-to-v2", "journeys", expected.written.walks_total),
        (
            "places-storage-v1-to-v2",
            "places",
            expected.written.places_total - expected.written.places_repeated_id,
        ),
        ("dismissed-places-storage-v1-to-v2", "dismissed_places", expected.written.dismissed_total),
        ("profile-storage-v1-to-v2", "profile", 1),
        ("profile-storage-v1-to-v2", "preferences", 1),
    ):
        wanted = elements if (migration, user_scope(user)) in facts.gone else 0
        rows, set_aside = len(facts.local.get(name, ())), facts.set_aside.get(name, 0)
        if rows + set_aside != wanted:
            yield f"{name}: {wanted} were to be imported; {rows} are rows and {set_aside} in quarantine"


def _faults_of_uploads(facts: StoreFacts, user: str, registry: MigrationRegistry) -> Iterator[str]:
    """Each row of a queued upload waits or is at the server; no row is there of which nothing is known here."""
    uploads = [listed.id for listed in registry.migrations if listed.online]
    for migration in uploads:
        if (migration, user_scope(user)) not in facts.gone:
            continue
        for name in registry.get_migration_executor(migration).definition.collections:
            there = facts.waiting.get(name, frozenset()) | facts.cloud.get(name, frozenset())
            if lost := facts.local.get(name, frozenset()) - there:
                yield f"{name}: {len(lost)} rows neither wait nor are at the server"
    for name, keys in facts.cloud.items():
        if unknown := keys - facts.local.get(name, frozenset()):
            yield f"{name}: {len(unknown)} rows at the server are not in the store"
