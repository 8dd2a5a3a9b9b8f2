"""Receipts: each queued change can be followed to its end, and a row that is not synced says why."""

import json
import threading
from dataclasses import replace

import pytest
from drain_world import Line, MovableClock, refuses_key
from migrate_world import registry_of
from users_world import add_notes, opened

from syncengine import Collection, Engine, Settings, cast, declared, tables
from syncengine.clock import SystemClock
from syncengine.errors import AuthRequired, BackendUnreachable, CalledFromInside, RateLimited
from syncengine.migrate.definition import Counts, EntryCounts
from syncengine.outbox.receipts import Where
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.vocabulary import SchemaVersion, UserId


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


@pytest.fixture
def engine(tmp_path, line):
    settings = Settings(
        attempts_of_one_entry_max=1, attempts_before_halving=1, retry_wait_ms_min=1, retry_wait_ms_max=2
    )
    with opened(tmp_path / "app", backend=line, settings=settings) as engine:
        yield engine


def state_of(engine, entry_id):
    return engine.receipt(entry_id).state


def put_aside(engine, line, key):
    """Until the cloud, which cannot read it, has been asked often enough."""
    line.refuses = refuses_key(key)
    for _ in range(20):
        engine.flush(timeout_ms=2_000)
        if engine.status().quarantined:
            break
    line.refuses = lambda request: None


# The ids of a block.


def test_the_last_block_says_which_entries_it_has_queued(engine):
    assert engine.last_entries() == ()
    add_notes(engine, "a", "b", tagged=True)
    ids = engine.last_entries()
    assert [engine.receipt(entry).key for entry in ids] == ["a", "b", "t-a", "t-b"]
    assert engine._store.query("SELECT entry_id FROM _sync_outbox ORDER BY entry_id") == [(entry,) for entry in ids]
    with engine.write() as db:
        db["looks"].upsert({"name": "font", "value": "big"}, pk="name")
    assert engine.last_entries() == ()


