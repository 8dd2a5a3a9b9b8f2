"""What people and programs do to an engine without meaning to, and what must not come of it."""

import asyncio
import gc
import json
import os
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from syncengine import (
    BaseMigrationExecutor,
    Collection,
    Engine,
    Item,
    ListedMigration,
    MigrationDefinition,
    MigrationRegistry,
    Put,
    Work,
    archive,
    cast,
    declared,
    migration,
    tables,
    upload,
)
from syncengine.errors import (
    AuthRequired,
    CalledFromInside,
    CollectionNotReady,
    MigrationDenied,
    MigrationInvalid,
    QuarantineBudgetExceeded,
    RegistryInvalid,
    StoreForeign,
    StoreReplaced,
)


class Note(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str
    text: str


NOTES = "CREATE TABLE notes (user_id TEXT, id TEXT, text TEXT, PRIMARY KEY (user_id, id)) STRICT"
make_notes = tables(id="make-notes", from_version="1.0.0", to_version="2.0.0", create=(NOTES,))


class ImportNotes(BaseMigrationExecutor):
    definition = MigrationDefinition(
        id="import-notes",
        name="",
        description="",
        from_version="1.0.0",
        to_version="2.0.0",
        collections=("notes",),
        after=("make-notes",),
        scope="user",
        source="legacy",
    )

    def items(self, work: Work) -> Any:
        yield from work.elements("notes")

    def convert(self, item: Item, work: Work) -> Put:
        return Put("notes", Note(user_id=str(work.user), id=item.value, text="old"))


send_notes = upload(
    id="send-notes", from_version="1.0.0", to_version="2.0.0", collections=("notes",), after=("import-notes",)
)
IMPORTS = (
    ListedMigration("make-notes", "1.0.0 > 2.0.0", make_notes),
    ListedMigration("import-notes", "1.0.0 > 2.0.0", ImportNotes, scope="user"),
    ListedMigration("send-notes", "1.0.0 > 2.0.0", send_notes, scope="user", online=True),
)


def registry(*steps: Any, app: str = "notes", imports: bool = False) -> MigrationRegistry:
    listed = list(IMPORTS if imports else IMPORTS[:1])
    listed += [ListedMigration(step.definition.id, "2.0.0 > 3.0.0", step) for step in steps]
    return MigrationRegistry(
        app=app,
        baseline="1.0.0",
        target="3.0.0" if steps else "2.0.0",
        collections=[Collection("notes")],
        migrations=listed,
        asks_for_major=False,
    )


def step(function: Any, **facts: Any) -> Any:
    facts = {"collection": "notes", "from_version": "2.0.0", "to_version": "3.0.0", "id": "step"} | facts
    return migration(**facts)(function)


def fill(path: Path, texts: list[str], *, then: str = "") -> None:
    with Engine.open(path, registry=registry()) as engine:
        engine.migrate()
        with engine.write() as db:
            db["notes"].insert_all({"user_id": "ann", "id": f"n{n:02}", "text": text} for n, text in enumerate(texts))
    with sqlite3.connect(path) as connection:
        connection.executescript(then)
    connection.close()


def rows(path: Path, sql: str = "SELECT id, text FROM notes ORDER BY id") -> list[Any]:
    with sqlite3.connect(path) as connection:
        found = connection.execute(sql).fetchall()
    connection.close()
    return found


def test_a_forgotten_return_drops_no_row(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    fill(path, ["a", "b", "c"])

    def forgets(old: Note) -> Note:
        Note(user_id=old.user_id, id=old.id, text=old.text)  # type: ignore[return]  # it forgets

    with (
        Engine.open(path, registry=registry(step(forgets, critical=True))) as engine,
        pytest.raises(QuarantineBudgetExceeded, match="returned None"),
    ):
        engine.migrate()
    assert [row[1] for row in rows(path)] == ["a", "b", "c"]


def test_a_slip_in_the_code_of_a_migration_is_no_fault_of_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    fill(path, ["a", "b", "c"])

    def slips(old: Note) -> Note:
        return Note(user_id=old.user_id, id=old.id, text=old.txt)  # type: ignore[attr-defined]  # a slip

    with Engine.open(path, registry=registry(step(slips, critical=True))) as engine:
        with pytest.raises(QuarantineBudgetExceeded, match=r"AttributeError .*slips, test_adversity.py line \d+"):
            engine.migrate()
        with pytest.raises(CollectionNotReady, match="migration step failed"), engine.read():
            pass
    assert len(rows(path)) == 3


@pytest.mark.parametrize(("bad", "stops"), [(1, False), (3, False), (12, True)])
def test_a_few_odd_rows_are_their_own_fault_and_many_are_the_codes(tmp_path: Path, bad: int, stops: bool) -> None:
    path = tmp_path / "app.db"
    fill(path, ["no number"] * bad)

    def numbers(old: Note) -> Note:
        return Note(user_id=old.user_id, id=old.id, text=str(int(old.text)))

    with Engine.open(path, registry=registry(step(numbers))) as engine:
        report = engine.migrate()
        assert report is not None
        assert report.success is not stops


@pytest.mark.parametrize("change", [archive("text"), cast("text", int)], ids=["archive", "cast"])
@pytest.mark.parametrize(
    "more",
    [
        "CREATE TABLE log (t); CREATE TRIGGER t AFTER UPDATE ON notes BEGIN INSERT INTO log VALUES (new.id); END",
        "CREATE TABLE log (t); CREATE TRIGGER t AFTER UPDATE ON notes BEGIN INSERT INTO log VALUES (new.text); END",
        "CREATE VIEW v AS SELECT id, text FROM notes",
        "CREATE INDEX i ON notes (lower(text))",
    ],
    ids=["trigger", "trigger_on_the_column", "view", "index"],
)
def test_a_column_that_goes_or_changes_crashes_nothing_that_refers_to_it(
    tmp_path: Path, change: Any, more: str
) -> None:
    path = tmp_path / "app.db"
    fill(path, ["1", "2", "3"], then=more)
    changed = declared(
        id="step", collection="notes", from_version="2.0.0", to_version="3.0.0", critical=True, changes=(change,)
    )
    pid = os.fork()
    if pid == 0:  # a crash of SQLite takes its process along
        status = 1
        try:
            with Engine.open(path, registry=registry(changed)) as engine, suppress(MigrationInvalid):
                engine.migrate()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(path, "SELECT count(*) FROM notes") == [(3,)]
    if "VIEW" in more:
        rows(path, "SELECT * FROM v")
    if "log" in more:
        assert rows(path, "SELECT * FROM log") == [], "the app's triggers are for the app's changes"


def test_a_cast_of_rows_that_cannot_be_told_apart_loses_no_value(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    fill(path, [])
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "DROP TABLE notes; CREATE TABLE notes (user_id, id, text);"
            "INSERT INTO notes VALUES ('ann', 'a', '1'), ('ann', 'a', '2'), (NULL, NULL, '3');"
            "UPDATE _sync_collection SET ddl = '[]'"  # as if nobody had recorded how the table was made
        )
    connection.close()
    change = declared(
        id="step",
        collection="notes",
        from_version="2.0.0",
        to_version="3.0.0",
        critical=True,
        changes=(cast("text", int),),
    )
    with Engine.open(path, registry=registry(change)) as engine:
        engine.migrate()
    assert rows(path, "SELECT text FROM notes ORDER BY text") == [(1,), (2,)]
    # A row of nobody has no place in a synced collection; it is whole in quarantine.
    assert [json.loads(body)["text"] for (body,) in rows(path, "SELECT body FROM _sync_quarantine")] == ["3"]


def test_code_that_gets_hold_of_the_connection_cannot_commit_half_a_migration(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    fill(path, ["a"] * 150)
    seen: list[Any] = []

    def commits(old: Note, work: Work) -> Note:
        if old.id == "n120":
            work.db.conn.apsw.execute("COMMIT")  # type: ignore[attr-defined]  # a slip
        seen.append(old)
        return Note(user_id=old.user_id, id=old.id, text="new")

    with Engine.open(path, registry=registry(step(commits, critical=True))) as engine:
        with pytest.raises(Exception, match=r"(?i)commit|transaction|constraint|ended"):
            engine.migrate()
        assert engine.migrations.get_current_schema_version() == "2.0.0"
    assert {row[1] for row in rows(path)} == {"a"}
    assert len(rows(path)) == 150


def test_a_write_that_fails_inside_a_write_undoes_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    fill(path, [])
    with Engine.open(path, registry=registry()) as engine, engine.write() as outer:
        outer["notes"].insert({"user_id": "ann", "id": "outer", "text": ""})
        with pytest.raises(ZeroDivisionError), engine.write() as inner:  # noqa: PT012  (the block is what is undone)
            inner["notes"].insert({"user_id": "ann", "id": "inner", "text": ""})
            _ = 1 / 0
    assert [row[0] for row in rows(path)] == ["outer"]


def test_blocks_of_two_tasks_do_not_share_a_transaction(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    fill(path, [])
    with Engine.open(path, registry=registry()) as engine:

        async def first() -> None:
            with engine.write() as db:
                db["notes"].insert({"user_id": "ann", "id": "one", "text": ""})
                await asyncio.sleep(0.05)
                raise ValueError("the first block fails")

        async def second() -> None:
            await asyncio.sleep(0.01)
            with engine.write() as db:
                db["notes"].insert({"user_id": "ann", "id": "two", "text": ""})

        async def both() -> list[Any]:
            return await asyncio.gather(first(), second(), return_exceptions=True)

        failed, refused = asyncio.run(both())
        assert isinstance(failed, ValueError)
        assert isinstance(refused, CalledFromInside)
        with engine.write() as db:
            db["notes"].insert({"user_id": "ann", "id": "three", "text": ""})
    assert [row[0] for row in rows(path)] == ["three"]


def test_an_outer_block_that_ends_before_its_inner_one_keeps_nothing_of_the_two(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    fill(path, [])
    with Engine.open(path, registry=registry()) as engine:
        outer, inner = engine.write(), engine.write()
        outer.__enter__()["notes"].insert({"user_id": "ann", "id": "outer", "text": ""})
        inner.__enter__()["notes"].insert({"user_id": "ann", "id": "inner", "text": ""})
        with pytest.raises(CalledFromInside, match="overlap"):
            outer.__exit__(None, None, None)
        with suppress(Exception):
            inner.__exit__(None, None, None)
        with engine.write() as db:
            db["notes"].insert({"user_id": "ann", "id": "later", "text": ""})
    assert [row[0] for row in rows(path)] == ["later"]


def test_a_block_that_another_thread_ends_is_undone_and_hangs_nobody(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    fill(path, [])
    with Engine.open(path, registry=registry()) as engine:
        block = engine.write()
        block.__enter__()["notes"].insert({"user_id": "ann", "id": "lost", "text": ""})
        ended: list[BaseException] = []

        def end() -> None:
            try:
                block.__exit__(None, None, None)
            except BaseException as error:
                ended.append(error)

        thread = threading.Thread(target=end)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
        assert isinstance(ended[0], CalledFromInside)
        with engine.write() as db:
            db["notes"].insert({"user_id": "ann", "id": "later", "text": ""})
    assert [row[0] for row in rows(path)] == ["later"]


def test_a_listener_cannot_write_into_the_migration_that_it_hears(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    fill(path, ["a"])
    heard: list[BaseException] = []

    def same(old: Note) -> Note:
        return old

    def listen(_event: object) -> None:
        try:
            with engine.write() as db:
                db["notes"].delete_where()
        except Exception as error:
            heard.append(error)

    with Engine.open(path, registry=registry(step(same)), listener=listen) as engine:
        engine.migrate()
    assert any(isinstance(error, CalledFromInside) for error in heard)


def test_a_migration_inside_a_write_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    fill(path, ["a"])

    def same(old: Note) -> Note:
        return old

    with Engine.open(path, registry=registry()) as engine:
        engine.migrate()
    with Engine.open(path, registry=registry(step(same))) as engine:
        with engine._store.transaction(), pytest.raises(CalledFromInside):
            engine.migrate()
        assert engine.migrate() is not None


def test_a_read_that_writes_is_told_where_to_write(tmp_path: Path) -> None:
    fill(tmp_path / "app.db", ["a"])
    with (
        Engine.open(tmp_path / "app.db", registry=registry()) as engine,
        pytest.raises(MigrationDenied, match=r"engine\.write"),
        engine.read() as db,
    ):
        db.execute("DELETE FROM notes")


def test_a_store_that_is_replaced_under_an_open_engine_takes_no_more_writes(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    fill(path, ["a"])
    backup = tmp_path / "backup.db"
    with Engine.open(path, registry=registry()) as engine:
        with engine.snapshot() as copy:
            backup.write_bytes(copy.read_bytes())
        os.replace(backup, path)
        with pytest.raises(StoreReplaced), engine.write() as db:
            db["notes"].insert({"user_id": "ann", "id": "lost", "text": ""})
        with pytest.raises(StoreReplaced), engine.read():
            pass
    assert [row[1] for row in rows(path)] == ["a"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_inside_a_write_can_neither_write_nor_commit(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    fill(path, [])
    with Engine.open(path, registry=registry()) as engine, engine.write() as db:
        db["notes"].insert({"user_id": "ann", "id": "parent1", "text": ""})
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                db.execute("INSERT INTO notes VALUES ('ann', 'child', '')")
            except BaseException as error:
                status = 0 if type(error).__name__ == "ForkedEngine" else 2
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        db["notes"].insert({"user_id": "ann", "id": "parent2", "text": ""})
    assert [row[0] for row in rows(path)] == ["parent1", "parent2"]


def test_an_engine_that_was_dropped_without_close_can_be_opened_again(tmp_path: Path) -> None:
    engine = Engine.open(tmp_path / "app.db", registry=registry())
    engine.migrate()
    del engine
    gc.collect()
    with Engine.open(tmp_path / "app.db", registry=registry()) as again:
        assert again.migrate() is None


def test_another_apps_migrations_do_not_touch_the_store(tmp_path: Path) -> None:
    fill(tmp_path / "app.db", ["a"])
    with pytest.raises(StoreForeign, match="'notes', and 'todo'"):
        Engine.open(tmp_path / "app.db", registry=registry(app="todo"))
    with Engine.open(tmp_path / "app.db", registry=registry()) as engine:
        assert engine.migrate() is None


@pytest.mark.parametrize("user", ["", "a\0b", "x" * 201, 5])
def test_a_user_without_a_proper_id_is_nobody(tmp_path: Path, user: Any) -> None:
    with pytest.raises(AuthRequired, match="printable"):
        Engine.open(tmp_path / "app.db", registry=registry(), user=user)
    assert not (tmp_path / "app.db").exists()


def test_an_engine_needs_a_registry(tmp_path: Path) -> None:
    with pytest.raises(RegistryInvalid, match="NoneType"):
        Engine.open(tmp_path / "app.db", registry=None)  # type: ignore[arg-type]  # as a careless host would


def test_synced_is_said_only_of_what_a_cloud_has_confirmed(tmp_path: Path) -> None:
    with Engine.open(tmp_path / "app.db", registry=registry()) as engine:

        def state() -> str:
            return str(engine._store.query("SELECT state FROM sync_status")[0][0])

        engine.migrate()
        assert (engine.status().synced, state()) == (False, "local")
        with engine.write() as db:
            db["notes"].insert({"user_id": "ann", "id": "n", "text": ""})
        assert engine.status().outbox.waiting == 1
        assert (engine.status().synced, state()) == (False, "waiting")


def legacy(path: Path, *ids: str) -> Path:
    path.write_text(json.dumps([["notes", json.dumps(ids)]]))
    return path


def test_a_source_under_another_name_than_the_migrations_read_is_a_slip_that_is_said(tmp_path: Path) -> None:
    source = legacy(tmp_path / "old.json", "n1")
    with (
        Engine.open(
            tmp_path / "app.db", registry=registry(imports=True), user="ann", sources={"legcay": source}
        ) as engine,
        pytest.raises(MigrationInvalid, match="gives the source legcay, and its migrations read legacy"),
    ):
        engine.migrate()


def test_an_import_that_found_nothing_can_be_run_again_and_its_rows_are_sent(tmp_path: Path) -> None:
    app = registry(imports=True)
    with Engine.open(
        tmp_path / "app.db", registry=app, user="ann", sources={"legacy": tmp_path / "missing.json"}
    ) as engine:
        engine.migrate()
    assert rows(tmp_path / "app.db") == []
    source = legacy(tmp_path / "old.json", "n1", "n2")
    with Engine.open(tmp_path / "app.db", registry=app, user="ann", sources={"legacy": source}) as engine:
        assert engine.migrate() is None
        assert engine.migrations.import_again("import-notes", "ann").counts.written == 2
        assert engine.status().outbox.waiting >= 2
        with pytest.raises(MigrationInvalid, match="2 rows already"):
            engine.migrations.import_again("import-notes", "ann")
        with pytest.raises(MigrationInvalid, match="no legacy store"):
            engine.migrations.import_again("make-notes", "ann")
    assert [row[0] for row in rows(tmp_path / "app.db")] == ["n1", "n2"]


def test_a_legacy_store_that_was_moved_still_belongs_to_who_imported_it_whatever_else_changed(tmp_path: Path) -> None:
    app = registry(imports=True)
    ids = [f"a-note-with-a-long-id-{n}" for n in range(5)]
    source = legacy(tmp_path / "old.json", *ids)
    with Engine.open(tmp_path / "app.db", registry=app, user="ann", sources={"legacy": source}) as engine:
        engine.migrate()
    found = json.loads(source.read_text())
    moved = tmp_path / "elsewhere.json"
    moved.write_text(json.dumps([*found, ["lastOpened", "2"]]))
    with Engine.open(tmp_path / "app.db", registry=app, user="bob", sources={"legacy": moved}) as engine:
        report = engine.migrate()
        assert report is not None
        assert any("another user" in warning for result in report.results for warning in result.warnings)
    assert {row[0] for row in rows(tmp_path / "app.db", "SELECT user_id FROM notes")} == {"ann"}
    other = legacy(tmp_path / "bobs.json", *reversed(ids))
    with Engine.open(tmp_path / "app.db", registry=app, user="eve", sources={"legacy": other}) as engine:
        engine.migrate()
    assert len(rows(tmp_path / "app.db")) == 10
