"""A report about a store helps a stranger, and tells nothing about whose it is."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from syncengine import Engine, Settings
from syncengine.errors import ExportImpossible, StoreDamaged
from tests.integration.open_world import bytes_of, make_store, opened, query, registry, sql

CANARY = "canary"
NAMED_BY_DEVELOPERS = frozenset(
    {
        *("migration", "collection", "table_name", "name", "state", "kind", "origin", "method", "scope"),
        *("from_version", "to_version", "schema_version", "cloud_version", "shape_version", "app_version"),
        *("code_hash", "error_code", "winner", "merge_policy", "key_column", "owner_column", "fingerprint", "ddl"),
        *("resolution", "asked", "probe_verdict", "boot_id", "field_type"),
    }
)
"""Columns of the engine's tables that hold names, versions and words, never what a user wrote."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / f"{CANARY}-home"
    folder.mkdir()
    make_store(folder / "app.db")
    return folder / "app.db"


def fill_with_canaries(path: Path) -> set[str]:
    """A row in each table of the engine, with a canary wherever words or keys of a user can be; which tables."""
    filled = set()
    for table in sorted(tables_of_the_engine(path)):
        columns = query(path, f"SELECT name, type FROM pragma_table_info('{table}')")
        values = [_value(str(column), str(kind), table) for column, kind in columns]
        sql(path, f"INSERT OR REPLACE INTO {table} VALUES ({', '.join(values)})")
        filled.add(table)
    return filled


