"""A round against the shipped cloud's rules, with lost answers, crashes, refusals and restored stores."""

import random
import shutil
from collections.abc import Sequence

import pytest
from drain_world import World, is_push, refuses_key

from syncengine.errors import (
    AuthRequired,
    BackendUnavailable,
    BackendUnreachable,
    RateLimited,
    SequenceGap,
)
from syncengine.events import BatchConfirmed, EntryQuarantined
from syncengine.local.version_table import read_installed
from syncengine.migrate.online import CloudChange, CloudRow
from syncengine.outbox.entry import Kind
from syncengine.remote.wire import Action, EntryKind, HelloRequest, PushEntry, PushRequest
from syncengine.settings import Settings
from syncengine.sync.calls import Hello, Push
from syncengine.sync.courier import carry


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def small(tmp_path):
    world = World(tmp_path, Settings(push_entries_max=8, attempts_of_one_entry_max=3))
    yield world
    world.close()


def test_a_round_delivers_the_queue_and_says_so(world):
    world.add_journeys("a", "b")
    world.upload()
    world.edit(("patch", "journeys", "a", '{"title":"better"}'))
    report = world.drain()
    assert (report.ended, report.applied, report.sendable, report.error) == ("drained", 3, 0, None)
    assert world.cloud_rows()["a"]["title"] == "better"
    assert world.cloud_rows()["b"]["picture"] == {"$blob": "AP8="}
    assert world.outbox.depth() == 0
    assert [event for event in world.events if isinstance(event, BatchConfirmed)][-1].sendable == 0
    assert world.settled == ["ann"]


def test_a_round_with_nothing_to_send_says_only_hello(world):
    assert world.drain().ended == "drained"
    assert (world.line.hellos, world.line.pushed) == (1, [])


def test_a_lost_answer_after_commit_delivers_the_entry_once(world):
    world.put("a")
    world.line.lost_answers = 1
    report = world.drain()
    assert isinstance(report.error, BackendUnreachable)
    assert world.states() == {"a": "claimed"}
    assert world.drain().ended == "drained"
    assert world.line.applied == [(1, 1)]
    assert [[e.sequence for e in push.entries] for push in world.line.pushed] == [[1], [1]]
    assert world.outbox.drain_state("ann").confirmed_count == 1


def test_a_process_killed_between_claim_and_send_sends_after_its_restart(world):
    world.put("a")
    assert world.drive(world.round(), stop_at=is_push) is None
    assert world.states() == {"a": "claimed"}
    world.restart()
    world.put("b")
    assert world.drain().ended == "drained"
    assert world.line.applied == [(1, 1), (1, 2)]


def test_a_process_killed_between_send_and_confirmation_delivers_once(world):
    world.put("a")
    round_ = world.round()
    assert isinstance(next(round_), Hello)
    world.line.lost_answers = 1
    with pytest.raises(BackendUnreachable):
        # The cloud commits, and nobody is left to hear the answer.
        world.drive_one(round_)
    world.restart()
    assert world.drain().ended == "drained"
    assert world.line.applied == [(1, 1)]


def test_a_round_is_given_up_without_a_word_while_its_file_takes_no_writes(world):
    world.put("a")
    round_ = world.round()
    assert isinstance(next(round_), Hello)
    world.store.query("PRAGMA query_only = ON")
    round_.close()
    world.store.query("PRAGMA query_only = OFF")
    world.clock.wall_ms += 3_600_000  # the lease has ended by itself
    assert world.drain().ended == "drained"


def test_no_transaction_is_open_while_a_call_is_in_flight(world):
    world.put("a")
    world.executors["m"] = Shorten()
    world.outbox.queue_barrier(owner="ann", migration="m", collections=["notes"], cloud_version="2.0.0", works=True)
    seen = []
    world.drive(world.round(), stop_at=lambda call: seen.append(world.store.connection.in_transaction))
    assert len(seen) >= 4
    assert not any(seen)


