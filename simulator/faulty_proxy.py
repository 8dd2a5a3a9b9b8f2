"""A network between app and server that understands whole requests, and so can lose, repeat, keep and reorder them.

The app talks to a port of ours in real HTTP; what becomes of each request is a Fate that a script decides.
"""

import random
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from os import close as close_descriptor
from types import TracebackType

from syncengine.clock import Clock

WAIT_SECONDS_MAX = 10.0
SLOW_MS_MAX = 20
LATE_BY_REQUESTS_MAX = 8
# With a linger of 0 seconds close() sends RST, as a cable that is pulled out does.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
OF_ONE_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})
"""Headers that a proxy does not hand on (RFC 9110, section 7.6.1), and those that it writes anew."""


class Fate(Enum):
    """What becomes of a request."""

    PASSES = "passes"
    SLOW = "passes, some milliseconds late each way"
    REFUSED = "the connection is reset before anything reaches the server"
    ANSWER_LOST = "the server has done it, and the connection is reset before the answer"
    ANSWER_CUT = "the server has done it, and the connection ends within the answer's bytes"
    ANSWER_STALE = "the server has done it, and an earlier answer to the same call comes in place of the new one"
    TWICE = "passes, and a copy of it reaches the server later"
    HELD_BACK = "the connection is reset, and the request reaches the server later, behind newer ones"
    STOPPED = "nothing of it goes on, and nothing comes back, until the app is gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """As it came. `call` is the last part of its path: hello, push, pull."""

    call: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """As the server gave it."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def as_bytes(self) -> bytes:
        """For the wire; each connection carries one answer."""
        head = [f"HTTP/1.1 {self.status} Answered", f"Content-Length: {len(self.body)}", "Connection: close"]
        head += [f"{name}: {value}" for name, value in self.headers if name.lower() not in OF_ONE_CONNECTION]
        return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + self.body


@dataclass(slots=True, kw_only=True)
class LateRequest:
    """A request on its long way: it arrives behind so many others; None: when it is told to."""

    request: Request
    behind: int | None


Script = Callable[[Request], Fate]


def always(fate: Fate) -> Script:
    """The same for every request."""
    return lambda request: fate


class Planned:
    """A script: these fates for the next requests of one call, then PASSES. All others pass."""

    def __init__(self, call: str, fates: Iterable[Fate]) -> None:
        self._call = call
        self._left = deque(fates)

    @property
    def is_over(self) -> bool:
        """Whether each fate has met its request."""
        return not self._left

    def __call__(self, request: Request) -> Fate:
        return self._left.popleft() if self._left and request.call == self._call else Fate.PASSES


class Seeded:
    """A script by chance: a share of all requests meets one of these fates."""

    def __init__(self, chance: random.Random, *, share: float, fates: Iterable[Fate]) -> None:
        self._chance = chance
        self._share = share
        self._fates = tuple(fates)

    def __call__(self, request: Request) -> Fate:
        return self._chance.choice(self._fates) if self._chance.random() < self._share else Fate.PASSES


