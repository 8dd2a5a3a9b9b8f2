"""The runner: a real thread, real waits in milliseconds, the shipped cloud's rules behind a line that can fail."""

import asyncio
import logging
import random
import threading

import pytest
from drain_world import World

from syncengine.clock import SystemClock
from syncengine.errors import AuthRequired, BackendUnreachable, CalledFromInside, EngineClosed, RoundUnfinished
from syncengine.events import BatchConfirmed, ProbeChanged, RoundEnded, RoundStarted
from syncengine.migrate.registry import MigrationRegistry
from syncengine.settings import Settings
from syncengine.sync.drain import RoundReport
from syncengine.sync.runner import SyncRunner

QUICK = {
    "retry_wait_ms_min": 10,
    "retry_wait_ms_max": 40,
    "probe_interval_ms_min": 10,
    "probe_interval_ms_max": 40,
    "idle_wait_ms_max": 30_000,
    "close_wait_ms_max": 2_000,
}
WAIT_S = 10


def quick(**changes):
    return Settings(**{**QUICK, **changes})


class LongestWaits(random.Random):
    """Jitter that always falls on its ceiling."""

    def randint(self, a, b):
        return b


class Device(World):
    """A world with a runner, and events to wait for."""

    def __init__(self, folder, settings=None):
        super().__init__(folder, settings or quick())
        self.heard = threading.Condition()
        registry = MigrationRegistry(app="app", baseline="2.0.0", target="2.0.0", collections=(), migrations=())
        self.store.clock = SystemClock()
        self.runner = SyncRunner(
            store=self.store,
            registry=registry,
            backend=self.line,
            user="ann",
            chance=LongestWaits(5),
            listener=self.hear,
        )

    def hear(self, event):
        with self.heard:
            self.events.append(event)
            self.heard.notify_all()

    def wait_for(self, kind, *, times=1, **facts):
        def matching():
            found = [e for e in self.events if isinstance(e, kind)]
            return [e for e in found if all(getattr(e, name) == value for name, value in facts.items())]

        with self.heard:
            assert self.heard.wait_for(lambda: len(matching()) >= times, timeout=WAIT_S), (kind, facts, self.events)
            return matching()

    def close(self):
        self.runner.close()
        super().close()


@pytest.fixture
def device(tmp_path):
    device = Device(tmp_path)
    yield device
    device.close()


def test_what_is_queued_at_the_start_is_sent_in_the_background(device):
    device.put("a")
    device.runner.start()
    device.wait_for(RoundEnded, ended="drained")
    assert set(device.cloud_rows()) == {"a"}
    assert device.runner.activity == "running"


def test_what_is_written_later_wakes_the_runner_without_being_told(device):
    device.runner.start()
    device.wait_for(ProbeChanged, verdict="online")
    threading.Event().wait(0.2)
    device.put("a")
    device.wait_for(RoundEnded, ended="drained", applied=1)


def test_an_idle_runner_makes_no_rounds(device):
    device.put("a")
    device.runner.start()
    device.wait_for(ProbeChanged, verdict="online")
    device.wait_for(RoundEnded, ended="drained")
    threading.Event().wait(0.3)
    assert len([e for e in device.events if isinstance(e, RoundStarted)]) == 1
    assert device.line.hellos == 1


def test_the_queue_is_sent_when_the_network_comes_back(device):
    device.line.down = BackendUnreachable("No route.")
    device.put("a")
    device.runner.start()
    device.wait_for(ProbeChanged, verdict="offline")
    device.line.down = None
    device.wait_for(ProbeChanged, verdict="online")
    device.wait_for(RoundEnded, ended="drained")
    assert set(device.cloud_rows()) == {"a"}
    assert device.store.value("state", "get", name="probe_verdict") == "online"


def offline_then_online(device):
    device.line.down = BackendUnreachable("No route.")
    device.runner.start()
    device.wait_for(ProbeChanged, verdict="offline")
    device.line.down = None
    device.wait_for(ProbeChanged, verdict="online")


