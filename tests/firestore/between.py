"""A proxy between a device and Firestore that loses, holds back or makes up the answers to chosen calls.

It also refuses tokens that have ended, which the emulator takes.
"""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import httpx

Made = tuple[int, bytes]
"""A status and a body."""

# What Firestore says to an ID token that is over.
UNAUTHENTICATED = (
    401,
    b'{"error":{"code":401,"message":"Missing or invalid authentication.","status":"UNAUTHENTICATED"}}',
)


class Between:
    """On a free port at `host`. `faults` are asked in turn, each once, for calls whose path ends with its verb."""

    def __init__(self, emulator: str) -> None:
        self._faults: list[tuple[str, Callable[[Callable[[], Made]], Made | None]]] = []
        self.asked: list[str] = []
        """The verbs that came, such as commit."""
        self.ended: set[str] = set()
        """Tokens that are refused."""
        self.tokens: list[str] = []
        """Those that came, one for each call."""
        between = self
        client = httpx.Client(base_url=f"http://{emulator}", timeout=60, trust_env=False)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sent = {
                    name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers
                }

                def carried() -> Made:
                    answer = client.post(self.path, content=body, headers=sent)
                    return answer.status_code, answer.content

                verb, token = self.path.rpartition(":")[2], sent.get("Authorization", "").removeprefix("Bearer ")
                said = between.answer(verb, carried, token=token)
                if said is None:
                    self.close_connection = True
                    return
                status, content = said
                self.send_response(status)
                self.send_header("Content-Type", "application/json" if content[:1] in b"{[" else "text/html")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *said: object) -> None:
                pass

        self._client = client
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def lose_answer(self, verb: str) -> None:
        """Firestore does the next one, and nobody hears of it."""
        self._faults.append((verb, lambda carried: (carried(), None)[1]))

    def hold_back(self, verb: str) -> Callable[[], Made]:
        """The next one is on its way for as long as one likes: the device hears nothing, calling sends it on."""
        held: list[Callable[[], Made]] = []
        self._faults.append((verb, held.append))

        def send_on() -> Made:
            return held[0]()

        return send_on

    def say(self, verb: str, status: int, content: bytes) -> None:
        """Answer the next one so, in Firestore's place."""
        self._faults.append((verb, lambda carried: (status, content)))

    def end_token(self, verb: str, token: str) -> None:
        """With the next call of this kind the token is over: that call and all later ones are refused it."""
        self._faults.append((verb, lambda carried: (self.ended.add(token), UNAUTHENTICATED)[1]))

    def answer(self, verb: str, carried: Callable[[], Made], *, token: str) -> Made | None:
        self.asked.append(verb)
        self.tokens.append(token)
        if token in self.ended:
            return UNAUTHENTICATED
        if self._faults and self._faults[0][0] == verb:
            _, fault = self._faults.pop(0)
            return fault(carried)
        return carried()

    def __enter__(self) -> "Between":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
        self._client.close()
