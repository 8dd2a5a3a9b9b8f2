"""The connectivity probe: verdicts from what is heard, few probes, no flapping, always a next try."""

import errno
import logging
import os
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncengine.errors import (
    AuthRequired,
    BackendUnavailable,
    BackendUnreachable,
    BatchRefused,
    NotOurServer,
    ProtocolViolation,
    RateLimited,
    SequenceGap,
    StoreBusy,
    SyncEngineError,
)
from syncengine.remote.connectivity_probe import (
    QUICK_TRIES_MS,
    ConnectivityProbe,
    Moment,
    ProbeState,
    Verdict,
    after_call,
    after_error,
    after_health,
    after_link_change,
    verdict_of,
)
from syncengine.remote.wire import (
    Action,
    HealthAnswer,
    HelloAnswer,
    HelloRequest,
    Limits,
    PushAnswer,
    PushRequest,
    RowsAnswer,
    RowsRequest,
)
from syncengine.settings import Settings
from syncengine.vocabulary import TimestampMs

SETTINGS = Settings()
LOST = BackendUnreachable("lost")


class HandClock:
    """Time that moves only by `pass_ms`."""

    def __init__(self) -> None:
        self.monotonic = 5_000

    def now_ms(self) -> TimestampMs:
        return TimestampMs(1_753_111_800_000 + self.monotonic)

    def monotonic_ms(self) -> int:
        return self.monotonic

    def wait(self, event: threading.Event, wait_ms: int) -> bool:
        self.pass_ms(wait_ms)
        return event.is_set()

    def pause(self, wait_ms: int) -> None:
        self.pass_ms(wait_ms)

    def pass_ms(self, wait_ms: int) -> None:
        self.monotonic += wait_ms


class HealthOnly:
    """A backend whose health is `answer`: None for well, else the error. Counts the probes."""

    def __init__(self) -> None:
        self.answer: SyncEngineError | None = None
        self.stale = False
        self.nonces: list[str] = []

    def health(self, nonce: str) -> HealthAnswer:
        self.nonces.append(nonce)
        if self.answer:
            raise self.answer
        return HealthAnswer(nonce="a cached one" if self.stale else nonce, server_time="t")

    def hello(self, request: HelloRequest) -> HelloAnswer:
        raise AssertionError("the probe asks for health only")

    def push(self, request: PushRequest) -> PushAnswer:
        raise AssertionError("the probe asks for health only")

    def rows(self, request: RowsRequest) -> RowsAnswer:
        raise AssertionError("the probe asks for health only")

    def close(self) -> None:
        pass


