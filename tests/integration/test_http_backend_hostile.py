"""Whatever answers on the other end, a call ends in bounded time with the right error, or with a right answer."""

import contextlib
import errno
import gzip
import json
import logging
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncengine.clock import SystemClock
from syncengine.errors import (
    AuthRequired,
    BackendAddressRefused,
    BackendUnavailable,
    BackendUnreachable,
    BatchRefused,
    CursorGone,
    NotOurServer,
    ProtocolViolation,
    RateLimited,
    SequenceGap,
    SyncEngineError,
    TokenInvalid,
)
from syncengine.remote.connectivity_probe import says_no_route
from syncengine.remote.http_backend import HttpBackend
from syncengine.remote.wire import PushAnswer
from syncengine.settings import Settings
from tests.conformance.device_requests import hello, pull, push, put, rows
from tests.integration.hostile_server import JSON_HEAD, HostileServer, Talk, answering, hello_answer

SETTINGS = Settings(
    request_wait_ms_max=1_500, connect_wait_ms_max=500, answer_bytes_max=200_000, probe_wait_ms_max=800
)
BOUND_SECONDS = 4.0


@pytest.fixture
def against() -> Iterator[Callable[..., HttpBackend]]:
    """A backend against a server that talks like that; all is closed at the end."""
    with contextlib.ExitStack() as stack:

        def start(talk: Talk, *, settings: Settings = SETTINGS) -> HttpBackend:
            server = HostileServer(talk)
            stack.callback(server.close)
            backend = HttpBackend(server.url, token=lambda: "canary-token", clock=SystemClock(), settings=settings)
            stack.callback(backend.close)
            backend.hostile = server  # type: ignore[attr-defined] - for tests that look at what was sent
            return backend

        yield start


def honest(connection: socket.socket, request: bytes) -> None:
    answering(json.dumps(hello_answer(request)).encode())(connection, request)


def fails(backend: HttpBackend, error: type[SyncEngineError]) -> SyncEngineError:
    """The call fails with exactly this error, in bounded time, and says nothing secret."""
    begin = time.monotonic()
    with pytest.raises(SyncEngineError) as failed:
        backend.hello(hello())
    assert time.monotonic() - begin < BOUND_SECONDS
    assert type(failed.value) is error, failed.value
    assert "canary" not in str(failed.value)
    return failed.value


def test_an_honest_answer_is_taken(against: Callable[..., HttpBackend]) -> None:
    assert against(honest).hello(hello()).device_seq == 7


