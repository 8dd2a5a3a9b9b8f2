"""A store of any past version, made by the app's own migrations and filled with rows."""

from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from syncengine.clock import SystemClock
from syncengine.engine import Engine
from syncengine.local.identifiers import quoted
from syncengine.migrate.declared import DeclaredExecutor
from syncengine.migrate.registry import Hop, MigrationRegistry
from syncengine.migrate.row_codec import codec_of
from syncengine.migrate.row_migration import RowExecutor
from syncengine.settings import Settings
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion, TimestampMs

if TYPE_CHECKING:
    import sqlite_utils

    from syncengine.clock import Clock
    from syncengine.migrate.registry import Collection
    from syncengine.migrate.results import MigrationReport
    from syncengine.remote.backend import Backend

Rows = Mapping[str, Iterable[BaseModel | Mapping[str, Any]]]
"""By collection: row models, or columns and their values as SQLite keeps them."""

DRAWN_FOR = "ada"
"""Whose the drawn rows are where the test names no user."""


class StoppedClock(SystemClock):
    """Stands at one moment, so that two runs write the same times; what waits by the monotonic clock goes on."""

    def now_ms(self) -> TimestampMs:
        """2025-06-15T15:06:40Z."""
        return TimestampMs(1_750_000_000_000)


def store_at(
    registry: MigrationRegistry,
    version: str | SchemaVersion,
    *,
    path: Path,
    rows: Rows | int = 0,
    user: str | None = None,
    sources: Mapping[str, Any] | None = None,
    clock: "Clock | None" = None,
) -> Path:
    """Make a store at `path` that is at `version` and holds `rows`; the path again, with nothing left open.

    It goes through the registry's own migrations up to that version, for `user` too where one is given, and then gets
    the rows, in the shape of that version; where `user` is given they are all that user's. A number draws so many
    rows for each collection whose row model the registry knows (`model_at`), the same ones every time.
    Raises AssertionError for a migration that fails or a row that the tables refuse.
    """
    goal = OneWay(registry, target=SchemaVersion.parse(str(version)))
    with opened(path, registry=goal, user=user, sources=sources, clock=clock) as engine:
        bring(engine)
    fill(path, registry=goal, rows=_drawn_rows(goal, rows) if isinstance(rows, int) else rows, user=user)
    return path


def fill(path: Path, *, registry: MigrationRegistry, rows: Rows, user: str | None = None) -> None:
    """Write rows as the app would, in one block; none of them waits to be sent.

    Raises AssertionError for one that the tables refuse.
    """
    with Engine.open(path, registry=registry) as engine:
        newest = engine._store.value("outbox", "newest")
        with engine.write(atomic=False) as db:
            _insert(db, registry, rows, user)
        with engine._store.transaction():
            engine._store.run("outbox", "delete_after", after=newest)


def _insert(db: "sqlite_utils.Database", registry: MigrationRegistry, rows: Rows, user: str | None) -> None:
    for name, given in rows.items():
        for row in given:
            columns = _columns_of(row)
            owner = registry.collections[name].owner
            if owner is not None and user is not None:
                columns[owner] = user
            marks = ", ".join("?" * len(columns))
            sql = f"INSERT INTO {quoted(name)} ({', '.join(map(quoted, columns))}) VALUES ({marks})"
            db.execute(sql, tuple(columns.values()))


