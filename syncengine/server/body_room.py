"""How many bytes of requests one process holds at once: of one user, and of all."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from syncengine.server.request_body import RequestRefused
from syncengine.vocabulary import UserId

USER_BYTES_MAX = 64 * 1024 * 1024
"""Four of the largest requests; devices send one at a time."""
ALL_BYTES_MAX = 256 * 1024 * 1024
RETRY_AFTER_S = 5


class BodyRoom:
    """May be used from any thread."""

    def __init__(self, *, user_bytes_max: int = USER_BYTES_MAX, all_bytes_max: int = ALL_BYTES_MAX) -> None:
        self._user_bytes_max = user_bytes_max
        self._all_bytes_max = all_bytes_max
        self._lock = threading.Lock()
        self._taken: Counter[UserId] = Counter()
        self._taken_by_all = 0

    @contextmanager
    def share(self, user: UserId) -> Iterator["Share"]:
        """For one request; what it has taken is free again at the end."""
        share = Share(self, user)
        try:
            yield share
        finally:
            share.give_back()

    def take(self, user: UserId, size_bytes: int) -> bool:
        """False: there is no room, and nothing was taken."""
        with self._lock:
            of_user, of_all = self._taken[user] + size_bytes, self._taken_by_all + size_bytes
            if of_user > self._user_bytes_max or of_all > self._all_bytes_max:
                return False
            self._taken[user], self._taken_by_all = of_user, of_all
            return True

    def give_back(self, user: UserId, size_bytes: int) -> None:
        with self._lock:
            self._taken[user] -= size_bytes
            self._taken_by_all -= size_bytes
            if not self._taken[user]:
                del self._taken[user]


class Share:
    """What one request holds."""

    def __init__(self, room: BodyRoom, user: UserId) -> None:
        self._room = room
        self._user = user
        self._size_bytes = 0

    def take(self, size_bytes: int) -> None:
        """So many bytes more. Raises RequestRefused (503)."""
        if not self._room.take(self._user, size_bytes):
            message = "Too much is being sent at once."
            raise RequestRefused(503, code="busy", message=message, retry_after_s=RETRY_AFTER_S)
        self._size_bytes += size_bytes

    def give_back(self) -> None:
        """All of it."""
        self._room.give_back(self._user, self._size_bytes)
        self._size_bytes = 0
