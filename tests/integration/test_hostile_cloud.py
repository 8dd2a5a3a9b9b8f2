"""An engine whose cloud turns hostile in the middle of a round: a typed error in bounded time and memory, the queue
kept, the store unchanged; and when the cloud is itself again, everything arrives once."""

import gzip
import json
import random
import re
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncengine.clock import SystemClock
from syncengine.engine import Engine
from syncengine.errors import (
    AuthRequired,
    BackendUnavailable,
    BackendUnreachable,
    NotOurServer,
    ProtocolViolation,
    RateLimited,
    SyncEngineError,
)
from syncengine.remote.json_text import write_json
from syncengine.remote.wire import EntryKind, HelloRequest, PullRequest, PushEntry, PushRequest, lean
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.settings import Settings
from syncengine.vocabulary import UserId
from tests.conformance.device_requests import pull, push
from tests.integration.hostile_server import JSON_HEAD, HostileServer, answering
from tests.integration.sync_world import registry

SETTINGS = Settings(
    request_wait_ms_max=700,
    connect_wait_ms_max=500,
    answer_bytes_max=300_000,
    compress="always",
    busy_wait_ms_max=500,
)
BOUND_SECONDS = 15.0
ANN = UserId("ann")
MEMORY_MAX = 12_000_000
"""Twenty times the cap of an answer; a bomb of the tests would be hundreds of times as large."""

Spoil = Callable[[socket.socket, bytes], None]
"""What to send in place of an honest answer's body."""


class TwoFacedCloud:
    """The shipped cloud's own answers by hand-written HTTP; the calls named in `spoiled` are answered otherwise."""

    def __init__(self, folder: Path) -> None:
        clock = SystemClock()
        self.cloud = Cloud(SqliteStorage(str(folder), clock=clock), clock=clock)
        self.cloud.accept_token(ANN, token="nobody asks for it here")
        self.spoiled: tuple[str, Spoil] | None = None
        self.last_answers: dict[str, bytes] = {}
        self.server = HostileServer(self._talk)

    def _talk(self, connection: socket.socket, request: bytes) -> None:
        call = request.partition(b"?")[0].partition(b" HTTP")[0].rpartition(b"/")[2].decode()
        body = self._honest(call, request)
        if self.spoiled is not None and self.spoiled[0] == call:
            self.spoiled[1](connection, body)
        else:
            self.last_answers[call] = body
            answering(body)(connection, request)

    def _honest(self, call: str, request: bytes) -> bytes:
        if call == "pull":
            asked = dict(re.findall(r"[?&](\w+)=([^& ]*)", request.partition(b"\r\n")[0].decode()))
            asked_pull = PullRequest.model_validate({**asked, "limit": int(asked["limit"])})
            return self.cloud.pull_text(ANN, asked_pull)
        text = request.partition(b"\r\n\r\n")[2]
        text = gzip.decompress(text) if text[:2] == b"\x1f\x8b" else text
        if call == "hello":
            return write_json(lean(self.cloud.hello(ANN, HelloRequest.model_validate_json(text))))
        if call == "push":
            return write_json(lean(self.cloud.push(ANN, PushRequest.model_validate_json(text))))
        return write_json({"protocol": 1, "nonce": "of nobody", "server_time": "t"})

    def close(self) -> None:
        self.server.close()
        self.cloud.close()


