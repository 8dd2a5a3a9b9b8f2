"""Migrations written as one pure function from the old row to the new one: `@migration(...)`."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from syncengine.errors import MigrationInvalid
from syncengine.local.identifiers import quoted
from syncengine.migrate.definition import Item, MigrationDefinition, WrongReturn, may_return_none
from syncengine.migrate.rebuild import RebuildingExecutor, present_table, way_back
from syncengine.migrate.row_codec import codec_of
from syncengine.migrate.shape import TableSql, columns_of, parse_table

if TYPE_CHECKING:
    from syncengine.local.store import Row, Store
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.migrate.repair import Repair
    from syncengine.migrate.work import Work

RowFunction = Callable[..., Any]


class RowExecutor(RebuildingExecutor):
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
        self.old_model, self.new_model = _models(function, definition.id)
        self._may_drop = may_return_none(function)
        self._wants_work = "work" in inspect.signature(function).parameters

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The function itself, for tests and for rows that come from older clients."""
        return self.function(*arguments, **named)

    def down(self, function: RowFunction) -> "RowExecutor":
        """Decorator: the way back from a new row to the old one. Raises MigrationInvalid for missing hints."""
        _models(function, self.definition.id)
        self.down_function = function
        return self

    def reversed(self, store: "Store", registry: "MigrationRegistry") -> "RebuildingExecutor | None":
        before = self.shape_before(store)
        if self.down_function is None or self.group_by is not None or before is None:
            return None
        table = ";\n".join((before.create, *before.indexes))
        back = RowExecutor(way_back(self.definition), self.down_function, table=table, group_by=None)
        back.remembers_shape = False
        return back

    def prepare(self, work: "Work") -> None:
        self.make_new_table(work)
        if self.group_by is not None:
            columns = ", ".join(map(quoted, self.order(work)))
            work.store.query(f"CREATE INDEX _sync_grouping ON {quoted(self.collection)} ({columns})")

    def make_new_table(self, work: "Work") -> None:
        self._check_columns(work, self.collection, self.old_model, "reads")
        self.remember_shape(work)
        table = self.table or present_table(work.store, self.collection, migration=self.definition.id)
        work.store.query(table.create_as(self.new_table))
        self._check_columns(work, self.new_table, self.new_model, "writes")

    def _check_columns(self, work: "Work", table: str, model: type[BaseModel], does: str) -> None:
        there, wanted = set(columns_of(work.store, table)), set(model.model_fields)
        if not there:
            raise self.refuse_missing_table()
        if there != wanted:
            raise MigrationInvalid(
                f"Migration {self.definition.id} {does} {model.__name__}, which is not what the table holds.",
                why=f"only in the table: {sorted(there - wanted)}; only in the model: {sorted(wanted - there)}",
                fix="A column that is left out would be lost: name every one, or archive it first.",
            )

    def source_columns(self, work: "Work") -> tuple[str, ...]:
        return codec_of(self.old_model).columns

    def new_columns(self, work: "Work") -> tuple[str, ...]:
        return codec_of(self.new_model).columns

    def order(self, work: "Work") -> tuple[str, ...]:
        keys = super().order(work)
        return keys if self.group_by is None else (*keys[:-1], self.group_by, keys[-1])

    def made_of(self, rows: "Sequence[Row]", work: "Work") -> list[list[tuple[Any, ...]]]:
        old = codec_of(self.old_model).decode(rows)
        if self.group_by is not None:
            made = [self._convert(old, work), *([None] * (len(rows) - 1))]
        else:
            made = [self._convert(row, work) for row in old]
        return [[self._encoded(row) for row in _as_rows(new)] for new in made]

    def _convert(self, row: Any, work: "Work") -> Any:
        made = self.function(row, work=work) if self._wants_work else self.function(row)
        if made is None and not self._may_drop:
            raise WrongReturn("the function returned None, and its return hint does not say that it may drop a row")
        return made

    def _encoded(self, row: Any) -> tuple[Any, ...]:
        if not isinstance(row, self.new_model):
            raise WrongReturn(f"the function returned {type(row).__name__}, not {self.new_model.__name__}")
        return codec_of(self.new_model).encode(row)

    def units(self, items: Iterator[Item]) -> Iterator[list[Item]]:
        """For a merge, what belongs together is one group: the rows of one owner with one value."""
        if self.group_by is None:
            yield from super().units(items)
            return
        place = codec_of(self.old_model).columns.index(self.group_by)
        group: list[Item] = []
        for item in items:
            if group and (item.owner, item.value[place]) != (group[-1].owner, group[-1].value[place]):
                yield group
                group = []
            group.append(item)
        if group:
            yield group

    @property
    def grouped(self) -> bool:
        return self.group_by is not None

    def check(self, item: Item) -> None:
        """Raises ValidationError for a row that is not of the old shape."""
        codec_of(self.old_model).decode([item.value])

    def before_swap(self, work: "Work") -> None:
        if self.group_by is not None:
            work.store.query("DROP INDEX _sync_grouping")


