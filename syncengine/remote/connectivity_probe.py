"""Is the backend there? A verdict with its age and reason, from real calls where possible, else from one probe.

A verdict only lets the engine skip a wait or a needless try; a sync that the user asks for always tries.
The deciding is pure (`ProbeState` and the functions on it); `ConnectivityProbe` asks, remembers and logs.
"""

import logging
import random
import threading
from dataclasses import dataclass, replace
from enum import StrEnum

from syncengine.clock import Clock, fresh_id
from syncengine.errors import (
    AuthRequired,
    BackendUnavailable,
    BackendUnreachable,
    BatchRefused,
    CursorGone,
    NotOurServer,
    ProtocolViolation,
    QuotaExceeded,
    RateLimited,
    SequenceGap,
    SyncEngineError,
)
from syncengine.remote.backend import Backend
from syncengine.remote.lost_call import NO_ROUTE, causes
from syncengine.remote.wire import Action, HelloAnswer
from syncengine.settings import Settings
from syncengine.vocabulary import TimestampMs

QUICK_TRIES_MS = (300, 1_000, 2_000)
"""Waits after a change of link: the first name look-ups on a new link often fail."""

TOO_OLD_TO_READ = "too_old_to_read"
"""The reason where the cloud takes what this app has queued, and lets it read nothing."""

Heard = SyncEngineError | HelloAnswer | None
"""What a real call gave: an error, a hello's answer, or None for any other success."""

_log = logging.getLogger("syncengine.remote")


class Verdict(StrEnum):
    """How the backend looks from here."""

    UNKNOWN = "unknown"
    ONLINE = "online"
    OFFLINE = "offline"
    CAPTIVE_PORTAL = "captive_portal"
    TLS_REFUSED = "tls_refused"
    SERVER_DOWN = "server_down"
    AUTH_REQUIRED = "auth_required"
    SCHEMA_BLOCKED = "schema_blocked"
    RATE_LIMITED = "rate_limited"
    METERED = "metered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A verdict and what it rests on. `at_ms`: wall time of the evidence; `age_ms`: how old it is by now."""

    verdict: Verdict
    reason: str
    at_ms: TimestampMs
    age_ms: int


class Reach(StrEnum):
    """How far the last calls got."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    PORTAL = "portal"
    TLS = "tls"
    SERVER_DOWN = "server_down"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeState:
    """All that is known. Moments are monotonic milliseconds; `next_look_ms` 0: a look is due."""

    reach: Reach = Reach.UNKNOWN
    reason: str = "not_looked_yet"
    failures: int = 0
    quick_tries: int = 0
    next_look_ms: int = 0
    evidence_ms: int | None = None
    limited_until_ms: int = 0
    auth_refused: bool = False
    schema_blocked: bool = False
    only_sends: bool = False
    """The app is too old to read; what it has queued is taken."""
    host_online: bool | None = None
    host_metered: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Now, and one draw of chance from 0 to 1 for the jitter."""

    now_ms: int
    chance: float


def verdict_of(state: ProbeState, *, now_ms: int) -> tuple[Verdict, str]:
    """The verdict and its reason, the gravest first."""
    if state.host_online is False:
        return Verdict.OFFLINE, "host_says_offline"
    if state.reach is not Reach.UP:
        return _VERDICT_OF_REACH[state.reach], state.reason
    if state.auth_refused:
        return Verdict.AUTH_REQUIRED, AuthRequired.code()
    if state.schema_blocked:
        return Verdict.SCHEMA_BLOCKED, "app_too_old"
    if now_ms < state.limited_until_ms:
        return Verdict.RATE_LIMITED, RateLimited.code()
    if state.only_sends:
        return Verdict.SCHEMA_BLOCKED, TOO_OLD_TO_READ
    if state.host_metered:
        return Verdict.METERED, "host_says_metered"
    return Verdict.ONLINE, state.reason


_VERDICT_OF_REACH = {
    Reach.UNKNOWN: Verdict.UNKNOWN,
    Reach.DOWN: Verdict.OFFLINE,
    Reach.PORTAL: Verdict.CAPTIVE_PORTAL,
    Reach.TLS: Verdict.TLS_REFUSED,
    Reach.SERVER_DOWN: Verdict.SERVER_DOWN,
}


