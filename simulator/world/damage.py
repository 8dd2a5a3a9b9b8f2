"""Bytes that flip in a store's file: the store says so, nothing of it reaches others, and a person brings it back.

Only the structure of pages is hit (sqlite.org/fileformat2.html, section 1.6). A byte that flips inside of a value
makes another value, and SQLite, which has no checksums of pages, cannot tell.
"""

import random
from typing import TYPE_CHECKING

from simulator.world.disk import damage_in
from simulator.world.ground import PromiseBroken
from syncengine.cli.checks import examined
from syncengine.cli.finding import Verdict
from syncengine.errors import SyncEngineError
from syncengine.local.keys import KEY_FILE_ENDS, KeyFile
from syncengine.local.rescuing import rescue
from syncengine.local.restore_folder import restore_folder
from syncengine.local.restore_points import make_restore_point

if TYPE_CHECKING:
    from simulator.world.device import Device
    from simulator.world.history import World

PAGE_BYTES = 4_096
HEADER_BYTES = 8
"""Of a b-tree page: its kind, free block, number of cells, and where they begin."""
FILE_HEADER_BYTES = 100
PAGES_HIT_MAX = 4
SEEN_MS = (500, 90_000)
"""When a person sees that something is wrong."""


def damage_store(world: "World", device: "Device", chance: random.Random) -> None:
    """Flip bytes of a store while its app is closed, and start it."""
    assert device.engine is not None
    has_copy, seen_ms, hits = chance.random() < 0.5, chance.randint(*SEEN_MS), chance.randint(1, PAGES_HIT_MAX)
    sealed = _sealed_copy(device, chance) if has_copy else None
    device.switch_off()
    files = device.drive.files()
    data = bytearray(files[device.path.name])
    for _ in range(hits):
        page = chance.randrange(1, max(len(data) // PAGE_BYTES, 2)) * PAGE_BYTES
        data[page : page + HEADER_BYTES] = chance.randbytes(HEADER_BYTES)
    device.drive.go_on_with({**files, device.path.name: bytes(data)})
    found = damage_in(bytes(data))
    world.ground.note(device.name, "bytes_flip", "damaged" if found else "unharmed")
    if not found:
        device.switch_on()
        return
    world.ground.saw("damaged")
    device.is_damaged = True
    device.switch_on()
    world.ground.after(seen_ms, lambda: bring_back(world, device, sealed))
    world.damaged.append((device, sealed))


def _sealed_copy(device: "Device", chance: random.Random) -> str | None:
    try:
        keys = KeyFile(f"{device.path}{KEY_FILE_ENDS}", chance=chance)
        point = make_restore_point(device.store, keys=keys, reason="asked")
    except SyncEngineError:
        return None  # the disk fails
    return point.path.rpartition("/")[2]


def bring_back(world: "World", device: "Device", sealed: str | None) -> None:
    """A person looks, and puts the sealed copy in place, or begins anew: the cloud has the rest."""
    if not device.is_damaged:
        return
    device.drive.failure = ""
    device.switch_off()
    check_damage_is_told(device)
    device.is_damaged = device.has_told_damage = False
    device.rests.clear()  # the note of it is gone with the disk
    world.ledger.left.update(device.users)
    # What waited here and was not in the copy is gone with the disk.
    for edit in world.ledger.edits:
        if edit.device == device.name:
            edit.is_sure = False
    if sealed is None:
        world.ground.saw("store_begun_anew")
        device.drive.go_on_with({})
    else:
        world.ground.saw("store_rescued")
        _rescue(device, sealed)
    world.ground.note(device.name, "brought_back", "anew" if sealed is None else "from its sealed copy")
    device.switch_on()


def check_damage_is_told(device: "Device") -> None:
    """P13: the engine has refused a damaged store, or at least `doctor` says what is wrong with it."""
    if not device.has_told_damage and not _doctor_finds(device):
        raise PromiseBroken(f"P13: the store of {device.name} is damaged, and nothing says so")


def _doctor_finds(device: "Device") -> bool:
    try:
        return any(finding.verdict is Verdict.BAD for finding in examined(str(device.path)))
    except SyncEngineError:
        return True


def _rescue(device: "Device", sealed: str) -> None:
    rescue(
        str(device.path),
        f"{restore_folder(str(device.path))}/{sealed}",
        keys=KeyFile(f"{device.path}{KEY_FILE_ENDS}"),
        settings=device.settings,
        clock=device.clock,
    )
    device.drive.adopt()
