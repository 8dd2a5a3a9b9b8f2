"""What whoever runs a server needs: numbers without anybody's data, health, an end in order, and forgetting."""

import asyncio
import contextlib
import gzip
import json
import logging
import random
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

from syncengine.clock import SystemClock
from syncengine.errors import BackendUnreachable, RateLimited, SyncEngineError
from syncengine.server.__main__ import SERVING, AnnouncedServer, listening
from syncengine.server.app import create_app
from syncengine.server.body_room import BodyRoom
from syncengine.server.cloud import Cloud
from syncengine.server.metrics import CONTENT_TYPE, Metrics
from syncengine.server.operations import SILENT_MS_MAX, operations_app
from syncengine.server.pace import Pace
from syncengine.server.receipts import Receipt
from syncengine.server.request_body import RequestRefused
from syncengine.server.retention import EVERY_MS, Retention
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.vocabulary import UserId
from tests.conformance.device_requests import delete, hello, patch, pull, push, put, rows
from tests.conformance.server_process import ServerProcess
from tests.conformance.waiting import until
from tests.integration.hostile_server import HostileServer, Turning, answering
from tests.integration.token_issuer import AUDIENCE, ISSUER, Issuer, jwks

OPERATIONS = ("--operations-port", "0")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "cloud", *OPERATIONS) as running:
        yield running


def asked(server: ServerProcess, path: str) -> httpx.Response:
    return httpx.get(server.operations_url + path, trust_env=False)


def numbers(server: ServerProcess) -> dict[str, float]:
    """By name and labels, as Prometheus reads them."""
    answer = asked(server, "/metrics")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, CONTENT_TYPE)
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.]+', line), line
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


# Metrics -----------------------------------------------------------------------------------------------------------


def test_requests_entries_and_refusals_are_counted(server: ServerProcess) -> None:
    ann = server.backend(server.sign_in("ann"))
    ann.hello(hello())
    ann.push(push(put(1, "a", {"n": 1}), put(2, "b", {"n": 1}), patch(3, "gone", {})))
    ann.push(push(put(1, "a", {"n": 1})))
    with pytest.raises(SyncEngineError):
        ann.push(push(put(9, "a", {"n": 1})))
    httpx.post(f"{server.url}/v1/hello", json={}, trust_env=False)
    httpx.get(f"{server.url}/made/up", trust_env=False)
    found = numbers(server)
    assert found['syncengine_requests_total{call="push",status="200"}'] == 2
    assert found['syncengine_requests_total{call="push",status="409"}'] == 1
    assert found['syncengine_requests_total{call="hello",status="401"}'] == 1
    assert found['syncengine_requests_total{call="other",status="404"}'] == 1
    assert found['syncengine_entries_total{status="applied"}'] == 2
    assert found['syncengine_entries_total{status="rejected"}'] == 1
    assert found['syncengine_entries_total{status="duplicate"}'] == 1
    assert {name: each for name, each in found.items() if "refusals" in name} == {
        'syncengine_refusals_total{code="no_such_call"}': 1,
        'syncengine_refusals_total{code="sequence_gap"}': 1,
        'syncengine_refusals_total{code="unauthorized"}': 1,
    }
    assert found["syncengine_requests_in_flight"] == 0
    assert found['syncengine_request_seconds_bucket{call="push",le="+Inf"}'] == 3
    assert found['syncengine_request_seconds_count{call="push"}'] == 3


def test_no_name_of_anybody_is_in_the_numbers(server: ServerProcess) -> None:
    token = server.sign_in("canary-user")
    backend = server.backend(token)
    backend.push(push(put(1, "canary-key", {"canary": 1}), user="canary-user", device="canary-device"))
    backend.rows(rows(user="canary-user", collection="canary_rows"))
    httpx.get(f"{server.url}/canary/{token}?canary=1", trust_env=False)
    httpx.request("CANARY", f"{server.url}/v1/push", trust_env=False)
    text = asked(server, "/metrics").text
    assert "canary" not in text.lower()
    assert token not in text


