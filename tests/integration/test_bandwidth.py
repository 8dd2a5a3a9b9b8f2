"""The host's ceilings on bytes per second, over real HTTP on loopback."""

import json
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncengine.clock import SystemClock
from syncengine.errors import BackendUnreachable, SyncEngineError
from syncengine.remote.bandwidth import Bandwidth
from syncengine.remote.http_backend import HttpBackend
from syncengine.settings import Settings
from syncengine.sync.line import Line
from tests.conformance.device_requests import hello, pull, push, put
from tests.integration.hostile_server import HostileServer, Talk, answering, hello_answer
from tests.integration.test_http_backend_hostile import honest

RATE = 200_000
BODY = 500_000
EARNED_SECONDS = BODY / RATE
"""What the body takes at the rate; a burst of an eighth of a second is free."""


def timed(work: Callable[[], object]) -> float:
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


@pytest.fixture
def against() -> Iterator[Callable[..., HttpBackend]]:
    made: list[HostileServer | HttpBackend] = []

    def start(talk: Talk, **limits: int) -> HttpBackend:
        server = HostileServer(talk)
        backend = HttpBackend(
            server.url, token=lambda: "t", settings=Settings(**limits, compress="never"), clock=SystemClock()
        )
        made.extend((backend, server))
        return backend

    yield start
    for each in made:
        each.close()


def push_answer(connection: socket.socket, request: bytes) -> None:
    asked = json.loads(request.partition(b"\r\n\r\n")[2])
    results = [{"sequence": each["sequence"], "status": "applied", "version": 1} for each in asked["entries"]]
    body = {"protocol": 1, "request_id": asked["request_id"], "server_time": "t", "device_seq": 1, "results": results}
    answering(json.dumps(body).encode())(connection, request)


def page(connection: socket.socket, request: bytes) -> None:
    asked = dict(re.findall(r"[?&](\w+)=([^& ]*)", request.partition(b"\r\n")[0].decode()))
    row = {"collection": "c", "key": "k", "version": 2, "shape_version": "1", "body": {"text": "x" * BODY}}
    body = {
        **{"protocol": 1, "request_id": asked["request_id"], "server_time": "t", "server_epoch": 1},
        **{"items": [row], "cursor": "next", "more": False},
    }
    answering(json.dumps(body).encode())(connection, request)


def test_a_push_is_no_faster_than_the_ceiling_and_its_deadline_waits_for_it(
    against: Callable[..., HttpBackend],
) -> None:
    large = push(put(1, "a", {"text": "x" * BODY}))
    free = timed(lambda: against(push_answer).push(large))
    slow = timed(lambda: against(push_answer, upload_bytes_per_s_max=RATE, request_wait_ms_max=1_000).push(large))
    assert free < 1.0
    assert EARNED_SECONDS - 0.2 < slow < 2 * EARNED_SECONDS


def test_a_page_is_no_faster_than_the_ceiling_and_its_deadline_waits_for_it(
    against: Callable[..., HttpBackend],
) -> None:
    free = timed(lambda: against(page).pull(pull()))
    slow = timed(lambda: against(page, download_bytes_per_s_max=RATE, request_wait_ms_max=1_000).pull(pull()))
    assert free < 1.0
    assert EARNED_SECONDS - 0.2 < slow < 2 * EARNED_SECONDS


def test_each_way_has_a_ceiling_of_its_own(against: Callable[..., HttpBackend]) -> None:
    large = push(put(1, "a", {"text": "x" * BODY}))
    assert timed(lambda: against(push_answer, download_bytes_per_s_max=RATE).push(large)) < 1.0
    assert timed(lambda: against(page, upload_bytes_per_s_max=RATE).pull(pull())) < 1.0


def test_connections_of_one_backend_share_the_ceiling(against: Callable[..., HttpBackend]) -> None:
    backend = against(page, download_bytes_per_s_max=RATE)
    both = [threading.Thread(target=lambda: backend.pull(pull())) for _ in range(2)]

    def run() -> None:
        for each in both:
            each.start()
        for each in both:
            each.join()

    assert timed(run) > 2 * EARNED_SECONDS - 0.2


def test_a_server_that_drips_still_meets_the_deadline(against: Callable[..., HttpBackend]) -> None:
    def drip(connection: socket.socket, request: bytes) -> None:
        answer = json.dumps(hello_answer(request)).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer))
        for each in answer:
            connection.sendall(bytes([each]))
            time.sleep(0.05)

    backend = against(drip, download_bytes_per_s_max=1_000, request_wait_ms_max=800)
    with pytest.raises(SyncEngineError):
        assert timed(lambda: backend.hello(hello())) < 3


def test_closing_does_not_wait_for_the_ceiling(against: Callable[..., HttpBackend]) -> None:
    backend = against(push_answer, upload_bytes_per_s_max=1_000)
    closer = threading.Timer(0.3, backend.close)
    closer.start()
    begin = time.monotonic()
    with pytest.raises(BackendUnreachable):
        backend.push(push(put(1, "a", {"text": "x" * BODY})))
    assert time.monotonic() - begin < 3
    closer.join()


def test_small_calls_are_not_slowed(against: Callable[..., HttpBackend]) -> None:
    backend = against(honest, upload_bytes_per_s_max=RATE, download_bytes_per_s_max=RATE)
    assert timed(lambda: backend.hello(hello())) < 0.5


def test_a_push_is_as_large_as_the_ceiling_lets_through_in_the_target_time() -> None:
    assert Line().bytes_max(Settings(upload_bytes_per_s_max=100_000, push_ms_target=2_000)) == 200_000
    assert Line().bytes_max(Settings()) == 1_000_000
    assert Line(bytes_per_s=50_000).bytes_max(Settings(upload_bytes_per_s_max=90_000)) == 100_000


class HandClock(SystemClock):
    """Moves only by hand."""

    def __init__(self) -> None:
        self.at_ms = 1_000

    def monotonic_ms(self) -> int:
        return self.at_ms


@given(
    st.integers(1_000, 10_000_000),
    st.lists(st.tuples(st.integers(1, 100_000), st.integers(0, 2_000)), min_size=1, max_size=40),
)
def test_over_any_time_no_more_than_rate_and_one_moment_is_let_through(
    rate: int, moves: list[tuple[int, int]]
) -> None:
    clock = HandClock()
    bucket = Bandwidth(rate, clock=clock)
    assert bucket.piece_bytes_max is not None
    begin_ms, moved = clock.at_ms, 0
    for size, idle_ms in moves:
        clock.at_ms += idle_ms + bucket.spend(size)
        moved += size
        assert moved <= rate * (clock.at_ms - begin_ms + 126) / 1000 + 1
    at_ms = clock.at_ms
    clock.at_ms += bucket.spend(rate)
    assert clock.at_ms - at_ms <= 1_001  # nor is anything held back that was earned


def test_without_a_ceiling_nothing_is_counted() -> None:
    bucket = Bandwidth(0, clock=SystemClock())
    assert bucket.piece_bytes_max is None
    assert [bucket.spend(random.Random(1).randrange(10**9)) for _ in range(5)] == [0] * 5
