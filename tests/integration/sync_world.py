"""Several devices of one user, each a whole engine, and the shipped cloud in this process."""

import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from syncengine import Collection, ListedMigration, MigrationRegistry, migration, tables
from syncengine.engine import Engine
from syncengine.errors import SyncEngineError
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.settings import Settings
from syncengine.sync.drain import RoundReport
from syncengine.vocabulary import SchemaVersion, UserId
from tests.integration.drain_world import Line, MovableClock

PLANS_V1 = """CREATE TABLE plans (
  user_id TEXT NOT NULL, id TEXT NOT NULL, title TEXT, minutes INTEGER, note TEXT,
  PRIMARY KEY (user_id, id)
) STRICT;"""
STEPS_V1 = """CREATE TABLE steps (
  user_id TEXT NOT NULL, id TEXT NOT NULL, plan TEXT, text TEXT,
  PRIMARY KEY (user_id, id), FOREIGN KEY (user_id, plan) REFERENCES plans (user_id, id)
) STRICT;"""
PLANS_V2 = """CREATE TABLE plans (
  user_id TEXT NOT NULL, id TEXT NOT NULL, name TEXT, seconds INTEGER, note TEXT,
  PRIMARY KEY (user_id, id)
) STRICT;"""

make_tables = tables(id="plans-1", from_version="0.0.0", to_version="1.0.0", create=(PLANS_V1, STEPS_V1))


@migration(id="plans-2", collection="plans", from_version="1.0.0", to_version="2.0.0", table=PLANS_V2)
def plans_2(old: dict) -> dict:
    seconds = None if old["minutes"] is None else old["minutes"] * 60
    return {**{n: old[n] for n in ("user_id", "id", "note")}, "name": old["title"], "seconds": seconds}


@plans_2.down
def plans_1(new: dict) -> dict:
    minutes = None if new["seconds"] is None else new["seconds"] // 60
    return {**{n: new[n] for n in ("user_id", "id", "note")}, "title": new["name"], "minutes": minutes}


def registry(version: str, merge: Any = "merge") -> MigrationRegistry:
    return MigrationRegistry(
        app="plans",
        baseline="0.0.0",
        target=version,
        collections=(Collection("plans", merge=merge), Collection("steps", merge=merge)),
        migrations=(
            ListedMigration("plans-1", "0.0.0 > 1.0.0", make_tables),
            ListedMigration("plans-2", "1.0.0 > 2.0.0", plans_2),
        ),
        asks_for_major=False,
    )


def impatient(folder: Path, **line: Any) -> Engine:
    """An engine of ann's at 1.0.0 with one plan that waits, which tries again after a moment. `line`: its cloud."""
    settings = Settings(idle_wait_ms_max=100, retry_wait_ms_min=10, retry_wait_ms_max=50, pull_interval_ms=50)
    engine = Engine.open(
        str(folder / "app.db"),
        registry=registry("1.0.0"),
        user="ann",
        settings=settings,
        chance=random.Random(1),
        **line,
    )
    engine.migrate()
    with engine.write() as db:
        db["plans"].insert({"user_id": "ann", "id": "a", "title": "mine"})
    return engine


class Device:
    """One device of ann's."""

    def __init__(self, world: "World", name: str, version: str, merge: Any) -> None:
        self.world = world
        self.path = world.folder / name
        self.path.mkdir(exist_ok=True)
        self.merge = merge
        self.chance = random.Random(name)
        self.open(version)

    def open(self, version: str) -> None:
        self.version = version
        self.line = Line(self.world.cloud, "ann")
        self.events: list[object] = []
        self.engine = Engine.open(
            self.path / "app.db",
            registry=registry(version, self.merge),
            user="ann",
            backend=self.line,
            settings=self.world.settings,
            clock=self.world.clock,
            chance=self.chance,
            listener=self.events.append,
        )
        self.engine.migrate()

    def restart(self, version: str | None = None) -> None:
        self.engine.close()
        self.open(version or self.version)

    def write(self, sql: str, *values: Any) -> None:
        with self.engine.write() as db:
            db.execute(sql, values)

    def add(self, key: str, **fields: Any) -> None:
        with self.engine.write() as db:
            db["plans"].insert({"user_id": "ann", "id": key, **fields})

    def sync(self) -> RoundReport:
        return self.engine.sync_now()

    def failed_sync(self) -> SyncEngineError:
        """A round that has to fail, and the time after which the next may be tried."""
        with pytest.raises(SyncEngineError) as raised:
            self.engine.sync_now()
        self.world.clock.wall_ms += 3_600_000
        return raised.value

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.engine._store.query(sql, values)

    def plans(self) -> dict[str, tuple[Any, ...]]:
        return {row[1]: row[2:] for row in self.query("SELECT * FROM plans WHERE user_id = 'ann' ORDER BY id")}

    def outbox(self) -> list[tuple[str, str]]:
        return self.query("SELECT kind, row_key FROM _sync_outbox ORDER BY entry_id")

    def conflicts(self) -> list[tuple[Any, ...]]:
        return self.query("SELECT row_key, field, local_json, server_json, winner FROM _sync_conflict")

    def quarantine(self) -> list[tuple[Any, ...]]:
        return self.query("SELECT origin, row_key, error_code FROM _sync_quarantine WHERE resolution IS NULL")

    def parked(self) -> list[tuple[Any, ...]]:
        return self.query("SELECT row_key, reason FROM _sync_parked")


class World:
    """ann, her devices, and her cloud."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.folder = folder
        self.settings = settings or Settings()
        self.clock = MovableClock()
        self.devices: list[Device] = []
        self.cloud = self._open_cloud()
        self.cloud.accept_token(UserId("ann"), token="a token of ann")

    def _open_cloud(self, schema_min: Mapping[str, SchemaVersion] | None = None) -> Cloud:
        return Cloud(
            SqliteStorage(str(self.folder / "cloud"), clock=self.clock), clock=self.clock, schema_min=schema_min or {}
        )

    def device(self, name: str, version: str = "1.0.0", merge: Any = "merge") -> Device:
        device = Device(self, name, version, merge)
        self.devices.append(device)
        return device

    def settle(self, *devices: Device, rounds: int = 3) -> None:
        """Each device syncs until all have met all."""
        for _ in range(rounds):
            for device in devices or self.devices:
                device.sync()

    # The cloud's database.

    def backup(self) -> None:
        self.cloud.close()
        shutil.copytree(self.folder / "cloud", self.folder / "backup")
        self._reopen()

    def restore(self) -> None:
        self.cloud.close()
        shutil.rmtree(self.folder / "cloud")
        shutil.copytree(self.folder / "backup", self.folder / "cloud")
        self._reopen()

    def _reopen(self, **choices: Any) -> None:
        self.cloud = self._open_cloud(**choices)
        for device in self.devices:
            device.line.cloud = self.cloud

    def accept_only_from(self, version: str) -> None:
        self.cloud.close()
        self._reopen(schema_min={"plans": SchemaVersion.parse(version)})

    def close(self) -> None:
        for device in self.devices:
            device.engine.close()
        self.cloud.close()
