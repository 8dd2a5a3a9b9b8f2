"""Users of one device: switching leaves the other's queue alone; signing out loses nothing that nobody gave up."""

import json
import os
import threading
from collections import defaultdict

import pytest
from click.testing import CliRunner
from drain_world import Line, MovableClock
from users_world import add_notes, opened, rows_of, stays_of

from migrations import REGISTRY
from syncengine import Collection, Engine, ListedMigration, MigrationRegistry, tables
from syncengine.cli import main
from syncengine.clock import SystemClock
from syncengine.errors import (
    AuthRequired,
    BackendUnreachable,
    CalledFromInside,
    ExportImpossible,
    StoreBusy,
    UnsentChanges,
)
from syncengine.events import RoundStarted
from syncengine.outbox.delivery import Event
from syncengine.outbox.entry import entry_of
from syncengine.outbox.filing import file_entries
from syncengine.outbox.queue import Outbox
from syncengine.outbox.set_aside import set_aside
from syncengine.outbox.unsent import unsent_of
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.settings import Settings
from syncengine.vocabulary import UserId
from tests.conformance.device_requests import rows
from tests.conformance.server_process import ServerProcess


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path / "cloud") as running:
        yield running


@pytest.fixture
def cloud(tmp_path):
    clock = MovableClock()
    cloud = Cloud(SqliteStorage(str(tmp_path / "memory"), clock=clock), clock=clock)
    for user in ("ann", "bob"):
        cloud.accept_token(UserId(user), token=f"a token of {user}")
    yield cloud
    cloud.close()


def at_the_cloud(server, user):
    backend = server.backend(server.sign_in(user))
    return sorted(row.key for row in backend.rows(rows(user=user, collection="notes")).rows)


def queue_of(engine, owner):
    store = engine._store
    return (
        store.query(
            f"SELECT {stays_of(store, '_sync_outbox')} FROM _sync_outbox WHERE owner = ? ORDER BY entry_id", (owner,)
        ),
        store.query("SELECT * FROM _sync_drain WHERE owner = ?", (owner,)),
        store.query("SELECT * FROM _sync_cursor WHERE owner = ?", (owner,)),
    )


# Switching.


def test_the_queue_cursor_and_waits_of_one_user_stay_as_they_are_while_another_works(tmp_path, server):
    tokens = {user: server.sign_in(user) for user in ("ann", "bob")}
    with opened(tmp_path / "app", cloud_url=server.url, token=lambda: tokens["ann"]) as engine:
        add_notes(engine, "a1")
        engine.sync_now()
        add_notes(engine, "a2")
        engine._store.query("SELECT 1")
        with engine._store.transaction():
            engine._store.query("UPDATE _sync_drain SET attempts = 3, next_try_at = '2099-01-01T00:00:00.000Z'")
        before = queue_of(engine, "ann")
        engine.switch_user("bob", token=lambda: tokens["bob"])
        add_notes(engine, "b1", owner="bob")
        assert engine.sync_now().ended == "drained"
        assert queue_of(engine, "ann") == before
        assert (at_the_cloud(server, "ann"), at_the_cloud(server, "bob")) == (["a1"], ["b1"])
        engine.switch_user("ann", token=lambda: tokens["ann"])
        engine.sync_now()
        assert (at_the_cloud(server, "ann"), at_the_cloud(server, "bob")) == (["a1", "a2"], ["b1"])


def test_status_counts_what_is_the_signed_in_users_and_apart_from_it_what_others_have_not_sent(tmp_path, server):
    tokens = {user: server.sign_in(user) for user in ("ann", "bob")}
    with opened(tmp_path / "app", cloud_url=server.url, token=lambda: tokens["ann"]) as engine:
        add_notes(engine, "a1", "a2")
        _set_aside(engine._store, owner="ann")
        _park(engine._store, owner="ann")
        engine.switch_user("bob", token=lambda: tokens["bob"])
        engine.migrate()
        assert engine.sync_now().ended == "drained"
        bobs = engine.status()
        assert (bobs.outbox.unsent, bobs.outbox.oldest_at, bobs.quarantined, bobs.reading.parked) == (0, None, 0, 0)
        assert (bobs.synced, bobs.others_unsent) == (True, 2)
        assert "others_unsent=2" in repr(bobs)
        engine.switch_user("ann", token=lambda: tokens["ann"])
        anns = engine.status()
        assert (anns.outbox.unsent, anns.quarantined, anns.reading.parked, anns.others_unsent) == (2, 1, 1, 0)
        assert (anns.outbox.confirmed, anns.synced) == (0, False)
        engine.switch_user(None)
        assert (engine.status().outbox.unsent, engine.status().others_unsent) == (2, 0)


