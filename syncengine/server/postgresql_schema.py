"""The cloud's tables in PostgreSQL, brought up to date by whichever server comes first; the others wait for it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psycopg
from psycopg.errors import DuplicateObject, DuplicateTable, InsufficientPrivilege, UniqueViolation

from syncengine.errors import DatabaseRefused
from syncengine.local.identifiers import quoted
from syncengine.local.statements import statements
from syncengine.server.postgresql_connections import WAITS
from syncengine.server.postgresql_rows import text_of
from syncengine.server.storage import refuse_newer
from syncengine.server.stored_forms import SERVER_SQL, Columns


def refuse_unfit(connection: psycopg.Connection[Columns]) -> None:
    """Raises DatabaseRefused for a role that no policy holds, and for a database that would not keep every row."""
    (is_mighty,) = connection.execute(text_of("role")).fetchone() or (True,)
    encoding, row_security, read_only, _ = connection.execute(text_of("surroundings")).fetchall()[0]
    connection.rollback()
    if is_mighty:
        raise DatabaseRefused(
            "The server does not sign in at PostgreSQL as a role that may see everything.",
            why="its role is a superuser or has BYPASSRLS, so our mistakes could show one user's rows to another",
            fix="CREATE ROLE syncengine LOGIN; CREATE DATABASE cloud OWNER syncengine; and sign in as that role.",
        )
    if row_security == "off":
        raise DatabaseRefused(
            "Row-level security is switched off for the server's role.",
            why="row_security is off, so PostgreSQL would refuse each statement about users' rows",
            fix="Take row_security=off out of --database, or out of ALTER ROLE … SET and ALTER DATABASE … SET.",
        )
    if encoding != "UTF8":
        raise DatabaseRefused(
            "The database cannot keep every text.",
            why=f"its encoding is {encoding}; rows hold letters of all scripts",
            fix="CREATE DATABASE cloud OWNER syncengine ENCODING 'UTF8' TEMPLATE template0; nothing was changed.",
        )
    if read_only == "on":
        raise DatabaseRefused(
            "The database takes no writes.",
            why="it is a standby, or default_transaction_read_only is on",
            fix="Name the primary, as with target_session_attrs=read-write; or take the setting back.",
        )


def schema_of(connection: psycopg.Connection[Columns]) -> str:
    """Where the cloud's tables are, or are to be made; a schema that somebody makes later changes nothing of that.

    Raises DatabaseRefused where there is none, and where two have such tables.
    """
    found = _schemas_with_tables(connection)
    *_, first = connection.execute(text_of("surroundings")).fetchall()[0]
    connection.rollback()
    if len(found) > 1:
        raise DatabaseRefused(
            "The database holds two clouds, and nobody says which one is meant.",
            why=f"the schemas {' and '.join(found)} have tables of a cloud, and search_path names both",
            fix=f"Say it in --database: …?options=-csearch_path%3D{found[0]}",
        )
    if found or first is not None:
        return str(found[0] if found else first)
    raise DatabaseRefused(
        "There is no place for tables in the database.",
        why="search_path names no schema that is there and that the role may use",
        fix="Correct search_path in --database, or CREATE SCHEMA … AUTHORIZATION syncengine.",
    )


def _schemas_with_tables(connection: psycopg.Connection[Columns]) -> list[str]:
    return [str(schema) for (schema,) in connection.execute(text_of("schemas_with_tables")).fetchall()]


def our_editions() -> tuple[str, ...]:
    """All that this server knows, oldest first."""
    return tuple(statements("postgresql_schema", directory=SERVER_SQL).values())


def upgrade(
    connection: psycopg.Connection[Columns], *, schema: str, editions: Sequence[str], cursor_key: str
) -> None:
    """Every edition that is not there yet, in one transaction; whoever else wants to do so waits for the row.

    What older servers are writing is waited for; what they write afterwards finds an edition that they do not know.

    Raises DatabaseRefused where the role must not make or change tables there.
    """
    try:
        _make_count(connection, schema=schema)
        with _in_schema(connection, schema):
            (found,) = connection.execute(text_of("present_edition")).fetchone() or (0,)
        with _in_schema(connection, schema):
            if found < len(editions):
                connection.execute(text_of("wait_for_work"))
            _bring_up(connection, editions=editions, cursor_key=cursor_key)
    except InsufficientPrivilege:
        raise DatabaseRefused(
            "The server's role must not make its tables.",
            why=f"it may not create in the schema {schema}, or the tables that are there are another role's",
            fix="CREATE DATABASE cloud OWNER syncengine; or GRANT CREATE ON SCHEMA … TO syncengine.",
        ) from None


def _bring_up(connection: psycopg.Connection[Columns], *, editions: Sequence[str], cursor_key: str) -> None:
    connection.execute(text_of("begin_edition_count"))
    (found,) = connection.execute(text_of("edition")).fetchone() or (0,)
    refuse_newer(found, known=len(editions))
    for edition in editions[found:]:
        connection.execute(edition.encode())
    if found == 0:
        connection.execute(text_of("write_state"), {"cursor_key": cursor_key})
    if found < len(editions):
        connection.execute(text_of("write_edition"), {"edition": len(editions)})


def _make_count(connection: psycopg.Connection[Columns], *, schema: str) -> None:
    """Two who make the same table at once: PostgreSQL lets IF NOT EXISTS of the second fail after all.

    Where it is there, nothing is made: a role that may not make tables may work with those that it has.
    """
    found = _schemas_with_tables(connection)
    connection.rollback()
    if schema in found:
        return
    with suppress(UniqueViolation, DuplicateTable, DuplicateObject), _in_schema(connection, schema):
        connection.execute(text_of("make_edition_count"))


@contextmanager
def _in_schema(connection: psycopg.Connection[Columns], schema: str) -> Iterator[None]:
    with connection.transaction():
        connection.execute(text_of("be_in_schema"), {"schema": quoted(schema), **WAITS})
        yield
