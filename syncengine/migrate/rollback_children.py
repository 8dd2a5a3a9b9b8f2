"""Rows whose parent has no place in the older shape: they collide as their parent does. No table loses its parent."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from syncengine.errors import RollbackFailed
from syncengine.local.identifiers import quoted
from syncengine.migrate.rejection import Rejection
from syncengine.migrate.shape import columns_of

if TYPE_CHECKING:
    from syncengine.local.store import Store
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


def lost_parents(store: "Store") -> frozenset[tuple[str, str]]:
    """(child, parent) of each foreign key that names a table which is not there."""
    return frozenset((str(child), str(parent)) for child, parent in store.rows("shapes", "lost_parents"))


def refuse_lost_parents(undoing: "Undoing", *, before: Collection[tuple[str, str]]) -> None:
    """Raises RollbackFailed for a table that nobody could write any more, because the one it refers to went."""
    for child, parent in sorted(lost_parents(undoing.store).difference(before)):
        raise RollbackFailed(
            f"Rollback of {undoing.step.id} would leave a table that cannot be written.",
            why=f"{child} refers to {parent}, which goes",
            fix=f"Name the migration that made {parent} in `after` of the one that made {child}: both then go back "
            "together. The store is as it was.",
        )


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
