"""Sockets that obey one deadline for a whole request, and that another thread can cut.

httpx bounds each read by itself: a server that sends one byte a second, headers included, would hold us for ever.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import httpcore
import httpx

from syncengine.clock import Clock
from syncengine.remote.bandwidth import Bandwidth
from syncengine.remote.name_lookup import NameLookup

CONNECTIONS_MAX = 4

# Shorter than any server keeps idle connections: we never write into one that is just being closed.
IDLE_CONNECTION_SECONDS_MAX = 4.0


class Deadlines:
    """The moment at which the request of the present thread must be over."""

    def __init__(self, *, clock: Clock) -> None:
        self.clock = clock
        self._of_thread = threading.local()

    @contextlib.contextmanager
    def within(self, wait_ms_max: int) -> Iterator[None]:
        """Everything that this thread does on the network in this block ends after so many milliseconds."""
        self._of_thread.at_ms = self.clock.monotonic_ms() + wait_ms_max
        try:
            yield
        finally:
            del self._of_thread.at_ms

    def put_off(self, wait_ms: int) -> None:
        """A wait that we chose ourselves, for the host's ceiling on bandwidth, is not the server's fault."""
        self._of_thread.at_ms += wait_ms

    def is_over(self) -> bool:
        return self._left_ms() <= 0

    def seconds_left(self, timeout: float | None) -> float:
        """What is left, at most `timeout`. Raises httpcore.ReadTimeout when nothing is."""
        left_ms = self._left_ms()
        if left_ms <= 0:
            raise httpcore.ReadTimeout("the request's deadline is over")
        return left_ms / 1000 if timeout is None else min(timeout, left_ms / 1000)

    def _left_ms(self) -> int:
        at_ms: int = self._of_thread.at_ms
        return at_ms - self.clock.monotonic_ms()


class BoundedNetwork(httpcore.NetworkBackend):
    """TCP and TLS by httpcore's own means, and the look-up of names, under `Deadlines`."""

    def __init__(self, deadlines: Deadlines, *, names: NameLookup, up: Bandwidth, down: Bandwidth) -> None:
        self.up = up
        self.down = down
        self._deadlines = deadlines
        self._names = names
        self._system = httpcore.SyncBackend()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._cut = threading.Event()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in self._addresses(host, port, timeout):
            seconds = self._deadlines.seconds_left(timeout)
            try:
                stream = self._system.connect_tcp(address, port, seconds, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return BoundedStream(stream, deadlines=self._deadlines, network=self)
        raise failure

    def _addresses(self, host: str, port: int, timeout: float | None) -> list[str]:
        wait_ms = int(self._deadlines.seconds_left(timeout) * 1000)
        try:
            return self._names.addresses(host, port, wait_ms_max=wait_ms)
        except OSError as error:
            raise httpcore.ConnectError("the name could not be looked up") from error

    def cut(self) -> None:
        """End all connections, now; reads and writes in other threads fail at once, new ones are refused."""
        with self._lock:
            self._cut.set()
            sockets = list(self._sockets)
        for each in sockets:
            # Closing would not wake a thread that waits in poll(); shutting down does.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(each, socket.SHUT_RDWR)

    def keep(self, connected: socket.socket) -> None:
        with self._lock:
            if not self._cut.is_set():
                self._sockets.add(connected)
                return
        connected.close()
        raise httpcore.ConnectError("the backend was closed")

    def rest(self, wait_ms: int) -> None:
        """Let the time of the host's ceiling pass, unless all is cut off meanwhile."""
        if wait_ms > 0:
            self._deadlines.put_off(wait_ms)
            self._deadlines.clock.wait(self._cut, wait_ms)

    def forget(self, connected: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(connected)


class BoundedStream(httpcore.NetworkStream):
    """One connection."""

    def __init__(self, stream: httpcore.NetworkStream, *, deadlines: Deadlines, network: BoundedNetwork) -> None:
        self._stream = stream
        self._deadlines = deadlines
        self._network = network
        self._socket: socket.socket = stream.get_extra_info("socket")
        network.keep(self._socket)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        down = self._network.down
        chunk = self._stream.read(min(max_bytes, down.piece_bytes_max or max_bytes), self._left(timeout))
        self._network.rest(down.spend(len(chunk)))
        return chunk

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        up = self._network.up
        size = up.piece_bytes_max or len(buffer) or 1
        for begin in range(0, len(buffer), size):
            piece = buffer[begin : begin + size]
            self._network.rest(up.spend(len(piece)))
            self._stream.write(piece, self._left(timeout))

    def _left(self, timeout: float | None) -> float:
        return self._deadlines.seconds_left(timeout)

    def close(self) -> None:
        self._network.forget(self._socket)
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        seconds = self._deadlines.seconds_left(timeout)
        self._network.forget(self._socket)
        sealed = self._stream.start_tls(ssl_context, server_hostname, seconds)
        return BoundedStream(sealed, deadlines=self._deadlines, network=self._network)

    def get_extra_info(self, info: str) -> Any:
        """As httpcore declares it: what it is depends on the name asked for."""
        return self._stream.get_extra_info(info)


class BoundedTransport(httpx.BaseTransport):
    """HTTP/1.1 over a BoundedNetwork, verified TLS, a proxy only where one is given."""

    def __init__(
        self, network: BoundedNetwork, *, tls: ssl.SSLContext | None, proxy: httpcore.Proxy | None = None
    ) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls,
            proxy=proxy,
            max_connections=CONNECTIONS_MAX,
            keepalive_expiry=IDLE_CONNECTION_SECONDS_MAX,
            http1=True,
            http2=False,
            network_backend=network,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_AnswerBytes(answer))

    def close(self) -> None:
        self._pool.close()


class _AnswerBytes(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()
