"""The outbox: what is queued, numbered, frozen, confirmed, held and set aside."""

import json
import os
import signal
import subprocess
import sys

import pytest
from drain_world import World, applied

from syncengine.clock import SystemClock
from syncengine.errors import EntryInDoubt, QuarantineItemUnknown
from syncengine.outbox.barrier_page import Page
from syncengine.outbox.entry import Kind, Result
from syncengine.outbox.lease import DrainLease


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def keys(batch):
    return [entry.row_key for entry in batch.entries]


def reject(world, batch, *row_keys, code="bad_value"):
    results = [
        Result(sequence=e.sequence, status="rejected", code=code, message="a word")
        if e.row_key in row_keys
        else Result(sequence=e.sequence, status="applied", version=1)
        for e in batch.entries
    ]
    return world.outbox.confirm(batch, results)


def test_an_upload_queues_each_live_row_of_its_owner_once_in_key_order(world):
    world.add_journeys("b", "a", "c")
    world.add_journeys("z", owner="bob")
    assert world.upload() == 3
    assert world.upload() == 0
    batch = world.claim()
    assert keys(batch) == ["a", "b", "c"]
    assert len({entry.group_id for entry in batch.entries}) == 3


def test_an_upload_reads_its_row_when_it_is_numbered_and_never_again(world):
    world.add_journeys("a")
    world.upload()
    with world.store.transaction():
        world.store.query("UPDATE journeys SET title = 'second'")
    first = world.claim()
    with world.store.transaction():
        world.store.query("UPDATE journeys SET title = 'third'")
    world.restart()
    again = world.claim()
    assert json.loads(first.entries[0].set_json) == {
        "id": "a",
        "title": "second",
        "length_m": 1.5,
        "steps": 7,
        "picture": {"$blob": "AP8="},
    }
    assert again.entries[0].set_json == first.entries[0].set_json
    assert again.entries[0].sequence == first.entries[0].sequence == 1


def test_an_upload_whose_row_was_deleted_becomes_a_delete(world):
    world.add_journeys("a")
    world.upload()
    with world.store.transaction():
        world.store.query("DELETE FROM journeys")
    assert world.claim().entries[0].kind is Kind.DELETE


def test_an_upload_whose_row_lies_in_quarantine_goes_there_too(world):
    world.add_journeys("a", "b")
    world.upload()
    with world.store.transaction():
        world.store.query("DELETE FROM journeys WHERE id = 'a'")
        world.store.query(
            "INSERT INTO _sync_quarantine"
            " (origin, owner, collection, row_key, body, error_code, error_text, created_at)"
            " VALUES ('migration', 'ann', 'journeys', 'a', '{}', 'x', 'x', 'now')",
        )
    assert keys(world.claim()) == ["b"]
    assert world.quarantine()[-1][1:3] == ("a", "row_in_quarantine")


def test_a_row_that_json_cannot_say_is_set_aside_and_the_others_go(world):
    world.add_journeys("a", "b")
    with world.store.transaction():
        world.store.query("UPDATE journeys SET length_m = 9e999 WHERE id = 'a'")
    world.upload()
    batch = world.claim()
    assert keys(batch) == ["b"]
    assert batch.entries[0].sequence == 1
    assert world.quarantine() == [(1, "a", "number_not_finite", None)]


def test_a_text_that_is_not_utf8_is_set_aside_and_the_others_go(world):
    world.add_journeys("a", "b")
    with world.store.transaction():
        world.store.query("UPDATE journeys SET title = CAST(x'ff' AS TEXT) WHERE id = 'a'")
    world.upload()
    assert keys(world.claim()) == ["b"]
    assert world.quarantine() == [(1, "a", "text_not_utf8", None)]


def test_what_is_claimed_is_sent_again_with_the_same_numbers_before_anything_new(world):
    world.put("a")
    first = world.claim()
    world.put("b")
    world.restart()
    assert world.claim().entries == first.entries
    world.outbox.confirm(first, applied(first))
    assert keys(world.claim()) == ["b"]


