"""How many requests a user may make: a bucket each, which fills again by and by. Of this process alone."""

import math
import threading
from collections import OrderedDict
from typing import NamedTuple

from syncengine.clock import Clock
from syncengine.server.request_body import RequestRefused
from syncengine.server.sign_in import SignIn
from syncengine.vocabulary import UserId

KNOWN_USERS_MAX = 100_000
"""Beyond that the one who came least recently is forgotten, and has a full bucket again."""
_MINUTE_MS = 60_000


class _Bucket(NamedTuple):
    requests: float
    """That may be made at once."""
    at_ms: int


class Pace:
    """At most so many requests of each user a minute, and at once. May be used from any thread."""

    def __init__(self, requests_per_minute_max: int, *, clock: Clock) -> None:
        self._max = requests_per_minute_max
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[UserId, _Bucket] = OrderedDict()

    def wait_s(self, user: UserId) -> int:
        """0: the request may be made, and counts; else so many seconds until one may."""
        with self._lock:
            now_ms = self._clock.monotonic_ms()
            before = self._buckets.pop(user, _Bucket(self._max, now_ms))
            filled = min(self._max, before.requests + (now_ms - before.at_ms) * self._max / _MINUTE_MS)
            left = filled - 1 if filled >= 1 else filled
            self._buckets[user] = _Bucket(left, now_ms)
            if len(self._buckets) > KNOWN_USERS_MAX:
                self._buckets.popitem(last=False)
        return 0 if filled >= 1 else math.ceil((1 - filled) * _MINUTE_MS / self._max / 1000)


def paced(sign_in: SignIn, pace: Pace) -> SignIn:
    """The same; raises RequestRefused (429) for a user who has made too many requests."""

    def user_of(token: str) -> UserId | None:
        user = sign_in(token)
        wait_s = 0 if user is None else pace.wait_s(user)
        if wait_s:
            message = "This user has made too many requests."
            raise RequestRefused(429, code="rate_limited", message=message, retry_after_s=wait_s)
        return user

    return user_of
