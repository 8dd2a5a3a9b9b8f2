"""A store with one synced table of any shape, and what its triggers wrote."""

import json
import subprocess
import sys

from syncengine import Settings, SystemClock
from syncengine.local.identifiers import quoted
from syncengine.local.store import Store
from syncengine.outbox.capture import install_capture

WALKS = """
    CREATE TABLE walks (
      user_id TEXT NOT NULL, id TEXT NOT NULL, title TEXT, meters REAL, steps INTEGER, picture BLOB,
      PRIMARY KEY (user_id, id)
    ) STRICT
"""


class CaptureWorld:
    """`write` edits as the app does, `cli` as a person with the sqlite3 command line."""

    def __init__(self, folder, create=WALKS, *, collection="walks", key="id", owner="user_id"):
        self.path = str(folder / "app.db")
        self.collection = collection
        self.store = Store(self.path, settings=Settings(), clock=SystemClock())
        with self.store.transaction():
            self.store.query(create)
            self.record(collection, key=key, owner=owner)
            install_capture(self.store, collection)

    def record(self, collection, *, key="id", owner="user_id", shape="3.0.0"):
        self.store.query(
            "INSERT INTO _sync_collection (name, key_column, owner_column, shape_version, fingerprint) "
            "VALUES (?, ?, ?, ?, '') ON CONFLICT DO UPDATE SET shape_version = excluded.shape_version",
            (collection, key, owner, shape),
        )

    def write(self, sql, *values):
        with self.store.transaction():
            self.store.query(sql, values)

    def insert(self, **columns):
        names = ", ".join(map(quoted, columns))
        marks = ", ".join("?" * len(columns))
        self.write(f"INSERT INTO {quoted(self.collection)} ({names}) VALUES ({marks})", *columns.values())

    def cli(self, sql):
        done = subprocess.run(["sqlite3", self.path, sql], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def other_library(self, sql):
        """By Python's own SQLite, in a process of its own."""
        program = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute(sys.argv[2]); db.commit()"
        subprocess.run([sys.executable, "-c", program, self.path, sql], check=True)

    def raw(self, columns="kind, owner, row_key, set_json, before_json"):
        return self.store.query(f"SELECT {columns} FROM _sync_outbox ORDER BY entry_id")

    def groups(self):
        """(entry, name of its group)."""
        return self.store.query("SELECT entry_id, group_id FROM _sync_group ORDER BY entry_id")

    def entries(self):
        """(kind, owner, key, set, before), bodies as Python sees them."""
        return [(kind, owner, key, _said(new), _said(old)) for kind, owner, key, new, old in self.raw()]

    def kinds(self):
        return [(kind, key) for kind, _, key, _, _ in self.raw()]

    def forget(self):
        self.write("DELETE FROM _sync_outbox")

    def triggers(self):
        rows = self.store.query("SELECT name, sql FROM sqlite_schema WHERE name GLOB '_sync_capture_*' ORDER BY name")
        return dict(rows)

    def close(self):
        self.store.close()


def _said(text):
    return None if text is None else json.loads(text)
