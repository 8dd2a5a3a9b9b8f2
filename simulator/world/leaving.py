"""People who sign out, are wiped off a device, or start an older app on its store."""

from typing import TYPE_CHECKING

from simulator.world import checks
from simulator.world.app import registry_of
from simulator.world.ground import PromiseBroken
from simulator.world.words import user_of
from syncengine import Engine
from syncengine.errors import StoreBusy, SyncEngineError, UnsentChanges

if TYPE_CHECKING:
    from simulator.world.device import Device
    from simulator.world.history import World

BACK_MS = 20_000
"""When somebody signs in again."""
FILE_ENDS = ("", "-wal")


def sign_out(world: "World", device: "Device", *, unsent: str) -> None:
    """The user leaves, and comes back after a while; what became of their queue is as they were told."""
    assert device.engine is not None
    if device.is_signed_out or not device.is_healthy:
        return
    waiting = _own_words(device, device.user)
    conceded = checks.words_conceded(device, device.user)
    export = str(device.drive.folder / f"unsent-{world.ground.time.at_ms}.jsonl") if unsent == "export" else None
    device.end_round()
    try:
        report = device.engine.logout(unsent=unsent, export_to=export)
    except UnsentChanges:
        if unsent != "refuse":
            raise
        world.ground.saw("logout_refused", phase=device.phase)
        return
    except StoreBusy:
        return  # another round of this process has not given the line back: people try again
    world.ground.saw(f"logout_{report.became}", phase=device.phase)
    world.ground.note(device.name, "signs_out", device.user, unsent, report.became)
    world.ledger.away.add(device.user)
    world.ledger.given_up |= conceded  # the record of it goes with the user, also where nothing waited
    if report.became in ("exported", "destroyed"):
        world.ledger.given_up |= waiting
        world.ledger.left.add(device.user)
    device.is_signed_out = True
    world.ground.after(BACK_MS, lambda: device.sign_in(device.user))


def wipe_user(world: "World", device: "Device", user: str) -> None:
    """A user is taken off the device, and none of their bytes stays."""
    assert device.engine is not None
    if not device.is_healthy:
        return
    given_up = _own_words(device, user)
    device.end_round()
    try:
        report = device.engine.wipe(user, unsent="destroy", restore_points="delete")
    except StoreBusy:
        return
    world.ground.saw("wiped", phase=device.phase)
    world.ground.note(device.name, "wipes", user)
    world.ledger.given_up |= given_up
    world.ledger.left.add(user)
    world.ledger.away.add(user)
    device.rests.pop(user, None)  # what the cloud wanted of a user goes with all that is known of them
    if report.finished:
        check_no_byte_is_left(device, user)
    if user == device.user:
        device.is_signed_out = True
        world.ground.after(BACK_MS, lambda: device.sign_in(device.user))


def _own_words(device: "Device", user: str) -> frozenset[str]:
    kept = checks.words_waiting(device) | checks.words_kept([device])
    return frozenset(found for found in kept if user_of(found) == user)


def check_no_byte_is_left(device: "Device", user: str) -> None:
    """P11: in no file of the device is a word of a user who was wiped off it."""
    wanted = f"{user}~".encode()
    for path in sorted(device.drive.folder.rglob("*")):
        if path.is_file() and path.suffix != ".jsonl" and wanted in path.read_bytes():
            raise PromiseBroken(f"P11: {user} was wiped off {device.name}, and {path.name} has words of theirs")


def look_with_older_app(world: "World", device: "Device") -> None:
    """P13: an older app opens the store for reading only, says why, and leaves every byte."""
    versions = device.app.versions
    at = versions.index(device.version)
    if not at or not device.is_healthy:
        return
    world.ground.saw("downgrade", phase=device.phase)
    world.ground.note(device.name, "older_app", versions[at - 1])
    device.switch_off()
    before = _bytes_of(device)
    older = Engine.open(
        device.path, registry=registry_of(device.app, versions[at - 1]), user=device.user, clock=device.clock
    )
    try:
        check_says_why(older, device)
        check_refuses_writes(older, device)
    finally:
        older.close()
    check_bytes_stay(device, before)
    device.switch_on()


def check_says_why(older: Engine, device: "Device") -> None:
    """P13: a store of a newer app is open for reading only, for a reason."""
    if older.read_only is None:
        raise PromiseBroken(f"P13: an older app than {device.version} may write to the store of {device.name}")


def check_bytes_stay(device: "Device", before: dict[str, bytes]) -> None:
    """P13: not one byte of it is another."""
    if _bytes_of(device) != before:
        raise PromiseBroken(f"P13: an older app changed the store of {device.name}")


def check_refuses_writes(older: Engine, device: "Device") -> None:
    """P13: whoever writes all the same is told no."""
    try:
        with older.write() as db:
            db.execute("DELETE FROM notes")
    except SyncEngineError:
        return
    raise PromiseBroken(f"P13: an older app wrote to the store of {device.name}")


def _bytes_of(device: "Device") -> dict[str, bytes]:
    paths = [device.path.with_name(device.path.name + end) for end in FILE_ENDS]
    return {path.name: path.read_bytes() for path in paths if path.exists() and path.stat().st_size}
