"""Users by JSON Web Tokens: only what the issuer has signed for us, now, with a key that it still publishes."""

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import httpx
import jwt
import pytest

from syncengine.clock import SystemClock
from syncengine.errors import AuthRequired, BackendAddressRefused, CursorGone
from syncengine.server.published_keys import (
    AGAIN_MS,
    FRESH_MS,
    KEYS_BYTES_MAX,
    STALE_MS,
    PublishedKeys,
    keys_at,
)
from syncengine.server.sign_in import KeysUnavailable
from syncengine.server.web_tokens import WebTokens
from tests.conformance.device_requests import hello, pull, push, put, rows
from tests.conformance.server_process import ServerProcess
from tests.integration.certificates import Authority
from tests.integration.hostile_server import HostileServer, Talk, answering
from tests.integration.token_issuer import AUDIENCE, ISSUER, Issuer, jwks

issuer = Issuer()
KEYS = jwks(issuer.public())


class HandClock(SystemClock):
    """Moves only by hand."""

    def __init__(self) -> None:
        self.at_ms = 1

    def monotonic_ms(self) -> int:
        return self.at_ms


def judge(*keys: dict[str, Any], **more: Any) -> WebTokens:
    published = PublishedKeys(lambda: jwks(*(keys or (issuer.public(),))), clock=SystemClock())
    return WebTokens(published, **{"issuer": ISSUER, "audience": AUDIENCE, **more})


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_what_the_issuer_signed_for_us_names_its_user(algorithm: str) -> None:
    signs = Issuer(algorithm=algorithm)
    taking = judge(signs.public(), algorithms=(algorithm,))
    assert taking.user_of(signs.token("ann")) == "ann"
    assert taking.user_of(signs.token("ann", aud=["another", AUDIENCE])) == "ann"
    assert taking.user_of(signs.token(exp=int(time.time()) - 30)) == "ann"  # clocks differ
    by_mail = judge(signs.public(), algorithms=(algorithm,), user_claim="email")
    assert by_mail.user_of(signs.token("x", email="ann@example")) == "ann@example"


NOW = int(time.time())


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW - 3_600},
        {"exp": None},
        {"exp": "soon"},
        {"exp": float("nan")},
        {"nbf": NOW + 3_600},
        {"iat": NOW + 3_600},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"iss": [ISSUER]},
        {"aud": "another-cloud"},
        {"aud": None},
        {"aud": []},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 201},
        {"sub": "ann\n"},
        {"sub": "an\0n"},
        {"sub": 7},
        {"sub": ["ann"]},
        {"sub": {"ann": 1}},
    ],
    ids=lambda claims: "-".join(f"{name}-{type(value).__name__}" for name, value in claims.items()),
)
def test_a_token_for_another_time_place_or_nobody_is_nobodys(claims: dict[str, Any]) -> None:
    user = claims.pop("sub", "ann")
    assert judge().user_of(_unchecked(issuer, {"sub": user, **claims})) is None


