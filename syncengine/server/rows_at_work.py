"""A user's rows while one push works on them: read together, changed in memory group by group, written together."""

from collections.abc import Collection, Mapping

from syncengine.server.judge import GROUP_TOO_LARGE, EntryRejected
from syncengine.server.rules import Change, Judged, Patch, Place, Row, judged, needs_body
from syncengine.server.storage import BODY_READ_AHEAD_BYTES_MAX, UNREAD, RowStorage
from syncengine.vocabulary import UserId

WAITING_BYTES_MAX = 16 * 1024 * 1024
"""Rows of whole groups that wait to be written; more are written in between, in the same transaction."""


class RowsAtWork:
    """Begin with the storage's transaction open; end with `write`, or leave it to a rollback."""

    def __init__(
        self,
        storage: RowStorage,
        user: UserId,
        *,
        keys: Mapping[str, Collection[str]],
        head: int,
        group_bytes_max: int,
    ) -> None:
        """`keys`, by collection, are of all rows that the push is about."""
        self.head = head
        """The highest version given so far."""
        self._group_bytes_max = group_bytes_max
        self._storage = storage
        self._user = user
        self._rows: dict[Place, Row] = storage.read_rows(user, keys=keys)
        self._patches: dict[Place, tuple[Patch, ...]] = {
            place: row.patches for place, row in self._rows.items() if row.patches
        }
        self._has_patches = bool(self._patches)
        self._group: dict[Place, Row] = {}
        self._group_bytes = 0
        self._waiting: dict[Place, int] = {}  # by group version
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
            self._waiting[place] = self.head
            self._has_patches |= bool(row.patches)
        self._waiting_bytes += self._group_bytes
        self._begin_group()
        if self._waiting_bytes > WAITING_BYTES_MAX:
            self._write_early()

    def is_new(self, place: Place) -> bool:
        """Whether there is neither this row nor a tombstone of it. Between groups."""
        return place not in self._rows

    def keep_alone(self, place: Place, row: Row) -> None:
        """A row that is all that its group changes takes effect. Raises EntryRejected."""
        size_bytes = len(row.body or "")
        if size_bytes > self._group_bytes_max:
            raise EntryRejected(GROUP_TOO_LARGE)
        self.head = self._head_before_group = row.version
        self._rows[place] = row
        self._waiting[place] = row.version
        if row.patches:
            self._has_patches = True
        self._waiting_bytes += size_bytes
        if self._waiting_bytes > WAITING_BYTES_MAX:
            self._write_early()

    def undo_group(self) -> None:
        """Nothing of the group happened; its versions are given to others."""
        self.head = self._head_before_group
        self._begin_group()

    def write(self) -> None:
        """Everything that whole groups changed, to the database."""
        self._storage.write_rows(self._user, rows=self._rows, group_versions=self._waiting)
        if self._has_patches:
            self._write_patches()
        self._waiting = {}
        self._waiting_bytes = 0

    def _write_patches(self) -> None:
        rows = self._rows
        beside = {
            place: rows[place].patches for place in self._waiting if rows[place].patches or place in self._patches
        }
        self._storage.write_patches(
            self._user,
            patches={place: each for place, each in beside.items() if each != self._patches.get(place, ())},
        )
        self._patches |= beside

    def _write_early(self) -> None:
        """More is to come; what was written and is large need not stay in memory."""
        written = self._waiting
        self.write()
        for place in written:
            row = self._rows[place]
            if row.body is not None and len(row.body) > BODY_READ_AHEAD_BYTES_MAX:
                self._rows[place] = row._replace(body=UNREAD)

    def _begin_group(self) -> None:
        self._group = {}
        self._group_bytes = 0
        self._head_before_group = self.head

    def _row(self, place: Place) -> Row | None:
        return self._group.get(place) or self._rows.get(place)
