"""What only PostgreSQL can get wrong: who may see what, transactions to begin again, servers that start at once."""

import random
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'syncengine[postgresql]')")

import httpx  # noqa: E402 - what needs psycopg comes after it is known to be there
from psycopg.errors import DeadlockDetected, InsufficientPrivilege, SerializationFailure  # noqa: E402

from simulator.postgresql import PLAIN_ROLE, SUPERUSER, PostgresqlCluster  # noqa: E402
from syncengine.clock import SystemClock  # noqa: E402
from syncengine.errors import BackendUnavailable, DatabaseRefused, StoreSuperseded  # noqa: E402
from syncengine.local.connection import open_server_db  # noqa: E402
from syncengine.local.statements import statements  # noqa: E402
from syncengine.server.databases import open_storage  # noqa: E402
from syncengine.server.postgresql_rows import PostgresqlTransaction, text_of  # noqa: E402
from syncengine.server.postgresql_schema import our_editions  # noqa: E402
from syncengine.server.postgresql_storage import ATTEMPTS_MAX, RETRY_WAIT_MS_MAX, PostgresqlStorage  # noqa: E402
from syncengine.server.receipts import Receipt  # noqa: E402
from syncengine.server.rules import Patch, Row  # noqa: E402
from syncengine.server.storage import (  # noqa: E402
    DatabaseFailed,
    DatabaseUnavailable,
    Lane,
    Transaction,
)
from syncengine.server.stored_forms import SERVER_SQL  # noqa: E402
from syncengine.vocabulary import UserId  # noqa: E402
from tests.conformance.device_requests import hello, push, put, rows  # noqa: E402
from tests.conformance.server_process import ROOT, ServerProcess  # noqa: E402
from tests.conformance.waiting import until  # noqa: E402

ANN, BOB = UserId("ann"), UserId("bob")
CANARY = "bobs-canary"
TABLES_OF_USERS = ("tenant", "token", "document", "patch_beside", "commit_mark", "receipt", "ended_epoch")


class PausedClock(SystemClock):
    """Remembers how long it was asked to wait, and waits a little."""

    def __init__(self) -> None:
        self.pauses_ms: list[int] = []

    def pause(self, wait_ms: int) -> None:
        self.pauses_ms.append(wait_ms)
        super().pause(min(wait_ms, 20))


@pytest.fixture
def clock() -> PausedClock:
    return PausedClock()


@pytest.fixture
def storage(database: str, clock: PausedClock) -> Iterator[PostgresqlStorage]:
    opened = PostgresqlStorage(database, clock=clock)
    for user in (ANN, BOB):
        opened.add_token(user, token_hash=f"{CANARY if user == BOB else 'anns'} token")
        opened.write(user, fill(user))
    yield opened
    opened.close()


def fill(user: UserId) -> Callable[[Transaction], None]:
    """Something of the user in every table."""
    mine = CANARY if user == BOB else "anns"
    place, patch = ("walks", mine), Patch(1, "put", "2.0.0", f'"{mine}"')
    lane = Lane(user=user, device=mine, epoch=1)

    def write(stored: Transaction) -> None:
        stored.end_epochs(Lane(user=user, device=f"{mine} of before", epoch=1))
        stored.write_rows(
            user, rows={place: Row(1, "1.0.0", f'"{mine}"', (patch,), mine, 0)}, group_versions={place: 1}
        )
        stored.write_patches(user, patches={place: (patch,)})
        stored.write_receipts(lane, receipts=[Receipt(1, "applied", mine, 1)])
        stored.write_mark(user, last_version=1)
        stored.write_tenant(user, head=1, cloud_version=mine)

    return write


def connected(address: str, *, tenant: str | None = None) -> Any:
    connection = psycopg.connect(address)
    if tenant is not None:
        connection.execute("SELECT set_config('app.tenant', %s, true)", (tenant,))
    return connection


# Who may see what.


def test_a_forgotten_where_shows_nothing_of_others(storage: PostgresqlStorage, database: str) -> None:
    with connected(database, tenant="ann") as connection:
        for table in TABLES_OF_USERS:
            found = connection.execute(f"SELECT * FROM {table}").fetchall()
            assert len(found) == 1, table
            assert CANARY not in repr(found)
            assert connection.execute(f"DELETE FROM {table}").rowcount == 1
        connection.rollback()


