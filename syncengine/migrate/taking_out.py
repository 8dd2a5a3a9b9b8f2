"""A user is taken out of the store: their rows, what waits for them, and what the engine knows of them.

Inside a transaction of the caller's. The rows of others stay as they are, which is looked at.
"""

from typing import TYPE_CHECKING

from syncengine.errors import StoreBusy, WipeRefused
from syncengine.local.identifiers import quoted
from syncengine.local.rows_of_others import rows_of_others
from syncengine.local.sqlite_errors import ConstraintError
from syncengine.migrate.shadow_state import filling
from syncengine.migrate.shape import columns_of, table_exists
from syncengine.outbox.capture import capture_off
from syncengine.outbox.filing import file_entries
from syncengine.vocabulary import user_scope

if TYPE_CHECKING:
    from syncengine.local.store import Store


def take_out(store: "Store", user: str) -> dict[str, int]:
    """All of a user's rows and of what waits for them, inside a transaction; how many rows of each collection.

    The app's own triggers and cascades see it. Raises WipeRefused where they would change rows of other users.
    """
    _refuse_while_rewritten(store)
    owned = _owned(store)
    before = rows_of_others(store, owned, user=user)
    with capture_off(store, list(owned)):
        store.query("PRAGMA defer_foreign_keys = ON")
        rows = _delete_rows(store, owned, user)
        if store.has_dangling_references():
            raise _refused("rows of other users, or of the app, refer to theirs by a foreign key")
    if rows_of_others(store, owned, user=user) != before:
        raise _refused("a trigger or a cascade of the app would change rows of other users")
    _thin_kept_tables(store, owned, user)
    _forget_queue(store, user)
    return rows


def _refuse_while_rewritten(store: "Store") -> None:
    if rewritten := sorted(filling(store)):
        raise StoreBusy(
            f"Rows cannot be taken out of {', '.join(rewritten)} now.",
            why="a migration is rewriting them, or was paused",
            fix="Call engine.migrate() to its end, then try again. Nothing was changed.",
        )


def _refused(why: str) -> WipeRefused:
    return WipeRefused(
        "This user's rows cannot be taken out.",
        why=why,
        fix="Mend that in the app first, such as by a migration. Nothing was changed.",
    )


def _owned(store: "Store") -> dict[str, str]:
    """The owner column of each synced collection whose table is there."""
    return {
        str(name): str(owner)
        for name, _, owner in store.rows("outbox", "synced_collections")
        if table_exists(store, str(name))
    }


def _delete_rows(store: "Store", owned: dict[str, str], user: str) -> dict[str, int]:
    """Children may stand in the way of their parents (RESTRICT), so what fails is tried again after the others."""
    counts = {name: _count(store, name, owner, user) for name, owner in owned.items()}
    left = dict(owned)
    while left:
        failed: dict[str, str] = {}
        for name, owner in left.items():
            try:
                with store.savepoint("take_out"):
                    store.query(f"DELETE FROM {quoted(name)} WHERE {quoted(owner)} = ?", (user,))
            except ConstraintError:
                failed[name] = owner
        if len(failed) == len(left):
            raise _refused(f"other rows stand in the way of those of {', '.join(sorted(failed))}")
        left = failed
    return counts


def _count(store: "Store", table: str, owner: str, user: str) -> int:
    return int(store.query(f"SELECT count(*) FROM {quoted(table)} WHERE {quoted(owner)} = ?", (user,))[0][0])


def _thin_kept_tables(store: "Store", owned: dict[str, str], user: str) -> None:
    """Old tables stay as a way back for the others; one without the owner's column goes."""
    for table, collection in store.rows("users", "kept_tables"):
        owner = owned.get(str(collection))
        if owner is not None and owner in columns_of(store, str(table)):
            store.query(f"DELETE FROM {quoted(str(table))} WHERE {quoted(owner)} = ?", (user,))
        else:
            store.run("users", "end_kept_table", table_name=table)


def _forget_queue(store: "Store", user: str) -> None:
    """What the engine itself knows of a user's rows."""
    file_entries(store)
    store.run("users", "forget_entries", owner=user)
    store.run("users", "forget_items", owner=user)
    store.run("users", "forget_receipts", owner=user)
    store.run("users", "forget_rows", owner=user)
    store.run("users", "forget_cursor", owner=user)
    store.run("users", "forget_conflicts", owner=user)
    store.run("users", "forget_parked", owner=user)
    store.run("users", "forget_archive", owner=user)
    store.run("users", "forget_made", owner=user)
    store.run("users", "end_receipts")
    store.run("users", "end_stay", owner=user)
    store.run("users", "count_takeout")


def forget_person(store: "Store", user: str) -> None:
    """What only a wipe takes: numbers, versions, history, and the user's very name."""
    scope = user_scope(user)
    store.run("users", "keep_epoch", owner=user)
    store.run("users", "forget_drain", owner=user)
    store.run("users", "forget_version", scope=scope)
    store.run("users", "forget_runs", scope=scope)
    store.run("users", "blank_texts")
    store.run("users", "forget_states", owner=user, scope=scope)
    store.run("users", "disown_sources", owner=user)
    store.run("users", "disown_erasures", scope=scope)
    if table_exists(store, "sqlite_stat4"):
        store.query(
            "DELETE FROM sqlite_stat4"
        )  # samples of keys (sqlite.org/fileformat2.html#the_sqlite_stat4_table)
