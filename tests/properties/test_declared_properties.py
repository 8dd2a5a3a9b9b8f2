"""Declared changes of any table: nothing is bent, SQL does what Python does, and the way back gives every value."""

import math
import tempfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from syncengine import Collection, Settings, add, archive, cast, declared, rename
from syncengine.clock import SystemClock
from syncengine.local.identifiers import quoted
from syncengine.local.store import Store
from syncengine.migrate.batches import of_rows
from syncengine.migrate.declared_sql import cast_in_sql, or_null
from syncengine.migrate.declared_values import Conversion, converted, python_type_of, same_value
from syncengine.migrate.definition import Quarantine
from syncengine.migrate.rejection import rejection_for
from syncengine.migrate.starter import Starter
from syncengine.migrate.work import Work

EDGES = [0, 1, -1, 7, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]
INTEGERS = st.sampled_from(EDGES) | st.integers(-(2**63), 2**63 - 1)
REALS = st.sampled_from(
    [0.0, -0.0, 1.0, 0.5, -2.0, 1e15, 1e16, 1e22, 1e300, 5e-324, 0.1, 1e-5, 123456789012345.6, float(2**53), 9.3e18]
) | st.floats(allow_nan=False, allow_infinity=False)
ODD_TEXTS = [
    "", "0", "-0", "07", "+7", " 7", "7 ", "7\n", "７", "1_000", "0x10", "1e3", "5.", ".5", "5.0", "5.50", "0.10",
    "-0.0", "0.0", "0.0001", "0.00001", "1e-05", "nan", "inf", "-Infinity", "1e999", "five", "5.5\0abc", "7\0", "\0",
    "9007199254740993", "9223372036854775807", "9223372036854775808", "123456789012345.6", "1234567890123456.7",
    "0.1234567890123456789", "--5", "5.5.5", "-5.5", "00.5", "-.5", "5,5", "\ud7ff",
]  # fmt: skip
TEXTS = (
    st.sampled_from(ODD_TEXTS)
    | INTEGERS.map(str)
    | REALS.map(repr)
    | st.decimals(-(10**6), 10**6, places=4).map(str)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
)
BLOBS = st.binary(max_size=4)
VALUES = {"TEXT": TEXTS, "INTEGER": INTEGERS, "REAL": REALS, "BLOB": BLOBS, "ANY": TEXTS | INTEGERS | REALS | BLOBS}
CASTS = [int, float, str]


@given(st.sampled_from(CASTS), st.sampled_from(["TEXT", "INTEGER", "REAL", "ANY"]), st.data())
@settings(max_examples=400, deadline=None)
def test_what_sql_casts_by_itself_is_what_python_makes_and_comes_back_the_same(store, to, sql_type, data):
    value = data.draw(st.none() | VALUES[sql_type])
    conversion = Conversion(field="x", to=to, back=python_type_of(sql_type))
    expression, predicate = cast_in_sql("x", conversion, strict=data.draw(st.booleans()))
    made_type = {int: "INTEGER", float: "REAL", str: "TEXT"}[to]
    with store.transaction():
        store.query(f"CREATE TABLE old (x {sql_type}) STRICT")
        store.query(f"CREATE TABLE new (x {made_type}) STRICT")
        store.query("INSERT INTO old VALUES (?)", (value,))
        value = store.query("SELECT x FROM old")[0][0]
        store.query(f"INSERT INTO new SELECT {expression} FROM old WHERE {or_null('x', predicate)}")
        found = store.query("SELECT x FROM new")
        store.query("DROP TABLE old")
        store.query("DROP TABLE new")
    for (made,) in found:
        assert same_value(made, converted(value, to, field="x"))
        assert not conversion.must_be_kept(value, made)


