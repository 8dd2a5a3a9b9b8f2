"""What a claim decides: versions, tokens, conflicts that wait, joined edits, and what is claimed ahead."""

import json
import re
from dataclasses import replace
from itertools import pairwise

import apsw
import pytest
from drain_world import World, applied

from syncengine.local.statements import statement
from syncengine.outbox.entry import AllApplied, Kind, Result
from syncengine.outbox.numbered_rows import NumberedRows
from syncengine.outbox.row_set import know_row_sets
from syncengine.remote.encoded_push import EncodedPush, all_applied
from syncengine.remote.wire import EntryKind
from syncengine.settings import Settings
from syncengine.sync.calls import Begin, Begun, End
from syncengine.sync.courier import carry
from syncengine.sync.encoding import encoded_entries, entry_values


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def know(world, key, version, *, deleted=0, extra=None):
    with world.store.transaction():
        know_row_sets(world.store, owner="ann", collections=["journeys"])
        world.store.query(
            "INSERT INTO _sync_row (row_set_id, collection, owner, row_key, version, shape_version, deleted, extra)"
            " SELECT row_set_id, collection, owner, ?, ?, '2.0.0', ?, ? FROM _sync_row_set WHERE true"
            " ON CONFLICT DO UPDATE SET version = excluded.version, deleted = excluded.deleted",
            (key, version, deleted, extra),
        )


def policy(world, policy):
    with world.store.transaction():
        world.store.query("UPDATE _sync_collection SET merge_policy = ?", (policy,))


def rows_known(world):
    return world.store.query("SELECT row_key, version, deleted FROM _sync_row ORDER BY row_key")


def conflicts(batch):
    return [Result(sequence=entry.sequence, status="conflict") for entry in batch.entries]


def test_an_edit_stands_on_the_version_that_is_known_of_its_row_when_it_is_claimed(world):
    know(world, "a", 41)
    world.captured(
        ("patch", "journeys", "a", '{"title":"x"}', '{"title":"w"}'), ("put", "journeys", "new", "{}", None)
    )
    assert [entry.base_version for entry in world.claim().entries] == [41, None]


def test_a_token_travels_with_the_number_and_stays_when_it_is_sent_again(world):
    world.put("a")
    first = world.claim(token="by chance")
    world.restart()
    again = world.claim(token="another")
    assert [entry.claim_token for entry in (*first.entries, *again.entries)] == ["by chance", "by chance"]
    assert next(entry_values(again))["token"] == "by chance"


def test_a_deleted_row_is_remembered_with_its_version(world):
    know(world, "a", 3, extra='{"unknown":1}')
    world.captured(("delete", "journeys", "a", None, '{"title":"x"}'))
    batch = world.claim()
    world.outbox.confirm(batch, applied(batch, version=9), server_epoch=2)
    assert rows_known(world) == [("a", 9, 1)]
    assert world.store.query("SELECT extra, server_epoch FROM _sync_row") == [(None, 2)]


def test_a_cloud_of_another_life_gives_smaller_versions_and_they_count(world):
    know(world, "a", 50)
    world.put("a")
    batch = world.claim()
    world.outbox.confirm(batch, applied(batch, version=4), server_epoch=1)
    assert rows_known(world) == [("a", 4, 0)]


def test_a_merged_entry_has_arrived(world):
    world.put("a")
    batch = world.claim()
    settled = world.outbox.confirm(batch, [Result(sequence=1, status="merged", version=5)])
    assert (settled.applied, world.outbox.depth(), rows_known(world)) == (1, 0, [("a", 5, 0)])


@pytest.mark.parametrize(
    ("merge_policy", "asked"),
    [("merge", None), ("client_wins", None), ("server_wins", "refuse"), ("function", "refuse")],
)
def test_collections_that_look_first_ask_the_cloud_to_refuse_what_has_changed(world, merge_policy, asked):
    policy(world, merge_policy)
    world.put("a")
    assert next(entry_values(world.claim())).get("on_conflict") == asked


def test_an_entry_in_conflict_waits_until_its_row_was_pulled_and_is_then_sent_anew(world):
    policy(world, "server_wins")
    know(world, "a", 3)
    world.captured(("patch", "journeys", "a", '{"title":"x"}', '{"title":"w"}'))
    world.put("free")
    batch = world.claim()
    first, second = batch.entries
    settled = world.outbox.confirm(batch, [*conflicts(batch)[:1], Result(sequence=2, status="applied", version=8)])
    assert (settled.conflicts, settled.applied) == (1, 1)
    world.captured(("patch", "journeys", "a", '{"title":"y"}', '{"title":"x"}'))
    assert world.claim().entries == ()
    know(world, "a", 7)
    again = world.claim().entries
    assert [(entry.base_version, entry.sequence, entry.set_json) for entry in again] == [(7, 3, '{"title":"y"}')]
    assert (first.row_key, second.row_key) == ("a", "free")


