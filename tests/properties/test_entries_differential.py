"""Edits that are sent before an upgrade, and the same edits that go through it in the queue, lead to the same cloud.

Or they are in quarantine with their original. Random rows, edits, groups of edits, places where the sending stops;
declared changes and row functions that compute, split, drop, rename keys and refuse.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from syncengine import Engine, Quarantine, add, archive, cast, declared, migration, rename, tables
from syncengine.outbox.entry import entry_of
from syncengine.outbox.row_set import know_row_sets
from tests.integration.migrate_world import registry_of
from tests.properties.model_cloud import ModelCloud, Refused

OLD_SHAPE, NEW_SHAPE = "2.0.0", "3.0.0"
V2 = """
CREATE TABLE notes (
  user_id TEXT NOT NULL, id TEXT NOT NULL, a INTEGER NOT NULL, b INTEGER NOT NULL, text TEXT,
  PRIMARY KEY (user_id, id)
) STRICT
"""
V3 = """
CREATE TABLE notes (
  user_id TEXT NOT NULL, id TEXT NOT NULL, total INTEGER NOT NULL, text TEXT, part INTEGER NOT NULL,
  PRIMARY KEY (user_id, id)
) STRICT
"""


class Old(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str
    a: int
    b: int
    text: str | None


class New(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str
    total: int
    text: str | None
    part: int


def one(old: Old, *, key: str | None = None, part: int = 0) -> New:
    return New(user_id=old.user_id, id=key or old.id, total=old.a + old.b, text=old.text, part=part)


def computed(old: Old) -> New:
    return one(old)


def split(old: Old) -> list[New]:
    return [one(old), one(old, key=f"{old.id}-2", part=1)]


def split_by_value(old: Old) -> list[New]:
    return split(old) if old.a > 1 else [one(old)]


def dropped_by_value(old: Old) -> New | None:
    return None if old.a > 1 else one(old)


def under_new_key(old: Old) -> New:
    return one(old, key=f"new-{old.id}")


def refused_by_value(old: Old) -> New:
    if old.a > 1:
        raise Quarantine("too much", field="a")
    return one(old)


FUNCTIONS = (computed, split, split_by_value, dropped_by_value, under_new_key, refused_by_value)
DECLARED = (
    (rename("text", "title"),),
    (rename("text", "title"), add("colour", "TEXT", default="grey")),
    (cast("a", str), rename("b", "c")),
    (archive("b"), cast("a", float), add("more", "INTEGER")),
)


def by_function(function: Callable[..., Any], *, shadow: bool) -> Any:
    return migration(
        id="step",
        collection="notes",
        from_version=OLD_SHAPE,
        to_version=NEW_SHAPE,
        table=V3,
        lossy=True,
        quarantine_rows_max=99,
        shadow=shadow,
        backup="never",
    )(function)


def by_declaration(changes: Any, *, shadow: bool) -> Any:
    return declared(
        id="step",
        collection="notes",
        from_version=OLD_SHAPE,
        to_version=NEW_SHAPE,
        changes=changes,
        shadow=shadow or None,
        backup="never",
    )


STEPS = [(by_function, function) for function in FUNCTIONS] + [(by_declaration, changes) for changes in DECLARED]
KEYS = st.sampled_from("xyz")
SMALL = st.integers(0, 3)
TEXT = st.none() | st.sampled_from(["", "one", "ünö"])
EDITS = st.one_of(
    st.tuples(st.just("put"), KEYS, SMALL, SMALL, TEXT),
    st.tuples(st.just("a"), KEYS, SMALL),
    st.tuples(st.just("b"), KEYS, SMALL),
    st.tuples(st.just("text"), KEYS, TEXT),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("key"), KEYS, KEYS),
)
BLOCKS = st.lists(st.lists(EDITS, min_size=1, max_size=3), max_size=5)


@dataclass(frozen=True)
class Case:
    """`before` are blocks of edits that are at the cloud before the others are made."""

    step: Any
    before: list[list[Any]]
    queued: list[list[Any]]
    arrived: int
    """So many of the queued entries are claimed, and have arrived at the cloud, whose answer was lost."""
    claimed: int
    """So many more are claimed, and have not."""
    shadow: bool


CASES = st.builds(
    Case,
    step=st.sampled_from(STEPS),
    before=BLOCKS,
    queued=BLOCKS,
    arrived=st.integers(0, 3),
    claimed=st.integers(0, 3),
    shadow=st.booleans(),
)


def edit(engine: Engine, blocks: list[list[Any]]) -> None:
    for block in blocks:
        with engine.write() as db:
            for kind, key, *values in block:
                if kind == "put":
                    db.execute("INSERT OR REPLACE INTO notes VALUES ('ann', ?, ?, ?, ?)", (key, *values))
                elif kind == "delete":
                    db.execute("DELETE FROM notes WHERE id = ?", (key,))
                elif kind == "key":
                    db.execute("UPDATE OR REPLACE notes SET id = ? WHERE id = ?", (values[0], key))
                else:
                    db.execute(f"UPDATE notes SET {kind} = ? WHERE id = ?", (values[0], key))


def entries(engine: Engine) -> list[Any]:
    store = engine._store
    ids = [entry for (entry,) in store.query("SELECT entry_id FROM _sync_outbox ORDER BY entry_id")]
    return [entry_of(store.rows("outbox", "entry", entry_id=entry)[0]) for entry in ids]


def confirmed(engine: Engine, entry: Any, cloud: ModelCloud) -> None:
    """What settling does: the entry leaves, and the versions of its rows are known."""
    store = engine._store
    keys = [change["key"] for change in json.loads(entry.set_json)] if entry.kind == "changes" else [entry.row_key]
    with store.transaction():
        store.query("DELETE FROM _sync_outbox WHERE entry_id = ?", (entry.entry_id,))
        for key in keys:
            row = cloud.rows.get((entry.owner, key))
            if row is not None:
                know_row_sets(store, owner=entry.owner, collections=["notes"])
                store.query(
                    "INSERT OR REPLACE INTO _sync_row"
                    " (row_set_id, collection, owner, row_key, version, shape_version, deleted)"
                    " SELECT row_set_id, collection, owner, ?, ?, ?, ? FROM _sync_row_set"
                    " WHERE owner = ? AND collection = 'notes'",
                    (key, row.version, row.shape, row.body is None, entry.owner),
                )


def send_all(engine: Engine, cloud: ModelCloud) -> None:
    for entry in entries(engine):
        if entry.kind == "put" and entry.set_json is None:
            raise AssertionError("this test queues no entries that name only their row")
        cloud.take(entry)
        confirmed(engine, entry, cloud)


def claim(engine: Engine, count: int) -> None:
    store = engine._store
    with store.transaction():
        for number, entry in enumerate(entries(engine)[:count], start=1):
            store.query(
                "UPDATE _sync_outbox SET state = 'claimed', sequence = ?, epoch = 1, claim_token = 't' "
                "WHERE entry_id = ?",
                (number, entry.entry_id),
            )


def open_at(folder: str, *steps: Any, target: str) -> Engine:
    make = tables(id="make", from_version="1.0.0", to_version=OLD_SHAPE, create=(V2,))
    engine = Engine.open(Path(folder) / "app.db", registry=registry_of(make, *steps, target=target))
    report = engine.migrate()
    assert report is None or report.success, report
    return engine


def as_old(key: str, body: dict[str, Any]) -> Old:
    return Old(**{"user_id": "ann", **body, "id": key})


def by_hand(step: Any, key: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """What the new shape makes of one document, by key, without the engine; None: nothing can."""
    make, said = step
    if make is by_declaration:
        return {key: declared_by_hand(said, body)}
    try:
        made = said(as_old(key, body))
    except Quarantine:
        return None
    rows = [] if made is None else made if isinstance(made, list) else [made]
    return {row.id: row.model_dump(exclude={"user_id"}) for row in rows}


def declared_by_hand(changes: Any, body: dict[str, Any]) -> dict[str, Any]:
    number = DECLARED.index(changes)
    row = dict(body)
    if number in (0, 1):
        row["title"] = row.pop("text")
    if number == 1:
        row["colour"] = "grey"
    if number == 2:
        row["a"], row["c"] = str(row["a"]), row.pop("b")
    if number == 3:
        del row["b"]
        row["a"], row["more"] = float(row["a"]), None
    return row


def lifted(cloud: ModelCloud, step: Any) -> dict[str, Any]:
    """Every living row as a device sees it that knows both shapes."""
    own: dict[str, Any] = {}
    derived: dict[str, Any] = {}
    for (_, key), row in cloud.rows.items():
        body = row.body
        if body is not None and row.shape == OLD_SHAPE:
            made = by_hand(step, key, body)
            if made is None:
                own[key] = ("cannot be lifted", body)
                continue
            body = made.pop(key, None)
            derived |= made
        for kind, _, patch in row.beside:
            body = patch if kind == "put" or body is None else {**body, **patch}
        if body is not None:
            own[key] = body
    deleted = {key for (_, key), row in cloud.rows.items() if row.body is None}
    return {key: body for key, body in {**derived, **own}.items() if key in own or key not in deleted}


def sent_before(case: Case) -> dict[str, Any]:
    """The cloud after all edits were sent, and the upgrade came then."""
    cloud, (make, said) = ModelCloud(), case.step
    with tempfile.TemporaryDirectory() as folder:
        with open_at(folder, target=OLD_SHAPE) as engine:
            edit(engine, [*case.before, *case.queued])
            send_all(engine, cloud)
        with open_at(folder, make(said, shadow=case.shadow), target=NEW_SHAPE) as engine:
            send_all(engine, cloud)
    return lifted(cloud, case.step)


def sent_after(case: Case) -> tuple[dict[str, Any], set[str]]:
    """The cloud after the upgrade came first, and the keys of what is in quarantine or held."""
    cloud, (make, said) = ModelCloud(), case.step
    with tempfile.TemporaryDirectory() as folder:
        with open_at(folder, target=OLD_SHAPE) as engine:
            edit(engine, case.before)
            send_all(engine, cloud)
            edit(engine, case.queued)
            claim(engine, case.arrived + case.claimed)
            for entry in entries(engine)[: case.arrived]:
                cloud.take(entry)
            queued = len(entries(engine))
        with open_at(folder, make(said, shadow=case.shadow), target=NEW_SHAPE) as engine:
            stuck = set_aside_whole(engine)
            counts = engine._store.query(
                "SELECT entries_read, entries_converted + entries_quarantined FROM _sync_run WHERE migration = 'step'"
            )
            assert counts == [(queued, queued)]
            for entry in entries(engine):
                arrived = entry.sequence is not None and entry.sequence <= case.arrived
                if entry.state == "held":
                    stuck.add(entry.row_key)
                elif arrived or takes(cloud, entry, stuck):
                    confirmed(engine, entry, cloud)
    return lifted(cloud, case.step), stuck


def takes(cloud: ModelCloud, entry: Any, stuck: set[str]) -> bool:
    try:
        cloud.take(entry)
    except Refused:
        # What it stands on is in quarantine, or the cloud has refused that already.
        assert entry.row_key in stuck, entry
        return False
    return True


def set_aside_whole(engine: Engine) -> set[str]:
    """The keys of the items; each item holds the entry as it was written."""
    keys = set()
    for key, text in engine._store.query("SELECT row_key, body FROM _sync_quarantine WHERE origin = 'outbox'"):
        body = json.loads(text)
        assert body["shape_version"] == OLD_SHAPE
        said = {**(body["set"] or {}), **(body["before"] or {})}
        assert said
        assert set(said) <= {"id", "a", "b", "text"}
        keys.add(key)
    return keys


def source_of(key: str) -> str:
    return key.removeprefix("new-").removesuffix("-2")


@settings(max_examples=25, deadline=None, phases=set(Phase) - {Phase.explain})
@given(CASES)
def test_what_is_sent_after_the_upgrade_makes_the_cloud_that_sending_before_it_makes(case):
    before = sent_before(case)
    after, stuck = sent_after(case)
    stuck = {source_of(key) for key in stuck}
    assert {k: v for k, v in after.items() if source_of(k) not in stuck} == {
        k: v for k, v in before.items() if source_of(k) not in stuck
    }
    if case.step[1] is not refused_by_value:
        assert not stuck
