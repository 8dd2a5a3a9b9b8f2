"""Whom an HttpBackend talks to: one host, over TLS 1.2 or newer, by no proxy that was not asked for, for one user."""

import contextlib
import json
import socket
import ssl
import threading
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncengine.clock import SystemClock
from syncengine.errors import (
    BackendAddressRefused,
    BackendUnreachable,
    NotOurServer,
    ProtocolViolation,
    SyncEngineError,
    TlsTooWeak,
)
from syncengine.remote.http_backend import HttpBackend
from syncengine.settings import Settings
from tests.conformance.device_requests import hello
from tests.integration.certificates import Authority
from tests.integration.hostile_server import JSON_HEAD, HostileServer, Talk, answering, hello_answer
from tests.integration.test_http_backend_hostile import honest, huge

QUICK = {"request_wait_ms_max": 3_000, "connect_wait_ms_max": 1_000}
SETTINGS = Settings(**QUICK)
BY_PROXY = Settings(**QUICK, proxy="environment")


@contextlib.contextmanager
def serving(talk: Talk, *, tls: ssl.SSLContext | None = None) -> Iterator[HostileServer]:
    server = HostileServer(talk, tls=tls)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def backend(url: str, *, tls: ssl.SSLContext | None = None, settings: Settings = SETTINGS) -> Iterator[HttpBackend]:
    made = HttpBackend(url, token=lambda: "canary-token", clock=SystemClock(), settings=settings, tls=tls)
    try:
        yield made
    finally:
        made.close()


def refusal_of(url: str, *, tls: ssl.SSLContext | None = None, settings: Settings = SETTINGS) -> SyncEngineError:
    with backend(url, tls=tls, settings=settings) as there, pytest.raises(SyncEngineError) as refused:
        there.hello(hello())
    assert "canary" not in str(refused.value)
    return refused.value


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_a_redirect_is_never_followed_and_its_target_hears_nothing() -> None:
    with serving(honest) as elsewhere:
        for status in ("301 Moved", "302 Found", "307 Temporary", "308 Permanent"):
            head = f"Location: {elsewhere.url}/v1/hello\r\n".encode()
            for marked in (b"", JSON_HEAD):
                with serving(answering(b"{}", status=status, head=head + marked)) as server:
                    refused = refusal_of(server.url)
                    assert type(refused) is (ProtocolViolation if marked else NotOurServer)
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    "mark", [b"Syncengine-User: bob", b"Syncengine-User: ", b"Syncengine-User: ann, bob", b"Other: x"]
)
def test_an_answer_for_another_user_is_not_used(mark: bytes) -> None:
    head = JSON_HEAD.replace(b"Syncengine-User: ann", mark)

    def talk(connection: socket.socket, request: bytes) -> None:
        answering(json.dumps(hello_answer(request)).encode(), head=head)(connection, request)

    with serving(talk) as server:
        refused = refusal_of(server.url)
    assert isinstance(refused, NotOurServer)
    assert refused.reason == "stale_answer"


def test_a_trusted_certificate_of_the_right_name_and_time_is_enough(authority: Authority) -> None:
    with (
        serving(honest, tls=authority.serving()) as server,
        backend(server.url, tls=authority.trusting()) as trusted,
    ):
        assert trusted.hello(hello()).device_seq == 7


@pytest.mark.parametrize(("host", "ended"), [("127.0.0.2", False), ("cloud.example", False), ("127.0.0.1", True)])
def test_a_certificate_of_another_name_or_time_is_refused_before_the_token_is_sent(
    authority: Authority, host: str, ended: bool
) -> None:
    with serving(honest, tls=authority.serving(host, ended=ended)) as server:
        refused = refusal_of(server.url, tls=authority.trusting())
        assert server.requests == []
    assert isinstance(refused, NotOurServer)
    assert refused.reason == "tls_refused"


def test_a_server_that_knows_only_old_tls_is_refused(authority: Authority) -> None:
    old = authority.serving()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    trusting = authority.trusting()
    trusting.set_ciphers("DEFAULT@SECLEVEL=0")  # so that it is the version alone that is in the way
    with serving(honest, tls=old) as server:
        refused = refusal_of(server.url, tls=trusting)
        assert server.requests == []
    assert isinstance(refused, NotOurServer)
    assert refused.reason == "tls_refused"


def weak_contexts() -> Iterator[ssl.SSLContext]:
    old = ssl.create_default_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = ssl.TLSVersion.TLSv1_1
    yield old
    whatever = ssl.create_default_context()
    whatever.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    yield whatever
    unnamed = ssl.create_default_context()
    unnamed.check_hostname = False
    yield unnamed
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    yield unverified


@pytest.mark.parametrize("tls", list(weak_contexts()), ids=["TLS 1.1", "any TLS", "any name", "any certificate"])
def test_a_trust_that_protects_from_nothing_is_refused_at_once(tls: ssl.SSLContext) -> None:
    with pytest.raises(TlsTooWeak):
        HttpBackend("https://cloud.example", token=lambda: "t", settings=SETTINGS, clock=SystemClock(), tls=tls)


