"""What a call without an answer says: which of our errors, and why. Pure."""

import errno
import socket
import ssl

import httpcore
import httpx

from syncengine.errors import BackendUnreachable, NotOurServer

# No route, no link: the system itself says that no network leads there.
NO_ROUTE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN})

_SILENT = (httpcore.TimeoutException, httpx.TimeoutException, TimeoutError)
_CHAIN_MAX = 16


def no_answer(error: BaseException, *, address: str) -> BackendUnreachable | NotOurServer:
    """A refused certificate or no TLS at all is somebody else in the backend's place; the rest is no answer."""
    chain = causes(error)
    if isinstance(error, httpcore.ConnectError) and any(map(_is_no_trust, chain)):
        return NotOurServer(
            "The backend's certificate could not be verified.",
            why=f"{type(error).__name__} at {address}",
            fix="Nothing was sent. A network's login page, a proxy or a wrong clock may be the cause.",
            reason="tls_refused",
        )
    return BackendUnreachable(
        "The backend did not answer.",
        why=f"{type(error).__name__} at {address}",
        fix="It is tried again later.",
        reason=_reason(chain),
    )


def closed(error: BaseException) -> BackendUnreachable:
    """The backend itself was closed: by its host, or by the engine that it was given to."""
    return BackendUnreachable(
        "The backend is closed.",
        why=f"{type(error).__name__}: close() was called on it, or on an engine that it was given to",
        fix="Make another one for the next engine; the queue is kept.",
        reason="cut",
    )


def _reason(chain: list[BaseException]) -> str:
    if any(isinstance(each, socket.gaierror) for each in chain):
        return "name_not_found"
    if any(isinstance(each, OSError) and each.errno in NO_ROUTE for each in chain):
        return "no_route"
    if any(isinstance(each, ConnectionRefusedError | httpcore.ProxyError) for each in chain):
        return "refused"
    if any(isinstance(each, _SILENT) for each in chain):
        return "no_answer"
    return "cut"


def _is_no_trust(cause: BaseException) -> bool:
    cut_off = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
    return isinstance(cause, ssl.SSLError) and not isinstance(cause, cut_off)


def causes(error: BaseException) -> list[BaseException]:
    """The error, what caused it, what caused that, and so on."""
    chain: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in chain and len(chain) < _CHAIN_MAX:
        chain.append(found)
        found = found.__cause__ or found.__context__
    return chain