def test_a_group_is_never_split_and_a_larger_one_goes_alone(world):
    world.put("a")
    world.edit(*(("put", "journeys", f"g{n}", "{}") for n in range(3)))
    world.put("z")
    first = world.claim(entries_max=2)
    assert keys(first) == ["a"]
    world.outbox.confirm(first, applied(first))
    second = world.claim(entries_max=2)
    assert keys(second) == ["g0", "g1", "g2"]


def test_a_batch_keeps_to_its_bytes_and_a_larger_entry_goes_alone(world):
    for key in ("a", "b"):
        world.put(key, text="x" * 3000)
    assert keys(world.claim(bytes_max=4000)) == ["a"]
    world.restart()
    assert keys(world.claim(bytes_max=10)) == ["a"]


def test_a_claim_ends_the_group_that_another_process_was_writing(world):
    world.put("a")
    with world.store.transaction():
        world.store.query("UPDATE _sync_outbox SET fresh = 1")
    world.claim()
    assert world.store.query("SELECT fresh FROM _sync_outbox") == [(2,)]


def test_a_confirmed_entry_leaves_and_its_row_gets_the_clouds_version(world):
    world.put("a")
    batch = world.claim()
    settled = world.outbox.confirm(batch, applied(batch, version=41), also=world.settled.append)
    assert settled.applied == 1
    assert world.outbox.depth() == 0
    assert world.store.query("SELECT row_key, version FROM _sync_row") == [("a", 41)]
    assert world.settled == ["ann"]
    state = world.outbox.drain_state("ann")
    assert (state.confirmed_sequence, state.confirmed_count) == (1, 1)


def test_a_confirmation_that_fails_in_the_end_changes_nothing(world):
    world.put("a")
    batch = world.claim()

    def breaks(owner):
        raise RuntimeError(owner)

    with pytest.raises(RuntimeError):
        world.outbox.confirm(batch, applied(batch), also=breaks)
    assert world.states() == {"a": "claimed"}
    assert world.outbox.drain_state("ann").confirmed_count == 0


def test_an_entry_without_a_result_stays_claimed(world):
    world.put("a")
    world.put("b")
    batch = world.claim()
    settled = world.outbox.confirm(batch, applied(batch)[:1])
    assert (settled.applied, settled.unanswered) == (1, 1)
    assert world.states() == {"b": "claimed"}
    assert world.outbox.drain_state("ann").confirmed_sequence == 1


def test_a_second_confirmation_of_the_same_batch_counts_nothing(world):
    world.put("a")
    batch = world.claim()
    world.outbox.confirm(batch, applied(batch))
    assert world.outbox.confirm(batch, applied(batch)).applied == 0
    assert world.outbox.drain_state("ann").confirmed_count == 1


def test_an_answer_of_an_ended_epoch_settles_nothing(world):
    world.put("a")
    batch = world.claim()
    world.outbox.begin_epoch("ann")
    world.outbox.confirm(batch, applied(batch))
    assert world.states() == {"a": "waiting"}
    assert world.claim().epoch == 2


def test_a_rejected_entry_is_set_aside_whole_and_holds_what_builds_on_it(world):
    world.add_journeys("a")
    world.add_note("n", journey="a")
    world.put("a", text="the body")
    batch = world.claim()
    world.edit(("patch", "journeys", "a", '{"title":"later"}'))
    world.edit(("put", "notes", "n", '{"journey":"a"}'), ("put", "journeys", "mate", "{}"))
    world.edit(("patch", "journeys", "mate", "{}"))
    world.put("free")
    reject(world, batch, "a")
    assert json.loads(world.store.query("SELECT body FROM _sync_quarantine")[0][0])["set"]["title"] == "the body"
    assert world.states() == {"a": "held", "n": "held", "mate": "held", "free": "waiting"}
    assert keys(world.claim()) == ["free"]


