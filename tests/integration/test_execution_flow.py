"""The execution flow of the design, arrow by arrow, and what it says of batches, logs, consent and sealed values."""

import json
import logging
import tracemalloc
from pathlib import Path
from typing import Any

import apsw
from flow_world import column, filled
from flow_world import registry as flow_registry
from migrate_world import quiet_write, registry_of
from pydantic import BaseModel, ConfigDict
from rollback_world import add_walks, make_v2, open_at, seconds_v3, walks_of

import migrations
from syncengine import (
    BaseMigrationExecutor,
    Engine,
    Item,
    MigrationDefinition,
    Put,
    Settings,
    Work,
    migration,
    tables,
)
from syncengine.errors import SyncEngineError

PHONE = Path(__file__).resolve().parents[1] / "data" / "asyncstorage" / "ios-library-2.2.0"


# The flow.


class Telling(BaseMigrationExecutor):
    """One journey from a legacy value; writes down what is done, and what is in the store at that moment."""

    definition = MigrationDefinition(
        id="telling", name="", description="", from_version="2.0.0", to_version="3.0.0", collections=("journeys",)
    )

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def items(self, work: Work):
        self.told.append("read old data")
        yield Item("w-1", 2.0)

    def convert(self, item: Item, work: Work) -> Put:
        self.told.append("transform data")
        return Put("journeys", {"user_id": "ann", "id": item.key, "minutes": item.value, "title": None})

    def verify(self, work: Work) -> None:
        written = work.store.query("SELECT id, minutes FROM journeys")
        done = work.store.query("SELECT state FROM _sync_run WHERE migration = 'telling'")
        version = work.store.query("SELECT schema_version FROM _sync_version WHERE scope = 'store'")
        self.told.append((written, done, version))


def test_a_run_reads_transforms_and_writes_then_marks_itself_complete_then_moves_the_version(tmp_path):
    telling, told = Telling(), []

    def trace(cursor, sql, bindings):
        words = sql.upper()
        if telling.told and "INSERT INTO _SYNC_RUN" in words:
            told.append("mark")
        if telling.told and "INSERT INTO _SYNC_VERSION" in words:
            told.append("version")
        if telling.told and words.startswith("COMMIT"):
            told.append("commit")
        return True

    with Engine.open(tmp_path / "app.db", registry=registry_of(make_v2(), telling, target="3.0.0")) as engine:
        assert engine.migrations.execute_migration("tables-v2").success
        engine._store.connection.exec_trace = trace
        report = engine.migrations.check_and_handle_migration()
        engine._store.connection.exec_trace = None
        assert [(result.migration_id, result.success) for result in report.results] == [("telling", True)]
        assert engine.migrations.get_migration_status().completed[-1].id == "telling"
        assert engine.migrations.get_current_schema_version() == "3.0.0"
    assert telling.told[:2] == ["read old data", "transform data"]
    # Written, and neither marked nor at the next version.
    assert telling.told[2] == ([("w-1", 2.0)], [], [("2.0.0",)])
    # The mark and the version are one transaction with the rows.
    assert told[: told.index("commit")] == ["mark", "version"]


def test_the_executors_of_the_app_answer_to_the_names_of_the_design(tmp_path):
    sources = {"asyncstorage": str(PHONE)}
    registry = migrations.registry(target="2.0.0")
    with Engine.open(tmp_path / "app.db", registry=registry, user="ann", sources=sources) as engine:
        service: Any = engine.migrations
        service.execute_migration("herospath-tables-v2")
        walks = service.executor("journey-storage-v1-to-v2").migrate_journeys("ann")
        profile = service.executor("profile-storage-v1-to-v2").migrate_user_profile("ann")
        assert (walks.counts.written, profile.state) == (58, "completed")
        with engine.read() as db:
            assert (db["journeys"].count, db["profile"].count) == (58, 1)


