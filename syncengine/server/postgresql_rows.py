"""What one transaction asks of PostgreSQL: a push is a few statements, however many its rows."""

import random
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import orjson
import psycopg

from syncengine.clock import Clock, iso
from syncengine.local.statements import statement
from syncengine.server.receipts import Receipt
from syncengine.server.rules import Patch, Place, Row
from syncengine.server.storage import (
    BODY_READ_AHEAD_BYTES_MAX,
    UNREAD,
    ChangedRow,
    Lane,
    PageRow,
    Tenant,
    Tombstone,
)
from syncengine.server.stored_forms import (
    SERVER_SQL,
    Columns,
    json_or_none,
    patches_by_place,
    receipts_by_sequence,
    stored_bytes,
)
from syncengine.vocabulary import UserId

ROWS_AHEAD_MAX = 1_000
BYTES_AHEAD_MAX = 4 * 1024 * 1024
"""So much of a page is in memory at once, and one row more."""


class PostgresqlTransaction:
    """An open transaction on one connection: what it asks is of the user that it was begun for."""

    def __init__(self, connection: psycopg.Connection[Columns], *, clock: Clock, chance: random.Random) -> None:
        self._connection = connection
        self._clock = clock
        self._chance = chance

    # The user.

    def tenant(self, user: UserId) -> Tenant:
        server_epoch, epoch_head, head, floor, cloud_version, rows, size_bytes = self._ask("tenant", tenant=user)[0]
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
        self._do(
            "write_tenant",
            tenant=user,
            row_version=head,
            cloud_version=cloud_version,
            rows_more=rows_more,
            bytes_more=bytes_more,
        )

    def raise_epoch(self, user: UserId) -> None:
        self._do("raise_epoch", tenant=user, server_epoch=self._clock.now_ms())

    # Rows.

    def read_rows(self, user: UserId, *, keys: Mapping[str, Collection[str]]) -> dict[Place, Row]:
        rows: dict[Place, Row] = {}
        with_patches: list[Place] = []
        for collection, asked in keys.items():
            for key, version, shape, size_bytes, patches, writer, stood_on, body in self._ask(
                "rows_at",
                tenant=user,
                collection=collection,
                keys=list(asked),
                body_bytes_max=BODY_READ_AHEAD_BYTES_MAX,
            ):
                known = UNREAD if body is None and size_bytes else body
                rows[collection, key] = Row(version, shape, known, (), writer, stood_on)
                if patches:
                    with_patches.append((collection, key))
        if with_patches:
            collections, of_keys = _columns(with_patches)
            for place, beside in patches_by_place(
                self._ask("patches_at", tenant=user, collections=collections, keys=of_keys)
            ).items():
                rows[place] = rows[place]._replace(patches=beside)
        return rows

    def bytes_of(self, user: UserId, *, places: Sequence[Place]) -> dict[Place, int]:
        collections, keys = _columns(places)
        found = self._ask("bytes_of", tenant=user, collections=collections, keys=keys)
        return {(collection, key): size_bytes for collection, key, size_bytes in found}

    def body(self, user: UserId, *, place: Place) -> str:
        body: str = self._ask("body", tenant=user, collection=place[0], key=place[1])[0][0]
        return body

    def write_rows(self, user: UserId, *, rows: Mapping[Place, Row], group_versions: Mapping[Place, int]) -> None:
        if not group_versions:
            return
        collections, keys = _columns(group_versions)
        versions, shapes, bodies, patches, writers, stood_on = _columns(rows[place] for place in group_versions)
        self._do(
            "write_documents",
            tenant=user,
            collections=collections,
            keys=keys,
            versions=versions,
            group_versions=[*group_versions.values()],
            shape_versions=shapes,
            body_bytes=[stored_bytes(body, patches=each) for body, each in zip(bodies, patches, strict=True)],
            patches=[*map(len, patches)],
            writers=writers,
            stood_on=stood_on,
            bodies=bodies,
            changed_at=self._now(),
        )

    def write_patches(self, user: UserId, *, patches: Mapping[Place, Sequence[Patch]]) -> None:
        if not patches:
            return
        collections, keys = _columns(patches)
        self._do("delete_patches", tenant=user, collections=collections, keys=keys)
        made = [(*place, *each) for place, beside in patches.items() for each in beside]
        if made:
            names = ("collections", "keys", "patches", "kinds", "shape_versions", "bodies")
            self._do("write_patches", tenant=user, **dict(zip(names, _columns(made), strict=True)))

    def page(self, user: UserId, *, collection: str, after: str, limit: int) -> Iterator[PageRow]:
        left = limit
        while left > 0:
            found = self._ask(
                "page", tenant=user, collection=collection, after=after, rows_max=left, bytes_max=BYTES_AHEAD_MAX
            )
            for key, version, shape, body in found:
                yield PageRow(key, version, shape, len(body), orjson.loads(body))
            if not found:
                return
            after = found[-1][0]
            left -= len(found)

    # Changes.

    def changes_after(
        self, user: UserId, *, group_version: int, version: int, rows_likely: int
    ) -> Iterator[ChangedRow]:
        rows_max = max(1, min(rows_likely, ROWS_AHEAD_MAX))
        while found := self._ask(
            "changes_after",
            tenant=user,
            group_version=group_version,
            version=version,
            rows_max=rows_max,
            bytes_max=BYTES_AHEAD_MAX,
        ):
            for row in map(ChangedRow._make, found):
                yield row
                group_version, version = row.group_version, row.version

    def patches_between(
        self, user: UserId, *, after: tuple[int, int], last: tuple[int, int]
    ) -> dict[Place, tuple[Patch, ...]]:
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
        found = self._ask("mark_at", tenant=user, version=version) if version else ()
        return int(found[0][0]) if found else 0

    def write_mark(self, user: UserId, *, last_version: int) -> None:
        self._do("write_mark", tenant=user, last_version=last_version, mark=self._chance.getrandbits(63))

    # Retention.

    def old_tombstones(self, user: UserId, *, before_ms: int, rows_max: int) -> list[Tombstone]:
        found = self._ask("old_tombstones", tenant=user, before=iso(before_ms), rows_max=rows_max)
        return [Tombstone((collection, key), group_version) for collection, key, group_version in found]

    def forget(self, user: UserId, *, tombstones: Sequence[Tombstone]) -> None:
        floor = max(each.group_version for each in tombstones)
        collections, keys = _columns(each.place for each in tombstones)
        self._do("raise_floor", tenant=user, floor=floor)
        self._do("forget_tombstones", tenant=user, collections=collections, keys=keys)
        self._do("forget_marks", tenant=user, floor=floor)

    # Receipts.

    def device_sequence(self, lane: Lane) -> int:
        found = self._ask("device_sequence", tenant=lane.user, device=lane.device, epoch=lane.epoch)
        return int(found[0][0]) if found else 0

    def receipts(self, lane: Lane, *, first: int, last: int) -> dict[int, Receipt]:
        found = self._ask("receipts", tenant=lane.user, device=lane.device, epoch=lane.epoch, first=first, last=last)
        return receipts_by_sequence(found, first=first, last=last)

    def write_receipts(self, lane: Lane, *, receipts: Iterable[Receipt]) -> None:
        written = [*receipts]
        if not written:
            return
        sequences, outcomes, tokens, versions, codes, messages, skipped, entries, overwrote = _columns(written)
        self._do(
            "write_receipts",
            tenant=lane.user,
            device=lane.device,
            epoch=lane.epoch,
            sequences=sequences,
            entries=entries,
            outcomes=outcomes,
            tokens=tokens,
            versions=versions,
            codes=codes,
            messages=messages,
            skipped=[*map(json_or_none, skipped)],
            overwrote=[*map(json_or_none, overwrote)],
            received_at=self._now(),
        )

    def _ask(self, name: str, **binds: Any) -> list[Columns]:
        return self._connection.execute(text_of(name), binds).fetchall()

    def _do(self, name: str, **binds: Any) -> None:
        self._connection.execute(text_of(name), binds)

    def _now(self) -> str:
        return iso(self._clock.now_ms())


@cache
def text_of(name: str) -> bytes:
    """A statement of postgresql.sql as psycopg wants it."""
    said = statement("postgresql", name, directory=SERVER_SQL).replace("%", "%%")
    return _BIND.sub(_placeholder, said).encode()


def _placeholder(bind: re.Match[str]) -> str:
    """A list goes in PostgreSQL's binary form: as text, each of its words would be looked through for quotes."""
    name, cast_to = bind.groups()
    return f"%({name})b{cast_to}" if cast_to else f"%({name})s"


_BIND = re.compile(r"(?<!:):([a-z_]+)(::[a-z]+\[\])?")


def _columns(rows: Iterable[Columns]) -> list[list[Any]]:
    """Rows turned on their side; there has to be one."""
    return [[*column] for column in zip(*rows, strict=True)]
