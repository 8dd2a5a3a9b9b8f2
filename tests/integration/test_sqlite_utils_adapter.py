"""sqlite-utils keeps its documented behaviour on the engine's own apsw connection."""

import datetime
import decimal
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
import sqlite_utils
from sqlite_utils.db import AlterError, ForeignKey, NotFoundError, TransactionError

from syncengine.errors import MigrationInvalid
from syncengine.local.sqlite_utils_adapter import transform_keeping_triggers, utils_database


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(tmp_path / "store.db"))
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA foreign_keys = ON")
    yield connection
    connection.close(True)


@pytest.fixture
def db(connection: apsw.Connection) -> sqlite_utils.Database:
    return utils_database(connection)


# Inserting and upserting


def test_insert_creates_the_table_and_reports_the_last_key(db):
    table = db["places"].insert({"id": 7, "name": "Park", "rating": 4.5}, pk="id")
    assert table.last_pk == 7
    assert table.columns_dict == {"id": int, "name": str, "rating": float}
    assert list(table.rows) == [{"id": 7, "name": "Park", "rating": 4.5}]


def test_insert_without_a_key_reports_the_rowid(db):
    table = db["notes"].insert({"text": "a"}).insert({"text": "b"})
    assert table.last_rowid == 2
    assert [row["rowid"] for row in db.query("select rowid from notes")] == [1, 2]


def test_insert_all_takes_a_generator_of_2000_wide_rows_in_chunks(db, connection):
    width = 40
    rows = ({"id": n, **{f"c{column}": n * column for column in range(width)}} for n in range(2_000))
    db["wide"].insert_all(rows, pk="id")
    assert db["wide"].count == 2_000
    assert db["wide"].get(1_999)["c39"] == 1_999 * 39
    assert connection.in_transaction is False


def test_too_many_variables_is_the_operational_error_that_sqlite_utils_looks_for(db):
    with pytest.raises(sqlite3.OperationalError, match="too many SQL variables"):
        db.execute("select " + ", ".join("?" * 40_000), [1] * 40_000)


def test_insert_stores_dates_ids_decimals_and_nested_values_as_documented(db):
    key = uuid.UUID("12345678-1234-5678-1234-567812345678")
    db["t"].insert(
        {
            "day": datetime.date(2025, 7, 21),
            "at": datetime.datetime(2025, 7, 21, 15, 30, tzinfo=datetime.UTC),
            "key": key,
            "price": decimal.Decimal("1.5"),
            "tags": ["a", "b"],
        }
    )
    assert next(db["t"].rows) == {
        "day": "2025-07-21",
        "at": "2025-07-21T15:30:00+00:00",
        "key": str(key),
        "price": 1.5,
        "tags": '["a", "b"]',
    }


def test_upsert_changes_the_named_columns_and_keeps_the_others(db):
    db["places"].insert({"id": 1, "name": "Park", "note": "keep"}, pk="id")
    db["places"].upsert({"id": 1, "name": "Forest"}, pk="id")
    db["places"].upsert_all([{"id": 1, "note": "kept"}, {"id": 2, "note": "new"}], pk="id")
    assert list(db["places"].rows) == [
        {"id": 1, "name": "Forest", "note": "kept"},
        {"id": 2, "name": None, "note": "new"},
    ]


def test_upsert_all_works_on_a_compound_key(db):
    db["steps"].upsert_all([{"owner": "a", "n": 1, "v": 1}, {"owner": "a", "n": 2, "v": 2}], pk=("owner", "n"))
    db["steps"].upsert({"owner": "a", "n": 2, "v": 20}, pk=("owner", "n"))
    assert db["steps"].pks == ["owner", "n"]
    assert db["steps"].get(("a", 2))["v"] == 20
    assert db["steps"].count == 2


def test_insert_alter_adds_the_missing_column_and_without_it_the_insert_fails(db):
    db["t"].insert({"id": 1}, pk="id")
    with pytest.raises(sqlite3.OperationalError, match="no column named colour"):
        db["t"].insert({"id": 2, "colour": "red"})
    db["t"].insert({"id": 2, "colour": "red"}, alter=True)
    assert list(db["t"].rows) == [{"id": 1, "colour": None}, {"id": 2, "colour": "red"}]