def test_each_statement_of_ours_finds_nothing_of_others_when_its_tenant_is_taken_out(
    storage: PostgresqlStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same calls as ever, of statements whose every condition on the tenant was forgotten."""
    forgetful = {
        name: sql.replace("= :tenant", "IS NOT NULL") if "set_config" not in sql else sql
        for name, sql in statements("postgresql", directory=SERVER_SQL).items()
    }
    assert sum(forgetful[name] != sql for name, sql in statements("postgresql", directory=SERVER_SQL).items()) >= 15
    monkeypatch.setattr("syncengine.server.postgresql_rows.statement", lambda _file, name, **_: forgetful[name])
    text_of.cache_clear()
    try:
        found = storage.read(ANN, everything_seen)
    finally:
        text_of.cache_clear()
    assert "anns" in found
    assert CANARY not in found


def everything_seen(stored: Transaction) -> str:
    """As ann, also by names that are bob's."""
    bobs = Lane(user=ANN, device=CANARY, epoch=1)
    both = {"walks": ["anns", CANARY]}
    return repr(
        [
            stored.tenant(ANN),
            stored.read_rows(ANN, keys=both),
            list(stored.page(ANN, collection="walks", after="", limit=9)),
            list(stored.changes_after(ANN, group_version=0, version=0, rows_likely=9)),
            stored.patches_between(ANN, after=(0, 0), last=(9, 9)),
            stored.mark_at(ANN, version=1),
            stored.old_tombstones(ANN, before_ms=2**41, rows_max=9),
            stored.device_sequence(bobs),
            stored.receipts(bobs, first=1, last=9),
        ]
    )


def test_the_next_borrower_of_a_connection_sees_nothing_until_it_says_who_it_is(
    storage: PostgresqlStorage, database: str
) -> None:
    with connected(database, tenant="ann") as connection:
        connection.commit()
        for table in TABLES_OF_USERS:
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


@pytest.mark.parametrize("table", TABLES_OF_USERS)
def test_nobody_writes_for_another_user(storage: PostgresqlStorage, database: str, table: str) -> None:
    with connected(database, tenant="ann") as connection:
        with pytest.raises(InsufficientPrivilege):
            connection.execute(f"UPDATE {table} SET tenant = 'bob'")
        connection.rollback()


def test_every_table_with_users_in_it_has_its_policy_and_forces_it_on_its_owner(
    storage: PostgresqlStorage, database: str
) -> None:
    with connected(database) as connection:
        found = connection.execute(
            """
            SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity,
              (SELECT count(*) FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polcmd = '*'
                AND p.polwithcheck IS NOT NULL)
            FROM pg_class AS c
            JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant'
            WHERE c.relkind = 'r'
            """
        ).fetchall()
    assert sorted(found) == sorted((table, True, 1) for table in TABLES_OF_USERS)


def of_the_guide(word: str) -> list[str]:
    """The statements of the block for operators that has this word in it."""
    blocks = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "server.md").read_text(), flags=re.DOTALL)
    [found] = [block for block in blocks if word in block]
    return [statement.strip() for statement in found.split(";") if statement.strip()]


def test_the_statements_of_the_guide_take_a_user_out_of_every_table_and_nobody_else(
    storage: PostgresqlStorage, database: str
) -> None:
    taken_out: Any = psycopg.connect(database, autocommit=True)
    with taken_out:
        for statement in of_the_guide("DELETE FROM receipt"):
            taken_out.execute(statement)
    for user, rows_left in ((ANN, 1), (BOB, 0)):
        with connected(database, tenant=user) as connection:
            seen = {table: len(connection.execute(f"SELECT * FROM {table}").fetchall()) for table in TABLES_OF_USERS}
            assert seen == dict.fromkeys(TABLES_OF_USERS, rows_left)


def test_the_statements_of_the_guide_tell_what_each_user_has(storage: PostgresqlStorage, database: str) -> None:
    begin, upkeep, select, commit = of_the_guide("stored_bytes FROM tenant")
    assert (begin, commit) == ("BEGIN", "COMMIT")
    with connected(database) as connection:
        connection.execute(upkeep)
        assert [row[0] for row in connection.execute(select).fetchall()] == [ANN, BOB]


