"""The cloud's tables in PostgreSQL, brought up to date by whichever server comes first; the others wait for it."""

from collections.abc import Sequence
from contextlib import suppress

import psycopg
from psycopg.errors import DuplicateObject, DuplicateTable, UniqueViolation

from syncengine.errors import DatabaseRefused
from syncengine.local.statements import statements
from syncengine.server.postgresql_rows import text_of
from syncengine.server.storage import refuse_newer
from syncengine.server.stored_forms import SERVER_SQL, Columns


def refuse_mighty_role(connection: psycopg.Connection[Columns]) -> None:
    """Raises DatabaseRefused for a superuser and for who has BYPASSRLS: no policy holds them."""
    (is_mighty,) = connection.execute(text_of("role")).fetchone() or (True,)
    connection.rollback()
    if is_mighty:
        raise DatabaseRefused(
            "The server does not sign in at PostgreSQL as a role that may see everything.",
            why="its role is a superuser or has BYPASSRLS, so our mistakes could show one user's rows to another",
            fix="CREATE ROLE syncengine LOGIN; CREATE DATABASE cloud OWNER syncengine; and sign in as that role.",
        )


def upgrade(connection: psycopg.Connection[Columns], *, editions: Sequence[str] | None, cursor_key: str) -> None:
    """Every edition that is not there yet, in one transaction; whoever else wants to do so waits for the row."""
    editions = editions or list(statements("postgresql_schema", directory=SERVER_SQL).values())
    _make_count(connection)
    with connection.transaction():
        connection.execute(text_of("begin_edition_count"))
        (found,) = connection.execute(text_of("edition")).fetchone() or (0,)
        refuse_newer(found, known=len(editions))
        for edition in editions[found:]:
            connection.execute(edition.encode())
        if found == 0:
            connection.execute(text_of("write_state"), {"cursor_key": cursor_key})
        if found < len(editions):
            connection.execute(text_of("write_edition"), {"edition": len(editions)})


def _make_count(connection: psycopg.Connection[Columns]) -> None:
    """Two who make the same table at once: PostgreSQL lets IF NOT EXISTS of the second fail after all."""
    with suppress(UniqueViolation, DuplicateTable, DuplicateObject), connection.transaction():
        connection.execute(text_of("make_edition_count"))
