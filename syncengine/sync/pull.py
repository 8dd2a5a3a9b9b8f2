"""The reading part of a round: page after page until the end, each in the store before the next is asked for.

A generator like all of a round. The cursor moves in the transaction that holds the page, so it never passes a row
that is not here: written, parked, or in quarantine.
"""

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING

from syncengine.clock import iso
from syncengine.errors import CursorGone, ProtocolViolation
from syncengine.events import EntryQuarantined, Listener, PagePulled
from syncengine.local.version_table import read_installed
from syncengine.outbox.numbering import has_doubtful
from syncengine.settings import Settings
from syncengine.sync.apply import Applied, Applier
from syncengine.sync.calls import Answer, Call, HelloSaid, Pull, PullSaid
from syncengine.sync.drain import Pulled
from syncengine.sync.kin_at_end import decide_kin
from syncengine.sync.parked import apply_parked, give_up_clashes, try_parked
from syncengine.sync.parking import UNTIL_OTHERS_CAME, UNTIL_READABLE
from syncengine.sync.position import Position, move_cursor, standing
from syncengine.sync.resync import settle_unseen
from syncengine.sync.round import NoneArrived
from syncengine.vocabulary import user_scope

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry

RESTARTS_PER_ROUND_MAX = 3
"""So often one round begins to read from the start; then the next one goes on."""
SMALLER_PAGE = 10
"""A page that is too large to be read is asked for with so many times fewer rows."""
DAY_MS = 24 * 60 * 60 * 1_000

Steps = Generator[Call, Answer, Pulled]