def test_a_repeated_key_fails_is_ignored_or_replaces(db):
    table = db["t"].insert({"id": 1, "v": "first"}, pk="id")
    with pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE constraint failed: t\.id"):
        table.insert({"id": 1, "v": "second"})
    table.insert({"id": 1, "v": "second"}, ignore=True)
    assert table.get(1)["v"] == "first"
    table.insert({"id": 1, "v": "third"}, replace=True)
    assert table.get(1)["v"] == "third"


# Reading


def test_reading_ways_agree(db):
    db["t"].insert_all([{"id": n, "even": n % 2 == 0} for n in range(6)], pk="id")
    assert [row["id"] for row in db.query("select id from t where id > :low", {"low": 3})] == [4, 5]
    assert [row["id"] for row in db["t"].rows_where("even = ?", [1], order_by="id desc", limit=2)] == [4, 2]
    assert db["t"].count_where("even = 1") == 3
    assert [key for key, _row in db["t"].pks_and_rows_where("id < 2")] == [0, 1]
    with pytest.raises(NotFoundError):
        db["t"].get(99)


def test_query_refuses_statements_without_rows_and_undoes_them(db):
    db["t"].insert({"id": 1}, pk="id")
    with pytest.raises(ValueError, match="returns rows"):
        db.query("update t set id = 2")
    assert db["t"].get(1) == {"id": 1}


def test_query_takes_a_returning_statement_at_once_even_when_nobody_reads_it(db, connection):
    db["t"].insert({"id": 1}, pk="id")
    db.query("insert into t values (2) returning id")
    assert list(db.query("insert into t values (3) returning id")) == [{"id": 3}]
    assert db["t"].count == 3
    assert connection.in_transaction is False


def test_pragmas_can_be_queried(db):
    assert list(db.query("pragma user_version")) == [{"user_version": 0}]
    assert db.journal_mode == "wal"


def test_the_cursor_describes_results_without_rows(db):
    db["t"].insert({"id": 1, "name": "a"}, pk="id")
    assert [column[0] for column in db.execute("select id, name from t where 0").description] == ["id", "name"]
    assert db.execute("select id, name from t where 0").fetchall() == []
    assert db.execute("update t set name = 'b'").description is None
    assert all(len(column) == 7 for column in db.execute("select 1").description)


@pytest.mark.parametrize("condition", ["1", "0"])
def test_the_cursor_describes_the_schema_of_now_whoever_changed_it(db, tmp_path, condition):
    db["t"].insert({"id": 1}, pk="id")
    sql = f"select * from t where {condition}"

    def columns() -> list[str]:
        return [column[0] for column in db.execute(sql).description]

    assert columns() == ["id"]
    db.execute("alter table t add column a")
    assert columns() == ["id", "a"]
    other = apsw.Connection(str(tmp_path / "store.db"))
    other.execute("alter table t rename column a to b; alter table t add column c")
    other.close()
    assert columns() == ["id", "b", "c"]


def test_describing_a_result_without_rows_runs_nothing_twice(db):
    calls = []
    db.register_function(calls.append, name="note")
    db["t"].insert({"id": 1}, pk="id")
    assert db.execute("select id from t where note(id) is not null").description[0][0] == "id"
    assert calls == [1]


def test_rows_read_before_and_after_a_new_column_have_their_own_keys(db):
    table = db["t"].insert({"id": 1}, pk="id")
    assert list(table.rows) == [{"id": 1}]
    table.update(1, {"v": "new"}, alter=True)
    assert list(table.rows) == [{"id": 1, "v": "new"}]


def test_rowcount_and_lastrowid_are_those_of_the_db_api(db):
    db["t"].insert_all([{"id": n} for n in range(5)], pk="id")
    assert db.execute("delete from t where id > 2").rowcount == 2
    assert db.execute("delete from t where id > 2").rowcount == 0
    assert db.execute("select * from t").rowcount == -1
    assert db.execute("create table u (x)").rowcount == -1
    assert db.execute("insert or ignore into t values (1)").rowcount == 0
    assert db.execute("insert into t values (41)").lastrowid == 41
    assert db.execute("with n(x) as (values (50), (51)) insert into t select x from n").rowcount == 2


