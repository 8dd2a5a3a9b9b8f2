"""A document of the cloud as an app of a later version reads it: the migrations once more, by other hands."""

from typing import Any

from simulator.world.app import COLOUR, VERSIONS
from syncengine.remote.wire import PullItem

Reading = dict[str, Any]


def newer(shape: str, version: str) -> bool:
    """Whether an app of this version cannot read the shape yet."""
    return VERSIONS.index(shape) > VERSIONS.index(version)


def read_document(item: PullItem, *, version: str) -> Reading:
    """The row that a device of this version has to show."""
    assert item.body is not None
    row: Reading = dict(item.body)
    if item.collection != "notes":
        return row
    reached = VERSIONS.index(item.shape_version)
    wanted = VERSIONS.index(version)
    if reached < 1 <= wanted:
        row["heading"] = row.pop("title")
        row["colour"] = COLOUR
    if reached < 2 <= wanted:
        row["begins"], _, row["ends"] = row.pop("span").partition("/")
        del row["place"]
    return row
