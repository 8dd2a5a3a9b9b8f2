"""What was set aside on its way to the cloud, or from it: nothing else waits for it, and a person can decide."""

import json

import pytest
from drain_world import Line, MovableClock
from migrate_world import registry_of
from users_world import opened, registry

from syncengine import Collection, Engine, Settings, cast, declared, tables
from syncengine.errors import BackendUnavailable, BatchRefused
from syncengine.outbox.receipts import Where
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.vocabulary import UserId
from tests.conformance.device_requests import rows

QUICK = Settings(
    attempts_of_one_entry_max=1,
    attempts_before_halving=1,
    retry_wait_ms_min=1,
    retry_wait_ms_max=2,
    round_pushes_max=100_000,
)
STARS = """CREATE TABLE stars (
  user_id TEXT NOT NULL, id TEXT NOT NULL, many INTEGER CHECK (many < 100), name TEXT UNIQUE, weight ANY,
  PRIMARY KEY (user_id, id)
) STRICT;"""
FREE = STARS.replace("CHECK (many < 100)", "").replace("UNIQUE", "").replace("INTEGER", "ANY")
"""The same on a device whose app looks less closely."""


def app(sql):
    made = tables(id="stars", from_version="2.0.0", to_version="2.1.0", create=(sql,))
    collections = (
        Collection("notes", owner="user_id"),
        Collection("tags", owner="user_id"),
        Collection("looks", key="name", owner=None),
        Collection("stars", owner="user_id"),
    )
    return registry(also=(made,), target="2.1.0", collections=collections)


@pytest.fixture
def cloud(tmp_path):
    clock = MovableClock()
    cloud = Cloud(SqliteStorage(str(tmp_path / "memory"), clock=clock), clock=clock)
    cloud.accept_token(UserId("ann"), token="a token of ann")
    yield cloud
    cloud.close()


@pytest.fixture
def line(cloud):
    return Line(cloud, "ann")


def device(tmp_path, name, line, sql=STARS):
    return opened(tmp_path / name, backend=line, settings=QUICK, registry=app(sql))


@pytest.fixture
def engine(tmp_path, line):
    with device(tmp_path, "one", line) as engine:
        yield engine


def star(engine, key, many=1, name=None, **more):
    with engine.write() as db:
        db["stars"].insert({"user_id": "ann", "id": key, "many": many, "name": name, **more})


def stars(engine):
    return dict(engine._store.query("SELECT id, many FROM stars WHERE user_id = 'ann' ORDER BY id"))


def at_the_cloud(cloud, collection="stars"):
    found, after = {}, None
    while True:
        answer = cloud.rows(UserId("ann"), rows(user="ann", collection=collection, after=after))
        found.update((row.key, row.body) for row in answer.rows)
        after = answer.next
        if after is None:
            return found


def items(engine):
    return {item.key: item for item in engine.quarantine.items()}


# Two devices set the same row aside, and one of them mends it.


WALKS = """CREATE TABLE walks (
  user_id TEXT NOT NULL, id TEXT NOT NULL, steps TEXT NOT NULL, PRIMARY KEY (user_id, id)
) STRICT;"""
make_walks = tables(id="walks", from_version="1.0.0", to_version="2.0.0", create=(WALKS,))
count_steps = declared(
    id="count", collection="walks", from_version="2.0.0", to_version="3.0.0", changes=(cast("steps", int),)
)


def walker(tmp_path, name, cloud, version="3.0.0"):
    known = registry_of(
        make_walks, count_steps, target=version, collections=[Collection("walks")], asks_for_major=False
    )
    return Engine.open(tmp_path / name, registry=known, user="ann", backend=Line(cloud, "ann"), settings=QUICK)


def walk(engine, key, steps):
    with engine.write() as db:
        db["walks"].upsert({"user_id": "ann", "id": key, "steps": steps}, pk=("user_id", "id"))


def with_a_walk_that_both_know(tmp_path, cloud, *, synced=True):
    """Phone and tablet at 2.0.0, each with a walk whose steps are no number."""
    for name in ("phone", "tablet"):
        with walker(tmp_path, name, cloud, "2.0.0") as engine:
            engine.migrate()
            if name == "phone":
                walk(engine, "w1", "many")
            if name == "phone" or synced:
                engine.sync_now()


