"""Capture: triggers write every edit of a synced collection to the outbox, in the transaction of whoever edits.

They are made from the table as it is, and belong to one shape: a migration drops them, changes the table, and has
them made anew, all in its own transaction. Rows that come from the cloud are written while they are off.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import orjson

from syncengine.local.identifiers import quoted
from syncengine.outbox.capture_triggers import (
    PREFIX,
    CapturedTable,
    Column,
    finds_numbers,
    trigger_names,
    triggers_of,
    types_in,
)

if TYPE_CHECKING:
    from syncengine.local.store import Store


def install_capture(store: "Store", collection: str) -> None:
    """From the end of this transaction on every edit of a synced collection is queued. Others are left as they are.

    Replaces triggers of another shape.
    """
    wanted = _wanted(store, collection)
    there = _there(store)
    for name in trigger_names(collection):
        if name in there and there[name] != wanted.get(name):
            store.query(f"DROP TRIGGER {quoted(name)}")
    for name, sql in wanted.items():
        if there.get(name) != sql:
            store.query(sql)


def drop_capture(store: "Store", collection: str) -> None:
    """From the end of this transaction on no edit of a collection is queued."""
    for name in trigger_names(collection):
        store.query(f"DROP TRIGGER IF EXISTS {quoted(name)}")


def verify_capture(store: "Store", *, but: Collection[str] = ()) -> tuple[str, ...]:
    """Put right the triggers that are not as they ought to be; the collections of which edits may have been missed.

    Inside a transaction. Those `but` are left as they are: a person has to look at their tables first.
    """
    recorded = {str(name) for (name,) in store.rows("capture", "synced")} - set(but)
    there, mended = _there(store), set()
    for collection in recorded:
        wanted = _wanted(store, collection)
        if any(there.get(name) != wanted.get(name) for name in trigger_names(collection)):
            install_capture(store, collection)
            mended.add(collection)
    spared = {name for collection in (*recorded, *but) for name in trigger_names(collection)}
    for name in there.keys() - spared:
        store.query(f"DROP TRIGGER {quoted(name)}")
    return tuple(sorted(mended))


@contextmanager
def capture_off(store: "Store", collections: Collection[str], *, reshaping: bool = False) -> Iterator[None]:
    """`with capture_off(store, ("walks",)):` no edit of these is queued; the app's own triggers go on firing.

    Inside a transaction; an exception undoes the block. At its end the triggers are made from the collections as they
    are then, in their new shape and under their new record. `reshaping` says that the block may change tables.
    A start does not look at the schema again because of it.
    """
    with store.savepoint("batch_without_capture"):
        if not reshaping and _all_triggers_are_of(store, collections):
            # Nothing else would fire, so none is dropped: no other connection has to read the schema again.
            with store.without_triggers():
                yield
        else:
            with _capture_dropped(store, collections):
                yield


class MayFire(NamedTuple):
    """Triggers besides capture's own of some collections: any `others`, and those of the `app`."""

    others: bool
    app: bool


def may_fire(store: "Store", collections: Collection[str]) -> MayFire:
    """What writing rows of these collections may fire. It holds until the schema changes."""
    own = [name for collection in collections for name in trigger_names(collection)]
    known = {"own": orjson.dumps(own).decode(), "collections": orjson.dumps(list(collections)).decode()}
    others, app = store.rows("capture", "may_fire", **known)[0]
    return MayFire(others=bool(others), app=bool(app))


@contextmanager
def writing_uncaptured(
    store: "Store", collections: Collection[str], *, others_fire: bool | None = None
) -> Iterator[None]:
    """The same for a block that writes to rows of these collections alone, in a transaction that an exception undoes
    whole. What foreign keys change in other tables on its account is queued, and the app's triggers fire there, too.

    `others_fire`: what `may_fire` said, where the caller has asked it of this schema.
    """
    if may_fire(store, collections).others if others_fire is None else others_fire:
        with _capture_dropped(store, collections):
            yield
    else:
        with store.without_triggers():
            yield


@contextmanager
def _capture_dropped(store: "Store", collections: Collection[str]) -> Iterator[None]:
    known = store.value("capture", "schema_is_known")
    for collection in collections:
        drop_capture(store, collection)
    yield
    for collection in collections:
        install_capture(store, collection)
    if known:
        store.run("capture", "know_schema")


def synced_collections(store: "Store") -> tuple[str, ...]:
    """The recorded collections whose rows have an owner."""
    return tuple(str(name) for (name,) in store.rows("capture", "synced"))


def _all_triggers_are_of(store: "Store", collections: Collection[str]) -> bool:
    own = {name for collection in collections for name in trigger_names(collection)}
    return own.issuperset(str(name) for (name,) in store.rows("capture", "all_triggers"))


def _there(store: "Store") -> dict[str, str]:
    return {str(name): str(sql) for name, sql in store.rows("capture", "triggers", pattern=f"{PREFIX}*")}


def _wanted(store: "Store", collection: str) -> Mapping[str, str]:
    """The triggers by name; none for what is not synced, or has no table with its key and owner."""
    table = captured_table(store, collection)
    return {} if table is None else triggers_of(table)


def captured_table(store: "Store", collection: str) -> CapturedTable | None:
    """What the triggers of a collection are made from, or None for what has none."""
    recorded = store.row("outbox", "collection", collection=collection)
    if recorded is None:
        return None
    key, owner, shape_version = map(str, recorded)
    strict = bool(store.value("capture", "is_strict", collection=collection))
    columns = [
        Column(str(name), types_in(str(declared), strict=strict), finds_numbers(str(declared)))
        for name, declared in store.rows("capture", "columns", collection=collection)
    ]
    by_name = {column.name: column for column in columns}
    if not {key, owner} <= by_name.keys():
        return None
    return CapturedTable(
        name=collection,
        key=key,
        owner=by_name[owner],
        shape_version=shape_version,
        columns=tuple(column for column in columns if column.name != owner),
    )
