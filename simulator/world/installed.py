"""Stores as apps of long ago have left them: a world begins with them, and need not make them once more."""

import random
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.world.app import WorldApp, registry_of
from simulator.world.clock import DeviceClock, WorldTime
from simulator.world.disk import place_of_disks
from syncengine import Engine
from syncengine.clock import fresh_id
from syncengine.local.connection import open_store
from syncengine.testing.images import Files

if TYPE_CHECKING:
    from simulator.world.device import Device

STORE = "app.db"


def install(device: "Device", chance: random.Random) -> None:
    """The device has a store that its app made for its first user before the world began."""
    files = _left_behind(_Named(device.app), device.version, device.users[0])
    device.drive.begin_with(files)
    connection = open_store(str(device.path), busy_wait_ms=0, synchronous="FULL", clock=device.clock)
    try:
        connection.execute("UPDATE _sync_state SET value = ? WHERE name = 'device_id'", (fresh_id(chance),))
        queued = connection.execute("SELECT migration FROM _sync_run WHERE state = 'queued'").fetchall()
    finally:
        connection.close(True)
    device.drive.adopt()
    for (migration,) in queued:
        names = device.app.uploads.get(str(migration), ())
        device.ledger.uploads.update((device.users[0], name) for name in names)


class _Named:
    """An app by the name that it has in its stores: an app cannot be hashed."""

    def __init__(self, app: WorldApp) -> None:
        self.app = app
        self._name = registry_of(app, app.versions[0]).app

    def __hash__(self) -> int:
        return hash(self._name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Named) and other.app is self.app


@cache
def _left_behind(named: _Named, version: str, user: str) -> Files:
    folder = Path(tempfile.mkdtemp(prefix="syncengine-installed-", dir=place_of_disks()))
    path = folder / STORE
    try:
        registry, clock = registry_of(named.app, version), DeviceClock(WorldTime())
        chance = random.Random(f"{version}/{user}")
        with Engine.open(path, registry=registry, user=user, clock=clock, chance=chance) as engine:
            engine.migrate()
        return {STORE: path.read_bytes()}
    finally:
        shutil.rmtree(folder)
