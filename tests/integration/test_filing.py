"""Edits enter no index while the app waits; whoever looks for an entry finds it all the same."""

import pytest
from drain_world import World

from syncengine.outbox.filing import file_entries
from syncengine.outbox.waiting import WINDOW_IDS

WRITTEN = """
    INSERT INTO _sync_outbox (owner, kind, collection, row_key, set_json, shape_version, group_id, created_ms, fresh)
    SELECT :owner, 'put', 'journeys', :prefix || value, '{}', '2.0.0', :group + value, 1767225600000, 1
    FROM (WITH n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < :count) SELECT value FROM n)
"""


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def written(world, owner, count, *, group=1_000, prefix=None):
    """As triggers write it."""
    with world.store.transaction():
        world.store.query(WRITTEN, {"owner": owner, "prefix": prefix or f"{owner}-", "count": count, "group": group})


def claimed(world, owner, entries_max=9):
    batch = world.outbox.claim(owner, entries_max=entries_max, bytes_max=99_999)
    return [entry.row_key for entry in batch.entries]


def filed_to(world):
    return world.store.rows("outbox", "filed_to")[0][0]


def test_a_drain_leaves_the_indexes_alone(world):
    written(world, "ann", 6)
    assert claimed(world, "ann", 4) == ["ann-1", "ann-2", "ann-3", "ann-4"]
    assert world.store.query("SELECT count(*) FROM _sync_outbox WHERE fresh IS NOT NULL") == [(6,)]
    assert filed_to(world) == 0


def test_entries_that_were_entered_and_later_ones_are_sent_in_the_order_of_writing(world):
    written(world, "ann", 3)
    file_entries(world.store)
    written(world, "ann", 2, group=2_000, prefix="later-")
    assert filed_to(world) == 3
    assert claimed(world, "ann") == ["ann-1", "ann-2", "ann-3", "later-1", "later-2"]
    assert world.outbox.sendable("ann") == 5


def test_all_up_to_the_mark_are_in_the_indexes_and_the_store_is_sound(world):
    written(world, "ann", 10)
    file_entries(world.store)
    written(world, "bob", 2)
    file_entries(world.store)
    file_entries(world.store)
    written(world, "bob", 2, group=2_000)
    assert world.store.query("SELECT entry_id FROM _sync_outbox WHERE fresh = 1") == [(13,), (14,)]
    assert filed_to(world) == 12
    assert world.store.query("PRAGMA integrity_check") == [("ok",)]


def test_a_user_behind_the_long_queue_of_another_passes_it_once(world):
    written(world, "bob", 2 * WINDOW_IDS)
    written(world, "ann", 4)
    newest = 2 * WINDOW_IDS + 4
    assert claimed(world, "ann", 2) == ["ann-1", "ann-2"]
    assert filed_to(world) == newest
    assert world.outbox.sendable("ann") == 4
    assert world.outbox.sendable("bob") == 2 * WINDOW_IDS


def test_a_long_batch_of_ones_own_that_is_on_its_way_is_passed_and_the_indexes_left_alone(world):
    written(world, "ann", WINDOW_IDS + 2)
    first = world.outbox.claim("ann", entries_max=WINDOW_IDS, bytes_max=99_999_999)
    behind = world.outbox.claim("ann", entries_max=9, bytes_max=99_999, behind=first)
    assert [entry.row_key for entry in behind.entries] == [f"ann-{WINDOW_IDS + 1}", f"ann-{WINDOW_IDS + 2}"]
    assert filed_to(world) == 0


def test_what_is_looked_for_by_its_row_is_found_before_and_after_it_is_entered(world):
    written(world, "ann", 3)
    row = {"collection": "journeys", "owner": "ann", "row_key": "ann-2"}
    before = (
        world.store.rows("receipts", "entries_of_row", **row),
        world.store.rows("receipts", "ahead", owner="ann", entry_id=3),
    )
    file_entries(world.store)
    after = (
        world.store.rows("receipts", "entries_of_row", **row),
        world.store.rows("receipts", "ahead", owner="ann", entry_id=3),
    )
    assert before == after == ([(2,)], [(2,)])
