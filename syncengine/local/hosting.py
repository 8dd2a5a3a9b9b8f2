"""How an app reads and writes its own rows: a sqlite_utils.Database on the engine's terms."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from syncengine.clock import iso
from syncengine.errors import MigrationDenied
from syncengine.local.authorizer import authorized, everything_of_the_app, guarded_database
from syncengine.local.sqlite_errors import ReadOnlyError
from syncengine.local.sqlite_utils_adapter import utils_database
from syncengine.local.statements import statement

if TYPE_CHECKING:
    import sqlite_utils

    from syncengine.local.store import Store

Check = Callable[[str | None], None]


@contextmanager
def reading(store: "Store", *, check: Check) -> Iterator["sqlite_utils.Database"]:
    """One moment of the store, for reading only, on a connection of its own; writers are not held out.

    `check` gets the schema version that this very moment has.
    """
    connection = store.reader()
    try:
        connection.execute("BEGIN")
        check(connection.execute(statement("state", "store_version")).get)
        yield utils_database(connection)
    except ReadOnlyError as error:
        raise MigrationDenied(
            "A block that reads tried to write.", why=str(error), fix="Use `with engine.write() as db:`."
        ) from error
    finally:
        connection.close(True)


@contextmanager
def writing(store: "Store", *, check: Check) -> Iterator["sqlite_utils.Database"]:
    """One atomic change by the app: all of the block, or nothing of it; one inside another is a SAVEPOINT of it.

    `check` gets the schema version inside the transaction, where nobody can change it. Raises MigrationDenied when
    the block writes to the engine's tables or tries to end the transaction. What it was given is of no use later.
    """
    with store.transaction():
        nested = store.is_written_by_the_app
        check(store.value("state", "store_version"))
        if nested:
            with store.savepoint("write_inside_a_write"), _lent(store) as database:
                yield database
            return
        changes = store.connection.total_changes()
        store.is_written_by_the_app = True
        try:
            with _lent(store) as database:
                yield database
        finally:
            store.is_written_by_the_app = False
        if store.connection.in_transaction and store.connection.total_changes() != changes:
            # Edits are not captured: until they are, nobody may say that all is synced.
            store.run("state", "set", name="edited_at", value=iso(store.clock.now_ms()))


@contextmanager
def _lent(store: "Store") -> Iterator["sqlite_utils.Database"]:
    with authorized(store.connection, may_write=everything_of_the_app):
        database = guarded_database(store.connection, may_write=None)
        try:
            yield database
        finally:
            # Kept for later it could write without a transaction.
            database.conn.close()
