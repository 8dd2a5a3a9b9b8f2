"""A frozen server, somebody's lock, a connection that swallows everything: who waits, for how long, and who not."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'syncengine[postgresql]')")

import httpx  # noqa: E402 - what needs psycopg comes after it is known to be there

from simulator.postgresql import PostgresqlCluster  # noqa: E402
from syncengine.clock import SystemClock  # noqa: E402
from syncengine.server import lines as lines_module  # noqa: E402
from syncengine.server import postgresql_connections as connections  # noqa: E402
from syncengine.server.ending import CUT_OFF_MS_MAX, ENDED_BY_FORCE, Ending  # noqa: E402
from syncengine.server.lines import OF_ONE_USER_MAX, WAITING_MAX, Lines  # noqa: E402
from syncengine.server.postgresql_connections import KEPT_ALIVE, WAITS, pool_at  # noqa: E402
from syncengine.server.postgresql_rows import PostgresqlTransaction  # noqa: E402
from syncengine.server.postgresql_storage import PostgresqlStorage  # noqa: E402
from syncengine.server.storage import DatabaseBusy, DatabaseUnavailable, Transaction  # noqa: E402
from syncengine.vocabulary import UserId  # noqa: E402
from tests.conformance.device_requests import hello  # noqa: E402
from tests.conformance.server_process import ServerProcess  # noqa: E402
from tests.conformance.waiting import until  # noqa: E402

ANN, BOB = UserId("ann"), UserId("bob")


def name_of(address: str) -> str:
    return address.split("/")[3].partition("?")[0]


@pytest.fixture
def storage(database: str) -> Iterator[PostgresqlStorage]:
    opened = PostgresqlStorage(database, clock=SystemClock())
    for user in (ANN, BOB):
        opened.welcome(user)
    yield opened
    opened.close()


@pytest.fixture
def freeze() -> Iterator[Callable[[int], None]]:
    """A process that answers nothing any more, and whose sockets take what comes; it goes on after the test."""
    frozen: list[int] = []

    def stop(pid: int) -> None:
        frozen.append(pid)
        os.kill(pid, signal.SIGSTOP)

    yield stop
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)


def head(stored: Transaction) -> int:
    return stored.tenant(ANN).head


@contextmanager
def locked(postgresql: PostgresqlCluster, database: str, user: str) -> Iterator[None]:
    """By an operator who has gone for lunch."""
    with postgresql.as_superuser(name_of(database)) as operator, operator.transaction():
        operator.execute("SELECT 1 FROM tenant WHERE tenant = %s FOR UPDATE", (user,))
        yield


# In the database.


def test_what_a_frozen_server_holds_is_let_go_of_and_is_done_once_when_it_wakes(
    storage: PostgresqlStorage, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds, wakes, calls = threading.Event(), threading.Event(), []

    def one_more(stored: Transaction) -> int:
        version = head(stored) + 1
        if not calls:
            calls.append(version)
            holds.set()
            assert wakes.wait(60)
        stored.write_tenant(ANN, head=version, cloud_version=None)
        return version

    monkeypatch.setitem(WAITS, "idle_in_transaction_session_timeout", "300")
    frozen = PostgresqlStorage(database, clock=SystemClock())
    with ThreadPoolExecutor(1) as threads:
        slept = threads.submit(frozen.write, ANN, one_more)
        assert holds.wait(60)
        assert storage.write(ANN, one_more) == 1
        wakes.set()
        assert slept.result(60) == 2
    assert storage.read(ANN, head) == 2
    frozen.close()


def test_a_lock_is_waited_for_within_a_bound(
    postgresql: PostgresqlCluster, storage: PostgresqlStorage, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WAITS, "lock_timeout", "200")
    hasty = PostgresqlStorage(database, clock=SystemClock())
    with locked(postgresql, database, "ann"):
        with pytest.raises(DatabaseBusy):
            hasty.write(ANN, head)
        assert hasty.read(ANN, head) == 0
    assert hasty.write(ANN, head) == 0
    hasty.close()


def test_a_statement_ends_within_a_bound_and_is_not_tried_again(
    storage: PostgresqlStorage, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WAITS, "statement_timeout", "200")
    hasty, calls = PostgresqlStorage(database, clock=SystemClock()), []

    def sleep(stored: PostgresqlTransaction) -> None:
        calls.append(1)
        stored._connection.execute("SELECT pg_sleep(60)")

    with pytest.raises(DatabaseUnavailable):
        hasty.read(ANN, sleep)
    assert len(calls) == 1
    hasty.close()


def test_the_bounds_end_with_each_transaction_as_a_shared_connection_asks_for(storage: PostgresqlStorage) -> None:
    """Behind PgBouncer the next transaction on this connection is somebody else's."""
    said = {name: storage.read(ANN, lambda stored, name=name: setting(stored, name)) for name in WAITS}
    assert {name: int(value) for name, (value, _) in said.items()} == {
        name: int(each) for name, each in WAITS.items()
    }
    with storage._pool.connection() as connection:
        after = [connection.execute("SHOW " + name).fetchone() for name in WAITS]
    assert after == [("0",)] * len(WAITS)


