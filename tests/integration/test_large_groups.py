"""Transactions of other programs that are larger than the cloud takes, and the empty numbers of large groups."""

import pytest
from capture_world import CaptureWorld
from drain_world import World

from syncengine.errors import BatchRefused
from syncengine.outbox.queue import Outbox
from syncengine.settings import Settings


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path, Settings(group_entries_max=4))
    yield world
    world.close()


def takes_at_most(entries_max):
    """A cloud that reads no request with more entries."""

    def refuses(request):
        too_many = len(request.entries) > entries_max
        return BatchRefused("The request was refused.", status=413) if too_many else None

    return refuses


def puts(count, *, first=0):
    return [("put", "journeys", f"k{n:02}", f'{{"id":"k{n:02}"}}') for n in range(first, first + count)]


def test_a_transaction_that_is_larger_than_the_cloud_takes_is_sent_in_parts(world):
    world.line.refuses = takes_at_most(4)
    world.edit(*puts(10))
    world.put("later")
    report = world.drain()
    assert report.ended == "drained"
    assert len(world.cloud_rows()) == 11
    assert world.quarantine() == []
    arrived = [entry.key for request, _ in world.line.answered for entry in request.entries]
    assert arrived == [*(f"k{n:02}" for n in range(10)), "later"]


def large(count, *, letter="a", first=0):
    """Each about a quarter of what a group holds in `thrifty`."""
    return [("put", "journeys", f"k{n:02}", f'{{"title":"{letter * 700}"}}') for n in range(first, first + count)]


@pytest.fixture
def thrifty(tmp_path):
    world = World(tmp_path, Settings(group_bytes_max=4_000))
    world.line.refuses = too_heavy
    yield world
    world.close()


def too_heavy(request):
    size_bytes = sum(len(str(entry.set).encode()) for entry in request.entries)
    is_large = len(request.entries) > 1 and size_bytes > 4_000
    return BatchRefused("The request was refused.", status=413) if is_large else None


@pytest.mark.parametrize(("letter", "count"), [("a", 10), ("\N{GREEK SMALL LETTER ALPHA}", 5)])
def test_a_transaction_of_few_and_large_rows_is_sent_in_parts(thrifty, letter, count):
    thrifty.edit(*large(count, letter=letter))
    thrifty.put("later")
    report = thrifty.drain()
    assert report.ended == "drained"
    assert len(thrifty.cloud_rows()) == count + 1
    assert thrifty.quarantine() == []
    arrived = [entry.key for request, _ in thrifty.line.answered for entry in request.entries]
    assert arrived == [*(f"k{n:02}" for n in range(count)), "later"]


def test_each_part_holds_as_many_rows_as_fit_and_a_larger_one_is_alone(thrifty):
    rows = large(6)
    rows[3] = ("put", "journeys", "k03", f'{{"title":"{"x" * 5_000}"}}')
    thrifty.edit(*rows)
    thrifty.edit(*large(3, first=20))
    groups = [entry.group_id for entry in thrifty.claim(entries_max=100).entries]
    assert [groups.count(group) for group in dict.fromkeys(groups)] == [3, 1, 2, 3]


def test_what_is_read_later_of_a_transaction_that_was_cut_belongs_to_its_last_part(tmp_path):
    world = World(tmp_path, Settings(group_bytes_max=70_000, push_entries_max=50, push_entries_first=50))
    world.edit(*[("put", "journeys", f"a{n:03}", f'{{"title":"{"x" * 700}"}}') for n in range(300)])
    world.edit(*[("put", "journeys", f"b{n}", "{}") for n in range(5)])
    assert world.drain().ended == "drained"
    groups = [entry.group for request in world.line.pushed for entry in request.entries]
    counts = [groups.count(group) for group in dict.fromkeys(groups)]
    assert (sum(counts), counts[-1]) == (305, 5)
    assert max(counts) * 700 < 70_000
    assert len(counts) == 5
    world.close()


