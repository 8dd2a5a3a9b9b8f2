"""Going back over several migrations: what builds on what, imports, uploads, tables, two users, two hops."""

import json
from dataclasses import replace

import pytest
from migrate_world import quiet_write, registry_of
from rollback_world import (
    ImportExecutor,
    StoppedClock,
    add_walks,
    contents,
    make_v2,
    open_at,
    seconds_v3,
    upload_walks,
    walk,
    walks_of,
    write_phone,
)

from syncengine import (
    BaseMigrationExecutor,
    Collection,
    Engine,
    MigrationDefinition,
    Put,
    Settings,
    add,
    archive,
    cast,
    declared,
    rename,
    tables,
)
from syncengine.errors import DeveloperModeRequired, MigrationInvalid, RollbackFailed, RollbackRefused

PLAIN = """
CREATE TABLE journeys (
  user_id TEXT NOT NULL, id TEXT NOT NULL, minutes REAL NOT NULL, title TEXT, PRIMARY KEY (user_id, id)
) STRICT
"""
WALKS = [walk(0, 1), walk(1, 2), walk(2, 13), walk(3, 0)]


def titles_v4():
    return declared(
        id="titles-v4",
        collection="journeys",
        from_version="3.0.0",
        to_version="4.0.0",
        changes=(rename("title", "name"), add("colour", "TEXT", default="grey")),
    )


def steps():
    return make_v2(), ImportExecutor(), upload_walks(), seconds_v3(), titles_v4()


@pytest.fixture
def phone(tmp_path):
    return {"phone": str(write_phone(tmp_path / "phone.json", WALKS))}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.db"


def at_four(path, phone, **options):
    engine = open_at(path, *steps(), target="4.0.0", sources=phone, **options)
    engine.migrate()
    return engine


def states(engine):
    rows = engine._store.query("SELECT migration, scope, because_of FROM _sync_run WHERE state = 'rolled_back'")
    return sorted(rows, key=str)


def test_an_import_is_taken_out_with_what_builds_on_it_and_comes_again(path, phone):
    with at_four(path, phone) as engine:
        before = walks_of(engine)
        report = engine.migrations.rollback("import-walks", "ann")
        assert [step.id for step in report.plan.steps] == ["upload-walks", "import-walks"]
        assert walks_of(engine) == []
        assert engine._store.query("SELECT count(*) FROM _sync_outbox") == [(0,)]
        assert engine._store.query("SELECT count(*) FROM _sync_source") == [(0,)]
        assert engine._store.query("SELECT resolution FROM _sync_quarantine WHERE origin <> 'outbox'") == [
            ("restored",)
        ]
        assert engine.migrations.get_current_schema_version() == "4.0.0"
        assert engine.migrations.get_current_schema_version("ann") == "1.0.0"
        assert engine.migrate().results == ()
        engine.migrations.execute_migration("import-walks", "ann")
        assert walks_of(engine) == before
        assert [result.migration_id for result in engine.migrate().results] == ["upload-walks"]
        assert engine.migrations.get_current_schema_version("ann") == "4.0.0"
        assert engine.status().outbox.waiting == 3


def test_the_import_of_one_user_goes_and_another_users_rows_stay_byte_for_byte(path, phone):
    with at_four(path, phone) as engine:
        add_walks(engine, ("bob", "b-1", 5, "bob's", "red"))
    with open_at(path, *steps(), target="4.0.0", user="bob") as engine:
        engine.migrate()
        of_bob = "SELECT * FROM {} WHERE {} IN ('bob', 'user:bob') ORDER BY 1, 2"
        tables = (("journeys", "user_id"), ("_sync_version", "scope"), ("_sync_outbox", "owner"))
        before = [engine._store.query(of_bob.format(*table)) for table in tables]
        assert all(before)
    with open_at(path, *steps(), target="4.0.0", sources=phone) as engine:
        report = engine.migrations.rollback("import-walks", "ann")
        assert report.plan.users == ("ann",)
        assert [engine._store.query(of_bob.format(*table)) for table in tables] == before
        assert engine._store.query("SELECT user_id FROM journeys") == [("bob",)]


