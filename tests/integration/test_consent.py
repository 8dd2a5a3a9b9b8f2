"""A major version asks before it changes or imports what is there; with nobody to ask it waits."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from flow_world import FOUR, THREE, TWO, column, columns, filled, history, registry
from imports import ImportExecutor, make_v2, seconds_v3, upload_walks, walk, write_phone
from migrate_world import registry_of

from syncengine import Engine, MigrationDefinition, add, declared, migration, upload
from syncengine.errors import CalledFromInside, MigrationInvalid
from syncengine.events import MigrationDeferred, PromptAnswered, PromptShown


def asking(*steps, **facts):
    return registry(*steps, asks_for_major=True, **facts)


class Person:
    """Answers what is asked of them, and remembers it."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def __call__(self, request):
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_store_without_rows_is_migrated_unasked(tmp_path):
    person = Person()
    with Engine.open(tmp_path / "app.db", registry=asking(column("c")), consent=person) as engine:
        assert engine.migrate().success
        assert columns(engine) == ["c"]
    assert person.asked == []


def test_a_migration_without_a_description_is_no_bare_id_in_the_question(tmp_path):
    with Engine.open(filled(tmp_path / "app.db"), registry=asking(column("c")), consent=Person(False)) as engine:
        asked = str(engine.migrations.consent_needed())
    assert "    changed by migration c, which does not say how" in asked.splitlines()


def test_an_upload_is_said_to_send_rows_and_not_to_change_them(tmp_path):
    steps = [column("c"), upload(id="up", collections=("notes",), consent="ask", **THREE)]
    with Engine.open(
        filled(tmp_path / "app.db"), registry=asking(*steps), consent=Person(False), user="ann"
    ) as engine:
        asked = str(engine.migrations.consent_needed("ann")).splitlines()
    assert "    sent to the cloud by migration up" in asked
    assert not any("migration up, which does not say how" in line for line in asked)


def test_a_major_version_asks_once_before_anything_is_run_and_says_what_becomes_of_what(tmp_path):
    path = filled(tmp_path / "app.db")
    steps = [
        column("c", title="A column", description="Notes get a c"),
        column("d", title="Another", **FOUR),
    ]
    person = Person(True)
    with Engine.open(path, registry=asking(*steps, target="4.0.0"), consent=person) as engine:
        before = history(engine)
        person.answers = [True]
        engine._consent = lambda request: history(engine) == before and person(request)
        assert engine.migrate().success
        assert columns(engine) == ["c", "d"]
    [request] = person.asked
    [preview] = request.preview
    assert (preview.collection, preview.rows) == ("notes", 3)
    assert preview.changes == ("Notes get a c", "Another")
    assert [str(hop) for hop in request.hops] == ["2.0.0 > 3.0.0", "3.0.0 > 4.0.0"]
    assert request.restore_point  # a table is rebuilt, and there are rows
    assert request.estimate_ms is None  # nothing has been migrated here from which one could tell
    assert "notes: 3 rows" in str(request)
    assert json.loads(json.dumps(request.to_json()))["preview"][0]["rows"] == 3


@pytest.mark.parametrize("minor", ["2.1.0", "2.0.1"])
def test_minor_and_patch_versions_ask_nobody(tmp_path, minor):
    path = filled(tmp_path / "app.db")
    step = column("c", from_version="2.0.0", to_version=minor)
    with Engine.open(path, registry=asking(step, target=minor), consent=Person()) as engine:
        assert engine.migrate().success


def test_one_migration_may_ask_in_a_minor_version_and_another_not_in_a_major_one(tmp_path):
    path, minor = filled(tmp_path / "app.db"), {"from_version": "2.0.0", "to_version": "2.1.0"}
    unasked, asked = column("c", consent="auto"), column("d", consent="ask", **minor)
    with Engine.open(path, registry=asking(asked, target="2.1.0"), consent=(person := Person(False))) as engine:
        assert [deferred.migration_id for deferred in engine.migrate().deferred] == ["d"]
    with Engine.open(path, registry=asking(unasked), consent=person) as engine:
        assert engine.migrate().success
    assert len(person.asked) == 1


