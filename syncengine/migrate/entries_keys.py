"""Rows whose keys change while the cloud knows them: what follows from it is queued, the same on every device.

A split, a merge or a drop changes which keys exist. New keys are derived from old rows alone, so two devices say the
same; what another device has said before is left as it is there.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from syncengine.local.identifiers import quoted
from syncengine.migrate.entries_body import Values
from syncengine.migrate.entries_chain import Change
from syncengine.migrate.entries_form import HAS_NEVER_BEEN, members_json
from syncengine.migrate.entries_made import Making, key_text
from syncengine.migrate.entries_units import PAGE_ROWS, RowName
from syncengine.migrate.rejection import Rejection

if TYPE_CHECKING:
    from syncengine.local.store import Row, Store
    from syncengine.migrate.rebuild import RebuildingExecutor
    from syncengine.migrate.work import Work


def queue_new_keys(executor: "RebuildingExecutor", work: "Work", making: Making, *, newest: int) -> int:
    """Queue what the cloud has to hear of changed keys; how many entries. `newest` is the last entry before these."""
    if executor.keeps_keys:
        return 0
    keys = _NewKeys(executor, work, making, newest=newest)
    return keys.of_rows() if executor.group_by is None else keys.of_groups(executor.group_by)


class _NewKeys:
    def __init__(self, executor: "RebuildingExecutor", work: "Work", making: Making, *, newest: int) -> None:
        self._store: Store = work.store
        self._executor = executor
        self._work = work
        self._making = making
        self._newest = newest
        self._name = executor.collection
        self._queued = 0

    def of_rows(self) -> int:
        """Row by row, where any key is in one of the two tables alone."""
        if not self._keys_differ():
            return 0
        for page in self._known():
            live = [(owner, key, self._making.live(owner, key)) for owner, key in page]
            for owner in dict.fromkeys(owner for owner, _, _ in live):
                self._of_owner(owner, [(key, row) for of, key, row in live if of == owner and row is not None])
        return self._queued

    def _keys_differ(self) -> bool:
        live, new = quoted(self._name), quoted(self._executor.new_table)
        columns = (self._making.columns.owner, self._making.columns.key)
        same = " AND ".join(f"one.{quoted(name)} = other.{quoted(name)}" for name in columns)
        return any(
            self._store.query(
                f"SELECT 1 FROM {here} AS one WHERE NOT EXISTS (SELECT 1 FROM {there} AS other WHERE {same}) LIMIT 1"
            )
            for here, there in ((live, new), (new, live))
        )

    def _known(self) -> Iterator[list[RowName]]:
        """Each row once that the cloud has, may have, or will get whole."""

        def known(place: dict[str, Any]) -> "list[Row]":
            return self._store.rows("entries", "known_page", **place)

        def unheard(place: dict[str, Any]) -> "list[Row]":
            return self._store.rows("entries", "unheard_page", newest=self._newest, **place)

        for read in (known, unheard):
            last: RowName = ("", "")
            while page := read(
                {"collection": self._name, "owner": last[0], "row_key": last[1], "rows_max": PAGE_ROWS}
            ):
                yield [(str(owner), str(key)) for owner, key in page]
                last = (page[-1][0], page[-1][1])

    def _of_owner(self, owner: str, rows: list[tuple[str, Values]]) -> None:
        outcomes = self._making.made_of([row for _, row in rows], owner=owner)
        for (key, _), made in zip(rows, outcomes, strict=True):
            if isinstance(made, Rejection) or set(made) == {key}:
                continue
            changes = [
                Change(kind="put", key=new, set=row, if_version=HAS_NEVER_BEEN)
                for new, row in made.items()
                if new != key
            ]
            self._queue(owner, key, changes + self._deletes(owner, [key], made.keys()))

    def of_groups(self, group_by: str) -> int:
        """Of a merge every group that the cloud knows a row of: no other device could put it together."""
        done: set[tuple[str, Any]] = set()
        for page in self._known():
            for owner, key in page:
                row = self._making.live(owner, key)
                if row is not None and (owner, row[group_by]) not in done:
                    done.add((owner, row[group_by]))
                    self._of_group(owner, self._making.live_group(owner, group_by, row[group_by]))
        return self._queued

    def _of_group(self, owner: str, members: list[Values]) -> None:
        made = self._making.made_of_group(members, owner=owner)
        if isinstance(made, Rejection):
            return
        keys = [key_text(member[self._making.columns.key]) for member in members]
        changes = [
            Change(kind="put", key=key, set=row, if_version=self._expected(owner, key))
            for key, row in made.items()
            if not self._goes_whole(owner, key)
        ]
        changes += self._deletes(owner, keys, made.keys())
        self._queue(owner, keys[0], changes)

    def _deletes(self, owner: str, keys: list[str], made: Any) -> list[Change]:
        return [
            Change(kind="delete", key=key, if_version=self._expected(owner, key))
            for key in keys
            if key not in made and not self._is_new(owner, key) and self._may_be_there(owner, key)
        ]

    def _is_new(self, owner: str, key: str) -> bool:
        """Another row has taken this key."""
        columns = self._making.columns
        where = f"{quoted(columns.owner)} = ? AND {quoted(columns.key)} = ?"
        sql = f"SELECT 1 FROM {quoted(self._executor.new_table)} WHERE {where}"
        return bool(self._store.query(sql, (owner, key)))

    def _may_be_there(self, owner: str, key: str) -> bool:
        row = {"collection": self._name, "owner": owner, "row_key": key}
        known = self._store.value("entries", "cloud_has", **row)
        return bool(known or self._store.value("entries", "is_queued", newest=self._newest, **row))

    def _goes_whole(self, owner: str, key: str) -> bool:
        """An entry that names only this row waits, and reads it when it is sent."""
        row = {"collection": self._name, "owner": owner, "row_key": key}
        return bool(self._store.value("entries", "goes_whole", newest=self._newest, **row))

    def _expected(self, owner: str, key: str) -> int | None:
        """The version that the change is meant for; any, where edits of this device come before it."""
        row = {"collection": self._name, "owner": owner, "row_key": key}
        if self._store.value("entries", "is_queued", newest=self._newest, **row):
            return None
        version = self._store.value("entries", "version_at_cloud", **row)
        return HAS_NEVER_BEEN if version is None else int(version)

    def _queue(self, owner: str, key: str, changes: list[Change]) -> None:
        if not changes:
            return
        self._store.run(
            "entries",
            "queue",
            owner=owner,
            collection=self._name,
            row_key=key,
            set_json=members_json(changes, collection=self._name),
            shape_version=self._executor.definition.to_version,
            group_id=self._store.value("outbox", "advance_groups", count=2) - 1,
            now_ms=self._store.clock.now_ms(),
        )
        self._queued += 1
