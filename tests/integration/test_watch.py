"""Commits of another process and the coming and going of a file are noticed, and reading is not."""

import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from syncengine.clock import SystemClock
from syncengine.local.watch import FileFlagWatcher, StoreWatcher
from tests.conformance.waiting import until

NOTICED_WITHIN_S = 10
QUIET_FOR_S = 0.3


@pytest.fixture
def store(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(tmp_path / "app.db"))
    connection.execute("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").fetchall()
    yield connection
    connection.close()


def in_another_process(path: str, sql: str) -> None:
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]).fetchall(); c.commit()"
    subprocess.run([sys.executable, "-c", code, path, sql], check=True)


def test_what_watchdog_logs_of_a_watch_that_stops_is_not_printed_by_an_app_that_has_no_logging(
    tmp_path: Path,
) -> None:
    code = (
        "import logging, sys; from syncengine.local.watch import StoreWatcher\n"
        "watcher = StoreWatcher(sys.argv[1], on_commit=lambda: None); watcher.start()\n"
        "logging.getLogger('watchdog.observers.inotify').error('called when the thread is inactive')\n"
        "watcher.stop()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "app.db")], capture_output=True, text=True, check=True
    )
    assert (ran.stdout, ran.stderr) == ("", "")


def rows_of(path: str) -> int:
    """Read on a connection of its own: the test's is in use on another thread."""
    reader = apsw.Connection(path)
    reader.set_busy_timeout(NOTICED_WITHIN_S * 1000)
    try:
        return reader.execute("select count(*) from t").get
    finally:
        reader.close()


@contextmanager
def watched(store: apsw.Connection, **options) -> Iterator["queue.Queue[int]"]:
    """The number of the store's rows at each call."""
    seen: queue.Queue[int] = queue.Queue()
    path = store.filename
    watcher = StoreWatcher(path, on_commit=lambda: seen.put(rows_of(path)), **options)
    watcher.start()
    try:
        yield seen
    finally:
        watcher.stop()


def wait_for(seen: "queue.Queue[int]", wanted: int) -> None:
    while seen.get(timeout=NOTICED_WITHIN_S) != wanted:
        pass


def drained(seen: "queue.Queue[int]") -> None:
    """Wait until no call has come for a while."""
    while True:
        try:
            seen.get(timeout=QUIET_FOR_S)
        except queue.Empty:
            return


def test_a_commit_by_another_process_is_noticed(store):
    with watched(store) as seen:
        for rows in (1, 2, 3):
            in_another_process(store.filename, "insert into t values (1)")
            wait_for(seen, rows)


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="needs the sqlite3 command line")
def test_a_commit_by_the_sqlite3_command_line_is_noticed(store):
    with watched(store) as seen:
        subprocess.run(["sqlite3", store.filename, "insert into t values (1)"], check=True)
        wait_for(seen, 1)


def test_a_commit_in_rollback_journal_mode_is_noticed_too(store):
    store.execute("PRAGMA journal_mode = DELETE").fetchall()
    with watched(store) as seen:
        in_another_process(store.filename, "insert into t values (1)")
        wait_for(seen, 1)


def test_a_store_reached_through_a_link_is_watched_where_it_lies(store, tmp_path):
    link = tmp_path / "links" / "link.db"
    link.parent.mkdir()
    link.symlink_to(store.filename)
    called = threading.Event()
    watcher = StoreWatcher(str(link), on_commit=called.set)
    watcher.start()
    in_another_process(store.filename, "insert into t values (1)")
    assert called.wait(NOTICED_WITHIN_S)
    watcher.stop()


def test_reading_and_other_files_of_the_directory_give_no_call(store, tmp_path):
    with watched(store) as seen:
        in_another_process(store.filename, "insert into t values (1)")
        drained(seen)
        in_another_process(store.filename, "select * from t")
        (tmp_path / "notes.txt").write_text("x")
        (tmp_path / "app.db-journal-of-mine").write_text("x")
        (tmp_path / "app.db.bak").write_text("x")
        with pytest.raises(queue.Empty):
            seen.get(timeout=QUIET_FOR_S)


def test_a_single_event_gives_a_second_look_after_the_time_to_settle(store):
    with watched(store, settle_ms=50) as seen:
        store.execute("insert into t values (1)")
        _first_look_may_be_too_early, second_look = (seen.get(timeout=NOTICED_WITHIN_S) for _look in range(2))
        assert second_look == 1