def test_a_line_that_is_back_ends_the_wait_of_its_own_failure_and_only_once(tmp_path):
    device = Device(tmp_path, quick(retry_wait_ms_min=60_000, retry_wait_ms_max=60_000))
    device.outbox.record_failure("ann", "backend_unreachable", wait_ms=60_000)
    device.put("a")
    device.line.lost_answers = 1
    offline_then_online(device)
    device.wait_for(RoundEnded, ended="backend_unreachable")
    threading.Event().wait(0.2)
    hellos = device.line.hellos
    device.close()
    assert hellos == 1


def test_a_wait_that_the_cloud_caused_is_kept_when_the_line_is_back(device):
    device.outbox.record_failure("ann", "backend_unavailable", wait_ms=60_000)
    device.put("a")
    offline_then_online(device)
    threading.Event().wait(0.2)
    assert device.line.hellos == 0


def test_offline_makes_no_background_calls_but_one_that_is_asked_for_tries(device):
    device.put("a")
    device.runner.set_network(online=False)
    device.runner.start()
    threading.Event().wait(0.2)
    assert device.line.hellos == 0
    assert device.runner.sync_now(timeout_ms=5_000).applied == 1


def test_the_hosts_offline_outlives_the_answer_that_was_on_its_way_and_ends_the_round(tmp_path):
    device = Device(tmp_path, quick(push_entries_max=1, pull_interval_ms=60_000))
    for key in "abc":
        device.put(key)

    def says_offline(request):
        if not device.line.answered:
            device.runner.set_network(online=False)

    device.line.refuses = says_offline
    device.runner.start()
    device.wait_for(RoundEnded, ended="stopped")
    device.wait_for(ProbeChanged, verdict="offline", reason="host_says_offline")
    threading.Event().wait(0.2)
    assert len(device.line.answered) == 1
    assert device.store.value("state", "get", name="probe_reason") == "host_says_offline"
    device.runner.set_network(online=True)
    device.wait_for(RoundEnded, ended="drained")
    assert set(device.cloud_rows()) == {"a", "b", "c"}
    device.close()


def test_the_hosts_offline_is_told_where_nothing_waits(device):
    device.runner.start()
    device.wait_for(RoundEnded, ended="drained")
    device.runner.set_network(online=False)
    device.wait_for(ProbeChanged, verdict="offline", reason="host_says_offline")


def test_sync_now_works_without_start_and_sends_nothing_by_itself(device):
    device.put("a")
    assert device.runner.activity == "stopped"
    assert device.runner.sync_now(timeout_ms=5_000).applied == 1
    device.put("b")
    threading.Event().wait(0.2)
    assert device.outbox.depth() == 1


def test_sync_now_raises_what_ended_the_round(device):
    device.put("a")
    device.line.down = AuthRequired("Sign in.")
    with pytest.raises(AuthRequired):
        device.runner.sync_now(timeout_ms=5_000)


class Stuck(threading.Event):
    """A call that hangs until it is let go, or its backend is closed."""

    def __call__(self, request):
        self.reached.set()
        self.wait(WAIT_S)
        return BackendUnreachable("Closed.") if self.fails else None

    fails = False

    def __init__(self):
        super().__init__()
        self.reached = threading.Event()


def stuck_line(device, *, fails):
    stuck = Stuck()
    stuck.fails = fails
    device.line.refuses = stuck
    device.line.close = stuck.set
    return stuck


def test_sync_now_gives_up_waiting_in_time_and_the_round_goes_on(device):
    stuck = stuck_line(device, fails=False)
    device.put("a")
    with pytest.raises(RoundUnfinished):
        device.runner.sync_now(timeout_ms=50)
    stuck.set()
    device.wait_for(RoundEnded, ended="drained")


