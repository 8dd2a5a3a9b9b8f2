"""What a rollback can be made of: the history, and the ways back that are left. Reads only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from syncengine.local.identifiers import quoted
from syncengine.local.stored import POINT_VERSION, stored_version
from syncengine.local.version_table import read_installed
from syncengine.migrate.executor import BaseMigrationExecutor
from syncengine.migrate.named_parents import tables_named_by
from syncengine.migrate.online import OnlineExecutor
from syncengine.migrate.rebuild import RebuildingExecutor
from syncengine.migrate.registry import Hop
from syncengine.migrate.rollback_plan import IMPOSSIBLE, Applied, Ground, Way
from syncengine.migrate.shape import table_exists
from syncengine.migrate.tables import TablesExecutor
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What is left of migrations that ran."""

    kept_tables: Mapping[tuple[str, str], str]
    restore_points: Mapping[int, SchemaVersion]
    """The version of the store in each, newest first."""
    claimed: frozenset[tuple[str, str]]
    filling: frozenset[str]
    sources: Mapping[str, Any]


def read_ground(store: "Store", registry: "MigrationRegistry", *, sources: Mapping[str, Any]) -> Ground:
    """All that a plan is made from, in the caller's transaction."""
    applied = tuple(_applied(row) for row in store.rows("rollback", "applied_runs"))
    left, installed = _left(store, sources), read_installed(store)
    listed = {migration.id for migration in registry.migrations}
    executors = {
        run.migration: registry.get_migration_executor(run.migration) for run in applied if run.migration in listed
    }
    return Ground(
        applied=applied,
        versions=installed.versions,
        cloud_versions=installed.cloud_versions,
        collections={name: executor.definition.collections for name, executor in executors.items()},
        after={name: executor.definition.after for name, executor in executors.items()},
        ways={
            (run.migration, run.scope): _way(store, registry, executors[run.migration], run=run, left=left)
            for run in applied
            if run.migration in executors
        },
        owners=_owners(store, registry),
        refers={name: tables_named_by(executor) for name, executor in executors.items()},
    )


def _applied(row: tuple[Any, ...]) -> Applied:
    return Applied(
        run_id=row[0],
        migration=row[1],
        scope=row[2],
        state=row[3],
        hop=Hop((stored_version(row[4], "_sync_run.from_version"), stored_version(row[5], "_sync_run.to_version"))),
        restore_point_id=row[6],
        rows_read=row[7],
        rows_written=row[8],
        rows_dropped=row[9],
        started_at=row[10],
    )


def _left(store: "Store", sources: Mapping[str, Any]) -> Left:
    points = store.rows("rollback", "restore_points")
    return Left(
        kept_tables={(row[0], row[1]): str(row[2]) for row in store.rows("rollback", "kept_tables")},
        restore_points={int(row[0]): stored_version(row[1], POINT_VERSION) for row in points},
        claimed=frozenset((row[0], row[1]) for row in store.rows("rollback", "claimed_uploads")),
        filling=frozenset(str(row[0]) for row in store.rows("rollback", "filling")),
        sources=sources,
    )


def _owners(store: "Store", registry: "MigrationRegistry") -> dict[str, tuple[str, ...]]:
    found = {}
    for name, collection in registry.collections.items():
        if collection.owner is not None and table_exists(store, name):
            rows = store.query(f"SELECT DISTINCT CAST({quoted(collection.owner)} AS TEXT) FROM {quoted(name)}")
            found[name] = tuple(sorted(str(row[0]) for row in rows if row[0] is not None))
    return found


def _way(
    store: "Store", registry: "MigrationRegistry", executor: BaseMigrationExecutor, *, run: Applied, left: Left
) -> Way:
    """By preference: what keeps later edits first."""
    filling = sorted(left.filling & set(executor.definition.collections))
    if filling:
        return Way(method=IMPOSSIBLE, why=f"{filling[0]} is being rewritten now; let that end, or cancel it")
    if isinstance(executor, OnlineExecutor):
        return _way_of_online(run, left)
    if executor.definition.erases:
        return Way(method=IMPOSSIBLE, why="it has erased what was there before")
    if executor.has_undo:
        return Way(method="undo")
    if isinstance(executor, TablesExecutor):
        return Way(method="dropped")
    if isinstance(executor, RebuildingExecutor):
        return _way_of_rebuild(store, registry, executor, run=run, left=left)
    return _way_of_import(executor, run=run, left=left)


def _way_of_online(run: Applied, left: Left) -> Way:
    owner = run.scope.partition(":")[2]
    if (run.migration, owner) in left.claimed:
        return Way(method=IMPOSSIBLE, why="the cloud has not said whether it took what was sent last; sync first")
    return Way(method="queue")


def _way_of_rebuild(
    store: "Store", registry: "MigrationRegistry", executor: RebuildingExecutor, *, run: Applied, left: Left
) -> Way:
    if executor.reversed(store, registry) is not None:
        return Way(method="down")
    kept = left.kept_tables.get((executor.collection, run.migration))
    if kept is not None:
        return Way(method="kept_table", kept_table=kept)
    return _way_of_restore_point(run, left, lacks="it has no way down and its old table is gone")


def _way_of_restore_point(run: Applied, left: Left, *, lacks: str) -> Way:
    known = run.restore_point_id if run.restore_point_id in left.restore_points else None
    same = (point for point, version in left.restore_points.items() if version == run.hop.from_version)
    point = known if known is not None else next(same, None)
    if point is None:
        return Way(method=IMPOSSIBLE, why=f"{lacks}, and no restore point holds the rows as they were")
    return Way(method="restore_point", restore_point_id=point)


def _way_of_import(executor: BaseMigrationExecutor, *, run: Applied, left: Left) -> Way:
    source = executor.definition.source
    if run.scope == STORE_SCOPE:
        return Way(method=IMPOSSIBLE, why=f"its executor has no `undo`{_as_a_whole(run, left)}")
    if not _only_puts(executor):
        why = "its executor does more than `items` and `convert` say, and has no `undo`"
        return Way(method=IMPOSSIBLE, why=why + _as_a_whole(run, left))
    if run.rows_written == 0 or source is None or source in left.sources:
        return Way(method="taken_out")
    lacks = f"its source {source} tells its rows from later ones, and was not given"
    return Way(method=IMPOSSIBLE, why=f"{lacks}{_as_a_whole(run, left)}")


def _only_puts(executor: BaseMigrationExecutor) -> bool:
    """Is all that it made in what `convert` gave back? Then making it once more shows it."""
    kind = type(executor)
    return all(
        getattr(kind, name) is getattr(BaseMigrationExecutor, name)
        for name in ("prepare", "apply", "finish", "batches")
    )


def _as_a_whole(run: Applied, left: Left) -> str:
    """What is left to do for a person where one migration alone cannot go back."""
    point = run.restore_point_id
    if point not in left.restore_points:
        return ""
    return f"; restore point {point} has the whole store as it was before"
