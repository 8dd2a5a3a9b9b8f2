"""A small app with two collections, its store, and ways to hurt the file."""

import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from syncengine import Collection, Engine, ListedMigration, MigrationRegistry, tables
from tests.tidy.tree import ROOT

NOTES = (
    "CREATE TABLE notes (user_id TEXT, id TEXT, text TEXT, PRIMARY KEY (user_id, id)) STRICT;"
    "CREATE INDEX notes_by_text ON notes (text)"
)
PLACES = "CREATE TABLE places (user_id TEXT, id TEXT, name TEXT, PRIMARY KEY (user_id, id)) STRICT"
make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(NOTES, PLACES))


def registry(*more: ListedMigration, target: str = "2.0.0") -> MigrationRegistry:
    return MigrationRegistry(
        app="notes",
        baseline="1.0.0",
        target=target,
        collections=[Collection("notes"), Collection("places")],
        migrations=[ListedMigration("make", "1.0.0 > 2.0.0", make), *more],
    )


REGISTRY = registry()
"""For the command line."""


def opened(path: Path, **facts) -> Engine:
    return Engine.open(path, registry=registry(), user="ann", **facts)


def make_store(path: Path, *, notes: int = 3) -> None:
    with opened(path) as engine:
        engine.migrate()
        with engine.write() as db:
            db["notes"].insert_all({"user_id": "ann", "id": f"n{n}", "text": f"note {n} " * 9} for n in range(notes))
            db["places"].insert({"user_id": "ann", "id": "home", "name": "Home"})
    with opened(path) as engine:
        engine.migrate()


def sql(path: Path, text: str, *, journal_mode: str | None = None) -> None:
    """As a person does with the command line, in the library that the engine does not use."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(text)
    if journal_mode:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}").fetchall()
    connection.close()


def query(path: Path, text: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    found = connection.execute(text).fetchall()
    connection.close()
    return found


def bytes_of(path: Path) -> dict[str, bytes]:
    """The store and its -wal; the -shm is an index that every reader makes."""
    return {end: Path(f"{path}{end}").read_bytes() for end in ("", "-wal") if Path(f"{path}{end}").exists()}


def killed_after(path: Path, statement: str) -> None:
    """A process commits this and dies, so that it is in the -wal alone."""
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA wal_autocheckpoint = 0'); c.execute(sys.argv[2]); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path), statement], check=True, timeout=60)


def in_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def flip_bytes(path: Path, *, chance: random.Random, count: int) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(count):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