def tables_of_the_engine(path: Path) -> set[str]:
    found = query(path, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB '_sync_*'")
    return {str(name) for (name,) in found}


WORDS = {
    "_sync_outbox.kind": "put",
    "_sync_outbox.state": "waiting",
    "_sync_quarantine.origin": "migration",
    "_sync_run.state": "failed",
    "_sync_run.method": "transaction",
    "_sync_shadow.state": "filling",
    "_sync_conflict.winner": "local",
    "_sync_cursor.resync_reason": "first",
    "_sync_parked.reason": "newer_shape",
    "_sync_receipt.ended": "set_aside",
    "_sync_collection.merge_policy": "merge",
    "_sync_collection.ddl": "[]",
    "_sync_shape_before.ddl": "[]",
    "_sync_kept_table.ddl": "[]",
    "_sync_restore_point.path": f"/home/{CANARY}/app.db-restore/1.age",
    "_sync_restore_point.rows": '{"notes": 3}',
}


def _value(column: str, kind: str, table: str) -> str:
    place = f"{table}.{column}"
    if place in WORDS:
        return f"'{WORDS[place]}'"
    if column in ("held_by", "squashed_into", "asked", "resolution", "gone_at", "fresh"):
        return "NULL"
    if column in ("at_head", "deleted", "only_row"):
        return "1"
    if kind == "INTEGER":
        return "100"
    if column in ("scope",):
        return f"'user:{CANARY}'"
    if column in NAMED_BY_DEVELOPERS:
        return "'3.0.0'" if column.endswith("version") else "'plain'"
    if column.endswith("_at") or column == "keep_until":
        return "'2025-07-21T15:30:00.000Z'"
    return f"""'"{CANARY}-{column}"'"""


def texts(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def test_no_row_key_user_or_token_appears_in_a_redacted_report(path: Path) -> None:
    assert fill_with_canaries(path) == tables_of_the_engine(path)
    sql(path, f"INSERT INTO notes VALUES ('{CANARY}', '{CANARY}-key', '{CANARY}-text')")
    options: dict[str, Any] = {"cloud_url": "http://127.0.0.1:9", "token": lambda: f"{CANARY}-token"}
    with Engine.open(path, registry=registry(), user=f"{CANARY}-user", **options) as engine:
        report = engine.export_diagnostics(path.parent / "report.json")
        everything = engine.export_diagnostics(redact=False)
    assert CANARY not in texts(report)
    assert CANARY not in (path.parent / "report.json").read_text()
    # What was left out is there to be left out: with names it is told, and the bodies still are not.
    assert f"{CANARY}-user" in texts(everything)
    assert f"{CANARY}-row_key" in texts(everything["quarantine"])
    for told in ("body", "set_json", "before_json", "value", "text", "token", "cursor", "extra", "local_json"):
        assert f"{CANARY}-{told}" not in texts(everything)


def test_a_report_tells_what_a_helper_asks_first(path: Path) -> None:
    with opened(path, settings=Settings(batch_rows=77)) as engine:
        report = engine.export_diagnostics()
    assert report["redacted"] is True
    assert report["file"]["name"] == "app.db"
    assert report["settings"]["batch_rows"] == 77
    assert report["pragmas"]["journal_mode"] == "wal"
    assert report["versions"]["sqlite"] >= "3.51"
    assert report["versions"]["apsw"]
    assert report["row_counts"]["notes"] == 3
    assert [run["migration"] for run in report["history"]] == ["make"]
    assert report["status"]["migration"]["current"] == "2.0.0"
    assert {part["name"] for part in report["schema"]} >= {"notes", "notes_by_text", "_sync_run"}
    assert report["drift"] == []
    assert report["read_only"] is None
    assert "unreadable" not in texts(report)


def test_a_user_is_the_same_stranger_in_all_reports_about_one_store_and_another_one_elsewhere(path: Path) -> None:
    def ann_in(store: Path) -> str:
        with opened(store) as engine:
            return str(engine.export_diagnostics()["status"]["user"])

    other = path.parent / "other.db"
    make_store(other)
    assert ann_in(path) == ann_in(path)
    assert ann_in(path) != ann_in(other)
    assert "ann" not in ann_in(path)


def test_the_file_of_a_report_is_new_and_for_its_owner_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        with opened(path) as engine:
            report = engine.export_diagnostics(path.parent / "report.json")
            written = json.loads((path.parent / "report.json").read_text())
            assert written.keys() == report.keys()
            assert stat.S_IMODE((path.parent / "report.json").stat().st_mode) == 0o600
            for taken in (path, path.parent / "report.json", path.parent / "missing" / "report.json"):
                with pytest.raises(ExportImpossible):
                    engine.export_diagnostics(taken)
    finally:
        os.umask(before)
    with opened(path) as engine, engine.read() as db:
        assert db["notes"].count == 3


def test_a_damaged_store_is_told_about_as_far_as_it_can_be_read(path: Path) -> None:
    (page_bytes,) = query(path, "PRAGMA page_size")[0]
    content = bytearray(path.read_bytes())
    pages = "SELECT rootpage FROM sqlite_schema WHERE tbl_name IN ('notes', '_sync_version') AND type <> 'trigger'"
    for (root,) in query(path, pages):
        content[(root - 1) * page_bytes : root * page_bytes] = bytes([7]) * page_bytes
    path.write_bytes(content)
    with opened(path) as engine:
        assert engine.status().read_only == StoreDamaged.code()
        assert {state.state for state in engine.status().collections.values()} == {"read-only"}
        report = engine.export_diagnostics()
    assert report["read_only"]["code"] == StoreDamaged.code()
    assert report["read_only"]["family"] == "DataAtRisk"
    assert report["row_counts"]["notes"] == {"unreadable": "CorruptError"}
    assert report["row_counts"]["places"] == 1
    assert report["scopes"] == {"unreadable": "CorruptError"}
    assert [run["migration"] for run in report["history"]] == ["make"]
    assert CANARY not in texts(report)


def test_a_store_whose_schema_is_torn_and_a_newer_one_are_told_about_too(path: Path) -> None:
    sql(path, "UPDATE _sync_state SET value = '99' WHERE name = 'engine_schema'; DROP TABLE _sync_run")
    before = bytes_of(path)
    with opened(path) as engine:
        report = engine.export_diagnostics()
    assert report["read_only"]["code"] == "store_superseded"
    assert report["history"] == {"unreadable": "SQLError"}
    assert report["row_counts"]["notes"] == 3
    assert bytes_of(path) == before
    sql(path, "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE TABL' WHERE name = 'notes'")
    with opened(path) as engine:
        report = engine.export_diagnostics()
    assert report["schema"] == {"unreadable": "CorruptError"}
    assert report["file"]["bytes"] == path.stat().st_size


def test_what_somebody_altered_is_in_the_report(path: Path) -> None:
    sql(path, "ALTER TABLE notes ADD COLUMN mood TEXT; CREATE INDEX mine ON places (name)")
    with opened(path) as engine:
        report = engine.export_diagnostics()
    assert report["drift"] == [
        {
            "collection": "notes",
            "differences": ("the column mood is new",),
            "lost": [],
            "noted": ("the table notes of notes is not as it was made",),
        },
        {"collection": "places", "differences": (), "lost": [], "noted": ("the index mine of places is new",)},
    ]
