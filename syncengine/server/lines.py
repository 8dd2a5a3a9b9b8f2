"""Who writes for one user stands in that user's line: for a bounded time, and never so many that others wait."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from syncengine.server.storage import DatabaseBusy
from syncengine.vocabulary import UserId

TURN_SECONDS_MAX = 10.0
"""In a line; then the request is answered with 503."""

OF_ONE_USER_MAX = 8
"""One at work and those behind it. Requests are worked on by 40 threads, so this is how many a user can hold up."""

WAITING_MAX = 24
"""In all lines together, and not at work: the other threads are for users whom nobody holds up."""


class _Line:
    """People in it, the one at work included."""

    def __init__(self) -> None:
        self.people = 0
        self.turn = threading.Lock()


class Lines:
    """By user. A line is there while somebody stands in it."""

    def __init__(self) -> None:
        self._lines: dict[UserId, _Line] = {}
        self._waiting = 0
        self._change = threading.Lock()

    @contextmanager
    def turn(self, user: UserId) -> Iterator[None]:
        """Alone with this user, of this process. Raises DatabaseBusy, at once where too many stand there."""
        line = self._entered(user)
        try:
            with self._turn_in(line):
                yield
        finally:
            self._leave(user, line)

    def _entered(self, user: UserId) -> _Line:
        with self._change:
            line = self._lines.setdefault(user, _Line())
            if line.people >= OF_ONE_USER_MAX or (line.people and self._waiting >= WAITING_MAX):
                raise DatabaseBusy
            self._waiting += line.people > 0
            line.people += 1
            return line

    def _leave(self, user: UserId, line: _Line) -> None:
        with self._change:
            line.people -= 1
            self._waiting -= line.people > 0
            if not line.people:
                del self._lines[user]

    @contextmanager
    def _turn_in(self, line: _Line) -> Iterator[None]:
        if not line.turn.acquire(timeout=TURN_SECONDS_MAX):
            raise DatabaseBusy
        try:
            yield
        finally:
            line.turn.release()