class Device:
    """One engine of ann's with three edits in its queue, while another device's row waits at the cloud."""

    def __init__(self, folder: Path) -> None:
        self.cloud = TwoFacedCloud(folder / "cloud")
        self.cloud.cloud.push(ANN, push(_plan(1, "theirs"), device="tablet"))
        self.engine = Engine.open(
            str(folder / "app.db"),
            registry=registry("1.0.0"),
            user="ann",
            cloud_url=self.cloud.server.url,
            token=lambda: "canary-token",
            settings=SETTINGS,
            chance=random.Random(5),
        )
        self.engine.migrate()
        for key in ("a", "b", "c"):
            with self.engine.write() as db:
                db["plans"].insert({"user_id": "ann", "id": key, "title": f"mine {key}", "minutes": 5})

    def close(self) -> None:
        self.engine.close()
        self.cloud.close()

    def holds(self) -> dict[str, list[tuple[object, ...]]]:
        """All that a hostile answer could spoil. Numbers and claims of the queue may change."""
        looks = {
            "queue": "SELECT owner, kind, collection, row_key, set_json, before_json FROM _sync_outbox"
            " WHERE state <> 'confirmed' ORDER BY entry_id",
            **{each: f"SELECT * FROM {each} ORDER BY 1, 2" for each in ("plans", "steps", "_sync_row")},
            **{each: f"SELECT * FROM {each}" for each in ("_sync_parked", "_sync_conflict", "_sync_quarantine")},
            "cursor": "SELECT owner, cursor FROM _sync_cursor WHERE cursor IS NOT NULL",
            "schema": "SELECT name, sql FROM sqlite_schema ORDER BY name",
        }
        return {name: self.engine._store.query(look) for name, look in looks.items()}

    def at_the_cloud(self) -> dict[str, int]:
        page = self.cloud.cloud.pull(ANN, pull())
        return {item.key: item.version for item in page.items}


def _plan(sequence: int, key: str) -> PushEntry:
    body = {"id": key, "title": f"plan {key}", "minutes": 5, "note": None}
    return PushEntry(
        sequence=sequence,
        group=sequence,
        kind=EntryKind.PUT,
        collection="plans",
        key=key,
        set=body,
        shape_version="1.0.0",
    )