def migration(  # noqa: PLR0913  (keyword-only: a definition spelled out)
    *,
    collection: str,
    from_version: str,
    to_version: str,
    table: str | None = None,
    id: str | None = None,  # noqa: A002
    name: str = "",
    description: str = "",
    group_by: str | None = None,
    after: tuple[str, ...] = (),
    critical: bool = False,
    lossy: bool = False,
    quarantine_rows_max: int | None = None,
    quarantine_ratio_max: float | None = None,
    consent: str | None = None,
    when: str = "startup",
    backup: str = "auto",
    shadow: bool | None = None,
    repairs: "tuple[Repair, ...]" = (),
) -> Callable[[RowFunction], RowExecutor]:
    """Decorator for a pure function `f(old: OldModel) -> NewModel`; the hints are the checks before and after.

    It returns a row, a list (split), None (dropped, counted) or raises Quarantine. `table` is the new
    CREATE TABLE with its indexes; without it the columns stay. `group_by` names a column: the function then
    gets all rows of one owner with one value, and what it does not return is counted as merged. `repairs` are tried,
    in order, on a row that cannot be converted, before it is set aside.
    Raises MigrationInvalid at import for hints that are missing.
    """

    def decorate(function: RowFunction) -> RowExecutor:
        definition = MigrationDefinition(
            id=id or f"{function.__module__}.{function.__name__}",
            name=name or function.__name__.replace("_", " "),
            description=description or (inspect.getdoc(function) or ""),
            from_version=from_version,
            to_version=to_version,
            collections=(collection,),
            after=after,
            critical=critical,
            lossy=lossy,
            quarantine_rows_max=quarantine_rows_max,
            quarantine_ratio_max=quarantine_ratio_max,
            consent=consent,
            when=when,
            backup=backup,
            shadow=shadow,
        )
        executor = RowExecutor(definition, function, table=table, group_by=group_by)
        executor.repairs = repairs
        return executor

    return decorate


def _models(function: RowFunction, migration_id: str) -> tuple[type[BaseModel], type[BaseModel]]:
    hints = get_type_hints(function)
    returned = hints.pop("return", None)
    first = next(iter(inspect.signature(function).parameters), "")
    old, new = _model_in(hints.get(first)), _model_in(returned)
    if old is None or new is None:
        raise MigrationInvalid(
            f"The function of migration {migration_id} does not say what it reads and returns.",
            fix="Write def f(old: OldRow) -> NewRow with two pydantic models.",
        )
    return old, new


def _model_in(hint: Any) -> type[BaseModel] | None:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return hint
    if get_origin(hint) is None:
        return None
    return next((found for part in get_args(hint) if (found := _model_in(part)) is not None), None)


def _as_rows(made: Any) -> list[Any]:
    if made is None:
        return []
    return list(made) if isinstance(made, list | tuple) else [made]
