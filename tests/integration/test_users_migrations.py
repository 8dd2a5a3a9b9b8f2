"""A migration that runs for one user sees and writes that user's rows; what it does to another's is undone."""

import pytest
from imports import ImportExecutor, JourneyV2, make_v2, seconds_v3, upload_walks, walk, write_phone
from migrate_world import registry_of

from syncengine import BaseMigrationExecutor, Engine, MigrationDefinition, Put
from syncengine.errors import OtherUsersRowsChanged
from syncengine.local.rows_of_others import rows_of_others
from syncengine.outbox.filing import file_entries

CANARY = "canary-of-bob"
OWNED = {"journeys": "user_id"}


def with_rows(path, *, target="2.0.0", also=()):
    """bob's and carol's journeys, and one of nobody."""
    with Engine.open(path, registry=registry_of(make_v2(), *also, target=target), user=None) as engine:
        engine.migrate()
        with engine.write() as db:
            db.conn.executemany(
                "INSERT INTO journeys VALUES (?, ?, 1.5, ?)",
                [("bob", "b", CANARY), ("carol", "c", "hers"), ("", "n", "nobody's"), ("ann", "a", "own")],
            )
    return path


class Repair(BaseMigrationExecutor):
    """Of one user's rows, by SQL of its author."""

    definition = MigrationDefinition(
        id="repair",
        name="Repair",
        description="Mends the rows of one user.",
        from_version="2.0.0",
        to_version="3.0.0",
        collections=("journeys",),
        scope="user",
    )

    def __init__(self, *statements):
        super().__init__()
        self.statements = statements

    def items(self, work):
        return iter(())

    def finish(self, work):
        for statement in self.statements:
            work.db.execute(statement, {"user": work.user})


def repaired(path, *statements, user="ann"):
    return Engine.open(path, registry=registry_of(make_v2(), Repair(*statements), target="3.0.0"), user=user)


def journeys(engine):
    return engine._store.query("SELECT * FROM journeys ORDER BY user_id, id")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journeys SET minutes = minutes + 1",
        "UPDATE journeys SET user_id = :user WHERE id = 'b'",
        "DELETE FROM journeys WHERE user_id <> :user",
        "DELETE FROM journeys",
        "INSERT INTO journeys VALUES ('dave', 'd', 1.0, NULL)",
        "INSERT OR REPLACE INTO journeys VALUES (:user, 'a2', 1.0, 'canary-of-bob')",
        "UPDATE journeys SET user_id = 'bob' WHERE user_id = :user",
    ],
)
def test_a_repair_that_touches_another_users_row_is_rolled_back_whole_and_raises(tmp_path, statement):
    path = with_rows(tmp_path / "app.db")
    with repaired(path, statement) as engine:
        before = journeys(engine)
        with pytest.raises(OtherUsersRowsChanged, match="repair changed rows of another user") as raised:
            engine.migrate()
        assert CANARY not in str(raised.value)
        assert journeys(engine) == before
        assert engine._store.query("SELECT state, error_code FROM _sync_run WHERE migration = 'repair'") == [
            ("failed", "other_users_rows_changed")
        ]
        assert engine.status().migration.pending == 1


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("UPDATE journeys SET minutes = 9.0 WHERE user_id = :user", ("ann", "a", 9.0, "own")),
        ("UPDATE journeys SET user_id = :user WHERE user_id = ''", ("ann", "n", 1.5, "nobody's")),
    ],
)
def test_a_repair_of_the_users_own_rows_and_of_nobodys_runs(tmp_path, statement, left):
    path = with_rows(tmp_path / "app.db")
    with repaired(path, statement) as engine:
        others = [row for row in journeys(engine) if row[0] in ("bob", "carol")]
        assert engine.migrate().success
        assert left in journeys(engine)
        assert [row for row in journeys(engine) if row[0] in ("bob", "carol")] == others


def test_a_change_that_is_taken_back_before_the_end_is_none(tmp_path):
    path = with_rows(tmp_path / "app.db")
    statements = ("UPDATE journeys SET minutes = minutes + 1", "UPDATE journeys SET minutes = minutes - 1")
    with repaired(path, *statements) as engine:
        assert engine.migrate().success


