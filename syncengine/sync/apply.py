"""One page from the cloud, written to the store with the cursor behind it, in one durable transaction.

Most rows are of the present shape and nobody has edited them here: they are written together. The others are looked
at one by one. What cannot be taken is kept: parked where it may be taken later, in quarantine where a person decides.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from syncengine.clock import iso
from syncengine.errors import StoreSuperseded
from syncengine.local.sqlite_errors import ConstraintError
from syncengine.local.statements import statement
from syncengine.local.stored import SHAPE_VERSION, stored_version
from syncengine.migrate.definition import Quarantine
from syncengine.migrate.lifting import Lifter, NoWay
from syncengine.migrate.rejection import Rejection, rejection_for
from syncengine.outbox.capture import capture_off
from syncengine.sync.beside import Lifted, NewerShape, lifted
from syncengine.sync.calls import PulledRow
from syncengine.sync.live_table import LiveTable, is_clash, live_tables
from syncengine.sync.merge import Conflict, Edit, Fields, Merged
from syncengine.sync.parking import Reason, park, unpark
from syncengine.sync.pending import Key, decide, pending_edits, policy_of, record_conflicts, write_edits
from syncengine.sync.resync import Retelling

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry

NO_WAY_UP = "shape_unknown"
DELETED_AT_CLOUD = "deleted_at_cloud"
"""The code of a local edit whose row another device deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where reading stands once a page is in the store."""

    cursor: str | None
    server_epoch: int
    at_head: bool
    resync: int
    resync_reason: str | None = None

    @property
    def retells(self) -> bool:
        """True while all is read again because the cloud was restored from an older copy of itself."""
        return self.resync_reason == "other_epoch"


@dataclass(slots=True, kw_only=True)
class Applied:
    """What a page did: rows written or deleted, conflicts, rows parked, and quarantine items."""

    rows: int = 0
    conflicts: int = 0
    parked: int = 0
    items: list[int] = field(default_factory=list)
    collections: set[str] = field(default_factory=set)


@dataclass(slots=True, kw_only=True)
class Landing:
    """A row on its way into its table. `body` None: it is deleted."""

    table: LiveTable
    item: PulledRow
    key: str
    body: Fields | None = field(repr=False)
    edits: list[Edit] = field(default_factory=list)
    lifted: Lifted | None = None
    others: bool = False
    """Other rows came of the same document: they are handed back together."""

    @property
    def row(self) -> Key:
        return self.table.name, self.key


class _RowEndedTransaction(Exception):
    """SQLite rolled the whole transaction back for one row, as RAISE(ROLLBACK) in a trigger does."""

    def __init__(self, row: Key | None, why: Rejection) -> None:
        super().__init__(why.text)
        self.row = row
        self.why = why


class Applier:
    """Writes pages of one owner. The owner comes from the round, never from a document."""

    def __init__(self, store: "Store", registry: "MigrationRegistry", *, owner: str) -> None:
        self.store = store
        self.registry = registry
        self.owner = owner
        self._known: tuple[Any, ...] | None = None
        self._tables: dict[str, LiveTable] = {}
        self._lifter = Lifter(store, registry)

    def apply(self, rows: Sequence[PulledRow], *, position: Position, moves_cursor: bool = True) -> Applied:
        """All of a page or nothing. Raises StoreSuperseded after a newer app has migrated the store, and what the
        store raises; then nothing of the page was written."""
        refused: dict[Key, Rejection] = {}
        one_by_one = False
        while True:
            page = _Page(self, position, refused=refused, one_by_one=one_by_one)
            try:
                with self.store.transaction(durable=True):
                    page.write(rows, tables=self._present_tables(), lifter=self._lifter)
                    if moves_cursor:
                        move_cursor(self.store, self.owner, position)
                return page.applied
            except _RowEndedTransaction as ended:
                one_by_one = True
                if ended.row is not None:
                    refused[ended.row] = ended.why

    def refuse(self, rows: Sequence[PulledRow], why: Rejection, *, position: Position) -> list[int]:
        """Set rows aside for a person, in one transaction; the ids of the items."""
        refused = {(row.collection, row.key): why for row in rows}
        page = _Page(self, position, refused=refused, one_by_one=True)
        with self.store.transaction(durable=True):
            page.write(rows, tables=self._present_tables(), lifter=self._lifter)
        return page.applied.items

    def tables(self) -> dict[str, LiveTable]:
        """The tables of the synced collections, as they are now."""
        return self._present_tables()

    def _present_tables(self) -> dict[str, LiveTable]:
        """Known until another process changes the schema or a shape."""
        recorded = tuple(self.store.rows("pull", "collections"))
        now = (self.store.query("PRAGMA schema_version")[0][0], recorded)
        if now != self._known:
            for row in recorded:
                if stored_version(row[3], SHAPE_VERSION) > self.registry.target:
                    raise StoreSuperseded(
                        f"Collection {row[0]} was migrated to {row[3]} by a newer version of this app.",
                        why="this process cannot read what comes from the cloud into its new shape",
                        fix="Restart the app in its new version. Nothing was written.",
                    )
            self._tables = live_tables(self.store)
            self._lifter = Lifter(self.store, self.registry)
            self._known = now
        return self._tables


def move_cursor(store: "Store", owner: str, position: Position) -> None:
    """Reading stands here from now on. Inside the durable transaction that holds all before it."""
    store.run(
        "pull",
        "move_cursor",
        owner=owner,
        cursor=position.cursor,
        server_epoch=position.server_epoch,
        at_head=position.at_head,
        resync=position.resync,
        resync_reason=position.resync_reason,
        now=iso(store.clock.now_ms()),
    )


class _Page:
    """One page in one transaction."""

    def __init__(
        self, applier: Applier, position: Position, *, refused: dict[Key, Rejection], one_by_one: bool
    ) -> None:
        self.applied = Applied()
        self._applier = applier
        self._store = applier.store
        self._owner = applier.owner
        self._position = position
        self._refused = refused
        self._one_by_one = one_by_one
        self._tables: dict[str, LiveTable] = {}
        self._edits: dict[Key, list[Edit]] = {}
        self._many: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        self._many_items: dict[str, list[PulledRow]] = defaultdict(list)
        self._singles: list[Landing] = []
        self._now = iso(self._store.clock.now_ms())

    def write(self, rows: Sequence[PulledRow], *, tables: dict[str, LiveTable], lifter: Lifter) -> None:
        self._tables = tables
        self._edits = pending_edits(self._store, self._owner, [(row.collection, row.key) for row in rows])
        rows = self._without_retold(rows)
        self._sort(rows, lifter)
        involved = {*self._many, *(landing.table.name for landing in self._singles)}
        if involved:
            self._store.query("PRAGMA defer_foreign_keys = ON")
            with capture_off(self._store, sorted(involved)):
                self._land()
        self.applied.collections |= involved

    # Which way does each row go?

    def _without_retold(self, rows: Sequence[PulledRow]) -> Sequence[PulledRow]:
        """After the cloud was restored from an older copy: what it lost is told again, and not taken from it."""
        if not self._position.retells:
            return rows
        ours = Retelling(self._store, self._owner, server_epoch=self._position.server_epoch, tables=self._tables)
        told, rest = ours.split(rows, self._edits)
        for row in told:
            self._saw(row)
        self.applied.conflicts += ours.conflicts
        return rest

    def _sort(self, rows: Sequence[PulledRow], lifter: Lifter) -> None:
        tables, edits, many = self._tables, self._edits, self._many
        owner, one_by_one, refused = self._owner, self._one_by_one, self._refused
        for item in rows:
            table = tables.get(item.collection)
            body = item.body
            if (
                table is not None
                and body is not None
                and not item.patches
                and item.shape_version == table.shape_text
                and len(body) == table.width
                and body.get(table.key) == item.key
                and table.takes_many
                and not one_by_one
                and (item.collection, item.key) not in edits
            ):
                try:
                    many[item.collection].append((owner, *table.values_of(body)))
                except KeyError:
                    pass
                else:
                    self._many_items[item.collection].append(item)
                    continue
            if (item.collection, item.key) in refused:
                self._quarantine(item, refused[item.collection, item.key])
            else:
                self._single(item, table, lifter)

    def _single(self, item: PulledRow, table: LiveTable | None, lifter: Lifter) -> None:
        if table is None:
            self._park(item, Reason.UNKNOWN_COLLECTION)
            return
        try:
            landings = self._landings(item, table, lifter)
        except NewerShape:
            self._park(item, Reason.NEWER_SHAPE)
        except NoWay as error:
            self._quarantine(item, Rejection(code=NO_WAY_UP, text=error.why))
        except Exception as error:
            why = rejection_for(error)
            if why is None:
                raise
            self._quarantine(item, why)
        else:
            self._singles += landings

    def _landings(self, item: PulledRow, table: LiveTable, lifter: Lifter) -> list[Landing]:
        edits = self._edits.get((item.collection, item.key), [])
        if item.body is None:
            return [Landing(table=table, item=item, key=item.key, body=None, edits=edits)]
        if item.shape_version == table.shape_text and not item.patches:
            self._check_key(item, table, item.body)
            return [Landing(table=table, item=item, key=item.key, body=item.body, edits=edits)]
        made = lifted(item, lifter=lifter, owner=self._owner)
        landings = [
            Landing(table=table, item=item, key=str(body.get(table.key, item.key)), body=body, lifted=made)
            for body in made.rows
        ]
        return self._uneven(item, table, landings, made, edits)

    def _uneven(
        self, item: PulledRow, table: LiveTable, landings: list[Landing], made: Lifted, edits: list[Edit]
    ) -> list[Landing]:
        """One row of the same key takes its edits along. Where a migration makes others of it, or none, it goes."""
        others = [landing for landing in landings if landing.key != item.key]
        kept = [landing for landing in landings if landing.key == item.key]
        # What another device has made of it before stays as it is.
        new = [landing for landing in others if table.read(self._owner, landing.key) is None]
        for landing in new:
            landing.others = True
        if not kept:
            kept = [Landing(table=table, item=item, key=item.key, body=None, lifted=made, others=bool(others))]
        for landing in kept:
            landing.edits = edits
        return [*kept, *new]

    def _check_key(self, item: PulledRow, table: LiveTable, body: Fields) -> None:
        if table.key in body and str(body[table.key]) != item.key:
            raise Quarantine("says of itself that it has another key", field=table.key)

    # Writing.

    def _land(self) -> None:
        landed = None if self._one_by_one else self._together()
        if landed is None:
            landed = self._land_one_by_one()
        self._remember_many()
        for landing in landed:
            self._remember(landing)

    def _together(self) -> list[Landing] | None:
        """All at once; None where one of them stands in the way, and nothing was written."""
        marks = self._marks()
        try:
            with self._store.savepoint("page"):
                landed = self._land_together()
                self._check_references()
                return landed
        except Exception as error:
            if self._ended():
                raise _RowEndedTransaction(None, _why(error)) from error
            if _why_or_none(error) is None:
                raise
            self._back_to(marks)
            return None

    def _ended(self) -> bool:
        return not self._store.connection.in_transaction

    def _land_together(self) -> list[Landing]:
        # What goes makes room for what comes.
        self._singles.sort(key=lambda landing: landing.body is not None)
        deleted = 0
        for landing in self._singles:
            if landing.body is not None:
                break
            deleted += 1
            self._write(landing)
        for name, rows in self._many.items():
            self._write_many(self._tables[name], rows)
        for landing in self._singles[deleted:]:
            self._write(landing)
        return self._singles

    def _write_many(self, table: LiveTable, rows: list[tuple[Any, ...]]) -> None:
        try:
            with self._store.savepoint("many"):
                table.write_many(rows)
        except TypeError:
            if table.holds_blobs or self._ended():
                raise
            table.holds_blobs = True
            table.write_many(rows)

    def _check_references(self) -> None:
        """SQLite counts the references that lead nowhere by itself (sqlite.org/c3ref/c_dbstatus_options.html)."""
        if self._store.has_dangling_references():
            raise ConstraintError("FOREIGN KEY constraint failed")

    def _land_one_by_one(self) -> list[Landing]:
        """Each row in a savepoint; one that stands against another is tried again after the others."""
        waiting = [*self._singles, *self._many_as_singles()]
        landed: list[Landing] = []
        self._many.clear()
        self._many_items.clear()
        while waiting:
            left: list[tuple[Landing, Exception]] = []
            for landing in waiting:
                error = self._tried([landing])
                if error is None:
                    landed.append(landing)
                elif is_clash(error):
                    left.append((landing, error))
                else:
                    self._quarantine(landing.item, _why(error))
            if len(left) == len(waiting):
                return [*landed, *self._last_try(left)]
            waiting = [landing for landing, _ in left]
        return landed

    def _many_as_singles(self) -> Iterable[Landing]:
        for name, items in self._many_items.items():
            for item in items:
                yield Landing(table=self._tables[name], item=item, key=item.key, body=item.body)

    def _marks(self) -> tuple[int, int, int]:
        return self.applied.conflicts, self.applied.parked, len(self.applied.items)

    def _back_to(self, marks: tuple[int, int, int]) -> None:
        """What was counted since was undone."""
        self.applied.conflicts, self.applied.parked, items = marks
        del self.applied.items[items:]

    def _tried(self, landings: list[Landing], *, making_room: bool = False) -> Exception | None:
        marks = self._marks()
        try:
            with self._store.savepoint("row"):
                for landing in landings if making_room else ():
                    landing.table.delete(self._owner, landing.key)
                for landing in landings:
                    self._write(landing)
                self._check_references()
        except Exception as error:
            if self._ended():
                row = landings[0].item
                raise _RowEndedTransaction((row.collection, row.key), _why(error)) from error
            if _why_or_none(error) is None:
                raise
            self._back_to(marks)
            return error
        return None

    def _last_try(self, left: list[tuple[Landing, Exception]]) -> list[Landing]:
        """Rows that refer to each other, or have exchanged what is unique, can only come together."""
        landings = [landing for landing, _ in left]
        if len(landings) > 1:
            if self._tried(landings) is None:
                return landings
            swaps = all(landing.table.stands_alone for landing in landings)
            if swaps and self._tried(landings, making_room=True) is None:
                return landings
        for landing, error in left:
            if str(error).startswith("UNIQUE"):
                self._park(landing.item, Reason.CLASH)
            else:
                reason = Reason.CHILDREN_LEFT if landing.body is None else Reason.PARENT_MISSING
                self._park(landing.item, reason)
        return []

    # One row.

    def _write(self, landing: Landing) -> None:
        """The row, and what the edits that wait for it have become."""
        table, key, body = landing.table, landing.key, landing.body
        if landing.edits:
            outcome = self._merge(landing)
            body = outcome.row
            write_edits(self._store, outcome)
        if body is None:
            table.delete(self._owner, key)
        else:
            table.write(self._owner, key, body)
        if landing.lifted is not None:
            self._hand_back(landing, landing.lifted)

    def _merge(self, landing: Landing) -> Merged:
        table = landing.table
        server = landing.body
        if server is not None:
            server = {name: value for name, value in server.items() if name in table.known}
        local = table.read(self._owner, landing.key)
        collection = self._applier.registry.collections.get(table.name)
        policy = policy_of(table.merge_policy, None if collection is None else collection.merge)
        outcome = decide(server, local=local, edits=landing.edits, policy=policy, collection=table.name)
        if outcome.set_aside and local is not None:
            self._set_aside_edited(landing, local)
        self._record(outcome.conflicts, landing, policy.name)
        return outcome

    def _record(self, conflicts: tuple[Conflict, ...], landing: Landing, policy: str) -> None:
        version = landing.item.version
        record_conflicts(self._store, conflicts, owner=self._owner, row=landing.row, policy=policy, version=version)
        self.applied.conflicts += len(conflicts)

    def _set_aside_edited(self, landing: Landing, local: Fields) -> None:
        """The whole local row, with the edits that another device's deletion has made void."""
        why = Rejection(code=DELETED_AT_CLOUD, text="another device deleted the row while it was edited here")
        self.applied.items.append(self._set_aside(landing.item, local, why, shape=landing.table.shape_text))

    def _hand_back(self, landing: Landing, made: Lifted) -> None:
        item = landing.item
        self._store.run("pull", "drop_lifts", owner=self._owner, collection=item.collection, row_key=item.key)
        if landing.others:
            if landing.key == item.key:
                self._queue_changes(item, landing, made)
            return
        if made.handed_back is not None and landing.key == item.key:
            self._queue(
                "queue_lift",
                item,
                set_json=json.dumps(made.handed_back.body),
                lifts=json.dumps(made.handed_back.patches),
                base_version=item.version,
                shape_version=made.handed_back.shape_version,
            )
        for refused in made.refused:
            self.applied.items.append(
                self._set_aside(item, refused.patch.set, refused.why, shape=refused.patch.shape_version)
            )
        if made.waits is not None:
            park(self._store, item, owner=self._owner, reason=Reason.NO_WAY_DOWN)
            self.applied.parked += 1

    def _queue_changes(self, item: PulledRow, landing: Landing, made: Lifted) -> None:
        """The old row goes and those that it became come, at the cloud as here; twice is once."""
        table = landing.table
        new = [
            {"kind": "put", "collection": table.name, "key": str(body[table.key]), "set": dict(body), "before": None}
            for body in made.rows
        ]
        gone = {"kind": "delete", "collection": table.name, "key": item.key, "set": None, "before": item.body}
        self._queue(
            "queue_changes",
            item,
            set_json=json.dumps([*new, gone]),
            base_version=item.version,
            shape_version=table.shape_text,
        )

    def _queue(self, name: str, item: PulledRow, **values: Any) -> None:
        group_id = self._store.value("outbox", "advance_groups", count=2) - 1
        self._store.run(
            "pull",
            name,
            owner=self._owner,
            collection=item.collection,
            row_key=item.key,
            group_id=group_id,
            now=self._now,
            **values,
        )

    # What is known of them afterwards.

    def _remember_many(self) -> None:
        owner, position = self._owner, self._position
        epoch, resync = position.server_epoch, position.resync
        remember = statement("pull", "remember_row")
        for name, items in self._many_items.items():
            self._store.connection.executemany(
                remember,
                [(name, owner, item.key, item.version, item.shape_version, epoch, 0, resync, None) for item in items],
            )
            self.applied.rows += len(items)
        self._came_in([item for items in self._many_items.values() for item in items])

    def _remember(self, landing: Landing) -> None:
        item, body = landing.item, landing.body
        self.applied.rows += 1
        if landing.key != item.key:
            return
        extra = None
        if body is not None and not body.keys() <= landing.table.known:
            extra = json.dumps({name: value for name, value in body.items() if name not in landing.table.known})
        self._store.run("pull", "remember_row", **self._facts(item), extra=extra)
        if landing.lifted is None or not (landing.lifted.waits or landing.lifted.refused):
            self._came_in([item])

    def _facts(self, item: PulledRow) -> dict[str, Any]:
        return {
            "collection": item.collection,
            "owner": self._owner,
            "row_key": item.key,
            "version": item.version,
            "shape_version": item.shape_version,
            "server_epoch": self._position.server_epoch,
            "deleted": item.body is None,
            "resync": self._position.resync,
        }

    def _saw(self, item: PulledRow) -> None:
        self._store.run("pull", "saw_row", **self._facts(item))

    def _came_in(self, items: Sequence[PulledRow]) -> None:
        """Earlier copies of these rows wait for nothing any more."""
        if self._store.value("pull", "any_parked", owner=self._owner):
            for item in items:
                unpark(self._store, item, owner=self._owner)
        if self._store.value("pull", "any_pulled_aside", owner=self._owner):
            for item in items:
                row = {"collection": item.collection, "owner": self._owner, "row_key": item.key}
                self._store.run("pull", "resolve_pulled", **row, now=self._now)

    # What is not taken.

    def _park(self, item: PulledRow, reason: Reason) -> None:
        park(self._store, item, owner=self._owner, reason=reason)
        self._saw(item)
        self.applied.parked += 1

    def _quarantine(self, item: PulledRow, why: Rejection) -> None:
        body = item.body if item.body is not None else {}
        self.applied.items.append(self._set_aside(item, body, why, shape=item.shape_version))
        self._saw(item)
        unpark(self._store, item, owner=self._owner)

    def _set_aside(self, item: PulledRow, body: Fields, why: Rejection, *, shape: str) -> int:
        """A whole row as the quarantine desk reads it, with its owner."""
        collection = self._applier.registry.collections.get(item.collection)
        owner_column = None if collection is None else collection.owner
        whole = dict(body) if owner_column is None else {**body, owner_column: self._owner}
        values = {
            "owner": self._owner,
            "collection": item.collection,
            "row_key": item.key,
            "body": json.dumps(whole),
            "error_code": why.code,
            "error_text": why.text,
            "field": why.field,
            "shape_version": shape,
        }
        if why.code != DELETED_AT_CLOUD:
            again: int | None = self._store.value("pull", "set_pulled_aside_again", **values)
            if again is not None:
                return again
        item_id: int = self._store.value("pull", "set_pulled_aside", **values, now=self._now)
        return item_id


def _why_or_none(error: Exception) -> Rejection | None:
    """The reason, where a row can be blamed; None for the store's and the machine's failures."""
    if isinstance(error, TypeError | OverflowError | UnicodeEncodeError):
        return Rejection(code="value_unreadable", text="holds a value that no column can hold")
    return rejection_for(error)


def _why(error: Exception) -> Rejection:
    why = _why_or_none(error)
    if why is None:
        raise error
    return why


__all__ = ["Applied", "Applier", "Landing", "Position", "move_cursor"]
