"""Migrations without any code: columns added, renamed, cast and archived, by `declared(...)`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from syncengine.clock import iso
from syncengine.errors import MigrationInvalid, ReconciliationFailed
from syncengine.local.identifiers import quoted
from syncengine.migrate.definition import Counts, Item, MigrationDefinition, Quarantine
from syncengine.migrate.executor import BaseMigrationExecutor
from syncengine.migrate.paging import pages, rows_of
from syncengine.migrate.row_codec import row_as_json
from syncengine.migrate.shape import keep_indexes, set_apart
from syncengine.migrate.work import key_columns

if TYPE_CHECKING:
    from syncengine.migrate.work import Work

_SQL_TYPES: dict[type, str] = {int: "INTEGER", float: "REAL", str: "TEXT"}


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


Change = Add | Rename | Cast | Archive


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


class DeclaredExecutor(BaseMigrationExecutor):
    """Change the table in place; only a cast looks at the rows."""

    rebuilds_tables = True

    def __init__(self, definition: MigrationDefinition, changes: tuple[Change, ...]) -> None:
        super().__init__()
        self.definition = definition  # type: ignore[misc]  # an author's class has one definition, this kind many
        self.changes = changes
        self.casts = tuple(change for change in changes if isinstance(change, Cast))
        self.collection = definition.collections[0]

    def prepare(self, work: "Work") -> None:
        for change in self.changes:
            if isinstance(change, Cast):
                self._alter(work, self._add_cast_column(work, change))
            elif isinstance(change, Add):
                self._alter(work, f"ADD COLUMN {quoted(change.column)} {change.sql_type}{_default(change.default)}")

    def _add_cast_column(self, work: "Work", change: Cast) -> str:
        required = work.store.query(
            'SELECT "notnull" FROM pragma_table_xinfo(?) WHERE name = ?', (self.collection, change.column)
        )
        if not required:
            raise MigrationInvalid(f"{self.collection} has no column {change.column} to cast.")
        suffix = _default(change.to()) if required[0][0] else ""
        return f"ADD COLUMN {quoted(change.column + '_new_')} {_SQL_TYPES[change.to]}{suffix}"

    def _alter(self, work: "Work", change: str) -> None:
        work.store.query(f"ALTER TABLE {quoted(self.collection)} {change}")

    def estimate(self, work: "Work") -> int | None:
        return rows_of(work.store, self.collection) if self.casts else 0

    def items(self, work: "Work") -> Iterator[Item]:
        if not self.casts:
            return
        keys = key_columns(work.collections[self.collection])
        columns = (*keys, *(change.column for change in self.casts))
        for page in pages(work.store, self.collection, columns=columns, keys=keys):
            for row in page:
                yield Item(str(row[len(keys) - 1]), row, owner=str(row[0]) if len(keys) > 1 else None)

    def apply(self, items: list[Item], work: "Work") -> Counts:
        keys = key_columns(work.collections[self.collection])
        sets = ", ".join(f"{quoted(change.column + '_new_')} = ?" for change in self.casts)
        where = " AND ".join(f"{quoted(key)} IS ?" for key in keys)
        rows = []
        for item in items:
            old = item.value[len(keys) :]
            new = [_converted(value, change) for value, change in zip(old, self.casts, strict=True)]
            rows.append((*new, *item.value[: len(keys)]))
        for row in rows:
            self._change_one(work, f"UPDATE {quoted(self.collection)} SET {sets} WHERE {where}", row)
        return Counts(read=len(items), written=len(items))

    def _change_one(self, work: "Work", sql: str, bindings: tuple[Any, ...]) -> None:
        """The app's triggers are for the app's changes: they neither fire nor leave a row out here."""
        with work.store.without_triggers():
            work.store.query(sql, bindings)
        if (changed := work.store.connection.changes()) != 1:
            raise ReconciliationFailed(
                f"Migration {self.definition.id} cannot tell the rows of {self.collection} apart.",
                why=f"{changed} rows have the key of one",
                fix="The store is as it was. Give the table a primary key of its owner and key columns.",
            )

    def set_aside(self, item: Item, work: "Work") -> str:
        """A row that cannot be cast leaves the table: its new column would hold a value that nobody wrote."""
        keys = key_columns(work.collections[self.collection])
        where = " AND ".join(f"{quoted(key)} IS ?" for key in keys)
        bindings = tuple(item.value[: len(keys)])
        columns = [name for name in work.columns(self.collection) if name not in self._made_here]
        names = ", ".join(map(quoted, columns))
        row = work.store.query(f"SELECT {names} FROM {quoted(self.collection)} WHERE {where}", bindings)[0]
        self._change_one(work, f"DELETE FROM {quoted(self.collection)} WHERE {where}", bindings)
        return row_as_json(columns, row)

    @property
    def _made_here(self) -> set[str]:
        """Columns that the old row did not have."""
        added = {change.column for change in self.changes if isinstance(change, Add)}
        return added | {change.column + "_new_" for change in self.casts}

    def finish(self, work: "Work") -> None:
        store = work.store
        if any(isinstance(change, Cast | Archive) for change in self.changes):
            with set_apart(store, self.collection) as indexes:
                self._drop_columns(work)
                for name in keep_indexes(store, self.collection, indexes):
                    work.warn(f"index {name} was left out: its columns are gone")
        for change in self.changes:
            if isinstance(change, Rename):
                self._alter(work, f"RENAME COLUMN {quoted(change.column)} TO {quoted(change.to)}")

    def _drop_columns(self, work: "Work") -> None:
        for change in self.changes:
            if isinstance(change, Cast):
                self._alter(work, f"DROP COLUMN {quoted(change.column)}")
                self._alter(work, f"RENAME COLUMN {quoted(change.column + '_new_')} TO {quoted(change.column)}")
            elif isinstance(change, Archive):
                self._keep(work, change)
                self._alter(work, f"DROP COLUMN {quoted(change.column)}")

    def _keep(self, work: "Work", change: Archive) -> None:
        collection = work.collections[self.collection]
        owner = quoted(collection.owner) if collection.owner else "''"
        work.store.query(
            "INSERT INTO _sync_archive (collection, owner, row_key, field, value, migration, archived_at) "
            f"SELECT ?, {owner}, {quoted(collection.key)}, ?, {quoted(change.column)}, ?, ? "
            f"FROM {quoted(self.collection)} WHERE {quoted(change.column)} IS NOT NULL",
            (self.collection, change.column, self.definition.id, iso(work.now_ms)),
        )


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
) -> DeclaredExecutor:
    """A migration that only declares what changes in one collection: add, rename, cast, archive."""
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
    )
    return DeclaredExecutor(definition, changes)


def _default(value: str | int | float | None) -> str:
    if value is None:
        return ""
    literal = "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)
    return f" NOT NULL DEFAULT {literal}"


def _converted(value: Any, change: Cast) -> Any:
    """The value in its new type, if nothing of it is lost."""
    if value is None:
        return None
    cannot = Quarantine(f"cannot become {change.to.__name__}", field=change.column)
    # Bytes are no text, and 1_000 is a number to Python alone.
    if isinstance(value, bytes) or (isinstance(value, str) and "_" in value and change.to is not str):
        raise cannot
    try:
        new = change.to(value)
    except (ValueError, TypeError, OverflowError):
        raise cannot from None
    if isinstance(new, float) and not math.isfinite(new):
        raise Quarantine("is no finite number", field=change.column)
    if isinstance(value, int | float) and new != value and change.to is not str:
        raise Quarantine(f"would lose its fraction as {change.to.__name__}", field=change.column)
    return new