@given(st.decimals(-(10**9), 10**9, places=5, allow_nan=False).map(lambda number: str(number.normalize())))
@settings(max_examples=300, deadline=None)
def test_sqlite_reads_plain_decimals_as_python_does(store, text):
    _, predicate = cast_in_sql("x", Conversion(field="x", to=float, back=str))
    [(made, plain)] = store.query(f"SELECT CAST(x AS REAL), {predicate} FROM (SELECT ? AS x)", (text,))
    assert not plain or (repr(made), made) == (text, float(text))


def test_most_numbers_that_apps_write_need_no_python(store):
    def by_sql(value, back, to):
        _, predicate = cast_in_sql("x", Conversion(field="x", to=to, back=back))
        return bool(store.query(f"SELECT {predicate} FROM (SELECT ? AS x)", (value,))[0][0])

    assert all(by_sql(text, str, int) for text in ("0", "7", "-12", "1699999999999"))
    assert all(by_sql(text, str, float) for text in ("52.520008", "-13.404954", "0.5", "100.0"))
    assert all(by_sql(*numbers) for numbers in ((3.0, float, int), (3, int, float), (3, int, str)))
    assert not any(by_sql(text, str, int) for text in ("07", "5.5", "x", "9" * 20))


@st.composite
def worlds(draw):
    """(columns as (name, type, required, default), rows, changes)."""
    strict = draw(st.booleans())
    names = ["a", "b", "c", "owner", "value"][: draw(st.integers(1, 5))]
    columns = []
    for name in names:
        sql_type = draw(st.sampled_from(sorted(VALUES)))
        default = draw(st.sampled_from([None, None, "'d'" if sql_type in ("TEXT", "ANY") else None]))
        columns.append((name, sql_type, draw(st.booleans()), default))
    rows = []
    for number in range(draw(st.integers(0, 6))):
        values = [
            draw(VALUES[sql_type] if required else st.none() | VALUES[sql_type])
            for _, sql_type, required, _ in columns
        ]
        rows.append((draw(st.sampled_from(["ann", "bob"])), f"k{number}", *values))
    # ANY in a table that is not STRICT has NUMERIC affinity: a cast of it has no way down.
    changes = [draw(changes_of(name, casts=strict or sql_type != "ANY")) for name, sql_type, _, _ in columns]
    changes = [change for change in changes if change is not None]
    if draw(st.booleans()):
        changes.append(add("plus", "ANY" if strict else "TEXT", default=draw(st.none() | st.just("it's"))))
    if draw(st.booleans()):
        changes.append(add("more", "REAL", default=draw(st.none() | st.just(2))))
    return strict, columns, rows, tuple(changes)


def changes_of(name, *, casts):
    others = st.none() | st.just(archive(name)) | st.just(rename(name, name + "_2"))
    return st.sampled_from(CASTS).map(lambda to: cast(name, to)) | others if casts else others


COLLECTION = Collection("notes", owner="user_id")


