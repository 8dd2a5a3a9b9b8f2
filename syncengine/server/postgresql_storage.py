"""The cloud's database in PostgreSQL, for several servers at once: each holds a few connections and nothing else."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg.errors import (
    DeadlockDetected,
    IdleInTransactionSessionTimeout,
    LockNotAvailable,
    QueryCanceled,
    ReadOnlySqlTransaction,
    SerializationFailure,
)
from psycopg_pool import PoolTimeout

from syncengine.clock import Clock, iso, system_random
from syncengine.local.identifiers import quoted
from syncengine.server.lines import Lines
from syncengine.server.postgresql_connections import (
    CONNECTION_SECONDS_MAX,
    WAITS,
    NoAnswer,
    Watch,
    pool_at,
)
from syncengine.server.postgresql_rows import PostgresqlTransaction, text_of
from syncengine.server.postgresql_schema import our_editions, refuse_unfit, schema_of, upgrade
from syncengine.server.storage import (
    DatabaseBusy,
    DatabaseFailed,
    DatabaseReadOnly,
    DatabaseUnavailable,
    Made,
    Transaction,
    UserUnknown,
    refuse_newer,
)
from syncengine.server.stored_forms import Columns
from syncengine.vocabulary import UserId

CONNECTIONS_MAX = 10
"""Of one server process. PostgreSQL takes 100 of all (`max_connections`), unless its operator has said otherwise."""

ATTEMPTS_MAX = 12
"""Of one transaction that the database asks us to begin again; at twice the wait each, within `RETRY_WAIT_MS_MAX`."""

RETRY_WAIT_MS_MIN = 5
RETRY_WAIT_MS_MAX = 500

RECONNECTIONS_MAX = 2
"""Of one transaction whose connection was lost, as all are when PostgreSQL was started again."""

CUT_OFF_SECONDS_MAX = 1.0
"""For the pool's own threads, which may hang as well."""