def setting(stored: PostgresqlTransaction, name: str) -> tuple[str, str]:
    return stored._connection.execute("SELECT setting, unit FROM pg_settings WHERE name = %s", (name,)).fetchall()[0]


# In the server.


def test_a_locked_row_costs_its_user_a_refusal_and_the_others_nothing(
    postgresql: PostgresqlCluster, database: str, tmp_path: Path
) -> None:
    with ServerProcess(tmp_path, "--operations-port", "0", database=database) as server, ExitStack() as clients:
        tokens = {user: server.sign_in(user) for user in ("ann", "bob")}

        def asked(user: str) -> httpx.Response:
            return httpx.post(
                f"{server.url}/v1/hello",
                json=hello(user=user).model_dump(exclude_none=True),
                headers={"Authorization": f"Bearer {tokens[user]}"},
                trust_env=False,
                timeout=60,
            )

        anns = clients.enter_context(ThreadPoolExecutor(60))
        with locked(postgresql, database, "ann"):
            waiting = [anns.submit(asked, "ann") for _ in range(60)]
            until(lambda: sum(each.done() for each in waiting) >= 60 - OF_ONE_USER_MAX)
            assert [asked("bob").status_code for _ in range(3)] == [200] * 3
            assert httpx.get(f"{server.operations_url}/readyz", trust_env=False).text == "ready\n"
            refused = [each.result() for each in waiting if each.done()]
        assert {(each.status_code, each.json()["error"]["code"]) for each in refused} == {(503, "busy")}
        assert {each.headers["Retry-After"] for each in refused} == {"5"}
        assert {each.result().status_code for each in waiting} <= {200, 503}
        assert asked("ann").status_code == 200