def test_a_round_that_was_asked_for_later_sees_what_was_written_before_it(device):
    stuck = stuck_line(device, fails=False)
    device.put("a")
    first = threading.Thread(target=device.runner.sync_now, kwargs={"timeout_ms": 5_000})
    first.start()
    assert stuck.reached.wait(WAIT_S)
    device.put("b")
    second = []
    asking = threading.Thread(target=lambda: second.append(device.runner.sync_now(timeout_ms=5_000)))
    asking.start()
    while not device.runner._asked:
        threading.Event().wait(0.01)
    stuck.set()
    first.join(WAIT_S)
    asking.join(WAIT_S)
    assert len(device.wait_for(RoundEnded, times=2)) == 2
    assert second[0].ended == "drained"
    assert device.outbox.depth() == 0


def test_close_ends_a_call_in_flight_and_the_entry_stays_claimed(device):
    stuck = stuck_line(device, fails=True)
    device.put("a")
    device.runner.start()
    assert stuck.reached.wait(WAIT_S)
    began_ms = device.store.clock.monotonic_ms()
    device.runner.close()
    device.runner.close()
    assert device.store.clock.monotonic_ms() - began_ms < 2_000
    assert not device.runner._thread.is_alive() or device.runner._ended.is_set()
    assert device.states() == {"a": "claimed"}
    assert device.runner.activity == "stopped"
    with pytest.raises(EngineClosed):
        device.runner.sync_now(timeout_ms=100)
    with pytest.raises(EngineClosed):
        device.runner.start()


def test_a_call_that_cannot_be_ended_is_abandoned_in_bounded_time(tmp_path):
    device = Device(tmp_path, quick(close_wait_ms_max=100))
    stuck = stuck_line(device, fails=True)
    device.line.close = lambda: None
    device.put("a")
    device.runner.start()
    assert stuck.reached.wait(WAIT_S)
    began_ms = device.store.clock.monotonic_ms()
    device.close()
    assert device.store.clock.monotonic_ms() - began_ms < 5_000
    stuck.set()
    device.runner._thread.join(WAIT_S)
    assert not device.runner._thread.is_alive()


def test_flush_delivers_all_and_says_so(device):
    for n in range(5):
        device.put(f"k{n}")
    report = device.runner.flush(timeout_ms=5_000)
    assert (report.delivered, report.remaining, report.reason) == (5, 0, "drained")


def test_flush_offline_says_why_and_what_remains(device):
    device.put("a")
    device.line.down = BackendUnreachable("No route.")
    report = device.runner.flush(timeout_ms=5_000)
    assert (report.delivered, report.remaining, report.reason) == (0, 1, "backend_unreachable")


def test_flush_says_when_entries_are_held_behind_quarantine(device):
    device.edit(("patch", "journeys", "missing", "{}"))
    device.runner.flush(timeout_ms=5_000)
    device.edit(("patch", "journeys", "missing", "{}"))
    report = device.runner.flush(timeout_ms=5_000)
    assert (report.delivered, report.remaining, report.reason) == (0, 1, "held")
    [item] = report.held_behind
    round_report = device.runner.sync_now(timeout_ms=5_000)
    assert (round_report.sendable, round_report.held, round_report.held_behind) == (0, 1, (item,))
    assert "held=1" in repr(round_report)


def test_flush_stops_in_time(device):
    stuck = stuck_line(device, fails=False)
    device.put("a")
    report = device.runner.flush(timeout_ms=50)
    stuck.set()
    assert (report.remaining, report.reason) == (1, "time_is_over")


def test_a_paused_runner_sends_nothing_until_it_is_resumed(device):
    device.runner.pause("metered")
    device.put("a")
    device.runner.start()
    assert device.runner.sync_now(timeout_ms=1_000).ended == "paused"
    assert device.runner.flush(timeout_ms=1_000).reason == "paused"
    assert (device.runner.activity, device.line.hellos) == ("paused", 0)
    device.runner.resume()
    device.wait_for(RoundEnded, ended="drained")