def test_the_command_line_counts_for_a_user_what_the_api_counts(tmp_path):
    with opened(tmp_path, user="bob") as engine:
        add_notes(engine, "a1", "a2", owner="ann")
        add_notes(engine, "b1", owner="bob")
        _set_aside(engine._store, owner="ann")
        found = CliRunner().invoke(main, ["status", "--store", str(tmp_path / "app.db"), "--user", "bob", "--json"])
        there, here = json.loads(found.output), engine.status().to_json()
        counted = ("user", "synced", "outbox", "others_unsent", "reading", "quarantined")
        assert {name: there[name] for name in counted} == {name: here[name] for name in counted}
        assert (here["outbox"]["unsent"], here["others_unsent"]) == (1, 2)


def _set_aside(store, *, owner):
    with store.transaction():
        store.query(
            "INSERT INTO _sync_quarantine"
            " (origin, owner, collection, row_key, body, error_code, error_text, created_at)"
            " VALUES ('outbox', ?, 'notes', 'q', '{}', 'row_rejected', 'no', '2026-01-01T00:00:00Z')",
            (owner,),
        )


def _park(store, *, owner):
    with store.transaction():
        store.query(
            "INSERT INTO _sync_parked (owner, collection, row_key, version, shape_version, reason, body, parked_at)"
            " VALUES (?, 'notes', 'p', 1, '9.0.0', 'newer_shape', '{}', '2026-01-01T00:00:00Z')",
            (owner,),
        )


def test_each_user_has_a_client_and_a_token_of_their_own(tmp_path, server):
    tokens = {user: server.sign_in(user) for user in ("ann", "bob")}
    asked = defaultdict(int)

    def token_of(user):
        def give():
            asked[user] += 1
            return tokens[user]

        return give

    with opened(tmp_path / "app", cloud_url=server.url, token=token_of("ann")) as engine:
        engine.sync_now()
        first = engine._session.runner._backend
        engine.switch_user("bob", token=token_of("bob"))
        assert first._client.is_closed
        of_ann = asked["ann"]
        engine.sync_now()
        second = engine._session.runner._backend
        assert second is not first
        assert second._client is not first._client
        assert (asked["ann"], asked["bob"] > 0) == (of_ann, True)
        engine.switch_user("ann")
        engine.sync_now()  # the token that open() was given
        assert asked["ann"] > of_ann


class SlowLine(Line):
    """A call that lasts until the test lets it go."""

    def __init__(self, cloud, user):
        super().__init__(cloud, user)
        self.called, self.go = threading.Event(), threading.Event()

    def push(self, request):
        self.called.set()
        assert self.go.wait(20)
        return super().push(request)


def test_a_call_that_does_not_end_is_given_up_and_its_answer_dropped(tmp_path, cloud):
    line = SlowLine(cloud, "ann")
    with opened(tmp_path / "app", backend=line, settings=Settings(close_wait_ms_max=50)) as engine:
        add_notes(engine, "a1")
        engine.start()
        assert line.called.wait(20)
        old = engine._session.runner
        engine.switch_user(None)
        claimed = queue_of(engine, "ann")
        assert [row[15] for row in claimed[0]] == ["claimed"]
        line.go.set()
        while old.is_alive:
            SystemClock().pause(5)
        assert queue_of(engine, "ann") == claimed
        line.called.clear()
        engine.switch_user("ann")
        engine.sync_now()
        assert queue_of(engine, "ann")[0] == []
        assert len(line.applied) == 1  # once, although it was sent twice


