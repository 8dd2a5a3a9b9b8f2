"""The story on one page: open the store, migrate it, start, sync, look, close."""

from __future__ import annotations

from threading import local

from syncengine.clock import SystemClock, iso
from syncengine.errors import AuthRequired, OtherUsersRowsChanged
from syncengine.local.restore_folder import has_plain_copies, has_restore_folder, restore_folder
from syncengine.local.store import Store
from syncengine.local.version_table import parse_version, read_installed
from syncengine.opening import check_given, judge_of, superseded, watch_shapes, way_to_the_cloud
from syncengine.session import Session
from syncengine.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    import random
    from collections.abc import Callable, Collection, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType
    from typing import Any

    import sqlite_utils

    from syncengine.clock import Clock
    from syncengine.events import StoreChanged
    from syncengine.local.bars import Bars
    from syncengine.local.keys import KeyProvider
    from syncengine.local.read_only import ReadOnlyReason
    from syncengine.local.restore_points import RestorePoint
    from syncengine.local.restoring import RestoreReport
    from syncengine.local.version_table import Readable
    from syncengine.migrate.consent import Consent
    from syncengine.migrate.plan import Plan
    from syncengine.migrate.quarantine_desk import QuarantineDesk
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.migrate.results import MigrationReport
    from syncengine.migrate.service import DataMigrationService
    from syncengine.opening import MakeBackend, Token
    from syncengine.outbox.receipts import Receipt
    from syncengine.outbox.reconcile import ReconcileReport
    from syncengine.receipts import Explanation
    from syncengine.remote.backend import Backend
    from syncengine.status import Status
    from syncengine.subscriptions import Subscription, Subscriptions
    from syncengine.sync.drain import RoundReport
    from syncengine.sync.report import FlushReport
    from syncengine.users import LogoutReport, WipeReport