def test_a_group_in_conflict_waits_until_one_of_its_rows_was_pulled(world):
    policy(world, "server_wins")
    know(world, "a", 3)
    know(world, "b", 4)
    world.captured(
        ("patch", "journeys", "a", '{"title":"x"}', "{}"), ("patch", "journeys", "b", '{"title":"x"}', "{}")
    )
    batch = world.claim()
    world.outbox.confirm(batch, conflicts(batch))
    assert world.claim().entries == ()
    know(world, "b", 9)
    assert [entry.base_version for entry in world.claim().entries] == [3, 9]


def test_one_row_of_a_collection_that_looks_first_has_one_entry_on_its_way(world):
    policy(world, "server_wins")
    edits = [("patch", "journeys", "a", f'{{"title":"{n}"}}', "{}") for n in range(2)]
    world.captured(edits[0], ("put", "journeys", "b", "{}", None))
    world.captured(edits[1], ("put", "journeys", "c", "{}", None))
    batch = world.claim()
    assert [entry.row_key for entry in batch.entries] == ["a", "b"]
    assert world.outbox.claim("ann", entries_max=9, bytes_max=9_999, behind=batch).entries == ()
    world.outbox.confirm(batch, applied(batch, version=6))
    assert [(entry.row_key, entry.base_version) for entry in world.claim().entries] == [("a", 6), ("c", None)]


def test_unknown_fields_of_a_row_go_back_with_a_whole_row_and_not_with_a_part(world):
    know(world, "a", 3, extra='{"newer":7,"title":"old"}')
    know(world, "b", 3, extra='{"newer":7}')
    know(world, "gone", 3, deleted=1, extra='{"newer":7}')
    world.put("a", text="x")
    world.captured(("patch", "journeys", "b", '{"title":"x"}', "{}"))
    world.put("gone", text="x")
    assert [json.loads(entry.set_json) for entry in world.claim().entries] == [
        {"id": "a", "title": "x", "newer": 7},
        {"title": "x"},
        {"id": "gone", "title": "x"},
    ]


# Joined edits.


def squashed(world):
    return world.store.query("SELECT entry_id, squashed_into FROM _sync_outbox WHERE state = 'squashed'")


def patch(world, key, value, before="w"):
    world.captured(("patch", "journeys", key, f'{{"title":"{value}"}}', f'{{"title":"{before}"}}'))


def test_later_edits_of_a_row_travel_in_the_first_and_leave_with_it(world):
    patch(world, "a", "1")
    world.put("b")
    patch(world, "a", "2", before="1")
    batch = world.claim()
    assert [(entry.row_key, entry.set_json) for entry in batch.entries][:1] == [("a", '{"title":"2"}')]
    assert squashed(world) == [(3, 1)]
    assert world.outbox.counts().squashed == 1
    assert world.outbox.confirm(batch, applied(batch)).applied == 3
    assert world.outbox.depth() == 0


def test_what_is_written_after_the_claim_does_not_change_what_was_claimed(world):
    patch(world, "a", "1")
    first = world.claim()
    patch(world, "a", "2", before="1")
    assert world.claim().entries == first.entries
    ahead = world.outbox.claim("ann", entries_max=9, bytes_max=9_999, behind=first)
    assert [entry.set_json for entry in ahead.entries] == ['{"title":"2"}']
    assert squashed(world) == []


def test_edits_are_not_joined_over_a_step_of_a_migration_nor_to_a_group_of_several_rows(world):
    patch(world, "a", "1")
    world.outbox.queue_barrier(owner="ann", migration="m", collections=["notes"], cloud_version=None, works=True)
    patch(world, "a", "2", before="1")
    world.captured(("patch", "journeys", "a", '{"title":"3"}', '{"title":"2"}'), ("put", "journeys", "b", "{}", None))
    patch(world, "a", "4", before="3")
    assert [entry.set_json for entry in world.claim().entries if entry.row_key == "a"] == [
        f'{{"title":"{n}"}}' for n in (1, 2, 3, 4)
    ]