def test_what_was_started_goes_on_for_the_next_user(tmp_path, cloud):
    heard, began = [], threading.Event()

    def hear(event):
        heard.append(event)
        if isinstance(event, RoundStarted):
            began.set()

    with opened(tmp_path / "app", backend=Line(cloud, "bob"), listener=hear) as engine:
        engine.switch_user(None)
        engine.start()
        assert engine.status().sync.activity == "stopped"
        engine.switch_user("bob")
        assert engine.status().sync.activity == "running"
        assert began.wait(20)


def test_a_new_user_has_migrations_of_their_own_pending_and_migrate_says_so(tmp_path):
    with Engine.open(tmp_path / "app.db", registry=REGISTRY, user="ann", consent=lambda request: True) as engine:
        engine.migrate()
        assert engine.migrate() is None
        engine.switch_user("bob")
        assert engine.status().migration.pending > 0
        report = engine.migrate()
        assert {result.scope for result in report.results} == {"user:bob"}
        assert engine.migrate() is None
        engine.switch_user("ann")
        assert engine.migrate() is None


@pytest.mark.parametrize("user", ["", "a" * 201, "a\nb", 5])
def test_who_can_be_no_user_changes_nothing(tmp_path, user):
    with opened(tmp_path) as engine:
        with pytest.raises(AuthRequired):
            engine.switch_user(user)
        assert engine.status().user == "ann"


def test_nobody_switches_from_inside_a_block(tmp_path):
    with opened(tmp_path) as engine:
        for call in (lambda: engine.switch_user("bob"), engine.logout, lambda: engine.wipe("ann")):
            with engine.write() as db:
                db["looks"].upsert({"name": "font", "value": "big"}, pk="name")
                with pytest.raises(CalledFromInside):
                    call()
        assert engine.status().user == "ann"


def test_a_listener_of_a_round_cannot_switch_and_the_round_goes_on(tmp_path, cloud):
    raised = []

    def hear(event):
        if isinstance(event, RoundStarted):
            with pytest.raises(CalledFromInside) as error:
                engine.switch_user("bob")
            raised.append(error.value)

    with opened(tmp_path / "app", backend=Line(cloud, "ann"), listener=hear) as engine:
        add_notes(engine, "a1")
        assert engine.sync_now().applied == 1
        assert len(raised) == 1
        assert engine.status().user == "ann"


# Signing out.


def test_signing_out_with_unsent_changes_is_refused_with_their_number(tmp_path):
    with opened(tmp_path) as engine:
        add_notes(engine, "a1", "a2")
        before = rows_of(engine, "ann")
        with pytest.raises(UnsentChanges) as refused:
            engine.logout()
        oldest = engine._store.query("SELECT min(since) FROM sync_outbox")[0][0]
        assert (refused.value.count, refused.value.oldest_at) == (2, oldest)
        assert engine.status().user == "ann"
        assert rows_of(engine, "ann") == before


def test_a_row_that_was_never_queued_counts_as_unsent(tmp_path):
    with opened(tmp_path) as engine:
        with engine._store.without_triggers():
            add_notes(engine, "a1")
        with pytest.raises(UnsentChanges) as refused:
            engine.logout()
        assert refused.value.count == 1


def test_a_row_whose_put_waits_in_quarantine_counts_once_and_is_exported_once(tmp_path):
    path = tmp_path / "left.jsonl"
    with opened(tmp_path / "app") as engine:
        add_notes(engine, "a1", "a2", text="as written")
        _move_puts_aside(engine)
        with engine._store.without_triggers():
            add_notes(engine, "a3", text="never queued")
        with pytest.raises(UnsentChanges) as refused:
            engine.logout()
        assert (refused.value.count, refused.value.why.split(";")[:2]) == (
            3,
            ["not sent yet: 1", " in quarantine: 2"],
        )
        assert engine.logout(unsent="export", export_to=path).unsent.count == 3
    _, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["what"], line["key"]) for line in lines] == [
        ("quarantined", "a1"),
        ("quarantined", "a2"),
        ("row", "a3"),
    ]
    assert json.loads(lines[0]["body"])["set"]["text"] == "as written"


