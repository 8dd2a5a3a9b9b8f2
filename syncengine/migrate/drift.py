"""Are the tables still as the migrations made them? Looked at in a start whose schema is not the one seen last.

What an index or a trigger does can be made again from the record, so it is; a table that is gone or has other columns
is the business of a person: that collection is not written any more until it is right. Nothing else is changed.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from syncengine.errors import (
    COPY_FIRST,
    DiskFull,
    ShapeDrifted,
    StoreBusy,
    StoreDamaged,
    StoreUnusable,
    SyncEngineError,
)
from syncengine.local.engine_tables import made_by_editions
from syncengine.local.identifiers import quoted
from syncengine.local.process_life import has_ended
from syncengine.local.sqlite_errors import SqliteError
from syncengine.logs import log_event
from syncengine.outbox.capture import verify_capture
from syncengine.outbox.firing_order import missed, put_in_order

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.local.version_table import Readable

_logger = logging.getLogger("syncengine.migrate")

Say = Callable[[str], None]
Part = tuple[str, str]
"""Kind and name: ("index", "notes_by_day"), ("column", "text")."""
Shape = dict[Part, str]
"""What stands behind each part: SQL, or of a column its type and so on."""

TEXT_FIX = (
    "Put it back as it was, or restore a restore point. The engine changed nothing, and the other collections work."
)
BLOCK_FIX = (
    "Nothing of the block was kept. Change a collection's columns by a migration, and write with those that are "
    "there, without alter=True."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One collection against its record: three lists of what a person or another tool did."""

    collection: str
    differences: tuple[str, ...] = ()
    """Of the table and its columns, in words: these stand against writing."""
    lost: tuple[tuple[str, str, str], ...] = ()
    """(kind, name, SQL) of indexes and triggers that are gone and can be made again."""
    noted: tuple[str, ...] = ()
    """What is there besides, or otherwise; it is kept."""

    def as_error(self, *, fix: str = TEXT_FIX) -> ShapeDrifted:
        """The differences as an error to raise."""
        return ShapeDrifted(
            f"The table {self.collection} is not as its migrations made it.",
            why="; ".join(self.differences),
            fix=fix,
        )


@dataclass(slots=True)
class _Moment:
    cookie: int = 0
    recorded: dict[str, Shape] = field(default_factory=dict)
    live: dict[str, Shape] = field(default_factory=dict)

    def drifts(self) -> tuple[Drift, ...]:
        """Each collection against its record, in the order of their names."""
        return tuple(compare(name, shape, self.live.get(name, {})) for name, shape in sorted(self.recorded.items()))


def watch_shapes(store: "Store", *, say: Say = lambda _: None) -> None:
    """Compare, make again what got lost, and note that this schema is right; `store.drifted` has what is not.

    `say` hears a sentence for each thing that was made again or is odd. A table that a torn run left as the only one
    with the rows makes the store read-only. Where another process writes, the repair is left to the next start.
    """
    missing = _missing_of_the_engine(store)
    gone = [name for (kind, name) in missing if kind == "table"]
    if gone:
        store.refuse_writes(_incomplete(gone))
        return
    moment = _read(store)
    drifts = (
        *moment.drifts(),
        Drift(collection="the engine", lost=tuple((*part, sql) for part, sql in missing.items())),
    )
    store.drifted = _errors(drifts)
    _say_all(drifts, say)
    torn = store.rows("opening", "torn")
    live = [str(table) for table, has_the_rows in torn if has_the_rows]
    if live:
        store.refuse_writes(_torn(live))
        return
    _put_right(store, moment, drifts, torn=[str(table) for table, _ in torn], say=say)


def note_shapes(store: "Store") -> None:
    """After migrations: what is there now is right, unless a collection has drifted."""
    moment = _read(store)
    drifts = moment.drifts()
    store.drifted = _errors(drifts)
    if not any(drift.differences or drift.lost for drift in drifts):
        _put_right(store, moment, (), torn=(), say=lambda _: None)


def look_again(store: "Store") -> None:
    """See what drifted while the store was open, and put capture right. Inside a transaction, for a schema that is
    not the one last found right."""
    is_right = store.value("capture", "schema_is_known")
    drifts = () if is_right else drifts_in(store)
    store.drifted = _errors(drifts)
    put_in_order(store)


def refuse_another_shape(store: "Store") -> None:
    """At the end of a block of the app: raises ShapeDrifted where the block itself altered a collection's table."""
    for drift in drifts_in(store):
        if drift.differences and drift.collection not in store.drifted:
            raise drift.as_error(fix=BLOCK_FIX)


def drifted_in(store: "Readable") -> dict[str, ShapeDrifted]:
    """The error of each collection whose table is not as its migrations made it; only looks."""
    return _errors(drifts_in(store))


def _errors(drifts: Iterable[Drift]) -> dict[str, ShapeDrifted]:
    return {drift.collection: drift.as_error() for drift in drifts if drift.differences}


def drifts_in(store: "Readable") -> tuple[Drift, ...]:
    """Each collection against its record; only looks."""
    return _read(store).drifts()


