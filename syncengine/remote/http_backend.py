"""The cloud over HTTP/1.1: every call bounded in bytes, depth and total time, every failure one of our errors."""

import logging
import ssl
from collections.abc import Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TypeVar

import httpcore
import httpx

from syncengine.clock import Clock
from syncengine.errors import (
    AuthRequired,
    BatchRefused,
)
from syncengine.logs import install_redaction
from syncengine.remote.address import checked_address, checked_trust, is_this_machine, proxy_for
from syncengine.remote.bandwidth import Bandwidth
from syncengine.remote.bounded_network import BoundedNetwork, BoundedTransport, Deadlines
from syncengine.remote.encoded_push import AllApplied, EncodedPush, all_applied
from syncengine.remote.http_answer import (
    FORBIDDEN,
    UNAUTHORIZED,
    Answer,
    answer_of_body,
    failure_by_head,
    not_echoed,
    unpacked,
    violation,
)
from syncengine.remote.json_text import JsonRefused, write_json
from syncengine.remote.lost_call import closed, no_answer
from syncengine.remote.name_lookup import NameLookup
from syncengine.remote.plain_page import PlainPage, plain_page
from syncengine.remote.tokens import Tokens
from syncengine.remote.wire import (
    PROTOCOL,
    PROTOCOL_HEADER,
    USER_HEADER,
    AnswerModel,
    HealthAnswer,
    HelloAnswer,
    HelloRequest,
    PullAnswer,
    PullRequest,
    PushAnswer,
    PushRequest,
    RequestModel,
    RowsAnswer,
    RowsRequest,
    check_pull_answer,
    check_push_answer,
    check_results,
    check_rows_answer,
    lean,
    user_mark,
)
from syncengine.settings import Settings

_HEADERS = {
    "Accept": "application/json",
    "User-Agent": "syncengine",
    PROTOCOL_HEADER: str(PROTOCOL),
}

# httpx's own errors, and those of the layer below, which our transport lets through.
_TRANSPORT_FAILURES = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    httpcore.ConnectionNotAvailable,
    OSError,
)

Echoed = TypeVar("Echoed", bound=AnswerModel)


