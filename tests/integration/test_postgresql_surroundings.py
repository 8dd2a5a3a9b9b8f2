"""Databases as operators have them: other encodings, schemas, rights, and those that take no writes any more."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'syncengine[postgresql]')")

import httpx  # noqa: E402 - what needs psycopg comes after it is known to be there

from simulator.postgresql import PLAIN_ROLE, PostgresqlCluster  # noqa: E402
from syncengine.clock import SystemClock  # noqa: E402
from syncengine.errors import DatabaseRefused  # noqa: E402
from syncengine.server.__main__ import main  # noqa: E402
from syncengine.server.postgresql_storage import PostgresqlStorage  # noqa: E402
from syncengine.server.storage import DatabaseReadOnly, Transaction  # noqa: E402
from syncengine.vocabulary import UserId  # noqa: E402
from tests.conformance.device_requests import hello  # noqa: E402
from tests.conformance.server_process import ServerProcess  # noqa: E402
from tests.conformance.waiting import until  # noqa: E402

ANN, BOB = UserId("ann"), UserId("bob")
Opens = Callable[[str], PostgresqlStorage]


@pytest.fixture
def opens() -> Iterator[Opens]:
    """A storage at an address, closed after the test."""
    opened: list[PostgresqlStorage] = []

    def open_at(address: str) -> PostgresqlStorage:
        opened.append(PostgresqlStorage(address, clock=SystemClock()))
        return opened[-1]

    yield open_at
    for each in opened:
        each.close()


def name_of(address: str) -> str:
    return address.split("/")[3].partition("?")[0]


def operator(postgresql: PostgresqlCluster, database: str, statement: str) -> None:
    with postgresql.as_superuser(name_of(database)) as connection:
        connection.execute(statement.encode())


def tables_of(postgresql: PostgresqlCluster, database: str) -> set[str]:
    """The schemas that have a cloud's rows."""
    with postgresql.as_superuser(name_of(database)) as connection:
        found = connection.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'document'").fetchall()
    return {str(schema) for (schema,) in found}


def one_more(stored: Transaction) -> int:
    version = stored.tenant(ANN).head + 1
    stored.write_tenant(ANN, head=version, cloud_version=None)
    return version


# Schemas.


def test_a_schema_named_like_the_role_takes_no_rows_away(
    postgresql: PostgresqlCluster, database: str, opens: Opens
) -> None:
    """PostgreSQL looks into "$user" before public; a server that runs and one that starts stay where the rows are."""
    running = opens(database)
    running.welcome(ANN)
    assert running.write(ANN, one_more) == 1
    operator(postgresql, database, f"CREATE SCHEMA {PLAIN_ROLE} AUTHORIZATION {PLAIN_ROLE}")
    started = opens(database)
    assert started.users() == running.users() == [ANN]
    assert (started.write(ANN, one_more), running.write(ANN, one_more)) == (2, 3)
    assert tables_of(postgresql, database) == {"public"}


def test_a_server_that_runs_stays_in_its_schema_although_others_have_such_tables(
    postgresql: PostgresqlCluster, database: str, opens: Opens
) -> None:
    running = opens(database)
    running.welcome(ANN)
    operator(postgresql, database, f"CREATE SCHEMA {PLAIN_ROLE} AUTHORIZATION {PLAIN_ROLE}")
    other = opens(f"{database}&options=-csearch_path%3D{PLAIN_ROLE}")
    other.welcome(BOB)
    assert (running.users(), other.users()) == ([ANN], [BOB])
    assert tables_of(postgresql, database) == {"public", PLAIN_ROLE}
    with pytest.raises(DatabaseRefused, match=r"two clouds(.|\n)*the schemas public and syncengine") as refused:
        opens(database)
    assert "options=-csearch_path%3Dpublic" in str(refused.value)


def test_a_schema_may_have_any_name(postgresql: PostgresqlCluster, database: str, opens: Opens) -> None:
    operator(postgresql, database, f'CREATE SCHEMA "Our ""clouds"", all" AUTHORIZATION {PLAIN_ROLE}')
    there = f"{database}&options=-csearch_path%3D%22Our%5C%20%22%22clouds%22%22,%5C%20all%22"
    for _ in range(2):
        storage = opens(there)
        storage.welcome(ANN)
        assert storage.users() == [ANN]
    assert tables_of(postgresql, database) == {'Our "clouds", all'}