def test_a_row_that_came_and_went_is_never_sent_unless_the_cloud_may_have_it(world):
    for key in ("new", "known"):
        world.put(key)
    know(world, "known", 3)
    for key in ("new", "known"):
        world.captured(("delete", "journeys", key, None, f'{{"id":"{key}"}}'))
    assert [(entry.row_key, entry.kind) for entry in world.claim().entries] == [("known", Kind.DELETE)]
    assert world.outbox.depth() == 2


def test_a_queue_of_rows_that_all_came_and_went_is_empty_after_one_claim(world):
    for n in range(3):
        world.put(f"k{n}")
        world.captured(("delete", "journeys", f"k{n}", None, "{}"))
    assert world.claim().entries == ()
    assert world.outbox.depth() == 0
    assert world.drain().ended == "drained"


def test_a_rejected_entry_takes_what_travelled_in_it_to_quarantine(world):
    patch(world, "missing", "1")
    patch(world, "missing", "2", before="1")
    world.drain()
    [(body,)] = world.store.query("SELECT body FROM _sync_quarantine")
    assert json.loads(body)["set"] == {"title": "2"}
    assert world.outbox.depth() == 0


def test_an_upload_whose_row_was_edited_and_deleted_in_larger_groups_is_sent_as_it_was(world):
    world.add_journeys("a", title="now")
    world.upload()
    world.captured(
        ("patch", "journeys", "a", '{"title":"later"}', '{"title":"now"}'),
        ("put", "journeys", "b", '{"id":"b"}', None),
    )
    world.captured(
        ("delete", "journeys", "a", None, '{"id":"a","title":"later"}'), ("put", "journeys", "c", '{"id":"c"}', None)
    )
    with world.store.transaction():
        world.store.query("DELETE FROM journeys")
    assert [json.loads(e.set_json)["title"] for e in world.claim().entries if e.row_key == "a" and e.set_json] == [
        "now",
        "later",
    ]
    world.drain()
    assert set(world.cloud_rows()) == {"b", "c"}
    assert world.quarantine() == []


def test_an_edit_of_a_row_before_its_upload_is_queued_travels_as_the_whole_row_and_the_upload_in_it(world):
    world.add_journeys("a", title="old")
    edit(world, "a", "new")
    world.upload()
    edit(world, "a", "newer", before="new")
    [put] = world.claim().entries
    assert (put.kind, put.base_version) == (Kind.PUT, None)
    assert json.loads(put.set_json)["title"] == "newer"
    assert squashed(world) == [(2, 1), (3, 1)]
    assert world.drain().applied == 3
    assert world.cloud_rows()["a"]["title"] == "newer"
    assert (world.quarantine(), world.outbox.depth()) == ([], 0)


def test_an_edit_of_a_row_that_the_cloud_never_had_travels_as_the_whole_row_also_in_a_larger_group(world):
    world.add_journeys("a", "b", title="old")
    world.captured(*[("patch", "journeys", key, '{"title":"new"}', '{"title":"old"}') for key in "ab"])
    batch = world.claim()
    assert [entry.kind for entry in batch.entries] == [Kind.PUT, Kind.PUT]
    assert all(len(json.loads(entry.set_json)) > 2 for entry in batch.entries)
    edit(world, "a", "later", before="new")
    ahead = world.outbox.claim("ann", entries_max=9, bytes_max=9_999, behind=batch)
    assert [entry.kind for entry in ahead.entries] == [Kind.PATCH]  # its put is on its way
    world.drain()
    assert world.cloud_rows()["a"]["title"] == "later"
    assert world.quarantine() == []


def test_an_edit_behind_a_put_of_its_row_stays_a_part(world):
    world.add_journeys("a", title="new")
    world.captured(("put", "journeys", "a", '{"id":"a","title":"old"}', None), ("put", "journeys", "b", "{}", None))
    world.captured(
        ("patch", "journeys", "a", '{"title":"new"}', '{"title":"old"}'), ("put", "journeys", "c", "{}", None)
    )
    assert [entry.kind for entry in world.claim().entries] == [Kind.PUT, Kind.PUT, Kind.PATCH, Kind.PUT]


def test_an_edited_row_that_the_cloud_may_have_and_that_is_deleted_since_is_deleted_there(world):
    world.add_journeys("a", title="old")
    edit(world, "a", "new")
    world.captured(("delete", "journeys", "a", None, '{"id":"a","title":"new"}'))
    with world.store.transaction():
        world.store.query("DELETE FROM journeys")
    assert [entry.kind for entry in world.claim().entries] == [Kind.DELETE]
    world.drain()
    assert (world.quarantine(), world.outbox.depth()) == ([], 0)


def edit(world, key, title, *, before="old"):
    """Change a live row, with what its trigger queues."""
    with world.store.transaction():
        world.store.query("UPDATE journeys SET title = ? WHERE id = ?", (title, key))
    patch(world, key, title, before=before)