def test_rows_that_the_user_edited_or_added_are_told_from_imported_ones(path, phone):
    with at_four(path, phone) as engine:
        with quiet_write(engine) as db:
            db.execute("UPDATE journeys SET name = 'mine' WHERE id = 'w-00000'")
            db.execute("INSERT INTO journeys VALUES ('ann', 'own', 7, NULL, 'blue')")
        before = contents(engine)
        report = engine.migrations.rollback("import-walks", "ann")
        assert (report.state, [(c.key, c.code) for c in report.collisions]) == (
            "stopped",
            [("w-00000", "edited_since")],
        )
        assert contents(engine) == before
        report = engine.migrations.rollback("import-walks", "ann", on_collision="keep")
        assert walks_of(engine) == [("ann", "own", 7, None, "blue")]
        body = engine._store.query("SELECT body FROM _sync_quarantine WHERE origin = 'restore'")[0][0]
        assert json.loads(body)["name"] == "mine"


def test_an_import_that_does_more_than_it_says_is_refused(path, phone):
    class More(ImportExecutor):
        def finish(self, work):
            work.db.execute("UPDATE journeys SET minutes = 60")

    with open_at(path, make_v2(), More(), target="2.0.0", sources=phone) as engine:
        engine.migrate()
        with pytest.raises(RollbackRefused, match="more than `items` and `convert` say"):
            engine.migrations.rollback("import-walks", "ann")


def test_rows_that_left_the_source_since_stay_and_are_counted_aloud(tmp_path, path, phone):
    with at_four(path, phone):
        pass
    fewer = {"phone": str(write_phone(tmp_path / "phone.json", WALKS[1:]))}
    with open_at(path, *steps(), target="4.0.0", sources=fewer) as engine:
        report = engine.migrations.rollback("import-walks", "ann")
        assert (
            "import-walks: 1 of the rows that it made are deleted, or not in its source any more" in report.warnings
        )
        assert [row[1] for row in walks_of(engine)] == ["w-00000"]


def test_an_import_whose_source_is_gone_is_refused(path, phone):
    with at_four(path, phone):
        pass
    with open_at(path, *steps(), target="4.0.0") as engine:
        before = contents(engine)
        with pytest.raises(RollbackRefused, match="source phone"):
            engine.migrations.rollback("import-walks", "ann")
        assert contents(engine) == before


def test_two_hops_go_back_in_order_and_only_what_builds_on_it(path, phone):
    with at_four(path, phone) as engine:
        before = walks_of(engine)
        report = engine.migrations.rollback("seconds-v3", "ann")
        assert [step.id for step in report.plan.steps] == ["titles-v4", "seconds-v3"]
        assert [(m, b) for m, _, b in states(engine)] == [("seconds-v3", None), ("titles-v4", "seconds-v3")]
        assert walks_of(engine) == [("ann", "w-00000", 1.0, None), ("ann", "w-00001", 2.0, None)]
        assert engine.migrations.get_current_schema_version() == "2.0.0"
        shape = engine._store.query("SELECT DISTINCT shape_version FROM _sync_outbox WHERE kind = 'put'")
        assert shape == [("2.0.0",)]
        assert engine.migrate().results == ()
        engine.migrations.execute_migration("seconds-v3", "ann")
        assert [result.migration_id for result in engine.migrate().results] == ["titles-v4"]
        assert walks_of(engine) == before


def test_to_a_version_everything_that_led_past_it_goes_back(path, phone):
    with at_four(path, phone) as engine:
        report = engine.migrations.rollback_to("1.0.0", "ann")
        assert report.state == "rolled_back", report
        assert [step.id for step in report.plan.steps] == [
            "titles-v4",
            "seconds-v3",
            "upload-walks",
            "import-walks",
            "tables-v2",
        ]
        assert engine._store.query("SELECT count(*) FROM sqlite_schema WHERE name = 'journeys'") == [(0,)]
        assert engine._store.query("SELECT count(*) FROM _sync_collection") == [(0,)]
        assert engine.migrations.get_current_schema_version() == "1.0.0"


def test_rows_are_in_the_way_of_dropping_their_table(path):
    with open_at(path, make_v2(), target="2.0.0") as engine:
        engine.migrate()
        add_walks(engine, ("ann", "a", 1.0, "x"))
        assert engine.migrations.rollback("tables-v2", "ann").state == "stopped"
        assert walks_of(engine) == [("ann", "a", 1.0, "x")]
        report = engine.migrations.rollback("tables-v2", "ann", on_collision="keep")
        assert (report.lost, report.state) == (1, "rolled_back")
        assert engine._store.query("SELECT row_key, error_code FROM _sync_quarantine WHERE origin <> 'outbox'") == [
            ("a", "table_dropped")
        ]