def drip_body(connection: socket.socket, request: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n" + JSON_HEAD + b"\r\n")
    for _ in range(100):
        connection.sendall(b" ")
        time.sleep(0.1)


def drip_head(connection: socket.socket, request: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(100):
        connection.sendall(b"x")
        time.sleep(0.1)


def endless_informational(connection: socket.socket, request: bytes) -> None:
    for _ in range(100):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.1)


def silent(connection: socket.socket, request: bytes) -> None:
    time.sleep(10)


def truncated(connection: socket.socket, request: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n" + JSON_HEAD + b'\r\n{"protocol":1')


def reset(connection: socket.socket, request: bytes) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def gibberish(connection: socket.socket, request: bytes) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


@pytest.mark.parametrize("talk", [drip_body, drip_head, endless_informational, silent, truncated, reset, gibberish])
def test_a_server_that_drips_stalls_or_cuts_is_unreachable_within_the_deadline(
    against: Callable[..., HttpBackend], talk: Talk
) -> None:
    fails(against(talk), BackendUnreachable)


def huge(connection: socket.socket, request: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + JSON_HEAD + b"\r\n")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    for _ in range(3_000):
        connection.sendall(chunk)


def test_an_answer_without_end_is_left_at_the_cap(against: Callable[..., HttpBackend]) -> None:
    assert "larger than 200000 bytes" in fails(against(huge), ProtocolViolation).why


HTML = b"<html>Welcome to the hotel. Please sign in.</html>"


@pytest.mark.parametrize(
    "talk",
    [
        pytest.param(answering(HTML, head=b"Content-Type: text/html\r\n"), id="login page"),
        pytest.param(
            answering(HTML, head=b"Content-Type: text/html\r\nSyncengine-Protocol: 1\r\n"), id="html with marker"
        ),
        pytest.param(answering(b"{}", head=b"Content-Type: application/json\r\n"), id="json without marker"),
        pytest.param(answering(b"", status="204 No Content", head=b""), id="no content"),
        pytest.param(
            answering(b"", status="302 Found", head=b"Location: http://127.0.0.1:1/login\r\n"), id="redirect"
        ),
        pytest.param(answering(HTML, status="401 Unauthorized", head=b""), id="a proxy's 401"),
        pytest.param(answering(HTML, status="413 Too Large", head=b""), id="a proxy's 413"),
        pytest.param(answering(HTML, status="511 Network Authentication Required", head=b""), id="511"),
        pytest.param(answering(b"x", head=JSON_HEAD + b"Content-Encoding: gzip\r\n"), id="compressed"),
        pytest.param(
            lambda connection, request: answering(json.dumps(hello_answer(request, request_id="another")).encode())(
                connection, request
            ),
            id="answer to another request",
        ),
    ],
)
def test_what_is_not_our_server_is_told_apart_and_nothing_of_it_is_used(
    against: Callable[..., HttpBackend], talk: Talk
) -> None:
    fails(against(talk), NotOurServer)


PACKED_HEAD = JSON_HEAD + b"Content-Encoding: gzip\r\n"
PACKING = Settings(**{**vars(SETTINGS), "compress": "always"})


def test_a_packed_answer_is_taken_where_it_was_asked_for(against: Callable[..., HttpBackend]) -> None:
    def packed(connection: socket.socket, request: bytes) -> None:
        assert b"accept-encoding: gzip\r\n" in request.lower()
        answering(gzip.compress(json.dumps(hello_answer(request)).encode()), head=PACKED_HEAD)(connection, request)

    assert against(packed, settings=PACKING).hello(hello()).device_seq == 7


def test_a_coding_that_was_not_asked_for_is_not_our_servers(against: Callable[..., HttpBackend]) -> None:
    brotli = answering(b"x", head=JSON_HEAD + b"Content-Encoding: br\r\n")
    fails(against(brotli, settings=PACKING), NotOurServer)


@pytest.mark.parametrize(
    ("pack", "why"),
    [
        pytest.param(lambda good: gzip.compress(good + b" " * 100_000_000, 1)[:150_000], "larger than", id="a bomb"),
        pytest.param(lambda good: gzip.compress(good)[:-4], "one whole gzip", id="cut off"),
        pytest.param(lambda good: gzip.compress(good) + b"canary", "one whole gzip", id="something behind it"),
        pytest.param(lambda good: good, "not the gzip", id="no gzip"),
    ],
)
def test_a_packed_answer_that_is_not_one_small_gzip_breaks_the_protocol(
    against: Callable[..., HttpBackend], pack: Callable[[bytes], bytes], why: str
) -> None:
    def talk(connection: socket.socket, request: bytes) -> None:
        body = pack(json.dumps(hello_answer(request)).encode())
        answering(body, head=PACKED_HEAD)(connection, request)

    assert why in fails(against(talk, settings=PACKING), ProtocolViolation).why


@pytest.mark.parametrize("reason", ["below_floor", "other_epoch"])
def test_a_cursor_that_is_gone_says_why(against: Callable[..., HttpBackend], reason: str) -> None:
    body = {"error": {"code": "cursor_gone", "message": "canary", "reason": reason}, "protocol": 1}
    gone = fails(against(answering(json.dumps(body).encode(), status="410 Gone")), CursorGone)
    assert gone.reason == reason  # type: ignore[attr-defined] - `fails` has looked at the class


@pytest.mark.parametrize("error", [{"code": "canary", "message": ""}, {"code": "cursor_gone", "message": ""}])
def test_a_410_that_does_not_say_why_breaks_the_protocol(against: Callable[..., HttpBackend], error: dict) -> None:
    body = json.dumps({"error": error, "protocol": 1}).encode()
    fails(against(answering(body, status="410 Gone")), ProtocolViolation)


def pull_answer(request: bytes, **changes: object) -> bytes:
    asked = dict(re.findall(rb"[?&](\w+)=([^& ]*)", request.partition(b"\r\n")[0]))
    item = {"collection": "c", "key": "k", "version": 2, "shape_version": "1", "body": {}}
    answer = {
        "protocol": 1,
        "request_id": asked[b"request_id"].decode(),
        "server_time": "2025-07-21T15:30:00.000Z",
        "server_epoch": 1,
        "items": [item],
        "cursor": "next",
        "more": False,
    }
    return json.dumps(answer | changes).encode()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"items": [], "more": True}, id="more behind an empty page"),
        pytest.param({"cursor": "here", "more": True}, id="more, but from the same place"),
        pytest.param({"cursor": ""}, id="no cursor"),
        pytest.param({"cursor": "x" * 513}, id="a cursor too long to be sent back"),
        pytest.param({"items": ["twice", "twice"]}, id="one row twice"),
        pytest.param({"items": ["later", "earlier"]}, id="rows out of order"),
    ],
)
def test_a_page_of_changes_that_cannot_be_read_on_from_is_refused_whole(
    against: Callable[..., HttpBackend], changes: dict
) -> None:
    rows = {
        "twice": {"collection": "c", "key": "k", "version": 2, "shape_version": "1", "body": {}},
        "later": {"collection": "c", "key": "l", "version": 5, "shape_version": "1", "body": {}},
        "earlier": {"collection": "c", "key": "e", "version": 4, "shape_version": "1", "body": None},
    }
    items = {"items": [rows[name] for name in changes["items"]]} if changes.get("items") else {}

    def talk(connection: socket.socket, request: bytes) -> None:
        answering(pull_answer(request, **(changes | items)))(connection, request)

    with pytest.raises(ProtocolViolation):
        against(talk).pull(pull("here"))