def mend_on_the_phone(tmp_path, cloud):
    with walker(tmp_path, "phone", cloud) as phone:
        phone.migrate()
        [item] = phone.quarantine.items()
        phone.quarantine.edit(item.item_id, json.dumps({"user_id": "ann", "id": "w1", "steps": "4"}))
        assert phone.quarantine.retry(item.item_id).resolved
        phone.sync_now()


def walks(engine):
    return engine._store.query("SELECT id, steps FROM walks")


def test_a_row_that_another_device_mended_leaves_quarantine_here_with_a_record(tmp_path, cloud):
    with_a_walk_that_both_know(tmp_path, cloud)
    with walker(tmp_path, "tablet", cloud) as tablet:
        tablet.migrate()
        [item] = tablet.quarantine.items()
        mend_on_the_phone(tmp_path, cloud)
        tablet.sync_now()
        assert walks(tablet) == [("w1", 4)]
        assert tablet.quarantine.items() == ()
        assert tablet.status().synced
        [settled] = tablet.quarantine.items(resolved=True)
        assert (settled.item_id, settled.resolution, settled.body) == (item.item_id, "retried", item.body)
        noted = tablet._store.query("SELECT note, resolved_at IS NOT NULL FROM _sync_quarantine")
    assert noted == [("another device mended the row, and it came from the cloud", 1)]


def test_what_was_written_here_and_nowhere_else_stays_for_a_person_whatever_another_device_mended(tmp_path, cloud):
    with_a_walk_that_both_know(tmp_path, cloud)
    with walker(tmp_path, "tablet", cloud, "2.0.0") as tablet:
        walk(tablet, "w1", "lots")
    with walker(tmp_path, "tablet", cloud) as tablet:
        tablet.migrate()
        mend_on_the_phone(tmp_path, cloud)
        tablet.sync_now()
        assert walks(tablet) == [("w1", 4)]
        assert [(item.origin, "lots" in item.body) for item in tablet.quarantine.items()] == [
            ("migration", True),
            ("outbox", True),
        ]
        for item in tablet.quarantine.items():
            tablet.quarantine.discard(item.item_id, reason="the phone's is right")
        tablet.sync_now()
        assert walks(tablet) == [("w1", 4)]
        assert tablet.status().synced
    assert at_the_cloud(cloud, "walks") == {"w1": {"id": "w1", "steps": 4}}


def test_a_row_that_the_cloud_never_had_from_here_stays_for_a_person(tmp_path, cloud):
    """Such as one that an import brought: nothing says that the other device's is the same."""
    with_a_walk_that_both_know(tmp_path, cloud, synced=False)
    with walker(tmp_path, "tablet", cloud, "2.0.0") as tablet, tablet._store.without_triggers():
        walk(tablet, "w1", "only here")
    with walker(tmp_path, "tablet", cloud) as tablet:
        tablet.migrate()
        mend_on_the_phone(tmp_path, cloud)
        tablet.sync_now()
        assert walks(tablet) == [("w1", 4)]
        [item] = tablet.quarantine.items()
        assert "only here" in item.body


# One block, of which a migration cannot convert one row.


@pytest.fixture
def halved(tmp_path, cloud):
    """A block wrote a walk that can be converted and one that cannot, and another block wrote since."""
    with walker(tmp_path, "phone", cloud, "2.0.0") as phone:
        phone.migrate()
        with phone.write() as db:
            db["walks"].insert_all(
                [{"user_id": "ann", "id": "good", "steps": "3"}, {"user_id": "ann", "id": "bad", "steps": "many"}]
            )
        walk(phone, "other", "5")
    with walker(tmp_path, "phone", cloud) as phone:
        phone.migrate()
        assert items(phone).keys() == {"bad"}
        yield phone


def groups(engine):
    """Which rows of the queue arrive together."""
    found = {}
    query = "SELECT o.row_key, g.group_id FROM _sync_outbox AS o JOIN _sync_group AS g USING (entry_id) ORDER BY 1"
    for key, group in engine._store.query(query):
        found.setdefault(group, set()).add(key)
    return list(found.values())


