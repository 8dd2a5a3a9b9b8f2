"""Callbacks on the thread where a user interface lives: for Tk, Qt, asyncio, or any loop that polls.

The engine calls its listener on the thread where things happen, and waits for it. A queue takes events there in no
time, and a window gets them on its own thread. This module imports none of the toolkits.
"""

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from syncengine.errors import CalledFromInside
from syncengine.events import MigrationProgressed, StoreChanged
from syncengine.logs import log_event

_logger = logging.getLogger("syncengine.callbacks")

PROGRESS_WAITING_MAX = 1_000
"""A window that does not look for so long (100 s at the highest rate) loses progress, and nothing else."""
TK_POLL_MS = 50
CALLS_OF_ONE_POLL_MAX = 100
"""The window's own events get their turn in between."""

Asked = TypeVar("Asked")


class CallbackQueue:
    """Calls that wait for the thread that made this queue; it runs them with `poll()`. `wake` asks it to, from any.

    Events keep their order. What a callback raises is logged by its type, and the next one is called.
    """

    def __init__(self, *, wake: Callable[[], object] = lambda: None) -> None:
        self._wake = wake
        self._home = threading.get_ident()
        self._lock = threading.Lock()
        self._calls: deque[tuple[Callable[[Any], object], object]] = deque()
        self._progress_waiting = 0

    def listener(self, callback: Callable[[Any], object]) -> Callable[[object], None]:
        """For `Engine.open(listener=...)`, `analytics`, or `engine.subscribe(...)`.

        The callback hears the same events on the home thread; changes of the store that wait there are one.
        """

        def hear(event: object) -> None:
            is_progress = isinstance(event, MigrationProgressed)
            with self._lock:
                if is_progress and self._progress_waiting >= PROGRESS_WAITING_MAX:
                    return
                if isinstance(event, StoreChanged) and self._is_joined(callback, event):
                    return
                self._progress_waiting += is_progress
                self._calls.append((callback, event))
            self._ring()

        return hear

    def _is_joined(self, callback: Callable[[object], object], event: StoreChanged) -> bool:
        """Does it go along with one that waits already? A window that does not look has one call waiting, no more."""
        for place, (waiting, before) in enumerate(self._calls):
            if waiting is callback and isinstance(before, StoreChanged):
                self._calls[place] = callback, before.and_then(event)
                return True
        return False

    def consent(self, ask: Callable[[Asked], object], *, wait_ms_max: int = 600_000) -> Callable[[Asked], bool]:
        """For `Engine.open(consent=...)`: `ask` runs on the home thread while the migration's thread waits.

        No answer in time is none. On the home thread itself `ask` is called at once.
        """

        def wait_for_answer(request: Asked) -> bool:
            if threading.get_ident() == self._home:
                return ask(request) is True
            answered, answers = threading.Event(), []

            def answer(asked: Any) -> None:
                try:
                    answers.append(ask(asked))
                finally:
                    answered.set()

            with self._lock:
                self._calls.append((answer, request))
            self._ring()
            answered.wait(wait_ms_max / 1000)
            return bool(answers) and answers[0] is True

        return wait_for_answer

    def _ring(self) -> None:
        try:
            self._wake()
        except Exception as error:  # noqa: BLE001  (a loop or window that is gone must not undo a migration)
            log_event(_logger, logging.WARNING, "a callback's thread cannot be woken", error=type(error).__name__)

    def poll(self) -> int:
        """Run what waits, on the home thread; how many calls. Rings again when there is more than a poll's worth."""
        for done in range(CALLS_OF_ONE_POLL_MAX):
            with self._lock:
                if not self._calls:
                    return done
                callback, event = self._calls.popleft()
                self._progress_waiting -= isinstance(event, MigrationProgressed)
            try:
                callback(event)
            except Exception as error:  # noqa: BLE001  (one broken callback must not stop the others)
                log_event(_logger, logging.WARNING, "a callback failed", error=type(error).__name__)
        self._ring()
        return CALLS_OF_ONE_POLL_MAX


class AsyncioCallbacks(CallbackQueue):
    """A queue whose calls run in the loop; questions may be coroutines. Make it in the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(wake=lambda: loop.call_soon_threadsafe(self.poll))
        self._loop = loop

    def consent(self, ask: Callable[[Asked], object], *, wait_ms_max: int = 600_000) -> Callable[[Asked], bool]:
        """As for every queue; a coroutine is awaited in the loop, while the migration's thread waits.

        Called in the loop's own thread a coroutine cannot be waited for, and raises CalledFromInside.
        """
        if not inspect.iscoroutinefunction(ask):
            return super().consent(ask, wait_ms_max=wait_ms_max)

        def wait_for_answer(request: Asked) -> bool:
            if threading.get_ident() == self._home:
                raise CalledFromInside(
                    "migrate() was called in the loop that has to ask the user.",
                    why="the loop cannot wait for itself",
                    fix="Migrate in another thread: await asyncio.to_thread(engine.migrate).",
                )
            answer = asyncio.run_coroutine_threadsafe(ask(request), self._loop)
            try:
                return answer.result(wait_ms_max / 1000) is True
            except TimeoutError:
                answer.cancel()
                return False

        return wait_for_answer


def on_asyncio(loop: asyncio.AbstractEventLoop) -> AsyncioCallbacks:
    """A queue whose calls run in the loop. Make it in the loop's thread."""
    return AsyncioCallbacks(loop)


class QtSignal(Protocol):
    """What is needed of a signal without arguments, of any Qt binding."""

    def emit(self) -> object: ...


def on_qt(signal: QtSignal) -> CallbackQueue:
    """A queue that emits a signal when something waits; connect it to a slot of a QObject that calls `poll`.

    Qt delivers a signal from another thread on the thread of the receiving object. Make it in that thread.
    """
    return CallbackQueue(wake=signal.emit)


class TkRoot(Protocol):
    """What is needed of a Tk window."""

    def after(self, ms: int, func: Callable[[], None]) -> str: ...

    def after_cancel(self, id: str) -> None: ...  # noqa: A002  (Tk's name)


class TkCallbacks(CallbackQueue):
    """A queue that the window looks at twenty times a second: Tk takes no call from another thread.

    `root.after` from a worker raises "main thread is not in main loop" and loses the event. Make it in Tk's thread,
    and `stop()` it before the window is destroyed.
    """

    def __init__(self, root: TkRoot) -> None:
        super().__init__()
        self._root = root
        self._next: str | None = root.after(TK_POLL_MS, self._tick)

    def _tick(self) -> None:
        self.poll()
        if self._next is not None:
            self._next = self._root.after(TK_POLL_MS, self._tick)

    def stop(self) -> None:
        """Look no more; safe to repeat."""
        if self._next is not None:
            self._root.after_cancel(self._next)
            self._next = None
