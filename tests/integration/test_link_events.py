"""The network as the system tells of it, and as it is lost: in a network of the test's own."""

import struct

import pytest

from syncengine.remote.link_events import KnownLinks
from tests.integration.network_namespace import run_in_namespace

WATCH = """
import threading
from syncengine.clock import SystemClock
from syncengine.remote.link_events import LinkWatcher

heard = threading.Semaphore(0)
watcher = LinkWatcher(heard.release, clock=SystemClock())
watcher.start()

def after(*commands):
    if commands:
        ip(*commands)
    told = 0
    while heard.acquire(timeout=0.6):
        told += 1
    return told
"""


def test_each_change_of_the_network_is_told_once_and_a_repetition_not_at_all() -> None:
    told = run_in_namespace(
        WATCH
        + """
ip("link set lo up")
after()
found = {
    "up": after("link add v0 type veth", "link set veth0 up", "link set v0 up", "addr add 192.0.2.2/24 dev v0"),
    "default route": after("route add default via 192.0.2.1"),
    "a route to somewhere": after("route add 198.51.100.0/24 via 192.0.2.1"),
    "renamed": after("link set v0 alias same-link"),
    "address again": after("addr replace 192.0.2.2/24 dev v0 valid_lft 500 preferred_lft 400"),
    "down": after("link set v0 down"),
    "up again": after("link set v0 up"),
    "gone": after("link del v0"),
}
watcher.stop()
found["after stop"] = after("link add v1 type veth", "link set v1 up")
print(json.dumps(found))
"""
    )
    assert told == {
        "up": 1,
        "default route": 1,
        "a route to somewhere": 0,
        "renamed": 0,
        "address again": 0,
        "down": 1,
        "up again": 1,
        "gone": 1,
        "after stop": 0,
    }


def test_a_storm_of_changes_is_a_few_calls_and_the_last_one_comes_after_it() -> None:
    told = run_in_namespace(
        WATCH
        + """
print(json.dumps(after(*["link set lo up", "link set lo down"] * 1_000)))
"""
    )
    assert 1 <= told <= 50


LOST = """
import os
import tempfile
import threading
from syncengine import HttpBackend, Settings, SystemClock
from syncengine.clock import SystemClock
from syncengine.errors import SyncEngineError
from syncengine.remote.connectivity_probe import says_no_route
from tests.conformance.device_requests import hello

settings = Settings(request_wait_ms_max=1_000, connect_wait_ms_max=500)

def lost(url):
    backend = HttpBackend(url, token=lambda: "t", settings=settings, clock=clock, allow_plain_http=True)
    begin_ms = clock.monotonic_ms()
    try:
        backend.hello(hello())
    except SyncEngineError as error:
        return [error.code(), error.reason, clock.monotonic_ms() - begin_ms < 1_500, says_no_route(error)]
    finally:
        backend.close()

clock = SystemClock()
"""


def test_how_a_network_fails_is_told_apart_and_none_of_it_takes_longer_than_its_deadline() -> None:
    found = run_in_namespace(
        LOST
        + """
found = {"no link": lost("http://192.0.2.1")}
# Packets to an address that nobody at the other end has are dropped without a word.
ip("link set lo up", "link add v0 type veth peer name v1", "link set v0 up", "link set v1 up",
   "addr add 192.0.2.2/24 dev v0", "neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev v0",
   "neigh add 192.0.2.53 lladdr 02:00:00:00:00:01 dev v0")
found["blackhole"] = lost("http://192.0.2.1")
found["no route"] = lost("http://198.51.100.1")
found["refused"] = lost("http://127.0.0.1:9")
with tempfile.NamedTemporaryFile("w", delete=False) as resolver:
    resolver.write("nameserver 192.0.2.53\\n")
subprocess.run(["mount", "--bind", resolver.name, "/etc/resolv.conf"], check=True)
os.unlink(resolver.name)
found["a resolver that swallows questions"] = lost("http://cloud.example")
found["the same name again"] = lost("http://cloud.example")
found["threads"] = sum(each.name == "syncengine-name" for each in threading.enumerate())
print(json.dumps(found))
"""
    )
    unreachable = "backend_unreachable"
    assert found == {
        "no link": [unreachable, "no_route", True, True],
        "blackhole": [unreachable, "no_answer", True, False],
        "no route": [unreachable, "no_route", True, True],
        "refused": [unreachable, "refused", True, False],
        "a resolver that swallows questions": [unreachable, "name_not_found", True, False],
        "the same name again": [unreachable, "name_not_found", True, False],
        "threads": 2,  # each backend asks once
    }


def _message(kind: int, body: bytes) -> bytes:
    return struct.pack("=LHHLL", 16 + len(body), kind, 0, 0, 0) + body


def _link(flags: int, changed: int, index: int = 2) -> bytes:
    return _message(16, struct.pack("=BxHiLL", 0, 1, index, flags, changed))


def test_a_link_that_only_speaks_is_no_change_and_a_carrier_that_goes_is_one() -> None:
    links = KnownLinks()
    up, no_carrier = 0x1 | 0x40, 0x1
    assert not links.heard(_link(up, 0))
    assert not links.heard(_link(up, 0) * 3)
    assert links.heard(_link(no_carrier, 0x40))
    assert links.heard(_link(up, 0))
    assert links.heard(None)


@pytest.mark.parametrize(
    "received",
    [
        b"",
        b"\0" * 64,
        b"\xff" * 64,
        struct.pack("=LHHLL", 3, 16, 0, 0, 0),
        _message(16, b""),
        _message(20, b"\2"),
        _message(24, b"\2\0"),
        _link(1, 1)[:-3],
        _message(99, b"x" * 40),
    ],
)
def test_what_is_no_message_of_the_kernels_tells_nothing(received: bytes) -> None:
    assert not KnownLinks().heard(received)
