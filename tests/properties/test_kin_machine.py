"""Two devices make, move and delete rows that refer to each other, in any order, over a line that fails.

Every foreign key action, also in chains. At the end devices and cloud are alike, and whatever nobody deleted is
there, or in quarantine.
"""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from syncengine.errors import BackendUnreachable
from syncengine.sync import deciding, pull
from syncengine.sync.apply import Applied
from tests.integration.kin_world import Device, World

_PARENTS = {"lists": None, "items": "lists", "notes": "lists", "pins": "lists", "parts": "items", "tips": "notes"}
"""Which collection each refers to; items refer to items, too."""
_ACTIONS = {
    "items": "CASCADE",
    "notes": "SET NULL",
    "pins": "NO ACTION",
    "parts": "CASCADE",
    "tips": "RESTRICT",
}
_SCHEMA = tuple(
    f"CREATE TABLE {name} (user_id TEXT NOT NULL, id TEXT NOT NULL UNIQUE, up TEXT, text TEXT"
    + (", inner TEXT REFERENCES items (id) ON DELETE CASCADE" if name == "items" else "")
    + ", PRIMARY KEY (user_id, id)"
    + (f", FOREIGN KEY (up) REFERENCES {parent} (id) ON DELETE {_ACTIONS[name]}" if parent else "")
    + ") STRICT"
    for name, parent in _PARENTS.items()
)
ROUNDS_MAX = 8
DEVICES = st.sampled_from(["one", "two"])
COLLECTIONS = st.sampled_from(list(_PARENTS))
PLACES = st.integers(0, 3)


class KinMachine(RuleBasedStateMachine):
    """Each row has a key of its own, so that it can be told what became of it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="kin-"))
        self.world = World(self.folder, _SCHEMA, tuple(_PARENTS), pull_items_max=3, retry_wait_ms_max=1_000)
        self.made: dict[str, str] = {}
        self.deleted: set[str] = set()
        """By a person, or with a row that a person deleted on a device that had both."""
        self.number = 0

    def teardown(self) -> None:
        try:
            self._comes_to_rest()
        finally:
            self.world.close()
            shutil.rmtree(self.folder)

    def _comes_to_rest(self) -> None:
        for _ in range(ROUNDS_MAX):
            for device in self.world.devices:
                self._sync(device)
        assert not any(device.refused() for device in self.world.devices), "no block edits a row and deletes another"
        self.world.all_agree()
        aside = {key for device in self.world.devices for key, _ in device.open_items()}
        there = {key for name in _PARENTS for key in self.world.one.rows(name)}
        assert self.made.keys() - self.deleted - aside <= there, "what nobody deleted is there, or in quarantine"
        for device in self.world.devices:
            assert device.query("SELECT * FROM pragma_foreign_key_check") == []

    def _sync(self, device: Device) -> None:
        with suppress(BackendUnreachable):
            device.sync()
        device.line.lost_answers, device.line.pulls_left, device.line.meanwhile = 0, None, None
        self.world.clock.wall_ms += 3_600_000

    def _device(self, name: str) -> Device:
        return self.world.one if name == "one" else self.world.two

    # People.

    def _keys(self, device: Device, collection: str | None) -> list[str]:
        return [] if collection is None else list(device.rows(collection))

    def _one_of(self, keys: list[str], place: int) -> str | None:
        """None one time in so many."""
        return keys[place % len(keys)] if keys and place else None

    @rule(name=DEVICES, collection=COLLECTIONS, up=PLACES, inner=PLACES)
    def make(self, name: str, collection: str, up: int, inner: int) -> None:
        device = self._device(name)
        self.number += 1
        key = f"{collection}{self.number}"
        self.made[key] = collection
        row: dict[str, Any] = {"user_id": "ann", "id": key, "text": f"by {name}"}
        row["up"] = self._one_of(self._keys(device, _PARENTS[collection]), up)
        if collection == "items":
            row["inner"] = self._one_of(self._keys(device, "items"), inner)
        with device.engine.write() as db:
            db[collection].insert(row)

    @rule(name=DEVICES, collection=COLLECTIONS, which=PLACES, up=PLACES)
    def move(self, name: str, collection: str, which: int, up: int) -> None:
        device = self._device(name)
        key = self._one_of(self._keys(device, collection), which + 1)
        if key is not None and _PARENTS[collection]:
            parent = self._one_of(self._keys(device, _PARENTS[collection]), up)
            with device.engine.write() as db:
                db[collection].update(("ann", key), {"up": parent})

    @rule(name=DEVICES, collection=COLLECTIONS, which=PLACES)
    def edit(self, name: str, collection: str, which: int) -> None:
        device = self._device(name)
        key = self._one_of(self._keys(device, collection), which + 1)
        if key is not None:
            self.number += 1
            with device.engine.write() as db:
                db[collection].update(("ann", key), {"text": f"{self.number} by {name}"})

    @rule(name=DEVICES, collection=COLLECTIONS, which=PLACES)
    def delete(self, name: str, collection: str, which: int) -> None:
        """Refused where rows on this device may not be without it."""
        device = self._device(name)
        key = self._one_of(self._keys(device, collection), which + 1)
        if key is None:
            return
        before = self._all(device)
        with suppress(apsw.ConstraintError), device.engine.write() as db:
            db[collection].delete(("ann", key))
        self.deleted |= before - self._all(device)

    def _all(self, device: Device) -> set[str]:
        return {key for name in _PARENTS for key in device.rows(name)}

    # The line.

    @rule(name=DEVICES, lost_answers=st.sampled_from([0, 0, 0, 1]), pulls=st.sampled_from([None, None, 0, 1]))
    def sync(self, name: str, lost_answers: int, pulls: int | None) -> None:
        device = self._device(name)
        device.line.lost_answers, device.line.pulls_left = lost_answers, pulls
        self._sync(device)

    @rule(name=DEVICES, collection=COLLECTIONS, which=PLACES, up=PLACES)
    def sync_while_the_other_writes(self, name: str, collection: str, which: int, up: int) -> None:
        other = "two" if name == "one" else "one"

        def meanwhile() -> None:
            self.delete(other, collection, which)
            self.make(name, collection, up, up)
            self.make(other, collection, up, up)
            self._sync(self._device(other))

        self._device(name).line.meanwhile = meanwhile
        self._sync(self._device(name))


FEW = settings(max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TestKin = KinMachine.TestCase
TestKin.settings = FEW


def decide_nothing(patch: pytest.MonkeyPatch) -> None:
    """What waits for parents and children waits for ever."""
    patch.setattr(pull, "decide_kin", lambda applier, position: Applied())


def keep_nothing(patch: pytest.MonkeyPatch) -> None:
    """What goes with its parent is sent, and not kept."""
    patch.setattr(deciding.PageRecord, "set_aside", lambda *args, **more: None)


@pytest.mark.parametrize("bug", [decide_nothing, keep_nothing])
def test_the_machine_finds_a_bug(bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    unshrunk = settings(FEW, max_examples=100, derandomize=True, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(KinMachine, settings=unshrunk)