def test_what_is_written_later_behind_an_open_item_is_held_when_its_turn_comes(world):
    world.put("a")
    reject(world, world.claim(), "a")
    world.edit(("patch", "journeys", "a", '{"title":"later"}'))
    assert world.claim().entries == ()
    assert world.states() == {"a": "held"}


def test_a_retried_item_goes_before_what_waited_behind_it(world):
    world.put("a")
    batch = world.claim()
    world.edit(("patch", "journeys", "a", '{"title":"later"}'))
    reject(world, batch, "a")
    world.outbox.retry(1)
    again = world.claim()
    assert [(entry.kind, entry.sequence) for entry in again.entries] == [(Kind.PUT, 2)]
    assert again.entries[0].set_json == '{"id":"a","title":"later"}'
    assert world.quarantine() == [(1, "a", "bad_value", "retried")]


def test_a_rejected_group_is_retried_as_one_group(world):
    world.edit(("put", "journeys", "a", "{}"), ("put", "journeys", "b", "{}"))
    reject(world, world.claim(), "a", "b")
    world.outbox.retry(2)
    again = world.claim(entries_max=1)
    assert keys(again) == ["a", "b"]
    assert len({entry.group_id for entry in again.entries}) == 1


def test_a_discarded_item_lets_go_what_waited_behind_it(world):
    world.put("a")
    batch = world.claim()
    world.edit(("patch", "journeys", "a", "{}"))
    reject(world, batch, "a")
    world.outbox.discard(1)
    assert keys(world.claim()) == ["a"]
    assert world.quarantine() == [(1, "a", "bad_value", "discarded")]
    with pytest.raises(QuarantineItemUnknown):
        world.outbox.retry(1)


def test_a_void_entry_keeps_its_number_and_its_body_is_set_aside(world):
    world.put("a", text="poison")
    world.put("b")
    batch = world.claim()
    world.outbox.void(batch.entries[:1], code="batch_refused", message="why")
    again = world.claim()
    assert [(e.sequence, e.kind, e.set_json is None) for e in again.entries] == [
        (1, Kind.VOID, True),
        (2, Kind.PUT, False),
    ]
    with pytest.raises(EntryInDoubt):
        world.outbox.retry(1)
    world.outbox.confirm(
        again, [Result(sequence=1, status="applied"), Result(sequence=2, status="applied", version=1)]
    )
    assert world.quarantine() == [(1, "a", "batch_refused", None)]
    world.outbox.retry(1)
    assert json.loads(world.claim().entries[0].set_json)["title"] == "poison"


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        (Result(sequence=1, status="applied"), 0),
        (Result(sequence=1, status="duplicate", outcome="applied", version=None), 0),
        (Result(sequence=1, status="rejected", code="x", message="x"), 0),
        (Result(sequence=1, status="duplicate", outcome="applied", version=9), 1),
    ],
    ids=["used up", "used up before", "refused", "its body had arrived"],
)
def test_an_empty_number_counts_as_confirmed_where_its_body_took_effect(world, answer, counted):
    world.put("a")
    world.outbox.void(world.claim().entries, code="batch_refused", message="why")
    settled = world.outbox.confirm(world.claim(), [answer])
    assert settled.applied == counted
    assert world.outbox.drain_state("ann").confirmed_count == counted


def test_a_void_whose_first_copy_had_arrived_closes_its_item(world):
    world.put("a")
    batch = world.claim()
    world.outbox.void(batch.entries, code="batch_refused", message="why")
    duplicate = Result(sequence=1, status="duplicate", outcome="applied", version=9)
    world.outbox.confirm(world.claim(), [duplicate])
    assert world.quarantine() == [(1, "a", "batch_refused", "retried")]