def test_an_app_may_switch_the_rule_for_major_versions_off(tmp_path):
    path = filled(tmp_path / "app.db")
    with Engine.open(path, registry=registry(column("c"), asks_for_major=False)) as engine:
        assert engine.migrate().success


def test_with_nobody_to_ask_the_major_version_waits_and_what_comes_before_it_runs(tmp_path):
    path = filled(tmp_path / "app.db")
    steps = [
        column("minor", from_version="2.0.0", to_version="2.1.0"),
        column("major", from_version="2.1.0", to_version="3.0.0"),
        column("later", from_version="3.0.0", to_version="3.1.0"),
    ]
    with Engine.open(path, registry=asking(*steps, target="3.1.0")) as engine:
        report = engine.migrate()
        assert [result.migration_id for result in report.results] == ["minor"]
        assert [deferred.migration_id for deferred in report.deferred] == ["major", "later"]
        assert "nobody to ask" in report.deferred[0].reason
        assert not report.success
        assert engine.migrations.get_current_schema_version() == "2.1.0"
        state = engine.status().collections
        assert (state["notes"].state, state["places"].state) == ("blocked", "usable")
        assert "consent=" in state["notes"].fix


def test_who_declines_is_asked_again_at_the_next_migrate_and_may_agree(tmp_path):
    path = filled(tmp_path / "app.db")
    person, told = Person(False, True), []
    with Engine.open(path, registry=asking(column("c")), consent=person, analytics=told.append) as engine:
        declined = engine.migrate()
        assert [deferred.reason for deferred in declined.deferred] == ["the user declined"]
        assert (declined.results, columns(engine)) == ((), [])
        assert engine.migrate().success
        assert columns(engine) == ["c"]
        assert engine.migrate() is None
    kinds = [event for event in told if isinstance(event, PromptShown | PromptAnswered | MigrationDeferred)]
    shown = PromptShown(from_version="2.0.0", to_version="3.0.0")
    assert (kinds[0], kinds[1].accepted, kinds[2]) == (shown, False, MigrationDeferred(migration="c"))
    assert (kinds[3], kinds[4].accepted) == (shown, True)


@pytest.mark.parametrize("answer", [RuntimeError("a secret"), None, 1, "yes"])
def test_only_true_is_a_yes_and_what_the_callback_raises_is_none(tmp_path, answer, caplog):
    path = filled(tmp_path / "app.db")
    with Engine.open(path, registry=asking(column("c")), consent=Person(answer)) as engine:
        assert [deferred.migration_id for deferred in engine.migrate().deferred] == ["c"]
        assert columns(engine) == []
    assert "secret" not in caplog.text


def test_a_coroutine_has_asked_nobody_and_the_reason_says_where_to_look(tmp_path):
    async def ask(request):
        return True

    with Engine.open(filled(tmp_path / "app.db"), registry=asking(column("c")), consent=ask) as engine:
        assert "syncengine.callbacks" in engine.migrate().deferred[0].reason
        assert columns(engine) == []


def test_a_hop_that_was_begun_with_consent_is_finished_without_a_second_question(tmp_path):
    path = filled(tmp_path / "app.db")
    bad = column("bad")
    bad.verify = lambda work: 1 / 0
    person = Person(True)
    with Engine.open(path, registry=asking(column("c"), bad), consent=person) as engine:
        assert not engine.migrate().success
        bad.verify = lambda work: None
        assert engine.migrate().success
    assert len(person.asked) == 1


def broken(name="bad", **facts):
    bad = column(name, **facts)
    bad.verify = lambda work: 1 / 0
    return bad


def unchanged(old: dict) -> dict:
    return old


def test_a_yes_does_not_stand_for_a_migration_that_was_not_shown(tmp_path):
    path, person = filled(tmp_path / "app.db"), Person(True, False)
    bad, same = (migration(id=name, collection="notes", **THREE)(unchanged) for name in ("bad", "same"))
    bad.verify = lambda work: 1 / 0
    with Engine.open(path, registry=asking(column("c"), bad), consent=person) as engine:
        engine.migrate()
        assert columns(engine) == ["c"]
    with Engine.open(path, registry=asking(column("c"), bad, same), consent=person) as engine:
        assert [deferred.migration_id for deferred in engine.migrate().deferred] == ["bad", "same"]
    assert len(person.asked) == 2


