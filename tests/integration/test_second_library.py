"""The guard stops the one mistake that loses commits silently, and nothing else."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from syncengine import Engine, MigrationRegistry
from syncengine.errors import SecondLibrary
from syncengine.local.second_library import guard_store, unguard_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "app store.db"
    live = apsw.Connection(str(path))
    live.execute("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)").fetchall()
    guard_store(str(path))
    yield path
    unguard_store(str(path))
    live.close()


def test_the_standard_library_cannot_connect_by_any_spelling(store, monkeypatch):
    monkeypatch.chdir(store.parent)
    spellings = [
        str(store),
        store,
        bytes(store),
        store.name,
        f"./{store.name}",
        f"../{store.parent.name}/{store.name}",
    ]
    for spelling in spellings:
        with pytest.raises(SecondLibrary):
            sqlite3.connect(spelling)
    for uri in (
        store.as_uri(),
        store.as_uri() + "?mode=ro",
        "file:app%20store.db?immutable=1",
        f"file://localhost{store.as_posix()}#x",
    ):
        with pytest.raises(SecondLibrary):
            sqlite3.connect(uri, uri=True)


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_plain_open_of_the_store_and_its_companions_is_refused(store, end, tmp_path):
    path = str(store) + end
    for act in (
        Path(path).open,
        lambda: os.open(path, os.O_RDONLY),
        lambda: Path(path).read_bytes(),
        lambda: shutil.copyfile(path, tmp_path / "copy"),
    ):
        with pytest.raises(SecondLibrary):
            act()


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_links_count_as_the_file_that_they_lead_to(store, end, tmp_path):
    (tmp_path / "soft").symlink_to(str(store) + end)
    os.link(str(store) + end, tmp_path / "hard")
    for name in ("soft", "hard"):
        with pytest.raises(SecondLibrary):
            (tmp_path / name).read_bytes()


def test_the_refusal_names_the_way_out_and_no_folder(store):
    with pytest.raises(SecondLibrary) as caught:
        sqlite3.connect(store)
    assert "engine.read()" in caught.value.fix
    assert "engine.snapshot()" in caught.value.fix
    assert str(store.parent) not in str(caught.value)


def test_apsw_other_files_and_other_processes_are_not_affected(store, tmp_path):
    second = apsw.Connection(str(store))
    assert second.execute("select count(*) from t").get == 1
    second.close()
    sqlite3.connect(tmp_path / "other.db").close()
    sqlite3.connect(":memory:").close()
    (tmp_path / "notes.txt").write_text("x")
    same_name_elsewhere = tmp_path / "elsewhere" / store.name
    same_name_elsewhere.parent.mkdir()
    same_name_elsewhere.write_text("x")
    with pytest.raises(sqlite3.OperationalError, match="no such vfs"):
        sqlite3.connect("file:a%00b?vfs=none", uri=True)
    code = f"import sqlite3; print(sqlite3.connect({str(store)!r}).execute('select x from t').fetchall())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[(1,)]"


def test_making_a_file_that_must_be_new_is_allowed_because_it_touches_no_existing_one(store):
    with pytest.raises(FileExistsError):
        os.open(store, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)


def test_an_unguarded_store_is_free_again_and_the_other_stays_guarded(store, tmp_path):
    other = tmp_path / "other.db"
    other.write_bytes(b"")
    guard_store(str(other))
    guard_store(str(other))
    unguard_store(str(other))
    unguard_store(str(other))
    assert other.read_bytes() == b""
    with pytest.raises(SecondLibrary):
        store.read_bytes()


def test_the_locks_that_a_plain_open_would_drop_are_still_held(store):
    writer = apsw.Connection(str(store))
    writer.execute("begin immediate; insert into t values (2)")
    with pytest.raises(SecondLibrary):
        Path(f"{store}-shm").read_bytes()
    other_process = f"import sqlite3; sqlite3.connect({str(store)!r}, timeout=0).execute('begin immediate')"
    done = subprocess.run([sys.executable, "-c", other_process], capture_output=True, text=True, check=False)
    assert "database is locked" in done.stderr
    writer.execute("commit")
    writer.close()


def test_an_engine_that_is_opened_with_the_guard_has_it_until_it_is_closed(tmp_path: Path) -> None:
    registry = MigrationRegistry(app="guarded", baseline="1.0.0", target="1.0.0", collections=())
    path = tmp_path / "guarded.db"
    with Engine.open(path, registry=registry, guard=True) as engine:
        engine.migrate()
        with pytest.raises(SecondLibrary, match=r"engine\.read"):
            sqlite3.connect(path)
        with engine.snapshot() as copy:
            sqlite3.connect(copy).close()
    sqlite3.connect(path).close()
