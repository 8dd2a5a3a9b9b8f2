"""Which database an address names: PostgreSQL by `postgresql://…`, otherwise a SQLite file."""

import random
from pathlib import Path
from urllib.parse import unquote, urlsplit

from syncengine.clock import Clock
from syncengine.errors import DatabaseRefused
from syncengine.server.sqlite_storage import DATABASE_NAME, SqliteStorage
from syncengine.server.storage import Storage

POSTGRESQL = ("postgresql", "postgres")
SQLITE = "sqlite"


def open_storage(address: str, *, clock: Clock, chance: random.Random | None = None) -> Storage:
    """`postgresql://user@host/name`, `sqlite:///path/cloud.db`, or a path; a path without a suffix is a folder.

    Raises DatabaseRefused, and what the storage raises that it names.
    """
    scheme, _, rest = address.partition("://")
    if not rest:
        return _sqlite(Path(address), clock=clock, chance=chance)
    if scheme == SQLITE:
        # As elsewhere, three slashes before a path from here and four before one from the root.
        return _sqlite(Path(unquote(urlsplit(address).path)[1:]), clock=clock, chance=chance)
    if scheme not in POSTGRESQL:
        raise DatabaseRefused(
            "The address names a database that the server does not know.",
            why="it begins neither with postgresql:// nor with sqlite:///, and is no path",
            fix="Correct --database.",
        )
    try:
        from syncengine.server.postgresql_storage import PostgresqlStorage
    except ModuleNotFoundError as error:
        raise DatabaseRefused(
            "PostgreSQL cannot be used without psycopg.",
            why=f"there is no module {error.name}",
            fix="pip install 'syncengine[server,postgresql]'",
        ) from error
    return PostgresqlStorage(address, clock=clock, chance=chance)


def _sqlite(path: Path, *, clock: Clock, chance: random.Random | None) -> SqliteStorage:
    if path.suffix:
        return SqliteStorage(str(path.parent), clock=clock, chance=chance, name=path.name)
    return SqliteStorage(str(path), clock=clock, chance=chance, name=DATABASE_NAME)
