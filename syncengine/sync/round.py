"""One whole round with the cloud: say hello, send, read, and send what the reading made.

A generator that yields calls and receives answers, like its parts: no I/O of its own, no transaction open while a
call is in flight.
"""

from collections.abc import Callable, Generator

from syncengine.sync.calls import Answer, Call, HelloSaid
from syncengine.sync.drain import Draining, Pulled, Round

NOTHING_MORE = frozenset({"upgrade_app", "bounded", "another_process"})
"""Endings of the sending part after which nothing is read."""

Pulling = Callable[[HelloSaid, Callable[[], bool]], Generator[Call, Answer, Pulled]]
"""The reading part: called with the answer to hello and a function that renews the lease (False: another process
has it, so end). It says what it did; errors of the cloud go through it to the round."""


def sync_round(draining: Draining, *, pull: Pulling | None = None) -> Round:
    """Send until nothing is left, read until the end, send what the reading made; a RoundReport.

    A failed call ends the round: the durable wait is recorded, claimed entries stay claimed and are sent again
    under the same numbers. Entries that the cloud rejects, or cannot read even alone, go to quarantine.
    """
    return (yield from draining.run(_both_ways(draining, pull)))


def _both_ways(draining: Draining, pull: Pulling | None) -> Generator[Call, Answer, str]:
    ended = yield from draining.deliver()
    if pull is None or ended in NOTHING_MORE:
        return ended
    assert draining.said is not None
    draining.pulled = yield from pull(draining.said, draining.keep_lease)
    if draining.pulled.ended in NOTHING_MORE:
        return draining.pulled.ended
    return (yield from draining.send_all())
