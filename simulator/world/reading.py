"""A document of the cloud as an app of a later version reads it: the migrations once more, by other hands."""

from simulator.world.app import Reading, WorldApp
from syncengine.remote.wire import PullItem


def read_document(app: WorldApp, item: PullItem, *, version: str) -> Reading:
    """The row that a device of this version has to show."""
    assert item.body is not None
    return app.shapes[item.collection].read(dict(item.body), item.shape_version, version)
