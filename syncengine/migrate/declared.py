"""Migrations without any code: columns added, renamed, cast, archived and erased, by `declared(...)`."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from syncengine.errors import MigrationInvalid
from syncengine.local.identifiers import quoted
from syncengine.local.scratch_table import ColumnFacts, altered, columns_declared
from syncengine.local.sqlite_errors import SQLError
from syncengine.migrate.declared_columns import ColumnPlan, GoneColumn, NewColumn
from syncengine.migrate.declared_sql import literal
from syncengine.migrate.declared_values import Conversion, is_numeric, python_type_of
from syncengine.migrate.definition import MigrationDefinition
from syncengine.migrate.rebuild import RebuildingExecutor, anything_kept, present_table, way_back
from syncengine.migrate.shape import TableSql, columns_of, parse_table, table_exists

if TYPE_CHECKING:
    from syncengine.local.store import Row, Store
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.migrate.repair import Repair
    from syncengine.migrate.work import Work

_SQL_TYPES: dict[type, str] = {int: "INTEGER", float: "REAL", str: "TEXT"}

BACK = "/back"
"""Behind a migration's id, in `_sync_archive`: what its way back took away."""


@dataclass(frozen=True, slots=True)
class Add:
    column: str
    sql_type: str
    default: str | int | float | None


@dataclass(frozen=True, slots=True)
class Rename:
    column: str
    to: str


@dataclass(frozen=True, slots=True)
class Cast:
    column: str
    to: type


@dataclass(frozen=True, slots=True)
class Archive:
    column: str


@dataclass(frozen=True, slots=True)
class Erase:
    column: str


Change = Add | Rename | Cast | Archive | Erase


def add(column: str, sql_type: str, *, default: str | int | float | None = None) -> Add:
    """A new column. With a default it is NOT NULL and old rows get the default; without it they get NULL."""
    if sql_type not in ("TEXT", "INTEGER", "REAL", "BLOB", "ANY"):
        raise MigrationInvalid(f"Column {column} has the type {sql_type!r}.", fix="TEXT, INTEGER, REAL, BLOB or ANY.")
    return Add(column, sql_type, default)


def rename(column: str, to: str) -> Rename:
    """A new name for a column; its values stay."""
    return Rename(column, to)


def cast(column: str, to: type) -> Cast:
    """Another type for a column: int, float or str. A value that does not fit whole goes to quarantine."""
    if to not in _SQL_TYPES:
        raise MigrationInvalid(f"Column {column} cannot be cast to {to.__name__}.", fix="int, float or str.")
    return Cast(column, to)


def archive(column: str) -> Archive:
    """Take a column away, but keep its values in `_sync_archive`."""
    return Archive(column)


def erase(column: str) -> Erase:
    """Take a column away with its values, for good; only in a migration that says `erases=True`."""
    return Erase(column)


