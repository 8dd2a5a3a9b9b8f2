"""What an app's and a migration's code may do inside the engine's transaction, and what it may not."""

from collections.abc import Iterator
from contextlib import contextmanager

import apsw
import pytest
from migrate_world import registry_of

from syncengine import BaseMigrationExecutor, Engine, Item, MigrationDefinition, Put, Quarantine, tables
from syncengine.errors import MigrationDenied
from syncengine.local.authorizer import guarded_database, only
from syncengine.local.statements import statement

JOURNEYS = """
CREATE TABLE journeys (user_id TEXT NOT NULL, id TEXT NOT NULL, title TEXT, PRIMARY KEY (user_id, id)) STRICT
"""
OTHERS = "CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, text TEXT, PRIMARY KEY (user_id, id)) STRICT"
INTO_OUTBOX = """
INSERT INTO _sync_outbox (owner, kind, collection, row_key, shape_version, group_id, created_ms)
VALUES ('ann', 'delete', 'journeys', 'j', '2.0.0', 1, 2025)
"""


def make_tables():
    return tables(id="tables", from_version="1.0.0", to_version="2.0.0", create=(JOURNEYS, OTHERS))


class CustomExecutor(BaseMigrationExecutor):
    """One row for j-1, then whatever a test wants."""

    definition = MigrationDefinition(
        id="custom",
        name="",
        description="",
        from_version="1.0.0",
        to_version="2.0.0",
        collections=("journeys",),
        after=("tables",),
    )

    def __init__(self, act):
        super().__init__()
        self.act = act

    def items(self, work) -> Iterator[Item]:
        yield Item("j-1", None)

    def convert(self, item, work):
        self.act(work)
        return Put("journeys", {"user_id": "ann", "id": "j-1", "title": "first"})


@contextmanager
def migrating(tmp_path, act):
    with Engine.open(tmp_path / "app.db", registry=registry_of(make_tables(), CustomExecutor(act))) as engine:
        yield engine, engine.migrations.migrate_all_data()


def doing(sql):
    return lambda work: work.db.execute(sql)


def titles(engine):
    return [row[0] for row in engine._store.query("SELECT title FROM journeys")]


FORBIDDEN = {
    "COMMIT": doing("COMMIT"),
    "END": doing("END"),
    "ROLLBACK": doing("ROLLBACK"),
    "BEGIN": doing("BEGIN"),
    "BEGIN IMMEDIATE": doing("BEGIN IMMEDIATE"),
    "a comment before COMMIT": doing("/* x */ -- y\n COMMIT"),
    "executescript": lambda work: work.db.executescript("SELECT 1; COMMIT"),
    "conn.executescript": lambda work: work.db.conn.executescript("SELECT 1"),
    "conn.commit": lambda work: work.db.conn.commit(),
    "conn.rollback": lambda work: work.db.conn.rollback(),
    "a cursor of the connection": lambda work: work.db.conn.cursor().execute("COMMIT"),
    "with conn": lambda work: work.db.conn.__enter__().__exit__(None, None, None),
    "rollback to our savepoint": doing("ROLLBACK TO batch_1"),
    "release of our savepoint": doing('RELEASE "MIGRATION_custom"'),
    "a savepoint of our name": doing("SAVEPOINT batch_1"),
    "ATTACH": doing("ATTACH ':memory:' AS other"),
    "writable_schema": doing("PRAGMA writable_schema = ON"),
    "journal_mode": doing("PRAGMA journal_mode = DELETE"),
    "user_version": doing("PRAGMA user_version = 7"),
    "recursive_triggers": doing("PRAGMA recursive_triggers = OFF"),
    "INSERT into the outbox": doing(INTO_OUTBOX),
    "UPDATE of the version": doing("UPDATE _sync_version SET schema_version = '9.0.0'"),
    "DELETE of the history": doing("DELETE FROM _SYNC_RUN"),
    "ALTER of the outbox": doing("ALTER TABLE _sync_outbox RENAME TO outbox"),
    "DROP of the outbox": doing("DROP TABLE _sync_outbox"),
    "DROP of an index of the outbox": doing("DROP INDEX _sync_outbox_by_row"),
    "an index on the outbox": doing("CREATE INDEX mine ON _sync_outbox (owner)"),
    "a trigger on the outbox": doing("CREATE TRIGGER mine AFTER INSERT ON _sync_outbox BEGIN SELECT 1; END"),
    "a trigger with our prefix": doing("CREATE TRIGGER _SYNC_x AFTER INSERT ON journeys BEGIN SELECT 1; END"),
    "a temporary trigger": doing(f"CREATE TEMP TRIGGER mine AFTER INSERT ON journeys BEGIN {INTO_OUTBOX}; END"),
    "DROP of the status view": doing("DROP VIEW sync_status"),
    "REINDEX of the outbox": doing("REINDEX _sync_outbox_by_row"),
    "load_extension": doing("SELECT load_extension('/tmp/x.so')"),
    "a collection that is not declared": doing("INSERT INTO notes VALUES ('ann', 'n', 'text')"),
    "a table of nobody": doing("CREATE TABLE elsewhere (x)"),
}