def test_a_body_that_is_no_utf8_goes_to_quarantine_and_the_others_through(world):
    world.put("a")
    world.put("m")
    world.put("z")
    with world.store.transaction():
        world.store.query(
            """UPDATE _sync_outbox SET set_json = CAST(x'7b2261223a22ff227d' AS TEXT) WHERE row_key = 'm'"""
        )
    assert world.drain().ended == "drained"
    assert set(world.cloud_rows()) == {"a", "z"}
    assert [item[1:3] for item in world.quarantine()] == [("m", "text_not_utf8")]


# On the wire.


def test_blobs_of_captured_edits_travel_as_base64(world):
    world.captured(("put", "journeys", "a", '{"id":"a","picture":{"$hex":"00FF"}}', None))
    world.drain()
    assert world.cloud_rows()["a"]["picture"] == {"$blob": "AP8="}


def test_several_changes_and_a_lift_travel_by_the_protocol(world):
    changes = [
        {"kind": "put", "collection": "journeys", "key": "b", "set": {"id": "b"}, "before": None},
        {"kind": "delete", "collection": "journeys", "key": "a", "set": None, "before": {"id": "a"}},
    ]
    world.put("a")
    world.drain()
    world.captured(("changes", "journeys", "a", json.dumps(changes), None))
    assert world.drain().applied == 1
    assert set(world.cloud_rows()) == {"b"}
    world.captured(("lift", "journeys", "b", '{"id":"b","title":"lifted"}', "[4,6]"))
    batch = world.claim()
    [lift] = entry_values(batch)
    assert (lift["set"], lift["lifts"]) == ({"id": "b", "title": "lifted"}, [4, 6])


def test_a_change_that_cannot_travel_sets_all_of_its_edit_aside(world):
    changes = [{"kind": "put", "collection": "journeys", "key": "b\n", "set": {}, "before": None}]
    world.captured(("changes", "journeys", "a", json.dumps(changes), None))
    assert world.claim().entries == ()
    assert [item[2] for item in world.quarantine()] == ["bad_key"]


def test_entries_that_were_encoded_beforehand_say_what_the_models_say(world):
    world.add_journeys("upload")
    world.upload()
    know(world, "a", 3)
    world.captured(
        ("patch", "journeys", "a", '{"title":"ü","length_m":-0.0}', "{}"), ("delete", "notes", "n", None, "{}")
    )
    batch = world.claim(token="t")
    assert json.loads(encoded_entries(batch)) == list(entry_values(batch))


def test_a_batch_of_edits_with_nothing_special_holds_the_entries_that_are_read_again(world):
    know(world, "b", 7)
    world.captured(("put", "journeys", 'say "a"', '{"title":"ü"}', None))
    patch(world, "b", "1")
    world.captured(("put", "journeys", "a \\ b", '{"title":"v"}', None))
    world.put("n", collection="notes")
    batch = world.claim(token="t")
    again = world.claim()
    assert type(batch.entries) is NumberedRows
    assert batch == again
    assert hash(batch) == hash(again)
    assert [entry.base_version for entry in again.entries] == [None, 7, None, None]
    assert (*batch.entries[:3], batch.entries[-1]) == again.entries
    for place in range(4):
        alone = replace(batch, entries=batch.entries[place : place + 1])
        assert json.loads(encoded_entries(alone)) == list(entry_values(alone))
    assert encoded_entries(batch) == encoded_entries(again)
    assert json.loads(encoded_entries(batch)) == list(entry_values(again))


def test_an_entry_without_an_answer_stays_claimed_between_those_that_leave(world):
    for key in "abcd":
        world.put(key)
    batch = world.claim()
    settled = world.outbox.confirm(batch, [each for each in applied(batch) if each.sequence != 2])
    assert (settled.applied, settled.unanswered) == (3, 1)
    assert [entry.row_key for entry in world.claim().entries] == ["b"]


def test_a_number_is_written_to_each_entry_wherever_others_stand_between(world):
    for n in range(12):
        world.put(f"k{n}")
        if n in {1, 8}:
            world.edit(("put", "journeys", f"b{n}", "{}"), owner="bob")
    batch = world.claim(token="t")
    assert batch == world.claim()
    assert [entry.sequence for entry in batch.entries] == list(range(1, 13))


# While a push is on its way.