def test_a_put_in_quarantine_that_names_only_its_row_is_exported_with_the_row(tmp_path):
    path = tmp_path / "left.jsonl"
    with opened(tmp_path / "app") as engine:
        with engine._store.without_triggers():
            add_notes(engine, "a1", text="never queued")
        engine.reconcile()
        _move_puts_aside(engine)
        assert engine.logout(unsent="export", export_to=path).unsent.count == 1
    _, line = [json.loads(line) for line in path.read_text().splitlines()]
    assert (line["what"], line["row"]) == ("quarantined", {"id": "a1", "text": "never queued"})


def test_a_row_counts_beside_what_lies_in_quarantine_where_that_is_not_its_put(tmp_path):
    with opened(tmp_path / "app") as engine:
        add_notes(engine, "a1")
        _move_puts_aside(engine)
        with engine._store.transaction():
            engine._store.query("UPDATE _sync_quarantine SET resolution = 'discarded', resolved_at = 'now'")
        assert _unsent(engine) == (0, 0, 1)
        with engine._store.transaction():
            engine._store.query(
                "UPDATE _sync_quarantine SET resolution = NULL, resolved_at = NULL,"
                " body = json_set(body, '$.kind', 'patch')"
            )
        assert _unsent(engine) == (0, 1, 1)


def _unsent(engine):
    found = unsent_of(engine._store, "ann")
    return found.changes, found.quarantined, found.rows


def _move_puts_aside(engine):
    store = engine._store
    with store.transaction():
        file_entries(store)
        for (number,) in store.query("SELECT entry_id FROM _sync_outbox ORDER BY entry_id"):
            entry = entry_of(store.row("outbox", "entry", entry_id=number))
            set_aside(store, entry, event=Event.UNREADABLE, error_code="row_too_large", error_text="why")


@pytest.mark.parametrize("millis", [0, 1, 123, 999])
def test_everybody_is_shown_the_time_of_an_entry_as_the_same_date(tmp_path, millis):
    date = f"2025-01-01T00:00:00.{millis:03}Z"
    with opened(tmp_path) as engine:
        add_notes(engine, "a1")
        store, number = engine._store, engine.last_entries()[0]
        with store.transaction():
            store.query("UPDATE _sync_outbox SET created_ms = ?", (1_735_689_600_000 + millis,))
        with pytest.raises(UnsentChanges) as refused:
            engine.logout()
        [waiting] = engine.export_diagnostics()["outbox"]
        with store.transaction():
            item_id = store.value(
                "quarantine", "set_aside", entry_id=number, error_code="x", error_text="x", now="now"
            )
        [(set_aside,)] = store.query(
            "SELECT json_extract(body, '$.created_at') FROM _sync_quarantine WHERE item_id = ?", (item_id,)
        )
        shown = {
            "refused": refused.value.oldest_at,
            "status": engine.status().outbox.oldest_at,
            "outbox": Outbox(store).oldest_at(),
            "receipt": engine.receipt(number).since,
            "diagnostics": waiting["oldest_at"],
            "command": store.row("looks", "queue", user=None)[3],
            "set aside": set_aside,
            "view of entries": store.query("SELECT since FROM sync_outbox")[0][0],
            "view of all": store.query("SELECT oldest_waiting FROM sync_status")[0][0],
        }
        engine.logout(unsent="export", export_to=tmp_path / "left.jsonl")
    left = [json.loads(line) for line in (tmp_path / "left.jsonl").read_text().splitlines()]
    shown["export"] = next(each["written_at"] for each in left if each["what"] == "change")
    assert shown == dict.fromkeys(shown, date)


