"""The same work as migrations of the engine: by a plain function, by models, by declared changes."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from syncengine import Collection, ListedMigration, MigrationRegistry, cast, declared, migration, tables
from tests.benchmarks.walks import OLD_TABLE, converted, new_table

VERSIONS = {"from_version": "2.0.0", "to_version": "3.0.0"}

walks_tables = tables(id="tables", from_version="1.0.0", to_version="2.0.0", create=(OLD_TABLE,))
whole_tables = tables(id="tables", from_version="1.0.0", to_version="2.0.0", create=(new_table("walks"),))


class OldWalk(BaseModel):
    """A row before."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    id: str
    payload: str


class NewWalk(BaseModel):
    """A row after."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    id: str
    name: str
    started_at: str
    seconds: int
    meters: float
    latitude: float
    longitude: float
    mood: str | None
    steps: int
    tags: str
    favourite: int
    note: str | None


facts: dict[str, Any] = {"collection": "walks", "table": new_table("walks"), "backup": "never", "shadow": False}


plain = migration(id="plain", **VERSIONS, **facts)(converted)


def to_new(old: OldWalk) -> NewWalk:
    """One row by models."""
    return NewWalk(**converted(old.__dict__))


models = migration(id="models", **VERSIONS, **facts)(to_new)

by_sql = declared(
    id="declared",
    collection="walks",
    changes=(cast("started_at", int), cast("steps", float)),
    backup="never",
    shadow=False,
    **VERSIONS,
)


def registry(kind: str, target: str) -> MigrationRegistry:
    """tables, then one of: plain, models, by_sql."""
    make = "whole_tables" if kind == "by_sql" else "walks_tables"
    here = "tests.benchmarks.walk_migrations"
    listed = (
        ListedMigration("tables", "1.0.0 > 2.0.0", f"{here}:{make}"),
        ListedMigration({"by_sql": "declared"}.get(kind, kind), "2.0.0 > 3.0.0", f"{here}:{kind}"),
    )
    return MigrationRegistry(
        app="bench",
        baseline="1.0.0",
        target=target,
        collections=[Collection("walks", owner=None)],
        migrations=listed,
        asks_for_major=False,
    )
