"""`doctor` says of each thing that can go wrong around migrations what it is and what to do, and changes nothing."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from syncengine.cli import main
from syncengine.cli.checks import examined
from syncengine.cli.looking import looking_at
from syncengine.cli.migration_checks import space
from syncengine.local.keys import KeyFile
from syncengine.local.private_folder import machine
from syncengine.local.restore_points import make_restore_point
from tests.integration.open_world import make_store, opened, query, sql

LONG_AGO = "2001-01-01T00:00:00.000Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "app.db"
    make_store(made)
    return made


def found(path: Path, check: str) -> tuple[str, str]:
    before = path.read_bytes()
    finding = next(finding for finding in examined(str(path)) if finding.check == check)
    assert path.read_bytes() == before
    if finding.verdict:
        assert finding.fix, "what is wrong comes with what to do"
    return finding.verdict.name.lower(), finding.found


def restore_point_of(path: Path) -> Path:
    with opened(path) as engine:
        point = make_restore_point(engine._store, keys=KeyFile(f"{path}.key"), reason="test")
    return Path(point.path)


def test_a_sound_store_is_ok_in_every_way(path: Path) -> None:
    odd = {finding.check for finding in examined(str(path)) if finding.verdict}
    assert odd - {"leftovers"} == set()  # of other processes of this machine
    assert found(path, "versions") == ("ok", "the store: 2.0.0; 1 user")


def test_a_table_whose_parent_is_not_there_is_bad(path: Path) -> None:
    sql(path, "CREATE TABLE marks (id, note, place REFERENCES PLACES, other REFERENCES gone (id))")
    said = "marks refers to gone, which is not there: no write to it"
    assert found(path, "foreign keys") == ("bad", said)


def test_a_version_that_is_none_is_bad(path: Path) -> None:
    sql(path, "UPDATE _sync_version SET schema_version = 'two'")
    assert found(path, "versions")[0] == "bad"


@pytest.mark.parametrize(
    ("harm", "verdict", "what"),
    [
        ("ALTER TABLE notes ADD COLUMN mood TEXT", "bad", "notes: the column mood is new"),
        ("DROP TABLE places", "bad", "places: the table is gone"),
        ("DROP INDEX notes_by_text", "warn", "the index notes_by_text is gone"),
        ("CREATE INDEX mine ON notes (id)", "ok", "the index mine of notes is new"),
    ],
)
def test_what_was_done_to_the_tables_is_named(path: Path, harm: str, verdict: str, what: str) -> None:
    sql(path, harm)
    assert found(path, "shapes") == (verdict, what)


def test_a_table_that_a_misspelt_name_has_made_is_a_warning(path: Path) -> None:
    sql(path, "CREATE TABLE looks (name TEXT)")
    assert found(path, "tables") == ("ok", "in no collection, so never sent: looks")
    sql(path, "CREATE TABLE nots (name TEXT)")
    said = "in no collection, so never sent: nots (did you mean notes?)"
    assert found(path, "tables") == ("warn", said)


def test_rows_that_the_cloud_cannot_tell_apart_are_a_warning(path: Path) -> None:
    assert found(path, "row keys") == ("ok", "each row of a collection has one of its own")
    sql(
        path,
        "ALTER TABLE notes RENAME TO strict; CREATE TABLE notes AS SELECT * FROM strict; DROP TABLE strict;"
        "UPDATE notes SET id = NULL WHERE id IN ('n0', 'n1');"
        "INSERT INTO notes SELECT * FROM notes WHERE id = 'n2';",
    )
    said = "notes: 2 without a key, so never sent, notes: 1 has the key of another row"
    assert found(path, "row keys") == ("warn", said)


def test_what_migrations_keep_or_make_and_what_an_index_is_made_of_is_no_table_of_the_app(path: Path) -> None:
    columns = "table_name, collection, migration, kept_at, keep_until"
    sql(path, f"INSERT INTO _sync_kept_table ({columns}) VALUES ('notes_old', 'notes', 'm', '', '2999')")
    for table in ("notes_old", "notes_new_", "notes_live_"):
        sql(path, f"CREATE TABLE {table} (a)")
    assert found(path, "tables") == ("ok", "each is a collection")
    sql(path, "CREATE VIRTUAL TABLE words USING fts5 (word)")
    assert found(path, "tables") == ("ok", "in no collection, so never sent: words")


def test_a_large_migration_that_nobody_works_at_is_a_warning(path: Path) -> None:
    columns = "collection, migration, scope, rows_total, rows_read, batch_rows, started_at, updated_at"
    sql(path, f"INSERT INTO _sync_shadow ({columns}) VALUES ('notes', 'm', 'store', 9, 4, 2, '', '')")
    assert found(path, "unfinished") == ("warn", "notes: filling, 4 of 9 rows")
    sql(path, f"INSERT INTO _sync_lease VALUES ('migrate', 'me', {os.getpid()}, 'boot', 9, 1)")
    assert found(path, "unfinished") == ("ok", "notes: filling, 4 of 9 rows")


def test_a_table_that_no_migration_owns_is_a_warning(path: Path) -> None:
    sql(path, "CREATE TABLE notes_new_ (a)")
    assert found(path, "unfinished") == ("warn", "no migration owns notes_new_")


def test_a_lease_of_a_process_that_has_ended_is_a_warning(path: Path) -> None:
    sql(path, "INSERT INTO _sync_lease VALUES ('migrate', 'me', 99999999, 'boot', 9, 1)")
    assert found(path, "leases") == ("warn", "held by process 99999999, which has ended")


def test_an_old_table_whose_time_is_over_is_a_warning(path: Path) -> None:
    columns = "table_name, collection, migration, kept_at, keep_until"
    sql(path, f"INSERT INTO _sync_kept_table ({columns}) VALUES ('notes_old', 'notes', 'm', '', '2999')")
    assert found(path, "kept tables") == ("ok", "notes_old until 2999")
    sql(path, f"UPDATE _sync_kept_table SET keep_until = '{LONG_AGO}'")
    assert found(path, "kept tables") == ("warn", "notes_old: their time is over")


def test_a_restore_point_that_is_altered_missing_or_old_is_a_warning(path: Path) -> None:
    sealed = restore_point_of(path)
    assert found(path, "restore points")[0] == "ok"
    assert found(path, "restore points")[1].startswith("1 good, the newest of 2")
    content = bytearray(sealed.read_bytes())
    content[len(content) // 2] ^= 1
    sealed.write_bytes(content)
    assert found(path, "restore points") == ("warn", "1 is altered")
    sealed.unlink()
    assert found(path, "restore points") == ("warn", "1 is missing")
    sealed = restore_point_of(path)
    digest = hashlib.sha256(sealed.read_bytes()).hexdigest()
    sql(path, f"DELETE FROM _sync_restore_point WHERE sha256 <> '{digest}'")
    sql(path, f"UPDATE _sync_restore_point SET keep_until = '{LONG_AGO}'")
    assert found(path, "restore points") == ("warn", "1 is older than wanted")


@pytest.mark.skipif(os.name != "posix", reason="modes of files are a matter of POSIX")
def test_a_key_that_others_may_read_is_bad(path: Path) -> None:
    assert found(path, "key file") == ("ok", "none beside the store")
    restore_point_of(path)
    assert found(path, "key file") == ("ok", "app.db.key is open to its owner alone")
    Path(f"{path}.key").chmod(0o640)
    assert found(path, "key file") == ("bad", "app.db.key is 0640")


def test_a_private_copy_of_a_process_that_has_ended_is_a_warning(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"syncengine-copy-{os.getpid()}-{machine()}-abc").mkdir()
    assert leftovers_of(path) == "none"
    (tmp_path / f"syncengine-copy-99999999-{machine()}-abc").mkdir()
    assert leftovers_of(path) == f"syncengine-copy-99999999-{machine()}-abc"
    for number in range(5):
        (tmp_path / f"syncengine-copy-99999999-{machine()}-x{number}").mkdir()
    assert leftovers_of(path).endswith("-x0 and 4 more")


def test_a_private_copy_that_goes_while_doctor_looks_is_none(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # What is gone when it is asked for its age: the name is there and leads nowhere.
    (tmp_path / f"syncengine-copy-{os.getpid()}-{machine()}-abc").symlink_to(tmp_path / "gone")
    assert leftovers_of(path) == "none"


def leftovers_of(path: Path) -> str:
    return next(finding.found for finding in examined(str(path)) if finding.check == "leftovers")


def test_a_disk_without_room_for_a_restore_point_is_a_warning(path: Path) -> None:
    assert found(path, "disk space")[0] == "ok"
    os.truncate(path, 1 << 42)  # a hole: the file says to be large and takes no space
    with looking_at(str(path)) as look:
        finding = space(look)
    assert finding.verdict.name == "WARN"
    assert finding.fix.startswith("free some space: a migration needs 8")


def test_the_report_is_written_to_a_new_file_and_holds_the_verdicts(path: Path, tmp_path: Path) -> None:
    sql(path, "DROP INDEX notes_by_text")
    ran = CliRunner().invoke(main, ["doctor", "--store", str(path), "--export", str(tmp_path / "report.json")])
    assert ran.exit_code == 0, ran.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["checks"]["shapes"] == "warn"
    assert report["row_counts"]["notes"] == 3
    assert "ann" not in json.dumps(report["scopes"])
    again = CliRunner().invoke(main, ["doctor", "--store", str(path), "--export", str(path)])
    assert again.exit_code == 1
    assert "docs/recovery.md#export-impossible" in again.output
    assert query(path, "SELECT count(*) FROM notes") == [(3,)]
    named = ["doctor", "--store", str(path), "--export", str(tmp_path / "named.json"), "--with-names"]
    assert CliRunner().invoke(main, named).exit_code == 0
    assert "user:ann" in (tmp_path / "named.json").read_text()


def test_a_damaged_store_still_gives_a_report(path: Path, tmp_path: Path) -> None:
    sql(path, "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE TABL' WHERE name = 'notes'")
    ran = CliRunner().invoke(main, ["doctor", "--store", str(path), "--export", str(tmp_path / "report.json")])
    assert ran.exit_code == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["checks"]["integrity"] == "bad"
    assert report["schema"] == {"unreadable": "CorruptError"}


@pytest.mark.parametrize("gone", ["_sync_state", "_sync_version", "_sync_run", "_sync_outbox"])
def test_every_look_at_a_torn_store_says_what_is_wrong(path: Path, gone: str) -> None:
    sql(path, f"DROP TABLE {gone}")
    ran = CliRunner().invoke(main, ["doctor", "--store", str(path)])
    assert ran.exit_code == 1
    for look in ("status", "history", "outbox", "quarantine"):
        ran = CliRunner().invoke(main, [look, "--store", str(path)])
        assert ran.exit_code == 0 or "docs/recovery.md#store-damaged" in ran.output, (look, ran.output)
    before = path.read_bytes()
    ran = CliRunner().invoke(
        main, ["migrate", "--store", str(path), "--app", "tests.integration.open_world:REGISTRY"]
    )
    assert ran.exit_code == 1
    assert "docs/recovery.md#store-damaged" in ran.output
    assert path.read_bytes() == before


def test_migrating_a_store_that_leads_nowhere_names_it(path: Path) -> None:
    sql(path, "UPDATE _sync_version SET schema_version = '1.5.0'")
    ran = CliRunner().invoke(
        main, ["migrate", "--store", str(path), "--app", "tests.integration.open_world:REGISTRY"]
    )
    assert ran.exit_code == 1
    assert "docs/recovery.md#store-unknown" in ran.output


def test_what_was_repaired_at_a_start_is_ok_afterwards(path: Path) -> None:
    sql(path, "DROP INDEX notes_by_text; INSERT INTO _sync_lease VALUES ('migrate', 'me', 99999999, 'boot', 9, 1)")
    with opened(path):
        pass
    assert found(path, "shapes")[0] == "ok"
    assert found(path, "leases")[0] == "ok"
