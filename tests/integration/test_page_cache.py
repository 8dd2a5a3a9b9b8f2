"""A long transaction writes its changed pages out in good order, and can still be undone whole or in part."""

from contextlib import suppress

import apsw
import pytest

from syncengine.clock import SystemClock
from syncengine.local.page_cache import PageCache
from syncengine.local.store import Store
from syncengine.settings import Settings

FITTING, TOO_MANY = 10, 2_000


class Undo(Exception):
    pass


@pytest.fixture
def store(tmp_path):
    store = Store(str(tmp_path / "app.db"), settings=Settings(), clock=SystemClock())
    with store.transaction():
        store.query("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    store.query("PRAGMA cache_size = 100")
    yield store
    store.close()


def write(store, rows):
    texts = ((f"{number:05}" + "x" * 1_000,) for number in range(rows))
    store.connection.executemany("INSERT INTO notes (text) VALUES (?)", texts)


def spilled(store):
    return store.connection.status(apsw.SQLITE_DBSTATUS_CACHE_SPILL)[0]


def test_a_cache_that_was_never_full_is_left_as_it_is(store):
    with store.transaction():
        cache = PageCache(store)
        write(store, FITTING)
        cache.settle()
        assert spilled(store) == 0


def test_after_it_was_full_every_changed_page_is_written_out_once(store):
    with store.transaction():
        cache = PageCache(store)
        write(store, TOO_MANY)
        full = spilled(store)
        cache.settle()
        settled = spilled(store)
        cache.settle()
        assert 0 < full < settled == spilled(store)
    assert store.query("SELECT count(*) FROM notes")[0][0] == TOO_MANY


def test_what_was_written_out_is_undone_with_the_transaction(store):
    with suppress(Undo), store.transaction():
        cache = PageCache(store)
        write(store, TOO_MANY)
        cache.settle()
        raise Undo
    assert store.query("SELECT count(*) FROM notes")[0][0] == 0
    assert store.query("PRAGMA integrity_check") == [("ok",)]


def test_what_was_written_out_is_undone_with_the_savepoint_around_it(store):
    with store.transaction():
        cache = PageCache(store)
        write(store, TOO_MANY)
        cache.settle()
        with suppress(Undo), store.savepoint("second"):
            write(store, TOO_MANY)
            store.query("UPDATE notes SET text = 'changed'")
            cache.settle()
            raise Undo
    assert store.query("SELECT count(*), min(length(text)) FROM notes")[0] == (TOO_MANY, 1_005)
    assert store.query("PRAGMA integrity_check") == [("ok",)]
