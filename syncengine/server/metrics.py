"""What a server counts of itself, in the words of Prometheus; no user, device, collection or key is in it."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncengine.clock import Clock
from syncengine.server.receipts import Receipt

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus, "Exposition formats": the text format's own."""
BUCKETS_MS = (5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000)
CALLS = {f"/v1/{call}": call for call in ("hello", "push", "pull", "rows", "health")}
"""Every other path counts as "other": who asks for made-up paths makes no new lines."""


class Metrics:
    """Counts since the start of this process. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._refusals: Counter[str] = Counter()
        self._entries: Counter[str] = Counter()
        self._buckets: Counter[tuple[str, int]] = Counter()
        self._took_ms: Counter[str] = Counter()
        self._in_flight = 0
        self._forgotten = 0

    def begun(self) -> None:
        with self._lock:
            self._in_flight += 1

    def ended(self, call: str, *, status: int, took_ms: int) -> None:
        """A request was answered; `status` 0: it was not."""
        with self._lock:
            self._in_flight -= 1
            self._requests[call, status] += 1
            self._buckets[call, bisect_left(BUCKETS_MS, took_ms)] += 1
            self._took_ms[call] += took_ms

    def refused(self, code: str) -> None:
        """An answer that is no success, by its word for programs."""
        with self._lock:
            self._refusals[code] += 1

    def pushed(self, results: Iterable[tuple[str, Receipt]]) -> None:
        """What became of the entries of a push that is on the disk."""
        with self._lock:
            for status, receipt in results:
                self._entries[status] += receipt.entries

    def forgot(self, rows: int) -> None:
        """Deleted rows that nobody needs to hear of any more."""
        with self._lock:
            self._forgotten += rows

    def text(self) -> str:
        """All of it, one number a line."""
        with self._lock:
            return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield from _head("syncengine_requests_total", "counter", "Requests by call and HTTP status; 0: cut off.")
        for (call, status), count in sorted(self._requests.items()):
            yield f'syncengine_requests_total{{call="{call}",status="{status}"}} {count}'
        yield from _head("syncengine_request_seconds", "histogram", "From the head of a request to its answer's end.")
        for call in sorted(self._took_ms):
            yield from self._histogram(call)
        yield from _head("syncengine_requests_in_flight", "gauge", "Requests that are being answered.")
        yield f"syncengine_requests_in_flight {self._in_flight}"
        yield from _labelled("syncengine_refusals_total", "Answers that are no success.", "code", self._refusals)
        yield from _labelled(
            "syncengine_entries_total", "Pushed entries by what became of them.", "status", self._entries
        )
        yield from _head(
            "syncengine_rows_forgotten_total", "counter", "Deleted rows that are not remembered any more."
        )
        yield f"syncengine_rows_forgotten_total {self._forgotten}"

    def _histogram(self, call: str) -> Iterator[str]:
        count = 0
        for number, bucket_ms in enumerate(BUCKETS_MS):
            count += self._buckets[call, number]
            yield f'syncengine_request_seconds_bucket{{call="{call}",le="{bucket_ms / 1000}"}} {count}'
        count += self._buckets[call, len(BUCKETS_MS)]
        yield f'syncengine_request_seconds_bucket{{call="{call}",le="+Inf"}} {count}'
        yield f'syncengine_request_seconds_sum{{call="{call}"}} {self._took_ms[call] / 1000}'
        yield f'syncengine_request_seconds_count{{call="{call}"}} {count}'


def _head(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"


def _labelled(name: str, meaning: str, label: str, counts: Mapping[str, int]) -> Iterator[str]:
    yield from _head(name, "counter", meaning)
    for value, count in sorted(counts.items()):
        yield f'{name}{{{label}="{value}"}} {count}'


class Counted:
    """An ASGI app whose requests are counted."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, clock: Clock) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun_ms, status, is_cut = self._clock.monotonic_ms(), 0, False

        async def heard() -> Message:
            nonlocal is_cut
            message = await receive()
            is_cut = is_cut or (message["type"] == "http.disconnect" and not status)
            return message

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start" and not is_cut:
                status = message["status"]
            await send(message)

        self._metrics.begun()
        try:
            await self._app(scope, heard, noted)
        finally:
            call = CALLS.get(scope["path"], "other")
            self._metrics.ended(call, status=status, took_ms=self._clock.monotonic_ms() - begun_ms)