def test_an_empty_table_is_dropped_without_a_word(path):
    with open_at(path, make_v2(), target="2.0.0") as engine:
        engine.migrate()
        assert engine.migrations.rollback("tables-v2").state == "rolled_back"
        engine.migrations.execute_migration("tables-v2")
        assert walks_of(engine) == []


def test_declared_changes_go_back_with_every_value(path):
    rows = [("ann", "a", 1.5, "07"), ("ann", "b", 2.5, None), ("ann", "c", 3.5, "8")]
    change = declared(
        id="declared-v3",
        collection="journeys",
        from_version="2.0.0",
        to_version="3.0.0",
        changes=(cast("title", int), rename("minutes", "length"), add("mood", "TEXT", default="fine")),
    )
    gone = declared(
        id="archived-v4",
        collection="journeys",
        from_version="3.0.0",
        to_version="4.0.0",
        changes=(archive("title"),),
    )
    steps = (tables(id="tables-v2", from_version="1.0.0", to_version="2.0.0", create=(PLAIN,)), change, gone)
    with open_at(path, *steps, target="2.0.0") as engine:
        engine.migrate()
        add_walks(engine, *rows)
    with open_at(path, *steps, target="4.0.0") as engine:
        engine.migrate()
        after = walks_of(engine)
        report = engine.migrations.rollback("declared-v3", "ann")
        assert [undone.method for undone in report.undone] == ["down", "down"]
        assert engine._store.query("SELECT user_id, id, minutes, title FROM journeys ORDER BY 2") == rows
        engine.migrations.execute_migration("declared-v3", "ann")
        engine.migrate()
        assert sorted(walks_of(engine)) == sorted(after)


def test_an_upload_goes_back_as_far_as_nobody_sent_it(path, phone):
    with at_four(path, phone) as engine:
        with engine._store.transaction():
            engine._store.query(
                "UPDATE _sync_outbox SET state = 'claimed', sequence = 1, epoch = 1, set_json = '{}'"
                " WHERE entry_id = (SELECT min(entry_id) FROM _sync_outbox)"
            )
        with pytest.raises(RollbackRefused, match="sync first"):
            engine.migrations.rollback("upload-walks", "ann")
        with engine._store.transaction():
            engine._store.query("DELETE FROM _sync_outbox WHERE state = 'claimed'")
        report = engine.migrations.rollback("upload-walks", "ann")
        assert "upload-walks: what was sent already stays at the cloud" in report.warnings
        assert engine._store.query("SELECT count(*) FROM _sync_outbox") == [(0,)]
        assert len(walks_of(engine)) == 2
        engine.migrations.execute_migration("upload-walks", "ann")
        assert engine.status().outbox.waiting == 3


class Stamp(BaseMigrationExecutor):
    """Writes one row for everybody, and takes it away again."""

    definition = MigrationDefinition(
        id="stamp",
        name="Stamp",
        description="One row",
        from_version="2.0.0",
        to_version="3.0.0",
        collections=("journeys",),
    )

    def items(self, work):
        return iter(())

    def finish(self, work):
        work.db.execute("INSERT INTO journeys VALUES ('all', 'stamp', 0, NULL)")

    def undo(self, work):
        work.db.execute("DELETE FROM journeys WHERE id = 'stamp'")


class Sealed(Stamp):
    """The same without a way back."""

    undo = BaseMigrationExecutor.undo


def test_an_executor_of_the_authors_own_is_undone_by_its_undo(path):
    with open_at(path, make_v2(), Stamp()) as engine:
        engine.migrate()
        assert walks_of(engine) == [("all", "stamp", 0.0, None)]
        report = engine.migrations.rollback("stamp", "ann", consent={"all"})
        assert report.undone[0].method == "undo"
        assert walks_of(engine) == []


