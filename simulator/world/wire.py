"""The wire lane: requests as HTTP, by the shipped adapter, to the shipped server's own handlers; no socket between.

What becomes of a call was drawn before, so the transport knows what it has to do: carry it, or be whoever answers in
the cloud's place.
"""

import asyncio
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

import httpx

from simulator.world.network import BROKEN, GARBLED, LIMITED, REST_MS, STRANGER
from syncengine import Settings
from syncengine.clock import Clock
from syncengine.errors import BackendUnreachable
from syncengine.remote.http_backend import HttpBackend
from syncengine.remote.wire import PROTOCOL, PROTOCOL_HEADER, USER_HEADER, user_mark
from syncengine.server.app import create_app

if TYPE_CHECKING:
    from simulator.world.cloud import WorldCloud

ADDRESS = "http://127.0.0.1:1"
"""Nothing is connected: plain HTTP is for this machine only."""
LOGIN_PAGE = b"<html><title>Welcome to the hotel</title><form>room</form></html>"
OURS = {"Content-Type": "application/json", PROTOCOL_HEADER: f"{PROTOCOL}"}
Message = MutableMapping[str, Any]


class Wire:
    """The server's handlers, and a loop to run them in, one request at a time."""

    def __init__(self, cloud: "WorldCloud") -> None:
        self._cloud = cloud
        self._runner = asyncio.Runner()
        self._asked: asyncio.Queue[tuple[httpx.Request, asyncio.Future[httpx.Response]]] = asyncio.Queue()
        # One task for all requests: the thread that the handlers run in belongs to it, and is started once.
        self._serving = self._runner.get_loop().create_task(self._serve())
        self._backends: dict[tuple[str, Clock], HttpBackend] = {}
        self._fate = self._user = ""
        self._app = self._handlers()
        self._app_of = cloud.cloud

    def _handlers(self) -> Any:
        self._requests = self._cloud.requests
        door = self._cloud.cloud.user_of
        return create_app(self._cloud.cloud, sign_in=self._requests.sign_in(door) if self._requests else door)

    def close(self) -> None:
        for backend in self._backends.values():
            backend.close()
        self._runner.close()

    async def _serve(self) -> None:
        while True:
            request, answer = await self._asked.get()
            try:
                answer.set_result(await _Exchange(request).through(self._app))
            except Exception as error:  # noqa: BLE001 - raised where it was asked
                answer.set_exception(error)

    def backend(self, user: str, *, settings: Settings, clock: Clock, fate: str = "") -> HttpBackend:
        """The adapter of one user on one machine, for one call. `fate`: who answers it in the cloud's place; empty:
        the cloud."""
        self._fate, self._user = fate, user
        if (user, clock) not in self._backends:
            self._backends[user, clock] = HttpBackend(
                ADDRESS,
                token=lambda: f"a-token-of-{user}",
                settings=settings,
                clock=clock,
                transport=_Transport(self._answered),
            )
        return self._backends[user, clock]

    def _answered(self, request: httpx.Request) -> httpx.Response:
        return _answer_in_its_place(self._fate, user=self._user) if self._fate else self.ask(request)

    def ask(self, request: httpx.Request) -> httpx.Response:
        """One request to the handlers, whole, and its answer."""
        if self._app_of is not self._cloud.cloud or self._requests is not self._cloud.requests:
            self._app, self._app_of = self._handlers(), self._cloud.cloud
        answering = self._runner.get_loop().create_future()
        self._asked.put_nowait((request, answering))
        answer: httpx.Response = self._runner.get_loop().run_until_complete(answering)
        try:
            self._cloud.power()
        except BackendUnreachable as lost:
            raise httpx.ReadError("the server is gone") from lost
        return answer


class _Transport(httpx.BaseTransport):
    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self._answer = answer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return self._answer(request)


def _answer_in_its_place(fate: str, *, user: str) -> httpx.Response:
    """As whoever stands in between: nobody, a broken or busy cloud, a login page, or what is left of an answer."""
    match fate:
        case _ if fate == BROKEN:
            return httpx.Response(503, stream=_Bytes(b"no server is available"))
        case _ if fate == LIMITED:
            return httpx.Response(429, headers={**OURS, "Retry-After": f"{REST_MS // 1_000}"}, stream=_Bytes(b""))
        case _ if fate == STRANGER:
            return httpx.Response(200, headers={"Content-Type": "text/html"}, stream=_Bytes(LOGIN_PAGE))
        case _ if fate == GARBLED:
            headers = {**OURS, USER_HEADER: user_mark(user)}
            return httpx.Response(200, headers=headers, stream=_Bytes(b'{"protocol": 1, "request_id": "'))
        case _:
            raise httpx.ReadTimeout("no answer came")


class _Bytes(httpx.SyncByteStream):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> Any:
        yield self._data


class _Exchange:
    """One request by ASGI (asgi.readthedocs.io, HTTP connection scope)."""

    def __init__(self, request: httpx.Request) -> None:
        self._request = request
        self._status = 500
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""

    async def through(self, app: Callable[..., Any]) -> httpx.Response:
        try:
            await app(self._scope(), self._receive, self._send)
        except Exception:  # noqa: BLE001 - the handlers have answered 500, and tell their own server why
            assert self._status == 500
        return httpx.Response(self._status, headers=self._headers, stream=_Bytes(self._body))

    def _scope(self) -> Message:
        url = self._request.url
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self._request.method,
            "scheme": "http",
            "path": url.path,
            "raw_path": url.raw_path.partition(b"?")[0],
            "query_string": url.query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in self._request.headers.raw],
            "client": ("127.0.0.1", 2),
            "server": ("127.0.0.1", 1),
        }

    async def _receive(self) -> Message:
        return {"type": "http.request", "body": self._request.content, "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], list(message["headers"])
        else:
            self._body += message.get("body", b"")
