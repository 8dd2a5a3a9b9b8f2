"""What all migrations by a row function have in common: read the old shape, call the function, write the new one."""

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from syncengine.errors import MigrationInvalid
from syncengine.local.identifiers import quoted
from syncengine.migrate.definition import Counts, Item, MigrationDefinition, WrongReturn, may_return_none
from syncengine.migrate.rebuild import RebuildingExecutor, present_table
from syncengine.migrate.shape import TableSql, columns_of, parse_table

if TYPE_CHECKING:
    from syncengine.local.store import Row
    from syncengine.migrate.work import Work

RowFunction = Callable[..., Any]


class RowShape(Protocol):
    """What a function reads or returns, and the columns that it stands for."""

    name: str
    row_type: type
    columns: tuple[str, ...]

    def decode(self, rows: "Sequence[Row]") -> Iterable[Any]:
        """What the function reads, to be gone through once. Raises what is wrong with the first bad row."""
        ...

    def encode_rows(self, rows: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The columns of what the function returned. Raises what is wrong with the first that cannot be stored."""
        ...

    def made_by(
        self, function: RowFunction, rows: "Sequence[Row]", *, reading: "RowShape"
    ) -> list[tuple[Any, ...]] | None:
        """The columns of what a function makes of each row that `reading` reads; None where that is not one row each.

        What cannot be stored may be among them: then the insert raises TypeError.
        """
        ...


class RowFunctionExecutor(RebuildingExecutor):
    """A function makes the new rows of each old row."""

    def __init__(
        self, definition: MigrationDefinition, function: RowFunction, *, table: str | None, group_by: str | None
    ) -> None:
        super().__init__()
        self.definition = definition  # type: ignore[misc]  # an author's class has one definition, this kind many
        self.function = function
        self.down_function: RowFunction | None = None
        self.group_by = group_by
        self.collection = definition.collections[0]
        self.table: TableSql | None = parse_table(table, migration=definition.id) if table else None
        if self.table is not None and self.table.collection != self.collection:
            raise MigrationInvalid(f"Migration {definition.id} gives a table for another collection than its own.")
        if group_by is not None and definition.shadow:
            raise MigrationInvalid(
                f"Migration {definition.id} says shadow=True, and merges rows.",
                why="rows that belong together would be converted at different times",
                fix="Leave shadow= out: it is then done in one transaction.",
            )
        self.new_indexes = self.table.indexes if self.table is not None else ()
        self._may_drop = may_return_none(function)
        self._wants_work = "work" in inspect.signature(function).parameters

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The function itself, for tests and for rows that come from older clients."""
        return self.function(*arguments, **named)

    @abstractmethod
    def old_shape(self, work: "Work") -> RowShape:
        """What the function reads."""

    @abstractmethod
    def new_shape(self, work: "Work") -> RowShape:
        """What the function returns."""

    # The tables.

    def prepare(self, work: "Work") -> None:
        self.make_new_table(work)
        if self.group_by is not None:
            columns = ", ".join(map(quoted, self.order(work)))
            work.store.query(f"CREATE INDEX _sync_grouping ON {quoted(self.collection)} ({columns})")

    def make_new_table(self, work: "Work") -> None:
        self._check_columns(work, self.collection, self.old_shape(work), "reads")
        self.remember_shape(work)
        table = self.table or present_table(work.store, self.collection, migration=self.definition.id)
        work.store.query(table.create_as(self.new_table))
        self._check_columns(work, self.new_table, self.new_shape(work), "writes")

    def _check_columns(self, work: "Work", table: str, shape: RowShape, does: str) -> None:
        there, wanted = set(columns_of(work.store, table)), set(shape.columns)
        if not there:
            raise self.refuse_missing_table()
        if there != wanted:
            raise MigrationInvalid(
                f"Migration {self.definition.id} {does} {shape.name}, which is not what the table holds.",
                why=f"only in the table: {sorted(there - wanted)}; only in the model: {sorted(wanted - there)}",
                fix="A column that is left out would be lost: name every one, or archive it first.",
            )

    def before_swap(self, work: "Work") -> None:
        if self.group_by is not None:
            work.store.query("DROP INDEX IF EXISTS _sync_grouping")

    def source_columns(self, work: "Work") -> tuple[str, ...]:
        return self.old_shape(work).columns

    def new_columns(self, work: "Work") -> tuple[str, ...]:
        return self.new_shape(work).columns

    def order(self, work: "Work") -> tuple[str, ...]:
        keys = super().order(work)
        return keys if self.group_by is None else (*keys[:-1], self.group_by, keys[-1])

    # The rows.

    def made_of(self, rows: "Sequence[Row]", work: "Work") -> list[list[tuple[Any, ...]]]:
        old = list(self.old_shape(work).decode(rows))
        made = self._returned([old], work) if self.grouped else self._returned(old, work)
        new = self.new_shape(work)
        encoded = [new.encode_rows(self._rows_in(one, new)) for one in made]
        return [*encoded, *([] for _ in range(len(rows) - len(encoded)))]

    def apply_rows(self, rows: "Sequence[Row]", work: "Work") -> Counts:
        if self.grouped:
            return super().apply_rows(rows, work)
        if not self._wants_work and not work.notes.get("uneven") and self._applied_evenly(rows, work):
            return Counts(read=len(rows), written=len(rows))
        made = self._returned(list(self.old_shape(work).decode(rows)), work)
        counts = self._apply_uneven(made, self.new_shape(work), work)
        work.notes["uneven"] = True
        return counts

    def _applied_evenly(self, rows: "Sequence[Row]", work: "Work") -> bool:
        """The short way, for one row each of values that SQLite takes; False where it has to be the longer one."""
        made = self.new_shape(work).made_by(self.function, rows, reading=self.old_shape(work))
        if made is None:
            return False
        try:
            with work.store.savepoint("evenly"):
                self.insert(made, work)
        except TypeError:
            return False  # a list, say, in a column without a hint: it becomes JSON the longer way
        return True

    def _apply_uneven(self, made: list[Any], new: RowShape, work: "Work") -> Counts:
        """Some become none, or several."""
        uneven = [self._rows_in(one, new) for one in made]
        self.insert(new.encode_rows([row for rows in uneven for row in rows]), work)
        dropped = uneven.count([])
        return Counts(read=len(made), written=len(made) - dropped, dropped=dropped)

    def _returned(self, old: list[Any], work: "Work") -> list[Any]:
        if self._wants_work:
            return [self.function(row, work=work) for row in old]
        return list(map(self.function, old))

    def _rows_in(self, made: Any, new: RowShape) -> list[Any]:
        if made is None:
            if not self._may_drop:
                raise WrongReturn(
                    "the function returned None, and its return hint does not say that it may drop a row"
                )
            return []
        rows = list(made) if isinstance(made, list | tuple) else [made]
        for row in rows:
            if not isinstance(row, new.row_type):
                raise WrongReturn(f"the function returned {type(row).__name__}, not {new.name}")
        return rows

    # Groups.

    @property
    def grouped(self) -> bool:
        return self.group_by is not None

    @abstractmethod
    def grouping_columns(self) -> tuple[str, ...]:
        """The source columns, known without a store where rows are merged."""

    def units(self, items: Iterator[Item]) -> Iterator[list[Item]]:
        """For a merge, what belongs together is one group: the rows of one owner with one value."""
        if self.group_by is None:
            yield from super().units(items)
            return
        place = self.grouping_columns().index(self.group_by)
        group: list[Item] = []
        for item in items:
            if group and (item.owner, item.value[place]) != (group[-1].owner, group[-1].value[place]):
                yield group
                group = []
            group.append(item)
        if group:
            yield group