def test_a_void_that_is_told_twice_leaves_its_item_open(world):
    """The first answer to the empty number was lost; its repetition says nothing about the body."""
    world.put("a")
    batch = world.claim()
    world.outbox.void(batch.entries, code="batch_refused", message="why")
    duplicate = Result(sequence=1, status="duplicate", outcome="applied", version=None)
    world.outbox.confirm(world.claim(), [duplicate])
    assert world.quarantine() == [(1, "a", "batch_refused", None)]


def test_a_new_epoch_drops_empty_numbers_and_keeps_bodies(world):
    world.put("a")
    world.put("b")
    batch = world.claim()
    world.outbox.void(batch.entries[:1], code="x", message="x")
    world.outbox.begin_epoch("ann")
    again = world.claim()
    assert [(e.row_key, e.epoch, e.sequence) for e in again.entries] == [("b", 2, 1)]
    assert world.quarantine() == [(1, "a", "x", None)]


def test_a_barrier_holds_back_its_collections_and_lets_the_others_pass(world):
    world.put("before")
    world.outbox.queue_barrier(owner="ann", migration="m", collections=["journeys"], cloud_version=None, works=True)
    world.put("behind")
    world.put("beside", collection="notes")
    first = world.claim()
    assert keys(first) == ["before", "beside"]
    world.outbox.confirm(first, applied(first))
    assert world.claim().barrier is not None
    assert world.states()["behind"] == "waiting"


def test_a_group_that_is_partly_behind_a_barrier_waits_whole_and_is_not_overtaken(world):
    world.put("before")
    world.outbox.queue_barrier(owner="ann", migration="m", collections=["journeys"], cloud_version=None, works=True)
    world.edit(("put", "journeys", "j", "{}"), ("put", "notes", "n", "{}"))
    world.edit(("patch", "notes", "n", "{}"))
    world.put("free", collection="notes")
    assert keys(world.claim()) == ["before", "free"]


def test_the_clouds_version_is_told_after_everything_that_migrations_queued(world):
    world.add_journeys("a")
    world.add_note("n", journey="a")
    world.upload("notes")
    world.outbox.queue_barrier(
        owner="ann", migration="v", collections=["journeys"], cloud_version="2.0.0", works=False
    )
    batch = world.claim()
    assert keys(batch) == ["n"]
    assert world.claim().entries == batch.entries
    world.outbox.confirm(batch, applied(batch))
    assert world.claim().barrier is not None


def test_steps_of_migrations_go_one_after_another(world):
    for migration in ("first", "second"):
        world.outbox.queue_barrier(
            owner="ann", migration=migration, collections=["notes"], cloud_version=None, works=True
        )
    first = world.claim().barrier
    assert first.migration == "first"
    item = world.outbox.set_step_aside(first, code="x", message="x")
    assert world.claim().entries == ()
    world.outbox.discard(item)
    assert world.claim().barrier.migration == "second"


def test_what_is_durable_before_it_is_told_reaches_the_disk_with_its_commit(world):
    """synchronous is FULL when the transactions of claim, confirmation and page begin."""
    statements = []

    def trace(cursor, sql, bindings):
        statements.append(sql)
        return True

    def began_full():
        begins = [n for n, sql in enumerate(statements) if sql.startswith("BEGIN")]
        assert begins
        return all(statements[n - 1] == "PRAGMA synchronous = FULL" for n in begins)

    world.put("a")
    world.outbox.queue_barrier(owner="ann", migration="m", collections=["notes"], cloud_version=None, works=True)
    world.store.connection.exec_trace = trace
    batch = world.claim()
    assert began_full()
    world.outbox.confirm(batch, applied(batch))
    assert began_full()
    step = world.claim().barrier
    page = Page(changes=(), collection_index=0, cursor="k", until="k")
    world.outbox.freeze_page(step, page)
    assert began_full()
    world.outbox.begin_epoch("ann")
    world.store.connection.exec_trace = None
    assert began_full()


