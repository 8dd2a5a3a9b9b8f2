"""The queue under random edits, batches, lost answers, restarts and refusals: the cloud ends as the edits say."""

import json
import random
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from syncengine.errors import BackendUnavailable
from syncengine.outbox.entry import Entry, Kind
from syncengine.outbox.squash import Squash, row_of
from syncengine.settings import Settings
from tests.integration.drain_world import World, is_push

KEYS = ("a", "b", "c")
FIELDS = ("x", "y", "z")

Rows = dict[str, dict[str, int]]


# Squash, against a model of the cloud that applies one edit after another.


@st.composite
def histories(draw):
    """Edits that an app can make: a row is put, patched, deleted, and put again; some are already at the cloud."""
    rows: Rows = {key: {"x": 0} for key in KEYS if draw(st.booleans())}
    at_cloud = {key: dict(row) for key, row in rows.items()}
    groups, entry_id = [], 0
    for _ in range(draw(st.integers(0, 12))):
        group = []
        for _ in range(draw(st.integers(1, 3))):
            entry_id += 1
            group.append(draw_edit(draw, rows, entry_id))
        groups.append(group)
    return at_cloud, groups


def draw_edit(draw, rows, entry_id):
    key = draw(st.sampled_from(KEYS))
    row = rows.get(key)
    values = draw(st.dictionaries(st.sampled_from(FIELDS), st.integers(0, 3), min_size=1))
    if row is None:
        rows[key] = dict(values)
        return entry(entry_id, Kind.PUT, key, values, None)
    if draw(st.integers(0, 3)) == 0:
        del rows[key]
        return entry(entry_id, Kind.DELETE, key, None, row)
    before = {name: row.get(name) for name in values}
    row.update(values)
    return entry(entry_id, Kind.PATCH, key, values, before)


def entry(entry_id, kind, key, set_, before):
    return Entry(
        entry_id=entry_id,
        owner="ann",
        sequence=None,
        epoch=None,
        kind=kind,
        collection="journeys",
        row_key=key,
        set_json=None if set_ is None else json.dumps(set_),
        before_json=None if before is None else json.dumps(before),
        base_version=None,
        shape_version="2.0.0",
        original_json=None,
        group_id=entry_id,
        migration=None,
        barrier_json=None,
        state="waiting",
        held_by=None,
        attempts=0,
        last_error=None,
        created_ms=1_735_689_600_000,
    )


def applied(cloud, entries):
    """What the cloud has after these entries. A patch of a row that it does not have would be refused."""
    rows = {key: dict(row) for key, row in cloud.items()}
    for one in entries:
        if one.kind is Kind.PUT:
            rows[one.row_key] = json.loads(one.set_json)
        elif one.kind is Kind.PATCH:
            rows[one.row_key].update(json.loads(one.set_json))
        else:
            rows.pop(one.row_key, None)
    return rows


def squashed(at_cloud, entries):
    seen = set(at_cloud)
    squash = Squash(lambda one: one.kind is Kind.PUT and one.row_key not in seen)
    for one in entries:
        squash.add(one)
    return squash


@given(histories(), st.data())
def test_squashed_edits_do_to_the_cloud_what_all_edits_do_in_any_grouping(history, data):
    at_cloud, groups = history
    entries = [one for group in groups for one in group]
    cut = data.draw(st.integers(0, len(entries)))
    cloud = at_cloud
    for part in (entries[:cut], entries[cut:]):
        cloud = applied(cloud, squashed(cloud, part).entries)
    assert cloud == applied(at_cloud, entries)


@given(histories())
def test_squashed_edits_hold_each_old_value_of_the_row_as_it_was_before_the_first(history):
    at_cloud, groups = history
    entries = [one for group in groups for one in group]
    squash = squashed(at_cloud, entries)
    rows = {key: dict(row) for key, row in at_cloud.items()}
    for one in squash.entries:
        row = rows.get(one.row_key, {})
        before = json.loads(one.before_json) if one.before_json else {}
        assert all(row.get(name) == value for name, value in before.items())
        rows = applied(rows, [one])


