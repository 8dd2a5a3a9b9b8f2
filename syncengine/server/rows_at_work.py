"""A user's rows while one push works on them: read together, changed in memory group by group, written together."""

from collections.abc import Iterable

from syncengine.server.judge import GROUP_TOO_LARGE, EntryRejected
from syncengine.server.rules import Change, Judged, Patch, Place, Row, judged, needs_body
from syncengine.server.storage import BODY_READ_AHEAD_BYTES_MAX, UNREAD, Storage, WrittenRow
from syncengine.vocabulary import UserId

WAITING_BYTES_MAX = 16 * 1024 * 1024
"""Rows of whole groups that wait to be written; more are written in between, in the same transaction."""


class RowsAtWork:
    """Begin with the storage's transaction open; end with `write`, or leave it to a rollback."""

    def __init__(
        self, storage: Storage, user: UserId, *, places: Iterable[Place], head: int, group_bytes_max: int
    ) -> None:
        self.head = head
        """The highest version given so far."""
        self._group_bytes_max = group_bytes_max
        self._storage = storage
        self._user = user
        self._rows: dict[Place, Row] = storage.read_rows(user, places=places)
        self._patches: dict[Place, tuple[Patch, ...]] = {
            place: row.patches for place, row in self._rows.items() if row.patches
        }
        self._group: dict[Place, Row] = {}
        self._group_bytes = 0
        self._waiting: dict[Place, WrittenRow] = {}
        self._waiting_bytes = 0
        self._head_before_group = head

    def version(self, place: Place) -> int:
        """Of the row or its tombstone; 0 for a row that never was."""
        row = self._row(place)
        return row.version if row else 0

    def judge(self, place: Place, change: Change) -> Judged:
        """What a change makes of a row, without doing it yet. Raises EntryRejected."""
        row = self._row(place)
        if row is not None and row.body is UNREAD and needs_body(row, change):
            row = row._replace(body=self._storage.body(self._user, place=place))
        return judged(row, change, version=self.head + 1)

    def apply(self, place: Place, change: Change) -> Judged:
        """The same, done: the row counts as changed by the present group. Raises EntryRejected."""
        said = self.judge(place, change)
        if said.row is not None:
            self.head = said.row.version
            self._group[place] = said.row
            self._group_bytes += len(said.row.body or "")
            if self._group_bytes > self._group_bytes_max:
                raise EntryRejected(GROUP_TOO_LARGE)
        return said

    def keep_group(self) -> None:
        """What the group changed takes effect, all of it at the group's last version."""
        for place, row in self._group.items():
            self._rows[place] = row
            self._waiting[place] = WrittenRow(place, row, self.head)
        self._waiting_bytes += self._group_bytes
        self._begin_group()
        if self._waiting_bytes > WAITING_BYTES_MAX:
            self.write()

    def undo_group(self) -> None:
        """Nothing of the group happened; its versions are given to others."""
        self.head = self._head_before_group
        self._begin_group()

    def write(self) -> None:
        """Everything that whole groups changed, to the database."""
        self._storage.write_rows(self._user, rows=self._waiting.values())
        touched = [
            place for place, written in self._waiting.items() if written.row.patches != self._patches.get(place, ())
        ]
        self._storage.write_patches(self._user, patches={place: self._rows[place].patches for place in touched})
        for place in self._waiting:
            row = self._rows[place]
            self._patches[place] = row.patches
            if row.body is not None and len(row.body) > BODY_READ_AHEAD_BYTES_MAX:
                self._rows[place] = row._replace(body=UNREAD)
        self._waiting = {}
        self._waiting_bytes = 0

    def _begin_group(self) -> None:
        self._group = {}
        self._group_bytes = 0
        self._head_before_group = self.head

    def _row(self, place: Place) -> Row | None:
        return self._group.get(place) or self._rows.get(place)
