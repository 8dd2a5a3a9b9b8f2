"""Migrations written as one pure function from the old row to the new one: `@migration(...)`."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from syncengine.errors import MigrationInvalid
from syncengine.local.identifiers import quoted
from syncengine.migrate.definition import Counts, Item, MigrationDefinition, WrongReturn, may_return_none
from syncengine.migrate.executor import BaseMigrationExecutor
from syncengine.migrate.paging import pages, rows_of
from syncengine.migrate.row_codec import codec_of, row_as_json
from syncengine.migrate.shape import TableSql, columns_of, parse_table, swap_in
from syncengine.migrate.work import insert_sql, key_columns

if TYPE_CHECKING:
    from syncengine.migrate.work import Work

NEW_SUFFIX = "_new_"

RowFunction = Callable[..., Any]


class RowExecutor(BaseMigrationExecutor):
    """Fill the new table from the old one, page by page in key order, and put it in its place."""

    rebuilds_tables = True

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
        self.old_model, self.new_model = _models(function, definition.id)
        self._may_drop = may_return_none(function)
        self._wants_work = "work" in inspect.signature(function).parameters

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The function itself, for tests and for rows that come from older clients."""
        return self.function(*arguments, **named)

    def down(self, function: RowFunction) -> "RowExecutor":
        """Decorator: the way back from a new row to the old one."""
        self.down_function = function
        return self

    def prepare(self, work: "Work") -> None:
        self._check_columns(work, self.collection, self.old_model, "reads")
        store = work.store
        if self.table is not None:
            store.query(self.table.create_as(self.new_table))
        else:
            sql = store.query("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (self.collection,))
            same = parse_table(str(sql[0][0]), migration=self.definition.id)
            store.query(same.create_as(self.new_table))
        self._check_columns(work, self.new_table, self.new_model, "writes")
        if self.group_by is not None:
            columns = ", ".join(map(quoted, self._order(work)))
            store.query(f"CREATE INDEX _sync_grouping ON {quoted(self.collection)} ({columns})")

    @property
    def new_table(self) -> str:
        return self.collection + NEW_SUFFIX

    def _check_columns(self, work: "Work", table: str, model: type[BaseModel], does: str) -> None:
        there, wanted = set(columns_of(work.store, table)), set(model.model_fields)
        if not there:
            raise MigrationInvalid(
                f"Migration {self.definition.id} reads {table}, and there is no such table.",
                fix="Correct its collection, or let it come `after` the migration that makes the table.",
            )
        if there != wanted:
            raise MigrationInvalid(
                f"Migration {self.definition.id} {does} {model.__name__}, which is not what the table holds.",
                why=f"only in the table: {sorted(there - wanted)}; only in the model: {sorted(wanted - there)}",
                fix="A column that is left out would be lost: name every one, or archive it first.",
            )

    def estimate(self, work: "Work") -> int | None:
        return rows_of(work.store, self.collection)

    def items(self, work: "Work") -> Iterator[Item]:
        """Pages by key, so that nothing stays open while rows are written."""
        collection = work.collections[self.collection]
        columns = codec_of(self.old_model).columns
        key = columns.index(collection.key)
        owner = columns.index(collection.owner) if collection.owner is not None else None
        for page in pages(work.store, self.collection, columns=columns, keys=self._order(work)):
            for row in page:
                yield Item(str(row[key]), row, owner=None if owner is None else str(row[owner]))

    def _order(self, work: "Work") -> tuple[str, ...]:
        collection = work.collections[self.collection]
        keys = key_columns(collection)
        return keys if self.group_by is None else (*keys[:-1], self.group_by, keys[-1])

    def apply(self, items: list[Item], work: "Work") -> Counts:
        old = codec_of(self.old_model).decode([item.value for item in items])
        counts = Counts(read=len(items))
        new_rows: list[BaseModel] = []
        if self.group_by is not None:
            new_rows = _as_rows(self._convert(old, work))
            _share_out(counts, made=len(new_rows))
        else:
            for row in old:
                made = _as_rows(self._convert(row, work))
                new_rows.extend(made)
                counts.written += 1 if made else 0
                counts.dropped += 0 if made else 1
        self._insert(new_rows, work)
        return counts

    def _convert(self, row: Any, work: "Work") -> Any:
        made = self.function(row, work=work) if self._wants_work else self.function(row)
        if made is None and not self._may_drop:
            raise WrongReturn("the function returned None, and its return hint does not say that it may drop a row")
        return made

    def _insert(self, rows: Sequence[BaseModel], work: "Work") -> None:
        codec = codec_of(self.new_model)
        sql = insert_sql(self.new_table, codec.columns)
        for row in rows:
            if not isinstance(row, self.new_model):
                raise WrongReturn(f"the function returned {type(row).__name__}, not {self.new_model.__name__}")
        work.store.connection.executemany(sql, [codec.encode(row) for row in rows])

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

    def set_aside(self, item: Item, work: "Work") -> str:
        """The whole old row; it was not put into the new table."""
        return row_as_json(codec_of(self.old_model).columns, item.value)

    def finish(self, work: "Work") -> None:
        indexes = self.table.indexes if self.table is not None and not work.lifting else ()
        if self.group_by is not None:
            work.store.query("DROP INDEX _sync_grouping")
        gone = swap_in(work.store, new=self.new_table, table=self.collection, indexes=indexes, lifting=work.lifting)
        for name in gone:
            work.warn(f"index {name} was left out: its columns are gone")


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
) -> Callable[[RowFunction], RowExecutor]:
    """Decorator for a pure function `f(old: OldModel) -> NewModel`; the hints are the checks before and after.

    It returns a row, a list (split), None (dropped, counted) or raises Quarantine. `table` is the new
    CREATE TABLE with its indexes; without it the columns stay. `group_by` names a column: the function then
    gets all rows of one owner with one value, and what it does not return is counted as merged.
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
        )
        return RowExecutor(definition, function, table=table, group_by=group_by)

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


def _share_out(counts: Counts, *, made: int) -> None:
    """A group that became `made` rows: so many written, the rest merged; none at all: dropped by rule."""
    counts.written = min(counts.read, made)
    counts.merged = counts.read - made if 0 < made < counts.read else 0
    counts.dropped = counts.read if made == 0 else 0