def test_rowcount_of_a_returning_statement_is_known_when_its_rows_are_read(db):
    db["t"].insert_all([{"id": n} for n in range(5)], pk="id")
    cursor = db.execute("delete from t where id > 1 returning id")
    assert cursor.rowcount == -1
    assert len(cursor.fetchall()) == 3
    assert cursor.rowcount == 3


def test_rowcount_does_not_count_what_triggers_changed(db):
    db.executescript(
        "create table t (id integer primary key); create table log (id);"
        "create trigger note after insert on t begin insert into log values (new.id), (new.id); end;"
    )
    assert db.execute("insert into t values (1)").rowcount == 1


def test_executemany_counts_all_rows_and_fetchmany_reads_in_steps(db):
    db["t"].insert({"id": 0}, pk="id")
    cursor = db.conn.executemany("insert into t values (?)", ([n] for n in range(1, 6)))
    assert cursor.rowcount == 5
    reading = db.execute("select id from t order by id")
    assert reading.fetchmany(4) == [(0,), (1,), (2,), (3,)]
    assert reading.fetchmany(4) == [(4,), (5,)]
    assert reading.fetchone() is None


# Raw execute


def test_several_statements_in_one_execute_are_refused_before_the_first_runs(db):
    db["t"].insert({"id": 1}, pk="id")
    for sql in ("delete from t; select 1", "delete from t; delete from t"):
        with pytest.raises(sqlite3.ProgrammingError, match="one statement at a time"):
            db.execute(sql)
    with pytest.raises(sqlite3.ProgrammingError, match="one statement at a time"):
        db.conn.executemany("insert into t values (?); select 1", [[2]])
    assert db["t"].count == 1


def test_one_statement_may_end_in_blanks_and_comments(db):
    assert db.execute("-- before\nselect 1 ; -- after\n /* and */ -- end").fetchall() == [(1,)]
    assert db.execute("select 'a;b' as x /* c; d */").fetchall() == [("a;b",)]
    assert db.execute("").fetchall() == []


def test_parameters_get_the_same_form_as_inserted_values(db):
    key = uuid.UUID(int=5)
    moment = datetime.datetime(2025, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    values = [datetime.date(2025, 1, 2), moment, datetime.time(3, 4), decimal.Decimal("2.5"), key, None, True, b"x"]
    db["t"].insert({f"c{n}": value for n, value in enumerate(values)})
    (inserted,) = db.execute("select * from t").fetchall()
    (bound,) = db.execute("select " + ", ".join("?" * len(values)), values).fetchall()
    assert bound == inserted
    assert db.execute("select :key", {"key": key}).fetchone() == (str(key),)


def test_a_parameter_of_an_unknown_type_is_a_programming_error_without_its_value(db):
    with pytest.raises(sqlite3.ProgrammingError, match="parameter 1: type 'list'") as caught:
        db.execute("select ?", [["canary"]])
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("sql", "parameters", "db_api", "own"),
    [
        ("select * from nowhere", [], sqlite3.OperationalError, apsw.SQLError),
        ("select ?, ?", [1], sqlite3.ProgrammingError, apsw.BindingsError),
        ("insert into child values (1, 99)", [], sqlite3.IntegrityError, apsw.ConstraintError),
    ],
)
def test_errors_are_caught_by_both_libraries_classes(db, sql, parameters, db_api, own):
    db.executescript("create table parent (id integer primary key); create table child (id, p references parent)")
    with pytest.raises(db_api) as by_db_api:
        db.execute(sql, parameters)
    with pytest.raises(own):
        db.execute(sql, parameters)
    assert isinstance(by_db_api.value.__cause__, own)


def test_a_constraint_error_carries_the_extended_code(db):
    db["t"].insert({"id": 1}, pk="id")
    with pytest.raises(sqlite3.IntegrityError) as caught:
        db.execute("insert into t values (1)")
    assert caught.value.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
    assert caught.value.extendedresult == apsw.SQLITE_CONSTRAINT_PRIMARYKEY