def test_a_block_of_which_half_was_set_aside_is_whole_again_after_the_rollback_and_is_held_whole_after_the_next_run(
    halved, cloud
):
    halved.sync_now()
    assert set(at_the_cloud(cloud, "walks")) == {"other"}
    halved.migrations.rollback("count", consent=("ann",))
    assert groups(halved) == [{"good", "bad"}]
    assert halved.migrations.run(only="count").success
    halved.sync_now()
    assert set(at_the_cloud(cloud, "walks")) == {"other"}
    assert (halved.status().outbox.held, halved.status().outbox.waiting) == (1, 0)


def test_a_row_that_was_mended_in_quarantine_goes_with_the_block_that_wrote_it(halved, cloud):
    item, entry = halved.quarantine.items()
    assert (item.origin, entry.origin) == ("migration", "outbox")
    edit = json.loads(entry.body)["entry_id"]
    halved.quarantine.edit(item.item_id, json.dumps({"user_id": "ann", "id": "bad", "steps": "4"}))
    assert halved.quarantine.retry(item.item_id).resolved
    assert groups(halved) == [{"good", "bad"}, {"other"}]
    halved.sync_now()
    assert at_the_cloud(cloud, "walks") == {
        key: {"id": key, "steps": steps} for key, steps in (("good", 3), ("bad", 4), ("other", 5))
    }
    assert halved.status().synced
    assert halved.receipt(edit).state == Where.CONFIRMED


# A mended row reaches the cloud also where no migration uploads its collection.


def mended(engine):
    [item] = engine.quarantine.items()
    engine.quarantine.edit(item.item_id, json.dumps({"user_id": "ann", "id": "w1", "steps": "4"}))
    assert engine.quarantine.retry(item.item_id).resolved


def test_a_row_that_is_mended_here_after_another_device_deleted_it_comes_to_all(tmp_path, cloud):
    with_a_walk_that_both_know(tmp_path, cloud)
    with walker(tmp_path, "tablet", cloud) as tablet:
        tablet.migrate()
        with walker(tmp_path, "phone", cloud, "2.0.0") as phone:
            with phone.write() as db:
                db.execute("DELETE FROM walks")
            phone.sync_now()
        tablet.sync_now()
        mended(tablet)
        assert not tablet.status().synced
        assert not tablet.explain("walks", "w1").synced
        tablet.sync_now()
        assert tablet.explain("walks", "w1").synced
        assert at_the_cloud(cloud, "walks") == {"w1": {"id": "w1", "steps": 4}}
    with walker(tmp_path, "phone", cloud) as phone:
        phone.migrate()
        phone.sync_now()
        assert walks(phone) == [("w1", 4)]


def test_a_row_that_is_mended_here_and_of_which_the_cloud_has_never_heard_comes_there(tmp_path, cloud):
    with walker(tmp_path, "tablet", cloud, "2.0.0") as tablet:
        tablet.migrate()
        with tablet._store.without_triggers():
            walk(tablet, "w1", "only here")
    with walker(tmp_path, "tablet", cloud) as tablet:
        tablet.migrate()
        mended(tablet)
        tablet.sync_now()
        assert at_the_cloud(cloud, "walks") == {"w1": {"id": "w1", "steps": 4}}


def test_a_row_that_was_mended_before_the_update_goes_as_it_is_when_its_first_edit_is_given_up(tmp_path, cloud):
    with walker(tmp_path, "phone", cloud, "2.0.0") as phone:
        phone.migrate()
        walk(phone, "w1", "many")
        walk(phone, "w1", "4")
    with walker(tmp_path, "phone", cloud) as phone:
        assert phone.migrate().entries_quarantined == 1
        [item] = phone.quarantine.items()
        phone.sync_now()
        assert at_the_cloud(cloud, "walks") == {}
        phone.quarantine.discard(item.item_id, reason="it is right now")
        phone.sync_now()
        assert phone.status().synced
        assert walks(phone) == [("w1", 4)]
    assert at_the_cloud(cloud, "walks") == {"w1": {"id": "w1", "steps": 4}}


# One poisoned entry of each kind among a thousand.


def note(engine, key, sql_text="'text'"):
    with engine.write() as db:
        db.execute(f"INSERT INTO notes VALUES ('ann', {key}, {sql_text})")


def refuses(request):
    """A cloud that cannot read one entry, breaks on another, and says 413 to a third."""
    keys = {entry.key for entry in request.entries if entry.kind.value != "void"}
    if "unreadable" in keys:
        return BatchRefused("The request was refused.", status=400)
    if "too-large" in keys:
        return BatchRefused("The request was too large.", status=413)
    if "breaks" in keys:
        return BackendUnavailable("The server broke.")
    return None


