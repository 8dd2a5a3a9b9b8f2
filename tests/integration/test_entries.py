"""Queued entries go through a change of shape with their rows: converted, or whole in quarantine, and counted."""

import json
import re

import apsw
import pytest
from imports import JourneyV2, JourneyV3, make_v2, seconds_v3
from migrate_world import registry_of

from syncengine import Engine, Quarantine, add, archive, declared, migration, rename, tables
from syncengine.errors import ReconciliationFailed
from syncengine.local.statements import statement
from syncengine.migrate import entries_written
from syncengine.migrate.shadow import _ShadowRun
from syncengine.outbox.capture import capture_off, drop_capture


def open_at(path, *steps, target="3.0.0"):
    engine = Engine.open(path, registry=registry_of(make_v2(), *steps, target=target))
    return engine


@pytest.fixture
def path(tmp_path):
    """Two walks at the cloud, then edits that wait: a new walk, a changed one, a deleted one."""
    path = tmp_path / "app.db"
    with open_at(path, target="2.0.0") as engine:
        engine.migrate()
        write(engine, "INSERT INTO journeys VALUES ('ann', 'a', 1.0, 'one'), ('ann', 'b', 2.0, 'two')")
        at_cloud(engine)
        write(engine, "INSERT INTO journeys VALUES ('ann', 'c', 3.0, 'three')")
        write(engine, "UPDATE journeys SET minutes = 10.0 WHERE id = 'a'")
        write(engine, "DELETE FROM journeys WHERE id = 'b'")
    return path


def write(engine, *statements):
    with engine.write() as db:
        for sql in statements:
            db.execute(sql)


def at_cloud(engine):
    """As if the cloud had taken all that is queued."""
    with engine._store.transaction():
        engine._store.query(
            "INSERT OR IGNORE INTO _sync_row_set (owner, collection)"
            " SELECT owner, collection FROM _sync_outbox WHERE collection <> ''"
        )
        engine._store.query(
            "INSERT INTO _sync_row (row_set_id, collection, owner, row_key, version, shape_version)"
            " SELECT s.row_set_id, o.collection, o.owner, o.row_key, o.entry_id, o.shape_version"
            " FROM _sync_outbox AS o JOIN _sync_row_set AS s ON s.owner = o.owner AND s.collection = o.collection"
        )
        engine._store.query("DELETE FROM _sync_outbox")


def claim(engine, *entry_ids):
    with engine._store.transaction():
        for number, entry in enumerate(entry_ids, start=1):
            engine._store.query(
                "UPDATE _sync_outbox SET state = 'claimed', sequence = ?, epoch = 1, claim_token = 'token' "
                "WHERE entry_id = ?",
                (number, entry),
            )


def queued(engine):
    """(kind, key, set, before) of all entries, in order."""
    rows = engine._store.query("SELECT kind, row_key, set_json, before_json FROM _sync_outbox ORDER BY entry_id")
    return [(kind, key, *(text and json.loads(text) for text in texts)) for kind, key, *texts in rows]


def result_of(engine, migration_id="seconds-v3"):
    (result,) = [result for result in engine.migrate().results if result.migration_id == migration_id]
    return result


@pytest.mark.parametrize("shadow", [False, True])
def test_each_entry_says_the_same_in_the_new_shape(path, shadow):
    with open_at(path, seconds_v3(shadow=shadow)) as engine:
        counts = result_of(engine).entries
        assert (counts.read, counts.converted, counts.quarantined) == (3, 3, 0)
        assert queued(engine) == [
            ("put", "c", {"id": "c", "seconds": 180, "title": "three"}, None),
            ("patch", "a", {"seconds": 600}, {"seconds": 60}),
            ("delete", "b", None, {"id": "b", "seconds": 120, "title": "two"}),
        ]
        assert engine._store.query("SELECT DISTINCT shape_version FROM _sync_outbox") == [("3.0.0",)]
        original = json.loads(engine._store.query("SELECT original_json FROM _sync_outbox WHERE row_key = 'a'")[0][0])
        assert (original["set"], original["shape_version"]) == ({"minutes": 10.0}, "2.0.0")
        counted = "SELECT entries_read, entries_converted, entries_quarantined FROM _sync_run"
        assert engine._store.query(f"{counted} WHERE migration = 'seconds-v3'") == [(3, 3, 0)]


