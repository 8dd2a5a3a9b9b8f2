"""Names and SQL texts in `sqlite_schema`, changed in place: what ALTER TABLE cannot do without writing every row.

The steps are those of "Making Other Kinds Of Table Schema Changes", second procedure
(sqlite.org/lang_altertable.html#otheralter): writable_schema, UPDATE, schema_version so that every other connection
reads the schema anew. Nothing is allowed that would change how a row or a key is laid out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncengine.local.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """One table or index: its name now, and its name and SQL from here on."""

    kind: str
    name: str
    new_name: str
    sql: str


def rewrite_schema(store: "Store", changes: Sequence[Rewritten]) -> None:
    """Change them all, inside a transaction; a rollback takes everything back."""
    version = int(store.query("PRAGMA schema_version")[0][0])
    store.query("PRAGMA writable_schema = ON")
    try:
        for change in changes:
            store.query(
                "UPDATE sqlite_schema SET name = ?, sql = ? WHERE type = ? AND name = ?",
                (change.new_name, change.sql, change.kind, change.name),
            )
            assert store.connection.changes() == 1, f"there is one {change.kind} {change.name}"
        store.query(f"PRAGMA schema_version = {version + 1}")
    finally:
        # RESET also makes this connection read the schema anew (sqlite.org/pragma.html#pragma_writable_schema).
        store.query("PRAGMA writable_schema = RESET")


def sql_of(store: "Store", kind: str, name: str) -> str | None:
    """The CREATE statement of a table or index; None where there is none."""
    rows = store.query("SELECT sql FROM sqlite_schema WHERE type = ? AND name = ?", (kind, name))
    return str(rows[0][0]) if rows and rows[0][0] is not None else None
