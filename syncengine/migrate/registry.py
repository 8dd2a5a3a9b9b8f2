"""The known migrations: a graph of versions that leads to the newest, listed by hand, loaded when needed.

The list itself is cheap: an app that starts with nothing to do imports none of its migration modules.
"""

from __future__ import annotations

from syncengine.errors import MigrationInvalid, RegistryInvalid, StoreSuperseded
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion, user_scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping
    from typing import Any, Final

    from syncengine.local.version_table import Installed
    from syncengine.migrate.definition import MigrationDefinition
    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.service import DataMigrationService

    Row = Mapping[str, Any]
    Merge = Callable[[Row | None, Row | None, Row | None], Row | None]

_RESERVED = ("sqlite_", "_sync_")
MERGE_POLICIES = ("merge", "server_wins", "client_wins")


class Collection:
    """A named kind of row: one table, one TEXT key column, and the column that says whose row it is.

    `labels` say what its rows are, in the app's words, such as "health" or "location": users see them before they
    agree, and a migration of several collections that could lose one has to say so. Raises RegistryInvalid.

    `merge` says which value stays where this device and another one changed the same field of a row: "merge" or
    "client_wins" this device's, "server_wins" the other's, which came to the cloud first. They differ in what becomes
    of a row that another device deleted and this one edited: "merge" and "server_wins" let it go, and set the edit
    aside; "client_wins" makes it again. A function is asked with the row as it was before the local edits, as it is
    here, and as it is at the cloud (None: not there), and returns the row as it shall be, or None to delete it; a
    field that both changed and that it leaves out is the cloud's. Fields that only one side changed are never lost,
    and each conflict is recorded.
    """

    __slots__ = ("key", "labels", "merge", "name", "owner")

    def __init__(
        self,
        name: str,
        *,
        key: str = "id",
        owner: str | None = "user_id",
        labels: tuple[str, ...] = (),
        merge: str | Merge = "merge",
    ) -> None:
        _check_name(name, of="A collection")
        _check_name(key, of=f"The key column of collection {name}")
        if owner is not None:
            _check_name(owner, of=f"The owner column of collection {name}")
        if name.lower().startswith(_RESERVED):
            raise RegistryInvalid(
                f"Collection {name} has a name that is taken.",
                why=f"{' and '.join(_RESERVED)} begin the names of SQLite's own tables and of the engine's",
                fix="Give the collection and its table another name.",
            )
        if merge not in MERGE_POLICIES and not callable(merge):
            raise RegistryInvalid(
                f"Collection {name} is merged in a way that is not known.",
                fix=f"merge= is {', '.join(MERGE_POLICIES)}, or a function of (base, local, server).",
            )
        if isinstance(labels, str) or not all(isinstance(label, str) and label.isprintable() for label in labels):
            raise RegistryInvalid(
                f"The labels of collection {name} are no tuple of words.", fix='labels=("health",): mind the comma.'
            )
        self.labels: Final = tuple(labels)
        self.merge: Final = merge
        self.name: Final = name
        self.key: Final = key
        self.owner: Final = owner
        """Part of the primary key, before the key. None: rows of nobody, which are not synced."""

    @property
    def merge_policy(self) -> str:
        """The word for `merge` in tables and on the wire: merge, server_wins, client_wins or function."""
        return self.merge if isinstance(self.merge, str) else "function"


