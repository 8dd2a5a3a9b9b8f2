"""Killed at any moment, the app loses nothing; and each check of the harness finds the fault that it is there for."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from migrations import REGISTRY, registry
from simulator.asyncstorage_writer import write_store
from simulator.crash_checks import Expected, StoreFacts, faults, read_columns, read_facts
from syncengine import Engine
from syncengine.clock import SystemClock
from syncengine.server.sqlite_storage import SqliteStorage

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20
USER = "ann"


@pytest.mark.slow
def test_twenty_kills_at_random_moments_lose_nothing_and_send_nothing_twice(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    done = subprocess.run(
        [sys.executable, "-m", "simulator", "kill9", "--times", str(KILLS), "--keep", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"kill9: {KILLS} kills in ")
    assert "every check held" in done.stdout
    assert done.stderr == ""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[StoreFacts, Expected]:
    """A store that was migrated offline by nobody disturbed, and what it is held against."""
    folder = tmp_path_factory.mktemp("sound")
    written = write_store(folder / "phone", walks=60, places=12, leave_wal=True)
    SqliteStorage(str(folder / "cloud"), clock=SystemClock()).close()
    store, at_2 = folder / "ann.db", registry(target="2.0.0")
    sources = {"asyncstorage": str(written.path)}
    with Engine.open(store, registry=at_2, user=USER, sources=sources, consent=lambda request: True) as engine:
        engine.migrate()
    columns_at_2 = read_columns(store, registry=at_2)
    with Engine.open(store, registry=REGISTRY, user=USER, sources=sources, consent=lambda request: True) as engine:
        engine.migrate()
    columns_at = {"2.0.0": columns_at_2, "3.0.0": read_columns(store, registry=REGISTRY)}
    facts = read_facts(store, registry=REGISTRY, user=USER, cloud_folder=folder / "cloud")
    return facts, Expected(registry=REGISTRY, columns_at=columns_at, written=written)


def without_a_walk(facts: StoreFacts) -> StoreFacts:
    journeys = sorted(facts.local["journeys"])[1:]
    return replace(facts, local={**facts.local, "journeys": frozenset(journeys)})


def without_an_entry(facts: StoreFacts) -> StoreFacts:
    places = sorted(facts.waiting["places"])[1:]
    return replace(facts, waiting={**facts.waiting, "places": frozenset(places)})


def with_a_stranger_at_the_cloud(facts: StoreFacts) -> StoreFacts:
    return replace(facts, cloud={"journeys": frozenset({"nobody's"})})


def with_rows_of_an_import_that_is_not_done(facts: StoreFacts) -> StoreFacts:
    return replace(facts, gone=facts.gone - {("places-storage-v1-to-v2", f"user:{USER}")})


BROKEN: list[tuple[str, Callable[[StoreFacts], StoreFacts]]] = [
    ("the file is damaged", lambda facts: replace(facts, damage="row 7 missing from index")),
    ("3 rows refer to nothing", lambda facts: replace(facts, broken_references=3)),
    ("without a reason", lambda facts: replace(facts, without_reason=1)),
    ("the version table says 3.0.0", lambda facts: replace(facts, gone=frozenset())),
    ("the version table says 2.0.0 for store", lambda f: replace(f, versions={**f.versions, "store": "2.0.0"})),
    ("the history says that places has", lambda f: replace(f, columns={**f.columns, "places": ("user_id", "id")})),
    ("the history says that profile has", lambda f: replace(f, gone=f.gone - {("profile-schema-v2-to-v3", "store")})),
    ("journeys: 60 were to be imported", without_a_walk),
    ("places: 0 were to be imported", with_rows_of_an_import_that_is_not_done),
    (
        "dismissed_places: 8 were to be imported",
        lambda f: replace(f, set_aside={**f.set_aside, "dismissed_places": 1}),
    ),
    ("places: 1 rows neither wait nor are at the server", without_an_entry),
    ("journeys: 1 rows at the server are not in the store", with_a_stranger_at_the_cloud),
]


def test_a_sound_store_has_no_fault(sound: tuple[StoreFacts, Expected]) -> None:
    facts, expected = sound
    assert faults(facts, user=USER, expected=expected) == []


def test_a_store_that_is_not_there_yet_has_no_fault(sound: tuple[StoreFacts, Expected], tmp_path: Path) -> None:
    facts = read_facts(tmp_path / "none.db", registry=REGISTRY, user=USER, cloud_folder=tmp_path)
    assert faults(facts, user=USER, expected=sound[1]) == []


@pytest.mark.parametrize(("sentence", "break_it"), BROKEN, ids=[sentence for sentence, _ in BROKEN])
def test_a_fault_is_told(
    sound: tuple[StoreFacts, Expected], sentence: str, break_it: Callable[[StoreFacts], StoreFacts]
) -> None:
    facts, expected = sound
    told = faults(break_it(facts), user=USER, expected=expected)
    assert any(sentence in fault for fault in told), told
