"""Firestore's REST calls, version 1: bounded in bytes, depth and time; failures are our errors.

`google.firestore.v1.Firestore` over HTTP/1.1: batchGet, runQuery and commit are all that is used.
"""

import base64
import binascii
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import quote

import httpcore
import httpx
import orjson

from syncengine.clock import Clock
from syncengine.errors import AuthRequired
from syncengine.firestore.answers import DEPTH_MAX, not_firestore, refusal, violation
from syncengine.firestore.values import Fields, Value
from syncengine.logs import install_redaction
from syncengine.remote.address import checked_trust, proxy_for
from syncengine.remote.bandwidth import Bandwidth
from syncengine.remote.bounded_network import BoundedNetwork, BoundedTransport, Deadlines
from syncengine.remote.http_answer import UNAUTHORIZED
from syncengine.remote.json_text import JsonRefused, read_json
from syncengine.remote.lost_call import closed, no_answer
from syncengine.remote.name_lookup import NameLookup
from syncengine.remote.tokens import Tokens
from syncengine.remote.wire import wrong_user
from syncengine.settings import Settings

PRODUCTION = "https://firestore.googleapis.com"

# A colon begins the verb of a call, so one in a name is written as its code.
_PATH_SIGNS = "/()"
_FAILURES = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    httpcore.ConnectionNotAvailable,
    OSError,
)


Waits = tuple[int | None, int | None]
"""In all, and for the connection; None: as the settings say."""


class AnswerTooLarge(Exception):
    """An answer beyond the cap: ask for fewer documents at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A document as it was read. `update_time` names this very state of it."""

    name: str
    fields: Fields = field(repr=False)
    update_time: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Documents by name (those that are missing are not in it), and when, by Google's clock."""

    found: dict[str, Found]
    read_time: str
    transaction: str | None = None


