"""Migrations that fill a new table from an old one and put it in its place: what all of them have in common.

The run loop does it in one transaction, the shadow in many; both ask the same executor, so both give the same rows.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from syncengine.errors import MigrationInvalid
from syncengine.local.identifiers import quoted
from syncengine.local.stored import stored_ddl
from syncengine.local.whole_row import row_as_json
from syncengine.migrate.batches import Batch, of_ranges, of_row_ids, of_rows
from syncengine.migrate.definition import Counts, Item, MigrationDefinition
from syncengine.migrate.executor import BaseMigrationExecutor
from syncengine.migrate.paging import pages, rows_of
from syncengine.migrate.shape import TableSql, attached, columns_of, parse_table, swap_in, table_exists
from syncengine.migrate.work import insert_sql, key_columns

if TYPE_CHECKING:
    from syncengine.local.store import Row, Store
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.migrate.work import Work

NEW_SUFFIX = "_new_"


class RebuildingExecutor(BaseMigrationExecutor, ABC):
    """Fill the new table from the live one in key order, then swap the two."""

    rebuilds_tables: ClassVar[bool] = True
    collection: str
    remembers_shape: bool = True
    """False for a way back: it goes to a shape that is known."""
    new_indexes: tuple[str, ...] = ()
    """CREATE INDEX texts that the author gave; the others of the live table are kept where they fit."""
    keeps_keys: bool = False
    """True where each row stays one row of the same key, whatever it holds."""
    group_by: str | None = None
    """The column by which rows are merged; None where each is converted by itself."""

    @property
    def new_table(self) -> str:
        """The name of the new table until the swap."""
        return self.collection + NEW_SUFFIX

    # What each kind of rebuilding says.

    def rewrites_rows(self, store: "Store") -> bool:
        """False where ALTER TABLE is enough: then there are no items, and no new table."""
        return True

    def alter_in_place(self, work: "Work") -> None:
        """All of it, where no row is rewritten."""

    @abstractmethod
    def make_new_table(self, work: "Work") -> None:
        """CREATE TABLE of the new shape under the name `new_table`. Raises MigrationInvalid where columns differ
        from what the migration says."""

    @abstractmethod
    def source_columns(self, work: "Work") -> tuple[str, ...]:
        """What is read from the live table, in order; the key columns are among them."""

    @abstractmethod
    def new_columns(self, work: "Work") -> tuple[str, ...]:
        """What is written to the new table, in order."""

    def final_columns(self, work: "Work") -> tuple[str, ...]:
        """What `new_columns` are called when all is done."""
        return self.new_columns(work)

    @abstractmethod
    def made_of(self, rows: "Sequence[Row]", work: "Work") -> list[list[tuple[Any, ...]]]:
        """For each row of `source_columns` its new rows of `new_columns`; an empty list: dropped by rule.

        Writes nothing. Raises what is wrong with the first bad row. Where `grouped`, the rows are one group, and the
        first list holds all that the group becomes.
        """

    def insert_select(self, work: "Work") -> tuple[str, str] | None:
        """(select list, predicate): INSERT INTO new (`new_columns`) SELECT list FROM live WHERE predicate converts
        exactly the rows that need no Python. None: every row does."""
        return None

    def is_by_sql(self, work: "Work") -> bool:
        """Does SQL convert most rows by itself? For a new table that is there."""
        return not self.grouped and self._fills(work) and self.insert_select(work) is not None

    def keep_originals(self, rows: "Sequence[Row]", work: "Work") -> None:
        """Write down what the way back needs of these source rows. Twice is once."""

    def keep_originals_where(self, predicate: str, bindings: dict[str, Any], work: "Work") -> None:
        """The same for rows that `insert_select` converts: those of the live table for which the predicate holds."""

    def before_swap(self, work: "Work") -> None:
        """On the live table, in the transaction that swaps."""

    def after_swap(self, work: "Work") -> None:
        """On the new table, when it has the live one's name, in the transaction that swaps."""

    def reversed(self, store: "Store", registry: "MigrationRegistry") -> "RebuildingExecutor | None":
        """What takes the present rows back to the shape before. None: there is no way down."""
        return None

    # What they have in common.

    def remember_shape(self, work: "Work") -> None:
        """Write down the live table and its indexes as they are now, before anything of it is changed."""
        if not self.remembers_shape or work.lifting:
            return
        table = present_table(work.store, self.collection, migration=self.definition.id)
        ddl = json.dumps([table.create, *table.indexes])
        work.store.run(
            "archive", "write_shape_before", collection=self.collection, migration=self.definition.id, ddl=ddl
        )

    def shape_before(self, store: "Store") -> TableSql | None:
        """The table as it was before this migration ran; None where it did not."""
        ddl = store.value("archive", "shape_before", collection=self.collection, migration=self.definition.id)
        if ddl is None:
            return None
        create, *indexes = stored_ddl(ddl, "_sync_shape_before.ddl")
        return TableSql(collection=self.collection, create=create, indexes=tuple(indexes))

    # What the run loop calls.

    def prepare(self, work: "Work") -> None:
        if self.rewrites_rows(work.store):
            self.make_new_table(work)
        else:
            self.alter_in_place(work)

    def estimate(self, work: "Work") -> int | None:
        if not self._fills(work):
            return 0
        rows = rows_of(work.store, self.collection)
        work.notes["rows"] = rows
        return rows

    def _fills(self, work: "Work") -> bool:
        return table_exists(work.store, self.new_table)

    def items(self, work: "Work") -> Iterator[Item]:
        """Pages by key, so that nothing stays open while rows are written."""
        if not self._fills(work):
            return
        columns = self.source_columns(work)
        for page in pages(work.store, self.collection, columns=columns, keys=self.order(work)):
            yield from self.items_of(page, work)

    def items_of(self, rows: "Sequence[Row]", work: "Work") -> Iterator[Item]:
        """Rows of `source_columns` as items."""
        columns = self.source_columns(work)
        collection = work.collections[self.collection]
        key = columns.index(collection.key)
        owner = None if collection.owner is None else columns.index(collection.owner)
        for row in rows:
            yield Item(str(row[key]), row, owner=None if owner is None else str(row[owner]))

    def batches(self, work: "Work") -> Iterator[Batch]:
        settings = work.store.settings
        if not self._fills(work):
            return iter(())
        if self.grouped:
            return super().batches(work)
        if self.insert_select(work) is None:
            return of_rows(self, work, rows_max=settings.batch_rows)
        row_id = row_id_of(work.store, self.collection)
        # Of two rows that a UNIQUE rule cannot both take, the first by key stays.
        if row_id is not None and not has_unique_rules(work.store, self.new_table):
            return of_row_ids(self, work, row_id=row_id, rows_max=settings.sql_batch_rows)
        if self._every_row_has_a_key(work):
            return of_ranges(self, work, keys=self.order(work), rows_max=settings.sql_batch_rows)
        return of_rows(self, work, rows_max=settings.batch_rows)

    def _every_row_has_a_key(self, work: "Work") -> bool:
        no_key = " OR ".join(f"{quoted(key)} IS NULL" for key in self.order(work))
        return not work.store.query(f"SELECT EXISTS (SELECT 1 FROM {quoted(self.collection)} WHERE {no_key})")[0][0]

    def order(self, work: "Work") -> tuple[str, ...]:
        """The columns by which rows are read."""
        return key_columns(work.collections[self.collection])

    def apply(self, items: list[Item], work: "Work") -> Counts:
        return self.apply_rows([item.value for item in items], work)

    def apply_rows(self, rows: "Sequence[Row]", work: "Work") -> Counts:
        """Write what rows of `source_columns` become. An exception undoes all of it."""
        made = self.made_of(rows, work)
        self.keep_originals(rows, work)
        self.insert([row for rows_of_one in made for row in rows_of_one], work)
        if self.grouped:
            return _shared_out(len(rows), made=sum(map(len, made)))
        dropped = made.count([])
        return Counts(read=len(rows), written=len(rows) - dropped, dropped=dropped)

    def insert(self, rows: list[tuple[Any, ...]], work: "Work") -> None:
        """Rows of `new_columns` into the new table."""
        sql = work.notes.get("insert")
        if sql is None:
            sql = work.notes["insert"] = _shortest_insert(work.store, self.new_table, self.new_columns(work))
        work.store.connection.executemany(sql, rows)

    def set_aside(self, item: Item, work: "Work") -> str:
        """The whole old row; it was not put into the new table."""
        return row_as_json(self.source_columns(work), item.value)

    def finish(self, work: "Work") -> None:
        if not self._fills(work):
            return
        self.before_swap(work)
        indexes = () if work.lifting else self.new_indexes
        gone = swap_in(work.store, new=self.new_table, table=self.collection, indexes=indexes, lifting=work.lifting)
        for name in gone:
            work.warn(f"index {name} was left out: its columns are gone")
        self.after_swap(work)

    def refuse_missing_table(self) -> MigrationInvalid:
        """The error for a collection that has no table."""
        return MigrationInvalid(
            f"Migration {self.definition.id} reads {self.collection}, and there is no such table.",
            fix="Correct its collection, or let it come `after` the migration that makes the table.",
        )


