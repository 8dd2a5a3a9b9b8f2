"""One store: its writer connection, the lock around it, and the ways in."""

from __future__ import annotations

import os
from threading import RLock

import apsw

from syncengine.errors import (
    COPY_FIRST,
    DiskFull,
    EngineClosed,
    ForkedEngine,
    StoreDamaged,
    StoreReplaced,
    StoreSuperseded,
    StoreUnknown,
    StoreUnusable,
)
from syncengine.local.connection import close_untouched, create_private, open_reader, open_store
from syncengine.local.engine_tables import (
    UPGRADES,
    claim_for_app,
    examined,
    refuse_another_app,
    upgrade_engine_tables,
)
from syncengine.local.open_files import claim_file, release_file
from syncengine.local.savepoint import Savepoint, Transaction, WithoutTriggers, raise_translated
from syncengine.local.statements import statement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from random import Random
    from typing import Any

    from syncengine.clock import Clock
    from syncengine.errors import ShapeDrifted, SyncEngineError
    from syncengine.local.read_only import ReadOnlyReason
    from syncengine.settings import Settings
    from syncengine.vocabulary import SchemaVersion

    Row = tuple[Any, ...]


class Store:
    """An open store. All threads of the process share its one writer connection, one at a time.

    Opening creates the file (0600) and the engine's tables where they are missing. A store that must not be written
    is opened for reading and says why in `read_only`: it is damaged, newer than this engine, of a version that
    `judge` refuses, or in a place that takes no writes. Nothing is then written to it, also not at its close.
    A new store gets a device id from `chance`.
    Raises StoreForeign for what is no store of this `app`, StoreBusy, PragmaRefused, StoreAlreadyOpen when this
    process has the same file open already, and StoreUnusable or DiskFull where there is nothing to read yet.
    """

    def __init__(
        self,
        path: str,
        *,
        settings: Settings,
        clock: Clock,
        app: str | None = None,
        judge: Callable[[dict[str, SchemaVersion]], None] = lambda _: None,
        chance: Random | None = None,
    ) -> None:
        self.path = os.path.realpath(path)
        self.settings = settings
        self.clock = clock
        self.synchronous = {"normal": "NORMAL", "full": "FULL"}[settings.durability]
        self.lock = RLock()
        self.migrating = RLock()
        """Held while a migration runs that takes many transactions."""
        self.is_migrating = False
        self.long_waits = 0
        """How many blocks of this process wait long for the write lock now."""
        self.zeroing = 0
        """How many blocks of this process want zeros written over what is deleted."""
        self._pid = os.getpid()
        self._closed = False
        self.committing = False
        self.app_blocks: list[Any] = []
        """The blocks of `engine.write()` that are open, outermost first."""
        self.read_only: ReadOnlyReason | None = None
        """Why nothing can be written, or None."""
        self.drifted: dict[str, ShapeDrifted] = {}
        """The collections whose tables are not as their migrations made them."""
        self.schema_in_order = -1
        """SQLite's number of the schema in which every edit was last found to be captured."""
        self.loose_tables: tuple[int, tuple[Any, ...]] | None = None
        """By that number: tables of collections in which two rows of a user may have one key."""
        self.say: Callable[[str], None] = lambda _: None
        """Hears a sentence for the app's user about what was put right."""
        self._app = app
        self._judge = judge
        self._chance = chance
        create_private(path)  # by the given name: a link that leads nowhere is refused
        # Before SQLite sees the file: through a hard link it would not find the -wal of the other name.
        self._identity = claim_file(self.path)
        try:
            self.connection: apsw.Connection = self._open()
        except BaseException:
            release_file(self._identity)
            raise

    def _open(self) -> apsw.Connection:
        try:
            self._open_for_writing()
        except (StoreSuperseded, StoreUnknown, StoreDamaged, StoreUnusable, DiskFull) as error:
            if not os.stat(self.path).st_size:
                raise
            from syncengine.local.read_only import open_looking, reason_of

            self.connection = open_looking(self.path, busy_wait_ms=self.settings.busy_wait_ms_max, is_lasting=True)
            self.read_only = reason_of(error)
        return self.connection

    def _open_for_writing(self) -> None:
        self.connection = open_store(
            self.path,
            busy_wait_ms=self.settings.busy_wait_ms_max,
            synchronous=self.synchronous,
            clock=self.clock,
            examine=self._examine,
        )
        try:
            if self.facts.edition < len(UPGRADES):
                upgrade_engine_tables(self, chance=self._chance)
            if self._app is not None and self.facts.app is None:
                claim_for_app(self, self._app)
        except BaseException:
            close_untouched(self.connection, self.path)
            raise
        self.connection.set_commit_hook(self._refuses_commit)

    def _examine(self, connection: apsw.Connection) -> None:
        self.facts = examined(connection)
        refuse_another_app(self.facts.app, self._app)
        self._judge(self.facts.versions)

    def _refuses_commit(self) -> bool:
        """Only `Transaction` commits: not code that got hold of the connection, and not a forked child."""
        return not self.committing or os.getpid() != self._pid

    def check_file(self) -> None:
        """Raises StoreReplaced when the file of this name is another one now, or none: writes would go nowhere."""
        try:
            found = os.stat(self.path)
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._identity:
            raise StoreReplaced(
                "The store's file was deleted or replaced while it was open.",
                why="what is written now would be in a file that nobody can open any more",
                fix="Close the engine and open it again. To bring back a backup, close every engine first.",
            )

    def transaction(self, *, durable: bool = False, undo_in_memory: bool = False) -> Transaction:
        """`with store.transaction():` one atomic change; see `Transaction`. Raises as `check_writable`."""
        self.check_writable()
        return Transaction(self, durable=durable, undo_in_memory=undo_in_memory)

    def in_transaction_here(self) -> bool:
        """True inside a transaction that this very thread has open. Never waits."""
        if not self.lock.acquire(blocking=False):
            return False
        try:
            return self.is_usable and self.connection.in_transaction
        finally:
            self.lock.release()

    def savepoint(self, name: str) -> Savepoint:
        """`with store.savepoint("batch_12"):` a part of it that can be undone alone; see `Savepoint`."""
        return Savepoint(self, name=name)

    def without_triggers(self) -> WithoutTriggers:
        """`with store.without_triggers():` no trigger fires on this connection during the block."""
        return WithoutTriggers(self)

    def run(self, file: str, name: str, /, **values: Any) -> int:
        """Execute a named statement that writes; how many rows it changed. Only inside a transaction."""
        with self.lock:
            self.check_usable()
            if not self.connection.in_transaction:
                raise AssertionError("what the engine writes, it writes inside a transaction")
            try:
                self.connection.execute(statement(file, name), values).fetchall()
            except (apsw.CorruptError, apsw.NotADBError) as error:
                self.note_damage(error)
                raise
            return self.connection.changes()

    def run_many(self, file: str, name: str, /, values: Iterable[tuple[Any, ...]]) -> None:
        """Execute a named statement that writes once for each of the values, which stand in the order of their names
        in the statement. Only inside a transaction."""
        with self.lock:
            self.check_usable()
            if not self.connection.in_transaction:
                raise AssertionError("what the engine writes, it writes inside a transaction")
            try:
                self.connection.executemany(statement(file, name), values).fetchall()
            except (apsw.CorruptError, apsw.NotADBError) as error:
                self.note_damage(error)
                raise

    def rows(self, file: str, name: str, /, **values: Any) -> list[Row]:
        """All rows of a named statement. Raises StoreDamaged where the engine's tables are not what it asks."""
        try:
            return self.query(statement(file, name), values)
        except apsw.SQLError as error:
            raise self.note_damage(error, why=str(error)) from error

    def row(self, file: str, name: str, /, **values: Any) -> Row | None:
        """The first row of a named statement, or None."""
        found = self.rows(file, name, **values)
        return found[0] if found else None

    def value(self, file: str, name: str, /, **values: Any) -> Any:
        """The first column of the first row, or None."""
        found = self.row(file, name, **values)
        return found[0] if found else None

    def query(self, sql: str, values: Mapping[str, Any] | tuple[Any, ...] = ()) -> list[Row]:
        """All rows of a statement that names come into; identifiers through `quoted()` only.

        Raises StoreBusy, StoreDamaged, and TextUnreadable for text that is no UTF-8.
        """
        with self.lock:
            self.check_usable()
            try:
                return self.connection.execute(sql, values).fetchall()
            except (apsw.CorruptError, apsw.NotADBError) as error:
                raise self.note_damage(error) from error
            except apsw.Error as error:
                raise_translated(error)
            except UnicodeDecodeError:
                from syncengine.local.stored import text_unreadable

                unreadable = text_unreadable()
        raise unreadable  # outside: a UnicodeDecodeError holds the text itself, so it is not kept as the cause

    def shapes_are_known(self) -> bool:
        """Is the schema the one that was last found right, or has no table been recorded yet?"""
        if self.facts.schema_cookie == str(self.value("opening", "cookie")):
            return True
        return not self.value("opening", "has_collections")

    def schema_number(self) -> int:
        """Another one after each change of the schema, by whatever program."""
        return int(self.query("PRAGMA schema_version")[0][0])

    def refuse_writes(self, reason: SyncEngineError) -> None:
        """From now on it can only be read, for this reason; an earlier one stays."""
        from syncengine.local.read_only import reason_of

        self.read_only = self.read_only or reason_of(reason)

    def note_damage(self, error: Exception, *, why: str = "") -> StoreDamaged:
        """The damage as an error; from here on nothing is written, as a page that is wrong makes others wrong."""
        damaged = StoreDamaged(
            "SQLite reports damage in the store.",
            why=why or type(error).__name__,
            fix=COPY_FIRST,
        )
        self.refuse_writes(damaged)
        return damaged

    def reader(self) -> apsw.Connection:
        """A new connection that cannot write; the caller closes it."""
        self.check_usable()
        self.check_file()
        try:
            if self.read_only is not None:
                from syncengine.local.read_only import open_looking

                return open_looking(self.path, busy_wait_ms=self.settings.busy_wait_ms_max)
            return open_reader(self.path, busy_wait_ms=self.settings.busy_wait_ms_max)
        except apsw.Error as error:
            raise_translated(error)

    def has_dangling_references(self) -> bool:
        """Would a COMMIT now fail, because a row refers to one that is not there? For deferred foreign keys."""
        return bool(self.connection.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0])

    def data_version(self) -> int:
        """A number that changes when another process has committed."""
        return int(self.query("PRAGMA data_version")[0][0])

    @property
    def is_usable(self) -> bool:
        """Open, and in the process that opened it."""
        return not self._closed and os.getpid() == self._pid

    def check_usable(self) -> None:
        """Raises EngineClosed, or ForkedEngine in a child process: SQLite's locks do not survive a fork."""
        if self._closed:
            raise EngineClosed("The store is closed.", fix="Open the engine again; nothing is lost.")
        if os.getpid() != self._pid:
            raise ForkedEngine(
                "A forked process used a store that its parent opened.",
                why="SQLite's locks belong to the process, so commits of the child would be lost",
                fix='Start the other process anew (subprocess, or multiprocessing "spawn") and open an engine there.',
            )

    def check_writable(self) -> None:
        """Raises what `check_usable` does, and the reason of a store that is open for reading only."""
        self.check_usable()
        if self.read_only is not None:
            raise self.read_only.as_error()

    def close(self) -> None:
        """Close the file; safe to repeat. In a forked child it closes nothing."""
        if os.getpid() != self._pid:
            return  # and never wait for the lock, which a thread of the parent may have held
        with self.lock:
            if self._closed:
                return
            self._closed = True
            if self.read_only is None:
                self.connection.close(True)
            else:
                close_untouched(self.connection, self.path)
            release_file(self._identity)

    def __del__(self) -> None:
        # An engine that was dropped without close(): the same process may open its file again.
        if getattr(self, "connection", None) is not None and not self._closed and os.getpid() == self._pid:
            release_file(self._identity)
