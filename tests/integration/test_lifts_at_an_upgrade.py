"""A document that goes back to the cloud in an older shape, when the app is upgraded before it was sent."""

import json

import pytest
from imports import make_v2, seconds_v3
from migrate_world import registry_of

from syncengine import Engine

LIFT = (
    "INSERT INTO _sync_outbox (owner, kind, collection, row_key, set_json, before_json, base_version, shape_version,"
    " group_id, created_ms) VALUES ('ann', 'lift', 'journeys', 'a', ?, '[27]', 27, '2.0.0', 7,"
    " 1735689600000)"
)


@pytest.mark.parametrize("shadow", [False, True])
def test_a_lift_that_waits_is_sent_as_it_was_made(tmp_path, shadow):
    body = json.dumps({"id": "a", "minutes": 1.0, "title": "one"})
    with Engine.open(tmp_path / "app.db", registry=registry_of(make_v2(), target="2.0.0")) as engine:
        engine.migrate()
        with engine.write() as db:
            db.execute("INSERT INTO journeys VALUES ('ann', 'a', 1.0, 'one')")
        with engine._store.transaction():
            engine._store.query(LIFT, (body,))
    newer = registry_of(make_v2(), seconds_v3(shadow=shadow), target="3.0.0")
    with Engine.open(tmp_path / "app.db", registry=newer) as engine:
        (result,) = [one for one in engine.migrate().results if one.migration_id == "seconds-v3"]
        assert (result.entries.read, result.entries.converted, result.entries.quarantined) == (1, 1, 0)
        lifts = engine._store.query(
            "SELECT set_json, before_json, shape_version FROM _sync_outbox WHERE kind = 'lift'"
        )
        assert lifts == [(body, "[27]", "2.0.0")]
        assert engine._store.query("SELECT * FROM _sync_quarantine") == []
