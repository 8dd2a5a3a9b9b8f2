"""A token that the cloud refuses is renewed once; then the queue is kept, and waits for another one."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from migrations import REGISTRY
from syncengine import RefreshableToken
from syncengine.clock import SystemClock
from syncengine.engine import Engine
from syncengine.errors import AuthRequired, BackendUnreachable, TokenInvalid
from syncengine.remote.http_backend import HttpBackend
from syncengine.remote.tokens import RemembersRefusals, Tokens
from syncengine.settings import Settings
from tests.conformance.device_requests import hello
from tests.conformance.server_process import ServerProcess
from tests.conformance.waiting import until
from tests.integration.hostile_server import HostileServer, answering, hello_answer
from tests.integration.sync_world import impatient
from tests.integration.token_issuer import AUDIENCE, ISSUER, Issuer, jwks


class Doorkeeper:
    """A server that says hello to one token and 401 (or `refusal`) to all others. Notes which it has seen."""

    def __init__(self, good: str, refusal: str = "401 Unauthorized") -> None:
        self.good = good
        self.refusal = refusal
        self.seen: list[str] = []
        self.server = HostileServer(self._talk)

    def _talk(self, connection: socket.socket, request: bytes) -> None:
        if nonce := re.findall(r"nonce=(\w+)", request.decode()):
            health = {"protocol": 1, "nonce": nonce[0], "server_time": "t"}
            answering(json.dumps(health).encode())(connection, request)
            return
        [token] = re.findall(r"(?i)authorization: bearer (\S+)", request.decode())
        self.seen.append(token)
        if token == self.good and b"/v1/hello" in request:
            answering(json.dumps(hello_answer(request)).encode())(connection, request)
        else:
            body = b'{"protocol":1,"error":{"code":"wrong_user","message":"m"}}'
            answering(body, status=self.refusal)(connection, request)


@pytest.fixture
def knock() -> Iterator[Callable[..., tuple[Doorkeeper, HttpBackend]]]:
    made: list[HostileServer | HttpBackend] = []

    def start(token: Callable[[], str | None], **more: str) -> tuple[Doorkeeper, HttpBackend]:
        door = Doorkeeper("good", **more)
        backend = HttpBackend(door.server.url, token=token, settings=Settings(), clock=SystemClock())
        made.extend((backend, door.server))
        return door, backend

    yield start
    for each in made:
        each.close()


class Wallet:
    """The host's own token, which it renews when it is told to."""

    def __init__(self, present: str | None, *renewed: str | None) -> None:
        self.token = present
        self._renewed = iter(renewed)
        self.renewals = 0

    def renew(self) -> str | None:
        self.renewals += 1
        self.token = next(self._renewed)
        return self.token

    def callback(self) -> RefreshableToken:
        return RefreshableToken(lambda: self.token, refresh=self.renew)


def test_a_refused_token_is_renewed_once_and_the_call_goes_through(knock: Callable[..., tuple]) -> None:
    wallet = Wallet("old", "good")
    door, backend = knock(wallet.callback())
    assert backend.hello(hello()).device_seq == 7
    assert backend.hello(hello()).device_seq == 7
    assert (door.seen, wallet.renewals) == (["old", "good", "good"], 1)
    assert backend.refused_token_wait_ms() is None


def test_a_host_that_renewed_it_by_itself_is_asked_again_and_told_nothing(knock: Callable[..., tuple]) -> None:
    tokens = iter(["old", "good"])
    refreshed: list[str] = []
    door, backend = knock(RefreshableToken(lambda: next(tokens), refresh=lambda: refreshed.append("x")))
    assert backend.hello(hello()).device_seq == 7
    assert (door.seen, refreshed) == (["old", "good"], [])
    door, backend = knock(iter(["old", "good"]).__next__)
    assert backend.hello(hello()).device_seq == 7


def offline() -> str:
    raise OSError("canary: the identity provider cannot be reached")


@pytest.mark.parametrize(
    ("token", "seen"),
    [
        (lambda: "old", ["old"]),
        (RefreshableToken(lambda: "old", refresh=lambda: "old"), ["old"]),
        (RefreshableToken(lambda: "old", refresh=lambda: None), ["old"]),
        (RefreshableToken(lambda: "old", refresh=lambda: "two words"), ["old"]),
        (RefreshableToken(lambda: "old", refresh=offline), ["old"]),
        (RefreshableToken(lambda: "old", refresh=lambda: "also-old"), ["old", "also-old"]),
    ],
    ids=["plain", "the same", "none", "unusable", "offline", "refused, too"],
)
def test_a_renewal_that_does_not_help_is_not_tried_twice(
    knock: Callable[..., tuple], token: Callable[[], str | None], seen: list[str]
) -> None:
    door, backend = knock(token)
    with pytest.raises(AuthRequired) as refused:
        backend.hello(hello())
    assert (door.seen, refused.value.status) == (seen, 401)
    assert "canary" not in str(refused.value)


def test_a_token_of_another_user_is_not_renewed(knock: Callable[..., tuple]) -> None:
    wallet = Wallet("bobs", "good")
    door, backend = knock(wallet.callback(), refusal="403 Forbidden")
    with pytest.raises(AuthRequired, match="another user"):
        backend.hello(hello())
    assert (door.seen, wallet.renewals) == (["bobs"], 0)
    assert backend.refused_token_wait_ms()


