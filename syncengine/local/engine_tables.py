"""The engine's own tables and their numbered upgrades."""

from __future__ import annotations

import apsw

from syncengine.clock import fresh_id, iso
from syncengine.errors import COPY_FIRST, StoreDamaged, StoreForeign, StoreSuperseded
from syncengine.local.statements import LOCAL_SQL, statement
from syncengine.local.version_table import parse_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random
    from typing import Final

    from syncengine.local.store import Store
    from syncengine.vocabulary import SchemaVersion

UPGRADES = ("schema_1",)
"""One .sql file for each edition of the engine's tables, oldest first; none is ever edited after a release."""

_NOT_WHAT_WE_WRITE = (KeyError, TypeError, ValueError, OverflowError, MemoryError)
"""What Python says of a record whose bytes were changed: ValueError also of text that is no UTF-8."""


class Facts:
    """What a start finds in a store before it writes anything; all empty in a new one."""

    __slots__ = ("app", "edition", "erasing", "schema_cookie", "versions")

    def __init__(self, facts: dict[str, str], versions: dict[str, SchemaVersion]) -> None:
        self.edition: Final = int(facts["engine_schema"]) if facts else 0
        self.app: Final = facts.get("app")
        """Whose store it is; None until the first engine with an app has opened it."""
        self.schema_cookie: Final = facts.get("schema_cookie")
        """SQLite's own count of schema changes when the shapes were last found right."""
        self.erasing: Final = "erasing" in facts
        """Something that a migration erased may still lie in the files."""
        self.versions: Final = versions


def examined(connection: apsw.Connection) -> Facts:
    """Read what can stand against writing to a store. Raises StoreDamaged, StoreSuperseded."""
    try:
        return _facts(connection)
    except (apsw.SQLError, apsw.CorruptError, apsw.NotADBError, *_NOT_WHAT_WE_WRITE) as error:
        raise StoreDamaged(
            "The engine's own tables in this store cannot be read.",
            # SQLite's words name tables and columns; any other may quote what stands there.
            why=f"{type(error).__name__}: {error}" if isinstance(error, apsw.Error) else type(error).__name__,
            fix=COPY_FIRST,
        ) from error


def _facts(connection: apsw.Connection) -> Facts:
    if not connection.execute(statement("state", "has_engine_tables")).get:
        return Facts({}, {})
    rows = connection.execute(statement("opening", "facts")).fetchall()
    facts = {str(name): str(value) for name, value in rows}
    refuse_newer_edition(int(facts["engine_schema"]))
    versions = connection.execute(statement("opening", "versions")).fetchall()
    return Facts(facts, {str(scope): parse_version(str(version)) for scope, version in versions})


def refuse_newer_edition(edition: int) -> None:
    """Raises StoreSuperseded for tables that a newer engine made."""
    if edition > len(UPGRADES):
        raise StoreSuperseded(
            "This store was written by a newer version of the engine.",
            why=f"its tables are edition {edition}; this engine knows {len(UPGRADES)}",
            fix="Update the app. The store was not changed.",
        )


def refuse_another_app(owner: str | None, app: str | None) -> None:
    """Raises StoreForeign for the store of another app."""
    if None not in (owner, app) and owner != app:
        raise StoreForeign(
            f"This is the store of the app {owner!r}, and {app!r} opened it.",
            why="another app's migrations would change its data",
            fix="Give the path of this app's own store. Nothing was changed.",
        )


def upgrade_engine_tables(store: Store, *, chance: Random | None = None) -> None:
    """Bring the engine's tables to the newest edition, all or nothing.

    Safe in any number of processes at once: who comes second finds it done. Raises StoreSuperseded when a
    newer engine wrote the store, StoreDamaged where a part of the tables is there; the file is then unchanged.
    """
    from syncengine.clock import system_random

    with store.transaction(durable=True):
        edition = installed_edition(store)
        for number in range(edition + 1, len(UPGRADES) + 1):
            _apply(store, number)
        if edition == 0:
            store.run("state", "set", name="device_id", value=fresh_id(chance or system_random()))


def claim_for_app(store: Store, app: str) -> None:
    """Note whose store it is, once. Raises StoreForeign for one that belongs to another app."""
    with store.transaction():
        store.run("state", "claim_for_app", app=app)
        refuse_another_app(store.value("state", "get", name="app"), app)


def installed_edition(store: Store) -> int:
    """The number of the edition in the file; 0 in a new one. Raises StoreSuperseded."""
    if not store.value("state", "has_engine_tables"):
        return 0
    edition = int(str(store.value("state", "get", name="engine_schema")))
    refuse_newer_edition(edition)
    return edition


def _apply(store: Store, number: int) -> None:
    with open(f"{LOCAL_SQL}/{UPGRADES[number - 1]}.sql", encoding="utf-8") as text:
        # fetchall: apsw runs several statements only as far as it is read.
        try:
            store.connection.execute(text.read()).fetchall()
        except apsw.SQLError as error:
            raise StoreDamaged(
                "A part of the engine's own tables is missing from this store.",
                why=str(error),
                fix=COPY_FIRST,
            ) from error
    store.run("state", "set", name="engine_schema", value=str(number))
    store.run("state", "set", name="upgraded_at", value=iso(store.clock.now_ms()))


def made_by_editions() -> dict[tuple[str, str], str]:
    """(kind, name) of every table, index and view that the engine makes, with its SQL."""
    import re

    made = {}
    for upgrade in UPGRADES:
        with open(f"{LOCAL_SQL}/{upgrade}.sql", encoding="utf-8") as text:
            for found in re.finditer(r"^CREATE (?:UNIQUE )?(TABLE|INDEX|VIEW) (\w+).*?;$", text.read(), re.M | re.S):
                made[found[1].lower(), found[2]] = found[0]
    return made
