"""One item of quarantine goes the way of its row once more, in one transaction: through the present code of its
migration, through every later one, and into the live table.

It is the way of a row that comes late: the live tables step aside, the item is alone in tables of its old shape, and
what comes out is added to the live ones. Nothing of a failed try is kept but its reason.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from syncengine.errors import MigrationFailed, MigrationInvalid, ReconciliationFailed, RegistryInvalid
from syncengine.local.identifiers import quoted
from syncengine.local.stored import SHAPE_VERSION, stored_version
from syncengine.local.version_table import read_installed
from syncengine.migrate.definition import Item
from syncengine.migrate.entries_back import has_entries_set_aside, settle_with_row
from syncengine.migrate.late import LIVE_SUFFIX, LateRow, Lift, come_back, lift_for, step_aside, steps_between
from syncengine.migrate.migration_run import Run
from syncengine.migrate.plan import all_steps_of_hop
from syncengine.migrate.quarantine_item import row_from_json
from syncengine.migrate.queueing import waits_for_upload
from syncengine.migrate.rebuild import RebuildingExecutor, present_table
from syncengine.migrate.references import check_references
from syncengine.migrate.rejection import Rejection, rejection_for
from syncengine.migrate.shape import TableSql, table_exists
from syncengine.migrate.work import insert_sql, parsed_item
from syncengine.outbox.capture import capture_off
from syncengine.outbox.set_aside import queue_row
from syncengine.vocabulary import user_scope

if TYPE_CHECKING:
    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.plan import Step
    from syncengine.migrate.quarantine_item import QuarantineItem
    from syncengine.migrate.run_context import RunContext

NOT_LISTED = "migration_not_listed"
SHAPE_UNKNOWN = "shape_unknown"
OTHER_OWNER = "other_owner"
FROM_CLOUD = "pull"
"""The origin of a row that came from the cloud and that no rule of its table took, or that was deleted there."""


class RetryRefused(Exception):
    """The item cannot come back now; `why` is its new reason."""

    def __init__(self, why: Rejection) -> None:
        super().__init__(why.text)
        self.why = why


def bring_back(item: "QuarantineItem", context: "RunContext", *, owner: str | None) -> int:
    """Write the rows that an item becomes; how many. Inside a transaction, with foreign keys off.

    All of them have to be of `owner`, where their collection has owners. Raises RetryRefused with the new reason;
    what was done until then is the caller's to undo.
    """
    try:
        with capture_off(context.store, context.registry.collections, reshaping=True):
            return _Return(item, context, owner).perform()
    except MigrationInvalid as error:
        raise RetryRefused(Rejection(code=SHAPE_UNKNOWN, text=error.what)) from error


class _Return:
    def __init__(self, item: "QuarantineItem", context: "RunContext", owner: str | None) -> None:
        self._item = item
        self._context = context
        self._owner = owner
        self._store = context.store
        self._registry = context.registry
        self._executor = self._find_executor()

    def _find_executor(self) -> "BaseMigrationExecutor | None":
        if self._item.migration is None:
            return None
        try:
            return self._registry.get_migration_executor(self._item.migration)
        except RegistryInvalid as error:
            why = f"the app has no migration {self._item.migration} any more"
            raise RetryRefused(Rejection(code=NOT_LISTED, text=why)) from error

    def perform(self) -> int:
        if self._is_element:
            lift = self._import_element()
        else:
            lift = self._put_row_into_old_table()
        for step in lift.steps:
            self._convert(self._run_of(step))
        rows = [(name, *keys) for name in _names(lift) for keys in self._keys_in(name)]
        self._check_owners(rows)
        self._make_room(rows)
        come_back(self._store, self._registry, lift, refuse=_refuse, keys_may_meet=False)
        self._check_references()
        self._queue(rows)
        return len(rows)

    @property
    def _is_element(self) -> bool:
        """Of a legacy store; a row knows the version of its shape."""
        rebuilds = isinstance(self._executor, RebuildingExecutor)
        return self._item.shape_version is None and self._executor is not None and not rebuilds

    # An element of a legacy store.

    def _import_element(self) -> Lift:
        assert self._executor is not None
        lift = self._lift_of_import(self._executor)
        step_aside(self._store, lift)
        for shaping in lift.shaping:
            self._convert(self._run_of(shaping))
        run = self._run_of(self._step_of(self._executor))
        try:
            run.convert_only(_element(self._item))
        except MigrationFailed as error:
            raise RetryRefused(run.rows.first or _rejection(error)) from error
        _refuse_what_was_set_aside(run)
        return lift

    def _lift_of_import(self, executor: "BaseMigrationExecutor") -> Lift:
        """All tables that it may write to step aside, those that have not moved on, too."""
        definition = executor.definition
        moved = lift_for(self._store, self._registry, definition) or Lift(tables=(), steps=())
        there = {table.collection for table in moved.tables}
        others = [
            present_table(self._store, name, migration=definition.id)
            for name in definition.collections
            if name not in there and table_exists(self._store, name)
        ]
        return replace(moved, tables=(*moved.tables, *(replace(table, indexes=()) for table in others)))

    def _step_of(self, executor: "BaseMigrationExecutor") -> "Step":
        listed = self._registry.listed(executor.definition.id)
        steps = all_steps_of_hop(listed.edge, self._registry, user=self._context.user)
        found = next((step for step in steps if step.id == listed.id), None)
        if found is None:
            raise RetryRefused(Rejection(code=NOT_LISTED, text="it belongs to a user, and none is known"))
        return found

    # A row.

    def _put_row_into_old_table(self) -> Lift:
        """A table of the old row's columns, without types: the row lies in it exactly as it was read."""
        item = self._item
        row = row_from_json(item.body)
        if row is None:
            raise RetryRefused(Rejection(code="shape_invalid", text="it is no JSON object"))
        columns = tuple(row)
        create = f"CREATE TABLE {quoted(item.collection)} ({', '.join(map(quoted, columns))})"
        table = TableSql(collection=item.collection, create=create, indexes=())
        lift = Lift(tables=(table,), steps=self._steps_of_row())
        step_aside(self._store, lift)
        self._store.query(insert_sql(item.collection, columns), tuple(row.values()))
        return lift

    def _steps_of_row(self) -> "tuple[Step, ...]":
        """From the shape of the row to the live one; its own migration is the first, where it is on the way."""
        collection = self._item.collection
        if not table_exists(self._store, collection):
            raise RetryRefused(Rejection(code=SHAPE_UNKNOWN, text=f"there is no table {collection} now"))
        live = self._store.value("runs", "shape_version", name=collection)
        written = self._item.shape_version or self._version_before() or live
        if live is None or written is None or written == live:
            return ()
        version = stored_version(written, "_sync_quarantine.shape_version")
        to = stored_version(live, SHAPE_VERSION)
        if version > to:
            why = f"{collection} is at {live} now, and the row is of {written}"
            raise RetryRefused(Rejection(code=SHAPE_UNKNOWN, text=why))
        steps = steps_between(self._registry, version, to, collection=collection)
        own = [place for place, step in enumerate(steps) if step.id == self._item.migration]
        return steps[own[0] :] if own else steps

    def _version_before(self) -> str | None:
        return self._executor.definition.from_version if self._executor is not None else None

    # All.

    def _run_of(self, step: "Step") -> Run:
        executor = self._registry.get_migration_executor(step.id)
        return Run(step, executor, self._context, lifting=True)

    def _convert(self, run: Run) -> None:
        try:
            run.convert_rows()
        except MigrationFailed as error:
            raise RetryRefused(run.rows.first or _rejection(error)) from error
        _refuse_what_was_set_aside(run)

    def _keys_in(self, name: str) -> list[tuple[str | None, str]]:
        """(owner, key) of the rows that are about to come back."""
        collection = self._registry.collections[name]
        owner = quoted(collection.owner) if collection.owner is not None else "NULL"
        return [
            (row[0], row[1])
            for row in self._store.query(f"SELECT {owner}, {quoted(collection.key)} FROM {quoted(name)}")
        ]

    def _check_owners(self, rows: list[tuple[str, str | None, str]]) -> None:
        """Nobody's decision writes into the rows of another user, or into their queue."""
        owned = [owner for name, owner, _ in rows if self._registry.collections[name].owner is not None]
        if owned and self._owner is None:
            why = "it belongs to nobody: name the user who gets it"
            raise RetryRefused(Rejection(code=OTHER_OWNER, text=why))
        if any(str(owner) != self._owner for owner in owned):
            raise RetryRefused(Rejection(code=OTHER_OWNER, text="it would become a row of another user"))

    def _make_room(self, rows: list[tuple[str, str | None, str]]) -> None:
        """What came from the cloud takes the place of what was here before it, unless that was edited since."""
        if self._item.origin != FROM_CLOUD:
            return
        for name, owner, key in rows:
            collection = self._registry.collections[name]
            row = {"collection": name, "owner": owner or "", "row_key": key}
            if self._store.rows("receipts", "entries_of_row", **row):
                why = "the row was edited here since, and that was not sent yet"
                raise RetryRefused(Rejection(code="edited_since", text=why))
            self._store.query(
                f"DELETE FROM {quoted(name + LIVE_SUFFIX)} "
                f"WHERE {quoted(collection.key)} = ? AND {quoted(collection.owner or collection.key)} = ?",
                (key, owner if collection.owner is not None else key),
            )

    def _cloud_has_it(self, row: dict[str, str]) -> bool:
        """As it came from there: to send it again could only overwrite what has happened to it since."""
        is_as_it_came = self._item.origin == FROM_CLOUD and not self._item.edited
        return is_as_it_came and bool(self._store.value("capture", "is_at_cloud", **row))

    def _check_references(self) -> None:
        try:
            check_references(self._store, self._item.migration or "")
        except ReconciliationFailed as error:
            why = Rejection(code="no_parent", text="it refers to a row that is not there")
            raise RetryRefused(why) from error

    def _queue(self, rows: list[tuple[str, str | None, str]]) -> None:
        """All that have an owner are queued for the cloud, but what it has and what an upload will bring there."""
        for name, owner, key in rows:
            if owner is None:
                continue
            row = {"owner": owner, "collection": name, "row_key": key}
            if not self._cloud_has_it(row) and not self._comes_with_upload(row):
                queue_row(self._store, **row)
                settle_with_row(self._store, **row)

    def _comes_with_upload(self, row: dict[str, str]) -> bool:
        """The cloud has never heard of it, and a migration that has yet to run sends all that its table has."""
        if self._item.origin == FROM_CLOUD or has_entries_set_aside(self._store, **row):
            return False
        scope = user_scope(row["owner"])
        waits = waits_for_upload(
            self._registry, read_installed(self._store), collection=row["collection"], scope=scope
        )
        return waits and not self._store.rows("receipts", "at_cloud", **row)


def _element(item: "QuarantineItem") -> Item:
    """As it came from the source: one of a list, a JSON document, or a plain text under a key of its own."""
    key, raw = str(item.key), item.body.encode()
    element = parsed_item(key, raw)
    if element.broken is not None and not key.endswith("]"):
        element = Item(key, item.body, raw)
    return replace(element, owner=item.owner)


def _names(lift: Lift) -> list[str]:
    return [table.collection for table in lift.tables]


def _refuse(refused: LateRow) -> None:
    raise RetryRefused(Rejection(code="constraint_failed", text=refused.why))


def _refuse_what_was_set_aside(run: Run) -> None:
    if run.rows.first is not None:
        raise RetryRefused(run.rows.first)


def _rejection(error: Exception) -> Rejection:
    return rejection_for(error) or Rejection(code="migration_failed", text=type(error).__name__)
