"""Whatever stands in the engine's own tables, a person and an app get an answer or an error of the engine."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from syncengine import Collection, Engine, ListedMigration, MigrationRegistry, cast, declared, tables
from syncengine.cli import main
from syncengine.cli.checks import examined
from syncengine.errors import StoreDamaged, SyncEngineError, TextUnreadable
from syncengine.local.stored import stored_ddl, stored_number, stored_object, stored_texts, stored_version

NO_UTF8 = "CAST(x'ff73' AS TEXT)"
GARBAGE = ("'garbage'", NO_UTF8)
JSON_GARBAGE = ("'5'", "'{'", "'[]'", "'[5]'", "'{}'")
NO_JSON_CHECK = frozenset({"ddl", "warnings", "rows", "facts", "cursor"})
NOTES = (
    "CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, text TEXT NOT NULL, stars TEXT,"
    " PRIMARY KEY (user_id, id)) STRICT"
)
APP = f"{__name__}:REGISTRY"

make = tables(id="make", from_version="0.0.0", to_version="1.0.0", create=(NOTES,))
stars = declared(
    id="stars", collection="notes", from_version="1.0.0", to_version="2.0.0", changes=(cast("stars", int),)
)
more = declared(
    id="more", collection="notes", from_version="2.0.0", to_version="3.0.0", changes=(cast("stars", float),)
)
STEPS = (
    ListedMigration("make", "0.0.0 > 1.0.0", make),
    ListedMigration("stars", "1.0.0 > 2.0.0", stars),
    ListedMigration("more", "2.0.0 > 3.0.0", more),
)


def registry(count: int) -> MigrationRegistry:
    """The app after so many migrations."""
    return MigrationRegistry(
        app="hurt",
        baseline="0.0.0",
        target=f"{count}.0.0",
        collections=(Collection("notes"),),
        migrations=STEPS[:count],
    )


REGISTRY = registry(3)


def opened(path: Path, count: int = 3) -> Engine:
    return Engine.open(path, registry=registry(count), user="ann", consent=lambda _: True)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that has everything: runs, a restore point, an old shape, an item in quarantine; one step is left."""
    path = tmp_path_factory.mktemp("sound") / "app.db"
    with opened(path, 1) as engine:
        engine.migrate()
        with engine.write() as db:
            db["notes"].insert_all({"user_id": "ann", "id": f"n{n}", "text": "x", "stars": str(n)} for n in range(5))
            db["notes"].insert({"user_id": "ann", "id": "wrong", "text": "x", "stars": "many"})
    with opened(path, 2) as engine:
        assert engine.migrate().results[0].counts.quarantined == 1
        assert len(engine.restore_points()) == 1
    return path


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    """A copy of it, with its key and its sealed copies."""
    return copy_of(sound, tmp_path / "store")


def copy_of(sound: Path, folder: Path) -> Path:
    shutil.copytree(sound.parent, folder)
    return folder / sound.name


def hurt(path: Path, sql: str) -> int:
    """What a person can do with the command line of SQLite, or a disk; how many rows it met."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    with suppress(sqlite3.IntegrityError), connection:
        connection.execute(sql)
    changed = connection.total_changes
    connection.close()
    return changed


def wounds(path: Path) -> Iterator[str]:
    """An UPDATE for each text column of the engine's tables and each kind of garbage."""
    connection = sqlite3.connect(path)
    columns = connection.execute(
        "SELECT t.name, c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c"
        " WHERE t.name GLOB '_sync_*' AND t.type = 'table' AND c.type = 'TEXT' ORDER BY 1, 2"
    ).fetchall()
    holding = [
        (table, column) for table, column in columns if connection.execute(f"SELECT 1 FROM {table}").fetchone()
    ]
    connection.close()
    assert len({table for table, _ in holding}) >= 8
    for table, column in holding:
        for garbage in GARBAGE + (JSON_GARBAGE if column in NO_JSON_CHECK else ()):
            yield f"UPDATE {table} SET {column} = {garbage}"


def used(path: Path) -> Iterator[tuple[str, BaseException]]:
    """Everything that an app does with a store; what was raised that is no error of the engine, and where."""
    tries: list[tuple[str, Callable[[Engine], object]]] = [
        ("status", lambda engine: engine.status().to_json()),
        ("history", lambda engine: engine.migrations.history()),
        ("plan", lambda engine: str(engine.plan())),
        ("restore points", lambda engine: engine.restore_points()),
        ("quarantine", lambda engine: engine.quarantine.items()),
        ("report", lambda engine: engine.export_diagnostics(f"{path}.report")),
        ("rollback", lambda engine: engine.migrations.rollback("stars", "ann", simulate=True)),
        ("verify", lambda engine: engine.migrations.validate_migrated_data("ann", "notes")),
        ("retry", lambda engine: [engine.quarantine.retry(item.item_id) for item in engine.quarantine.items()]),
        ("migrate", lambda engine: engine.migrate()),
    ]
    try:
        with opened(path) as engine:
            for name, use in tries:
                wrong = raised(lambda use=use: use(engine))
                if wrong is not None:
                    yield name, wrong
    except SyncEngineError:
        pass