def test_a_block_that_was_undone_has_queued_nothing(engine):
    add_notes(engine, "a")
    ids = engine.last_entries()

    def fail():
        with engine.write() as db:
            db["notes"].insert({"user_id": "ann", "id": "b"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert engine.last_entries() == ()
    assert engine.receipt(ids[0] + 1).state is Where.UNKNOWN


def test_an_inner_block_belongs_to_the_outer_one(engine):
    add_notes(engine, "before")
    with engine.write() as db:
        db["notes"].insert({"user_id": "ann", "id": "a"})
        assert engine.last_entries() == ()
        add_notes(engine, "b")
        assert engine.last_entries() == ()
    assert [engine.receipt(entry).key for entry in engine.last_entries()] == ["a", "b"]


def test_each_thread_has_its_own_last_block(engine):
    add_notes(engine, "a")
    mine, others = engine.last_entries(), []

    def write():
        others.append(engine.last_entries())
        add_notes(engine, "b", "c")
        others.append(engine.last_entries())

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    assert others[0] == ()
    assert len(others[1]) == 2
    assert engine.last_entries() == mine


# The way of an entry.


def test_a_change_is_waiting_then_claimed_then_confirmed(engine, line):
    add_notes(engine, "a")
    [entry] = engine.last_entries()
    waiting = engine.receipt(entry)
    assert (waiting.state, waiting.kind, waiting.collection, waiting.key) == (Where.WAITING, "put", "notes", "a")
    assert (waiting.owner, waiting.sequence, waiting.is_final) == ("ann", None, False)
    line.lost_answers = 1
    with pytest.raises(BackendUnreachable):
        engine.sync_now()
    claimed = engine.receipt(entry)
    assert (claimed.state, claimed.sequence) == (Where.CLAIMED, 1)
    assert "backend_unreachable" in claimed.why
    engine.flush(timeout_ms=5_000)
    confirmed = engine.receipt(entry)
    assert (confirmed.state, confirmed.is_final) == (Where.CONFIRMED, True)


def test_an_edit_that_travels_in_another_says_in_which(engine, line):
    add_notes(engine, "a")
    [put] = engine.last_entries()
    with engine.write() as db:
        db.execute("UPDATE notes SET text = 'again'")
    [patch] = engine.last_entries()
    line.lost_answers = 1
    with pytest.raises(BackendUnreachable):
        engine.sync_now()
    assert (state_of(engine, put), engine.receipt(patch).into) == (Where.CLAIMED, put)
    assert state_of(engine, patch) is Where.SQUASHED
    engine.flush(timeout_ms=5_000)
    assert {state_of(engine, put), state_of(engine, patch)} == {Where.CONFIRMED}


def test_what_lies_in_quarantine_what_is_held_behind_it_and_what_was_given_up_say_so(engine, line):
    add_notes(engine, "bad")
    [bad] = engine.last_entries()
    put_aside(engine, line, "bad")
    [item] = engine.quarantine.items()
    receipt = engine.receipt(bad)
    assert (receipt.state, receipt.item_id) == (Where.QUARANTINED, item.item_id)
    with engine.write() as db:
        db.execute("UPDATE notes SET text = 'again'")
    [later] = engine.last_entries()
    engine.flush(timeout_ms=5_000)
    held = engine.receipt(later)
    assert (held.state, held.item_id) == (Where.HELD, item.item_id)
    engine.quarantine.discard(item.item_id, reason="never mind")
    assert (state_of(engine, bad), state_of(engine, later)) == (Where.DISCARDED, Where.WAITING)


def test_a_retried_item_is_the_same_entry_on_its_way_again(engine, line):
    add_notes(engine, "bad")
    [bad] = engine.last_entries()
    put_aside(engine, line, "bad")
    engine.quarantine.retry(engine.quarantine.items()[0].item_id)
    assert state_of(engine, bad) is Where.WAITING
    engine.flush(timeout_ms=5_000)
    assert state_of(engine, bad) is Where.CONFIRMED


def test_an_edit_that_the_cloud_had_decided_already_is_no_confirmation(tmp_path, cloud):
    from users_world import COLLECTIONS, registry

    wins = registry(collections=(Collection("notes", owner="user_id", merge="server_wins"), *COLLECTIONS[1:]))
    with (
        opened(tmp_path / "one", backend=Line(cloud, "ann"), registry=wins) as one,
        opened(tmp_path / "two", backend=Line(cloud, "ann"), registry=wins) as two,
    ):
        add_notes(one, "a", "gone")
        one.sync_now()
        two.sync_now()
        edited = []
        for key in ("a", "gone"):
            with two.write() as db:
                db.execute("UPDATE notes SET text = 'mine' WHERE id = ?", (key,))
            edited += two.last_entries()
        with one.write() as db:
            db.execute("UPDATE notes SET text = 'theirs' WHERE id = 'a'")
            db.execute("DELETE FROM notes WHERE id = 'gone'")
        one.sync_now()
        two.sync_now()
        merged, aside = (two.receipt(entry) for entry in edited)
        assert (merged.state, merged.key, merged.is_final) == (Where.MERGED_AWAY, "a", True)
        assert (aside.state, aside.key) == (Where.QUARANTINED, "gone")
        assert aside.item_id == two.quarantine.items()[0].item_id


def test_an_edit_that_says_what_another_device_has_said_already_did_not_lose(tmp_path, cloud):
    from users_world import COLLECTIONS, registry

    wins = registry(collections=(Collection("notes", owner="user_id", merge="server_wins"), *COLLECTIONS[1:]))
    with (
        opened(tmp_path / "one", backend=Line(cloud, "ann"), registry=wins) as one,
        opened(tmp_path / "two", backend=Line(cloud, "ann"), registry=wins) as two,
    ):
        add_notes(one, "a", text="before")
        one.sync_now()
        two.sync_now()
        for engine in (one, two):
            with engine.write() as db:
                db.execute("UPDATE notes SET text = 'the same'")
        [entry] = two.last_entries()
        one.sync_now()
        two.sync_now()
        assert two.receipt(entry).state is Where.CONFIRMED
        assert two._store.query("SELECT count(*) FROM _sync_conflict") == [(0,)]


def test_what_another_user_has_queued_is_as_if_it_were_not(engine):
    add_notes(engine, "a")
    [of_ann] = engine.last_entries()
    engine.switch_user("bob")
    for found in (engine.receipt(of_ann), engine.wait(of_ann, timeout_ms=0)):
        assert (found.state, found.owner, found.collection, found.key) == (Where.UNKNOWN, None, None, None)
    engine.switch_user("ann")
    assert state_of(engine, of_ann) is Where.WAITING


@pytest.mark.parametrize("number", [0, -1, 99, 2**63, 2**70])
def test_a_number_that_was_never_given_is_unknown(engine, number):
    assert engine.receipt(number).state is Where.UNKNOWN


def test_what_was_destroyed_is_not_called_confirmed(engine):
    add_notes(engine, "a")
    [entry] = engine.last_entries()
    engine.logout(unsent="destroy")
    assert state_of(engine, entry) is Where.UNKNOWN
    engine.switch_user("ann")
    add_notes(engine, "b")
    [later] = engine.last_entries()
    engine.sync_now()
    assert (state_of(engine, entry), state_of(engine, later)) == (Where.UNKNOWN, Where.CONFIRMED)


# Waiting.


def test_waiting_ends_when_the_cloud_has_it(engine):
    add_notes(engine, "a")
    [entry] = engine.last_entries()
    engine.start()
    assert engine.wait(entry, timeout_ms=20_000).state is Where.CONFIRMED


def test_waiting_ends_with_the_time_and_with_a_person(engine, line):
    add_notes(engine, "a")
    [entry] = engine.last_entries()
    clock = SystemClock()
    begun_ms = clock.monotonic_ms()
    assert engine.wait(entry, timeout_ms=100).state is Where.WAITING
    assert clock.monotonic_ms() - begun_ms >= 100
    put_aside(engine, line, "a")
    assert engine.wait(entry, timeout_ms=20_000).state is Where.QUARANTINED


def test_nobody_waits_inside_a_block(engine):
    add_notes(engine, "a")
    [entry] = engine.last_entries()
    with engine.write(), pytest.raises(CalledFromInside):
        engine.wait(entry)


# Explaining.


def sentences(explanation):
    return [obstacle.what for obstacle in explanation.obstacles]


@pytest.mark.parametrize("is_here", [True, False])
def test_a_row_in_quarantine_is_not_called_one_that_was_never_queued_or_does_not_exist(engine, line, is_here):
    add_notes(engine, "a")
    put_aside(engine, line, "a")
    if not is_here:
        with engine._store.transaction(), engine._store.without_triggers():
            engine._store.query("DELETE FROM notes")
    [said] = sentences(engine.explain("notes", "a"))
    assert said.startswith("quarantine item 1 (outbox,")


def test_a_synced_row_says_so_with_its_version(engine):
    add_notes(engine, "a")
    engine.sync_now()
    found = engine.explain("notes", "a")
    assert (found.synced, found.obstacles, found.entries) == (True, (), ())
    assert str(found) == "notes a of ann: at the cloud\n  the cloud has version 1 of it"


def delete_note(engine, key):
    with engine.write() as db:
        db["notes"].delete(("ann", key))


def test_a_row_that_is_deleted_here_and_there_is_not_called_at_the_cloud(engine):
    add_notes(engine, "a")
    engine.sync_now()
    delete_note(engine, "a")
    engine.sync_now()
    found = engine.explain("notes", "a")
    assert (found.synced, found.deleted, found.obstacles) == (True, True, ())
    told = "notes a of ann: deleted, here and at the cloud\n  the cloud knows it as deleted, at version 2"
    assert str(found) == told


def test_a_row_that_is_here_and_that_the_cloud_knows_as_deleted_is_not_synced(engine):
    add_notes(engine, "a")
    engine.sync_now()
    delete_note(engine, "a")
    engine.sync_now()
    with engine._store.without_triggers():
        add_notes(engine, "a")
    found = engine.explain("notes", "a")
    assert (found.synced, found.deleted) == (False, True)
    assert sentences(found) == ["the row is here, and was never queued"]


@pytest.fixture
def patient(tmp_path, line):
    settings = Settings(retry_wait_ms_min=60_000, retry_wait_ms_max=60_000)
    with opened(tmp_path / "app", backend=line, settings=settings) as engine:
        yield engine


def test_a_waiting_row_shows_its_entries_in_order_and_what_keeps_the_queue(patient, line):
    engine = patient
    add_notes(engine, "a")
    with engine.write() as db:
        db.execute("UPDATE notes SET text = 'again'")
    line.down = BackendUnreachable("No route.")
    with pytest.raises(BackendUnreachable):
        engine.sync_now()
    found = engine.explain("notes", "a")
    assert not found.synced
    assert [(entry.kind, entry.state) for entry in found.entries] == [("put", "waiting"), ("patch", "waiting")]
    assert any("1 failures (backend_unreachable) the queue rests until" in what for what in sentences(found))
    assert "nothing is sent in the background" in sentences(found)
    engine._store.query("SELECT 1")
    with engine._store.transaction():
        engine._store.run("state", "set", name="probe_verdict", value="captive_portal")
    found = engine.explain("notes", "a")
    assert "the cloud cannot be reached: captive_portal" in sentences(found)
    assert "    fix: Sign in to the network." in str(found).splitlines()


def test_after_one_round_that_failed_it_is_known_that_the_cloud_cannot_be_reached(engine, line):
    add_notes(engine, "a")
    line.down = BackendUnreachable("Nobody there.", reason="refused")
    with pytest.raises(BackendUnreachable):
        engine.sync_now()
    assert engine.status().connectivity.verdict == "offline"
    found = engine.explain("notes", "a")
    assert sentences(found)[0] == "the cloud cannot be reached: offline (refused)"
    assert "server is down" in found.obstacles[0].fix
    line.down = None
    engine.sync_now()
    assert engine.status().connectivity.verdict == "online"


@pytest.mark.parametrize("error", [AuthRequired, RateLimited])
def test_what_the_cloud_has_said_to_one_user_is_not_told_of_another(engine, line, error):
    add_notes(engine, "a")
    line.down = error("Not you.")
    with pytest.raises(error):
        engine.sync_now()
    assert engine.status().connectivity.verdict == error.code()
    assert any(error.code() in what for what in sentences(engine.explain("notes", "a")))
    engine.switch_user("bob")
    add_notes(engine, "b", owner="bob")
    assert engine.status().connectivity.verdict == "online"
    assert not any(error.code() in what for what in sentences(engine.explain("notes", "b")))
    engine.switch_user("ann")
    assert engine.status().connectivity.verdict == error.code()


def test_a_wait_that_is_over_is_none(tmp_path, line):
    clock = MovableClock()
    with opened(tmp_path / "app", backend=line, clock=clock) as engine:
        add_notes(engine, "a")
        [entry] = engine.last_entries()
        line.down = BackendUnreachable("Nobody there.")
        with pytest.raises(BackendUnreachable):
            engine.sync_now()
        assert "the next is not before" in engine.receipt(entry).why
        assert engine.status().sync.next_try_at is not None
        clock.wall_ms += 3_600_000
        assert engine.receipt(entry).why.endswith(
            "1 tries failed (backend_unreachable), and the next waits for nothing"
        )
        assert engine.status().sync.next_try_at is None
        assert not any("rests until" in what for what in sentences(engine.explain("notes", "a")))


def test_what_is_told_of_a_store_is_short_where_it_is_printed(engine):
    add_notes(engine, "a")
    told = "version='2.0.0', waiting=1, claimed=0, held=0, quarantined=0, verdict='unknown', activity='stopped'"
    assert repr(engine.status()) == f"Status(user='ann', synced=False, {told})"
    found = engine.explain("notes", "a")
    assert repr(found) == "Explanation(collection='notes', key='a', user='ann', synced=False, obstacles=1, entries=1)"


def test_what_a_migration_did_is_short_where_it_is_printed(tmp_path):
    from users_world import registry

    with Engine.open(tmp_path / "new.db", registry=registry(), user="ann") as new:
        report = new.migrate()
    assert repr(report) == "MigrationReport(at 2.0.0, success=True, ran=[make completed])"
    behind = replace(report, current=SchemaVersion.parse("1"), results=(), blocked=("make",))
    assert repr(behind) == "MigrationReport(at 1.0.0, wanted 2.0.0, success=False, ran=[], blocked=1)"
    [made] = report.results
    lossy = replace(made, counts=Counts(read=2, quarantined=2), entries=EntryCounts(read=3, quarantined=3))
    assert repr(replace(report, results=(lossy,))) == (
        "MigrationReport(at 2.0.0, success=True, ran=[make completed], rows_set_aside=2, entries_set_aside=3)"
    )
    counts = "read=0, written=0, quarantined=0, errors=0, warnings=0"
    assert repr(report.results[0]) == f"MigrationResult('make', scope='store', state='completed', {counts})"


def test_it_says_who_would_have_to_sign_in(engine):
    add_notes(engine, "a")
    engine.switch_user(None)
    assert "nobody is signed in" in sentences(engine.explain("notes", "a", user="ann"))
    engine.switch_user("bob")
    assert "another user is signed in" in sentences(engine.explain("notes", "a", user="ann"))
    assert sentences(engine.explain("notes", "a")) == [
        "there is no such row of this user here, and nothing of it is queued"
    ]


def test_it_names_the_quarantine_item_the_barrier_and_the_conflict(engine, line):
    add_notes(engine, "bad")
    put_aside(engine, line, "bad")
    [item] = engine.quarantine.items()
    with engine.write() as db:
        db.execute("UPDATE notes SET text = 'again'")
    engine.flush(timeout_ms=5_000)
    found = engine.explain("notes", "bad")
    assert any(what.startswith(f"quarantine item {item.item_id} (outbox, ") for what in sentences(found))
    assert f"entry {found.entries[0].entry_id} is held by item {item.item_id}" in sentences(found)
    with engine._store.transaction():
        engine._store.query(
            "INSERT INTO _sync_outbox (owner, kind, collection, row_key, shape_version, group_id, migration,"
            " barrier_json, created_ms) VALUES ('ann', 'migration', '', '', '2.0.0', 900, 'moving',"
            ' \'{"collections": ["notes"]}\', 0)'
        )
    add_notes(engine, "behind")
    [entry] = engine.explain("notes", "behind").entries
    assert entry.why == "migration moving changes its collection at the cloud first"
    with engine._store.transaction():
        engine._store.query("UPDATE _sync_outbox SET last_error = 'conflict' WHERE row_key = 'behind'")
        engine._store.query(
            "INSERT INTO _sync_conflict (owner, collection, row_key, field, local_json, server_json, winner, policy,"
            " created_at) VALUES ('ann', 'notes', 'behind', 'text', '1', '2', 'server', 'server_wins', 'now')"
        )
    found = engine.explain("notes", "behind")
    assert found.entries[0].why.startswith("its row has changed at the cloud")
    assert found.notes == ("text was changed on both sides (now): server won, by server_wins",)


def test_it_says_what_is_parked_and_that_the_app_needs_an_update(engine):
    with engine._store.transaction():
        engine._store.query(
            "INSERT INTO _sync_parked (owner, collection, row_key, version, shape_version, reason, body, parked_at)"
            " VALUES ('ann', 'notes', 'p', 4, '9.0.0', 'newer_shape', '{}', 'now')"
        )
    found = engine.explain("notes", "p")
    assert sentences(found)[0] == "what the cloud has of it is parked since now: newer_shape, in shape 9.0.0"
    assert found.obstacles[0].fix == "Update the app: it comes from a newer version."


def test_it_says_when_nothing_would_ever_send_it(engine):
    with engine.write() as db:
        db["notes"].insert({"user_id": "", "id": "nobodys"})
        db["looks"].insert({"name": "font", "value": "big"})
    with engine._store.without_triggers():
        add_notes(engine, "missed")
    assert sentences(engine.explain("looks", "font")) == ["looks is not synced: its rows have no owner"]
    assert sentences(engine.explain("nowhere", "x")) == ["the store has no collection nowhere"]
    assert sentences(engine.explain("notes", "nobodys")) == ["the row has no owner, so it is nobody's to send"]
    assert sentences(engine.explain("notes", "missed")) == ["the row is here, and was never queued"]
    engine.reconcile()
    assert engine.explain("notes", "missed").entries != ()


def test_an_engine_without_a_cloud_says_that(tmp_path):
    with opened(tmp_path) as engine:
        add_notes(engine, "a")
        assert "the engine was opened without a cloud" in sentences(engine.explain("notes", "a"))


def test_neither_receipt_nor_explanation_holds_the_contents(engine, line):
    add_notes(engine, "a", text="canary-5521")
    put_aside(engine, line, "a")
    add_notes(engine, "b", text="canary-5521")
    for key in ("a", "b"):
        found = engine.explain("notes", key)
        assert "canary-5521" not in str(found) + repr(found) + repr(found.to_json())


def test_an_edit_whose_row_came_back_from_quarantine_travels_in_that_row(tmp_path):
    notes = (
        "CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, stars TEXT, PRIMARY KEY (user_id, id)) STRICT"
    )
    make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(notes,))
    count = declared(
        id="count", collection="notes", from_version="2.0.0", to_version="3.0.0", changes=(cast("stars", int),)
    )
    path = tmp_path / "app.db"
    with Engine.open(path, registry=registry_of(make, target="2.0.0"), user="ann") as old:
        old.migrate()
        with old.write() as db:
            db["notes"].insert({"user_id": "ann", "id": "n1", "stars": "many"})
    yes = {"consent": lambda request: True}
    with Engine.open(path, registry=registry_of(make, count, target="3.0.0"), user="ann", **yes) as engine:
        engine.migrate()
        assert state_of(engine, 1) == Where.QUARANTINED
        desk = engine.quarantine
        row, _ = desk.items()
        desk.edit(row.item_id, json.dumps({**json.loads(row.body), "stars": "3"}))
        assert desk.retry(row.item_id).resolved
        told = engine.receipt(1)
        [(queued,)] = engine._store.query("SELECT entry_id FROM _sync_outbox")
        assert (told.state, told.into, told.is_final) == (Where.SQUASHED, queued, False)


@pytest.mark.parametrize("number", ["1", True, 1.0, None, b"1", [1]], ids=repr)
def test_what_is_no_number_of_an_entry_or_item_is_told_so_and_never_taken_for_one(engine, number):
    add_notes(engine, "a")
    says = f"is an int, and not a {type(number).__name__}; "
    for asked in (
        lambda: engine.receipt(number),
        lambda: engine.wait(number, timeout_ms=1),
        lambda: engine.quarantine.item(number),
        lambda: engine.quarantine.retry(number),
    ):
        with pytest.raises(TypeError, match=says):
            asked()
    assert engine.receipt(1).state is Where.WAITING


@pytest.mark.parametrize(("timeout_ms", "error"), [("x", TypeError), (None, TypeError), (float("nan"), ValueError)])
def test_a_time_that_is_none_is_told_so(engine, timeout_ms, error):
    with pytest.raises(error, match="timeout_ms is a number of milliseconds, and n"):
        engine.wait(1, timeout_ms=timeout_ms)


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        (b"a", TypeError, "is a text, and not a bytes; give it as it stands in the row"),
        (True, TypeError, "is a text, and not a bool"),
        (1.5, TypeError, "is a text, and not a float"),
        (["a"], TypeError, "is a text, and not a list"),
        ("\ud800", ValueError, "holds half a surrogate pair, which no row can have"),
    ],
)
def test_what_can_name_no_row_is_told_so(engine, name, error, says):
    for what, asked in {
        "the key of a row": lambda: engine.explain("notes", name),
        "a collection": lambda: engine.explain(name, "a"),
        "a user": lambda: engine.explain("notes", "a", user=name),
    }.items():
        with pytest.raises(error, match=f"{what} {says}"):
            asked()
    with pytest.raises(TypeError, match="the key of a row is a text, and not a NoneType"):
        engine.explain("notes", None)


def test_a_key_that_is_a_number_is_explained_by_its_digits(engine):
    add_notes(engine, "7")
    told = engine.explain("notes", 7)
    assert (told.key, [entry.state for entry in told.entries]) == ("7", [Where.WAITING])