def test_what_has_no_way_back_says_so_and_is_refused(path):
    with open_at(path, make_v2(), Sealed()) as engine:
        engine.migrate()
        simulated = engine.migrations.rollback("stamp", "ann", simulate=True)
        assert (simulated.state, simulated.success) == ("impossible", False)
        assert "cannot be undone" in str(simulated)
        with pytest.raises(RollbackRefused, match="no `undo`"):
            engine.migrations.rollback("stamp", "ann", consent={"all"})


def test_an_emergency_needs_developer_mode_and_takes_the_newest_restore_point(path):
    registry = (make_v2(), seconds_v3())
    with open_at(path, *registry, target="2.0.0") as engine:
        engine.migrate()
        add_walks(engine, ("ann", "a", 1.0, "x"), ("bob", "b", 2.0, "y"))
    with open_at(path, *registry) as engine:
        engine.migrate()
        with pytest.raises(DeveloperModeRequired):
            engine.migrations.rollback("seconds-v3", "ann", emergency=True)
    with open_at(path, *registry, settings=Settings(developer_mode=True)) as engine:
        with quiet_write(engine) as db:
            db.execute("UPDATE journeys SET seconds = 777 WHERE id = 'a'")
        report = engine.migrations.rollback("seconds-v3", "ann", emergency=True, why="all is wrong")
        assert report.state == "restored"
        assert walks_of(engine) == [("ann", "a", 1.0, "x"), ("bob", "b", 2.0, "y")]
        bodies = [b for (b,) in engine._store.query("SELECT body FROM _sync_quarantine WHERE origin = 'restore'")]
        assert any('"seconds":777' in body for body in bodies)
        assert engine.migrate().results == ()


def test_a_user_who_came_late_goes_back_alone_and_with_the_store(tmp_path, path):
    phone = {"phone": str(write_phone(tmp_path / "bob.json", [walk(7, 7), walk(8, 13), walk(9, 9)]))}
    with open_at(path, *steps(), target="4.0.0") as engine:
        engine.migrate()
        add_walks(engine, ("ann", "own", 60, None, "red"))
    with open_at(path, *steps(), target="4.0.0", user="bob", sources=phone) as engine:
        engine.migrate()
        of_bob = walks_of(engine)[1:]
        assert [row[2] for row in of_bob] == [420, 540]
        lifted = engine._store.query("SELECT migration FROM _sync_run WHERE scope = 'user:bob' ORDER BY 1")
        assert ("seconds-v3",) in lifted
        assert engine.migrations.rollback("import-walks", "bob").state == "rolled_back"
        assert walks_of(engine) == [("ann", "own", 60, None, "red")]
        gone = [migration for migration, scope, _ in states(engine) if scope == "user:bob"]
        assert sorted(gone) == ["import-walks", "seconds-v3", "titles-v4", "upload-walks"]
        engine.migrations.execute_migration("import-walks", "bob")
        assert walks_of(engine)[1:] == of_bob
        report = engine.migrations.rollback("seconds-v3", "bob", consent={"ann"})
        assert report.state == "rolled_back"
        assert [row[2] for row in walks_of(engine)] == [1.0, 7.0, 9.0]
        assert [step.id for step in engine.plan().held_back] == ["seconds-v3", "titles-v4"]


def test_one_collection_goes_back_and_a_late_user_is_imported_into_both_shapes(tmp_path, path):
    """Of two collections of one hop only one is back: the imported rows of each take the way that its table took."""
    stars = declared(
        id="places-v4",
        collection="places",
        from_version="3.0.0",
        to_version="4.0.0",
        changes=(add("stars", "INTEGER", default=3),),
    )
    places = "CREATE TABLE places (user_id TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (user_id, id)) STRICT"
    both = (make_v2(places), Both(), seconds_v3(), titles_v4(), stars)
    phone = {"phone": str(write_phone(tmp_path / "bob.json", [walk(7, 7)]))}
    with open_at(path, *both, target="4.0.0", user=None) as engine:
        engine.migrate()
        assert engine.migrations.rollback("titles-v4").state == "rolled_back"
    with open_at(path, *both, target="4.0.0", user="bob", sources=phone) as engine:
        engine.migrations.execute_migration("import-both", "bob")
        assert walks_of(engine) == [("bob", "w-00007", 420, None)]
        assert engine._store.query("SELECT * FROM places") == [("bob", "w-00007", 3)]
        assert engine.migrations.rollback("import-both", "bob").state == "rolled_back"
        assert walks_of(engine) == engine._store.query("SELECT * FROM places") == []