def changed(**changes: object) -> Talk:
    return lambda connection, request: answering(json.dumps(hello_answer(request, **changes)).encode())(
        connection, request
    )


@pytest.mark.parametrize(
    "talk",
    [
        pytest.param(answering(b"[" * 100_000), id="deep lists"),
        pytest.param(answering(b'{"a":' * 65 + b"1" + b"}" * 65), id="65 levels"),
        pytest.param(answering(b'{"device_seq": NaN}'), id="NaN"),
        pytest.param(answering(b'{"device_seq": -Infinity}'), id="Infinity"),
        pytest.param(answering(b'{"device_seq": 1e999}'), id="float overflow"),
        pytest.param(answering(b'{"protocol":1,"protocol":1}'), id="repeated name"),
        pytest.param(answering(b'{"device_seq": 9223372036854775808}'), id="65 bit"),
        pytest.param(answering(b'{"device_seq": ' + b"9" * 100_000 + b"}"), id="endless number"),
        pytest.param(answering(b'{"request_id": "\\ud800"}'), id="half a surrogate pair"),
        pytest.param(answering(b'{"request_id": "\xff"}'), id="no UTF-8"),
        pytest.param(answering(b""), id="empty"),
        pytest.param(answering(b"{} {}"), id="two values"),
        pytest.param(answering(b"[]"), id="a list"),
        pytest.param(changed(device_seq="7"), id="number as text"),
        pytest.param(changed(device_seq=True), id="true as number"),
        pytest.param(changed(device_seq=-1), id="negative"),
        pytest.param(changed(action="dance"), id="unknown action"),
        pytest.param(changed(protocol=2), id="protocol 2"),
        pytest.param(changed(surprise=1), id="unknown field"),
        pytest.param(answering(b"{}", status="418 Teapot"), id="unknown status"),
        pytest.param(
            answering(b'{"error":{"code":"x","message":"m"},"protocol":1}', status="409 Conflict"),
            id="409 without sequence",
        ),
    ],
)
def test_an_answer_of_ours_that_breaks_the_protocol_is_refused_whole(
    against: Callable[..., HttpBackend], talk: Talk
) -> None:
    fails(against(talk), ProtocolViolation)


