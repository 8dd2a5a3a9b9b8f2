"""A store that is newer, unknown, torn, damaged or write-protected opens all the same: for reading, with a reason."""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from syncengine import DataAtRisk, Engine, NeedsDeveloper, NeedsUser, SyncEngineError
from syncengine.errors import StoreDamaged, StoreForeign, StoreSuperseded, StoreUnknown, StoreUnusable
from tests.integration.open_world import (
    bytes_of,
    flip_bytes,
    in_python,
    killed_after,
    make_store,
    opened,
    query,
    sql,
)

NEWER = "UPDATE _sync_version SET schema_version = '9.0.0'"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "app.db"
    make_store(made)
    return made


def refuses_all_that_writes(engine: Engine, error: type[SyncEngineError]) -> None:
    with pytest.raises(error), engine.write():
        pass
    with pytest.raises(error):
        engine.migrate()
    with pytest.raises(error):
        engine.start()
    with pytest.raises(error):
        engine.sync_now()


# Newer and unknown.


@pytest.mark.parametrize("journal_mode", ["WAL", "DELETE"])
def test_a_store_of_a_newer_app_is_read_and_never_written(path: Path, journal_mode: str) -> None:
    sql(path, NEWER, journal_mode=journal_mode)
    before = bytes_of(path)
    with opened(path) as engine:
        assert engine.read_only is not None
        assert (engine.read_only.code, engine.read_only.error) == ("store_superseded", StoreSuperseded)
        assert issubclass(engine.read_only.error, NeedsUser)
        assert "9.0.0" in engine.read_only.what
        with engine.read() as db:
            assert db["notes"].count == 3
        with engine.snapshot() as copy:
            assert query(copy, "SELECT count(*) FROM notes") == [(3,)]
        refuses_all_that_writes(engine, StoreSuperseded)
        engine.status()
    assert bytes_of(path) == before


def test_what_a_newer_app_left_in_the_wal_is_read_and_stays_there(path: Path) -> None:
    killed_after(path, "UPDATE _sync_version SET schema_version = '9.0.0' WHERE scope = 'store'")
    before = bytes_of(path)
    assert len(before["-wal"]) > 0
    with opened(path) as engine:
        assert engine.read_only is not None
        with engine.read() as db:
            assert db.execute("SELECT schema_version FROM _sync_version WHERE scope = 'store'").fetchone() == (
                "9.0.0",
            )
    assert bytes_of(path) == before


def test_a_store_of_a_newer_engine_is_read_and_never_written(path: Path) -> None:
    sql(path, "UPDATE _sync_state SET value = '99' WHERE name = 'engine_schema'; DROP TABLE _sync_version")
    before = bytes_of(path)
    with opened(path) as engine:
        assert engine.read_only is not None
        assert engine.read_only.code == "store_superseded"
        with engine.read() as db:
            assert db["notes"].count == 3
        refuses_all_that_writes(engine, StoreSuperseded)
    assert bytes_of(path) == before


def test_a_version_from_which_no_way_leads_on_is_left_as_it_is(path: Path) -> None:
    sql(path, "UPDATE _sync_version SET schema_version = '1.5.0' WHERE scope = 'store'")
    before = bytes_of(path)
    with opened(path) as engine:
        assert engine.read_only is not None
        assert issubclass(engine.read_only.error, NeedsDeveloper)
        refuses_all_that_writes(engine, StoreUnknown)
    assert bytes_of(path) == before


def test_the_newer_app_itself_finds_nothing_wrong_afterwards(path: Path) -> None:
    sql(path, NEWER)
    with opened(path):
        pass
    sql(path, "UPDATE _sync_version SET schema_version = '2.0.0'")
    with opened(path) as engine:
        assert engine.read_only is None
        assert engine.migrate() is None


