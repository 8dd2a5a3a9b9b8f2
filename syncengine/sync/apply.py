"""One page from the cloud, written to the store with the cursor behind it, in one durable transaction.

Most rows are of the present shape and nobody has edited them here: they are written together. The others are looked
at one by one. What cannot be taken is kept: parked where it may be taken later, in quarantine where a person decides.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from syncengine.errors import StoreSuperseded
from syncengine.local.stored import SHAPE_VERSION, stored_version
from syncengine.migrate.definition import Quarantine
from syncengine.migrate.lifting import Lifter, NoWay
from syncengine.migrate.rejection import Rejection, rejection_for
from syncengine.outbox.capture import MayFire, may_fire, writing_uncaptured
from syncengine.outbox.firing_order import put_in_order
from syncengine.sync.answers import AnsweredLandings
from syncengine.sync.beside import Lifted, NewerShape, lifted
from syncengine.sync.calls import PulledRow
from syncengine.sync.deciding import DecidingLandings, Decision
from syncengine.sync.far_reaching import held_back
from syncengine.sync.kin import Kin
from syncengine.sync.landing import Landing, Landings, PageUndone
from syncengine.sync.live_table import LiveTable, live_tables
from syncengine.sync.merge import Edit, Fields
from syncengine.sync.page_record import Applied, PageRecord
from syncengine.sync.parking import Reason
from syncengine.sync.pending import Key, pending_edits
from syncengine.sync.position import Position, move_cursor
from syncengine.sync.resync import Retelling

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry

_KEY, _SHAPE, _BODY, _PATCHES = map(
    itemgetter, map(PulledRow._fields.index, ("key", "shape_version", "body", "patches"))
)

NO_WAY_UP = "shape_unknown"


class Applier:
    """Writes pages of one owner. The owner comes from the round, never from a document."""

    kin: Kin
    """Of the tables as they were last asked for."""

    def __init__(self, store: "Store", registry: "MigrationRegistry", *, owner: str) -> None:
        self.store = store
        self.registry = registry
        self.owner = owner
        self.lifter = Lifter(store, registry)
        self._known: tuple[Any, ...] | None = None
        self._in_order: int | None = None
        self._tables: dict[str, LiveTable] = {}
        self._may_fire: dict[tuple[str, ...], MayFire] = {}

    def apply(
        self,
        rows: Sequence[PulledRow],
        *,
        position: Position,
        moves_cursor: bool = True,
        decision: Decision | None = None,
    ) -> Applied:
        """All of a page or nothing. With a `decision` it is one row, when all has been read.

        Raises StoreSuperseded after a newer app has migrated the store, and what the store raises; then nothing of it
        was written.
        """
        if self.store.in_transaction_here():
            raise AssertionError("a page is a transaction of its own: it may be undone and begun anew")
        refused: dict[Key, Rejection] = {}
        one_by_one = False
        while True:
            page = _Page(self, position, refused=refused, one_by_one=one_by_one, decision=decision)
            try:
                with self.store.transaction(durable=True, undo_in_memory=True):
                    page.write(rows)
                    if moves_cursor:
                        move_cursor(self.store, self.owner, position)
                return page.record.applied
            except PageUndone as undone:
                one_by_one = undone.one_by_one
                refused |= undone.refused

    def refuse(self, rows: Sequence[PulledRow], why: Rejection, *, position: Position) -> list[int]:
        """Set rows aside for a person, in one transaction; the ids of the items."""
        refused = {(row.collection, row.key): why for row in rows}
        page = _Page(self, position, refused=refused, one_by_one=True)
        with self.store.transaction(durable=True):
            page.write(rows)
        return page.record.applied.items

    def tables_in_order(self) -> dict[str, LiveTable]:
        """As `tables`, with capture firing before the app's triggers: looked at again when somebody changes the
        schema."""
        schema = self._schema()
        if schema != self._in_order:
            if put_in_order(self.store):
                schema = self._schema()
            else:
                self._in_order = schema
        return self._tables_of(schema)

    def tables(self) -> dict[str, LiveTable]:
        """The tables of the synced collections; known until somebody changes the schema or a shape."""
        return self._tables_of(self._schema())

    def _tables_of(self, schema: int) -> dict[str, LiveTable]:
        recorded = tuple(self.store.rows("pull", "collections"))
        now = (schema, recorded)
        if now != self._known:
            for name, _, _, shape_version, _ in recorded:
                self._refuse_newer(name, shape_version)
            self._tables = live_tables(self.store, before=self._tables)
            self._may_fire.clear()
            self.lifter = Lifter(self.store, self.registry)
            self.kin = Kin(self.store, self.owner, self._tables)
            self._known = now
        return self._tables

    def _schema(self) -> int:
        return int(self.store.query("PRAGMA schema_version")[0][0])

    def may_fire(self, collections: tuple[str, ...]) -> MayFire:
        """As the function of this name; known as long as the tables are."""
        found = self._may_fire.get(collections)
        if found is None:
            found = self._may_fire[collections] = may_fire(self.store, collections)
        return found

    def _refuse_newer(self, name: str, shape_version: str) -> None:
        if stored_version(shape_version, SHAPE_VERSION) > self.registry.target:
            raise StoreSuperseded(
                f"Collection {name} was migrated to {shape_version} by a newer version of this app.",
                why="this process cannot read what comes from the cloud into its new shape",
                fix="Restart the app in its new version. Nothing was written.",
            )


class _Page:
    """One page in one transaction: which way does each row go?"""

    def __init__(
        self,
        applier: Applier,
        position: Position,
        *,
        refused: dict[Key, Rejection],
        one_by_one: bool,
        decision: Decision | None = None,
    ) -> None:
        self._applier = applier
        self._store = applier.store
        self._owner = applier.owner
        self._position = position
        self._refused = refused
        self._one_by_one = one_by_one or decision is not None
        self._decision = decision
        self._edits: dict[Key, list[Edit]] = {}
        self._rows: Sequence[PulledRow] = ()
        self.record = PageRecord(applier.store, applier.registry, owner=applier.owner, position=position)

    def write(self, rows: Sequence[PulledRow]) -> None:
        tables = self._applier.tables_in_order()
        self._landings = self._begun(tables)
        self._edits = pending_edits(self._store, self._owner, rows)
        self._rows = rows
        self._sort(self._without_retold(rows, tables), tables)
        if self._decision is None:
            self._hold_back()
        involved = tuple(sorted(self._landings.collections))
        if involved:
            if self._applier.kin.has_references:
                self._store.query("PRAGMA defer_foreign_keys = ON")
            with self._capturing_or_not(involved):
                self._landings.write(one_by_one=self._one_by_one)
        self.record.applied.collections.update(involved)

    def _begun(self, tables: dict[str, LiveTable]) -> Landings:
        store, registry, owner = self._store, self._applier.registry, self._owner
        if self._decision is None:
            if self._applier.may_fire(tuple(tables)).app:
                return AnsweredLandings(
                    store, registry, owner=owner, record=self.record, fires=self._applier.may_fire
                )
            return Landings(store, registry, owner=owner, record=self.record)
        return DecidingLandings(
            store, registry, owner=owner, record=self.record, kin=self._applier.kin, decision=self._decision
        )

    def _hold_back(self) -> None:
        held = held_back(self._landings, kin=self._applier.kin, owner=self._owner)
        self._landings.leave_out(held)
        for landing in held:
            self.record.park(landing.item, Reason.CHILDREN_LEFT)

    def _capturing_or_not(self, involved: tuple[str, ...]) -> AbstractContextManager[None]:
        """What a decision, or a trigger of the app, does to other rows is queued like an edit; of the rows themselves
        it is taken out again."""
        if self._landings.is_captured(involved):
            return nullcontext()
        others_fire = self._applier.may_fire(involved).others
        return writing_uncaptured(self._store, involved, others_fire=others_fire)

    def _without_retold(self, rows: Sequence[PulledRow], tables: dict[str, LiveTable]) -> Sequence[PulledRow]:
        """After the cloud was restored from an older copy: what it lost is told again, and not taken from it."""
        if not self._position.retells:
            return rows
        ours = Retelling(self._store, self._owner, position=self._position, tables=tables)
        told, rest = ours.split(rows, self._edits)
        for row in told:
            self.record.saw(row)
        self.record.applied.conflicts += ours.conflicts
        return rest

    def _sort(self, rows: Sequence[PulledRow], tables: dict[str, LiveTable]) -> None:
        for name, items in groupby(rows, key=attrgetter("collection")):
            table = tables.get(name)
            reaches = name in self._applier.kin.changing
            if table is not None and table.takes_many and not reaches and not self._one_by_one:
                self._put_together(items, table)
            else:
                for item in items:
                    self._look_at(item, table)

    def _put_together(self, rows: Iterable[PulledRow], table: LiveTable) -> None:
        """Hot: nearly all rows of nearly all pages go this way, so it is one loop without calls of our own."""
        many = self._landings.room_for(table)
        rows = tuple(rows)
        if not self._edits and _are_plain(rows, table):
            many += rows
            return
        edits, name, key = self._edits, table.name, table.key
        width, shape, known = table.width, table.shape_text, table.known if table.names_differ else None
        for item in rows:
            _, row_key, _, shape_version, body, patches = item
            if (
                body is not None
                and len(body) == width
                and shape_version == shape
                and not patches
                and body.get(key) == row_key
                and not (edits and (name, row_key) in edits)
                and (known is None or body.keys() == known)
            ):
                many.append(item)
            else:
                self._look_at(item, table)

    def _look_at(self, item: PulledRow, table: LiveTable | None) -> None:
        why = self._refused.get((item.collection, item.key))
        if why is not None:
            self.record.refuse(item, why)
            return
        if table is None:
            self.record.park(item, Reason.UNKNOWN_COLLECTION)
            return
        try:
            self._landings.add(self._landings_of(item, table))
        except NewerShape:
            self.record.park(item, Reason.NEWER_SHAPE)
        except NoWay as error:
            self.record.refuse(item, Rejection(code=NO_WAY_UP, text=error.why))
        except Exception as error:
            why = rejection_for(error)
            if why is None:
                raise
            self.record.refuse(item, why)

    def _landings_of(self, item: PulledRow, table: LiveTable) -> list[Landing]:
        edits = self._edits.get((item.collection, item.key), [])
        if item.body is None:
            return [Landing(table=table, item=item, key=item.key, body=None, edits=edits)]
        if item.shape_version == table.shape_text and not item.patches:
            _check_key(item, table, item.body)
            return [Landing(table=table, item=item, key=item.key, body=item.body, edits=edits)]
        made = lifted(item, lifter=self._applier.lifter, owner=self._owner, table=table)
        landings = [
            Landing(table=table, item=item, key=table.key_of(body, item.key), body=body, lifted=made)
            for body in made.rows
        ]
        return self._uneven(item, table, landings, made, edits)

    def _uneven(
        self, item: PulledRow, table: LiveTable, landings: list[Landing], made: Lifted, edits: list[Edit]
    ) -> list[Landing]:
        """One row of the same key takes its edits along. Where a migration makes others of it, or none, it goes."""
        others = [landing for landing in landings if landing.key != item.key]
        kept = [landing for landing in landings if landing.key == item.key]
        new = self._not_known(others)
        if not kept:
            kept = [Landing(table=table, item=item, key=item.key, body=None, lifted=made, others=bool(new))]
        for landing in kept:
            landing.edits = edits
        return [*kept, *new]

    def _not_known(self, parts: list[Landing]) -> list[Landing]:
        """What another device has made of the document before stays as it is, or deleted; this page may bring it."""
        if not parts:
            return []
        keys = [(landing.item.collection, landing.key) for landing in parts]
        known = self._store.rows("pull", "known_rows", owner=self._owner, keys=json.dumps(keys))
        of_cloud = {(row.collection, row.key) for row in self._rows} | {(row[0], row[1]) for row in known}
        return [
            landing
            for landing, row in zip(parts, keys, strict=True)
            if row not in of_cloud and landing.table.read(self._owner, landing.key) is None
        ]


def _are_plain(rows: Sequence[PulledRow], table: LiveTable) -> bool:
    """Whether all are whole rows of the present shape. What is asked of all of them at once costs half of a loop."""
    keys, bodies = list(map(_KEY, rows)), list(map(_BODY, rows))
    return (
        not table.names_differ
        and all(bodies)
        and set(map(len, bodies)) == {table.width}
        and set(map(_SHAPE, rows)) == {table.shape_text}
        and not any(map(_PATCHES, rows))
        and [body.get(table.key) for body in bodies] == keys
    )


def _check_key(item: PulledRow, table: LiveTable, body: Fields) -> None:
    if table.key in body and not table.is_called(body[table.key], item.key):
        raise Quarantine("says of itself that it has another key", field=table.key)


__all__ = ["Applied", "Applier"]