def test_one_poisoned_entry_of_each_kind_stops_none_of_a_thousand_others(engine, line, cloud):
    line.refuses = refuses
    poisons = {
        100: lambda: note(engine, "'nul'", "'a' || char(0) || 'b'"),
        200: lambda: note(engine, "'not-utf8'", "CAST(x'ff' AS TEXT)"),
        300: lambda: note(engine, "CAST(x'6bff' AS TEXT)"),
        400: lambda: star(engine, "endless", weight=float("inf")),
        500: lambda: note(engine, "'unreadable'"),
        600: lambda: note(engine, "'breaks'"),
        700: lambda: note(engine, "'too-large'"),
        800: lambda: patch_of_a_row_that_is_not_there(engine),
    }
    for number in range(1_000):
        note(engine, f"'n{number:04}'")
        if number in poisons:
            poisons[number]()
    for _ in range(200):
        engine.flush(timeout_ms=5_000)
        if engine.status().outbox.waiting + engine.status().outbox.claimed == 0:
            break
    assert set(at_the_cloud(cloud, "notes")) == {f"n{number:04}" for number in range(1_000)}
    found = items(engine)
    assert len(found) == len(poisons)
    assert {"nul", "not-utf8", "endless", "unreadable", "breaks", "too-large", "not-there"} <= set(found)
    status = engine.status()
    assert (status.outbox.waiting, status.outbox.claimed, status.outbox.held) == (0, 0, 0)
    assert (status.quarantined, status.synced) == (len(poisons), False)


def patch_of_a_row_that_is_not_there(engine):
    store = engine._store
    with store.transaction():
        group = store.value("outbox", "advance_groups", count=2) - 1
        store.query(
            "INSERT INTO _sync_outbox (owner, kind, collection, row_key, set_json, before_json, shape_version,"
            " group_id, created_ms) VALUES ('ann', 'patch', 'notes', 'not-there', '{\"text\": 1}', '{\"text\": 2}',"
            " '2.0.0', ?, 1767225600000)",
            (group,),
        )


def test_what_builds_on_a_poisoned_entry_is_held_and_all_else_goes(engine, line, cloud):
    """The same row, a child by foreign key, the same block."""
    line.refuses = refuses
    note(engine, "'unreadable'")
    for _ in range(10):
        engine.flush(timeout_ms=5_000)
    with engine.write() as db:
        db["tags"].insert({"user_id": "ann", "id": "child", "note": "unreadable", "word": "w"})
        db["notes"].insert({"user_id": "ann", "id": "of-the-same-block"})
    with engine.write() as db:
        db.execute("UPDATE notes SET text = 'later' WHERE id = 'unreadable'")
    note(engine, "'free'")
    for _ in range(10):
        engine.flush(timeout_ms=5_000)
    assert set(at_the_cloud(cloud, "notes")) == {"free"}
    assert at_the_cloud(cloud, "tags") == {}
    [item] = engine.quarantine.items()
    held = engine._store.query("SELECT row_key, held_by FROM _sync_outbox WHERE state = 'held' ORDER BY row_key")
    assert held == [(key, item.item_id) for key in ("child", "of-the-same-block", "unreadable")]
    line.refuses = lambda request: None
    engine.quarantine.retry(item.item_id)
    engine.flush(timeout_ms=5_000)
    assert {key: body["text"] for key, body in at_the_cloud(cloud, "notes").items()} == {
        "free": "text",
        "of-the-same-block": None,
        "unreadable": "later",
    }
    assert set(at_the_cloud(cloud, "tags")) == {"child"}


def test_one_poisoned_row_of_each_kind_from_the_cloud_stops_none_of_a_thousand_others(tmp_path, line, cloud):
    with device(tmp_path, "free", Line(cloud, "ann"), FREE) as free:
        for number in range(1_000):
            star(free, f"s{number:04}", number % 90, name=f"star {number}")
            if number == 300:
                star(free, "too-many", 100)
            if number == 500:
                star(free, "a-word", "many")
            if number == 700:
                star(free, "same-name", 3, name="star 7")
        assert free.flush(timeout_ms=60_000).reason == "drained"
    with device(tmp_path, "one", line) as engine:
        engine.sync_now()
        assert len(stars(engine)) == 1_000
        assert set(items(engine)) == {"too-many", "a-word", "same-name"}
        assert {item.origin for item in engine.quarantine.items()} == {"pull"}
        cursor = engine._store.query("SELECT at_head FROM _sync_cursor")
        assert cursor == [(1,)]


