"""All or nothing, whatever ends a transaction."""

import subprocess
import sys
import threading
from contextlib import suppress

import apsw
import pytest

from syncengine.clock import SystemClock
from syncengine.errors import DiskFull, StoreBusy
from syncengine.local.store import Store
from syncengine.settings import Settings


@pytest.fixture
def store(tmp_path):
    store = Store(str(tmp_path / "app.db"), settings=Settings(busy_wait_ms_max=100), clock=SystemClock())
    with store.transaction():
        store.query("CREATE TABLE notes (id TEXT PRIMARY KEY, text TEXT) STRICT")
        store.query("CREATE TABLE tags (note TEXT REFERENCES notes (id) DEFERRABLE INITIALLY DEFERRED) STRICT")
    yield store
    store.close()


def note(store, key, text=""):
    store.query("INSERT INTO notes VALUES (?, ?)", (key, text))


def keys(store):
    return [key for (key,) in store.query("SELECT id FROM notes ORDER BY id")]


def synchronous(store):
    return store.query("PRAGMA synchronous")[0][0]


def test_a_transaction_inside_another_ends_with_the_outer_one(store):
    with pytest.raises(RuntimeError), store.transaction():  # noqa: PT012  (the block is the transaction that fails)
        with store.transaction(durable=True):
            note(store, "inner")
        assert store.connection.in_transaction
        raise RuntimeError
    assert keys(store) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_of_any_kind_undoes_all(store, error):
    with pytest.raises(error), store.transaction():  # noqa: PT012  (the block is the transaction that fails)
        note(store, "a")
        raise error
    assert keys(store) == []
    assert not store.connection.in_transaction


def undo_is_in_memory(store):
    return store.query("PRAGMA temp_store")[0][0] == 2


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_statement_is_undone_by_is_kept_in_memory_for_the_transaction_that_says_so_alone(store, fails):
    with suppress(RuntimeError), store.transaction(durable=True, undo_in_memory=True):
        note(store, "a")
        assert undo_is_in_memory(store)
        if fails:
            raise RuntimeError
    assert not undo_is_in_memory(store)
    with store.transaction():
        assert not undo_is_in_memory(store)


def test_a_savepoint_undoes_itself_and_keeps_the_rest(store):
    with store.transaction():
        note(store, "before")
        with pytest.raises(RuntimeError), store.savepoint('batch "1"; --'):  # noqa: PT012  (the block is the transaction that fails)
            note(store, "inside")
            raise RuntimeError
        note(store, "after")
    assert keys(store) == ["after", "before"]


def test_a_savepoint_outside_a_transaction_is_refused(store):
    with pytest.raises(AssertionError), store.savepoint("batch_1"):
        pass
    assert not store.connection.in_transaction


def test_what_the_engine_writes_outside_a_transaction_is_refused(store):
    with pytest.raises(AssertionError):
        store.run("state", "set", name="probe_verdict", value="online")
    assert store.value("state", "get", name="probe_verdict") is None


def test_a_commit_that_fails_undoes_all_and_says_why(store):
    with pytest.raises(apsw.ConstraintError), store.transaction():  # noqa: PT012  (the block is the transaction that fails)
        note(store, "a")
        store.query("INSERT INTO tags VALUES ('no such note')")
    assert keys(store) == []
    assert not store.connection.in_transaction
    with store.transaction():
        note(store, "b")
    assert keys(store) == ["b"]


@pytest.mark.parametrize("fails", [False, True])
def test_durable_means_full_until_the_end_and_normal_afterwards(store, fails):
    def work():
        with store.transaction(durable=True):
            seen.append(synchronous(store))
            if fails:
                raise RuntimeError

    seen = []
    if fails:
        with pytest.raises(RuntimeError):
            work()
    else:
        work()
    assert (seen, synchronous(store)) == ([2], 1)


def test_durable_is_normal_again_after_a_commit_that_failed(store):
    with pytest.raises(apsw.ConstraintError), store.transaction(durable=True):
        store.query("INSERT INTO tags VALUES ('no such note')")
    assert synchronous(store) == 1


def test_a_thread_waits_until_anothers_transaction_has_ended(store):
    entered, order = threading.Event(), []

    def second():
        entered.wait(10)
        with store.transaction():
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with store.transaction():
        entered.set()
        thread.join(0.1)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_full_disk_undoes_the_transaction_and_the_store_works_on(store):
    pages = store.query("PRAGMA page_count")[0][0]
    store.query(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(DiskFull) as full, store.transaction(durable=True):  # noqa: PT012  (the block is the transaction that fails)
        note(store, "small")
        note(store, "large", "x" * 100_000)
    assert isinstance(full.value.__cause__, apsw.FullError)
    assert keys(store) == []
    assert synchronous(store) == 1
    store.query("PRAGMA max_page_count = 1000000")
    with store.transaction():
        note(store, "large", "x" * 100_000)
    assert keys(store) == ["large"]


def test_a_store_that_another_process_writes_to_is_busy_after_a_bounded_wait(store):
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE');"
        "print('held', flush=True); sys.stdin.readline(); c.execute('COMMIT')"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, store.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(StoreBusy), store.transaction(durable=True):
        note(store, "a")
    assert (keys(store), synchronous(store)) == ([], 1)
    other.communicate("go\n", timeout=30)
    with store.transaction():
        note(store, "b")
    assert keys(store) == ["b"]


def test_an_error_that_sqlite_gives_comes_out_as_it_is_without_itself_as_its_cause(store):
    with pytest.raises(apsw.SQLError) as found, store.transaction():
        store.query("SELECT nothing FROM nowhere")
    assert found.value.__cause__ is None
