"""Connections on which nobody asks anything: uvicorn bounds only how long one may be silent after an answer."""

from collections.abc import Iterable
from typing import Any, NamedTuple

HEAD_MS_MAX = 20_000
"""So long a connection may take to say the whole head of its first request."""
NEXT_HEAD_MS_MAX = 95_000
"""And of each next one. uvicorn closes sooner where nothing at all comes."""


Connection = Any
"""One of uvicorn's protocols, which have no type in common; `cycle` is its latest request, None before the first."""


class _Quiet(NamedTuple):
    after: Any
    """The request that was answered last."""
    since_ms: int


class QuietConnections:
    """Those that were without a request at work when they were looked at last."""

    def __init__(self) -> None:
        self._quiet: dict[Connection, _Quiet] = {}

    def close_overdue(self, connections: Iterable[Connection], *, now_ms: int) -> None:
        """To be called now and then: a connection is quiet from the first look on that finds it so."""
        before, self._quiet = self._quiet, {}
        for each in connections:
            cycle = each.cycle
            if cycle is not None and not cycle.response_complete:
                continue
            quiet = before.get(each)
            if quiet is None or quiet.after is not cycle:
                quiet = _Quiet(cycle, now_ms)
            self._quiet[each] = quiet
            if now_ms - quiet.since_ms >= (HEAD_MS_MAX if cycle is None else NEXT_HEAD_MS_MAX):
                each.transport.abort()