def test_a_yes_does_not_stand_for_other_code_of_the_same_migration(tmp_path):
    path, person = filled(tmp_path / "app.db"), Person(True, False)
    with Engine.open(path, registry=asking(broken()), consent=person) as engine:
        engine.migrate()
    other = declared(id="bad", collection="notes", changes=(add("bad", "TEXT", default="other"),), **THREE)
    with Engine.open(path, registry=asking(other), consent=person) as engine:
        assert [deferred.migration_id for deferred in engine.migrate().deferred] == ["bad"]
    assert len(person.asked) == 2


def test_after_something_was_taken_back_an_earlier_yes_stands_for_nothing(tmp_path):
    path, person = filled(tmp_path / "app.db"), Person(True, False)
    with Engine.open(path, registry=asking(column("c"), broken()), user="ann", consent=person) as engine:
        engine.migrate()
        assert engine.migrations.rollback("c", "ann").success
        assert [deferred.migration_id for deferred in engine.migrate().deferred] == ["bad"]
    assert len(person.asked) == 2


@pytest.mark.parametrize("shadow", [False, True])
def test_rows_that_come_while_nobody_was_asked_about_them_are_not_changed_unasked(tmp_path, shadow):
    """The table was empty when the question was decided, and another process wrote before the run got there."""
    path, minor = filled(tmp_path / "app.db"), {"from_version": "2.0.0", "to_version": "2.1.0"}
    places = migration(id="places", collection="places", consent="ask", shadow=shadow, **minor)(unchanged)
    steps = [places, column("c", **{**THREE, "from_version": "2.1.0"})]
    person = Person(True, False, True)

    def writes_beside(request):
        insert = "INSERT OR IGNORE INTO places VALUES ('ann', 'late')"
        code = f"import sqlite3; other = sqlite3.connect({str(path)!r}); other.execute({insert!r}); other.commit()"
        subprocess.run([sys.executable, "-c", code], check=True)
        return person(request)

    with Engine.open(path, registry=asking(*steps), consent=writes_beside) as engine:
        report = engine.migrate()
        assert [deferred.migration_id for deferred in report.deferred] == ["places", "c"]
        assert "nobody has agreed" in report.deferred[0].reason
        assert (report.results, columns(engine)) == ((), [])
        assert engine.migrate().deferred[0].reason == "the user declined"
        assert engine.migrate().success
    began = [str(request.hops[0]) for request in person.asked]
    assert began == ["2.1.0 > 3.0.0", "2.0.0 > 2.1.0", "2.0.0 > 2.1.0"]


def test_rows_that_the_path_itself_brings_into_an_empty_store_are_no_question(tmp_path):
    def seeds(work):
        work.db["notes"].insert({"user_id": "ann", "id": "welcome"})

    seeding, person = column("seeded", from_version="2.0.0", to_version="2.1.0"), Person()
    seeding.verify = seeds
    steps = [seeding, column("c", **{**THREE, "from_version": "2.1.0"})]
    with Engine.open(tmp_path / "app.db", registry=asking(*steps), consent=person) as engine:
        assert engine.migrate().success
        assert engine._store.query("SELECT id, c FROM notes") == [("welcome", "x")]
    assert person.asked == []


def test_a_consent_callback_that_migrates_is_told_so_and_its_question_is_asked_once(tmp_path):
    told = []

    def migrates(request):
        with pytest.raises(CalledFromInside, match="being asked") as refused:
            engine.migrate()
        told.append(refused.value)
        return True

    with Engine.open(filled(tmp_path / "app.db"), registry=asking(column("c")), consent=migrates) as engine:
        assert engine.migrate().success
    assert len(told) == 1


def phone_registry(**facts):
    steps = [make_v2(), ImportExecutor(), upload_walks(), seconds_v3()]
    return registry_of(*steps, target="3.0.0", asks_for_major=True, **facts)


