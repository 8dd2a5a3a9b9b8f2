"""plan --to and --rehearse, pause, resume, cancel, skip, verify and freeze, as a person types them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from syncengine import SystemClock

ROOT = Path(__file__).parents[2]

APP = '''
import time

from pydantic import BaseModel, ConfigDict, Field
from syncengine import Collection, ListedMigration, MigrationRegistry, Quarantine, add, declared, migration, tables

NOTES = """
CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, minutes REAL NOT NULL, PRIMARY KEY (user_id, id)) STRICT
"""

class NoteV1(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    user_id: str
    id: str
    minutes: float

class NoteV2(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    user_id: str
    id: str
    seconds: int = Field(ge=0)

make = tables(id="make", from_version="1.0.0", to_version="1.1.0", create=(NOTES,))

@migration(id="seconds", collection="notes", from_version="1.1.0", to_version="1.2.0", shadow=True,
           table=NOTES.replace("minutes REAL", "seconds INTEGER"))
def seconds(old: NoteV1) -> NoteV2:
    time.sleep(float(open("pace.txt").read()))
    if old.minutes > 1000:
        raise Quarantine("too long", field="minutes")
    return NoteV2(user_id=old.user_id, id=old.id, seconds=round(old.minutes * 60))

@seconds.down
def minutes(new: NoteV2) -> NoteV1:
    return NoteV1(user_id=new.user_id, id=new.id, minutes=new.seconds / 60)

pinned = declared(id="pinned", collection="notes", from_version="1.2.0", to_version="1.3.0",
                  changes=(add("pinned", "INTEGER", default=0),))

LISTED = [ListedMigration("make", "1.0.0 > 1.1.0", "app:make"),
          ListedMigration("seconds", "1.1.0 > 1.2.0", "app:seconds"),
          ListedMigration("pinned", "1.2.0 > 1.3.0", "app:pinned")]

def registry(target):
    return MigrationRegistry(app="n", baseline="1.0.0", target=target, collections=[Collection("notes")],
                             migrations=LISTED)

OLD, MIDDLE, NEW = registry("1.1.0"), registry("1.2.0"), registry("1.3.0")
'''

FILL = """
import sys
from app import OLD
from syncengine import Engine
with Engine.open("app.db", registry=OLD) as engine:
    engine.migrate()
    with engine.write() as db:
        rows = [("ann", f"n{n:04}", 2000.0 if n == 3 else 1.0) for n in range(int(sys.argv[1]))]
        db.conn.executemany("insert into notes values (?, ?, ?)", rows)
    with engine._store.transaction():
        engine._store.query("delete from _sync_outbox")  # as if a cloud had them