def test_transient_failures_end_the_round_and_their_wait_is_durable(world):
    world.put("a")
    world.line.down = BackendUnreachable("No route.")
    assert world.drain().ended == "backend_unreachable"
    world.restart()
    state = world.outbox.drain_state("ann")
    assert (state.attempts, state.last_error) == (1, "backend_unreachable")
    assert 0 <= world.outbox.next_try_ms("ann") <= 1_000
    assert world.states() == {"a": "waiting"}


def test_the_wait_that_a_server_asks_for_is_kept(world):
    world.put("a")
    world.line.down = RateLimited("Slow down.", retry_after_ms=90_000)
    world.drain()
    assert 90_000 <= world.outbox.next_try_ms("ann") <= 91_000


def test_a_success_ends_all_waits(world):
    world.put("a")
    world.line.down = BackendUnreachable("No route.")
    world.drain()
    world.line.down = None
    world.drain()
    state = world.outbox.drain_state("ann")
    assert (state.attempts, state.next_try_at, state.last_error) == (0, None, None)
    assert state.last_success_at is not None


def test_a_refused_token_keeps_the_queue(world):
    world.put("a")
    world.line.down = AuthRequired("Sign in.")
    report = world.drain()
    assert isinstance(report.error, AuthRequired)
    assert world.outbox.depth() == 1


def test_a_rejected_entry_goes_to_quarantine_and_the_others_through(world):
    world.put("a")
    world.edit(("patch", "journeys", "missing", '{"title":"x"}'))
    world.put("b")
    report = world.drain()
    assert report.applied == 2
    assert set(world.cloud_rows()) == {"a", "b"}
    assert world.quarantine() == [(1, "missing", "gone", None)]
    assert [event.item_id for event in world.events if isinstance(event, EntryQuarantined)] == [1]


def test_a_rejected_member_sets_its_whole_group_aside_and_a_retry_sends_it_whole(world):
    world.edit(
        ("put", "journeys", "a", '{"id":"a"}'),
        ("patch", "journeys", "missing", '{"title":"x"}'),
    )
    world.drain()
    assert world.cloud_rows() == {}
    assert [(row[1], row[2]) for row in world.quarantine()] == [("a", "group_rejected"), ("missing", "gone")]
    world.outbox.discard(2)
    world.outbox.retry(1)
    assert world.drain().applied == 1
    assert set(world.cloud_rows()) == {"a"}
    assert world.line.pushed[-1].entries[0].sequence == 3


def test_a_poisoned_entry_is_isolated_and_never_blocks_the_others(small):
    for n in range(20):
        small.put(f"k{n:02}")
    small.line.refuses = refuses_key("k11")
    report = small.drain()
    assert report.ended == "drained"
    assert len(small.cloud_rows()) == 19
    assert [row[1:3] for row in small.quarantine()] == [("k11", "batch_refused")]
    assert small.outbox.depth() == 0
    assert len(small.line.applied) == 20
    assert len(set(small.line.applied)) == 20


def test_a_batch_that_is_too_large_is_halved_at_once_and_grows_back(small):
    for n in range(40):
        small.put(f"k{n:02}")
    small.line.refuses = lambda request: (
        refuses_key(request.entries[0].key, status=413)(request) if len(request.entries) > 3 else None
    )
    assert small.drive(small.round(), stop_at=lambda call: len(small.line.pushed) == 6) is None
    assert small.batches_sent()[:4] == [8, 4, 2, 4]
    small.line.refuses = lambda request: None
    small.drain()
    assert max(small.batches_sent()[-3:]) == 8
    assert len(small.cloud_rows()) == 40


def test_a_cloud_that_breaks_on_one_entry_gets_past_it_after_many_rounds(small):
    small.put("poison")
    small.put("good")

    def breaks(request):
        bad = any(e.key == "poison" and e.kind.value != "void" for e in request.entries)
        return BackendUnavailable("500") if bad else None

    small.line.refuses = breaks
    rounds = 0
    while small.drain().ended != "drained":
        rounds += 1
        assert rounds < 50
    assert rounds >= 12
    assert set(small.cloud_rows()) == {"good"}
    assert [row[1] for row in small.quarantine()] == ["poison"]


