"""A page of what has changed for a user: groups whole, in the order of their commits, as values or as JSON text."""

from dataclasses import dataclass

import orjson

from syncengine.remote.wire import PROTOCOL, BesidePatch, EntryKind, PullAnswer, PullItem
from syncengine.server.rules import Patch, Place
from syncengine.server.storage import ChangedRow, Transaction
from syncengine.vocabulary import UserId

GROUP_BYTES_MAX = 12 * 1024 * 1024
"""A group whose rows hold more comes in several pages: a device takes answers of at most 16 MiB."""

ROW_BYTES_AROUND = 200
"""Names, numbers and punctuation of a row on the wire."""

Reached = tuple[int, int]
"""Group version and version: everything up to there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangesPage:
    """Rows as they are now, what lies beside them, and the place up to which that is everything."""

    rows: tuple[ChangedRow, ...]
    patches: dict[Place, tuple[Patch, ...]]
    last: Reached
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PageHead:
    """What an answer tells beside the rows."""

    request_id: str
    server_time: str
    server_epoch: int
    epoch_head: int | None
    cursor: str


def read_changes(
    stored: Transaction, user: UserId, *, after: Reached, head: int, items_max: int, bytes_max: int
) -> ChangesPage:
    """At most `items_max` rows and about `bytes_max` bytes; more only to end with a group that does not fit."""
    rows, last, more = _rows(stored, user, after=after, items_max=items_max, bytes_max=bytes_max)
    if not more:
        last = (head, head)
    has_patches = any(row.patches for row in rows)
    patches = stored.patches_between(user, after=after, last=last) if has_patches else {}
    return ChangesPage(rows=tuple(rows), patches=patches, last=last, more=more)


def _rows(
    stored: Transaction, user: UserId, *, after: Reached, items_max: int, bytes_max: int
) -> tuple[list[ChangedRow], Reached, bool]:
    """The rows, the last of their places, and whether others follow."""
    rows: list[ChangedRow] = []
    size_bytes = whole_groups = 0
    for row in stored.changes_after(user, group_version=after[0], version=after[1], rows_likely=items_max + 1):
        begins_group = not rows or row.group_version != rows[-1].group_version
        if begins_group:
            whole_groups = len(rows)
        size_bytes += row.bytes + ROW_BYTES_AROUND
        if rows and (len(rows) >= items_max or size_bytes > bytes_max):
            if whole_groups:
                group = rows[whole_groups - 1].group_version
                return rows[:whole_groups], (group, group), True
            if size_bytes > max(GROUP_BYTES_MAX, bytes_max):
                return rows, (rows[-1].group_version, rows[-1].version), True
        rows.append(row)
    return rows, after, False


def as_values(page: ChangesPage, head: PageHead) -> PullAnswer:
    """For a caller in this process."""
    return PullAnswer(
        request_id=head.request_id,
        server_time=head.server_time,
        server_epoch=head.server_epoch,
        epoch_head=head.epoch_head,
        items=tuple(_item(row, page.patches.get((row.collection, row.key), ())) for row in page.rows),
        cursor=head.cursor,
        more=page.more,
    )


def _item(row: ChangedRow, patches: tuple[Patch, ...]) -> PullItem:
    return PullItem(
        collection=row.collection,
        key=row.key,
        version=row.version,
        shape_version=row.shape_version,
        body=None if row.body is None else orjson.loads(row.body),
        patches=tuple(
            BesidePatch(
                patch=each.patch,
                kind=EntryKind(each.kind),
                set=orjson.loads(each.body),
                shape_version=each.shape_version,
            )
            for each in patches
        ),
    )


def as_text(page: ChangesPage, head: PageHead) -> bytes:
    """The same as JSON; bodies go out as they are stored, without being read."""
    patches = page.patches
    return orjson.dumps(
        {
            "protocol": PROTOCOL,
            "request_id": head.request_id,
            "server_time": head.server_time,
            "server_epoch": head.server_epoch,
            "epoch_head": head.epoch_head,
            "items": [_item_text(row, patches.get((row.collection, row.key), ())) for row in page.rows],
            "cursor": head.cursor,
            "more": page.more,
        }
    )


def _item_text(row: ChangedRow, patches: tuple[Patch, ...]) -> dict[str, object]:
    item: dict[str, object] = {
        "collection": row.collection,
        "key": row.key,
        "version": row.version,
        "shape_version": row.shape_version,
        "body": None if row.body is None else orjson.Fragment(row.body),
    }
    if patches:
        item["patches"] = [
            {
                "patch": each.patch,
                "kind": each.kind,
                "set": orjson.Fragment(each.body),
                "shape_version": each.shape_version,
            }
            for each in patches
        ]
    return item