def test_a_trigger_of_the_app_that_changes_another_users_row_is_noticed(tmp_path):
    path = with_rows(tmp_path / "app.db")
    with repaired(path, "UPDATE journeys SET minutes = 9.0 WHERE user_id = :user") as engine:
        with engine._store.transaction():
            engine._store.query(
                "CREATE TRIGGER shares AFTER UPDATE ON journeys WHEN new.user_id = 'ann' BEGIN "
                "UPDATE journeys SET minutes = 0.0 WHERE user_id = 'bob'; END"
            )
            engine._store.query("UPDATE _sync_collection SET fingerprint = fingerprint")
        engine._store.drifted.clear()
        with pytest.raises(OtherUsersRowsChanged):
            engine.migrate()
        assert ("bob", "b", 1.5, CANARY) in journeys(engine)


class Stealing(ImportExecutor):
    """An import that gives its rows to somebody else, or takes the place of theirs."""

    def __init__(self, owner, *, if_exists):
        super().__init__()
        self._owner = owner
        self._if_exists = if_exists

    def convert(self, item, work):
        row = JourneyV2(user_id=self._owner, id=item.value["id"], minutes=2.0, title=None)
        return Put("journeys", row, if_exists=self._if_exists)


@pytest.mark.parametrize(("key", "if_exists"), [("new", "fail"), ("b", "replace")])
def test_an_import_writes_no_row_of_another_user(tmp_path, key, if_exists):
    path = with_rows(tmp_path / "app.db")
    phone = write_phone(tmp_path / "phone.json", [{"id": key}])
    registry = registry_of(make_v2(), Stealing("bob", if_exists=if_exists))
    with Engine.open(path, registry=registry, user="ann", sources={"phone": phone}) as engine:
        before = journeys(engine)
        with pytest.raises(OtherUsersRowsChanged):
            engine.migrate()
        assert journeys(engine) == before


@pytest.mark.parametrize("target", ["2.0.0", "3.0.0"])
def test_an_import_also_a_late_one_and_an_upload_leave_the_others_alone(tmp_path, target):
    """At 3.0.0 the store has moved on, and the import goes through the old tables."""
    later = (seconds_v3(),) if target == "3.0.0" else ()
    path = with_rows(tmp_path / "app.db")
    with Engine.open(path, registry=registry_of(make_v2(), *later, target=target), user=None) as engine:
        engine.migrate()
        before = [row for row in journeys(engine) if row[0] != "ann"]
        file_entries(engine._store)
        queued = engine._store.query("SELECT * FROM _sync_outbox WHERE owner <> 'ann' ORDER BY entry_id")
        prints = rows_of_others(engine._store, OWNED, user="ann")
    phone = write_phone(tmp_path / "phone.json", [walk(number) for number in range(20)])
    registry = registry_of(make_v2(), ImportExecutor(), upload_walks(), *later, target=target)
    with Engine.open(path, registry=registry, user="ann", sources={"phone": phone}) as engine:
        assert engine.migrate().success
        assert engine._store.query("SELECT count(*) FROM journeys WHERE user_id = 'ann'") == [(21,)]
        assert [row for row in journeys(engine) if row[0] != "ann"] == before
        assert rows_of_others(engine._store, OWNED, user="ann") == prints
        assert engine._store.query("SELECT * FROM _sync_outbox WHERE owner <> 'ann' ORDER BY entry_id") == queued


def test_the_fingerprint_tells_owners_and_bytes_apart_and_not_the_order(tmp_path):
    path = with_rows(tmp_path / "app.db")
    with Engine.open(path, registry=registry_of(make_v2()), user=None) as engine:
        store = engine._store
        first = rows_of_others(store, OWNED, user="ann")
        assert {place: count for place, (count, _) in first.items()} == {
            ("journeys", "bob"): 1,
            ("journeys", "carol"): 1,
        }
        for change in ("minutes = -0.0", "minutes = 1.5000000000000002", "title = 'canary-of-boB'", "title = NULL"):
            with store.transaction():
                store.query(f"UPDATE journeys SET {change} WHERE user_id = 'bob'")
                changed = rows_of_others(store, OWNED, user="ann")
                assert {place for place in first if changed[place] != first[place]} == {("journeys", "bob")}
                store.query("UPDATE journeys SET minutes = 1.5, title = ? WHERE user_id = 'bob'", (CANARY,))
                assert rows_of_others(store, OWNED, user="ann") == first
        with store.transaction():
            store.query("UPDATE journeys SET title = CAST(x'ff' AS TEXT) WHERE user_id = 'carol'")
            unreadable = rows_of_others(store, OWNED, user="ann")
            assert len(unreadable) == 2
            assert rows_of_others(store, OWNED, user="ann") == unreadable
