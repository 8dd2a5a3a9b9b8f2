"""A round that fails on this device and not at the cloud: raised as an error of ours, noted, and told as its end."""

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from syncengine.errors import EngineClosed, RoundFailed, SyncEngineError
from syncengine.events import Listener, RoundEnded
from syncengine.local.savepoint import translated
from syncengine.local.sqlite_errors import SqliteError
from syncengine.sync.failure_note import note_failure

if TYPE_CHECKING:
    from syncengine.outbox.queue import Outbox
    from syncengine.sync.drain import Draining


class FailingHere:
    """What the rounds of one runner do then. `unnoted`: the code of the last failure, where the store took no note of
    it, as on a full disk; None after a round that did not fail so."""

    def __init__(self, outbox: "Outbox", *, chance: random.Random, tell: Listener) -> None:
        self.unnoted: str | None = None
        self.draining: Draining | None = None
        """The sending part of the present round, once there is one."""
        self._outbox = outbox
        self._chance = chance
        self._tell = tell

    @contextmanager
    def told(self, owner: str) -> Iterator[None]:
        """For the block of one round. What SQLite raises leaves it as an error of the engine; all else as it is."""
        self.draining = None
        try:
            with _said_by_us():
                yield
        except BaseException as error:
            self._failed(owner, error)
            raise
        self.unnoted = None

    def _failed(self, owner: str, error: BaseException) -> None:
        code = error.code() if isinstance(error, SyncEngineError) else RoundFailed.code()
        self.unnoted = None if isinstance(error, EngineClosed) else code
        sendable = 0
        # A store that cannot be read or written says so to who asked; here it must not hide what failed first.
        with suppress(SyncEngineError, SqliteError):
            sendable = self._outbox.sendable(owner)
            if self.unnoted is not None:
                note_failure(self._outbox, owner, code, chance=self._chance)
                self.unnoted = None
        applied = 0 if self.draining is None else self.draining.applied
        self._tell(RoundEnded(ended=code, applied=applied, sendable=sendable))


@contextmanager
def _said_by_us() -> Iterator[None]:
    try:
        yield
    except SqliteError as error:
        better = translated(error)
        if better is error:
            # No more than its kind: its words may hold what a row holds.
            better = RoundFailed(
                "The sync round failed on this device.",
                why=f"SQLite refused a statement: {type(error).__name__}",
                fix="Look at the triggers, views and generated columns of the app's tables, and at the cause of this "
                "error. Nothing was lost; the queue is kept.",
            )
        raise better from error


__all__ = ["FailingHere"]
