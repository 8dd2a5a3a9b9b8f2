"""Taking an import out again: the rows that it made, told from the user's own by making them once more.

The source is never taken from, so nothing is lost: the import may be done anew. A row that was edited since is a
collision; a row that the app added since stays where it is.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from syncengine.local.identifiers import quoted
from syncengine.local.sameness import same_row
from syncengine.migrate.late import LIVE_SUFFIX, Lift, lift_for, step_aside
from syncengine.migrate.paging import page_of
from syncengine.migrate.rollback_again import convert_again
from syncengine.migrate.rollback_old_rows import EDITED, EXPECTED_SUFFIX, renamed
from syncengine.migrate.rollback_report import UndoCounts
from syncengine.migrate.shape import columns_of, parse_table
from syncengine.migrate.work import key_columns
from syncengine.outbox.filing import file_entries

if TYPE_CHECKING:
    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.rollback_undoing import Undoing


def take_out(executor: "BaseMigrationExecutor", undoing: "Undoing") -> UndoCounts:
    """Remove the user's rows that the import made and nobody has changed; the counts of the user's rows.

    Raises RollbackRefused where the source cannot be read any more.
    """
    counts = UndoCounts()
    for name in executor.definition.collections:
        counts.before += _rows_of_user(undoing, name)
    if undoing.step.applied.rows_written:
        _make_expected(executor, undoing)
        for name in executor.definition.collections:
            _Taking(undoing, name, counts).take()
            undoing.store.query(f"DROP TABLE {quoted(name + EXPECTED_SUFFIX)}")
    for name in executor.definition.collections:
        counts.after += _rows_of_user(undoing, name)
    counts.kept = counts.made = counts.before - counts.dropped - counts.set_aside
    if (missing := undoing.step.applied.rows_written - counts.dropped - counts.set_aside) > 0:
        undoing.warn(f"{missing} of the rows that it made are deleted, or not in its source any more")
    _forget(executor, undoing)
    return counts


def _rows_of_user(undoing: "Undoing", name: str) -> int:
    owner = undoing.collection(name).owner
    where = f"WHERE {quoted(owner)} IS ?" if owner is not None else "WHERE ? IS NOT NULL"
    return int(undoing.store.query(f"SELECT count(*) FROM {quoted(name)} {where}", (undoing.step.user,))[0][0])


def _make_expected(executor: "BaseMigrationExecutor", undoing: "Undoing") -> None:
    """What the import makes, taken through all that the store went through since, beside the live tables."""
    store, names = undoing.store, executor.definition.collections
    lift = lift_for(store, undoing.registry, executor.definition) or Lift(tables=(), steps=())
    moved = {table.collection for table in lift.tables}
    same = tuple(
        parse_table(_create_of(undoing, name), migration=undoing.step.id) for name in names if name not in moved
    )
    step_aside(store, replace(lift, tables=(*lift.tables, *same)))
    for again in (*(step.id for step in lift.shaping), undoing.step.id, *(step.id for step in lift.steps)):
        convert_again(undoing, again)
    # All names before any row: a trigger of one live table may write to another.
    for name in names:
        renamed(store, name, name + EXPECTED_SUFFIX)
        renamed(store, name + LIVE_SUFFIX, name)


def _create_of(undoing: "Undoing", name: str) -> str:
    sql = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?"
    return str(undoing.store.query(sql, (name,))[0][0])


@dataclass(frozen=True, slots=True)
class _Taking:
    """One collection: its live rows against the expected ones."""

    undoing: "Undoing"
    name: str
    counts: UndoCounts

    def take(self) -> None:
        table, edited = quoted(self.name), self._edited
        for row in page_of(self.undoing.store, self._columns, f" FROM {table} WHERE {edited}", ()):
            self.undoing.set_aside(self.name, self._columns, row, EDITED)
        self.counts.set_aside += self._delete(edited)
        self._take_back_puts()
        self.counts.dropped += self._delete(self._is_expected)

    @property
    def _edited(self) -> str:
        """SQL: a row in the place of an expected one is another. A key in other letters has the same place."""
        place = " AND ".join(f"e.{quoted(key)} IS {quoted(self.name)}.{quoted(key)}" for key in self._keys)
        return f"{self._is_like(place)} AND NOT {self._is_expected}"

    def _delete(self, which: str) -> int:
        self.undoing.store.query(f"DELETE FROM {quoted(self.name)} WHERE {which}")
        return self.undoing.store.connection.changes()

    def _take_back_puts(self) -> None:
        """Nothing is sent of rows that go. What the cloud has already stays there."""
        store, user = self.undoing.store, self.undoing.step.user
        file_entries(store)
        key = self.undoing.collection(self.name).key
        rows = page_of(store, (key,), f" FROM {quoted(self.name)} WHERE {self._is_expected}", ())
        for (row_key,) in rows:
            store.run("rollback", "take_back_puts", collection=self.name, owner=user, row_key=row_key)
        if at_cloud := store.value("rollback", "rows_at_cloud", collection=self.name, owner=user):
            self.undoing.warn(f"{at_cloud} rows of {self.name} are at the cloud already and stay there")

    @property
    def _is_expected(self) -> str:
        """SQL: an expected row has the same values."""
        return self._is_like(same_row("e", quoted(self.name), columns=self._compared, keys=self._keys))

    def _is_like(self, condition: str) -> str:
        return f"EXISTS (SELECT 1 FROM {quoted(self.name + EXPECTED_SUFFIX)} AS e WHERE {condition})"

    @property
    def _keys(self) -> tuple[str, ...]:
        return key_columns(self.undoing.collection(self.name))

    @property
    def _columns(self) -> tuple[str, ...]:
        return columns_of(self.undoing.store, self.name)

    @property
    def _compared(self) -> tuple[str, ...]:
        """The column of the profile that the engine writes by itself says nothing about the user."""
        profile = self.undoing.registry.profile
        own = profile[1] if profile is not None and profile[0] == self.name else None
        return tuple(name for name in self._columns if name != own)


def _forget(executor: "BaseMigrationExecutor", undoing: "Undoing") -> None:
    """The source may be imported again, and what could not be converted is read from it again."""
    store, step = undoing.store, undoing.step
    store.run("rollback", "forget_source", migration=step.id, owner=step.user)
    store.run(
        "rollback",
        "resolve_import",
        migration=step.id,
        owner=step.user,
        since=step.applied.started_at,
        now=undoing.now,
    )