@given(histories())
def test_every_edit_is_sent_travels_or_has_vanished_with_its_row(history):
    at_cloud, groups = history
    entries = [one for group in groups for one in group]
    squash = squashed(at_cloud, entries)
    sent = {one.entry_id for one in squash.entries}
    carried = set(squash.travels)
    assert sent | carried | set(squash.vanished) == {one.entry_id for one in entries}
    assert not sent & carried
    assert {row_of(one) for one in squash.entries} <= {row_of(one) for one in entries}


# The whole queue, over the shipped cloud's rules.


class QueueMachine(RuleBasedStateMachine):
    """An app edits, the line fails, processes die; in the end the cloud has what the app has."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="queue-"))
        self.world = World(self.folder / "world", Settings(push_entries_max=5, push_entries_first=3))
        self.rows: Rows = {}
        self.edits = 0

    def teardown(self):
        self.world.line.lost_answers = 0
        self.world.line.down = None
        for _ in range(4):
            report = self.world.drain()
        try:
            assert report.ended == "drained"
            assert self.world.outbox.depth() == 0
            assert self.world.quarantine() == []
            assert self.world.cloud_rows() == self.rows
            numbers = [number for _, number in self.world.line.applied]
            assert numbers == list(range(1, len(numbers) + 1))
        finally:
            self.world.close()
            shutil.rmtree(self.folder)

    @rule(
        keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=4), values=st.integers(0, 9), delete=st.booleans()
    )
    def edit(self, keys, values, delete):
        """One local transaction."""
        edits = []
        for key in keys:
            row = self.rows.get(key)
            self.edits += 1
            body = {FIELDS[self.edits % 3]: values}
            if row is None:
                self.rows[key] = body
                edits.append(("put", "journeys", key, json.dumps(body), None))
            elif delete:
                edits.append(("delete", "journeys", key, None, json.dumps(self.rows.pop(key))))
            else:
                before = {name: row.get(name) for name in body}
                row.update(body)
                edits.append(("patch", "journeys", key, json.dumps(body), json.dumps(before)))
        self.world.captured(*edits)

    @rule()
    def drain(self):
        self.world.drain()

    @rule()
    def drain_while_pushes_overlap(self):
        self.world.drive(self.world.round(overlaps=True))

    @rule()
    def lose_an_answer(self):
        self.world.line.lost_answers = 1
        self.world.drive(self.world.round(overlaps=True))
        self.world.line.lost_answers = 0

    @rule(calls=st.integers(1, 6))
    def die_at_a_call(self, calls):
        seen = []
        self.world.drive(
            self.world.round(overlaps=True),
            stop_at=lambda call: (is_push(call) and seen.append(call)) or len(seen) == calls,
        )
        self.world.restart()

    @rule()
    def be_refused(self):
        self.world.line.down = BackendUnavailable("503")
        self.world.drain()
        self.world.line.down = None

    @invariant()
    def squashed_entries_travel_in_one_that_is_there(self):
        lost = self.world.store.query(
            "SELECT count(*) FROM _sync_outbox AS s WHERE state = 'squashed' AND NOT EXISTS"
            " (SELECT 1 FROM _sync_outbox AS o WHERE o.entry_id = s.squashed_into AND o.state = 'claimed')"
        )
        assert lost == [(0,)]


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_the_machine_can_fail():
    """A queue whose edits are joined over another group's member would be told by the model above."""
    chance = random.Random(3)
    rows = {"a": {"x": 0}}
    one = entry(1, Kind.PATCH, "a", {"x": 1}, {"x": 0})
    two = entry(2, Kind.PATCH, "a", {"x": chance.randrange(2, 9)}, {"x": 1})
    assert applied(rows, [one, two]) != applied(rows, [two, one])
