"""No number of an entry is given twice, however the one that had it left the outbox: others name entries by it."""

import subprocess
import sys

import pytest
from users_world import ROOT, opened

from syncengine import KeyFile
from syncengine.local.restore_points import make_restore_point
from syncengine.outbox.entry import Result
from syncengine.outbox.queue import Outbox

BY_ANOTHER_ENGINE = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from pathlib import Path
from users_world import add_notes, opened
engine = opened(Path(sys.argv[3]))
add_notes(engine, "theirs")
print(*engine.last_entries())
engine.close()
"""


@pytest.fixture
def engine(tmp_path):
    with opened(tmp_path) as engine:
        yield engine


def written(engine, *keys, owner="ann"):
    """The numbers that one block of notes gets."""
    with engine.write() as db:
        db["notes"].insert_all([{"user_id": owner, "id": key, "text": "text"} for key in keys])
    return list(engine.last_entries())


def numbers(engine):
    return [number for (number,) in engine._store.query("SELECT entry_id FROM _sync_outbox ORDER BY entry_id")]


def sent(engine, *, owner="ann", entries_max=99):
    """What waits is numbered, and the cloud takes it."""
    outbox = Outbox(engine._store)
    batch = outbox.claim(owner, entries_max=entries_max, bytes_max=99_999)
    outbox.confirm(batch, [Result(sequence=each.sequence, status="applied", version=1) for each in batch.entries])
    return [entry.entry_id for entry in batch.entries]


def rejected(engine):
    outbox = Outbox(engine._store)
    batch = outbox.claim("ann", entries_max=99, bytes_max=99_999)
    results = [Result(sequence=e.sequence, status="rejected", code="bad", message="a word") for e in batch.entries]
    outbox.confirm(batch, results)


def test_a_queue_that_has_been_sent_goes_on_counting(engine):
    assert written(engine, "a", "b", "c") == [1, 2, 3]
    assert sent(engine) == [1, 2, 3]
    assert numbers(engine) == []
    assert written(engine, "d", "e") == [4, 5]
    assert sent(engine, entries_max=1) + sent(engine) == [4, 5]
    assert written(engine, "f") == [6]


def test_the_newest_entry_may_leave_before_older_ones(engine):
    written(engine, "a")
    written(engine, "b", owner="bob")
    assert sent(engine, owner="bob") == [2]
    assert numbers(engine) == [1]
    assert written(engine, "c") == [3]


def test_what_the_engine_itself_queues_goes_on_counting(engine):
    written(engine, "a", "b")
    sent(engine)
    with engine._store.transaction():
        engine._store.query("DELETE FROM _sync_row")
    assert engine.reconcile().queued == 2
    assert numbers(engine) == [3, 4]


def test_a_discarded_item_does_not_give_its_number_back(engine):
    written(engine, "a")
    rejected(engine)
    engine.quarantine.discard(1, reason="not needed")
    assert numbers(engine) == []
    assert written(engine, "b") == [2]
    assert engine.receipt(1).state == "discarded"


def test_a_retried_item_has_its_old_number_and_the_next_entry_a_new_one(engine):
    written(engine, "a", "b")
    rejected(engine)
    engine.quarantine.retry(2)
    assert numbers(engine) == [1, 2]
    assert written(engine, "c") == [3]


def test_a_wiped_user_takes_no_number_along(engine):
    written(engine, "a", "b")
    engine.wipe("ann", unsent="destroy")
    assert numbers(engine) == []
    assert written(engine, "c") == [3]


def test_an_emptied_queue_goes_on_counting_after_a_restart_and_a_vacuum(engine, tmp_path):
    written(engine, "a", "b")
    sent(engine)
    engine._store.query("VACUUM")
    engine.close()
    with opened(tmp_path) as again:
        assert written(again, "c") == [3]


def test_a_restored_store_goes_on_counting_from_the_present_one(tmp_path):
    with opened(tmp_path, keys=KeyFile(tmp_path / "key")) as engine:
        written(engine, "a")
        point = make_restore_point(engine._store, keys=KeyFile(tmp_path / "key"), reason="test")
        written(engine, "b", "c")
        sent(engine)
        engine.restore(point.restore_point_id)
        assert numbers(engine) == []
        assert written(engine, "d") == [4]


def test_another_process_counts_on(engine, tmp_path):
    written(engine, "a", "b")
    sent(engine)
    here = str(ROOT / "tests" / "integration")
    command = [sys.executable, "-c", BY_ANOTHER_ENGINE, here, str(ROOT), str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["3"]
    assert sent(engine) == [3]
    assert written(engine, "c") == [4]


def test_the_number_of_a_confirmed_entry_is_not_given_again_while_an_older_one_is_on_its_way(engine):
    assert written(engine, "a", "b") == [1, 2]
    outbox = Outbox(engine._store)
    batch = outbox.claim("ann", entries_max=99, bytes_max=99_999)
    outbox.confirm(batch, [Result(sequence=2, status="applied", version=1)])
    assert numbers(engine) == [1]
    assert written(engine, "c") == [3]


def test_a_page_that_drops_edits_with_triggers_off_notes_them(engine):
    written(engine, "a", "b")
    with engine._store.transaction(), engine._store.without_triggers():
        engine._store.run("pull", "drop_entry", entry_id=2)
    assert written(engine, "c") == [3]


def test_an_edit_after_somebody_emptied_the_table_by_hand_is_still_sent(engine):
    written(engine, "a", "b", "c")
    assert engine.reconcile().queued == 0  # it has entered all that was fresh
    with engine._store.transaction():
        engine._store.query("DELETE FROM _sync_outbox")
    assert written(engine, "d") == [4]
    assert sent(engine) == [4]


def test_a_queue_without_its_mark_still_takes_edits(engine):
    with engine._store.transaction():
        engine._store.query("DELETE FROM _sync_last_entry")
    assert written(engine, "a") == [1]


def test_the_mark_is_one_row_and_never_falls(engine):
    written(engine, "a", "b")
    sent(engine)
    written(engine, "c")
    with engine._store.transaction():
        engine._store.run("outbox", "delete", entry_id=2)
    assert engine._store.query("SELECT * FROM _sync_last_entry") == [(1, 3)]
