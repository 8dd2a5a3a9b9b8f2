"""Two devices that edit, send, fail, restart and are upgraded in any order.

Capture, squash, conversion, merge and the transitions of the queue together, against what people wrote.
"""

import json
import random
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from syncengine import Engine, Settings, add, cast, declared, rename, tables
from syncengine.errors import BackendUnreachable
from syncengine.migrate import entries_of_run
from syncengine.remote.wire import PullAnswer, PullRequest, PushAnswer, PushRequest
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.sync import apply
from syncengine.vocabulary import UserId
from tests.integration.drain_world import Line, MovableClock
from tests.integration.migrate_world import registry_of

OLD, NEW = "2.0.0", "3.0.0"
MADE = """
CREATE TABLE notes (
  user_id TEXT NOT NULL, id TEXT NOT NULL, a INTEGER, b INTEGER, text INTEGER, PRIMARY KEY (user_id, id)
) STRICT
"""
FIELDS = {OLD: ("a", "b", "text"), NEW: ("a", "b", "title", "colour")}
SAME_FIELD = {"text": "title"}
ROUNDS_MAX = 8
DEVICES = st.sampled_from(["phone", "tablet"])
KEYS = st.sampled_from("xy")
FEW_FIELDS = st.sets(st.integers(0, 3), max_size=2)


class FailingLine(Line):
    """Cut before or behind the next push; and somebody writes while a pull is on its way."""

    cut: str | None = None
    meanwhile: Callable[[], None] | None = None
    look: Callable[[], None]

    def push(self, request: PushRequest) -> PushAnswer:
        self.look()
        cut, self.cut = self.cut, None
        if cut == "before":
            raise BackendUnreachable("The line was cut.")
        answer = super().push(request)
        if cut == "behind":
            raise BackendUnreachable("The answer was lost.")
        if cut == "twice":
            return super().push(request)
        return answer

    def pull(self, request: PullRequest) -> PullAnswer:
        answer = super().pull(request)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()
        return answer


class Device:
    """One installation, at a version of the app."""

    def __init__(self, name: str, world: "SyncMachine") -> None:
        self.name = name
        self.version = OLD
        self._world = world
        self.line = FailingLine(world.cloud, "ann")
        self.line.look = self.shows_what_it_has_not_sent
        self.engine = self._opened()

    def _opened(self) -> Engine:
        make = tables(id="make", from_version="1.0.0", to_version=OLD, create=(MADE,))
        step = declared(
            id="step",
            collection="notes",
            from_version=OLD,
            to_version=NEW,
            changes=(rename("text", "title"), cast("b", str), add("colour", "INTEGER", default=0)),
            backup="never",
        )
        engine = Engine.open(
            self._world.folder / f"{self.name}.db",
            registry=registry_of(make, *([step] if self.version == NEW else []), target=self.version),
            user="ann",
            backend=self.line,
            clock=self._world.clock,
            chance=random.Random(self.name),
            settings=Settings(push_entries_first=3, push_entries_max=5, retry_wait_ms_max=1_000),
        )
        report = engine.migrate()
        assert report is None or report.success, report
        return engine

    def restart(self, version: str) -> None:
        self.engine.close()
        self.version = version
        self.engine = self._opened()

    def sync(self) -> None:
        with suppress(BackendUnreachable):
            self.engine.sync_now()
        self.line.cut = self.line.meanwhile = None
        self._world.clock.wall_ms += 3_600_000

    def rows(self) -> dict[str, dict[str, Any]]:
        names = ("id", *FIELDS[self.version])
        found = self.engine._store.query(f"SELECT {', '.join(names)} FROM notes")
        return {row[0]: dict(zip(names, row, strict=True)) for row in found}

    def shows_what_it_has_not_sent(self) -> None:
        last: dict[str, dict[str, Any] | None] = {}
        for key, body in self.query(
            "SELECT row_key, set_json FROM _sync_outbox WHERE state <> 'held' AND kind <> 'lift' ORDER BY entry_id"
        ):
            last[key] = None if body is None else {**(last.get(key) or {}), **json.loads(body)}
        rows = self.rows()
        for key, fields in last.items():
            assert (key in rows) == (fields is not None), f"{key} is there, or not, as it was edited"
            assert fields is None or fields == {name: rows[key][name] for name in fields}, (
                f"{key} is as it was edited"
            )

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return list(self.engine._store.query(sql))