def test_an_import_asks_where_its_source_is_given_and_the_rows_it_brings_count_for_later_steps(tmp_path):
    phone, person = write_phone(tmp_path / "phone.json", [walk(1)]), Person(False)
    given = {"registry": phone_registry(), "user": "ann", "consent": person}
    with Engine.open(tmp_path / "app.db", sources={"phone": str(phone)}, **given) as engine:
        report = engine.migrate()
        assert report.results == ()
        assert [deferred.migration_id for deferred in report.deferred][:2] == ["tables-v2", "import-walks"]
    [request] = person.asked
    assert request.preview[0].imports_from == ("phone",)
    with Engine.open(tmp_path / "without.db", **given) as engine:
        assert engine.migrate().success
    assert len(person.asked) == 1


def test_rows_that_an_unasked_import_brings_in_are_asked_about_before_a_later_major_version_changes_them(tmp_path):
    class Unasked(ImportExecutor):
        definition = replace(ImportExecutor.definition, consent="auto")

    phone, person = write_phone(tmp_path / "phone.json", [walk(1)]), Person(False)
    known = registry_of(make_v2(), Unasked(), seconds_v3(), target="3.0.0", asks_for_major=True)
    given = {"registry": known, "user": "ann", "sources": {"phone": str(phone)}, "consent": person}
    with Engine.open(tmp_path / "app.db", **given) as engine:
        report = engine.migrate()
        assert [result.migration_id for result in report.results] == ["tables-v2", "import-walks"]
        assert [deferred.migration_id for deferred in report.deferred] == ["seconds-v3"]
    assert [str(hop) for hop in person.asked[0].hops] == ["2.0.0 > 3.0.0"]


def test_two_users_are_asked_each_for_their_own_import(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [walk(1)])
    other = write_phone(tmp_path / "other.json", [walk(2)])
    given = {"registry": phone_registry(), "consent": (person := Person(True, False))}
    with Engine.open(tmp_path / "app.db", user="ann", sources={"phone": str(phone)}, **given) as engine:
        assert engine.migrate().success
    with Engine.open(tmp_path / "app.db", user="bob", sources={"phone": str(other)}, **given) as engine:
        report = engine.migrate()
        assert "import-walks" in [deferred.migration_id for deferred in report.deferred]
        # The shape is the store's, so bob's app works; his old walks come when he agrees.
        assert engine.status().collections["journeys"].state == "usable"
        with engine.read() as db:
            assert [row["user_id"] for row in db["journeys"].rows] == ["ann"]
    assert len(person.asked) == 2


def test_naming_one_migration_is_consent_to_it(tmp_path):
    path = filled(tmp_path / "app.db")
    with Engine.open(path, registry=asking(column("c"))) as engine:
        assert engine.migrations.run(only="c").success
        assert columns(engine) == ["c"]


def test_the_estimate_comes_from_the_speed_of_earlier_migrations(tmp_path):
    path = filled(tmp_path / "app.db")
    with Engine.open(path, registry=asking(column("c")), consent=(person := Person(False))) as engine:
        with engine._store.transaction():
            engine._store.query(
                "UPDATE _sync_run SET rows_read = 10000, rows_written = 10000, duration_ms = 20000"
                " WHERE migration = 'make'"
            )
        engine.migrate()
    assert person.asked[0].estimate_ms == 6  # three rows at 500 a second


@pytest.mark.parametrize("facts", [{"consent": "perhaps"}, {"when": "tomorrow"}])
def test_a_word_that_is_not_known_is_refused_where_it_is_written(facts):
    with pytest.raises(MigrationInvalid, match=next(iter(facts.values()))):
        MigrationDefinition(id="m", name="", description="", collections=(), **TWO, **facts)


def test_nothing_is_asked_of_a_plan_that_only_goes_as_far_as_a_minor_version(tmp_path):
    path, minor = filled(tmp_path / "app.db"), {"from_version": "2.0.0", "to_version": "2.1.0"}
    steps = [column("minor", **minor), column("major", **{**THREE, "from_version": "2.1.0"})]
    with Engine.open(path, registry=asking(*steps), consent=(person := Person())) as engine:
        assert engine.migrations.run(until="2.1.0").success
        assert columns(engine) == ["minor"]
        assert engine.migrations.consent_needed() is not None
        with pytest.raises(MigrationInvalid):
            engine.migrations.run(until="2.7.0")
    assert person.asked == []