def after_health(state: ProbeState, *, at: Moment, settings: Settings) -> ProbeState:
    """The backend repeated our nonce: it is there. What it thinks of us, health does not say.

    What the host has said stays: the answer may be to a call from before, or somebody asked for it all the same.
    """
    return replace(
        state,
        reach=Reach.UP,
        reason="backend_answered",
        failures=0,
        quick_tries=0,
        next_look_ms=at.now_ms + settings.probe_fresh_ms,
        evidence_ms=at.now_ms,
    )


def after_call(state: ProbeState, heard: HelloAnswer | None, *, at: Moment, settings: Settings) -> ProbeState:
    """A real call succeeded, so the token is good and no limit holds; only a hello tells of the schema."""
    known = replace(state, auth_refused=False, limited_until_ms=0)
    if heard is not None:
        blocked, only_sends = heard.action is Action.UPGRADE_APP, heard.action is Action.DRAIN_ONLY
        known = replace(known, schema_blocked=blocked, only_sends=only_sends)
    return after_health(known, at=at, settings=settings)


def after_error(state: ProbeState, error: SyncEngineError, *, at: Moment, settings: Settings) -> ProbeState:
    """What an error says about the backend. An answer of ours, even a refusal, shows that it is there."""
    match error:
        case AuthRequired():
            return after_health(replace(state, auth_refused=True), at=at, settings=settings)
        case RateLimited():
            wait_ms = error.retry_after_ms or settings.probe_interval_ms_max
            limited = replace(state, limited_until_ms=at.now_ms + wait_ms)
            return after_health(limited, at=at, settings=settings)
        case BackendUnavailable():
            return _after_failure(state, reach=Reach.SERVER_DOWN, error=error, at=at, settings=settings)
        case NotOurServer():
            reach = Reach.TLS if error.reason == "tls_refused" else Reach.PORTAL
            return _after_failure(state, reach=reach, error=error, at=at, settings=settings)
        case BackendUnreachable():
            reach = _reach_after_silence(state, error, settings=settings)
            return _after_failure(state, reach=reach, error=error, at=at, settings=settings)
        case BatchRefused() | SequenceGap() | CursorGone() | ProtocolViolation() | QuotaExceeded():
            return after_health(state, at=at, settings=settings)
        case _:
            return state


def after_link_change(state: ProbeState) -> ProbeState:
    """A new link knows nothing of the old one's failures: look now, then quickly again, then back off anew."""
    return replace(state, failures=0, quick_tries=len(QUICK_TRIES_MS), next_look_ms=0)


def says_no_route(error: BaseException) -> bool:
    """Whether the system said that no network leads there."""
    return any(isinstance(each, OSError) and each.errno in NO_ROUTE for each in causes(error))


def _reach_after_silence(state: ProbeState, error: SyncEngineError, *, settings: Settings) -> Reach:
    """One lost call is no outage: it takes several in a row, or the system's own word. Where none ever got through,
    it is all that is known."""
    if (
        state.reach is Reach.UNKNOWN
        or says_no_route(error)
        or state.failures + 1 >= settings.probe_failures_to_offline
    ):
        return Reach.DOWN
    return state.reach


def _after_failure(
    state: ProbeState, *, reach: Reach, error: SyncEngineError, at: Moment, settings: Settings
) -> ProbeState:
    # Of silence and of strangers it is known how: "name_not_found", "login_page".
    reason = str(getattr(error, "reason", "") or error.code())
    failed = replace(state, reach=reach, reason=reason, failures=state.failures + 1, evidence_ms=at.now_ms)
    if state.quick_tries:
        wait_ms = QUICK_TRIES_MS[len(QUICK_TRIES_MS) - state.quick_tries]
        return replace(failed, quick_tries=state.quick_tries - 1, next_look_ms=at.now_ms + wait_ms)
    wait_ms = _backoff_ms(state.failures, chance=at.chance, settings=settings)
    if isinstance(error, BackendUnavailable) and error.retry_after_ms:
        wait_ms = error.retry_after_ms
    return replace(failed, next_look_ms=at.now_ms + wait_ms)


