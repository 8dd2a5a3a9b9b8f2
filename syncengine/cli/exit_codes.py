"""What the exit status of `syncengine` says; scripts may rely on it."""

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncengine.errors import SyncEngineError


class Exit(IntEnum):
    """Where several are true, the one that stands first in this order: 1, 5, 6, 4, 3, 0."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    WAITING = 3
    QUARANTINE = 4
    MIGRATION_FAILED = 5
    UNREACHABLE = 6


MEANING = {
    Exit.DONE: "done, or there was nothing to do",
    Exit.ERROR: "an error; its text is on stderr",
    Exit.USAGE: "the command was called in a wrong way",
    Exit.WAITING: "something still has to be migrated or sent",
    Exit.QUARANTINE: "rows or queued edits in quarantine wait for a person",
    Exit.MIGRATION_FAILED: "a migration failed and was rolled back",
    Exit.UNREACHABLE: "the cloud cannot be reached, or refused the token",
}


def exit_of(error: "SyncEngineError") -> Exit:
    """The exit status for an error of the engine."""
    from syncengine.errors import RoundUnfinished

    if isinstance(error, RoundUnfinished):
        return Exit.WAITING
    return exit_of_code(error.code())


def exit_of_code(code: str) -> Exit:
    """The exit status for the code of an error that ended a sync round."""
    from syncengine.errors import AuthRequired, BackendUnavailable, BackendUnreachable, NotOurServer, RateLimited

    away = (BackendUnreachable, BackendUnavailable, RateLimited, NotOurServer, AuthRequired)
    return Exit.UNREACHABLE if code in {kind.code() for kind in away} else Exit.ERROR