def test_who_lists_users_sees_their_names_and_none_of_their_rows(storage: PostgresqlStorage, database: str) -> None:
    assert storage.users() == [ANN, BOB]
    with connected(database) as connection:
        connection.execute(text_of("list_users"))
        seen = {table: len(connection.execute(f"SELECT * FROM {table}").fetchall()) for table in TABLES_OF_USERS}
        assert seen == {"tenant": 2, **dict.fromkeys(TABLES_OF_USERS[1:], 0)}
        assert connection.execute("UPDATE tenant SET floor = 9").rowcount == 0


def test_a_token_that_was_given_to_two_users_is_nobodys(storage: PostgresqlStorage) -> None:
    storage.add_token(ANN, token_hash=f"{CANARY} token")
    assert storage.user_of_token(f"{CANARY} token") is None
    assert storage.user_of_token("anns token") == ANN


def test_a_role_that_row_level_security_does_not_hold_is_refused(
    postgresql: PostgresqlCluster, database: str, clock: PausedClock
) -> None:
    with postgresql.as_superuser() as connection:
        connection.execute("CREATE ROLE sees_all LOGIN BYPASSRLS")
    for role in (SUPERUSER, "sees_all"):
        with pytest.raises(DatabaseRefused, match="may see everything"):
            PostgresqlStorage(database.replace(PLAIN_ROLE, role), clock=clock)
    with connected(database) as plain:
        assert plain.execute("SELECT count(*) FROM pg_class WHERE relname = 'document'").fetchone() == (0,)


# Addresses.


@pytest.mark.parametrize("address", ["mysql://ann:hunter2@host/x", "postgresql://ann:hunter2@host/x?nonsense=1"])
def test_an_address_that_is_none_is_refused_without_its_password(address: str, clock: PausedClock) -> None:
    with pytest.raises(DatabaseRefused) as refused:
        open_storage(address, clock=clock)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("form", ["{}/cloud.db", "{}", "sqlite:///{}/cloud.db"])
def test_other_addresses_are_sqlite_files(form: str, tmp_path: Path, clock: PausedClock) -> None:
    open_storage(form.format(tmp_path / "a folder"), clock=clock).close()
    assert (tmp_path / "a folder" / "cloud.db").is_file()


# Tables.


def test_servers_that_start_at_once_make_the_tables_once(new_database: Callable[[], str], clock: PausedClock) -> None:
    for _ in range(3):
        address, barrier = new_database(), threading.Barrier(4)

        def start(address: str = address, barrier: threading.Barrier = barrier) -> bytes:
            barrier.wait(30)
            opened = PostgresqlStorage(address, clock=clock, connections_max=1)
            try:
                opened.add_token(ANN, token_hash="t")
                return opened.cursor_key()
            finally:
                opened.close()

        with ThreadPoolExecutor(4) as servers:
            keys = {each.result() for each in [servers.submit(start) for _ in range(4)]}
        assert len(keys) == 1


def test_servers_that_bring_the_tables_up_to_date_at_once_wait_for_each_other(
    database: str, clock: PausedClock
) -> None:
    first, *_ = statements("postgresql_schema", directory=SERVER_SQL).values()
    PostgresqlStorage(database, clock=clock, editions=(first,)).close()
    slow, barrier = "SELECT pg_sleep(0.2); CREATE TABLE second (n BIGINT)", threading.Barrier(3)

    def start() -> None:
        barrier.wait(30)
        PostgresqlStorage(database, clock=clock, connections_max=1, editions=(first, slow)).close()

    with ThreadPoolExecutor(3) as servers:
        for each in [servers.submit(start) for _ in range(3)]:
            each.result()


