"""Checks of one store: its markers, its runs, its silence. They read the tables by themselves."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.world.clock import WorldTime
from simulator.world.ground import PromiseBroken
from simulator.world.ledger import Ledger
from simulator.world.words import field_of, words_in
from syncengine.events import MigrationEnded, MigrationProgressed, MigrationStarted
from syncengine.local.connection import open_reader

if TYPE_CHECKING:
    from simulator.world.device import Device

TOKEN = "a-token-of-"
"""So begins every token of a world."""


def check_markers(device: "Device") -> None:
    """P1: whatever a power cut left, versions, history and tables say the same."""
    if not device.path.exists() or not device.path.stat().st_size:
        return
    connection = open_reader(str(device.path), busy_wait_ms=0)
    try:
        tables: dict[str, list[str]] = {}
        for table, column in connection.execute(_COLUMNS):
            tables.setdefault(str(table), []).append(str(column))
        if "_sync_version" not in tables:
            return
        versions = connection.execute("SELECT schema_version FROM _sync_version WHERE scope = 'store'").fetchall()
        done = {name for (name,) in connection.execute(_DONE)}
    finally:
        connection.close(True)
    app = device.app
    says, reached = versions[0][0] if versions else "", app.reached(done)
    if (says if says in app.versions else "") != reached:
        raise PromiseBroken(f"P1: the store of {device.name} says {says or 'nothing'}, and has reached {reached}")
    for name, shape in app.shapes.items():
        version = app.shape_after(name, done)
        columns = shape.table(version) if version else ()
        if sorted(tables.get(name, ())) != sorted(columns):
            raise PromiseBroken(f"P1: {name} of {device.name} should be of {version}, and has {tables.get(name)}")


_COLUMNS = "SELECT m.name, c.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table'"
_DONE = "SELECT migration FROM _sync_run WHERE state = 'completed' AND scope = 'store'"


def check_start_is_offline(device: "Device", *, calls: int, waited_ms: int) -> None:
    """P5: to open and to migrate asks nobody and waits for nothing."""
    if calls or waited_ms:
        raise PromiseBroken(f"P5: the start of {device.name} made {calls} calls and took {waited_ms} ms")


@contextmanager
def judged_start(device: "Device", time: WorldTime) -> Iterator[None]:
    """A device starts in this block, or another user takes it."""
    calls, at_ms = device.starting.line.calls, time.at_ms
    device.starting.told.clear()
    yield
    check_start_is_offline(device, calls=device.starting.line.calls - calls, waited_ms=time.at_ms - at_ms)
    check_progress(device.starting.told)


def check_progress(told: Iterable[object]) -> None:
    """P14: of each migration a beginning is told, then numbers that only grow, then its end; each time it is run."""
    running: str | None = None
    done = 0
    for event in told:
        if isinstance(event, MigrationStarted):
            running, done = _expected(event.migration, not running), 0
        elif isinstance(event, MigrationProgressed):
            is_honest = event.done >= done and (event.total is None or event.done <= event.total)
            done = max(done, event.done)
            _expected(event.migration, running == event.migration and is_honest)
            _expected(event.migration, event.total is not None or event.percent is None)
        elif isinstance(event, MigrationEnded):
            running = _expected("", running == event.migration, of=event.migration)
    _expected(running or "", not running)


def _expected(migration: str, is_so: bool, *, of: str = "") -> str:
    if not is_so:
        raise PromiseBroken(f"P14: what is told of {migration or of} does not grow to an end")
    return migration


def words_shown(device: "Device") -> set[str]:
    """All values in rows, but of those that an upgrade will take the cloud's form of."""
    parked = {key for (key,) in device.store.query("SELECT row_key FROM _sync_parked")}
    return {found for row in _rows(device) if row[1] not in parked for found in words_in(str(row))}


def _rows(device: "Device") -> list[tuple[object, ...]]:
    return [row for name in device.app.shapes for row in device.store.query(f"SELECT * FROM {name}")]


def check_rows_stay(ledger: Ledger, device: "Device", before: set[str]) -> None:
    """P6, P8: an upgrade, whether it was done or given up, keeps every value of every row that there is room for.

    Of what waits to be sent the judge of P9 speaks.
    """
    aside = {
        found
        for row in device.store.query("SELECT body, body_original FROM _sync_quarantine")
        for text in row
        for found in words_in(text)
    }
    shown = {found for row in _rows(device) for found in words_in(str(row))}
    for lost in sorted(before - shown - aside):
        written = ledger.by_word[lost].version
        if not device.app.has_no_room(field_of(lost), written=written, now=device.version):
            raise PromiseBroken(f"P8: {lost} was in a row of {device.name} before its upgrade, and is gone")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsThere:
    """Before an upgrade: the last run of the history, and by collection how many rows there are, and are parked."""

    last_run: int
    counts: Counter[str]
    parked: Counter[str]


def rows_there(device: "Device") -> RowsThere:
    """Counted now."""
    counts = {name: device.store.query(f"SELECT count(*) FROM {name}")[0][0] for name in device.app.shapes}
    return RowsThere(
        last_run=int(device.store.query("SELECT coalesce(max(run_id), 0) FROM _sync_run")[0][0]),
        counts=Counter(counts),
        parked=Counter(name for (name,) in device.store.query("SELECT collection FROM _sync_parked")),
    )


def check_runs_read_all(device: "Device", before: RowsThere) -> None:
    """P8: what makes all rows of a collection anew has read as many as there were, and what waited for it."""
    since = (before.last_run,)
    for run_id, migration, rows in device.store.query(_READ_SINCE, since):
        collection = device.app.rewritten_by(migration)
        # A user whose rows were made in the same start before, such as one who was wiped off.
        made = device.store.query(_MADE_FOR_USERS, (*since, run_id))[0][0]
        there = before.counts[collection]
        if collection and not there <= rows <= there + before.parked[collection] + made:
            raise PromiseBroken(f"P8: {migration} on {device.name} says {rows} of {there} rows")


_READ_SINCE = "SELECT run_id, migration, rows_read FROM _sync_run WHERE run_id > ? AND state = 'completed'"
_MADE_FOR_USERS = (
    "SELECT coalesce(sum(rows_written), 0) FROM _sync_run WHERE run_id > ? AND run_id < ? AND scope <> 'store'"
)


def check_runs_add_up(device: "Device") -> None:
    """P8: of each run that was completed, what it read is what it wrote, merged, dropped by rule or set aside."""
    runs = device.store.query(
        "SELECT migration, rows_read, rows_written + rows_merged + rows_dropped + rows_quarantined,"
        " entries_read, entries_converted + entries_quarantined FROM _sync_run WHERE state = 'completed'"
    )
    for migration, rows, rows_made, entries, entries_made in runs:
        if rows != rows_made or entries != entries_made:
            raise PromiseBroken(f"P8: {migration} on {device.name} does not add up")


def check_diagnostics_are_silent(device: "Device") -> None:
    """P12: what is given to somebody who helps has no value of a row and no token."""
    assert device.engine is not None
    _refuse_secrets([json.dumps(device.engine.export_diagnostics(redact=False))], where="the diagnostics")


def check_nothing_was_said(said: Iterable[str]) -> None:
    """P12: no value of a row and no token was logged."""
    _refuse_secrets(said, where="the log")


def _refuse_secrets(texts: Iterable[str], *, where: str) -> None:
    for text in texts:
        if found := words_in(text):
            raise PromiseBroken(f"P12: {where} has {min(found)}")
        if TOKEN in text:
            raise PromiseBroken(f"P12: {where} has a token")