def _backoff_ms(failures_before: int, *, chance: float, settings: Settings) -> int:
    """Full jitter: anything up to a ceiling that doubles, so that devices do not come back all at once."""
    doubled = settings.probe_interval_ms_min * 2 ** min(failures_before, 20)
    return int(min(doubled, settings.probe_interval_ms_max) * chance)


class ConnectivityProbe:
    """Keeps the present finding. May be used from any thread; it waits for nothing but its own probe's answer."""

    def __init__(self, backend: Backend, *, clock: Clock, settings: Settings, chance: random.Random) -> None:
        self._backend = backend
        self._clock = clock
        self._settings = settings
        self._chance = chance
        self._lock = threading.RLock()
        self._state = ProbeState()
        self._told = Verdict.UNKNOWN
        self._link = 0

    @property
    def next_look_ms(self) -> int:
        """The monotonic moment from which `look()` probes again; a past one means now."""
        return self._state.next_look_ms

    def finding(self) -> Finding:
        """What is known at present; never probes."""
        with self._lock:
            now_ms = self._clock.monotonic_ms()
            verdict, reason = verdict_of(self._state, now_ms=now_ms)
            evidence_ms = self._state.evidence_ms
            age_ms = 0 if evidence_ms is None else now_ms - evidence_ms
            at_ms = TimestampMs(self._clock.now_ms() - age_ms)
            return Finding(verdict=verdict, reason=reason, at_ms=at_ms, age_ms=age_ms)

    def look(self, *, force: bool = False) -> Finding:
        """The finding, after one probe of at most `probe_wait_ms_max` if one is due or forced.

        None is due while a real answer is fresh, during backoff, or while the host says that there is no network.
        """
        with self._lock:
            due = self._clock.monotonic_ms() >= self._state.next_look_ms and not self.host_says_offline
            nonce = fresh_id(self._chance)
            link = self._link
        if due or force:
            self._learn(self._probed(nonce), link=link)
        return self.finding()

    def heard(self, outcome: Heard) -> Finding:
        """Learn from a real call: its error, a hello's answer, or None for another success."""
        with self._lock:
            at = self._moment()
            if isinstance(outcome, SyncEngineError):
                self._change(after_error(self._state, outcome, at=at, settings=self._settings))
            else:
                self._change(after_call(self._state, outcome, at=at, settings=self._settings))
        return self.finding()

    def link_changed(self) -> None:
        """Another network, or awake after sleep: the next `look()` probes at once."""
        with self._lock:
            self._link += 1
            self._change(after_link_change(self._state))

    @property
    def host_says_offline(self) -> bool:
        """True from when the host says so until it says otherwise."""
        return self._state.host_online is False

    @property
    def is_metered(self) -> bool:
        """True when the host has said so."""
        return self._state.host_metered is True

    def set_network(self, *, online: bool | None = None, metered: bool | None = None) -> None:
        """What the host knows of the network; None: it does not say. Coming online counts as a change of link."""
        with self._lock:
            came_back = online is True and self._state.host_online is not True
            self._change(replace(self._state, host_online=online, host_metered=metered))
            if came_back:
                self.link_changed()

    def _probed(self, nonce: str) -> SyncEngineError | None:
        try:
            answer = self._backend.health(nonce)
        except SyncEngineError as error:
            return error
        return None if answer.nonce == nonce else NotOurServer("A cached answer came in the backend's place.")

    def _learn(self, error: SyncEngineError | None, *, link: int) -> None:
        with self._lock:
            if error is None:
                self._change(after_health(self._state, at=self._moment(), settings=self._settings))
            elif link == self._link:
                self._change(after_error(self._state, error, at=self._moment(), settings=self._settings))
            # A failure on a link that is gone says nothing of the new one; the look it asked for stays due.

    def _change(self, state: ProbeState) -> None:
        self._state = state
        verdict, reason = verdict_of(state, now_ms=self._clock.monotonic_ms())
        if verdict is not self._told:
            facts = {"verdict": verdict.value, "verdict_before": self._told.value, "reason": reason}
            self._told = verdict
            _log.info("the connectivity verdict changed", extra=facts)

    def _moment(self) -> Moment:
        return Moment(now_ms=self._clock.monotonic_ms(), chance=self._chance.random())
