"""What an app of before has left on a phone: the store of AsyncStorage, from which the first start takes the rows.

Places are called by words, so that all judges of words judge the import, too; walks and dismissed places are counted
by their keys. A power cut leaves the files as they are: nobody writes them any more.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.asyncstorage_writer import write_values
from simulator.world.ground import PromiseBroken
from simulator.world.ledger import Edit
from simulator.world.words import word

if TYPE_CHECKING:
    from simulator.world.device import Device

FOLDER = "phone"
EACH_MAX = 3
"""So many walks, places and dismissed places at most."""
WALKED_AT = "2025-07-12T06:40:00.000Z"
HIDDEN_AT = "2025-07-12T07:20:00.000Z"
IMPORTS = ("journey-storage-v1-to-v2", "places-storage-v1-to-v2", "dismissed-places-storage-v1-to-v2")


@dataclass(slots=True, kw_only=True)
class Phone:
    """`keys`: by collection, those of the rows that have to come out. `is_judged`: they have been looked for."""

    user: str
    keys: dict[str, list[str]]
    digest: dict[str, bytes]
    is_judged: bool = False


def leave_phone(device: "Device", chance: random.Random) -> None:
    """The device has no store yet, and what the app of its first user has kept before."""
    user = device.user
    names = [f"old-{device.name}-{number}" for number in range(1, EACH_MAX + 1)]
    walks, places, hidden = (names[: chance.randint(1, EACH_MAX)] for _ in range(3))
    saved = [_place(device, key) for key in places]
    values = {
        "@saved_routes": [{"id": key, "coords": _line(chance), "date": WALKED_AT} for key in walks],
        "savedPlaces": saved,
        "dismissedPlaces": [{"placeId": key, "dismissedAt": HIDDEN_AT} for key in hidden],
    }
    texts = {key: json.dumps(value) for key, value in values.items()} | {"@dismissal_preference": "forever"}
    write_values(device.drive.folder / FOLDER, texts, kind="ios")
    keys = {"journeys": walks, "places": places, "dismissed_places": hidden}
    device.phone = Phone(user=user, keys=keys, digest=_files(device))


def _place(device: "Device", key: str) -> dict[str, Any]:
    """It is in the ledger: what an app has kept is as sure as what it has committed."""
    device.edits_made += 1
    number = device.edits_made
    name, kind = (word(device.user, device.name, number, field) for field in ("place", "kind"))
    edit = Edit(
        device=device.name,
        user=device.user,
        number=number,
        group=0,
        kind="put",
        collection="places",
        key=key,
        words=(name, kind),
        version=device.app.versions[0],
    )
    device.ledger.note([edit])
    device.ledger.twofold |= {name, kind}
    return {"placeId": key, "name": name, "category": kind}


def _line(chance: random.Random) -> list[dict[str, float]]:
    return [{"latitude": 35 + chance.random(), "longitude": 139 + chance.random()} for _ in range(2)]


def sources_of(device: "Device") -> Mapping[str, str] | None:
    """Where the engine finds it."""
    return None if device.phone is None else {"asyncstorage": str(device.drive.folder / FOLDER)}


def check_imported(device: "Device") -> None:
    """P8: the start that has done the imports has every row that lay on the phone, and changed none there."""
    phone = device.phone
    if phone is None or phone.is_judged or device.user != phone.user:
        return
    done = {name for (name,) in device.store.query(_DONE, (f"user:{phone.user}",))}
    if not done.issuperset(IMPORTS):
        return
    phone.is_judged = True
    device.saw("phone_imported")
    for collection, keys in phone.keys.items():
        if missing := set(keys) - set(device.keys(collection)):
            raise PromiseBroken(f"P8: {min(missing)} of {collection} lay on the phone of {device.name}, and is gone")
    if _files(device) != phone.digest:
        raise PromiseBroken(f"P8: the import has changed what lay on the phone of {device.name}")


_DONE = "SELECT migration FROM _sync_run WHERE state = 'completed' AND scope = ?"


def _files(device: "Device") -> dict[str, bytes]:
    folder: Path = device.drive.folder / FOLDER
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