def test_a_poisoned_entry_that_arrived_after_all_leaves_quarantine_by_itself(small):
    small.put("a")
    small.line.lost_answers = 1
    small.drain()
    small.line.refuses = refuses_key("a")
    small.drain()
    assert [row[1:] for row in small.quarantine()] == [("a", "batch_refused", "retried")]
    assert small.outbox.depth() == 0
    assert small.line.applied == [(1, 1)]


def test_a_restored_store_begins_a_new_epoch_and_repeats_no_number(world):
    world.put("a")
    world.drain()
    world.store.close()
    shutil.copy(world.store.path, world.folder / "old.db")
    world.store = world._opened(new=False)
    world.restart()
    world.put("b")
    world.put("c")
    world.drain()
    world.store.close()
    shutil.copy(world.folder / "old.db", world.store.path)
    world.store = world._opened(new=False)
    world.restart()
    world.put("d")
    report = world.drain()
    assert report.ended == "drained"
    assert set(world.cloud_rows()) == {"a", "b", "c", "d"}
    assert world.outbox.drain_state("ann").epoch > 1


def test_a_restored_store_settles_what_it_had_claimed_by_the_old_numbers(world):
    world.put("a")
    world.drive(world.round(), stop_at=is_push)
    world.store.close()
    shutil.copy(world.store.path, world.folder / "old.db")
    world.store = world._opened(new=False)
    world.restart()
    world.put("b")
    world.drain()
    world.store.close()
    shutil.copy(world.folder / "old.db", world.store.path)
    world.store = world._opened(new=False)
    world.restart()
    assert world.drain().ended == "drained"
    assert world.line.applied == [(1, 1), (1, 2)]
    assert world.outbox.depth() == 0


def test_a_restored_store_settles_all_it_had_claimed_before_it_begins_an_epoch_however_many_rounds(tmp_path):
    world = World(tmp_path, Settings(push_entries_max=3, round_pushes_max=1))
    for key in ("a", "b", "c"):
        world.put(key)
    world.drive(world.round(), stop_at=is_push)
    world.store.close()
    shutil.copy(world.store.path, tmp_path / "old.db")
    world.store = world._opened(new=False)
    world.restart()
    world.put("d")
    world.drain()
    world.drain()
    world.store.close()
    shutil.copy(tmp_path / "old.db", world.store.path)
    world.store = world._opened(new=False)
    world.restart()
    world.outbox.resize_batches("ann", entries_max=1)
    first, applied_before = world.drain(), list(world.line.applied)
    second = world.drain()
    last = world.drain()
    applied = list(world.line.applied)
    world.close()
    assert (first.ended, second.ended, last.ended) == ("bounded", "bounded", "drained")
    assert applied == applied_before == [(1, 1), (1, 2), (1, 3), (1, 4)]


def test_a_cloud_that_lost_what_it_had_confirmed_gets_new_numbers(world):
    world.put("a")
    world.drain()
    world.put("b")
    lost = World(world.folder / "restored")
    world.line.cloud = lost.cloud
    report = world.drain()
    lost.store.close()
    assert report.ended == "drained"
    assert [epoch > 1 for epoch, _ in world.line.applied] == [False, True]
    assert len(world.line.pushed) == 2
    lost.cloud.close()


def test_a_gap_in_the_middle_of_a_round_is_healed_when_the_cloud_lost_data(world):
    world.put("a")
    world.drain()
    world.put("b")
    lost = World(world.folder / "restored")
    round_ = world.round()
    call = next(round_)
    call = round_.send(carry(world.line, call, request_id="r"))
    assert isinstance(call, Push)
    world.line.cloud = lost.cloud
    report = world.drive_from(round_, call)
    lost.store.close()
    assert report.ended == "drained"
    assert world.outbox.depth() == 0
    lost.cloud.close()