def test_fifty_commits_within_the_time_to_settle_give_few_calls(store):
    path = store.filename
    calls: list[int] = []
    everything_seen = threading.Event()

    def look() -> None:
        calls.append(rows_of(path))
        if calls[-1] == 50:
            everything_seen.set()

    watcher = StoreWatcher(path, on_commit=look, settle_ms=1_000)
    watcher.start()
    for _number in range(50):
        store.execute("insert into t values (1)")
    assert everything_seen.wait(NOTICED_WITHIN_S)
    watcher.stop()
    assert len(calls) <= 4


def test_stop_can_be_repeated_and_start_begins_again(store):
    calls: queue.Queue[None] = queue.Queue()
    watcher = StoreWatcher(store.filename, on_commit=lambda: calls.put(None))
    watcher.stop()
    watcher.start()
    watcher.start()
    watcher.stop()
    watcher.stop()
    store.execute("insert into t values (1)")
    with pytest.raises(queue.Empty):
        calls.get(timeout=QUIET_FOR_S)
    watcher.start()
    store.execute("insert into t values (1)")
    calls.get(timeout=NOTICED_WITHIN_S)
    watcher.stop()


def test_stop_leaves_no_thread_behind(store):
    before = set(threading.enumerate())
    watcher = StoreWatcher(store.filename, on_commit=lambda: None)
    watcher.start()
    assert set(threading.enumerate()) > before
    watcher.stop()
    assert set(threading.enumerate()) == before


class StoppedWhenItHasSettled(SystemClock):
    """Stops the watcher in the moment after the time to settle was over."""

    watcher: StoreWatcher

    def wait(self, event: threading.Event, wait_ms: int) -> bool:
        stopped = super().wait(event, wait_ms)
        self.watcher.stop()
        return stopped


def test_a_stop_at_the_end_of_the_time_to_settle_ends_the_thread_without_another_call(store):
    before = set(threading.enumerate())
    calls: list[int] = []
    clock = StoppedWhenItHasSettled()
    clock.watcher = StoreWatcher(store.filename, on_commit=lambda: calls.append(1), clock=clock)
    clock.watcher.start()
    in_another_process(store.filename, "insert into t values (1)")
    until(lambda: calls)
    until(lambda: set(threading.enumerate()) == before, seconds_max=NOTICED_WITHIN_S)
    assert calls == [1]


def test_the_callback_may_stop_its_own_watcher(store):
    stopped = threading.Event()

    def stop_from_inside() -> None:
        watcher.stop()
        stopped.set()

    watcher = StoreWatcher(store.filename, on_commit=stop_from_inside)
    watcher.start()
    store.execute("insert into t values (1)")
    assert stopped.wait(NOTICED_WITHIN_S)


def test_a_missing_directory_is_said_at_start(tmp_path):
    watcher = StoreWatcher(str(tmp_path / "nowhere" / "app.db"), on_commit=lambda: None)
    with pytest.raises(OSError, match="nowhere"):
        watcher.start()
    watcher.stop()


def test_a_flag_file_that_comes_goes_and_is_moved_is_reported_once_each(tmp_path):
    flag = tmp_path / "offline"
    states: queue.Queue[bool] = queue.Queue()
    watcher = FileFlagWatcher(str(flag), states.put)
    watcher.start()
    assert watcher.present is False
    flag.touch()
    assert states.get(timeout=NOTICED_WITHIN_S) is True
    flag.write_text("still there")
    flag.rename(tmp_path / "elsewhere")
    assert states.get(timeout=NOTICED_WITHIN_S) is False
    (tmp_path / "elsewhere").rename(flag)
    assert states.get(timeout=NOTICED_WITHIN_S) is True
    flag.unlink()
    assert states.get(timeout=NOTICED_WITHIN_S) is False
    watcher.stop()
    assert states.empty()


def test_a_flag_that_is_there_at_the_start_is_known_and_not_reported(tmp_path):
    flag = tmp_path / "offline"
    flag.touch()
    states: queue.Queue[bool] = queue.Queue()
    watcher = FileFlagWatcher(str(flag), states.put)
    watcher.start()
    assert watcher.present is True
    flag.write_text("x")
    (tmp_path / "other").touch()
    with pytest.raises(queue.Empty):
        states.get(timeout=QUIET_FOR_S)
    flag.unlink()
    assert states.get(timeout=NOTICED_WITHIN_S) is False
    watcher.stop()
