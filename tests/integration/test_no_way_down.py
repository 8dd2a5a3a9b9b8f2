"""A write of an older shape for which the newer app has no way down: parked beside the row until a person ends it."""

import json

import pytest
from drain_world import Line, MovableClock
from migrate_world import registry_of
from pydantic import BaseModel, ConfigDict

from syncengine import Collection, Engine, migration, tables
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.vocabulary import UserId

WALKS = """CREATE TABLE walks (
  user_id TEXT NOT NULL, id TEXT NOT NULL, steps TEXT NOT NULL, PRIMARY KEY (user_id, id)
) STRICT;"""


class Told(BaseModel):
    model_config = ConfigDict(frozen=True)

    user_id: str
    id: str
    steps: str


class Counted(BaseModel):
    model_config = ConfigDict(frozen=True)

    user_id: str
    id: str
    steps: int


make_walks = tables(id="walks", from_version="1.0.0", to_version="2.0.0", create=(WALKS,))


@migration(
    id="count",
    collection="walks",
    from_version="2.0.0",
    to_version="3.0.0",
    table=WALKS.replace("steps TEXT", "steps INTEGER"),
)
def count(old: Told) -> Counted:
    return Counted(user_id=old.user_id, id=old.id, steps=int(old.steps))


def device(path, cloud, version):
    known = registry_of(make_walks, count, target=version, collections=[Collection("walks")], asks_for_major=False)
    engine = Engine.open(path, registry=known, user="ann", backend=Line(cloud, "ann"))
    engine.migrate()
    return engine


def write(engine, sql):
    with engine.write() as db:
        db.execute(sql)
    engine.sync_now()


@pytest.fixture
def newer(tmp_path):
    """A device whose row has a write of an older one beside it."""
    clock = MovableClock()
    cloud = Cloud(SqliteStorage(str(tmp_path / "memory"), clock=clock), clock=clock)
    cloud.accept_token(UserId("ann"), token="a token of ann")
    with device(tmp_path / "older", cloud, "2.0.0") as older, device(tmp_path / "newer", cloud, "3.0.0") as newer:
        write(older, "INSERT INTO walks VALUES ('ann', 'w', '5')")
        newer.sync_now()
        write(newer, "UPDATE walks SET steps = 6")
        write(older, "UPDATE walks SET steps = '7'")
        newer.sync_now()
        yield newer
    cloud.close()


def parked(engine):
    return engine._store.query("SELECT reason, body FROM _sync_parked")


def test_what_the_older_device_wrote_is_shown_and_explain_says_what_ends_the_wait(newer):
    [(reason, body)] = parked(newer)
    assert (reason, [patch["set"] for patch in json.loads(body)["patches"]]) == ("no_way_down", [{"steps": "7"}])
    [obstacle] = newer.explain("walks", "w").obstacles
    assert "INSERT OR REPLACE" in obstacle.fix
    assert "_sync_parked" in obstacle.fix


def test_an_update_of_the_row_does_not_end_it(newer):
    write(newer, "UPDATE walks SET steps = 8")
    assert [reason for reason, _ in parked(newer)] == ["no_way_down"]


@pytest.mark.parametrize("ends", ["INSERT OR REPLACE INTO walks VALUES ('ann', 'w', 7)", "DELETE FROM walks"])
def test_the_row_written_whole_or_deleted_ends_it(newer, ends):
    write(newer, ends)
    assert parked(newer) == []
    assert newer.status().synced