def refusal(code: str, **more: object) -> bytes:
    return json.dumps({"error": {"code": code, "message": "m", **more}, "protocol": 1}).encode()


def test_each_status_of_ours_has_its_error(against: Callable[..., HttpBackend]) -> None:
    fails(against(answering(refusal("unauthorized"), status="401 Unauthorized")), AuthRequired)
    for body in (refusal("forbidden"), refusal("wrong_user_of_another_kind"), b"no JSON", b"{}"):
        forbidden = fails(against(answering(body, status="403 Forbidden")), AuthRequired)
        assert forbidden.what == "The backend refused the token."
    wrong = fails(against(answering(refusal("wrong_user"), status="403 Forbidden")), AuthRequired)
    assert wrong.what == "The token belongs to another user than the one that is signed in."
    plain = answering(b"no", status="403 Forbidden", head=b"Content-Type: text/plain\r\nSyncengine-Protocol: 1\r\n")
    fails(against(plain), AuthRequired)
    fails(against(answering(refusal("too_slow"), status="408 Request Timeout")), BackendUnavailable)
    gap = fails(against(answering(refusal("sequence_gap", expected=12), status="409 Conflict")), SequenceGap)
    assert isinstance(gap, SequenceGap)
    assert gap.expected == 12
    for status in (400, 413, 422):
        batch = fails(against(answering(refusal("too_large"), status=f"{status} No")), BatchRefused)
        assert isinstance(batch, BatchRefused)
        assert batch.status == status


@pytest.mark.parametrize(
    ("header", "wait_ms"),
    [
        (b"", None),
        (b"Retry-After: 7\r\n", 7_000),
        (b"Retry-After: 0\r\n", 1_000),
        (b"Retry-After: 99999999999999\r\n", SETTINGS.retry_after_ms_max),
        (b"Retry-After: Fri, 31 Dec 2199 23:59:59 GMT\r\n", SETTINGS.retry_after_ms_max),
        (b"Retry-After: Mon, 01 Jan 2001 00:00:00 GMT\r\n", 1_000),
        (b"Retry-After: soon\r\n", None),
    ],
)
def test_retry_after_is_heard_and_clamped_from_proxies_too(
    against: Callable[..., HttpBackend], header: bytes, wait_ms: int | None
) -> None:
    limited = fails(against(answering(HTML, status="429 Slow Down", head=header)), RateLimited)
    down = fails(against(answering(HTML, status="503 Busy", head=header)), BackendUnavailable)
    assert isinstance(limited, RateLimited)
    assert isinstance(down, BackendUnavailable)
    assert (limited.retry_after_ms, down.retry_after_ms) == (wait_ms, wait_ms)


def push_answering(results: list[dict[str, object]], *, device_seq: int) -> Talk:
    def talk(connection: socket.socket, request: bytes) -> None:
        asked = json.loads(request.partition(b"\r\n\r\n")[2])
        body = {"protocol": 1, "request_id": asked["request_id"], "server_time": "t"}
        answering(json.dumps({**body, "device_seq": device_seq, "results": results}).encode())(connection, request)

    return talk


@pytest.mark.parametrize(
    ("results", "device_seq"),
    [
        ([], 1),
        ([{"sequence": 2, "status": "applied"}], 2),
        ([{"sequence": 1, "status": "applied"}, {"sequence": 1, "status": "applied"}], 1),
        ([{"sequence": 1, "status": "applied"}], 0),
        ([{"sequence": 1, "status": "duplicate"}], 1),
        ([{"sequence": 1, "status": "maybe"}], 1),
    ],
)
def test_results_that_do_not_fit_the_push_confirm_nothing(
    against: Callable[..., HttpBackend], results: list[dict[str, object]], device_seq: int
) -> None:
    backend = against(push_answering(results, device_seq=device_seq))
    with pytest.raises(ProtocolViolation):
        backend.push(push(put(1, "a", {})))


