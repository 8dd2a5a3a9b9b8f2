"""The cloud's database in PostgreSQL, for several servers at once: each holds a few connections and nothing else."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg.errors import DeadlockDetected, SerializationFailure
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper
from psycopg_pool import ConnectionPool, PoolTimeout

from syncengine.clock import Clock, iso, system_random
from syncengine.errors import DatabaseRefused
from syncengine.server.postgresql_rows import PostgresqlTransaction, text_of
from syncengine.server.postgresql_schema import refuse_mighty_role, upgrade
from syncengine.server.storage import DatabaseFailed, DatabaseUnavailable, Made, Transaction, UserUnknown
from syncengine.server.stored_forms import Columns
from syncengine.vocabulary import UserId

CONNECTIONS_MAX = 10
"""Of one server process. PostgreSQL takes 100 of all (`max_connections`), unless its operator has said otherwise."""

CONNECTION_SECONDS_MAX = 5.0
"""To get a connection, from the pool or anew; then the request is answered with 503."""

IDLE_SECONDS_MAX = 300.0

ATTEMPTS_MAX = 12
"""Of one transaction that the database asks us to begin again; at twice the wait each, within `RETRY_WAIT_MS_MAX`."""

RETRY_WAIT_MS_MIN = 5
RETRY_WAIT_MS_MAX = 500

RECONNECTIONS_MAX = 2
"""Of one transaction whose connection was lost, as all are when PostgreSQL was started again."""

LINES = 256
"""In which users stand for writing, several to a line."""

Connection = psycopg.Connection[Columns]


class PostgresqlStorage:
    """A pool of connections to one database, which any number of servers may share."""

    def __init__(
        self,
        address: str,
        *,
        clock: Clock,
        chance: random.Random | None = None,
        connections_max: int = CONNECTIONS_MAX,
        editions: tuple[str, ...] | None = None,
    ) -> None:
        """Connect and bring the tables up to date; `editions` stands for our own in a test.

        `address` is what libpq takes: `postgresql://…`, with `PGPASSWORD`, `~/.pgpass` and the like beside it.

        Raises DatabaseUnavailable; DatabaseRefused for an address that is none, and for a role that row-level
        security does not hold; StoreSuperseded when a newer server wrote the database.
        """
        self._clock = clock
        self._chance = chance or system_random()
        self._lines = [threading.Lock() for _ in range(LINES)]
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            _checked(address),
            min_size=1,
            max_size=connections_max,
            timeout=CONNECTION_SECONDS_MAX,
            max_idle=IDLE_SECONDS_MAX,
            kwargs={"connect_timeout": int(CONNECTION_SECONDS_MAX), "application_name": "syncengine"},
            configure=_configured,
            name="cloud",
            open=False,
        )
        with _wrapped():
            try:
                self._pool.open(wait=True, timeout=CONNECTION_SECONDS_MAX)
                self._begin_life(editions)
            except BaseException:
                self._pool.close()
                raise

    def _begin_life(self, editions: tuple[str, ...] | None) -> None:
        with self._pool.connection() as connection:
            refuse_mighty_role(connection)
            upgrade(connection, editions=editions, cursor_key=f"{self._chance.getrandbits(256):064x}")

    def close(self) -> None:
        self._pool.close(timeout=CONNECTION_SECONDS_MAX)

    # Users.

    def cursor_key(self) -> bytes:
        def look(connection: Connection) -> str:
            key: str = connection.execute(text_of("cursor_key")).fetchall()[0][0]
            return key

        return bytes.fromhex(self._again(look))

    def welcome(self, user: UserId) -> None:
        def add(connection: Connection) -> None:
            connection.execute(text_of("be_tenant"), {"tenant": user})
            connection.execute(text_of("add_tenant"), {"tenant": user, "server_epoch": self._clock.now_ms()})

        self._again(add)

    def add_token(self, user: UserId, *, token_hash: str) -> None:
        def add(connection: Connection) -> None:
            now_ms = self._clock.now_ms()
            connection.execute(text_of("be_tenant"), {"tenant": user})
            connection.execute(text_of("hold_token"), {"token_hash": token_hash})
            connection.execute(text_of("add_tenant"), {"tenant": user, "server_epoch": now_ms})
            connection.execute(
                text_of("add_token"), {"tenant": user, "token_hash": token_hash, "created_at": iso(now_ms)}
            )

        self._again(add)

    def user_of_token(self, token_hash: str) -> UserId | None:
        """None also for a token that was given to two users: nobody can say whose it is."""

        def look(connection: Connection) -> list[Columns]:
            connection.execute(text_of("hold_token"), {"token_hash": token_hash})
            return connection.execute(text_of("tenant_of_token"), {"token_hash": token_hash}).fetchall()

        found = self._again(look)
        return UserId(found[0][0]) if len(found) == 1 else None

    def users(self) -> list[UserId]:
        def look(connection: Connection) -> list[Columns]:
            connection.execute(text_of("list_users"))
            return connection.execute(text_of("tenants")).fetchall()

        return [UserId(user) for (user,) in self._again(look)]

    # Transactions.

    def write(self, user: UserId, work: Callable[[Transaction], Made]) -> Made:
        def write(connection: Connection) -> Made:
            connection.execute(text_of("be_tenant"), {"tenant": user})
            if connection.execute(text_of("lock_tenant"), {"tenant": user}).fetchone() is None:
                raise UserUnknown
            return work(PostgresqlTransaction(connection, clock=self._clock, chance=self._chance))

        # Who waits for the same user's row waits here, and not with a connection that others could use.
        with self._lines[hash(user) % LINES]:
            return self._again(write)

    def read(self, user: UserId, work: Callable[[Transaction], Made]) -> Made:
        def read(connection: Connection) -> Made:
            connection.execute(text_of("be_tenant"), {"tenant": user})
            return work(PostgresqlTransaction(connection, clock=self._clock, chance=self._chance))

        return self._again(read, one_state=True)

    def _again(self, work: Callable[[Connection], Made], *, one_state: bool = False) -> Made:
        """What `work` makes in a transaction; begun again where the database asks for it or has let go of us.

        Beginning again is harmless also where a commit was done and its answer lost: everything that is written here
        looks first at what is there, and tells what it finds as it would a device that sends again.
        """
        reconnections = 0
        for attempt in range(ATTEMPTS_MAX):
            try:
                with _wrapped():
                    return self._once(work, one_state=one_state)
            except (SerializationFailure, DeadlockDetected):
                self._clock.pause(self._wait_ms(attempt))
            except ConnectionLost as lost:
                reconnections += 1
                if reconnections > RECONNECTIONS_MAX:
                    raise DatabaseUnavailable from lost
                self._pool.check()
        raise DatabaseUnavailable

    def _once(self, work: Callable[[Connection], Made], *, one_state: bool) -> Made:
        with self._pool.connection() as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ if one_state else None
            connection.read_only = one_state or None
            return work(connection)

    def _wait_ms(self, attempt: int) -> int:
        """Full jitter: those who met do not meet again."""
        return self._chance.randint(0, min(RETRY_WAIT_MS_MAX, RETRY_WAIT_MS_MIN << attempt))


class ConnectionLost(Exception):
    """A connection ended while a transaction was open on it."""


@contextmanager
def _wrapped() -> Iterator[None]:
    """The database's errors as ours, without its words, which may quote rows; what asks to be repeated stays."""
    try:
        yield
    except (SerializationFailure, DeadlockDetected):
        raise
    except PoolTimeout as error:
        raise DatabaseUnavailable from error
    except psycopg.OperationalError as error:
        raise ConnectionLost from error
    except psycopg.Error as error:
        raise DatabaseFailed(error.sqlstate or "", kind=type(error).__name__) from None


def _checked(address: str) -> str:
    """Raises DatabaseRefused; the address may hold a password, so nothing of it is told."""
    try:
        psycopg.conninfo.conninfo_to_dict(address)
    except psycopg.ProgrammingError:
        raise DatabaseRefused(
            "The address of the database cannot be read.",
            why="it is not like postgresql://user@host:5432/name",
            fix="Correct --database; special letters in a name or password are written like %40.",
        ) from None
    return address


def _configured(connection: Connection) -> None:
    """Whole numbers always as 64 bit: as psycopg picks their sizes, each mixture would be another statement."""
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_dumper(int, Int8BinaryDumper)
