"""What status() says of the network: each way in which the cloud cannot be reached has words of its own."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncengine.clock import SystemClock
from syncengine.engine import Engine
from syncengine.errors import BackendAddressRefused, QuotaExceeded, SyncEngineError
from syncengine.events import ProbeChanged, RoundEnded
from syncengine.remote.http_backend import HttpBackend
from syncengine.remote.wire import EntryKind, PushEntry
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.settings import Settings
from syncengine.vocabulary import UserId
from tests.conformance.device_requests import push
from tests.conformance.server_process import ServerProcess
from tests.integration.certificates import Authority
from tests.integration.hostile_server import HostileServer, Talk, Turning, answering
from tests.integration.sync_world import registry

QUICK = {"request_wait_ms_max": 500, "connect_wait_ms_max": 400, "probe_wait_ms_max": 400}
LOGIN = answering(b"<html>Welcome to the hotel", head=b"Content-Type: text/html\r\n")


def silence(connection: socket.socket, request: bytes) -> None:
    threading.Event().wait(2)


def cut(connection: socket.socket, request: bytes) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def refusing(status: str) -> Talk:
    return answering(
        b'{"protocol":1,"error":{"code":"x","message":"m"}}',
        status=status,
        head=b"Content-Type: application/json\r\nSyncengine-Protocol: 1\r\nRetry-After: 7\r\n",
    )


@pytest.fixture
def open_engine(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    opened: list[Engine | HostileServer] = []

    def start(where: str | Talk | HttpBackend, **more: object) -> Engine:
        if callable(where) and not isinstance(where, HttpBackend):
            server = HostileServer(where)
            opened.append(server)
            where = server.url
        settings = Settings(**QUICK, **more.pop("settings", {}))
        cloud = {"backend": where} if isinstance(where, HttpBackend) else {"cloud_url": where, "token": lambda: "t"}
        engine = Engine.open(
            str(tmp_path / "app.db"),
            registry=registry("1.0.0"),
            user="ann",
            settings=settings,
            chance=random.Random(3),
            **{**cloud, **more},
        )
        opened.insert(0, engine)
        engine.migrate()
        with engine.write() as db:
            db["plans"].insert({"user_id": "ann", "id": "a", "title": "mine"})
        return engine

    yield start
    for each in opened:
        each.close()


def after_two_failures(engine: Engine) -> tuple[str, str | None]:
    """One lost call is no outage."""
    for _ in range(2):
        with pytest.raises(SyncEngineError):
            engine.sync_now()
    found = engine.status()
    assert found.outbox.waiting + found.outbox.claimed == 1
    assert found.connectivity.at is not None
    return found.connectivity.verdict, found.connectivity.reason


@pytest.mark.parametrize(
    ("where", "verdict", "reason"),
    [
        pytest.param(LOGIN, "captive_portal", "login_page", id="captive portal"),
        pytest.param(
            answering(b"{}", head=b"Content-Type: application/json\r\n"),
            "captive_portal",
            "another_server",
            id="another server",
        ),
        pytest.param("https://cloud.invalid", "offline", "name_not_found", id="DNS"),
        pytest.param(silence, "offline", "no_answer", id="blackhole"),
        pytest.param(cut, "offline", "cut", id="cut"),
        pytest.param("http://127.0.0.1:9", "offline", "refused", id="refused"),
        pytest.param(refusing("429 Slow"), "rate_limited", "rate_limited", id="rate limit"),
        pytest.param(refusing("503 Busy"), "server_down", "backend_unavailable", id="server down"),
        pytest.param(refusing("401 No"), "auth_required", "auth_required", id="token refused"),
    ],
)
def test_each_way_to_fail_has_its_verdict_and_its_reason(
    open_engine: Callable[..., Engine], where: str | Talk, verdict: str, reason: str
) -> None:
    assert after_two_failures(open_engine(where)) == (verdict, reason)


def test_a_certificate_of_a_stranger_is_told_from_a_login_page(
    open_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    server = HostileServer(LOGIN, tls=Authority(tmp_path).serving())
    engine = open_engine(server.url)
    assert after_two_failures(engine) == ("tls_refused", "tls_refused")
    fixes = [obstacle.fix for obstacle in engine.explain("plans", "a").obstacles]
    assert any(fix.startswith("Check the clock of the device") for fix in fixes)
    server.close()


def test_the_background_tells_another_reason_for_the_same_verdict(open_engine: Callable[..., Engine]) -> None:
    way = Turning(silence)
    heard: list[ProbeChanged] = []
    engine = open_engine(
        way,
        listener=lambda event: heard.append(event) if isinstance(event, ProbeChanged) else None,
        settings={"probe_interval_ms_min": 50, "probe_interval_ms_max": 100},
    )
    engine.start()
    _until(lambda: ("offline", "no_answer") in [(each.verdict, each.reason) for each in heard])
    way.talk = cut
    _until(lambda: ("offline", "cut") in [(each.verdict, each.reason) for each in heard])
    assert engine.status().connectivity.reason == "cut"


def _until(found: Callable[[], bool]) -> None:
    over = time.monotonic() + 20
    while not found():
        assert time.monotonic() < over
        time.sleep(0.02)


@pytest.mark.parametrize(
    "url", ["firestore://", "firestore:demo", "firestore://a/b/c", "firestore://a b", "firestore:///x"]
)
def test_an_address_that_names_no_project_of_firestore_is_refused_before_the_store_is_made(
    tmp_path: Path, url: str
) -> None:
    with pytest.raises(BackendAddressRefused, match="firestore://PROJECT"):
        Engine.open(tmp_path / "app.db", registry=registry("1.0.0"), user="ann", cloud_url=url, token=lambda: "t")
    assert not list(tmp_path.iterdir())
    for good in ("firestore://herospath-prod", "firestore://herospath-prod/eu", "firestore://example.com:old/"):
        Engine.open(tmp_path / "app.db", registry=registry("1.0.0"), user="ann", cloud_url=good).close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "cloud") as running:
        yield running


class Watched:
    """An engine in the background of a shipped server, and the rounds that it ended."""

    def __init__(self, open_engine: Callable[..., Engine], server: ServerProcess, *, on_metered: str) -> None:
        self.rounds: list[RoundEnded] = []
        self.server = server
        token = server.sign_in("ann")
        self.engine = open_engine(
            server.url,
            token=lambda: token,
            settings={"on_metered": on_metered, "pull_interval_ms": 200},
            listener=lambda event: self.rounds.append(event) if isinstance(event, RoundEnded) else None,
        )
        clock = SystemClock()
        elsewhere = Cloud(SqliteStorage(str(server.folder), clock=clock), clock=clock)
        theirs = PushEntry(
            **{"sequence": 1, "group": 1, "kind": EntryKind.PUT, "collection": "plans", "key": "theirs"},
            set={"id": "theirs", "title": "of the tablet", "minutes": 5, "note": None},
            shape_version="1.0.0",
        )
        elsewhere.push(UserId("ann"), push(theirs, device="tablet"))
        elsewhere.close()

    def here(self) -> list[str]:
        return [key for (key,) in self.engine._store.query("SELECT id FROM plans ORDER BY id")]

    def settle(self) -> None:
        time.sleep(1.5)


def test_on_a_metered_network_the_background_waits_where_the_app_says_so(
    open_engine: Callable[..., Engine], server: ServerProcess
) -> None:
    watched = Watched(open_engine, server, on_metered="wait")
    engine = watched.engine
    engine.set_network(metered=True)
    engine.start()
    _until(lambda: engine.status().connectivity.verdict == "metered")
    watched.settle()
    assert (watched.rounds, engine.status().outbox.waiting) == ([], 1)
    assert "the network is metered, and the app waits for another" in str(engine.explain("plans", "a"))
    assert engine.sync_now().ended == "drained"
    assert (engine.status().outbox.waiting, watched.here()) == (0, ["a", "theirs"])
    with engine.write() as db:
        db["plans"].insert({"user_id": "ann", "id": "b", "title": "mine"})
    watched.settle()
    assert engine.status().outbox.waiting == 1
    engine.set_network(metered=False)
    _until(lambda: engine.status().outbox.waiting == 0)


def test_on_a_metered_network_the_background_only_sends_where_the_app_says_so(
    open_engine: Callable[..., Engine], server: ServerProcess
) -> None:
    watched = Watched(open_engine, server, on_metered="send")
    watched.engine.set_network(metered=True)
    watched.engine.start()
    _until(lambda: watched.engine.status().outbox.waiting == 0)
    watched.settle()
    assert watched.here() == ["a"]
    assert len(watched.rounds) == 1
    watched.engine.set_network(metered=False)
    _until(lambda: watched.here() == ["a", "theirs"])


def test_what_the_cloud_has_no_room_for_counts_as_unsent(open_engine: Callable[..., Engine], tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "full", "--user-rows-max", "1") as full:
        token = full.sign_in("ann")
        engine = open_engine(full.url, token=lambda: token)
        with engine.write() as db:
            db["plans"].insert({"user_id": "ann", "id": "b", "title": "no room"})
        with pytest.raises(QuotaExceeded):
            engine.sync_now()
        found = engine.status().outbox
        assert (found.unsent, found.waiting) == (2, 0)
        assert found.unsent == found.claimed


def test_status_shows_what_the_host_has_said_at_once_and_whatever_is_answered_then(
    open_engine: Callable[..., Engine], server: ServerProcess
) -> None:
    engine = Watched(open_engine, server, on_metered="sync").engine
    assert engine.sync_now().ended == "drained"

    def seen() -> tuple[str, str | None]:
        found = engine.status().connectivity
        return found.verdict, found.reason

    engine.set_network(online=False)
    assert seen() == ("offline", "host_says_offline")
    assert engine.sync_now().ended == "drained"
    assert seen() == ("offline", "host_says_offline")
    engine.set_network()
    assert seen() == ("unknown", "not_looked_yet")
    engine.sync_now()
    assert seen() == ("online", "backend_answered")
    engine.set_network(metered=True)
    assert seen() == ("metered", "host_says_metered")
    engine.set_network(metered=False)
    assert seen() == ("online", "backend_answered")


def test_what_the_host_knows_before_the_start_and_of_an_earlier_user_holds(
    open_engine: Callable[..., Engine], server: ServerProcess
) -> None:
    watched = Watched(open_engine, server, on_metered="wait")
    engine = watched.engine
    engine.set_network(online=False)
    engine.start()
    _until(lambda: engine.status().connectivity.reason == "host_says_offline")
    engine.switch_user("bob")
    engine.switch_user("ann")
    watched.settle()
    assert engine.status().connectivity.verdict == "offline"
    assert engine.status().outbox.waiting == 1
    engine.set_network(online=True)
    _until(lambda: engine.status().outbox.waiting == 0)
