"""The columns of a table after a declared change, each with where its values come from, in Python and as SQL.

Both directions are the same: what one takes away or bends it keeps in `_sync_archive`, and the other gives it back. A
migration keeps under its id, its way back under another name, so neither reads what itself has written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from syncengine.clock import iso
from syncengine.local.identifiers import quoted
from syncengine.local.statements import statement
from syncengine.migrate.batches import EVERY_ROW
from syncengine.migrate.declared_sql import cast_in_sql, literal, or_null
from syncengine.migrate.declared_values import Conversion, same_value
from syncengine.migrate.definition import Quarantine
from syncengine.migrate.work import key_columns

if TYPE_CHECKING:
    from syncengine.local.store import Row
    from syncengine.migrate.registry import Collection
    from syncengine.migrate.work import Work

_DEFAULTS, _MADE_OF = "defaults", "made of"


def is_of_the_moment(note: object) -> bool:
    """Whether a work's note holds for its own rows and its own time alone: SQL may say that a default is now."""
    return note == _MADE_OF or (isinstance(note, tuple) and note[0] == _DEFAULTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewColumn:
    """A column of the new table. Without a source it is made: from what was kept under `field`, or the default."""

    name: str
    source: str | None = None
    conversion: Conversion | None = None
    field: str = ""
    default: str = "NULL"
    """An SQL expression."""
    required: bool = False
    """Not NULL: the source too, where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoneColumn:
    """A column of the live table that the new one does not have; kept unless the way back would make it anyway."""

    name: str
    field: str
    default: str = "NULL"
    """What the way back makes of nothing: an SQL expression."""


@dataclass(frozen=True, kw_only=True)
class ColumnPlan:
    """What a declared change does to each row of one table."""

    collection: "Collection"
    source_columns: tuple[str, ...]
    columns: tuple[NewColumn, ...]
    gone: tuple[GoneColumn, ...]
    keeps_as: str
    """The name in `_sync_archive` for what this direction takes away."""
    reads_as: str
    """The name of what the other direction took away."""
    strict: bool
    """Are the values of the live table of their column's type?"""
    anything_kept: bool
    """Is there any of the latter?"""

    @cached_property
    def new_columns(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.source_columns)}

    @cached_property
    def _cast(self) -> tuple[tuple[int, int, Conversion], ...]:
        """(place in the new row, place in the old one, conversion)."""
        return tuple(
            (place, self._places[column.source or ""], column.conversion)
            for place, column in enumerate(self.columns)
            if column.conversion is not None
        )

    # In Python.

    def made_of(self, rows: "Sequence[Row]", work: "Work") -> list[tuple[Any, ...]]:
        """The new row of each row. Raises Quarantine for the first that cannot be."""
        defaults = self._defaults(work)
        made = [self._made_of(row, self._kept_of(row, work), defaults) for row in rows]
        work.notes[_MADE_OF] = (rows, made)
        return made

    def _made_of(self, row: "Row", kept: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[Any, ...]:
        made = []
        for column in self.columns:
            if column.source is None:
                made.append(_given_or_default(column, kept, defaults))
            elif column.conversion is None:
                made.append(row[self._places[column.source]])
            else:
                known = kept.get(column.conversion.field)
                made.append(column.conversion.convert(row[self._places[column.source]], kept=known))
        return tuple(made)

    def _kept_of(self, row: "Row", work: "Work") -> Mapping[str, Any]:
        if not self.anything_kept:
            return {}
        owner, key = self._owner_and_key(row)
        found = work.store.rows(
            "archive",
            "kept_of_row",
            collection=self.collection.name,
            owner=owner,
            row_key=key,
            migration=self.reads_as,
        )
        return {str(name): value for name, value in found}

    def _owner_and_key(self, row: "Row") -> tuple[Any, Any]:
        values = [row[self._places[name]] for name in key_columns(self.collection)]
        return values[0] if len(values) > 1 else "", values[-1]

    def _defaults(self, work: "Work") -> dict[str, Any]:
        """The default of each column that is made, and of each that goes, as a value."""
        known: dict[str, Any] = work.notes.setdefault((_DEFAULTS, self.keeps_as), {})
        if not known:
            wanted = {column.default for column in self.columns} | {column.default for column in self.gone}
            known.update({default: work.store.query(f"SELECT {default}")[0][0] for default in wanted})
        return known

    def keep_originals(self, rows: "Sequence[Row]", work: "Work") -> None:
        """Write down what the other direction could not make of the new rows. Twice is once."""
        if not self.gone and not self._cast:
            return
        kept: list[dict[str, Any]] = []
        not_kept: list[dict[str, Any]] = []
        defaults = self._defaults(work)
        for row, new in zip(rows, self._known_or_made(rows, work), strict=True):
            owner, key = self._owner_and_key(row)
            name = {"collection": self.collection.name, "owner": owner, "row_key": key, "migration": self.keeps_as}
            for gone in self.gone:
                old = row[self._places[gone.name]]
                fits = same_value(old, defaults[gone.default])
                (not_kept if fits else kept).append({**name, "field": gone.field, "value": old})
            for place, source, conversion in self._cast:
                if conversion.must_be_kept(row[source], new[place]):
                    kept.append({**name, "field": conversion.field, "value": row[source]})
        self._write(kept, not_kept, work)

    def _known_or_made(self, rows: "Sequence[Row]", work: "Work") -> list[tuple[Any, ...]]:
        known, made = work.notes.get(_MADE_OF, (None, []))
        return made if known is rows else self.made_of(rows, work)

    def _write(self, kept: list[dict[str, Any]], not_kept: list[dict[str, Any]], work: "Work") -> None:
        connection, now = work.store.connection, iso(work.now_ms)
        connection.executemany(statement("archive", "unkeep"), not_kept)
        connection.executemany(statement("archive", "keep"), [{**facts, "now": now} for facts in kept])

    # As SQL, for rows that need no look of their own.

    @property
    def _live(self) -> str:
        return quoted(self.collection.name)

    def _column(self, name: str) -> str:
        return f"{self._live}.{quoted(name)}"

    def insert_select(self) -> tuple[str, str]:
        """(select list, predicate) over the live table by its own name."""
        return self._insert_select

    @cached_property
    def _insert_select(self) -> tuple[str, str]:
        asked, where = [], []
        for column in self.columns:
            if column.source is None:
                asked.append(self._given_or_default_in_sql(column))
            elif column.conversion is None:
                asked.append(self._column(column.source))
            else:
                old = self._column(column.source)
                expression, predicate = cast_in_sql(old, column.conversion, strict=self.strict)
                asked.append(expression)
                where.append(predicate if column.required else or_null(old, predicate))
        if self.anything_kept and self._cast:
            fields = ", ".join(literal(conversion.field) for _, _, conversion in self._cast)
            where.append(f"NOT EXISTS (SELECT 1 {self._kept_in_sql(fields)})")
        return ", ".join(asked), " AND ".join(part for part in where if part != EVERY_ROW) or EVERY_ROW

    def _given_or_default_in_sql(self, column: NewColumn) -> str:
        if not self.anything_kept:
            return column.default
        kept = self._kept_in_sql(literal(column.field))
        return f"iif(EXISTS (SELECT 1 {kept}), (SELECT kept.value {kept}), {column.default})"

    def _kept_in_sql(self, fields: str) -> str:
        return (
            f"FROM _sync_archive AS kept WHERE kept.collection = {literal(self.collection.name)}"
            f" AND kept.owner = {self._owner_in_sql} AND kept.row_key = {self._key_in_sql}"
            f" AND kept.field IN ({fields}) AND kept.migration = {literal(self.reads_as)}"
        )

    @property
    def _owner_in_sql(self) -> str:
        return f"CAST({self._column(self.collection.owner)} AS TEXT)" if self.collection.owner else "''"

    @property
    def _key_in_sql(self) -> str:
        return f"CAST({self._column(self.collection.key)} AS TEXT)"

    def keep_originals_where(self, predicate: str, bindings: Mapping[str, Any], work: "Work") -> None:
        """The same for the rows of the live table for which a predicate holds; those of `insert_select` only."""
        for gone in self.gone:
            fits = _is_default(self._column(gone.name), gone.default)
            of_these = f"FROM {self._live} WHERE ({predicate})"
            named = {"sync_field": gone.field, "sync_keeps_as": self.keeps_as, "sync_now": iso(work.now_ms)}
            work.store.query(
                "DELETE FROM _sync_archive WHERE collection = :sync_collection AND field = :sync_field"
                " AND migration = :sync_keeps_as AND (owner, row_key) IN"
                f" (SELECT {self._owner_in_sql}, {self._key_in_sql} {of_these} AND {fits})",
                {**bindings, **named, "sync_collection": self.collection.name},
            )
            work.store.query(
                "INSERT INTO _sync_archive (collection, owner, row_key, field, value, migration, archived_at)"
                f" SELECT :sync_collection, {self._owner_in_sql}, {self._key_in_sql}, :sync_field,"
                f" {self._column(gone.name)}, :sync_keeps_as, :sync_now {of_these} AND NOT {fits}"
                " ON CONFLICT (collection, owner, row_key, field, migration) DO UPDATE SET"
                " value = excluded.value, archived_at = excluded.archived_at",
                {**bindings, **named, "sync_collection": self.collection.name},
            )


def _is_default(column: str, default: str) -> str:
    same = f"{column} IS {default} COLLATE BINARY AND typeof({column}) = typeof({default})"
    # 0.0 IS -0.0, which are two values in a column of any type.
    return f"({same} AND (typeof({column}) <> 'real' OR {column} <> 0))"


def _given_or_default(column: NewColumn, kept: Mapping[str, Any], defaults: Mapping[str, Any]) -> Any:
    value = kept[column.field] if column.field in kept else defaults[column.default]
    if value is None and column.required:
        raise Quarantine("has no value for a required column", field=column.name)
    return value
