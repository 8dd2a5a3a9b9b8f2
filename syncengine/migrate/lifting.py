"""Documents between the shapes of their collection: up by the functions that migrate stored rows, and down again.

No table of the store is touched. The shapes are built as empty tables in memory, by the migrations themselves, so a
document becomes what a stored row would have become.
"""

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from syncengine.errors import MigrationInvalid, SyncEngineError
from syncengine.local.identifiers import quoted
from syncengine.local.scratch_store import ScratchStore
from syncengine.local.stored import SHAPE_VERSION, stored_version
from syncengine.migrate.declared_columns import ColumnPlan, is_of_the_moment
from syncengine.migrate.definition import Quarantine
from syncengine.migrate.late import old_table, steps_between
from syncengine.migrate.rebuild import RebuildingExecutor, anything_kept
from syncengine.migrate.shape import columns_of
from syncengine.migrate.work import Work
from syncengine.vocabulary import SchemaVersion

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.plan import Step
    from syncengine.migrate.registry import MigrationRegistry

Fields = Mapping[str, Any]
"""A document: JSON values by the names of its columns; without its owner."""


class NoWay(Exception):
    """There is no way from one shape to another. `why` is for people; a value of a row is not in it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passage:
    """One migration in one direction: what it reads, and the names of what it makes."""

    executor: RebuildingExecutor
    work: Work
    reads: tuple[str, ...]
    makes: tuple[str, ...]

    def through(self, row: Fields) -> list[dict[str, Any]]:
        """What one row becomes, as a group of one where rows are merged. Raises NoWay, and what is wrong with it."""
        collection = self.work.collections[self.executor.collection]
        owner_column, key = collection.owner, collection.key
        source = tuple(column_value(name, row.get(name)) for name in self.reads)
        made = self.executor.made_of([source], self.work)
        rows = [dict(zip(self.makes, map(json_value, values), strict=True)) for values in made[0]]
        rest = {name: value for name, value in row.items() if name not in self.reads}
        if self.executor.grouped and [new.get(key) for new in rows] != [row.get(key)]:
            raise NoWay(f"migration {self.executor.definition.id} merges rows, and made another row of this one")
        if owner_column is not None and any(new.get(owner_column) != row.get(owner_column) for new in rows):
            raise Quarantine("became a row of another user", field=owner_column)
        return [{**rest, **new} for new in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rung:
    """One step between two shapes of a collection."""

    version: SchemaVersion
    """Of the shape that it leads to."""
    up: _Passage
    down: _Passage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ladder:
    """All steps of a collection from one of its shapes to the present one."""

    columns: frozenset[str]
    """Of the shape that it begins at."""
    rungs: tuple[_Rung, ...] = field(repr=False)


class Lifter:
    """Takes documents of one store's collections up and down.

    Shapes are built when an app first asks for them, and known to its registry from then on.
    """

    def __init__(self, store: "Store", registry: "MigrationRegistry") -> None:
        self._store = store
        self._registry = registry
        self._present: dict[str, SchemaVersion] | None = None
        self._ladders: dict[tuple[str, SchemaVersion], _Ladder] = {}

    def present_shape(self, collection: str) -> SchemaVersion | None:
        """The shape that the collection has in this store; None for one that it does not have."""
        if self._present is None:
            rows = self._store.rows("runs", "collections")
            self._present = {str(row[0]): stored_version(row[3], SHAPE_VERSION) for row in rows}
        return self._present.get(collection)

    def columns_at(self, collection: str, version: SchemaVersion) -> frozenset[str]:
        """The columns of a shape. Raises NoWay for one that this app does not know."""
        return self._ladder(collection, version).columns

    def up(
        self, collection: str, body: Fields, *, owner: str, start: SchemaVersion, end: SchemaVersion | None = None
    ) -> list[dict[str, Any]]:
        """What a document of the shape `start` is in the shape `end` (None: the present one): one document, several
        when a migration splits it, none when one leaves it out.

        Fields that no shape knows are taken along. Raises NoWay, and what is wrong with the document: what
        `rejection_for` has a reason for.
        """
        ladder = self._ladder(collection, start)
        rows = [self._as_row(collection, body, owner)]
        for rung in ladder.rungs:
            if end is not None and rung.version > end:
                break
            rows = [made for row in rows for made in rung.up.through(row)]
        return [self._as_body(collection, row) for row in rows]

    def down(
        self, collection: str, body: Fields, *, owner: str, start: SchemaVersion, end: SchemaVersion
    ) -> dict[str, Any]:
        """What a document of the shape `start` is in the older shape `end`. Raises NoWay where a step has no way
        back or does not make one document of it, and what is wrong with the document."""
        row = self._as_row(collection, body, owner)
        for rung in reversed(self._ladder(collection, end).rungs):
            if rung.version > start:
                continue
            if rung.down is None:
                raise NoWay(f"migration {rung.up.executor.definition.id} has no way down")
            made = rung.down.through(row)
            if len(made) != 1:
                raise NoWay(f"the way down of {rung.up.executor.definition.id} makes {len(made)} rows of it")
            row = made[0]
        return self._as_body(collection, row)

    def _owner(self, collection: str) -> str | None:
        return self._registry.collections[collection].owner

    def _as_row(self, collection: str, body: Fields, owner: str) -> dict[str, Any]:
        owner_column = self._owner(collection)
        return dict(body) if owner_column is None else {**body, owner_column: owner}

    def _as_body(self, collection: str, row: Fields) -> dict[str, Any]:
        owner_column = self._owner(collection)
        return {name: value for name, value in row.items() if name != owner_column}

    # Shapes.

    def _ladder(self, collection: str, start: SchemaVersion) -> _Ladder:
        known = self._ladders.get((collection, start))
        if known is None:
            known = self._ladders[collection, start] = self._build(collection, start)
        return known

    def _build(self, collection: str, start: SchemaVersion) -> _Ladder:
        present = self.present_shape(collection)
        if present is None or collection not in self._registry.collections:
            raise NoWay(f"this app has no collection {collection}")
        if start == present:
            return _Ladder(columns=frozenset(columns_of(self._store, collection)), rungs=())
        known = self._registry.ladders.get((collection, start, present))
        if known is None:
            known = self._registry.ladders[collection, start, present] = self._made(collection, start, present)
        return _Ladder(columns=known.columns, rungs=tuple(self._in_this_store(rung) for rung in known.rungs))

    def _made(self, collection: str, start: SchemaVersion, present: SchemaVersion) -> _Ladder:
        try:
            table, shaping = old_table(self._registry, collection, start)
            steps = steps_between(self._registry, start, present, collection=collection)
        except SyncEngineError as error:
            raise NoWay(f"the shape of {collection} at {start} is not known to this app") from error
        return self._built(collection, create=table.create, shaping=shaping, steps=steps)

    def _built(self, collection: str, *, create: str, shaping: "Sequence[Step]", steps: "Sequence[Step]") -> _Ladder:
        scratch = ScratchStore(settings=self._store.settings, clock=self._store.clock)
        try:
            with scratch.transaction():
                scratch.query(create)
                for step in shaping:
                    self._rung(scratch, step)
                columns = frozenset(columns_of(scratch, collection))
                return _Ladder(columns=columns, rungs=tuple(self._rung(scratch, step) for step in steps))
        finally:
            scratch.close()

    def _rung(self, scratch: ScratchStore, step: "Step") -> _Rung:
        """Take the empty table through one migration, and note what it reads and makes on the way."""
        executor = self._registry.get_migration_executor(step.id)
        assert isinstance(executor, RebuildingExecutor)
        work = self._work(scratch, executor)
        executor.make_new_table(work)
        reads, makes = executor.source_columns(work), executor.new_columns(work)
        self._learn_defaults(executor, work)
        executor.finish(work)
        after = columns_of(scratch, executor.collection)
        if set(makes) != set(after):
            makes = after  # what was renamed at the end
        up = _Passage(executor=executor, work=work, reads=reads, makes=makes)
        return _Rung(version=step.hop.to_version, up=up, down=self._way_down(scratch, executor))

    def _way_down(self, scratch: ScratchStore, executor: RebuildingExecutor) -> _Passage | None:
        back = executor.reversed(scratch, self._registry)
        if back is None or back.grouped:
            return None
        work = self._work(scratch, back)
        try:
            back.make_new_table(work)
        except MigrationInvalid:
            return None
        reads, makes = back.source_columns(work), back.new_columns(work)
        self._learn_defaults(back, work)
        scratch.query(f"DROP TABLE {quoted(back.new_table)}")
        return _Passage(executor=back, work=work, reads=reads, makes=makes)

    def _learn_defaults(self, executor: RebuildingExecutor, work: Work) -> None:
        """What is asked of the empty table is remembered in the notes of its work."""
        if not executor.grouped:
            executor.made_of([], work)

    def _work(self, store: "Store", executor: RebuildingExecutor) -> Work:
        return Work(
            store=store,
            definition=executor.definition,
            collections=self._registry.collections,
            user=None,
            now_ms=self._store.clock.now_ms(),
        )

    def _in_this_store(self, rung: _Rung) -> _Rung:
        down = None if rung.down is None else self._living(rung.down)
        return replace(rung, up=self._living(rung.up), down=down)

    def _living(self, passage: _Passage) -> _Passage:
        """The same shapes, beside this store's rows: what an archive has kept of one is given back to it."""
        now_ms, known = self._store.clock.now_ms(), passage.work.notes
        notes = {name: self._with_archive(known[name]) for name in known if not is_of_the_moment(name)}
        return replace(
            passage, work=replace(passage.work, store=self._store, now_ms=now_ms, notes=notes, warnings=[])
        )

    def _with_archive(self, plan: Any) -> Any:
        if not isinstance(plan, ColumnPlan):
            return plan
        name = plan.collection.name
        return replace(plan, anything_kept=anything_kept(self._store, name, migration=plan.reads_as))


def column_value(name: str, value: Any) -> Any:
    """What a column keeps for a document's value: bytes for {"$blob": "<base64>"}, the others as they are.

    Raises Quarantine for what is no column's value.
    """
    if isinstance(value, dict):
        if value.keys() == {"$blob"} and isinstance(value["$blob"], str):
            try:
                return b64decode(value["$blob"], validate=True)
            except (NotBase64, ValueError):
                pass
        raise Quarantine("is no value of a column", field=name)
    if isinstance(value, list):
        raise Quarantine("is no value of a column", field=name)
    return value


def json_value(value: Any) -> Any:
    """The same the other way."""
    return {"$blob": b64encode(value).decode("ascii")} if isinstance(value, bytes) else value