def test_a_quarantined_barrier_holds_what_is_behind_it_until_it_is_retried(world):
    world.outbox.queue_barrier(owner="ann", migration="m", collections=["journeys"], cloud_version=None, works=True)
    world.put("behind")
    step = world.claim().barrier
    item = world.outbox.set_step_aside(step, code="x", message="x")
    world.put("written later")
    assert world.claim().entries == ()
    assert world.outbox.counts().held == 2
    world.outbox.retry(item)
    assert world.claim().barrier is not None
    assert world.outbox.counts().held == 0


def test_queues_of_two_users_never_mix(world):
    world.add_journeys("a")
    world.add_journeys("b", owner="bob")
    world.upload()
    world.upload(owner="bob")
    assert keys(world.claim()) == ["a"]
    assert keys(world.claim(owner="bob")) == ["b"]
    assert world.outbox.drain_state("bob").next_sequence == 2


def test_a_durable_wait_survives_a_restart_and_a_clock_that_jumps(world):
    world.outbox.record_failure("ann", "backend_unreachable", wait_ms=60_000)
    world.restart()
    assert world.outbox.next_try_ms("ann") == 60_000
    world.clock.wall_ms -= 10 * 86_400_000
    assert world.outbox.next_try_ms("ann") == 0
    world.clock.wall_ms += 10 * 86_400_000 + 60_001
    assert world.outbox.next_try_ms("ann") == 0


def test_an_entry_shows_no_row_contents(world):
    world.put("a", text="SECRET-CANARY")
    batch = world.claim()
    assert "SECRET-CANARY" not in repr(batch)


HOLDER = """
import sys
from syncengine.clock import SystemClock
from syncengine.local.store import Store
from syncengine.outbox.lease import DrainLease
from syncengine.settings import Settings
store = Store(sys.argv[1], settings=Settings(), clock=SystemClock())
print(DrainLease(store, holder="child", lease_ms=60_000).take(), flush=True)
sys.stdin.read()
"""


def test_the_lease_of_a_living_process_is_respected_and_that_of_a_killed_one_is_taken_over(world):
    path = world.store.path
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline().strip() == "True"
        world.clock.wall_ms = SystemClock().now_ms()
        mine = DrainLease(world.store, holder="mine", lease_ms=60_000)
        assert not mine.take()
        os.kill(child.pid, signal.SIGKILL)
        child.wait(timeout=10)
        assert mine.take()
    finally:
        child.kill()
        child.wait(timeout=10)
        child.stdin.close()
        child.stdout.close()


def test_a_lease_is_written_down_again_when_half_of_it_is_over_or_the_clock_went_back(world):
    mine = DrainLease(world.store, holder="mine", lease_ms=60_000)

    def until_ms():
        return json.loads(world.store.value("state", "get", name="drain_owner"))["until_ms"] - 1_750_000_000_000

    found = []
    for moved_ms in (0, 29_999, 1, 29_999, -40_000):
        world.clock.wall_ms += moved_ms
        assert mine.take()
        found.append(until_ms())
    assert found == [60_000, 60_000, 90_000, 90_000, 79_999]


def test_another_process_that_took_an_ended_lease_keeps_it(world):
    mine = DrainLease(world.store, holder="mine", lease_ms=60_000)
    assert mine.take()
    other = {"holder": "other", "pid": 1, "until_ms": world.clock.now_ms() + 50_000}
    with world.store.transaction():
        world.store.run("state", "set", name="drain_owner", value=json.dumps(other))
    assert not mine.take()


def test_a_lease_that_ended_is_free(world):
    lease = '{"holder":"x","pid":1,"until_ms":1750000000001}'
    with world.store.transaction():
        world.store.run("state", "set", name="drain_owner", value=lease)
    mine = DrainLease(world.store, holder="mine", lease_ms=60_000)
    assert not mine.take()
    world.clock.wall_ms += 2
    assert mine.take()