def test_rows_without_a_key_count_as_unsent_and_are_exported_before_they_go(tmp_path):
    loose = tables(
        id="loose",
        from_version="1.0.0",
        to_version="2.0.0",
        create=("CREATE TABLE notes (user_id TEXT, id TEXT, v)",),
    )
    registry = MigrationRegistry(
        app="loose",
        baseline="1.0.0",
        target="2.0.0",
        collections=(Collection("notes", owner="user_id"),),
        migrations=(ListedMigration("loose", "1.0.0 > 2.0.0", loose),),
    )
    with opened(tmp_path, registry=registry) as engine:
        with engine.write() as db:
            db["notes"].insert_all([{"user_id": "ann", "id": None, "v": value} for value in ("a", 2)])
            db["notes"].insert({"user_id": "bob", "id": None, "v": "of bob"})
        with pytest.raises(UnsentChanges) as refused:
            engine.logout()
        assert refused.value.count == 2
        path = tmp_path / "left.jsonl"
        assert engine.wipe("ann", unsent="export", export_to=path).unsent.rows == 2
        _, *records = map(json.loads, path.read_text().splitlines())
        nothing = {"$null": "NULL"}
        assert [(record["what"], record["key"], record["row"]) for record in records] == [
            ("row", None, {"id": nothing, "v": {"$text": b"a".hex()}}),
            ("row", None, {"id": nothing, "v": {"$integer": "2"}}),
        ]
        assert engine._store.query("SELECT v FROM notes") == [("of bob",)]


def test_who_has_sent_everything_signs_out_and_nothing_goes(tmp_path, cloud):
    with opened(tmp_path / "app", backend=Line(cloud, "ann")) as engine:
        add_notes(engine, "a1")
        engine.sync_now()
        before = rows_of(engine, "ann")
        report = engine.logout()
        assert (report.became, report.unsent.count) == ("nothing", 0)
        assert engine.status().user is None
        assert rows_of(engine, "ann") == before
        with pytest.raises(AuthRequired):
            engine.logout()


@pytest.mark.parametrize("unsent", ["export", "destroy"])
def test_who_has_sent_everything_leaves_no_row_where_that_is_asked_for(tmp_path, cloud, unsent):
    with opened(tmp_path / "app", backend=Line(cloud, "ann"), clock=(clock := MovableClock())) as engine:
        add_notes(engine, "a1")
        engine.sync_now()
        file = {"export_to": tmp_path / "left.jsonl"} if unsent == "export" else {}
        report = engine.logout(unsent=unsent, **file)
        assert (report.became, report.unsent.count, report.exported_to) == (
            "nothing",
            0,
            str(file["export_to"]) if file else None,
        )
        assert set(rows_of(engine, "ann")) == {"_sync_drain"}
        assert all(path.is_file() for path in file.values())
        clock.wall_ms += 3_600_000
        engine.switch_user("ann")
        engine.sync_now()
        assert engine._store.query("SELECT id FROM notes WHERE user_id = 'ann'") == [("a1",)]


def test_what_is_kept_is_sent_after_the_next_sign_in(tmp_path, cloud):
    with opened(tmp_path / "app", backend=Line(cloud, "ann")) as engine:
        add_notes(engine, "a1")
        assert engine.logout(unsent="keep").became == "kept"
        with pytest.raises(AuthRequired):
            engine.sync_now()
        engine.switch_user("ann")
        assert engine.sync_now().applied == 1


@pytest.mark.parametrize("unsent", ["export", "destroy"])
def test_what_was_given_up_is_gone_and_the_next_sign_in_has_what_the_cloud_has(tmp_path, cloud, unsent):
    clock = MovableClock()
    line = Line(cloud, "ann")
    with opened(tmp_path / "app", backend=line, clock=clock) as engine:
        add_notes(engine, "sent", tagged=True)
        add_notes(engine, "other", owner="bob", tagged=True)
        engine.sync_now()
        line.lost_answers = 1
        add_notes(engine, "claimed")
        with pytest.raises(BackendUnreachable):
            engine.sync_now()
        add_notes(engine, "unsent", tagged=True)
        of_bob = rows_of(engine, "bob")
        file = {"export_to": tmp_path / "left.jsonl"} if unsent == "export" else {}
        report = engine.logout(unsent=unsent, **file)
        assert (report.became, report.unsent.count) == ({"export": "exported", "destroy": "destroyed"}[unsent], 3)
        assert set(rows_of(engine, "ann")) == {"_sync_drain"}
        assert rows_of(engine, "bob") == of_bob
        clock.wall_ms += 3_600_000
        engine.switch_user("ann")
        engine.sync_now()
        found = engine._store.query("SELECT id FROM notes WHERE user_id = 'ann' ORDER BY id")
        assert found == [("claimed",), ("sent",)]  # the cloud had taken the one whose answer was lost
        add_notes(engine, "new")
        assert engine.sync_now().applied == 1
        assert sorted(row.key for row in cloud.rows(UserId("ann"), rows(user="ann", collection="notes")).rows) == [
            "claimed",
            "new",
            "sent",
        ]


