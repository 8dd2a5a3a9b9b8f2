"""`syncengine new` writes a file that runs as it is: the author changes it from there."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

APP = """
from pydantic import BaseModel, ConfigDict
from syncengine import Collection, ListedMigration, MigrationRegistry, migration, tables

NOTES = "CREATE TABLE notes (user_id TEXT, id TEXT, text TEXT NOT NULL, PRIMARY KEY (user_id, id)) STRICT"

class Base(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    user_id: str
    id: str

class NoteV1(Base):
    text: str

class NoteV2(Base):
    text: str
    tags: list[str]  # in order

make = tables(id="make", from_version="0.0.0", to_version="1.0.0", create=(NOTES,))

@migration(id="tags", collection="notes", from_version="1.0.0", to_version="2.0.0",
           table=NOTES.replace("text TEXT NOT NULL,", "text TEXT NOT NULL, tags TEXT NOT NULL,"))
def tags(old: NoteV1) -> NoteV2:
    return NoteV2(user_id=old.user_id, id=old.id, text=old.text, tags=[])

LISTED = [ListedMigration("make", "0.0.0 > 1.0.0", make), ListedMigration("tags", "1.0.0 > 2.0.0", tags)]

def registry(target="2.0.0", *more):
    return MigrationRegistry(app="n", baseline="0.0.0", target=target, collections=[Collection("notes")],
                             migrations=[*LISTED, *more])

REGISTRY = registry()
"""

RUN = """
import sys
from notes_app import registry
from syncengine import Engine, ListedMigration

with Engine.open("app.db", registry=registry(), user="ann") as engine:
    engine.migrate()
    with engine.write() as db:
        db["notes"].insert({"user_id": "ann", "id": "n1", "text": "x", "tags": '["a"]'})
line = %s
with Engine.open("app.db", registry=registry("3.0.0", line), user="ann", consent=lambda request: True) as engine:
    report = engine.migrate()
    assert report.success, report
    with engine.read() as db:
        print(list(db.query("select * from notes")))
"""


@pytest.fixture
def app(tmp_path):
    (tmp_path / "notes_app").mkdir()
    (tmp_path / "notes_app" / "__init__.py").write_text(APP)
    return tmp_path


def run(folder, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


def new(folder, *more, to="3.0.0", collection="notes"):
    app = ("--app", "notes_app:REGISTRY", "--package", "notes_app")
    return run(folder, "-m", "syncengine", "new", *app, "--collection", collection, "--to", to, *more)


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("rows", "[{'user_id': 'ann', 'id': 'n1', 'text': 'x', 'tags': '[\"a\"]'}]"),
        ("declared", "[{'user_id': 'ann', 'id': 'n1', 'text': 'x', 'tags': '[\"a\"]', 'note': None}]"),
        ("upload", "[{'user_id': 'ann', 'id': 'n1', 'text': 'x', 'tags': '[\"a\"]'}]"),
    ],
)
def test_a_new_file_runs_as_it_is_with_the_line_that_is_shown(app, kind, shown):
    code, out, err = new(app, "--kind", kind)
    assert code == 0, err
    line = out.splitlines()[-1].strip().rstrip(",")
    code, out, err = run(app, "-c", RUN % line)
    assert code == 0, err
    assert out.strip() == shown


def test_a_file_that_is_there_is_not_overwritten(app):
    new(app)
    path = app / "notes_app" / "v3_0_0_notes.py"
    path.write_text("mine")
    code, _, err = new(app)
    assert code == 1
    assert "was not written" in err
    assert path.read_text() == "mine"


def test_a_version_that_does_not_go_forward_is_refused(app):
    code, _, err = new(app, to="2.0.0")
    assert code == 1
    assert "would not go forward" in err


def test_an_unknown_collection_is_refused_with_those_that_there_are(app):
    code, _, err = new(app, collection="walks")
    assert code == 1
    assert "it has notes" in err
    assert [path.name for path in (app / "notes_app").glob("*.py")] == ["__init__.py"]