@pytest.fixture(scope="module", autouse=True)
def everything_is_imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One round before, so that the tests measure a round and no imports."""
    made = Device(tmp_path_factory.mktemp("first"))
    assert made.engine.sync_now().ended == "drained"
    made.close()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path)
    yield made
    made.close()


# What a hostile or broken server may do with any call --------------------------------------------------------------


def sent(connection: socket.socket, *, head: bytes, body: bytes, status: bytes = b"200 OK") -> None:
    connection.sendall(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n" + head + b"\r\n" + body)


def drip(connection: socket.socket, body: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(body) + JSON_HEAD + b"\r\n")
    for each in body:
        connection.sendall(bytes([each]))
        time.sleep(0.05)


def silence(connection: socket.socket, body: bytes) -> None:
    threading.Event().wait(3)


def truncation(connection: socket.socket, body: bytes) -> None:
    sent(connection, head=b"Content-Length: %d\r\n" % len(body) + JSON_HEAD, body=body[:-10])


def too_short_a_length(connection: socket.socket, body: bytes) -> None:
    sent(connection, head=b"Content-Length: %d\r\n" % (len(body) - 10) + JSON_HEAD, body=body)


def two_lengths(connection: socket.socket, body: bytes) -> None:
    lengths = b"Content-Length: %d\r\nContent-Length: %d\r\n" % (len(body), len(body) - 10)
    sent(connection, head=lengths + JSON_HEAD, body=body)


def nonsense_length(connection: socket.socket, body: bytes) -> None:
    sent(connection, head=b"Content-Length: -1\r\n" + JSON_HEAD, body=body)


def broken_chunks(connection: socket.socket, body: bytes) -> None:
    sent(connection, head=b"Transfer-Encoding: chunked\r\n" + JSON_HEAD, body=b"zz\r\n" + body)


def endless_headers(connection: socket.socket, body: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(20_000):
        connection.sendall(b"X-%d: %s\r\n" % (number, b"x" * 1_000))


def endless_body(connection: socket.socket, body: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + JSON_HEAD + b"\r\n")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    for _ in range(2_000):
        connection.sendall(chunk)


def announced_bomb(connection: socket.socket, body: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n" + JSON_HEAD + b"\r\n")
    for _ in range(2_000):
        connection.sendall(b" " * 0x10000)


BOMB = gzip.compress(b" " * 200_000_000)


def gzip_bomb(connection: socket.socket, body: bytes) -> None:
    head = JSON_HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(BOMB)
    sent(connection, head=head, body=BOMB)


def html(connection: socket.socket, body: bytes) -> None:
    page = b"<html>canary: please sign in</html>"
    sent(connection, head=b"Content-Type: text/html\r\nContent-Length: %d\r\n" % len(page), body=page)


def nothing_but_200(connection: socket.socket, body: bytes) -> None:
    sent(connection, head=b"Content-Length: 0\r\n" + JSON_HEAD, body=b"")


def deep(connection: socket.socket, body: bytes) -> None:
    answering(b'{"protocol":1,"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}")(connection, b"")


def of_another_user(connection: socket.socket, body: bytes) -> None:
    answering(body, head=JSON_HEAD.replace(b"User: ann", b"User: bob"))(connection, b"")


def of_another_request(connection: socket.socket, body: bytes) -> None:
    answer = json.loads(body)
    answering(json.dumps({**answer, "request_id": "f" * 32}).encode())(connection, b"")


def another_protocol(connection: socket.socket, body: bytes) -> None:
    answering(json.dumps({**json.loads(body), "protocol": 2}).encode())(connection, b"")


def status(words: str, *, head: bytes = JSON_HEAD) -> Spoil:
    def talk(connection: socket.socket, body: bytes) -> None:
        answering(b'{"protocol":1,"error":{"code":"x","message":"canary"}}', status=words, head=head)(connection, b"")

    return talk


FOR_ANY_CALL: dict[str, tuple[Spoil, type[SyncEngineError]]] = {
    "drip": (drip, BackendUnreachable),
    "silence": (silence, BackendUnreachable),
    "truncation": (truncation, BackendUnreachable),
    "too short a length": (too_short_a_length, ProtocolViolation),
    "two lengths": (two_lengths, BackendUnreachable),
    "nonsense as length": (nonsense_length, BackendUnreachable),
    "broken chunks": (broken_chunks, BackendUnreachable),
    "endless headers": (endless_headers, BackendUnreachable),
    "endless body": (endless_body, ProtocolViolation),
    "announced bomb": (announced_bomb, ProtocolViolation),
    "gzip bomb": (gzip_bomb, ProtocolViolation),
    "html with 200": (html, NotOurServer),
    "nothing with 200": (nothing_but_200, ProtocolViolation),
    "deep json": (deep, ProtocolViolation),
    "wrong tenant": (of_another_user, NotOurServer),
    "another request's answer": (of_another_request, NotOurServer),
    "another protocol": (another_protocol, ProtocolViolation),
    "500": (status("500 Broken"), BackendUnavailable),
    "429": (status("429 Slow Down"), RateLimited),
    "401": (status("401 No"), AuthRequired),
    "404": (status("404 Not Found"), ProtocolViolation),
    "a proxy's 404": (status("404 Not Found", head=b""), NotOurServer),
}


@pytest.mark.parametrize("call", ["hello", "push", "pull"])
@pytest.mark.parametrize("how", FOR_ANY_CALL)
def test_a_cloud_that_turns_hostile_costs_time_and_nothing_else(device: Device, call: str, how: str) -> None:
    spoil, error = FOR_ANY_CALL[how]
    before = device.holds()
    device.cloud.spoiled = (call, spoil)
    refused_in_bounds(device, error)
    after = device.holds()
    if call == "pull":
        # The queue has gone before the page is asked for, so the rows are at the cloud and known.
        before["queue"], before["_sync_row"] = [], after["_sync_row"]
        assert {row[2] for row in after["_sync_row"]} == {"a", "b", "c"}
    assert after == before
    recovers(device)


def refused_in_bounds(device: Device, error: type[SyncEngineError]) -> None:
    begin = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(SyncEngineError) as refused:
            device.engine.sync_now()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert type(refused.value) is error, refused.value
    assert "canary" not in str(refused.value)
    assert time.monotonic() - begin < BOUND_SECONDS
    assert peak < MEMORY_MAX


def recovers(device: Device) -> None:
    """All that waited arrives, each entry once, and what was at the cloud comes down."""
    device.cloud.spoiled = None
    assert device.engine.sync_now().ended == "drained"
    assert device.at_the_cloud() == {"theirs": 1, "a": 2, "b": 3, "c": 4}
    found = device.holds()
    assert [row[1] for row in found["plans"]] == ["a", "b", "c", "theirs"]
    assert (found["queue"], found["_sync_quarantine"], found["_sync_conflict"]) == ([], [], [])


@pytest.mark.parametrize("call", ["hello", "push", "pull"])
def test_an_answer_that_was_given_before_is_not_taken_again(device: Device, call: str) -> None:
    assert device.engine.sync_now().ended == "drained"
    stale = device.cloud.last_answers[call]
    with device.engine.write() as db:
        db["plans"].insert({"user_id": "ann", "id": "d", "title": "mine d"})
    before = device.holds()
    device.cloud.spoiled = (call, lambda connection, body: answering(stale)(connection, b""))
    refused_in_bounds(device, NotOurServer)
    after = device.holds()
    if call == "pull":
        before["queue"], before["_sync_row"] = [], after["_sync_row"]
    assert after == before
    device.cloud.spoiled = None
    assert device.engine.sync_now().ended == "drained"
    assert device.at_the_cloud() == {"theirs": 1, "a": 2, "b": 3, "c": 4, "d": 5}


# What a hostile server may put into a row ---------------------------------------------------------------------------

VALUES = {
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "a float beyond double": b"1e999",
    "65 bit": b"18446744073709551616",
    "64 bit and no sign": b"9223372036854775808",
    "an endless number": b"9" * 100_000,
    "half a surrogate pair": b'"\\ud800"',
    "the other half": b'"\\udc00x"',
    "NUL": b'"a\\u0000b"',
    "no UTF-8": b'"\xc3("',
    "deep lists": b"[" * 70 + b"]" * 70,
    "very deep lists": b"[" * 100_000 + b"]" * 100_000,
    "a repeated name": b'{"x":1,"x":2}',
    "bare words": b"undefined",
    "something behind": b"1}}]} {",
}


@pytest.mark.parametrize("what", VALUES)
def test_a_page_with_a_value_that_cannot_be_held_is_refused_whole(device: Device, what: str) -> None:
    device.cloud.spoiled = (
        "pull",
        lambda connection, body: answering(_with_value(body, VALUES[what]))(connection, b""),
    )
    refused_in_bounds(device, ProtocolViolation)
    found = device.holds()
    assert [row[1] for row in found["plans"]] == ["a", "b", "c"]
    assert (found["_sync_parked"], found["_sync_quarantine"]) == ([], [])
    assert found["cursor"] == []
    recovers(device)


def _with_value(body: bytes, value: bytes) -> bytes:
    assert b'"plan theirs"' in body
    return body.replace(b'"plan theirs"', value)


@pytest.mark.parametrize(
    "name", ['plans"; DROP TABLE plans; --', "_sync_outbox", "sqlite_schema", "plans'", "x" * 10_000, "SELECT", ""]
)
def test_a_collection_named_like_sql_or_our_own_tables_touches_nothing(device: Device, name: str) -> None:
    def renamed(connection: socket.socket, body: bytes) -> None:
        answer = json.loads(body)
        for item in answer["items"]:
            item["collection"] = name if item["key"] == "theirs" else item["collection"]
        answering(json.dumps(answer).encode())(connection, b"")

    before = device.holds()
    device.cloud.spoiled = ("pull", renamed)
    assert device.engine.sync_now().ended == "drained"
    after = device.holds()
    # As what a newer version of the app would know.
    assert [row[2] for row in after["_sync_parked"]] == [name]
    assert (after["plans"], after["schema"]) == (before["plans"], before["schema"])