def test_another_user_is_synced_only_after_the_call_in_flight(device):
    """A call that began for ann ends before set_user returns, so the token may change then."""
    stuck = stuck_line(device, fails=False)
    device.put("a")
    device.edit(("put", "journeys", "bobs", '{"id":"bobs"}'), owner="bob")
    device.runner.start()
    assert stuck.reached.wait(WAIT_S)
    switched = threading.Event()
    switching = threading.Thread(target=lambda: (device.runner.set_user(None), switched.set()))
    switching.start()
    assert not switched.wait(0.1)
    stuck.set()
    assert switched.wait(WAIT_S)
    switching.join(WAIT_S)
    calls = len(device.line.pushed)
    device.put("c")
    threading.Event().wait(0.2)
    assert len(device.line.pushed) == calls
    assert device.outbox.depth("bob") == 1


@pytest.mark.parametrize("change", [lambda runner: runner.set_user(None), lambda runner: runner.pause("by hand")])
def test_a_round_ends_between_two_calls_when_it_must_not_go_on(tmp_path, change):
    device = Device(tmp_path, quick(push_entries_max=1))
    for key in ("a", "b", "c"):
        device.put(key)

    def change_after_the_first(event):
        if isinstance(event, BatchConfirmed):
            change(device.runner)

    device.runner._listener = change_after_the_first
    report = device.runner.sync_now(timeout_ms=5_000)
    pushes, left = len(device.line.pushed), device.outbox.depth()
    device.close()
    assert report.ended == "stopped"
    assert (pushes, left) == (2, 1)  # the second was on its way when the first was confirmed


def test_a_listener_that_raises_harms_nothing(device, caplog):
    def raises(event):
        raise RuntimeError("SECRET-CANARY")

    device.runner._listener = raises
    device.put("a")
    assert device.runner.sync_now(timeout_ms=5_000).applied == 1
    assert "the listener raised" in caplog.text
    assert "SECRET-CANARY" not in caplog.text


def test_the_thread_outlives_our_own_mistakes(device):
    device.runner._registry = None
    device.put("a")
    with pytest.raises(AttributeError):
        device.runner.sync_now(timeout_ms=5_000)
    assert device.runner._thread.is_alive()


def test_events_of_a_round_begin_and_end_it(device):
    device.put("a")
    device.runner.sync_now(timeout_ms=5_000)
    kinds = [type(event).__name__ for event in device.events]
    assert kinds[0] == "RoundStarted"
    assert kinds[-1] == "RoundEnded"
    assert kinds.index("BatchSent") < kinds.index("BatchConfirmed")


class Stranger(BaseException):
    """What a host may raise that is no Exception."""


NO_EXCEPTIONS = [SystemExit, KeyboardInterrupt, asyncio.CancelledError, Stranger]


@pytest.mark.parametrize("kind", NO_EXCEPTIONS)
def test_the_thread_outlives_what_is_no_exception_and_tells_it_to_who_asked(device, kind):
    device.put("a")
    device.runner.start()
    device.wait_for(RoundEnded, ended="drained")
    device.line.refuses = raising(kind)
    device.put("b")
    with pytest.raises(kind):
        device.runner.sync_now(timeout_ms=WAIT_S * 1000)
    device.line.refuses = lambda request: None
    assert device.runner.sync_now(timeout_ms=WAIT_S * 1000).ended == "drained"
    assert device.runner.activity == "running"
    assert set(device.cloud_rows()) == {"a", "b"}


def raising(kind):
    def refuses(request):
        raise kind

    return refuses


@pytest.mark.parametrize("kind", NO_EXCEPTIONS)
def test_a_listener_that_raises_what_is_no_exception_harms_nothing(device, kind):
    def listener(event):
        raise kind

    device.runner._listener = listener
    device.put("a")
    assert device.runner.sync_now(timeout_ms=WAIT_S * 1000).applied == 1


