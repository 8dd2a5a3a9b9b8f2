"""Rows from the cloud that cannot be taken yet, kept as they came: the newest of each row, with its reason."""

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from syncengine.clock import iso
from syncengine.sync.calls import Beside, PulledRow
from syncengine.vocabulary import SchemaVersion

if TYPE_CHECKING:
    from syncengine.local.store import Store


class Reason(StrEnum):
    """Why a row is parked, as the store keeps it."""

    NEWER_SHAPE = "newer_shape"
    """A newer app wrote it, or a patch beside it; it is taken after this app's next migration."""
    UNKNOWN_COLLECTION = "unknown_collection"
    NO_WAY_DOWN = "no_way_down"
    """An older app's patch lies beside it, and a migration between the two has no way down."""
    PARENT_MISSING = "parent_missing"
    """It refers to a row that is not here; it is taken when that one has come."""
    CHILDREN_LEFT = "children_left"
    """It was deleted, and rows here refer to it."""
    CLASH = "clash"
    """It and another row have the same value where the table wants each once; at the end of the reading it goes to
    quarantine, if nothing has changed by then."""


UNTIL_READABLE = (Reason.NEWER_SHAPE, Reason.UNKNOWN_COLLECTION)
UNTIL_MIGRATED = (*UNTIL_READABLE, Reason.NO_WAY_DOWN)
UNTIL_OTHERS_CAME = (Reason.PARENT_MISSING, Reason.CHILDREN_LEFT, Reason.CLASH)


def park(store: "Store", item: PulledRow, *, owner: str, reason: Reason) -> None:
    """Keep it. Inside a transaction."""
    store.run(
        "pull",
        "park",
        owner=owner,
        collection=item.collection,
        row_key=item.key,
        version=item.version,
        shape_version=_newest_shape(item),
        reason=reason.value,
        body=item_as_json(item),
        now=iso(store.clock.now_ms()),
    )


def unpark(store: "Store", item: PulledRow, *, owner: str) -> None:
    """It waits no longer, or a newer copy has come. Inside a transaction."""
    store.run("pull", "unpark", owner=owner, collection=item.collection, row_key=item.key)


def _newest_shape(item: PulledRow) -> str:
    """What has to be known to read all of it."""
    shapes = [item.shape_version, *(patch.shape_version for patch in item.patches)]
    try:
        return max(shapes, key=SchemaVersion.parse)
    except ValueError:
        return item.shape_version


def item_as_json(item: PulledRow) -> str:
    """A pulled row as text."""
    return json.dumps(
        {
            "collection": item.collection,
            "key": item.key,
            "version": item.version,
            "shape_version": item.shape_version,
            "body": item.body,
            "patches": [
                {"patch": each.patch, "kind": each.kind, "set": each.set, "shape_version": each.shape_version}
                for each in item.patches
            ],
        }
    )


def item_from_json(text: str) -> PulledRow:
    """The pulled row that was kept."""
    said: dict[str, Any] = json.loads(text)
    patches = tuple(Beside(**each) for each in said.pop("patches"))
    return PulledRow(**said, patches=patches)