class SyncMachine(RuleBasedStateMachine):
    """Every value is written once, so that it tells which edit it is of."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="sync-"))
        self.clock = MovableClock()
        self.cloud = Cloud(SqliteStorage(str(self.folder / "cloud"), clock=self.clock), clock=self.clock)
        self.cloud.accept_token(UserId("ann"), token="a token of ann")
        self.devices = {name: Device(name, self) for name in ("phone", "tablet")}
        self.values = 0
        self.written: dict[tuple[str, str], dict[str, int]] = {}
        """By key and field: the last value of each device that wrote it."""
        self.deleted: set[str] = set()
        self.together: set[frozenset[str]] = set()

    def teardown(self) -> None:
        try:
            self._comes_to_rest()
        finally:
            for device in self.devices.values():
                device.engine.close()
            self.cloud.close()
            shutil.rmtree(self.folder)

    def _comes_to_rest(self) -> None:
        phone, tablet = self.devices.values()
        for device in (phone, tablet):
            if device.version == OLD:
                device.restart(NEW)
        for _ in range(ROUNDS_MAX):
            phone.sync()
            tablet.sync()
        stuck = {key for device in (phone, tablet) for (key,) in device.query("SELECT row_key FROM _sync_quarantine")}
        touched = {key for group in self.together if group & self.deleted for key in group}
        assert stuck <= self.deleted | touched, "only an edit of what somebody deleted, and its group, needs a person"
        for device in (phone, tablet):
            waits = {key for (key,) in device.query("SELECT row_key FROM _sync_outbox")}
            assert waits <= stuck
        assert _without(phone.rows(), stuck) == _without(tablet.rows(), stuck)
        for (key, field), last in self.written.items():
            if key in self.deleted | stuck:
                continue
            if len(last) == 1:
                (value,) = last.values()
                assert str(phone.rows()[key][field]) == str(value), f"{field} of {key}, which nobody else wrote"
            else:
                assert str(phone.rows()[key][field]) in map(str, last.values()), f"{field} of {key} is a last word"

    # Edits.

    @rule(name=DEVICES, keys=st.lists(KEYS, min_size=1, max_size=3), fields=FEW_FIELDS)
    def transaction(self, name: str, keys: list[str], fields: set[int]) -> None:
        self.edit(name, keys, fields)

    def edit(self, name: str, keys: list[str], fields: set[int]) -> None:
        """One transaction; a row that is not there is made whole."""
        device = self.devices[name]
        there = device.rows()
        self.together.add(frozenset(keys))
        names = FIELDS[device.version]
        with device.engine.write() as db:
            for key in keys:
                is_new = key not in there
                chosen = names if is_new else [names[place] for place in sorted(fields) if place < len(names)]
                changes = {field: self._value() for field in chosen}
                if is_new:
                    db["notes"].insert({"user_id": "ann", "id": key, **changes})
                    there[key] = {"id": key, **changes}
                elif changes:
                    db["notes"].update(("ann", key), changes)
                # Where a row is made at the old shape, the new field has its default, and is its maker's, too.
                made = {"colour": 0} if is_new and device.version == OLD else {}
                for field, value in (changes | made).items():
                    self.written.setdefault((key, SAME_FIELD.get(field, field)), {})[name] = value

    def _value(self) -> int:
        self.values += 1
        return self.values

    @rule(name=DEVICES, key=KEYS)
    def delete(self, name: str, key: str) -> None:
        device = self.devices[name]
        if key in device.rows():
            self.deleted.add(key)
            with device.engine.write() as db:
                db["notes"].delete(("ann", key))

    # The line.

    @rule(name=DEVICES, cut=st.sampled_from([None, None, "before", "behind", "twice"]))
    def sync(self, name: str, cut: str | None) -> None:
        self.devices[name].line.cut = cut
        self.devices[name].sync()

    @rule(name=DEVICES, key=KEYS, fields=FEW_FIELDS, fields_there=FEW_FIELDS)
    def sync_while_people_write(self, name: str, key: str, fields: set[int], fields_there: set[int]) -> None:
        """Here, and on the other device, which sends it at once."""
        (other,) = self.devices.keys() - {name}

        def meanwhile() -> None:
            self.edit(name, [key], fields)
            self.edit(other, [key], fields_there)
            self.devices[other].sync()

        self.devices[name].line.meanwhile = meanwhile
        self.devices[name].sync()

    # The app.

    @rule(name=DEVICES)
    def restart(self, name: str) -> None:
        self.devices[name].restart(self.devices[name].version)

    @rule(name=DEVICES)
    def upgrade(self, name: str) -> None:
        self.devices[name].restart(NEW)

    # At any time.

    @invariant()
    def squashed_entries_travel_in_one_that_is_there(self) -> None:
        for device in self.devices.values():
            assert device.query(
                "SELECT count(*) FROM _sync_outbox AS s WHERE state = 'squashed' AND NOT EXISTS"
                " (SELECT 1 FROM _sync_outbox AS o WHERE o.entry_id = s.squashed_into AND o.state = 'claimed')"
            ) == [(0,)]

    @invariant()
    def a_device_shows_what_it_has_not_sent(self) -> None:
        for device in self.devices.values():
            device.shows_what_it_has_not_sent()

    @invariant()
    def entries_that_wait_are_of_the_shape_of_their_table(self) -> None:
        for device in self.devices.values():
            shapes = {
                shape for (shape,) in device.query("SELECT shape_version FROM _sync_outbox WHERE state = 'waiting'")
            }
            assert shapes <= {device.version}


def _without(rows: dict[str, Any], stuck: set[str]) -> dict[str, Any]:
    return {key: row for key, row in rows.items() if key not in stuck}


FEW = settings(max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TestSync = SyncMachine.TestCase
TestSync.settings = FEW


def forget_what_waits(patch: pytest.MonkeyPatch) -> None:
    """A pulled row is written over the edits that have not been sent."""
    patch.setattr(apply, "pending_edits", lambda store, owner, rows: {})


def lose_one_at_the_upgrade(patch: pytest.MonkeyPatch) -> None:
    """The newest entry that waits is not there any more when the queue is converted."""
    convert = entries_of_run.convert_entries

    def convert_one_less(executor: Any, work: Any) -> Any:
        work.store.query("DELETE FROM _sync_outbox WHERE entry_id = (SELECT max(entry_id) FROM _sync_outbox)")
        return convert(executor, work)

    patch.setattr(entries_of_run, "convert_entries", convert_one_less)


@pytest.mark.parametrize("bug", [forget_what_waits, lose_one_at_the_upgrade])
def test_the_machine_finds_a_bug(bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    unshrunk = settings(FEW, max_examples=100, derandomize=True, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(SyncMachine, settings=unshrunk)
