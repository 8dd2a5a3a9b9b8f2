"""Connections to PostgreSQL that end when nothing is heard on them, whatever the network makes of that."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper
from psycopg_pool import ConnectionPool

from syncengine.clock import Clock
from syncengine.errors import DatabaseRefused
from syncengine.server.stored_forms import Columns

CONNECTION_SECONDS_MAX = 5.0
"""To get a connection, from the pool or anew; then the request is answered with 503."""

IDLE_SECONDS_MAX = 300.0

WAITS = {
    "lock_timeout": "5000",
    "statement_timeout": "20000",
    "idle_in_transaction_session_timeout": "10000",
}
"""In milliseconds, as PostgreSQL's settings of these names: how long one transaction may hold up the others."""

SILENT_MS_MAX = 30_000
"""Between two statements of a transaction, the database's time and ours. Beyond it the connection is dead: a database
that is there ends a statement, and a transaction that does nothing, before that (`WAITS`)."""

LOOK_EVERY_MS = 1_000

KEPT_ALIVE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}
"""So a machine that is gone without a word is noticed within half a minute; an address may say otherwise."""


class WatchedConnection(psycopg.Connection[Columns]):
    """Counts what it asks, so that somebody else can see whether it goes on."""

    asked = 0
    is_cut = False

    def execute(self, *arguments: Any, **named: Any) -> psycopg.Cursor[Columns]:
        self.asked += 1
        return super().execute(*arguments, **named)


Pool = ConnectionPool[WatchedConnection]


class NoAnswer(Exception):
    """A connection was cut, because the database was silent on it or the server ends."""


def pool_at(address: str, *, connections_max: int) -> Pool:
    """Not open yet. Raises DatabaseRefused for an address that is none."""
    said = _parsed(address)
    return ConnectionPool(
        address,
        connection_class=WatchedConnection,
        min_size=1,
        max_size=connections_max,
        timeout=CONNECTION_SECONDS_MAX,
        max_idle=IDLE_SECONDS_MAX,
        kwargs={
            **{name: value for name, value in KEPT_ALIVE.items() if name not in said},
            "connect_timeout": int(CONNECTION_SECONDS_MAX),
            "application_name": "syncengine",
            "client_encoding": "UTF8",  # whatever PGCLIENTENCODING says
        },
        configure=_configured,
        name="cloud",
        open=False,
    )


def _parsed(address: str) -> dict[str, Any]:
    """Raises DatabaseRefused; the address may hold a password, so nothing of it is told."""
    try:
        return psycopg.conninfo.conninfo_to_dict(address)
    except (psycopg.ProgrammingError, UnicodeEncodeError):
        raise DatabaseRefused(
            "The address of the database cannot be read.",
            why="it is not like postgresql://user@host:5432/name",
            fix="Correct --database; special letters in a name or password are written like %40.",
        ) from None


def _configured(connection: psycopg.Connection[Columns]) -> None:
    """Whole numbers always as 64 bit: as psycopg picks their sizes, each mixture would be another statement."""
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_dumper(int, Int8BinaryDumper)


class Watch:
    """Looks at the connections at work once a second, on a thread of its own, and cuts those that hang."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._at_work: dict[WatchedConnection, tuple[int, int]] = {}
        """How much each had asked when it was seen to go on, and when that was."""
        self._change = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="database watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    @contextmanager
    def over(self, connection: WatchedConnection) -> Iterator[None]:
        """One transaction, up to the end of its commit. Raises NoAnswer where the connection was cut meanwhile."""
        self._at_work[connection] = (-1, 0)
        try:
            yield
            connection.commit()
        except BaseException as error:
            with suppress(psycopg.Error):
                connection.rollback()
            if connection.is_cut:
                raise NoAnswer from error
            raise
        finally:
            with self._change:
                del self._at_work[connection]

    def cut_all(self) -> None:
        """No transaction at work is heard of any more; the database undoes it, unless it has just committed."""
        with self._change:
            for connection in list(self._at_work):
                _cut(connection)

    def _look_on(self) -> None:
        while not self._clock.wait(self._stop, LOOK_EVERY_MS):
            self._look(self._clock.monotonic_ms())

    def _look(self, now_ms: int) -> None:
        with self._change:
            for connection, (asked, since_ms) in list(self._at_work.items()):
                if connection.asked != asked:
                    self._at_work[connection] = (connection.asked, now_ms)
                elif now_ms - since_ms > SILENT_MS_MAX:
                    _cut(connection)


def _cut(connection: WatchedConnection) -> None:
    """Who waits at the socket is woken, as by an end of the other side; closing it is left to its owner."""
    connection.is_cut = True
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
