"""A device that ann and bob share: notes and their tags, which are synced, and looks, which stay on the device."""

import os
import subprocess
import sys
from pathlib import Path

from syncengine import Collection, Engine, ListedMigration, MigrationRegistry, tables

NOTES = """CREATE TABLE notes (
  user_id TEXT NOT NULL, id TEXT NOT NULL, text TEXT, PRIMARY KEY (user_id, id)
) STRICT;"""
TAGS = """CREATE TABLE tags (
  user_id TEXT NOT NULL, id TEXT NOT NULL, note TEXT, word TEXT,
  PRIMARY KEY (user_id, id), FOREIGN KEY (user_id, note) REFERENCES notes (user_id, id) ON DELETE RESTRICT
) STRICT;"""
LOOKS = "CREATE TABLE looks (name TEXT PRIMARY KEY, value TEXT) STRICT;"
ROOT = Path(__file__).resolve().parents[2]

make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(NOTES, TAGS, LOOKS))
COLLECTIONS = (
    Collection("notes", owner="user_id"),
    Collection("tags", owner="user_id"),
    Collection("looks", key="name", owner=None),
)


def registry(*, also=(), target="2.0.0", collections=COLLECTIONS):
    """With other migrations after the first, if need be."""
    listed = [ListedMigration("make", "1.0.0 > 2.0.0", make)]
    for executor in also:
        definition = executor.definition
        hop = f"{definition.from_version} > {definition.to_version}"
        listed.append(ListedMigration(definition.id, hop, executor, definition.scope))
    return MigrationRegistry(
        app="users",
        baseline="1.0.0",
        target=target,
        collections=collections,
        migrations=tuple(listed),
        asks_for_major=False,
    )


def opened(folder, user="ann", **facts):
    """Open, and migrated."""
    folder.mkdir(exist_ok=True)
    facts = {"registry": registry(), **facts}
    engine = Engine.open(folder / "app.db", user=user, **facts)
    engine.migrate()
    return engine


def add_notes(engine, *keys, owner="ann", text="text", tagged=False):
    """One block."""
    with engine.write() as db:
        db["notes"].insert_all([{"user_id": owner, "id": key, "text": text} for key in keys])
        if tagged:
            db["tags"].insert_all([{"user_id": owner, "id": f"t-{key}", "note": key, "word": text} for key in keys])


def rows_of(engine, owner):
    """All of one owner that any table holds, to be compared."""
    store = engine._store
    named = store.query(
        "SELECT m.name, c.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS c "
        "WHERE m.type = 'table' AND c.name IN ('user_id', 'owner') ORDER BY m.name"
    )
    found = {
        table: store.query(f'SELECT {stays_of(store, table)} FROM "{table}" WHERE "{column}" = ?', (owner,))
        for table, column in named
    }
    return {table: sorted(map(repr, rows)) for table, rows in found.items() if rows}


def stays_of(store, table):
    """Its columns, but what says whether an entry is in the indexes; each with its group, which is named by then."""
    names = store.query("SELECT name FROM pragma_table_info(?) WHERE name <> 'fresh'", (table,))
    group = "(SELECT g.group_id FROM _sync_group AS g WHERE g.entry_id = _sync_outbox.entry_id)"
    return ", ".join(group if name == "group_id" else f'"{name}"' for (name,) in names)


def found_on_disk(folder, *markers):
    """Files that hold one of these, as another process sees them: this one has locks on them."""
    done = subprocess.run(
        ["grep", "--recursive", "--files-with-matches", "--binary-files=text", *_each(markers), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    return sorted(os.path.relpath(line, folder) for line in done.stdout.splitlines())


def _each(markers):
    return [part for marker in markers for part in ("-e", marker)]


def another_process(code, *arguments):
    """Python, with this checkout; its output."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'integration'}"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
