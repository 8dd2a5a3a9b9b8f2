"""Hero's Path is upgraded from 2.0.0 to 3.0.0 while edits wait to be sent: each of them arrives in the new shape."""

import json
from pathlib import Path
from typing import Any

import pytest

import migrations
from syncengine import Engine

LEGACY = Path(__file__).resolve().parents[1] / "data" / "asyncstorage" / "ios-library-2.2.0"


def opened(path: Path, *, target: str) -> Engine:
    return Engine.open(
        path,
        registry=migrations.registry(target=target),
        user="user-1",
        sources={"asyncstorage": str(LEGACY)},
        consent=lambda request: True,
    )


def at_cloud(engine: Engine) -> None:
    """As if everything of 2.0.0 had been uploaded."""
    with engine._store.transaction():
        engine._store.query(
            "INSERT OR IGNORE INTO _sync_row_set (owner, collection)"
            " SELECT owner, collection FROM _sync_outbox WHERE collection <> ''"
        )
        engine._store.query(
            "INSERT OR IGNORE INTO _sync_row (row_set_id, collection, owner, row_key, version, shape_version)"
            " SELECT s.row_set_id, o.collection, o.owner, o.row_key, o.entry_id, '2.0.0'"
            " FROM _sync_outbox AS o JOIN _sync_row_set AS s ON s.owner = o.owner AND s.collection = o.collection"
        )
        engine._store.query("DELETE FROM _sync_outbox")


def edits(engine: Engine) -> list[tuple[Any, ...]]:
    """What a person wrote: (kind, collection, set, original set) of the entries that were converted."""
    rows = engine._store.query(
        "SELECT kind, collection, set_json, json_extract(original_json, '$.set') FROM _sync_outbox "
        "WHERE original_json IS NOT NULL ORDER BY entry_id"
    )
    return [(kind, name, *(text and json.loads(text) for text in texts)) for kind, name, *texts in rows]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A library of 2.0.0 that the cloud has, and then a day offline."""
    path = tmp_path / "app.db"
    with opened(path, target="2.0.0") as engine:
        engine.migrate()
        at_cloud(engine)
        with engine.write() as db:
            db.execute("UPDATE journeys SET name = 'Over the hills' WHERE id = (SELECT min(id) FROM journeys)")
            db.execute("UPDATE preferences SET enabled_types = json_array('cafe', 'museum')")
        with engine.write() as db:
            db.execute(
                "INSERT INTO journeys (user_id, id, name, start_time, end_time, route, distance, duration) "
                "VALUES ('user-1', 'new-walk', 'Home', 1700000000000, 1700000600000, '[]', 700.0, 600000.0)"
            )
            db.execute("UPDATE places SET saved = 0, dismissed = 1 WHERE id = (SELECT min(id) FROM places)")
        with engine.write() as db:
            db.execute("DELETE FROM journeys WHERE id = (SELECT max(id) FROM journeys WHERE id <> 'new-walk')")
    return path


def test_each_edit_of_a_day_offline_says_the_same_in_the_new_shapes(path: Path) -> None:
    with opened(path, target="2.0.0") as engine:
        before = engine._store.query("SELECT count(*) FROM _sync_outbox WHERE collection <> ''")[0][0]
        assert before == 5
    with opened(path, target="3.0.0") as engine:
        report = engine.migrate()
        assert report is not None
        assert report.success, report
        counts = [result.entries for result in report.results]
        # The profile carries the migrations' status, so their own marks are queued and converted, too.
        assert sum(one.read for one in counts) == sum(one.converted for one in counts) > before
        found = edits(engine)
        assert ("patch", "journeys", {"name": "Over the hills"}, {"name": "Over the hills"}) in [
            (kind, name, {"name": said["name"]}, was) for kind, name, said, was in found if was and "name" in said
        ]
        (walk,) = [said for kind, name, said, _ in found if (kind, name) == ("put", "journeys")]
        assert (walk["id"], walk["duration_s"], walk["distance_m"]) == ("new-walk", 600, 700)
        (preferences,) = [said for _, name, said, _ in found if name == "preferences"]
        assert preferences == {"place_types": '["cafe","museum"]'}
        assert {kind for kind, name, _, _ in found if name == "places"} <= {"patch", "changes"}
        assert engine._store.query("SELECT DISTINCT shape_version FROM _sync_outbox WHERE collection <> ''") == [
            ("3.0.0",)
        ]
        assert engine._store.query("SELECT count(*) FROM _sync_quarantine WHERE origin = 'outbox'") == [(0,)]


def test_the_places_of_two_zero_that_the_cloud_has_are_replaced_by_the_merged_ones(path: Path) -> None:
    with opened(path, target="3.0.0") as engine:
        engine.migrate()
        said = [
            (one["kind"], one["key"])
            for (text,) in engine._store.query(
                "SELECT set_json FROM _sync_outbox WHERE kind = 'changes' AND collection = 'places'"
            )
            for one in json.loads(text)
        ]
        places = {key for (key,) in engine._store.query("SELECT id FROM places")}
        known = {key for (key,) in engine._store.query("SELECT row_key FROM _sync_row WHERE collection = 'places'")}
        assert {key for kind, key in said if kind == "put"} == places
        assert {key for kind, key in said if kind == "delete"} == known - places
