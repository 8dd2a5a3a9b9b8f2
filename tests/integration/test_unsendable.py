"""Rows that no request can carry: they are judged before they get a number, and hold nobody else up."""

import json

import pytest
from drain_world import World

from syncengine.errors import BatchRefused
from syncengine.outbox.entry import Kind, entry_of
from syncengine.outbox.sendable import BODY_DEPTH_MAX, KEY_BYTES_MAX, body_fault, entry_fault
from syncengine.outbox.unreadable_keys import SUBSTITUTE
from syncengine.remote.json_text import value_fault
from syncengine.remote.wire import EntryKind, PushEntry
from syncengine.server import judge

NOT_UTF8 = b"m\xffx"
BAD_KEYS = {
    "NUL": "m\0x",
    "a new line": "m\nx",
    "DEL": "m\x7fx",
    "nothing": "",
    "too many bytes": "m" * (KEY_BYTES_MAX + 1),
    "too many bytes of few letters": "ü" * (KEY_BYTES_MAX // 2 + 1),
}
GOOD_KEYS = {
    "as long as may be": "m" * KEY_BYTES_MAX,
    "blanks and signs": " m x/%?#\\\"'",
    "beyond ASCII": "\x80 ü \N{SNOWMAN} \N{GRINNING FACE}",
}


def nested(depth):
    return '{"a":' + "[" * (depth - 1) + "]" * (depth - 1) + "}"


BAD_BODIES = {
    "NUL in a text": r'{"title":"a\u0000b"}',
    "NUL in a name": r'{"a\u0000b":1}',
    "half a surrogate pair": r'{"title":"\ud83d"}',
    "a number beyond double": '{"title":1e999}',
    "an integer beyond 64 bit": '{"title":9223372036854775808}',
    "an integer of very many digits": '{"title":' + "9" * 5_000 + "}",
    "a list": "[1]",
    "too many levels": nested(BODY_DEPTH_MAX + 1),
    "levels beyond what Python reads": nested(900),
}
GOOD_BODIES = {
    "a backslash before a name like NUL's": r'{"title":"a\\u0000b"}',
    "a whole surrogate pair": r'{"title":"\ud83d\ude00"}',
    "the largest integer": '{"title":9223372036854775807}',
    "as many levels as may be": nested(BODY_DEPTH_MAX),
}


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def add_unreadable(world, key=NOT_UTF8, owner="ann"):
    with world.store.transaction():
        world.store.query("INSERT INTO journeys (user_id, id) VALUES (?, CAST(? AS TEXT))", (owner, key))


def sequences(world):
    return world.store.query("SELECT next_sequence - 1 FROM _sync_drain")


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_row_whose_key_cannot_travel_is_set_aside_without_a_number_and_the_others_go(world, key):
    world.add_journeys("a", key, "z")
    world.upload()
    assert world.drain().ended == "drained"
    assert set(world.cloud_rows()) == {"a", "z"}
    assert [item[1:] for item in world.quarantine()] == [(key, "bad_key", None)]
    assert sequences(world) == [(2,)]


@pytest.mark.parametrize("key", GOOD_KEYS.values(), ids=GOOD_KEYS)
def test_a_key_that_the_protocol_allows_arrives(world, key):
    world.add_journeys(key)
    world.upload()
    world.drain()
    assert set(world.cloud_rows()) == {key}


def test_a_text_with_nul_is_set_aside_without_a_number_and_the_others_go(world):
    world.add_journeys("a", "z")
    world.add_journeys("m", title="k\0v")
    world.upload()
    world.drain()
    assert set(world.cloud_rows()) == {"a", "z"}
    assert [item[1:3] for item in world.quarantine()] == [("m", "text_holds_nul")]
    assert sequences(world) == [(2,)]
    assert world.store.query("SELECT error_text FROM _sync_quarantine") == [("column title holds the character NUL",)]


@pytest.mark.parametrize("kind", ["put", "patch"])
@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_written_body_that_cannot_travel_is_set_aside_without_a_number(world, body, kind):
    world.edit((kind, "journeys", "m", body))
    world.put("z")
    assert [entry.row_key for entry in world.claim().entries] == ["z"]
    assert [item[1] for item in world.quarantine()] == ["m"]
    assert sequences(world) == [(1,)]


@pytest.mark.parametrize("body", GOOD_BODIES.values(), ids=GOOD_BODIES)
def test_a_written_body_that_can_travel_arrives_as_it_is(world, body):
    world.edit(("put", "journeys", "m", body))
    world.drain()
    assert world.cloud_rows() == {"m": json.loads(body)}


def test_a_body_that_cannot_travel_holds_its_own_group_and_nobody_else(world):
    world.edit(("put", "journeys", "a", '{"id":"a"}'), ("put", "journeys", "b\0", '{"id":"b"}'))
    world.put("z")
    world.drain()
    assert set(world.cloud_rows()) == {"z"}
    assert world.states() == {"a": "held"}


def test_a_row_whose_key_is_not_utf8_is_set_aside_and_the_others_go(world):
    world.add_journeys("a", "z")
    add_unreadable(world)
    assert world.upload() == 3
    assert len(world.quarantine()) == 1
    assert world.drain().ended == "drained"
    assert set(world.cloud_rows()) == {"a", "z"}
    assert [item[1:] for item in world.quarantine()] == [(f"m{SUBSTITUTE}x", "key_not_utf8", None)]
    assert world.store.query("SELECT count(*) FROM journeys WHERE id = CAST(? AS TEXT)", (NOT_UTF8,)) == [(1,)]


def test_many_unreadable_keys_on_many_pages_are_all_set_aside(world):
    with world.store.transaction():
        for number in range(1_100):
            key = b"%04d" % number + (b"\xff" if number % 550 == 549 else b"")
            world.store.query("INSERT INTO journeys (user_id, id) VALUES ('ann', CAST(? AS TEXT))", (key,))
    world.upload()
    assert world.drain().ended == "drained"
    assert [item[1:3] for item in world.quarantine()] == [
        (f"0549{SUBSTITUTE}", "key_not_utf8"),
        (f"1099{SUBSTITUTE}", "key_not_utf8"),
    ]
    assert world.store.query("SELECT confirmed_count FROM _sync_drain") == [(1_098,)]


def test_an_entry_whose_key_is_not_utf8_and_was_queued_unjudged_stops_nobody(world):
    world.put("a")
    world.put("m")
    world.put("z")
    with world.store.transaction():
        world.store.query("UPDATE _sync_outbox SET row_key = CAST(? AS TEXT) WHERE row_key = 'm'", (NOT_UTF8,))
    assert world.drain().ended == "drained"
    assert set(world.cloud_rows()) == {"a", "z"}
    assert [item[2] for item in world.quarantine()] == ["key_not_utf8"]


def test_a_retried_item_of_an_unreadable_key_touches_no_other_row(world):
    for key in ("m?x", "mx", "m\N{REPLACEMENT CHARACTER}x"):
        world.put(key)
    add_unreadable(world)
    world.upload()
    world.drain()
    before = world.cloud_rows()
    world.outbox.retry(world.quarantine()[0][0])
    world.drain()
    assert world.cloud_rows() == before
    assert [item[2:] for item in world.quarantine()] == [("key_not_utf8", "retried"), ("bad_key", None)]


def test_a_child_whose_key_is_not_utf8_does_not_stop_what_holds_its_parent_back(world):
    world.add_journeys("a\0")
    with world.store.transaction():
        world.store.query(
            "INSERT INTO notes (user_id, id, journey) VALUES ('ann', CAST(? AS TEXT), 'a' || char(0)),"
            " ('ann', 'n', 'a' || char(0))",
            (NOT_UTF8,),
        )
    world.upload()
    world.upload("notes")
    assert world.drain().ended == "drained"
    assert world.states() == {"n": "held"}
    assert world.cloud_rows("notes") == {}


def as_the_http_backend(request):
    fault = value_fault(request.model_dump())
    return BatchRefused("The request cannot be written as JSON.", why=fault) if fault else None


def test_an_empty_number_is_sent_without_the_name_of_its_row(world):
    """A number that was given out for a key with NUL, by a version that did not judge it."""
    world.put("m")
    world.put("z")
    world.claim()
    with world.store.transaction():
        world.store.query("UPDATE _sync_outbox SET row_key = 'm' || char(0) WHERE row_key = 'm'")
    world.line.refuses = as_the_http_backend
    for _ in range(world.settings.attempts_of_one_entry_max * 2):
        if world.drain().ended == "drained":
            break
    assert set(world.cloud_rows()) == {"z"}
    assert world.outbox.depth("ann") == 0
    assert [item[1:] for item in world.quarantine()] == [("m\0", "batch_refused", None)]
    empty = [entry for request in world.line.pushed for entry in request.entries if entry.kind is EntryKind.VOID]
    assert {(entry.collection, entry.key) for entry in empty} == {("", "")}


@pytest.mark.parametrize("key", [*BAD_KEYS.values(), *GOOD_KEYS.values()], ids=[*BAD_KEYS, *GOOD_KEYS])
def test_device_and_cloud_judge_a_key_alike(world, key):
    world.edit(("delete", "journeys", key, None))
    [row] = world.store.rows("outbox", "entries", owner="ann", entries_max=1)
    travelling = PushEntry(sequence=1, group=1, kind=EntryKind.DELETE, collection="c", key=key, shape_version="2.0.0")
    ours, theirs = entry_fault(entry_of(row)), judge.entry_fault(travelling)
    assert (ours.code if ours else None) == (theirs.code if theirs else None)


@pytest.mark.parametrize("kind", [Kind.MIGRATION, Kind.VOID])
def test_what_names_no_row_is_not_judged_by_its_key(world, kind):
    world.edit((kind.value, "", "", None))
    assert entry_fault(entry_of(world.store.rows("outbox", "entries", owner="ann", entries_max=1)[0])) is None


def test_a_fault_says_nothing_of_the_contents():
    faults = [body_fault(body.replace("title", "secret")) for body in BAD_BODIES.values()]
    assert not any("secret" in fault.why for fault in faults)