def test_each_answer_is_in_one_bucket_and_in_all_larger_ones() -> None:
    metrics = Metrics()
    for took_ms in (0, 5, 6, 40_000):
        metrics.begun()
        metrics.ended("push", status=200, took_ms=took_ms)
    metrics.pushed([("applied", Receipt(1, "applied", "t", 1, entries=500))])
    text = metrics.text()
    counts = dict(re.findall(r'bucket\{call="push",le="([^"]+)"\} (\d+)', text))
    assert (counts["0.005"], counts["0.01"], counts["30.0"], counts["+Inf"]) == ("2", "3", "3", "4")
    assert 'syncengine_request_seconds_sum{call="push"} 40.011' in text
    assert 'syncengine_entries_total{status="applied"} 500' in text


def test_the_numbers_and_health_are_not_on_the_port_of_the_users(server: ServerProcess) -> None:
    for path in ("/metrics", "/healthz", "/readyz"):
        assert httpx.get(server.url + path, trust_env=False).status_code == 404
    assert urlsplit(server.operations_url).hostname == "127.0.0.1"


# Health ------------------------------------------------------------------------------------------------------------


class Serving:
    """A server by hand."""

    is_stopping = False
    looked_around_ms: int | None = None


class Database:
    """One that answers as it is told to."""

    def __init__(self) -> None:
        self.answer: Callable[[], bool] = lambda: True
        self.asked = 0

    def is_there(self) -> bool:
        self.asked += 1
        return self.answer()


def app_of(serving: Serving, database: Database) -> Starlette:
    return operations_app(serving, database, metrics=Metrics(), clock=SystemClock())


