"""The engine's own tables and their numbered upgrades."""

from __future__ import annotations

from syncengine.clock import fresh_id, iso
from syncengine.errors import StoreForeign, StoreSuperseded
from syncengine.local.statements import LOCAL_SQL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

    from syncengine.local.store import Store

UPGRADES = ("schema_1",)
"""One .sql file for each edition of the engine's tables, oldest first; none is ever edited after a release."""


def upgrade_engine_tables(store: Store, *, chance: Random | None = None) -> None:
    """Bring the engine's tables to the newest edition, all or nothing.

    Safe in any number of processes at once: who comes second finds it done. Raises StoreSuperseded when a
    newer engine wrote the store; the file is then unchanged.
    """
    if installed_edition(store) == len(UPGRADES):
        return
    from syncengine.clock import system_random

    with store.transaction(durable=True):
        edition = installed_edition(store)
        for number in range(edition + 1, len(UPGRADES) + 1):
            _apply(store, number)
        if edition == 0:
            store.run("state", "set", name="device_id", value=fresh_id(chance or system_random()))


def claim_for_app(store: Store, app: str) -> None:
    """Note whose store it is, once. Raises StoreForeign for one that belongs to another app."""
    owner = store.value("state", "get", name="app")
    if owner is None:
        with store.transaction():
            store.run("state", "claim_for_app", app=app)
        owner = store.value("state", "get", name="app")
    if owner != app:
        raise StoreForeign(
            f"This is the store of the app {owner!r}, and {app!r} opened it.",
            why="another app's migrations would change its data",
            fix="Give the path of this app's own store. Nothing was changed.",
        )


def installed_edition(store: Store) -> int:
    """The number of the edition in the file; 0 in a new one."""
    if not store.value("state", "has_engine_tables"):
        return 0
    edition = int(str(store.value("state", "get", name="engine_schema")))
    if edition > len(UPGRADES):
        raise StoreSuperseded(
            "This store was written by a newer version of the engine.",
            why=f"its tables are edition {edition}; this engine knows {len(UPGRADES)}",
            fix="Update the app. The store was not changed.",
        )
    return edition


def _apply(store: Store, number: int) -> None:
    with open(f"{LOCAL_SQL}/{UPGRADES[number - 1]}.sql", encoding="utf-8") as text:
        # fetchall: apsw runs several statements only as far as it is read.
        store.connection.execute(text.read()).fetchall()
    store.run("state", "set", name="engine_schema", value=str(number))
    store.run("state", "set", name="upgraded_at", value=iso(store.clock.now_ms()))
