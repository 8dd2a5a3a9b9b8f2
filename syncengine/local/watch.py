"""Hints from the file system: another process may have committed to the store; a file has come or gone.

The directory is watched, not the file: the -wal comes and goes, and watching opens no file, so it drops no locks.
"""

import logging
import os
import threading
from collections.abc import Callable

from watchdog.events import (
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from syncengine.clock import Clock, SystemClock

CHANGES = [FileCreatedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent]
"""What a writer causes; opening and reading cause other events, which are not even delivered."""

SETTLE_MS = 20
"""Events within this time are one. In 1 of 301 commits `data_version` had not changed at the first event, and had
5 ms later, so the second look comes after it."""

STOP_WAIT_MS_MAX = 2_000

# Of a watch that is stopped between two events watchdog logs an error; without a handler Python prints it on stderr.
# A host that has handlers of its own still gets it.
logging.getLogger("watchdog").addHandler(logging.NullHandler())


class StoreWatcher:
    """Calls `on_commit` soon after any process may have written to the store, this one included.

    It is a hint: the callee compares `PRAGMA data_version` and does nothing where that stands still. Each burst of
    events gives one call at once and one `settle_ms` after it. Calls come one at a time, on a thread of the watcher's
    own; they should be short. A callback that raises ends the watching, reported by `threading.excepthook`.
    """

    def __init__(
        self, path: str, *, on_commit: Callable[[], None], clock: Clock | None = None, settle_ms: int = SETTLE_MS
    ) -> None:
        store = os.path.realpath(path)
        name = os.path.basename(store)
        self._watch = _DirectoryWatch(
            os.path.dirname(store),
            names=frozenset({name, f"{name}-wal"}),
            on_change=on_commit,
            clock=clock or SystemClock(),
            settle_ms=settle_ms,
        )

    def start(self) -> None:
        """Watch until stop(). Raises OSError where the directory is missing or the system grants no more watches."""
        self._watch.start()

    def stop(self) -> None:
        """No call begins after this returns; safe to repeat; waits a bounded time, for a call that is under way."""
        self._watch.stop()


class FileFlagWatcher:
    """Calls `on_change(present)` each time that the file at `path` has come or gone since the call before.

    The state at start() is not reported: read `present`. What comes and goes within `settle_ms` may be missed.
    """

    def __init__(
        self,
        path: str,
        on_change: Callable[[bool], None],
        *,
        clock: Clock | None = None,
        settle_ms: int = SETTLE_MS,
    ) -> None:
        # Not realpath of the file: the flag may be a link, and it is the link that comes and goes.
        folder, name = os.path.split(os.path.abspath(path))
        self._path = os.path.join(os.path.realpath(folder), name)
        self._on_change = on_change
        self._known = self.present
        self._watch = _DirectoryWatch(
            os.path.dirname(self._path),
            names=frozenset({name}),
            on_change=self._look,
            clock=clock or SystemClock(),
            settle_ms=settle_ms,
        )

    @property
    def present(self) -> bool:
        """Is the file there now?"""
        return os.path.lexists(self._path)

    def start(self) -> None:
        """Watch until stop(). Raises OSError where the directory is missing or the system grants no more watches."""
        self._known = self.present
        self._watch.start()

    def stop(self) -> None:
        """No call begins after this returns; safe to repeat; waits a bounded time, for a call that is under way."""
        self._watch.stop()

    def _look(self) -> None:
        present = self.present
        if present != self._known:
            self._known = present
            self._on_change(present)


class _DirectoryWatch:
    """One observer on one directory, and one thread that turns bursts of events into calls."""

    def __init__(
        self, directory: str, *, names: frozenset[str], on_change: Callable[[], None], clock: Clock, settle_ms: int
    ) -> None:
        self._directory = directory
        self._names = names
        self._on_change = on_change
        self._clock = clock
        self._settle_ms = settle_ms
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def start(self) -> None:
        with self._lock:
            if self._running is None:
                self._running = self._begin()

    def stop(self) -> None:
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            running.stop()

    def _begin(self) -> "_Running":
        os.stat(self._directory)  # the error of a missing directory then names it
        running = _Running(self._on_change, self._clock, settle_ms=self._settle_ms)
        handler = _NamedFiles(self._names, on_event=running.changed.set)
        running.observer.schedule(handler, self._directory, recursive=False, event_filter=CHANGES)
        running.observer.start()
        running.thread.start()
        return running


class _Running:
    """What lives between start() and stop()."""

    def __init__(self, on_change: Callable[[], None], clock: Clock, *, settle_ms: int) -> None:
        self.changed = threading.Event()
        self.observer = Observer()
        self.thread = threading.Thread(target=self._call, name="syncengine-watch", daemon=True)
        self._stopping = threading.Event()
        self._on_change = on_change
        self._clock = clock
        self._settle_ms = settle_ms

    def _call(self) -> None:
        while True:
            self.changed.wait()
            if self._stopping.is_set():
                return
            self._on_change()
            if self._clock.wait(self._stopping, self._settle_ms):
                return
            # Cleared before the second look: an event after this line begins a new burst.
            self.changed.clear()
            if self._stopping.is_set():  # its signal may be what was cleared
                return
            self._on_change()

    def stop(self) -> None:
        self._stopping.set()
        self.changed.set()
        self.observer.stop()
        for thread in (self.observer, self.thread):
            if thread is not threading.current_thread():
                thread.join(STOP_WAIT_MS_MAX / 1000)


class _NamedFiles(FileSystemEventHandler):
    def __init__(self, names: frozenset[str], *, on_event: Callable[[], None]) -> None:
        self._names = names
        self._on_event = on_event

    def on_any_event(self, event: FileSystemEvent) -> None:
        for path in (event.src_path, event.dest_path):
            if os.path.basename(os.fsdecode(path)) in self._names:
                self._on_event()
