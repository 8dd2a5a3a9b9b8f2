"""Addresses of a name within a deadline.

getaddrinfo() knows none: with a resolver that swallows packets it waits for 5 seconds, twice, for each nameserver
(resolv.conf(5), "timeout" and "attempts").
"""

import socket
import threading

from syncengine.clock import Clock

ADDRESSES_TRIED_MAX = 4


class NameLookup:
    """Asks the system, each name in a thread of its own; one that hangs is waited for again and not asked twice."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way: dict[tuple[str, int], _Question] = {}

    def addresses(self, host: str, port: int, *, wait_ms_max: int) -> list[str]:
        """At most four, in the system's order. Raises socket.gaierror, also when the time is over."""
        place = (host, port)
        with self._lock:
            question = self._under_way.get(place)
            if question is None:
                question = self._under_way[place] = _Question(host, port)
                question.start()
        if not self._clock.wait(question.over, wait_ms_max):
            raise socket.gaierror(socket.EAI_AGAIN, "the name was not looked up in time")
        with self._lock:
            if self._under_way.get(place) is question:
                del self._under_way[place]
        if question.failure is not None:
            raise socket.gaierror(*question.failure.args) from question.failure
        return question.found


class _Question(threading.Thread):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(name="syncengine-name", daemon=True)
        self.over = threading.Event()
        self.found: list[str] = []
        self.failure: OSError | None = None
        self._place = (host, port)

    def run(self) -> None:
        try:
            found = socket.getaddrinfo(*self._place, type=socket.SOCK_STREAM)
            self.found = list(dict.fromkeys(str(entry[4][0]) for entry in found))[:ADDRESSES_TRIED_MAX]
        except OSError as error:
            self.failure = error
        except UnicodeError:
            # A label of more than 63 letters, by the codec for names.
            self.failure = socket.gaierror(socket.EAI_NONAME, "this can be no name")
        finally:
            self.over.set()
