"""A server that speaks TCP by hand, so that it can be as slow, wrong or hostile as a test wants."""

import contextlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable

JSON_HEAD = b"Content-Type: application/json\r\nSyncengine-Protocol: 1\r\nSyncengine-User: ann\r\n"

Talk = Callable[[socket.socket, bytes], None]


class HostileServer:
    """Accepts connections, reads one request's head, and lets `talk` do what it wants with the socket."""

    def __init__(self, talk: Talk, *, tls: ssl.SSLContext | None = None) -> None:
        self._talk = talk
        self._tls = tls
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            talking = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            with talking:
                talking.settimeout(10)
                request = b""
                while b"\r\n\r\n" not in request:
                    request += talking.recv(65_536) or b"\r\n\r\n"
                length = int((re.findall(rb"(?i)content-length: (\d+)", request) or [0])[0])
                while len(request.partition(b"\r\n\r\n")[2]) < length:
                    if not (more := talking.recv(65_536)):
                        return
                    request += more
                self.requests.append(request)
                self._talk(talking, request)

    def close(self) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def answering(body: bytes, *, status: str = "200 OK", head: bytes = JSON_HEAD) -> Talk:
    def talk(connection: socket.socket, request: bytes) -> None:
        head_lines = (
            f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n".encode() + head + b"\r\n"
        )
        connection.sendall(head_lines + body)

    return talk


def hello_answer(request: bytes, **changes: object) -> dict[str, object]:
    asked = json.loads(request.partition(b"\r\n\r\n")[2])
    return {
        "protocol": 1,
        "request_id": asked["request_id"],
        "server_time": "2025-07-21T15:30:00.000Z",
        "server_epoch": 1,
        "device_seq": 7,
        "cloud_version": None,
        "action": "ok",
        "limits": {"entries_max": 500, "bytes_max": 1_000_000},
        **changes,
    }


class Turning:
    """A way to answer that can be exchanged."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk

    def __call__(self, connection: socket.socket, request: bytes) -> None:
        self.talk(connection, request)