class TunnelProxy:
    """An HTTP proxy that takes CONNECT and leads every tunnel to one address. Notes what it was asked for."""

    def __init__(self, to: tuple[str, int]) -> None:
        self.asked: list[bytes] = []
        self._to = to
        self._server = HostileServer(self._tunnel)
        self.url = self._server.url
        self.close = self._server.close

    def _tunnel(self, connection: socket.socket, request: bytes) -> None:
        self.asked.append(request)
        with socket.create_connection(self._to, timeout=5) as onward:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(onward, connection), daemon=True)
            back.start()
            _pump(connection, onward)
            back.join(5)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65_536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def tunnelled(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[TunnelProxy]:
    """A proxy in the environment that leads to a server with a certificate of cloud.example."""
    with serving(honest, tls=authority.serving("cloud.example")) as server:
        proxy = TunnelProxy(("127.0.0.1", int(server.url.rpartition(":")[2])))
        for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url.replace("//", "//someone:canary-word@"))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield proxy
        proxy.close()


def test_a_proxy_of_the_environment_is_used_where_the_host_asks_and_sees_no_token(
    tunnelled: TunnelProxy, authority: Authority
) -> None:
    with backend("https://cloud.example", tls=authority.trusting(), settings=BY_PROXY) as there:
        assert there.hello(hello()).device_seq == 7
    assert tunnelled.asked[0].startswith(b"CONNECT cloud.example:443 ")
    assert b"proxy-authorization: basic " in tunnelled.asked[0].lower()
    assert b"canary-token" not in b"".join(tunnelled.asked)


def test_a_proxy_of_the_environment_is_not_asked_unless_the_host_says_so(
    tunnelled: TunnelProxy, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    # .invalid is never a name (RFC 6761, section 6.4).
    refused = refusal_of("https://cloud.invalid", tls=authority.trusting())
    assert isinstance(refused, BackendUnreachable)
    assert refused.reason == "name_not_found"
    monkeypatch.setenv("no_proxy", "cloud.invalid")
    assert isinstance(refusal_of("https://cloud.invalid", settings=BY_PROXY), BackendUnreachable)
    with serving(honest) as near, backend(near.url, settings=BY_PROXY) as this_machine:
        assert this_machine.hello(hello()).device_seq == 7
    assert tunnelled.asked == []


def test_a_proxy_that_refuses_is_no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for answer in ("407 Proxy Authentication Required", "502 Bad Gateway"):
        with serving(answering(b"canary", status=answer, head=b"")) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            refused = refusal_of("https://cloud.example", settings=BY_PROXY)
            assert isinstance(refused, BackendUnreachable)
            assert refused.reason == "refused"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://", "http://proxy:port"])
def test_a_proxy_of_another_kind_is_said_at_once(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(BackendAddressRefused):
        HttpBackend("https://cloud.example", token=lambda: "t", settings=BY_PROXY, clock=SystemClock())


def test_an_endless_answer_costs_no_more_memory_than_its_cap() -> None:
    cap = 1_000_000
    settings = Settings(**QUICK, answer_bytes_max=cap)
    with serving(huge) as server, backend(server.url, settings=settings) as there:
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolViolation):
                there.hello(hello())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 3 * cap


def test_a_call_that_is_lost_says_how() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for url, reason in (
        (f"http://127.0.0.1:{port}", "refused"),
        ("https://cloud.invalid", "name_not_found"),
        (f"https://{'x' * 64}.example", "name_not_found"),
    ):
        refused = refusal_of(url)
        assert isinstance(refused, BackendUnreachable)
        assert refused.reason == reason


def test_silence_and_a_cut_are_told_apart() -> None:
    def silence(connection: socket.socket, request: bytes) -> None:
        threading.Event().wait(5)

    def cut(connection: socket.socket, request: bytes) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    for talk, reason in ((silence, "no_answer"), (cut, "cut")):
        with serving(talk) as server:
            refused = refusal_of(server.url, settings=Settings(request_wait_ms_max=600))
            assert isinstance(refused, BackendUnreachable)
            assert refused.reason == reason


def test_login_pages_and_other_servers_are_told_apart() -> None:
    html = b"Content-Type: text/html\r\n"
    for status, head, reason in (
        ("200 OK", html, "login_page"),
        ("302 Found", b"Location: http://127.0.0.1:1/\r\n", "login_page"),
        ("511 Network Authentication Required", b"", "login_page"),
        ("200 OK", b"Content-Type: application/json\r\n", "another_server"),
    ):
        with serving(answering(b"<html>", status=status, head=head)) as server:
            refused = refusal_of(server.url)
            assert isinstance(refused, NotOurServer)
            assert refused.reason == reason, status
