"""Triggers on a live table that is being rewritten: they note the keys of rows that anybody writes meanwhile.

Built-in SQL only, so that the `sqlite3` command line and processes of the app's old version are noticed, too. An
INSERT alone would not do: within a statement like UPDATE OR IGNORE its own conflict clause is overridden
(sqlite.org/lang_createtrigger.html), and a row that is written twice would keep its first number.
"""

from typing import TYPE_CHECKING

from syncengine.local.identifiers import quoted

if TYPE_CHECKING:
    from syncengine.local.store import Store

PREFIX = "_sync_shadow_"
_EVENTS = ("insert", "update", "rekey", "delete")


def make_triggers(store: "Store", collection: str, *, keys: tuple[str, ...]) -> None:
    """From the end of this transaction on, each row that is written is noted in `_sync_shadow_touched`."""
    moved = " OR ".join(f"OLD.{quoted(key)} IS NOT NEW.{quoted(key)}" for key in keys)
    for name, event, row in (
        ("insert", "INSERT", "NEW"),
        ("update", "UPDATE", "NEW"),
        ("rekey", "UPDATE", "OLD"),
        ("delete", "DELETE", "OLD"),
    ):
        when = f"WHEN {moved} " if name == "rekey" else ""
        store.query(
            f"CREATE TRIGGER {quoted(_name(collection, name))} AFTER {event} ON {quoted(collection)} "
            f"{when}BEGIN {_note(collection, row, keys)} END"
        )


def trigger_names(collection: str) -> tuple[str, ...]:
    """What the triggers on this table are called."""
    return tuple(_name(collection, event) for event in _EVENTS)


def drop_triggers(store: "Store", collection: str) -> None:
    """Nothing is noted any more."""
    for name in trigger_names(collection):
        store.query(f"DROP TRIGGER IF EXISTS {quoted(name)}")


def _name(collection: str, event: str) -> str:
    return f"{PREFIX}{event}_{collection}"


def _note(collection: str, row: str, keys: tuple[str, ...]) -> str:
    name = "'" + collection.replace("'", "''") + "'"
    owner = f"{row}.{quoted(keys[0])}" if len(keys) > 1 else "''"
    key = f"{row}.{quoted(keys[-1])}"
    return (
        f"DELETE FROM _sync_shadow_touched WHERE collection = {name} AND owner IS {owner} AND row_key IS {key}; "
        f"INSERT INTO _sync_shadow_touched (collection, owner, row_key) VALUES ({name}, {owner}, {key});"
    )