# The thread is meant to die here, and pytest tells of every thread that does.
dies = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class DeadlyHandler(logging.Handler):
    """A host's log handler that ends the thread it is called on."""

    def emit(self, record):
        raise SystemExit


@pytest.fixture
def deadly_log():
    logger, handler = logging.getLogger("syncengine.sync"), DeadlyHandler()
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


def ends_the_thread(device):
    """A round fails, and telling so ends the thread."""
    device.line.refuses = raising(Stranger)
    with pytest.raises((Stranger, RoundUnfinished)):  # the other one when a round of its own was first
        device.runner.sync_now(timeout_ms=WAIT_S * 1000)
    device.runner._thread.join(WAIT_S)
    assert not device.runner._thread.is_alive()
    device.line.refuses = lambda request: None


@dies
def test_a_thread_that_died_is_told_and_begun_anew(device, deadly_log):
    device.runner.start()
    device.put("a")
    ends_the_thread(device)
    assert device.runner.activity == "stopped"
    assert device.runner.sync_now(timeout_ms=WAIT_S * 1000).ended == "drained"
    assert device.runner.activity == "running"
    assert set(device.cloud_rows()) == {"a"}


@dies
def test_a_thread_that_died_is_begun_anew_by_start(device, deadly_log):
    device.put("a")
    ends_the_thread(device)
    device.runner.start()
    device.wait_for(RoundEnded, ended="drained")
    assert set(device.cloud_rows()) == {"a"}


@dies
def test_who_asks_while_the_thread_dies_is_told_to_ask_again(device, deadly_log):
    asked = []

    def dying(request):
        other = threading.Thread(target=lambda: asked.append(asks(device)))
        other.start()
        while not device.runner._asked:
            threading.Event().wait(0.005)
        asked.append(other)
        raise Stranger

    device.put("a")
    device.line.refuses = dying
    with pytest.raises(Stranger):
        device.runner.sync_now(timeout_ms=WAIT_S * 1000)
    asked[0].join(WAIT_S)
    device.runner._thread.join(WAIT_S)
    assert isinstance(asked[1], RoundUnfinished)
    assert "died" in asked[1].what


def asks(device):
    try:
        return device.runner.sync_now(timeout_ms=WAIT_S * 1000)
    except RoundUnfinished as error:
        return error


@pytest.mark.parametrize("call", ["sync_now", "flush"])
def test_a_round_that_is_asked_for_inside_a_transaction_is_refused_at_once(device, call):
    device.put("a")
    with device.store.transaction():
        with pytest.raises(CalledFromInside):
            getattr(device.runner, call)(timeout_ms=WAIT_S * 1000)
        assert device.line.hellos == 0
    assert device.runner.sync_now(timeout_ms=WAIT_S * 1000).ended == "drained"


@pytest.mark.parametrize("call", ["sync_now", "flush"])
def test_a_round_that_is_asked_for_by_a_listener_of_a_round_is_refused_at_once(device, call):
    refused = []

    def listener(event):
        with pytest.raises(CalledFromInside) as caught:
            getattr(device.runner, call)(timeout_ms=WAIT_S * 1000)
        refused.append(caught.value)

    device.runner._listener = listener
    device.put("a")
    assert device.runner.sync_now(timeout_ms=WAIT_S * 1000).ended == "drained"
    assert refused


def test_a_round_may_be_asked_for_while_another_thread_writes(device):
    device.put("a")
    reports = []
    with device.store.transaction():
        other = threading.Thread(
            target=lambda: reports.append(device.runner.sync_now(timeout_ms=WAIT_S * 1000)), daemon=True
        )
        other.start()
        threading.Event().wait(0.05)
        assert not reports
    other.join(WAIT_S)
    assert reports[0].ended == "drained"


def test_a_report_says_how_many_items_it_has_and_not_which():
    report = RoundReport(ended="drained", items=tuple(range(10_000)), applied=3)
    assert "items=10000" in repr(report)
    assert len(repr(report)) < 200
