"""Whatever a table is made of comes through a rewriting, in one transaction or in many, or is refused by name."""

import apsw
import pytest
from imports import V2, V3, seconds_v3
from migrate_world import registry_of
from pydantic import BaseModel, ConfigDict
from shadow_world import STEADY, BatchClock, ShadowWorld, leaves_nothing_behind, make_tables, result_of

from syncengine import Collection, Engine, Settings, add, archive, cast, declared, migration, tables
from syncengine.errors import MigrationInvalid
from syncengine.local.store import Store
from syncengine.migrate.schema_text import Rewritten, rewrite_schema
from syncengine.migrate.sql_text import created_name, index_as, table_as, without_foreign_keys

BOTH = pytest.mark.parametrize("method", ["shadow", "transaction"])

ROW = "user_id TEXT NOT NULL, id TEXT NOT NULL, minutes REAL NOT NULL, title TEXT"
TABLES = {
    "strict, with an autoindex": f"CREATE TABLE journeys ({ROW} UNIQUE, PRIMARY KEY (user_id, id)) STRICT",
    "without rowid": f"CREATE TABLE journeys ({ROW}, PRIMARY KEY (id, user_id)) STRICT, WITHOUT ROWID",
    "with collations": "CREATE TABLE journeys (user_id TEXT NOT NULL, "
    "id TEXT NOT NULL, minutes REAL NOT NULL, title TEXT COLLATE RTRIM, PRIMARY KEY (user_id, id))",
    "in square brackets": "CREATE TABLE [journeys] ([user_id] TEXT NOT NULL, `id` TEXT NOT NULL, "
    "'minutes' REAL NOT NULL, \"title\" TEXT, PRIMARY KEY ([user_id], id))",
    "loosely typed": "CREATE TABLE journeys (user_id TEXT, id TEXT, minutes DOUBLE, title, "
    "PRIMARY KEY (user_id, id))",
    "with checks and defaults": "CREATE TABLE journeys (user_id TEXT NOT NULL DEFAULT ('a)b'), id TEXT NOT NULL "
    "CHECK (length(id) > 1), minutes REAL NOT NULL CONSTRAINT enough CHECK (minutes >= 0), title TEXT, "
    "PRIMARY KEY (user_id, id))",
    "with generated columns": f"CREATE TABLE journeys ({ROW}, hours REAL AS (minutes / 60), "
    "shout TEXT AS (upper(title)) STORED, PRIMARY KEY (user_id, id))",
    "referring to itself": f"CREATE TABLE journeys ({ROW}, PRIMARY KEY (user_id, id), "
    "FOREIGN KEY (user_id, title) REFERENCES journeys (user_id, id))",
}