def test_a_newer_server_waits_for_what_older_ones_write_and_then_they_write_nothing(
    storage: PostgresqlStorage, database: str, clock: PausedClock
) -> None:
    newer = (*our_editions(), "CREATE TABLE of_the_newer_one (n BIGINT)")
    begun, may_end = threading.Event(), threading.Event()

    def slowly(stored: Transaction) -> int:
        begun.set()
        assert may_end.wait(20)
        return one_more(stored)

    with ThreadPoolExecutor(2) as threads:
        old = threads.submit(storage.write, ANN, slowly)
        assert begun.wait(20)
        new = threads.submit(PostgresqlStorage, database, clock=clock, editions=newer)
        until(lambda: waits_for_a_lock(database))
        assert not new.done()
        may_end.set()
        assert old.result() == 2
        opened = new.result()
    for asked in (lambda: storage.write(ANN, one_more), storage.cursor_key):
        with pytest.raises(StoreSuperseded, match="newer server"):
            asked()
    assert opened.write(ANN, one_more) == 3
    opened.close()


def waits_for_a_lock(database: str) -> bool:
    with connected(database) as connection:
        found = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
    return bool(found[0])


def test_a_server_that_was_overtaken_says_so_and_changes_nothing(database: str, tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, "--operations-port", "0", database=database) as server,
        connected(database) as operator,
    ):
        is_told_when_overtaken(server, lambda: operator.execute("UPDATE cloud_edition SET edition = edition + 1"))


def test_a_server_on_sqlite_that_was_overtaken_says_so_and_changes_nothing(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, "--operations-port", "0") as server, closing(open_server_db(server.address)) as file:
        is_told_when_overtaken(server, lambda: file.execute("PRAGMA user_version = 1000").fetchall())


def is_told_when_overtaken(server: ServerProcess, overtake: Callable[[], Any]) -> None:
    token = server.sign_in("ann")
    ann = server.backend(token)
    ann.push(push(put(1, "a", {})))
    changed = overtake()
    if hasattr(changed, "connection"):
        changed.connection.commit()
    for asked in (lambda: ann.hello(hello(epoch=2, ended=1)), lambda: ann.push(push(put(2, "b", {})))):
        with pytest.raises(BackendUnavailable) as refused:
            asked()
        assert refused.value.retry_after_ms == 10_000
    assert httpx.get(f"{server.operations_url}/readyz", trust_env=False).status_code == 503
    assert [row.key for row in ann.rows(rows()).rows] == ["a"]
    server.stop()
    assert "Traceback" not in server.stderr


def test_an_edition_that_fails_changes_nothing_and_a_newer_one_is_left_alone(
    database: str, clock: PausedClock
) -> None:
    first, *_ = statements("postgresql_schema", directory=SERVER_SQL).values()
    PostgresqlStorage(database, clock=clock, editions=(first,)).close()
    with pytest.raises(DatabaseFailed):
        PostgresqlStorage(database, clock=clock, editions=(first, "CREATE TABLE second (n BIGINT); nonsense"))
    PostgresqlStorage(database, clock=clock, editions=(first, "CREATE TABLE second (n BIGINT)")).close()
    with pytest.raises(StoreSuperseded, match="newer server"):
        PostgresqlStorage(database, clock=clock, editions=(first,))


def test_an_edition_may_find_half_of_its_work_done(database: str, clock: PausedClock) -> None:
    """As after a crash on a database whose schema changes are not part of the transaction."""
    first, *_ = statements("postgresql_schema", directory=SERVER_SQL).values()
    with connected(database) as connection:
        connection.execute(first)
    opened = PostgresqlStorage(database, clock=clock)
    opened.add_token(ANN, token_hash="t")
    assert opened.users() == [ANN]
    opened.close()


# Transactions to begin again.


def one_more(stored: Transaction) -> int:
    version = stored.tenant(ANN).head + 1
    place = ("walks", f"w{version}")
    stored.write_rows(ANN, rows={place: Row(version, "1.0.0", "{}", (), "w", 0)}, group_versions={place: version})
    stored.write_tenant(ANN, head=version, cloud_version=None)
    return version


def test_under_serializable_isolation_who_has_to_begin_again_does_and_every_write_is_done_once(
    storage: PostgresqlStorage, database: str, clock: PausedClock
) -> None:
    serializable = database + "&options=-c%20default_transaction_isolation%3Dserializable"
    openings = [PostgresqlStorage(serializable, clock=clock) for _ in range(3)]
    with ThreadPoolExecutor(6) as writers:
        made = [writers.submit(openings[n % 3].write, ANN, one_more) for n in range(60)]
        versions = sorted(each.result() for each in made)
    assert versions == [*range(2, 62)]
    assert clock.pauses_ms, "nobody met, so nothing was tried"
    for each in openings:
        each.close()


