"""A few bytes of gzip stand for a hundred megabytes; neither side ever holds them."""

import gzip
import tracemalloc
from collections.abc import Callable

import pytest

from syncengine.errors import ProtocolViolation
from syncengine.remote import http_answer
from syncengine.server import request_body
from syncengine.server.request_body import RequestRefused

BOMB = gzip.compress(b" " * 100_000_000, 1)
CAP = 100_000


def of_a_device() -> None:
    http_answer.unpacked(BOMB, {"Content-Encoding": "gzip"}, bytes_max=CAP)


def of_the_server() -> None:
    request_body.unpacked(BOMB, encoding="gzip", bytes_max=CAP)


@pytest.mark.parametrize(("unpack", "error"), [(of_a_device, ProtocolViolation), (of_the_server, RequestRefused)])
def test_a_bomb_is_unpacked_no_further_than_the_cap(unpack: Callable[[], None], error: type[Exception]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(error):
            unpack()
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 20 * CAP