def test_the_next_batch_is_claimed_while_a_push_is_on_its_way_and_kept_when_it_fails(tmp_path):
    world = World(tmp_path, Settings(push_entries_max=2))
    for n in range(5):
        world.put(f"k{n}")
    round_ = world.round(overlaps=True)
    call = round_.send(carry(world.line, next(round_), request_id="r"))
    assert isinstance(call, Begin)
    assert world.outbox.counts().claimed == 2
    assert isinstance(round_.send(Begun()), End)
    assert world.outbox.counts().claimed == 4
    round_.close()
    world.restart()
    assert world.drain().ended == "drained"
    numbers = [entry.sequence for push in world.line.pushed for entry in push.entries]
    world.close()
    assert numbers == [1, 2, 3, 4, 5]


def test_an_answer_is_confirmed_while_the_next_push_is_on_its_way(tmp_path):
    world = World(tmp_path, Settings(push_entries_max=1))
    for n in range(3):
        world.put(f"k{n}")
    depths = []
    world.drive(world.round(overlaps=True), stop_at=lambda call: depths.append(world.outbox.depth()))
    world.close()
    assert depths == [3, 3, 2, 1]


def test_an_answer_is_confirmed_and_the_next_batch_claimed_with_one_wait_for_the_disk(tmp_path):
    world = World(tmp_path, Settings(push_entries_max=2))
    for n in range(8):
        world.put(f"k{n}")
    commits = []
    world.store.connection.set_wal_hook(lambda *_: commits.append("commit") or 0)
    world.drive(world.round(overlaps=True), stop_at=lambda call: commits.append(type(call).__name__))
    world.close()
    pushes = [place for place, what in enumerate(commits) if what == "Push"]
    assert [commits[one + 1 : other] for one, other in pairwise(pushes)] == [["commit"]] * 3


def test_what_was_confirmed_is_told_when_it_is_on_the_disk(tmp_path):
    world = World(tmp_path, Settings(push_entries_max=1))
    told = []

    class Listening(list):
        def append(self, event):
            told.append((type(event).__name__, world.store.connection.in_transaction))

    world.events = Listening()
    for n in range(3):
        world.put(f"k{n}")
    world.drive(world.round(overlaps=True))
    world.close()
    assert told.count(("BatchConfirmed", False)) == 3
    assert not any(in_transaction for _, in_transaction in told)


def test_no_transaction_is_open_while_a_push_that_was_begun_is_on_its_way(tmp_path):
    world = World(tmp_path, Settings(push_entries_max=1))
    for n in range(3):
        world.put(f"k{n}")
    seen = []
    world.drive(world.round(overlaps=True), stop_at=lambda call: seen.append(world.store.connection.in_transaction))
    world.close()
    assert seen == [False] * 4


def test_a_compressed_push_is_one_gzip_member_of_the_same_request():
    import gzip

    push = EncodedPush(
        request_id="r", user="ann", device="d", epoch=1, schema_version="2.0.0", sequences=range(1, 2), entries=b"[]"
    )
    packed = EncodedPush(
        request_id="r",
        user="ann",
        device="d",
        epoch=1,
        schema_version="2.0.0",
        sequences=range(1, 2),
        entries=b"[]",
        compress=True,
    )
    assert gzip.decompress(packed.body()) == push.body()
    assert json.loads(push.body())["entries"] == []


def test_a_full_batch_does_not_read_the_next_group_to_its_end(world):
    for prefix in "ab":
        world.captured(*(("put", "journeys", f"{prefix}{n}", "{}", None) for n in range(400)))
    read = []
    world.store.connection.set_row_trace(lambda _, row: read.append(row) or row)
    batch = world.outbox.claim("ann", entries_max=400, bytes_max=999_999)
    world.store.connection.set_row_trace(None)
    assert len(batch.entries) == 400
    assert len(read) < 450


def test_of_groups_that_fill_a_batch_together_no_more_is_read_than_they_need(world):
    for prefix in "abc":
        world.captured(*(("put", "journeys", f"{prefix}{n}", "{}", None) for n in range(1_000)))
    read = []
    world.store.connection.set_row_trace(lambda _, row: read.append(row) or row)
    batch = world.outbox.claim("ann", entries_max=2_000, bytes_max=9_999_999)
    world.store.connection.set_row_trace(None)
    assert len(batch.entries) == 2_000
    assert len(read) < 2_100


def test_an_edit_of_a_row_in_a_full_batch_travels_in_it(world):
    for n in range(3):
        world.put(f"k{n}")
    patch(world, "k1", "later")
    batch = world.claim(entries_max=3)
    assert [json.loads(entry.set_json).get("title") for entry in batch.entries] == ["x", "later", "x"]
    assert world.outbox.counts().squashed == 1


