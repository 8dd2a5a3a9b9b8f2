"""Drives rounds from a background thread: waits for work and for the cloud, carries calls, tells what happens."""

import logging
import random
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from syncengine.arguments import milliseconds
from syncengine.clock import fresh_id
from syncengine.errors import (
    AuthRequired,
    BackendUnreachable,
    EngineClosed,
    NotOurServer,
    RoundUnfinished,
    SyncEngineError,
    UserTakenOut,
)
from syncengine.events import Listener, RoundEnded, RoundStarted
from syncengine.outbox.queue import Outbox
from syncengine.outbox.stay import Stay
from syncengine.remote.connectivity_probe import ConnectivityProbe, Verdict
from syncengine.remote.tokens import RemembersRefusals
from syncengine.sync.asked import ASKED_FOR, Asked, refuse_inside
from syncengine.sync.calls import Answer, Carried, HelloSaid, PushSaid
from syncengine.sync.carrying import Driver
from syncengine.sync.courier import carry
from syncengine.sync.drain import RoundReport
from syncengine.sync.failing_here import FailingHere
from syncengine.sync.line import Line
from syncengine.sync.outlook import NO_USE_TRYING, Outlook
from syncengine.sync.pull import remember_policies
from syncengine.sync.report import ALL_SENT, FlushReport, flushed
from syncengine.sync.round import sync_round
from syncengine.sync.round_parts import RoundParts

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.remote.backend import Backend
    from syncengine.sync.watchers import Watchers

_log = logging.getLogger("syncengine.sync")

FAILURES_OF_THE_LINE = frozenset({BackendUnreachable.code(), NotOurServer.code()})
"""Failures whose wait is over when the network comes back; the cloud's own wishes are kept."""

WAIT_MS_MIN = 20
"""No loop turns faster than this, whatever the waits say."""
OTHER_PROCESS_LOOK_MS = 100
"""How often flush() looks whether another process has finished sending."""