def test_a_large_collection_has_its_entries_converted_before_the_swap_and_what_came_since_in_it(path, monkeypatch):
    staged = []
    swapped = _ShadowRun._swapped

    def edited_just_before(self, filling_run, **facts):
        if not staged:
            staged.extend(
                self.store.query("SELECT was_key, kind, set_json FROM _sync_entry_staged ORDER BY entry_id")
            )
            with apsw.Connection(str(path)) as other:
                other.execute("UPDATE journeys SET minutes = 20.0 WHERE id = 'a'")
        return swapped(self, filling_run, **facts)

    monkeypatch.setattr(_ShadowRun, "_swapped", edited_just_before)
    with open_at(path, seconds_v3(shadow=True)) as engine:
        assert result_of(engine).entries.converted == 4
        assert [(key, kind) for key, kind, _ in staged] == [("c", "put"), ("a", "patch"), ("b", "delete")]
        assert queued(engine) == [
            ("put", "c", {"id": "c", "seconds": 180, "title": "three"}, None),
            ("patch", "a", {"seconds": 600}, {"seconds": 60}),
            ("delete", "b", None, {"id": "b", "seconds": 120, "title": "two"}),
            ("patch", "a", {"seconds": 1200}, {"seconds": 600}),
        ]
        assert engine._store.query("SELECT count(*) FROM _sync_entry_staged") == [(0,)]


def test_what_is_staged_does_not_hold_for_an_entry_that_has_changed(path, monkeypatch):
    swapped = _ShadowRun._swapped

    def changed_just_before(self, filling_run, **facts):
        with self.store.transaction():
            self.store.query("UPDATE _sync_outbox SET set_json = '{\"minutes\":40.0}' WHERE row_key = 'a'")
        return swapped(self, filling_run, **facts)

    monkeypatch.setattr(_ShadowRun, "_swapped", changed_just_before)
    with open_at(path, seconds_v3(shadow=True)) as engine:
        assert result_of(engine).entries.converted == 3
        assert ("patch", "a", {"seconds": 2400}, {"seconds": 60}) in queued(engine)


def test_an_edit_that_was_staged_as_several_is_one_of_them_after_the_swap(path):
    with open_at(path, seconds_v3(halves, lossy=True, shadow=True)) as engine:
        assert result_of(engine).entries.quarantined == 0
        assert next(said for kind, key, said, _ in queued(engine) if (kind, key) == ("changes", "c")) == [
            {"kind": "put", "collection": "journeys", "key": key, "set": {"id": key, "seconds": 180, "title": None}}
            | {"before": None}
            for key in ("c", "c-2")
        ]


@pytest.mark.parametrize("name", ["known_page", "cloud_has", "version_at_cloud"])
def test_no_page_of_a_conversion_reads_all_that_is_known_of_the_cloud(path, name):
    sql = statement("entries", name)
    with open_at(path, target="2.0.0") as engine:
        values = dict.fromkeys(re.findall(r":(\w+)", sql), "x")
        plan = [detail for *_, detail in engine._store.query("EXPLAIN QUERY PLAN " + sql, values)]
        plan = [step for step in plan if step not in ("SCAN CONSTANT ROW", "SCALAR SUBQUERY 1")]
        assert plan[0].startswith("SEARCH _sync_row USING INDEX sqlite_autoindex__sync_row_1 (row_key"), plan
        # What is sorted at most are the owners of one key.
        assert set(plan[1:]) <= {"USE TEMP B-TREE FOR LAST TERM OF ORDER BY"}, plan


def test_a_row_that_came_from_the_cloud_meanwhile_has_its_entries_converted_again(path, monkeypatch):
    def weighed(old: JourneyV2) -> JourneyV3:
        return JourneyV3(
            user_id=old.user_id, id=old.id, seconds=round(old.minutes) * len(old.title or ""), title=old.title
        )

    swapped = _ShadowRun._swapped

    def pulled_just_before(self, filling_run, **facts):
        with self.store.transaction(), capture_off(self.store, ("journeys",)):
            self.store.query("UPDATE journeys SET title = 'theirs' WHERE id = 'a'")
        return swapped(self, filling_run, **facts)

    monkeypatch.setattr(_ShadowRun, "_swapped", pulled_just_before)
    with open_at(path, seconds_v3(weighed, shadow=True)) as engine:
        result_of(engine)
        assert ("patch", "a", {"seconds": 60}, {"seconds": 6}) in queued(engine)


