"""One device, several users: one signs out, and what is known of one is taken off the device.

Nothing here stops a round: whoever calls has ended the one of that user before.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from syncengine.clock import fresh_id, system_random
from syncengine.errors import StoreBusy, SyncEngineError, UnsentChanges, WipeRefused
from syncengine.local.copy_of_user import holds_rows_of
from syncengine.local.keys import KEY_FILE_ENDS, KeyFile
from syncengine.local.restore_folder import restore_folder
from syncengine.local.restore_points import DAMAGED_ENDS, RestorePoint, opened_restore_point
from syncengine.local.restore_points import restore_points as kept_points
from syncengine.migrate.erasing import ZeroedPages, finish_erasures, note_wipe
from syncengine.migrate.taking_out import forget_person, take_out
from syncengine.outbox.numbering import end_epoch
from syncengine.outbox.queue import Outbox
from syncengine.outbox.unsent import Unsent, export_unsent, unsent_of

if TYPE_CHECKING:
    from syncengine.local.keys import KeyProvider
    from syncengine.local.store import Store

UNSENT = ("refuse", "keep", "export", "destroy")
UNSENT_OF_WIPED = ("refuse", "export", "destroy")
LEASE_MS = 60_000
"""Longer than any wipe holds the store; it is given back at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutReport:
    """What became of what was not sent: "nothing" there was none, "kept", "exported" or "destroyed". The file that
    was asked for is made in any case."""

    unsent: Unsent
    became: str
    exported_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WipeReport:
    """What was taken off the device. `finished` False: its bytes may still lie in a file that another process reads,
    or that there is no room to write anew; the next start goes on by itself."""

    rows: dict[str, int]
    """By collection."""
    unsent: Unsent
    exported_to: str | None
    restore_points: tuple[int, ...]
    """Those that were deleted."""
    finished: bool


# Signing out.


def unsent_left(
    store: "Store", user: str, *, unsent: str, export_to: str | None, words: tuple[str, ...] = UNSENT
) -> Unsent:
    """What a user has not sent. Raises UnsentChanges where that forbids what is asked for; ValueError for a word that
    is none, or a file that is missing."""
    _check_words(unsent, words, export_to=export_to)
    left = unsent_of(store, user)
    if left.count and unsent == "refuse":
        raise _unsent_changes(left, instead=words[1:])
    return left


def log_out(store: "Store", user: str, *, unsent: str, export_to: str | None) -> LogoutReport:
    """What becomes of the queue of a user whose rounds have ended.

    After "export" and "destroy" none of their rows is left in the synced collections, also where nothing was unsent:
    those that the cloud has come again at the next sign-in, which reads from the start.
    """
    left = unsent_left(store, user, unsent=unsent, export_to=export_to)
    if unsent in ("export", "destroy"):
        with _Alone(store), store.transaction(durable=True):
            left = unsent_of(store, user)
            if unsent == "export":
                export_unsent(store, user, _given(export_to))
            take_out(store, user)
            end_epoch(store, user)
    became = {"keep": "kept", "export": "exported", "destroy": "destroyed"}[unsent] if left.count else "nothing"
    return LogoutReport(unsent=left, became=became, exported_to=export_to)


def _check_words(unsent: str, words: Iterable[str], *, export_to: str | None) -> None:
    if unsent not in words:
        raise ValueError(f"unsent is {', '.join(words)}, not {unsent!r}")
    if (unsent == "export") != (export_to is not None):
        raise ValueError('export_to names the file of unsent="export", and of nothing else')


def _given(export_to: str | None) -> str:
    assert export_to is not None
    return export_to


def _unsent_changes(left: Unsent, *, instead: tuple[str, ...]) -> UnsentChanges:
    what = f"{left.count} changes of this user are on this device alone."
    if left.count == 1:
        what = "One change of this user is on this device alone."
    since = f"; the oldest since {left.oldest_at}" if left.oldest_at else ""
    words = " or ".join((", ".join(f'"{word}"' for word in instead[:-1]), f'"{instead[-1]}"'))
    return UnsentChanges(
        what,
        why=f"not sent yet: {left.changes + left.rows}; in quarantine: {left.quarantined}{since}",
        fix=f"Sync first, or say what becomes of them: unsent={words}. Nothing was changed.",
        count=left.count,
        oldest_at=left.oldest_at,
    )


