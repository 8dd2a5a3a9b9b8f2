"""What the cloud says that an entry took the place of, compared with what was known here."""

import json

import pytest
from pull_world import Device

from syncengine.outbox.entry import Entry, Kind, Result
from syncengine.outbox.overwritten import record_overwritten


@pytest.fixture
def device(tmp_path):
    device = Device(tmp_path)
    yield device
    device.close()


def several(*changes):
    body = json.dumps([{"collection": "journeys", **each} for each in changes])
    return Entry(
        entry_id=1,
        owner="ann",
        sequence=1,
        epoch=1,
        kind=Kind.CHANGES,
        collection="journeys",
        row_key="a",
        set_json=body,
        before_json=None,
        base_version=None,
        shape_version="2.0.0",
        original_json=None,
        group_id=1,
        migration=None,
        barrier_json=None,
        state="claimed",
        held_by=None,
        attempts=0,
        last_error=None,
        created_ms=1_753_111_800_000,
    )


def told(device, entry, overwrote):
    with device.store.transaction():
        record_overwritten(device.store, entry, Result(1, "merged", version=7, overwrote=overwrote))
    return [each[:5] for each in device.conflicts()]


def test_of_several_changes_each_row_has_its_own_conflicts(device):
    entry = several(
        {"kind": "put", "key": "b", "set": {"steps": 1, "title": "mine"}, "before": {"title": "known"}},
        {"kind": "put", "key": "c", "set": {"steps": 2}},
        {"kind": "delete", "key": "a", "set": None, "before": {"steps": 3}},
        {"kind": "delete", "key": "d", "set": None, "before": {"steps": 4}},
    )
    overwrote = {"0": {"steps": 9, "title": "known"}, "2": {"steps": 8}, "3": {"steps": 4}}
    assert told(device, entry, overwrote) == [
        ("b", "steps", 1, 9, "local"),
        ("a", "*", None, {"steps": 8}, "local"),
    ]


@pytest.mark.parametrize(
    "overwrote", [{"7": {"steps": 9}}, {"-1": {"steps": 9}}, {"steps": 9}, {"0": 5}, {"\u0663": {}}]
)
def test_a_place_that_is_none_of_the_entrys_is_passed_over(device, overwrote):
    assert told(device, several({"kind": "put", "key": "b", "set": {"steps": 1}}), overwrote) == []
