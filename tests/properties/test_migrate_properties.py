"""What holds of any rows, any graph of versions and any mixture of good and bad."""

import json
import tempfile
from pathlib import Path
from typing import Any

import apsw
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from syncengine import Engine, ListedMigration, MigrationRegistry, Quarantine, Settings, migration, tables
from syncengine.clock import SystemClock
from syncengine.errors import RegistryInvalid
from syncengine.local.store import Store
from syncengine.migrate import paging
from syncengine.migrate.paging import pages
from syncengine.migrate.row_codec import codec_of
from syncengine.vocabulary import SchemaVersion
from tests.integration.migrate_world import registry_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)


class Anything(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    text: str
    maybe_text: str | None
    number: int
    real: float
    flag: bool | None
    blob: bytes | None
    tags: list[str]
    extra: dict[str, Any] | None


ROWS = st.builds(
    Anything,
    text=TEXTS,
    maybe_text=st.none() | TEXTS,
    number=INTEGERS,
    real=FLOATS,
    flag=st.none() | st.booleans(),
    blob=st.none() | st.binary(max_size=20),
    tags=st.lists(TEXTS, max_size=4),
    extra=st.none() | st.dictionaries(TEXTS, JSON, max_size=4),
)


@given(ROWS)
def test_any_row_comes_back_from_sqlite_as_it_went(row):
    codec = codec_of(Anything)
    connection = apsw.Connection(":memory:")
    marks = ", ".join("?" * len(codec.columns))
    back = connection.execute(f"SELECT {marks}", codec.encode(row)).fetchall()
    assert codec.decode(back) == [row]
    connection.close()


HOPS = st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda hop: hop[0] < hop[1]), max_size=14)


@given(HOPS, st.randoms(use_true_random=False))
def test_the_path_is_a_shortest_one_and_the_same_in_whatever_order_the_list_is(hops, chance):
    def build(order):
        listed = [ListedMigration(f"{a}-{b}", f"{a}.0.0 > {b}.0.0", "-:-") for a, b in order]
        return MigrationRegistry(app="t", baseline="0.0.0", target="7.0.0", collections=[], migrations=listed)

    order = sorted(hops)
    shuffled = chance.sample(order, len(order))
    lengths = _lengths(hops)
    try:
        registry, other = build(order), build(shuffled)
    except RegistryInvalid:
        # Refused exactly when some version, or the baseline, has no way to the target.
        assert any(_lengths(hops, start=version).get(7) is None for version in {0} | {v for hop in hops for v in hop})
        return
    path = registry.get_migration_path("0.0.0", "7.0.0")
    assert path == other.get_migration_path("0.0.0", "7.0.0")
    assert len(path) == lengths[7]
    assert [hop.from_version for hop in path] == [SchemaVersion.parse("0"), *(hop.to_version for hop in path)][:-1]
    assert all((hop.from_version.major, hop.to_version.major) in hops for hop in path)


def _lengths(hops, start=0):
    """Hops from the start to each version, by Bellman and Ford: not the way that the registry does it."""
    lengths = {start: 0}
    for _ in range(8):
        for a, b in hops:
            if a in lengths:
                lengths[b] = min(lengths.get(b, 99), lengths[a] + 1)
    return lengths