class HttpBackend:
    """A Backend at an address. `token` is asked at each call and never kept; empty or None: AuthRequired. Where the
    cloud refuses one, another is asked for, once (see RefreshableToken).

    `tls` is a host's own trust, such as a private certificate authority; without it the public ones count.
    Plain http is for this machine only, unless `allow_plain_http`. `transport` carries requests in place of our own
    sockets, for a test or a simulation. Raises BackendAddressRefused, TlsTooWeak,
    TokenInvalid.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Callable[[], str | None],
        settings: Settings,
        clock: Clock,
        tls: ssl.SSLContext | None = None,
        allow_plain_http: bool = False,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._base = checked_address(url, allow_plain_http=allow_plain_http)
        self._tokens = Tokens(token, clock=clock, refused_wait_ms=settings.refused_token_wait_ms)
        self._settings = settings
        self._clock = clock
        self._closed = False
        # Packing costs more than it saves where nothing leaves the machine.
        is_near = is_this_machine(self._base.host)
        self._takes_gzip = settings.compress == "always" or (settings.compress == "auto" and not is_near)
        self._deadlines = Deadlines(clock=clock)
        self._network = BoundedNetwork(
            self._deadlines,
            names=NameLookup(clock),
            up=Bandwidth(settings.upload_bytes_per_s_max, clock=clock),
            down=Bandwidth(settings.download_bytes_per_s_max, clock=clock),
        )
        trust = checked_trust(tls) if self._base.scheme == "https" else None
        proxy = proxy_for(self._base) if settings.proxy == "environment" else None
        install_redaction()
        self._silence = _OwnRequestsUnlogged(str(self._base))
        logging.getLogger("httpx").addFilter(self._silence)
        self._client = httpx.Client(
            transport=transport or BoundedTransport(self._network, tls=trust, proxy=proxy),
            headers={**_HEADERS, "Accept-Encoding": "gzip" if self._takes_gzip else "identity"},
            # A jar that takes cookies from no domain.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
            trust_env=False,
        )

    def __repr__(self) -> str:
        return f"HttpBackend({str(self._base)!r})"

    def hello(self, request: HelloRequest) -> HelloAnswer:
        return self._post("hello", request, model=HelloAnswer)

    def push(self, request: PushRequest) -> PushAnswer:
        answer = self._post("push", request, model=PushAnswer)
        check_push_answer(request, answer)
        return answer

    def push_encoded(self, push: EncodedPush) -> PushAnswer | AllApplied:
        """The same for entries that are JSON already."""
        headers = {"Content-Type": "application/json"}
        if push.compress:
            headers["Content-Encoding"] = "gzip"
        sent = self._client.build_request("POST", self._address("push"), content=push.body(), headers=headers)
        status, raw = self._answered(sent, user=push.user)
        return (all_applied(raw, push) if status == 200 else None) or self._judged_push(status, raw, push)

    def _judged_push(self, status: int, raw: bytes, push: EncodedPush) -> PushAnswer:
        answer = answer_of_body(status, raw, model=PushAnswer, depth_max=self._settings.answer_depth_max)
        if answer.request_id != push.request_id:
            raise not_echoed("request id")
        check_results(push.sequences, answer)
        return answer

    def pull(self, request: PullRequest) -> PullAnswer:
        return self._judged_pull(request, *self._pulled(request))

    def pull_plain(self, request: PullRequest) -> PullAnswer | PlainPage:
        """The same, without a model of each row where it can be."""
        status, raw = self._pulled(request)
        page = plain_page(raw, request, depth_max=self._settings.answer_depth_max) if status == 200 else None
        return page or self._judged_pull(request, status, raw)

    def _judged_pull(self, request: PullRequest, status: int, raw: bytes) -> PullAnswer:
        answer = answer_of_body(status, raw, model=PullAnswer, depth_max=self._settings.answer_depth_max)
        check_pull_answer(request, _echoed(request, answer))
        return answer

    def _pulled(self, request: PullRequest) -> tuple[int, bytes]:
        asked = {
            "request_id": request.request_id,
            "user": request.user,
            "device": request.device,
            "limit": str(request.limit),
        }
        if request.cursor is not None:
            asked["cursor"] = request.cursor
        asking = self._client.build_request("GET", self._address("pull"), params=asked)
        return self._answered(asking, user=request.user)

    def rows(self, request: RowsRequest) -> RowsAnswer:
        asked = {
            "request_id": request.request_id,
            "user": request.user,
            "collection": request.collection,
            "limit": str(request.limit),
        }
        if request.after is not None:
            asked["after"] = request.after
        answer = self._call(
            self._client.build_request("GET", self._address("rows"), params=asked),
            model=RowsAnswer,
            user=request.user,
        )
        check_rows_answer(request, _echoed(request, answer))
        return answer

    def health(self, nonce: str) -> HealthAnswer:
        """Sent without a token, and with the probe's shorter deadlines."""
        answer = self._call(
            self._client.build_request("GET", self._address("health"), params={"nonce": nonce}),
            model=HealthAnswer,
            connect_wait_ms_max=self._settings.probe_connect_wait_ms_max,
            wait_ms_max=self._settings.probe_wait_ms_max,
        )
        if answer.nonce != nonce:
            raise not_echoed("nonce")
        return answer

    def refused_token_wait_ms(self) -> int | None:
        """How long a call with the present token would be refused again; see RemembersRefusals."""
        return self._tokens.refused_wait_ms()

    def close(self) -> None:
        self._closed = True
        self._network.cut()
        self._client.close()
        logging.getLogger("httpx").removeFilter(self._silence)

    def _post(self, path: str, request: RequestModel, *, model: type[Echoed]) -> Echoed:
        headers = {"Content-Type": "application/json"}
        sent = self._client.build_request("POST", self._address(path), content=_encoded(request), headers=headers)
        return _echoed(request, self._call(sent, model=model, user=request.user))

    def _call(
        self,
        request: httpx.Request,
        *,
        model: type[Answer],
        user: str | None = None,
        connect_wait_ms_max: int | None = None,
        wait_ms_max: int | None = None,
    ) -> Answer:
        status, raw = self._answered(
            request, user=user, connect_wait_ms_max=connect_wait_ms_max, wait_ms_max=wait_ms_max
        )
        return answer_of_body(status, raw, model=model, depth_max=self._settings.answer_depth_max)

    def _answered(
        self,
        request: httpx.Request,
        *,
        user: str | None = None,
        connect_wait_ms_max: int | None = None,
        wait_ms_max: int | None = None,
    ) -> tuple[int, bytes]:
        """Status and body. `user`: whom the request is signed for, and whose the answer has to be."""
        waits = (connect_wait_ms_max, wait_ms_max)
        if user is None:
            return self._sent(request, user, waits)
        token = self._tokens.present()
        try:
            return self._signed(request, token, user, waits)
        except AuthRequired as error:
            # The token of another user is not mended by a new one of the same.
            other = self._tokens.instead_of(token) if error.status == UNAUTHORIZED else None
            if other is None:
                raise
        return self._signed(request, other, user, waits)

    def _signed(
        self, request: httpx.Request, token: str, user: str, waits: tuple[int | None, int | None]
    ) -> tuple[int, bytes]:
        request.headers["Authorization"] = f"Bearer {token}"
        try:
            answered = self._sent(request, user, waits)
        except AuthRequired:
            self._tokens.was_refused(token)
            raise
        if answered[0] == FORBIDDEN:
            self._tokens.was_refused(token)
        else:
            self._tokens.was_taken()
        return answered

    def _sent(
        self, request: httpx.Request, user: str | None, waits: tuple[int | None, int | None]
    ) -> tuple[int, bytes]:
        """One request within its deadlines."""
        connect_wait_ms_max, wait_ms_max = waits
        wait_ms = wait_ms_max or self._settings.request_wait_ms_max
        connect_ms = connect_wait_ms_max or self._settings.connect_wait_ms_max
        request.extensions["timeout"] = httpx.Timeout(wait_ms / 1000, connect=connect_ms / 1000).as_dict()
        try:
            with self._deadlines.within(wait_ms):
                return self._exchange(request, user=user)
        except _TRANSPORT_FAILURES as error:
            raise no_answer(error, address=self._origin()) from error
        except RuntimeError as error:
            # httpx: "Cannot send a request, as the client has been closed."
            if not self._closed:
                raise
            raise closed(error) from error

    def _exchange(self, request: httpx.Request, *, user: str | None) -> tuple[int, bytes]:
        """Send, and read no more than the head of what is no answer of ours."""
        answer = self._client.send(request, stream=True)
        try:
            failure = failure_by_head(
                answer.status_code,
                answer.headers,
                now_ms=self._clock.now_ms(),
                retry_after_ms_max=self._settings.retry_after_ms_max,
                takes_gzip=self._takes_gzip,
            )
            if failure:
                raise failure
            if user is not None and answer.status_code == 200 and answer.headers.get(USER_HEADER) != user_mark(user):
                raise not_echoed("user")
            raw = self._read_capped(answer)
            return answer.status_code, unpacked(raw, answer.headers, bytes_max=self._settings.answer_bytes_max)
        finally:
            answer.close()

    def _read_capped(self, answer: httpx.Response) -> bytes:
        raw = bytearray()
        for chunk in answer.iter_raw():
            raw += chunk
            if len(raw) > self._settings.answer_bytes_max:
                raise violation(f"the answer is larger than {self._settings.answer_bytes_max} bytes")
            if self._deadlines.is_over():
                raise httpcore.ReadTimeout("the request's deadline is over")
        return bytes(raw)

    def _origin(self) -> str:
        """Scheme, host and port: a path may be private."""
        return f"{self._base.scheme}://{self._base.netloc.decode()}"

    def _address(self, path: str) -> httpx.URL:
        return self._base.copy_with(path=f"{self._base.path.rstrip('/')}/v1/{path}")


class _OwnRequestsUnlogged(logging.Filter):
    """httpx logs each URL at INFO, and ours may hold the key of a row. Other users of httpx stay as they are."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self._base = base.rstrip("/") + "/v1/"

    def filter(self, record: logging.LogRecord) -> bool:
        parts = record.args if isinstance(record.args, tuple) else ()
        return not any(str(part).startswith(self._base) for part in parts)


def _encoded(request: RequestModel) -> bytes:
    try:
        return write_json(lean(request))
    except JsonRefused as error:
        raise BatchRefused(
            "The request cannot be written as JSON.",
            why=str(error),
            fix="Nothing was sent; the batch is halved to find the entry at fault.",
        ) from error


def _echoed(request: RequestModel, answer: Echoed) -> Echoed:
    if answer.request_id != request.request_id:
        raise not_echoed("request id")
    return answer