class _Alone:
    """No other process is talking to the cloud meanwhile: it would write what it hears."""

    def __init__(self, store: "Store") -> None:
        self._lease = Outbox(store).lease(fresh_id(system_random()), lease_ms=LEASE_MS)

    def __enter__(self) -> None:
        if not self._lease.take():
            raise StoreBusy(
                "Another process is talking to the cloud for this store.",
                why="what it hears would be written after what is taken out now",
                fix="Close the app's other windows, or try again in a minute. Nothing was changed.",
            )

    def __exit__(self, *_: object) -> None:
        with suppress(SyncEngineError):  # it ends by itself
            self._lease.release()


# Wiping.


def wipe(
    store: "Store",
    user: str,
    *,
    keys: "KeyProvider | None",
    unsent: str,
    export_to: str | None,
    restore_points: str,
) -> WipeReport:
    """Leave no row and no byte of a user in the store's files; see `Engine.wipe`."""
    _check_words(unsent, UNSENT_OF_WIPED, export_to=export_to)
    if restore_points not in ("refuse", "delete"):
        raise ValueError(f"restore_points is refuse or delete, not {restore_points!r}")
    unsent_left(store, user, unsent=unsent, export_to=export_to, words=UNSENT_OF_WIPED)
    held, spared = _looked_into(store, user, keys=keys or KeyFile(store.path + KEY_FILE_ENDS))
    damaged = _copies_of_damaged_stores(store)
    if (held or damaged) and restore_points == "refuse":
        raise _holding(held, damaged)
    for path in damaged:
        path.unlink(missing_ok=True)
    with _Alone(store), ZeroedPages(store), store.transaction(durable=True):
        left = unsent_left(store, user, unsent=unsent, export_to=export_to, words=UNSENT_OF_WIPED)
        if export_to is not None:
            export_unsent(store, user, export_to)
        rows = take_out(store, user)
        forget_person(store, user)
        _note(store, spared)
    return WipeReport(
        rows=rows,
        unsent=left,
        exported_to=export_to,
        restore_points=tuple(point.restore_point_id for point in held),
        finished=finish_erasures(store, patient=True),
    )


def _looked_into(store: "Store", user: str, *, keys: "KeyProvider") -> tuple[list[RestorePoint], list[int]]:
    """Restore points that hold something of a user, or cannot be opened; and those that do not."""
    held: list[RestorePoint] = []
    spared: list[int] = []
    for point in kept_points(store):
        if point.state != "missing" and _holds(store, point, user, keys=keys):
            held.append(point)
        else:
            spared.append(point.restore_point_id)
    return held, spared


def _holds(store: "Store", point: RestorePoint, user: str, *, keys: "KeyProvider") -> bool:
    try:
        with opened_restore_point(store, point.restore_point_id, keys=keys) as path:
            return holds_rows_of(str(path), user)
    except SyncEngineError:
        return True


def _copies_of_damaged_stores(store: "Store") -> list[Path]:
    folder = Path(restore_folder(store.path))
    return sorted(folder.glob(f"*{DAMAGED_ENDS}")) if folder.is_dir() else []


def _holding(held: list[RestorePoint], damaged: list[Path]) -> WipeRefused:
    names = [f"restore point {point.restore_point_id} ({point.reason}, {point.made_at})" for point in held]
    names += [f"the copy of a damaged store {path.name}" for path in damaged]
    return WipeRefused(
        "Sealed copies of the store hold this user's rows, or cannot be looked into.",
        why="; ".join(names),
        fix='Say restore_points="delete": for all users there is then no way back to them. Nothing was changed.',
    )


def _note(store: "Store", spared: list[int]) -> None:
    """From the commit on no restore point from before is a way back, but for those that hold nothing of the user."""
    before = store.value("restore_points", "newest_erasure")
    note_wipe(store)
    newest = store.value("restore_points", "newest_erasure")
    store.run("users", "spare_restore_points", newest=newest, before=before, spared=orjson.dumps(spared).decode())
