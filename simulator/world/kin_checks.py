"""Rows that refer to each other: nothing goes with its parent without a word, and nobody refers to what is gone."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from simulator.world.app import WorldApp
from simulator.world.ground import PromiseBroken

if TYPE_CHECKING:
    from simulator.world.cloud import WorldCloud
    from simulator.world.device import Device
    from simulator.world.ledger import Ledger

Place = tuple[str, str, str]
"""User, collection and key."""


def check_parents_are_there(device: "Device") -> None:
    """P10: at rest every row has the one that it refers to."""
    broken = device.store.query('SELECT "table", parent FROM pragma_foreign_key_check')
    if broken:
        raise PromiseBroken(f"P10: on {device.name} a row of {broken[0][0]} refers to none of {broken[0][1]}")


def check_deleted_by_somebody(ledger: "Ledger", cloud: "WorldCloud", devices: Sequence["Device"]) -> None:
    """P2: each deletion at the cloud is one that a person made, or the row that went with its parent is kept.

    Of users who have signed out with what was not sent, or were wiped off a device, nobody can tell, nor where a
    store was damaged: what was kept there is gone.
    """
    meant = {
        (edit.user, edit.collection, edit.key) for edit in ledger.edits if edit.kind == "delete" or edit.replaces
    }
    kept = {place for device in devices for place in _kept(device)}
    for effect in cloud.effects:
        place = effect.user, effect.collection, effect.key
        if effect.kind == "delete" and place not in meant | kept and effect.user not in ledger.left:
            raise PromiseBroken(f"P2: {effect.key} of {effect.collection} was deleted at the cloud, and by nobody")


def put_again(app: WorldApp, cloud: "WorldCloud", devices: int) -> Counter[tuple[str, str]]:
    """How often each row may be said again, by collection and key, as its deletion is not allowed where others refer
    to it: by each device that has some of them."""
    deleted: Counter[tuple[str, str]] = Counter()
    for effect in cloud.effects:
        if effect.kind == "delete" and app.shapes[effect.collection].stays_for:
            deleted[effect.collection, effect.key] += devices
    return deleted


def _kept(device: "Device") -> list[Place]:
    found = device.store.query(_WENT_ALONG)
    return [(str(owner), str(collection), str(key)) for owner, collection, key in found]


_WENT_ALONG = "SELECT owner, collection, row_key FROM _sync_quarantine WHERE error_code = 'parent_deleted'"