def _unchecked(signs: Issuer, claims: dict[str, Any], **headers: Any) -> str:
    """Signed as it is: the library that signs for us would refuse some of these claims."""
    whole = {"iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 86_400, **claims}
    said = {name: value for name, value in whole.items() if value is not None}
    asked_head = {"alg": signs.algorithm, "typ": "JWT", "kid": signs.kid, **headers}
    head = {name: value for name, value in asked_head.items() if value is not None}
    body = b".".join(_base64(json.dumps(part).encode()) for part in (head, said))
    return (body + b"." + _base64(jwt.get_algorithm_by_name(signs.algorithm).sign(body, signs.key))).decode()


def _base64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def test_a_token_made_by_hand_is_good_where_nothing_is_wrong_with_it() -> None:
    assert judge().user_of(_unchecked(issuer, {"sub": "ann"})) == "ann"


def forged() -> dict[str, str]:
    good = issuer.token("ann")
    head, body, signature = good.split(".")
    stranger = Issuer()  # the same name, another key
    eve = _base64(json.dumps({"sub": "eve", "iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 86_400}).encode()).decode()
    none_head = _base64(b'{"alg":"none","typ":"JWT"}').decode()
    hs_head = _base64(json.dumps({"alg": "HS256", "kid": "first"}).encode()).decode()
    mac = hmac.new(issuer.public_pem(), f"{hs_head}.{eve}".encode(), hashlib.sha256).digest()
    return {
        "another's body": f"{head}.{eve}.{signature}",
        "no algorithm": f"{none_head}.{eve}.",
        "no signature": f"{head}.{body}.",
        "the public key as a secret": f"{hs_head}.{eve}.{_base64(mac).decode()}",
        "another key of the same name": stranger.token("ann"),
        "a key that comes along": stranger.token("ann", headers={"jwk": stranger.public(), "kid": "new"}),
        "an address that comes along": stranger.token("ann", headers={"jku": "https://evil.example/keys"}),
        "an unknown name": issuer.token("ann", headers={"kid": "second"}),
        "a critical extension": _unchecked(issuer, {"sub": "ann"}, crit=["b64"], b64=True),
        "a number as name": _unchecked(issuer, {"sub": "ann"}, kid=7),
        "cut": good[:-20],
        "longer than any": good + "A" * 10_000,
        "no parts": "..",
        "no base64": "é.ö.ü",
        "no json": "YQ.YQ.YQ",
        "a list as head": f"{_base64(b'[]').decode()}.{body}.{signature}",
        "deep": f"{_base64(b'[' * 3_000).decode()}.{body}.{signature}",
    }


@pytest.mark.parametrize(("how", "token"), forged().items(), ids=forged().keys())
def test_a_forged_token_is_nobodys(how: str, token: str) -> None:
    assert judge().user_of(token) is None


def test_a_key_is_taken_for_its_own_kind_and_use_only() -> None:
    assert judge(issuer.public(use="enc")).user_of(issuer.token()) is None
    assert judge(issuer.public(alg="RS512")).user_of(issuer.token()) is None
    assert judge(issuer.public(alg="RS256")).user_of(issuer.token()) == "ann"
    assert judge(issuer.public(kty="oct", k="c2VjcmV0")).user_of(issuer.token()) is None
    assert judge(Issuer(algorithm="ES256").public()).user_of(issuer.token()) is None
    assert judge(issuer.public(), algorithms=("ES256",)).user_of(issuer.token()) is None


def test_of_keys_with_one_name_each_signs_in_its_own() -> None:
    """RFC 7517, section 4.5: the same name may stand at keys of different kinds."""
    curve, again = Issuer(algorithm="ES256"), Issuer()
    for keys in (
        [issuer, curve, again],
        [curve, again, issuer],
    ):
        taking = judge({"kty": "RSA", "kid": "first", "n": 5, "e": "AQAB"}, *(each.public() for each in keys))
        assert [taking.user_of(each.token()) for each in keys] == ["ann"] * 3
        assert taking.user_of(Issuer(algorithm="ES256").token()) is None
        assert taking.user_of(again.token(aud="another")) is None


def test_without_a_name_the_only_key_counts_and_of_two_none() -> None:
    nameless = _unchecked(issuer, {"sub": "ann"}, kid=None)
    assert judge().user_of(nameless) == "ann"
    assert judge(issuer.public(), Issuer("second").public()).user_of(nameless) is None


@pytest.mark.parametrize("algorithms", [("HS256",), ("none",), ("RS256", "HS512"), (), ("rs256",)])
def test_an_algorithm_with_a_secret_in_common_cannot_be_chosen(algorithms: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="algorithms are some of"):
        judge(algorithms=algorithms)


# Keys that change, and an address that does not answer -------------------------------------------------------------


class Published:
    """What an address says, and how often it was asked."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.answer: bytes | Exception = jwks(*keys)
        self.slowly: Callable[[], bytes] | None = None
        self.asked = 0
        self.clock = HandClock()
        self.keys = PublishedKeys(self._fetch, clock=self.clock)
        self.tokens = WebTokens(self.keys, issuer=ISSUER, audience=AUDIENCE)

    def _fetch(self) -> bytes:
        self.asked += 1
        if self.slowly is not None:
            return self.slowly()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_a_new_key_is_found_when_its_first_token_comes_and_an_old_one_is_forgotten() -> None:
    published = Published(issuer.public())
    second = Issuer("second")
    assert published.tokens.user_of(issuer.token()) == "ann"
    published.answer = jwks(second.public())
    assert published.tokens.user_of(second.token()) is None  # it was looked up a moment ago
    published.clock.at_ms += AGAIN_MS
    assert published.tokens.user_of(second.token()) == "ann"
    assert published.tokens.user_of(issuer.token()) is None
    assert published.asked == 2


def test_tokens_with_unknown_keys_do_not_make_us_ask_again_and_again() -> None:
    published = Published(issuer.public())
    for number in range(100):
        assert published.tokens.user_of(issuer.token(headers={"kid": f"made-up-{number}"})) is None
    assert published.asked == 1


def test_a_withdrawn_key_is_believed_no_longer_than_keys_are_fresh() -> None:
    published = Published(issuer.public())
    assert published.tokens.user_of(issuer.token()) == "ann"
    published.answer = jwks()
    published.clock.at_ms += FRESH_MS
    assert published.tokens.user_of(issuer.token()) is None


@pytest.mark.parametrize(
    "failure",
    [OSError("no"), httpx.ConnectError("no"), b"<html>", b"[]", b'{"keys": 1}', jwks(*[{}] * 101)],
    ids=["system", "http", "html", "list", "number", "too many"],
)
def test_while_keys_cannot_be_had_the_last_ones_count_for_a_day(failure: bytes | Exception) -> None:
    published = Published(issuer.public())
    assert published.tokens.user_of(issuer.token()) == "ann"
    published.answer = failure
    published.clock.at_ms += STALE_MS - 1
    assert published.tokens.user_of(issuer.token()) == "ann"
    published.clock.at_ms += 1
    with pytest.raises(KeysUnavailable):
        published.tokens.user_of(issuer.token())
    published.answer = KEYS
    published.clock.at_ms += AGAIN_MS
    assert published.tokens.user_of(issuer.token()) == "ann"


def test_without_any_keys_nobody_is_refused_for_it_and_the_address_has_its_peace() -> None:
    published = Published()
    published.answer = OSError("no")
    for _ in range(5):
        with pytest.raises(KeysUnavailable):
            published.tokens.user_of(issuer.token())
    assert published.asked == 1


def test_nobody_with_a_known_key_waits_while_another_looks_for_an_unknown_one() -> None:
    published = Published(issuer.public())
    assert published.tokens.user_of(issuer.token()) == "ann"
    published.clock.at_ms += AGAIN_MS
    with hanging(published) as stranger:
        assert published.tokens.user_of(issuer.token()) == "ann"
        with pytest.raises(KeysUnavailable):  # nobody knows yet whether it is good, and nobody waits for that
            published.tokens.user_of(issuer.token(headers={"kid": "made-up"}))
    assert stranger.result() is None


def test_while_one_looks_whether_the_keys_are_still_the_same_the_others_use_them() -> None:
    published = Published(issuer.public())
    assert published.tokens.user_of(issuer.token()) == "ann"
    published.clock.at_ms += FRESH_MS
    with hanging(published):
        assert published.tokens.user_of(issuer.token()) == "ann"


@contextmanager
def hanging(published: Published) -> Iterator[Future[str | None]]:
    """A thread looks the keys up for a token with an unknown one, and hears nothing before the block ends."""
    looks, may_answer = threading.Event(), threading.Event()

    def hang() -> bytes:
        looks.set()
        assert may_answer.wait(20)
        return jwks(issuer.public())

    published.slowly = hang
    with ThreadPoolExecutor(1) as pool:
        stranger = pool.submit(published.tokens.user_of, issuer.token(headers={"kid": "unknown"}))
        try:
            assert looks.wait(20)
            yield stranger
        finally:
            may_answer.set()


def redirecting(connection: socket.socket, request: bytes) -> None:
    answering(b"", status="302 Found", head=b"Location: http://127.0.0.1:1/\r\n")(connection, request)


def dripping(connection: socket.socket, request: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(200):
        connection.sendall(b" ")
        time.sleep(0.1)


@pytest.mark.parametrize(
    "talk",
    [
        redirecting,
        answering(KEYS, status="404 Not Found"),
        answering(b" " * (KEYS_BYTES_MAX + 1)),
        answering(KEYS, head=b"Content-Encoding: gzip\r\n"),
        pytest.param(dripping, marks=pytest.mark.slow),
    ],
    ids=["redirect", "404", "too large", "packed", "drip"],
)
def test_an_address_that_gives_no_keys_within_bounds_gives_none(talk: Talk) -> None:
    server = HostileServer(talk)
    begin = time.monotonic()
    with pytest.raises(KeysUnavailable):
        keys_at(server.url, clock=SystemClock()).find("first")
    assert time.monotonic() - begin < 7
    server.close()


def test_keys_come_over_https_or_from_this_machine_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(KEYS)
    authority = Authority(tmp_path)
    near, far = HostileServer(answering(KEYS)), HostileServer(answering(KEYS), tls=authority.serving())
    clock = SystemClock()
    for keys in (
        keys_at(str(tmp_path / "keys.json"), clock=clock),
        keys_at(near.url, clock=clock),
        keys_at(far.url, clock=clock, tls=authority.trusting()),
    ):
        assert [key["kty"] for key in keys.find("first")] == ["RSA"]
    with pytest.raises(KeysUnavailable):
        keys_at(far.url, clock=clock).find("first")
    with pytest.raises(BackendAddressRefused):
        keys_at("http://issuer.example/keys", clock=clock)
    near.close()
    far.close()


# The shipped server -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("cloud")
    (folder / "keys.json").write_bytes(KEYS)
    options = ("--jwks", str(folder / "keys.json"), "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
    with ServerProcess(folder, *options) as running:
        yield running


def test_users_see_their_own_canaries_and_no_byte_of_the_others(server: ServerProcess) -> None:
    users = [f"user-{number}" for number in range(6)] + ["user-1 ", "USER-1", "user-1%", "üser-1", "user_1"]
    canaries = {user: f"canary-of-{number:02d}" for number, user in enumerate(users)}
    for user in users:
        backend = server.backend(issuer.token(user))
        body = {"text": canaries[user]}
        assert backend.push(push(put(1, "same-key", body), user=user)).results[0].version == 1
    for user in users:
        everything = server.all_answers(user, token=issuer.token(user))
        assert canaries[user].encode() in everything
        assert [other for other in users if other != user and canaries[other].encode() in everything] == []


def test_the_first_request_of_a_user_works_whatever_it_is_and_leaves_no_token(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(KEYS)
    options = ("--jwks", str(tmp_path / "keys.json"), "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
    with ServerProcess(tmp_path / "cloud", *options) as running:
        first = {
            "hello": lambda backend: backend.hello(hello(user="hello")).device_seq,
            "push": lambda backend: backend.push(push(put(1, "a", {}), user="push")).device_seq,
            "pull": lambda backend: len(backend.pull(pull(user="pull")).items),
            "rows": lambda backend: len(backend.rows(rows(user="rows")).rows),
        }
        assert [call(running.backend(issuer.token(user))) for user, call in first.items()] == [0, 1, 0, 0]
    with apsw.Connection(str(tmp_path / "cloud" / "cloud.db")) as database:
        assert database.execute("SELECT count(*) FROM token").get == 0
        assert database.execute("SELECT group_concat(tenant) FROM tenant").get == "hello,pull,push,rows"


def test_a_user_whose_rows_were_taken_away_under_the_running_server_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(KEYS)
    options = ("--jwks", str(tmp_path / "keys.json"), "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
    with (
        ServerProcess(tmp_path / "cloud", *options) as running,
        closing(apsw.Connection(running.address)) as database,
    ):
        database.set_busy_timeout(10_000)
        begins_anew_when_gone(running, lambda table: database.execute(f"DELETE FROM {table} WHERE tenant = 'ann'"))


def test_the_same_user_begins_anew_on_postgresql(database: str, tmp_path: Path) -> None:
    psycopg = pytest.importorskip("psycopg")
    (tmp_path / "keys.json").write_bytes(KEYS)
    options = ("--jwks", str(tmp_path / "keys.json"), "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
    with (
        ServerProcess(tmp_path / "cloud", *options, database=database) as running,
        psycopg.connect(database, autocommit=True) as operator,
    ):
        operator.execute("SELECT set_config('app.tenant', 'ann', false)")
        begins_anew_when_gone(running, lambda table: operator.execute(f"DELETE FROM {table}"))


def begins_anew_when_gone(running: ServerProcess, take_away: Callable[[str], object]) -> None:
    """Whatever the user's devices ask first, and however often."""
    ann = running.backend(issuer.token())
    calls: list[Callable[[], object]] = [
        lambda: ann.hello(hello(epoch=2, ended=1, confirmed=1)),
        lambda: ann.push(push(put(1, "b", {}))),
        lambda: ann.pull(pull()),
        lambda: ann.rows(rows()),
    ]
    for call in calls:
        ann.push(push(put(1, "a", {})))
        cursor = ann.pull(pull()).cursor
        for table in ("document", "patch_beside", "commit_mark", "receipt", "ended_epoch", "token", "tenant"):
            take_away(table)
        call()
        with pytest.raises(CursorGone):
            ann.pull(pull(cursor))
        take_away("receipt")
        take_away("ended_epoch")


def test_a_token_of_one_user_opens_nothing_of_another(server: ServerProcess) -> None:
    server.backend(issuer.token("victim")).push(push(put(1, "k", {"text": "canary"}), user="victim"))
    eve = server.backend(issuer.token("eve"))
    for call in (
        lambda: eve.pull(pull(user="victim")),
        lambda: eve.rows(rows(user="victim")),
        lambda: eve.hello(hello(user="victim")),
        lambda: eve.push(push(put(1, "k", {}), user="victim")),
    ):
        with pytest.raises(AuthRequired) as refused:
            call()
        assert "victim" not in str(refused.value)
    page = server.backend(issuer.token("victim")).rows(rows(user="victim"))
    assert [row.body for row in page.rows] == [{"text": "canary"}]


def test_a_token_that_is_not_good_is_401_says_how_to_sign_in_and_nothing_more(server: ServerProcess) -> None:
    told = set()
    for token in (issuer.token(exp=NOW - 3_600), Issuer().token(), issuer.token(aud="another"), "plain", "a.b.c"):
        answer = httpx.post(f"{server.url}/v1/hello", headers={"Authorization": f"Bearer {token}"}, json={})
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        told.add(answer.content)
    assert len(told) == 1


def test_device_tokens_are_off_beside_web_tokens_unless_they_are_asked_for(
    server: ServerProcess, tmp_path: Path
) -> None:
    with pytest.raises(AuthRequired):
        server.backend(server.sign_in("ann")).hello(hello())
    (tmp_path / "keys.json").write_bytes(KEYS)
    options = ("--jwks", str(tmp_path / "keys.json"), "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
    with ServerProcess(tmp_path / "cloud", *options, "--device-tokens") as both:
        assert both.backend(both.sign_in("ann")).hello(hello()).device_seq == 0
        assert both.backend(issuer.token("ann")).hello(hello()).device_seq == 0


def test_while_the_issuer_cannot_be_asked_devices_wait_and_nobody_has_to_sign_in(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    options = ("--jwks", f"http://127.0.0.1:{port}/keys", "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
    with ServerProcess(tmp_path / "cloud", *options) as waiting:
        answer = httpx.post(f"{waiting.url}/v1/hello", headers={"Authorization": f"Bearer {issuer.token()}"}, json={})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert answer.json()["error"]["code"] == "sign_in_unavailable"


@pytest.mark.parametrize(
    "options",
    [
        ("--jwks", "keys.json"),
        ("--jwks", "keys.json", "--jwt-issuer", "i"),
        ("--jwks", "http://issuer.example/k", "--jwt-issuer", "i", "--jwt-audience", "a"),
        ("--jwks", "k", "--jwt-issuer", "i", "--jwt-audience", "a", "--jwt-algorithm", "HS256"),
    ],
)
def test_options_that_would_take_too_much_are_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    with pytest.raises(AssertionError, match="error:"):
        ServerProcess(tmp_path / "cloud", *options)


def test_many_requests_at_once_look_the_keys_up_once() -> None:
    published = Published(issuer.public())
    found: list[str | None] = []
    crowd = [
        threading.Thread(target=lambda: found.append(published.tokens.user_of(issuer.token()))) for _ in range(8)
    ]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join()
    assert (found, published.asked) == (["ann"] * 8, 1)
