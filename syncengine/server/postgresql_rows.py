"""What one transaction asks of PostgreSQL: a push is a few statements, however many its rows."""

import random
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import orjson
import psycopg

from syncengine.clock import Clock
from syncengine.local.statements import statement
from syncengine.server.new_rows import NewRows
from syncengine.server.receipts import Receipt
from syncengine.server.row_questions import RowQuestions
from syncengine.server.rules import Patch, Place, Row
from syncengine.server.storage import ChangedRow, Lane, PageRow, Tombstone
from syncengine.server.stored_forms import SERVER_SQL, Columns, json_or_none, stored_bytes
from syncengine.vocabulary import UserId

ROWS_AHEAD_MAX = 1_000
BYTES_AHEAD_MAX = 4 * 1024 * 1024
"""So much of a page is in memory at once, and one row more."""


class PostgresqlTransaction(RowQuestions):
    """An open transaction on one connection: what it asks is of the user that it was begun for."""

    def __init__(self, connection: psycopg.Connection[Columns], *, clock: Clock, chance: random.Random) -> None:
        super().__init__(clock=clock, chance=chance)
        self._connection = connection

    # Rows.

    def write_rows(self, user: UserId, *, rows: Mapping[Place, Row], group_versions: Mapping[Place, int]) -> None:
        if not group_versions:
            return
        versions, shapes, bodies, patches, writers, stood_on = _columns(rows[place] for place in group_versions)
        self._do(
            "write_documents",
            tenant=user,
            **self._at(group_versions),
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

    def add_rows(self, user: UserId, *, rows: NewRows, head: int) -> bool:
        added = self._connection.execute(
            text_of("add_documents"),
            {
                "tenant": user,
                "collections": [*rows.collections],
                "keys": [*rows.keys],
                "versions": [*rows.versions],
                "group_versions": rows.group_versions,
                "shape_versions": [*rows.shape_versions],
                "body_bytes": rows.sizes,
                "writer": rows.writer,
                "bodies": rows.bodies,
                "changed_at": self._now(),
            },
        ).rowcount
        if added == len(rows.keys):
            return True
        self._do("take_back_documents", tenant=user, head=head)
        return False

    def write_patches(self, user: UserId, *, patches: Mapping[Place, Sequence[Patch]]) -> None:
        if not patches:
            return
        self._do("delete_patches", tenant=user, **self._at(patches))
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

    # Retention.

    def forget(self, user: UserId, *, tombstones: Sequence[Tombstone]) -> None:
        floor = max(each.group_version for each in tombstones)
        self._do("raise_floor", tenant=user, floor=floor)
        self._do("forget_tombstones", tenant=user, **self._at([each.place for each in tombstones]))
        self._do("forget_marks", tenant=user, floor=floor)

    # Receipts.

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

    def _listed(self, keys: Collection[str]) -> list[str]:
        return list(keys)

    def _at(self, places: Collection[Place]) -> dict[str, list[str]]:
        collections, keys = _columns(places)
        return {"collections": collections, "keys": keys}


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
