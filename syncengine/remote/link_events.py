"""Hints from Linux that the network is another: a link went up or down, an address or the default route came or went.

Read from a netlink socket (rtnetlink(7), netlink(7)), which needs no rights and no library. Other systems give no
hints, and the probe's own looks have to do.
"""

import contextlib
import errno
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from syncengine.clock import Clock

SETTLE_MS = 100
"""A new network comes as a burst: link, addresses, routes. So long after the first of them one call tells of all."""
STOP_WAIT_MS_MAX = 2_000

# linux/rtnetlink.h: the groups are bits of the address that the socket is bound to.
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # link; addresses and routes of IPv4, then of IPv6
_NEW_LINK, _DEL_LINK = 16, 17
_NEW_ADDRESS, _DEL_ADDRESS = 20, 21
_NEW_ROUTE, _DEL_ROUTE = 24, 25
_RECEIVED_BYTES_MAX = 65_536

_HEADER = struct.Struct("=LHHLL")  # nlmsghdr: length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiLL")  # ifinfomsg: family, type, index, flags, what of them has changed
_ADDRESS = struct.Struct("=BBBBL")  # ifaddrmsg: family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBL")  # rtmsg: family, destination length, source length, tos, table, …
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_ADDRESS_ITSELF = 1  # IFA_ADDRESS
_WITHIN_THE_LINK = 253  # RT_SCOPE_LINK; an address for the neighbours alone leads to no cloud
_MAIN_TABLE = 254  # RT_TABLE_MAIN
_UP_AND_RUNNING = 0x1 | 0x40  # IFF_UP, IFF_RUNNING


class LinkWatcher:
    """Calls `on_change` soon after the network may be another one. A hint: the callee looks for itself.

    Calls come one at a time, on a thread of the watcher's own; they should be short.
    """

    def __init__(self, on_change: Callable[[], None], *, clock: Clock, settle_ms: int = SETTLE_MS) -> None:
        self._on_change = on_change
        self._clock = clock
        self._settle_ms = settle_ms
        self._known = KnownLinks()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch until stop(). Raises OSError where the system has no such hints."""
        self._events = _netlink_socket()
        self._waker, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._watch, name="syncengine-links", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No call begins after this returns; safe to repeat; waits a bounded time for one that is under way."""
        if self._thread is None or self._over.is_set():
            return
        self._over.set()
        self._waker.send(b"x")
        if self._thread is not threading.current_thread():
            self._thread.join(STOP_WAIT_MS_MAX / 1000)

    def _watch(self) -> None:
        looking = select.poll()
        for each in (self._events, self._woken):
            looking.register(each, select.POLLIN)
        with self._events, self._waker, self._woken:
            while not self._over.is_set():
                looking.poll()
                if self._read() and not self._clock.wait(self._over, self._settle_ms):
                    self._read()
                    self._on_change()

    def _read(self) -> bool:
        """Take in all that has come; whether any of it is a change."""
        changed = False
        with contextlib.suppress(BlockingIOError):
            while not self._over.is_set():
                changed |= self._known.heard(self._received())
        return changed

    def _received(self) -> bytes | None:
        """None: there was more than the socket could hold."""
        try:
            return self._events.recv(_RECEIVED_BYTES_MAX)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return None
            raise


def _netlink_socket() -> socket.socket:
    if not hasattr(socket, "AF_NETLINK"):
        raise OSError(errno.EAFNOSUPPORT, "this system has no netlink")
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        events.bind((0, _GROUPS))
        events.setblocking(False)
    except OSError:
        events.close()
        raise
    return events


class KnownLinks:
    """Tells changes from repetitions: a Wi-Fi link speaks while it scans, and a router renews addresses for ever."""

    def __init__(self) -> None:
        self._running: dict[int, int] = {}
        self._addresses: set[tuple[int, bytes]] = set()

    def heard(self, received: bytes | None) -> bool:
        """Whether one of these messages tells something new; None: some were lost, so it may be."""
        if received is None:
            return True
        news = 0
        for kind, body in _messages(received):
            news += self._is_new(kind, body)
        return news > 0

    def _is_new(self, kind: int, body: bytes) -> bool:
        if kind in (_NEW_LINK, _DEL_LINK) and len(body) >= _LINK.size:
            return self._link(kind, body)
        if kind in (_NEW_ADDRESS, _DEL_ADDRESS) and len(body) >= _ADDRESS.size:
            return self._address(kind, body)
        if kind in (_NEW_ROUTE, _DEL_ROUTE) and len(body) >= _ROUTE.size:
            _, destination_bits, _, _, table, *_ = _ROUTE.unpack_from(body)
            return bool(destination_bits == 0 and table == _MAIN_TABLE)
        return False

    def _link(self, kind: int, body: bytes) -> bool:
        _, _, index, flags, changed = _LINK.unpack_from(body)
        if kind == _DEL_LINK:
            return self._running.pop(index, 0) != 0
        running = flags & _UP_AND_RUNNING
        before = self._running.get(index)
        self._running[index] = running
        return bool(changed & _UP_AND_RUNNING) if before is None else running != before

    def _address(self, kind: int, body: bytes) -> bool:
        _, _, _, scope, index = _ADDRESS.unpack_from(body)
        if scope >= _WITHIN_THE_LINK:
            return False
        itself = dict(_attributes(body[_ADDRESS.size :])).get(_ADDRESS_ITSELF, b"")
        if kind == _DEL_ADDRESS:
            self._addresses.discard((index, itself))
            return True
        is_new = (index, itself) not in self._addresses
        self._addresses.add((index, itself))
        return is_new


def _messages(received: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each; they begin at multiples of four bytes (NLMSG_ALIGN)."""
    at = 0
    while at + _HEADER.size <= len(received):
        length, kind, *_ = _HEADER.unpack_from(received, at)
        if length < _HEADER.size:
            return
        yield kind, received[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _attributes(packed: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(packed):
        length, kind = _ATTRIBUTE.unpack_from(packed, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind, packed[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
