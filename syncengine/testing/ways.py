"""All ways between two versions: valid rows, counts that add up, and the same data whichever way was taken."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncengine.migrate.registry import Hop, MigrationRegistry
from syncengine.migrate.shape import table_exists
from syncengine.settings import Settings
from syncengine.testing.contents import LeftOut
from syncengine.testing.outcome import Outcome, outcome_of
from syncengine.testing.stores import OneWay, Rows, bring, opened, store_at
from syncengine.vocabulary import SchemaVersion

WAYS_MAX = 12
"""Between two versions; where there are more, the shortest ones are tried."""

Way = tuple[Hop, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """A version to come from, a version to get to, and the ways between them, the shortest first."""

    from_version: SchemaVersion
    to_version: SchemaVersion
    ways: tuple[Way, ...]

    def __str__(self) -> str:
        return f"{self.from_version}-to-{self.to_version}"


def all_paths(registry: MigrationRegistry) -> tuple[Ways, ...]:
    """Every pair of versions that a store can come from and get to, squash edges and branches included.

    For `@pytest.mark.parametrize("ways", all_paths(REGISTRY), ids=str)`.
    """
    edges = sorted({listed.edge for listed in registry.wanted()})
    versions = sorted({registry.baseline, *(version for edge in edges for version in edge)})
    found = []
    for start in versions:
        if start != registry.baseline and not _first(_ways(edges, registry.baseline, start)):
            continue  # no store can be made there
        for end in versions:
            ways = sorted(_ways(edges, start, end), key=lambda way: (len(way), way))[:WAYS_MAX]
            if ways and start < end:
                found.append(Ways(from_version=start, to_version=end, ways=tuple(ways)))
    return tuple(found)


def _ways(edges: list[Hop], start: SchemaVersion, end: SchemaVersion) -> Iterator[Way]:
    if start == end:
        yield ()
    for edge in edges:
        if edge.from_version == start and edge.to_version <= end:
            for rest in _ways(edges, edge.to_version, end):
                yield (edge, *rest)


def _first(ways: Iterator[Way]) -> Way | None:
    return next(ways, None)


def check_paths(
    ways: Ways,
    *,
    registry: MigrationRegistry,
    folder: Path,
    rows: Rows | int = 0,
    user: str | None = None,
    sources: Mapping[str, Any] | None = None,
    leave_out: LeftOut | None = None,
) -> Mapping[str, int]:
    """Take the same store every way; by collection, how many rows it holds at the end.

    `rows` are put into a store of `ways.from_version` (see `store_at`), which then goes each way twice: in one
    start, and with one start for each version and batches of one row. Each time every migration must succeed with
    counts that add up, every row must be valid, and the columns, the rows and the keys of what was set aside must be
    the same as on the first way. Columns in `leave_out` are not compared, nor is the migration status in the profile.
    Raises AssertionError that names the way and the table.
    """
    begin = folder / "begin" / "app.db"
    begin.parent.mkdir(parents=True)
    store_at(registry, ways.from_version, path=begin, rows=rows, user=user, sources=sources)
    first: Outcome | None = None
    for number, way in enumerate(ways.ways):
        for starts in ("one start", "a start for each version"):
            path = folder / f"way-{number}-{starts.replace(' ', '-')}" / "app.db"
            shutil.copytree(begin.parent, path.parent)
            travel = _Travel(registry, path, user=user, sources=sources)
            travel.go(way, step_by_step=starts != "one start")
            outcome = outcome_of(path, registry=registry, leave_out=leave_out)
            first = first or outcome
            if wrong := first.differs_from(outcome):
                raise AssertionError(f"{' then '.join(map(str, way))} in {starts} gives other data: {wrong}")
    assert first is not None
    return {name: len(found) for name, found in first.rows.items()}


@dataclass(frozen=True, slots=True)
class _Travel:
    registry: MigrationRegistry
    path: Path
    user: str | None = None
    sources: Mapping[str, Any] | None = None

    def go(self, way: Way, *, step_by_step: bool) -> None:
        goals = [hop.to_version for hop in way] if step_by_step else [way[-1].to_version]
        settings = Settings(batch_rows=1) if step_by_step else Settings()
        before = self.registry.get_migration_path(self.registry.baseline, way[0].from_version)
        for goal in goals:
            registry = OneWay(self.registry, target=goal, way=(*before, *way))
            with opened(
                self.path, registry=registry, user=self.user, sources=self.sources, settings=settings
            ) as engine:
                bring(engine)
                for name in registry.collections:
                    if table_exists(engine._store, name):
                        checked = engine.migrations.validate_migrated_data(self.user, name)
                        assert checked.success, f"after {goal} rows of {name} are not valid: {checked.errors}"