# Deciding about what came from the cloud.


@pytest.fixture
def two(tmp_path, line, cloud, engine):
    """An app that takes all, and what of it the other one does not."""
    with device(tmp_path, "free", Line(cloud, "ann"), FREE) as free:
        star(free, "a", 1)
        free.sync_now()
        engine.sync_now()
        with free.write() as db:
            db.execute("UPDATE stars SET many = 500 WHERE id = 'a'")
        star(free, "b", 200)
        free.sync_now()
        engine.sync_now()
        yield free


def test_a_row_and_a_change_that_no_rule_takes_lie_there_and_the_last_good_form_stays(engine, two):
    assert stars(engine) == {"a": 1}
    assert {key: item.origin for key, item in items(engine).items()} == {"a": "pull", "b": "pull"}
    assert {json.loads(item.body)["many"] for item in engine.quarantine.items()} == {500, 200}


def test_trying_them_again_in_vain_leaves_everything_and_says_why(engine, two):
    for item in engine.quarantine.items():
        outcome = engine.quarantine.retry(item.item_id)
        assert not outcome.resolved
        assert "CHECK constraint failed" in outcome.why
    assert stars(engine) == {"a": 1}
    assert engine.status().outbox.waiting == 0


def loosened(engine):
    """The app takes more now."""
    with engine._store.transaction():
        engine._store.query("PRAGMA writable_schema = ON")
        engine._store.query(
            "UPDATE sqlite_schema SET sql = replace(sql, 'many < 100', 'many < 900') WHERE name = 'stars'"
        )
        engine._store.query("PRAGMA writable_schema = RESET")


def test_what_fits_by_now_comes_in_as_it_came_and_is_not_sent_back(tmp_path, line, cloud, two, engine):
    found = items(engine)
    with engine._store.without_triggers(), engine.write() as db:
        db.execute("DELETE FROM stars")
    loosened(engine)
    engine.close()
    with device(tmp_path, "one", line, STARS.replace("100", "900")) as engine:
        for item in found.values():
            assert engine.quarantine.retry(item.item_id).resolved
        assert stars(engine) == {"a": 500, "b": 200}
        assert engine.status().outbox.waiting == 0
        assert engine.reconcile().queued == 0


def test_an_edited_row_takes_the_place_of_the_old_one_and_reaches_the_other_device(engine, two):
    for item in engine.quarantine.items():
        body = {**json.loads(item.body), "many": 42}
        engine.quarantine.edit(item.item_id, json.dumps(body))
        assert engine.quarantine.retry(item.item_id).resolved
    assert stars(engine) == {"a": 42, "b": 42}
    engine.sync_now()
    two.sync_now()
    assert stars(two) == {"a": 42, "b": 42}
    assert items(engine) == {}


def test_a_row_that_was_edited_here_since_is_not_overwritten(engine, two):
    item = items(engine)["a"]
    engine.quarantine.edit(item.item_id, json.dumps({**json.loads(item.body), "many": 42}))
    with engine.write() as db:
        db.execute("UPDATE stars SET many = 7 WHERE id = 'a'")
    outcome = engine.quarantine.retry(item.item_id)
    assert (outcome.resolved, outcome.why) == (False, "the row was edited here since, and that was not sent yet")
    assert stars(engine) == {"a": 7}


def test_what_is_given_up_stays_out_and_the_cloud_keeps_it(engine, two, cloud):
    for item in engine.quarantine.items():
        engine.quarantine.discard(item.item_id, reason="nonsense")
    engine.sync_now()
    assert stars(engine) == {"a": 1}
    assert {key: body["many"] for key, body in at_the_cloud(cloud).items()} == {"a": 500, "b": 200}


def test_the_export_holds_them_whole(engine, two, tmp_path):
    assert engine.quarantine.export(tmp_path / "items.json") == 2
    written = json.loads((tmp_path / "items.json").read_text())
    assert {item["key"]: json.loads(item["body"])["many"] for item in written} == {"a": 500, "b": 200}
    assert {item["origin"] for item in written} == {"pull"}