def test_a_search_path_into_nowhere_is_refused(database: str, opens: Opens) -> None:
    with pytest.raises(DatabaseRefused, match="no place for tables"):
        opens(f"{database}&options=-csearch_path%3Dnowhere")


# Rights and settings.


def test_a_role_that_may_not_make_tables_is_refused_and_one_that_finds_them_is_not(
    postgresql: PostgresqlCluster, database: str, opens: Opens
) -> None:
    operator(postgresql, database, "ALTER SCHEMA public OWNER TO postgres")
    operator(postgresql, database, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    with pytest.raises(DatabaseRefused, match=r"must not make its tables(.|\n)*schema public"):
        opens(database)
    operator(postgresql, database, f"GRANT CREATE ON SCHEMA public TO {PLAIN_ROLE}")
    opens(database).welcome(ANN)
    operator(postgresql, database, f"REVOKE CREATE ON SCHEMA public FROM {PLAIN_ROLE}")
    assert opens(database).users() == [ANN]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_keep_every_text_is_refused(
    postgresql: PostgresqlCluster, database: str, opens: Opens, encoding: str
) -> None:
    name = f"{name_of(database)}_{encoding.lower()}"
    with postgresql.as_superuser() as connection:
        connection.execute(
            f"CREATE DATABASE {name} OWNER {PLAIN_ROLE} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0".encode()
        )
    try:
        with pytest.raises(
            DatabaseRefused, match=rf"its encoding is {encoding}(.|\n)*ENCODING 'UTF8' TEMPLATE template0"
        ):
            opens(postgresql.address(name))
        assert tables_of(postgresql, postgresql.address(name)) == set()
    finally:
        postgresql.drop_database(name)


def test_the_encoding_of_the_client_is_ours(database: str, opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    storage = opens(database)
    storage.welcome(UserId("漢é"))
    assert storage.users() == ["漢é"]


def test_a_role_whose_row_level_security_is_off_is_refused(database: str, opens: Opens) -> None:
    with pytest.raises(DatabaseRefused, match="row_security is off"):
        opens(f"{database}&options=-crow_security%3Doff")


def test_the_command_says_in_a_sentence_why_it_does_not_start(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    read_only = f"{database}&options=-cdefault_transaction_read_only%3Don"
    assert main(["--port", "0", "--database", read_only]) == 1
    told = capsys.readouterr().err
    assert told.startswith("The database takes no writes.\n  why:  it is a standby")
    assert "Traceback" not in told


# A database that takes no writes any more.


@contextmanager
def standing_by(postgresql: PostgresqlCluster, database: str) -> Iterator[None]:
    """As after a fail-over: new connections, and no writes on them."""
    name = name_of(database)
    with postgresql.as_superuser() as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        yield
        connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())


def test_while_a_database_takes_no_writes_devices_wait_and_reading_goes_on(
    postgresql: PostgresqlCluster, database: str, opens: Opens
) -> None:
    storage = opens(database)
    storage.welcome(ANN)
    with standing_by(postgresql, database):
        for _ in range(2):
            with pytest.raises(DatabaseReadOnly):
                storage.write(ANN, one_more)
            with pytest.raises(DatabaseReadOnly):
                storage.cursor_key()
        assert storage.read(ANN, lambda stored: stored.tenant(ANN).head) == 0
    # Connections of then would take no writes for ever.
    with pytest.raises(DatabaseReadOnly):
        storage.write(ANN, one_more)
    assert storage.write(ANN, one_more) == 1


def test_a_server_whose_database_takes_no_writes_answers_503_and_says_so_to_who_runs_it(
    postgresql: PostgresqlCluster, database: str, tmp_path: Path
) -> None:
    with ServerProcess(tmp_path, "--operations-port", "0", database=database) as server:
        head = {"Authorization": f"Bearer {server.sign_in('ann')}"}

        def asked() -> httpx.Response:
            body = hello().model_dump(exclude_none=True)
            return httpx.post(f"{server.url}/v1/hello", json=body, headers=head, trust_env=False, timeout=60)

        def ready() -> tuple[int, str]:
            answer = httpx.get(f"{server.operations_url}/readyz", trust_env=False)
            return answer.status_code, answer.text

        with standing_by(postgresql, database):
            answer = asked()
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
            assert answer.headers["Retry-After"] == "10"
            assert ready() == (503, "the database takes no writes\n")
        until(lambda: ready() == (200, "ready\n"))
        assert asked().status_code == 200