def test_a_gap_that_makes_no_sense_ends_the_round_with_the_queue_kept(world):
    world.put("a")
    world.line.refuses = lambda request: SequenceGap("?", expected=99)
    assert world.drain().ended == "sequence_gap"
    assert world.states() == {"a": "claimed"}


def test_a_cloud_that_never_agrees_about_numbers_ends_the_round(world):
    class Confused:
        def __getattr__(self, name):
            return getattr(world.cloud, name)

        def hello(self, user, request):
            return world.cloud.hello(user, request).model_copy(update={"device_seq": 99})

    world.line.cloud = Confused()
    world.put("a")
    assert world.drain().ended == "protocol_violation"
    assert world.line.hellos <= 6
    assert world.outbox.depth() == 1


def test_a_round_is_bounded_and_the_next_one_goes_on(tmp_path):
    world = World(tmp_path, Settings(push_entries_max=1, round_pushes_max=3))
    for n in range(5):
        world.put(f"k{n}")
    first, second = world.drain(), world.drain()
    world.close()
    assert (first.ended, first.applied, first.sendable) == ("bounded", 3, 2)
    assert (second.ended, second.applied) == ("drained", 2)


def test_two_rounds_at_once_deliver_each_entry_once(small):
    """As two processes would, were both to hold the lease: all their calls interleaved."""
    for n in range(20):
        small.put(f"k{n:02}")
    rounds = [small.round(), small.round()]
    calls = [next(round_) for round_ in rounds]
    chance = random.Random(3)
    while rounds:
        turn = chance.randrange(len(rounds))
        try:
            calls[turn] = rounds[turn].send(carry(small.line, calls[turn], request_id="r"))
        except StopIteration:
            del rounds[turn], calls[turn]
    assert len(small.cloud_rows()) == 20
    assert len(small.line.applied) == len(set(small.line.applied)) == 20
    assert len(small.line.pushed) > 3
    assert small.outbox.depth() == 0
    assert small.outbox.drain_state("ann").confirmed_count == 20


def test_a_device_whose_faults_come_at_random_delivers_everything_once_and_in_order(small):
    chance = random.Random(11)
    expected = {}
    for step in range(120):
        key = f"k{chance.randrange(8)}"
        kind = "patch" if key in expected else "put"
        expected[key] = f"v{step}"
        small.edit((kind, "journeys", key, f'{{"title":"v{step}"}}'))
        fault = chance.randrange(6)
        if fault == 0:
            small.line.lost_answers = 1
            small.drain()
        elif fault == 1:
            small.drive(small.round(), stop_at=is_push)
            small.restart()
        elif fault == 2:
            small.line.down = BackendUnavailable("503")
            small.drain()
            small.line.down = None
        elif fault == 3:
            small.drain()
    small.line.lost_answers = 0
    assert small.drain().ended == "drained"
    assert {key: row["title"] for key, row in small.cloud_rows().items()} == expected
    assert small.quarantine() == []
    numbers = [sequence for _, sequence in small.line.applied]
    assert numbers == list(range(1, len(numbers) + 1))


# Online migrations.


class Shorten:
    """Gives every long title a short one; rows that are right stay as they are."""

    def __init__(self) -> None:
        self.pages: list[list[str]] = []

    def cloud_changes(self, rows: Sequence[CloudRow]):
        self.pages.append([row.key for row in rows])
        for row in rows:
            if len(str(row.body["title"])) > 3:
                title = str(row.body["title"])[:3]
                yield CloudChange(kind="patch", collection=row.collection, key=row.key, set={"title": title})


def long_rows(world, count):
    for n in range(count):
        world.put(f"k{n:03}", text="long title")
    world.drain()
    world.line.pushed.clear()
    world.line.applied.clear()


def change_cloud(world, executor, cloud_version="2.0.0"):
    world.executors["m"] = executor
    world.outbox.queue_barrier(
        owner="ann", migration="m", collections=["journeys"], cloud_version=cloud_version, works=True
    )


def cloud_version_here(world):
    return read_installed(world.store).cloud_versions.get("user:ann")