class Old(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str
    fate: str
    kind: str | None


class New(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str
    fate: str
    kind: str | None


TABLE = """
CREATE TABLE notes (
  user_id TEXT NOT NULL, id TEXT NOT NULL, fate TEXT NOT NULL{check}, kind TEXT, PRIMARY KEY (user_id, id)
) STRICT
"""
V2, V3 = TABLE.format(check=""), TABLE.format(check=" CHECK (fate <> 'check')")
FATES = st.sampled_from(["good", "good", "good", "split", "drop", "quarantine", "crash", "check", "twin"])


def by_fate(old: Old) -> list[New] | None:
    if old.fate == "drop":
        return None
    if old.fate == "quarantine":
        raise Quarantine("by its fate")
    if old.fate == "crash":
        raise ZeroDivisionError
    new = New(**old.model_dump())
    if old.fate == "split":
        return [new, new.model_copy(update={"id": old.id + "-2"})]
    # The second of the two breaks the primary key: neither may stay.
    return [new, new] if old.fate == "twin" else [new]


def first_of(old: list[Old]) -> New | None:
    made = by_fate(old[0])
    return made[0] if made else None


def migrate(rows, *, batch_rows, **facts):
    """(counts, rows in the table, ids in quarantine) after a migration of these rows."""
    function = first_of if "group_by" in facts else by_fate
    step = migration(
        collection="notes",
        from_version="2.0.0",
        to_version="3.0.0",
        id="step",
        table=V3,
        lossy=True,
        quarantine_rows_max=99,
        **facts,
    )(function)
    make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(V2,))
    with tempfile.TemporaryDirectory() as folder:
        limits = Settings(batch_rows=batch_rows, quarantine_ratio_max=1)
        path = Path(folder) / "app.db"
        with Engine.open(path, registry=registry_of(make, step, target="3.0.0"), settings=limits) as engine:
            engine.migrations.execute_migration("make")
            with engine._store.transaction():
                for row in rows:
                    engine._store.query("INSERT INTO notes VALUES (?, ?, ?, ?)", row)
            counts = engine.migrations.execute_migration("step").counts
            found = engine._store.query("SELECT user_id, id FROM notes ORDER BY 1, 2")
            aside = [
                json.loads(body)
                for (body,) in engine._store.query("SELECT body FROM _sync_quarantine WHERE origin = 'migration'")
            ]
    return counts, found, aside


@settings(max_examples=40, deadline=None)
@given(st.lists(FATES, max_size=40), st.integers(1, 15))
def test_every_row_is_in_the_table_dropped_or_whole_in_quarantine(fates, batch_rows):
    rows = [("ann" if n % 3 else "bob", f"n{n:03}", fate, None) for n, fate in enumerate(fates)]
    counts, found, aside = migrate(rows, batch_rows=batch_rows)
    assert counts.read == len(rows) == counts.accounted
    good = [row for row in rows if row[2] in ("good", "split")]
    expected = sorted([row[:2] for row in good] + [(r[0], r[1] + "-2") for r in good if r[2] == "split"])
    assert found == expected
    bad = sorted(row for row in rows if row[2] in ("quarantine", "crash", "check", "twin"))
    assert sorted(tuple(body[name] for name in ("user_id", "id", "fate", "kind")) for body in aside) == bad
    assert (counts.written, counts.dropped, counts.quarantined) == (len(good), fates.count("drop"), len(bad))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(FATES, st.none() | st.sampled_from("abc")), max_size=40), st.integers(1, 15))
def test_every_row_of_a_merge_is_in_its_group_dropped_or_in_quarantine(made, batch_rows):
    rows = [("ann" if n % 3 else "bob", f"n{n:03}", fate, kind) for n, (fate, kind) in enumerate(made)]
    counts, found, aside = migrate(rows, batch_rows=batch_rows, group_by="kind")
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        groups.setdefault((row[0], row[3]), []).append(row)
    kept = [group for group in groups.values() if group[0][2] in ("good", "split", "twin")]
    bad = [row for group in groups.values() if group[0][2] in ("quarantine", "crash", "check") for row in group]
    assert counts.read == len(rows) == counts.accounted
    assert found == sorted(group[0][:2] for group in kept)
    assert sorted(body["id"] for body in aside) == sorted(row[1] for row in bad)
    assert counts.merged == sum(len(group) - 1 for group in kept)


KEYS = (
    st.none() | st.sampled_from(["", "a", "A", "b", "\0", "🚶"]) | st.integers(-2, 2) | st.just(b"a") | st.just(0.5)
)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.tuples(KEYS, KEYS, KEYS), max_size=60), st.integers(1, 5))
def test_pages_hold_every_row_once_in_order_whatever_the_keys(keys, width):
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"{folder}/app.db", settings=Settings(), clock=SystemClock())
        with store.transaction():
            store.query("CREATE TABLE loose (a, b, c)")
            for key in keys:
                store.query("INSERT INTO loose VALUES (?, ?, ?)", key)
        before, paging.PAGE_ROWS = paging.PAGE_ROWS, width
        try:
            found = list(pages(store, "loose", columns=("a", "b", "c"), keys=("a", "b", "c")))
        finally:
            paging.PAGE_ROWS = before
        assert [row for page in found for row in page] == store.query("SELECT * FROM loose ORDER BY a, b, c")
        assert all(len(page) <= width for page in found)
        store.close()