class Pulling:
    """Reads for one owner. Called by `sync_round` with the answer to hello, and with what keeps the round's lease."""

    def __init__(
        self,
        store: "Store",
        registry: "MigrationRegistry",
        *,
        owner: str,
        device: str,
        settings: Settings,
        tell: Listener = lambda event: None,
    ) -> None:
        self._store = store
        self._owner = owner
        self._device = device
        self._settings = settings
        self._tell = tell
        self._registry = registry
        self._applier = Applier(store, registry, owner=owner)
        self._items: list[int] = []
        self._rows = 0

    def __call__(
        self, said: HelloSaid, keep_lease: Callable[[], bool], *, none_arrived: NoneArrived | None = None
    ) -> Steps:
        """Read until the end. Errors of the cloud pass through; what was read before them stays."""
        if said.action == "drain_only":
            return self._ended("drain_only")
        remember_policies(self._store, self._registry)
        self._rows += apply_parked(self._store, self._registry, owner=self._owner, reasons=UNTIL_READABLE)
        self._begin(said)
        return (yield from self._read(keep_lease, none_arrived))

    def comes_first(self, said: HelloSaid) -> bool:
        """Whether the cloud was restored and has not been told yet what it lost: edits may stand on that. Or another
        copy of this store may have sent them, which their rows tell. Or rows that were read before are uploaded:
        what others have made of them since must not be overwritten by what nobody here has changed.
        """
        if said.action == "drain_only":
            return False
        if has_doubtful(self._store, self._owner):
            return True
        at = standing(self._store, self._owner)
        if at.server_epoch == said.server_epoch:
            return at.retells or (at.cursor is not None and self._uploads_wait())
        return at.cursor is not None or self._first_or_again(said) == "other_epoch"

    def _uploads_wait(self) -> bool:
        queued = read_installed(self._store).queued
        return any(scope == user_scope(self._owner) for _, scope in queued)

    def _begin(self, said: HelloSaid) -> None:
        at = standing(self._store, self._owner)
        if at.cursor is None:
            if at.resync == 0 or at.server_epoch != said.server_epoch:
                self._start_over(self._first_or_again(said), server_epoch=said.server_epoch)
        elif at.server_epoch != said.server_epoch:
            self._start_over("other_epoch", server_epoch=said.server_epoch)
        elif said.action == "resync":
            self._start_over("below_floor", server_epoch=said.server_epoch)

    def _first_or_again(self, said: HelloSaid) -> str:
        """What was sent before anything was read may have been sent to another life of the cloud."""
        knows_other = self._store.value("pull", "knows_other_life", owner=self._owner, server_epoch=said.server_epoch)
        return "other_epoch" if knows_other else "first"

    def _start_over(self, reason: str, *, server_epoch: int) -> None:
        """The next page is the first one. A reason that is not settled yet and is the graver one stays."""
        at = standing(self._store, self._owner)
        if at.resync_reason == "other_epoch":
            reason = "other_epoch"
        again = Position(
            cursor=None,
            server_epoch=server_epoch,
            at_head=False,
            resync=at.resync + 1,
            resync_reason=reason,
        )
        with self._store.transaction(durable=True):
            if reason == "other_epoch" and not at.retells:
                self._store.run("receipts", "note_restored", now=iso(self._store.clock.now_ms()))
            move_cursor(self._store, self._owner, again)

    def _read(self, keep_lease: Callable[[], bool], none_arrived: NoneArrived | None) -> Steps:
        restarts, items_max = 0, self._settings.pull_items_max
        for _ in range(self._settings.round_pulls_max):
            # What is numbered may be there or not: its answer comes first, or it would be done twice here.
            is_open = self._store.value("pull", "claimed", owner=self._owner)
            if is_open and none_arrived is None:
                return self._ended("bounded")
            if not keep_lease():
                return self._ended("another_process")
            at = standing(self._store, self._owner)
            try:
                page = yield Pull(user=self._owner, device=self._device, cursor=at.cursor, items_max=items_max)
            except CursorGone as gone:
                restarts += 1
                if restarts > RESTARTS_PER_ROUND_MAX:
                    raise
                self._start_over(gone.reason, server_epoch=at.server_epoch)
                continue
            except ProtocolViolation:
                if items_max == 1:
                    raise
                items_max = max(1, items_max // SMALLER_PAGE)
                continue
            assert isinstance(page, PullSaid)
            # What was not there after the page was read is not in the page.
            if is_open and none_arrived is not None and not (yield from none_arrived()):
                return self._ended("bounded")
            if not keep_lease():
                return self._ended("another_process")
            self._take(page, at)
            if not page.more:
                self._settle_end(page.epoch_head)
                return self._ended("at_head")
        return self._ended("bounded")

    def _take(self, page: PullSaid, at: Position) -> None:
        if page.more and page.cursor == at.cursor:
            raise ProtocolViolation(
                "The backend says that there is more to read, from where reading stands already.",
                fix="Nothing was lost. Compare the versions of app and server.",
            )
        is_told = at.cursor is None and at.resync_reason == "other_epoch"
        if page.server_epoch != at.server_epoch and not is_told:
            # Another life of the cloud began between two pages: this one belongs to a reading that has not begun.
            self._start_over("other_epoch", server_epoch=page.server_epoch)
            return
        position = replace(
            at,
            cursor=page.cursor,
            server_epoch=page.server_epoch,
            epoch_head=page.epoch_head,
            at_head=not page.more,
        )
        done = self._applier.apply(page.rows, position=position)
        self._count(done)
        parked = done.parked
        if page.rows and self._store.value("pull", "any_parked", owner=self._owner):
            self._count(try_parked(self._applier, position, reasons=UNTIL_OTHERS_CAME, pages_max=1))
        self._tell(
            PagePulled(
                rows=done.rows, conflicts=done.conflicts, parked=parked, collections=tuple(sorted(done.collections))
            )
        )

    def _count(self, done: Applied) -> None:
        self._rows += done.rows
        self._items += done.items
        for item_id in done.items:
            self._tell(EntryQuarantined(item_id=item_id, error_code="pulled"))

    def _settle_end(self, epoch_head: int | None) -> None:
        """Everything that the cloud has was met: what waits for others, clashes, or was not met is decided."""
        at = standing(self._store, self._owner)
        if not at.at_head:
            return
        self._settle_parked(at)
        if at.resync_reason is not None:
            self._settle_resync(replace(at, epoch_head=epoch_head), at.resync_reason)
            self._settle_parked(standing(self._store, self._owner))
        kept_ms = self._settings.conflict_keep_days * DAY_MS
        with self._store.transaction():
            before = iso(self._store.clock.now_ms() - kept_ms)
            self._store.run("pull", "prune_conflicts", before=before)
            self._store.run("receipts", "prune", before=before)

    def _settle_parked(self, at: Position) -> None:
        if not self._store.value("pull", "any_parked", owner=self._owner):
            return
        self._count(try_parked(self._applier, at, reasons=UNTIL_OTHERS_CAME))
        # While the cloud is told again what it lost, nobody knows what it will have.
        if at.resync_reason is None and self._store.value("pull", "any_parked", owner=self._owner):
            self._count(decide_kin(self._applier, at))
            self._count(try_parked(self._applier, at, reasons=UNTIL_OTHERS_CAME))
        self._count(Applied(items=list(give_up_clashes(self._applier))))

    def _settle_resync(self, at: Position, reason: str) -> None:
        settle_unseen(
            self._store,
            self._owner,
            resync=at.resync,
            reason=reason,
            epoch_head=at.epoch_head,
            tables=self._applier.tables,
            delete=lambda rows: self._count(self._applier.apply(rows, position=at, moves_cursor=False)),
        )
        with self._store.transaction(durable=True):
            move_cursor(self._store, self._owner, replace(at, resync_reason=None))

    def _ended(self, how: str) -> Pulled:
        return Pulled(ended=how, rows=self._rows, items=tuple(self._items))


def remember_policies(store: "Store", registry: "MigrationRegistry") -> None:
    """Let the record of each collection say how its conflicts are decided, for what sends it to the cloud."""
    wrong = {
        name: registry.collections[name].merge_policy
        for name, *_, policy in store.rows("pull", "collections")
        if name in registry.collections and registry.collections[name].merge_policy != policy
    }
    if not wrong:
        return
    with store.transaction():
        for name, policy in wrong.items():
            store.run("pull", "write_policy", collection=name, merge_policy=policy)


__all__ = ["Pulling", "remember_policies"]
