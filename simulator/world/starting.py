"""What a device's engine says and asks while it starts; and people who stop a migration while it runs.

Then the store is as it was, and the next run does it whole.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.world.ground import Ground, PromiseBroken
from simulator.world.own_line import OwnLine
from syncengine.events import MigrationStarted

if TYPE_CHECKING:
    from simulator.world.device import Device
    from syncengine.migrate.results import MigrationReport, MigrationResult

Image = dict[str, list[tuple[object, ...]]]
"""Rows by table, and the texts that made the tables."""

STOPPED = {"cancel": "cancelled", "pause": "paused"}
"""What a person asks for, and what becomes of the run."""
KEPT = ("_sync_outbox", "_sync_outbox_item", "_sync_quarantine", "_sync_version", "_sync_collection")
"""The engine's own tables in which nothing may have changed; its history has one more entry."""


@dataclass(slots=True)
class Starting:
    """`line`: by which the engine could ask the cloud without the world's doing. `told`: what it has told of the
    migrations of the last start. `wish`: how a person stops the next one: cancel, pause or not at all."""

    line: OwnLine = field(default_factory=OwnLine)
    told: list[object] = field(default_factory=list)
    wish: str = ""


def heard(device: "Device", event: object) -> None:
    """The engine tells of its migrations; whoever wants to stop the first of them does it now."""
    device.starting.told.append(event)
    if isinstance(event, MigrationStarted) and device.starting.wish and device.engine is not None:
        wish = device.starting.wish
        device.starting.wish = ""
        service = device.engine.migrations
        service.cancel() if wish == "cancel" else service.pause()


def agreed(_: object) -> bool:
    """People of this world agree to every new version."""
    return True


def migrate(device: "Device", ground: Ground) -> None:
    """All migrations of a device's app."""
    assert device.engine is not None
    if device.engine.read_only is not None:
        raise device.engine.read_only.as_error()
    report = _migrated(device, ground)
    for result in report.results if report is not None else ():
        if result.state == "queued":
            names = device.app.uploads.get(result.migration_id, ())
            device.ledger.uploads.update((device.name, device.user, name) for name in names)
        check_migrated(device, result)


def check_migrated(device: "Device", result: "MigrationResult") -> None:
    """P6: no migration fails, but where the disk does, or the file is damaged."""
    if not result.success and not device.is_hurt(result.failure):
        raise PromiseBroken(f"P6: {device.name} could not migrate: {result.migration_id}: {result.failure}")


def _migrated(device: "Device", ground: Ground) -> "MigrationReport | None":
    """All migrations; where a person has stopped one, once more."""
    assert device.engine is not None
    wish = device.starting.wish
    if not wish:
        return device.engine.migrate()
    before = image_of(device)
    report = device.engine.migrate()
    device.starting.wish = ""
    states = [result.state for result in report.results] if report is not None else []
    if STOPPED[wish] in states:
        ground.saw(f"upgrade_{STOPPED[wish]}", phase=device.phase)
        ground.note(device.name, "stops", wish)
    if states == [STOPPED[wish]]:
        check_stopped_as_before(device, before)
    # A wish that came when there was nothing left to do lasts, or has left out what comes next.
    device.engine.migrations.resume()
    return device.engine.migrate() or report


def image_of(device: "Device") -> Image:
    """All that a migration which did not happen leaves as it was."""
    tables = device.store.query("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name")
    own = {str(name) for name, _ in tables}
    kept = [name for name in (*device.app.shapes, *KEPT) if name in own]
    return {"schema": tables, **{name: device.store.query(f"SELECT * FROM {name} ORDER BY 1, 2") for name in kept}}


def check_stopped_as_before(device: "Device", before: Image) -> None:
    """P6: a migration that was cancelled or paused has changed no table, no row and nothing that waits."""
    for name, rows in image_of(device).items():
        if rows != before.get(name):
            raise PromiseBroken(f"P6: a migration of {device.name} was stopped, and {name} is not as it was")