def test_the_kinds_of_the_queue_are_those_of_the_wire():
    assert {kind.value for kind in Kind} == {kind.value for kind in EntryKind}


def test_a_row_whose_put_is_on_its_way_is_deleted_at_the_cloud_however_it_came_and_went_since(world):
    world.put("a")
    on_its_way = world.claim()
    world.put("a")
    world.captured(("delete", "journeys", "a", None, "{}"))
    ahead = world.outbox.claim("ann", entries_max=9, bytes_max=9_999, behind=on_its_way)
    assert [entry.kind for entry in ahead.entries] == [Kind.DELETE]


def test_a_row_that_came_and_went_is_in_no_batch_so_it_may_come_and_go_again_while_others_are_on_their_way(world):
    came_and_went = (("put", "journeys", "v", '{"id":"v"}', None), ("delete", "journeys", "v", None, "{}"))
    for edit in came_and_went:
        world.captured(edit)
    world.put("a")
    on_its_way = world.claim()
    for edit in came_and_went:
        world.captured(edit)
    ahead = world.outbox.claim("ann", entries_max=9, bytes_max=9_999, behind=on_its_way)
    assert [[entry.row_key for entry in batch.entries] for batch in (on_its_way, ahead)] == [["a"], []]


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("waiting", "_sync_outbox_by_owner"),
        ("claimed", "_sync_outbox_by_sequence"),
        ("still_claimed", "_sync_outbox_by_sequence"),
        ("still_as_sent", "_sync_outbox_by_sequence"),
        ("remember_versions", "_sync_outbox_by_sequence"),
        ("delete_run", "_sync_outbox_by_sequence"),
        ("delete_squashed", "_sync_outbox_by_sequence (owner=? AND epoch=? AND sequence=? AND <expr>=?"),
        (
            "delete_squashed_of",
            "_sync_outbox_by_sequence (owner=? AND epoch=? AND sequence=? AND <expr>>? AND <expr><?",
        ),
        ("squash_again", "_sync_outbox_by_sequence (owner=? AND epoch=? AND sequence=? AND <expr>=?"),
        ("has_earlier", "_sync_outbox_by_row"),
        ("edits_after", "_sync_outbox_by_row"),
        ("sendable", "_sync_outbox_by_owner"),
        ("waiting_behind", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("sendable", "INTEGER PRIMARY KEY (rowid>?)"),
        ("filed_to", "INTEGER PRIMARY KEY (rowid>?)"),
        ("file", "INTEGER PRIMARY KEY (rowid>?)"),
        ("begin_of_group", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("waiting_keys", "_sync_outbox_by_owner"),
        ("hold_row", "_sync_outbox_by_row"),
        ("hold_group", "_sync_outbox_by_owner"),
    ],
)
def test_no_statement_of_a_drain_reads_the_whole_queue(world, name, index):
    [plan] = plans(world, "outbox", name)
    assert any(index in step for step in plan), plan
    assert not [
        step for step in plan if step.startswith("SCAN _") or ("TEMP B-TREE" in step and name != "edits_after")
    ], plan


@pytest.mark.parametrize(
    ("file", "name"),
    [("runs", "has_unconfirmed"), ("rollback", "entries_to_take_back"), ("rollback", "take_back_entries")],
)
def test_what_one_migration_has_queued_is_found_without_reading_the_queue(world, file, name):
    steps = [step for plan in plans(world, file, name) for step in plan if "_sync_outbox" in step]
    # In which is what has a number, travels in another entry, or was queued by a migration, and nothing else.
    assert steps == ["SEARCH _sync_outbox USING INDEX _sync_outbox_by_sequence (owner=?)"]


@pytest.mark.parametrize(
    ("file", "name"),
    [("pull", "drop_entry"), ("receipts", "note_end"), ("entries", "leave"), ("outbox", "drop_voids")],
)
def test_what_travels_in_an_entry_is_found_without_reading_the_queue(world, file, name):
    steps = [step for plan in plans(world, file, name) for step in plan if "_sync_outbox" in step]
    assert any("_sync_outbox_by_sequence (owner=? AND epoch=? AND sequence=?" in step for step in steps), steps
    assert not [step for step in steps if step.startswith("SCAN _") or step.endswith("(owner=?)")], steps


@pytest.mark.parametrize(("file", "name"), [("pull", "claimed"), ("outbox", "unnumber"), ("outbox", "drop_voids")])
def test_what_has_a_number_is_found_without_reading_the_uploads_that_wait(world, file, name):
    steps = [step for plan in plans(world, file, name) for step in plan if "_sync_outbox" in step]
    assert any("_sync_outbox_by_sequence (owner=? AND epoch>?)" in step for step in steps), steps
    assert not [step for step in steps if step.startswith("SCAN _") or step.endswith("(owner=?)")], steps


