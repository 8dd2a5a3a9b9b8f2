"""Documents of an older shape that a migration splits: their edits, and their other parts, over whole rounds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncengine import Engine
from syncengine.remote.wire import RowsRequest
from syncengine.vocabulary import UserId
from tests.properties.test_entries_differential import NEW_SHAPE, OLD_SHAPE, by_function, edit, split
from tests.properties.test_entries_over_cloud import Case, World, rows


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    case = Case((by_function, split), before=[], queued=[], passed=0, then="begun", entries_max=2, shadow=False)
    made = World(tmp_path, case)
    yield made
    made.close()


def totals(engine: Engine) -> dict[str, int]:
    return {key: row["total"] for key, row in rows(engine).items()}


def old_device_has_sent_y(world: World) -> None:
    old = world.device("old", OLD_SHAPE)
    edit(old, [[("put", "y", 0, 0, None)]])
    old.sync_now()


def total_is_now(engine: Engine, key: str, total: int) -> None:
    with engine.write() as db:
        db.execute("UPDATE notes SET total = ? WHERE id = ?", (total, key))
    engine.sync_now()


def nothing_waits(engine: Engine) -> bool:
    count = "SELECT (SELECT count(*) FROM _sync_parked) + (SELECT count(*) FROM _sync_outbox)"
    return engine._store.query(count) == [(0,)]


def test_an_edit_of_a_row_that_was_split_is_seen_by_all_and_takes_the_other_part_along(world: World) -> None:
    old_device_has_sent_y(world)
    one = world.device("one", NEW_SHAPE)
    one.sync_now()
    assert totals(one) == {"y": 0, "y-2": 0}
    total_is_now(one, "y", 5)
    one.sync_now()
    two = world.device("two", NEW_SHAPE)
    two.sync_now()
    for device in (one, two):
        assert totals(device) == {"y": 5, "y-2": 0}
        assert nothing_waits(device)
    at_cloud = world.cloud.rows(UserId("ann"), RowsRequest(request_id="r", user="ann", collection="notes")).rows
    assert {row.key: row.shape_version for row in at_cloud} == {"y": NEW_SHAPE, "y-2": NEW_SHAPE}


def test_an_edit_that_waited_for_the_upgrade_that_splits_its_row_is_seen_by_all(world: World) -> None:
    old = world.device("one", OLD_SHAPE)
    edit(old, [[("put", "y", 0, 0, None)]])
    old.sync_now()
    edit(old, [[("a", "y", 1)]])
    old.close()
    one, two = world.device("one", NEW_SHAPE), world.device("two", NEW_SHAPE)
    for device in (one, two, one, two):
        device.sync_now()
    for device in (one, two):
        assert totals(device) == {"y": 1, "y-2": 1}
        assert nothing_waits(device)


def test_a_part_that_another_device_has_edited_or_deleted_stays_so_beside_its_older_document(world: World) -> None:
    old = world.device("one", OLD_SHAPE)
    edit(old, [[("put", "y", 0, 0, None), ("put", "z", 0, 0, None)]])
    old.sync_now()
    old.close()
    one = world.device("one", NEW_SHAPE)
    one.sync_now()
    total_is_now(one, "y-2", 7)
    with one.write() as db:
        db.execute("DELETE FROM notes WHERE id = 'z-2'")
    one.sync_now()
    two = world.device("two", NEW_SHAPE)
    two.sync_now()
    assert totals(two) == totals(one) == {"y": 0, "y-2": 7, "z": 0}
