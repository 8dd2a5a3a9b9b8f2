"""The rows of a page on their way into their tables: all at once, or one by one where something stands in the way."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from syncengine.local.sqlite_errors import ConstraintError, SQLError
from syncengine.migrate.definition import Quarantine
from syncengine.migrate.rejection import Rejection, rejection_for
from syncengine.outbox.consequences import Consequences
from syncengine.outbox.filing import file_entries
from syncengine.outbox.numbering import drain_state
from syncengine.sync.beside import HandedBack, Lifted
from syncengine.sync.calls import PulledRow
from syncengine.sync.live_table import LiveTable, Unforeseen, is_clash
from syncengine.sync.merge import WHOLE_ROW, Conflict, Edit, Fields, Merged
from syncengine.sync.page_record import PageRecord
from syncengine.sync.parking import Reason
from syncengine.sync.pending import Key, decide_pulled, fallen_away, policy_of, take_back_refused, write_edits
from syncengine.sync.resync import tell_again

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry


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
    def is_plain(self) -> bool:
        """A whole row of the present shape, and no more than the table has."""
        body, item, table = self.body, self.item, self.table
        return (
            body is not None
            and self.lifted is None
            and self.key == item.key
            and item.shape_version == table.shape_text
            and body.keys() <= table.known
        )


class PageUndone(Exception):
    """The transaction of the page has to be undone, and the page written anew: `one_by_one`, or together again.

    `refused`: the row that SQLite undid the transaction for, as RAISE(ROLLBACK) in a trigger does, where it is known.
    """

    def __init__(self, refused: dict[Key, Rejection], *, one_by_one: bool = True) -> None:
        super().__init__("a page of rows is written anew")
        self.refused = refused
        self.one_by_one = one_by_one


class Landings:
    """What one page brings. `many` are whole rows of the present shape that nobody has edited here.

    Together they are written without savepoints: for each of these SQLite keeps a copy of every page of the file that
    changes in it (sqlite.org/tempfiles.html, "Statement Journal Files"). Nearly every page of rows goes through.
    """

    def __init__(self, store: "Store", registry: "MigrationRegistry", *, owner: str, record: PageRecord) -> None:
        self._store = store
        self._registry = registry
        self._owner = owner
        self._record = record
        self._tables: dict[str, LiveTable] = {}
        self.many: dict[str, list[PulledRow]] = defaultdict(list)
        self.singles: list[Landing] = []

    @cached_property
    def _doubtful_to(self) -> int:
        """Up to which entry another copy of this store may have sent them; the same for the whole page."""
        return drain_state(self._store, self._owner).doubtful_to

    @cached_property
    def _consequences(self) -> Consequences:
        """By the foreign keys, which are the same for the whole page."""
        return Consequences(self._store)

    def room_for(self, table: LiveTable) -> list[PulledRow]:
        """A list to put many rows in."""
        self._tables[table.name] = table
        return self.many[table.name]

    def add(self, landings: Iterable[Landing]) -> None:
        """Rows that are looked at one by one."""
        self.singles += landings

    def leave_out(self, landings: Iterable[Landing]) -> None:
        """They are not written now."""
        held = set(map(id, landings))
        self.singles = [landing for landing in self.singles if id(landing) not in held]

    def is_captured(self, involved: tuple[str, ...]) -> bool:
        """Whether rows of these collections are written with capture on, and what is captured is looked at."""
        return False

    @property
    def collections(self) -> set[str]:
        """Whose tables are written."""
        return {name for name, rows in self.many.items() if rows} | {one.table.name for one in self.singles}

    def write(self, *, one_by_one: bool) -> None:
        """All of them, with what is known of each afterwards. Inside the page's transaction, with capture off."""
        landed = self._one_by_one() if one_by_one else self._together()
        for name, items in self.many.items():
            if items:
                self._record.came_together(self._tables[name], items)
        together: dict[str, list[PulledRow]] = defaultdict(list)
        for landing in landed:
            if landing.is_plain:
                self._tables[landing.table.name] = landing.table
                together[landing.table.name].append(landing.item)
            else:
                self._note(landing)
        for name, items in together.items():
            self._record.came_together(self._tables[name], items)

    def _note(self, landing: Landing) -> None:
        made = landing.lifted
        self._record.applied.rows += 1
        if landing.key == landing.item.key:
            is_whole = made is None or not (made.waits or made.refused)
            self._record.came(landing.table, landing.item, landing.body, is_whole=is_whole)

    # All at once.

    def _together(self) -> list[Landing]:
        """Raises PageUndone where one of them stands in the way."""
        try:
            self._write_all()
            self._check_references()
        except Unforeseen as error:
            raise PageUndone({}, one_by_one=False) from error
        except Exception as error:
            # SQLite does not say of which of many rows it is; one by one each says so of itself.
            if _why_or_none(error) is None and not isinstance(error, SQLError):
                raise
            raise PageUndone({}) from error
        return self.singles

    def _write_all(self) -> None:
        # What goes makes room for what comes.
        for landing in self.singles:
            if landing.body is None:
                self._write(landing)
        for name, items in self.many.items():
            self._tables[name].write_many(self._owner, items)
        for landing in self.singles:
            if landing.body is not None:
                self._write(landing)

    def _check_references(self) -> None:
        """SQLite counts the references that lead nowhere by itself (sqlite.org/c3ref/c_dbstatus_options.html)."""
        if self._store.has_dangling_references():
            raise ConstraintError("FOREIGN KEY constraint failed")

    def _has_ended(self) -> bool:
        return not self._store.connection.in_transaction

    # One by one.

    def _one_by_one(self) -> list[Landing]:
        """Each row in a savepoint; one that stands against another is tried again after the others."""
        waiting = [*self.singles, *self._many_as_singles()]
        landed: list[Landing] = []
        self.many.clear()
        while waiting:
            left: list[tuple[Landing, Exception]] = []
            for landing in waiting:
                error = self._tried([landing])
                if error is None:
                    landed.append(landing)
                elif is_clash(error) or (landing.body is None and isinstance(error, ConstraintError | Quarantine)):
                    left.append((landing, error))
                else:
                    self._record.refuse(landing.item, why_of(error))
            if len(left) == len(waiting):
                return [*landed, *self._last_try(left)]
            waiting = [landing for landing, _ in left]
        return landed

    def _many_as_singles(self) -> Iterable[Landing]:
        for name, items in self.many.items():
            for item in items:
                yield Landing(table=self._tables[name], item=item, key=item.key, body=item.body)

    def _tried(self, landings: list[Landing], *, making_room: bool = False) -> Exception | None:
        marks = self._record.marks()
        try:
            with self._store.savepoint("row"):
                for landing in landings if making_room else ():
                    self._put(landing.table, landing.key, None)
                for landing in landings:
                    self._write(landing)
                self._check_references()
        except Exception as error:
            if self._has_ended():
                item = landings[0].item
                raise PageUndone({(item.collection, item.key): why_of(error)}) from error
            if _why_or_none(error) is None:
                raise
            self._record.back_to(marks)
            return error
        return None

    def _last_try(self, left: list[tuple[Landing, Exception]]) -> list[Landing]:
        """Rows that refer to each other, or have exchanged what is unique, can only come together."""
        landings = [landing for landing, _ in left]
        if len(landings) > 1:
            if self._tried(landings) is None:
                return landings
            stand_alone = all(landing.table.stands_alone for landing in landings)
            if stand_alone and self._tried(landings, making_room=True) is None:
                return landings
        for landing, error in left:
            reason = Reason.CHILDREN_LEFT if self._reaches(landing) else Reason.PARENT_MISSING
            self._record.park(landing.item, Reason.CLASH if str(error).startswith("UNIQUE") else reason)
        return []

    def _reaches(self, landing: Landing) -> bool:
        """Whether other rows may stand in its way because they refer to it."""
        return landing.body is None

    # One row.

    def _write(self, landing: Landing) -> None:
        """The row, and what the edits that wait for it have become."""
        table, body, edits = landing.table, landing.body, landing.edits
        if body is None and landing.lifted is None:
            refused = take_back_refused(self._store, self._owner, (table.name, landing.key))
            edits = self._without_consequences(landing, [*refused, *edits])
        if edits:
            outcome = self._merge(landing, edits)
            body = outcome.row
            write_edits(self._store, outcome)
            if body is not None and not landing.edits:
                # The edit that would make the row again has left the queue.
                tell_again(self._store, self._owner, table, landing.key, waiting=())
        self._put(table, landing.key, body)
        if landing.lifted is not None:
            self._hand_back(landing, landing.lifted)

    def _without_consequences(self, landing: Landing, edits: list[Edit]) -> list[Edit]:
        """Of a deleted row: what the database itself did to it here does not keep it, nor anything else."""
        fallen = fallen_away(self._consequences, landing.table.name, edits) if edits else ()
        if fallen:
            local = landing.table.read(self._owner, landing.key)
            lost = [Conflict(field=WHOLE_ROW, local=local, server=None, winner="server")]
            row = (landing.table.name, landing.key)
            self._record.conflicts(lost, row, policy=landing.table.merge_policy, version=landing.item.version)
            write_edits(self._store, Merged(row=None, dropped=fallen, beaten=frozenset(fallen)))
        return [edit for edit in edits if edit.entry_id not in fallen]

    def _put(self, table: LiveTable, key: str, body: Fields | None) -> None:
        if body is None:
            table.delete(self._owner, key)
        else:
            table.write(self._owner, key, body)

    def _insist(self, table: LiveTable, key: str, body: Fields | None) -> None:
        """A trigger of the app may have changed the row that fired it: it is written again, so that what the app's
        triggers keep of it follows; and without them where they will not let it be."""
        if table.says(self._owner, key, body):
            return
        Landings._put(self, table, key, body)
        if not table.says(self._owner, key, body):
            with self._store.without_triggers():
                Landings._put(self, table, key, body)

    def _merge(self, landing: Landing, edits: list[Edit]) -> Merged:
        table, item, server = landing.table, landing.item, landing.body
        if server is not None:
            server = {name: value for name, value in server.items() if name in table.known}
        local = table.read(self._owner, landing.key)
        collection = self._registry.collections.get(table.name)
        policy = policy_of(table.merge_policy, None if collection is None else collection.merge)
        outcome = decide_pulled(
            self._store,
            item,
            server,
            owner=self._owner,
            local=local,
            edits=edits,
            policy=policy,
            doubtful_to=self._doubtful_to,
        )
        if outcome.set_aside and local is not None:
            # What the cloud had refused before may have been written over here by what it sent since.
            written = {name: value for edit in edits for name, value in (edit.set or {}).items() if name in local}
            self._record.set_aside_edited(item, table, {**local, **written})
        row = (table.name, landing.key)
        self._record.conflicts(outcome.conflicts, row, policy=policy.name, version=item.version)
        return outcome

    # What is handed back to the cloud.

    def _hand_back(self, landing: Landing, made: Lifted) -> None:
        item = landing.item
        if landing.key != item.key:
            return
        file_entries(self._store)
        self._store.run("pull", "drop_lifts", owner=self._owner, collection=item.collection, row_key=item.key)
        if landing.others:
            # The old row goes and those that it became come, at the cloud as here; twice is once.
            gone = {"collection": landing.table.name, "before": None, "kind": "delete", "key": item.key, "set": None}
            self._queue_changes(self._entry(item), landing, [*_puts(item, landing.table, made), gone])
        elif made.handed_back is not None:
            self._queue_lift(landing, made, made.handed_back)
        self._note_replaced(landing, made)
        for refused in made.refused:
            self._record.set_aside(item, refused.patch.set, refused.why, shape=refused.patch.shape_version)
        if made.waits is not None:
            self._record.park_part(item, Reason.NO_WAY_DOWN)

    def _note_replaced(self, landing: Landing, made: Lifted) -> None:
        """Nobody who wrote an older shape could read the row: whoever lifts records what its write went over."""
        row = landing.body or {}
        lost = [
            Conflict(field=name, local=value, server=row[name], winner="server")
            for name, value in made.replaced.items()
            if name in landing.table.known and name in row
        ]
        place = (landing.table.name, landing.key)
        self._record.conflicts(lost, place, policy=landing.table.merge_policy, version=landing.item.version)

    def _queue_lift(self, landing: Landing, made: Lifted, handed_back: HandedBack) -> None:
        """Where the document was split, its other parts come first: the cloud has them in no other document."""
        item, table = landing.item, landing.table
        entry = self._entry(item)
        parts = [{**change, "if_version": 0} for change in _puts(item, table, made) if change["key"] != item.key]
        if parts:
            self._queue_changes(entry, landing, parts)
        self._store.run(
            "pull",
            "queue_lift",
            **entry,
            set_json=json.dumps(handed_back.body),
            lifts=json.dumps(handed_back.patches),
            base_version=item.version,
            shape_version=handed_back.shape_version,
        )

    def _queue_changes(self, entry: dict[str, Any], landing: Landing, changes: list[dict[str, Any]]) -> None:
        self._store.run(
            "pull",
            "queue_changes",
            **entry,
            set_json=json.dumps(changes),
            base_version=landing.item.version,
            shape_version=landing.table.shape_text,
        )

    def _entry(self, item: PulledRow) -> dict[str, Any]:
        """What each entry has, in a group of its own."""
        return {
            "owner": self._owner,
            "collection": item.collection,
            "row_key": item.key,
            "group_id": self._store.value("outbox", "advance_groups", count=2) - 1,
            "now_ms": self._store.clock.now_ms(),
        }


def _puts(item: PulledRow, table: LiveTable, made: Lifted) -> list[dict[str, Any]]:
    """The rows that a document became, as changes of one entry."""
    of_table = {"collection": table.name, "before": None, "kind": "put"}
    return [{**of_table, "key": table.key_of(body, item.key), "set": dict(body)} for body in made.rows]


def _why_or_none(error: Exception) -> Rejection | None:
    """The reason, where a row can be blamed; None for the store's and the machine's failures."""
    if isinstance(error, TypeError | OverflowError | UnicodeEncodeError):
        return Rejection(code="value_unreadable", text="holds a value that no column can hold")
    return rejection_for(error)


def why_of(error: Exception) -> Rejection:
    """The reason to set a row aside; raises the error where no row can be blamed for it."""
    why = _why_or_none(error)
    if why is None:
        raise error
    return why


__all__ = ["Landing", "Landings", "PageUndone", "why_of"]
