"""All or nothing: `transaction()` around, `savepoint()` inside. The only file that says BEGIN or COMMIT.

An outermost SAVEPOINT would begin a deferred transaction, and one that reads and then writes fails at once with
SQLITE_BUSY_SNAPSHOT however long it may wait (sqlite.org/rescode.html#busy_snapshot). So writes begin with
BEGIN IMMEDIATE, and savepoints live only inside.
"""

from __future__ import annotations

from threading import RLock

import apsw

from syncengine.errors import (
    COPY_FIRST,
    DiskFull,
    EngineClosed,
    StoreBusy,
    StoreDamaged,
    StoreUnusable,
    SyncEngineError,
    TransactionEnded,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import NoReturn

    from syncengine.local.store import Store


class Transaction:
    """`with store.transaction():` commits at the end, or rolls back whole when an exception passes.

    Inside another transaction of the same store it joins that one: the outer end decides.
    `durable` means that the commit has reached the disk before the block ends, whatever the store's setting.
    `undo_in_memory`: what SQLite keeps to undo a statement by, a copy of each page that it changes, never goes to a
    file of its own, however much it is; for those whose statements are of a bounded size.
    """

    def __init__(self, store: Store, *, durable: bool, undo_in_memory: bool = False) -> None:
        self._store = store
        self._durable = durable
        self._undo_in_memory = undo_in_memory
        self._outermost = False

    def __enter__(self) -> None:
        store = self._store
        store.lock.acquire()
        try:
            store.check_usable()
            self._outermost = not store.connection.in_transaction
            if self._outermost:
                self._begin()
        except BaseException:
            store.lock.release()
            raise

    def _begin(self) -> None:
        connection = self._store.connection
        self._store.check_file()
        try:
            if self._durable:
                # Only possible outside a transaction, which is where we are.
                connection.execute("PRAGMA synchronous = FULL")
            if self._undo_in_memory:
                connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            self._restore_settings()
            raise_translated(error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._outermost:
                self._end(failed=error is not None)
        finally:
            self._release()
        if isinstance(error, apsw.Error):
            better = translated(error)
            if better is not error:
                raise better from error

    def _end(self, *, failed: bool) -> None:
        if not failed:
            self._store.check_usable()
        if not self._store.is_usable:
            return  # closed inside the block, or a forked child: nothing here is ours to end
        connection = self._store.connection
        try:
            if not failed:
                self._commit(connection)
        except apsw.Error as error:
            raise_translated(error)
        finally:
            self._leave(connection)

    def _leave(self, connection: apsw.Connection) -> None:
        try:
            # A failed COMMIT, a full disk or an interrupt may or may not have rolled back already.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._restore_settings()
        except apsw.Error as error:
            raise_translated(error)  # the disk that failed fails here, too

    def _release(self) -> None:
        try:
            self._store.lock.release()
        except RuntimeError:
            # Begun in another thread, which cannot give it back any more: whoever comes next gets a new lock.
            self._store.lock = RLock()

    def _commit(self, connection: apsw.Connection) -> None:
        if not connection.in_transaction:
            raise TransactionEnded(
                "The transaction had ended before its block did.",
                why="SQLite rolled it back: INSERT OR ROLLBACK, RAISE(ROLLBACK), a full disk or an interrupt",
                fix="Nothing of the block was kept. Let the error that ended it pass.",
            )
        self._store.committing = True
        try:
            connection.execute("COMMIT")
        finally:
            self._store.committing = False

    def _restore_settings(self) -> None:
        if self._durable:
            self._store.connection.execute(f"PRAGMA synchronous = {self._store.synchronous}")
        if self._undo_in_memory:
            self._store.connection.execute("PRAGMA temp_store = DEFAULT")


class WithoutTriggers:
    """For changes of the engine's own to the app's rows."""

    def __init__(self, store: Store) -> None:
        self._connection = store.connection

    def __enter__(self) -> None:
        self._connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)

    def __exit__(self, *_: object) -> None:
        self._connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 1)


class Savepoint:
    """`with store.savepoint("batch_12"):` inside a transaction: an exception undoes this block and passes on."""

    def __init__(self, store: Store, *, name: str) -> None:
        self._store = store
        self._connection = store.connection
        self._quoted = '"' + name.replace('"', '""') + '"'

    def __enter__(self) -> None:
        if not self._connection.in_transaction:
            raise AssertionError("a savepoint lives inside a transaction")
        self._connection.execute(f"SAVEPOINT {self._quoted}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._store.is_usable:
            return
        # Gone already when SQLite itself rolled the transaction back (disk full, RAISE(ROLLBACK)).
        if not self._connection.in_transaction:
            return
        if error is not None:
            self._connection.execute(f"ROLLBACK TO {self._quoted}")
        self._connection.execute(f"RELEASE {self._quoted}")


def raise_translated(error: apsw.Error) -> NoReturn:
    """Raise the engine's error with SQLite's as its cause, or SQLite's where we have no better words."""
    better = translated(error)
    if better is error:
        raise error
    raise better from error


def translated(error: apsw.Error) -> Exception:
    """The engine's error for what SQLite said; the same error again where we have no better words."""
    family: type[SyncEngineError]
    if isinstance(error, apsw.BusyError):
        family, what = StoreBusy, "Another process held the store's write lock for too long."
        fix = "Nothing was changed; try again."
    elif isinstance(error, apsw.FullError):
        family, what = DiskFull, "The disk is full."
        fix = "The transaction was rolled back whole. Free some space and try again."
    elif isinstance(error, apsw.CorruptError | apsw.NotADBError):
        family, what = StoreDamaged, "SQLite reports damage in the store."
        fix = COPY_FIRST
    elif isinstance(error, apsw.ReadOnlyError | apsw.CantOpenError | apsw.IOError | apsw.ProtocolError):
        family, what = StoreUnusable, "The store's file cannot be read or written."
        fix = "Nothing was lost. Look at the disk's space, the file's owner and mode, and its -wal and -shm."
    elif isinstance(error, apsw.ConnectionClosedError):
        family, what = EngineClosed, "The connection of this block is closed."
        fix = "Use what `engine.read()` and `engine.write()` give only inside their block."
    else:
        return error
    return family(what, why=type(error).__name__, fix=fix)