class SyncRunner:
    """The engine's way to the cloud for one signed-in user at a time.

    `start()` syncs in the background; without it rounds run only when asked for. All methods may be called from any
    thread. The backend is closed with the runner.
    """

    def __init__(
        self,
        *,
        store: "Store",
        registry: "MigrationRegistry",
        backend: "Backend",
        user: str | None,
        chance: random.Random,
        listener: Listener | None = None,
    ) -> None:
        self._store = store
        self._outbox = Outbox(store)
        self._registry = registry
        self._backend = backend
        self._user = user
        self._chance = chance
        self._listener = listener
        self._clock = store.clock
        self._settings = store.settings
        self._probe = ConnectivityProbe(backend, clock=self._clock, settings=self._settings, chance=chance)
        self._stay = Stay(store, user or "")
        self._wakeup = threading.Event()
        self._ended = threading.Event()
        self._turn = threading.Lock()
        self._call_lock = threading.RLock()
        self._asked: list[Asked] = []
        self._serving: list[Asked] = []
        self._thread: threading.Thread | None = None
        self._lives = False
        self._watchers: Watchers | None = None
        self._background = False
        self._closed = False
        self._abandoned = False
        self._paused: str | None = None
        self._outlook = Outlook(store, tell=self._tell)
        self._parts = RoundParts(self._outbox, registry, backend, chance=chance, tell=self._tell)
        self._failing = FailingHere(self._outbox, chance=chance, tell=self._tell)
        self._rest_until_ms: int | None = None
        self._read_at_ms = 0
        """By the monotonic clock: when to ask the cloud for changes, if nothing else makes a round before."""
        self._seen: tuple[int, int] = (0, 0)
        self._line = Line()
        self._driver: Driver | None = None
        self._woken_by = "start"
        self._is_asked = False
        """Whether somebody waits for the present round."""

    # For the host.

    @property
    def activity(self) -> str:
        """stopped (not started, closed, or its thread has died), paused, or running."""
        if self._closed or not self._background or not self._lives:
            return "stopped"
        return "running" if self._paused is None else "paused"

    @property
    def unnoted_error(self) -> str | None:
        """The code of what ended the last round on this device, where the store could not take a note of it."""
        return self._failing.unnoted

    def start(self) -> None:
        """Sync in the background from now on; safe to repeat. Raises EngineClosed."""
        with self._turn:
            self._begin_thread()
            if self._watchers is None:
                self._watchers = self._watching()
            self._background = True
        self.wake("start")

    def wake(self, reason: str) -> None:
        """There may be work, or the world has changed: look now instead of later."""
        self._woken_by = reason
        self._rest_until_ms = None
        self._wakeup.set()

    def sync_now(self, *, timeout_ms: int) -> RoundReport:
        """The report of one whole round that began after this call, whatever the probe thinks.

        Raises the error that ended it, RoundUnfinished when it takes longer than `timeout_ms` (it goes on),
        EngineClosed; CalledFromInside within `engine.write()`, a running migration, or a listener of a round.
        A paused runner reports "paused" at once.
        """
        milliseconds(timeout_ms, name="timeout_ms")
        report = self._ask("asked", timeout_ms=timeout_ms)
        if report.error is not None:
            raise report.error
        return report

    def flush(self, *, timeout_ms: int) -> FlushReport:
        """Send until nothing is left to send or the time is over. Never raises for the network.

        Raises what failed on this device (RoundFailed, DiskFull), EngineClosed, and CalledFromInside where
        `sync_now` does.
        """
        milliseconds(timeout_ms, name="timeout_ms")
        deadline_ms = self._clock.monotonic_ms() + timeout_ms
        delivered = 0
        while (left_ms := deadline_ms - self._clock.monotonic_ms()) > 0:
            try:
                report = self._ask("flush", timeout_ms=left_ms)
            except RoundUnfinished:
                break
            delivered += report.applied
            if report.ended == "another_process":
                self._clock.wait(self._ended, min(OTHER_PROCESS_LOOK_MS, left_ms))
            elif report.sendable == 0 or report.ended != "bounded":
                return self._flushed(delivered, report.ended)
        return self._flushed(delivered, "time_is_over")

    def pause(self, reason: str) -> None:
        """Begin no call from now on; one in flight is the last."""
        self._paused = reason

    def resume(self) -> None:
        """Go on after pause()."""
        self._paused = None
        self.wake("resume")

    def set_user(self, owner: str | None) -> None:
        """Sync for another user, or nobody. Waits for the call in flight, so no token meets another user's entries.

        Change what the token callback gives between `set_user(None)` and `set_user(other)`.
        """
        with self._call_lock:
            self._user = owner
            self._stay = Stay(self._store, owner or "")
            self._read_at_ms = 0
        self.wake("user")

    def set_network(self, *, online: bool | None = None, metered: bool | None = None) -> None:
        """What the host knows of the network."""
        self._probe.set_network(online=online, metered=metered)
        self._line = Line()  # another network is another line
        self.wake("network")

    def _link_changed(self) -> None:
        self._probe.link_changed()
        self._line = Line()
        self.wake("link")

    @property
    def is_alive(self) -> bool:
        """Does its thread still run? After `close` only where a call did not end in time; its answer is dropped."""
        return self._lives

    def close(self, *, leaves_backend: bool = False) -> None:
        """End the call in flight and the thread, in bounded time; safe to repeat. What is claimed is sent again.

        `leaves_backend`: it is the host's, and another runner goes on with it.
        """
        if self._closed:
            return
        self._closed = True
        self._wakeup.set()
        if self._watchers is not None:
            self._watchers.stop()
        if not leaves_backend:
            self._backend.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._abandoned = not self._clock.wait(self._ended, self._settings.close_wait_ms_max)

    # Asking.

    def _ask(self, reason: str, *, timeout_ms: int) -> RoundReport:
        self.check_not_inside()
        if self._paused is not None and not self._closed:
            return RoundReport(ended="paused")
        asked = Asked(reason)
        with self._turn:
            self._begin_thread()
            self._asked.append(asked)
        self._wakeup.set()
        if not self._clock.wait(asked.done, timeout_ms):
            raise RoundUnfinished(
                f"The sync round did not end within {timeout_ms} ms.",
                fix="It goes on in the background; nothing is lost. Look at status().",
            )
        if asked.error is not None:
            raise asked.error
        assert asked.report is not None
        return asked.report

    def _flushed(self, delivered: int, ended: str) -> FlushReport:
        return flushed(self._outbox, self._user, delivered=delivered, ended=ended)

    def _begin_thread(self) -> None:
        """Under the lock that a thread takes to end, so that what is asked for next is heard by a living one."""
        self._check_open()
        if not self._lives:
            self._lives = True
            self._ended.clear()
            self._thread = threading.Thread(target=self._live, name="syncengine-sync", daemon=True)
            self._thread.start()

    def check_not_inside(self) -> None:
        """Raises CalledFromInside where a round could never end: it needs this thread, or the store that it holds."""
        if self._driver is not None and self._driver.is_pushing_in_this_thread():
            refuse_inside("this is the thread that carries a push: a token was asked for on it")
        if self._thread is threading.current_thread():
            refuse_inside("this is the thread that runs the rounds: a listener was called on it")
        if self._store.in_transaction_here():
            refuse_inside("this thread has a transaction open, and a round would wait for its end")

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosed("The engine is closed.", fix="Open it again; the queue is kept.")

    def _watching(self) -> "Watchers":
        from syncengine.sync.watchers import Watchers

        watchers = Watchers(
            self._store.path, clock=self._clock, on_commit=self._something_committed, on_link=self._link_changed
        )
        watchers.start()
        return watchers

    def _something_committed(self) -> None:
        if self._closed:
            return
        try:
            seen = self._newest()
        except SyncEngineError:
            return
        if seen != self._seen:
            self._seen = seen
            self.wake("store_changed")

    def _newest(self) -> tuple[int, int]:
        """Changes when another process has committed, or anybody has written an entry; not by our own rounds."""
        return self._store.data_version(), self._store.value("outbox", "newest")

    # The thread.

    def _live(self) -> None:
        try:
            while not self._closed:
                self._wakeup.clear()
                self._turn_once()
        finally:
            self._end_thread()

    def _end_thread(self) -> None:
        with self._turn:
            self._serving += self._asked
            self._asked = []
            self._lives = False
            self._answer(error=self._why_no_round())
            self._ended.set()

    def _why_no_round(self) -> SyncEngineError:
        if self._closed:
            return EngineClosed("The engine was closed.", fix="Open it again; the queue is kept.")
        return RoundUnfinished(
            "The sync thread died before the round.", fix="Ask again: it is begun anew, and the queue is kept."
        )

    def _turn_once(self) -> None:
        try:
            if self._take_asked():
                self._answer(report=self._run_round(self._serving[0].reason))
            elif self._background and self._may_try():
                self._outlook.came_back = False
                report = self._run_round(self._woken_by)
                if report.ended in {*ALL_SENT, "another_process"} and report.sendable:
                    self._rest()  # what is left waits for something else than us
            else:
                self._clock.wait(self._wakeup, self._wait_ms())
        # A token callback may raise asyncio.CancelledError or SystemExit, which are no Exception.
        except BaseException as error:  # noqa: BLE001 - the thread outlives whatever a host, a disk or we ourselves do
            self._survive(error)

    def _survive(self, error: BaseException) -> None:
        self._answer(error=error)
        if not self._closed:
            _log.error("a sync round failed on this device", extra={"error": type(error).__name__})
            self._rest()
            self._clock.wait(self._wakeup, self._settings.retry_wait_ms_min)

    def _take_asked(self) -> bool:
        """Serve those who have asked by now; who asks later gets a later round."""
        with self._turn:
            self._serving += self._asked
            self._asked = []
        return bool(self._serving)

    def _answer(self, *, report: RoundReport | None = None, error: BaseException | None = None) -> None:
        served, self._serving = self._serving, []
        for one in served:
            one.report, one.error = report, error
            one.done.set()

    def _rest(self) -> None:
        self._rest_until_ms = self._clock.monotonic_ms() + self._settings.idle_wait_ms_max

    def _may_try(self) -> bool:
        if self._paused is not None or self._user is None or self._is_resting():
            return False
        if self._probe.host_says_offline:
            self._outlook.learn(self._probe.finding())
            return False
        policy = self._on_metered()
        if policy == "wait" or (not self._outbox.sendable(self._user) and (policy == "send" or self._read_wait_ms())):
            if self._outlook.verdict is Verdict.UNKNOWN:
                self._outlook.learn(self._probe.look())
            return False
        if self._outlook.learn(self._probe.look()) in NO_USE_TRYING:
            return False
        return self._backoff_ms(self._user) == 0

    def _backoff_ms(self, user: str) -> int:
        """The durable wait; none when it was the line that failed, and it has come back since, or the token, and
        there is another one now."""
        last_error = self._outbox.drain_state(user).last_error
        if self._outlook.came_back and last_error in FAILURES_OF_THE_LINE:
            return 0
        if last_error == AuthRequired.code() and isinstance(self._backend, RemembersRefusals):
            wait_ms = self._backend.refused_token_wait_ms()
            if wait_ms is not None:
                return wait_ms
        return self._outbox.next_try_ms(user)

    def _on_metered(self) -> str:
        """What the background does on the present network: "sync", "send" or "wait"."""
        return self._settings.on_metered if self._probe.is_metered else "sync"

    def _read_wait_ms(self) -> int:
        return max(0, self._read_at_ms - self._clock.monotonic_ms())

    def _is_resting(self) -> bool:
        return self._rest_until_ms is not None and self._clock.monotonic_ms() < self._rest_until_ms

    def _wait_ms(self) -> int:
        waits = [self._settings.idle_wait_ms_max]
        user = self._user
        if self._background and self._paused is None and user is not None and not self._is_resting():
            finding = self._probe.finding()
            if finding.verdict is Verdict.UNKNOWN or (
                finding.verdict in NO_USE_TRYING and finding.reason != "host_says_offline"
            ):
                waits.append(self._probe.next_look_ms - self._clock.monotonic_ms())
            elif self._outbox.sendable(user) and self._on_metered() != "wait":
                waits.append(self._backoff_ms(user))
            elif self._on_metered() == "sync":
                waits.append(max(self._read_wait_ms(), self._backoff_ms(user)))
        return max(WAIT_MS_MIN, min(waits))

    # One round.

    def _run_round(self, reason: str) -> RoundReport:
        if (owner := self._user) is None:
            return RoundReport(ended="nobody_signed_in")
        self._is_asked = reason in ASKED_FOR
        self._tell(RoundStarted(reason=reason, sendable=self._outbox.sendable(owner)))
        with self._failing.told(owner):
            report = self._round_for(owner)
        self._tell(RoundEnded(ended=report.ended, applied=report.applied, sendable=report.sendable))
        return report

    def _round_for(self, owner: str) -> RoundReport:
        parts = self._parts
        speaker = parts.speaker()
        draining = parts.sending(owner, speaker, stay=self._stay, line=self._line, metered=self._probe.is_metered)
        self._failing.draining = draining
        # The first push says already which entries the cloud may refuse.
        remember_policies(self._store, self._registry)
        self._driver = Driver(lambda call: self._carry(call, owner=owner))
        reads = self._is_asked or self._on_metered() == "sync"
        pull = parts.reading(owner, speaker) if reads else None
        try:
            report = self._driver.drive(sync_round(draining, pull=pull))
        except UserTakenOut as error:
            self._background = False
            report = RoundReport(ended=error.code(), error=error)
        if report is None:
            report = RoundReport(ended="stopped", sendable=self._outbox.sendable(owner))
        self._line = draining.line
        self._read_at_ms = self._clock.monotonic_ms() + self._settings.pull_interval_ms
        if not self._closed:
            self._seen = self._newest()
            self._outlook.learn(self._probe.finding())
        return report

    def _carry(self, call: Carried, *, owner: str) -> Answer | None:
        with self._call_lock:
            if self._closed or self._paused is not None or self._user != owner:
                return None
            if self._probe.host_says_offline and not self._is_asked:
                return None
            begun_ms = self._clock.monotonic_ms()
            answer = carry(self._backend, call, request_id=fresh_id(self._chance), heard=self._probe.heard)
            if self._abandoned:
                return None  # nobody waits for it any more; what was sent is sent again, and told as a duplicate
        if isinstance(answer, HelloSaid | PushSaid):
            # A quick answer took a part of a millisecond; 0 would say that nobody has measured.
            return replace(answer, took_ms=max(self._clock.monotonic_ms() - begun_ms, 1))
        return answer

    def _tell(self, event: object) -> None:
        if self._listener is None:
            return
        try:
            self._listener(event)
        except BaseException as error:  # noqa: BLE001 - a host's listener may raise anything and must harm nothing
            facts = {"event": type(event).__name__, "error": type(error).__name__}
            _log.warning("the listener raised", extra=facts)