def test_a_renamed_column_is_renamed_in_the_queue_without_a_row_rewritten(path):
    changes = (rename("title", "name"), add("colour", "TEXT", default="grey"))
    step = declared(id="names", collection="journeys", from_version="2.0.0", to_version="3.0.0", changes=changes)
    with open_at(path, step) as engine:
        assert result_of(engine, "names").entries.converted == 3
        assert queued(engine)[:2] == [
            ("put", "c", {"id": "c", "minutes": 3.0, "name": "three", "colour": "grey"}, None),
            ("patch", "a", {"minutes": 10.0}, {"minutes": 1.0}),
        ]
        assert engine._store.query("SELECT name FROM sqlite_schema WHERE name LIKE '%!_new!_' ESCAPE '!'") == []


def test_an_edit_of_nothing_but_an_archived_column_leaves_the_queue_and_one_with_a_number_stays_empty(path):
    step = declared(
        id="archived", collection="journeys", from_version="2.0.0", to_version="3.0.0", changes=(archive("minutes"),)
    )
    with open_at(path, target="2.0.0") as engine:
        write(engine, "UPDATE journeys SET minutes = 30.0 WHERE id = 'c'")
        ids = [entry for (entry,) in engine._store.query("SELECT entry_id FROM _sync_outbox ORDER BY entry_id")]
        claim(engine, *ids[:2])
    with open_at(path, step) as engine:
        assert result_of(engine, "archived").entries.converted == 4
        assert queued(engine) == [
            ("put", "c", {"id": "c", "title": "three"}, None),
            ("void", "a", None, None),
            ("delete", "b", None, {"id": "b", "title": "two"}),
        ]
        numbers = engine._store.query("SELECT sequence, claim_token FROM _sync_outbox WHERE state = 'claimed'")
        assert numbers == [(1, "token"), (2, "token")]


def refuses_ten(old: JourneyV2) -> JourneyV3:
    if old.minutes == 10:
        raise Quarantine("ten minutes", field="minutes")
    return JourneyV3(user_id=old.user_id, id=old.id, seconds=round(old.minutes * 60), title=old.title)


def items(engine):
    rows = engine._store.query(
        "SELECT row_key, error_code, error_text, body FROM _sync_quarantine WHERE origin = 'outbox' ORDER BY item_id"
    )
    return [(key, code, text, json.loads(body)) for key, code, text, body in rows]


def test_a_state_that_the_function_refuses_takes_its_entry_to_quarantine_and_holds_what_is_behind(path):
    with open_at(path, target="2.0.0") as engine:
        write(engine, "UPDATE journeys SET minutes = 11.0 WHERE id = 'a'")
    with open_at(path, seconds_v3(refuses_ten)) as engine:
        counts = result_of(engine).entries
        assert (counts.read, counts.converted, counts.quarantined) == (4, 3, 1)
        [(key, code, text, body)] = items(engine)
        assert (key, code, text) == ("a", "quarantined_by_rule", "ten minutes (minutes)")
        assert (body["set"], body["before"]) == ({"minutes": 10.0}, {"minutes": 1.0})
        # What mended the row says all of it: the cloud has the row in no shape that can be read now.
        held = engine._store.query("SELECT kind, set_json FROM _sync_outbox WHERE state = 'held'")
        assert [(kind, json.loads(said)) for kind, said in held] == [
            ("put", {"id": "a", "seconds": 660, "title": "one"})
        ]


def test_a_claimed_entry_that_is_refused_leaves_its_number_behind(path):
    with open_at(path, target="2.0.0") as engine:
        ids = [entry for (entry,) in engine._store.query("SELECT entry_id FROM _sync_outbox ORDER BY entry_id")]
        claim(engine, *ids[:2])
    with open_at(path, seconds_v3(refuses_ten)) as engine:
        engine.migrate()
        states = engine._store.query(
            "SELECT kind, sequence FROM _sync_outbox WHERE state = 'claimed' ORDER BY sequence"
        )
        assert states == [("put", 1), ("void", 2)]


def test_what_was_set_aside_with_its_row_comes_back_with_it(path):
    with open_at(path, seconds_v3(refuses_ten)) as engine:
        engine.migrate()
        assert [code for _, code, _, _ in items(engine)] == ["row_set_aside"]
        (row,) = [item for item in engine.quarantine.items() if item.origin == "migration"]
        body = json.loads(row.body)
        engine.quarantine.edit(row.item_id, json.dumps({**body, "minutes": 9.0}))
        assert engine.quarantine.retry(row.item_id).resolved
        assert engine.quarantine.items() == ()
        assert ("put", "a", None, None) in queued(engine)