def test_results_that_fit_the_push_are_taken(against: Callable[..., HttpBackend]) -> None:
    backend = against(push_answering([{"sequence": 1, "status": "applied", "version": 3}], device_seq=1))
    answer = backend.push(push(put(1, "a", {})))
    assert isinstance(answer, PushAnswer)
    assert answer.results[0].version == 3


def test_pages_that_would_never_end_are_refused(against: Callable[..., HttpBackend]) -> None:
    def talk(connection: socket.socket, request: bytes) -> None:
        echoed = re.findall(rb"request_id=([^& ]+)", request)[0].decode()
        row = {"key": "a", "version": 1, "body": {}, "shape_version": "1.0.0"}
        page = {"protocol": 1, "request_id": echoed, "server_time": "t", "rows": [row], "next": "a"}
        answering(json.dumps(page).encode())(connection, request)

    backend = against(talk)
    assert backend.rows(rows()).next == "a"
    with pytest.raises(ProtocolViolation):
        backend.rows(rows(after="a"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**63, "NUL \0", "half \ud800"])
def test_a_value_that_cannot_travel_is_refused_before_anything_is_sent(
    against: Callable[..., HttpBackend], value: object
) -> None:
    backend = against(honest)
    with pytest.raises(BatchRefused) as refused:
        backend.push(push(put(1, "a", {"x": [value]})))
    assert refused.value.status == 0
    assert backend.hostile.requests == []  # type: ignore[attr-defined] - set by the fixture


@pytest.mark.parametrize("token", [None, "", "two words", "line\r\nInjected: 1", "tökén"])
def test_without_a_usable_token_nothing_is_sent(against: Callable[..., HttpBackend], token: str | None) -> None:
    backend = against(honest)
    backend._tokens._token = lambda: token
    error = fails(backend, AuthRequired)
    assert backend.hostile.requests == []  # type: ignore[attr-defined] - set by the fixture
    assert "Injected" not in repr(error.__cause__)
    assert "--token-file or SYNCENGINE_TOKEN" in error.fix
    assert error.fix.endswith(" The queue is kept.")


@pytest.mark.parametrize("token", ["canary-token", None, 7])
def test_a_token_that_is_no_callback_is_refused_at_once_and_not_shown(token: object) -> None:
    with pytest.raises(TokenInvalid) as refused:
        HttpBackend("https://cloud.example", token=token, settings=SETTINGS, clock=SystemClock())  # type: ignore[arg-type] - the mistake itself
    assert type(token).__name__ in refused.value.why
    assert "canary" not in str(refused.value)


def test_a_token_callback_that_fails_means_auth_required(against: Callable[..., HttpBackend]) -> None:
    backend = against(honest)

    def locked() -> str:
        raise OSError("keyring is locked")

    backend._tokens._token = locked
    fails(backend, AuthRequired)