def test_of_two_that_wait_for_each_other_one_begins_again(
    storage: PostgresqlStorage, database: str, clock: PausedClock
) -> None:
    other = PostgresqlStorage(database, clock=clock)
    both_hold_one, calls = threading.Barrier(2), [0, 0]

    def lock(number: int) -> Callable[[PostgresqlTransaction], int]:
        tables = ["cloud_state", "cloud_edition"][:: 1 if number else -1]

        def work(stored: PostgresqlTransaction) -> int:
            calls[number] += 1
            for table in tables:
                stored._connection.execute(f"UPDATE {table} SET only_row = 1")
                if calls[number] == 1 and table == tables[0]:
                    both_hold_one.wait(10)
            return number

        return work

    with ThreadPoolExecutor(2) as pair:
        first, second = pair.submit(storage.write, ANN, lock(0)), pair.submit(other.write, BOB, lock(1))
        assert (first.result(), second.result()) == (0, 1)
    assert sum(calls) == 3
    assert len(clock.pauses_ms) == 1
    other.close()


@pytest.mark.parametrize("asked_again", [SerializationFailure, DeadlockDetected])
def test_who_always_has_to_begin_again_gives_up_after_a_bounded_wait(
    storage: PostgresqlStorage, clock: PausedClock, asked_again: type[Exception]
) -> None:
    calls = []

    def fail(_stored: Transaction) -> None:
        calls.append(1)
        raise asked_again

    with pytest.raises(DatabaseUnavailable):
        storage.write(ANN, fail)
    assert len(calls) == ATTEMPTS_MAX == len(clock.pauses_ms)
    assert max(clock.pauses_ms) <= RETRY_WAIT_MS_MAX


def test_the_waits_are_by_the_chance_that_was_given(database: str) -> None:
    waits = []
    for _ in range(2):
        clock = PausedClock()
        opened = PostgresqlStorage(database, clock=clock, chance=random.Random(7))
        opened.welcome(ANN)
        with pytest.raises(DatabaseUnavailable):
            opened.write(ANN, raise_serialization_failure)
        opened.close()
        waits.append(clock.pauses_ms[1:])
    assert len(set(waits[0])) > 3


def raise_serialization_failure(_stored: Transaction) -> None:
    raise SerializationFailure


# Plans.

BIG = 20_000
PLANS: dict[str, tuple[str, dict[str, Any]]] = {
    "rows_at": ("document_pkey", {"collection": "walks", "keys": ["w1", "w2"] * 250, "body_bytes_max": 9}),
    "bytes_of": ("document_pkey", {"collections": ["walks"] * 500, "keys": ["w1", "w2"] * 250}),
    "body": ("document_pkey", {"collection": "walks", "key": "w1"}),
    "page": ("document_pkey", {"collection": "walks", "after": "w3", "rows_max": 100, "bytes_max": 9}),
    "changes_after": ("document_by_commit", {"group_version": 9, "version": 9, "rows_max": 100, "bytes_max": 9}),
}


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_a_few_rows_of_a_large_user_are_found_without_reading_them_all(
    storage: PostgresqlStorage, postgresql: PostgresqlCluster, database: str, is_analyzed: bool
) -> None:
    """A thousand users have one row and one has many: no plan may be made for the average, or for no statistics."""
    name = database.split("/")[3].partition("?")[0]
    with postgresql.as_superuser(name) as operator:
        operator.execute("ALTER TABLE document SET (autovacuum_enabled = off)")
        for tenant, rows in (("'ann'", BIG), ("'user' || n", 1_000)):
            operator.execute(
                "INSERT INTO document SELECT "
                f"{tenant}, 'walks', 'w' || n, n + 1, n + 1, '1.0.0', 2, 0, 'w:1', 0, '2025', '{{}}' "
                f"FROM generate_series(1, {rows}) AS n"
            )
        if is_analyzed:
            operator.execute("ANALYZE document")
    for mode in ("force_custom_plan", "force_generic_plan"):
        with connected(database, tenant="ann") as connection:
            connection.execute(f"SET plan_cache_mode = {mode}")
            for statement, (index, binds) in PLANS.items():
                explained = connection.execute(
                    b"EXPLAIN " + text_of(statement), {"tenant": "ann", **binds}, prepare=True
                ).fetchall()
                plan = "\n".join(line for (line,) in explained)
                assert index in plan, f"{mode}: {plan}"
                assert "Seq Scan on document" not in plan, f"{mode}: {plan}"
                other = {"document_pkey", "document_by_commit"} - {index}
                assert not any(each in plan for each in other), f"{mode}: {plan}"