class Both(ImportExecutor):
    """Each walk is a place, too."""

    definition = replace(ImportExecutor.definition, id="import-both", collections=("journeys", "places"))

    def convert(self, item, work):
        return [
            super().convert(item, work),
            Put("places", {"user_id": work.user, "id": item.value["id"]}),
        ]


LISTS = "CREATE TABLE lists (user_id TEXT NOT NULL, id TEXT NOT NULL, name TEXT, PRIMARY KEY (user_id, id)) STRICT"
ITEMS = """
CREATE TABLE items (
  user_id TEXT NOT NULL, id TEXT NOT NULL, list TEXT, amount TEXT, PRIMARY KEY (user_id, id),
  FOREIGN KEY (user_id, list) REFERENCES Lists (user_id, id) ON DELETE CASCADE
) STRICT
"""


def lists_and_items(path, items):
    steps = (
        tables(id="lists", from_version="1.0.0", to_version="2.0.0", create=(LISTS,)),
        items,
        declared(
            id="unit", collection="items", from_version="2.1.0", to_version="2.2.0", changes=(add("unit", "TEXT"),)
        ),
    )
    collections = [Collection("lists"), Collection("items")]
    registry = registry_of(*steps, target="2.2.0", collections=collections)
    return Engine.open(path, registry=registry, user="ann", clock=StoppedClock())


def test_a_table_that_refers_to_a_dropped_one_goes_back_with_it_and_both_are_written_again(path):
    items = tables(id="items", from_version="2.0.0", to_version="2.1.0", create=(ITEMS,))
    with lists_and_items(path, items) as engine:
        engine.migrate()
        with engine.write() as db:
            db["items"].insert({"user_id": "ann", "id": "i", "list": None, "amount": "3"})
        assert engine.migrations.rollback("lists", "ann").state == "stopped"
        plan = engine.migrations.rollback("lists", "ann", on_collision="keep", simulate=True).plan
        assert [(step.id, step.because_of) for step in plan.steps] == [
            ("unit", "items"),
            ("items", "lists"),
            ("lists", None),
        ]
        assert engine.migrations.rollback("lists", "ann", on_collision="keep").state == "rolled_back"
        assert {state.state for state in engine.status().collections.values()} == {"blocked"}
        for step in ("lists", "items", "unit"):
            engine.migrations.run(only=step)
        with engine.write() as db:
            db["lists"].insert({"user_id": "ann", "id": "l", "name": "n"})
            db["items"].insert({"user_id": "ann", "id": "j", "list": "l", "amount": "4"})
        assert {state.state for state in engine.status().collections.values()} == {"usable"}


def test_a_table_is_not_made_alone_before_the_one_that_it_refers_to(path):
    items = tables(id="items", from_version="2.0.0", to_version="2.1.0", create=(ITEMS,))
    with lists_and_items(path, items) as engine:
        engine.migrate()
        assert engine.migrations.rollback("lists", "ann").state == "rolled_back"
        before = contents(engine)
        with pytest.raises(MigrationInvalid, match="items cannot run yet") as refused:
            engine.migrations.run(only="items")
        assert refused.value.why == "before it come lists"
        assert contents(engine) == before
        engine.migrations.run(only="lists")
        assert engine.migrations.run(only="items").success


class ItemsByHand(BaseMigrationExecutor):
    """Makes its table by SQL of its own, so that nobody can read what it refers to before it has run."""

    definition = MigrationDefinition(
        id="items", name="items", description="", from_version="2.0.0", to_version="2.1.0", collections=("items",)
    )

    def items(self, work):
        return iter(())

    def prepare(self, work):
        work.db.execute(ITEMS)


def test_a_rollback_that_would_leave_a_table_without_its_parent_is_refused(path):
    with lists_and_items(path, ItemsByHand()) as engine:
        engine.migrate()
        before = contents(engine)
        with pytest.raises(RollbackFailed, match="items refers to Lists, which goes") as refused:
            engine.migrations.rollback("lists", "ann", on_collision="keep")
        assert "in `after` of the one that made items" in refused.value.fix
        assert contents(engine) == before
        with engine.write() as db:
            db["items"].insert({"user_id": "ann", "id": "i", "list": None, "amount": "3"})
