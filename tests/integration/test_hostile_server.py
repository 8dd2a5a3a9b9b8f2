"""The server that speaks TCP by hand costs the tests after it nothing."""

import socket
import threading

from tests.conformance.waiting import until
from tests.integration.hostile_server import HostileServer


def test_a_client_that_hangs_up_within_its_body_is_listened_to_no_longer() -> None:
    before = set(threading.enumerate())
    server = HostileServer(lambda *_: None)
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as client:
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc")
        until(lambda: len(set(threading.enumerate()) - before) == 2)
    until(lambda: len(set(threading.enumerate()) - before) == 1, seconds_max=5)
    server.close()
    assert server.requests == []
