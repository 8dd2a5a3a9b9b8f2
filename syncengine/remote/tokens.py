"""The host's tokens: asked for at each call, renewed once where the cloud refuses one, never kept."""

import hashlib
import re
import threading
from collections.abc import Callable
from typing import Protocol, TypeGuard, runtime_checkable

from syncengine.clock import Clock
from syncengine.errors import AuthRequired, TokenInvalid
from syncengine.logs import register_secret

Ask = Callable[[], str | None]

_TOKEN = re.compile(r"[\x21-\x7e]+")


class RefreshableToken:
    """A token callback that can be told that its token was refused: `token=RefreshableToken(present, refresh=renew)`.

    `refresh` gets a new one, from the identity provider, and gives it; from then on `present` gives it, too. It is
    called on the thread of a call, at most once for each refused call, and never twice at once.
    """

    def __init__(self, present: Ask, *, refresh: Ask) -> None:
        for each in (present, refresh):
            check_callable(each)
        self._present = present
        self.refresh = refresh

    def __call__(self) -> str | None:
        return self._present()


@runtime_checkable
class RemembersRefusals(Protocol):
    """A backend that knows which token the cloud has refused."""

    def refused_token_wait_ms(self) -> int | None:
        """How long it is no use to call with the token that there is now; 0: it is another than the refused one.

        None: none was refused since the last success.
        """
        ...


class Tokens:
    """What an HttpBackend signs with. Remembers of a refused token its hash alone."""

    def __init__(self, token: Ask, *, clock: Clock, refused_wait_ms: int) -> None:
        check_callable(token)
        self._token = token
        self._clock = clock
        self._refused_wait_ms = refused_wait_ms
        self._renewing = threading.Lock()
        self._refused: tuple[bytes, int] | None = None

    def present(self) -> str:
        """The token of now. Raises AuthRequired where there is none that can be sent."""
        failed = token = None
        try:
            token = self._token()
        except Exception as error:  # noqa: BLE001 - a host's keyring or network may raise anything
            failed = type(error).__name__
        if failed is not None:
            # Not from within: what the host has raised may hold the token, so it is not kept as the cause.
            self._refused = (_digest(None), self._clock.monotonic_ms())
            raise AuthRequired("The app could not give a token.", why=failed, fix="Sign in; the queue is kept.")
        if _is_usable(token):
            register_secret(token)
            return token
        self._refused = (_digest(None), self._clock.monotonic_ms())
        why = "its text cannot stand in a header" if token else "the app gave none"
        raise AuthRequired(
            "There is no usable token.",
            why=why,
            fix="Give the engine a token callback that returns the signed-in user's token (command line: "
            "--token-file or SYNCENGINE_TOKEN). The queue is kept.",
        )

    def instead_of(self, refused: str) -> str | None:
        """Another token to try once, or None. The host may have renewed it by itself, or another thread has."""
        with self._renewing:
            for ask in (self._token, getattr(self._token, "refresh", None)):
                other = _asked(ask)
                if _is_usable(other) and other != refused:
                    register_secret(other)
                    return other
        return None

    def was_refused(self, token: str) -> None:
        self._refused = (_digest(token), self._clock.monotonic_ms())

    def was_taken(self) -> None:
        self._refused = None

    def refused_wait_ms(self) -> int | None:
        """As RemembersRefusals says."""
        refused = self._refused
        if refused is None:
            return None
        digest, at_ms = refused
        if _digest(_asked(self._token)) != digest:
            return 0
        return max(0, at_ms + self._refused_wait_ms - self._clock.monotonic_ms())


def _asked(ask: Ask | None) -> str | None:
    """None also where the host fails to give one."""
    if ask is None:
        return None
    try:
        return ask()
    except Exception:  # noqa: BLE001 - a host's keyring or network may raise anything; it is asked again later
        return None


def _is_usable(token: object) -> TypeGuard[str]:
    return isinstance(token, str) and _TOKEN.fullmatch(token) is not None


def _digest(token: str | None) -> bytes:
    """All that cannot be sent is alike."""
    return hashlib.sha256(token.encode() if _is_usable(token) else b"").digest()


def check_callable(ask: object) -> None:
    """Told at once: a text in the callback's place would else look like a missing sign-in, call after call."""
    if not callable(ask):
        raise TokenInvalid(
            "The token has to be a callback, not the token itself.",
            why=f"it is of type {type(ask).__name__}, which cannot be called",
            fix="Give a function without arguments that returns the present token, or None for nobody signed in.",
        )