def test_a_barrier_changes_the_cloud_page_by_page_and_then_tells_the_version(tmp_path):
    world = World(tmp_path, Settings(batch_rows=4))
    long_rows(world, 10)
    change_cloud(world, Shorten())
    world.put("k000", text="late edit")
    report = world.drain()
    hello = world.cloud.hello("ann", wire_hello())
    titles = {row["title"] for key, row in world.cloud_rows().items() if key != "k000"}
    here, depth = cloud_version_here(world), world.outbox.depth()
    world.close()
    assert report.ended == "drained"
    assert titles == {"lon"}
    assert [len(push.entries[0].changes or ()) for push in world.line.pushed] == [4, 4, 2, 0, 0]
    assert world.line.pushed[-1].entries[0].set == {"id": "k000", "title": "late edit"}
    assert (hello.cloud_version, str(here), depth) == ("2.0.0", "2.0.0", 0)


def wire_hello():
    return HelloRequest(request_id="r", user="ann", app="app", device="other", epoch=1, schema_version="2.0.0")


def test_a_barrier_killed_at_each_call_is_done_once_in_the_end(tmp_path):
    for crash_at in range(1, 10):
        folder = tmp_path / str(crash_at)
        folder.mkdir()
        world = World(folder, Settings(batch_rows=4))
        long_rows(world, 10)
        change_cloud(world, Shorten())
        calls = []
        world.drive(
            world.round(), stop_at=lambda call, calls=calls, n=crash_at: calls.append(call) or len(calls) == n
        )
        world.line.lost_answers = crash_at % 2
        world.restart()
        world.drain()
        assert world.drain().ended == "drained"
        titles = [row["title"] for row in world.cloud_rows().values()]
        numbers = [sequence for _, sequence in world.line.applied]
        world.close()
        assert titles == ["lon"] * 10
        assert numbers == list(range(11, 11 + len(numbers)))


def other_device_pushes(world, *edits, first=1):
    """Edits of another device of ann's, straight to the cloud: (kind, key, set)."""
    entries = tuple(
        PushEntry(
            sequence=first + index,
            group=first + index,
            kind=EntryKind(kind),
            collection="journeys",
            key=key,
            set=body,
            shape_version="2.0.0",
        )
        for index, (kind, key, body) in enumerate(edits)
    )
    request = PushRequest(
        request_id="r", user="ann", device="other", epoch=1, schema_version="2.0.0", entries=entries
    )
    world.cloud.push("ann", request)


def test_rows_that_changed_between_reading_and_writing_are_read_again_and_none_is_passed_over(tmp_path):
    world = World(tmp_path, Settings(batch_rows=4))
    long_rows(world, 6)

    class OtherDeviceWritesMeanwhile(Shorten):
        def cloud_changes(self, rows):
            changes = list(super().cloud_changes(rows))
            if len(self.pages) == 1:
                other_device_pushes(world, ("delete", "k000", None), ("patch", "k001", {"title": "newer title"}))
            return changes

    executor = OtherDeviceWritesMeanwhile()
    change_cloud(world, executor)
    world.drain()
    titles = {key: row["title"] for key, row in world.cloud_rows().items()}
    world.close()
    assert titles == {"k001": "new", "k002": "lon", "k003": "lon", "k004": "lon", "k005": "lon"}
    assert executor.pages == [["k000", "k001", "k002", "k003"], ["k001"], ["k004", "k005"]]


def test_a_row_that_changes_every_time_ends_in_quarantine_and_not_in_a_loop(small):
    long_rows(small, 1)
    sequence = iter(range(1, 100))

    class AlwaysLate(Shorten):
        def cloud_changes(self, rows):
            changes = list(super().cloud_changes(rows))
            other_device_pushes(small, ("patch", "k000", {"title": "long again"}), first=next(sequence))
            return changes

    executor = AlwaysLate()
    change_cloud(small, executor)
    assert small.drain().ended == "drained"
    assert [row[2] for row in small.quarantine()] == ["rows_keep_changing"]
    assert len(executor.pages) == 3
    small.executors["m"] = Shorten()
    small.outbox.retry(1)
    assert small.drain().ended == "drained"
    assert small.cloud_rows()["k000"]["title"] == "lon"


