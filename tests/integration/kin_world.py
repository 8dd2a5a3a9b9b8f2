"""Two devices of one user whose tables refer to each other, and the shipped cloud in this process."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from syncengine import Collection, Engine, tables
from syncengine.errors import BackendUnreachable
from syncengine.remote.wire import PullAnswer, PullRequest
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.settings import Settings
from syncengine.vocabulary import UserId
from tests.integration.drain_world import Line, MovableClock
from tests.integration.migrate_world import registry_of


class CutLine(Line):
    """It may break after some pulls; and somebody may write and sync while one is on its way."""

    pulls_left: int | None = None
    meanwhile: Callable[[], None] | None = None

    def pull(self, request: PullRequest) -> PullAnswer:
        if self.pulls_left == 0:
            raise BackendUnreachable("The line was cut.")
        if self.pulls_left is not None:
            self.pulls_left -= 1
        answer = super().pull(request)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return answer


class Device:
    """One device of ann's."""

    def __init__(self, world: "World", name: str) -> None:
        self.line = CutLine(world.cloud, "ann")
        make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=world.schema)
        self.engine = Engine.open(
            world.folder / f"{name}.db",
            registry=registry_of(make, target="2.0.0", collections=tuple(map(Collection, world.names))),
            user="ann",
            backend=self.line,
            clock=world.clock,
            settings=world.settings,
            chance=random.Random(name),
        )
        self.engine.migrate()

    def write(self, *statements: str) -> None:
        with self.engine.write() as db:
            for statement in statements:
                db.execute(statement)

    def sync(self) -> None:
        self.engine.sync_now()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.engine._store.query(sql)

    def rows(self, table: str) -> dict[str, tuple[Any, ...]]:
        """What is behind owner and key, by key."""
        return {row[1]: row[2:] for row in self.query(f"SELECT * FROM {table} ORDER BY id")}

    def open_items(self) -> list[tuple[Any, ...]]:
        return self.query(
            "SELECT row_key, error_code FROM _sync_quarantine WHERE resolution IS NULL ORDER BY item_id"
        )

    def refused(self) -> list[tuple[Any, ...]]:
        return self.query("SELECT row_key FROM _sync_quarantine WHERE resolution IS NULL AND origin = 'outbox'")

    def bodies(self) -> list[str]:
        return [body for (body,) in self.query("SELECT body FROM _sync_quarantine")]

    def waits(self) -> list[tuple[Any, ...]]:
        return self.query("SELECT row_key, kind FROM _sync_outbox UNION ALL SELECT row_key, reason FROM _sync_parked")

    def conflicts(self) -> list[tuple[Any, ...]]:
        return self.query("SELECT row_key, field, winner FROM _sync_conflict")


class World:
    """Two devices with one cloud. `schema`: a CREATE TABLE for each collection of `names`."""

    def __init__(self, folder: Path, schema: tuple[str, ...], names: tuple[str, ...], **more: Any) -> None:
        self.folder = folder
        self.clock = MovableClock()
        self.settings = Settings(**more)
        self.schema = schema
        self.names = names
        self.cloud = Cloud(SqliteStorage(str(folder / "cloud"), clock=self.clock), clock=self.clock)
        self.cloud.accept_token(UserId("ann"), token="a token of ann")
        self.one, self.two = Device(self, "one"), Device(self, "two")

    @property
    def devices(self) -> tuple[Device, Device]:
        return self.one, self.two

    def settle(self, *order: Device, rounds: int = 4) -> None:
        for device in (order or self.devices) * rounds:
            device.sync()

    def at_cloud(self, collection: str) -> dict[str, tuple[Any, ...]]:
        """The same as the cloud has it."""
        columns = [name for (name,) in self.one.query(f"SELECT name FROM pragma_table_info('{collection}')")][2:]
        asked = PullRequest(request_id="x", user="ann", device="probe", limit=1000)
        items = [item for item in self.cloud.pull(UserId("ann"), asked).items if item.collection == collection]
        return {item.key: tuple(map(item.body.get, columns)) for item in items if item.body is not None}

    def all_agree(self) -> None:
        for table in self.names:
            assert self.one.rows(table) == self.two.rows(table)
            assert self.at_cloud(table) == self.one.rows(table)
        assert [device.waits() for device in self.devices] == [[], []]

    def close(self) -> None:
        for device in self.devices:
            device.engine.close()
        self.cloud.close()
