"""What both databases are asked in the same words: statements of one name, with the same values in and out."""

import random
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from syncengine.clock import Clock, iso
from syncengine.server.receipts import Receipt
from syncengine.server.rules import Patch, Place, Row
from syncengine.server.storage import BODY_READ_AHEAD_BYTES_MAX, UNREAD, Lane, Tenant, Tombstone, UserUnknown
from syncengine.server.stored_forms import Columns, patches_by_place, receipts_by_sequence
from syncengine.vocabulary import UserId


class RowQuestions(ABC):
    """Part of a Transaction. A database says how its statements are run and how lists are handed to them."""

    def __init__(self, *, clock: Clock, chance: random.Random) -> None:
        self._clock = clock
        self._chance = chance

    @abstractmethod
    def _ask(self, name: str, **binds: Any) -> list[Columns]:
        """The rows that a statement gives."""

    @abstractmethod
    def _do(self, name: str, **binds: Any) -> None:
        """Run a statement; whatever it gives is not looked at."""

    @abstractmethod
    def _listed(self, keys: Collection[str]) -> Any:
        """Keys as a statement takes them."""

    @abstractmethod
    def _at(self, places: Collection[Place]) -> dict[str, Any]:
        """Places as statements take them: one or more values by name. There has to be one."""

    # The user.

    def tenant(self, user: UserId) -> Tenant:
        """Where the user's rows stand. Raises UserUnknown."""
        found = self._ask("tenant", tenant=user)
        if not found:
            raise UserUnknown
        server_epoch, epoch_head, head, floor, cloud_version, rows, size_bytes = found[0]
        return Tenant(
            server_epoch=server_epoch,
            epoch_head=epoch_head,
            head=head,
            floor=floor,
            cloud_version=cloud_version,
            rows=rows,
            bytes=size_bytes,
        )

    def write_tenant(
        self, user: UserId, *, head: int, cloud_version: str | None, rows_more: int = 0, bytes_more: int = 0
    ) -> None:
        """How far a push has brought the user's rows, and how many more they are, or fewer."""
        self._do(
            "write_tenant",
            tenant=user,
            row_version=head,
            cloud_version=cloud_version,
            rows_more=rows_more,
            bytes_more=bytes_more,
        )

    def raise_epoch(self, user: UserId, *, above: int = 0) -> None:
        """Begin another life of this user's rows: every cursor of the old one is worthless from now on.

        Its number is higher than that of the old one and than `above`, whatever the clock says.
        """
        self._do("raise_epoch", tenant=user, server_epoch=max(self._clock.now_ms(), above + 1))

    # Rows.

    def read_rows(self, user: UserId, *, keys: Mapping[str, Collection[str]]) -> dict[Place, Row]:
        """The rows that are there of these keys by collection, all in one go; large bodies come as UNREAD."""
        rows: dict[Place, Row] = {}
        with_patches: list[Place] = []
        for collection, asked in keys.items():
            for key, version, shape, size_bytes, patches, writer, stood_on, body in self._ask(
                "rows_at",
                tenant=user,
                collection=collection,
                keys=self._listed(asked),
                body_bytes_max=BODY_READ_AHEAD_BYTES_MAX,
            ):
                known = UNREAD if body is None and size_bytes else body
                rows[collection, key] = Row(version, shape, known, (), writer, stood_on)
                if patches:
                    with_patches.append((collection, key))
        if with_patches:
            found = self._ask("patches_at", tenant=user, **self._at(with_patches))
            for place, beside in patches_by_place(found).items():
                rows[place] = rows[place]._replace(patches=beside)
        return rows

    def bytes_of(self, user: UserId, *, places: Sequence[Place]) -> dict[Place, int]:
        """Of living rows: how large each is with what lies beside it, without reading it."""
        found = self._ask("bytes_of", tenant=user, **self._at(places))
        return {(collection, key): size_bytes for collection, key, size_bytes in found}

    def body(self, user: UserId, *, place: Place) -> str:
        """The JSON of a living row."""
        body: str = self._ask("body", tenant=user, collection=place[0], key=place[1])[0][0]
        return body

    # Changes.

    def patches_between(
        self, user: UserId, *, after: tuple[int, int], last: tuple[int, int]
    ) -> dict[Place, tuple[Patch, ...]]:
        """What lies beside the rows that `changes_after` gives from one place to another."""
        return patches_by_place(
            self._ask(
                "patches_between",
                tenant=user,
                group_version=after[0],
                version=after[1],
                last_group_version=last[0],
                last_version=last[1],
            )
        )

    def mark_at(self, user: UserId, *, version: int) -> int:
        """The mark of the commit that gave this version; 0 for none."""
        found = self._ask("mark_at", tenant=user, version=version) if version else ()
        return int(found[0][0]) if found else 0

    def write_mark(self, user: UserId, *, last_version: int) -> None:
        """A fresh mark, by chance, for the commit that gives the versions up to this one."""
        self._do("write_mark", tenant=user, last_version=last_version, mark=self._chance.getrandbits(63))

    # Retention.

    def old_tombstones(self, user: UserId, *, before_ms: int, rows_max: int) -> list[Tombstone]:
        """Some of what was deleted before a moment, oldest first."""
        found = self._ask("old_tombstones", tenant=user, before=iso(before_ms), rows_max=rows_max)
        return [Tombstone((collection, key), group_version) for collection, key, group_version in found]

    # Receipts.

    def device_sequence(self, lane: Lane) -> int:
        """The highest sequence used up; 0 for none. All are, in an epoch that has ended."""
        found = self._ask("device_sequence", tenant=lane.user, device=lane.device, epoch=lane.epoch)
        return int(found[0][0])

    def end_epochs(self, lane: Lane) -> None:
        """All numbers of this lane, and of lower epochs of its device, are used up; what was answered stays."""
        self._do("end_epochs", tenant=lane.user, device=lane.device, epoch=lane.epoch)

    def receipts(self, lane: Lane, *, first: int, last: int) -> dict[int, Receipt]:
        """Of each sequence from `first` to `last` its own, by sequence."""
        found = self._ask("receipts", tenant=lane.user, device=lane.device, epoch=lane.epoch, first=first, last=last)
        return receipts_by_sequence(found, first=first, last=last)

    def _now(self) -> str:
        return iso(self._clock.now_ms())
