"""Migrations without any code: columns added, renamed, cast and archived, by `declared(...)`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from syncengine.clock import iso
from syncengine.errors import MigrationInvalid
from syncengine.local.identifiers import quoted
from syncengine.migrate.definition import Counts, Item, MigrationDefinition, Quarantine
from syncengine.migrate.executor import BaseMigrationExecutor
from syncengine.migrate.row_codec import row_as_json
from syncengine.migrate.shape import attached, keep_indexes, keep_trigger
from syncengine.migrate.work import key_columns

if TYPE_CHECKING:
    from syncengine.migrate.work import Work

PAGE_ROWS = 100

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

    def items(self, work: "Work") -> Iterator[Item]:
        if not self.casts:
            return
        keys = key_columns(work.collections[self.collection])
        names = (*keys, *(change.column for change in self.casts))
        order, marks = ", ".join(map(quoted, keys)), ", ".join("?" * len(keys))
        start = f"SELECT {', '.join(map(quoted, names))} FROM {quoted(self.collection)}"
        end = f" ORDER BY {order} LIMIT {PAGE_ROWS}"
        page = work.store.query(start + end)
        while page:
            for row in page:
                yield Item(str(row[len(keys) - 1]), row, owner=str(row[0]) if len(keys) > 1 else None)
            page = work.store.query(f"{start} WHERE ({order}) > ({marks}){end}", tuple(page[-1][: len(keys)]))

    def apply(self, items: list[Item], work: "Work") -> Counts:
        keys = key_columns(work.collections[self.collection])
        sets = ", ".join(f"{quoted(change.column + '_new_')} = ?" for change in self.casts)
        where = " AND ".join(f"{quoted(key)} = ?" for key in keys)
        rows = []
        for item in items:
            old = item.value[len(keys) :]
            new = [_converted(value, change) for value, change in zip(old, self.casts, strict=True)]
            rows.append((*new, *item.value[: len(keys)]))
        work.store.connection.executemany(f"UPDATE {quoted(self.collection)} SET {sets} WHERE {where}", rows)
        return Counts(read=len(items), written=len(items))

    def set_aside(self, item: Item, work: "Work") -> str:
        """A row that cannot be cast leaves the table: its new column would hold a value that nobody wrote."""
        keys = key_columns(work.collections[self.collection])
        where = " AND ".join(f"{quoted(key)} = ?" for key in keys)
        bindings = tuple(item.value[: len(keys)])
        row = work.store.query(f"SELECT * FROM {quoted(self.collection)} WHERE {where}", bindings)[0]
        work.store.query(f"DELETE FROM {quoted(self.collection)} WHERE {where}", bindings)
        return row_as_json(work.columns(self.collection), row)

    def finish(self, work: "Work") -> None:
        store = work.store
        indexes, triggers = attached(store, self.collection, "index"), attached(store, self.collection, "trigger")
        if any(isinstance(change, Cast | Archive) for change in self.changes):
            # DROP COLUMN is refused while an index or a trigger names the column.
            for kind, found in (("INDEX", indexes), ("TRIGGER", triggers)):
                for name, _ in found:
                    store.query(f"DROP {kind} {quoted(name)}")
            self._drop_columns(work)
            for name in keep_indexes(store, self.collection, indexes):
                work.warn(f"index {name} was left out: its columns are gone")
            for name, sql in triggers:
                keep_trigger(store, self.collection, name, sql)
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


def declared(
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
    try:
        new = change.to(value)
    except (ValueError, TypeError, OverflowError):
        raise Quarantine(f"cannot become {change.to.__name__}", field=change.column) from None
    if isinstance(value, int | float) and new != value and change.to is not str:
        raise Quarantine(f"would lose its fraction as {change.to.__name__}", field=change.column)
    return new
