"""Rows whose parent has no place in the older shape: they collide as their parent does."""

from typing import TYPE_CHECKING

from syncengine.errors import RollbackFailed
from syncengine.local.identifiers import quoted
from syncengine.migrate.rejection import Rejection
from syncengine.migrate.shape import columns_of

if TYPE_CHECKING:
    from syncengine.migrate.rollback_undoing import Undoing


def set_children_aside(undoing: "Undoing") -> int:
    """Until no row refers to nothing; how many rows went to quarantine, children of children with them.

    Raises RollbackFailed for rows of a table that is no collection, or that has no rowid to find them by.
    """
    gone = 0
    # Each round takes at least one row away, so this ends with the tables.
    while broken := undoing.store.query('SELECT DISTINCT "table", rowid, parent FROM pragma_foreign_key_check'):
        for child, number, parent in broken:
            if number is None or child not in undoing.registry.collections:
                raise RollbackFailed(
                    f"Rollback of {undoing.step.id} would leave rows that refer to nothing.",
                    why=f"rows of {child} refer to {parent}",
                    fix="The store is as it was before the rollback. Take these rows back by hand first.",
                )
            gone += _set_aside(undoing, str(child), int(number), str(parent))
    return gone


def _set_aside(undoing: "Undoing", child: str, number: int, parent: str) -> int:
    store, columns = undoing.store, columns_of(undoing.store, child)
    names = ", ".join(map(quoted, columns))
    rows = store.query(f"SELECT {names} FROM {quoted(child)} WHERE rowid = ?", (number,))
    for row in rows:
        why = Rejection(code="parent_set_aside", text=f"its parent in {parent} has no place in the older shape")
        undoing.set_aside(child, columns, row, why)
        with store.without_triggers():
            store.query(f"DELETE FROM {quoted(child)} WHERE rowid = ?", (number,))
    return len(rows)