# Torn and damaged.


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE _sync_version SET schema_version = 'two'",
        "UPDATE _sync_version SET schema_version = CAST(x'ff' AS TEXT)",
        "DROP TABLE _sync_version",
        "DROP TABLE _sync_state",
        "DELETE FROM _sync_state WHERE name = 'engine_schema'",
        "UPDATE _sync_state SET value = 'one' WHERE name = 'engine_schema'",
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE TABL' WHERE name = 'notes'",
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 9999 WHERE name = '_sync_version'",
        "ALTER TABLE notes RENAME TO notes_live_",
        "UPDATE _sync_collection SET ddl = '[1]'; UPDATE _sync_state SET value = '0' WHERE name = 'schema_cookie'",
    ],
)
def test_a_torn_store_opens_with_the_reason_and_is_never_written(path: Path, harm: str) -> None:
    sql(path, harm)
    before = bytes_of(path)
    with opened(path) as engine:
        assert engine.read_only is not None
        assert engine.read_only.code == "store_damaged"
        assert issubclass(engine.read_only.error, DataAtRisk)
        assert engine.read_only.fix
        refuses_all_that_writes(engine, StoreDamaged)
    assert bytes_of(path) == before


def test_a_snapshot_of_a_damaged_store_has_its_pages_for_whoever_salvages_them(path: Path) -> None:
    sql(path, "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE TABL' WHERE name = 'places'")
    with opened(path) as engine, engine.snapshot() as copy:
        assert copy.stat().st_size == path.stat().st_size
        assert b"note 2 " in copy.read_bytes()


def test_damage_that_is_found_later_ends_the_writing(path: Path) -> None:
    (page_bytes,) = query(path, "PRAGMA page_size")[0]
    (root,) = query(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'notes'")[0]
    content = bytearray(path.read_bytes())
    content[(root - 1) * page_bytes : root * page_bytes] = bytes([7]) * page_bytes
    path.write_bytes(content)
    with opened(path) as engine:
        assert engine.read_only is None
        with pytest.raises(StoreDamaged), engine.read() as db:
            db.execute("SELECT count(*) FROM notes NOT INDEXED").fetchall()
        with engine.read() as db:
            assert db["places"].count == 1
        with pytest.raises(StoreDamaged), engine.write() as db:
            db.execute("SELECT count(*) FROM notes NOT INDEXED").fetchall()
    assert path.read_bytes() == bytes(content)


@pytest.mark.parametrize("count", [1, 20])
def test_a_start_survives_bytes_that_flipped_anywhere(tmp_path: Path, count: int) -> None:
    """100 seeds each: no error without a type, and not one byte more is changed in a file that was found damaged."""
    whole, path = tmp_path / "whole.db", tmp_path / "app.db"
    make_store(whole, notes=1_200)
    assert whole.stat().st_size > 200_000
    said = set()
    for seed in range(100):
        chance = random.Random(seed)
        shutil.copyfile(whole, path)
        # Half of them where a start looks: the header, the schema, the engine's own tables.
        flip_bytes(path, chance=chance, count=count)
        if seed % 2:
            _flip_in_first_pages(path, chance)
        before = path.read_bytes()
        try:
            with opened(path) as engine:
                said.add(engine.read_only.code if engine.read_only else "well")
                _use(engine)
                is_read_only = engine.read_only is not None
        except SyncEngineError as error:
            said.add(error.code())
            is_read_only = True
        if is_read_only:
            assert path.read_bytes() == before, seed
        for left in path.parent.glob("app.db-*"):
            left.unlink()
    assert {"well", "store_damaged"} <= said


def _flip_in_first_pages(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(3):
        content[chance.randrange(40 * 4096)] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def _use(engine: Engine) -> None:
    with suppress(SyncEngineError), engine.read() as db:
        db.execute("SELECT count(*) FROM places").fetchall()
    for look in (engine.status, engine.plan):
        with suppress(SyncEngineError):
            look()


# What is no damage.


def test_a_hot_journal_is_rolled_back_and_the_store_is_well(path: Path) -> None:
    sql(path, "", journal_mode="DELETE")
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA cache_size = 1'); c.execute('BEGIN IMMEDIATE');"
        "[c.execute('INSERT INTO notes VALUES (?, ?, ?)', ('ann', f'x{n}', 'x' * 4000)) for n in range(50)];"
        "os._exit(0)"
    )
    in_python(code, path)
    assert Path(f"{path}-journal").stat().st_size > 0
    with opened(path) as engine:
        assert engine.read_only is None
        with engine.read() as db:
            assert db["notes"].count == 3


def test_a_file_of_no_bytes_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "app.db").touch()
    with opened(tmp_path / "app.db") as engine:
        assert engine.read_only is None
        assert engine.migrate() is not None


