"""Opening a store: private, read back, never a stranger's file, one engine for each file and process."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import apsw
import pytest

from syncengine.clock import SystemClock
from syncengine.errors import (
    EngineClosed,
    ForkedEngine,
    PragmaRefused,
    StoreAlreadyOpen,
    StoreForeign,
    StoreSuperseded,
)
from syncengine.local.connection import APPLICATION_ID, set_pragma
from syncengine.local.open_files import open_paths
from syncengine.local.store import Store
from syncengine.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FORKING = "ignore:This process .* is multi-threaded:DeprecationWarning"


def open_store(path, **changes):
    return Store(str(path), settings=Settings(**changes), clock=SystemClock())


def bytes_beside(path):
    """Every file whose name begins with the store's, with its bytes; -shm is a lock table and may come."""
    return {
        found.name: found.read_bytes() for found in path.parent.glob(path.name + "*") if found.suffix != ".db-shm"
    }


def in_another_process(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def in_a_forked_child(act):
    """What `act` said in a child: its answer goes through a pipe."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = repr(act())
        except BaseException as error:
            answer = type(error).__name__
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


def test_the_file_its_wal_and_its_shm_are_private_whatever_the_umask(tmp_path):
    path = tmp_path / "app.db"
    before = os.umask(0)
    try:
        store = open_store(path)
        with store.transaction():
            store.run("state", "set", name="probe_verdict", value="online")
        modes = {end: stat.S_IMODE(os.stat(f"{path}{end}").st_mode) for end in ("", "-wal", "-shm")}
        store.close()
    finally:
        os.umask(before)
    assert modes == {"": 0o600, "-wal": 0o600, "-shm": 0o600}


@pytest.mark.parametrize(("durability", "synchronous"), [("normal", 1), ("full", 2)])
def test_what_safety_depends_on_is_set(tmp_path, durability, synchronous):
    store = open_store(tmp_path / "app.db", durability=durability)
    pragmas = (
        "journal_mode",
        "synchronous",
        "foreign_keys",
        "recursive_triggers",
        "trusted_schema",
        "application_id",
    )
    found = [store.query(f"PRAGMA {name}")[0][0] for name in pragmas]
    with pytest.raises(apsw.SQLError):
        store.query('SELECT "no such column"')
    store.close()
    assert found == ["wal", synchronous, 1, 1, 0, APPLICATION_ID]


def test_a_setting_that_sqlite_ignores_is_an_error():
    connection = apsw.Connection(":memory:")
    with pytest.raises(PragmaRefused) as refused:
        set_pragma(connection, "journal_mode", "WAL", "wal")
    assert "memory" in str(refused.value)


@pytest.mark.parametrize("text", [b"x", b"dear diary, " * 200], ids=["one letter", "longer than a page header"])
def test_a_text_file_is_refused_and_stays_as_it_was(tmp_path, text):
    path = tmp_path / "diary.db"
    path.write_bytes(text)
    with pytest.raises(StoreForeign):
        open_store(path)
    assert bytes_beside(path) == {"diary.db": text}


@pytest.mark.parametrize("journal_mode", ["DELETE", "WAL"])
def test_a_database_of_another_program_is_refused_and_stays_as_it_was(tmp_path, journal_mode):
    path = tmp_path / "photos.db"
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(f'PRAGMA journal_mode={sys.argv[2]}');"
        "c.execute('CREATE TABLE photos (name)'); c.execute(\"INSERT INTO photos VALUES ('beach')\"); c.commit();"
        "os._exit(0)"  # as a crash: in WAL mode the rows are in the -wal alone
    )
    assert in_another_process(code, path, journal_mode).returncode == 0
    before = bytes_beside(path)
    with pytest.raises(StoreForeign) as refused:
        open_store(path)
    assert bytes_beside(path) == before
    assert "beach" not in str(refused.value)
    assert path.name not in "".join(open_paths())


def test_a_store_of_a_newer_engine_is_read_only_and_stays_as_it_was(tmp_path):
    path = tmp_path / "app.db"
    store = open_store(path)
    with store.transaction():
        store.run("state", "set", name="engine_schema", value="2")
    store.close()
    before = bytes_beside(path)
    for _ in range(2):
        store = open_store(path)
        assert store.read_only.code == "store_superseded"
        with pytest.raises(StoreSuperseded):
            store.transaction()
        store.close()
        assert bytes_beside(path) == before


def test_an_empty_file_is_taken_over(tmp_path):
    path = tmp_path / "app.db"
    path.touch()
    open_store(path).close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    connection.close()


def test_a_folder_and_a_link_to_nowhere_are_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name in ("folder", "link", "no-folder/app.db"):
        with pytest.raises(StoreForeign):
            open_store(tmp_path / name)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["folder", "link"]


def test_a_link_to_a_store_opens_the_store_it_leads_to(tmp_path):
    (tmp_path / "data").mkdir()
    open_store(tmp_path / "data" / "app.db").close()
    (tmp_path / "link.db").symlink_to(tmp_path / "data" / "app.db")
    store = open_store(tmp_path / "link.db")
    assert store.path == os.path.realpath(tmp_path / "data" / "app.db")
    store.close()


def test_one_process_opens_a_file_once_under_whatever_name(tmp_path):
    path = tmp_path / "app.db"
    store = open_store(path)
    with store.transaction():
        store.run("state", "set", name="probe_verdict", value="only in the -wal")
    (tmp_path / "symbolic.db").symlink_to(path)
    (tmp_path / "hard.db").hardlink_to(path)
    for name in ("app.db", "symbolic.db", "hard.db"):
        with pytest.raises(StoreAlreadyOpen):
            open_store(tmp_path / name)
    # Through a hard link SQLite looks for another -wal: it must not have been opened at all.
    assert not list(tmp_path.glob("hard.db-*"))
    assert store.value("state", "get", name="probe_verdict") == "only in the -wal"
    store.close()
    again = open_store(tmp_path / "symbolic.db")
    assert again.value("state", "get", name="probe_verdict") == "only in the -wal"
    again.close()


def test_of_two_threads_that_open_one_file_one_is_refused(tmp_path):
    for number in range(10):
        gate, opened, refused = threading.Barrier(2), [], []

        def start(path, gate=gate, opened=opened, refused=refused):
            gate.wait(10)
            try:
                opened.append(open_store(path))
            except StoreAlreadyOpen as error:
                refused.append(error)

        threads = [threading.Thread(target=start, args=(tmp_path / f"{number}.db",)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert (len(opened), len(refused)) == (1, 1)
        opened[0].close()


def test_another_process_may_work_on_the_same_store(tmp_path):
    path = tmp_path / "app.db"
    store = open_store(path)
    version = store.data_version()
    code = (
        "import sys; from syncengine.local.store import Store; from syncengine.settings import Settings;"
        "from syncengine.clock import SystemClock;"
        "s = Store(sys.argv[1], settings=Settings(), clock=SystemClock());"
        "t = s.transaction(); t.__enter__(); s.run('state', 'set', name='probe_verdict', value='from next door');"
        "t.__exit__(None, None, None); s.close()"
    )
    done = in_another_process(code, path)
    assert done.returncode == 0, done.stderr
    assert store.data_version() != version
    assert store.value("state", "get", name="probe_verdict") == "from next door"
    store.close()


def test_a_closed_store_says_so_and_can_be_closed_again(tmp_path):
    store = open_store(tmp_path / "app.db")
    store.close()
    store.close()
    with pytest.raises(EngineClosed):
        store.query("SELECT 1")
    with pytest.raises(EngineClosed), store.transaction():
        pass
    with pytest.raises(EngineClosed):
        store.reader()
    open_store(tmp_path / "app.db").close()


@pytest.mark.filterwarnings(FORKING)
def test_a_forked_child_can_use_neither_the_store_nor_the_file(tmp_path):
    store = open_store(tmp_path / "app.db")

    def transaction():
        with store.transaction():
            pass

    assert in_a_forked_child(lambda: store.query("SELECT 1")) == "ForkedEngine"
    assert in_a_forked_child(transaction) == "ForkedEngine"
    assert in_a_forked_child(store.reader) == "ForkedEngine"
    # SQLite believes in the child that it holds the parent's locks.
    assert in_a_forked_child(lambda: open_store(tmp_path / "app.db")) == "StoreAlreadyOpen"
    with store.transaction():
        store.run("state", "set", name="probe_verdict", value="the parent goes on")
    store.close()
    assert issubclass(ForkedEngine, Exception)


@pytest.mark.filterwarnings(FORKING)
def test_closing_in_a_forked_child_closes_nothing_and_waits_for_nobody(tmp_path):
    store = open_store(tmp_path / "app.db")
    held, done = threading.Event(), threading.Event()

    def hold():
        with store.lock:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    assert in_a_forked_child(store.close) == "None"
    done.set()
    thread.join(10)
    assert store.query("SELECT 1") == [(1,)]
    store.close()


def test_a_new_store_has_an_identity_that_stays(tmp_path):
    store = open_store(tmp_path / "app.db")
    device = store.value("state", "get", name="device_id")
    store.close()
    again = open_store(tmp_path / "app.db")
    assert again.value("state", "get", name="device_id") == device
    assert len(device) == 32
    again.close()


def test_eight_processes_may_make_the_store_at_once(tmp_path):
    path = tmp_path / "app.db"
    code = (
        "import sys; from syncengine.local.store import Store; from syncengine.settings import Settings;"
        "from syncengine.clock import SystemClock; sys.stdin.readline();"
        "s = Store(sys.argv[1], settings=Settings(), clock=SystemClock());"
        "print(s.value('state', 'get', name='device_id')); s.close()"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for starter in starters:
        starter.stdin.write("go\n")
        starter.stdin.flush()
    answers = [starter.communicate(timeout=60) for starter in starters]
    assert [starter.returncode for starter in starters] == [0] * 8, answers
    assert len({said for said, _ in answers}) == 1
