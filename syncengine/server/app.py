"""Protocol 1 over HTTP: authenticate, read with limits, hand to the Cloud, answer. No rule is decided here."""

import gzip
from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from syncengine.clock import Clock, SystemClock
from syncengine.errors import (
    AuthRequired,
    BatchRefused,
    CursorGone,
    QuotaExceeded,
    SequenceGap,
    StoreSuperseded,
    SyncEngineError,
)
from syncengine.remote.json_text import write_json
from syncengine.remote.wire import (
    NAME_LENGTH_MAX,
    PROTOCOL,
    PROTOCOL_HEADER,
    USER_HEADER,
    WRONG_USER,
    ErrorAnswer,
    GoneReason,
    HelloRequest,
    PullRequest,
    Refusal,
    RowsRequest,
    WireModel,
    lean,
    user_mark,
)
from syncengine.server.body_room import BodyRoom
from syncengine.server.cloud import Cloud
from syncengine.server.metrics import Counted, Metrics
from syncengine.server.openapi import openapi_text, page_html
from syncengine.server.push_reading import read_push
from syncengine.server.quota import RETRY_AFTER_MS
from syncengine.server.request_body import RequestRefused, parse_body, query_of, read_body, unpacked, validated
from syncengine.server.sign_in import KeysUnavailable, SignIn
from syncengine.server.storage import DatabaseBusy, DatabaseUnavailable
from syncengine.vocabulary import UserId

PACKED_BYTES_MIN = 1_024
_GZIP_LEVEL = 1
_HEADERS_OF_STATUS = {
    401: {"WWW-Authenticate": "Bearer"},  # RFC 9110, section 15.5.2, asks for it
    503: {"Retry-After": "10"},
}
_BUSY_RETRY_AFTER_S = 5
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def create_app(
    cloud: Cloud,
    *,
    sign_in: SignIn | None = None,
    metrics: Metrics | None = None,
    clock: Clock | None = None,
    room: BodyRoom | None = None,
) -> FastAPI:
    """The cloud as an ASGI app. The caller closes the cloud after the app has stopped.

    `sign_in` says whose a token is; without it, the cloud's own device tokens. `metrics` counts the requests;
    `room` bounds how much of them is in memory at once.
    """
    user_of = sign_in or cloud.user_of
    metrics = metrics or Metrics()
    room = room or BodyRoom()
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Counted, metrics=metrics, clock=clock or SystemClock())
    _answer_errors_by_the_protocol(app, metrics)

    @app.get("/v1/health")
    async def health(request: Request) -> Response:
        nonce = _query(request).get("nonce", "")
        if not 0 < len(nonce) <= NAME_LENGTH_MAX or "\0" in nonce:
            raise RequestRefused(
                400, code="malformed", message="Give a nonce of 1 to 128 characters, none of them NUL."
            )
        return _answer(cloud.health(nonce))

    def answer_hello(user: UserId, body: bytes) -> bytes:
        asked, _ = parse_body(body, model=HelloRequest)
        return write_json(lean(cloud.hello(user, asked)))

    def answer_push(user: UserId, body: bytes) -> bytes:
        return cloud.push_text(user, read_push(body))

    @app.post("/v1/hello")
    async def hello(request: Request) -> Response:
        return await _answer_post(request, cloud=cloud, user_of=user_of, work=answer_hello, room=room)

    @app.post("/v1/push")
    async def push(request: Request) -> Response:
        return await _answer_post(request, cloud=cloud, user_of=user_of, work=answer_push, room=room)

    @app.get("/v1/rows")
    async def rows(request: Request) -> Response:
        user = await _signed_in(request, user_of=user_of)
        asked = _rows_request(request)
        return await run_in_threadpool(lambda: _answer(cloud.rows(user, asked), request=request, user=user))

    @app.get("/v1/openapi.json")
    async def openapi_json() -> Response:
        return _text_answer(openapi_text())

    @app.get("/")
    async def page() -> Response:
        return Response(
            page_html(), media_type="text/html", headers={**_marked(), "Content-Security-Policy": _POLICY}
        )

    @app.get("/v1/pull")
    async def pull(request: Request) -> Response:
        user = await _signed_in(request, user_of=user_of)
        asked = _pull_request(request)
        return await run_in_threadpool(lambda: _text_answer(cloud.pull_text(user, asked), request=request, user=user))

    return app


async def _answer_post(
    request: Request, *, cloud: Cloud, user_of: SignIn, work: Callable[[UserId, bytes], bytes], room: BodyRoom
) -> Response:
    user = await _signed_in(request, user_of=user_of)
    bytes_max = cloud.limits.body_bytes_max
    encoding = request.headers.get("Content-Encoding", "")
    with room.share(user) as share:
        raw = await read_body(request, bytes_max=bytes_max, room=share)

        def answered() -> Response:
            body = unpacked(raw, encoding=encoding, bytes_max=bytes_max)
            if body is not raw:
                share.take(len(body))
            return _text_answer(work(user, body), request=request, user=user)

        # Unpacking, parsing, storing and writing JSON all leave the event loop free for others.
        return await run_in_threadpool(answered)


async def _signed_in(request: Request, *, user_of: SignIn) -> UserId:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    try:
        user = await run_in_threadpool(user_of, token) if scheme.lower() == "bearer" else None
    except KeysUnavailable as error:
        raise RequestRefused(503, code="sign_in_unavailable", message="Tokens cannot be judged now.") from error
    if user is None:
        raise RequestRefused(401, code="unauthorized", message="The token is missing, has ended or is unknown.")
    return user


