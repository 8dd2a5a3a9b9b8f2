"""What passes by itself is tried again, what is a row's fault is set aside, what is the machine's stops all."""

import errno
import random
import socket

import apsw
import pytest
from imports import JourneyV2, JourneyV3, make_v2, seconds_v3
from migrate_world import dump, registry_of
from pydantic import TypeAdapter, ValidationError

from syncengine import (
    BaseMigrationExecutor,
    Engine,
    Item,
    MigrationDefinition,
    Put,
    Quarantine,
    Settings,
    SystemClock,
)
from syncengine.errors import (
    BackendUnreachable,
    DiskFull,
    LeaseLost,
    MigrationFailed,
    ReconciliationFailed,
    StoreBusy,
    StoreDamaged,
)
from syncengine.migrate.definition import Counts
from syncengine.migrate.lease import Lease
from syncengine.migrate.policy import Kind, is_of_a_row, kind_of, wait_before_retry_ms

# The table.


def validation_error():
    try:
        TypeAdapter(int).validate_python("many")
    except ValidationError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "kind", "of_a_row"),
    [
        (StoreBusy(""), Kind.TRANSIENT, False),
        (LeaseLost(""), Kind.TRANSIENT, False),
        (BackendUnreachable(""), Kind.TRANSIENT, False),
        (apsw.BusyError(), Kind.TRANSIENT, False),
        (ConnectionRefusedError(), Kind.TRANSIENT, False),
        (TimeoutError(), Kind.TRANSIENT, False),
        (DiskFull(""), Kind.CRITICAL, False),
        (StoreDamaged(""), Kind.CRITICAL, False),
        (ReconciliationFailed(""), Kind.CRITICAL, False),
        (apsw.FullError(), Kind.CRITICAL, False),
        (apsw.CorruptError(), Kind.CRITICAL, False),
        (apsw.IOError(), Kind.CRITICAL, False),
        (apsw.InterruptError(), Kind.CRITICAL, False),
        (MemoryError(), Kind.CRITICAL, False),
        (OSError(errno.ENOSPC, "full"), Kind.CRITICAL, False),
        (Quarantine("no"), Kind.DATA, True),
        (validation_error(), Kind.DATA, True),
        (apsw.ConstraintError(), Kind.DATA, True),
        (apsw.MismatchError(), Kind.DATA, True),
        (KeyError("id"), Kind.CODE, True),
        (FileNotFoundError(), Kind.CODE, True),
        (apsw.SQLError(), Kind.CODE, False),
        (MigrationFailed(""), Kind.CODE, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_each_error_has_one_way(error, kind, of_a_row):
    assert (kind_of(error), is_of_a_row(error)) == (kind, of_a_row)


def test_the_wait_is_jittered_under_a_ceiling_that_doubles_up_to_its_limit():
    settings = Settings(transient_wait_ms_min=100, transient_wait_ms_max=350)
    chance = random.Random(5)
    for retry, ceiling in ((1, 100), (2, 200), (3, 350), (4, 350), (60, 350)):
        waits = [wait_before_retry_ms(retry, chance=chance, settings=settings) for _ in range(300)]
        assert min(waits) >= 0
        assert ceiling * 0.9 < max(waits) <= ceiling


# Transient.


class WaitingClock(SystemClock):
    """Waits at once, remembers how long it was asked to, and does something meanwhile."""

    def __init__(self, meanwhile=lambda waits: None):
        self.waits = []
        self.meanwhile = meanwhile

    def pause(self, wait_ms):
        self.waits.append(wait_ms)
        self.meanwhile(len(self.waits))


class Importing(BaseMigrationExecutor):
    """Three rows; before the third something may be in the way."""

    definition = MigrationDefinition(
        id="importing",
        name="",
        description="",
        from_version="2.0.0",
        to_version="3.0.0",
        collections=("journeys",),
        critical=True,
    )

    def __init__(self, obstacle):
        super().__init__()
        self.obstacle = obstacle
        self.tries = 0

    def items(self, work):
        self.tries += 1
        for number in range(3):
            yield Item(str(number), number)

    def convert(self, item, work):
        if item.value == 2:
            self.obstacle(work)
        return Put("journeys", {"user_id": "ann", "id": item.key, "minutes": 1.0, "title": None})


def open_engine(path, *executors, heard=None, **options):
    registry = registry_of(make_v2(), *executors, target="3.0.0")
    return Engine.open(path, registry=registry, listener=heard, **options)


def at_two(path):
    with Engine.open(path, registry=registry_of(make_v2(), target="2.0.0")) as engine:
        engine.migrate()
    return path


def runs(engine, migration="importing"):
    return engine._store.query("SELECT state, error_code FROM _sync_run WHERE migration = ?", (migration,))


def rows(engine):
    return engine._store.query("SELECT count(*) FROM journeys")[0][0]


def test_a_busy_database_of_another_program_is_waited_for_and_each_row_is_written_once(tmp_path):
    other = apsw.Connection(str(tmp_path / "other.db"))
    other.execute("CREATE TABLE t (x); BEGIN EXCLUSIVE")

    def read_other(work):
        mine = apsw.Connection(str(tmp_path / "other.db"))
        try:
            mine.execute("SELECT * FROM t").fetchall()
        finally:
            mine.close()

    clock = WaitingClock(lambda waits: other.execute("COMMIT") if waits == 2 else None)
    executor, heard = Importing(read_other), []
    with open_engine(at_two(tmp_path / "app.db"), executor, clock=clock, heard=heard.append) as engine:
        assert engine.migrate().success
        assert (executor.tries, len(clock.waits), rows(engine)) == (3, 2, 3)
        assert runs(engine) == [("completed", None)]
    other.close()
    names = [type(event).__name__ for event in heard]
    assert (names.count("MigrationStarted"), names.count("MigrationEnded")) == (1, 1)


def test_a_server_that_does_not_answer_yet_is_tried_again(tmp_path):
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    listening.close()
    servers = []

    def ask(work):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()

    clock = WaitingClock(lambda waits: servers.append(socket.create_server(("127.0.0.1", port))))
    with open_engine(at_two(tmp_path / "app.db"), Importing(ask), clock=clock) as engine:
        assert engine.migrate().success
        assert (len(clock.waits), rows(engine)) == (1, 3)
    servers[0].close()


def test_what_never_passes_counts_as_failed_after_so_many_retries_and_the_store_is_as_it_was(tmp_path):
    path = at_two(tmp_path / "app.db")

    def lose_the_lease(work):
        mine, other = (Lease(work.store, name="migrate", holder=name) for name in ("me", "you"))
        assert mine.take()
        other._write("you")
        mine.renew()

    clock = WaitingClock()
    with open_engine(
        path, Importing(lose_the_lease), clock=clock, settings=Settings(transient_retries_max=2)
    ) as engine:
        before = dump(engine._store)
        with pytest.raises(LeaseLost):
            engine.migrate()
        assert len(clock.waits) == 2
        assert runs(engine) == [("failed", "lease_lost")]
        assert dump(engine._store) == before


def test_the_waits_come_from_the_chance_that_the_host_gives(tmp_path):
    def never(work):
        raise TimeoutError

    waits = []
    for name in ("one", "two"):
        clock = WaitingClock()
        chance = random.Random(7)
        with (
            open_engine(at_two(tmp_path / name), Importing(never), clock=clock, chance=chance) as engine,
            pytest.raises(MigrationFailed),
        ):
            engine.migrate()
        waits.append(clock.waits)
    assert waits[0] == waits[1]
    assert len(set(waits[0])) > 1


# Data.


def test_a_row_at_fault_is_set_aside_and_the_others_go_on(tmp_path):
    def one_in_three(work):
        raise KeyError("id")

    clock = WaitingClock()
    with open_engine(at_two(tmp_path / "app.db"), Importing(one_in_three), clock=clock) as engine:
        report = engine.migrate()
        assert (report.quarantined, rows(engine), clock.waits) == (1, 2, [])


# Critical.


def test_a_full_disk_stops_all_is_not_tried_again_and_is_in_the_history(tmp_path):
    def fill(work):
        work.store.query("CREATE TABLE filler (x)")
        work.store.query("INSERT INTO filler VALUES (zeroblob(10000000))")

    clock, heard = WaitingClock(), []
    with open_engine(at_two(tmp_path / "app.db"), Importing(fill), clock=clock, heard=heard.append) as engine:
        before = dump(engine._store)
        pages = engine._store.query("PRAGMA page_count")[0][0]
        engine._store.query(f"PRAGMA max_page_count = {pages + 50}")
        with pytest.raises(DiskFull):
            engine.migrate()
        assert clock.waits == []
        assert runs(engine) == [("failed", "disk_full")]
        assert dump(engine._store) == before
        ended = [event for event in heard if type(event).__name__ == "MigrationEnded"]
        assert [event.success for event in ended] == [False]


def test_an_interrupt_takes_the_transaction_along_and_is_in_the_history(tmp_path):
    def interrupt(work):
        connection = work.store.connection
        connection.set_progress_handler(lambda: True, 1)
        try:
            work.store.query("UPDATE journeys SET title = 'x'")
        finally:
            connection.set_progress_handler(None)

    with open_engine(at_two(tmp_path / "app.db"), Importing(interrupt)) as engine:
        with engine._store.transaction():
            engine._store.query("INSERT INTO journeys VALUES ('ann', 'old', 1, NULL)")
        before = dump(engine._store)
        with pytest.raises(MigrationFailed):
            engine.migrate()
        assert runs(engine) == [("failed", "migration_failed")]
        assert dump(engine._store) == before


def test_damage_in_the_file_stops_all(tmp_path):
    path = at_two(tmp_path / "app.db")
    with Engine.open(path, registry=registry_of(make_v2(), target="2.0.0")) as engine, engine.write() as db:
        db.conn.executemany(
            "INSERT INTO journeys VALUES ('ann', ?, 1, ?)", [(f"{n:04}", f"{n}" * 400) for n in range(500)]
        )
    root, size = _root_page(path)
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)

    def to_seconds(old: JourneyV2) -> JourneyV3:
        return JourneyV3(user_id=old.user_id, id=old.id, seconds=0, title=None)

    clock = WaitingClock()
    with open_engine(path, seconds_v3(to_seconds), clock=clock) as engine:
        with pytest.raises(StoreDamaged):
            engine.migrate()
        assert clock.waits == []
        assert engine._store.query("SELECT schema_version FROM _sync_version") == [("2.0.0",)]


def _root_page(path):
    connection = apsw.Connection(str(path))
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        [(root,)] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'journeys'").fetchall()
        [(size,)] = connection.execute("PRAGMA page_size").fetchall()
        return root, size
    finally:
        connection.close()


class Miscounting(Importing):
    def apply(self, items, work):
        super().apply(items, work)
        return Counts(read=len(items), written=len(items) - 1)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Miscounting(lambda work: None), ReconciliationFailed),
        (lambda: Importing(_out_of_memory), MigrationFailed),
    ],
    ids=["counts", "memory"],
)
def test_counts_that_do_not_add_up_and_a_lack_of_memory_roll_back_and_are_recorded(tmp_path, make, error):
    clock = WaitingClock()
    with open_engine(at_two(tmp_path / "app.db"), make(), clock=clock) as engine:
        before = dump(engine._store)
        with pytest.raises(error):
            engine.migrate()
        assert dump(engine._store) == before
        assert runs(engine) == [("failed", error.code())]
        assert clock.waits == []


def _out_of_memory(work):
    raise MemoryError
