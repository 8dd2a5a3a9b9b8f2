"""What is done about a failure: one table from the error's class to one of four ways."""

import errno
from enum import StrEnum
from typing import TYPE_CHECKING

from syncengine.errors import (
    DiskFull,
    OtherUsersRowsChanged,
    ReconciliationFailed,
    StoreDamaged,
    StoreReplaced,
    StoreUnusable,
    SyncEngineError,
    TextUnreadable,
    WillRetry,
)
from syncengine.local.sqlite_errors import (
    BusyError,
    ConstraintError,
    CorruptError,
    FullError,
    InterruptError,
    IOError,  # noqa: A004
    MismatchError,
    NoMemError,
    NotADBError,
    ReadOnlyError,
    SqliteError,
)
from syncengine.migrate.definition import Quarantine

if TYPE_CHECKING:
    import random

    from syncengine.settings import Settings

DOUBLINGS_MAX = 32


class Kind(StrEnum):
    """What a failure calls for."""

    TRANSIENT = "transient"
    """It passes by itself: the migration is rolled back to its start, and begun again after a wait."""
    DATA = "data"
    """This row's fault: a repair rule is tried, else it goes to quarantine; the others go on."""
    CODE = "code"
    """The migration's: in the conversion of a row as if it were the row's, elsewhere it is rolled back."""
    CRITICAL = "critical"
    """The machine's or the store's: rolled back, never tried again by itself; nobody judges a row by it."""


_KINDS: tuple[tuple[tuple[type[Exception], ...], Kind], ...] = (
    # The first that fits counts: WillRetry before its base, what SQLite says by its class before SqliteError.
    ((WillRetry, BusyError), Kind.TRANSIENT),
    # What an executor asked for an answer, and did not get one in time.
    ((ConnectionError, TimeoutError, InterruptedError, BlockingIOError), Kind.TRANSIENT),
    # Some row's text, that a conversion asked for; of the engine's own tables it stands in front of any run.
    ((TextUnreadable,), Kind.DATA),
    ((DiskFull, StoreDamaged, StoreReplaced, StoreUnusable, ReconciliationFailed), Kind.CRITICAL),
    ((OtherUsersRowsChanged,), Kind.CRITICAL),
    ((FullError, CorruptError, NotADBError, IOError, ReadOnlyError, NoMemError, InterruptError), Kind.CRITICAL),
    ((MemoryError,), Kind.CRITICAL),
    ((Quarantine, ConstraintError, MismatchError), Kind.DATA),
)

_MACHINE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""Errors of the operating system that no row can be blamed for."""


def kind_of(error: BaseException) -> Kind:
    """The way that the table names for this error."""
    for classes, kind in _KINDS:
        if isinstance(error, classes):
            return kind
    if isinstance(error, OSError) and error.errno in _MACHINE:
        return Kind.CRITICAL
    return Kind.DATA if _is_of_a_model(error) else Kind.CODE


def _is_of_a_model(error: BaseException) -> bool:
    from pydantic import ValidationError  # whoever only looks how far a migration is needs no models

    return isinstance(error, ValidationError)


def is_of_a_row(error: Exception) -> bool:
    """May a row be set aside for it? Errors of the engine and of SQLite that are not listed stop the run."""
    kind = kind_of(error)
    if kind is Kind.CODE:
        return not isinstance(error, SqliteError | SyncEngineError)
    return kind is Kind.DATA


def wait_before_retry_ms(retry: int, *, chance: "random.Random", settings: "Settings") -> int:
    """The wait before the first, second, ... retry: full jitter under a ceiling that doubles.

    At least 0, at most `transient_wait_ms_max` (Marc Brooker, "Exponential Backoff And Jitter", AWS, 2015).
    """
    doublings = min(max(retry - 1, 0), DOUBLINGS_MAX)
    ceiling_ms = min(settings.transient_wait_ms_min * 2**doublings, settings.transient_wait_ms_max)
    return chance.randint(0, ceiling_ms)