NOBODY = UserId("")

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
        self._lines = Lines()
        self._watch = Watch(clock=clock)
        self._is_cut_off = False
        self._begin: dict[str, str] = {}
        self._editions = editions or our_editions()
        self._pool = pool_at(address, connections_max=connections_max)
        try:
            self._open(address)
            self._begin_life()
        except ConnectionLost as error:
            self._pool.close()
            raise DatabaseUnavailable from error
        except BaseException:
            self._pool.close()
            raise
        self._watch.start()

    def _open(self, address: str) -> None:
        try:
            self._pool.open(wait=True, timeout=CONNECTION_SECONDS_MAX)
        except PoolTimeout as error:
            raise DatabaseUnavailable(_why_not(address)) from error

    def _begin_life(self) -> None:
        with _wrapped(), self._pool.connection() as connection:
            refuse_unfit(connection)
            schema = schema_of(connection)
            cursor_key = f"{self._chance.getrandbits(256):064x}"
            upgrade(connection, schema=schema, editions=self._editions, cursor_key=cursor_key)
        self._begin = {"schema": quoted(schema), **WAITS}

    def close(self) -> None:
        self._pool.close(timeout=CONNECTION_SECONDS_MAX)
        self._watch.stop()

    def cut_off(self) -> None:
        self._is_cut_off = True
        self._watch.cut_all()
        self._pool.close(timeout=CUT_OFF_SECONDS_MAX)

    # Users.

    def cursor_key(self) -> bytes:
        def look(connection: Connection) -> str:
            key: str
            key, takes_no_writes, edition = connection.execute(text_of("cursor_key")).fetchall()[0]
            refuse_newer(edition, known=len(self._editions))
            if takes_no_writes:
                raise ReadOnlySqlTransaction
            return key

        return bytes.fromhex(self._again(look))

    def welcome(self, user: UserId) -> None:
        def add(connection: Connection) -> None:
            connection.execute(text_of("add_tenant"), {"tenant": user, "server_epoch": self._clock.now_ms()})

        self._again(add, user=user)

    def add_token(self, user: UserId, *, token_hash: str) -> None:
        def add(connection: Connection) -> None:
            now_ms = self._clock.now_ms()
            connection.execute(text_of("add_tenant"), {"tenant": user, "server_epoch": now_ms})
            connection.execute(
                text_of("add_token"), {"tenant": user, "token_hash": token_hash, "created_at": iso(now_ms)}
            )

        self._again(add, user=user, token_hash=token_hash)

    def user_of_token(self, token_hash: str) -> UserId | None:
        """None also for a token that was given to two users: nobody can say whose it is."""

        def look(connection: Connection) -> list[Columns]:
            return connection.execute(text_of("tenant_of_token"), {"token_hash": token_hash}).fetchall()

        found = self._again(look, token_hash=token_hash)
        return UserId(found[0][0]) if len(found) == 1 else None

    def users(self) -> list[UserId]:
        def look(connection: Connection) -> list[Columns]:
            connection.execute(text_of("list_users"))
            return connection.execute(text_of("tenants")).fetchall()

        return [UserId(user) for (user,) in self._again(look)]

    # Transactions.

    def write(self, user: UserId, work: Callable[[Transaction], Made]) -> Made:
        def write(connection: Connection) -> Made:
            found = connection.execute(text_of("lock_tenant"), {"tenant": user}).fetchone()
            if found is None:
                raise UserUnknown
            _, edition = found
            refuse_newer(edition, known=len(self._editions))
            return work(PostgresqlTransaction(connection, clock=self._clock, chance=self._chance))

        # Who waits for the same user's row waits here, and not with a connection that others could use.
        with self._lines.turn(user):
            return self._again(write, user=user)

    def read(self, user: UserId, work: Callable[[Transaction], Made]) -> Made:
        def read(connection: Connection) -> Made:
            return work(PostgresqlTransaction(connection, clock=self._clock, chance=self._chance))

        return self._again(read, user=user, one_state=True)

    def _again(
        self,
        work: Callable[[Connection], Made],
        *,
        user: UserId = NOBODY,
        token_hash: str = "",
        one_state: bool = False,
    ) -> Made:
        """What `work` makes in a transaction; begun again where the database asks for it or has let go of us.

        Beginning again is harmless also where a commit was done and its answer lost: everything that is written here
        looks first at what is there, and tells what it finds as it would a device that sends again.
        """
        begin = {**self._begin, "tenant": user, "token_hash": token_hash}
        reconnections = 0
        for attempt in range(ATTEMPTS_MAX):
            if self._is_cut_off:
                break
            try:
                with _wrapped():
                    return self._once(work, begin=begin, one_state=one_state)
            except (SerializationFailure, DeadlockDetected):
                self._clock.pause(self._wait_ms(attempt))
            except NoAnswer as error:
                self._pool.drain()
                raise DatabaseUnavailable from error
            except DatabaseReadOnly:
                self._pool.drain()
                raise
            except ConnectionLost as lost:
                self._pool.drain()
                reconnections += 1
                if reconnections > RECONNECTIONS_MAX:
                    raise DatabaseUnavailable from lost
        raise DatabaseUnavailable

    def _once(self, work: Callable[[Connection], Made], *, begin: dict[str, str], one_state: bool) -> Made:
        with self._pool.connection() as connection, self._watch.over(connection):
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ if one_state else None
            connection.read_only = one_state or None
            connection.execute(text_of("begin_work"), begin)
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
    except LockNotAvailable as error:
        raise DatabaseBusy from error
    except ReadOnlySqlTransaction as error:
        raise DatabaseReadOnly from error
    except (PoolTimeout, QueryCanceled) as error:
        raise DatabaseUnavailable from error
    except (psycopg.OperationalError, IdleInTransactionSessionTimeout) as error:
        raise ConnectionLost from error
    except psycopg.Error as error:
        raise DatabaseFailed(error.sqlstate or "", kind=type(error).__name__) from None


def _why_not(address: str) -> str | None:
    """What PostgreSQL, or the way to it, says to one more try; it never repeats a password."""
    try:
        psycopg.connect(address, connect_timeout=int(CONNECTION_SECONDS_MAX)).close()
    except psycopg.OperationalError as error:
        return str(error).partition("\n")[0].removeprefix("connection failed: ")
    return None
