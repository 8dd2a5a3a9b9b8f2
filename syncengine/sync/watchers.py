"""What wakes the background besides time: commits to the store, and changes of the network."""

import logging
from collections.abc import Callable

from syncengine.clock import Clock
from syncengine.local.watch import StoreWatcher
from syncengine.remote.link_events import LinkWatcher

_log = logging.getLogger("syncengine.sync")


class Watchers:
    """Both at once; what cannot be watched is seen at the next look all the same."""

    def __init__(
        self, path: str, *, clock: Clock, on_commit: Callable[[], None], on_link: Callable[[], None]
    ) -> None:
        self._all = (StoreWatcher(path, on_commit=on_commit, clock=clock), LinkWatcher(on_link, clock=clock))
        self._started: list[StoreWatcher | LinkWatcher] = []

    def start(self) -> None:
        """Watch until stop(); safe to repeat."""
        if self._started:
            return
        for each in self._all:
            try:
                each.start()
            except OSError as error:
                facts = {"watcher": type(each).__name__, "error": type(error).__name__}
                _log.info("something cannot be watched here", extra=facts)
            else:
                self._started.append(each)

    def stop(self) -> None:
        """Safe to repeat; waits a bounded time for a call that is under way."""
        for each in self._started:
            each.stop()
