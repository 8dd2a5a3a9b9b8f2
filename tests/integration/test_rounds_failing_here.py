"""A round that fails on this device, not at the cloud, is told to who asked, to the listener and in the status."""

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncengine.engine import Engine
from syncengine.errors import DiskFull, RoundFailed
from syncengine.events import RoundEnded, RoundStarted
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


def test_what_was_sent_before_the_round_failed_is_told_at_its_end(reader: Device) -> None:
    reader.add("mine", title="y")
    reader.write(NOWHERE)
    with pytest.raises(RoundFailed):
        reader.sync()
    assert told_by(reader)[-1] == RoundEnded(ended="round_failed", applied=1, sendable=0)


def test_a_failing_round_of_the_background_is_heard_and_shown(reader: Device) -> None:
    reader.write(NOWHERE)
    heard = threading.Event()
    settings = Settings(idle_wait_ms_max=100, retry_wait_ms_min=10, retry_wait_ms_max=50)
    ended: list[Any] = []

    def hear(event: object) -> None:
        if isinstance(event, RoundEnded):
            ended.append(event)
            heard.set()

    reader.engine.close()
    reader.engine = Engine.open(
        reader.path / "app.db",
        registry=registry("1.0.0"),
        user="ann",
        backend=reader.line,
        settings=settings,
        chance=random.Random(1),
        listener=hear,
    )
    reader.engine.start()
    assert heard.wait(WAIT_S)
    assert ended[0].ended == "round_failed"
    assert reader.engine.status().sync.last_error == "round_failed"


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