class Bench:
    """A probe with its backend and its clock."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.backend = HealthOnly()
        self.probe = ConnectivityProbe(self.backend, clock=self.clock, settings=SETTINGS, chance=random.Random(7))

    def look_when_due(self) -> Verdict:
        self.clock.pass_ms(max(0, self.probe.next_look_ms - self.clock.monotonic))
        return self.probe.look().verdict


@pytest.fixture
def bench() -> Bench:
    return Bench()


def hello_answer(action: Action) -> HelloAnswer:
    return HelloAnswer(
        request_id="r",
        server_time="t",
        server_epoch=1,
        device_seq=0,
        cloud_version=None,
        action=action,
        limits=Limits(entries_max=1, bytes_max=1),
    )


def no_route() -> BackendUnreachable:
    error = BackendUnreachable("no route")
    error.__cause__ = OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
    return error


def test_nothing_is_known_before_the_first_look_and_the_look_is_due(bench: Bench) -> None:
    assert bench.probe.finding().verdict is Verdict.UNKNOWN
    assert bench.probe.look().verdict is Verdict.ONLINE
    assert len(bench.backend.nonces) == 1


def test_a_fresh_answer_makes_probes_needless_until_it_is_old(bench: Bench) -> None:
    bench.probe.heard(None)
    bench.clock.pass_ms(SETTINGS.probe_fresh_ms - 1)
    finding = bench.probe.look()
    assert (finding.verdict, finding.age_ms) == (Verdict.ONLINE, SETTINGS.probe_fresh_ms - 1)
    assert finding.at_ms == bench.clock.now_ms() - finding.age_ms
    assert bench.backend.nonces == []
    bench.clock.pass_ms(1)
    bench.probe.look()
    assert len(bench.backend.nonces) == 1


def test_a_forced_look_always_probes_with_a_fresh_nonce(bench: Bench) -> None:
    bench.probe.set_network(online=False)
    for _ in range(3):
        bench.probe.look(force=True)
    assert len(set(bench.backend.nonces)) == 3


def test_one_lost_call_is_no_outage_two_are_and_one_success_ends_it(bench: Bench) -> None:
    bench.probe.heard(None)
    assert bench.probe.heard(LOST).verdict is Verdict.ONLINE
    assert bench.probe.heard(LOST).verdict is Verdict.OFFLINE
    assert bench.probe.heard(None).verdict is Verdict.ONLINE
    assert bench.probe.heard(LOST).verdict is Verdict.ONLINE


def test_no_route_is_offline_at_once(bench: Bench) -> None:
    bench.probe.heard(None)
    finding = bench.probe.heard(no_route())
    assert (finding.verdict, finding.reason) == (Verdict.OFFLINE, "backend_unreachable")


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (NotOurServer("x"), Verdict.CAPTIVE_PORTAL),
        (BackendUnavailable("x"), Verdict.SERVER_DOWN),
        (AuthRequired("x"), Verdict.AUTH_REQUIRED),
        (RateLimited("x", retry_after_ms=5_000), Verdict.RATE_LIMITED),
        (BatchRefused("x"), Verdict.ONLINE),
        (SequenceGap("x"), Verdict.ONLINE),
        (ProtocolViolation("x"), Verdict.ONLINE),
        (StoreBusy("x"), Verdict.UNKNOWN),
    ],
)
def test_each_error_of_a_real_call_has_its_verdict(bench: Bench, error: SyncEngineError, verdict: Verdict) -> None:
    assert bench.probe.heard(error).verdict is verdict
    assert bench.backend.nonces == []


def test_an_old_answer_from_a_cache_is_no_sign_of_the_backend(bench: Bench) -> None:
    bench.backend.stale = True
    assert bench.probe.look().verdict is Verdict.CAPTIVE_PORTAL


def test_health_alone_does_not_clear_a_refused_token_but_a_real_success_does(bench: Bench) -> None:
    bench.probe.heard(AuthRequired("x"))
    assert bench.probe.look(force=True).verdict is Verdict.AUTH_REQUIRED
    assert bench.probe.heard(None).verdict is Verdict.ONLINE


def test_an_app_that_is_too_old_is_blocked_until_a_hello_says_otherwise(bench: Bench) -> None:
    assert bench.probe.heard(hello_answer(Action.UPGRADE_APP)).verdict is Verdict.SCHEMA_BLOCKED
    assert bench.probe.heard(None).verdict is Verdict.SCHEMA_BLOCKED
    assert bench.probe.look(force=True).verdict is Verdict.SCHEMA_BLOCKED
    only_sends = bench.probe.heard(hello_answer(Action.DRAIN_ONLY))
    assert (only_sends.verdict, only_sends.reason) == (Verdict.SCHEMA_BLOCKED, "too_old_to_read")
    assert bench.probe.heard(None).reason == "too_old_to_read"
    assert bench.probe.heard(hello_answer(Action.OK)).verdict is Verdict.ONLINE


def test_a_rate_limit_ends_by_itself_when_its_time_is_over(bench: Bench) -> None:
    bench.probe.heard(RateLimited("x", retry_after_ms=5_000))
    bench.clock.pass_ms(4_999)
    assert bench.probe.finding().verdict is Verdict.RATE_LIMITED
    bench.clock.pass_ms(1)
    assert bench.probe.finding().verdict is Verdict.ONLINE


def test_a_metered_network_is_online_with_a_mark(bench: Bench) -> None:
    bench.probe.set_network(metered=True)
    assert bench.probe.finding().verdict is Verdict.UNKNOWN
    assert bench.probe.look().verdict is Verdict.METERED
    bench.probe.set_network(metered=False)
    assert bench.probe.finding().verdict is Verdict.ONLINE


def test_the_hosts_offline_saves_probes_and_holds_until_the_host_says_otherwise(bench: Bench) -> None:
    bench.probe.set_network(online=False)
    finding = bench.probe.look()
    assert (finding.verdict, finding.reason) == (Verdict.OFFLINE, "host_says_offline")
    assert bench.backend.nonces == []
    assert bench.probe.heard(None).reason == "host_says_offline"
    assert bench.probe.look(force=True).reason == "host_says_offline"
    bench.probe.set_network()
    assert bench.probe.finding().verdict is Verdict.ONLINE


def test_coming_online_looks_at_once_whatever_the_backoff_was(bench: Bench) -> None:
    bench.backend.answer = LOST
    for _ in range(12):
        bench.look_when_due()
    bench.backend.answer = None
    bench.probe.set_network(online=True)
    assert bench.probe.look().verdict is Verdict.ONLINE


def test_a_change_of_link_gives_three_quick_tries_before_backoff_counts(bench: Bench) -> None:
    bench.backend.answer = LOST
    for _ in range(12):
        bench.look_when_due()
    bench.probe.link_changed()
    waits = []
    for _ in range(3):
        bench.look_when_due()
        waits.append(bench.probe.next_look_ms - bench.clock.monotonic)
    assert tuple(waits) == QUICK_TRIES_MS


def test_a_failure_on_the_old_link_does_not_delay_the_look_at_the_new_one(bench: Bench) -> None:
    class ChangesLinkMeanwhile(HealthOnly):
        def health(self, nonce: str) -> HealthAnswer:
            bench.probe.link_changed()
            return super().health(nonce)

    backend = ChangesLinkMeanwhile()
    backend.answer = LOST
    bench.probe = ConnectivityProbe(backend, clock=bench.clock, settings=SETTINGS, chance=random.Random(7))
    bench.probe.look()
    assert bench.probe.next_look_ms <= bench.clock.monotonic


def test_transitions_are_logged_once_and_nothing_else_is(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="syncengine.remote")
    bench.backend.answer = LOST
    for _ in range(20):
        bench.look_when_due()
    bench.backend.answer = None
    for _ in range(20):
        bench.look_when_due()
    verdicts = [(record.verdict_before, record.verdict) for record in caplog.records]  # type: ignore[attr-defined] - given as extra
    assert verdicts == [("unknown", "offline"), ("offline", "online")]


def test_after_a_server_asks_for_a_pause_the_next_look_waits_as_long(bench: Bench) -> None:
    bench.probe.heard(BackendUnavailable("x", retry_after_ms=90_000))
    assert bench.probe.next_look_ms == bench.clock.monotonic + 90_000


ERRORS = st.sampled_from(
    [LOST, no_route(), NotOurServer("x"), BackendUnavailable("x"), AuthRequired("x"), RateLimited("x")]
)


@settings(deadline=None)
@given(st.lists(st.one_of(ERRORS, st.sampled_from(["health", "call", "link"])), max_size=40), st.floats(0, 1))
def test_whatever_happens_a_next_look_is_near_and_one_success_means_up(
    happenings: list[SyncEngineError | str], chance: float
) -> None:
    state = ProbeState()
    at = Moment(now_ms=1_000_000, chance=chance)
    for happening in happenings:
        if isinstance(happening, SyncEngineError):
            state = after_error(state, happening, at=at, settings=SETTINGS)
        elif happening == "health":
            state = after_health(state, at=at, settings=SETTINGS)
        elif happening == "call":
            state = after_call(state, None, at=at, settings=SETTINGS)
        else:
            state = after_link_change(state)
        assert state.next_look_ms <= at.now_ms + SETTINGS.probe_interval_ms_max
    recovered = after_call(state, None, at=at, settings=SETTINGS)
    assert verdict_of(recovered, now_ms=at.now_ms)[0] is Verdict.ONLINE


@settings(deadline=None)
@given(st.integers(0, 200), st.floats(0, 1))
def test_backoff_is_anything_up_to_a_ceiling_that_doubles_to_a_minute(failures: int, chance: float) -> None:
    at = Moment(now_ms=0, chance=chance)
    state = after_error(ProbeState(failures=failures), LOST, at=at, settings=SETTINGS)
    ceiling_ms = min(SETTINGS.probe_interval_ms_min * 2**failures, SETTINGS.probe_interval_ms_max)
    assert 0 <= state.next_look_ms <= ceiling_ms
    assert state.next_look_ms == int(ceiling_ms * chance)