@pytest.mark.parametrize("content", [b"x" * 5000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_what_is_no_store_is_still_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "app.db").write_bytes(content)
    with pytest.raises(StoreForeign):
        opened(tmp_path / "app.db")
    assert (tmp_path / "app.db").read_bytes() == content


# Places that take no writes.

AS_NOBODY = """
import os, sys
from pathlib import Path
from syncengine import SyncEngineError
from tests.integration.open_world import make_store, opened
path, warm = Path(sys.argv[1]), Path(sys.argv[2])
# Everything is imported while this process may still read its own modules.
make_store(warm)
import sqlite3
sqlite3.connect(warm).executescript("UPDATE _sync_version SET schema_version = '9.0.0'")
with opened(warm) as engine, engine.read() as db:
    engine.status()
if os.geteuid() == 0:
    os.setegid(65534), os.seteuid(65534)
with opened(path) as engine:
    print(engine.read_only.code)
    try:
        with engine.read() as db:
            print(db["notes"].count, db["places"].count)
    except SyncEngineError as error:
        print(error.code())
    try:
        with engine.write():
            print("written")
    except SyncEngineError as error:
        print(error.code())
"""


@pytest.fixture
def protected() -> Iterator[Path]:
    """A folder that any user may reach, with a store in it; its rights are given back at the end."""
    with tempfile.TemporaryDirectory(prefix="open-", dir="/tmp") as name:
        folder = Path(name)
        make_store(folder / "app.db")
        yield folder
        folder.chmod(0o700)


def shut(folder: Path, *, file_mode: int, folder_mode: int) -> None:
    for file in folder.iterdir():
        file.chmod(file_mode)
    folder.chmod(folder_mode)


def seen_by_nobody(folder: Path, tmp_path: Path) -> list[str]:
    ran = in_python(AS_NOBODY, folder / "app.db", tmp_path / "warm.db")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split("\n")[:-1]


@pytest.mark.skipif(os.name != "posix", reason="modes of files are a matter of POSIX")
@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o444, 0o555), (0o666, 0o555), (0o444, 0o777)])
def test_a_write_protected_store_is_read(protected: Path, tmp_path: Path, file_mode: int, folder_mode: int) -> None:
    before = bytes_of(protected / "app.db")
    shut(protected, file_mode=file_mode, folder_mode=folder_mode)
    assert seen_by_nobody(protected, tmp_path) == ["store_unusable", "3 1", "store_unusable"]
    assert bytes_of(protected / "app.db")[""] == before[""]


@pytest.mark.skipif(os.name != "posix", reason="modes of files are a matter of POSIX")
def test_commits_that_cannot_be_read_are_not_left_out_in_silence(protected: Path, tmp_path: Path) -> None:
    killed_after(protected / "app.db", "INSERT INTO notes VALUES ('ann', 'n9', 'in the -wal alone')")
    Path(f"{protected}/app.db-shm").unlink()
    before = bytes_of(protected / "app.db")
    shut(protected, file_mode=0o444, folder_mode=0o555)
    assert seen_by_nobody(protected, tmp_path) == ["store_unusable", "store_unusable", "store_unusable"]
    assert bytes_of(protected / "app.db") == before


def test_a_folder_where_nothing_can_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises((StoreForeign, StoreUnusable)):
        opened(tmp_path / "missing" / "app.db")
