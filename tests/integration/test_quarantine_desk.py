"""What was set aside comes back through the present code, is edited, or given up; nothing is lost on the way."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from imports import ImportExecutor, JourneyV2, JourneyV3, make_v2, seconds_v3, upload_walks, walk, write_phone
from migrate_world import StoppedClock, dump, quiet_write, registry_of

from syncengine import Engine, Quarantine, Settings, SystemClock, add, declared, migration, rename
from syncengine.errors import (
    CalledFromInside,
    MigrationInvalid,
    QuarantineEditRefused,
    QuarantineExportRefused,
    QuarantineItemUnknown,
)
from syncengine.outbox.entry import Result
from syncengine.outbox.queue import Outbox

ROOT = Path(__file__).resolve().parents[2]
SECRET = "the harbour at night"


def refuses_thirteen(old: JourneyV2) -> JourneyV3:
    if old.minutes == 13:
        raise Quarantine("thirteen minutes", field="minutes")
    return JourneyV3(user_id=old.user_id, id=old.id, seconds=round(old.minutes * 60), title=old.title)


def takes_all(old: JourneyV2) -> JourneyV3:
    return JourneyV3(user_id=old.user_id, id=old.id, seconds=round(old.minutes * 60), title=old.title)


def store_at_two(path, rows):
    """A store of version 2.0.0 with these journeys."""
    with Engine.open(path, registry=registry_of(make_v2(), target="2.0.0")) as engine:
        engine.migrate()
        with quiet_write(engine) as db:
            db.conn.executemany("INSERT INTO journeys VALUES (?, ?, ?, ?)", rows)


ROWS = [("ann", "a", 1.0, "one"), ("ann", "b", 13.0, SECRET), ("bob", "c", 13.0, None), ("ann", "d", 2.0, None)]


def at_three(path, function=refuses_thirteen, *also, target="3.0.0", user=None, **options):
    registry = registry_of(make_v2(), seconds_v3(function), *also, target=target)
    return Engine.open(path, registry=registry, user=user, **options)


@pytest.fixture
def path(tmp_path):
    """Two of four journeys lie in quarantine: ann's is item 1, bob's is item 2."""
    path = tmp_path / "app.db"
    store_at_two(path, ROWS)
    with at_three(path) as engine:
        assert engine.migrate().quarantined == 2
    return path


def rows_of(engine):
    return engine._store.query("SELECT * FROM journeys ORDER BY user_id, id")


BROUGHT_BACK = ("ann", "b", 780, SECRET)


# Looking.


def test_an_item_is_shown_whole_and_its_repr_shows_no_row(path):
    with at_three(path) as engine:
        first, second = engine.quarantine.items()
        assert (first.item_id, first.owner, first.key, first.field) == (1, "ann", "b", "minutes")
        assert (first.error_code, first.error_text, first.shape_version) == (
            "quarantined_by_rule",
            "thirteen minutes",
            "2.0.0",
        )
        assert json.loads(first.body) == {"user_id": "ann", "id": "b", "minutes": 13.0, "title": SECRET}
        assert SECRET not in repr(first)
        assert engine.quarantine.item(2) == second


def test_a_user_sees_and_touches_no_items_of_another(path):
    with at_three(path, user="bob") as engine:
        desk = engine.quarantine
        assert [item.item_id for item in desk.items()] == [2]
        assert desk.items("ann") == ()
        for call in (
            desk.item,
            desk.retry,
            lambda item: desk.edit(item, "{}"),
            lambda item: desk.discard(item, reason="mine"),
        ):
            with pytest.raises(QuarantineItemUnknown):
                call(1)
    with at_three(path) as engine:
        assert [item.item_id for item in engine.quarantine.items("ann")] == [1]
        assert [item.item_id for item in engine.quarantine.items()] == [1, 2]


# Trying again.


def test_a_row_comes_back_through_the_mended_code_of_its_migration(path):
    with at_three(path, takes_all) as engine:
        outcome = engine.quarantine.retry(1)
        assert (outcome.resolved, outcome.rows) == (True, 1)
        assert BROUGHT_BACK in rows_of(engine)
        item = engine.quarantine.item(1)
        assert (item.resolution, item.resolved_at is not None) == ("retried", True)
        assert [item.item_id for item in engine.quarantine.items()] == [2]


def test_what_is_still_refused_stays_with_its_new_reason_and_changes_nothing_else(path):
    def refuses_more(old: JourneyV2) -> JourneyV3:
        raise Quarantine("no journeys at all", field="title")

    with at_three(path, refuses_more) as engine:
        before = dump(engine._store, without=("_sync_run", "_sync_quarantine"))
        outcome = engine.quarantine.retry(1)
        assert (outcome.resolved, outcome.rows, outcome.why, outcome.field) == (
            False,
            0,
            "no journeys at all",
            "title",
        )
        item = engine.quarantine.item(1)
        assert (item.error_text, item.field, item.attempts, item.resolution) == (
            "no journeys at all",
            "title",
            2,
            None,
        )
        assert dump(engine._store, without=("_sync_run", "_sync_quarantine")) == before


def test_code_that_breaks_in_any_other_way_is_a_reason_too(path):
    def breaks(old: JourneyV2) -> JourneyV3:
        raise RuntimeError(old.title)

    with at_three(path, breaks) as engine:
        outcome = engine.quarantine.retry(1)
        assert not outcome.resolved
        assert outcome.why.startswith("RuntimeError in the migration's code: breaks, ")
        assert SECRET not in outcome.why


def test_a_row_whose_key_was_taken_meanwhile_stays_and_the_new_one_is_not_touched(path):
    with at_three(path) as engine, engine.write() as db:
        db.execute("INSERT INTO journeys VALUES ('ann', 'b', 5, 'new')")
    with at_three(path, takes_all) as engine:
        outcome = engine.quarantine.retry(1)
        assert not outcome.resolved
        assert "UNIQUE constraint failed" in outcome.why
        assert ("ann", "b", 5, "new") in rows_of(engine)
        assert engine.quarantine.item(1).attempts == 2


def test_a_row_goes_through_every_later_migration_too(path):
    later = declared(
        id="later",
        collection="journeys",
        from_version="3.0.0",
        to_version="4.0.0",
        changes=(rename("title", "name"), add("mode", "TEXT", default="walk")),
    )
    with at_three(path, takes_all, later, target="4.0.0", settings=Settings(retry_quarantined=False)) as engine:
        engine.migrate()
        assert engine.quarantine.retry(1).resolved
        columns = [row[0] for row in engine._store.query("SELECT name FROM pragma_table_info('journeys')")]
        assert columns == ["user_id", "id", "seconds", "name", "mode"]
        assert ("ann", "b", 780, SECRET, "walk") in rows_of(engine)


def test_a_row_begins_with_the_migration_that_refused_it_not_with_its_hop(path, tmp_path):
    """Two migrations of one hop rewrite one collection; the second refuses a row that the first has rewritten."""

    def longer(old: JourneyV3) -> JourneyV3:
        if old.id == "a" and not mended:
            raise Quarantine("not yet")
        return old.model_copy(update={"seconds": old.seconds + 1})

    mended = []
    target = tmp_path / "two_steps.db"
    store_at_two(target, ROWS)
    hop = {"collection": "journeys", "from_version": "2.0.0", "to_version": "3.0.0"}
    second = migration(id="zz-longer", after=("seconds-v3",), critical=True, **hop)(longer)
    with at_three(target, takes_all, second) as engine:
        assert engine.migrate().quarantined == 1
        mended.append(True)
        assert engine.quarantine.retry(1).resolved
        assert ("ann", "a", 61, "one") in rows_of(engine)


def test_a_row_that_the_present_code_drops_by_rule_is_resolved_without_a_row(path):
    def drops(old: JourneyV2) -> JourneyV3 | None:
        return None

    with at_three(path, drops) as engine:
        before = rows_of(engine)
        outcome = engine.quarantine.retry(1)
        assert (outcome.resolved, outcome.rows) == (True, 0)
        assert rows_of(engine) == before


def test_an_item_of_a_migration_that_the_app_has_no_more_stays(path):
    other = declared(
        id="other",
        collection="journeys",
        from_version="2.0.0",
        to_version="3.0.0",
        changes=(rename("title", "name"),),
    )
    with Engine.open(path, registry=registry_of(make_v2(), other, target="3.0.0")) as engine:
        outcome = engine.quarantine.retry(1)
        assert (outcome.resolved, outcome.why) == (False, "the app has no migration seconds-v3 any more")


def test_what_is_resolved_is_not_tried_again(path):
    with at_three(path, takes_all) as engine:
        engine.quarantine.retry(1)
        before = rows_of(engine)
        for call in (engine.quarantine.retry, lambda item: engine.quarantine.edit(item, "{}")):
            with pytest.raises(QuarantineItemUnknown):
                call(1)
        assert rows_of(engine) == before


def test_the_desk_refuses_to_work_inside_a_block_that_writes(path):
    with at_three(path, takes_all) as engine:
        with engine.write(), pytest.raises(CalledFromInside):
            engine.quarantine.retry(1)
        assert engine.quarantine.item(1).attempts == 1


# By itself.


def test_migrate_tries_again_what_a_migration_refused_when_its_code_is_another_and_only_once(path):
    def still_refuses(old: JourneyV2) -> JourneyV3:
        if old.user_id == "bob":
            raise Quarantine("no bobs")
        return takes_all(old)

    with at_three(path) as engine:
        assert engine.migrate() is None, "the same code is not tried again"
        assert [item.attempts for item in engine.quarantine.items()] == [1, 1]
    with at_three(path, still_refuses) as engine:
        report = engine.migrate()
        assert (report.retried, report.success, report.results) == (1, True, ())
        assert BROUGHT_BACK in rows_of(engine)
        assert engine.migrate() is None
        [item] = engine.quarantine.items()
        assert (item.owner, item.error_text, item.attempts) == ("bob", "no bobs", 2)


def test_a_host_may_switch_that_off(path):
    with at_three(path, takes_all, settings=Settings(retry_quarantined=False)) as engine:
        assert engine.migrate() is None
        assert len(engine.quarantine.items()) == 2


def test_a_start_tries_no_more_than_its_limit_and_the_next_one_goes_on(path):
    settings = Settings(quarantine_retries_max=1)
    for left in (1, 0):
        with at_three(path, takes_all, settings=settings) as engine:
            assert engine.migrate().retried == 1
            assert len(engine.quarantine.items()) == left


MODULE = """
from imports import JourneyV2, JourneyV3, seconds_v3
from syncengine import Quarantine