class Notes:
    """A store with one table, and the same declared migration up and back."""

    def __init__(self, folder, world, *, batch_rows=2):
        self.strict, self.columns, rows, changes = world
        self.store = Store(
            str(Path(folder) / "app.db"), settings=Settings(batch_rows=batch_rows), clock=SystemClock()
        )
        declared_columns = ", ".join(
            f"{quoted(name)} {sql_type}{' NOT NULL' if required else ''}{f' DEFAULT {default}' if default else ''}"
            for name, sql_type, required, default in self.columns
        )
        ending = "STRICT" if self.strict else ""
        with self.store.transaction():
            self.store.query(
                "CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, "
                f"{declared_columns}, PRIMARY KEY (user_id, id)) {ending}"
            )
            self.store.query(f"CREATE INDEX by_first ON notes ({quoted(self.columns[0][0])})")
            marks = ", ".join("?" * (len(self.columns) + 2))
            self.store.connection.executemany(f"INSERT INTO notes VALUES ({marks})", rows)
        self.up = declared(id="change", collection="notes", from_version="1.0.0", to_version="2.0.0", changes=changes)

    @property
    def back(self):
        back = self.up.reversed(self.store, None)
        assert back is not None
        return back

    def run(self, executor, *, by_python=False):
        """As the run loop does it; the keys of the rows that were left out."""
        aside = []
        with Starter(self.store, rebuilds=True), self.store.transaction():
            work = Work(
                store=self.store,
                definition=executor.definition,
                collections={"notes": COLLECTION},
                user=None,
                now_ms=0,
            )
            executor.prepare(work)
            if executor.rewrites_rows(self.store):
                batches = of_rows(executor, work, rows_max=2) if by_python else executor.batches(work)
                for batch in batches:
                    self._convert(batch, work, aside)
            executor.finish(work)
        return sorted(aside)

    def _convert(self, batch, work, aside):
        if self._applied(batch.apply):
            return
        for part in batch.parts():
            self._convert(part, work, aside)
        if not batch.parts():
            for [item] in batch.units():
                if not self._applied(partial(batch.executor.apply, [item], work)):
                    aside.append((item.owner, item.key))

    def _applied(self, apply):
        try:
            with self.store.savepoint("batch"):
                apply()
        except Exception as error:
            if rejection_for(error) is None:
                raise
            return False
        return True

    def rows(self, table="notes"):
        columns = [name for (name,) in self.store.query("SELECT name FROM pragma_table_info(?)", (table,))]
        rows = self.store.query(f"SELECT * FROM {table} ORDER BY 1, 2")
        return {row[:2]: dict(zip(columns, map(exact, row), strict=True)) for row in rows}

    def kept(self):
        rows = self.store.query(
            "SELECT owner, row_key, field, value, migration FROM _sync_archive ORDER BY 1, 2, 3, 5"
        )
        return [tuple(map(exact, row)) for row in rows]

    def schema(self):
        rows = self.store.query("SELECT name, sql FROM sqlite_schema WHERE tbl_name = 'notes' ORDER BY name")
        return [(name, sql and "".join(sql.replace('"', "").split())) for name, sql in rows]


