"""What whoever runs a server may ask it: /metrics, /healthz and /readyz, on a port of their own."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from syncengine.clock import Clock
from syncengine.server.metrics import CONTENT_TYPE, Metrics
from syncengine.server.storage import DatabaseReadOnly

SILENT_MS_MAX = 10_000
"""A server looks around ten times a second; one that has not for so long hangs."""
READY_SECONDS_MAX = 5
STOP_SECONDS_MAX = 2
NO_DATABASE = "the database does not answer"
NO_WRITES = "the database takes no writes"


class Serving(Protocol):
    """The server that is looked at."""

    @property
    def is_stopping(self) -> bool:
        """It takes no new requests any more."""
        ...

    @property
    def looked_around_ms(self) -> int | None:
        """When it did so last; None before the first time."""
        ...


class Database(Protocol):
    """What answers requests out of a database."""

    def is_there(self) -> bool:
        """Whether the database answers, and is still the same one. May raise what the database raises."""
        ...


def operations_app(
    serving: Serving,
    database: Database,
    *,
    metrics: Metrics,
    clock: Clock,
    why_no_keys: Callable[[], str | None] = lambda: None,
) -> Starlette:
    """No token is needed, and no user's data is in any answer; still it is nobody else's business.

    `why_no_keys` says why no user's token can be judged now; None: it can.
    """
    looks = (
        _Look(lambda: _why_no_database(database), too_slow=NO_DATABASE),
        _Look(why_no_keys, too_slow="the keys for web tokens take too long to come"),
    )

    async def tell_metrics(_: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    async def tell_alive(_: Request) -> Response:
        last_ms = serving.looked_around_ms
        hangs = last_ms is not None and clock.monotonic_ms() - last_ms > SILENT_MS_MAX
        return _said("hangs", 503) if hangs and not serving.is_stopping else _said("alive", 200)

    async def tell_ready(_: Request) -> Response:
        if serving.is_stopping or serving.looked_around_ms is None:
            return _said("stopping" if serving.is_stopping else "starting", 503)
        reasons = await asyncio.gather(*(look.why_not() for look in looks))
        lacking = [reason for reason in reasons if reason is not None]
        return _said("; ".join(lacking), 503) if lacking else _said("ready", 200)

    return Starlette(
        routes=[
            Route("/metrics", tell_metrics),
            Route("/healthz", tell_alive),
            Route("/readyz", tell_ready),
        ]
    )


class _Look:
    """One look at a time: one that hangs must not use up all threads."""

    def __init__(self, why_not: Callable[[], str | None], *, too_slow: str) -> None:
        self._ask = why_not
        self._too_slow = too_slow
        self._look: asyncio.Task[str | None] | None = None

    async def why_not(self) -> str | None:
        """What is lacking; None for nothing."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(run_in_threadpool(self._ask))
        try:
            return await asyncio.wait_for(asyncio.shield(self._look), READY_SECONDS_MAX)
        except TimeoutError:
            return self._too_slow


def _why_no_database(database: Database) -> str | None:
    try:
        return None if database.is_there() else NO_DATABASE
    except DatabaseReadOnly:
        return NO_WRITES
    except Exception:  # noqa: BLE001 - whatever a database raises, it is not there
        return NO_DATABASE


def _said(text: str, status: int) -> Response:
    return PlainTextResponse(text + "\n", status_code=status, headers={"Cache-Control": "no-store"})


class OperationsPort:
    """Answers on a thread and an event loop of its own, also while the server is busy or ends."""

    def __init__(self, app: Starlette, *, how: Mapping[str, Any]) -> None:
        self._server = uvicorn.Server(uvicorn.Config(app, **how))
        self._thread: threading.Thread | None = None

    def start(self, listener: Any) -> None:
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="operations", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(STOP_SECONDS_MAX)