def test_an_edit_past_the_triggers_loses_no_entry(path):
    with open_at(path, target="2.0.0") as engine, engine._store.transaction():
        drop_capture(engine._store, "journeys")
        engine._store.query("UPDATE journeys SET minutes = 50.0, title = 'unseen' WHERE id = 'a'")
    with open_at(path, seconds_v3()) as engine:
        assert result_of(engine).entries.converted == 3
        assert ("patch", "a", {"seconds": 600}, {"seconds": 60}) in queued(engine)


def halves(old: JourneyV2) -> list[JourneyV3] | None:
    if old.id == "a":
        return None
    new = JourneyV3(user_id=old.user_id, id=old.id, seconds=round(old.minutes * 60), title=None)
    return [new, new.model_copy(update={"id": f"{old.id}-2"})]


def test_rows_that_the_cloud_knows_under_other_keys_are_put_and_deleted_the_same_on_every_device(path):
    with open_at(path, target="2.0.0") as engine:
        write(engine, "INSERT INTO journeys VALUES ('ann', 'd', 4.0, 'four')")
        with engine._store.transaction():
            engine._store.query("DELETE FROM _sync_outbox")
            engine._store.query(
                "INSERT INTO _sync_row SELECT 'journeys', 'ann', 'd', 7, 0, '2.0.0', 0, 0, NULL, row_set_id"
                " FROM _sync_row_set WHERE owner = 'ann' AND collection = 'journeys'"
            )
    with open_at(path, seconds_v3(halves, lossy=True)) as engine:
        assert result_of(engine).entries.queued == 2
        found = {key: said for kind, key, said, _ in queued(engine) if kind == "changes"}
        assert [(one["kind"], one["key"], one["if_version"]) for one in found["a"]] == [("delete", "a", 1)]
        assert [(one["kind"], one["key"], one["if_version"]) for one in found["d"]] == [("put", "d-2", 0)]
        assert found["d"][0]["set"] == {"id": "d-2", "seconds": 240, "title": None}
        # The row 'c' was never queued, so the cloud knows nothing of it.
        assert set(found) == {"a", "d"}


def test_an_entry_that_is_lost_on_the_way_stops_the_run(path, monkeypatch):
    """The check bites: without it an edit would be gone, and nobody would know."""

    def forgets_one(self, edit, form, write=entries_written.EntryWriter.write):
        if edit.row_key != "c":
            write(self, edit, form)

    monkeypatch.setattr(entries_written.EntryWriter, "write", forgets_one)
    with open_at(path, seconds_v3()) as engine:
        with pytest.raises(ReconciliationFailed, match="3 entries were queued, but 2 were converted"):
            engine.migrate()
        assert [entry[:2] for entry in queued(engine)] == [("put", "c"), ("patch", "a"), ("delete", "b")]
        assert engine._store.query("SELECT DISTINCT shape_version FROM _sync_outbox") == [("2.0.0",)]


def test_fields_that_the_new_shape_knows_go_into_the_row_and_others_stay(path):
    step = declared(
        id="colours",
        collection="journeys",
        from_version="2.0.0",
        to_version="3.0.0",
        changes=(add("colour", "TEXT"),),
    )
    with open_at(path, target="2.0.0") as engine, engine._store.transaction():
        extra = '{"colour":"red","later":[1]}'
        engine._store.query("UPDATE _sync_row SET extra = ? WHERE row_key = 'a'", (extra,))
    with open_at(path, step) as engine:
        engine.migrate()
        assert engine._store.query("SELECT colour FROM journeys WHERE id = 'a'") == [("red",)]
        assert engine._store.query("SELECT extra FROM _sync_row WHERE row_key = 'a'") == [('{"later":[1]}',)]


def test_an_open_item_of_the_outbox_is_converted_where_it_lies(path):
    with open_at(path, target="2.0.0") as engine:
        store = engine._store
        with store.transaction():
            (entry,) = store.query("SELECT entry_id FROM _sync_outbox WHERE row_key = 'a'")[0]
            store.value("quarantine", "set_aside", entry_id=entry, error_code="rejected", error_text="no", now="2026")
            store.query("DELETE FROM _sync_outbox WHERE entry_id = ?", (entry,))
    with open_at(path, seconds_v3()) as engine:
        assert result_of(engine).entries.converted == 3
        [(_, _, _, body)] = items(engine)
        assert (body["set"], body["before"], body["shape_version"]) == ({"seconds": 600}, {"seconds": 60}, "3.0.0")
        assert body["original"]["set"] == {"minutes": 10.0}


