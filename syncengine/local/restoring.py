"""Going back to a restore point, as one change that every open connection sees and goes on with.

The opened copy is completed with what must not go back in time, and then copied over the store by SQLite's backup
API, which holds the store's write lock from its first step: other connections read the old state until the last page
is there, and the new one from then on. A crash on the way leaves the store as it was.
"""

import logging
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from syncengine.clock import iso
from syncengine.errors import CalledFromInside, DiskFull, RestoreRefused
from syncengine.local.carrying_over import carry_over
from syncengine.local.difference import Difference, differences
from syncengine.local.long_wait import LongWait
from syncengine.local.restore_points import make_restore_point, no_disk, opened_restore_point, restore_point
from syncengine.local.savepoint import raise_translated
from syncengine.local.store import Store
from syncengine.logs import log_event

if TYPE_CHECKING:
    from syncengine.local.keys import KeyProvider
    from syncengine.local.restore_points import RestorePoint

_logger = logging.getLogger("syncengine.local")

PAGES_OF_ONE_STEP = 1_000
BringForward = Callable[[Store], None]
"""Brings a store at a restore point's version to the present one, as its migrations do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What a restore did, or would do."""

    restore_point_id: int
    simulated: bool
    made_at: str
    """The moment that the store went back to."""
    from_version: str
    to_version: str
    """The schema versions before and after."""
    changes: tuple[Difference, ...]
    """What it lost and brought back, by collection and owner."""
    users: tuple[str, ...] = field(repr=False)
    """All whose rows it touches."""
    entries_set_aside: int
    """Unsent entries that were written since, now in quarantine."""
    undone: tuple[tuple[str, str], ...] = field(repr=False)
    """(migration, scope) of all that have not run any more."""
    sealed_before: int | None
    """The restore point with the store as it was just before; None when nothing was done."""

    @property
    def lost(self) -> int:
        """Rows that went to quarantine with origin `restore`."""
        return sum(change.lost for change in self.changes)


def restore(
    store: Store,
    restore_point_id: int,
    *,
    keys: "KeyProvider",
    simulate: bool = False,
    user: str | None = None,
    consent: Collection[str] = (),
    bring_forward: BringForward | None = None,
) -> RestoreReport:
    """Take the whole store back to a restore point; what that loses goes to quarantine with origin `restore`.

    First the present store is sealed, so that there is a way back from this, too. Numbers of the outbox are never
    given out twice, claimed entries stay, and the history goes on. `user` is who asks; other users whose rows it
    touches have to be in `consent`. `bring_forward` tells what users wrote from what migrations rewrote; without it
    every row that differs counts as lost. `simulate` changes nothing.

    Raises RestorePointUnknown, RestorePointUnusable, RestoreRefused, KeyUnavailable, RestorePointImpossible,
    DiskFull, StoreBusy; the store is then as it was.
    """
    _refuse_inside(store)
    point = restore_point(store, restore_point_id)
    copies = 1 if bring_forward is None else 2
    with (
        _no_migration_here(store),
        LongWait(store),
        _typed(),
        opened_restore_point(store, restore_point_id, keys=keys, copies=copies) as path,
    ):
        forward = None
        if bring_forward is not None:
            forward = _brought_forward(store, str(path), bring_forward)
        with _copy_beside_the_present(store, str(path), forward=forward) as copy:
            going = _Going(store, copy, point, user=user, consent=consent)
            if simulate:
                return going.simulate()
            going.check()
            before = make_restore_point(store, keys=keys, reason=f"before going back to {restore_point_id}")
            return going.go(sealed_before=before.restore_point_id)


@contextmanager
def _typed() -> Iterator[None]:
    """What the disk says about the private copies, in the engine's words."""
    try:
        yield
    except OSError as error:
        raise no_disk(error) from error
    except apsw.Error as error:
        raise_translated(error)


def _refuse_inside(store: Store) -> None:
    if store.in_transaction_here():
        raise CalledFromInside(
            "A restore was asked for inside a block of engine.write().",
            why="it has to wait for the end of that very block",
            fix="Restore outside of it. Nothing was changed.",
        )


@contextmanager
def _no_migration_here(store: Store) -> Iterator[None]:
    """Wait for a migration of another thread; those of other processes lose their lease when the store goes back."""
    with store.migrating:
        if store.is_migrating:
            raise CalledFromInside(
                "A restore was asked for by a listener of the migration that is running.",
                why="it would take away the tables that the migration is filling",
                fix="Let the listener return, and restore afterwards. Nothing was changed.",
            )
        yield


