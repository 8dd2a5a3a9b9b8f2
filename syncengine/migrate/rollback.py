"""Going back: decided as a plan, done in one transaction, verified, recorded; or nothing is changed.

However many migrations go back together, it is one transaction with a SAVEPOINT for each, so that a collision in the
last one undoes the first. A simulation does everything and then rolls back, so it says what would really happen.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import replace

import orjson

from syncengine.clock import fresh_id, iso, system_random
from syncengine.errors import (
    CalledFromInside,
    DeveloperModeRequired,
    MigrationInvalid,
    RestorePointUnknown,
    RestorePointUnusable,
    RollbackFailed,
    RollbackRefused,
    StoreBusy,
    SyncEngineError,
)
from syncengine.local.long_wait import LongWait
from syncengine.local.restore_points import make_restore_point
from syncengine.local.restoring import restore
from syncengine.local.savepoint import translated
from syncengine.local.sqlite_errors import SqliteError
from syncengine.local.version_table import write_schema_version
from syncengine.logs import log_event
from syncengine.migrate.entries_back import queue_again
from syncengine.migrate.history import code_hash
from syncengine.migrate.lease import Lease
from syncengine.migrate.markers import move_markers
from syncengine.migrate.rollback_children import lost_parents, refuse_lost_parents, set_children_aside
from syncengine.migrate.rollback_ground import read_ground
from syncengine.migrate.rollback_plan import (
    Applied,
    Ground,
    RollbackPlan,
    UndoStep,
    plan_of_migration,
    plan_to_version,
)
from syncengine.migrate.rollback_report import SAID, Collision, RollbackReport, UndoCounts, Undone
from syncengine.migrate.rollback_undoing import COLLISIONS_MAX, Undoing
from syncengine.migrate.rollback_ways import undo
from syncengine.migrate.run import RunContext
from syncengine.migrate.shadow_others import LEASE
from syncengine.migrate.shape import fingerprint, table_exists
from syncengine.migrate.starter import Starter
from syncengine.outbox.capture import capture_off
from syncengine.outbox.filing import file_entries
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion

ON_COLLISION = ("stop", "keep", "overwrite")

RECORDED_MAX = 100
"""Collisions of one migration that the history names; all of them are in quarantine."""

_logger = logging.getLogger("syncengine.migrate")

MakePlan = Callable[[Ground], RollbackPlan]


class _NothingKept(Exception):
    """The report of what was done and is taken back."""

    def __init__(self, report: RollbackReport) -> None:
        super().__init__()
        self.report = report


class Rollback:
    """One way back, for one caller: the context's user asks.

    `on_collision` "stop": where rows cannot go back as they are, nothing is done and they are listed. "keep": each
    of them goes whole into quarantine, the others go back. "overwrite": so, and where only the rows of before are
    left (an old table, a restore point) those take the place of what was edited since.
    `consent` names the other users whose rows may go back. `why` is kept in the history.
    """

    def __init__(
        self,
        context: RunContext,
        *,
        on_collision: str = "stop",
        consent: Collection[str] | None = None,
        why: str = "",
    ) -> None:
        if on_collision not in ON_COLLISION:
            raise MigrationInvalid(f"on_collision={on_collision!r} is not known.", fix="stop, keep or overwrite.")
        self.context = context
        self.on_collision = on_collision
        self._store = context.store
        self._registry = context.registry
        self._user = context.user
        self._consent = frozenset([consent] if isinstance(consent, str) else consent or ())
        self._why = why

    # What is asked for.

    def of(self, migration_id: str, *, simulate: bool = False) -> RollbackReport:
        """Undo one migration and all that builds on it.

        Raises RollbackRefused, RollbackFailed, StoreBusy, LeaseLost, and what a restore point needs: KeyUnavailable,
        RestorePointImpossible, DiskFull. Nothing is changed then.
        """
        return self._do(
            lambda ground: plan_of_migration(ground, self._registry, migration_id=migration_id, user=self._user),
            simulate=simulate,
        )

    def to(self, version: SchemaVersion, *, simulate: bool = False) -> RollbackReport:
        """Undo everything that led past a version. Raises as `of`."""
        return self._do(
            lambda ground: plan_to_version(ground, self._registry, version=version, user=self._user),
            simulate=simulate,
        )

    def in_emergency(self, *, simulate: bool = False) -> RollbackReport:
        """The whole store as the newest good restore point has it, at once; what that loses goes to quarantine.

        Raises DeveloperModeRequired, RollbackRefused where there is no good restore point, and what `restore` raises.
        """
        store = self._store
        if not store.settings.developer_mode:
            raise DeveloperModeRequired(
                "A rollback in an emergency needs developer mode.",
                why="it takes back everybody's newest rows without a list of what collides",
                fix="Open the engine with Settings(developer_mode=True), or roll back in the ordinary way.",
            )
        ground = read_ground(store, self._registry, sources=self.context.sources)
        users = {owner for owners in ground.owners.values() for owner in owners}
        users |= {scope.partition(":")[2] for scope in ground.versions} - {""}
        assert self.context.keys is not None, "an open engine has keys"
        for point, *_ in store.rows("rollback", "restore_points"):
            try:
                report = restore(
                    store,
                    int(point),
                    keys=self.context.keys,
                    simulate=simulate,
                    user=self._user,
                    consent=users,
                )
            except (RestorePointUnusable, RestorePointUnknown) as error:
                log_event(_logger, logging.ERROR, "restore point cannot be used", error=error.code())
                continue
            if not simulate:
                self._hold()
            return self._told(
                RollbackReport(
                    plan=None,
                    state="simulated" if simulate else "restored",
                    restore_point_id=int(point),
                    rows_lost=report.lost,
                )
            )
        raise RollbackRefused(
            "There is no good restore point to go back to.",
            fix="Roll back single migrations: syncengine rollback --simulate. Nothing was changed.",
        )

    def _hold(self) -> None:
        """What the restore point took back waits for a person, as after every rollback."""
        with self._store.transaction(durable=True):
            for run_id, migration, *_ in self._store.rows("rollback", "rolled_back"):
                if migration in {listed.id for listed in self._registry.migrations}:
                    code = code_hash(self._registry.get_migration_executor(migration))
                    self._store.run("rollback", "hold", run_id=run_id, code_hash=code, note=self.audit)

    def _do(self, make_plan: MakePlan, *, simulate: bool) -> RollbackReport:
        store = self._store
        with store.lock:
            if store.connection.in_transaction:
                raise CalledFromInside(
                    "A rollback was started inside a block that writes, or inside a migration.",
                    why="it could not be undone by itself",
                    fix="Call it outside of engine.write(). Nothing was changed.",
                )
        if simulate:
            return self._in_one_transaction(make_plan, simulate=True)
        lease = Lease(store, name=LEASE, holder=fresh_id(system_random()))
        with LongWait(store):
            if not lease.take():
                raise StoreBusy(
                    "Another process is migrating this store.",
                    fix="Let it end, or cancel it there, and try again. Nothing was changed.",
                )
            try:
                return self._under_lease(make_plan, lease)
            finally:
                lease.release()

    def _under_lease(self, make_plan: MakePlan, lease: Lease) -> RollbackReport:
        """A restore point before anything is changed; but none for what would be stopped or refused."""
        plan = make_plan(read_ground(self._store, self._registry, sources=self.context.sources))
        self._check(plan, simulate=False)
        if not self.goes_on(plan):
            tried = self._in_one_transaction(make_plan, simulate=False, lease=lease, only_try=True)
            if tried.state == "stopped":
                return tried
        point = self._restore_point(plan, lease)
        report = self._in_one_transaction(make_plan, simulate=False, lease=lease)
        return self._told(replace(report, restore_point_id=point))

    def _told(self, report: RollbackReport) -> RollbackReport:
        """The same; the listener hears what has changed, once it has."""
        if report.changed:
            text = SAID[report.state]
            if report.lost:
                text += f" In quarantine: {report.lost}."
            self.context.reporter.show_user_feedback(text, "warning" if report.lost else "info")
        return report

    def goes_on(self, plan: RollbackPlan) -> bool:
        """Is it done although rows collide?"""
        # Where only the rows of before are left, later edits have no older shape that they could be kept in.
        old_rows = any(step.way.method in ("kept_table", "restore_point") for step in plan.steps)
        return self.on_collision == "overwrite" or (self.on_collision == "keep" and not old_rows)

    def _restore_point(self, plan: RollbackPlan, lease: Lease) -> int | None:
        """Made where rows of the store's own shape go back; what is one user's goes row by row."""
        store, keys = self._store, self.context.keys
        if keys is None or not plan.users or all(step.scope != STORE_SCOPE for step in plan.steps):
            return None

        def renew() -> None:
            with store.transaction():
                lease.renew()

        return make_restore_point(
            store, keys=keys, reason=f"before the rollback of {plan.asked}", between=renew
        ).restore_point_id

    def _in_one_transaction(
        self, make_plan: MakePlan, *, simulate: bool, lease: Lease | None = None, only_try: bool = False
    ) -> RollbackReport:
        store, keeps = self._store, not (simulate or only_try)
        with store.lock, Starter(store, rebuilds=True), store.transaction(durable=keeps):
            if lease is not None:
                lease.renew()
            ground = read_ground(store, self._registry, sources=self.context.sources)
            plan = make_plan(ground)
            if simulate and plan.impossible:
                return RollbackReport(plan=plan, state="impossible")
            self._check(plan, simulate=simulate)
            try:
                capture = capture_off(store, self._registry.collections, reshaping=True)
                with store.savepoint("rollback"), capture:
                    return _Going(self, plan, ground, simulate=simulate, keeps=keeps).go()
            except _NothingKept as nothing_kept:
                return nothing_kept.report
            except Exception as error:
                raise self._failure(plan, error) from error

    def _check(self, plan: RollbackPlan, *, simulate: bool) -> None:
        if plan.impossible:
            first = plan.impossible[0]
            raise RollbackRefused(
                f"Rollback of {plan.asked} is not possible.",
                why=f"{first.id}: {first.way.why}",
                fix="Nothing was changed. Look at the plan: syncengine rollback --simulate.",
            )
        unnamed = sorted(set(plan.others) - self._consent)
        if unnamed and not simulate:
            raise RollbackRefused(
                f"Rollback of {plan.asked} touches what belongs to other users.",
                why=f"{', '.join(unnamed)}",
                fix="Ask them, and name them in consent=. Nothing was changed.",
            )

    def _failure(self, plan: RollbackPlan, error: Exception) -> Exception:
        if isinstance(error, SqliteError):
            error = translated(error)
        if isinstance(error, SyncEngineError):
            return error
        reason = f"{type(error).__name__}: {error}" if isinstance(error, SqliteError) else type(error).__name__
        return RollbackFailed(
            f"Rollback of {plan.asked} failed.",
            why=reason,
            fix="The store is as it was before the rollback.",
        )

    @property
    def audit(self) -> str:
        """Who asked, and why, for the history."""
        who = self._user if self._user is not None else "the app"
        return f"asked for by {who}" + (f": {self._why}" if self._why else "")


class _Going:
    """The transaction of one rollback, step by step."""

    def __init__(
        self, rollback: Rollback, plan: RollbackPlan, ground: Ground, *, simulate: bool, keeps: bool
    ) -> None:
        self._rollback = rollback
        self._store = rollback.context.store
        self._registry = rollback.context.registry
        self._plan = plan
        self._ground = ground
        self._simulate = simulate
        self._keeps = keeps
        self._left = list(ground.applied)
        """What has still been applied."""
        self._undone: list[Undone] = []
        self._collisions: list[Collision] = []
        self._children = 0
        """Rows that went because their parent did."""

    def go(self) -> RollbackReport:
        before = lost_parents(self._store)
        for step in self._plan.steps:
            with self._store.savepoint(f"rollback_{step.id}"):
                self._one(step)
        refuse_lost_parents(self._undoing_the_first(), before=before)
        self._children = self._set_children_aside()
        self._set_versions()
        report = self._report("simulated" if self._simulate else "rolled_back")
        if self._simulate:
            raise _NothingKept(report)
        if report.collisions and not self._rollback.goes_on(self._plan):
            raise _NothingKept(self._report("stopped"))
        if not self._keeps:
            raise _NothingKept(report)
        log_event(
            _logger,
            logging.WARNING,
            "rolled back",
            migrations=len(self._undone),
            rows_restored=report.restored,
            rows_set_aside=report.lost,
        )
        return report

    def _set_children_aside(self) -> int:
        undoing = self._undoing_the_first()
        gone = set_children_aside(undoing)
        self._collisions.extend(undoing.collisions[: COLLISIONS_MAX - len(self._collisions)])
        return gone

    def _undoing_the_first(self) -> Undoing:
        return Undoing(context=self._rollback.context, ground=self._ground, step=self._plan.steps[-1])

    def _one(self, step: UndoStep) -> None:
        clock = self._store.clock
        started_at, started_ms = iso(clock.now_ms()), clock.monotonic_ms()
        undoing = Undoing(context=self._rollback.context, ground=self._ground, step=step)
        counts = undo(undoing)
        self._check_sum(step, counts)
        followers = [run for run in self._left if self._follows(run, step)]
        gone = {step.applied.run_id, *(run.run_id for run in followers)}
        self._left = [run for run in self._left if run.run_id not in gone]
        if step.scope == STORE_SCOPE:
            self._set_shapes(step)
        self._collisions.extend(undoing.collisions[: COLLISIONS_MAX - len(self._collisions)])
        undone = Undone(
            id=step.id,
            scope=step.scope,
            method=step.way.method,
            counts=counts,
            warnings=tuple(undoing.warnings),
        )
        self._undone.append(undone)
        duration_ms = clock.monotonic_ms() - started_ms
        for run in (*followers, step.applied):
            self._record(step, run, undone, started_at=started_at, duration_ms=duration_ms)

    def _follows(self, run: Applied, step: UndoStep) -> bool:
        """Lines of the history that say no more than this one: what a squash stood for, and rows of late users."""
        definition = self._registry.get_migration_executor(step.id).definition
        if run.state == "stood_for":
            return run.scope == step.scope and run.migration in definition.stands_for
        if step.scope == STORE_SCOPE:
            return run.migration == step.id and run.scope != STORE_SCOPE
        lifted = self._registry.listed(run.migration).scope == STORE_SCOPE if self._lists(run) else False
        return (
            lifted
            and run.scope == step.scope
            and bool(set(self._ground.collections[run.migration]) & set(step.collections))
        )

    def _lists(self, run: Applied) -> bool:
        return run.migration in self._ground.collections

    def _check_sum(self, step: UndoStep, counts: UndoCounts) -> None:
        if not counts.add_up:
            raise RollbackFailed(
                f"Rollback of {step.id} does not add up.",
                why=f"{counts.before} rows before: {counts.kept} kept, {counts.set_aside} set aside, "
                f"{counts.dropped} dropped; {counts.after} after: {counts.made} made, {counts.restored} restored",
                fix="The store is as it was before the rollback.",
            )

    # Shapes and versions.

    def _set_shapes(self, step: UndoStep) -> None:
        store = self._store
        file_entries(store)
        for name in step.collections:
            if not table_exists(store, name):
                store.run("rollback", "forget_collection", name=name)
                continue
            shape, collection = str(self._shape_of(name)), self._registry.collections[name]
            store.run(
                "runs",
                "write_collection",
                name=name,
                key_column=collection.key,
                owner_column=collection.owner,
                shape_version=shape,
                fingerprint=fingerprint(store, name),
            )
            known_as = str(step.hop.from_version)
            queue_again(store, migration=step.id, collection=name, shape_version=known_as)
            store.run("entries", "rename_shape", collection=name, known_as=known_as, shape_version=shape)
            store.run("entries", "rename_shape_of_items", collection=name, known_as=known_as, shape_version=shape)

    def _shape_of(self, name: str) -> SchemaVersion:
        """The version of what still stands and last changed the collection's shape."""
        return max(
            (
                run.hop.to_version
                for run in self._left
                if run.scope == STORE_SCOPE and name in self._ground.collections.get(run.migration, ())
            ),
            default=self._plan.target,
        )

    def _set_versions(self) -> None:
        """Each scope is where it was before what was undone in it; no user is ahead of the store."""
        touched = set(self._plan.users) & {scope.partition(":")[2] for scope in self._ground.versions}
        for scope, version in self._ground.versions.items():
            own = [step.hop.from_version for step in self._plan.steps if step.scope == scope]
            wanted = min([version, self._plan.target, *own])
            if wanted != version:
                write_schema_version(self._store, scope, version=wanted, app_version=self._registry.app_version)
                touched.add(scope.partition(":")[2])
        for user in sorted(touched - {""}):
            move_markers(self._store, self._registry, user=user)

    # The record.

    def _record(self, step: UndoStep, run: Applied, undone: Undone, *, started_at: str, duration_ms: int) -> None:
        own = run.run_id == step.applied.run_id
        counts = undone.counts if own else UndoCounts()
        collided = [f"collision: {found}" for found in self._collisions if found.migration == step.id][:RECORDED_MAX]
        warnings = [*undone.warnings, *collided] if own else []
        self._store.run(
            "rollback",
            "record",
            migration=run.migration,
            scope=run.scope,
            from_version=str(run.hop.from_version),
            to_version=str(run.hop.to_version),
            code_hash=code_hash(self._registry.get_migration_executor(run.migration)) if self._lists(run) else None,
            method=step.way.method,
            restore_point_id=step.way.restore_point_id,
            rows_read=counts.before,
            rows_written=counts.after,
            rows_dropped=counts.dropped,
            rows_quarantined=counts.set_aside,
            entries_read=counts.entries.read,
            entries_converted=counts.entries.converted,
            entries_quarantined=counts.entries.quarantined,
            started_at=started_at,
            now=iso(self._store.clock.now_ms()),
            duration_ms=duration_ms,
            warnings=orjson.dumps(warnings).decode(),
            because_of=step.because_of if own else step.id,
            note=self._rollback.audit,
        )

    def _report(self, state: str) -> RollbackReport:
        return RollbackReport(
            plan=self._plan,
            state=state,
            undone=tuple(self._undone),
            collisions=tuple(self._collisions),
            rows_lost=self._children,
        )