def to_three(old: JourneyV2) -> JourneyV3:
    if old.minutes == {refused}:
        raise Quarantine("no such minutes")
    return JourneyV3(user_id=old.user_id, id=old.id, seconds=round(old.minutes * 60), title=old.title)


seconds = seconds_v3(to_three)
"""
STARTING = """
import sys
sys.path[:0] = ["tests/integration", sys.argv[2]]
from syncengine import Collection, Engine, ListedMigration, MigrationRegistry
LISTED = (
    ListedMigration("tables-v2", "1.0.0 > 2.0.0", "nowhere:nothing"),
    ListedMigration("seconds-v3", "2.0.0 > 3.0.0", "in_a_file:seconds"),
)
registry = MigrationRegistry(
    app="test", baseline="1.0.0", target="3.0.0", asks_for_major=False,
    collections=(Collection("journeys", owner="user_id"),), migrations=LISTED,
)
with Engine.open(sys.argv[1], registry=registry) as engine:
    report = engine.migrate()
    print(report.retried if report else None, "in_a_file" in sys.modules, flush=True)
"""


def test_a_start_with_open_items_loads_their_migrations_only_when_a_file_has_changed(tmp_path):
    path = tmp_path / "app.db"
    store_at_two(path, ROWS)
    said = []
    for refused in (13, 13, 14, 14):
        text = MODULE.format(refused=refused)
        module = tmp_path / "in_a_file.py"
        if not module.exists() or module.read_text() != text:
            module.write_text(text)
        command = [sys.executable, "-B", "-c", STARTING, str(path), str(tmp_path)]
        said.append(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert said == ["0 True\n", "None False\n", "2 True\n", "None False\n"]


def test_with_a_user_only_their_items_are_tried_again_by_themselves(path):
    with at_three(path, takes_all, user="ann") as engine:
        assert engine.migrate().retried == 1
    with at_three(path) as engine:
        assert [item.owner for item in engine.quarantine.items()] == ["bob"]


def test_what_was_resolved_long_ago_is_deleted_and_what_is_open_never(path):
    class Later(SystemClock):
        def now_ms(self):
            return super().now_ms() + 31 * 24 * 60 * 60 * 1_000

    with at_three(path) as engine:
        engine.quarantine.discard(1, reason="a test walk")
        engine.migrate()
        assert engine.quarantine.item(1).note == "a test walk"
    with at_three(path, clock=Later()) as engine:
        engine.migrate()
        assert [item.item_id for item in engine.quarantine.items(resolved=True)] == [2]


# Elements of a legacy store.


def importing(path, phone, *also, executor=None, target="2.0.0", **options):
    registry = registry_of(make_v2(), executor or ImportExecutor(), *also, target=target)
    options = {"settings": Settings(retry_quarantined=False), **options}
    return Engine.open(path, registry=registry, user="ann", sources={"phone": str(phone)}, **options)


class TakesThirteen(ImportExecutor):
    def convert(self, item, work):
        return super().convert(item if item.value["minutes"] != 13 else _as_fourteen(item), work)


def _as_fourteen(item):
    from dataclasses import replace

    return replace(item, value={**item.value, "minutes": 14})


@pytest.mark.parametrize("source_is_gone", [False, True])
def test_an_element_of_a_legacy_store_comes_back_without_the_store(tmp_path, source_is_gone):
    path, phone = tmp_path / "app.db", write_phone(tmp_path / "phone.json", [walk(1), walk(2, 13, title=SECRET)])
    with importing(path, phone) as engine:
        assert engine.migrate().quarantined == 1
        [item] = engine.quarantine.items()
        assert (item.owner, item.key, item.shape_version) == ("ann", "@walks[1]", None)
    if source_is_gone:
        phone.unlink()
    with importing(path, phone, executor=TakesThirteen()) as engine:
        outcome = engine.quarantine.retry(1)
        assert (outcome.resolved, outcome.rows) == (True, 1)
        assert ("ann", "w-00002", 14.0, SECRET) in rows_of(engine)


def test_an_element_is_lifted_through_what_the_store_went_through_since(tmp_path):
    path, phone = tmp_path / "app.db", write_phone(tmp_path / "phone.json", [walk(1), walk(2, 13)])
    with importing(path, phone, seconds_v3(), target="3.0.0") as engine:
        engine.migrate()
    with importing(path, phone, seconds_v3(), executor=TakesThirteen(), target="3.0.0") as engine:
        assert engine.quarantine.retry(1).rows == 1
        assert rows_of(engine) == [("ann", "w-00001", 60, None), ("ann", "w-00002", 14 * 60, None)]


def test_an_element_whose_row_is_there_already_stays(tmp_path):
    path, phone = tmp_path / "app.db", write_phone(tmp_path / "phone.json", [walk(1), walk(2, 13)])
    with importing(path, phone) as engine:
        engine.migrate()
        with quiet_write(engine) as db:
            db.execute("INSERT INTO journeys VALUES ('ann', 'w-00002', 9, 'by hand')")
    with importing(path, phone, executor=TakesThirteen()) as engine:
        assert not engine.quarantine.retry(1).resolved
        assert ("ann", "w-00002", 9.0, "by hand") in rows_of(engine)


def test_a_row_that_comes_back_into_an_uploaded_collection_is_queued_for_the_cloud_once(tmp_path):
    path, phone = tmp_path / "app.db", write_phone(tmp_path / "phone.json", [walk(1), walk(2, 13)])
    with importing(path, phone, upload_walks()) as engine:
        engine.migrate()
        assert queued(engine) == [("ann", "put", "w-00001")]
    with importing(path, phone, upload_walks(), executor=TakesThirteen()) as engine:
        assert engine.quarantine.retry(1).resolved
        assert queued(engine) == [("ann", "put", "w-00001"), ("ann", "put", "w-00002")]


def test_a_row_that_comes_back_before_its_collection_is_uploaded_is_left_to_the_upload(tmp_path):
    path, phone = tmp_path / "app.db", write_phone(tmp_path / "phone.json", [walk(1), walk(2, 13)])
    with importing(path, phone) as engine:
        engine.migrate()
    uploading = (upload_walks(from_version="2.0.0", to_version="3.0.0"), seconds_v3())
    with importing(path, phone, *uploading, executor=TakesThirteen(), target="3.0.0") as engine:
        assert engine.quarantine.retry(1).resolved
        assert queued(engine) == []
        engine.migrate()
        assert queued(engine) == [("ann", "put", "w-00001"), ("ann", "put", "w-00002")]


def queued(engine):
    return engine._store.query("SELECT owner, kind, row_key FROM _sync_outbox WHERE kind = 'put' ORDER BY entry_id")


# Editing.


def body_of(engine, **changes):
    return json.dumps({**json.loads(engine.quarantine.item(1).body), **changes})


def test_an_edited_row_is_taken_and_comes_back_and_the_first_body_is_kept(path):
    with at_three(path) as engine:
        original = engine.quarantine.item(1).body
        edited = engine.quarantine.edit(1, body_of(engine, minutes=12.5))
        assert (edited.edited, edited.resolution) == (True, None)
        engine.quarantine.edit(1, body_of(engine, minutes=12.0))
        assert engine.quarantine.retry(1).resolved
        assert ("ann", "b", 720, SECRET) in rows_of(engine)
        assert engine.quarantine.item(1).resolution == "edited"
        assert engine._store.query("SELECT body_original FROM _sync_quarantine WHERE item_id = 1") == [(original,)]


@pytest.mark.parametrize(
    ("changes", "field", "why"),
    [
        ({"minutes": "13"}, "minutes", "Input should be a valid number"),
        ({"minutes": None}, "minutes", "Input should be a valid number"),
        ({"colour": "red"}, "colour", "is no column of this shape"),
        ({"minutes": 13}, "minutes", "thirteen minutes"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused_with_its_field_and_leaves_the_item(path, changes, field, why):
    with at_three(path) as engine:
        before = dump(engine._store)
        with pytest.raises(QuarantineEditRefused) as refused:
            engine.quarantine.edit(1, body_of(engine, **changes))
        assert (refused.value.field, refused.value.why) == (field, f"{field}: {why}")
        assert SECRET not in str(refused.value)
        assert dump(engine._store) == before


@pytest.mark.parametrize("body", ["", "{", "[]", "5", '{"id": "b"}'])
def test_an_edit_that_is_no_whole_row_is_refused(path, body):
    with at_three(path) as engine, pytest.raises(QuarantineEditRefused):
        engine.quarantine.edit(1, body)


def test_an_edited_element_is_tried_by_its_migration_before_it_is_taken(tmp_path):
    path, phone = tmp_path / "app.db", write_phone(tmp_path / "phone.json", [walk(1), walk(2, 13)])
    with importing(path, phone) as engine:
        engine.migrate()
        with pytest.raises(QuarantineEditRefused) as refused:
            engine.quarantine.edit(1, json.dumps(walk(2, 13, title="still")))
        assert refused.value.field == "minutes"
        with pytest.raises(QuarantineEditRefused):
            engine.quarantine.edit(1, "{no json")
        engine.quarantine.edit(1, json.dumps(walk(2, 12)))
        assert engine.quarantine.retry(1).resolved
        assert ("ann", "w-00002", 12.0, None) in rows_of(engine)


# Entries of the outbox.


def rejecting(tmp_path, *refused):
    """An engine for ann whose uploads of these walks the cloud has rejected."""
    phone = write_phone(tmp_path / "phone.json", [walk(1, title="one"), walk(2, title=SECRET), walk(3)])
    engine = importing(tmp_path / "app.db", phone, upload_walks())
    engine.migrate()
    outbox = Outbox(engine._store)
    batch = outbox.claim("ann", entries_max=10, bytes_max=10_000)
    results = [
        Result(sequence=entry.sequence, status="rejected", code="bad_value")
        if entry.row_key in refused
        else Result(sequence=entry.sequence, status="applied", version=1)
        for entry in batch.entries
    ]
    outbox.confirm(batch, results)
    return engine


def test_an_entry_that_the_cloud_rejected_is_queued_again_at_its_old_place(tmp_path):
    with rejecting(tmp_path, "w-00002") as engine:
        [item] = engine.quarantine.items()
        assert (item.origin, item.key, item.shape_version, item.error_code) == (
            "outbox",
            "w-00002",
            "2.0.0",
            "bad_value",
        )
        outcome = engine.quarantine.retry(item.item_id)
        assert (outcome.resolved, len(outcome.entries)) == (True, 1)
        assert queued(engine) == [("ann", "put", "w-00002")]
        assert engine.quarantine.item(item.item_id).resolution == "retried"


def test_an_edited_entry_is_sent_with_its_new_values(tmp_path):
    with rejecting(tmp_path, "w-00002") as engine:
        body = json.loads(engine.quarantine.item(1).body)
        body["set"]["title"] = "two"
        engine.quarantine.edit(1, json.dumps(body))
        engine.quarantine.retry(1)
        batch = Outbox(engine._store).claim("ann", entries_max=10, bytes_max=10_000)
        [entry] = [entry for entry in batch.entries if entry.row_key == "w-00002"]
        assert json.loads(entry.set_json)["title"] == "two"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda body: body.update(kind="delete"), "kind"),
        (lambda body: body.update(more=1), "more"),
        (lambda body: body["set"].update(colour="red"), "colour"),
        (lambda body: body["set"].pop("title"), "title"),
        (lambda body: body.update(set=None), "set"),
    ],
)
def test_an_entry_may_be_edited_in_its_values_alone(tmp_path, change, field):
    with rejecting(tmp_path, "w-00002") as engine:
        body = json.loads(engine.quarantine.item(1).body)
        change(body)
        with pytest.raises(QuarantineEditRefused) as refused:
            engine.quarantine.edit(1, json.dumps(body))
        assert refused.value.field == field
        assert not engine.quarantine.item(1).edited


def test_a_value_of_an_entry_is_checked_against_the_shape_of_its_collection(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [walk(1, title="one")])
    upload = upload_walks(from_version="2.0.0", to_version="3.0.0")
    with importing(tmp_path / "app.db", phone, seconds_v3(), upload, target="3.0.0") as engine:
        engine.migrate()
        outbox = Outbox(engine._store)
        batch = outbox.claim("ann", entries_max=10, bytes_max=10_000)
        outbox.confirm(batch, [Result(sequence=batch.entries[0].sequence, status="rejected", code="bad_value")])
        body = json.loads(engine.quarantine.item(1).body)
        for field, value in (("seconds", "sixty"), ("seconds", 60.5), ("title", 5)):
            with pytest.raises(QuarantineEditRefused) as refused:
                engine.quarantine.edit(1, json.dumps({**body, "set": {**body["set"], field: value}}))
            assert refused.value.field == field
        engine.quarantine.edit(1, json.dumps({**body, "set": {**body["set"], "seconds": 61}}))


def test_an_entry_is_given_up_with_its_reason_and_never_sent(tmp_path):
    with rejecting(tmp_path, "w-00002") as engine:
        engine.quarantine.discard(1, reason="a double")
        assert engine.quarantine.item(1).note == "a double"
        assert queued(engine) == []


def test_an_upload_that_found_its_row_set_aside_goes_back_to_its_place_when_the_row_does(tmp_path):
    path, phone = tmp_path / "app.db", write_phone(tmp_path / "phone.json", [walk(1), walk(2, 13)])

    def no_twos(old: JourneyV2) -> JourneyV3:
        if old.id == "w-00002":
            raise Quarantine("no twos")
        return takes_all(old)

    with importing(path, phone, upload_walks(), executor=TakesThirteen()) as engine:
        engine.migrate()
    refusing = (upload_walks(), seconds_v3(no_twos))
    with importing(path, phone, *refusing, executor=TakesThirteen(), target="3.0.0") as engine:
        engine.migrate()
        batch = Outbox(engine._store).claim("ann", entries_max=10, bytes_max=10_000)
        assert [entry.row_key for entry in batch.entries] == ["w-00001"]
        assert [item.error_code for item in engine.quarantine.items()] == ["quarantined_by_rule", "row_in_quarantine"]
    with importing(path, phone, upload_walks(), seconds_v3(), executor=TakesThirteen(), target="3.0.0") as engine:
        assert engine.quarantine.retry(1).resolved
        assert engine.quarantine.items() == ()
        assert queued(engine) == [("ann", "put", "w-00001"), ("ann", "put", "w-00002")]


# Giving up, taking out.


def test_giving_up_needs_a_reason_and_keeps_the_body(path):
    with at_three(path) as engine:
        for reason in ("", "  "):
            with pytest.raises(MigrationInvalid):
                engine.quarantine.discard(1, reason=reason)
        engine.quarantine.discard(1, reason="a test walk")
        item = engine.quarantine.item(1)
        assert (item.resolution, item.note, SECRET in item.body) == ("discarded", "a test walk", True)
        with pytest.raises(QuarantineItemUnknown):
            engine.quarantine.discard(1, reason="again")


def test_an_export_is_whole_for_its_owner_alone_and_never_written_over(path, tmp_path):
    mask = os.umask(0)
    try:
        with at_three(path) as engine:
            target = tmp_path / "rows.json"
            assert engine.quarantine.export(target) == 2
            exported = json.loads(target.read_text())
            assert [item["item"] for item in exported] == [1, 2]
            assert SECRET in exported[0]["body"]
            assert stat.S_IMODE(target.stat().st_mode) == 0o600
            with pytest.raises(QuarantineExportRefused):
                engine.quarantine.export(target)
            with pytest.raises(QuarantineExportRefused):
                engine.quarantine.export(tmp_path / "nowhere" / "rows.json")
            assert json.loads(target.read_text()) == exported
    finally:
        os.umask(mask)


# Crashes, and two at once.


class PowerIsGone(BaseException):
    """No `except Exception` stops it."""


def crash_at(number, path, act):
    """Do it up to the Nth statement, then drop the file as a dead process would; False if it got through."""
    engine = at_three(path, takes_all, clock=StoppedClock())
    seen = 0

    def trace(cursor, sql, bindings):
        nonlocal seen
        seen += 1
        if seen >= number:
            raise PowerIsGone
        return True

    engine._store.connection.exec_trace = trace
    try:
        act(engine.quarantine)
    except PowerIsGone:
        return True
    finally:
        engine._store.connection.exec_trace = None
        engine.close()
    return False


ACTS = {
    "retry": lambda desk: desk.retry(1),
    "edit": lambda desk: desk.edit(1, json.dumps({"user_id": "ann", "id": "b", "minutes": 1.0, "title": None})),
    "discard": lambda desk: desk.discard(1, reason="no more"),
}


@pytest.mark.parametrize("name", ACTS)
def test_a_crash_before_any_statement_leaves_the_item_as_it_was_or_done(path, tmp_path, name):
    import shutil

    def copy_to(target):
        shutil.copy(path, target)
        return target

    with at_three(path, clock=StoppedClock()) as engine:
        before = dump(engine._store)
    done_path = copy_to(tmp_path / "done.db")
    assert not crash_at(10_000, done_path, ACTS[name])
    with at_three(done_path, clock=StoppedClock()) as engine:
        after = dump(engine._store)
    assert before != after
    number, crashed = 0, True
    while crashed:
        number += 1
        crashing = copy_to(tmp_path / "crashing.db")
        crashed = crash_at(number, crashing, ACTS[name])
        with at_three(crashing, clock=StoppedClock()) as engine:
            # What comes after the COMMIT sets the connection up for the next one.
            assert dump(engine._store) in ((before, after) if crashed else (after,)), f"before statement {number}"
            assert engine._store.query("PRAGMA integrity_check") == [("ok",)]
        for found in tmp_path.glob("crashing.db*"):
            if found.is_file():
                found.unlink()
    assert number > 5


RETRIER = """
import sys
sys.path.insert(0, "tests/integration")
from test_quarantine_desk import at_three, takes_all
from syncengine.errors import QuarantineItemUnknown
with at_three(sys.argv[1], takes_all) as engine:
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        print("rows", engine.quarantine.retry(1).rows, flush=True)
    except QuarantineItemUnknown:
        print("unknown", flush=True)
"""


def test_an_item_that_two_processes_try_at_once_is_written_once(path):
    both = [
        subprocess.Popen(
            [sys.executable, "-c", RETRIER, str(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = sorted(process.communicate(timeout=60)[0] for process in both)
    assert said == ["rows 1\n", "unknown\n"]
    with at_three(path) as engine:
        assert rows_of(engine).count(BROUGHT_BACK) == 1