def _brought_forward(store: Store, path: str, bring_forward: BringForward) -> str:
    """A second copy in which all migrations have run again: what only they changed is equal there."""
    import shutil

    forward = os.path.join(os.path.dirname(path), "forward.db")
    shutil.copyfile(path, forward)
    os.chmod(forward, 0o600)
    copy = Store(forward, settings=store.settings, clock=store.clock)
    try:
        bring_forward(copy)
    except DiskFull:
        raise
    except Exception as error:  # noqa: BLE001  (migrations may fail today; the way back must not depend on them)
        log_event(_logger, logging.WARNING, "a copy could not be brought forward", error=type(error).__name__)
    finally:
        copy.close()
    return forward


@contextmanager
def _copy_beside_the_present(store: Store, path: str, *, forward: str | None) -> Iterator[Store]:
    """The opened copy as a store, with its engine's tables brought up to date, and the present one attached."""
    copy = Store(path, settings=store.settings, clock=store.clock)
    try:
        copy.query("PRAGMA foreign_keys = OFF")
        # Read-only: BEGIN IMMEDIATE takes the write lock of every attached database that can be written.
        copy.query("ATTACH ? AS present", (_for_reading(store.path),))
        if forward is not None:
            copy.query("ATTACH ? AS forward", (_for_reading(forward),))
        yield copy
    finally:
        copy.close()


def _for_reading(path: str) -> str:
    return f"{Path(path).as_uri()}?mode=ro"


class _Going:
    """One way back."""

    def __init__(
        self, store: Store, copy: Store, point: "RestorePoint", *, user: str | None, consent: Collection[str]
    ) -> None:
        self._store = store
        self._copy = copy
        self._point = point
        self._agreed = {*consent, *([] if user is None else [user])}
        self._version = str(copy.value("state", "store_version") or "")

    def simulate(self) -> RestoreReport:
        """What `go` would do to the private copy, which then goes nowhere; nobody has to agree to it."""
        with self._copy.transaction():
            return self._prepare(sealed_before=None)

    def check(self) -> None:
        """Raises RestoreRefused before anything is sealed; `go` looks again when nobody can write any more."""
        with self._copy.transaction(), suppress(_Undo), self._copy.savepoint("check"):
            self._refuse_others(self._prepare(sealed_before=None))
            raise _Undo

    def go(self, *, sealed_before: int) -> RestoreReport:
        """Complete the copy and put it in the store's place, while nobody can write."""
        with self._store.lock:
            self._store.check_usable()
            self._store.check_file()
            destination = _destination(self._store)
            try:
                with destination.backup("main", self._copy.connection, "main") as backup:
                    backup.step(0)  # takes the write lock, and copies nothing yet
                    with self._copy.transaction():
                        report = self._prepare(sealed_before=sealed_before)
                        self._refuse_others(report)
                    while not backup.done:
                        backup.step(PAGES_OF_ONE_STEP)
            except apsw.Error as error:
                raise_translated(error)
            finally:
                destination.close(True)
        return report

    def _prepare(self, *, sealed_before: int | None) -> RestoreReport:
        now, number = iso(self._store.clock.now_ms()), self._point.restore_point_id
        ((present,),) = self._copy.query(
            "SELECT max(schema_version) FROM present._sync_version WHERE scope = 'store'"
        )
        carried = carry_over(self._copy, restore_point_id=number, now=now)
        changes = differences(self._copy, since=self._point.made_at, now=now)
        self._record(changes, from_version=str(present or ""), now=now)
        users = {change.owner for change in changes if change.owner is not None} | carried.owners
        return RestoreReport(
            restore_point_id=self._point.restore_point_id,
            simulated=sealed_before is None,
            made_at=self._point.made_at,
            from_version=str(present or ""),
            to_version=self._version,
            changes=changes,
            users=tuple(sorted(users)),
            entries_set_aside=carried.entries_set_aside,
            undone=carried.undone,
            sealed_before=sealed_before,
        )

    def _record(self, changes: tuple[Difference, ...], *, from_version: str, now: str) -> None:
        self._copy.run(
            "restore_points",
            "record_restore",
            restore_point_id=self._point.restore_point_id,
            from_version=from_version,
            to_version=self._version,
            rows_quarantined=sum(change.lost for change in changes),
            now=now,
        )
        if changes:
            self._copy.run("restore_points", "read_on", now=now)

    def _refuse_others(self, report: RestoreReport) -> None:
        others = set(report.users) - self._agreed
        if not others:
            return
        number = report.restore_point_id
        raise RestoreRefused(
            f"Going back to restore point {number} changes the rows of {len(others)} other users.",
            why=f"they were not asked; engine.restore({number}, simulate=True) lists what each would lose",
            fix="Ask them, and name them in consent={...}. Nothing was changed.",
        )


class _Undo(Exception):
    """Ends a look."""


def _destination(store: Store) -> apsw.Connection:
    """A connection that nothing else uses: a read on it would end the backup's lock without a word (tried)."""
    connection = apsw.Connection(store.path, flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(store.settings.starter_wait_ms_max)
    connection.execute("PRAGMA synchronous = FULL").fetchall()
    return connection
