"""A migration's conversion done once more, to know what it made: same code, same moment, same run loop."""

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from syncengine.errors import RollbackRefused
from syncengine.migrate.migration_run import Run
from syncengine.migrate.plan import all_steps_of_hop
from syncengine.vocabulary import STORE_SCOPE

if TYPE_CHECKING:
    from syncengine.migrate.rollback_undoing import Undoing


def convert_again(undoing: "Undoing", migration_id: str) -> None:
    """Run its rows through it as they ran in this scope; what it sets aside lies in quarantine already.

    Raises RollbackRefused where its legacy store cannot be read any more.
    """
    store, registry, user = undoing.store, undoing.registry, undoing.step.user
    newest = store.value("rollback", "newest_item")
    hop = registry.listed(migration_id).edge
    step = next(step for step in all_steps_of_hop(hop, registry, user=user or "") if step.id == migration_id)
    executor = registry.get_migration_executor(migration_id)
    context = replace(undoing.context, user=user)
    run = Run(replace(step, scope=undoing.step.scope), executor, context, lifting=True)
    run.work.now_ms = _moment_of(_started_at(undoing, migration_id))
    try:
        if executor.definition.source is not None and run.work.source is None:
            raise RollbackRefused(
                f"The import {migration_id} cannot be taken out again.",
                why=f"its source {executor.definition.source} is gone, which tells its rows from later ones",
                fix="Give the source, or go back to a restore point. Nothing was changed.",
            )
        run.convert_rows()
    finally:
        undoing.close_source(run.work)
    store.run("rollback", "forget_items", after=newest)


def _started_at(undoing: "Undoing", migration_id: str) -> str:
    started = {(run.migration, run.scope): run.started_at for run in undoing.ground.applied}
    own, of_store = (migration_id, undoing.step.scope), (migration_id, STORE_SCOPE)
    return started.get(own) or started.get(of_store) or undoing.step.applied.started_at


def _moment_of(iso_time: str) -> int:
    """Milliseconds since 1970 of a time in the history."""
    return round(datetime.fromisoformat(iso_time).timestamp() * 1_000)
