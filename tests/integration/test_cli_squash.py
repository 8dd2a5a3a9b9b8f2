"""`syncengine squash` writes one step for new stores; stores on their way and imports of users lose nothing by it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

APP = """
from pydantic import BaseModel, ConfigDict
from syncengine import (
    BaseMigrationExecutor, Collection, ListedMigration, MigrationDefinition, MigrationRegistry, Put, add, declared,
    migration, tables,
)

NOTES = "CREATE TABLE notes (user_id TEXT, id TEXT, text TEXT NOT NULL, PRIMARY KEY (user_id, id)) STRICT"

class NoteV1(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    user_id: str
    id: str
    text: str

class NoteV2(NoteV1):
    letters: int

make = tables(id="make", from_version="1.0.0", to_version="1.1.0", create=(NOTES,))

class Import(BaseMigrationExecutor):
    definition = MigrationDefinition(
        id="import", name="", description="", from_version="1.0.0", to_version="1.1.0", collections=("notes",),
        after=("make",), scope="user", source="old",
    )

    def items(self, work):
        yield from work.elements("notes")

    def convert(self, item, work):
        return Put("notes", NoteV1(user_id=str(work.user), id=item.value["id"], text=item.value["text"]))

@migration(id="letters", collection="notes", from_version="1.1.0", to_version="1.2.0",
           table=NOTES.replace("NULL,", "NULL, letters INTEGER NOT NULL,") + ";CREATE INDEX by_n ON notes (letters)")
def letters(old: NoteV1) -> NoteV2:
    return NoteV2(user_id=old.user_id, id=old.id, text=old.text, letters=len(old.text))

pinned = declared(id="pinned", collection="notes", from_version="1.2.0", to_version="1.3.0",
                  changes=(add("pinned", "INTEGER", default=0),))

LISTED = [
    ListedMigration("make", "1.0.0 > 1.1.0", make),
    ListedMigration("import", "1.0.0 > 1.1.0", "notes_app:Import", scope="user"),
    ListedMigration("letters", "1.1.0 > 1.2.0", letters),
    ListedMigration("pinned", "1.2.0 > 1.3.0", pinned),
]

def registry(*more, target="1.3.0"):
    return MigrationRegistry(app="n", baseline="1.0.0", target=target, collections=[Collection("notes")],
                             migrations=[*LISTED, *more])

REGISTRY = registry()
"""

RUN = """
import sys
from notes_app import registry
from syncengine import Engine, ListedMigration

line = %s
path, user, target, squashed = sys.argv[1:]
reg = registry(*([line] if squashed == "yes" else []), target=target)
sources = {"old": "old.json"} if user == "ann" else {}
with Engine.open(path, registry=reg, user=user or None, sources=sources) as engine:
    report = engine.migrate()
    assert report is None or report.success, report
    with engine.read() as db:
        print(list(db.query("select * from notes")))
        of_notes = "select sql from sqlite_schema where tbl_name = 'notes' order by name"
        print([row["sql"] for row in db.query(of_notes)])
    print([(one.id, one.success) for one in engine.migrations.get_migration_status(user or None).completed])
"""


def run(folder, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def start(tmp_path):
    """A function that starts the app on a store, and gives the rows, the SQL and what ran."""
    (tmp_path / "notes_app").mkdir()
    (tmp_path / "notes_app" / "__init__.py").write_text(APP)
    (tmp_path / "old.json").write_text(json.dumps([["notes", json.dumps([{"id": "n1", "text": "bread"}])]]))
    code, out, err = run(
        tmp_path, "-m", "syncengine", "squash", "--app", "notes_app:REGISTRY", "--package", "notes_app"
    )
    assert code == 0, err
    line = out.splitlines()[-1].strip().rstrip(",")

    def started(path, *, user="", target="1.3.0", squashed=True):
        code, out, err = run(tmp_path, "-c", RUN % line, path, user, target, "yes" if squashed else "no")
        assert code == 0, err
        return out.splitlines()

    return started


ROW = "[{'user_id': 'ann', 'id': 'n1', 'text': 'bread', 'letters': 5, 'pinned': 0}]"


def test_a_new_store_makes_its_tables_in_one_step_and_they_are_those_of_the_long_way(start):
    short, long = start("short.db"), start("long.db", squashed=False)
    assert short[2] == "[('squash-1.0.0-to-1.3.0', True)]"
    assert long[2] == "[('make', True), ('letters', True), ('pinned', True)]"
    assert short[:2] == long[:2]


def test_what_a_user_has_to_import_goes_through_what_the_squash_stands_for(start):
    rows, _, ran = start("app.db", user="ann")
    assert rows == ROW
    assert "import" in ran


def test_a_store_on_its_way_goes_on_step_by_step(start):
    start("app.db", user="ann", target="1.2.0", squashed=False)
    rows, _, ran = start("app.db", user="ann")
    assert rows == ROW
    assert "squash" not in ran


def test_a_user_who_signs_in_after_the_squash_gets_their_rows(start):
    start("app.db")
    rows, _, _ = start("app.db", user="ann")
    assert rows == ROW


def test_one_step_is_nothing_to_squash(tmp_path):
    (tmp_path / "notes_app").mkdir()
    (tmp_path / "notes_app" / "__init__.py").write_text(
        APP.replace("REGISTRY = registry()", 'REGISTRY = registry(target="1.1.0")')
    )
    code, _, err = run(
        tmp_path, "-m", "syncengine", "squash", "--app", "notes_app:REGISTRY", "--package", "notes_app"
    )
    assert code == 1
    assert "There is nothing to squash." in err
    assert [path.name for path in Path(tmp_path / "notes_app").glob("*.py")] == ["__init__.py"]
