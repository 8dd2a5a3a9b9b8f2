"""What whoever runs the server sees on stderr: one line for what happened, why, and what to do."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CONNECTIONS_WAITING_MAX = 128


class CannotStart(Exception):
    """The server cannot begin. Its text says what, why and what to do."""

    def __init__(self, what: str, *, why: str, fix: str) -> None:
        super().__init__(f"{what}\n  why:  {why}\n  fix:  {fix}")


def listening(host: str, port: int) -> socket.socket:
    """A socket that waits for connections; port 0 is any free one. Raises CannotStart."""
    try:
        listener = socket.create_server((host, port), backlog=_CONNECTIONS_WAITING_MAX)
    except OSError as error:
        raise CannotStart(
            f"The server cannot listen on {host}, port {port}.",
            why=words_of(error),
            fix="Stop what listens there, or give another --port (--operations-port) or --host.",
        ) from error
    # Head and body of an answer are two writes: without this the second waits 40 ms for a delayed ACK.
    # asyncio sets it only where the socket names its protocol; accepted sockets inherit it from here.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def text_in(path: str, *, option: str) -> str:
    """The text of a file that an option names. Raises CannotStart."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = words_of(error) if isinstance(error, OSError) else "it is no UTF-8 text"
        raise CannotStart(f"The file of {option} cannot be read.", why=why, fix=f"Correct {option}.") from error


def words_of(error: OSError) -> str:
    """What the system says, without the file or address."""
    # The system's own words end with the address that stands in the sentence before.
    return (error.strerror or str(error)).partition(" (while ")[0]


def log_to_stderr() -> None:
    """What the server logs goes to stderr, one line each; also of requests that are cut off when it has to end."""
    logger = logging.getLogger("syncengine.server")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s:  %(message)s"))
        logger.addHandler(handler)
    logging.getLogger("uvicorn.error").addFilter(_in_one_line)


def _in_one_line(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError):
        record.exc_info = None
        record.msg = (
            "a request was cut off: it took longer than --stop-seconds-max after the server was told to stop. "
            "Nothing is lost: its device sends it again."
        )
    return True


@contextmanager
def tries_untold() -> Iterator[None]:
    """The pool's own lines about each try to connect are left out: the end tells why once."""
    pool = logging.getLogger("psycopg.pool")
    before, pool.disabled = pool.disabled, True
    try:
        yield
    finally:
        pool.disabled = before
