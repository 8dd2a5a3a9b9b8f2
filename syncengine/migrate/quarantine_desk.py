"""Where a person decides about what was set aside: look, edit, try again, give up. `engine.quarantine`."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from syncengine.arguments import whole_number
from syncengine.clock import iso
from syncengine.errors import (
    CalledFromInside,
    EntryInDoubt,
    MigrationInvalid,
    QuarantineItemUnknown,
    StoreBusy,
    SyncEngineError,
)
from syncengine.local.version_table import read_installed
from syncengine.migrate.erasing import ZeroedPages, finish_erasures, forget_resolved, holds_erased
from syncengine.migrate.history import code_hash
from syncengine.migrate.pace import Pace
from syncengine.migrate.policy import Kind, kind_of
from syncengine.migrate.quarantine_item import QuarantineItem, RetryOutcome, item_of, unknown, write_items
from syncengine.migrate.rejection import Rejection, rejection_for
from syncengine.migrate.repair import column_of
from syncengine.migrate.reporter import MigrationProgressReporter
from syncengine.migrate.results import MigrationReport
from syncengine.migrate.retrying import OTHER_OWNER, RetryRefused, bring_back
from syncengine.migrate.run_context import RunContext
from syncengine.migrate.shadow_state import filling
from syncengine.migrate.starter import Starter
from syncengine.migrate.tending import remember_code
from syncengine.outbox.queue import Outbox
from syncengine.vocabulary import STORE_SCOPE

if TYPE_CHECKING:
    from os import PathLike

    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry

DAY_MS = 24 * 60 * 60 * 1_000
ROW_NUMBER_MAX = 2**63 - 1
"""What SQLite counts rows with (sqlite.org/datatype3.html)."""
OUTBOX = "outbox"
OF_VALUES = ("shape_invalid", "quarantined_by_rule", OTHER_OWNER)
"""Reasons that lie in the body itself."""


class _Rehearsed(Exception):
    """It would come back; undo it."""


class QuarantineDesk:
    """What was set aside by migrations and in the outbox. With a user it shows, and touches, theirs and nobody's."""

    def __init__(
        self,
        store: "Store",
        registry: "MigrationRegistry",
        *,
        user: str | None = None,
        wake: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._user = user
        self._wake = wake

    # Looking.

    def items(self, user: str | None = None, *, resolved: bool = False) -> tuple[QuarantineItem, ...]:
        """What waits for a decision, oldest first; with `resolved` what was decided, too.

        `user` narrows it to theirs and nobody's. A desk that was opened for another user shows none of theirs.
        """
        rows = self._store.rows("quarantine", "items", user=user or self._user, resolved=resolved, item_id=None)
        return tuple(item for item in map(item_of, rows) if self._may_see(item))

    def item(self, item_id: int) -> QuarantineItem:
        """One item, whole, resolved or not. Raises QuarantineItemUnknown."""
        item_id = whole_number(item_id, of="a quarantine item", found="`engine.quarantine.items()` has them all")
        if not 0 < item_id <= ROW_NUMBER_MAX:
            raise unknown(item_id)
        rows = self._store.rows("quarantine", "items", user=self._user, resolved=True, item_id=item_id)
        if not rows:
            raise unknown(item_id)
        return item_of(rows[0])

    def _may_see(self, item: QuarantineItem) -> bool:
        return self._user is None or item.owner in (None, self._user)

    def _open_item(self, item_id: int) -> QuarantineItem:
        item = self.item(item_id)
        if item.resolution is not None:
            raise unknown(item_id)
        return item

    # Deciding.

    def retry(self, item_id: int) -> RetryOutcome:
        """Try an item again, in one transaction.

        A migration's row goes through the present code of that migration and of every later one, and into its
        collection; if it has been uploaded, the row is queued for the cloud. An entry is queued again at its old
        place, with its group. What does not fit, or would become a row of another user, stays, with the new reason
        and one attempt more.

        Raises QuarantineItemUnknown, EntryInDoubt, CalledFromInside, and StoreBusy also while its collection is being
        rewritten; nothing is changed then.
        """
        item = self._open_item(item_id)
        with ZeroedPages(self._store, wanted=holds_erased(self._store, item_id)):
            outcome = self._retry_entry(item) if item.origin == OUTBOX else self._retry_row(item)
        if outcome.resolved:
            self._settled()
        return outcome

    def _settled(self) -> None:
        finish_erasures(self._store)
        self._wake("quarantine")

    def _retry_entry(self, item: QuarantineItem) -> RetryOutcome:
        with self._store.transaction(durable=True):
            entries = Outbox(self._store).retry(item.item_id)
            forget_resolved(self._store, item)
        return RetryOutcome(item_id=item.item_id, resolved=True, entries=entries)

    def _retry_row(self, item: QuarantineItem) -> RetryOutcome:
        with self._alone():
            # Once more, now that nobody else can write: another process may have decided meanwhile.
            item = self._open_item(item.item_id)
            self._refuse_while_rewritten(item)
            try:
                with self._store.savepoint("retry"):
                    rows = bring_back(item, self._context(item.owner), owner=self._owner_of(item))
                    self._resolve(item, "edited" if item.edited else "retried")
                    forget_resolved(self._store, item)
            except Exception as error:
                why = self._why_refused(error)
                if why is None:
                    raise
                return self._refused(item, why)
        return RetryOutcome(item_id=item.item_id, resolved=True, rows=rows)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A transaction that may step tables aside."""
        store = self._store
        with store.lock:
            if store.connection.in_transaction:
                raise CalledFromInside(
                    "The quarantine desk was used inside a block that writes.",
                    why="it takes a transaction of its own",
                    fix="Call it outside of engine.write() and of migrations. Nothing was changed.",
                )
            with Starter(store, rebuilds=True), store.transaction(durable=True):
                yield

    def _refuse_while_rewritten(self, item: QuarantineItem) -> None:
        """A table that is being rewritten beside the live one cannot step aside."""
        names = {item.collection}
        if item.migration in {listed.id for listed in self._registry.migrations}:
            names.update(self._registry.get_migration_executor(item.migration).definition.collections)
        if rewritten := sorted(names & filling(self._store).keys()):
            raise StoreBusy(
                f"Quarantine item {item.item_id} cannot be tried now.",
                why=f"{', '.join(rewritten)} is being rewritten by a migration, or that was paused",
                fix="Try again when it has ended. Nothing was changed.",
            )

    def _owner_of(self, item: QuarantineItem) -> str | None:
        """What belongs to nobody may only be given to the user that the desk was opened for."""
        return self._user if item.owner is None else item.owner

    def _why_refused(self, error: Exception) -> Rejection | None:
        """None for what is not the item's fault: a full disk, damage, another process."""
        if not self._store.connection.in_transaction or kind_of(error) in (Kind.TRANSIENT, Kind.CRITICAL):
            return None
        if isinstance(error, RetryRefused):
            return error.why
        what = error.what if isinstance(error, SyncEngineError) else type(error).__name__
        return rejection_for(error) or Rejection(code="migration_failed", text=what)

    def _refused(self, item: QuarantineItem, why: Rejection) -> RetryOutcome:
        self._store.run(
            "quarantine",
            "refuse_again",
            item_id=item.item_id,
            error_code=why.code,
            error_text=why.text,
            field=why.field,
            code_hash=self._present_code(item.migration),
        )
        return RetryOutcome(item_id=item.item_id, resolved=False, why=why.text, field=why.field)

    def _context(self, owner: str | None) -> RunContext:
        clock = self._store.clock
        return RunContext(
            store=self._store,
            registry=self._registry,
            user=owner,
            reporter=MigrationProgressReporter(clock=clock),
            pace=Pace(clock=clock),
        )

    def edit(self, item_id: int, body: str) -> QuarantineItem:
        """Give an item another body, for the next try; the first body is kept beside it.

        It has to be of the shape that the item was written in: a whole row, a legacy element that its migration can
        convert, an outbox entry that differs in `set` alone. It stays its owner's; what belongs to nobody can become
        a row of the user that the engine was opened for. Raises QuarantineEditRefused with the field and the reason,
        QuarantineItemUnknown, StoreBusy while the collection is being rewritten; the item is then as it was.
        """
        from syncengine.migrate.editing import check_new_body

        with self._alone():
            item = self._open_item(item_id)
            check_new_body(item, body, owner=self._owner_of(item), store=self._store, registry=self._registry)
            if item.origin != OUTBOX:
                self._refuse_while_rewritten(item)
                self._rehearse(replace(item, body=body))
            self._store.run("quarantine", "edit", item_id=item_id, body=body)
            return self.item(item_id)

    def _rehearse(self, item: QuarantineItem) -> None:
        """Values that the item's migration would not take are refused now; what else is in the way may pass."""
        from syncengine.migrate.editing import refused

        try:
            with self._store.savepoint("rehearsal"):
                self._bring_back_for_nothing(item)
        except _Rehearsed:
            return
        except Exception as error:
            why = self._why_refused(error)
            if why is None:
                raise
            if why.code in OF_VALUES:
                raise refused(item, why.text, field=column_of(why.field)) from None

    def _bring_back_for_nothing(self, item: QuarantineItem) -> None:
        bring_back(item, self._context(item.owner), owner=self._owner_of(item))
        raise _Rehearsed

    def discard(self, item_id: int, *, reason: str) -> None:
        """Give an item up. Its body stays, marked as discarded, for `quarantine_keep_days`; of a collection that was
        erased since, it goes at once.

        What waited behind an outbox entry goes on. A row that was queued for its upload is then deleted at the cloud,
        too. Raises MigrationInvalid without a reason, QuarantineItemUnknown.
        """
        if not isinstance(reason, str) or not reason.strip():
            raise MigrationInvalid(
                "A quarantine item was given up without a reason.", fix="Say why, for the history."
            )
        with self._store.transaction(durable=True):
            item = self._open_item(item_id)
            if item.origin == OUTBOX:
                Outbox(self._store).discard(item_id)
            else:
                self._resolve(item, "discarded")
            self._store.run("quarantine", "note", item_id=item_id, note=reason)
            forget_resolved(self._store, item)
        self._settled()

    def _resolve(self, item: QuarantineItem, resolution: str) -> None:
        now = iso(self._store.clock.now_ms())
        self._store.run("quarantine", "resolve", item_id=item.item_id, resolution=resolution, now=now)

    def export(self, path: "str | PathLike[str]", *, user: str | None = None, resolved: bool = False) -> int:
        """Write the items whole, as a JSON list, to a new file that only its owner can read (0600); how many.

        Raises QuarantineExportRefused where the file is there already or cannot be made.
        """
        items = self.items(user, resolved=resolved)
        write_items(items, path)
        return len(items)

    # What the engine does by itself.

    def tend(self, report: MigrationReport | None) -> MigrationReport | None:
        """After a `migrate()`: its report, with the rows that came back by themselves."""
        back = self.retry_mended().total() if self._store.settings.retry_quarantined else 0
        self.prune()
        if not back:
            return report
        current = read_installed(self._store).schema_version(STORE_SCOPE) or self._registry.baseline
        report = report or MigrationReport(current=current, target=self._registry.target)
        return replace(report, retried=back)

    def retry_mended(self) -> Counter[str]:
        """Try what a migration set aside again, once for each version of its code; rows that came back, by migration.

        One that fails stays where it was, and stops no other.
        """
        back: Counter[str] = Counter()
        refused = self._store.rows("quarantine", "refused_by", user=self._user)
        mended = [(item, migration) for item, migration, tried in refused if self._is_other_code(migration, tried)]
        most = self._store.settings.quarantine_retries_max
        for item_id, migration in mended[:most]:
            try:
                back[migration] += self.retry(item_id).rows
            except (EntryInDoubt, QuarantineItemUnknown):
                continue  # the cloud has to say first, or another process was quicker
            except StoreBusy:
                return back  # at the next start
        if len(mended) <= most:
            remember_code(self._store, self._registry, user=self._user)
        return back

    def _is_other_code(self, migration: str, tried: str | None) -> bool:
        return self._present_code(migration) not in (None, tried)

    def _present_code(self, migration: str | None) -> str | None:
        """None where the app has no such migration, or no sources to compare."""
        if migration is None or migration not in {listed.id for listed in self._registry.migrations}:
            return None
        return code_hash(self._registry.get_migration_executor(migration))

    def prune(self) -> int:
        """Delete what was resolved longer ago than `quarantine_keep_days`; how many items."""
        before = self._store.clock.now_ms() - self._store.settings.quarantine_keep_days * DAY_MS
        with self._store.transaction():
            return self._store.run("quarantine", "prune", before=iso(before))
