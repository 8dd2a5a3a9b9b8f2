"""A collection that is rewritten beside the live table, with somebody who writes between any two batches."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import apsw
from imports import make_v2, seconds_v3
from migrate_world import registry_of

from syncengine import Engine, Settings, SystemClock, tables

BATCH = 10
STEADY = {"shadow_rows_min": 1, "batch_rows": BATCH, "batch_ms_target": 1}
"""Every batch has ten rows: none is done in less than the target of a millisecond."""


class BatchClock(SystemClock):
    """Calls back between two batches, with the number of those before, where a run asks for its processor time."""

    def __init__(self, between: Callable[[int], None] = lambda number: None) -> None:
        self.between = between
        self.calls = 0

    def cpu_ms(self) -> int:
        self.calls += 1
        if self.calls > 1:  # the first is when the run's pace is made
            self.between(self.calls - 2)
        return super().cpu_ms()

    def pause(self, wait_ms: int) -> None:
        super().pause(min(wait_ms, 5))


class ShadowWorld:
    """One store file with `rows` journeys of the old shape."""

    def __init__(self, folder: Path, *, rows: int = 100, table: str | None = None, values=None) -> None:
        self.path = folder / "app.db"
        self.table = table
        with self.open(target="2.0.0") as engine:
            engine.migrate()
            with engine.write(atomic=False) as db:
                for row in values or [("ann", f"w-{n:05}", float(n % 7), f"t{n}") for n in range(rows)]:
                    db.execute(f"INSERT INTO journeys VALUES ({', '.join('?' * len(row))})", row)
            sent(engine)

    def open(self, *steps, target="3.0.0", clock=None, between=None, **settings) -> Engine:
        steps = steps or ((seconds_v3(consent="auto"),) if target == "3.0.0" else ())
        first = make_v2() if self.table is None else make_tables(self.table)
        return Engine.open(
            self.path,
            registry=registry_of(first, *steps, target=target),
            clock=clock or BatchClock(between or (lambda number: None)),
            settings=Settings(**{**STEADY, **settings}),
        )

    def other_process(self) -> apsw.Connection:
        """A connection as the app's old version has it: with foreign keys, without recursive triggers."""
        connection = apsw.Connection(str(self.path))
        connection.set_busy_timeout(5_000)
        connection.execute("PRAGMA foreign_keys = ON").fetchall()
        return connection

    def command_line(self, sql: str) -> str:
        """What the `sqlite3` command of this machine answers."""
        done = subprocess.run(["sqlite3", self.path, sql], capture_output=True, text=True, check=True)
        return done.stdout


def sent(engine):
    """As if the cloud had taken everything: the outbox is empty."""
    with engine._store.transaction():
        engine._store.query("DELETE FROM _sync_outbox")
    engine._store.query("VACUUM")


def make_tables(sql):
    return tables(id="tables-v2", from_version="1.0.0", to_version="2.0.0", create=(sql,))


def result_of(report, migration="seconds-v3"):
    return next(result for result in report.results if result.migration_id == migration)


def agrees(store, *, kept="_sync_old_journeys"):
    """What is there now is what the function makes of each row of the old table as it was at the last."""
    differing = store.query(
        "SELECT user_id, id, CAST(round(minutes * 60) AS INTEGER), title "
        f'FROM "{kept}" EXCEPT SELECT user_id, id, seconds, title FROM journeys'
    )
    assert differing == []
    counted = store.query(f'SELECT (SELECT count(*) FROM journeys), (SELECT count(*) FROM "{kept}")')[0]
    assert counted[0] == counted[1]
    assert store.query("PRAGMA integrity_check") == [("ok",)]
    assert store.query("PRAGMA foreign_key_check") == []


def leaves_nothing_behind(store, *, kept=()):
    """No note of a rewriting that is over, no trigger, and no table but the kept ones."""
    for table in ("_sync_shadow", "_sync_shadow_touched", "_sync_shadow_made", "_sync_shadow_aside"):
        assert store.query(f"SELECT * FROM {table}") == [], table
    wanted = re.compile(r".*_new_|_sync_(old|gone|shadow_(insert|update|rekey|delete))_[^.]*")
    names = {name for (name,) in store.query("SELECT name FROM sqlite_schema") if wanted.fullmatch(name)}
    assert names == set(kept)
    assert store.query("PRAGMA integrity_check") == [("ok",)]
