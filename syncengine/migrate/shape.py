"""The shape of a table: read from the file, compared by fingerprint, rebuilt by SQLite's own recipe.

A rebuild follows "Making Other Kinds Of Table Schema Changes" (sqlite.org/lang_altertable.html): make the new
table, copy, drop the old one, rename. Renaming the old table away first would rewrite every reference to it.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncengine.errors import MigrationInvalid
from syncengine.local.identifiers import quoted
from syncengine.local.sqlite_errors import SQLError
from syncengine.migrate.sql_text import created_name, table_as, tokens_of

if TYPE_CHECKING:
    from syncengine.local.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSql:
    """One table as its author wrote it: the CREATE TABLE, and the indexes that follow it."""

    collection: str
    create: str
    indexes: tuple[str, ...]

    def create_as(self, name: str) -> str:
        """The CREATE TABLE under another name."""
        return table_as(self.create, name)


def parse_table(sql: str, *, migration: str) -> TableSql:
    """Read an author's text: CREATE TABLE first, then CREATE INDEX statements. Raises MigrationInvalid."""
    statements = split_statements(sql)
    tokens = tokens_of(statements[0]) if statements else []
    if len(tokens) < 3 or not (tokens[0].is_word("CREATE") and tokens[1].is_word("TABLE")):
        raise MigrationInvalid(
            f"Migration {migration} gives a table that does not begin with CREATE TABLE.",
            fix="Write one CREATE TABLE, then its CREATE INDEX statements.",
        )
    return TableSql(collection=created_name(statements[0]), create=statements[0], indexes=tuple(statements[1:]))


def split_statements(sql: str) -> list[str]:
    """The statements of a text, each without its semicolon. Knows strings, names in quotes and comments."""
    found, start = [], 0
    for token in tokens_of(sql):
        if token.text == ";":
            found.append(sql[start : token.start])
            start = token.end
    found.append(sql[start:])
    return [text.strip() for text in found if tokens_of(text)]


def columns_of(store: "Store", table: str) -> tuple[str, ...]:
    """The columns of a table in order, generated ones left out; empty where there is no such table."""
    rows = store.query("SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0 ORDER BY cid", (table,))
    return tuple(str(row[0]) for row in rows)


def row_name(store: "Store", table: str) -> tuple[str, ...]:
    """What names a row: the rowid, or the columns of the primary key of a table without one; quoted."""
    without = store.query("SELECT wr FROM pragma_table_list(?) WHERE schema = 'main'", (table,))
    if without and without[0][0]:
        names = store.query("SELECT name FROM pragma_table_xinfo(?) WHERE pk > 0 ORDER BY pk", (table,))
        return tuple(quoted(str(name)) for (name,) in names)
    taken = {str(name).lower() for (name,) in store.query("SELECT name FROM pragma_table_xinfo(?)", (table,))}
    return (next(name for name in ("_rowid_", "rowid", "oid") if name not in taken),)