def test_an_edit_that_a_trigger_writes_opens_three_indexes_and_is_in_none(world):
    world.put("a")
    with world.store.transaction():
        indexes = world.store.query(
            "SELECT sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = '_sync_outbox'"
        )
        world.store.query("UPDATE _sync_outbox SET fresh = 1")
        for (sql,) in indexes:
            where = re.split(r"\bWHERE\b", sql)[1]
            assert world.store.query(f"SELECT count(*) FROM _sync_outbox WHERE {where}") == [(0,)], sql
    assert len(indexes) == 3


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ("state = 'claimed', sequence = 7, epoch = 1", "UNIQUE"),
        ("state = 'squashed', squashed_into = 9, sequence = entry_id", "state_is_known_and_fits"),
    ],
)
def test_a_number_is_given_once_and_never_to_what_travels_in_another_entry(world, change, refused):
    world.put("a")
    world.put("b")
    with pytest.raises(apsw.ConstraintError, match=refused), world.store.transaction():
        world.store.query(f"UPDATE _sync_outbox SET {change}")


def test_what_waits_of_the_rows_of_a_page_is_found_without_reading_the_queue(world):
    [steps] = plans(world, "pull", "pending")
    assert steps[0].startswith("SCAN k VIRTUAL TABLE"), steps
    assert steps[1] == "SEARCH o USING INDEX _sync_outbox_by_row (collection=? AND owner=? AND row_key=?)"


def test_an_upload_that_travels_in_another_entry_counts_for_its_migration_and_is_taken_back(world):
    world.put("a")
    world.put("a")
    of_migration = {"owner": "ann", "migration": "v9"}
    with world.store.transaction():
        world.store.query("UPDATE _sync_outbox SET migration = 'v9'")
        world.store.query("UPDATE _sync_outbox SET state = 'squashed', squashed_into = 1 WHERE entry_id = 2")
        assert world.store.value("runs", "has_unconfirmed", **of_migration) == 1
        world.store.query("UPDATE _sync_outbox SET migration = NULL WHERE entry_id = 1")
        assert world.store.value("runs", "has_unconfirmed", **of_migration) == 1
        world.store.query("UPDATE _sync_outbox SET migration = 'v9'")
        assert world.store.value("rollback", "entries_to_take_back", **of_migration) == 2
        assert world.store.value("runs", "has_unconfirmed", owner="bob", migration="v9") == 0
        world.store.run("rollback", "take_back_entries", **of_migration)
        assert world.store.value("runs", "has_unconfirmed", **of_migration) == 0
    assert world.outbox.counts().depth == 0


def plans(world, file, name):
    """How SQLite does each statement under a name, but for those around a deletion.

    What leaves the outbox is noted before, and what stays is closed behind it.
    """
    noted = r"^UPDATE _sync_last_entry\b.*?;"
    closed = r"(?<=;)\s*UPDATE _sync_outbox\s+SET fresh = 2\b.*"
    text = re.sub(f"--[^\\n]*|{noted}|{closed}", "", statement(file, name), flags=re.DOTALL | re.MULTILINE)
    return [
        [
            detail
            for *_, detail in world.store.query(
                "EXPLAIN QUERY PLAN " + sql, dict.fromkeys(re.findall(r":(\w+)", sql), 1)
            )
        ]
        for sql in text.split(";")
        if sql.strip()
    ]


def test_an_answer_that_applies_all_is_read_quickly_and_any_other_is_left_to_the_models():
    push = EncodedPush(
        request_id="r", user="ann", device="d", epoch=1, schema_version="2.0.0", sequences=range(4, 6), entries=b"[]"
    )

    def read(*results, device_seq=5, request_id="r", more=b""):
        said = {"protocol": 1, "request_id": request_id, "server_time": "", "device_seq": device_seq}
        raw = json.dumps({**said, "results": results}, separators=(",", ":")).encode()
        found = all_applied(raw[:-1] + more + b"}", push)
        return found and found.versions

    def result(sequence, status="applied", version=7, **more):
        return {"sequence": sequence, "status": status, "version": version, **more}

    assert read(result(4), result(5, version=9)) == [7, 9]
    assert not read(result(4))
    assert not read(result(4), result(6), device_seq=6)
    assert not read(result(4), result(5), device_seq=4)
    assert not read(result(4), result(5), request_id="another")
    assert not read(result(4), result(5, status="merged"))
    assert not read(result(4), result(5, version=True))
    assert not read(result(4), result(5, version=-1))
    assert not read(result(4), result(5, version=2**63))
    assert not read(result(4), result(5, code="c"))
    assert not read(result(4), result(5), more=b',"device_seq":9')
    assert not read(result(4), result(5), more=b',"device_seq" :9')
    assert not read(result(4), result(5), more=b',"other":9')
    assert not read(result(4), result(5), more=b',"server_time":"\\u0000"')