def test_rolling_back_answers_to_both_names_of_the_design(tmp_path):
    rows = [("ann", "a-1", 1.5, "one")]
    with open_at(tmp_path / "app.db", make_v2(), seconds_v3(), target="2.0.0") as engine:
        engine.migrate()
        add_walks(engine, *rows)
    with open_at(tmp_path / "app.db", make_v2(), seconds_v3()) as engine:
        engine.migrate()
        assert engine.migrations.rollback_migration("seconds-v3", "ann").state == "rolled_back"
        assert walks_of(engine) == rows
        engine.migrations.execute_migration("seconds-v3", "ann")
        assert walks_of(engine) == [("ann", "a-1", 90, "one")]
        assert engine.migrations.executor("seconds-v3").rollback("ann").state == "rolled_back"
        assert walks_of(engine) == rows


# Batches.


class Note(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str
    text: str
    sealed: bytes | None = None


NOTES = """
CREATE TABLE notes (
  user_id TEXT NOT NULL, id TEXT NOT NULL, text TEXT NOT NULL, sealed BLOB, PRIMARY KEY (user_id, id)
) STRICT
"""
make_notes = tables(id="notes", from_version="1.0.0", to_version="2.0.0", create=(NOTES,))


def same(old: Note) -> Note:
    return old


def rewriting(function=same, **facts):
    facts = {"id": "rewrite", "from_version": "2.0.0", "to_version": "3.0.0", "table": NOTES, **facts}
    return migration(collection="notes", **facts)(function)


def with_notes(path, rows):
    with Engine.open(path, registry=registry_of(make_notes)) as engine:
        engine.migrate()
        with quiet_write(engine) as db:
            db.conn.executemany("INSERT INTO notes VALUES (?, ?, ?, ?)", rows)
    return path


def migrated(path, *steps, **options):
    engine = Engine.open(path, registry=registry_of(make_notes, *steps, target="3.0.0"), **options)
    [result] = engine.migrate().results
    return engine, result


def many(rows):
    return [("ann", f"n-{number:06}", "x" * 500, None) for number in range(rows)]


def test_unless_somebody_says_otherwise_a_batch_is_a_hundred_rows(tmp_path):
    engine, result = migrated(with_notes(tmp_path / "app.db", many(250)), rewriting())
    engine.close()
    assert (result.counts.written, result.batches) == (250, 3)


def peak_bytes(path, rows, *, settings):
    """The most memory that Python and SQLite held while so many rows were rewritten."""
    with_notes(path, many(rows))
    apsw.memory_high_water(True)
    before = apsw.memory_used()
    tracemalloc.start()
    try:
        engine, result = migrated(path, rewriting(backup="never"), settings=settings)
        engine.close()
        of_python = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.counts.written == rows
    return of_python, apsw.memory_high_water() - before


def test_ten_times_the_rows_take_no_more_memory(tmp_path):
    """Both ways, in one transaction and beside the live table; the rows themselves are 6 MB."""
    for number, settings in enumerate((Settings(), Settings(shadow_rows_min=1))):
        peak_bytes(tmp_path / f"warm-{number}.db", 100, settings=settings)  # imports, and models that are compiled
        few = peak_bytes(tmp_path / f"few-{number}.db", 1_200, settings=settings)
        more = peak_bytes(tmp_path / f"many-{number}.db", 12_000, settings=settings)
        assert more[0] < few[0] + 2_500_000  # beside the live table batches grow to what 50 ms take
        assert more[1] < few[1] + 3_000_000  # SQLite's cache of pages is 2 MB when it is full


# What is said and kept.


def test_the_log_has_the_start_the_end_the_measures_and_the_kind_of_failure(tmp_path, caplog):
    def refuses(old: Note) -> Note:
        raise MemoryError

    caplog.set_level(logging.DEBUG, logger="syncengine")
    path = with_notes(tmp_path / "app.db", many(250))
    caplog.clear()
    with_failure = registry_of(make_notes, rewriting(refuses, critical=True), target="3.0.0")
    with Engine.open(path, registry=with_failure) as engine:
        try:
            engine.migrate()
        except SyncEngineError:
            failed = engine.migrations.history()[-1]
    engine, _ = migrated(path, rewriting())
    engine.close()
    said = [vars(record) for record in caplog.records if record.message in ("migration started", "migration ended")]
    assert [(facts["message"], facts["migration"]) for facts in said] == [
        ("migration started", "rewrite"),
        ("migration ended", "rewrite"),
    ] * 2
    assert [(facts["success"], facts["levelname"]) for facts in said[1::2]] == [(False, "ERROR"), (True, "INFO")]
    assert (said[3]["rows_read"], said[3]["rows_written"], said[3]["batches"]) == (250, 250, 3)
    assert (failed.state, failed.error_code) == ("failed", "migration_failed")
    assert "MemoryError" in str(failed.error_text)


def test_what_the_user_agreed_to_is_kept_with_its_time(tmp_path):
    path = filled(tmp_path / "app.db")
    asking = flow_registry(column("c"), asks_for_major=True)
    agreed = "SELECT name, value FROM _sync_state WHERE name LIKE 'agreed to %'"
    with Engine.open(path, registry=asking, consent=lambda request: False) as engine:
        engine.migrate()
        assert engine._store.query(agreed) == []
    with Engine.open(path, registry=asking, user="ann", consent=lambda request: True) as engine:
        assert engine.migrate().success
        [(name, text)] = engine._store.query(agreed)
        [(code,)] = engine._store.query("SELECT code_hash FROM _sync_run WHERE migration = 'c'")
        engine.export_diagnostics(tmp_path / "report.json")
    said = json.loads(text)
    assert "agreed to 2" not in (tmp_path / "report.json").read_text()
    assert name == "agreed to 2.0.0 > 3.0.0 for store"
    assert (said["by"], said["migrations"], said["at"][-1]) == ("ann", {"c": code}, "Z")


# What rows hold.


def test_values_that_the_app_has_encrypted_come_over_byte_by_byte(tmp_path):
    sealed = bytes(range(256)) * 3

    def refuses_one(old: Note) -> Note:
        if old.id == "bad":
            raise ValueError
        return old.model_copy(update={"text": old.text.upper()})

    rows = [("ann", "good", "text", sealed), ("ann", "bad", "text", sealed)]
    engine, result = migrated(with_notes(tmp_path / "app.db", rows), rewriting(refuses_one))
    with engine:
        assert result.counts.quarantined == 1
        assert engine._store.query("SELECT id, text, sealed FROM notes") == [("good", "TEXT", sealed)]
        engine._registry.get_migration_executor("rewrite").function = same
        assert engine.quarantine.retry(engine.quarantine.items()[0].item_id).resolved
        assert engine._store.query("SELECT sealed FROM notes WHERE id = 'bad'") == [(sealed,)]


CITIES = "CREATE TABLE loose (id TEXT PRIMARY KEY, name TEXT NOT NULL) STRICT"


def test_a_row_function_may_look_up_values_in_other_tables(tmp_path):
    def named(old: Note, work: Work) -> Note:
        [(name,)] = work.db.execute("SELECT name FROM loose WHERE id = ?", [old.text]).fetchall()
        return old.model_copy(update={"text": name})

    make = tables(id="notes", from_version="1.0.0", to_version="2.0.0", create=(NOTES, CITIES))
    with Engine.open(tmp_path / "app.db", registry=registry_of(make)) as engine:
        engine.migrate()
        with quiet_write(engine) as db:
            db["loose"].insert_all([{"id": "tyo", "name": "Tokyo"}, {"id": "kyo", "name": "Kyoto"}])
            db["notes"].insert_all(
                {"user_id": "ann", "id": key, "text": key, "sealed": None} for key in ("tyo", "kyo")
            )
    with Engine.open(tmp_path / "app.db", registry=registry_of(make, rewriting(named), target="3.0.0")) as engine:
        assert engine.migrate().success
        assert engine._store.query("SELECT id, text FROM notes ORDER BY id") == [("kyo", "Kyoto"), ("tyo", "Tokyo")]