"""


@pytest.fixture
def app(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "pace.txt").write_text("0")
    return tmp_path


def python(folder, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=90, check=False
    )
    return done.returncode, done.stdout, done.stderr


def command(folder, name, *more, registry="app:NEW"):
    return python(folder, "-m", "syncengine", name, "--store", "app.db", "--app", registry, *more)


def filled(folder, rows):
    code, _, err = python(folder, "-c", FILL, str(rows))
    assert code == 0, err


def shapes(folder):
    """The columns of the table, and how many rows it has."""
    asked = "select group_concat(name) from pragma_table_info('notes'); select count(*) from notes"
    return subprocess.run(
        ["sqlite3", "-readonly", "app.db", asked], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.split()


def being_rewritten(folder):
    """A process that rewrites slowly, and is at it."""
    (folder / "pace.txt").write_text("0.01")
    arguments = ["-m", "syncengine", "migrate", "--store", "app.db", "--app", "app:NEW", "--json"]
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    asked = ["sqlite3", "-readonly", "app.db", "select batches from _sync_shadow where batches > 1"]
    for _ in range(600):
        SystemClock().pause(50)
        if subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=False).stdout.strip():
            return process
    process.kill()
    raise AssertionError(process.communicate())


def test_a_plan_ends_where_it_is_told(app):
    filled(app, 5)
    code, out, _ = command(app, "plan", "--to", "1.2.0")
    assert code == 3
    assert "seconds" in out
    assert "pinned" not in out
    code, _, err = command(app, "plan", "--to", "9.9")
    assert code == 1
    assert "No migration leads to version 9.9." in err


def test_a_rehearsal_says_what_would_be_and_leaves_the_store_as_it_is(app):
    filled(app, 20)
    code, out, err = command(app, "plan", "--rehearse")
    assert code == 4, err
    assert "seconds: completed; read 20 = written 19 + merged 0 + dropped 0 + quarantined 1" in out
    assert "1 row would be set aside" in out
    assert shapes(app) == ["user_id,id,minutes", "20"]
    code, out, _ = command(app, "plan", "--rehearse", "--json")
    shown = json.loads(out)["rehearsal"]["collections"][0]["rows"][0]["fields"]
    assert {"field": "seconds", "before": None, "after": 60} in shown


def test_a_migration_goes_no_further_than_it_is_told(app):
    filled(app, 5)
    code, _, err = command(app, "migrate", "--until", "1.2.0")
    assert code == 4, err
    assert shapes(app) == ["user_id,id,seconds", "4"]


@pytest.mark.slow
def test_another_process_is_paused_and_what_it_has_done_is_kept(app):
    filled(app, 900)
    process = being_rewritten(app)
    code, out, err = command(app, "pause")
    assert (code, out) == (3, "pause: seconds, which rewrites notes\n"), err
    out, err = process.communicate(timeout=60)
    assert json.loads(out)["results"][0]["state"] == "paused", err
    assert shapes(app) == ["user_id,id,minutes", "900"]
    assert "was paused at" in command(app, "status")[1]
    (app / "pace.txt").write_text("0")
    code, out, _ = command(app, "resume")
    assert (code, out) == (3, "resume: seconds, which rewrites notes\nnow: syncengine migrate\n")
    code, out, err = command(app, "migrate")
    assert code == 4, err
    assert shapes(app) == ["user_id,id,seconds,pinned", "899"]
    assert command(app, "resume")[0] == 0


@pytest.mark.slow
def test_another_process_is_cancelled_and_the_store_is_as_it_was(app):
    filled(app, 900)
    process = being_rewritten(app)
    assert command(app, "cancel")[0] == 3
    out, err = process.communicate(timeout=60)
    assert json.loads(out)["results"][0]["state"] == "cancelled", err
    assert shapes(app) == ["user_id,id,minutes", "900"]
    _, out, _ = python(
        app, "-c", "import apsw; print(apsw.Connection('app.db').execute('select count(*) from _sync_shadow').get)"
    )
    assert out == "0\n"


@pytest.mark.slow
def test_what_a_killed_process_began_is_given_up_at_once(app):
    filled(app, 900)
    process = being_rewritten(app)
    process.kill()
    process.communicate()
    assert "nobody is at it: " in command(app, "status")[1]
    assert command(app, "pause")[0] == 3
    _, out, err = command(app, "migrate")
    assert "Paused. To go on: syncengine migrate\n" in out, err
    assert command(app, "cancel")[0] == 3
    assert "cancelled" in python(app, "-m", "syncengine", "history", "--store", "app.db")[1]
    code, out, _ = command(app, "cancel")
    assert code == 0
    assert out.startswith("No large collection is being rewritten.")
    assert shapes(app) == ["user_id,id,minutes", "900"]


def test_a_migration_is_left_out_until_it_is_asked_for(app):
    filled(app, 5)
    code, out, err = command(app, "skip", "seconds", "--reason", "not now")
    assert (code, out) == (0, "skipped: seconds\n"), err
    code, _, _ = command(app, "migrate")
    assert code == 3
    assert shapes(app) == ["user_id,id,minutes", "5"]
    code, _, err = command(app, "migrate", "--only", "seconds")
    assert code == 4, err
    assert shapes(app) == ["user_id,id,seconds", "4"]


def test_while_a_collection_is_blocked_by_what_was_skipped_status_says_3_and_a_rehearsal_of_the_rest_is_no_failure(
    app,
):
    filled(app, 5)
    assert command(app, "skip", "seconds", "--reason", "not now", registry="app:MIDDLE")[0] == 0
    code, out, err = command(app, "status", registry="app:MIDDLE")
    assert code == 3, err
    assert "migration seconds was skipped" in out
    assert "or `syncengine migrate --only seconds`." in out
    code, out, err = command(app, "plan", "--rehearse")
    assert code == 3, err
    assert "pinned: would not run" in out
    assert json.loads(command(app, "plan", "--rehearse", "--json")[1])["rehearsal"]["success"] is True


def test_while_a_collection_is_blocked_by_what_was_rolled_back_status_says_3(app):
    filled(app, 2)
    assert command(app, "migrate", registry="app:MIDDLE")[0] == 0
    assert command(app, "status", registry="app:MIDDLE")[0] == 0
    code, _, err = command(app, "rollback", "seconds", "--yes", registry="app:MIDDLE")
    assert code == 0, err
    code, out, _ = command(app, "status", registry="app:MIDDLE")
    assert (code, "migration seconds was rolled back" in out) == (3, True)


def test_rows_that_are_not_of_their_shape_are_named_by_key_and_field_without_their_value(app):
    filled(app, 3)
    assert command(app, "migrate")[0] == 0
    code, out, err = command(app, "verify")
    assert code == 0, err
    assert "0 rows are not of the shape" in out
    python(
        app,
        "-c",
        "import apsw; apsw.Connection('app.db').execute(\"update notes set seconds = -77 where id = 'n0001'\")",
    )
    code, out, err = command(app, "verify", registry="app:NEW")
    assert code == 1
    assert "n0001" in err
    assert "seconds" in err
    assert "77" not in out + err


def test_a_frozen_migration_that_was_changed_is_noticed(app):
    lock = ("--lock", "lock.json")
    freeze = ("-m", "syncengine", "freeze", "--app", "app:NEW", *lock)
    code, out, err = python(app, *freeze)
    assert (code, out) == (0, "3 migrations were frozen in lock.json.\n"), err
    assert python(app, *freeze, "--check")[0] == 0
    (app / "app.py").write_text(APP.replace("minutes * 60", "minutes * 61"))
    code, _, err = python(app, *freeze, "--check")
    assert code == 1
    assert "seconds" in err
    assert python(app, *freeze)[0] == 1
    assert python(app, *freeze, "--again", "seconds")[0] == 0
    assert python(app, *freeze, "--check")[0] == 0


@pytest.mark.parametrize("name", ["pause", "resume", "cancel", "verify"])
def test_none_of_them_makes_a_store_that_is_not_there(app, name):
    code, _, err = command(app, name)
    assert code == 1
    assert "There is no store" in err
    assert not (app / "app.db").exists()