class Rowed(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str
    minutes: float
    title: str | None


def longer(old: Rowed) -> Rowed:
    return old.model_copy(update={"minutes": old.minutes + 1})


def same_shape(**facts):
    facts = {"id": "longer", "from_version": "2.0.0", "to_version": "3.0.0", "consent": "auto", **facts}
    return migration(collection="journeys", **facts)(longer)


def open_as(world, method, *steps, between=None):
    rows_min = 1 if method == "shadow" else 10_000
    return world.open(*steps, between=between, shadow_rows_min=rows_min)


def done_by(engine):
    return engine._store.query("SELECT state, method FROM _sync_run ORDER BY run_id DESC LIMIT 1")[0]


@BOTH
@pytest.mark.parametrize("create", TABLES.values(), ids=TABLES)
def test_a_table_keeps_all_that_its_author_wrote(tmp_path, create, method):
    world = ShadowWorld(tmp_path, table=create, values=[("ann", f"w-{n:03}", float(n), None) for n in range(60)])
    with world.open(target="2.0.0") as engine, engine.write() as db:
        db.execute("CREATE INDEX by_title ON journeys (title COLLATE NOCASE, id DESC) WHERE title IS NOT NULL")
        db.execute("CREATE INDEX by_length ON journeys (length(title))")
    shape = "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo('journeys')"
    with open_as(world, method, same_shape()) as engine:
        store = engine._store
        before = store.query(shape), _objects(store)
        assert result_of(engine.migrate(), "longer").counts.written == 60
        assert done_by(engine) == ("completed", method)
        assert (store.query(shape), _objects(store)) == before
        assert store.query("SELECT count(*), sum(minutes) FROM journeys") == [(60, sum(range(60)) + 60)]
        assert store.query("PRAGMA integrity_check") == [("ok",)]
        plan = store.query("EXPLAIN QUERY PLAN SELECT id FROM journeys WHERE length(title) = 3")
        assert "by_length" in plan[0][3]
    assert world.command_line("PRAGMA integrity_check; SELECT max(minutes) FROM journeys") == "ok\n60.0\n"


def _objects(store):
    """Type, name, table and bare SQL of what belongs to the collection, but for the version that edits are of."""
    shape_version = store.query("SELECT shape_version FROM _sync_collection WHERE name = 'journeys'")[0][0]
    return [
        (
            kind,
            name,
            table,
            sql and " ".join(sql.replace('"journeys"', "journeys").replace("[journeys]", "journeys").split()),
        )
        for kind, name, table, sql in store.query(
            "SELECT type, name, tbl_name, iif(type = 'trigger', replace(sql, ?, 'shape_version'), sql) "
            "FROM sqlite_schema WHERE tbl_name = 'journeys' ORDER BY type, name",
            (f"'{shape_version}'",),
        )
    ]


@BOTH
def test_numbers_that_autoincrement_has_given_are_not_given_again(tmp_path, method):
    world = ShadowWorld(tmp_path, table=NUMBERED, values=[(None, float(n), None) for n in range(50)])
    with Engine.open(world.path, registry=numbered_registry("2.0.0")) as engine, engine.write() as db:
        db.execute("DELETE FROM journeys WHERE id > 40")
    settings = Settings(**{**STEADY, "shadow_rows_min": 1 if method == "shadow" else 10_000})
    with Engine.open(world.path, registry=numbered_registry(), settings=settings) as engine:
        assert result_of(engine.migrate(), "numbered").counts.written == 40
        assert done_by(engine) == ("completed", method)
        with engine.write() as db:
            db.execute("INSERT INTO journeys (minutes) VALUES (1)")
        assert engine._store.query("SELECT max(id) FROM journeys") == [(51,)]


NUMBERED = "CREATE TABLE journeys (id INTEGER PRIMARY KEY AUTOINCREMENT, minutes REAL NOT NULL, title TEXT)"


class Numbered(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    id: int
    minutes: float
    title: str | None


def numbered(old: Numbered) -> Numbered:
    return old


def numbered_registry(target="3.0.0"):
    step = migration(id="numbered", collection="journeys", from_version="2.0.0", to_version="3.0.0", consent="auto")(
        numbered
    )
    steps = [make_tables(NUMBERED)] + ([step] if target == "3.0.0" else [])
    return registry_of(*steps, target=target, collections=[Collection("journeys", owner=None)])


@BOTH
def test_views_and_triggers_go_on_with_the_new_table(tmp_path, method):
    world = ShadowWorld(tmp_path)
    with world.open(target="2.0.0") as engine, engine.write() as db:
        db.execute("CREATE TABLE loose (id TEXT NOT NULL PRIMARY KEY, n INTEGER)")
        db.execute("CREATE VIEW titles AS SELECT user_id, id, title FROM journeys")
        db.execute(
            "CREATE TRIGGER titles_gone INSTEAD OF DELETE ON titles "
            "BEGIN DELETE FROM journeys WHERE user_id = old.user_id AND id = old.id; END"
        )
        db.execute(
            "CREATE TRIGGER noted AFTER INSERT ON journeys BEGIN INSERT OR IGNORE INTO loose VALUES (new.id, 1); END"
        )
        db.execute(
            "CREATE TRIGGER counted AFTER INSERT ON loose "
            "BEGIN UPDATE loose SET n = (SELECT count(*) FROM journeys) WHERE id = new.id; END"
        )
    with open_as(world, method) as engine:
        engine.migrate()
        assert done_by(engine) == ("completed", method)
        assert engine._store.query("SELECT count(*) FROM loose") == [(0,)], (
            "the app's triggers are for the app's writes"
        )
        with engine.write() as db:
            db.execute("DELETE FROM titles WHERE id = 'w-00003'")
            db.execute("INSERT INTO journeys VALUES ('ann', 'new', 60, NULL)")
        assert engine._store.query("SELECT * FROM loose") == [("new", 100)]
        assert engine._store.query("SELECT count(*) FROM titles") == [(100,)]


@BOTH
def test_a_view_that_the_new_shape_would_break_stops_the_run(tmp_path, method):
    world = ShadowWorld(tmp_path)
    with world.open(target="2.0.0") as engine, engine.write() as db:
        db.execute("CREATE VIEW lengths AS SELECT minutes FROM journeys")
    with open_as(world, method) as engine:
        with pytest.raises(MigrationInvalid, match="would break"):
            engine.migrate()
        assert engine._store.query("SELECT count(*) FROM lengths") == [(100,)]
        leaves_nothing_behind(engine._store)


def test_an_index_whose_column_is_gone_is_left_out_and_said(tmp_path):
    world = ShadowWorld(tmp_path)
    with world.open(target="2.0.0") as engine, engine.write() as db:
        db.execute("CREATE INDEX by_minutes ON journeys (minutes)")
    with world.open() as engine:
        assert result_of(engine.migrate()).warnings == ("index by_minutes was left out: its columns are gone",)
        names = {name for (name,) in engine._store.query("SELECT name FROM sqlite_schema WHERE type = 'index'")}
        assert "journeys_by_seconds" in names
        assert "by_minutes" not in names


def test_an_index_that_the_old_version_makes_meanwhile_is_there_afterwards(tmp_path):
    world = ShadowWorld(tmp_path)

    def make(number):
        if number == 5:
            world.command_line(
                "CREATE INDEX late ON journeys (title); CREATE TRIGGER later AFTER DELETE ON journeys "
                "BEGIN SELECT 1; END"
            )

    with world.open(between=make) as engine:
        engine.migrate()
        found = engine._store.query("SELECT tbl_name FROM sqlite_schema WHERE name IN ('late', 'later')")
        assert found == [("journeys",), ("journeys",)]


def test_an_index_whose_name_another_table_has_is_refused_before_anything_is_filled(tmp_path):
    world = ShadowWorld(tmp_path)
    with world.open(target="2.0.0") as engine, engine.write() as db:
        db.execute("CREATE TABLE loose (id TEXT NOT NULL PRIMARY KEY, n INTEGER)")
        db.execute("CREATE INDEX journeys_by_seconds ON loose (n)")
    with world.open() as engine:
        with pytest.raises(MigrationInvalid, match="name is taken"):
            engine.migrate()
        leaves_nothing_behind(engine._store)


# Foreign keys.

PLACES = "CREATE TABLE places (user_id TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (user_id, id)) STRICT"
CHILD_V2 = """CREATE TABLE journeys (
  user_id TEXT NOT NULL, id TEXT NOT NULL, minutes REAL NOT NULL, title TEXT, PRIMARY KEY (user_id, id),
  FOREIGN KEY (user_id, title) REFERENCES places (user_id, id) ON DELETE RESTRICT
) STRICT"""
CHILD_V3 = CHILD_V2.replace("minutes REAL", "seconds INTEGER")


def _tables(*create):
    return tables(id="tables-v2", from_version="1.0.0", to_version="2.0.0", create=create)


def with_family(path, **facts):
    steps = facts.pop("steps", ())
    return Engine.open(
        path,
        registry=registry_of(_tables(PLACES, CHILD_V2), *steps, target="3.0.0" if steps else "2.0.0"),
        clock=BatchClock(facts.pop("between", lambda number: None)),
        settings=Settings(**{**STEADY, **facts}),
    )


def test_a_parent_may_be_deleted_while_its_child_table_is_rewritten_and_the_kept_table_refers_to_nothing(tmp_path):
    path = tmp_path / "app.db"
    with with_family(path) as engine:
        engine.migrate()
        with engine.write() as db:
            for n in range(60):
                db.execute("INSERT INTO places VALUES ('ann', ?)", (f"p-{n:02}",))
                db.execute("INSERT INTO journeys VALUES ('ann', ?, 1, ?)", (f"w-{n:02}", f"p-{n:02}"))

    step = seconds_v3(consent="auto", table=CHILD_V3)
    with with_family(path, steps=(step,), between=lambda number: _old_version_deletes(path, number)) as engine:
        assert result_of(engine.migrate()).counts.written == 58
        store = engine._store
        assert len(store.query("PRAGMA foreign_key_list(journeys)")) == 2
        assert store.query("PRAGMA foreign_key_list(_sync_old_journeys)") == []
        assert store.query("PRAGMA foreign_key_check") == []
        with engine.write() as db:
            db.execute("DELETE FROM journeys WHERE id = 'w-10'")
            db.execute("DELETE FROM places WHERE id = 'p-10'")  # which the kept table still names


def _old_version_deletes(path, number):
    if number in (2, 4):
        other = apsw.Connection(str(path))
        other.set_busy_timeout(5_000)
        other.execute("PRAGMA foreign_keys = ON").fetchall()
        gone = number - 1
        other.execute(f"DELETE FROM journeys WHERE id = 'w-{gone:02}'")
        other.execute(f"DELETE FROM places WHERE id = 'p-{gone:02}'")
        other.close()


def test_children_go_with_a_parent_that_was_set_aside(tmp_path):
    path = tmp_path / "app.db"

    def refusing(old: Place) -> Place:
        if old.id == "p-03":
            raise ValueError
        return old

    step = migration(
        id="places", collection="places", from_version="2.0.0", to_version="3.0.0", consent="auto", shadow=True
    )(refusing)
    with with_family(path) as engine:
        engine.migrate()
        with engine.write() as db:
            for n in range(30):
                db.execute("INSERT INTO places VALUES ('ann', ?)", (f"p-{n:02}",))
                db.execute("INSERT INTO journeys VALUES ('ann', ?, 1, ?)", (f"w-{n:02}", f"p-{n:02}"))
    with with_family(path, steps=(step,)) as engine:
        result = result_of(engine.migrate(), "places")
        assert result.state == "completed", result.failure
        assert engine._store.query("SELECT collection, row_key, origin FROM _sync_quarantine ORDER BY item_id") == [
            ("places", "p-03", "migration"),
            ("places", "p-03", "outbox"),  # its upload had not gone out
            ("journeys", "w-03", "migration"),
        ]
        assert engine._store.query("PRAGMA foreign_key_check") == []


class Place(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str


# The texts.


@pytest.mark.parametrize(
    ("sql", "bare"),
    [
        ("CREATE TABLE t (a TEXT REFERENCES p, b INT)", "CREATE TABLE t (a TEXT , b INT)"),
        (
            "CREATE TABLE t (a TEXT CONSTRAINT c REFERENCES p (x) ON DELETE SET NULL ON UPDATE CASCADE NOT NULL)",
            "CREATE TABLE t (a TEXT  NOT NULL)",
        ),
        (
            "CREATE TABLE t (a TEXT DEFAULT (1) REFERENCES p MATCH FULL NOT DEFERRABLE INITIALLY DEFERRED UNIQUE)",
            "CREATE TABLE t (a TEXT DEFAULT (1)  UNIQUE)",
        ),
        (
            "CREATE TABLE t (a, b, FOREIGN KEY (a, b) REFERENCES p (x, y) ON DELETE NO ACTION)",
            "CREATE TABLE t (a, b)",
        ),
        (
            "CREATE TABLE t (a, CONSTRAINT f FOREIGN KEY (a) REFERENCES p, CHECK (a <> 'REFERENCES p')) STRICT",
            "CREATE TABLE t (a, CHECK (a <> 'REFERENCES p')) STRICT",
        ),
        (
            'CREATE TABLE t ("REFERENCES" TEXT /* REFERENCES p */, a INT REFERENCES "p ("(x))',
            'CREATE TABLE t ("REFERENCES" TEXT /* REFERENCES p */, a INT )',
        ),
        (
            "CREATE TABLE t (a PRIMARY KEY ON CONFLICT REPLACE, b)",
            "CREATE TABLE t (a PRIMARY KEY ON CONFLICT REPLACE, b)",
        ),
    ],
)
def test_a_create_statement_loses_its_foreign_keys_and_nothing_else(sql, bare):
    assert without_foreign_keys(sql) == bare


def test_create_statements_get_other_names_however_they_are_written():
    assert created_name("create unique index if not exists main.[a b] on t(x)") == "a b"
    assert created_name("CREATE TABLE `x``y` (a)") == "x`y"
    assert table_as('CREATE TABLE IF NOT EXISTS "main"."t" (a)', "n") == 'CREATE TABLE "n" (a)'
    assert index_as("CREATE UNIQUE INDEX i ON t (a) WHERE b", name="j", table="u") == (
        'CREATE UNIQUE INDEX "j" ON "u" (a) WHERE b'
    )
    with pytest.raises(MigrationInvalid):
        table_as("DROP TABLE t", "n")


def test_names_that_are_changed_in_place_are_seen_by_every_connection_and_taken_back_by_a_rollback(tmp_path):
    world = ShadowWorld(tmp_path)
    other = world.other_process()
    other.execute("SELECT * FROM journeys").fetchall()
    with world.open(target="2.0.0") as engine:
        store: Store = engine._store
        with store.transaction():
            store.query("CREATE INDEX one ON journeys (title)")
        change = Rewritten(kind="index", name="one", new_name="two", sql="CREATE INDEX two ON journeys (title)")
        with pytest.raises(ZeroDivisionError):
            _rename_and_fail(store, change)
        for connection in (store, other):
            run = connection.query if connection is store else connection.execute
            assert list(run("SELECT count(*) FROM sqlite_schema WHERE name = 'one'")) == [(1,)]
        with store.transaction():
            rewrite_schema(store, [change])
        plan = other.execute("EXPLAIN QUERY PLAN SELECT * FROM journeys INDEXED BY two WHERE title = 'a'").fetchall()
        assert "two" in plan[0][3]
        assert other.execute("PRAGMA integrity_check").get == "ok"
        assert store.query("PRAGMA writable_schema") == [(0,)]
    other.close()
    assert world.command_line("REINDEX two; PRAGMA integrity_check; SELECT count(*) FROM journeys") == "ok\n100\n"


def _rename_and_fail(store, change):
    with store.transaction():
        rewrite_schema(store, [change])
        plan = store.query("EXPLAIN QUERY PLAN SELECT * FROM journeys INDEXED BY two WHERE title = 'a'")
        assert "two" in plan[0][3]
        raise ZeroDivisionError


NOCASE = V2.replace("id TEXT NOT NULL, minutes", "id TEXT NOT NULL COLLATE NOCASE, minutes")
V3_NOCASE = V3.replace("id TEXT NOT NULL, seconds", "id TEXT NOT NULL COLLATE NOCASE, seconds")


@pytest.mark.parametrize(("live", "new"), [(NOCASE, V3_NOCASE), (NOCASE, V3), (V2, V3_NOCASE)])
@pytest.mark.parametrize("wanted", [None, True])
def test_a_key_that_compares_without_case_is_rewritten_in_one_transaction(tmp_path, live, new, wanted):
    world = ShadowWorld(tmp_path, table=live)
    with world.open(seconds_v3(consent="auto", table=new, shadow=wanted)) as engine:
        assert result_of(engine.migrate()).counts.read == 100
        assert engine._store.query("SELECT method FROM _sync_run WHERE migration = 'seconds-v3'") == [
            ("transaction",)
        ]
        leaves_nothing_behind(engine._store)


def test_a_row_function_that_changes_nothing_of_the_shape_may_be_rewritten_beside(tmp_path):
    world = ShadowWorld(tmp_path)
    with world.open(same_shape(shadow=True), shadow_rows_min=10_000) as engine:
        assert result_of(engine.migrate(), "longer").counts.written == 100
        assert done_by(engine) == ("completed", "shadow")


DECLARED = """CREATE TABLE journeys (
  user_id TEXT NOT NULL, id TEXT NOT NULL, minutes TEXT NOT NULL, title TEXT, PRIMARY KEY (user_id, id)
) STRICT"""


def changes_in(**facts):
    return declared(
        id="changes",
        collection="journeys",
        from_version="2.0.0",
        to_version="3.0.0",
        changes=(cast("minutes", int), add("mood", "TEXT", default="calm"), archive("title")),
        consent="auto",
        **facts,
    )


@BOTH
def test_declared_changes_are_made_by_sqlite_where_they_can_be_and_keep_what_they_archive(tmp_path, method):
    values = [("ann", f"w-{n:03}", "many" if n == 33 else str(n), f"t{n}") for n in range(80)]
    world = ShadowWorld(tmp_path, table=DECLARED, values=values)
    sql = (
        "UPDATE journeys SET title = 'new', minutes = '500' WHERE id IN ('w-003', 'w-077');"
        "DELETE FROM journeys WHERE id IN ('w-004', 'w-078'); UPDATE journeys SET minutes = 'few' WHERE id = 'w-005'"
    )

    def write(number):
        if number == 5:
            world.command_line(sql)

    if method == "transaction":
        world.command_line(sql)
    with open_as(world, method, changes_in(), between=write if method == "shadow" else None) as engine:
        result = result_of(engine.migrate(), "changes")
        assert result.state == "completed", result.failure
        assert done_by(engine) == ("completed", method)
        assert (result.counts.read, result.counts.written, result.counts.quarantined) == (78, 76, 2)
        store = engine._store
        wanted = {row[1]: int(row[2]) for row in values if row[1] not in ("w-004", "w-078", "w-005", "w-033")}
        wanted |= {"w-003": 500, "w-077": 500}
        assert dict(store.query("SELECT id, minutes FROM journeys WHERE mood = 'calm'")) == wanted
        kept = dict(store.query("SELECT row_key, value FROM _sync_archive WHERE field = 'title'"))
        assert kept == {key: "new" if key in ("w-003", "w-077") else f"t{int(key[2:])}" for key in wanted}
        assert store.query("SELECT row_key, origin FROM _sync_quarantine ORDER BY 1, 2") == [
            ("w-005", "migration"),
            ("w-005", "outbox"),  # the edit that made it what cannot be converted
            ("w-033", "migration"),
        ]