def test_the_exported_file_holds_all_of_it_and_only_its_owner_can_read_it(tmp_path):
    path = tmp_path / "left.jsonl"
    with opened(tmp_path / "app") as engine:
        add_notes(engine, "a1", text="first ☕\nline")
        with engine.write() as db:
            db.execute("UPDATE notes SET text = 'second'")
        with engine._store.without_triggers():
            add_notes(engine, "a3", text="never queued")
            add_notes(engine, "a4", text="nul \0 inside")
        with engine._store.transaction():
            engine._store.query(
                "INSERT INTO _sync_quarantine (origin, owner, collection, row_key, body, error_code, error_text,"
                " created_at) VALUES ('migration', 'ann', 'notes', 'q1', 'no JSON {', 'shape_invalid', 'why', 'now')"
            )
            engine._store.query(
                "INSERT INTO _sync_parked (owner, collection, row_key, version, shape_version, reason, body,"
                " parked_at) VALUES ('ann', 'notes', 'p1', 4, '9.0.0', 'newer_shape', '{\"text\": \"later\"}', 'now')"
            )
        report = engine.logout(unsent="export", export_to=path)
    assert report.exported_to == str(path)
    assert os.stat(path).st_mode & 0o777 == 0o600
    first, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert (first["what"], first["user"], first["app"]) == ("export", "ann", "users")
    by_kind = defaultdict(list)
    for line in lines:
        by_kind[line["what"]].append(line)
    assert [(line["kind"], line["set"]) for line in by_kind["change"]] == [
        ("put", {"id": "a1", "text": "first ☕\nline"}),
        ("patch", {"text": "second"}),
    ]
    assert by_kind["change"][1]["before"] == {"text": "first ☕\nline"}
    assert [(line["key"], line["body"]) for line in by_kind["quarantined"]] == [("q1", "no JSON {")]
    assert [(line["key"], line["body"]) for line in by_kind["parked"]] == [("p1", {"text": "later"})]
    assert {line["key"]: line["row"] for line in by_kind["row"]} == {
        "a3": {"id": "a3", "text": "never queued"},
        "a4": {"id": {"$text": "6134"}, "text": {"$text": b"nul \0 inside".hex().upper()}},
    }


def test_a_file_that_is_there_is_not_written_over_and_nothing_goes(tmp_path):
    path = tmp_path / "left.jsonl"
    path.write_text("somebody's")
    with opened(tmp_path / "app") as engine:
        add_notes(engine, "a1")
        before = rows_of(engine, "ann")
        with pytest.raises(ExportImpossible):
            engine.logout(unsent="export", export_to=path)
        assert path.read_text() == "somebody's"
        assert (rows_of(engine, "ann"), engine.status().user) == (before, "ann")


def test_who_could_not_be_signed_out_goes_on_syncing(tmp_path, cloud):
    line = Line(cloud, "ann")
    line.down = BackendUnreachable("No route.")
    (tmp_path / "left.jsonl").touch()
    with opened(tmp_path / "app", backend=line) as engine:
        engine.start()
        add_notes(engine, "a1")
        with pytest.raises(ExportImpossible):
            engine.logout(unsent="export", export_to=tmp_path / "left.jsonl")
        assert engine.status().sync.activity == "running"


def test_numbers_that_were_given_and_never_arrived_are_not_missed_after_their_entries_were_destroyed(tmp_path, cloud):
    line = Line(cloud, "ann")
    with opened(tmp_path / "app", backend=line, clock=MovableClock()) as engine:
        add_notes(engine, "sent")
        engine.sync_now()
        line.refuses = lambda request: BackendUnreachable("Cut before it arrived.")
        add_notes(engine, "claimed")
        with pytest.raises(BackendUnreachable):
            engine.sync_now()
        line.refuses = lambda request: None
        engine.logout(unsent="destroy")
        engine.switch_user("ann")
        add_notes(engine, "new")
        pushes = len(line.pushed)
        assert engine.sync_now().applied == 1
        assert [(entry.key, entry.sequence) for request in line.pushed[pushes:] for entry in request.entries] == [
            ("new", 1)
        ]


