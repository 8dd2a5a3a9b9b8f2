"""The keys that our users' tokens are signed with elsewhere: a JSON Web Key Set (RFC 7517), by address or file."""

import logging
import ssl
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import httpcore
import httpx
from pydantic import JsonValue

from syncengine.clock import Clock
from syncengine.remote.address import checked_address, checked_trust
from syncengine.remote.bandwidth import Bandwidth
from syncengine.remote.bounded_network import BoundedNetwork, BoundedTransport, Deadlines
from syncengine.remote.json_text import JsonRefused, read_json
from syncengine.remote.name_lookup import NameLookup
from syncengine.server.sign_in import KeysUnavailable

FRESH_MS = 10 * 60 * 1000
"""So long keys count without a look; a key that was withdrawn is believed no longer."""
AGAIN_MS = 30 * 1000
"""A token with an unknown key makes us look, but not more often than this: anybody can write such tokens."""
STALE_MS = 24 * 60 * 60 * 1000
"""So long the last keys count while the address does not answer."""
FETCH_WAIT_MS_MAX = 5_000
KEYS_BYTES_MAX = 256 * 1024
KEYS_MAX = 100
_DEPTH_MAX = 8

Key = Mapping[str, JsonValue]
Fetch = Callable[[], bytes]


_log = logging.getLogger("syncengine.server")


class _Known(NamedTuple):
    """What was read last."""

    keys: tuple[Key, ...]
    at_ms: int


class PublishedKeys:
    """The present keys. From any thread: one of them looks, and who has a known key does not wait for it."""

    def __init__(self, fetch: Fetch, *, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._look = threading.Lock()
        """Held by who looks, for as long as that takes."""
        self._known: _Known | None = None
        self._looked_at_ms: int | None = None
        self._failure: str | None = None
        """Why the last look found none."""

    def find(self, kid: str | None) -> tuple[Key, ...]:
        """The keys of this name, several where each is of another kind; without a name the only one there is.

        Raises KeysUnavailable, also for a name that is not known while another thread looks.
        """
        found = self._named(kid) if self._are_younger_than(FRESH_MS) else ()
        if found:
            return found
        others_look = self._others_look() if self._are_younger_than(STALE_MS) else self._look_or_wait()
        found = self._named(kid)
        if not self._are_younger_than(STALE_MS) or (others_look and not found):
            raise KeysUnavailable
        return found

    def why_none(self) -> str | None:
        """Why no token can be judged now, after a look if one is due; None: there are keys."""
        if not self._are_younger_than(STALE_MS):
            self._look_or_wait()
        return None if self._are_younger_than(STALE_MS) else f"no keys for web tokens: {self._failure}"

    def _are_younger_than(self, age_ms: int) -> bool:
        return self._known is not None and self._clock.monotonic_ms() - self._known.at_ms < age_ms

    def _named(self, kid: str | None) -> tuple[Key, ...]:
        keys = self._known.keys if self._known else ()
        if kid is None:
            return keys if len(keys) == 1 else ()
        return tuple(key for key in keys if key.get("kid") == kid)

    def _others_look(self) -> bool:
        """Look, if it is time; False. True: another thread does, and is not waited for."""
        if not self._look.acquire(blocking=False):
            return True
        try:
            self._look_if_due()
        finally:
            self._look.release()
        return False

    def _look_or_wait(self) -> bool:
        """As long as there are no keys, nobody can be told anything before somebody has looked."""
        with self._look:
            self._look_if_due()
        return False

    def _look_if_due(self) -> None:
        """Keep what is there; the keys from before where it cannot be had."""
        now_ms = self._clock.monotonic_ms()
        if self._looked_at_ms is not None and now_ms - self._looked_at_ms < AGAIN_MS:
            return
        self._looked_at_ms = now_ms
        try:
            self._known = _Known(_keys_in(self._fetch()), now_ms)
        except (
            OSError,
            httpx.HTTPError,
            httpcore.TimeoutException,
            httpcore.NetworkError,
            httpcore.ProtocolError,
        ) as e:
            self._failed(_words_of(e))
        except JsonRefused as error:
            self._failed(str(error))
        else:
            self._failure = None

    def _failed(self, why: str) -> None:
        """Said once, not at each look."""
        if why != self._failure:
            _log.warning("no keys for web tokens: %s; the last ones count for a day", why)
        self._failure = why


def _keys_in(raw: bytes) -> tuple[Key, ...]:
    """Those for signatures. Raises JsonRefused for what is no key set."""
    found = read_json(raw, depth_max=_DEPTH_MAX)
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list) or len(keys) > KEYS_MAX:
        raise JsonRefused("this is no set of keys")
    return tuple(key for key in keys if isinstance(key, dict) and key.get("use", "sig") == "sig")


def _words_of(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"the address does not answer ({type(error).__name__})"


def is_file(place: str) -> bool:
    """Whether the keys are in a file, and not at an address."""
    return "://" not in place


def keys_at(place: str, *, clock: Clock, tls: ssl.SSLContext | None = None) -> PublishedKeys:
    """From an address (https, or this machine) or a file. Raises BackendAddressRefused for another address."""
    if is_file(place):
        return PublishedKeys(Path(place).read_bytes, clock=clock)
    address = checked_address(place, allow_plain_http=False)
    return PublishedKeys(_Address(address, clock=clock, tls=tls), clock=clock)


class _Address:
    """One request: bounded in time and bytes, no redirects, no proxy, no cookies."""

    def __init__(self, address: httpx.URL, *, clock: Clock, tls: ssl.SSLContext | None) -> None:
        self._address = address
        self._clock = clock
        self._trust = checked_trust(tls) if address.scheme == "https" else None

    def __call__(self) -> bytes:
        deadlines = Deadlines(clock=self._clock)
        free = Bandwidth(0, clock=self._clock)
        network = BoundedNetwork(deadlines, names=NameLookup(self._clock), up=free, down=free)
        transport = BoundedTransport(network, tls=self._trust)
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        seconds_max = FETCH_WAIT_MS_MAX / 1000
        with (
            deadlines.within(FETCH_WAIT_MS_MAX),
            httpx.Client(transport=transport, trust_env=False, timeout=seconds_max) as client,
            client.stream("GET", self._address, headers=headers) as answer,
        ):
            if answer.status_code != 200 or answer.headers.get("Content-Encoding", "identity") != "identity":
                raise JsonRefused("the keys are not there")
            return _capped(answer)


def _capped(answer: httpx.Response) -> bytes:
    raw = bytearray()
    for chunk in answer.iter_raw():
        raw += chunk
        if len(raw) > KEYS_BYTES_MAX:
            raise JsonRefused("the keys are too large")
    return bytes(raw)