# Changing rows


def test_update_delete_and_delete_where(db):
    table = db["t"].insert_all([{"id": n, "v": 0} for n in range(5)], pk="id")
    table.update(1, {"v": 9})
    table.update(2, {"w": "new"}, alter=True)
    with pytest.raises(NotFoundError):
        table.update(77, {"v": 1})
    table.delete(0)
    with pytest.raises(NotFoundError):
        table.delete(0)
    table.delete_where("v = 0 and w is null")
    assert list(table.rows) == [{"id": 1, "v": 9, "w": None}, {"id": 2, "v": 0, "w": "new"}]


def test_convert_applies_python_to_a_column_and_its_exception_undoes_all(db):
    table = db["t"].insert_all([{"id": n, "ms": 1000 * n} for n in range(4)], pk="id")
    table.convert("ms", lambda ms: ms // 1000)
    assert [row["ms"] for row in table.rows] == [0, 1, 2, 3]

    def fails_late(value):
        return 1 // (3 - value)

    with pytest.raises(ZeroDivisionError):
        table.convert("ms", fails_late)
    assert [row["ms"] for row in table.rows] == [0, 1, 2, 3]


def test_convert_splits_into_several_columns_and_drops_the_old(db):
    table = db["t"].insert({"id": 1, "at": "48.2,16.4"}, pk="id")
    table.convert("at", lambda at: dict(zip(("lat", "lon"), at.split(","), strict=True)), multi=True, drop=True)
    assert list(table.rows) == [{"id": 1, "lat": "48.2", "lon": "16.4"}]


def test_lookup_m2m_and_extract_build_the_documented_tables(db):
    assert db["kinds"].lookup({"name": "park"}) == 1
    assert db["kinds"].lookup({"name": "park"}) == 1
    db["places"].insert({"id": 1, "name": "A", "town": "Wien"}, pk="id").m2m("tags", {"name": "green"}, pk="id")
    assert db["places_tags"].count == 1
    assert {fk.other_table for fk in db["places_tags"].foreign_keys} == {"places", "tags"}
    db["places"].extract("town")
    assert db["places"].get(1)["town_id"] == 1
    assert db["town"].get(1) == {"id": 1, "town": "Wien"}


# Schema


def test_create_with_keys_defaults_and_foreign_keys(db):
    db["owners"].create({"id": int, "name": str}, pk="id", not_null={"name"})
    table = db["walks"].create(
        {"id": str, "owner": int, "state": str},
        pk="id",
        foreign_keys=[("owner", "owners", "id")],
        defaults={"state": "new"},
        strict=True,
    )
    assert table.strict
    assert table.foreign_keys == [ForeignKey("walks", "owner", "owners", "id")]
    assert table.default_values == {"state": "new"}
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        table.insert({"id": "w", "owner": 5})


def test_add_column_index_foreign_key_and_view(db):
    db["owners"].insert({"id": 1, "name": "Ada"}, pk="id")
    table = db["walks"].insert({"id": 1, "owner": 1}, pk="id")
    table.add_column("km", float, not_null_default=0.0)
    table.create_index(["owner"])
    table.create_index(["km"], unique=True, if_not_exists=True)
    table.add_foreign_key("owner", "owners", "id")
    with pytest.raises(AlterError):
        table.add_foreign_key("owner", "owners", "id")
    db.create_view("long_walks", "select id from walks where km >= 0")
    assert [index.columns for index in table.indexes if index.unique == 0] == [["owner"]]
    assert table.get(1) == {"id": 1, "owner": 1, "km": 0.0}
    assert db.view_names() == ["long_walks"]
    assert list(db["long_walks"].rows) == [{"id": 1}]


def test_full_text_search_is_kept_up_to_date_by_its_triggers(db):
    table = db["t"].insert({"id": 1, "text": "old oak"}, pk="id").enable_fts(["text"], create_triggers=True)
    table.insert({"id": 2, "text": "young oak"})
    table.update(1, {"text": "old beech"})
    assert [row["id"] for row in table.search("oak")] == [2]
    assert table.detect_fts() == "t_fts"


def test_transform_changes_types_names_rules_and_columns(db):
    table = db["t"].insert({"id": 1, "ms": "5000", "gone": 1, "note": None}, pk="id")
    table.transform(types={"ms": int}, rename={"ms": "millis"}, drop={"gone"}, defaults={"note": "-"})
    table.transform(not_null={"millis"})
    assert list(table.rows) == [{"id": 1, "millis": 5000, "note": None}]
    assert table.insert({"id": 2, "millis": 1}).get(2)["note"] == "-"
    with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        table.insert({"id": 3})


def test_iterdump_gives_sql_that_rebuilds_the_database(db, tmp_path):
    db["t"].insert_all([{"id": 1, "v": "it's"}, {"id": 2, "v": None}], pk="id").create_index(["v"])
    copy = utils_database(apsw.Connection(str(tmp_path / "copy.db")))
    copy.executescript("\n".join(db.iterdump()))
    assert list(copy["t"].rows) == list(db["t"].rows)
    assert copy.schema == db.schema
    copy.conn.apsw.close()


def test_registered_functions_run_in_sql_and_their_exceptions_come_out_as_they_are(db):
    @db.register_function(deterministic=True)
    def shout(text):
        return text.upper()

    @db.register_function
    def fails(text):
        raise KeyError("mine")

    assert db.execute("select shout('a')").fetchone() == ("A",)
    with pytest.raises(KeyError, match="mine"):
        db.execute("select fails('a')").fetchall()


# Transactions


def test_atomic_begins_immediate_so_that_another_writer_waits(db, connection, tmp_path):
    other = apsw.Connection(str(tmp_path / "store.db"))
    with db.atomic(), pytest.raises(apsw.BusyError):
        other.execute("begin immediate")
    other.execute("begin immediate; rollback")
    other.close()


def test_atomic_commits_all_or_rolls_back_all(db, connection):
    with db.atomic():
        db["t"].insert({"id": 1}, pk="id")
        db["t"].insert({"id": 2})
    with pytest.raises(ZeroDivisionError):
        _insert_then_fail(db)
    assert [row["id"] for row in db["t"].rows] == [1, 2]
    assert connection.in_transaction is False


def _insert_then_fail(db: sqlite_utils.Database) -> None:
    with db.atomic():
        db["t"].insert({"id": 3})
        raise ZeroDivisionError


def test_a_nested_atomic_that_fails_undoes_only_itself(db):
    with db.atomic():
        db["t"].insert({"id": 1}, pk="id")
        with pytest.raises(sqlite3.IntegrityError):
            _insert_again(db)
        db["t"].insert({"id": 3})
    assert [row["id"] for row in db["t"].rows] == [1, 3]


def _insert_again(db: sqlite_utils.Database) -> None:
    with db.atomic():
        db["t"].insert({"id": 2})
        db["t"].insert({"id": 1})


def test_inside_the_engines_transaction_atomic_is_a_savepoint_and_nothing_commits(db, connection):
    connection.execute("begin immediate")
    with db.atomic():
        db["t"].insert({"id": 1}, pk="id")
    db["t"].insert_all([{"id": 2}, {"id": 3}])
    db.executescript("insert into t values (4); -- a comment; with a semicolon\n insert into t values (5);")
    assert connection.in_transaction
    assert db["t"].count == 5
    connection.execute("rollback")
    assert db.table_names() == []


def test_begin_commit_and_rollback_by_hand(db, connection):
    db["t"].insert({"id": 1}, pk="id")
    db.begin()
    with pytest.raises(sqlite3.OperationalError, match="within a transaction"):
        db.begin()
    db["t"].insert({"id": 2})
    db.rollback()
    db.begin()
    db["t"].insert({"id": 3})
    db.commit()
    db.conn.commit()
    db.conn.rollback()
    assert [row["id"] for row in db["t"].rows] == [1, 3]


def test_with_the_connection_commits_or_rolls_back_what_was_begun(db, connection):
    db["t"].insert({"id": 1}, pk="id")
    with db.conn:
        db.begin()
        db["t"].insert({"id": 2})
    assert connection.in_transaction is False
    with pytest.raises(sqlite3.IntegrityError):
        _begin_and_insert_twice(db)
    assert connection.in_transaction is False
    assert db["t"].count == 2


def _begin_and_insert_twice(db: sqlite_utils.Database) -> None:
    with db.conn:
        db.begin()
        db["t"].insert({"id": 3})
        db["t"].insert({"id": 3})


def test_a_trigger_that_rolls_the_transaction_back_shows_its_own_error(db):
    db.executescript(
        "create table t (id); create trigger no before insert on t begin select raise(rollback, 'never'); end;"
    )
    with pytest.raises(sqlite3.IntegrityError, match="never"), db.atomic():
        db["t"].insert({"id": 1})


def test_a_migrations_authorizer_stops_commit_and_says_so_in_db_api_terms(db, connection):
    db["t"].insert({"id": 1}, pk="id")
    connection.execute("begin immediate")
    connection.authorizer = _no_transaction_control
    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        db.conn.commit()
    with pytest.raises(apsw.AuthError):
        db.conn.executescript("select 1")
    connection.authorizer = None
    assert connection.in_transaction


def _no_transaction_control(operation: int, *_details: object) -> int:
    return apsw.SQLITE_DENY if operation == apsw.SQLITE_TRANSACTION else apsw.SQLITE_OK


def test_closing_the_adapter_leaves_the_engines_connection_open(connection):
    with utils_database(connection) as db:
        db["t"].insert({"id": 1}, pk="id")
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        db.execute("select 1")
    assert connection.execute("select count(*) from t").get == 1


def test_the_adapter_takes_no_extensions_and_no_other_isolation_level(db):
    with pytest.raises(sqlite3.NotSupportedError):
        db.conn.enable_load_extension(True)
    with pytest.raises(sqlite3.NotSupportedError):
        db.conn.isolation_level = "DEFERRED"


def test_making_the_adapter_changes_no_pragma_of_the_connection(connection):
    connection.execute("pragma recursive_triggers = off")
    utils_database(connection)
    assert connection.execute("pragma recursive_triggers").get == 0


# transform() and triggers

WALKS = """
create table walks (id text primary key, ms integer not null, note text);
create table log (walk text, ms integer);
create trigger walks_noted after update of ms on walks when new.ms > old.ms
begin insert into log values (new.id, new.ms); end;
create trigger walks_gone after delete on walks begin insert into log values (old.id, null); end;
insert into walks values ('w', 1000, 'x');
"""


@pytest.fixture
def walks(db):
    db.executescript(WALKS)
    return db


def test_transform_alone_loses_every_trigger(walks):
    walks["walks"].transform(types={"note": int})
    assert walks["walks"].triggers == []


def test_the_engines_transform_keeps_triggers_that_still_fire(walks):
    before = walks["walks"].triggers_dict
    transform_keeping_triggers(walks, "walks", types={"note": int}, defaults={"ms": 0})
    assert walks["walks"].triggers_dict == before
    walks["walks"].update("w", {"ms": 2000})
    walks["walks"].delete("w")
    assert list(walks["log"].rows) == [{"walk": "w", "ms": 2000}, {"walk": "w", "ms": None}]


def test_triggers_follow_a_renamed_column(walks):
    transform_keeping_triggers(walks, "walks", rename={"ms": "millis"}, drop={"note"})
    walks["walks"].update("w", {"millis": 3000})
    assert list(walks["log"].rows) == [{"walk": "w", "ms": 3000}]
    assert walks["walks"].columns_dict == {"id": str, "millis": int}


def test_the_triggers_of_full_text_search_survive(db):
    db["t"].insert({"id": 1, "text": "oak", "n": "1"}, pk="id").enable_fts(["text"], create_triggers=True)
    transform_keeping_triggers(db, "t", types={"n": int})
    db["t"].insert({"id": 2, "text": "elm", "n": 2})
    assert [row["id"] for row in db["t"].search("elm")] == [2]


def test_a_trigger_that_needs_a_dropped_column_stops_the_transform_whole(walks):
    schema = walks.schema
    with pytest.raises(MigrationInvalid, match="with its triggers"):
        transform_keeping_triggers(walks, "walks", drop={"ms"})
    assert walks.schema == schema
    assert walks["walks"].count == 1


def test_a_trigger_on_one_columns_update_is_checked_too(walks):
    walks.execute(
        "create trigger note_moved after update of note on walks begin insert into log values (new.ms, 0); end"
    )
    walks.execute("drop trigger walks_noted")
    with pytest.raises(MigrationInvalid, match="with its triggers"):
        transform_keeping_triggers(walks, "walks", drop={"ms"})


def test_a_view_that_was_broken_before_does_not_stop_the_transform(walks):
    walks.executescript("create table gone (x); create view broken as select x from gone; drop table gone;")
    transform_keeping_triggers(walks, "walks", types={"note": int})
    assert len(walks["walks"].triggers) == 2


def test_a_broken_view_does_not_hide_a_trigger_that_would_fail(walks):
    walks.executescript("create table gone (x); create view broken as select x from gone; drop table gone;")
    walks.execute("create trigger a_moved after insert on walks begin insert into log values (new.note, 0); end")
    with pytest.raises(MigrationInvalid, match="with its triggers"):
        transform_keeping_triggers(walks, "walks", drop={"note"})


def test_keep_table_leaves_the_triggers_on_the_new_table(walks):
    transform_keeping_triggers(walks, "walks", types={"note": int}, keep_table="walks_old")
    assert len(walks["walks"].triggers) == 2
    assert walks["walks_old"].triggers == []


def test_inside_a_transaction_the_transform_is_undone_with_it(walks, connection):
    schema = walks.schema
    connection.execute("begin immediate")
    transform_keeping_triggers(walks, "walks", rename={"note": "remark"})
    assert connection.in_transaction
    connection.execute("rollback")
    assert walks.schema == schema


@pytest.mark.parametrize(
    ("create", "loss"),
    [
        ("create table t (id integer primary key, name text collate nocase)", "COLLATE nocase of name"),
        ("create table t (a text, primary key (a collate nocase))", "COLLATE nocase of the primary key"),
        ("create table t (a integer, b integer as (a + 1))", "generated column b"),
        ("create table t (a integer, b integer as (a + 1) stored)", "generated column b"),
        ("create table t (a text primary key) without rowid", "WITHOUT ROWID"),
        (
            "create table t (a integer references p deferrable initially deferred)",
            "DEFERRABLE",
        ),
        ("create table t (a decimal(10, 2))", "the affinity of a (decimal(10, 2))"),
        ("create table t (a)", "the affinity of a (no type)"),
        ("create table t (a integer); create temp trigger x after insert on t begin select 1; end", "TEMP trigger x"),
    ],
)
def test_a_loss_that_cannot_be_repaired_is_refused_before_anything_is_done(db, create, loss):
    db.executescript("create table p (id integer primary key);" + create)
    schema = db.schema
    with pytest.raises(MigrationInvalid) as caught:
        transform_keeping_triggers(db, "t", column_order=["a"])
    assert loss.lower() in caught.value.why.lower()
    assert db.schema == schema


def test_what_transform_keeps_is_not_refused(db):
    db.executescript(
        "create table p (id integer primary key);"
        "create table t (id integer primary key autoincrement, a text default 'deferrable' check (a <> 'b'),"
        " n real, p integer references p on delete set null, d decimal, unique (a, n)) -- not without rowid\n;"
        "create index by_a on t (a collate nocase);"
    )
    transform_keeping_triggers(db, "t", types={"d": float}, rename={"n": "m"})
    assert "by_a" in [index.name for index in db["t"].indexes]
    assert [fk.on_delete for fk in db["t"].foreign_keys] == ["SET NULL"]


def test_rows_that_a_cascade_would_delete_stop_the_transform(walks):
    walks.executescript(
        "create table steps (n integer, walk text references walks on delete cascade);"
        "insert into steps values (1, 'w')"
    )
    with pytest.raises(TransactionError):
        transform_keeping_triggers(walks, "walks", types={"note": int})
    assert walks["steps"].count == 1
    assert len(walks["walks"].triggers) == 2