@pytest.mark.parametrize(
    "second",
    [
        b'{"sequence":,"status":"applied","version":59}',
        b'1{"sequence":5,"status":"applied","version":9}',
        b'{"sequence":5,"status":"applied","version":9}1',
        b'{"sequence1":5,"status":"applied","version":9}',
        b'{"sequence":05,"status":"applied","version":9}',
        b'{"sequence":5,"status":"applied","version":20000000000000000000}',
        b'{"sequence":5,"status":"applied","version":9},{"sequence":6,"status":"applied","version":9}',
        b'{"sequence":5,"status":"applied","version":9}],"results":[{"sequence":5,"status":"applied","version":9}',
    ],
)
def test_an_answer_is_not_read_quickly_where_a_digit_or_a_list_stands_out_of_place(second):
    push = EncodedPush(
        request_id="r", user="ann", device="d", epoch=1, schema_version="2.0.0", sequences=range(4, 6), entries=b"[]"
    )
    head = b'{"protocol":1,"request_id":"r","server_time":"","device_seq":5,"results":['
    first = b'{"sequence":4,"status":"applied","version":7},'
    good = b'{"sequence":5,"status":"applied","version":9}'
    assert all_applied(head + first + good + b"]}", push)
    assert not all_applied(head + first + second + b"]}", push)


def test_a_batch_of_which_all_was_applied_leaves_as_if_each_had_been_told_by_itself(world):
    know(world, "b", 2)
    world.put("a")
    patch(world, "b", "1")
    patch(world, "b", "2", before="1")
    world.captured(("delete", "journeys", "c", None, '{"id":"c"}'))
    batch = world.claim()
    settled = world.outbox.confirm(batch, AllApplied(first=1, versions=[5, 6, 7]), server_epoch=3)
    assert (settled.applied, world.outbox.depth()) == (4, 0)
    assert rows_known(world) == [("a", 5, 0), ("b", 6, 0), ("c", 7, 1)]
    again = world.outbox.confirm(batch, AllApplied(first=1, versions=[5, 6, 7]), server_epoch=3)
    assert again.applied == 0  # another process has settled it meanwhile


def test_a_group_that_does_not_fit_any_more_waits_whole_and_one_with_a_row_on_its_way_comes_behind_it(world):
    for rows in ("ab", "cde", "ax"):
        world.captured(*(("put", "journeys", key, f'{{"id":"{key}"}}', None) for key in rows))
    first = world.outbox.claim("ann", entries_max=4, bytes_max=9_999)
    assert [entry.row_key for entry in first.entries] == ["a", "b"]
    behind = world.outbox.claim("ann", entries_max=3, bytes_max=9_999, behind=first)
    assert [entry.row_key for entry in behind.entries] == ["c", "d", "e"]
    assert len({entry.group_id for entry in behind.entries}) == 1
    last = world.outbox.claim("ann", entries_max=9, bytes_max=9_999, behind=behind)
    assert [entry.row_key for entry in last.entries] == ["a", "x"]


def test_a_group_that_is_larger_than_a_batch_goes_alone(world):
    world.captured(*(("put", "journeys", key, f'{{"id":"{key}"}}', None) for key in "abcde"))
    world.put("f")
    batch = world.outbox.claim("ann", entries_max=3, bytes_max=9_999)
    assert [entry.row_key for entry in batch.entries] == list("abcde")


@pytest.mark.parametrize("behind", [True, False])
def test_a_group_with_a_row_that_is_sent_before_it_waits_for_the_answer_where_the_cloud_may_refuse(world, behind):
    policy(world, "server_wins")
    for rows in ("ab", "ax"):
        world.captured(*(("put", "journeys", key, f'{{"id":"{key}"}}', None) for key in rows))
    batch = world.outbox.claim("ann", entries_max=2 if behind else 9, bytes_max=9_999)
    assert [entry.row_key for entry in batch.entries] == ["a", "b"]
    later = world.outbox.claim("ann", entries_max=9, bytes_max=9_999, behind=batch)
    assert later.entries == ()
