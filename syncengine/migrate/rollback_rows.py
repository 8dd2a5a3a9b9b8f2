"""Rows that go back by a migration's way down: the present rows, so later edits stay.

The new table of the older shape is filled from the live one and put in its place, as a migration does it. A row that
the way down cannot take is a collision; what the migration itself had set aside comes back.
"""

import base64
import math
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson

from syncengine.errors import RollbackFailed
from syncengine.local.sqlite_errors import ConstraintError, MismatchError
from syncengine.migrate.entries_of_run import QueuedEntries
from syncengine.migrate.paging import pages, rows_of
from syncengine.migrate.rejection import CODE_FAILED, Rejection, rejection_for
from syncengine.migrate.rollback_report import UndoCounts
from syncengine.migrate.shape import columns_of
from syncengine.migrate.work import Work, insert_sql, key_columns

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.definition import Item
    from syncengine.migrate.rebuild import RebuildingExecutor
    from syncengine.migrate.rollback_undoing import Undoing


def take_down(down: "RebuildingExecutor", undoing: "Undoing") -> UndoCounts:
    """Put the present rows through the way down; its counts. Foreign keys are off, and checked by the caller.

    Raises RollbackFailed where the way down fails for every row: then it is wrong itself.
    """
    store, name = undoing.store, down.collection
    newest = store.value("rollback", "newest_item")
    work = undoing.work(down.definition)
    counts = UndoCounts(before=rows_of(store, name))
    rewrites = down.rewrites_rows(store)
    entries = QueuedEntries(down, work)
    entries.before_rows()
    down.prepare(work)
    if rewrites:
        _Filling(down, work, undoing, counts).fill()
        counts.made = rows_of(store, down.new_table)
        counts.restored = bring_back(undoing, name, table=down.new_table, until=newest)
    entries.with_rows()
    down.finish(work)
    entries.after_rows()
    if not rewrites:
        counts.kept = counts.made = rows_of(store, name)
        counts.restored = bring_back(undoing, name, table=name, until=newest)
    undoing.warnings.extend(work.all_warnings())
    counts.after = rows_of(store, name)
    counts.entries = entries.counts
    return counts


@dataclass(frozen=True, slots=True)
class _Filling:
    down: "RebuildingExecutor"
    work: Work
    undoing: "Undoing"
    counts: UndoCounts

    def fill(self) -> None:
        units = self.down.units(self.down.items(self.work))
        while batch := list(islice(units, self.undoing.store.settings.batch_rows)):
            if self.down.grouped or self._why_not([item for unit in batch for item in unit]) is not None:
                for unit in batch:
                    self._one_unit(unit)

    def _one_unit(self, unit: "list[Item]") -> None:
        why = self._why_not(unit)
        if why is None:
            return
        for item in unit:
            self.undoing.set_aside(self.down.collection, self.down.source_columns(self.work), item.value, why)
        self.counts.set_aside += len(unit)
        if why.code == CODE_FAILED and self.counts.kept == 0 and self.counts.set_aside >= why.rows_to_judge_code:
            raise RollbackFailed(
                f"The way down of {self.undoing.step.id} failed for every row.",
                why=why.text,
                fix="The store is as it was. Correct the way down.",
            )

    def _why_not(self, items: "list[Item]") -> Rejection | None:
        """Take them all, or say why none of them was taken."""
        try:
            with self.work.store.savepoint("rollback_batch"):
                taken = self.down.apply(items, self.work)
        except Exception as error:
            why = rejection_for(error) if self.work.store.connection.in_transaction else None
            if why is None:
                raise
            return why
        self.counts.kept += taken.written + taken.merged
        self.counts.dropped += taken.dropped
        return None


def bring_back(undoing: "Undoing", name: str, *, table: str, until: int) -> int:
    """Put the rows that the migration had set aside into the table of the older shape; how many.

    One that does not fit among those that are there stays in quarantine, with a warning.
    """
    store, after, restored = undoing.store, 0, 0
    while items := store.rows(
        "rollback", "open_rows", migration=undoing.step.id, collection=name, after=after, until=until
    ):
        after = items[-1][0]
        for item_id, _owner, _key, body in items:
            if _came_back(store, table, body):
                store.run("rollback", "resolve", item_id=item_id, now=undoing.now)
                restored += 1
            else:
                undoing.warn(f"quarantine item {item_id} stays there: it does not fit among the rows")
    return restored


def _came_back(store: "Store", table: str, body: str) -> bool:
    try:
        row = row_from_json(body)
    except ValueError:
        return False
    if set(row) != set(columns_of(store, table)):
        return False
    try:
        with store.savepoint("row"):
            store.query(insert_sql(table, tuple(row)), tuple(row.values()))
    except (ConstraintError, MismatchError):
        return False
    return True


def check_older_shape(executor: "RebuildingExecutor", undoing: "Undoing", *, wrong_before: int) -> None:
    """The rows are such as the migration reads. Those that it had set aside or repaired need not be.

    Raises RollbackFailed with what is wrong with the first.
    """
    wrong, first = 0, ""
    work = undoing.work(executor.definition)
    keys = key_columns(undoing.collection(executor.collection))
    for page in pages(undoing.store, executor.collection, columns=executor.source_columns(work), keys=keys):
        for item in executor.items_of(page, work):
            try:
                executor.check(item)
            except Exception as error:
                why = rejection_for(error)
                if why is None:
                    raise
                first = first or why.text + (f" ({why.field})" if why.field else "")
                wrong += 1
    if wrong > wrong_before:
        raise RollbackFailed(
            f"Rollback of {undoing.step.id} made rows that are not of the older shape.",
            why=f"{wrong} rows; the first: {first}",
            fix="The store is as it was before the rollback. Correct the way down.",
        )


def row_from_json(body: str) -> dict[str, Any]:
    """The columns of a row that `row_as_json` wrote down. Raises ValueError for anything else."""
    row = orjson.loads(body)
    if not isinstance(row, dict):
        raise ValueError("no row")  # noqa: TRY004  (what is asked of the caller is one kind of error)
    return {name: _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if set(value) == {"$blob"}:
        return base64.b64decode(value["$blob"])
    if set(value) == {"$real"} and not math.isfinite(number := float(value["$real"])):
        return number
    raise ValueError("no column's value")
