"""Is whatever anybody writes still noted? Looked at in each batch, and once more before the swap.

The noting triggers go with a table that is dropped and made anew, and a tool may put them back: then nothing is
missing, and what was written meanwhile is lost. But every change of the schema moves its number (PRAGMA
schema_version), and what is made anew has a higher row in sqlite_schema: the triggers are made before the new table,
so that none of their rows is the last one, which SQLite would give once more (sqlite.org/autoinc.html).
"""

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from syncengine.errors import TableDisturbed
from syncengine.migrate.shadow_triggers import trigger_names

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.shadow_state import Shadow


def schema_number(store: "Store") -> int:
    """The number that every change of the schema moves."""
    return int(store.query("PRAGMA schema_version")[0][0])


def seal_of(store: "Store", collection: str, *, new_table: str) -> str:
    """A hash that is the same for as long as the live table, its noting triggers and the new table are the same."""
    names = (collection, new_table, *trigger_names(collection))
    marks = ", ".join("?" * len(names))
    rows = store.query(
        "SELECT type, name, rowid, tbl_name, sql FROM sqlite_schema "
        f"WHERE type IN ('table', 'trigger') AND name IN ({marks}) ORDER BY rowid",
        names,
    )
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def still_noted(store: "Store", shadow: "Shadow", *, new_table: str) -> "Shadow":
    """Inside a transaction: the state, which knows the schema as it is now. Raises TableDisturbed where somebody has
    altered or made anew what this run relies on."""
    number = schema_number(store)
    if number == shadow.schema_number:
        return shadow
    if seal_of(store, shadow.collection, new_table=new_table) != shadow.seal:
        raise TableDisturbed(
            f"Migration {shadow.migration} was given up: another program alters {shadow.collection} again and again.",
            why=f"it was begun {shadow.begun_anew + 1} times, and the table or its triggers were made anew each time",
            fix="The store is as that program left it. Let no program alter the table meanwhile, and try again.",
        )
    return replace(shadow, schema_number=number)