def test_threads_that_are_refused_together_renew_once(knock: Callable[..., tuple]) -> None:
    wallet = Wallet("old", "good", "good", "good", "good")

    def slowly() -> str | None:
        time.sleep(0.2)
        return wallet.renew()

    _, backend = knock(RefreshableToken(lambda: wallet.token, refresh=slowly))
    answers: list[int] = []
    both = [threading.Thread(target=lambda: answers.append(backend.hello(hello()).device_seq)) for _ in range(4)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert (answers, wallet.renewals) == ([7] * 4, 1)


@pytest.mark.parametrize("part", ["present", "refresh"])
def test_a_token_in_place_of_a_callback_is_refused_at_once(part: str) -> None:
    with pytest.raises(TokenInvalid):
        RefreshableToken(**{"present": lambda: "t", "refresh": lambda: "t", part: "canary"})


def test_an_engine_is_not_opened_with_a_token_in_place_of_a_callback_nor_switched_to_one(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with pytest.raises(TokenInvalid):
        Engine.open(path, registry=REGISTRY, user="ann", cloud_url="http://127.0.0.1:1", token="canary")
    assert not path.exists()
    with Engine.open(path, registry=REGISTRY, user="ann", cloud_url="http://127.0.0.1:1") as engine:
        with pytest.raises(TokenInvalid):
            engine.switch_user("bob", token="canary")
        assert engine.status().user == "ann"


class HandClock(SystemClock):
    """Moves only by hand."""

    at_ms = 0

    def monotonic_ms(self) -> int:
        return self.at_ms


def test_a_refused_token_waits_and_another_one_does_not() -> None:
    clock, wallet = HandClock(), Wallet("old")
    tokens = Tokens(lambda: wallet.token, clock=clock, refused_wait_ms=1_000)
    assert tokens.refused_wait_ms() is None
    tokens.was_refused(tokens.present())
    assert tokens.refused_wait_ms() == 1_000
    clock.at_ms = 400
    assert tokens.refused_wait_ms() == 600
    wallet.token = "new"
    assert tokens.refused_wait_ms() == 0
    wallet.token = "old"
    clock.at_ms = 1_000
    assert tokens.refused_wait_ms() == 0
    tokens.was_taken()
    assert tokens.refused_wait_ms() is None
    wallet.token = None
    with pytest.raises(AuthRequired):
        tokens.present()
    wallet.token = "two words"
    assert tokens.refused_wait_ms() == 1_000
    wallet.token = "usable"
    assert tokens.refused_wait_ms() == 0
    assert "old" not in repr(vars(tokens)["_refused"])


def test_what_a_failing_callback_says_is_in_no_part_of_the_error() -> None:
    def fails() -> str:
        raise RuntimeError("keyring says: secret-of-ann")

    with pytest.raises(AuthRequired, match="could not give a token") as raised:
        Tokens(fails, clock=HandClock(), refused_wait_ms=1_000).present()
    told: BaseException | None = raised.value
    assert "RuntimeError" in str(told)
    while told is not None:
        assert "secret-of-ann" not in repr(told) + str(told)
        told = told.__cause__ or told.__context__


# An engine in the background of the shipped server ----------------------------------------------------------------

issuer = Issuer()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "keys.json").write_bytes(jwks(issuer.public()))
    options = ("--jwks", str(tmp_path / "keys.json"), "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
    with ServerProcess(tmp_path / "cloud", *options) as running:
        yield running


class Counting:
    """A token callback that says how often the cloud was called with a token that has ended."""

    def __init__(self) -> None:
        self.ended = issuer.token(exp=int(time.time()) - 3_600)
        self.token: str | None = self.ended


def opened(tmp_path: Path, url: str, token: Callable[[], str | None]) -> Engine:
    return impatient(tmp_path, cloud_url=url, token=token)


def test_a_token_that_ended_in_the_background_is_renewed_and_the_queue_leaves(
    tmp_path: Path, server: ServerProcess
) -> None:
    wallet = Wallet(Counting().ended, issuer.token())
    with opened(tmp_path, server.url, wallet.callback()) as engine:
        engine.start()
        until(lambda: engine.status().outbox.waiting + engine.status().outbox.claimed == 0)
        assert wallet.renewals == 1
        assert engine.status().connectivity.verdict == "online"


def test_after_a_refusal_nothing_is_sent_until_there_is_another_token(tmp_path: Path) -> None:
    door = Doorkeeper("good")
    wallet = Wallet("old", *["old"] * 1_000)
    with opened(tmp_path, door.server.url, wallet.callback()) as engine:
        engine.start()
        until(lambda: engine.status().connectivity.verdict == "auth_required")
        refused = len(door.seen)
        time.sleep(1.5)  # with these settings a hundred looks
        assert (len(door.seen), wallet.renewals) == (refused, 1)
        assert engine.status().outbox.waiting + engine.status().outbox.claimed == 1
        assert "Sign in again" in str(engine.explain("plans", "a"))
        with pytest.raises(AuthRequired):
            engine.sync_now()  # who asks for it gets a try
        assert len(door.seen) == refused + 1
        wallet.token = "good"
        until(lambda: "good" in door.seen)
    door.server.close()


def test_no_token_at_all_waits_for_one_and_asks_nobody(tmp_path: Path, server: ServerProcess) -> None:
    wallet = Wallet(None)
    with opened(tmp_path, server.url, lambda: wallet.token) as engine:
        engine.start()
        until(lambda: engine.status().connectivity.verdict == "auth_required")
        time.sleep(0.5)
        assert engine.status().outbox.waiting == 1
        wallet.token = issuer.token()
        until(lambda: engine.status().outbox.waiting + engine.status().outbox.claimed == 0)


def test_a_backend_of_the_hosts_need_not_remember_refusals() -> None:
    class Plain:
        """Says nothing of tokens."""

    assert not isinstance(Plain(), RemembersRefusals)
    backend = HttpBackend("https://cloud.example", token=lambda: "t", settings=Settings(), clock=SystemClock())
    assert isinstance(backend, RemembersRefusals)
    backend.close()
    with pytest.raises(BackendUnreachable):
        backend.hello(hello())
