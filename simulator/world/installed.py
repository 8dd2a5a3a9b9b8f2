"""Stores as apps of long ago have left them: a world begins with them, and need not make them once more."""

import random
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.world.app import WorldApp, registry_of
from simulator.world.clock import DeviceClock, WorldTime
from simulator.world.disk import place_of_disks
from syncengine import Engine
from syncengine.clock import fresh_id
from syncengine.local.connection import open_store
from syncengine.migrate.registry import MigrationRegistry
from syncengine.testing.images import Files

if TYPE_CHECKING:
    from simulator.world.device import Device

STORE = "app.db"


def install(device: "Device", chance: random.Random) -> None:
    """The device has a store that its app made for its users before the world began."""
    files = _left_behind(device.app, device.version, device.users)
    device.drive.begin_with(files)
    connection = open_store(str(device.path), busy_wait_ms=0, synchronous="FULL", clock=device.clock)
    try:
        connection.execute("UPDATE _sync_state SET value = ? WHERE name = 'device_id'", (fresh_id(chance),))
        queued = connection.execute("SELECT migration, scope FROM _sync_run WHERE state = 'queued'").fetchall()
    finally:
        connection.close(True)
    device.drive.adopt()
    for migration, scope in queued:
        user = str(scope).partition(":")[2]
        device.ledger.uploads.update((device.name, user, name) for name in device.app.uploads.get(str(migration), ()))


def forget() -> None:
    """The engine is another one from now on: what it makes has to be made anew."""
    _made.clear()


_made: dict[tuple[str, str, tuple[str, ...]], Files] = {}
"""By app, version and users."""


def _left_behind(app: WorldApp, version: str, users: tuple[str, ...]) -> Files:
    registry = registry_of(app, version)
    place = (registry.app, version, users)
    if place not in _made:
        _made[place] = _make(registry, version, users)
    return _made[place]


def _make(registry: MigrationRegistry, version: str, users: tuple[str, ...]) -> Files:
    folder = Path(tempfile.mkdtemp(prefix="syncengine-installed-", dir=place_of_disks()))
    path = folder / STORE
    try:
        clock, chance = DeviceClock(WorldTime()), random.Random(f"{version}/{users}")
        with Engine.open(path, registry=registry, user=users[0], clock=clock, chance=chance) as engine:
            for user in reversed(users):
                engine.switch_user(user)
                engine.migrate()
        return {STORE: path.read_bytes()}
    finally:
        shutil.rmtree(folder)
