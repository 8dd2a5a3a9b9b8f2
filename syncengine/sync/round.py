"""One whole round with the cloud: say hello, send, read, and send what the reading made.

A generator that yields calls and receives answers, like its parts: no I/O of its own, no transaction open while a
call is in flight.
"""

from collections.abc import Callable, Generator
from typing import Protocol

from syncengine.errors import QuotaExceeded
from syncengine.sync.calls import Answer, Call, HelloSaid
from syncengine.sync.drain import Draining, Pulled, Round

NOTHING_MORE = frozenset({"upgrade_app", "bounded", "another_process"})
"""Endings of the sending part after which nothing is read."""


NoneArrived = Callable[[], Generator[Call, Answer, bool]]
"""Asks the cloud whether it has nothing yet of what is numbered here and not answered."""


class Pulling(Protocol):
    """The reading part."""

    def comes_first(self, said: HelloSaid) -> bool:
        """Whether all must be read before anything new is sent."""
        ...

    def __call__(
        self, said: HelloSaid, keep_lease: Callable[[], bool], *, none_arrived: NoneArrived | None = None
    ) -> Generator[Call, Answer, Pulled]:
        """Read; `keep_lease` renews the lease (False: another process has it, so end). It says what it did; errors
        of the cloud go through it to the round.

        `none_arrived`: read also while entries are numbered and not answered, what is certainly without them.
        """
        ...


def sync_round(draining: Draining, *, pull: Pulling | None = None) -> Round:
    """Send until nothing is left, read until the end, send what the reading made; a RoundReport.

    A cloud that was restored from an older copy is read first: edits may stand on rows that it has to be told again.

    A failed call ends the round: the durable wait is recorded, claimed entries stay claimed and are sent again
    under the same numbers. Entries that the cloud rejects, or cannot read even alone, go to quarantine. Where the
    cloud has no room for what is sent, the round reads all the same before it ends.
    """
    return (yield from draining.run(_both_ways(draining, pull)))


def _both_ways(draining: Draining, pull: Pulling | None) -> Generator[Call, Answer, str]:
    ended = yield from draining.greet()
    if ended in NOTHING_MORE:
        return ended
    if pull is not None and pull.comes_first(_heard(draining)):
        ended = yield from _read_first(draining, pull)
        if ended in NOTHING_MORE:
            return ended
    try:
        ended = yield from draining.send_all()
    except QuotaExceeded:
        if pull is not None:
            yield from _read(draining, pull, none_arrived=draining.none_arrived)
        raise
    if pull is None or ended in NOTHING_MORE:
        return ended
    ended = yield from _read(draining, pull)
    if ended in NOTHING_MORE:
        return ended
    sent = yield from draining.send_all()
    return "too_old_to_read" if ended == "drain_only" and sent == "drained" else sent


def _read_first(draining: Draining, pull: Pulling) -> Generator[Call, Answer, str]:
    try:
        ended = yield from draining.send_numbered()
    except QuotaExceeded:
        # Once all is read, what was deleted meanwhile comes along with what there is no room for.
        ended = yield from _read(draining, pull, none_arrived=draining.none_arrived)
        if ended != "at_head":
            raise
        return ended
    if ended in NOTHING_MORE:
        return ended
    return (yield from _read(draining, pull))


def _read(
    draining: Draining, pull: Pulling, *, none_arrived: NoneArrived | None = None
) -> Generator[Call, Answer, str]:
    draining.pulled = yield from pull(_heard(draining), draining.keep_lease, none_arrived=none_arrived)
    return draining.pulled.ended


def _heard(draining: Draining) -> HelloSaid:
    assert draining.said is not None
    return draining.said