def test_beyond_its_bound_a_line_refuses_at_once_and_is_gone_when_it_is_empty() -> None:
    lines, entered, leave = Lines(), threading.Semaphore(0), threading.Event()

    def stand(user: UserId) -> None:
        with lines.turn(user):
            entered.release()
            assert leave.wait(60)

    crowd = [UserId(f"user {n}") for n in range(WAITING_MAX // (OF_ONE_USER_MAX - 1) + 1)]
    with ThreadPoolExecutor(WAITING_MAX * 2) as threads:
        standing = [threads.submit(stand, crowd[0]) for _ in range(OF_ONE_USER_MAX)]
        until(lambda: lines._waiting == OF_ONE_USER_MAX - 1)
        with pytest.raises(DatabaseBusy), lines.turn(crowd[0]):
            pass
        for user in crowd[1:]:
            standing.append(threads.submit(stand, user))
        for _ in crowd:
            assert entered.acquire(timeout=60)
        while lines._waiting < WAITING_MAX:
            before = lines._waiting
            standing.append(threads.submit(stand, crowd[1 + before % (len(crowd) - 1)]))
            until(lambda before=before: lines._waiting > before)
        with pytest.raises(DatabaseBusy), lines.turn(crowd[-1]):
            pass
        with lines.turn(BOB):
            pass
        leave.set()
        for each in standing:
            each.result(60)
    assert (lines._lines, lines._waiting) == ({}, 0)


def test_a_turn_is_waited_for_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "TURN_SECONDS_MAX", 0.05)
    lines = Lines()

    def come() -> None:
        with lines.turn(ANN):
            pass

    with ThreadPoolExecutor(1) as threads:
        with lines.turn(ANN), pytest.raises(DatabaseBusy):
            threads.submit(come).result(60)
        threads.submit(come).result(60)


# Connections that swallow everything.


def test_connections_that_swallow_everything_are_given_up_and_new_ones_made(
    storage: PostgresqlStorage, freeze: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SILENT_MS_MAX", 1_500)

    def all_backends() -> list[int]:
        both = threading.Barrier(3)

        def look(stored: PostgresqlTransaction) -> int:
            both.wait(60)
            return int(stored._connection.info.backend_pid)

        with ThreadPoolExecutor(3) as threads:
            return [each.result() for each in [threads.submit(storage.read, ANN, look) for _ in range(3)]]

    for pid in all_backends():
        freeze(pid)
    with pytest.raises(DatabaseUnavailable):
        storage.read(ANN, head)
    assert storage.read(ANN, head) == 0, "the other connections of then were not given up with it"


def test_a_commit_that_is_not_answered_is_given_up_too(
    storage: PostgresqlStorage, freeze: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SILENT_MS_MAX", 1_500)

    def freeze_at_the_end(stored: PostgresqlTransaction) -> None:
        freeze(stored._connection.info.backend_pid)

    with pytest.raises(DatabaseUnavailable):
        storage.read(BOB, freeze_at_the_end)
    assert storage.read(BOB, lambda stored: stored.tenant(BOB).head) == 0


def test_a_transaction_that_goes_on_is_not_cut_however_long_it_takes(
    storage: PostgresqlStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SILENT_MS_MAX", 1_500)

    def slow(stored: PostgresqlTransaction) -> int:
        for _ in range(12):
            stored._connection.execute("SELECT pg_sleep(0.4)")
        return head(stored)

    assert storage.read(ANN, slow) == 0


def test_a_machine_that_is_gone_is_noticed_unless_the_address_says_otherwise(database: str) -> None:
    for address, user_timeout in ((database, KEPT_ALIVE["tcp_user_timeout"]), (f"{database}&tcp_user_timeout=7", 7)):
        with pool_at(address, connections_max=1) as pool, pool.connection() as connection:
            said = connection.info.get_parameters()
        assert (said["tcp_user_timeout"], said["keepalives_idle"]) == (str(user_timeout), "10")


# The end.


def test_a_server_ends_in_time_although_its_database_is_silent(
    postgresql: PostgresqlCluster, database: str, tmp_path: Path, freeze: Callable[[int], None]
) -> None:
    with ServerProcess(tmp_path, "--stop-seconds-max", "1", database=database) as server:
        ann = server.backend(server.sign_in("ann"))
        ann.hello(hello())
        with postgresql.as_superuser(name_of(database)) as operator:
            ours = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            for (pid,) in operator.execute(ours).fetchall():
                freeze(int(str(pid)))
        with ThreadPoolExecutor(2) as threads:
            waiting = [threads.submit(ann.hello, hello()) for _ in range(2)]
            time.sleep(0.5)
            told = time.monotonic()
            server.tell_to_stop()
            assert server.wait() == 0
            assert time.monotonic() - told < 1 + CUT_OFF_MS_MAX / 1000 + 4
            assert any(each.exception(60) for each in waiting), "nobody met a silent connection"


class WaitedClock(SystemClock):
    """Each wait is over at once, and is noted."""

    def __init__(self) -> None:
        self.waited: list[int] = []

    def wait(self, event: threading.Event, wait_ms: int) -> bool:
        self.waited.append(wait_ms)
        return event.is_set()


def test_what_hangs_for_good_is_cut_off_and_then_ended_by_force() -> None:
    clock, done, left = WaitedClock(), [], threading.Event()

    def leave(status: int) -> None:
        done.append(f"left with {status} after {clock.waited}")
        left.set()

    Ending(lambda: done.append(f"cut off after {clock.waited}"), clock=clock, leave=leave).begin(stop_seconds_max=7)
    assert left.wait(60)
    assert done == ["cut off after [7000]", f"left with {ENDED_BY_FORCE} after [7000, {CUT_OFF_MS_MAX}]"]


def test_who_was_cut_off_takes_nothing_new(storage: PostgresqlStorage) -> None:
    storage.cut_off()
    with pytest.raises(DatabaseUnavailable):
        storage.read(ANN, head)
