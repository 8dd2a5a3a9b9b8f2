"""The path that a store would go, gone on a private copy of it: real rows and counts, and the store unchanged."""

from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from dataclasses import field as attribute
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncengine.local.identifiers import quoted
from syncengine.local.snapshot import snapshot
from syncengine.local.store import Store
from syncengine.migrate.erasing import read_erasures
from syncengine.migrate.paging import rows_of
from syncengine.migrate.plan import erasure
from syncengine.migrate.row_by_row import REFUSED_MAX
from syncengine.migrate.shape import columns_of, table_exists
from syncengine.migrate.work import key_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from syncengine.migrate.plan import Plan
    from syncengine.migrate.registry import Collection, MigrationRegistry
    from syncengine.migrate.results import MigrationReport, MigrationResult

SAMPLED_ROWS = 20
"""Rows of each collection that are shown before and after."""
FORECAST_ITEMS_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDifference:
    """A field of one row; None where the row had or has no such field, too."""

    field: str
    before: Any = attribute(repr=False)
    after: Any = attribute(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDifference:
    """One row before and after. `is_gone`: no row has its key any more."""

    key: tuple[Any, ...] = attribute(repr=False)
    is_gone: bool
    fields: tuple[FieldDifference, ...] = attribute(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionRehearsal:
    """What becomes of one collection. `rows` is an even sample; `rehearsed` of `rows_before` went the path."""

    name: str
    rows_before: int
    rehearsed: int
    rows_after: int
    rows: tuple[RowDifference, ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastItem:
    """A row that would be set aside, and why."""

    collection: str
    key: str | None = attribute(repr=False)
    error_code: str
    reason: str
    field: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What `migrate()` would do to this very store. Holds rows: show it, do not log it."""

    plan: "Plan"
    results: "tuple[MigrationResult, ...]"
    blocked: tuple[str, ...]
    collections: tuple[CollectionRehearsal, ...]
    quarantined: tuple[ForecastItem, ...]
    quarantined_count: int
    rows_set_aside: int
    """So many of what would be in quarantine are rows; the others were queued entries."""
    keeping_old_values: int
    """Rows in quarantine then, of collections that were erased: they keep old values."""
    entries_before: int
    """Entries in the outbox now."""
    entries_affected: int
    """Of these, so many belong to collections that change."""
    entries_converted: int
    """So many, with open quarantine items that were entries, say the same in the new shapes."""
    entries_quarantined: int
    """So many would be set aside, or stay so, because a migration cannot say what they are in the new shape."""
    entries_after: int
    duration_ms: int
    """What the path took on the copy."""
    estimate_ms: int
    """What it would take for all rows, where only a part of a collection was rehearsed."""
    disk_bytes: int
    """So much more the file and its log need at the highest."""

    @property
    def success(self) -> bool:
        """Would nothing fail? What waits for a migration that was skipped or rolled back is in `blocked`."""
        return all(result.success for result in self.results)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON-able values, rows too; bytes as hex."""
        return {
            "success": self.success,
            "plan": self.plan.to_json(),
            "results": [result.to_json() for result in self.results],
            "blocked": list(self.blocked),
            "collections": [_jsonable(asdict(collection)) for collection in self.collections],
            "quarantined": [_jsonable(asdict(item)) for item in self.quarantined],
            "quarantinedCount": self.quarantined_count,
            "keepingOldValues": self.keeping_old_values,
            "outbox": {
                "before": self.entries_before,
                "affected": self.entries_affected,
                "converted": self.entries_converted,
                "quarantined": self.entries_quarantined,
                "after": self.entries_after,
            },
            "durationMs": self.duration_ms,
            "estimateMs": self.estimate_ms,
            "diskBytes": self.disk_bytes,
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> "Iterator[str]":
        yield f"{self.plan.current.way_to(self.plan.target)}, rehearsed on a copy"
        for result in self.results:
            yield f"  {result.migration_id}: {result.state}; {_sum_of(result)}"
            yield from (f"    {line}" for error in result.errors for line in error.splitlines())
            yield from (f"    {line}" for line in _refused_by(result))
        for name in self.blocked:
            yield f"  {name}: would not run, because something that it comes after is not done"
        for collection in self.collections:
            part = "" if collection.rehearsed == collection.rows_before else f" ({collection.rehearsed} rehearsed)"
            labels = f" ({', '.join(collection.labels)})" if collection.labels else ""
            yield f"  {collection.name}{labels}: {collection.rows_before} rows{part} > {collection.rows_after}"
        yield self._set_aside_line()
        yield from (
            f"    {_refused(item.collection, item.key, item.reason, item.field)}" for item in self._rows_to_name()
        )
        yield from (f"  {erasure(step.id, step.collections)}" for step in self.plan.steps if step.erases)
        if self.keeping_old_values:
            yield f"  rows in quarantine that would keep old values: {self.keeping_old_values}"
        now = f"{_entries(self.entries_before)} now ({self.entries_affected} affected)"
        yield f"  outbox: {now}, {self.entries_after} then"
        if self.entries_quarantined:
            yield f"  {_entries(self.entries_quarantined)} would be in quarantine: no form in the new shape"
        yield f"  about {self.estimate_ms} ms and {self.disk_bytes} bytes of disk"

    def _rows_to_name(self) -> "tuple[ForecastItem, ...]":
        return self.quarantined[: min(self.rows_set_aside, REFUSED_MAX)]

    def _set_aside_line(self) -> str:
        """What failed sets nothing aside, so of it no number is told."""
        failed = [result.migration_id for result in self.results if not result.success]
        told = f"  {self.rows_set_aside} {'row' if self.rows_set_aside == 1 else 'rows'} would be set aside"
        if not failed:
            return told
        rest = f"; by the others {told.strip()}" if self.rows_set_aside else ""
        return f"  {', '.join(failed)} would change nothing and set nothing aside{rest}"


def _refused_by(result: "MigrationResult") -> "Iterator[str]":
    yield from (_refused(row.collection, row.key, row.reason) for row in result.refused)
    if 0 < len(result.refused) < result.counts.quarantined:
        yield f"and {result.counts.quarantined - len(result.refused)} more"


def _refused(collection: str, key: str | None, reason: str, field: str | None = None) -> str:
    return f"{collection}{'' if key is None else ' ' + key}: {reason}" + (f" ({field})" if field else "")


def _sum_of(result: "MigrationResult") -> str:
    counts = result.counts
    if result.state == "queued":
        return f"{counts.read} {'entry' if counts.read == 1 else 'entries'} for the cloud"
    return (
        f"read {counts.read} = written {counts.written} + merged {counts.merged} + dropped {counts.dropped} + "
        f"quarantined {counts.quarantined}"
    )


def rehearse(
    store: Store,
    registry: "MigrationRegistry",
    *,
    plan: "Plan",
    run: "Callable[[Store], MigrationReport]",
    rows_max: int,
) -> Rehearsal:
    """Copy the store as one moment sees it, `run` the path on the copy, and compare.

    Collections of more than `rows_max` rows go with an even part of them, unless other tables refer to them or they
    to others. Writers of the real store are not held out; nothing of it changes. Raises DiskFull, StoreBusy.
    """
    with _copied(store) as before, _copied(before) as copy:
        return _compared(before, copy, registry, plan=plan, run=run, rows_max=rows_max)


@contextmanager
def _copied(store: Store) -> "Iterator[Store]":
    """A store on a private copy of another, gone when the block ends."""
    with snapshot(store) as path:
        copy = Store(str(path), settings=store.settings, clock=store.clock)
        try:
            yield copy
        finally:
            copy.close()


def _compared(
    before: Store,
    copy: Store,
    registry: "MigrationRegistry",
    *,
    plan: "Plan",
    run: "Callable[[Store], MigrationReport]",
    rows_max: int,
) -> Rehearsal:
    names = _collections_of(plan, registry)
    there = {name: rows_of(before, name) for name in names if table_exists(before, name)}
    rehearsed = {name: _thinned(copy, registry.collections[name], rows, rows_max) for name, rows in there.items()}
    bytes_before = _bytes_of(copy)
    last_item = int(copy.value("rehearsal", "last_item"))
    started_ms = copy.clock.monotonic_ms()
    report = run(copy)
    duration_ms = copy.clock.monotonic_ms() - started_ms
    share = sum(rehearsed.values()) / sum(there.values()) if sum(there.values()) else 1.0
    entries: dict[str, int] = dict(before.rows("rehearsal", "entries"))
    return Rehearsal(
        plan=plan,
        results=report.results,
        blocked=report.blocked,
        collections=tuple(
            CollectionRehearsal(
                name=name,
                rows_before=there.get(name, 0),
                rehearsed=rehearsed.get(name, 0),
                rows_after=rows_of(copy, name) if table_exists(copy, name) else 0,
                rows=tuple(_differences(before, copy, registry.collections[name])) if name in there else (),
                labels=registry.collections[name].labels,
            )
            for name in names
        ),
        quarantined=tuple(
            ForecastItem(collection=collection, key=key, error_code=code, reason=reason, field=path)
            for collection, key, code, reason, path in copy.rows(
                "rehearsal", "items_since", item_id=last_item, rows_max=FORECAST_ITEMS_MAX
            )
        ),
        quarantined_count=int(copy.value("rehearsal", "count_items_since", item_id=last_item)),
        rows_set_aside=int(copy.value("rehearsal", "count_rows_since", item_id=last_item)),
        keeping_old_values=len(read_erasures(copy).quarantined),
        entries_before=sum(entries.values()),
        entries_affected=sum(count for name, count in entries.items() if name in names),
        entries_converted=sum(result.entries.converted for result in report.results),
        entries_quarantined=sum(result.entries.quarantined for result in report.results),
        entries_after=sum(dict(copy.rows("rehearsal", "entries")).values()),
        duration_ms=duration_ms,
        estimate_ms=round(duration_ms / share) if share else duration_ms,
        disk_bytes=round(max(0, _bytes_of(copy) - bytes_before) / share) if share else 0,
    )


def _entries(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"


def _collections_of(plan: "Plan", registry: "MigrationRegistry") -> tuple[str, ...]:
    definitions = [registry.get_migration_executor(step.id).definition for step in plan.steps]
    return tuple(dict.fromkeys(name for definition in definitions for name in definition.collections))


def _thinned(copy: Store, collection: "Collection", rows: int, rows_max: int) -> int:
    """Leave an even part of a large collection, and the rows that wait to be sent; how many rows that is."""
    if rows <= rows_max or _has_references(copy, collection.name):
        return rows
    every = -(-rows // rows_max)
    keys = ", ".join(map(quoted, key_columns(collection)))
    is_queued = "0"
    if collection.owner is not None:
        is_queued = f"({keys}) IN (SELECT owner, row_key FROM _sync_outbox WHERE collection = :name)"
    with copy.transaction(), copy.without_triggers():
        copy.query(
            f"DELETE FROM {quoted(collection.name)} WHERE ({keys}) IN (SELECT {keys} FROM "
            f"(SELECT {keys}, row_number() OVER (ORDER BY {keys}) AS place FROM {quoted(collection.name)}) "
            f"WHERE place % :every <> 1) AND NOT {is_queued}",
            {"every": every, "name": collection.name},
        )
    return rows_of(copy, collection.name)


def _has_references(copy: Store, name: str) -> bool:
    """Does another table refer to this one, or this one to another?"""
    return bool(
        copy.query(
            "SELECT 1 FROM sqlite_schema AS t, pragma_foreign_key_list(t.name) AS f "
            "WHERE t.type = 'table' AND (t.name = :name OR f.\"table\" = :name) LIMIT 1",
            {"name": name},
        )
    )


def _differences(before: Store, copy: Store, collection: "Collection") -> "Iterator[RowDifference]":
    """An even sample of the rows that went the path, by key."""
    name, keys = collection.name, key_columns(collection)
    columns = columns_of(before, name)
    rows = rows_of(before, name)
    every = max(1, -(-rows // SAMPLED_ROWS))
    order = ", ".join(map(quoted, keys))
    sampled = before.query(
        f"SELECT {', '.join(map(quoted, columns))} FROM "
        f"(SELECT *, row_number() OVER (ORDER BY {order}) AS _sync_place FROM {quoted(name)}) "
        "WHERE _sync_place % ? = 1 % ?",
        (every, every),
    )
    there = set(columns_of(copy, name)) >= set(keys)
    for row in sampled:
        old = dict(zip(columns, row, strict=True))
        key = tuple(old[column] for column in keys)
        yield _difference(key, old, _row(copy, name, keys, key) if there else None)


def _row(store: Store, name: str, keys: tuple[str, ...], key: tuple[Any, ...]) -> dict[str, Any] | None:
    columns = columns_of(store, name)
    where = " AND ".join(f"{quoted(column)} IS ?" for column in keys)
    found = store.query(f"SELECT {', '.join(map(quoted, columns))} FROM {quoted(name)} WHERE {where}", key)
    return dict(zip(columns, found[0], strict=True)) if found else None


def _difference(key: tuple[Any, ...], old: dict[str, Any], new: dict[str, Any] | None) -> RowDifference:
    if new is None:
        return RowDifference(key=key, is_gone=True, fields=())
    names = dict.fromkeys([*old, *new])
    return RowDifference(
        key=key,
        is_gone=False,
        fields=tuple(
            FieldDifference(field=name, before=old.get(name), after=new.get(name))
            for name in names
            if (name in old) is not (name in new) or not _same(old.get(name), new.get(name))
        ),
    )


def _same(before: Any, after: Any) -> bool:
    return type(before) is type(after) and before == after


def _bytes_of(copy: Store) -> int:
    pages = int(copy.query("PRAGMA page_count")[0][0]) * int(copy.query("PRAGMA page_size")[0][0])
    with suppress(FileNotFoundError):
        pages += Path(copy.path + "-wal").stat().st_size
    return pages


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _jsonable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in value]
    return value.hex() if isinstance(value, bytes) else value
