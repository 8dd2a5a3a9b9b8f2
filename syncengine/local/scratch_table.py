"""What SQLite itself makes of CREATE TABLE and ALTER TABLE, tried on an empty table in memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import apsw

TEXTS_KEPT = 64
"""One migration asks about the same few texts again and again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnFacts:
    """One column as its table declares it; generated ones are none."""

    name: str
    sql_type: str
    """In capitals; empty where the table says none."""
    required: bool
    default: str | None
    """An SQL expression."""
    strict: bool
    """Of its table: values are of the declared type, and ANY is any."""


def altered(create: str, alterations: Sequence[str]) -> str:
    """The CREATE TABLE after some ALTER TABLE statements. Raises apsw.SQLError for what SQLite refuses."""
    with _table(create) as connection:
        for sql in alterations:
            connection.execute(sql).fetchall()
        return str(connection.execute("SELECT sql FROM sqlite_schema WHERE type = 'table'").get)


@lru_cache(maxsize=TEXTS_KEPT)
def columns_declared(create: str) -> tuple[ColumnFacts, ...]:
    """The columns of a CREATE TABLE in order. Raises apsw.SQLError for what SQLite refuses."""
    with _table(create) as connection:
        name = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").get
        rows: list[tuple[Any, ...]] = connection.execute(
            'SELECT name, upper(type), "notnull", dflt_value,'
            " (SELECT strict FROM pragma_table_list(?1))"
            " FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid",
            (name,),
        ).fetchall()
    return tuple(
        ColumnFacts(name=row[0], sql_type=row[1], required=bool(row[2]), default=row[3], strict=bool(row[4]))
        for row in rows
    )


@contextmanager
def _table(create: str) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    try:
        connection.execute(create).fetchall()
        yield connection
    finally:
        connection.close()
