"""Documents and patches of other shapes: lifted by the migrations' own functions, handed back, or kept for later."""

import json
import random

import apsw
import pytest
from drain_world import Line, MovableClock
from pull_world import pulled
from pydantic import BaseModel, ConfigDict

from syncengine import (
    Collection,
    ListedMigration,
    MigrationRegistry,
    Quarantine,
    add,
    archive,
    cast,
    declared,
    migration,
    rename,
    tables,
)
from syncengine.engine import Engine
from syncengine.migrate.lifting import Lifter, NoWay
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.sync.apply import Applier
from syncengine.sync.calls import Beside
from syncengine.sync.parked import apply_parked
from syncengine.sync.position import Position
from syncengine.vocabulary import SchemaVersion, UserId

V1, V2, V3, V4 = (SchemaVersion((number, 0, 0)) for number in (1, 2, 3, 4))


class Shape(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class WalkV1(Shape):
    user_id: str
    id: str
    title: str
    minutes: int


class WalkV2(Shape):
    user_id: str
    id: str
    name: str
    seconds: int


WALKS_V1 = """CREATE TABLE walks (
  user_id TEXT NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL, minutes INTEGER NOT NULL,
  PRIMARY KEY (user_id, id)
) STRICT;"""

WALKS_V2 = """CREATE TABLE walks (
  user_id TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, seconds INTEGER NOT NULL CHECK (seconds >= 0),
  PRIMARY KEY (user_id, id)
) STRICT;"""


@migration(collection="walks", from_version="1.0.0", to_version="2.0.0", table=WALKS_V2, id="walks-2")
def walks_2(old: WalkV1) -> WalkV2:
    if old.title == "bad":
        raise Quarantine("is bad", field="title")
    return WalkV2(user_id=old.user_id, id=old.id, name=old.title, seconds=old.minutes * 60)


@walks_2.down
def walks_1(new: WalkV2) -> WalkV1:
    return WalkV1(user_id=new.user_id, id=new.id, title=new.name, minutes=new.seconds // 60)


walks_3 = declared(
    id="walks-3",
    collection="walks",
    from_version="2.0.0",
    to_version="3.0.0",
    changes=(rename("name", "label"), add("mood", "TEXT", default="calm"), cast("seconds", float)),
)


class WalkV3(Shape):
    user_id: str
    id: str
    label: str
    seconds: float
    mood: str


class WalkV4(WalkV3):
    pass


@migration(collection="walks", from_version="3.0.0", to_version="4.0.0", id="walks-4", lossy=True)
def walks_4(old: WalkV3) -> list[WalkV3]:
    """No way down; "both" is split in two, "nothing" is left out."""
    if old.label == "nothing":
        return []
    if old.label != "both":
        return [old.model_copy(update={"label": old.label.upper()})]
    return [old.model_copy(update={"id": f"{old.id}-{part}", "label": part}) for part in ("one", "two")]


MIGRATIONS = (
    ListedMigration(
        "walks-1",
        "0.0.0 > 1.0.0",
        tables(
            id="walks-1",
            from_version="0.0.0",
            to_version="1.0.0",
            create=(WALKS_V1,),
        ),
    ),
    ListedMigration("walks-2", "1.0.0 > 2.0.0", walks_2),
    ListedMigration("walks-3", "2.0.0 > 3.0.0", walks_3),
    ListedMigration("walks-4", "3.0.0 > 4.0.0", walks_4),
)


def registry(target: str) -> MigrationRegistry:
    return MigrationRegistry(
        app="walks",
        baseline="0.0.0",
        target=target,
        collections=(Collection("walks"),),
        migrations=MIGRATIONS,
        asks_for_major=False,
    )


class Device:
    """A device of ann's at one version of the app."""

    def __init__(self, folder, version: str) -> None:
        self.path = str(folder / "app.db")
        self.open(version)

    def open(self, version: str) -> None:
        self.registry = registry(version)
        self.engine = Engine.open(
            self.path, registry=self.registry, user="ann", clock=MovableClock(), chance=random.Random(1)
        )
        self.engine.migrate()
        self.store = self.engine._store
        self.applier = Applier(self.store, self.registry, owner="ann")

    def upgrade(self, version: str) -> None:
        self.engine.close()
        self.open(version)

    def page(self, *rows):
        at = Position(cursor="c", server_epoch=1, at_head=False, resync=1)
        return self.applier.apply(rows, position=at)

    def rows(self):
        names = [name for (name,) in self.store.query("SELECT name FROM pragma_table_info('walks')")]
        return {row[1]: dict(zip(names[2:], row[2:], strict=True)) for row in self.store.query("SELECT * FROM walks")}

    def outbox(self):
        rows = self.store.query(
            "SELECT kind, row_key, set_json, before_json, base_version, shape_version FROM _sync_outbox"
        )
        return [(kind, key, json.loads(text), before, *rest) for kind, key, text, before, *rest in rows]

    def parked(self):
        return dict(self.store.query("SELECT row_key, reason FROM _sync_parked"))

    def quarantine(self):
        return self.store.query(
            "SELECT row_key, error_code, shape_version FROM _sync_quarantine WHERE resolution IS NULL"
        )


@pytest.fixture
def device(tmp_path):
    made = []

    def make(version: str) -> Device:
        made.append(Device(tmp_path, version))
        return made[0]

    yield make
    for one in made:
        one.engine.close()


def old_walk(key: str = "a", version: int = 1, *patches: Beside, **fields: object):
    body = {"id": key, "title": "old", "minutes": 2, **fields}
    return pulled("walks", key, version, body, shape="1.0.0", patches=patches)


def beside(patch: int, shape: str, **fields: object) -> Beside:
    return Beside(patch=patch, kind="patch", set=fields, shape_version=shape)


# The lifter alone.


def test_a_document_goes_up_as_a_stored_row_would_and_comes_down_again(device):
    one = device("3.0.0")
    lifter = Lifter(one.store, one.registry)
    old = {"id": "a", "title": "t", "minutes": 2, "unheard_of": [1]}
    (new,) = lifter.up("walks", old, owner="ann", start=V1)
    assert new == {"id": "a", "label": "t", "seconds": 120.0, "mood": "calm", "unheard_of": [1]}
    assert lifter.up("walks", old, owner="ann", start=V1, end=V2)[0]["seconds"] == 120
    assert lifter.down("walks", new, owner="ann", start=V3, end=V1) == old
    assert lifter.up("walks", new, owner="ann", start=V3) == [new]


def test_a_step_without_a_way_down_is_said(device):
    one = device("4.0.0")
    lifter = Lifter(one.store, one.registry)
    with pytest.raises(NoWay, match="walks-4 has no way down"):
        lifter.down("walks", {"id": "a", "label": "T", "seconds": 1.0, "mood": ""}, owner="ann", start=V4, end=V3)
    with pytest.raises(NoWay, match="not known"):
        lifter.up("walks", {"id": "a"}, owner="ann", start=SchemaVersion((0, 5, 0)))


def test_the_way_between_two_shapes_is_worked_out_once_however_many_rounds_need_it(device):
    one = device("3.0.0")
    one.page(old_walk("a"))
    opened = []
    apsw.connection_hooks.append(opened.append)
    try:
        for version in (2, 3):
            one.applier = Applier(one.store, one.registry, owner="ann")
            one.page(old_walk("a", version, minutes=version))
    finally:
        apsw.connection_hooks.remove(opened.append)
    assert one.rows()["a"]["seconds"] == 180.0
    assert opened == [], "no table is made in memory again"


def test_a_migration_that_is_registered_later_is_on_the_way(device):
    one = device("3.0.0")
    old = {"id": "a", "title": "t", "minutes": 2}
    assert Lifter(one.store, one.registry).up("walks", old, owner="ann", start=V1)[0]["mood"] == "calm"
    later = declared(
        id="walks-3b",
        collection="walks",
        from_version="2.0.0",
        to_version="3.0.0",
        after=("walks-3",),
        changes=(add("pace", "TEXT", default="slow"),),
    )
    one.registry.register_migration("walks-3b", later, ("walks-3",))
    assert Lifter(one.store, one.registry).up("walks", old, owner="ann", start=V1)[0]["pace"] == "slow"


def archiving() -> MigrationRegistry:
    without = declared(
        id="gone-2", collection="walks", from_version="1.0.0", to_version="2.0.0", changes=(archive("minutes"),)
    )
    return MigrationRegistry(
        app="walks",
        baseline="0.0.0",
        target="2.0.0",
        collections=(Collection("walks"),),
        migrations=(MIGRATIONS[0], ListedMigration("gone-2", "1.0.0 > 2.0.0", without)),
        asks_for_major=False,
    )


def test_what_an_archive_kept_comes_back_on_the_way_down(tmp_path):
    path, later = str(tmp_path / "app.db"), archiving()
    with Engine.open(path, registry=registry("1.0.0"), user="ann") as engine:
        engine.migrate()
        with engine.write() as db:
            db["walks"].insert({"user_id": "ann", "id": "a", "title": "t", "minutes": 7})
    with Engine.open(path, registry=later, user="ann") as engine:
        engine.migrate()
        lifter = Lifter(engine._store, later)
        down = lifter.down("walks", {"id": "a", "title": "x"}, owner="ann", start=V2, end=V1)
        assert down == {"id": "a", "title": "x", "minutes": 7}
        with pytest.raises(Quarantine):
            lifter.down("walks", {"id": "b", "title": "x"}, owner="ann", start=V2, end=V1)


def test_what_one_store_has_kept_is_given_to_no_other_of_the_same_app(tmp_path):
    later = archiving()
    for name, minutes in (("one", 7), ("other", 8)):
        path = str(tmp_path / f"{name}.db")
        with Engine.open(path, registry=registry("1.0.0"), user="ann") as engine:
            engine.migrate()
            with engine.write() as db:
                db["walks"].insert({"user_id": "ann", "id": "a", "title": "t", "minutes": minutes})
        with Engine.open(path, registry=later, user="ann") as engine:
            engine.migrate()
            down = Lifter(engine._store, later).down("walks", {"id": "a"}, owner="ann", start=V2, end=V1)
            assert down["minutes"] == minutes


def test_a_document_goes_through_a_merge_as_a_group_of_one_unless_it_becomes_another_row(tmp_path):
    @migration(
        collection="walks",
        from_version="1.0.0",
        to_version="2.0.0",
        table=WALKS_V2,
        id="walks-merged",
        group_by="title",
        lossy=True,
    )
    def merged(old: list[WalkV1]) -> WalkV2:
        """One walk of each name; a copy goes by the name of its first."""
        first, seconds = old[0], 60 * sum(one.minutes for one in old)
        return WalkV2(user_id=first.user_id, id=first.id.removeprefix("copy-"), name=first.title, seconds=seconds)

    merging = MigrationRegistry(
        app="walks",
        baseline="0.0.0",
        target="2.0.0",
        collections=(Collection("walks"),),
        migrations=(MIGRATIONS[0], ListedMigration("walks-merged", "1.0.0 > 2.0.0", merged)),
        asks_for_major=False,
    )
    with Engine.open(tmp_path / "app.db", registry=merging, user="ann") as engine:
        engine.migrate()
        lifter = Lifter(engine._store, merging)
        old = {"id": "a", "title": "t", "minutes": 2}
        assert lifter.up("walks", old, owner="ann", start=V1) == [{"id": "a", "name": "t", "seconds": 120}]
        with pytest.raises(NoWay, match="made another row"):
            lifter.up("walks", {**old, "id": "copy-a"}, owner="ann", start=V1)


# Pages.


def test_an_older_document_is_lifted_and_the_cloud_keeps_its_own(device):
    one = device("3.0.0")
    one.page(old_walk("a"), old_walk("b", 2, mood="kept aside"))
    assert one.rows() == {
        "a": {"label": "old", "seconds": 120.0, "mood": "calm"},
        "b": {"label": "old", "seconds": 120.0, "mood": "calm"},
    }
    assert one.outbox() == []


def test_an_older_patch_beside_a_newer_document_is_lifted_and_handed_back_once(device):
    one = device("3.0.0")
    body = {"id": "a", "label": "newer", "seconds": 200.0, "mood": "glad", "from_4": {"x": 1}}
    item = pulled("walks", "a", 9, body, shape="3.0.0", patches=(beside(8, "1.0.0", title="by the old app"),))
    one.page(item)
    assert one.rows()["a"] == {"label": "by the old app", "seconds": 200.0, "mood": "glad"}
    wanted = {**body, "label": "by the old app"}
    assert one.outbox() == [("lift", "a", wanted, "[8]", 9, "3.0.0")]
    one.page(item)
    assert len(one.outbox()) == 1, "the same again is one lift"


def test_what_is_handed_back_is_not_taken_for_what_a_trigger_wrote(device):
    """What triggers of the app queue of the page's own rows is dropped; not so what the engine queues."""
    one = device("3.0.0")
    with one.store.transaction():
        one.store.query("CREATE TRIGGER app AFTER INSERT ON walks BEGIN UPDATE walks SET mood = 'mine'; END")
    body = {"label": "newer", "seconds": 200.0, "mood": "glad"}
    lifted = [
        pulled("walks", key, 9, {"id": key, **body}, shape="3.0.0", patches=(beside(8, "1.0.0", title="older"),))
        for key in ("b", "d")
    ]
    plain = [pulled("walks", key, 9, {"id": key, **body}, shape="3.0.0") for key in ("a", "c", "e")]
    one.page(plain[0], lifted[0], plain[1], lifted[1], plain[2])
    assert [(kind, key) for kind, key, *_ in one.outbox()] == [("lift", "b"), ("lift", "d")]
    assert {row["mood"] for row in one.rows().values()} == {"glad"}


def test_a_newer_patch_beside_an_older_document_lifts_the_document(device):
    one = device("3.0.0")
    one.page(old_walk("a", 5, beside(4, "2.0.0", seconds=33), beside(5, "1.0.0", title="later")))
    assert one.rows()["a"] == {"label": "later", "seconds": 33.0, "mood": "calm"}
    ((kind, _, body, lifts, base, shape),) = one.outbox()
    assert (kind, lifts, base, shape) == ("lift", "[4, 5]", 5, "2.0.0")
    assert body == {"id": "a", "name": "later", "seconds": 33}


def test_pending_edits_stay_on_top_of_a_lifted_document(device):
    one = device("3.0.0")
    one.page(old_walk("a"))
    with one.engine.write() as db:
        db.execute("UPDATE walks SET label = 'mine'")
    one.page(old_walk("a", 2, minutes=3))
    assert one.rows()["a"] == {"label": "mine", "seconds": 180.0, "mood": "calm"}
    assert [(kind, body) for kind, _, body, *_ in one.outbox()] == [("patch", {"label": "mine"})]


def test_a_document_that_its_migration_refuses_is_set_aside_in_its_own_shape(device):
    one = device("3.0.0")
    one.page(old_walk("a", title="bad"), old_walk("b"), old_walk("c", minutes="many"))
    assert list(one.rows()) == ["b"]
    assert sorted(one.quarantine()) == [("a", "quarantined_by_rule", "1.0.0"), ("c", "shape_invalid", "1.0.0")]


def test_a_patch_that_its_migration_refuses_is_set_aside_and_the_document_comes_in(device):
    one = device("3.0.0")
    body = {"id": "a", "label": "newer", "seconds": 200.0, "mood": "glad"}
    patches = (beside(7, "1.0.0", title="bad"), beside(8, "1.0.0", minutes=1))
    one.page(pulled("walks", "a", 9, body, shape="3.0.0", patches=patches))
    assert one.rows()["a"] == {"label": "newer", "seconds": 60.0, "mood": "glad"}
    assert one.quarantine() == [("a", "quarantined_by_rule", "1.0.0")]
    assert one.outbox()[0][3] == "[8]", "the other stays at the cloud"


def test_a_patch_without_a_way_down_is_parked_and_the_document_comes_in(device):
    one = device("4.0.0")
    body = {"id": "a", "label": "NEW", "seconds": 1.0, "mood": "glad"}
    one.page(pulled("walks", "a", 9, body, shape="4.0.0", patches=(beside(8, "3.0.0", label="x"),)))
    assert one.rows()["a"] == {"label": "NEW", "seconds": 1.0, "mood": "glad"}
    assert one.parked() == {"a": "no_way_down"}
    assert one.outbox() == []


def test_a_document_that_splits_becomes_its_parts_here_and_at_the_cloud(device):
    one = device("4.0.0")
    body = {"id": "a", "label": "both", "seconds": 1.0, "mood": "glad"}
    one.page(pulled("walks", "a", 3, body, shape="3.0.0"))
    assert {key: row["label"] for key, row in one.rows().items()} == {"a-one": "one", "a-two": "two"}
    ((kind, key, changes, *_),) = one.outbox()
    assert (kind, key) == ("changes", "a")
    assert [(each["kind"], each["key"]) for each in changes] == [("put", "a-one"), ("put", "a-two"), ("delete", "a")]
    one.page(pulled("walks", "b", 4, {**body, "id": "b", "label": "nothing"}, shape="3.0.0"))
    assert "b" not in one.rows()
    assert len(one.outbox()) == 1


def test_what_is_parked_is_taken_in_after_the_migration(device):
    one = device("1.0.0")
    one.page(old_walk("a"))
    newer = pulled("walks", "a", 4, {"id": "a", "name": "newer", "seconds": 60}, shape="2.0.0")
    mixed = old_walk("b", 5, beside(5, "2.0.0", seconds=9))
    beyond = pulled("walks", "c", 6, {"id": "c"}, shape="9.0.0")
    one.page(newer, mixed, beyond)
    assert one.parked() == {"a": "newer_shape", "b": "newer_shape", "c": "newer_shape"}
    assert one.rows() == {"a": {"title": "old", "minutes": 2}}
    one.upgrade("2.0.0")
    apply_parked(one.store, one.registry)
    assert one.rows() == {"a": {"name": "newer", "seconds": 60}, "b": {"name": "old", "seconds": 9}}
    assert one.parked() == {"c": "newer_shape"}
    assert [(kind, key) for kind, key, *_ in one.outbox()] == [("lift", "b")]


def test_a_split_by_a_newer_device_reaches_the_cloud_and_comes_to_rest(tmp_path):
    clock = MovableClock()
    cloud = Cloud(SqliteStorage(str(tmp_path / "cloud"), clock=clock), clock=clock)
    cloud.accept_token(UserId("ann"), token="a token of ann")

    def opened(name: str, version: str) -> Engine:
        line = Line(cloud, "ann")
        chance = random.Random(name)
        path = tmp_path / f"{name}.db"
        engine = Engine.open(path, registry=registry(version), user="ann", backend=line, clock=clock, chance=chance)
        engine.migrate()
        return engine

    old, new, third = opened("old", "3.0.0"), opened("new", "4.0.0"), opened("third", "4.0.0")
    with old.write() as db:
        db["walks"].insert({"user_id": "ann", "id": "a", "label": "both", "seconds": 1.0, "mood": "calm"})
    for _ in range(3):
        for engine in (old, new, third):
            engine.sync_now()
    for engine in (new, third):
        with engine.read() as db:
            assert [row["id"] for row in db.query("SELECT id FROM walks ORDER BY id")] == ["a-one", "a-two"]
            assert not list(db.query("SELECT * FROM _sync_outbox"))
            assert not list(db.query("SELECT * FROM _sync_quarantine"))
    with old.read() as db:
        assert not list(db.query("SELECT * FROM walks")), "its row is gone; the parts wait until it is upgraded"
        assert len(list(db.query("SELECT * FROM _sync_parked"))) == 2
    for engine in (old, new, third):
        engine.close()
    cloud.close()