def test_each_part_is_a_group_of_its_own(world):
    world.edit(*puts(10))
    groups = [entry.group_id for entry in world.claim().entries]
    assert [groups.count(group) for group in dict.fromkeys(groups)] == [4, 4, 2]


def test_a_transaction_that_the_cloud_takes_stays_whole_beside_larger_ones(world):
    world.edit(*puts(4))
    world.edit(*puts(9, first=10))
    world.edit(*puts(3, first=20))
    groups = [entry.group_id for entry in world.claim().entries]
    assert [groups.count(group) for group in dict.fromkeys(groups)] == [4, 4, 4, 1, 3]


def test_a_transaction_of_many_pages_is_cut_and_nothing_that_follows_is_glued_to_it(tmp_path):
    world = World(tmp_path, Settings(group_entries_max=30, push_entries_max=50, push_entries_first=50))
    world.line.refuses = takes_at_most(50)
    world.edit(*[("put", "journeys", f"a{n:03}", "{}") for n in range(500)])
    world.edit(*[("put", "journeys", f"b{n}", "{}") for n in range(5)])
    assert world.drain().ended == "drained"
    assert len(world.cloud_rows()) == 505
    groups = [entry.group for request in world.line.pushed for entry in request.entries]
    assert [groups.count(group) for group in dict.fromkeys(groups)] == [30] * 16 + [20, 5]
    world.close()


def test_what_another_user_wrote_in_the_same_transaction_is_cut_for_itself(world):
    with world.store.transaction():
        for number in range(12):
            world.store.query(
                "INSERT INTO _sync_outbox (owner, kind, collection, row_key, set_json, shape_version,"
                " created_ms, fresh) VALUES (?, 'put', 'journeys', ?, '{}', '2.0.0', 1735689600000, 1)",
                ("ann" if number % 2 else "bob", f"k{number:02}"),
            )
    world.claim()
    of = "SELECT g.group_id FROM _sync_outbox JOIN _sync_group AS g USING (entry_id) WHERE owner = ?"
    assert set(world.store.query(of, ("bob",))) == {(1,)}
    groups = [group for (group,) in world.store.query(of, ("ann",))]
    assert max(map(groups.count, groups)) <= 4


def test_edits_by_the_command_line_beyond_the_limit_are_cut_as_well(tmp_path):
    world = CaptureWorld(tmp_path)
    world.cli(
        "WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 5200) "
        "INSERT INTO walks (user_id, id) SELECT 'ann', 'k' || i FROM c"
    )
    batch = Outbox(world.store).claim("ann", entries_max=5_000, bytes_max=4_000_000)
    assert len(batch.entries) == 5_000
    rest = Outbox(world.store).claim("ann", entries_max=5_000, bytes_max=4_000_000, behind=batch)
    assert len(rest.entries) == 200
    assert {entry.group_id for entry in batch.entries}.isdisjoint(entry.group_id for entry in rest.entries)
    world.store.close()


def test_the_empty_numbers_of_a_group_that_was_too_large_are_delivered_in_parts(tmp_path):
    world = World(tmp_path)
    world.edit(*puts(9))
    world.line.refuses = takes_at_most(2)
    world.drain()
    world.put("later")
    report = world.drain()
    assert report.ended == "drained"
    assert list(world.cloud_rows()) == ["later"]
    assert [row[2] for row in world.quarantine()] == ["batch_refused"] * 9
    assert world.states() == {}
    world.close()


def test_a_lone_empty_number_that_is_refused_ends_the_round_and_stays(tmp_path):
    world = World(tmp_path)
    world.put("a")
    world.line.refuses = lambda request: BatchRefused("The request was refused.", status=400)
    report = world.drain()
    assert report.ended == "batch_refused"
    assert world.store.query("SELECT kind, state FROM _sync_outbox") == [("void", "claimed")]
    world.close()


def test_a_group_of_which_one_number_is_empty_still_arrives_whole(world):
    world.edit(*puts(3))
    batch = world.claim()
    world.outbox.void(batch.entries[1:2], code="bad", message="-")
    again = world.claim(entries_max=1)
    assert [entry.kind for entry in again.entries] == ["put", "void", "put"]