class _ByColumns(RebuildingExecutor):
    """Each new row is made of one old row, column by column; SQL does it where it does what Python would."""

    def __init__(self, definition: MigrationDefinition, changes: tuple[Change, ...]) -> None:
        super().__init__()
        self.definition = definition  # type: ignore[misc]  # an author's class has one definition, this kind many
        self.changes = changes
        self.collection = definition.collections[0]

    def plan(self, work: "Work") -> ColumnPlan:
        """What becomes of each column of the table that is there."""
        known = work.notes.get(("plan", type(self), self.definition.id))
        if known is None:
            known = work.notes["plan", type(self), self.definition.id] = self._plan(work)
        assert isinstance(known, ColumnPlan)
        return known

    @abstractmethod
    def _plan(self, work: "Work") -> ColumnPlan:
        """What becomes of each column of the table that is there."""

    def source_columns(self, work: "Work") -> tuple[str, ...]:
        return self.plan(work).source_columns

    def new_columns(self, work: "Work") -> tuple[str, ...]:
        return self.plan(work).new_columns

    def made_of(self, rows: "Sequence[Row]", work: "Work") -> list[list[tuple[Any, ...]]]:
        return [[row] for row in self.plan(work).made_of(rows, work)]

    def insert_select(self, work: "Work") -> tuple[str, str] | None:
        return self.plan(work).insert_select()

    def keep_originals(self, rows: "Sequence[Row]", work: "Work") -> None:
        if not self.definition.erases:
            self.plan(work).keep_originals(rows, work)

    def keep_originals_where(self, predicate: str, bindings: dict[str, Any], work: "Work") -> None:
        self.plan(work).keep_originals_where(predicate, bindings, work)

    def _present(self, store: "Store") -> TableSql:
        if not table_exists(store, self.collection):
            raise self.refuse_missing_table()
        return present_table(store, self.collection, migration=self.definition.id)

    def _rename(self, work: "Work", column: str, to: str) -> None:
        self._alter(work, f"RENAME COLUMN {quoted(column)} TO {quoted(to)}")

    def _alter(self, work: "Work", change: str) -> None:
        work.store.query(f"ALTER TABLE {quoted(self.collection)} {change}")

    def _refuse(self, error: Exception) -> MigrationInvalid:
        return MigrationInvalid(
            f"Migration {self.definition.id} declares what cannot be done to {self.collection}.",
            why=str(error),
            fix="Correct its changes; the store is as it was.",
        )

    def _forget_kept(self, work: "Work", name: str) -> None:
        if not work.lifting:
            work.store.run("archive", "forget_kept", collection=self.collection, migration=name)


class DeclaredExecutor(_ByColumns):
    """Add, rename, cast, archive, erase. Added and renamed columns alone ALTER TABLE does without a row read."""

    @property
    def _goes_back_as(self) -> str:
        return self.definition.id + BACK

    def rewrites_rows(self, store: "Store") -> bool:
        if any(isinstance(change, Cast | Archive | Erase) for change in self.changes):
            return True
        adds = any(isinstance(change, Add) for change in self.changes)
        return adds and anything_kept(store, self.collection, migration=self._goes_back_as)

    def alter_in_place(self, work: "Work") -> None:
        self.remember_shape(work)
        for change in self.changes:
            if isinstance(change, Add):
                self._alter(work, f"ADD COLUMN {_declared(change)}")
        self.after_swap(work)

    def make_new_table(self, work: "Work") -> None:
        self.remember_shape(work)
        create = parse_table(self._new_shape(work), migration=self.definition.id)
        work.store.query(create.create_as(self.new_table))

    def _new_shape(self, work: "Work") -> str:
        """The CREATE TABLE as SQLite alters it; no column is renamed yet, so that indexes and triggers still fit."""
        old = self._present(work.store).create
        there = {column.name: column for column in columns_declared(old)}
        table = quoted(self.collection)
        alterations = []
        for change in self.changes:
            if isinstance(change, Add):
                alterations.append(f"ALTER TABLE {table} ADD COLUMN {_declared(change)}")
            elif isinstance(change, Cast):
                # An empty table takes a required column without a default.
                alterations.append(f"ALTER TABLE {table} DROP COLUMN {quoted(change.column)}")
                alterations.append(f"ALTER TABLE {table} ADD COLUMN {_cast(change, there.get(change.column))}")
            elif isinstance(change, Archive | Erase):
                alterations.append(f"ALTER TABLE {table} DROP COLUMN {quoted(change.column)}")
        try:
            return altered(old, alterations)
        except SQLError as error:
            raise self._refuse(error) from error

    def _plan(self, work: "Work") -> ColumnPlan:
        old = columns_declared(self._present(work.store).create)
        there = {column.name: column for column in old}
        casts = {change.column: change for change in self.changes if isinstance(change, Cast)}
        adds = {change.column: change for change in self.changes if isinstance(change, Add)}
        archived = [change.column for change in self.changes if isinstance(change, Archive)]
        return ColumnPlan(
            collection=work.collections[self.collection],
            source_columns=tuple(column.name for column in old),
            columns=tuple(
                NewColumn(
                    name=name, field=name, default=_default(adds[name]), required=adds[name].default is not None
                )
                if name in adds
                else NewColumn(
                    name=name,
                    source=name,
                    conversion=_conversion(casts.get(name), there[name].sql_type),
                    required=there[name].required,
                )
                for name in columns_of(work.store, self.new_table)
            ),
            gone=tuple(GoneColumn(name=name, field=name, default=there[name].default or "NULL") for name in archived),
            keeps_as=self.definition.id,
            reads_as=self._goes_back_as,
            strict=any(column.strict for column in old),
            anything_kept=anything_kept(work.store, self.collection, migration=self._goes_back_as),
        )

    def final_columns(self, work: "Work") -> tuple[str, ...]:
        return tuple(map(self._renamed, self.new_columns(work)))

    def _renamed(self, column: str) -> str:
        for change in self.changes:
            if isinstance(change, Rename) and change.column == column:
                column = change.to
        return column

    def after_swap(self, work: "Work") -> None:
        for change in self.changes:
            if isinstance(change, Rename):
                self._rename(work, change.column, change.to)
        self._forget_kept(work, self._goes_back_as)

    def reversed(self, store: "Store", registry: "MigrationRegistry") -> "RebuildingExecutor | None":
        """None too for a cast of a column that bends values by itself: it could not hold a later edit as it is."""
        before = self.shape_before(store)
        if before is None or self.definition.erases or self._cast_columns() & _bending(before):
            return None
        return _BackExecutor(self, before)

    def _cast_columns(self) -> set[str]:
        return {change.column for change in self.changes if isinstance(change, Cast)}


