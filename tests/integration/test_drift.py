"""What somebody did to the tables outside of the migrations is noticed, and what can be made again is."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from syncengine import Engine, ListedMigration, add, declared
from syncengine.errors import ShapeDrifted
from syncengine.events import MigrationMessage
from syncengine.migrate.drift import compare
from tests.integration.open_world import in_python, make_store, opened, query, registry, sql

TRIGGER = (
    "CREATE TRIGGER notes_log AFTER INSERT ON notes "
    "BEGIN INSERT INTO places VALUES (new.user_id, new.id, 'by trigger'); END"
)
KEY = ("user_id", "id")
NOTE = {"user_id": "ann", "id": "new", "text": "new"}
UNCAPTURED = "".join(
    f"DROP TRIGGER _sync_capture_notes_{event};" for event in ("insert", "update", "rekey", "delete")
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "app.db"
    make_store(made)
    return made


def cookie(path: Path) -> tuple[str, int]:
    (noted,) = query(path, "SELECT value FROM _sync_state WHERE name = 'schema_cookie'")[0]
    return str(noted), int(str(query(path, "PRAGMA schema_version")[0][0]))


def heard(path: Path) -> tuple[list[str], dict[str, object]]:
    sentences: list[object] = []
    with opened(path, listener=sentences.append) as engine:
        drifted = dict(engine._store.drifted)
    return [event.message for event in sentences if isinstance(event, MigrationMessage)], drifted


def test_the_schema_of_a_good_start_is_remembered_so_that_the_next_one_does_not_compare(path: Path) -> None:
    noted, found = cookie(path)
    assert noted == str(found)
    with opened(path) as engine:
        assert engine._store.shapes_are_known()


def test_what_a_table_is_made_of_is_recorded(path: Path) -> None:
    parts = json.loads(str(query(path, "SELECT ddl FROM _sync_collection WHERE name = 'notes'")[0][0]))
    assert sorted((kind, name) for kind, name, _ in parts) == [
        ("column", "id"),
        ("column", "text"),
        ("column", "user_id"),
        ("index", "notes_by_text"),
        ("table", "notes"),
    ]


def test_an_index_that_was_dropped_is_made_again_and_that_is_said_once(path: Path) -> None:
    before = query(path, "SELECT sql FROM sqlite_schema WHERE name = 'notes_by_text'")
    sql(path, "DROP INDEX notes_by_text")
    said, drifted = heard(path)
    assert said == ["The index notes_by_text of notes was gone; it was made again."]
    assert drifted == {}
    assert query(path, "SELECT sql FROM sqlite_schema WHERE name = 'notes_by_text'") == before
    assert heard(path) == ([], {})


def test_a_trigger_that_was_dropped_is_made_again(path: Path) -> None:
    parts = json.loads(str(query(path, "SELECT ddl FROM _sync_collection WHERE name = 'notes'")[0][0]))
    recorded = json.dumps([*parts, ["trigger", "notes_log", TRIGGER]]).replace("'", "''")
    sql(path, f"UPDATE _sync_collection SET ddl = '{recorded}' WHERE name = 'notes'; DROP INDEX notes_by_text")
    assert len(heard(path)[0]) == 2
    sql(path, "INSERT INTO notes VALUES ('ann', 'new', 'x')")
    assert query(path, "SELECT name FROM places WHERE id = 'new'") == [("by trigger",)]


def test_what_somebody_dropped_of_the_engines_own_is_made_again_and_a_table_is_not(path: Path) -> None:
    whole = query(path, "SELECT type, name, sql FROM sqlite_schema ORDER BY name")
    sql(path, "DROP INDEX _sync_outbox_by_sequence; DROP VIEW sync_status")
    said, _ = heard(path)
    assert said == [
        "The index _sync_outbox_by_sequence of the engine was gone; it was made again.",
        "The view sync_status of the engine was gone; it was made again.",
    ]
    made = {(kind, name) for kind, name, _ in query(path, "SELECT type, name, sql FROM sqlite_schema")}
    assert made == {(kind, name) for kind, name, _ in whole}
    sql(path, "DROP TABLE _sync_parked")
    with opened(path) as engine:
        assert engine.read_only is not None
        assert "_sync_parked" in engine.read_only.why


def test_an_index_that_does_not_fit_any_more_is_said_and_keeps_nobody_out(path: Path) -> None:
    parts = json.loads(str(query(path, "SELECT ddl FROM _sync_collection WHERE name = 'places'")[0][0]))
    unique = ["index", "one_name", "CREATE UNIQUE INDEX one_name ON places (name)"]
    recorded = json.dumps([*parts, unique]).replace("'", "''")
    sql(
        path,
        f"UPDATE _sync_collection SET ddl = '{recorded}' WHERE name = 'places';"
        "INSERT INTO places VALUES ('ann', 'second', 'Home'); CREATE TABLE other (a)",
    )
    for _ in range(2):
        said, drifted = heard(path)
        assert said == ["The index one_name of places is gone and cannot be made again: ConstraintError."]
        assert drifted == {}


def test_what_somebody_added_is_kept(path: Path) -> None:
    sql(path, f"CREATE INDEX mine ON notes (id); {TRIGGER}; CREATE TABLE scratch (a); INSERT INTO scratch VALUES (1)")
    assert heard(path) == ([], {})
    kept = query(path, "SELECT name FROM sqlite_schema WHERE name IN ('mine', 'notes_log', 'scratch') ORDER BY name")
    assert kept == [("mine",), ("notes_log",), ("scratch",)]
    assert cookie(path)[0] == str(cookie(path)[1])


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        ("ALTER TABLE notes ADD COLUMN mood TEXT", "the column mood is new"),
        # SQLite drops no column that a trigger refers to, as those of capture do.
        (
            f"{UNCAPTURED} DROP INDEX notes_by_text; ALTER TABLE notes DROP COLUMN text",
            "the column text is gone",
        ),
        ("ALTER TABLE notes RENAME COLUMN text TO words", "the column text is gone; the column words is new"),
        (
            """ALTER TABLE notes RENAME TO old;
            CREATE TABLE notes (user_id TEXT, id TEXT, text INT, PRIMARY KEY (user_id, id)) STRICT""",
            "the column text is of another kind",
        ),
        ("DROP TABLE notes", "the table is gone"),
    ],
)
def test_a_table_with_other_columns_is_named_and_left_as_it_is(path: Path, harm: str, why: str) -> None:
    sql(path, harm)
    schema = query(path, "SELECT name, sql FROM sqlite_schema ORDER BY name")
    for _ in range(2):
        said, drifted = heard(path)
        assert [str(error).split("\n")[1] for error in drifted.values()] == [f"  why:  {why}"]
        assert list(drifted) == ["notes"]
        assert len(said) == 1
    assert query(path, "SELECT name, sql FROM sqlite_schema ORDER BY name") == schema


def test_a_drifted_collection_is_read_and_not_written_and_the_others_are_both(path: Path) -> None:
    sql(path, "ALTER TABLE notes ADD COLUMN mood TEXT")
    with opened(path) as engine:
        assert {name: state.state for name, state in engine.status().collections.items()} == {
            "notes": "read-only",
            "places": "usable",
        }
        assert "mood" in engine.status().collections["notes"].why
        with engine.read() as db:
            assert db["notes"].count == 3
        with pytest.raises(ShapeDrifted, match="notes"), engine.write() as db:
            db["notes"].delete_where()
        with engine.write() as db:
            db["places"].insert({"user_id": "ann", "id": "sea", "name": "Sea"})
    assert query(path, "SELECT count(*) FROM notes") == [(3,)]


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda db: db["notes"].upsert({**NOTE, "mood": "good"}, pk=KEY, alter=True), "the column mood is new"),
        (lambda db: db["notes"].add_column("mood", str), "the column mood is new"),
        (lambda db: db.execute("ALTER TABLE notes RENAME TO old"), "the table is gone"),
    ],
)
def test_a_block_that_alters_a_collection_is_undone_and_the_next_one_writes(path, change, why, atomic) -> None:
    with opened(path) as engine:
        before = cookie(path)
        entries = query(path, "SELECT count(*) FROM _sync_outbox")
        with pytest.raises(ShapeDrifted, match=why) as refused, engine.write(atomic=atomic) as db:
            change(db)
        assert "by a migration" in refused.value.fix
        assert (cookie(path), query(path, "SELECT count(*) FROM _sync_outbox")) == (before, entries)
        assert query(path, "SELECT count(*) FROM notes") == [(3,)]
        with engine.write() as db:
            db["notes"].insert(NOTE)
            db["places"].insert({"user_id": "ann", "id": "sea", "name": "Sea"})
        assert {state.state for state in engine.status().collections.values()} == {"usable"}
    assert heard(path) == ([], {})


def test_a_block_inside_a_block_alters_no_collection_either(path: Path) -> None:
    with opened(path) as engine:
        with pytest.raises(ShapeDrifted), engine.write(), engine.write() as db:
            db["notes"].add_column("mood", str)
        with engine.write() as db:
            db["notes"].insert(NOTE)


def test_a_block_makes_tables_and_indexes_of_its_own(path: Path) -> None:
    with opened(path) as engine:
        for _ in range(2):
            with engine.write() as db:
                db["notes"].create_index(["text", "id"], if_not_exists=True)
                db["settings"].upsert({"name": "theme", "value": "dark"}, pk="name", alter=True)
                db["notes"].upsert(NOTE, pk=KEY, alter=True)
        assert {state.state for state in engine.status().collections.values()} == {"usable"}
    assert query(path, "SELECT name, value FROM settings") == [("theme", "dark")]


def test_a_table_that_was_put_back_is_well_again(path: Path) -> None:
    sql(path, "ALTER TABLE notes ADD COLUMN mood TEXT")
    assert list(heard(path)[1]) == ["notes"]
    sql(path, "ALTER TABLE notes DROP COLUMN mood")
    assert heard(path) == ([], {})
    assert cookie(path)[0] == str(cookie(path)[1])


def test_vacuum_changes_the_schemas_number_and_nothing_else(path: Path) -> None:
    before = cookie(path)
    sql(path, "VACUUM")
    assert cookie(path) != before
    assert heard(path) == ([], {})
    assert cookie(path)[0] == str(cookie(path)[1])


@pytest.mark.parametrize("suffix", ["_new_", "_late_"])
def test_a_table_that_a_torn_run_left_goes_if_it_is_empty_and_stays_if_not(path: Path, suffix: str) -> None:
    sql(
        path,
        f"CREATE TABLE notes{suffix} (a); CREATE TABLE places{suffix} (a); INSERT INTO places{suffix} VALUES (1)",
    )
    said, _ = heard(path)
    assert said == [f"The table places{suffix} was left behind by a migration and holds rows; it was kept."]
    left = query(path, f"SELECT name FROM sqlite_schema WHERE name LIKE '%\\{suffix}' ESCAPE '\\'")
    assert left == [(f"places{suffix}",)]


def test_a_lease_of_a_process_that_has_ended_is_given_back(path: Path) -> None:
    sql(
        path,
        "INSERT INTO _sync_lease VALUES ('migrate', 'someone', 1, 'an earlier start', 9, 4); CREATE TABLE other (a)",
    )
    heard(path)
    assert query(path, "SELECT holder, fence FROM _sync_lease") == [("", 4)]


HOLDS_THE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_start_never_waits_for_another_process_only_to_remember_the_schema(path: Path) -> None:
    sql(path, "CREATE TABLE other (a)")
    before = cookie(path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_LOCK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        began = time.monotonic()
        with opened(path) as engine:
            assert time.monotonic() - began < 3
            assert engine.read_only is None
        holder.communicate()
    assert cookie(path) == before
    with opened(path):
        pass
    assert cookie(path)[0] == str(before[1])


def test_a_schema_that_changed_between_the_look_and_the_repair_is_left_to_the_next_start(path: Path) -> None:
    sql(path, "ALTER TABLE notes ADD COLUMN mood TEXT; DELETE FROM _sync_state WHERE name = 'schema_cookie'")
    parts = json.loads(str(query(path, "SELECT ddl FROM _sync_collection WHERE name = 'places'")[0][0]))
    lost = ["index", "by_name", "CREATE INDEX by_name ON places (name)"]
    recorded = json.dumps([*parts, lost]).replace("'", "''")
    sql(path, f"UPDATE _sync_collection SET ddl = '{recorded}' WHERE name = 'places'")
    said: list[str] = []

    def another_process_is_faster(event: object) -> None:
        if isinstance(event, MigrationMessage):
            said.append(event.message)
            if len(said) == 1:  # the drift is said before the repair
                in_python("import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute(sys.argv[2])", path, lost[2])

    with opened(path, listener=another_process_is_faster):
        pass
    assert len(said) == 1
    assert "mood" in said[0]


def test_two_starts_that_repair_at_once_both_find_it_right(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.integration.open_world import opened\n"
        "with opened(Path(sys.argv[1])) as engine: print(len(engine._store.drifted), engine.read_only)"
    )
    sql(path, "DROP INDEX notes_by_text")
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(in_python(code, path).stdout)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["0 None\n"] * 3
    assert len(query(path, "SELECT 1 FROM sqlite_schema WHERE name = 'notes_by_text'")) == 1


def test_blanks_comments_and_the_quotes_of_a_rename_are_no_difference() -> None:
    recorded = {("table", "t"): "CREATE TABLE t (a TEXT)", ("index", "i"): "CREATE INDEX i ON t (a)"}
    live = {("table", "t"): 'CREATE TABLE "t" (a  TEXT) -- mine', ("index", "i"): "CREATE INDEX i\nON t (a)"}
    drift = compare("t", recorded, live)
    assert (drift.differences, drift.lost, drift.noted) == ((), (), ())


def test_a_record_of_nothing_says_nothing() -> None:
    assert compare("t", {}, {}).differences == ()


def test_migrations_of_a_drifted_collection_are_refused_and_the_others_run(path: Path) -> None:
    hop: dict[str, Any] = {"from_version": "2.0.0", "to_version": "2.1.0", "critical": False}
    mood = declared(id="mood", collection="notes", changes=(add("mood", "TEXT"),), **hop)
    street = declared(id="street", collection="places", changes=(add("street", "TEXT"),), **hop)
    steps = [ListedMigration(step.definition.id, "2.0.0 > 2.1.0", step) for step in (mood, street)]
    newer = registry(*steps, target="2.1.0")
    sql(path, "ALTER TABLE notes ADD COLUMN mood TEXT")
    with Engine.open(path, registry=newer) as engine:
        report = engine.migrate()
        assert report is not None
        failures = {result.migration_id: type(result.failure) for result in report.results}
    assert failures == {"mood": ShapeDrifted, "street": type(None)}
    columns = {str(row[1]) for row in query(path, "PRAGMA table_info(places)")}
    assert "street" in columns
