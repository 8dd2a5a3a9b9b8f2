"""Who wants to hear that something may have changed: by this process, by another one, or by a page from the cloud.

Nobody is asked to remember what: the store is looked at, and compared with the look before. So what another process
does is heard as well, and a burst of changes is one.
"""

import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncengine.arguments import check_callable, names_of
from syncengine.errors import EngineClosed, SyncEngineError
from syncengine.events import PagePulled, StoreChanged
from syncengine.local.watch import StoreWatcher
from syncengine.logs import log_event

if TYPE_CHECKING:
    from types import TracebackType

    from syncengine.local.store import Store
    from syncengine.status import Status

CALLS_MS_MIN = 100
"""Between two calls: at most ten a second."""
LOOK_MS_MAX = 60_000
"""So often it is looked without any hint: a wait after failures may be over."""
UNWATCHED_LOOK_MS = 1_000
"""The same where the system grants no watch."""
STOP_WAIT_MS_MAX = 2_000

_logger = logging.getLogger("syncengine.subscriptions")

Callback = Callable[[StoreChanged], object]


class Subscription:
    """Somebody who is called back until `close()`; best in a `with` block."""

    def __init__(self, owner: "Subscriptions", callback: Callback, collections: frozenset[str] | None) -> None:
        self._owner = owner
        self.callback = callback
        self.collections = collections

    def close(self) -> None:
        """No call begins after this returns; waits a bounded time for one that is under way. Safe to repeat."""
        self._owner.remove(self)

    def __enter__(self) -> "Subscription":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What a change leaves traces in."""

    data_version: int
    shapes: tuple[tuple[object, ...], ...]
    """Name, synced or not, and shape of each collection."""
    newest_entry: int
    cursors: tuple[tuple[object, ...], ...]
    status: "Status"


class Subscriptions:
    """All subscriptions of one engine, and the one thread that serves them. It runs while there is any."""

    def __init__(self, store: "Store", *, status: Callable[[], "Status"]) -> None:
        self._store = store
        self._status = status
        self._lock = threading.RLock()
        self._calling = threading.RLock()
        self._subscribed: tuple[Subscription, ...] = ()
        self._service: _Service | None = None

    def add(self, callback: Callback, *, collections: Collection[str] | None) -> Subscription:
        """It hears what changes from now on."""
        check_callable(callback, name="callback")
        names = None if collections is None else names_of(collections, name="collections")
        added = Subscription(self, callback, names)
        with self._lock:
            if self._service is None:
                self._service = _Service(self._store, status=self._status, deliver=self._deliver)
                self._service.start()
            self._subscribed = (*self._subscribed, added)
        return added

    def remove(self, subscription: Subscription) -> None:
        """It hears nothing more; with the last one the thread ends."""
        with self._lock:
            self._subscribed = tuple(one for one in self._subscribed if one is not subscription)
            service = self._service
            if self._subscribed or service is None:
                service = None
            else:
                self._service = None
        # A call that is under way ends first; the callback itself passes, and who holds what it waits for.
        if self._calling.acquire(timeout=STOP_WAIT_MS_MAX / 1000):
            self._calling.release()
        if service is not None:
            service.stop()

    def close(self) -> None:
        """Nobody hears anything more."""
        for subscription in self._subscribed:
            self.remove(subscription)

    def wake(self, reason: str) -> None:
        """This process has done something: "edited", "written" (nothing that is queued), "migrated" and so on."""
        service = self._service
        if service is not None:
            service.wake(reason)

    def hear(self, event: object) -> None:
        """Something has happened in a round of this process."""
        service = self._service
        if service is not None:
            service.hear(event)

    def _deliver(self, changed: StoreChanged) -> None:
        for subscription in self._subscribed:
            with self._calling:
                if subscription in self._subscribed:
                    self._call(subscription, changed)

    def _call(self, subscription: Subscription, changed: StoreChanged) -> None:
        wanted = subscription.collections
        names = tuple(name for name in changed.collections if wanted is None or name in wanted)
        if not (names or changed.status_changed):
            return
        try:
            subscription.callback(StoreChanged(collections=names, status_changed=changed.status_changed))
        except BaseException as error:  # noqa: BLE001 - a host's callback may raise anything and must harm nothing
            log_event(_logger, logging.WARNING, "a subscription's callback failed", error=type(error).__name__)


class _Service:
    """The thread between the first subscription and the end of the last."""

    def __init__(
        self, store: "Store", *, status: Callable[[], "Status"], deliver: Callable[[StoreChanged], None]
    ) -> None:
        self._store = store
        self._status = status
        self._deliver = deliver
        self._clock = store.clock
        self._rung = threading.Event()
        self._stopping = threading.Event()
        self._noted: set[str] = set()
        self._everything = False
        self._local_writes = False
        self._note_lock = threading.Lock()
        self._seen = self._look()
        self._thread = threading.Thread(target=self._live, name="syncengine-subscriptions", daemon=True)
        self._watcher: StoreWatcher | None = StoreWatcher(store.path, on_commit=self._rung.set, clock=store.clock)
        self._look_ms = LOOK_MS_MAX

    def start(self) -> None:
        assert self._watcher is not None
        try:
            self._watcher.start()
        except OSError as error:
            log_event(_logger, logging.WARNING, "the store cannot be watched", error=type(error).__name__)
            self._watcher, self._look_ms = None, UNWATCHED_LOOK_MS
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._rung.set()
        if self._watcher is not None:
            self._watcher.stop()
        if self._thread is not threading.current_thread():
            self._thread.join(STOP_WAIT_MS_MAX / 1000)

    def wake(self, reason: str) -> None:
        with self._note_lock:
            if reason in ("edited", "written"):
                self._local_writes = True
            else:
                self._everything = True
        self._rung.set()

    def hear(self, event: object) -> None:
        if isinstance(event, PagePulled):
            with self._note_lock:
                self._noted.update(event.collections)
        self._rung.set()

    def _live(self) -> None:
        while not self._stopping.is_set():
            self._clock.wait(self._rung, self._look_ms)
            self._rung.clear()
            if self._stopping.is_set():
                return
            try:
                self._tell()
            except EngineClosed:
                return
            except SyncEngineError as error:
                # The next hint looks again, and finds what this one could not.
                log_event(_logger, logging.WARNING, "the store cannot be looked at", error=type(error).__name__)
            self._clock.wait(self._stopping, CALLS_MS_MIN)

    def _tell(self) -> None:
        now = self._look()
        names = self._changed(now)
        changed = StoreChanged(collections=tuple(sorted(names)), status_changed=now.status != self._seen.status)
        self._seen = now
        if changed.collections or changed.status_changed:
            self._deliver(changed)

    def _look(self) -> _Look:
        store = self._store
        with store.lock:
            return _Look(
                data_version=store.data_version(),
                shapes=tuple(store.rows("receipts", "collections")),
                newest_entry=int(store.value("outbox", "newest")),
                cursors=tuple(store.rows("receipts", "cursors")),
                status=self._status(),
            )

    def _changed(self, now: _Look) -> set[str]:
        """Rather too many than too few."""
        with self._note_lock:
            noted, self._noted = self._noted, set()
            everything, self._everything = self._everything, False
            local_writes, self._local_writes = self._local_writes, False
        synced = {str(name) for name, is_synced, _ in now.shapes if is_synced}
        others = {str(name) for name, is_synced, _ in now.shapes if not is_synced}
        seen = self._seen
        if everything or now.shapes != seen.shapes:
            return synced | others
        by_entries = self._written(now, synced)
        found = noted | by_entries
        if now.data_version != seen.data_version:
            # Another process: what it pulled, and what it wrote to collections that are not synced, has no entries.
            found |= synced if now.cursors != seen.cursors else set()
            found |= others
        return found | others if local_writes else found

    def _written(self, now: _Look, synced: set[str]) -> set[str]:
        if now.newest_entry == self._seen.newest_entry:
            return set()
        there = self._store.rows("receipts", "written_since", after=self._seen.newest_entry)
        if sum(count for _, count in there) < now.newest_entry - self._seen.newest_entry:
            return synced  # some have been sent already
        return {str(name) for name, _ in there if name}