def client_of(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://operations")


def told(serving: Serving, database: Database) -> dict[str, tuple[int, str]]:
    async def ask() -> dict[str, tuple[int, str]]:
        async with client_of(app_of(serving, database)) as client:
            answers = {path: await client.get(path) for path in ("/healthz", "/readyz")}
        return {path: (answer.status_code, answer.text.strip()) for path, answer in answers.items()}

    return asyncio.run(ask())


def test_a_running_server_is_alive_and_ready(server: ServerProcess) -> None:
    assert (asked(server, "/healthz").status_code, asked(server, "/healthz").text) == (200, "alive\n")
    assert (asked(server, "/readyz").status_code, asked(server, "/readyz").text) == (200, "ready\n")


def test_a_server_that_has_not_begun_or_hangs_or_ends_says_so() -> None:
    serving, database = Serving(), Database()
    assert told(serving, database) == {"/healthz": (200, "alive"), "/readyz": (503, "starting")}
    serving.looked_around_ms = SystemClock().monotonic_ms() - SILENT_MS_MAX - 1
    assert told(serving, database)["/healthz"] == (503, "hangs")
    serving.is_stopping = True
    assert told(serving, database) == {"/healthz": (200, "alive"), "/readyz": (503, "stopping")}


def fails() -> bool:
    raise OSError("canary: the disk is gone")


@pytest.mark.parametrize("answer", [lambda: False, fails], ids=["another", "gone"])
def test_a_server_without_its_database_is_alive_and_not_ready(answer: Callable[[], bool]) -> None:
    serving, database = Serving(), Database()
    serving.looked_around_ms = SystemClock().monotonic_ms()
    database.answer = answer
    assert told(serving, database) == {
        "/healthz": (200, "alive"),
        "/readyz": (503, "the database does not answer"),
    }


def test_a_database_that_does_not_exist_is_said_once_and_plainly(database: str, tmp_path: Path) -> None:
    name = urlsplit(database).path.removeprefix("/")
    with pytest.raises(AssertionError) as failed:
        ServerProcess(tmp_path, database=database.replace(name, "nowhere", 1))
    said = str(failed.value)
    assert said.count('database "nowhere" does not exist') == 1
    assert "The database cannot be reached now." in said
    assert "Traceback" not in said


def test_a_server_whose_keys_cannot_be_had_says_so_and_is_ready_once_they_are_there(tmp_path: Path) -> None:
    way = Turning(answering(b"<html>", status="404 Not Found"))
    keys = HostileServer(way)
    options = ("--jwks", keys.url, "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
    with ServerProcess(tmp_path / "cloud", *OPERATIONS, *options) as server:
        answer = asked(server, "/readyz")
        assert (answer.status_code, answer.text) == (503, "no keys for web tokens: the keys are not there\n")
        assert asked(server, "/healthz").status_code == 200
        assert server.stop() == 0
        assert server.stderr.count("no keys for web tokens: the keys are not there") == 1
        way.talk = answering(jwks(Issuer().public()))
        server.start()
        assert asked(server, "/readyz").text == "ready\n"
    keys.close()


def test_a_database_that_hangs_is_asked_once_and_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncengine.server.operations.READY_SECONDS_MAX", 0.1)
    serving, database, goes_on = Serving(), Database(), threading.Event()
    serving.looked_around_ms = SystemClock().monotonic_ms()
    database.answer = lambda: goes_on.wait(20)

    async def ask() -> list[int]:
        async with client_of(app_of(serving, database)) as client:
            found = [(await client.get("/readyz")).status_code for _ in range(3)]
            assert database.asked == 1
            goes_on.set()
            await asyncio.sleep(0.3)
            return [*found, (await client.get("/readyz")).status_code]

    assert asyncio.run(ask()) == [503, 503, 503, 200]


# The end -----------------------------------------------------------------------------------------------------------


class SlowPush:
    """A push whose body is sent in two halves, by hand."""

    def __init__(self, server: ServerProcess, token: str, request: object) -> None:
        body = json.dumps(request.model_dump(exclude_none=True, mode="json")).encode()  # type: ignore[attr-defined] - a model
        place = urlsplit(server.url)
        head = (
            f"POST /v1/push HTTP/1.1\r\nHost: cloud\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._rest = body[len(body) // 2 :]
        self._socket = socket.create_connection((place.hostname, place.port), timeout=20)
        self._socket.sendall(head.encode() + body[: len(body) // 2])

    def end(self) -> bytes:
        """The other half; the whole answer."""
        self._socket.sendall(self._rest)
        return self.heard()

    def hang_up(self) -> None:
        """Without the other half."""
        self._socket.close()

    def heard(self) -> bytes:
        """What comes until the server closes."""
        heard = b""
        with self._socket:
            while part := self._socket.recv(65_536):
                heard += part
        return heard


def lets_in(server: ServerProcess, token: str) -> bool:
    try:
        server.backend(token).hello(hello())
    except BackendUnreachable:
        return False
    return True


def test_a_push_on_its_way_when_the_server_is_told_to_stop_is_done_and_answered(server: ServerProcess) -> None:
    token = server.sign_in("ann")
    request = push(put(1, "a", {"n": 1}), put(2, "b", {"n": 2}))
    slow = SlowPush(server, token, request)
    until(lambda: numbers(server)["syncengine_requests_in_flight"] == 1)
    server.tell_to_stop()
    until(lambda: asked(server, "/readyz").text == "stopping\n")
    assert asked(server, "/healthz").status_code == 200
    until(lambda: not lets_in(server, token))
    answer = slow.end()
    assert b" 200 OK" in answer
    assert b'"device_seq":2' in answer
    assert server.wait() == 0
    assert "Traceback" not in server.stderr
    assert [file.name for file in server.folder.iterdir()] == ["cloud.db"], "it was not closed"
    server.start()
    again = server.backend(token).push(request)
    assert [result.status for result in again.results] == ["duplicate", "duplicate"]
    assert {row.key: row.version for row in server.backend(token).rows(rows()).rows} == {"a": 1, "b": 2}


def test_a_server_on_postgresql_ends_in_the_same_order(database: str, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, *OPERATIONS, database=database) as server:
        token = server.sign_in("ann")
        request = push(put(1, "a", {"n": 1}))
        slow = SlowPush(server, token, request)
        until(lambda: numbers(server)["syncengine_requests_in_flight"] == 1)
        assert asked(server, "/readyz").text == "ready\n"
        server.tell_to_stop()
        until(lambda: asked(server, "/readyz").text == "stopping\n")
        assert b'"device_seq":1' in slow.end()
        assert server.wait() == 0
        assert "Traceback" not in server.stderr
        server.start()
        assert [result.status for result in server.backend(token).push(request).results] == ["duplicate"]


def test_a_push_that_takes_too_long_is_cut_off_and_is_done_once_when_it_comes_again(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "cloud", *OPERATIONS, "--stop-seconds-max", "1") as server:
        token = server.sign_in("ann")
        request = push(put(1, "a", {"n": 1, "text": "canary"}))
        slow = SlowPush(server, token, request)
        until(lambda: numbers(server)["syncengine_requests_in_flight"] == 1)
        server.tell_to_stop()
        assert server.wait() == 0
        assert slow.heard().startswith(b"HTTP/1.1 500 ")  # a device waits, and sends it again
        assert "canary" not in server.stderr
        assert "a request was cut off: it took longer than --stop-seconds-max" in server.stderr
        assert "Traceback" not in server.stderr
        assert [file.name for file in server.folder.iterdir()] == ["cloud.db"], "it was not closed"
        server.start()
        assert server.backend(token).hello(hello()).device_seq == 0
        assert [result.status for result in server.backend(token).push(request).results] == ["applied"]


# A request that takes too long -------------------------------------------------------------------------------------


def test_a_body_that_comes_too_slowly_is_408_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncengine.server.request_body.BODY_WAIT_SECONDS_MAX", 0.2)
    clock, metrics = SystemClock(), Metrics()
    cloud = Cloud(SqliteStorage(str(tmp_path), clock=clock), clock=clock)
    token = cloud.add_token(UserId("ann"), chance=random.Random(1))

    async def dripping() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    async def ask() -> httpx.Response:
        app = create_app(cloud, metrics=metrics)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cloud") as client:
            head = {"Authorization": f"Bearer {token}"}
            return await client.post("/v1/push", content=dripping(), headers=head)

    answer = asyncio.run(ask())
    cloud.close()
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "too_slow")
    assert 'syncengine_refusals_total{code="too_slow"} 1' in metrics.text()


def test_an_upload_that_is_cut_off_is_counted_as_such_and_is_no_failure(server: ServerProcess) -> None:
    token = server.sign_in("ann")
    for _ in range(3):
        SlowPush(server, token, push(put(1, "a", {"n": 1}))).hang_up()
    cut_off = 'syncengine_requests_total{call="push",status="0"}'
    until(lambda: numbers(server).get(cut_off) == 3)
    assert not [name for name in numbers(server) if "refusals" in name or 'status="4' in name or 'status="5' in name]
    server.stop()
    assert server.stderr == ""


# Memory and connections that are held ------------------------------------------------------------------------------


def test_what_is_held_of_one_user_and_of_all_is_bounded_and_free_again_at_the_end() -> None:
    room, ann, bob = BodyRoom(user_bytes_max=10, all_bytes_max=15), UserId("ann"), UserId("bob")
    with room.share(ann) as first, room.share(ann) as second, room.share(bob) as third:
        first.take(6)
        second.take(4)
        with pytest.raises(RequestRefused):
            second.take(1)
        third.take(5)
        with pytest.raises(RequestRefused):
            third.take(1)
        first.give_back()
        third.take(5)
    with room.share(ann) as again:
        again.take(10)


def test_who_sends_too_much_at_once_is_asked_to_wait_and_the_others_are_served(tmp_path: Path) -> None:
    clock, metrics = SystemClock(), Metrics()
    cloud = Cloud(SqliteStorage(str(tmp_path), clock=clock), clock=clock)
    app = create_app(cloud, metrics=metrics, room=BodyRoom(user_bytes_max=1_000, all_bytes_max=10_000))
    tokens = {user: cloud.add_token(UserId(user), chance=random.Random(user)) for user in ("ann", "bob")}

    async def ask() -> list[httpx.Response]:
        holds, may_end = asyncio.Event(), asyncio.Event()

        async def held() -> AsyncIterator[bytes]:
            yield text("ann")[:600]
            holds.set()
            await may_end.wait()
            yield text("ann")[600:]

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cloud") as client:

            async def hear(user: str, content: bytes | AsyncIterator[bytes], **more: str) -> httpx.Response:
                head = {"Authorization": f"Bearer {tokens[user]}", **more}
                return await client.post("/v1/hello", content=content, headers=head)

            first = asyncio.create_task(hear("ann", held()))
            await holds.wait()
            packed = await hear("ann", gzip.compress(text("ann")), **{"Content-Encoding": "gzip"})
            meanwhile = [await hear("ann", text("ann")), packed, await hear("bob", text("bob"))]
            may_end.set()
            return [await first, *meanwhile, await hear("ann", text("ann"))]

    answers = asyncio.run(ask())
    cloud.close()
    assert [each.status_code for each in answers] == [200, 503, 503, 200, 200]
    assert (answers[1].headers["Retry-After"], answers[1].json()["error"]["code"]) == ("5", "busy")


def text(user: str) -> bytes:
    """A hello of 800 bytes."""
    return hello(user=user).model_dump_json(exclude_none=True).encode().ljust(800)


def test_a_connection_on_which_nobody_asks_anything_is_closed_and_one_at_work_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncengine.server.quiet_connections.HEAD_MS_MAX", 300)
    monkeypatch.setattr("syncengine.server.quiet_connections.NEXT_HEAD_MS_MAX", 600)
    clock = SystemClock()
    cloud = Cloud(SqliteStorage(str(tmp_path), clock=clock), clock=clock)
    token = cloud.add_token(UserId("ann"), chance=random.Random(1))
    serving = AnnouncedServer(uvicorn.Config(create_app(cloud), **SERVING))
    listener = listening("127.0.0.1", 0)
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]})
    thread.start()
    body = hello().model_dump_json(exclude_none=True).encode()
    whole = b"GET /v1/health?nonce=a HTTP/1.1\r\nHost: cloud\r\n\r\n"
    head = f"POST /v1/hello HTTP/1.1\r\nHost: cloud\r\nAuthorization: Bearer {token}\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    try:
        silent, half, next_half, at_work = (socket.create_connection(listener.getsockname(), 20) for _ in range(4))
        half.sendall(whole[:20])
        next_half.sendall(whole + whole[:20])
        at_work.sendall(head.encode() + body[:10])
        assert heard(silent) == heard(half) == b""
        assert heard(next_half).count(b" 200 OK") == 1
        at_work.sendall(body[10:])
        assert heard(at_work).startswith(b"HTTP/1.1 200 OK")
    finally:
        serving.should_exit = True
        thread.join(20)
        cloud.close()


def heard(connection: socket.socket) -> bytes:
    """Until the server closes."""
    said = b""
    with connection, contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            said += part
    return said


# A user who asks too often -----------------------------------------------------------------------------------------


class HandClock(SystemClock):
    """Moves only by hand."""

    at_ms = 1_000

    def monotonic_ms(self) -> int:
        return self.at_ms


def test_a_bucket_is_emptied_at_once_or_by_and_by_and_fills_again_with_time() -> None:
    clock = HandClock()
    pace = Pace(6, clock=clock)
    ann, bob = UserId("ann"), UserId("bob")
    assert [pace.wait_s(ann) for _ in range(8)] == [0] * 6 + [10, 10]
    assert pace.wait_s(bob) == 0
    clock.at_ms += 9_000
    assert pace.wait_s(ann) == 1
    clock.at_ms += 1_000
    assert [pace.wait_s(ann) for _ in range(2)] == [0, 10]
    clock.at_ms += 3_600_000
    assert [pace.wait_s(ann) for _ in range(7)] == [0] * 6 + [10]


def test_who_came_least_recently_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncengine.server.pace.KNOWN_USERS_MAX", 2)
    pace = Pace(1, clock=HandClock())
    ann, bob, cleo = UserId("ann"), UserId("bob"), UserId("cleo")
    assert [pace.wait_s(user) for user in (ann, bob, ann, cleo)] == [0, 0, 60, 0]
    assert [pace.wait_s(user) for user in (ann, bob)] == [60, 0]


def test_a_user_who_asks_too_often_waits_and_the_others_do_not(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "cloud", *OPERATIONS, "--user-requests-per-minute-max", "3") as server:
        ann, bob = (server.backend(server.sign_in(user)) for user in ("ann", "bob"))
        for _ in range(3):
            ann.hello(hello())
        with pytest.raises(RateLimited) as limited:
            ann.push(push(put(1, "a", {"text": "x" * 1_000_000})))
        assert 1_000 <= (limited.value.retry_after_ms or 0) <= 20_000
        assert bob.hello(hello(user="bob")).device_seq == 0
        for _ in range(5):
            httpx.post(f"{server.url}/v1/hello", json={}, headers={"Authorization": "Bearer x"}, trust_env=False)
        found = numbers(server)
        assert found['syncengine_refusals_total{code="rate_limited"}'] == 1
        assert found['syncengine_refusals_total{code="unauthorized"}'] == 5


# Forgetting --------------------------------------------------------------------------------------------------------


def test_a_running_server_forgets_what_was_deleted_long_ago(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "cloud", *OPERATIONS, "--keep-days", "0") as server:
        token = server.sign_in("ann")
        server.backend(token).push(push(put(1, "a", {}), put(2, "b", {}), delete(3, "a")))
        server.stop()
        server.start()
        until(lambda: numbers(server)["syncengine_rows_forgotten_total"] == 1)
        ann = server.backend(token)
        assert ann.hello(hello()).floor == 3
        assert [item.key for item in ann.pull(pull()).items] == ["b"]


@pytest.mark.parametrize("keep", ["never", "90"])
def test_a_server_forgets_nothing_before_its_time(tmp_path: Path, keep: str) -> None:
    with ServerProcess(tmp_path / "cloud", "--keep-days", keep) as server:
        token = server.sign_in("ann")
        server.backend(token).push(push(put(1, "a", {}), delete(2, "a")))
        server.stop()
        server.start()
        time.sleep(0.5)
        assert [item.key for item in server.backend(token).pull(pull()).items] == ["a"]


class LeapingClock(SystemClock):
    """A wait is over at once, and is noted."""

    def __init__(self) -> None:
        self.waited: list[int] = []

    def wait(self, event: threading.Event, wait_ms: int) -> bool:
        self.waited.append(wait_ms)
        return len(self.waited) == 3 or event.is_set()


def test_forgetting_is_done_each_day_also_after_one_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    clock, days = LeapingClock(), []

    def forget(*, is_over: Callable[[], bool]) -> int:
        days.append(is_over())
        if len(days) == 2:
            raise OSError("canary")
        return 0

    with caplog.at_level(logging.ERROR):
        retention = Retention(forget, clock=clock)
        retention.start()
        until(lambda: len(clock.waited) == 3)
        retention.stop()
    assert (days, clock.waited) == ([False] * 3, [EVERY_MS] * 3)
    assert [record.error for record in caplog.records] == ["OSError"]  # type: ignore[attr-defined] - put there by extra=
    assert "canary" not in caplog.text


def test_forgetting_ends_when_the_server_does() -> None:
    begun, ended = threading.Event(), threading.Event()

    def forget(*, is_over: Callable[[], bool]) -> int:
        begun.set()
        until(is_over)
        ended.set()
        return 0

    retention = Retention(forget, clock=SystemClock())
    retention.start()
    assert begun.wait(10)
    retention.stop()
    assert ended.is_set()


@pytest.mark.parametrize("options", [["--keep-days", "-1"], ["--stop-seconds-max", "x"], ["--user-rows-max", "-3"]])
def test_an_option_that_makes_no_sense_is_refused(tmp_path: Path, options: list[str]) -> None:
    with pytest.raises(AssertionError, match="error: argument"):
        ServerProcess(tmp_path / "cloud", *options)