def compare(collection: str, recorded: Shape, live: Shape) -> Drift:
    """Pure. A record without any part is one of an older engine: nothing is known, so nothing is wrong."""
    if not recorded:
        return Drift(collection=collection)
    if ("table", collection) not in live:
        return Drift(collection=collection, differences=("the table is gone",))
    gone, new = recorded.keys() - live.keys(), live.keys() - recorded.keys()
    other = [part for part in recorded.keys() & live.keys() if _bare(recorded[part]) != _bare(live[part])]
    return Drift(
        collection=collection,
        differences=tuple(
            f"the column {name} is {word}"
            for word, parts in (("gone", gone), ("new", new), ("of another kind", other))
            for kind, name in sorted(parts)
            if kind == "column"
        ),
        lost=tuple((kind, name, recorded[kind, name]) for kind, name in sorted(gone) if kind in ("index", "trigger")),
        noted=tuple(
            f"the {kind} {name} of {collection} is {word}"
            for word, parts in (("new", new), ("not as it was made", other))
            for kind, name in sorted(parts)
            if kind != "column"
        ),
    )


def _bare(said: str) -> str:
    """Without blanks, comments and the quotes that ALTER TABLE RENAME writes."""
    text = re.sub(r"--[^\n]*|/\*.*?\*/", " ", said, flags=re.DOTALL)
    return " ".join(re.sub(r'"(\w+)"', r"\1", text).split())


def _read(store: "Readable") -> _Moment:
    moment = _Moment()
    for collection, kind, name, said in store.rows("opening", "shapes"):
        if kind == "cookie":
            moment.cookie = int(said)
        elif kind == "record":
            moment.recorded[collection] = _recorded(said)
        else:
            moment.live.setdefault(collection, {})[kind, name] = said
    return moment


def _recorded(text: str) -> Shape:
    try:
        return {(str(kind), str(name)): str(said) for kind, name, said in json.loads(text)}
    except (ValueError, TypeError) as error:
        raise StoreDamaged(
            "The record of how the tables were made cannot be read.",
            why=type(error).__name__,
            fix=COPY_FIRST,
        ) from error


def _say_all(drifts: Iterable[Drift], say: Say) -> None:
    for drift in drifts:
        if drift.differences:
            log_event(_logger, logging.ERROR, "a table is not as its migrations made it", collection=drift.collection)
            say(f"{drift.as_error().what} {'; '.join(drift.differences)}.")
        for note in drift.noted:
            log_event(_logger, logging.INFO, "a table has more or other parts than were made", found=note)


def _missing_of_the_engine(store: "Store") -> dict[Part, str]:
    there = {(kind, name) for kind, name in store.rows("opening", "parts")}
    return {part: sql for part, sql in made_by_editions().items() if part not in there}


def _incomplete(tables: Iterable[str]) -> SyncEngineError:
    return StoreDamaged(
        "A part of the engine's own tables is missing from this store.",
        why=f"{', '.join(sorted(tables))} is not there",
        fix="Copy the file with its -wal before anything else; then restore a restore point.",
    )


def _torn(tables: Iterable[str]) -> SyncEngineError:
    return StoreDamaged(
        "A migration was torn in two: rows are in a table under the wrong name.",
        why=f"{', '.join(sorted(tables))} holds what its collection should",
        fix="Copy the file with its -wal, then restore a restore point, or rename the table back by hand.",
    )


def _put_right(
    store: "Store",
    moment: _Moment,
    drifts: Iterable[Drift],
    *,
    torn: Iterable[str],
    say: Say,
) -> None:
    """In one transaction, and only if the schema is still the one that was compared."""
    lost = [(drift.collection, part) for drift in drifts for part in drift.lost if not drift.differences]
    wait_ms = store.settings.busy_wait_ms_max
    # What is only noted is not worth a wait: a start never waits for another process's migration.
    store.connection.set_busy_timeout(wait_ms if lost else 0)
    try:
        with store.transaction():
            if int(store.value("opening", "cookie")) != moment.cookie:
                return
            well = not store.drifted
            for collection, part in lost:
                well &= _made_again(store, collection, *part, say=say)
            for table in torn:
                _drop_if_empty(store, table, say)
            _capture_again(store, say)
            put_in_order(store)
            _end_leases(store)
            if well:
                store.run("state", "set", name="schema_cookie", value=str(store.value("opening", "cookie")))
    except (StoreBusy, DiskFull, StoreUnusable):
        return  # the next start tries again; this one has work to do
    finally:
        store.connection.set_busy_timeout(wait_ms)


def _made_again(store: "Store", collection: str, kind: str, name: str, sql: str, *, say: Say) -> bool:
    try:
        with store.savepoint("make_again"):
            store.query(sql)
    except SqliteError as error:
        log_event(_logger, logging.ERROR, "a lost part of a table cannot be made again", collection=collection)
        say(f"The {kind} {name} of {collection} is gone and cannot be made again: {type(error).__name__}.")
        return False
    log_event(_logger, logging.WARNING, "a lost part of a table was made again", collection=collection, kind=kind)
    say(f"The {kind} {name} of {collection} was gone; it was made again.")
    return True


def _capture_again(store: "Store", say: Say) -> None:
    for collection in verify_capture(store, but=store.drifted):
        say(missed(collection))


def _drop_if_empty(store: "Store", table: str, say: Say) -> None:
    if store.query(f"SELECT EXISTS (SELECT 1 FROM {quoted(table)})")[0][0]:
        say(f"The table {table} was left behind by a migration and holds rows; it was kept.")
    else:
        store.query(f"DROP TABLE {quoted(table)}")


def _end_leases(store: "Store") -> None:
    for name, _, pid, boot_id, fence in store.rows("opening", "leases"):
        if boot_id != store.clock.boot_id() or (pid != os.getpid() and has_ended(pid)):
            store.run("opening", "end_lease", name=name, fence=fence)
