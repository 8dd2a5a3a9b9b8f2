"""One migration undone, by the way that the plan has chosen; inside the rollback's transaction."""

from typing import TYPE_CHECKING

from syncengine.local.identifiers import quoted
from syncengine.migrate.definition import MigrationDefinition
from syncengine.migrate.entries_of_run import QueuedEntries
from syncengine.migrate.online import OnlineExecutor
from syncengine.migrate.paging import pages, rows_of
from syncengine.migrate.rebuild import RebuildingExecutor
from syncengine.migrate.rejection import Rejection
from syncengine.migrate.rollback_entries import set_entries_aside
from syncengine.migrate.rollback_imports import take_out
from syncengine.migrate.rollback_old_rows import put_back_from_restore_point, put_back_kept_table
from syncengine.migrate.rollback_repaired import give_back
from syncengine.migrate.rollback_report import UndoCounts
from syncengine.migrate.rollback_rows import check_older_shape, take_down
from syncengine.migrate.shape import columns_of, table_exists
from syncengine.migrate.tables import TablesExecutor
from syncengine.migrate.work import key_columns

if TYPE_CHECKING:
    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.rollback_undoing import Undoing

DROPPED = Rejection(code="table_dropped", text="its table goes")


def undo(undoing: "Undoing") -> UndoCounts:
    """Do it; the counts of the rows it touched. Its record, shapes and versions are the caller's."""
    step = undoing.step
    executor = undoing.registry.get_migration_executor(step.id)
    if step.way.method == "queue":
        assert isinstance(executor, OnlineExecutor)
        return _take_back_entries(executor, undoing)
    if step.way.method == "dropped":
        assert isinstance(executor, TablesExecutor)
        return _drop_tables(executor, undoing)
    if step.way.method == "taken_out":
        return take_out(executor, undoing)
    if step.way.method == "undo":
        return _undone_by_author(executor, undoing)
    assert isinstance(executor, RebuildingExecutor)
    return _take_back_rows(executor, undoing)


def _take_back_rows(executor: RebuildingExecutor, undoing: "Undoing") -> UndoCounts:
    way = undoing.step.way
    if way.method == "kept_table":
        assert way.kept_table is not None
        return put_back_kept_table(executor, undoing, kept=way.kept_table)
    if way.method == "restore_point":
        assert way.restore_point_id is not None
        return put_back_from_restore_point(executor, undoing, restore_point_id=way.restore_point_id)
    down = executor.reversed(undoing.store, undoing.registry)
    assert down is not None
    counts = take_down(down, undoing)
    given_back = give_back(executor, undoing)
    check_older_shape(executor, undoing, wrong_before=counts.restored + given_back)
    return counts


def _take_back_entries(executor: OnlineExecutor, undoing: "Undoing") -> UndoCounts:
    """What nobody has sent leaves the outbox; what the cloud has stays there."""
    store, step = undoing.store, undoing.step
    counts = UndoCounts()
    waited = store.value("rollback", "entries_to_take_back", migration=step.id, owner=step.user)
    for migration in (step.id, f"cloud-version-{step.hop.to_version}"):
        store.run("rollback", "take_back_entries", migration=migration, owner=step.user)
    if waited < step.applied.rows_read or step.applied.state == "completed":
        undoing.warn("what was sent already stays at the cloud")
    return counts


def _drop_tables(executor: TablesExecutor, undoing: "Undoing") -> UndoCounts:
    """Rows that are in the way of dropping their table are collisions, and go to quarantine."""
    store, counts = undoing.store, UndoCounts()
    for table in reversed(executor.tables):
        name = table.collection
        if not table_exists(store, name):
            continue
        counts.before += rows_of(store, name)
        columns = columns_of(store, name)
        for page in pages(store, name, columns=columns, keys=key_columns(undoing.collection(name))):
            for row in page:
                undoing.set_aside(name, columns, row, DROPPED)
                counts.set_aside += 1
        counts.entries = counts.entries.plus(set_entries_aside(undoing, name))
        store.query(f"DROP TABLE {quoted(name)}")
    return counts


def _undone_by_author(executor: "BaseMigrationExecutor", undoing: "Undoing") -> UndoCounts:
    """Its author knows what it did. Rows are counted before and after, and belong to nobody's sum."""
    definition: MigrationDefinition = executor.definition
    counts = UndoCounts(before=_rows_of(definition, undoing))
    work = undoing.work(definition)
    entries = QueuedEntries(executor, work, shape_version=definition.from_version)
    entries.before_rows()
    try:
        executor.undo(work)
        entries.after_rows()
    finally:
        undoing.close_source(work)
    undoing.warnings.extend(work.all_warnings())
    counts.entries = entries.counts
    counts.after = _rows_of(definition, undoing)
    counts.kept = min(counts.before, counts.after)
    counts.dropped = counts.before - counts.kept
    counts.made, counts.restored = counts.kept, counts.after - counts.kept
    return counts


def _rows_of(definition: MigrationDefinition, undoing: "Undoing") -> int:
    return sum(rows_of(undoing.store, name) for name in definition.collections if table_exists(undoing.store, name))
