"""The histories of the differential test of queued entries, by whole rounds over the shipped cloud's own rules.

A device sends its edits before an upgrade, or upgrades while they wait or are on their way; a second device at the
newest version reads. It has the same rows either way, or they are in quarantine.
"""

import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from syncengine import Engine, Settings, tables
from syncengine.errors import BackendUnreachable
from syncengine.remote.wire import PushAnswer, PushRequest
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.vocabulary import UserId
from tests.integration.drain_world import Line, MovableClock
from tests.integration.migrate_world import registry_of
from tests.properties.test_entries_differential import (
    BLOCKS,
    DECLARED,
    NEW_SHAPE,
    OLD_SHAPE,
    STEPS,
    V2,
    by_declaration,
    by_function,
    computed,
    edit,
    refused_by_value,
    set_aside_whole,
    source_of,
    split,
    under_new_key,
)

ROUNDS_MAX = 6
"""Both devices have come to rest by then."""


@dataclass(frozen=True)
class Case:
    """`before` are blocks of edits that are at the cloud before the others are made."""

    step: Any
    before: list[list[Any]]
    queued: list[list[Any]]
    passed: int
    """So many pushes of the queued edits have arrived, and are settled."""
    then: str
    """What became of the next push: it was "lost" before the cloud had it, or its "answer lost", or never "begun"."""
    entries_max: int
    shadow: bool


CASES = st.builds(
    Case,
    step=st.sampled_from(STEPS),
    before=BLOCKS,
    queued=BLOCKS,
    passed=st.integers(0, 2),
    then=st.sampled_from(["lost", "answer lost", "begun"]),
    entries_max=st.integers(1, 4),
    shadow=st.booleans(),
)


class BreakingLine(Line):
    """Goes down after so many pushes, in one of two ways."""

    passes: int | None = None
    then = "lost"

    def push(self, request: PushRequest) -> PushAnswer:
        if self.passes is None:
            return super().push(request)
        self.passes -= 1
        if self.passes >= 0:
            return super().push(request)
        if self.then == "answer lost":
            super().push(request)
        raise BackendUnreachable("The line was cut.")


class World:
    """The cloud of ann, and her two devices: one writes, one reads."""

    def __init__(self, folder: Path, case: Case) -> None:
        self.folder = folder
        self.case = case
        self.clock = MovableClock()
        self.cloud = Cloud(SqliteStorage(str(folder / "cloud"), clock=self.clock), clock=self.clock)
        self.cloud.accept_token(UserId("ann"), token="a token of ann")
        self.line = BreakingLine(self.cloud, "ann")
        self.engines: list[Engine] = []

    def close(self) -> None:
        for engine in self.engines:
            engine.close()
        self.cloud.close()

    def device(self, name: str, version: str, line: Line | None = None) -> Engine:
        make = tables(id="make", from_version="1.0.0", to_version=OLD_SHAPE, create=(V2,))
        step, said = self.case.step
        steps = (step(said, shadow=self.case.shadow),) if version == NEW_SHAPE else ()
        engine = Engine.open(
            self.folder / f"{name}.db",
            registry=registry_of(make, *steps, target=version),
            user="ann",
            backend=line or Line(self.cloud, "ann"),
            clock=self.clock,
            chance=random.Random(name),
            settings=Settings(
                push_entries_first=self.case.entries_max,
                push_entries_max=self.case.entries_max,
                retry_wait_ms_max=1_000,
            ),
        )
        self.engines.append(engine)
        report = engine.migrate()
        assert report is None or report.success, report
        return engine

    def writer(self, version: str) -> Engine:
        return self.device("writer", version, self.line)

    def is_cut(self, engine: Engine) -> None:
        """Some of the edits are sent, then the line is cut."""
        if self.case.then == "begun":
            return
        self.line.passes, self.line.then = self.case.passed, self.case.then
        try:
            engine.sync_now()
        except BackendUnreachable:
            self.clock.wall_ms += 3_600_000
        finally:
            self.line.passes = None

    def settled(self, writer: Engine) -> tuple[dict[str, Any], set[str]]:
        """What the second device has in the end, and the keys of what is in quarantine somewhere."""
        reader = self.device("reader", NEW_SHAPE)
        for _ in range(ROUNDS_MAX):
            writer.sync_now()
            reader.sync_now()
        stuck = set_aside_whole(writer) | pulled_aside(writer) | pulled_aside(reader) | held(writer)
        assert reader._store.query("SELECT row_key FROM _sync_outbox") == []
        assert [key for key in waiting(writer) if source_of(key) not in sources(stuck)] == []
        assert free(rows(writer), stuck) == free(rows(reader), stuck), "they agree"
        return rows(reader), stuck