@pytest.mark.parametrize("leaves", ["logout", "wipe"])
def test_a_push_that_comes_late_has_no_effect_after_what_it_holds_was_destroyed(tmp_path, cloud, leaves):
    line = Line(cloud, "ann")
    with opened(tmp_path / "app", backend=line, clock=MovableClock()) as engine:
        add_notes(engine, "a", text="sent")
        engine.sync_now()
        line.refuses = lambda request: BackendUnreachable("It is on its way for long.")
        with engine.write() as db:
            db["notes"].update(("ann", "a"), {"text": "destroyed"})
        with pytest.raises(BackendUnreachable):
            engine.sync_now()
        late = line.pushed[-1]
        line.refuses = lambda request: None
        if leaves == "logout":
            engine.logout(unsent="destroy")
        else:
            engine.logout(unsent="keep")
            engine.wipe("ann", unsent="destroy")
        engine.switch_user("ann")
        engine.migrate()
        engine.sync_now()
        with engine.write() as db:
            db["notes"].update(("ann", "a"), {"text": "new"})
        engine.sync_now()
        assert [result.status for result in cloud.push(UserId("ann"), late).results] == ["reused"]
        engine.sync_now()
        assert engine._store.query("SELECT id, text FROM notes WHERE user_id = 'ann'") == [("a", "new")]


def test_another_user_of_a_device_from_which_one_was_wiped_is_not_kept_from_sending(tmp_path, cloud):
    line = Line(cloud, "bob")
    with opened(tmp_path / "app", backend=line, clock=MovableClock()) as engine:
        add_notes(engine, "a", owner="bob")
        engine.wipe("ann", unsent="destroy")
        engine.switch_user("bob")
        engine.migrate()
        assert engine.sync_now().applied == 1


@pytest.mark.parametrize("byte", [b"\xff", b"X"], ids=["no JSON any more", "another word"])
def test_a_disk_that_gives_back_something_else_stops_it_before_anything_goes(tmp_path, monkeypatch, byte):
    """The file is read back: here the write of one byte goes wrong."""
    with opened(tmp_path / "app") as engine:
        add_notes(engine, "a1")
        before = rows_of(engine, "ann")
        real_fsync = os.fsync

        def spoil(descriptor):
            written = os.pread(descriptor, 10_000, 0)
            os.pwrite(descriptor, byte, written.index(b'"text":"text"') + 8)
            real_fsync(descriptor)

        monkeypatch.setattr(os, "fsync", spoil)
        with pytest.raises(ExportImpossible):
            engine.logout(unsent="export", export_to=tmp_path / "left.jsonl")
        monkeypatch.undo()
        assert not (tmp_path / "left.jsonl").exists()
        assert (rows_of(engine, "ann"), engine.status().user) == (before, "ann")


@pytest.mark.parametrize(
    "words", [{"unsent": "yes"}, {"unsent": "export"}, {"unsent": "destroy", "export_to": "file"}, {"unsent": ""}]
)
def test_words_that_are_none_destroy_nothing(tmp_path, words):
    with opened(tmp_path / "app") as engine:
        add_notes(engine, "a1")
        before = rows_of(engine, "ann")
        with pytest.raises(ValueError, match="unsent"):
            engine.logout(**words)
        assert (rows_of(engine, "ann"), engine.status().user) == (before, "ann")


def test_nothing_is_destroyed_while_a_call_may_still_bring_something(tmp_path, cloud):
    line = SlowLine(cloud, "ann")
    with opened(tmp_path / "app", backend=line, settings=Settings(close_wait_ms_max=50)) as engine:
        add_notes(engine, "a1")
        engine.start()
        assert line.called.wait(20)
        before = queue_of(engine, "ann")
        try:
            with pytest.raises(StoreBusy):
                engine.logout(unsent="destroy")
            assert (queue_of(engine, "ann"), engine.status().user) == (before, "ann")
        finally:
            line.go.set()