def test_a_barrier_whose_code_fails_is_set_aside_with_what_it_held_back(world):
    long_rows(world, 1)

    class Broken:
        def cloud_changes(self, rows):
            raise ZeroDivisionError("SECRET-CANARY")

    change_cloud(world, Broken())
    world.put("behind")
    world.put("beside", collection="notes")
    assert world.drain().ended == "drained"
    assert world.states() == {"behind": "held"}
    text = world.store.query("SELECT error_code, error_text FROM _sync_quarantine")[0]
    assert text[0] == "cloud_changes_failed"
    assert "SECRET-CANARY" not in text[1]
    assert set(world.cloud_rows("notes")) == {"beside"}
    assert cloud_version_here(world) is None


def test_a_barrier_that_another_device_has_done_is_left_out_without_work(world):
    long_rows(world, 2)
    change_cloud(world, Shorten())
    world.drain()
    executor = Shorten()
    change_cloud(world, executor)
    world.settled.clear()
    assert world.drain().ended == "drained"
    assert executor.pages == []
    assert world.outbox.depth() == 0
    assert world.settled == ["ann"]


def test_a_page_whose_changes_are_too_large_is_cut(tmp_path):
    world = World(tmp_path, Settings(batch_rows=8, push_bytes_max=400))
    long_rows(world, 8)
    change_cloud(world, Shorten())
    world.drain()
    titles = [row["title"] for row in world.cloud_rows().values()]
    world.close()
    assert titles == ["lon"] * 8
    assert max(len(push.entries[0].changes or ()) for push in world.line.pushed) < 8


def test_a_moved_row_does_not_overwrite_what_another_device_moved_and_edited(world):
    world.put("a", text="old")
    world.edit(("put", "notes", "a", '{"id":"a","text":"moved and edited"}'))
    world.drain()

    class Move:
        def cloud_changes(self, rows):
            for row in rows:
                yield CloudChange(kind="put", collection="notes", key=row.key, set={"id": row.key, "text": "moved"})
                yield CloudChange(kind="delete", collection="journeys", key=row.key)

    change_cloud(world, Move())
    assert world.drain().ended == "drained"
    assert world.cloud_rows("notes")["a"]["text"] == "moved and edited"
    assert world.cloud_rows("journeys") == {}


def test_a_copy_that_another_device_has_made_already_is_no_conflict(world):
    world.put("a")
    world.edit(("put", "notes", "a", '{"id":"a","text":"copied"}'))
    world.drain()

    class Copy:
        def cloud_changes(self, rows):
            for row in rows:
                yield CloudChange(kind="put", collection="notes", key=row.key, set={"id": row.key})

    change_cloud(world, Copy())
    assert world.drain().ended == "drained"
    assert world.quarantine() == []
    assert world.cloud_rows("notes")["a"] == {"id": "a", "text": "copied"}


def test_one_users_round_sends_nothing_of_another_user(world):
    world.put("a")
    world.edit(("put", "journeys", "bobs", '{"id":"bobs"}'), owner="bob")
    world.drain()
    assert set(world.cloud_rows()) == {"a"}
    assert world.outbox.depth("bob") == 1


def test_an_app_that_the_cloud_calls_too_old_keeps_its_queue(world):
    class Newer:
        def __getattr__(self, name):
            return getattr(world.cloud, name)

        def hello(self, user, request):
            return world.cloud.hello(user, request).model_copy(update={"action": Action.UPGRADE_APP})

    world.line.cloud = Newer()
    world.put("a")
    assert world.drain().ended == "upgrade_app"
    assert world.states() == {"a": "waiting"}


def test_a_void_is_delivered_as_an_empty_number(small):
    small.put("a")
    small.line.refuses = refuses_key("a")
    small.drain()
    last = small.line.pushed[-1].entries[0]
    assert (last.kind.value, last.set, last.sequence) == (Kind.VOID.value, None, 1)