def exact(value):
    """Type and sign are part of a value."""
    return (type(value).__name__, value, math.copysign(1, value) if isinstance(value, float) else 1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(str(tmp_path_factory.mktemp("p") / "app.db"), settings=Settings(), clock=SystemClock())
    yield store
    store.close()


SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(worlds())
@SLOW
def test_back_after_up_gives_every_row_and_the_table_as_they_were(world):
    with tempfile.TemporaryDirectory() as folder:
        notes = Notes(folder, world)
        rows, schema = notes.rows(), notes.schema()
        aside = notes.run(notes.up)
        assert set(notes.rows()) | set(aside) == set(rows)
        assert notes.run(notes.back) == []
        assert notes.rows() == {key: row for key, row in rows.items() if key not in aside}
        assert notes.schema() == schema
        notes.store.close()


@given(worlds())
@SLOW
def test_up_by_sql_gives_what_up_by_python_gives(world):
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        by_sql, by_python = Notes(one, world), Notes(other, world)
        assert by_sql.run(by_sql.up) == by_python.run(by_python.up, by_python=True)
        assert by_sql.rows() == by_python.rows()
        assert by_sql.kept() == by_python.kept()
        assert by_sql.run(by_sql.back) == by_python.run(by_python.back, by_python=True)
        assert by_sql.rows() == by_python.rows()
        assert by_sql.kept() == by_python.kept()
        by_sql.store.close()
        by_python.store.close()


@given(worlds(), st.data())
@SLOW
def test_an_edit_in_between_stays_and_going_up_again_gives_the_same_rows(world, data):
    with tempfile.TemporaryDirectory() as folder:
        notes = Notes(folder, world)
        before = notes.rows()
        notes.run(notes.up)
        assume(notes.rows())
        edited = edit_some(notes, data)
        up = notes.rows()
        aside = notes.run(notes.back)
        for key, row in notes.rows().items():
            for name, value in row.items():
                if (key, name) not in edited:
                    assert value == before[key][name]
                else:
                    wanted = converted(edited[key, name], python_type_of(type_of(notes, name)), field=name)
                    assert value == exact(stored(notes, name, wanted))
        assert set(aside) <= {key for key, _ in edited}
        assert notes.run(notes.up) == []
        assert notes.rows() == {key: row for key, row in up.items() if key not in aside}
        notes.store.close()


def stored(notes, name, value):
    """As the column gives it back: SQLite's affinity bends values of tables that are not STRICT."""
    with notes.store.transaction():
        notes.store.query(f"CREATE TABLE one (x {type_of(notes, name)}) {'STRICT' if notes.strict else ''}")
        notes.store.query("INSERT INTO one VALUES (?)", (value,))
        [(found,)] = notes.store.query("SELECT x FROM one")
        notes.store.query("DROP TABLE one")
    return found


def type_of(notes, name):
    return next(sql_type for known, sql_type, _, _ in notes.columns if known == name)


def edit_some(notes, data):
    """New values for some cells that were cast; {(key, column): value}."""
    casts = [change for change in notes.up.changes if hasattr(change, "to") and isinstance(change.to, type)]
    edited = {}
    for key, row in notes.rows().items():
        for change in casts:
            if data.draw(st.booleans()):
                made_type = {int: "INTEGER", float: "REAL", str: "TEXT"}[change.to]
                value = data.draw(VALUES[made_type])
                with notes.store.transaction():
                    notes.store.query(
                        f"UPDATE notes SET {quoted(change.column)} = ? WHERE user_id = ? AND id = ?", (value, *key)
                    )
                value = value + 0.0 if change.to is float else value  # a column of reals knows no -0.0
                if exact(value) != row[change.column]:
                    edited[key, change.column] = value
    return edited


def test_a_value_that_has_no_place_in_the_older_shape_is_refused_and_not_bent():
    world = (True, [("a", "INTEGER", False, None)], [("ann", "k", 7)], (cast("a", str),))
    with tempfile.TemporaryDirectory() as folder:
        notes = Notes(folder, world)
        notes.run(notes.up)
        with notes.store.transaction():
            notes.store.query("UPDATE notes SET a = 'seven'")
        assert notes.run(notes.back) == [("ann", "k")]
        assert notes.rows() == {}
        notes.store.close()


def test_what_an_added_column_held_is_there_again_when_it_is_added_again():
    world = (
        True,
        [("a", "INTEGER", False, None)],
        [("ann", "k", 7), ("ann", "l", 8)],
        (add("n", "REAL", default=1),),
    )
    with tempfile.TemporaryDirectory() as folder:
        notes = Notes(folder, world)
        assert not notes.up.rewrites_rows(notes.store)
        notes.run(notes.up)
        with notes.store.transaction():
            notes.store.query("UPDATE notes SET n = 2.5 WHERE id = 'k'")
        notes.run(notes.back)
        assert [row[:4] for row in notes.kept()] == [(exact("ann"), exact("k"), exact("n"), exact(2.5))]
        notes.run(notes.up)
        assert [row["n"] for row in notes.rows().values()] == [exact(2.5), exact(1.0)]
        assert notes.kept() == []
        notes.store.close()


def test_a_kept_value_is_given_back_only_to_a_value_that_nobody_has_changed():
    conversion = Conversion(field="a", to=str, back=int)
    assert conversion.convert(7, kept="07") == "07"
    assert conversion.convert(8, kept="07") == "8"
    with pytest.raises(Quarantine):
        Conversion(field="a", to=int, back=str).convert("x", kept=7)


def test_a_cast_of_a_column_that_bends_values_by_itself_has_no_way_down():
    world = (False, [("a", "NUMERIC", False, None)], [("ann", "k", 7)], (cast("a", str),))
    with tempfile.TemporaryDirectory() as folder:
        notes = Notes(folder, world)
        notes.run(notes.up)
        assert notes.up.reversed(notes.store, None) is None
        notes.store.close()
