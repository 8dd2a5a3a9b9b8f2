"""An app that keeps walks of twelve columns, with or without an owner; about 350 bytes each as JSON."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from syncengine import Collection, Engine, ListedMigration, MigrationRegistry, tables
from tests.benchmarks.walks import COLUMNS, converted, new_table, old_rows

USER = "ann"
INSERT = f"INSERT INTO walks VALUES ('{USER}', {', '.join('?' * len(COLUMNS))})"
NOTE = "A heron stood at the weir until the boats had gone by; then it flew up the river."


def walks(count: int, *, prefix: str = "walk") -> Iterator[dict[str, Any]]:
    """Invented walks, the same at each call; keys begin with `prefix`."""
    for key, payload in old_rows(count):
        yield {**converted({"id": f"{prefix}-{key}", "payload": payload}), "note": NOTE}


def values_of(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What INSERT is bound to."""
    return [tuple(row[column] for column in COLUMNS) for row in rows]


def opened(
    path: Path,
    *,
    captured: bool,
    url: str | None = None,
    token: Callable[[], str] | None = None,
    listener: Callable[[object], None] | None = None,
) -> Engine:
    """A store with an empty table of walks; nothing is sent before `sync_now()`."""
    table = new_table("walks").replace("(id TEXT NOT NULL PRIMARY KEY", "(user_id TEXT NOT NULL, id TEXT NOT NULL", 1)
    table = table.replace(") STRICT", ", PRIMARY KEY (user_id, id)) STRICT")
    make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(table,))
    registry = MigrationRegistry(
        app="walks",
        baseline="1.0.0",
        target="2.0.0",
        collections=[Collection("walks", owner="user_id" if captured else None)],
        migrations=[ListedMigration("make", "1.0.0 > 2.0.0", make)],
    )
    engine = Engine.open(path, registry=registry, user=USER, cloud_url=url, token=token, listener=listener)
    engine.migrate()
    return engine
