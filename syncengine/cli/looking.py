"""Look at a store from outside: read-only, without the app, never making a store that is not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from syncengine.errors import COPY_FIRST, StoreDamaged, StoreForeign, StoreMissing, StoreSuperseded
from syncengine.local.connection import APPLICATION_ID
from syncengine.local.engine_tables import UPGRADES
from syncengine.local.read_only import open_looking
from syncengine.local.savepoint import translated
from syncengine.local.sqlite_errors import SQLError, SqliteError
from syncengine.local.statements import statement
from syncengine.local.stored import stored_number, text_unreadable
from syncengine.settings import Settings

if TYPE_CHECKING:
    from apsw import Connection

    from syncengine.local.version_table import Installed


class Look:
    """A read-only connection to one store. Queries raise StoreBusy, StoreDamaged or TextUnreadable."""

    def __init__(self, connection: "Connection", *, path: str) -> None:
        self.connection = connection
        self.path = path

    def rows(self, file: str, name: str, /, **values: Any) -> list[tuple[Any, ...]]:
        """All rows of a named statement. Raises StoreDamaged where the engine's tables are not what it asks."""
        try:
            return self.ask(statement(file, name), values)
        except SQLError as error:
            raise _torn(str(error)) from error

    def value(self, file: str, name: str, /, **values: Any) -> Any:
        """The first column of the first row, or None."""
        found = self.rows(file, name, **values)
        return found[0][0] if found else None

    def ask(self, sql: str, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a statement."""
        try:
            return self.connection.execute(sql, values).fetchall()
        except SqliteError as error:
            raise translated(error) from error
        except UnicodeDecodeError:
            unreadable = text_unreadable()
        raise unreadable  # outside: a UnicodeDecodeError holds the text itself, so it is not kept as the cause

    def edition(self) -> int:
        """Of the engine's own tables. Raises StoreDamaged."""
        return stored_number(self.value("state", "get", name="engine_schema"), "_sync_state, engine_schema")

    def installed(self) -> "Installed":
        """What the version table says: the value that a plan is made from."""
        from syncengine.local.version_table import read_installed

        return read_installed(self)


@contextmanager
def looking_at(path: str) -> Iterator[Look]:
    """`with looking_at(path) as look:` a store of this engine, for reading only.

    Raises StoreMissing, StoreForeign, StoreSuperseded, StoreDamaged; the file is never changed.
    """
    with opened(path) as look:
        refuse_foreign(look)
        _refuse_newer(look)
        yield look


@contextmanager
def opened(path: str) -> Iterator[Look]:
    """A file that is there, whatever it is. Raises StoreMissing, StoreForeign."""
    if not os.path.isfile(path):  # noqa: PTH113  (pathlib is slow to import)
        raise StoreMissing(
            f"There is no store at {path}.",
            why="the path is no file",
            fix="Check the path. A store is made by the app, or by `syncengine migrate`.",
        )
    try:
        connection = open_looking(path, busy_wait_ms=Settings().busy_wait_ms_max)
    except SqliteError as error:
        raise StoreForeign(
            f"{path} cannot be opened as a SQLite database.",
            why=type(error).__name__,
            fix="Check its permissions and those of its folder; nothing was changed.",
        ) from error
    try:
        yield Look(connection, path=path)
    finally:
        connection.close(True)


def refuse_foreign(look: Look) -> None:
    """Raises StoreForeign for another program's file, StoreMissing where nothing was made of it yet."""
    try:
        found, tables = look.connection.execute(
            "SELECT (SELECT application_id FROM pragma_application_id),"
            " (SELECT count(*) FROM sqlite_schema WHERE name = '_sync_state')"
        ).fetchall()[0]
    except SqliteError as error:
        if type(error).__name__ != "NotADBError":
            raise translated(error) from error
        raise StoreForeign(
            f"{look.path} is not a SQLite database (or it is encrypted).",
            fix="Give another path; this file was not changed.",
        ) from error
    if found not in (0, APPLICATION_ID) or (found == 0 and look.ask("SELECT 1 FROM sqlite_schema LIMIT 1")):
        raise StoreForeign(
            f"{look.path} is a SQLite database of another program.",
            why=f"application_id is {found:#x}, not {APPLICATION_ID:#x}",
            fix="Give another path; this file was not changed.",
        )
    if not tables and look.ask("SELECT 1 FROM sqlite_schema LIMIT 1"):
        raise _torn("_sync_state is missing")
    if not tables:
        raise StoreMissing(
            f"{look.path} is empty: no store has been made of it yet.",
            fix="A store is made by the app, or by `syncengine migrate`.",
        )


def _torn(why: str) -> StoreDamaged:
    return StoreDamaged(
        "A part of the engine's own tables is missing from this store.",
        why=why,
        fix=COPY_FIRST,
    )


def _refuse_newer(look: Look) -> None:
    edition = look.edition()
    if edition > len(UPGRADES):
        raise StoreSuperseded(
            "This store was written by a newer version of the engine.",
            why=f"its tables are edition {edition}; this engine knows {len(UPGRADES)}",
            fix="Update syncengine. The store was not changed.",
        )