def table_exists(store: "Store", table: str) -> bool:
    """Is there a table of this name?"""
    return bool(store.query("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,))[0][0])


def attached(store: "Store", table: str, kind: str) -> list[tuple[str, str]]:
    """(name, SQL) of the indexes or triggers of a table that somebody wrote; not those that SQLite made."""
    rows = store.query(
        "SELECT name, sql FROM sqlite_schema WHERE tbl_name = ? AND type = ? AND sql IS NOT NULL ORDER BY name",
        (table, kind),
    )
    return [(str(name), str(sql)) for name, sql in rows]


def fingerprint(store: "Store", table: str) -> str:
    """SHA-256 over the SQL of a table, its indexes and triggers; blanks, comments and quotes left out.

    The engine's own triggers do not count: they come and go while a large collection is rewritten.
    """
    rows = store.query(
        "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name = ? AND sql IS NOT NULL "
        "AND name NOT GLOB '_sync_*' ORDER BY type, name",
        (table,),
    )
    digest = hashlib.sha256()
    for kind, name, sql in rows:
        bare = re.sub(r"--[^\n]*|/\*.*?\*/", " ", str(sql), flags=re.DOTALL)
        bare = re.sub(r'"(\w+)"', r"\1", bare)  # which ALTER TABLE RENAME writes
        digest.update(f"{kind} {name} {' '.join(bare.split())}\n".encode())
    return digest.hexdigest()


def swap_in(store: "Store", *, new: str, table: str, indexes: tuple[str, ...], lifting: bool) -> tuple[str, ...]:
    """Put a filled table in the place of the old one; the names of indexes whose columns are gone.

    Indexes of the old table that the author did not name again are kept where their columns still exist, and so
    are triggers. A trigger or a view that compiled before and no longer does stops the migration, except while
    `lifting`, when the old shapes are only passed through. Call with foreign keys off.
    """
    broken_before = broken_dependants(store, table)
    old_indexes = attached(store, table, "index")
    triggers = attached(store, table, "trigger")
    sequence = sequence_of(store, table)
    # Without legacy_alter_table a view on the old table makes the RENAME fail.
    store.query("PRAGMA legacy_alter_table = ON")
    try:
        store.query(f"DROP TABLE {quoted(table)}")
        store.query(f"ALTER TABLE {quoted(new)} RENAME TO {quoted(table)}")
    finally:
        store.query("PRAGMA legacy_alter_table = OFF")
    keep_sequence(store, table, sequence)
    for sql in indexes:
        store.query(sql)
    gone = keep_indexes(store, table, old_indexes)
    for name, sql in triggers:
        keep_trigger(store, table, name, sql)
    if not lifting:
        refuse_broken(broken_dependants(store, table) - broken_before, table)
    return gone


def broken_dependants(store: "Store", table: str) -> frozenset[str]:
    """The views, and the tables with triggers, whose SQL mentions the table and which cannot be used now.

    SQLite does not compile a trigger or a view when it is made, only when it is used.
    """
    mentioning = f"%{table}%"
    views = [name for name, sql in _views(store) if table.lower() in sql.lower()]
    broken = {f"view {name}" for name in views if not _compiles(store, f"SELECT * FROM {quoted(name)}")}
    for (on,) in store.query(
        "SELECT DISTINCT tbl_name FROM sqlite_schema WHERE type = 'trigger' AND sql LIKE ?", (mentioning,)
    ):
        same = ", ".join(f"{quoted(name)} = {quoted(name)}" for name in columns_of(store, on))
        uses = (
            f"INSERT INTO {quoted(on)} DEFAULT VALUES",
            f"DELETE FROM {quoted(on)}",
            f"UPDATE {quoted(on)} SET {same}",
        )
        if not all(_compiles(store, use) for use in uses):
            broken.add(f"a trigger on {on}")
    return frozenset(broken)


def _views(store: "Store") -> list[tuple[str, str]]:
    """(name, SQL) of the app's views, in the order in which they were made."""
    rows = store.query("SELECT name, sql FROM sqlite_schema WHERE type = 'view' ORDER BY rowid")
    return [(str(name), str(sql)) for name, sql in rows if "_sync_" not in sql]


def _compiles(store: "Store", sql: str) -> bool:
    try:
        # Not from the cache: EXPLAIN does not look whether the schema has moved, and would list a program that points
        # into the old one (seen as a crash of the process after ALTER TABLE ... DROP COLUMN).
        store.connection.execute(f"EXPLAIN {sql}", can_cache=False).fetchall()
    except SQLError:
        return False
    return True


def refuse_broken(broken: frozenset[str], table: str) -> None:
    """Raises MigrationInvalid for what compiled before a change and no longer does."""
    if broken:
        raise MigrationInvalid(
            f"The new shape of {table} would break what refers to it.",
            why=", ".join(sorted(broken)),
            fix="Drop or rewrite it before the migration; the store is as it was.",
        )


def sequence_of(store: "Store", table: str) -> int | None:
    """The highest number that AUTOINCREMENT has given here; None for a table without it."""
    if not table_exists(store, "sqlite_sequence"):
        return None
    found = store.query("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,))
    return int(found[0][0]) if found else None


def keep_sequence(store: "Store", table: str, sequence: int | None) -> None:
    """Let a table that took another's place go on with its numbers: none is given twice, that of a deleted row
    neither."""
    create = store.query("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,))
    if sequence is None or not any(token.is_word("AUTOINCREMENT") for token in tokens_of(str(create[0][0]))):
        return
    store.query("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (sequence, table))
    if store.connection.changes() == 0:
        store.query("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, sequence))


def keep_indexes(store: "Store", table: str, old: list[tuple[str, str]]) -> tuple[str, ...]:
    """Make the indexes of an old table again, where they fit; the names of those whose columns are gone."""
    named_again = {name for name, _ in attached(store, table, "index")}
    gone = []
    for name, sql in old:
        if name in named_again:
            continue
        try:
            store.query(sql)
        except SQLError:
            gone.append(name)
    return tuple(gone)


def keep_trigger(store: "Store", table: str, name: str, sql: str) -> None:
    """Make a trigger of an old table again. Raises MigrationInvalid where it does not fit."""
    try:
        store.query(sql)
    except SQLError as error:
        raise MigrationInvalid(
            f"The trigger {name} on {table} does not fit the new shape.",
            why=str(error),
            fix="Drop it in the migration, or write it anew.",
        ) from error
