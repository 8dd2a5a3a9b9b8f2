"""A process that wants what another one does: it shows the other's progress, and takes over when that one ends."""

from typing import TYPE_CHECKING

from syncengine.errors import StoreBusy
from syncengine.local.version_table import read_installed
from syncengine.migrate.definition import Counts
from syncengine.migrate.pace import Cancelled, Paused
from syncengine.migrate.results import MigrationResult

if TYPE_CHECKING:
    from syncengine.migrate.lease import Lease
    from syncengine.migrate.plan import Step
    from syncengine.migrate.run_context import RunContext

LOOK_EVERY_MS = 100


class Waiting:
    """For the right to rewrite, or for another process to have done it."""

    def __init__(self, step: "Step", context: "RunContext", *, collection: str, lease: "Lease") -> None:
        self._step = step
        self._context = context
        self._store = context.store
        self._collection = collection
        self._lease = lease
        self._said = False

    def for_turn(self) -> MigrationResult | None:
        """None when this process has the lease now; else what to give back, and there is nothing left to do.

        Raises StoreBusy when the other process has not moved for `starter_wait_ms_max`.
        """
        clock, waited = self._store.clock, False
        last, moved_ms = self._progress(), clock.monotonic_ms()
        while True:
            if self._is_done():
                return self._ended("already")
            if self._lease.take():
                return self._after_take(waited=waited)
            waited = True
            try:
                self._context.pace.look()
            except (Cancelled, Paused) as asked:
                return self._ended("cancelled" if isinstance(asked, Cancelled) else "paused")
            if (now := self._progress()) != last:
                last, moved_ms = now, clock.monotonic_ms()
            self._refuse_standstill(clock.monotonic_ms() - moved_ms)
            self._tell(now)
            clock.pause(LOOK_EVERY_MS)

    def _is_done(self) -> bool:
        installed = read_installed(self._store)
        return (self._step.id, self._step.scope) in installed.completed | installed.queued

    def _after_take(self, *, waited: bool) -> MigrationResult | None:
        """Between the last look and the lease the other one may have come to its end, or have been paused."""
        state = "already" if self._is_done() else ""
        progress = self._progress()
        if waited and progress is not None and progress[0] == "paused":
            state = "paused"
        if state:
            self._lease.release()
        return self._ended(state) if state else None

    def _progress(self) -> tuple[str, int, int, str] | None:
        row = self._store.row("shadow", "progress", collection=self._collection)
        return None if row is None else (str(row[0]), int(row[1]), int(row[2]), str(row[3]))

    def _refuse_standstill(self, still_ms: int) -> None:
        if still_ms > self._store.settings.starter_wait_ms_max:
            raise StoreBusy(
                f"Another process has the right to run migration {self._step.id}, and does not move.",
                why=f"nothing was written for {still_ms // 1000} seconds",
                fix="Nothing was changed; try again, or end the other process.",
            )

    def _tell(self, progress: tuple[str, int, int, str] | None) -> None:
        if progress is None:
            return
        if not self._said:
            self._said = True
            self._context.reporter.start_migration(self._step.id, progress[2])
        self._context.reporter.update_progress(progress[1])

    def _ended(self, state: str) -> MigrationResult:
        success = state == "already"
        if self._said:
            progress = self._progress()
            done = progress[1] if progress else 0
            self._context.reporter.complete_migration(success, {"itemsProcessed": done} if done else {})
        return MigrationResult(
            success=success, migration_id=self._step.id, scope=self._step.scope, state=state, counts=Counts()
        )
