"""How what people write gets into a store: by the app, in one transaction, or by another program, one by one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from simulator.world.people import Change, sql_of
from syncengine.local.connection import open_store

if TYPE_CHECKING:
    from simulator.world.device import Device


def write_by_app(device: "Device", changes: Sequence[Change]) -> None:
    """In one block."""
    assert device.engine is not None
    with device.engine.write() as db:
        for sql, values in _statements(device, changes):
            db.execute(sql, values)


def write_raw(device: "Device", changes: Sequence[Change]) -> None:
    """Over a connection of its own."""
    other = open_store(str(device.path), busy_wait_ms=1_000, synchronous="FULL", clock=device.clock)
    try:
        for sql, values in _statements(device, changes):
            other.execute(sql, values).fetchall()
    finally:
        other.close(True)


def _statements(device: "Device", changes: Sequence[Change]) -> list[tuple[str, tuple[Any, ...]]]:
    """What the database does by itself needs none."""
    return [sql_of(change, user=device.user) for change in changes if not change.by_itself]
