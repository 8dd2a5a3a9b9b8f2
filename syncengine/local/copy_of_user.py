"""Does a copy of a store hold anything of a user? Whatever its shape: every column of every table is looked at."""

from typing import TYPE_CHECKING

from syncengine.local.identifiers import quoted
from syncengine.local.read_only import open_looking
from syncengine.local.sqlite_errors import SqliteError

if TYPE_CHECKING:
    from apsw import Connection

BUSY_WAIT_MS = 1_000


def holds_rows_of(path: str, user: str) -> bool:
    """True where a value is the user's id, or their scope; and where the copy cannot be read whole."""
    connection = open_looking(path, busy_wait_ms=BUSY_WAIT_MS)
    try:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0").fetchall()
        return any(_holds(connection, str(name), user) for (name,) in tables)
    except (SqliteError, UnicodeDecodeError):
        return True
    finally:
        connection.close(True)


def _holds(connection: "Connection", table: str, user: str) -> bool:
    columns = connection.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
    names = ", ".join(quoted(str(name)) for (name,) in columns)
    found = connection.execute(
        f"SELECT EXISTS (SELECT 1 FROM {quoted(table)} WHERE :user IN ({names}) OR 'user:' || :user IN ({names}))",
        {"user": user},
    )
    return bool(found.fetchall()[0][0])