class FaultyProxy:
    """Listens from its construction on. `url` is for the app; `server_url` may change when the server moves.

    `script` may be replaced at any time. `met` counts what has become of requests, by call and fate. What arrived
    late is in `late_answers`. Use it in a `with` block.
    """

    def __init__(self, server_url: str, *, clock: Clock, chance: random.Random | None = None) -> None:
        self.server_url = server_url
        self.script: Script = always(Fate.PASSES)
        self.met: Counter[tuple[str, Fate]] = Counter()
        self.late_answers: list[tuple[Request, Answer]] = []
        self._clock = clock
        self._chance = chance
        self._lock = threading.Lock()
        self._late: list[LateRequest] = []
        self._earlier: dict[str, Answer] = {}
        self._stopped = threading.Event()
        self._go_on = threading.Event()
        self._listener = _Listener(self)
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._listener.server_address[1]}"

    def wait_until_stopped(self) -> bool:
        """Whether a request that is STOPPED has come, in bounded time."""
        return self._stopped.wait(WAIT_SECONDS_MAX)

    def deliver_late(self) -> None:
        """What is still on its way arrives now, in the order in which it was sent."""
        with self._lock:
            due, self._late = self._late, []
        self._deliver(due)

    def close(self) -> None:
        """End what is stopped and give the port back; what is on its way is lost."""
        self._go_on.set()
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join(WAIT_SECONDS_MAX)

    def __enter__(self) -> "FaultyProxy":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # On the thread of one connection.

    def carry(self, request: Request) -> tuple[bytes, bool]:
        """What the app gets to read, and whether the connection is reset behind it."""
        with self._lock:
            fate = self.script(request)
            self.met[request.call, fate] += 1
        if fate is Fate.STOPPED:
            self._stopped.set()
            self._go_on.wait()
            return b"", True
        if fate is Fate.REFUSED:
            return b"", True
        if fate is Fate.HELD_BACK:
            self._keep_for_later(request)
            return b"", True
        if fate is Fate.SLOW:
            self._dawdle()
        return self._exchanged(request, fate)

    def _exchanged(self, request: Request, fate: Fate) -> tuple[bytes, bool]:
        answer = self._ask_server(request)
        if answer is None:
            return b"", True
        if fate is Fate.TWICE:
            self._keep_for_later(request)
        with self._lock:
            earlier = self._earlier.get(request.call)
            self._earlier[request.call] = answer
        self._deliver(self._due())
        if fate is Fate.SLOW:
            self._dawdle()
        if fate is Fate.ANSWER_STALE and earlier is not None:
            return earlier.as_bytes(), False
        if fate in (Fate.ANSWER_LOST, Fate.ANSWER_STALE):
            return b"", True
        text = answer.as_bytes()
        return (text[: self._cut_at(text)] if fate is Fate.ANSWER_CUT else text), False

    def _ask_server(self, request: Request) -> Answer | None:
        """None when there is no server, or it died over it."""
        host, port = self.server_url.removeprefix("http://").rsplit(":", 1)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in OF_ONE_CONNECTION}
        connection = HTTPConnection(host, int(port), timeout=WAIT_SECONDS_MAX)
        try:
            connection.request(request.method, request.path, body=request.body or None, headers=headers)
            said = connection.getresponse()
            return Answer(status=said.status, headers=tuple(said.getheaders()), body=said.read())
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()

    def _keep_for_later(self, request: Request) -> None:
        with self._lock:
            behind = self._chance and 1 + self._chance.randrange(LATE_BY_REQUESTS_MAX)
            self._late.append(LateRequest(request=request, behind=behind or None))

    def _due(self) -> list[LateRequest]:
        """What has let enough others pass by now."""
        with self._lock:
            for late in self._late:
                late.behind = late.behind and late.behind - 1
            due = [late for late in self._late if late.behind == 0]
            self._late = [late for late in self._late if late.behind != 0]
            return due

    def _deliver(self, due: Iterable[LateRequest]) -> None:
        for late in due:
            answer = self._ask_server(late.request)
            if answer is not None:
                self.late_answers.append((late.request, answer))

    def _dawdle(self) -> None:
        self._clock.pause(SLOW_MS_MAX if self._chance is None else self._drawn(SLOW_MS_MAX))

    def _cut_at(self, text: bytes) -> int:
        """Within its body where nothing else is drawn."""
        return len(text) - 10 if self._chance is None else self._drawn(len(text))

    def _drawn(self, below: int) -> int:
        assert self._chance is not None
        with self._lock:
            return self._chance.randrange(below)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: FaultyProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """An app that is killed leaves connections behind."""


class _Connection(BaseHTTPRequestHandler):
    """One request of the app and what comes back."""

    protocol_version = "HTTP/1.1"
    server: _Listener

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(
            call=self.path.partition("?")[0].rpartition("/")[2],
            method=self.command,
            path=self.path,
            headers=dict(self.headers.items()),
            body=body,
        )
        text, is_reset = self.server.proxy.carry(request)
        with suppress(OSError):
            self.wfile.write(text)
        if is_reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            close_descriptor(self.connection.detach())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name that the base class gives)
        """What it does is counted, not written."""