def joined(old: list[JourneyV2]) -> JourneyV3:
    first = old[0]
    seconds = round(sum(one.minutes for one in old) * 60)
    return JourneyV3(user_id=first.user_id, id=first.id, seconds=seconds, title=first.title)


def merging():
    """Walks in 2.0.0, and the step to 3.0.0 that joins those of one title."""
    columns = "user_id TEXT NOT NULL, id TEXT NOT NULL, {} NOT NULL, title TEXT, PRIMARY KEY (user_id, id)"
    merge = migration(
        id="merge",
        collection="journeys",
        from_version="2.0.0",
        to_version="3.0.0",
        lossy=True,
        group_by="title",
        table=f"CREATE TABLE journeys ({columns.format('seconds INTEGER')}) STRICT",
    )(joined)
    create = (f"CREATE TABLE journeys ({columns.format('minutes REAL')}) STRICT",)
    return tables(id="tables-v2", from_version="1.0.0", to_version="2.0.0", create=create), merge


def test_an_edit_of_one_row_of_a_group_is_an_edit_of_what_the_group_becomes(tmp_path):
    made, merge = merging()
    path = tmp_path / "app.db"
    with Engine.open(path, registry=registry_of(made)) as engine:
        engine.migrate()
        write(
            engine,
            "INSERT INTO journeys VALUES ('ann', 'a', 1.0, 'x'), ('ann', 'b', 2.0, 'x'), ('ann', 'c', 4.0, 'y')",
        )
        at_cloud(engine)
        write(engine, "UPDATE journeys SET minutes = 5.0 WHERE id = 'b'")
    with Engine.open(path, registry=registry_of(made, merge, target="3.0.0")) as engine:
        assert result_of(engine, "merge").entries.converted == 1
        first, *later = queued(engine)
        assert first == ("patch", "a", {"seconds": 360}, {"seconds": 180})
        said = {key: [(one["kind"], one["key"], one.get("if_version")) for one in made] for _, key, made, _ in later}
        assert said == {"a": [("put", "a", None), ("delete", "b", 2)], "c": [("put", "c", 3)]}


def test_a_merged_row_that_goes_whole_when_it_is_sent_is_not_queued_a_second_time(tmp_path):
    made, merge = merging()
    path = tmp_path / "app.db"
    with Engine.open(path, registry=registry_of(made)) as engine:
        engine.migrate()
        rows = "('ann', 'a', 1.0, 'x'), ('ann', 'b', 2.0, 'x'), ('ann', 'c', 4.0, 'y')"
        write(engine, f"INSERT INTO journeys VALUES {rows}")
        with engine._store.transaction():
            engine._store.query("UPDATE _sync_outbox SET set_json = NULL")  # as an upload does
    with Engine.open(path, registry=registry_of(made, merge, target="3.0.0")) as engine:
        assert result_of(engine, "merge").entries.converted == 3
        *uploads, (kind, _, changes, _) = queued(engine)
        assert [entry[:3] for entry in uploads] == [("put", key, None) for key in "abc"]
        assert (kind, [(one["kind"], one["key"]) for one in changes]) == ("changes", [("delete", "b")])


def back_to_minutes(new: JourneyV3) -> JourneyV2:
    return JourneyV2(user_id=new.user_id, id=new.id, minutes=new.seconds / 60, title=new.title)


def test_a_rollback_takes_the_queue_back_with_the_rows(path):
    step = seconds_v3()
    step.down(back_to_minutes)
    with open_at(path, step) as engine:
        engine.migrate()
        write(engine, "UPDATE journeys SET seconds = 30 WHERE id = 'c'")
        engine.migrations.rollback("seconds-v3", "ann", consent=("ann",))
        assert queued(engine) == [
            ("put", "c", {"id": "c", "minutes": 3.0, "title": "three"}, None),
            ("patch", "a", {"minutes": 10.0}, {"minutes": 1.0}),
            ("delete", "b", None, {"id": "b", "minutes": 2.0, "title": "two"}),
            ("patch", "c", {"minutes": 0.5}, {"minutes": 3.0}),
        ]
        versions = engine._store.query(
            "SELECT shape_version, original_json IS NULL FROM _sync_outbox ORDER BY entry_id"
        )
        assert versions == [("2.0.0", 1)] * 3 + [("2.0.0", 0)]
