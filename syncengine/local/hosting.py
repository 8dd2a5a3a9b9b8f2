"""How an app reads and writes its own rows: a sqlite_utils.Database on the engine's terms."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any

import apsw

from syncengine.errors import CalledFromInside, GroupTooLarge, MigrationDenied
from syncengine.local.authorizer import (
    AUTHORIZED,
    READING,
    authorized,
    authorized_app,
    end_app,
    everything_of_the_app,
    guarded_database,
    table_of,
)
from syncengine.local.bars import Bars
from syncengine.local.savepoint import raise_translated
from syncengine.local.sqlite_errors import CantOpenError, CorruptError, IOError, NotADBError, ReadOnlyError, SQLError  # noqa: A004
from syncengine.local.sqlite_utils_adapter import utils_database
from syncengine.local.statements import statement

if TYPE_CHECKING:
    import sqlite_utils
    from apsw import Connection

    from syncengine.local.store import Store
    from syncengine.local.version_table import Readable

NO_MORE_FILES = "too many attached databases"
"""SQLite's words for its limit: sqlite.org/limits.html."""

Check = Callable[["Readable"], Bars | None]
"""Gets the moment of the store that the block sees; None bars nothing."""


class Moment:
    """The store as one read transaction sees it."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    def rows(self, file: str, name: str, /, **values: Any) -> list[tuple[Any, ...]]:
        """All rows of a named statement."""
        return self._connection.execute(statement(file, name), values).fetchall()


@contextmanager
def reading(store: "Store", *, check: Check) -> Iterator["sqlite_utils.Database"]:
    """One moment of the store, for reading only, on a connection of its own; writers are not held out.

    `check` looks at this very moment, and raises or says what is barred; a store that is open for reading only is
    read in whatever version it has.
    """
    connection = store.reader()
    # VACUUM attaches, too. Both may make a file, even where nothing can be written.
    connection.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)
    bars = None
    try:
        connection.execute("BEGIN")
        if store.read_only is None:
            bars = check(Moment(connection))
            bar(connection, bars)
        with _explained(bars):
            yield utils_database(connection)
    except (CorruptError, NotADBError, CantOpenError, IOError) as error:
        raise_translated(error)
    except ReadOnlyError as error:
        raise MigrationDenied(
            "A block that reads tried to write.", why=str(error), fix="Use `with engine.write() as db:`."
        ) from error
    except SQLError as error:
        if not str(error).startswith(NO_MORE_FILES):
            raise
        raise MigrationDenied(
            "A block that reads tried to open another file.",
            why="it reads one moment of this store; ATTACH and VACUUM are not for it",
            fix="Work on a copy: `with engine.snapshot() as path:`.",
        ) from error
    finally:
        connection.close(True)


@contextmanager
def writing(
    store: "Store",
    *,
    check: Check,
    ending: Callable[[], None] = lambda: None,
    atomic: bool = True,
    ended: Callable[[range], None] = lambda _: None,
) -> Iterator["sqlite_utils.Database"]:
    """One atomic change by the app: all of the block, or nothing of it; one inside another is a SAVEPOINT of it.

    A block belongs to its thread and task: do not await or yield inside it. What it queues is one group of the
    outbox, and with `atomic=False` groups of a bounded size; the outermost block decides. `ended` is called after
    its commit, with the ids of the entries that it has queued; `ending` before it, and may raise to undo the block.

    `check` looks at the store inside the transaction, where nobody can change it. Raises MigrationDenied when
    the block writes to the engine's tables or tries to end the transaction, GroupTooLarge. What it was given is of no
    use later.
    """
    with store.lock:
        _refuse_strange_blocks(store)
    entries = 0
    with store.transaction():
        block = _Block()
        store.app_blocks.append(block)
        try:
            bars = check(store)
            if len(store.app_blocks) > 1:
                with store.savepoint("write_inside_a_write"), _lent(store, bars) as database:
                    yield database
                    block.check_last(store)
                return
            newest = _newest_entry(store)
            with _lent(store, bars) as database:
                yield database
                block.check_last(store)
        finally:
            store.app_blocks.remove(block)
            if not store.app_blocks and store.is_usable:
                end_app(store.connection)
        if store.connection.in_transaction:
            ending()
            entries = _end_group(store, after=newest, atomic=atomic)
    ended(range(newest + 1, newest + entries + 1))


def _newest_entry(store: "Store") -> int:
    return int(store.value("outbox", "newest"))


def _end_group(store: "Store", *, after: int, atomic: bool) -> int:
    """What was written before and what is written from now on are other groups; how many entries this one has. Only
    this transaction can have queued what came `after`."""
    newest, is_filed = store.rows("outbox", "written_since", after=after)[0]
    entries, entries_max = int(newest) - after, store.settings.group_entries_max
    if entries <= entries_max:
        if entries:
            if atomic and entries > 1:
                _refuse_bytes(store, after=after)
            store.run("outbox", "name_group" if is_filed else "part_from_older", after=after)
            store.run("outbox", "close_group")
        return entries
    if atomic:
        raise _too_large(f"{entries} changes", f"{entries_max} (Settings.group_entries_max)")
    store.run("outbox", "cut_into_groups", after=after, entries_max=entries_max)
    store.run("outbox", "close_group")
    return entries


def _refuse_bytes(store: "Store", *, after: int) -> None:
    """Raises GroupTooLarge for what no request could hold."""
    bytes_max = store.settings.group_bytes_max
    size_bytes = int(store.value("outbox", "bytes_since", after=after))
    if size_bytes > bytes_max:
        raise _too_large(f"{size_bytes} bytes", f"{bytes_max} (Settings.group_bytes_max)")


def _too_large(made: str, most: str) -> GroupTooLarge:
    return GroupTooLarge(
        f"A block of engine.write() made {made} that have to arrive at the cloud together.",
        why=f"one group holds at most {most}",
        fix="Write less in one block, or say engine.write(atomic=False): then it is sent in parts. Nothing was kept.",
    )


class _Block:
    """One `engine.write()` that is open, and whose it is: a thread's, or a task's of its event loop."""

    def __init__(self) -> None:
        self.owner = _who()

    def check_last(self, store: "Store") -> None:
        """At its end no block may be open inside it, and the thread is the one that began it."""
        if self.owner[0] != get_ident():
            raise CalledFromInside(
                "A block of engine.write() ended in another thread than it began in.",
                why="its transaction and its lock belong to the first",
                fix="Begin and end it in one thread. Nothing of it was kept; open the engine anew.",
            )
        if store.app_blocks[-1] is not self:
            raise CalledFromInside(
                "Two blocks of engine.write() overlap, and the outer one ended first.",
                why="they share one transaction, and neither would be whole",
                fix="Do not await or yield inside engine.write(). Nothing of the two was kept.",
            )


def _who() -> tuple[int, object]:
    task = None
    if "asyncio" in sys.modules:
        with suppress(RuntimeError):
            task = sys.modules["asyncio"].current_task()
    return get_ident(), task


def _refuse_strange_blocks(store: "Store") -> None:
    """A block joins only a block of its own thread and task, and never a migration."""
    store.check_usable()
    if not store.connection.in_transaction:
        return
    if not store.app_blocks:
        raise CalledFromInside(
            "engine.write() was called from inside a migration, or from a listener of it.",
            why="what it writes would be rolled back with the migration",
            fix="Write before or after engine.migrate().",
        )
    if store.app_blocks[-1].owner != _who():
        raise CalledFromInside(
            "engine.write() was called while another task is inside it.",
            why="both would share one transaction, and an error in one would undo the other",
            fix="Do not await or yield inside engine.write().",
        )


@contextmanager
def _lent(store: "Store", bars: Bars | None) -> Iterator["sqlite_utils.Database"]:
    refuse = _refusal(bars)
    connection = store.connection
    judged = (
        authorized_app(connection)
        if refuse is None
        else authorized(connection, may_write=everything_of_the_app, refuse=refuse)
    )
    with _explained(bars), judged:
        database = guarded_database(store.connection, may_write=None)
        try:
            yield database
        finally:
            # Kept for later it could write without a transaction.
            database.conn.close()


def bar(connection: "Connection", bars: Bars | None) -> None:
    """Let this connection raise for what is barred, when a statement is prepared that would do it."""
    refuse = _refusal(bars)
    if refuse is None:
        return

    def decide(action: int, first: str | None, second: str | None, _database: str | None, _inner: str | None) -> int:
        refuse(action, first, second)
        return AUTHORIZED

    connection.authorizer = decide


@contextmanager
def _explained(bars: Bars | None) -> Iterator[None]:
    """A table that its migration has yet to make is not ready, and SQLite only knows that it is not there."""
    try:
        yield
    except SQLError as error:
        said = str(error).lower()
        for name, barred in (bars.touch if bars else {}).items():
            if said.endswith(f"no such table: {name.lower()}"):
                raise type(barred)(barred.what, why=barred.why, fix=barred.fix) from error
        raise


def _refusal(bars: Bars | None) -> Callable[[int, str | None, str | None], None] | None:
    if bars is None or not (bars.touch or bars.write):
        return None
    touch = {name.lower(): error for name, error in bars.touch.items()}
    write = {name.lower(): error for name, error in bars.write.items()}

    def refuse(action: int, first: str | None, second: str | None) -> None:
        table = (table_of(action, first, second) or "").lower()
        error = touch.get(table) or (write.get(table) if action not in READING else None)
        if error is not None:
            # A fresh one each time: an error that was raised carries where.
            raise type(error)(error.what, why=error.why, fix=error.fix)

    return refuse