class _BackExecutor(_ByColumns):
    """The way back of declared changes: the table as it was, with what was kept, and later edits taken along."""

    remembers_shape = False

    def __init__(self, forward: DeclaredExecutor, before: TableSql) -> None:
        super().__init__(way_back(forward.definition), forward.changes)
        self._before = before
        self._renamed = {change.column: change.to for change in self.changes if isinstance(change, Rename)}
        self.new_indexes = before.indexes

    @property
    def _keeps_as(self) -> str:
        return self.definition.id + BACK

    def make_new_table(self, work: "Work") -> None:
        work.store.query(self._before.create_as(self.new_table))
        plan = self.plan(work)
        wanted = {column.source for column in plan.columns if column.source} | {gone.name for gone in plan.gone}
        if wanted != set(plan.source_columns):
            raise MigrationInvalid(
                f"Migration {self.definition.id} cannot be taken back: {self.collection} has another shape by now.",
                why=f"these columns differ: {sorted(wanted ^ set(plan.source_columns))}",
                fix="Take back first what changed them. The store is as it was.",
            )

    def _plan(self, work: "Work") -> ColumnPlan:
        casts = {change.column: change for change in self.changes if isinstance(change, Cast)}
        archived = {change.column for change in self.changes if isinstance(change, Archive)}
        adds = [change for change in self.changes if isinstance(change, Add)]
        return ColumnPlan(
            collection=work.collections[self.collection],
            source_columns=columns_of(work.store, self.collection),
            columns=tuple(
                NewColumn(
                    name=column.name, field=column.name, default=column.default or "NULL", required=column.required
                )
                if column.name in archived
                else NewColumn(
                    name=column.name,
                    source=self._renamed.get(column.name, column.name),
                    conversion=_conversion_back(casts.get(column.name), column.sql_type),
                    required=column.required,
                )
                for column in columns_declared(self._before.create)
            ),
            gone=tuple(
                GoneColumn(name=self._renamed.get(add.column, add.column), field=add.column, default=_default(add))
                for add in adds
            ),
            keeps_as=self._keeps_as,
            reads_as=self.definition.id,
            strict=any(column.strict for column in columns_declared(self._present(work.store).create)),
            anything_kept=anything_kept(work.store, self.collection, migration=self.definition.id),
        )

    def rewrites_rows(self, store: "Store") -> bool:
        return any(not isinstance(change, Rename) for change in self.changes)

    def alter_in_place(self, work: "Work") -> None:
        self.before_swap(work)

    def before_swap(self, work: "Work") -> None:
        """Indexes, triggers and views learn the old names first."""
        for change in self.changes[::-1]:
            if isinstance(change, Rename):
                self._rename(work, change.to, change.column)

    def after_swap(self, work: "Work") -> None:
        self._forget_kept(work, self.definition.id)


