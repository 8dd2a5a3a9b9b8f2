"""Rows that refer to each other: nothing goes with its parent without a word, and nobody refers to what is gone."""

from collections import Counter
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

from simulator.world.app import WorldApp
from simulator.world.ground import PromiseBroken

if TYPE_CHECKING:
    from simulator.world.cloud import WorldCloud
    from simulator.world.device import Device
    from simulator.world.ledger import Ledger
    from syncengine.remote.wire import PullItem

Place = tuple[str, str, str]
"""User, collection and key."""

Kin = tuple[str, str]
"""Collection and key."""


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


def bereft(app: WorldApp, documents: Sequence["PullItem"], parked: Container[Kin]) -> set[Kin]:
    """Rows that wait on a device for a parent that was deleted, and that may not go without it: who could have put it
    again is no longer there."""
    there = {(item.collection, item.key): item.body for item in documents}
    return {
        (name, key)
        for (name, key), body in there.items()
        if body is not None
        and (name, key) in parked
        and (parent := app.shapes[name].parent) is not None
        and name in app.shapes[parent].stays_for
        and there.get((parent, str(body["up"])), body) is None
    }


def bereft_by_leaving(ledger: "Ledger", cloud: "WorldCloud", device: "Device") -> set[Kin]:
    """Of a user whose rows went from some device when they signed out or were wiped; of others none."""
    parked = set(device.store.query(_WITHOUT_PARENT, (device.user,)))
    if not parked or device.user not in ledger.away:
        return set()
    return bereft(device.app, cloud.documents(device.user), parked)


_WITHOUT_PARENT = "SELECT collection, row_key FROM _sync_parked WHERE owner = ? AND reason = 'parent_missing'"


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