def rows(engine: Engine) -> dict[str, Any]:
    """Every row by its key, with the names of its columns."""
    names = [name for (name,) in engine._store.query("SELECT name FROM pragma_table_info('notes')")]
    found = engine._store.query(f"SELECT {', '.join(names)} FROM notes")
    return {row[names.index("id")]: dict(zip(names, row, strict=True)) for row in found}


def pulled_aside(engine: Engine) -> set[str]:
    return {
        key
        for (key,) in engine._store.query(
            "SELECT row_key FROM _sync_quarantine WHERE origin IN ('pull', 'migration')"
        )
    }


def held(engine: Engine) -> set[str]:
    return {key for (key,) in engine._store.query("SELECT row_key FROM _sync_outbox WHERE state = 'held'")}


def waiting(engine: Engine) -> list[str]:
    return [key for (key,) in engine._store.query("SELECT row_key FROM _sync_outbox")]


def sources(keys: set[str]) -> set[str]:
    return {source_of(key) for key in keys}


def free(found: dict[str, Any], stuck: set[str]) -> dict[str, Any]:
    return {key: row for key, row in found.items() if source_of(key) not in sources(stuck)}


def sent_before(case: Case) -> tuple[dict[str, Any], set[str]]:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), case)
        try:
            old = world.writer(OLD_SHAPE)
            for blocks in (case.before, case.queued):
                edit(old, blocks)
                old.sync_now()
            old.close()
            return world.settled(world.writer(NEW_SHAPE))
        finally:
            world.close()


def sent_after(case: Case) -> tuple[dict[str, Any], set[str]]:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), case)
        try:
            old = world.writer(OLD_SHAPE)
            edit(old, case.before)
            old.sync_now()
            edit(old, case.queued)
            world.is_cut(old)
            old.close()
            return world.settled(world.writer(NEW_SHAPE))
        finally:
            world.close()


def example_of(step: Any, *, before: list[list[Any]], queued: list[list[Any]], then: str = "answer lost") -> Any:
    return example(Case(step, before, queued, passed=0, then=then, entries_max=2, shadow=False))


PUT_X = [[("put", "x", 1, 1, "one")]]


@settings(max_examples=15, deadline=None, phases=set(Phase) - {Phase.explain})
@example_of((by_function, computed), before=PUT_X, queued=[[("a", "x", 2)], [("b", "x", 2)]])
@example_of((by_function, split), before=PUT_X, queued=[[("a", "x", 2)], [("put", "y", 0, 0, None)]])
@example_of((by_function, split), before=PUT_X, queued=[[("a", "x", 3)]], then="lost")
@example_of((by_function, under_new_key), before=PUT_X, queued=[[("a", "x", 2)], [("delete", "x")]], then="lost")
@example_of((by_declaration, DECLARED[1]), before=PUT_X, queued=[[("text", "x", None)], [("key", "x", "y")]])
@given(CASES)
def test_a_reader_has_the_same_rows_whether_edits_were_sent_before_the_upgrade_or_after_it(case):
    before, stuck_before = sent_before(case)
    after, stuck = sent_after(case)
    stuck |= stuck_before
    assert free(after, stuck) == free(before, stuck)
    if case.step[1] is not refused_by_value:
        assert not stuck
