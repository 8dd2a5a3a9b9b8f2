"""The power goes at every operation of the disk, and before every statement, in each migration of Hero's Path.

A sample of them in the gate; all with SYNCENGINE_EVERY_CRASH=1.
"""

import pytest

import migrations
from simulator.asyncstorage_writer import write_store
from simulator.generation1_rows import generation1_rows
from syncengine import Engine
from syncengine.testing import StoppedClock, crash_everywhere
from syncengine.vocabulary import STORE_SCOPE

USER = "ann"
LISTED = migrations.REGISTRY.migrations
TIMES = {"profile": ("migration_status", "updated_at", "created_at"), "preferences": ("updated_at", "created_at")}


@pytest.fixture(scope="module")
def phone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phone") / "store"
    return {"asyncstorage": str(write_store(folder, kind="ios", walks=12, places=8, dismissed=3, seed=5).path)}


def opened(path, phone, *, target="3.0.0"):
    return Engine.open(
        path,
        registry=migrations.registry(target=target),
        user=USER,
        sources=phone,
        clock=StoppedClock(),
        consent=lambda request: True,
    )


def done_by(engine, listed):
    result = engine.migrations.execute_migration(listed.id, None if listed.scope == STORE_SCOPE else USER)
    assert result.success, result


def fill(engine):
    """Edits that wait to be sent, in the shape of 2.0.0."""
    rows = generation1_rows(user=USER, seed=11, journeys=4, places=3, dismissed=2)
    with engine.write() as db:
        for name in ("journeys", "places", "dismissed_places"):
            for row in getattr(rows, name):
                names, marks = ", ".join(row), ", ".join("?" * len(row))
                db.execute(f"INSERT OR IGNORE INTO {name} ({names}) VALUES ({marks})", tuple(row.values()))


@pytest.mark.parametrize("listed", LISTED, ids=lambda listed: listed.id)
def test_wherever_the_power_goes_a_migration_of_heros_path_is_done_whole_or_not_at_all(
    listed, phone, tmp_path, record_property
):
    version = str(listed.edge.to_version)

    def build(path):
        before = LISTED[: LISTED.index(listed)]
        with opened(path, phone, target="2.0.0") as engine:
            for each in before:
                if str(each.edge.to_version) == "2.0.0":
                    done_by(engine, each)
            if version == "3.0.0":
                fill(engine)
        with opened(path, phone, target=version) as engine:
            for each in before:
                if str(each.edge.to_version) == "3.0.0":
                    done_by(engine, each)

    def run(path):
        with opened(path, phone, target=version) as engine:
            done_by(engine, listed)

    report = crash_everywhere(folder=tmp_path, build=build, run=run, images_max=8, statements_max=3, leave_out=TIMES)
    record_property("sweep", str(report))
    assert report.old > 0
    assert report.new > 0
    assert report.between == 0