def declared(  # noqa: PLR0913  (keyword-only: all that a migration may say of itself)
    *,
    id: str,  # noqa: A002
    collection: str,
    from_version: str,
    to_version: str,
    changes: tuple[Change, ...],
    name: str = "",
    description: str = "",
    after: tuple[str, ...] = (),
    critical: bool = False,
    consent: str | None = None,
    when: str = "startup",
    backup: str = "auto",
    shadow: bool | None = None,
    erases: bool = False,
    repairs: "tuple[Repair, ...]" = (),
) -> DeclaredExecutor:
    """A migration that only declares what changes in one collection: add, rename, cast, archive, erase.

    `repairs` are tried, in order, on a value that cannot be cast, before its row is set aside.
    With `erases` nothing of the rows as they were stays on this device, and there is no way back.
    Raises MigrationInvalid for `archive` in a migration that erases, and for `erase` in one that does not.
    """
    _refuse_contradiction(id, changes, erases=erases)
    definition = MigrationDefinition(
        id=id,
        name=name or id,
        description=description,
        from_version=from_version,
        to_version=to_version,
        collections=(collection,),
        after=after,
        critical=critical,
        consent=consent,
        when=when,
        backup=backup,
        shadow=shadow,
        erases=erases,
    )
    executor = DeclaredExecutor(definition, changes)
    executor.repairs = repairs
    return executor


def _refuse_contradiction(migration: str, changes: tuple[Change, ...], *, erases: bool) -> None:
    archived = sorted(change.column for change in changes if isinstance(change, Archive))
    erased = sorted(change.column for change in changes if isinstance(change, Erase))
    if erases and archived:
        raise MigrationInvalid(
            f"Migration {migration} says erases=True, and archives {', '.join(archived)}.",
            why="an archive keeps the values on this device, and erases=True promises that none survive",
            fix="Say erase() instead of archive(), or leave erases=True out.",
        )
    if erased and not erases:
        raise MigrationInvalid(
            f"Migration {migration} erases {', '.join(erased)}, and does not say erases=True.",
            why="the values would be gone from the table, and would stay in copies of it",
            fix="Say erases=True, or archive() instead of erase().",
        )


def _declared(change: Add) -> str:
    required = "" if change.default is None else f" NOT NULL DEFAULT {_default(change)}"
    return f"{quoted(change.column)} {change.sql_type}{required}"


def _default(change: Add) -> str:
    value = change.default
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return literal(value)
    return repr(float(value) if change.sql_type == "REAL" else value)


def _cast(change: Cast, old: ColumnFacts | None) -> str:
    required = " NOT NULL" if old is not None and old.required else ""
    return f"{quoted(change.column)} {_SQL_TYPES[change.to]}{required}"


def _bending(table: TableSql) -> set[str]:
    columns = columns_declared(table.create)
    return {column.name for column in columns if is_numeric(column.sql_type, strict=column.strict)}


def _conversion(change: Cast | None, old_type: str) -> Conversion | None:
    if change is None:
        return None
    return Conversion(field=change.column, to=change.to, back=python_type_of(old_type))


def _conversion_back(change: Cast | None, old_type: str) -> Conversion | None:
    if change is None:
        return None
    return Conversion(field=change.column, to=python_type_of(old_type), back=change.to)
