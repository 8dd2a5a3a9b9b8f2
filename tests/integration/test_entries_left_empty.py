"""Edits of nothing but an archived column whose number the cloud still expects: nothing of them stays behind."""

import pytest
from imports import make_v2
from migrate_world import registry_of

from syncengine import Engine, archive, declared
from syncengine.errors import BackendUnreachable
from syncengine.outbox.numbering import begin_epoch
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.vocabulary import UserId
from tests.integration.drain_world import Line, MovableClock

ARCHIVED = declared(
    id="archived", collection="journeys", from_version="2.0.0", to_version="3.0.0", changes=(archive("minutes"),)
)


@pytest.fixture
def line(tmp_path):
    clock = MovableClock()
    cloud = Cloud(SqliteStorage(str(tmp_path / "cloud"), clock=clock), clock=clock)
    cloud.accept_token(UserId("ann"), token="a token of ann")
    yield Line(cloud, "ann")
    cloud.close()


@pytest.fixture
def emptied(tmp_path, line):
    """An app whose update has taken the column of two edits that travel as one: they have their number."""

    def made(cut):
        with opened(tmp_path, line) as engine:
            write(engine, "INSERT INTO journeys VALUES ('ann', 'a', 1.0, 'one')")
            engine.sync_now()
            write(engine, "UPDATE journeys SET minutes = 2.0")
            write(engine, "UPDATE journeys SET minutes = 3.0")
            cut()
            with pytest.raises(BackendUnreachable):
                engine.sync_now()
        line.refuses, line.lost_answers = (lambda request: None), 0
        engine = opened(tmp_path, line, ARCHIVED, target="3.0.0")
        assert states(engine) == [("void", "claimed"), ("patch", "squashed")]
        return engine

    return made


def opened(folder, line, *steps, target="2.0.0"):
    registry = registry_of(make_v2(), *steps, target=target)
    engine = Engine.open(folder / "app.db", registry=registry, user="ann", backend=line)
    engine.migrate()
    return engine


def write(engine, sql):
    with engine.write() as db:
        db.execute(sql)


def states(engine):
    return engine._store.query("SELECT kind, state FROM _sync_outbox ORDER BY entry_id")


@pytest.mark.parametrize("is_lost", ["request", "answer"])
def test_what_travelled_in_an_edit_that_an_update_left_empty_leaves_with_its_number(line, emptied, is_lost):
    def cut():
        line.lost_answers = int(is_lost == "answer")
        line.refuses = lambda request: BackendUnreachable("cut") if is_lost == "request" else None

    with emptied(cut) as engine:
        engine.sync_now()
        assert states(engine) == []
        assert engine.status().synced


def test_what_travelled_in_an_edit_that_an_update_left_empty_leaves_where_numbers_begin_anew(line, emptied):
    def cut():
        line.refuses = lambda request: BackendUnreachable("cut")

    with emptied(cut) as engine:
        begin_epoch(engine._store, "ann")
        assert states(engine) == []
