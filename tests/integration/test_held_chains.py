"""Who waits behind a quarantined entry, also through others that wait already."""

import pytest
from drain_world import World


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def test_a_later_edit_waits_behind_a_group_that_waits_already(world):
    """Else it would reach the cloud before the older edit of its row."""
    world.put("base")
    world.edit(("patch", "journeys", "gone", '{"title":"poison"}'))
    world.drain()
    world.edit(("patch", "journeys", "gone", '{"title":"held"}'), ("patch", "journeys", "base", '{"title":"older"}'))
    world.drain()
    assert world.states() == {"gone": "held", "base": "held"}
    world.edit(("patch", "journeys", "base", '{"title":"newer"}'))
    world.drain()
    states = world.store.query("SELECT state FROM _sync_outbox WHERE row_key = 'base' ORDER BY entry_id")
    assert states == [("held",), ("held",)]
    assert world.cloud_rows()["base"]["title"] == "x"