@pytest.mark.parametrize("act", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_a_migration_that_tries_what_it_must_not_is_rolled_back_and_recorded(tmp_path, act):
    with migrating(tmp_path, act) as (engine, report):
        assert report.results[-1].state == "failed"
        assert isinstance(report.results[-1].failure, MigrationDenied)
        assert titles(engine) == []
        history = engine._store.query("SELECT migration, state, error_code FROM _sync_run ORDER BY run_id")
        assert history == [("tables", "completed", None), ("custom", "failed", "migration_denied")]
        assert engine._store.query("SELECT count(*) FROM _sync_outbox") == [(0,)]
        assert "journeys" in {row[0] for row in engine._store.query("SELECT name FROM sqlite_schema")}


@pytest.mark.parametrize("sql", ["VACUUM", "VACUUM INTO 'copy.db'"])
def test_a_migration_cannot_vacuum_nor_copy_the_store(tmp_path, monkeypatch, sql):
    monkeypatch.chdir(tmp_path)
    with migrating(tmp_path, doing(sql)) as (engine, report):
        assert report.results[-1].state == "failed"
        assert titles(engine) == []
        assert not (tmp_path / "copy.db").exists()


def test_the_refusal_names_what_was_asked_for(tmp_path):
    with migrating(tmp_path, doing("UPDATE _sync_version SET schema_version = '9.0.0'")) as (_, report):
        text = str(report.results[-1].failure)
    assert "SQLITE_UPDATE _sync_version" in text
    assert "9.0.0" not in text


def test_a_commit_that_the_engine_itself_has_cached_is_refused_all_the_same(tmp_path):
    # The engine's own COMMIT of the step before lies in the statement cache.
    with migrating(tmp_path, doing("COMMIT")) as (engine, report):
        assert isinstance(report.results[-1].failure, MigrationDenied)
        assert not engine._store.connection.in_transaction


def test_a_swallowed_refusal_changes_nothing(tmp_path):
    def act(work):
        for sql in ("COMMIT", INTO_OUTBOX, "ROLLBACK TO batch_1"):
            with pytest.raises(MigrationDenied):
                work.db.execute(sql)

    with migrating(tmp_path, act) as (engine, report):
        assert report.success
        assert titles(engine) == ["first"]
        assert engine._store.query("SELECT count(*) FROM _sync_outbox") == [(0,)]


@pytest.mark.parametrize("body", [INTO_OUTBOX, INTO_OUTBOX.replace("_sync_outbox", '"_SYNC_Outbox"')])
def test_a_trigger_that_would_write_the_outbox_later_does_not_stay_even_if_the_refusal_is_swallowed(tmp_path, body):
    def act(work):
        with pytest.raises(MigrationDenied):
            work.db.execute(f"CREATE TRIGGER mine AFTER INSERT ON journeys BEGIN {body}; END")

    with migrating(tmp_path, act) as (engine, report):
        assert report.success
        assert engine._store.query("SELECT count(*) FROM _sync_outbox") == [(0,)]
        assert engine._store.query("SELECT count(*) FROM sqlite_schema WHERE name = 'mine'") == [(0,)]


def test_a_trigger_made_by_another_program_cannot_reach_the_outbox_from_inside_a_migration(tmp_path):
    with Engine.open(
        tmp_path / "app.db",
        registry=registry_of(make_tables(), CustomExecutor(doing("INSERT INTO journeys VALUES ('ann', 'x', '')"))),
    ) as engine:
        engine.migrations.execute_migration("tables")
        with engine._store.transaction():
            # As the sqlite3 command line may: no authorizer is set there.
            engine._store.query(f"CREATE TRIGGER theirs AFTER INSERT ON journeys BEGIN {INTO_OUTBOX}; END")
        assert isinstance(engine.migrations.execute_migration("custom").failure, MigrationDenied)
        assert engine._store.query("SELECT count(*) FROM _sync_outbox") == [(0,)]


ALLOWED = {
    "a savepoint": lambda work: [work.db.execute(sql) for sql in ("SAVEPOINT mine", "RELEASE mine")],
    "atomic": lambda work: work.db["journeys"].insert_all([{"user_id": "bob", "id": "b"}], pk=("user_id", "id")),
    "an index": doing("CREATE INDEX by_title ON journeys (title)"),
    "a column": doing("ALTER TABLE journeys ADD COLUMN steps INTEGER"),
    "a new table of its name": doing("CREATE TABLE journeys_new_ (x)"),
    "foreign_key_check": doing("PRAGMA foreign_key_check"),
    "table_info": lambda work: work.db["journeys"].columns,
    "reading the engine's tables": doing("SELECT count(*) FROM _sync_outbox"),
    "reading another collection": doing("SELECT count(*) FROM notes"),
    "a trigger of its own": doing(
        "CREATE TRIGGER mine AFTER INSERT ON journeys BEGIN UPDATE journeys SET title = 'by trigger'; END"
    ),
    "transform": lambda work: work.db["journeys"].transform(rename={"title": "title"}),
}


@pytest.mark.parametrize("act", ALLOWED.values(), ids=ALLOWED.keys())
def test_what_a_migration_needs_is_allowed(tmp_path, act):
    with migrating(tmp_path, act) as (engine, report):
        assert report.success, report.results[-1].errors
        assert len(titles(engine)) >= 1


def test_a_row_whose_failure_ends_the_whole_transaction_ends_the_migration(tmp_path):
    def act(work):
        work.db.execute("CREATE TRIGGER no AFTER INSERT ON journeys BEGIN SELECT RAISE(ROLLBACK, 'no'); END")

    with Engine.open(tmp_path / "app.db", registry=registry_of(make_tables(), CustomExecutor(act))) as engine:
        with pytest.raises(Exception, match="custom failed at batch 1"):
            engine.migrations.migrate_all_data()
        # Nothing may have been written behind the transaction's back; the failure is recorded in one of its own.
        runs = engine._store.query("SELECT migration, state FROM _sync_run ORDER BY run_id")
        assert runs == [("tables", "completed"), ("custom", "failed")]
        assert engine._store.query("SELECT count(*) FROM _sync_quarantine") == [(0,)]
        assert titles(engine) == []


def test_a_row_set_aside_after_such_an_end_is_not_written_either(tmp_path):
    class Two(CustomExecutor):
        def items(self, work):
            yield Item("bad", None, b"{}")
            yield Item("worse", None, b"{}")

        def convert(self, item, work):
            if item.key == "bad":
                raise Quarantine("bad")
            work.store.connection.execute("ROLLBACK")
            raise Quarantine("worse")

    with Engine.open(tmp_path / "app.db", registry=registry_of(make_tables(), Two(None))) as engine:
        with pytest.raises(Exception, match="custom failed"):
            engine.migrations.migrate_all_data()
        assert engine._store.query("SELECT count(*) FROM _sync_quarantine") == [(0,)]


def test_what_the_guard_knows_as_the_engines_savepoints_are_those_that_the_run_makes(tmp_path):
    seen = []
    with Engine.open(
        tmp_path / "app.db", registry=registry_of(make_tables(), CustomExecutor(lambda work: None))
    ) as engine:
        engine._store.connection.exec_trace = lambda cursor, sql, bindings: seen.append(sql) or True
        engine.migrations.migrate_all_data()
        engine._store.connection.exec_trace = None
        made = {sql.removeprefix("SAVEPOINT ") for sql in seen if sql.startswith("SAVEPOINT ")}
        assert '"migration_custom"' in made
        with engine._store.transaction():
            guarded = guarded_database(engine._store.connection, may_write=only(["journeys"]))
            for name in (*made, '"row"'):
                with pytest.raises(MigrationDenied):
                    guarded.execute(f"SAVEPOINT {name}")


def test_an_error_that_is_no_refusal_passes_as_it_is(tmp_path):
    with Engine.open(tmp_path / "app.db", registry=registry_of(make_tables())) as engine, engine._store.transaction():
        guarded = guarded_database(engine._store.connection, may_write=only(["journeys"]))
        with pytest.raises(apsw.SQLError):
            guarded.execute("SELECT nothing FROM nowhere")
    assert "_sync_state" in statement("state", "get")


# Blocks of the app, whose statements stay prepared from one to the next.

ENGINES_OWN = "UPDATE _sync_outbox SET last_error = 'mine'"


@pytest.fixture
def app(tmp_path):
    with Engine.open(tmp_path / "app.db", registry=registry_of(make_tables())) as engine:
        engine.migrate()
        write_note(engine, "n-0")  # the judge is set from here on
        yield engine


def write_note(engine, key):
    with engine.write() as db:
        db.execute("INSERT INTO notes VALUES ('ann', ?, 'x')", (key,))


def test_a_statement_that_the_engine_has_prepared_is_refused_to_the_app_all_the_same(app):
    for _ in range(2):
        with app._store.transaction():
            app._store.query(ENGINES_OWN)
        for run in ("execute", "executemany"):
            with pytest.raises(MigrationDenied), app.write() as db:
                getattr(db.conn, run)(ENGINES_OWN, *([[()]] if run == "executemany" else []))
        with pytest.raises(MigrationDenied), app.write() as db:
            db.conn.executescript(ENGINES_OWN)
    assert app._store.query("SELECT count(*) FROM _sync_outbox") == [(1,)]


def test_the_engine_may_run_what_it_has_refused_to_the_app(app):
    with pytest.raises(MigrationDenied), app.write() as db:
        db.execute(ENGINES_OWN)
    with app._store.transaction():
        app._store.query(ENGINES_OWN)
    assert app._store.query("SELECT last_error FROM _sync_outbox") == [("mine",)]


def test_an_app_is_judged_in_every_block_and_after_every_kind_of_end(app):
    def fail():
        with app.write() as db:
            db.execute("DELETE FROM notes")
            raise ValueError("changed my mind")

    def reach_from_inside():
        with app.write() as db, app.write() as inner:
            inner.execute("INSERT INTO notes VALUES ('ann', 'inner', 'x')")
            db.execute("DELETE FROM _sync_state")

    for number in range(3):
        with pytest.raises(ValueError, match="changed my mind"):
            fail()
        with pytest.raises(MigrationDenied):
            reach_from_inside()
        write_note(app, f"m-{number}")
    assert app._store.query("SELECT count(*) FROM notes") == [(4,)]


def test_a_statement_of_the_app_is_prepared_once_for_many_blocks(app):
    asked = []
    judge = app._store.connection.authorizer
    judged = type(judge).__call__

    def count(self, action, *rest):
        asked.append(action)
        return judged(self, action, *rest)

    type(judge).__call__ = count
    try:
        for number in range(5):
            write_note(app, f"again-{number}")
    finally:
        type(judge).__call__ = judged
    assert apsw.SQLITE_INSERT not in asked
