"""A round that fails on this device, not at the cloud, is told to who asked, to the listener and in the status."""

import queue
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from syncengine.engine import Engine
from syncengine.errors import BackendUnreachable, DiskFull, RoundFailed
from syncengine.events import RoundEnded, RoundStarted
from syncengine.outbox.queue import Outbox
from syncengine.settings import Settings
from syncengine.testing.disk import failing_disk
from tests.integration.sync_world import Device, World, registry

NOWHERE = "CREATE TRIGGER app_own AFTER INSERT ON plans BEGIN SELECT nofunc(1); END"
WAIT_S = 10


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Device]:
    """A device that has synced well; then another one's row waits for it at the cloud."""
    world = World(tmp_path)
    reader, writer = world.device("reader"), world.device("writer")
    reader.sync()
    writer.add("a", title="x")
    writer.sync()
    reader.world.clock.wall_ms += 60_000
    yield reader
    world.close()


def told_by(device: Device) -> list[object]:
    return [event for event in device.events if isinstance(event, RoundStarted | RoundEnded)]


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda engine: engine.sync_now(timeout_ms=WAIT_S * 1000), id="sync_now"),
        pytest.param(lambda engine: engine.flush(timeout_ms=WAIT_S * 1000), id="flush"),
    ],
)
def test_a_trigger_that_no_row_can_fire_is_named_to_who_asked(
    reader: Device, ask: Callable[[Engine], object]
) -> None:
    reader.write(NOWHERE)
    with pytest.raises(RoundFailed) as failed:
        ask(reader.engine)
    assert failed.value.what == "The table plans takes no row from the cloud."
    assert failed.value.why == "SQLite says: no such function: nofunc (triggers of the app on it: app_own)"
    assert failed.value.fix


def test_a_failing_round_is_no_success_and_its_failures_are_counted(reader: Device) -> None:
    well = reader.engine.status().sync
    assert well.last_success_at is not None
    reader.write(NOWHERE)
    reader.events.clear()
    for attempts in (1, 2):
        with pytest.raises(RoundFailed):
            reader.sync()
        now = reader.engine.status().sync
        assert (now.last_error, now.attempts, now.last_success_at) == ("round_failed", attempts, well.last_success_at)
    assert told_by(reader)[1::2] == [RoundEnded(ended="round_failed", applied=0, sendable=0)] * 2
    reader.write("DROP TRIGGER app_own")
    reader.sync()
    after = reader.engine.status().sync
    assert (after.last_error, after.attempts) == (None, 0)
    assert (after.last_success_at or "") > well.last_success_at


def test_a_failure_that_is_noted_is_over_when_another_process_has_synced(reader: Device) -> None:
    reader.write(NOWHERE)
    with pytest.raises(RoundFailed):
        reader.sync()
    Outbox(reader.engine._store).record_success("ann")
    assert reader.engine.status().sync.last_error is None


def test_what_was_sent_before_the_round_failed_is_told_at_its_end_and_makes_it_no_success(reader: Device) -> None:
    well = reader.engine.status().sync
    reader.add("mine", title="y")
    reader.write(NOWHERE)
    with pytest.raises(RoundFailed):
        reader.sync()
    assert told_by(reader)[-1] == RoundEnded(ended="round_failed", applied=1, sendable=0)
    assert reader.query("SELECT last_success, last_error FROM sync_status") == [
        (well.last_success_at, "round_failed")
    ]
    assert reader.quarantine() == []
    reader.write("DROP TRIGGER app_own")
    reader.sync()
    assert reader.plans().keys() == {"a", "mine"}
    assert reader.query("SELECT last_error FROM sync_status") == [(None,)]


def test_a_line_that_fails_while_reading_is_no_success_and_each_wait_is_longer(reader: Device) -> None:
    well = reader.engine.status().sync

    def cut(request: object) -> NoReturn:
        raise BackendUnreachable("The line was cut.")

    reader.line.pull = cut  # type: ignore[method-assign]  # this device's line, in this test
    for attempts in (1, 2, 3):
        with pytest.raises(BackendUnreachable):
            reader.sync()
        now = reader.engine.status().sync
        assert (now.attempts, now.last_success_at) == (attempts, well.last_success_at)


def test_a_failing_round_of_the_background_is_heard_and_shown_and_tried_again_after_a_wait(reader: Device) -> None:
    reader.write(NOWHERE)
    ended: queue.Queue[RoundEnded] = queue.Queue()
    reader.engine.close()
    reader.engine = Engine.open(
        reader.path / "app.db",
        registry=registry("1.0.0"),
        user="ann",
        backend=reader.line,
        settings=Settings(idle_wait_ms_max=100, retry_wait_ms_min=10, retry_wait_ms_max=50),
        chance=random.Random(1),
        listener=lambda event: ended.put(event) if isinstance(event, RoundEnded) else None,
    )
    reader.engine.start()
    for attempts in (1, 2):
        assert ended.get(timeout=WAIT_S).ended == "round_failed"
        sync = reader.engine.status().sync
        assert sync.last_error == "round_failed"
        assert sync.attempts >= attempts
        assert reader.query("SELECT next_try FROM sync_status") != [(None,)]
    reader.write("DROP TRIGGER app_own")
    while ended.get(timeout=WAIT_S).ended != "drained":
        pass
    after = reader.engine.status().sync
    assert (after.last_error, after.attempts, after.next_try_at) == (None, 0, None)
    assert reader.plans().keys() == {"a"}


def test_a_refusal_of_sqlite_that_has_no_better_words_names_its_kind_and_no_contents(reader: Device) -> None:
    store = reader.engine._store
    with store.transaction():
        store.query("CREATE TRIGGER odd BEFORE UPDATE ON _sync_cursor BEGIN SELECT RAISE(ABORT, 'SECRET'); END")
    with pytest.raises(RoundFailed) as failed:
        reader.sync()
    assert failed.value.why == "SQLite refused a statement: ConstraintError"
    assert "SECRET" not in str(failed.value)
    assert reader.engine.status().sync.last_error == "round_failed"


def test_a_disk_that_takes_no_note_of_the_failure_is_shown_all_the_same(tmp_path: Path) -> None:
    world = World(tmp_path)
    with failing_disk(tmp_path / "full", after=0, kind="full") as disk:
        of, disk._of = disk._of, frozenset()
        device = world.device("full")
        device.sync()
        device.events.clear()
        disk._of = of
        with pytest.raises(DiskFull):
            device.sync()
        assert device.engine.status().sync.last_error == "disk_full"
        assert told_by(device)[-1] == RoundEnded(ended="disk_full", applied=0, sendable=0)
        disk.heal()
        device.sync()
        assert device.engine.status().sync.last_error is None
        device.engine.close()
