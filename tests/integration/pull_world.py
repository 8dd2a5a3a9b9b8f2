"""A device's store with capture on, and pages as a cloud would send them, made by hand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from syncengine.local.store import Store
from syncengine.migrate.registry import Collection, MigrationRegistry
from syncengine.outbox.capture import install_capture
from syncengine.settings import Settings
from syncengine.sync.apply import Applied, Applier
from syncengine.sync.calls import Beside, PulledRow
from syncengine.sync.position import Position, standing
from syncengine.sync.pull import remember_policies
from tests.integration.drain_world import TABLES, MovableClock

JOURNEY = {"title": "a walk", "length_m": 1.5, "steps": 7, "picture": {"$blob": "AP8="}}


def journey(key: str, version: int = 1, **fields: Any) -> PulledRow:
    """A whole journey at the cloud; `fields` beside the usual ones."""
    return pulled("journeys", key, version, {"id": key, **JOURNEY, **fields})


def note(key: str, version: int = 1, **fields: Any) -> PulledRow:
    return pulled("notes", key, version, {"id": key, "journey": None, "text": "text", **fields})


def gone(collection: str, key: str, version: int) -> PulledRow:
    return pulled(collection, key, version, None)


def pulled(
    collection: str,
    key: str,
    version: int,
    body: Mapping[str, Any] | None,
    *,
    shape: str = "2.0.0",
    patches: tuple[Beside, ...] = (),
) -> PulledRow:
    return PulledRow(
        collection=collection,
        key=key,
        version=version,
        shape_version=shape,
        body=None if body is None else dict(body),
        patches=patches,
    )


class Device:
    """One device of ann's, whose tables are of shape 2.0.0."""

    def __init__(
        self, folder: Path, *, merge: Any = "merge", tables: str = TABLES, settings: Settings | None = None
    ) -> None:
        self.registry = MigrationRegistry(
            app="app",
            baseline="2.0.0",
            target="2.0.0",
            collections=(Collection("journeys", merge=merge), Collection("notes")),
        )
        self.store = Store(str(folder / "app.db"), settings=settings or Settings(), clock=MovableClock())
        with self.store.transaction():
            self.store.connection.execute(tables).fetchall()
            for name in ("journeys", "notes"):
                install_capture(self.store, name)
        remember_policies(self.store, self.registry)
        self.applier = Applier(self.store, self.registry, owner="ann")
        self.pages = 0

    def close(self) -> None:
        self.store.close()

    # The app.

    def app(self, sql: str, *values: Any) -> None:
        """One local transaction of one statement; the next is another group."""
        with self.store.transaction():
            self.store.query(sql, values)
            self.store.run("outbox", "close_group")

    # The cloud.

    def page(self, *rows: PulledRow, more: bool = True, **position: Any) -> Applied:
        """A page comes in."""
        self.pages += 1
        facts = {"server_epoch": 1, "resync": 1, "resync_reason": None, **position}
        at = Position(cursor=f"c{self.pages}", at_head=not more, **facts)
        return self.applier.apply(rows, position=at)

    # Looking.

    def rows(self, collection: str = "journeys", owner: str = "ann") -> dict[str, dict[str, Any]]:
        names = [name for (name,) in self.store.query("SELECT name FROM pragma_table_info(?)", (collection,))]
        found = self.store.query(f"SELECT * FROM {collection} WHERE user_id = ? ORDER BY id", (owner,))
        return {row[1]: dict(zip(names, row, strict=True)) for row in found}

    def outbox(self) -> list[tuple[str, str, Any, Any]]:
        """(kind, key, set, before) of each entry."""
        rows = self.store.query("SELECT kind, row_key, set_json, before_json FROM _sync_outbox ORDER BY entry_id")
        return [
            (kind, key, *(None if text is None else json.loads(text) for text in rest)) for kind, key, *rest in rows
        ]

    def known(self) -> dict[str, tuple[int, int]]:
        """(version, deleted) by key."""
        return {
            key: tuple(rest) for key, *rest in self.store.query("SELECT row_key, version, deleted FROM _sync_row")
        }

    def parked(self) -> dict[str, str]:
        return dict(self.store.query("SELECT row_key, reason FROM _sync_parked"))

    def quarantine(self) -> list[tuple[Any, ...]]:
        """(origin, key, code, resolution)."""
        return self.store.query(
            "SELECT origin, row_key, error_code, resolution FROM _sync_quarantine ORDER BY item_id"
        )

    def conflicts(self) -> list[tuple[Any, ...]]:
        """(key, field, local, server, winner, policy)."""
        found = self.store.query(
            "SELECT row_key, field, local_json, server_json, winner, policy FROM _sync_conflict ORDER BY conflict_id"
        )
        return [(key, name, json.loads(mine), json.loads(theirs), *rest) for key, name, mine, theirs, *rest in found]

    def cursor(self) -> str | None:
        return standing(self.store, "ann").cursor