def present_table(store: "Store", table: str, *, migration: str) -> TableSql:
    """The CREATE TABLE of a table as it is now, and its CREATE INDEX texts."""
    found = store.query("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,))
    bare = parse_table(str(found[0][0]), migration=migration)
    return replace(bare, indexes=tuple(sql for _, sql in attached(store, table, "index")))


def row_id_of(store: "Store", table: str) -> str | None:
    """The name under which SQLite gives the row id of a table; None where there is none."""
    if store.query("SELECT wr FROM pragma_table_list(?) WHERE schema = 'main'", (table,))[0][0]:
        return None
    taken = {name.lower() for name in columns_of(store, table)}
    return next((name for name in ("rowid", "_rowid_", "oid") if name not in taken), None)


def has_unique_rules(store: "Store", table: str) -> bool:
    """Is there another rule than the primary key that two rows can break together?"""
    sql = "SELECT count(*) FROM pragma_index_list(?) WHERE \"unique\" AND origin <> 'pk'"
    return bool(store.query(sql, (table,))[0][0])


def anything_kept(store: "Store", collection: str, *, migration: str) -> bool:
    """Are there values of a collection in `_sync_archive` under this name?"""
    return bool(store.value("archive", "anything_kept", collection=collection, migration=migration))


def way_back(definition: MigrationDefinition) -> MigrationDefinition:
    """The same migration in the other direction."""
    return replace(definition, from_version=definition.to_version, to_version=definition.from_version)


def _shortest_insert(store: "Store", table: str, columns: tuple[str, ...]) -> str:
    """Without names where it needs none: apsw reads the whole text again for each row, to find it in its cache."""
    if columns != columns_of(store, table):
        return insert_sql(table, columns)
    return f"INSERT INTO {quoted(table)} VALUES({','.join('?' * len(columns))})"


def _shared_out(read: int, *, made: int) -> Counts:
    """A group that became `made` rows: so many written, the rest merged; none at all: dropped by rule."""
    if made == 0:
        return Counts(read=read, dropped=read)
    return Counts(read=read, written=min(read, made), merged=max(read - made, 0))
