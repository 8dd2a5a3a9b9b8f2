"""Rows of a page whose tables have triggers of the app, and what those do in answer.

The page is written with capture on. Of the page's own rows the page decides: what was captured of them is dropped,
and they end as the cloud says. What triggers did to other rows stays, and is sent like an edit of the app.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncengine.outbox.capture import MayFire
from syncengine.sync.calls import PulledRow
from syncengine.sync.kin import readable
from syncengine.sync.landing import Landing, Landings, why_of
from syncengine.sync.live_table import LiveTable
from syncengine.sync.merge import Fields
from syncengine.sync.page_record import PageRecord
from syncengine.sync.pending import Key

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class _Captured:
    """An entry of the outbox. `row` None: of somebody else's row. `by_other`: a trigger of another row's wrote it."""

    entry_id: int
    row: Key | None
    by_other: bool


class AnsweredLandings(Landings):
    """What one page brings to a store in which the app has triggers. `fires`: which may, when these are written?"""

    def __init__(
        self,
        store: "Store",
        registry: "MigrationRegistry",
        *,
        owner: str,
        record: PageRecord,
        fires: Callable[[tuple[str, ...]], MayFire],
    ) -> None:
        super().__init__(store, registry, owner=owner, record=record)
        self._fires = fires
        self._is_captured = False
        self._item: PulledRow | None = None
        self._puts: list[Landing] = []
        """The rows of the page as they are to be, once their edits are merged; the last one of each counts."""
        self._captured: list[_Captured] = []
        self._newest_known: int | None = None
        """An entry behind which triggers have written nothing yet."""

    def is_captured(self, involved: tuple[str, ...]) -> bool:
        return self._fires(involved).app

    def write(self, *, one_by_one: bool) -> None:
        self._is_captured = self._fires(tuple(sorted(self.collections))).app
        if not self._is_captured:
            super().write(one_by_one=one_by_one)
            return
        self.singles += self._many_as_singles()
        self.many.clear()
        super().write(one_by_one=one_by_one)
        self._sort_captured()

    # One row.

    def _write(self, landing: Landing) -> None:
        self._item = landing.item
        super()._write(landing)

    def _put(self, table: LiveTable, key: str, body: Fields | None) -> None:
        """A row that is so already is not written: the echo of an edit would fire triggers on what nobody edited."""
        if not self._is_captured:
            super()._put(table, key, body)
            return
        assert self._item is not None
        self._puts.append(Landing(table=table, item=self._item, key=key, body=body))
        if not (table.has_rules_of_app and table.says(self._owner, key, body)):
            self._put_and_note(table, key, body)

    def _put_and_note(self, table: LiveTable, key: str, body: Fields | None) -> None:
        row = (table.name, key)
        if self._newest_known is None:
            self._newest_known = int(self._store.value("outbox", "newest"))
        super()._put(table, key, body)
        written = self._note_captured(self._newest_known, row)
        if body is None or written > 1:
            self._insist(table, key, body)
            self._note_captured(self._newest_known, row)

    def _note_captured(self, newest: int, row: Key) -> int:
        """How often the row itself was changed."""
        rows = [
            (entry_id, (collection, readable(key)) if owner == self._owner else None)
            for entry_id, owner, _, collection, key, *_ in self._store.rows("pull", "captured_since", after=newest)
        ]
        self._captured += [_Captured(entry_id=entry_id, row=of, by_other=of != row) for entry_id, of in rows]
        self._newest_known = max((entry_id for entry_id, _ in rows), default=newest)
        return sum(of == row for _, of in rows)

    def _tried(self, landings: list[Landing], *, making_room: bool = False) -> Exception | None:
        puts, captured, self._item = len(self._puts), len(self._captured), landings[0].item
        error = super()._tried(landings, making_room=making_room)
        if error is not None:
            self._newest_known = None  # the numbers behind the last good one are given anew
            del self._puts[puts:], self._captured[captured:]
        return error

    # All of them.

    def _write_all(self) -> None:
        super()._write_all()
        for landing in self._changed_by_others():
            self._put(landing.table, landing.key, landing.body)
        with self._store.without_triggers():
            for landing in self._changed_by_others():
                self._put(landing.table, landing.key, landing.body)

    def _one_by_one(self) -> list[Landing]:
        landed = super()._one_by_one()
        refused = self._put_again()
        with self._store.without_triggers():
            refused |= self._put_again()
        return [landing for landing in landed if (landing.table.name, landing.key) not in refused]

    def _put_again(self) -> set[Key]:
        """Rows that cannot be put again as the cloud says; they are set aside."""
        refused: set[Key] = set()
        for landing in self._changed_by_others():
            error = self._tried([landing])
            if error is not None:
                self._record.refuse(landing.item, why_of(error))
                refused.add((landing.table.name, landing.key))
        return refused

    def _changed_by_others(self) -> list[Landing]:
        """Rows of the page that are not as the page says, as a trigger of another row has written to them; those that
        go before those that come."""
        if not self._is_captured:
            return []
        wanted = self._wanted()
        touched = dict.fromkeys(each.row for each in self._captured if each.by_other and each.row in wanted)
        found = [wanted[row] for row in touched if row is not None]
        changed = [each for each in found if not each.table.says(self._owner, each.key, each.body)]
        return sorted(changed, key=lambda landing: landing.body is not None)

    def _wanted(self) -> dict[Key, Landing]:
        return {(landing.table.name, landing.key): landing for landing in self._puts}

    def _sort_captured(self) -> None:
        wanted = self._wanted()
        own = [each.entry_id for each in self._captured if each.row in wanted]
        others = [each for each in self._captured if each.row not in wanted]
        self._store.run("pull", "drop_captured", entries=json.dumps(own))
        if others:
            self._store.run("pull", "part_captured", entries=json.dumps([each.entry_id for each in others]))
            self._store.run("outbox", "close_group")
        self._record.applied.collections.update(each.row[0] for each in others if each.row is not None)


__all__ = ["AnsweredLandings"]
