"""What was set aside of one user never becomes a row of another; what cannot be decided now says so."""

import json

import pytest
from imports import ImportExecutor, JourneyV2, JourneyV3, make_v2, seconds_v3, upload_walks, walk, write_phone
from migrate_world import dump, quiet_write, registry_of

from syncengine import Engine, Quarantine, Settings, migration
from syncengine.errors import MigrationInvalid, QuarantineEditRefused, StoreBusy
from syncengine.outbox.entry import Result
from syncengine.outbox.queue import Outbox

SECRET = "the harbour at night"


def takes_all(old: JourneyV2) -> JourneyV3:
    return JourneyV3(user_id=old.user_id, id=old.id, seconds=round(old.minutes * 60), title=old.title)


def refuses_thirteen(old: JourneyV2) -> JourneyV3:
    if old.minutes == 13:
        raise Quarantine("thirteen minutes", field="minutes")
    return takes_all(old)


def at_three(path, function=refuses_thirteen, *, user="ann", **facts):
    registry = registry_of(make_v2(), seconds_v3(function, **facts), target="3.0.0")
    return Engine.open(path, registry=registry, user=user, settings=Settings(retry_quarantined=False))


@pytest.fixture
def path(tmp_path):
    """ann's journey b lies in quarantine; bob has one at c."""
    path = tmp_path / "app.db"
    with Engine.open(path, registry=registry_of(make_v2(), target="2.0.0")) as engine:
        engine.migrate()
        with quiet_write(engine) as db:
            rows = [("ann", "b", 13.0, SECRET), ("bob", "c", 2.0, None)]
            db.conn.executemany("INSERT INTO journeys VALUES (?, ?, ?, ?)", rows)
    with at_three(path) as engine:
        assert engine.migrate().quarantined == 1
    return path


def body_of(**changes):
    return json.dumps({"user_id": "ann", "id": "b", "minutes": 12.0, "title": SECRET, **changes})


def rewrite_body(engine, body, *, owner="ann"):
    """As a tool would do it that does not ask the desk."""
    with engine._store.transaction():
        engine._store.query("UPDATE _sync_quarantine SET body = ?, owner = ? WHERE item_id = 1", (body, owner))


@pytest.mark.parametrize("user", ["ann", None])
@pytest.mark.parametrize("owner", ["bob", "carol", None, 5, ""])
def test_no_edit_gives_a_row_to_another_user(path, user, owner):
    with at_three(path, user=user) as engine:
        before = dump(engine._store)
        with pytest.raises(QuarantineEditRefused) as refused:
            engine.quarantine.edit(1, body_of(user_id=owner))
        assert refused.value.field == "user_id"
        assert dump(engine._store) == before


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_key_that_is_there_twice_is_refused_whichever_a_reader_would_take(path, place):
    with at_three(path) as engine:
        body = body_of()
        doubled = '{"user_id": "bob", ' + body[1:] if place == "first" else body[:-1] + ', "user_id": "bob"}'
        with pytest.raises(QuarantineEditRefused, match="a key twice"):
            engine.quarantine.edit(1, doubled)


@pytest.mark.parametrize("user", ["ann", None])
def test_a_row_that_would_become_another_users_stays_in_quarantine(path, user):
    with at_three(path, takes_all, user=user) as engine:
        rewrite_body(engine, body_of(user_id="bob"))
        before = dump(engine._store, without=("_sync_quarantine",))
        outcome = engine.quarantine.retry(1)
        assert (outcome.resolved, outcome.why) == (False, "it would become a row of another user")
        assert dump(engine._store, without=("_sync_quarantine",)) == before


def test_code_that_makes_another_users_row_of_it_is_refused_too(path):
    def gives_away(old: JourneyV2) -> JourneyV3:
        return takes_all(old).model_copy(update={"user_id": "bob"})

    with at_three(path, gives_away) as engine:
        assert not engine.quarantine.retry(1).resolved
        assert engine._store.query("SELECT user_id, id FROM journeys") == [("bob", "c")]


@pytest.mark.parametrize(
    ("user", "why"),
    [
        ("ann", None),
        ("bob", "it would become a row of another user"),
        (None, "it belongs to nobody: name the user who gets it"),
    ],
)
def test_what_belongs_to_nobody_may_only_be_given_to_the_user_who_is_named(path, user, why):
    with at_three(path, takes_all, user=user) as engine:
        rewrite_body(engine, body_of(), owner=None)
        if why is None:
            engine.quarantine.edit(1, body_of(title="two"))
        else:
            with pytest.raises(QuarantineEditRefused):
                engine.quarantine.edit(1, body_of(title="two"))
        assert engine.quarantine.retry(1).why == why
        assert engine._store.query("SELECT id FROM journeys WHERE user_id = 'ann'") == [("b",)] * (why is None)


def test_an_entry_of_the_outbox_stays_its_owners_too(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [walk(1, title=SECRET)])
    registry = registry_of(make_v2(), ImportExecutor(), upload_walks(), target="2.0.0")
    sources = {"phone": str(phone)}
    with Engine.open(tmp_path / "app.db", registry=registry, user="ann", sources=sources) as engine:
        engine.migrate()
        outbox = Outbox(engine._store)
        batch = outbox.claim("ann", entries_max=10, bytes_max=10_000)
        refused = [Result(sequence=entry.sequence, status="rejected", code="no") for entry in batch.entries]
        outbox.confirm(batch, refused)
        body = json.loads(engine.quarantine.item(1).body)
        body["set"]["user_id"] = "bob"
        with pytest.raises(QuarantineEditRefused) as error:
            engine.quarantine.edit(1, json.dumps(body))
        assert error.value.field == "user_id"


def test_while_its_collection_is_being_rewritten_an_item_is_busy_and_no_attempt_is_counted(path):
    def pauses(old: JourneyV3) -> JourneyV3:
        if not paused:
            paused.append(engine.migrations.pause())
        return old

    paused = []
    versions = {"from_version": "3.0.0", "to_version": "4.0.0"}
    again = migration(id="again", collection="journeys", shadow=True, **versions)(pauses)
    registry = registry_of(make_v2(), seconds_v3(takes_all), again, target="4.0.0")
    settings = Settings(retry_quarantined=False)
    with Engine.open(path, registry=registry, settings=settings) as engine:
        assert engine.migrate().paused
        for call in (engine.quarantine.retry, lambda item: engine.quarantine.edit(item, body_of())):
            with pytest.raises(StoreBusy, match="being rewritten"):
                call(1)
        assert (engine.quarantine.item(1).attempts, engine.quarantine.item(1).edited) == (1, False)
        engine.migrations.resume()
        assert engine.migrate().success
        assert engine.quarantine.retry(1).resolved


def test_what_is_no_text_is_refused_by_its_own_errors(path):
    with at_three(path) as engine:
        with pytest.raises(QuarantineEditRefused, match="no text"):
            engine.quarantine.edit(1, body_of().encode())
        with pytest.raises(MigrationInvalid):
            engine.quarantine.discard(1, reason=None)