# Failures.


def test_what_the_database_refuses_is_told_without_what_was_in_the_row(storage: PostgresqlStorage) -> None:
    def misread(stored: PostgresqlTransaction) -> None:
        stored._connection.execute("SELECT CAST(CAST(%s AS TEXT) AS BIGINT)", (CANARY,))

    with pytest.raises(DatabaseFailed) as failed:
        storage.write(ANN, misread)
    assert failed.value.sqlstate == "22P02"
    error: BaseException | None = failed.value
    assert error is not None
    assert CANARY not in f"{error!r} {error.__cause__!r}"
    assert error.__suppress_context__


@pytest.fixture
def own_cluster(postgresql: PostgresqlCluster) -> Iterator[PostgresqlCluster]:
    """One that a test may stop; the folder's name is short, as a socket's has to be."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    folder.chmod(0o755)
    with PostgresqlCluster(folder / "c") as cluster:
        yield cluster
    shutil.rmtree(folder)


def test_a_database_that_is_away_is_told_with_503_and_found_again_when_it_is_back(
    own_cluster: PostgresqlCluster, tmp_path: Path
) -> None:
    address = own_cluster.make_database("cloud")
    with ServerProcess(tmp_path, database=address) as server:
        token = server.sign_in("ann")
        asked = {"request_id": "r", "user": "ann", "device": "d"}
        with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:

            def pull() -> httpx.Response:
                return client.get(f"{server.url}/v1/pull", params=asked)

            assert pull().status_code == 200
            own_cluster.stop()
            own_cluster.start()
            assert pull().status_code == 200, "connections of before are not noticed"
            own_cluster.stop(how="immediate")
            answer = pull()
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
            assert answer.headers["Retry-After"] == "10"
            own_cluster.start()
            assert pull().status_code == 200


def test_a_server_whose_database_cannot_be_used_says_why_and_ends(
    postgresql: PostgresqlCluster, database: str, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match="may see everything"):
        ServerProcess(tmp_path, database=database.replace(PLAIN_ROLE, SUPERUSER))


def test_names_that_postgresql_cannot_store_are_refused_by_the_protocol(database: str, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, database=database) as server, httpx.Client() as client:
        headers = {"Authorization": f"Bearer {server.sign_in('ann')}"}
        entry = {"sequence": 1, "group": 1, "kind": "put", "collection": "c", "key": "k", "set": {"n": 1}}
        head = {"protocol": 1, "request_id": "r", "user": "ann", "device": "d", "epoch": 1, "schema_version": "1.0.0"}
        whole = {**entry, "shape_version": "1.0.0", "token": "t"}
        for body in ({**head, "device": "a\x00"}, {**head, "entries": [{**whole, "token": "a\x00"}]}):
            answer = client.post(f"{server.url}/v1/push", json={"entries": [whole], **body}, headers=headers)
            assert answer.status_code == 400, answer.text
        answer = client.post(f"{server.url}/v1/push", json={**head, "entries": [whole]}, headers=headers)
        assert answer.json()["results"][0]["status"] == "applied"
        for name in ("collection", "after"):
            asked = {"request_id": "r", "user": "ann", "collection": "c", name: "a\x00"}
            assert client.get(f"{server.url}/v1/rows", params=asked, headers=headers).status_code == 400


def test_a_query_that_cannot_be_read_is_refused_before_postgresql_is_asked(database: str, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, database=database) as server, httpx.Client(trust_env=False) as client:
        headers = {"Authorization": f"Bearer {server.sign_in('ann')}"}
        for query in (
            "rows?request_id=r&user=ann&collection=%ff",
            "rows?request_id=r&user=ann&collection=c&after=%ff",
            "pull?request_id=r&user=ann&device=d&cursor=%ff",
        ):
            answer = client.get(f"{server.url}/v1/{query}", headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")