class Hop(tuple[SchemaVersion, SchemaVersion]):
    """All migrations that share from and to. Orders by version."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Hop:
        """Read "1.0.0 > 2.0.0". Raises ValueError."""
        start, arrow, end = text.partition(">")
        if not arrow:
            raise ValueError(f"not a hop: {text!r} (expected 1.0.0 > 2.0.0)")
        return cls((SchemaVersion.parse(start.strip()), SchemaVersion.parse(end.strip())))

    @property
    def from_version(self) -> SchemaVersion:
        return self[0]

    @property
    def to_version(self) -> SchemaVersion:
        return self[1]

    @property
    def is_major(self) -> bool:
        """2.4.1 > 3.0.0 is; 2.4.1 > 2.5.0 is not."""
        return self[1].major > self[0].major

    def __str__(self) -> str:
        return f"{self[0]} > {self[1]}"


class ListedMigration:
    """One line of the list: enough to see that nothing is pending, and where the code is.

    `hop` is "1.0.0 > 2.0.0"; `at` is "package.module:name", imported when it is pending, or the migration itself
    where a lean start does not matter; `scope` "store" is done
    once for all owners' rows, "user" once for each user; `stands_for` names, of a squash edge, the ids whose work
    this one does in one step.
    """

    __slots__ = ("at", "hop", "id", "online", "scope", "stands_for")

    def __init__(
        self,
        id: str,  # noqa: A002
        hop: str,
        at: str | BaseMigrationExecutor | type[BaseMigrationExecutor],
        scope: str = "store",
        *,
        online: bool = False,
        stands_for: tuple[str, ...] = (),
    ) -> None:
        self.id: Final = id
        self.hop: Final = hop
        self.at: Final = at
        self.scope: Final = scope
        self.online: Final = online
        self.stands_for: Final = stands_for

    @property
    def edge(self) -> Hop:
        return Hop.parse(self.hop)


class MigrationRegistry:
    """All migrations of one app. `baseline` is what a store without a version is; `target` what the app wants.

    `profile` names the collection and column that carry each user's migration status as JSON. With
    `asks_for_major=False` a major version is migrated unasked, as a minor one is.
    Raises RegistryInvalid for a repeated id, a hop that goes nowhere, or a version that does not lead to target.
    """

    def __init__(
        self,
        *,
        app: str,
        baseline: str,
        target: str,
        collections: Iterable[Collection],
        migrations: Iterable[ListedMigration] = (),
        profile: tuple[str, str] | None = None,
        app_version: str | None = None,
        asks_for_major: bool = True,
    ) -> None:
        self.app = app
        self.asks_for_major = asks_for_major
        self.app_version = app_version or target
        self.baseline = SchemaVersion.parse(baseline)
        self.target = SchemaVersion.parse(target)
        self.collections = {collection.name: collection for collection in collections}
        self.profile = profile
        self._listed: dict[str, ListedMigration] = {}
        self._hops: dict[str, Hop] = {}
        self._executors: dict[str, BaseMigrationExecutor] = {}
        self.ladders: dict[tuple[str, SchemaVersion, SchemaVersion], Any] = {}
        """What lifting has found out about the ways between two shapes of a collection."""
        self.register_core_migrations(migrations)

    def register_core_migrations(self, migrations: Iterable[ListedMigration]) -> None:
        """Add a whole list and check that the graph still converges."""
        for migration in migrations:
            self._add(migration)
        self.check_graph()

    def register_migration(
        self, migration_id: str, executor: BaseMigrationExecutor, dependencies: tuple[str, ...] = ()
    ) -> None:
        """Add one migration from outside the list, such as a plug-in's. Raises RegistryInvalid, MigrationInvalid."""
        definition = executor.definition
        missing = set(dependencies) - set(definition.after)
        if missing or definition.id != migration_id:
            raise RegistryInvalid(
                f"Migration {migration_id} is registered in another way than it defines itself.",
                why=f"id {definition.id!r}; dependencies that it does not name in `after`: {sorted(missing)}",
                fix="Give the definition the same id and `after`.",
            )
        if migration_id in self._listed:
            raise RegistryInvalid(f"Migration {migration_id} is listed twice.", fix="Give each its own id.")
        self.check_collections(definition)
        self.check_labels(executor)
        self.check_erasing(executor)
        try:
            self._register(executor)
        except RegistryInvalid:
            for known in (self._listed, self._hops, self._executors):
                known.pop(migration_id, None)
            raise

    def check_collections(self, definition: MigrationDefinition) -> None:
        """Every collection of a migration must be declared. Raises RegistryInvalid."""
        unknown = sorted(set(definition.collections) - set(self.collections))
        if unknown:
            raise RegistryInvalid(
                f"Migration {definition.id} names collections that the registry does not declare.",
                why=", ".join(unknown),
            )

    def check_labels(self, executor: BaseMigrationExecutor) -> None:
        """What a migration reads from one of its collections it may write to another. Raises MigrationInvalid.

        An import reads no collection; what makes tables or uploads rows moves none.
        """
        definition = executor.definition
        if not executor.changes_rows or definition.source is not None or definition.may_lose_labels:
            return
        labels = self.labels_of(definition.collections)
        for name in definition.collections:
            lost = [label for label in labels if label not in self.collections[name].labels]
            if lost:
                raise MigrationInvalid(
                    f"Migration {definition.id} could move labelled rows to {name}, which has not their labels.",
                    why=f"{name} is not labelled {', '.join(lost)}, and another of its collections is",
                    fix="Label the collection, or say may_lose_labels=True. Nothing was changed.",
                )

    def check_erasing(self, executor: BaseMigrationExecutor) -> None:
        """What a migration erases no code of its own may bring back. Raises MigrationInvalid."""
        if not executor.definition.erases:
            return
        from syncengine.migrate.definition import way_down_refused

        if executor.has_undo:
            raise way_down_refused(executor.definition)

    def labels_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """The labels of these collections, each once, in order."""
        return tuple(dict.fromkeys(label for name in names for label in self.collections[name].labels))

    def _register(self, executor: BaseMigrationExecutor) -> None:
        definition = executor.definition
        hop = f"{definition.from_version} > {definition.to_version}"
        self._executors[definition.id] = executor
        self._add(
            ListedMigration(
                definition.id,
                hop,
                "",
                definition.scope,
                online=definition.online,
                stands_for=definition.stands_for,
            )
        )
        self.check_graph()

    def _add(self, migration: ListedMigration) -> None:
        _check_name(migration.id, of="A migration")
        if migration.id in self._listed:
            raise RegistryInvalid(f"Migration {migration.id} is listed twice.", fix="Give each its own id.")
        if migration.scope not in ("store", "user"):
            raise RegistryInvalid(f"Migration {migration.id} has scope {migration.scope!r}.", fix="store or user.")
        if migration.online and migration.scope != "user":
            raise RegistryInvalid(
                f"Migration {migration.id} is online and store-scoped.",
                why="cloud data belongs to users",
                fix='Say scope="user".',
            )
        try:
            self._hops[migration.id] = Hop.parse(migration.hop)
        except ValueError as error:
            raise RegistryInvalid(f"Migration {migration.id} has no good hop.", why=str(error)) from error
        self._listed[migration.id] = migration
        self.ladders.clear()

    def check_graph(self) -> None:
        """Every version must lead to the target. Raises RegistryInvalid."""
        into: dict[SchemaVersion, list[Hop]] = {}
        for hop in self._hops.values():
            if hop.from_version >= hop.to_version:
                raise RegistryInvalid(f"The hop {hop} does not go forward.")
            into.setdefault(hop.to_version, []).append(hop)
        leads = {self.target}
        frontier = [self.target]
        while frontier:
            before = {hop.from_version for version in frontier for hop in into.get(version, ())} - leads
            leads |= before
            frontier = list(before)
        stranded = {version for version in {self.baseline, *into} if version <= self.target} - leads
        stranded |= {hop.from_version for hop in self._hops.values() if hop.to_version <= self.target} - leads
        if stranded:
            raise RegistryInvalid(
                f"No path leads from version {min(stranded)} to {self.target}.",
                why="a hop is missing from the list of migrations",
                fix="Add the migration that closes the gap; a store at that version is left as it is.",
            )

    def wanted(self) -> list[ListedMigration]:
        """The listed migrations that lead to the target or to a version before it."""
        return [migration for migration in self._listed.values() if self._hops[migration.id][1] <= self.target]

    @property
    def migrations(self) -> tuple[ListedMigration, ...]:
        """The list, in its own order."""
        return tuple(self._listed.values())

    def nothing_pending(self, installed: Installed, *, user: str | None) -> bool:
        """Is all of this device's part done? By the list alone: no migration is imported."""
        scopes = (STORE_SCOPE,) if user is None else (STORE_SCOPE, user_scope(user))
        return all(installed.versions.get(scope) == self.target for scope in scopes)

    def knows(self, version: SchemaVersion) -> bool:
        """Is there a way on from this version?"""
        return version <= self.target and self._cheapest(version, self.target) is not None

    def get_migration_path(
        self, from_version: str | SchemaVersion, to_version: str | SchemaVersion
    ) -> tuple[Hop, ...]:
        """The cheapest path as hops in order, the same every time. Raises StoreSuperseded where there is none."""
        start, end = _version(from_version), _version(to_version)
        path = self._cheapest(start, end)
        if path is None:
            raise StoreSuperseded(
                f"There is no path from data version {start} to {end}.",
                why="the store was written by a newer app, or by one that this app does not know",
                fix="Update the app. The store was not changed.",
            )
        return path

    def path_of_user(self, from_version: SchemaVersion) -> tuple[Hop, ...]:
        """The way of one user to the target: a squash edge stands for the store's steps, not for a user's imports.

        Where the steps that it stands for are no longer listed, the users go over it, too.
        """
        squashes = {hop for hop in self._hops.values() if all(map(_is_squash, self.of_hop(hop)))}
        path = self._cheapest(from_version, self.target, without=squashes)
        return path or self.get_migration_path(from_version, self.target)

    def _cheapest(
        self, start: SchemaVersion, end: SchemaVersion, *, without: Container[Hop] = ()
    ) -> tuple[Hop, ...] | None:
        """Fewest hops; among equals the one whose versions come first. Breadth first over a sorted graph."""
        edges = sorted(hop for hop in set(self._hops.values()) if hop not in without)
        reached: dict[SchemaVersion, tuple[Hop, ...]] = {start: ()}
        frontier = [start]
        while frontier and end not in reached:
            following = []
            for version in frontier:
                for edge in edges:
                    if edge.from_version == version and edge.to_version not in reached:
                        reached[edge.to_version] = (*reached[version], edge)
                        following.append(edge.to_version)
            frontier = following
        return reached.get(end)

    def of_hop(self, hop: Hop) -> tuple[ListedMigration, ...]:
        """The migrations of one hop, in the list's order."""
        return tuple(migration for migration in self._listed.values() if self._hops[migration.id] == hop)

    def listed(self, migration_id: str) -> ListedMigration:
        """One line of the list. Raises RegistryInvalid."""
        try:
            return self._listed[migration_id]
        except KeyError:
            raise RegistryInvalid(f"There is no migration {migration_id!r}.", fix="See `syncengine plan`.") from None

    def get_migration_executor(
        self, migration_id: str, *, service: DataMigrationService | None = None
    ) -> BaseMigrationExecutor:
        """The executor of a migration, imported now if it was not yet. Raises RegistryInvalid."""
        executor = self._executors.get(migration_id)
        if executor is None:
            from syncengine.migrate.loading import load_executor

            executor = self._executors[migration_id] = load_executor(self.listed(migration_id), registry=self)
        if service is not None:
            executor.attach(service)
        return executor


def _check_name(name: object, *, of: str) -> None:
    """Raises RegistryInvalid for what cannot stand in SQL, in the store's texts or on a line."""
    is_text = isinstance(name, str) and name != ""
    if not is_text or any(letter < " " or letter == "\x7f" or "\ud800" <= letter <= "\udfff" for letter in str(name)):
        raise RegistryInvalid(
            f"{of} has a name that cannot be one: {name!r}.",
            why="a name is a text of one letter or more, without control characters and halves of surrogate pairs",
            fix="Give it another name.",
        )


def _is_squash(listed: ListedMigration) -> bool:
    return listed.scope == STORE_SCOPE and bool(listed.stands_for)


def _version(version: str | SchemaVersion) -> SchemaVersion:
    return version if isinstance(version, SchemaVersion) else SchemaVersion.parse(version)
