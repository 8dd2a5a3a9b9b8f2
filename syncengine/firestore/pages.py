"""Pages of what changed, out of one query for each collection: in the order of versions, groups whole."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import orjson

from syncengine.firestore.answers import violation
from syncengine.firestore.names import Names, key_of
from syncengine.firestore.rest import AnswerTooLarge, Found, Rest
from syncengine.firestore.rows import meta_of, patches_of, row_body
from syncengine.firestore.state import State
from syncengine.firestore.values import META
from syncengine.remote.wire import BesidePatch, EntryKind, PullItem
from syncengine.server.rules import Patch

QUERY_DOCUMENTS_MAX = 300
ROW_BYTES_AROUND = 200
PAGE_BYTES_MAX = 4 * 1024 * 1024
GROUP_BYTES_MAX = 12 * 1024 * 1024
"""A group whose rows hold more comes in several pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A row that a query found."""

    collection: str
    found: Found
    version: int
    group_version: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows as they are now, and the place (group version, version) up to which that is everything."""

    items: tuple[PullItem, ...]
    reached: tuple[int, int]
    more: bool


def read_page(rest: Rest, names: Names, *, state: State, after: int, items_max: int, transaction: str) -> Page:
    """At most `items_max` rows and about PAGE_BYTES_MAX; more only to end with a group that does not fit."""
    rows, reached, more = _cut(
        _changed(rest, names, state=state, after=after, page_max=items_max + 1, transaction=transaction),
        items_max=items_max,
    )
    beside = _beside(rest, names, rows, transaction=transaction)
    items = tuple(_item(row, beside.get(row.found.name, ())) for row in rows)
    return Page(items=items, reached=reached if more else (state.head, state.head), more=more)


def pages(
    rest: Rest, parent: str, query: dict[str, Any], *, page_max: int, transaction: str | None = None
) -> Iterator[Found]:
    """What a query finds, page by page: asked on behind the last document, and for fewer where they are large."""
    limit = min(page_max, QUERY_DOCUMENTS_MAX)
    last: list[dict[str, Any]] | None = None
    while True:
        asked = dict(query, limit=limit)
        if last is not None:
            asked["startAt"] = {"values": last, "before": False}
        try:
            found = rest.query(parent, asked, transaction=transaction)
        except AnswerTooLarge:
            if limit == 1:
                raise violation("one document alone is larger than an answer may be") from None
            limit = max(limit // 4, 1)
            continue
        yield from found
        if len(found) < limit:
            return
        last = [_ordered_by(found[-1], order["field"]["fieldPath"]) for order in query["orderBy"]]


def _ordered_by(found: Found, path: str) -> dict[str, Any]:
    if path == "__name__":
        return {"referenceValue": found.name}
    value: dict[str, Any] = {"mapValue": {"fields": found.fields}}
    for name in path.split("."):
        value = value["mapValue"]["fields"][name]
    return value


def _changed(
    rest: Rest, names: Names, *, state: State, after: int, page_max: int, transaction: str
) -> Iterator[Changed]:
    """By version; only collections where something is new are asked."""
    streams = [
        _changed_in(rest, names, collection, after=after, page_max=page_max, transaction=transaction)
        for collection, last in sorted(state.collections.items())
        if last > after
    ]
    return heapq.merge(*streams, key=attrgetter("version"))


def _changed_in(
    rest: Rest, names: Names, collection: str, *, after: int, page_max: int, transaction: str
) -> Iterator[Changed]:
    path = {"fieldPath": f"{META}.version"}
    query = {
        "from": [{"collectionId": collection}],
        "where": {
            "fieldFilter": {"field": path, "op": "GREATER_THAN", "value": {"integerValue": str(after)}},
        },
        "orderBy": [{"field": path}, {"field": {"fieldPath": "__name__"}}],
    }
    for found in pages(rest, names.user, query, page_max=page_max, transaction=transaction):
        meta = meta_of(found)
        yield Changed(
            collection=collection,
            found=found,
            version=meta["version"],
            group_version=meta["group"],
            bytes=len(orjson.dumps(found.fields)) + ROW_BYTES_AROUND,
        )


def _cut(found: Iterator[Changed], *, items_max: int) -> tuple[list[Changed], tuple[int, int], bool]:
    """The rows, the place of the last one, and whether others follow."""
    rows: list[Changed] = []
    size_bytes = whole_groups = 0
    for row in found:
        if not rows or row.group_version != rows[-1].group_version:
            whole_groups = len(rows)
        size_bytes += row.bytes
        if rows and (len(rows) >= items_max or size_bytes > PAGE_BYTES_MAX):
            if whole_groups:
                group = rows[whole_groups - 1].group_version
                return rows[:whole_groups], (group, group), True
            if size_bytes > GROUP_BYTES_MAX:
                return rows, (rows[-1].group_version, rows[-1].version), True
        rows.append(row)
    return rows, (0, 0), False


def _beside(rest: Rest, names: Names, rows: list[Changed], *, transaction: str) -> dict[str, tuple[Patch, ...]]:
    """What lies beside these rows, by the row's document."""
    rows_of = {
        f"{row.found.name}/~beside/patches": row.found.name for row in rows if meta_of(row.found).get("patches")
    }
    found = rest.read_all([*rows_of], transaction=transaction)
    return {rows_of[name]: patches_of(each) for name, each in found.items()}


def _item(row: Changed, patches: tuple[Patch, ...]) -> PullItem:
    meta = meta_of(row.found)
    return PullItem(
        collection=row.collection,
        key=key_of(row.found.name),
        version=row.version,
        shape_version=meta["shape"],
        body=None if meta.get("deleted") else row_body(row.found),
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
