"""`python -m syncengine` as a real process in a folder of its own, with a small app beside it."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 60
SECRET = "sunset over the harbour"
"""What a user wrote: it belongs to nobody's log or error."""

APP = '''
import time

from syncengine import (
    BaseMigrationExecutor, Collection, Item, ListedMigration, MigrationDefinition, MigrationRegistry, Put,
    cast, declared, tables, upload,
)

NOTES = (
    "CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, text TEXT NOT NULL, stars TEXT NOT NULL,"
    " PRIMARY KEY (user_id, id)) STRICT"
)
HOP = {"from_version": "2.0.0", "to_version": "3.0.0"}

make_notes = tables(id="make-notes", from_version="1.0.0", to_version="2.0.0", create=(NOTES,))
count_stars = declared(id="count-stars", collection="notes", changes=(cast("stars", int),), **HOP)
send_notes = upload(id="send-notes", collections=("notes",), **HOP)


class Breaks(BaseMigrationExecutor):
    """Writes a row and fails at the end."""

    definition = MigrationDefinition(
        id="breaks", name="Breaks", description="", collections=("notes",), critical=True, **HOP
    )

    def items(self, work):
        yield Item("n1", 1)

    def convert(self, item, work):
        work.store.query("DELETE FROM notes")

    def verify(self, work):
        raise RuntimeError("sunset over the harbour")


class Crawls(BaseMigrationExecutor):
    """Looks at 100 things a second, and drops them."""

    definition = MigrationDefinition(
        id="crawls", name="Crawls", description="", collections=("notes",), critical=True, **HOP
    )

    def items(self, work):
        for number in range(int(open("things.txt").read())):
            time.sleep(0.01)
            yield Item(str(number), number)

    def convert(self, item, work):
        return None

    def estimate(self, work):
        return int(open("things.txt").read())


class Imports(BaseMigrationExecutor):
    """Notes from a JSON file of the old app."""

    definition = MigrationDefinition(
        id="imports", name="Imports", description="", collections=("notes",), scope="user", source="old-app", **HOP
    )

    def items(self, work):
        yield from work.elements("notes")

    def convert(self, item, work):
        return Put("notes", {"user_id": work.user, "id": item.value, "text": "imported", "stars": "1"})


def registry(target, *names, asks=False):
    listed = {
        "make-notes": ListedMigration("make-notes", "1.0.0 > 2.0.0", "notes_app:make_notes"),
        "count-stars": ListedMigration("count-stars", "2.0.0 > 3.0.0", "notes_app:count_stars"),
        "send-notes": ListedMigration(
            "send-notes", "2.0.0 > 3.0.0", "notes_app:send_notes", scope="user", online=True
        ),
        "breaks": ListedMigration("breaks", "2.0.0 > 3.0.0", "notes_app:Breaks"),
        "imports": ListedMigration("imports", "2.0.0 > 3.0.0", "notes_app:Imports", scope="user"),
        "crawls": ListedMigration("crawls", "2.0.0 > 3.0.0", "notes_app:Crawls"),
    }
    return MigrationRegistry(
        app="notes", baseline="1.0.0", target=target, collections=(Collection(name="notes"),),
        migrations=[listed[name] for name in names], asks_for_major=asks,
    )


TWO = registry("2.0.0", "make-notes")
THREE = registry("3.0.0", "make-notes", "count-stars", "send-notes")
ASKING = registry("3.0.0", "make-notes", "count-stars", "send-notes", asks=True)
BROKEN = registry("3.0.0", "make-notes", "breaks")
IMPORTING = registry("3.0.0", "make-notes", "imports")
SLOW = registry("3.0.0", "make-notes", "crawls")
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a call of the command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stdout says, as a program reads it."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The error that stderr says, as a program reads it."""
        said = json.loads(self.err)
        assert list(said) == ["error"]
        assert list(said["error"]) == ["code", "what", "why", "fix"]
        found: dict[str, str] = said["error"]
        return found


class Command:
    """Calls the command in `folder`, where the app `notes_app` is; `store` is a path in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "app.db"
        (folder / "notes_app.py").write_text(APP)

    def again(self, folder: Path) -> "Command":
        """The same app with the same rows in another folder; its store is another device's."""
        command = Command(folder)
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        command.execute_many("UPDATE _sync_state SET value = ? WHERE name = 'device_id'", [(os.urandom(16).hex(),)])
        return command

    def __call__(self, *words: str, **variables: str) -> Ran:
        """Run to the end, about `store`."""
        process = self.begin(*words, **variables)
        out, err = process.communicate(timeout=SECONDS_MAX)
        assert "Traceback" not in err, err
        return Ran(status=process.returncode, out=out, err=err)

    def begin(self, *words: str, **variables: str) -> "subprocess.Popen[str]":
        """Start it and leave it running."""
        usual = {name: value for name, value in os.environ.items() if not name.startswith("SYNCENGINE_")}
        settings = {"PYTHONPATH": str(ROOT), "SYNCENGINE_STORE": str(self.store), "TMPDIR": str(self.folder)}
        return subprocess.Popen(
            [sys.executable, "-m", "syncengine", *words],
            cwd=self.folder,
            env=usual | settings | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def migrate(self, registry: str, *words: str) -> Ran:
        """`migrate` for the user ann."""
        return self("migrate", "--app", f"notes_app:{registry}", "--user", "ann", *words)

    def write_notes(self, *stars: str) -> None:
        """What ann wrote, a note for each of these; by another SQLite, as no process of ours has the file open.

        Nothing of it waits to be sent.
        """
        notes = [("ann", f"n{number}", SECRET, each) for number, each in enumerate(stars, start=1)]
        self.execute_many("INSERT INTO notes VALUES (?, ?, ?, ?)", notes)
        self.execute_many("DELETE FROM _sync_outbox WHERE row_key = ?", [(key,) for _, key, *_ in notes])

    def execute_many(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        connection = sqlite3.connect(self.store)
        with connection:
            connection.executemany(sql, rows)
        connection.close()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.store)
        found = connection.execute(sql).fetchall()
        connection.close()
        return found
