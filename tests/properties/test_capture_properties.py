"""What capture writes says exactly what was edited: the queue, played back, gives the live rows bit for bit."""

import base64
import sqlite3
import struct
import tempfile
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncengine.clock import SystemClock
from syncengine.local.store import Store
from syncengine.outbox.capture import install_capture
from syncengine.outbox.row_body import sendable_json
from syncengine.settings import Settings

REALS = st.sampled_from(
    [0.0, -0.0, 0.1, 1 / 3, 5e-324, 2.2250738585072014e-308, 1e308, 1.7976931348623157e308, 1e22, 1e23, 50.1234567]
) | st.floats(allow_nan=False, allow_infinity=False)
INTEGERS = st.sampled_from([0, -1, 2**53 + 1, 2**63 - 1, -(2**63)]) | st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
BLOBS = st.binary(max_size=8)
ANYTHING = st.none() | REALS | INTEGERS | TEXTS | BLOBS

STRICT = "a TEXT, b REAL, c INTEGER, d BLOB, e ANY, PRIMARY KEY (user_id, id)) STRICT"
PLAIN = "a TEXT, b REAL, c INTEGER, PRIMARY KEY (user_id, id)) STRICT"
LOOSE = "a TEXT COLLATE NOCASE, b REAL, c INTEGER, d, e NUMERIC, PRIMARY KEY (user_id, id))"
VALUES_OF_STRICT = {
    "a": st.none() | TEXTS,
    "b": st.none() | REALS,
    "c": st.none() | INTEGERS,
    "d": st.none() | BLOBS,
    "e": ANYTHING,
}
VALUES_OF_PLAIN = {name: VALUES_OF_STRICT[name] for name in "abc"}
VALUES_OF_LOOSE = dict.fromkeys("abcde", ANYTHING)

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def store_with(folder, columns):
    store = Store(str(Path(folder) / "app.db"), settings=Settings(), clock=SystemClock())
    with store.transaction():
        store.query(f"CREATE TABLE walks (user_id TEXT NOT NULL, id TEXT NOT NULL, {columns}")
        store.query(
            "INSERT INTO _sync_collection (name, key_column, owner_column, shape_version, fingerprint) "
            "VALUES ('walks', 'id', 'user_id', '1.0.0', '')"
        )
        install_capture(store, "walks")
    return store


def told(value):
    """A value with its type, reals by their bits; but SQLite has no function that tells -0.0 from 0.0."""
    if isinstance(value, float):
        return ("real", struct.pack(">d", value + 0.0))
    return (type(value).__name__, value)


def value_of(said):
    return base64.b64decode(said["$blob"]) if isinstance(said, dict) else said


def played_back(store):
    """The rows that the queue describes; each `before` has to be what was there."""
    rows = {}
    for kind, owner, key, new, old in store.query(
        "SELECT kind, owner, row_key, set_json, before_json FROM _sync_outbox ORDER BY entry_id"
    ):
        said = {name: value_of(v) for name, v in orjson.loads(sendable_json(new)).items()} if new else {}
        was = {name: value_of(v) for name, v in orjson.loads(sendable_json(old)).items()} if old else {}
        row = rows.get((owner, key), {})
        assert {name: told(value) for name, value in was.items()} == {name: told(row[name]) for name in was}
        if kind == "put":
            rows[owner, key] = said
        elif kind == "patch":
            assert said
            rows[owner, key] = {**row, **said}
        else:
            assert set(was) == set(row)
            del rows[owner, key]
    return {place: {name: told(value) for name, value in row.items()} for place, row in rows.items()}


def live(store):
    names = [name for (name,) in store.query("SELECT name FROM pragma_table_info('walks')")]
    found = {}
    for row in store.query("SELECT * FROM walks"):
        columns = dict(zip(names, row, strict=True))
        owner = columns.pop("user_id")
        if owner:
            found[owner, columns["id"]] = {name: told(value) for name, value in columns.items()}
    return found


OWNERS = st.sampled_from(["ann", "bob", ""])
KEYS = st.sampled_from(["k1", "k2", "K1"])


def edits(values):
    row = st.fixed_dictionaries(values)
    return st.lists(
        st.one_of(
            st.tuples(st.just("replace"), OWNERS, KEYS, row),
            st.tuples(st.just("upsert"), OWNERS, KEYS, row),
            st.tuples(st.just("update"), OWNERS, KEYS, st.fixed_dictionaries({}, optional=values)),
            st.tuples(st.just("rekey"), OWNERS, KEYS, st.tuples(OWNERS, KEYS)),
            st.tuples(st.just("delete"), OWNERS, KEYS, st.none()),
        ),
        max_size=12,
    )


def perform(run, edit):
    what, owner, key, more = edit
    if what == "delete":
        run("DELETE FROM walks WHERE user_id = ? AND id = ?", (owner, key))
    elif what == "rekey":
        run("UPDATE OR REPLACE walks SET user_id = ?, id = ? WHERE user_id = ? AND id = ?", (*more, owner, key))
    elif what == "update":
        if more:
            sets = ", ".join(f"{name} = ?" for name in more)
            run(f"UPDATE walks SET {sets} WHERE user_id = ? AND id = ?", (*more.values(), owner, key))
    else:
        names, marks = ", ".join(more), ", ".join("?" * (len(more) + 2))
        how, then = "INSERT OR REPLACE", ""
        if what == "upsert":
            how = "INSERT"
            then = f" ON CONFLICT DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in more)}"
        run(f"{how} INTO walks (user_id, id, {names}) VALUES ({marks}){then}", (owner, key, *more.values()))


def check(columns, made, *, by_another_library):
    with tempfile.TemporaryDirectory() as folder:
        store = store_with(folder, columns)
        try:
            if by_another_library:
                other = sqlite3.connect(store.path)
                other.execute("PRAGMA recursive_triggers = ON")
                for edit in made:
                    perform(other.execute, edit)
                other.commit()
                other.close()
            else:
                with store.transaction():
                    for edit in made:
                        perform(store.query, edit)
            assert played_back(store) == live(store)
        finally:
            store.close()


@few
@given(edits(VALUES_OF_STRICT))
def test_the_queue_played_back_gives_the_rows_of_a_strict_table(made):
    check(STRICT, made, by_another_library=False)


@few
@given(edits(VALUES_OF_PLAIN))
def test_the_queue_played_back_gives_the_rows_of_a_table_of_texts_and_numbers(made):
    check(PLAIN, made, by_another_library=False)


@few
@given(edits(VALUES_OF_LOOSE))
def test_the_queue_played_back_gives_the_rows_of_a_table_that_takes_anything(made):
    check(LOOSE, made, by_another_library=False)


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 37), reason="STRICT tables need SQLite 3.37")
@few
@given(edits(VALUES_OF_PLAIN))
def test_another_sqlite_library_writes_the_same_queue_of_texts_and_numbers(made):
    check(PLAIN, made, by_another_library=True)


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 37), reason="STRICT tables need SQLite 3.37")
@few
@given(edits(VALUES_OF_STRICT))
def test_another_sqlite_library_writes_the_same_queue(made):
    check(STRICT, made, by_another_library=True)


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 37), reason="STRICT tables need SQLite 3.37")
@settings(max_examples=30, deadline=None)
@given(st.lists(REALS, min_size=1, max_size=50))
def test_every_real_comes_back_bit_for_bit_from_both_libraries(reals):
    made = [("upsert", "ann", f"k{number}", {"b": real}) for number, real in enumerate(reals)]
    for columns in (STRICT, PLAIN):
        for by_another_library in (False, True):
            check(columns, made, by_another_library=by_another_library)