def _columns_of(row: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(row, BaseModel):
        codec = codec_of(type(row))
        return dict(zip(codec.columns, codec.encode(row), strict=True))
    return dict(row)


def _drawn_rows(registry: MigrationRegistry, count: int) -> Rows:
    from syncengine.testing.row_strategies import drawn, row_strategy

    found: dict[str, list[BaseModel]] = {}
    for name, collection in registry.collections.items():
        model = model_at(registry, name, version=registry.target) if count else None
        if model is not None:
            found[name] = numbered(drawn(row_strategy(model), count=count), collection=collection)
    return found


def numbered(rows: Iterable[BaseModel], *, collection: "Collection", user: str = DRAWN_FOR) -> list[BaseModel]:
    """The same rows, all of one user and each with a key of its own: row-0001, row-0002, …"""
    named = []
    for number, row in enumerate(rows, start=1):
        changes = {collection.key: f"row-{number:04}"} | ({collection.owner: user} if collection.owner else {})
        named.append(row.model_copy(update=changes))
    return named


def model_at(registry: MigrationRegistry, collection: str, *, version: str | SchemaVersion) -> type[BaseModel] | None:
    """The row model of a collection at a version: what the last row migration wrote, or what the next one reads.

    None where no row migration is next to that version, or a declared change lies between.
    """
    at = SchemaVersion.parse(str(version))
    for hop in reversed(registry.get_migration_path(registry.baseline, at)):
        found = _changed_in(registry, hop, collection)
        if found is not None:
            return found.new_model if isinstance(found, RowExecutor) else None
    newest = max((listed.edge.to_version for listed in registry.migrations), default=at)
    onward = MigrationRegistry.get_migration_path(registry, at, newest) if registry.knows(at) else ()
    for hop in onward:
        found = _changed_in(registry, hop, collection)
        if found is not None:
            return found.old_model if isinstance(found, RowExecutor) else None
    return None


def _changed_in(registry: MigrationRegistry, hop: Hop, collection: str) -> "RowExecutor | DeclaredExecutor | None":
    """What changes the collection's shape in a hop."""
    for listed in registry.of_hop(hop):
        if listed.scope == STORE_SCOPE:
            executor = registry.get_migration_executor(listed.id)
            if isinstance(executor, RowExecutor | DeclaredExecutor) and executor.collection == collection:
                return executor
    return None


class OneWay(MigrationRegistry):
    """Another registry as an app of version `target` has it, which goes the given way, or the shortest one."""

    def __init__(
        self, registry: MigrationRegistry, *, target: SchemaVersion, way: tuple[Hop, ...] | None = None
    ) -> None:
        self.__dict__.update(registry.__dict__)
        self.target = target
        self._way = way

    def _cheapest(
        self, start: SchemaVersion, end: SchemaVersion, *, without: Container[Hop] = ()
    ) -> tuple[Hop, ...] | None:
        if self._way is None or any(hop in without for hop in self._way):
            # A squash edge stands for the store's steps: users go the steps themselves.
            return super()._cheapest(start, end, without=without)
        onward = {hop.from_version: hop for hop in self._way}
        path: list[Hop] = []
        at = start
        while at != end and at in onward:
            path.append(onward[at])
            at = onward[at].to_version
        return tuple(path) if at == end else None


def opened(
    path: Path,
    *,
    registry: MigrationRegistry,
    user: str | None = None,
    sources: Mapping[str, Any] | None = None,
    clock: "Clock | None" = None,
    settings: Settings | None = None,
    backend: "Backend | None" = None,
) -> Engine:
    """An engine on the store that agrees to everything; its clock stands still unless another one is given."""
    return Engine.open(
        path,
        registry=registry,
        user=user,
        sources=sources,
        clock=clock or StoppedClock(),
        settings=settings,
        backend=backend,
        consent=lambda request: True,
    )


def bring(engine: Engine) -> "MigrationReport | None":
    """Migrate. Raises AssertionError for what failed, was blocked or does not add up, and what the engine raises."""
    report = engine.migrate()
    if report is None:
        return None
    wrong = [f"{result.migration_id}: {result.failure}" for result in report.results if not result.success]
    wrong += [f"{name} could not be run" for name in report.blocked]
    for result in report.results:
        if result.state == "completed" and result.counts.accounted != result.counts.read:
            wrong.append(f"{result.migration_id}: read {result.counts.read}, accounted for {result.counts.accounted}")
    if wrong:
        raise AssertionError("the migrations did not go through:\n" + "\n".join(wrong))
    return report