def test_the_token_is_asked_each_time_and_stands_only_in_its_header(
    against: Callable[..., HttpBackend], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tokens = iter(["canary-1", "canary-2"])
    backend = against(honest)
    backend._tokens._token = lambda: next(tokens)
    backend.hello(hello())
    backend.hello(hello())
    sent = backend.hostile.requests  # type: ignore[attr-defined] - set by the fixture
    assert [re.findall(rb"(?i)authorization: Bearer (\S+)", each) for each in sent] == [
        [b"canary-1"],
        [b"canary-2"],
    ]
    assert all(b"canary" not in each.splitlines()[0] for each in sent)
    assert "canary" not in caplog.text
    assert "canary" not in repr(backend)


def test_the_key_of_a_row_reaches_no_log(
    against: Callable[..., HttpBackend], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ProtocolViolation):
        against(answering(b"{}")).rows(rows(after="canary-key"))
    assert "canary" not in caplog.text


def test_health_sends_no_token_and_needs_its_nonce_back(against: Callable[..., HttpBackend]) -> None:
    backend = against(answering(b'{"protocol":1,"nonce":"old","server_time":"t"}'))
    assert backend.health("old").nonce == "old"
    with pytest.raises(NotOurServer):
        backend.health("fresh")
    assert all(b"canary" not in each for each in backend.hostile.requests)  # type: ignore[attr-defined] - set by the fixture


def test_cookies_are_never_kept(against: Callable[..., HttpBackend]) -> None:
    def talk(connection: socket.socket, request: bytes) -> None:
        body = json.dumps(hello_answer(request)).encode()
        answering(body, head=JSON_HEAD + b"Set-Cookie: canary=1; Path=/\r\n")(connection, request)

    backend = against(talk)
    backend.hello(hello())
    backend.hello(hello())
    sent = backend.hostile.requests  # type: ignore[attr-defined] - set by the fixture
    assert len(sent) == 2
    assert all(b"cookie" not in each.lower() for each in sent)


def test_proxies_of_the_environment_are_ignored(
    against: Callable[..., HttpBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert against(honest).hello(hello()).device_seq == 7


def test_closing_in_another_thread_ends_a_call_long_before_its_deadline(
    against: Callable[..., HttpBackend],
) -> None:
    began = threading.Event()

    def talk(connection: socket.socket, request: bytes) -> None:
        began.set()
        time.sleep(10)

    backend = against(talk, settings=Settings(request_wait_ms_max=60_000))
    closer = threading.Thread(target=lambda: (began.wait(5), backend.close()))
    closer.start()
    fails(backend, BackendUnreachable)
    closer.join(5)


def test_a_port_where_nobody_listens_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}/canary/path"
    backend = HttpBackend(url, token=lambda: "canary-token", settings=SETTINGS, clock=SystemClock())
    error = fails(backend, BackendUnreachable)
    backend.close()
    assert error.why == f"ConnectError at http://127.0.0.1:{port}"
    assert not says_no_route(error)


def test_no_route_is_known_by_the_systems_own_word() -> None:
    error = BackendUnreachable("no answer")
    assert not says_no_route(error)
    error.__cause__ = OSError("connect failed")
    error.__cause__.__cause__ = OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
    assert says_no_route(error)


@pytest.mark.parametrize(
    "url",
    [
        "http://cloud.example",
        "http://10.0.0.1:8000",
        "ftp://localhost",
        "cloud.example",
        "https://",
        "https://ann:canary@cloud.example",
        "https://cloud.example/?token=canary",
        "http://localhost.evil.example",
    ],
)
def test_an_address_that_would_leak_or_cannot_work_is_refused(url: str) -> None:
    with pytest.raises(BackendAddressRefused) as refused:
        HttpBackend(url, token=lambda: "t", settings=SETTINGS, clock=SystemClock())
    assert "canary" not in str(refused.value)


def test_plain_http_to_another_machine_needs_the_hosts_word() -> None:
    HttpBackend(
        "http://10.0.0.1", token=lambda: "t", settings=SETTINGS, clock=SystemClock(), allow_plain_http=True
    ).close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key, in one file."""
    made = tmp_path_factory.mktemp("tls") / "both.pem"
    key = made.with_name("key.pem")
    what = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    where = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(made)]
    subprocess.run(["openssl", *what.split(), *where], check=True, capture_output=True)
    made.write_bytes(made.read_bytes() + key.read_bytes())
    return made


def test_a_certificate_that_nobody_vouches_for_is_not_our_server(certificate: Path) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    server = HostileServer(honest, tls=serving)
    backend = HttpBackend(server.url, token=lambda: "t", settings=SETTINGS, clock=SystemClock())
    fails(backend, NotOurServer)
    assert server.requests == []
    backend.close()
    trusting = ssl.create_default_context(cafile=str(certificate))
    trusted = HttpBackend(server.url, token=lambda: "t", settings=SETTINGS, clock=SystemClock(), tls=trusting)
    assert trusted.hello(hello()).device_seq == 7
    trusted.close()
    server.close()
