"""Two copies of one store: both go on as the same device, in any interleaving, and nothing is lost or doubled."""

import json
import random
import shutil

import pytest
from drain_world import World, is_push

from syncengine.settings import Settings
from syncengine.sync.calls import Begin, Begun, End
from syncengine.sync.courier import carry


class Copy(World):
    """Another copy of the same device's store, on the same cloud."""

    def __init__(self, original, name, seed):
        self.original = original
        self.folder = original.folder / name
        self.folder.mkdir()
        original.store.query("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(original.store.path, self.folder / "app.db")
        self.settings, self.clock, self.cloud = original.settings, original.clock, original.cloud
        self.chance = random.Random(seed)
        self.line = original.line
        self.events, self.settled, self.executors = [], [], {}
        self.store = self._opened(new=False)
        from syncengine.outbox.queue import Outbox

        self.outbox = Outbox(self.store)

    def close(self):
        self.store.close()


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path, Settings(push_entries_max=3))
    world.copies = []
    yield world
    for copy in world.copies:
        copy.close()
    world.close()


def copy_of(world, seed=99):
    copy = Copy(world, f"copy{len(world.copies)}", seed)
    world.copies.append(copy)
    return copy


def delivered(world):
    """How often the cloud has taken a put of each title."""
    titles = [
        entry.set["title"]
        for push, results in world.line.answered
        for entry, result in zip(push.entries, results, strict=True)
        if result.status in ("applied", "merged") and entry.set
    ]
    return {title: titles.count(title) for title in titles}


def test_a_number_that_another_copy_has_used_is_sent_again_under_a_new_epoch(world):
    copy = copy_of(world)
    world.put("a", text="of the first")
    copy.put("b", text="of the second")
    world.drain()
    # It has claimed before it hears of the other one.
    copy.claim(token="another token")
    assert copy.drain().ended == "drained"
    assert {row["title"] for row in world.cloud_rows().values()} == {"of the first", "of the second"}
    assert copy.outbox.drain_state("ann").epoch > 1
    assert world.outbox.drain_state("ann").epoch == 1


def test_copies_made_after_the_claim_share_its_token_and_deliver_once(world):
    world.put("a", text="claimed")
    assert world.drive(world.round(), stop_at=is_push) is None
    copy = copy_of(world)
    assert world.drain().ended == copy.drain().ended == "drained"
    assert delivered(world) == {"claimed": 1}
    assert copy.outbox.depth() == world.outbox.depth() == 0
    assert copy.outbox.drain_state("ann").epoch == 1


def test_edits_of_one_row_keep_their_order_when_their_numbers_were_used(world):
    """Behind a number that was used nothing is done, or the later edit would come before the earlier one."""
    world.put("a", text="first")
    world.drain()
    copy = copy_of(world)
    for n in range(2):
        world.put(f"other{n}", text=f"other {n}")
    for text in ("second", "third"):
        copy.edit(("patch", "journeys", "a", json.dumps({"title": text})), ("put", "journeys", text, "{}"))
    copy.put("z", text="last")
    copy.claim(token="of the copy", entries_max=5)
    world.drain()
    copy.drain()
    assert world.cloud_rows()["a"]["title"] == "third"
    assert set(world.cloud_rows()) >= {"other0", "other1", "z", "second"}
    assert world.quarantine() == copy.quarantine() == []


@pytest.mark.parametrize("seed", range(25))
def test_two_copies_that_send_at_once_lose_and_double_nothing(world, seed):
    chance = random.Random(seed)
    for n in range(chance.randrange(4)):
        world.put(f"claimed{n}", text=f"claimed {n}")
    if chance.random() < 0.7:
        world.drive(world.round(), stop_at=is_push)  # claimed before the copy is made
        claimed = {f"claimed {n}" for n in range(3)} & {
            json.loads(entry.set_json)["title"] for entry in world.claim().entries
        }
    else:
        claimed = set()
    copy = copy_of(world, seed=seed + 1_000)
    both = [world, copy]
    expected = set()
    for step in range(30):
        one = chance.randrange(2)
        if chance.random() < 0.4:
            title = f"{one}-{step}"
            expected.add(title)
            both[one].put(f"k{title}", text=title)
        interleave(both, chance)
        if chance.random() < 0.1:
            both[one].restart()
    world.line.lost_answers = 0
    for _ in range(4):
        ended = [one.drain().ended for one in both]
    counts = delivered(world)
    assert ended == ["drained", "drained"]
    # What waited when the copy was made, and the other one has sent, is not done again: a reading settles it.
    left = [row for one in both for row in one.store.query("SELECT row_key, state, last_error FROM _sync_outbox")]
    assert {row[1:] for row in left} <= {("waiting", "conflict")}
    assert {key for key, *_ in left} <= {f"claimed{n}" for n in range(3)} & world.cloud_rows().keys()
    assert not any(counts.get(f"claimed {key[-1]}", 0) > 1 for key, *_ in left)
    assert {title: counts.get(title) for title in expected | claimed} == dict.fromkeys(expected | claimed, 1)
    assert world.quarantine() == copy.quarantine() == []


def interleave(both, chance):
    """A few calls of a round of each, in any order; then both processes go on to something else, or die."""
    both[0].line.lost_answers = int(chance.random() < 0.2)
    rounds = [one.round(overlaps=chance.random() < 0.5) for one in both]
    calls = [next(round_) for round_ in rounds]
    begun = [None, None]
    for _ in range(chance.randrange(12)):
        turn = chance.randrange(2)
        if rounds[turn] is None:
            continue
        try:
            calls[turn], begun[turn] = advanced(both[turn], rounds[turn], calls[turn], begun[turn])
        except StopIteration:
            rounds[turn] = None


def advanced(one, round_, call, begun):
    from syncengine.errors import SyncEngineError

    if isinstance(call, Begin):
        return round_.send(Begun()), call.push
    try:
        answer = carry(one.line, begun if isinstance(call, End) else call, request_id="r")
    except SyncEngineError as error:
        return round_.throw(error), None
    return round_.send(answer), None