def _query(request: Request) -> dict[str, str]:
    return query_of(request.scope["query_string"])


def _rows_request(request: Request) -> RowsRequest:
    asked = _query(request)
    return validated(
        {
            "request_id": asked.get("request_id", ""),
            "user": asked.get("user", ""),
            "collection": asked.get("collection", ""),
            "after": asked.get("after"),
            "limit": _limit(asked.get("limit", "100")),
        },
        model=RowsRequest,
    )


def _pull_request(request: Request) -> PullRequest:
    asked = _query(request)
    return validated(
        {
            "request_id": asked.get("request_id", ""),
            "user": asked.get("user", ""),
            "device": asked.get("device", ""),
            "cursor": asked.get("cursor"),
            "limit": _limit(asked.get("limit", "1000")),
        },
        model=PullRequest,
    )


def _limit(digits: str) -> int | None:
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 4 else None


def _answer(
    body: WireModel, *, status: int = 200, request: Request | None = None, user: UserId | None = None
) -> Response:
    return _text_answer(write_json(lean(body)), status=status, request=request, user=user)


def _text_answer(
    text: bytes, *, status: int = 200, request: Request | None = None, user: UserId | None = None
) -> Response:
    headers = _marked() if user is None else {**_marked(), USER_HEADER: user_mark(user)}
    if request is not None and len(text) > PACKED_BYTES_MIN and _takes_gzip(request):
        text = gzip.compress(text, _GZIP_LEVEL, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(content=text, status_code=status, media_type="application/json", headers=headers)


def _marked() -> dict[str, str]:
    return {PROTOCOL_HEADER: str(PROTOCOL), "Cache-Control": "no-store"}


def _takes_gzip(request: Request) -> bool:
    """A coding with a weight counts as not taken: our clients give none (RFC 9110, section 12.5.3)."""
    codings = request.headers.get("Accept-Encoding", "").split(",")
    return "gzip" in (each.strip().lower() for each in codings)


def _refusal(
    status: int, *, code: str, message: str, expected: int | None = None, reason: GoneReason | None = None
) -> Response:
    refusal = Refusal(code=code, message=message, expected=expected, reason=reason)
    return _answer(ErrorAnswer(error=refusal), status=status)


def _answer_errors_by_the_protocol(app: FastAPI, metrics: Metrics) -> None:
    """Every status other than 200 has an ErrorAnswer and the protocol's header."""

    async def answer_nobody(_: Request, __: Exception) -> Response:
        """Who has hung up before the body was whole hears nothing, and nothing has failed."""
        return Response(status_code=400)

    app.add_exception_handler(ClientDisconnect, answer_nobody)

    async def answer_error(_: Request, error: Exception) -> Response:
        metrics.refused(_code_of(error))
        return _answer_to_error(error)

    for kind in (
        RequestRefused,
        AuthRequired,
        SequenceGap,
        CursorGone,
        BatchRefused,
        QuotaExceeded,
        StoreSuperseded,
        DatabaseUnavailable,
        HTTPException,
        Exception,
    ):
        app.add_exception_handler(kind, answer_error)


def _code_of(error: Exception) -> str:
    match error:
        case RequestRefused():
            return error.code
        case AuthRequired():
            return WRONG_USER
        case SyncEngineError():
            return error.code()
        case DatabaseBusy():
            return "busy"
        case DatabaseUnavailable():
            return "database_unavailable"
        case HTTPException():
            return "no_such_call"
        case _:
            return "server_failed"


def _answer_to_error(error: Exception) -> Response:
    code = _code_of(error)
    match error:
        case RequestRefused():
            answer = _refusal(error.status, code=code, message=error.message)
            answer.headers.update(_HEADERS_OF_STATUS.get(error.status, {}))
            if error.retry_after_s is not None:
                answer.headers["Retry-After"] = str(error.retry_after_s)
            return answer
        case AuthRequired():
            return _refusal(403, code=code, message=error.what)
        case SequenceGap():
            return _refusal(409, code=code, message=error.what, expected=error.expected)
        case CursorGone():
            return _refusal(
                410,
                code=code,
                message=error.what,
                reason="below_floor" if error.reason == "below_floor" else "other_epoch",
            )
        case DatabaseUnavailable():
            answer = _refusal(503, code=code, message=error.what)
            answer.headers.update(_HEADERS_OF_STATUS[503])
            if isinstance(error, DatabaseBusy):
                answer.headers["Retry-After"] = str(_BUSY_RETRY_AFTER_S)
            return answer
        case StoreSuperseded():
            answer = _refusal(503, code=code, message="This server has to be started anew as the newer one.")
            answer.headers.update(_HEADERS_OF_STATUS[503])
            return answer
        case BatchRefused():
            return _refusal(error.status, code=code, message=error.what)
        case QuotaExceeded():
            answer = _refusal(507, code=code, message=error.what)
            answer.headers["Retry-After"] = str(RETRY_AFTER_MS // 1000)
            return answer
        case HTTPException():
            answer = _refusal(error.status_code, code=code, message="Protocol 1 has no such call.")
            # Of 405: which methods there are (RFC 9110, section 15.5.6).
            answer.headers.update(error.headers or {})
            return answer
        case _:
            return _refusal(500, code=code, message="The server failed; nothing was changed.")