def raised(act: Callable[[], object]) -> BaseException | None:
    """What came out of it that is no answer, no exit status and no error of the engine."""
    try:
        act()
    except (SyncEngineError, SystemExit):
        return None
    except BaseException as error:
        return error
    return None


LOOKS = (
    ("status", "--app", APP),
    *(("history",), ("outbox",), ("quarantine",), ("doctor",), ("restore-points",)),
    *(("plan", "--app", APP), ("verify", "--app", APP)),
)


def test_no_garbage_in_a_table_of_the_engine_ends_in_a_raw_error(sound: Path, tmp_path: Path, capsys: Any) -> None:
    found = []
    for number, wound in enumerate(wounds(sound)):
        path = copy_of(sound, tmp_path / str(number))
        if hurt(path, wound):
            for words in LOOKS:
                wrong = raised(lambda words=words, path=path: main([*words, "--store", str(path)]))
                if wrong is not None:
                    found.append((wound, words[0], repr(wrong)))
            found += [(wound, name, repr(wrong)) for name, wrong in used(path)]
        shutil.rmtree(path.parent)
    assert found == []
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wound", "words", "place"),
    [
        (
            "UPDATE _sync_state SET value = 'x' WHERE name = 'engine_schema'",
            ("history",),
            "_sync_state, engine_schema",
        ),
        ("DELETE FROM _sync_state WHERE name = 'engine_schema'", ("history",), "_sync_state, engine_schema"),
        ("UPDATE _sync_run SET warnings = '5'", ("history",), "_sync_run.warnings"),
        ("UPDATE _sync_restore_point SET rows = '['", ("restore-points",), "_sync_restore_point.rows"),
        (
            "UPDATE _sync_collection SET shape_version = 'x'",
            ("verify", "--app", APP),
            "_sync_collection.shape_version",
        ),
        (
            "UPDATE _sync_run SET from_version = 'x'",
            ("rollback", "--app", APP, "stars", "--simulate"),
            "_sync_run.from_version",
        ),
        (
            "UPDATE _sync_shape_before SET ddl = '[]'",
            ("rollback", "--app", APP, "stars", "--simulate"),
            "_sync_shape_before.ddl",
        ),
    ],
)
def test_the_error_names_table_and_column(
    path: Path, capsys: Any, wound: str, words: tuple[str, ...], place: str
) -> None:
    assert hurt(path, wound)
    with pytest.raises(SystemExit) as ended:
        main([*words, "--store", str(path)])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert f"The store holds what the engine never wrote, in {place}." in said


@pytest.mark.parametrize("words", [("history",), ("status", "--app", APP)])
def test_a_text_that_is_no_utf8_is_an_error_with_words(path: Path, capsys: Any, words: tuple[str, ...]) -> None:
    assert hurt(path, f"UPDATE _sync_run SET migration = {NO_UTF8}")
    with pytest.raises(SystemExit):
        main([*words, "--store", str(path)])
    assert "UnicodeDecodeError" not in capsys.readouterr().err


def test_a_status_is_there_of_a_store_whose_versions_are_damaged_while_it_is_open(path: Path) -> None:
    with opened(path) as engine:
        assert hurt(path, "UPDATE _sync_version SET schema_version = 'x'")
        status = engine.status()
    assert status.read_only == "store_damaged"
    assert status.collections["notes"].state == "read-only"


def test_a_table_without_a_column_is_wrong_by_its_name(path: Path, capsys: Any) -> None:
    hurt(path, "ALTER TABLE notes RENAME COLUMN user_id TO whose")
    with pytest.raises(SystemExit) as ended:
        main(["verify", "--app", APP, "--store", str(path)])
    assert ended.value.code == 1
    assert "notes: the table has no column user_id" in capsys.readouterr().err


def test_a_check_that_breaks_leaves_the_others(path: Path) -> None:
    hurt(path, "DELETE FROM _sync_state WHERE name = 'engine_schema'")
    findings = {finding.check: finding for finding in examined(str(path))}
    assert findings["engine tables"].found == "cannot be read: StoreDamaged"
    assert findings["integrity"].verdict.name == "OK"


def test_a_text_that_is_no_utf8_is_read_as_damage_and_not_kept_in_the_error(path: Path) -> None:
    hurt(path, f"UPDATE notes SET text = {NO_UTF8}")
    with opened(path) as engine, pytest.raises(TextUnreadable) as raised_:
        engine._store.query("SELECT text FROM notes")
    assert raised_.value.__cause__ is None
    assert raised_.value.__context__ is None


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (stored_version, "x"),
        (stored_version, None),
        (stored_number, None),
        (stored_number, "x"),
        (stored_object, "[]"),
        (stored_object, None),
        (stored_object, "["),
        (stored_texts, "[5]"),
        (stored_texts, "5"),
        (stored_texts, "[" * 100_000),
        (stored_ddl, "[]"),
    ],
)
def test_what_the_engine_never_writes_is_damage_without_its_text(
    read: Callable[..., object], text: str | None
) -> None:
    with pytest.raises(StoreDamaged) as raised_:
        read(text, "_sync_table.column")
    assert "_sync_table.column" in str(raised_.value)
    assert repr(text) not in str(raised_.value)