class Engine:
    """One app's store on this device, and its way to the cloud. Use `Engine.open`, best in a `with` block.

    One engine for each file and process; all of the process's threads may share it. Other processes may open
    the same file with engines of their own, or with the `sqlite3` command line.
    """

    def __init__(  # noqa: PLR0913  (keyword-only: what open() was given)
        self,
        store: Store,
        *,
        registry: MigrationRegistry,
        user: str | None,
        sources: Mapping[str, Any],
        make_backend: MakeBackend | None,
        listener: Callable[[object], None] | None,
        chance: random.Random | None,
        guarded: bool = False,
        keys: KeyProvider | None = None,
        consent: Consent | None = None,
        analytics: Callable[[object], None] | None = None,
        keeps_backend: bool = False,
    ) -> None:
        self._store = store
        self._registry = registry
        self._sources = sources
        self._listener = listener
        self._chance = chance
        self._consent = consent
        self._analytics = analytics
        self._service: DataMigrationService | None = None
        self._guarded = guarded
        self._keys = keys
        self._session = Session(
            store,
            registry,
            user=user,
            make_backend=make_backend,
            keeps_backend=keeps_backend,
            chance=chance,
            hear=self._hear,
        )
        self._subscriptions: Subscriptions | None = None
        self._last = local()

    @classmethod
    def open(  # noqa: PLR0913  (keyword-only: the host's choices in one place)
        cls,
        path: str | os.PathLike[str],
        *,
        registry: MigrationRegistry,
        user: str | None = None,
        sources: Mapping[str, Any] | None = None,
        cloud_url: str | None = None,
        token: Callable[[], str | None] | None = None,
        backend: Backend | None = None,
        settings: Settings | None = None,
        listener: Callable[[object], None] | None = None,
        clock: Clock | None = None,
        chance: random.Random | None = None,
        guard: bool = False,
        keys: KeyProvider | None = None,
        consent: Consent | None = None,
        analytics: Callable[[object], None] | None = None,
    ) -> Engine:
        """Open the store at `path`, made (0600) if it is not there. Never waits for the network.

        `user` is who is signed in; None works on the store alone. `sources` names legacy stores to import from,
        by path. The cloud is `cloud_url` with a `token` callback, or a `backend`, which is closed with the engine;
        without either the engine works offline and keeps its queue. `guard` makes Python's own `sqlite3.connect` and
        `open` of the store fail in this process (SecondLibrary): a second SQLite library would drop the first one's
        locks. `keys` keeps the key that seals restore points: KeyFile, KeyringKey or HostKey; None is
        KeyFile("<path>.key").

        `consent` is asked before a major version changes or imports rows that are there (ConsentRequest); without it
        such migrations wait. `analytics` hears what runs cost and how people answered, without user, key or row.

        A store that must not be written opens all the same, for reading, and `read_only` says why: it is damaged,
        newer than this app, of a version that leads nowhere, or in a place that takes no writes. Nothing is written.
        Raises StoreForeign, StoreAlreadyOpen, StoreBusy, PragmaRefused, and RegistryInvalid, AuthRequired,
        TokenInvalid or BackendAddressRefused for what it was given; the file is then unchanged.
        """
        check_given(registry, user, cloud_url, token)
        settings = settings or Settings()
        clock = clock or SystemClock()
        judge = judge_of(registry, user)
        store = Store(str(path), settings=settings, clock=clock, app=registry.app, judge=judge, chance=chance)
        try:
            watch_shapes(store, listener)
            if has_plain_copies(store.path):
                from syncengine.local.private_place import remove_leftovers

                remove_leftovers(restore_folder(store.path))
            if store.read_only is None and store.facts.erasing:
                _finish_erasures(store)
            if guard:
                from syncengine.local.second_library import guard_store

                guard_store(store.path)
        except BaseException:
            store.close()  # else it could not be opened again as long as anybody holds the exception
            raise
        return cls(
            store,
            registry=registry,
            user=user,
            sources=sources or {},
            make_backend=way_to_the_cloud(
                backend=backend, url=cloud_url, token=token, settings=settings, clock=clock
            ),
            listener=listener,
            chance=chance,
            guarded=guard,
            keys=keys,
            consent=consent,
            analytics=analytics,
            keeps_backend=backend is not None,
        )

    # Migrating.

    def migrate(self) -> MigrationReport | None:
        """Do at once all that can be done offline, and queue the rest. Safe to repeat, in any number of processes.

        None when there was nothing to do. Raises what stopped a critical migration (MigrationFailed and its kinds),
        StoreSuperseded, StoreBusy, DiskFull; the store is then as it was before that migration.
        """
        self._store.check_writable()
        if self._registry.nothing_pending(read_installed(self._store), user=self._session.user):
            if has_restore_folder(self._store.path) and self._store.value(
                "restore_points", "any_is_over", now=iso(self._store.clock.now_ms())
            ):
                self._prune()
            if self._store.value("erasures", "is_erasing"):
                _finish_erasures(self._store)
            return self._tend_quarantine(None)
        from syncengine.local.private_folder import sweep

        sweep()
        report = self.migrations.migrate_all_data(self._session.user)
        self._take_parked()
        for result in report.results:
            failure = result.failure
            if isinstance(failure, OtherUsersRowsChanged) or (failure and self._is_critical(result.migration_id)):
                raise failure
        self._wake("migrated")
        return self._tend_quarantine(report)

    def _take_parked(self) -> None:
        """What came from newer apps and can be read now, in the shapes that this one has just made."""
        if self._store.value("pull", "anything_parked"):
            from syncengine.sync.parked import apply_parked

            apply_parked(self._store, self._registry)

    def _tend_quarantine(self, report: MigrationReport | None) -> MigrationReport | None:
        """What a migration set aside is tried again when its code is another; what was resolved long ago goes."""
        settings, now_ms = self._store.settings, self._store.clock.now_ms()
        resolved_before = iso(now_ms - settings.quarantine_keep_days * 24 * 60 * 60 * 1_000)
        found = self._store.row(
            "quarantine", "needs_a_look", retry=settings.retry_quarantined, before=resolved_before
        )
        refused, is_over = found or (0, 0)
        if refused:
            from syncengine.migrate.tending import is_same_code

            refused = not is_same_code(self._store, self._registry, user=self._session.user)
        return self.quarantine.tend(report) if refused or is_over else report

    def _prune(self) -> None:
        """A migration that has succeeded needs its restore point no longer than the settings say."""
        from syncengine.local.restore_points import prune_restore_points

        prune_restore_points(self._store)

    def _is_critical(self, migration_id: str) -> bool:
        return self._registry.get_migration_executor(migration_id).definition.critical

    def restore_points(self) -> tuple[RestorePoint, ...]:
        """The sealed copies that are kept, oldest first; each file is read and compared with its hash."""
        from syncengine.local.restore_points import restore_points

        return restore_points(self._store)

    def restore(
        self, restore_point_id: int, *, simulate: bool = False, consent: Collection[str] = ()
    ) -> RestoreReport:
        """Take the store back to a restore point; see `DataMigrationService.restore`. Call `migrate()` afterwards."""
        report = self.migrations.restore(restore_point_id, self._session.user, simulate=simulate, consent=consent)
        self._wake("restored")
        return report

    @property
    def quarantine(self) -> QuarantineDesk:
        """What was set aside, and the ways back: look, edit, try again, give up."""
        from syncengine.migrate.quarantine_desk import QuarantineDesk

        return QuarantineDesk(self._store, self._registry, user=self._session.user, wake=self._wake)

    def plan(self) -> Plan:
        """What `migrate()` would do, as a value that prints itself."""
        return self.migrations.plan(self._session.user)

    @property
    def migrations(self) -> DataMigrationService:
        """Status, plan, history and single runs: all that a settings page needs."""
        if self._service is None:
            from syncengine.logs import install_redaction
            from syncengine.migrate.service import DataMigrationService

            install_redaction()
            self._service = DataMigrationService(
                store=self._store,
                registry=self._registry,
                sources=self._sources,
                listener=self._listener,
                probe_verdict=self._verdict,
                consent=self._consent,
                analytics=self._analytics,
                keys=self._keys,
                chance=self._chance,
            )
        return self._service

    def _verdict(self) -> str:
        return str(self._store.value("state", "get", name="probe_verdict") or "unknown")

    @property
    def read_only(self) -> ReadOnlyReason | None:
        """Why nothing can be written, and the way back; None for a store that is well.

        Then `write()`, `migrate()` and `start()` raise the error that it names; `read()` gives what SQLite can read,
        whatever its shape, and `snapshot()`, `status()` and restoring remain.
        """
        return self._store.read_only

    # The app's own rows.

    def read(self) -> AbstractContextManager[sqlite_utils.Database]:
        """`with engine.read() as db:` one moment of the store, on a connection that cannot write.

        A statement about a collection whose migrations have not been done raises CollectionNotReady; the others work.
        Where none can be used yet the block raises it at once. StoreSuperseded after a newer app migrated.
        """
        from syncengine.local.hosting import reading

        return reading(self._store, check=self._bars)

    def write(self, *, atomic: bool = True) -> AbstractContextManager[sqlite_utils.Database]:
        """`with engine.write() as db:` one atomic change to the app's rows; an exception undoes all of it.

        What it changes in synced collections is queued in the same transaction, and reaches the cloud whole or not
        at all; with `atomic=False`, for bulk loads, in parts. Raises as `read` does, StoreBusy when another process
        writes for too long, GroupTooLarge, and ShapeDrifted for a collection whose table another tool has altered, or
        this block (`alter=True`).
        """
        from syncengine.local.hosting import writing

        self._last.entries = ()
        return writing(
            self._store,
            check=self._bars_of_writing,
            ending=self._refuse_another_shape,
            atomic=atomic,
            ended=self._block_ended,
        )

    def _block_ended(self, entries: range) -> None:
        self._last.entries = entries
        self._wake("edited" if entries else "written")

    def reconcile(self) -> ReconcileReport:
        """Queue what no trigger saw: rows that the cloud has never heard of, and rows that are gone here.

        For edits that were made while triggers were missing, by blob I/O, or by REPLACE in a program that leaves
        `recursive_triggers` off. A row that the cloud knows and whose contents alone were changed that way is not
        found: write it once more. Where no row of a user is left in a table, theirs are not deleted at the cloud: the
        report has them as `withheld`. Raises as `write` does.
        """
        from syncengine.outbox.reconcile import reconcile

        report = reconcile(self._store)
        if report.queued:
            self._wake("edited")
        return report

    def snapshot(self) -> AbstractContextManager[Path]:
        """`with engine.snapshot() as path:` a private copy that any tool may open; gone afterwards."""
        from syncengine.local.snapshot import snapshot

        return snapshot(self._store)

    def _bars(self, moment: Readable) -> Bars | None:
        """None on the way of every day: the version is right, and the tables are as they were made."""
        found = moment.rows("state", "store_version")
        version = parse_version(found[0][0]) if found else self._registry.baseline
        if version > self._registry.target:
            raise superseded(version, self._registry)
        if version == self._registry.target and not self._store.drifted:
            return None
        from syncengine.migrate.readiness import bars_at

        return bars_at(self._store, self._registry, moment)

    def _bars_of_writing(self, store: Readable) -> Bars | None:
        """As `_bars`; where somebody changed the schema, what is captured is looked at before the block's edits."""
        bars = self._bars(store)
        if len(self._store.app_blocks) > 1 or self._store.schema_number() == self._store.schema_in_order:
            return bars
        from syncengine.migrate.drift import look_again

        look_again(self._store)
        return self._bars(store)

    def _refuse_another_shape(self) -> None:
        """One number on the way of every day: the block began with the schema that was in order."""
        if self._store.schema_number() != self._store.schema_in_order:
            from syncengine.migrate.drift import refuse_another_shape

            refuse_another_shape(self._store)

    # The cloud.

    def start(self) -> None:
        """Sync in the background from now on: probe, drain, wait; woken by writes of any process.

        Migrations that were left for the background run, too, in a thread of their own. Safe to
        repeat. Without a backend or a user nothing is sent, and the queue is kept.
        """
        self._store.check_writable()
        self._session.start(lambda: self.migrations, then=lambda: self._wake("migrated"))

    def sync_now(self, *, timeout_ms: int = 60_000) -> RoundReport:
        """One round with the cloud now, whatever the probe thinks. Raises AuthRequired without a backend or user."""
        return self._session.running().sync_now(timeout_ms=timeout_ms)

    def flush(self, *, timeout_ms: int = 10_000) -> FlushReport:
        """Send until the queue is empty or the time is over; says what remains. Never raises for the network."""
        return self._session.running().flush(timeout_ms=timeout_ms)

    def pause(self, reason: str = "paused by the app") -> None:
        """Send nothing until `resume`; the queue is kept."""
        if self._session.runner is not None:
            self._session.runner.pause(reason)

    def resume(self) -> None:
        """Go on after `pause`."""
        if self._session.runner is not None:
            self._session.runner.resume()

    def set_network(self, *, online: bool | None = None, metered: bool | None = None) -> None:
        """What the host knows of the network, until the next call; None: it does not say.

        `online=False`: the background begins no call, whatever an answer says that comes in meanwhile. It never
        prevents a try that is asked for, and no answer to such a try ends it. `status()` shows both hints at once.
        """
        self._session.set_network(online=online, metered=metered)

    def _wake(self, reason: str) -> None:
        if self._session.runner is not None and reason != "written":
            self._session.runner.wake(reason)
        if self._subscriptions is not None:
            self._subscriptions.wake(reason)

    def _hear(self, event: object) -> None:
        if self._subscriptions is not None:
            self._subscriptions.hear(event)
        if self._listener is not None:
            self._listener(event)

    # Users.

    def switch_user(self, user: str | None, *, token: Token | None = None) -> None:
        """Work for another user from now on, or for nobody. The queue of the one before, how far it has got and its
        waits stay as they are.

        The call in flight ends or is given up, and the new user's calls go over a client of their own. `token` is the
        callback for them; without it the one that `open` was given is asked. Their own migrations may be pending:
        call `migrate()`. What `start()` has begun goes on. Raises AuthRequired for what can be no user, TokenInvalid,
        StoreUnknown, CalledFromInside within `write()`, a migration or a listener of a round: nothing is changed.
        """
        check_given(self._registry, user, token=token)
        judge_of(self._registry, user)(read_installed(self._store).versions)
        self._session.switch(user, token)
        self._wake("user")

    def logout(self, *, unsent: str = "refuse", export_to: str | os.PathLike[str] | None = None) -> LogoutReport:
        """Sign the user out. Raises UnsentChanges while changes of theirs are on this device alone, unless told what
        becomes of them.

        "keep": they wait for the next sign-in. "export": they go to a new file at `export_to` (0600, JSON lines),
        which is read back before anything goes; "destroy": they are given up. After the last two nothing of the user
        is left in the synced collections, and the next sign-in reads the cloud from the start. Raises what
        `switch_user` does, AuthRequired when nobody is signed in, ExportImpossible, WipeRefused and StoreBusy; the
        user is then signed in as before.
        """
        from syncengine.users import log_out, unsent_left

        user, file = self._session.user, None if export_to is None else str(export_to)
        if user is None:
            raise AuthRequired("Nobody is signed in.", fix="There is nobody to sign out. Nothing was changed.")
        unsent_left(self._store, user, unsent=unsent, export_to=file)
        report = self._session.without(user, lambda: log_out(self._store, user, unsent=unsent, export_to=file))
        self._wake("user")
        return report

    def wipe(
        self,
        user: str,
        *,
        unsent: str = "refuse",
        export_to: str | os.PathLike[str] | None = None,
        restore_points: str = "refuse",
    ) -> WipeReport:
        """Take a user off this device: rows, queue, quarantine, history, and the bytes of them in the store's files.

        Who is signed in is signed out. Other users' rows stay as they are. Raises UnsentChanges unless `unsent` is
        "export" or "destroy", and WipeRefused, which names them, while restore points hold the user's rows, unless
        `restore_points` is "delete". Raises StoreBusy, ExportImpossible; nothing is changed then. What the app keeps
        in tables and files of its own is the app's to delete, and what the cloud has stays there.
        """
        from syncengine.users import wipe

        check_given(self._registry, user)
        file = None if export_to is None else str(export_to)
        points = restore_points
        report = self._session.without(
            user,
            lambda: wipe(self._store, user, keys=self._keys, unsent=unsent, export_to=file, restore_points=points),
        )
        self._wake("user")
        return report

    # Where is it?

    def last_entries(self) -> tuple[int, ...]:
        """The ids of what the last `write()` block of this thread queued, in order; ask `receipt` for each.

        None within a block, and after one that was undone.
        """
        return tuple(getattr(self._last, "entries", ()))

    def receipt(self, entry_id: int) -> Receipt:
        """Where a queued change of the signed-in user is, and why it is not at the cloud; as the store says now."""
        from syncengine.outbox.receipts import receipt_of

        return receipt_of(self._store, entry_id, user=self._session.user)

    def wait(self, entry_id: int, *, timeout_ms: int = 60_000) -> Receipt:
        """The receipt once the cloud has it for good, or a person has to act, or the time is over.

        It waits, and sends nothing by itself: see `start` and `sync_now`. Raises CalledFromInside within `write()`.
        """
        from syncengine.receipts import wait

        self._session.check_outside()
        return wait(self._store, entry_id, user=self._session.user, timeout_ms=timeout_ms)

    def explain(self, collection: str, key: str, *, user: str | None = None) -> Explanation:
        """Why a row is not at the cloud, as a value that prints itself; of the signed-in user, or of `user`."""
        from syncengine.receipts import explain

        activity = self._session.activity
        return explain(
            self._store,
            collection,
            key,
            user=user or self._session.user,
            signed_in=self._session.user,
            activity=activity,
        )

    def subscribe(
        self, callback: Callable[[StoreChanged], object], *, collections: Collection[str] | None = None
    ) -> Subscription:
        """Call back soon after the status or these collections (None: any) may have changed, by whomever: this
        process, another one, or a page from the cloud; at most ten times a second.

        On a thread of the engine's; `queue.listener(callback)` of `syncengine.callbacks` brings it to a window's.
        What it raises is logged. Nothing runs before the first subscription or after the last is closed.
        """
        from syncengine.subscriptions import Subscriptions

        if self._subscriptions is None:
            self._subscriptions = Subscriptions(self._store, status=self.status)
        return self._subscriptions.add(callback, collections=collections)

    # Looking and leaving.

    def status(self) -> Status:
        """What is going on, as one frozen value; from rows, so it is true for all processes, but for the hints of
        `set_network`, which are this engine's."""
        from syncengine.status import read_status

        at = self._session
        return read_status(
            self._store,
            self._registry,
            user=at.user,
            activity=at.activity,
            hint=at.hint,
            unnoted_error=at.unnoted_error,
        )

    def export_diagnostics(
        self, path: str | os.PathLike[str] | None = None, *, redact: bool = True
    ) -> dict[str, Any]:
        """What somebody who helps wants to know, as JSON-able values; also written to a new file at `path` (0600).

        Versions, settings, tables with the number of their rows, history, queue and quarantine by number and code. It
        never holds the body of a row, a token or a key of encryption; redacted, no keys of rows, user ids, sentences
        or folders either. Of a damaged or newer store, what cannot be read says so. Raises ExportImpossible.
        """
        from syncengine.diagnostics import diagnosed, write_document

        document = diagnosed(self._store, status=self.status, redact=redact)
        if path is not None:
            write_document(document, str(path))
        return document

    def close(self) -> None:
        """Stop and close the file, in bounded time; safe to repeat. What is queued stays queued.

        A `backend` that `open` was given is closed with it, if a round or `start()` has used it: the next engine
        needs one of its own.
        """
        if self._subscriptions is not None:
            self._subscriptions.close()
        self._session.close()
        self._store.close()
        if self._guarded:
            from syncengine.local.second_library import unguard_store

            unguard_store(self._store.path)

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _finish_erasures(store: Store) -> None:
    """A process ended between an erasing migration and the deletion of what no transaction can take back."""
    from syncengine.migrate.erasing import finish_erasures

    finish_erasures(store)