class Rest:
    """One database, in the name of whoever the token stands for. `token` is asked at each call and never kept.

    Where Firestore says that it is over, another is asked for, once (see RefreshableToken).
    """

    def __init__(
        self,
        base: str,
        *,
        database: str,
        token: Callable[[], str | None],
        settings: Settings,
        clock: Clock,
    ) -> None:
        """`base`: scheme and host; `database`: projects/{project}/databases/{database}."""
        self.root = f"{database}/documents"
        self._address = f"{base}/v1/"
        self._tokens = Tokens(token, clock=clock, refused_wait_ms=settings.refused_token_wait_ms)
        self._settings = settings
        self._clock = clock
        self._closed = False
        self._deadlines = Deadlines(clock=clock)
        self._network = BoundedNetwork(
            self._deadlines,
            names=NameLookup(clock),
            up=Bandwidth(settings.upload_bytes_per_s_max, clock=clock),
            down=Bandwidth(settings.download_bytes_per_s_max, clock=clock),
        )
        install_redaction()
        self._silence = _Unlogged(self._address)
        logging.getLogger("httpx").addFilter(self._silence)
        address = httpx.URL(base)
        trust = checked_trust(None) if address.scheme == "https" else None
        proxy = proxy_for(address) if settings.proxy == "environment" else None
        self._client = httpx.Client(
            transport=BoundedTransport(self._network, tls=trust, proxy=proxy),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "syncengine"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
            trust_env=False,
        )

    def close(self) -> None:
        self._closed = True
        self._network.cut()
        self._client.close()
        logging.getLogger("httpx").removeFilter(self._silence)

    def check_user(self, user: str) -> None:
        """Raises AuthRequired, with nothing sent, where there is no token, or it says that it is another user's."""
        token = self._tokens.present()
        if subject_of(token) not in (None, user):
            self._tokens.was_refused(token)
            raise wrong_user()

    def refused_token_wait_ms(self) -> int | None:
        """How long a call with the present token would be refused again; see RemembersRefusals."""
        return self._tokens.refused_wait_ms()

    def read(
        self,
        names: Iterable[str],
        *,
        mask: Sequence[str] | None = None,
        transaction: str | None = None,
        begin: bool = False,
    ) -> Read:
        """These documents; with `mask` only those fields. `begin`: all reads of the transaction see one moment.

        Raises AnswerTooLarge.
        """
        asked: dict[str, Any] = {"documents": list(names)}
        if mask is not None:
            asked["mask"] = {"fieldPaths": list(mask)}
        if transaction is not None:
            asked["transaction"] = transaction
        if begin:
            asked["newTransaction"] = {"readOnly": {}}
        return _read(self._listed(f"{self.root}:batchGet", asked))

    def read_all(self, names: Sequence[str], *, transaction: str | None = None) -> dict[str, Found]:
        """The same, whole documents however large, in as many calls as it takes."""
        if not names:
            return {}
        try:
            return self.read(names, transaction=transaction).found
        except AnswerTooLarge:
            half = len(names) // 2
            if not half:
                raise violation("one document alone is larger than an answer may be") from None
        return self.read_all(names[:half], transaction=transaction) | self.read_all(
            names[half:], transaction=transaction
        )

    def query(self, parent: str, query: dict[str, Any], *, transaction: str | None = None) -> list[Found]:
        """What `structuredQuery` finds below a document. Raises AnswerTooLarge."""
        asked: dict[str, Any] = {"structuredQuery": query}
        if transaction is not None:
            asked["transaction"] = transaction
        return [
            _found(part["document"])
            for part in self._listed(f"{quote(parent, safe=_PATH_SIGNS)}:runQuery", asked)
            if "document" in part
        ]

    def commit(self, writes: Sequence[dict[str, Any]]) -> str:
        """All of these writes or none; when. Raises Contended where one of their conditions does not hold."""
        said = self._asked(f"{self.root}:commit", {"writes": list(writes)}, writes=True)
        if not isinstance(said, dict) or len(said.get("writeResults", ())) != len(writes):
            raise violation("a commit is not answered write by write")
        return str(said.get("commitTime", ""))

    def is_missing(self, name: str) -> bool:
        """Whether Firestore says by name that this document is not there. Sent without a token."""
        wait_ms, connect_ms = self._settings.probe_wait_ms_max, self._settings.probe_connect_wait_ms_max
        said = self._asked(
            f"{self.root}:batchGet",
            {"documents": [name]},
            is_signed=False,
            wait_ms=wait_ms,
            connect_ms=connect_ms,
        )
        return isinstance(said, list) and any(isinstance(each, dict) and each.get("missing") == name for each in said)

    def _listed(self, path: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
        said = self._asked(path, asked)
        if not isinstance(said, list) or not all(isinstance(each, dict) for each in said):
            raise violation("a list was expected")
        return said

    def _asked(
        self,
        path: str,
        asked: dict[str, Any],
        *,
        writes: bool = False,
        is_signed: bool = True,
        wait_ms: int | None = None,
        connect_ms: int | None = None,
    ) -> Any:
        """JSON, whatever its shape: the callers look. A token that is over is renewed once."""
        content, waits = orjson.dumps(asked), (wait_ms, connect_ms)
        if not is_signed:
            return self._said(path, content, {}, waits=waits, writes=writes)
        token = self._tokens.present()
        try:
            return self._signed(path, content, token, waits=waits, writes=writes)
        except AuthRequired as error:
            # What the rules forbid is not mended by a new token of the same user.
            other = self._tokens.instead_of(token) if error.status == UNAUTHORIZED else None
            if other is None or subject_of(other) != subject_of(token):
                raise
        return self._signed(path, content, other, waits=waits, writes=writes)

    def _signed(self, path: str, content: bytes, token: str, *, waits: Waits, writes: bool) -> Any:
        try:
            said = self._said(path, content, {"Authorization": f"Bearer {token}"}, waits=waits, writes=writes)
        except AuthRequired:
            self._tokens.was_refused(token)
            raise
        self._tokens.was_taken()
        return said

    def _said(self, path: str, content: bytes, signature: dict[str, str], *, waits: Waits, writes: bool) -> Any:
        headers = {"Content-Type": "application/json", **signature}
        try:
            request = self._client.build_request("POST", self._address + path, content=content, headers=headers)
        except httpx.InvalidURL as error:
            raise violation("a name cannot stand in an address") from error
        wait_ms = waits[0] or self._settings.request_wait_ms_max
        connect_ms = waits[1] or self._settings.connect_wait_ms_max
        request.extensions["timeout"] = httpx.Timeout(wait_ms / 1000, connect=connect_ms / 1000).as_dict()
        status, answered, raw = self._exchanged(request, wait_ms=wait_ms)
        body = _json(raw)
        if status == 200 and body is not None:
            return body
        if status == 200:
            raise not_firestore("the answer is no JSON")
        failure = refusal(
            status,
            body,
            answered,
            now_ms=self._clock.now_ms(),
            retry_after_ms_max=self._settings.retry_after_ms_max,
            writes=writes,
        )
        raise failure

    def _exchanged(self, request: httpx.Request, *, wait_ms: int) -> tuple[int, httpx.Headers, bytes]:
        try:
            with self._deadlines.within(wait_ms):
                answer = self._client.send(request, stream=True)
                try:
                    return answer.status_code, answer.headers, self._capped(answer)
                finally:
                    answer.close()
        except _FAILURES as error:
            raise no_answer(error, address=self._origin()) from error
        except RuntimeError as error:
            # httpx: "Cannot send a request, as the client has been closed."
            if not self._closed:
                raise
            raise closed(error) from error

    def _capped(self, answer: httpx.Response) -> bytes:
        raw = bytearray()
        for chunk in answer.iter_raw():
            raw += chunk
            if len(raw) > self._settings.answer_bytes_max:
                raise AnswerTooLarge
            if self._deadlines.is_over():
                raise httpcore.ReadTimeout("the request's deadline is over")
        return bytes(raw)

    def _origin(self) -> str:
        return self._address.removesuffix("/v1/")


class _Unlogged(logging.Filter):
    """httpx logs each URL at INFO, and ours hold the user's id. Other users of httpx stay as they are."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def filter(self, record: logging.LogRecord) -> bool:
        parts = record.args if isinstance(record.args, tuple) else ()
        return not any(str(part).startswith(self._address) for part in parts)


def subject_of(token: str) -> str | None:
    """Whose ID token it is, as it says itself; None for a token of another kind.

    For telling a mix-up on the device before anything is sent; what the token is worth Firestore decides.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    subject = claims.get("sub") if isinstance(claims, dict) else None
    return subject if isinstance(subject, str) else None


def _json(raw: bytes) -> Any:
    try:
        return read_json(raw, depth_max=DEPTH_MAX)
    except JsonRefused:
        return None


def _read(parts: list[dict[str, Any]]) -> Read:
    documents = [_found(part["found"]) for part in parts if "found" in part]
    times = [str(part["readTime"]) for part in parts if "readTime" in part]
    transaction = next((str(part["transaction"]) for part in parts if part.get("transaction")), None)
    return Read(
        found={each.name: each for each in documents}, read_time=max(times, default=""), transaction=transaction
    )


def _found(document: Any) -> Found:
    try:
        fields: dict[str, Value] = document.get("fields", {})
        return Found(name=document["name"], fields=fields, update_time=document["updateTime"])
    except (AttributeError, KeyError, TypeError) as error:
        raise violation("a document lacks its name or its time") from error
