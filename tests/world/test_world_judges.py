"""Judges of single stores and of the cloud's answers: each sees what it is there for."""

import json
import logging
from contextlib import contextmanager

import pytest

from migrations.journeys_v3 import newer
from migrations.shapes_v2 import JourneyV2
from simulator.world import store_checks
from simulator.world.app import NOTES_APP
from simulator.world.damage import check_damage_is_told
from simulator.world.disk import damage_in, disks
from simulator.world.generated_app import generated_app
from simulator.world.ground import Ground, PromiseBroken
from simulator.world.heros_path import HEROS_PATH
from simulator.world.history import LANES, live
from simulator.world.history import _world as world_of
from simulator.world.leaving import check_no_byte_is_left
from simulator.world.people import People
from simulator.world.plan import plan_of
from simulator.world.second_opinion import SecondOpinion
from simulator.world.starting import check_stopped_as_before, image_of
from simulator.world.words import word
from syncengine import Engine
from syncengine.events import MigrationEnded, MigrationProgressed, MigrationStarted
from syncengine.remote.wire import EntryKind
from syncengine.server.push_reading import Push, RowEntry


@contextmanager
def one_device():
    """A device with one note, and its world."""
    plan = plan_of(0, "partitions")
    with disks() as found, world_of(Ground(0, lanes=LANES), found, plan) as world:
        device = world.devices[0]
        device.switch_on()
        device.write([People(device, world.ground.chance.stream("a note")).new_row("notes", "n")])
        yield world, device


def alter(device, sql):
    with device.store.transaction():
        device.store.query(sql)


def test_a_version_ahead_of_its_tables_is_seen():
    with one_device() as (_, device):
        store_checks.check_markers(device)
        alter(device, "ALTER TABLE notes RENAME COLUMN body TO text")
        with pytest.raises(PromiseBroken, match="P1"):
            store_checks.check_markers(device)


def test_a_start_that_asks_somebody_is_seen():
    with one_device() as (_, device), pytest.raises(PromiseBroken, match="P5"):
        store_checks.check_start_is_offline(device, calls=1, waited_ms=0)


def test_a_migration_that_was_stopped_and_left_a_trace_is_seen():
    with one_device() as (_, device):
        before = image_of(device)
        check_stopped_as_before(device, before)
        alter(device, "UPDATE notes SET body = 'else'")
        with pytest.raises(PromiseBroken, match="P6"):
            check_stopped_as_before(device, before)


STARTED = MigrationStarted(migration="m", total=3)
ENDED = MigrationEnded(migration="m", success=True)


def progressed(done, *, total=3, percent=None):
    return MigrationProgressed(migration="m", done=done, total=total, percent=percent)


def test_progress_that_grows_to_an_end_is_well():
    store_checks.check_progress([])
    store_checks.check_progress([STARTED, progressed(1), progressed(3), ENDED, STARTED, progressed(0), ENDED])


@pytest.mark.parametrize(
    "told",
    [
        [STARTED],
        [STARTED, STARTED, ENDED],
        [ENDED],
        [STARTED, progressed(2), progressed(1), ENDED],
        [STARTED, progressed(4), ENDED],
        [STARTED, progressed(1, total=None, percent=33), ENDED],
        [STARTED, ENDED, progressed(3)],
    ],
)
def test_progress_that_is_not_honest_is_seen(told):
    with pytest.raises(PromiseBroken, match="P14"):
        store_checks.check_progress(told)


def test_a_value_that_is_gone_after_an_upgrade_is_seen():
    with one_device() as (world, device):
        before = store_checks.words_shown(device)
        assert before
        store_checks.check_rows_stay(world.ledger, device, before)
        alter(device, "DELETE FROM notes")
        with pytest.raises(PromiseBroken, match="P8"):
            store_checks.check_rows_stay(world.ledger, device, before)


def test_a_value_or_a_token_in_the_log_is_seen():
    store_checks.check_nothing_was_said(["a round of 3 entries failed"])
    for said in (f"row {word('ann', 'a', 1, 'title')}", "with a-token-of-ann"):
        with pytest.raises(PromiseBroken, match="P12"):
            store_checks.check_nothing_was_said([said])


def test_bytes_of_a_user_in_any_file_are_seen():
    with one_device() as (_, device):
        check_no_byte_is_left(device, "ben")
        with pytest.raises(PromiseBroken, match="P11"):
            check_no_byte_is_left(device, "ann")


def test_damage_that_nothing_tells_of_is_seen():
    with one_device() as (_, device):
        device.switch_off()
        sound = device.drive.files()["app.db"]
        assert damage_in(sound) == ""
        assert damage_in(sound[:4_096] + bytes(8) + sound[4_104:]) != ""
        with pytest.raises(PromiseBroken, match="P13"):
            check_damage_is_told(device)


def test_an_answer_that_another_cloud_would_not_give_is_seen():
    entry = RowEntry(
        sequence=1,
        group=1,
        kind=EntryKind.PUT,
        collection="notes",
        key="n",
        set={},
        base_version=None,
        shape_version="1.0.0",
        token="t",
        on_conflict="merge",
    )
    push = Push(request_id="r", user="ann", device="d", epoch=1, entries=[entry], values_are_good=True)
    for answer, agrees in (({"version": 1}, True), ({"version": 2}, False)):
        opinion = SecondOpinion(("ann",))
        opinion.push(push, [{"sequence": 1, "status": "applied", **answer}])
        assert (opinion.disagrees == "") is agrees


def test_each_seed_has_an_app_of_its_own_whose_first_note_reads_as_its_last_version_shows_it():
    apps = [generated_app(seed) for seed in range(20)]
    assert len({repr(app.shapes["notes"].columns) for app in apps}) > 10
    for app in (*apps, NOTES_APP):
        first, last = app.versions[0], app.versions[-1]
        notes = app.shapes["notes"]
        body = {"id": "n", **dict.fromkeys(notes.columns[first], "x/y")}
        assert sorted(notes.read(body, first, last)) == sorted(("id", *notes.columns[last]))


def test_an_imported_walk_reads_for_the_judge_as_the_migration_makes_it():
    body = {
        "id": "old",
        "name": "Walk",
        "start_time": None,
        "end_time": None,
        "date_known": 1,
        "route": "[]",
        "distance": 12.5,
        "duration": None,
        "start_location": '{"latitude":35.5,"longitude":139.25}',
        "end_location": None,
        "status": "completed",
        "is_completed": None,
        "reviewed_discoveries_count": None,
        "total_discoveries_count": None,
        "completion_percentage": None,
        "last_status_update": None,
        "is_deleted": 0,
        "deleted_at": None,
        "created_at": "2025-07-12T06:40:00.000Z",
        "updated_at": None,
    }
    place = json.loads(body["start_location"])
    parsed = {**body, "user_id": "ann", "route": [], "start_location": place, "date_known": True, "is_deleted": False}
    made = newer(JourneyV2.model_validate(parsed)).row
    expected = {name: value for name, value in made.model_dump(mode="json").items() if name != "user_id"}
    read = HEROS_PATH.shapes["journeys"].read(body, "2.0.0", "3.0.0")
    assert {**read, "route": [], "legacy": json.loads(read["legacy"])} == {**expected, "route": []}


def test_an_engine_that_logs_what_people_write_is_found_out(monkeypatch):
    write = Engine.write

    def talks(self, **more):
        logging.getLogger("syncengine.engine").debug("wrote " + word("ann", "a", 1, "title"))
        return write(self, **more)

    monkeypatch.setattr(Engine, "write", talks)
    broken = live(0).broken
    assert broken is not None
    assert broken[0] == "P12"
