"""The queued entries of one run: when they are converted, by the kind of its executor."""

from typing import TYPE_CHECKING

import orjson

from syncengine.local.identifiers import quoted
from syncengine.local.sqlite_errors import ConstraintError, MismatchError
from syncengine.migrate.definition import EntryCounts
from syncengine.migrate.entries import convert_beside, convert_entries
from syncengine.migrate.entries_body import Values, json_text, values_of
from syncengine.migrate.entries_written import EntryWriter
from syncengine.migrate.rebuild import RebuildingExecutor
from syncengine.migrate.rejection import Rejection, rejection_for
from syncengine.migrate.row_function import RowFunctionExecutor
from syncengine.migrate.shape import columns_of
from syncengine.outbox.filing import file_entries
from syncengine.vocabulary import STORE_SCOPE

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.work import Work

NO_CONVERSION = Rejection(code="no_conversion", text="the migration does not say what becomes of a queued entry")


class QueuedEntries:
    """What a run does to the outbox. Nothing for rows that come late, and nothing for one user's migrations."""

    def __init__(self, executor: "BaseMigrationExecutor", work: "Work", *, shape_version: str | None = None) -> None:
        """`shape_version` is the shape that there will be; that of the migration where it is not named."""
        self._shape_version = shape_version or executor.definition.to_version
        self.counts = EntryCounts()
        self._executor = executor
        self._work = work
        self._store: Store = work.store
        self._columns: dict[str, tuple[str, ...]] = {}

    @property
    def _is_left_alone(self) -> bool:
        definition = self._executor.definition
        return self._work.lifting or definition.online or definition.scope != STORE_SCOPE

    def before_rows(self) -> None:
        """Before anything is changed."""
        executor = self._executor
        if self._is_left_alone:
            return
        if not isinstance(executor, RebuildingExecutor):
            self._columns = {name: columns_of(self._store, name) for name in self._synced()}
        elif not executor.rewrites_rows(self._store):
            self._count(convert_beside(executor, self._work))

    def with_rows(self) -> None:
        """When the new table is filled, and the live one is still there."""
        executor = self._executor
        if self._is_left_alone or not isinstance(executor, RebuildingExecutor):
            return
        if executor.rewrites_rows(self._store):
            self._count(convert_entries(executor, self._work))

    def after_rows(self) -> None:
        """When the live table has its new shape."""
        if self._is_left_alone:
            return
        for name, before in self._columns.items():
            self._without_code(name, before)
        for name in self._synced():
            move_known_fields(self._executor, self._work, name)

    def _synced(self) -> list[str]:
        definition, collections = self._executor.definition, self._work.collections
        return [name for name in definition.collections if collections[name].owner is not None]

    def _without_code(self, name: str, before: tuple[str, ...]) -> None:
        """An author's own executor says nothing of entries: they go on where every column that they name is left."""
        version = self._shape_version
        file_entries(self._store)
        read = int(self._store.value("entries", "count", collection=name))
        if not read:
            return
        if set(before) <= set(columns_of(self._store, name)):
            self._store.run("entries", "relabel_all", collection=name, shape_version=version)
            self._store.run("entries", "relabel_items", collection=name, shape_version=version)
            self._count(EntryCounts(read=read, converted=read))
            return
        self._store.run("entries", "relabel_key_only", collection=name, shape_version=version)
        self._set_aside_others(name)
        aside = int(self._store.value("entries", "count_set_aside", collection=name, shape_version=version))
        self._count(EntryCounts(read=read, converted=read - aside, quarantined=aside))

    def _set_aside_others(self, name: str) -> None:
        writer = EntryWriter(self._store, migration=self._executor.definition.id, shape_version=self._shape_version)
        for entry_id, _ in self._store.rows("entries", "with_body", collection=name):
            writer.set_aside_entry(int(entry_id), NO_CONVERSION)

    def _count(self, counts: EntryCounts) -> None:
        self.counts = self.counts.plus(counts)
        if counts.quarantined:
            said = "1 queued entry" if counts.quarantined == 1 else f"{counts.quarantined} queued entries"
            self._work.warn(f"{said} could not be converted: in quarantine")
        if counts.queued:
            self._work.warn(f"{counts.queued} entries were queued for rows that the cloud knows under other keys")


def move_known_fields(executor: "BaseMigrationExecutor", work: "Work", name: str) -> None:
    """What a newer client wrote and the new shape has a column for goes into the row; what does not fit stays."""
    store, collection = work.store, work.collections[name]
    columns = set(columns_of(store, name)) - {collection.key, collection.owner}
    for owner, key, extra in store.rows("entries", "with_extra", collection=name):
        found = values_of(extra) or {}
        known = {field: value for field, value in found.items() if field in columns}
        if known and _moved(executor, work, name, str(owner), str(key), known):
            left = {field: value for field, value in orjson.loads(extra).items() if field not in known}
            text = json_text(left) if left else None
            store.run("entries", "keep_extra", collection=name, owner=owner, row_key=key, extra=text)


def _moved(executor: "BaseMigrationExecutor", work: "Work", name: str, owner: str, key: str, known: Values) -> bool:
    store, collection = work.store, work.collections[name]
    assert collection.owner is not None
    where = f"{quoted(collection.owner)} = ? AND {quoted(collection.key)} = ?"
    sets = ", ".join(f"{quoted(field)} = ?" for field in known)
    try:
        with store.savepoint("known_fields"):
            store.query(f"UPDATE {quoted(name)} SET {sets} WHERE {where}", (*known.values(), owner, key))
            if store.connection.changes() == 0:
                return False
            if isinstance(executor, RowFunctionExecutor):
                _check(executor, work, f"{quoted(name)} WHERE {where}", (owner, key))
    except (ConstraintError, MismatchError):
        return False
    except Exception as error:
        if rejection_for(error) is None:
            raise
        return False
    return True


def _check(executor: RowFunctionExecutor, work: "Work", which: str, values: tuple[str, str]) -> None:
    """Raises what is wrong with a row of the new shape."""
    columns = ", ".join(map(quoted, executor.final_columns(work)))
    list(executor.new_shape(work).decode(work.store.query(f"SELECT {columns} FROM {which}", values)))
