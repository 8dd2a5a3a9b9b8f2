"""The names of the design, called as a host calls them: service, registry, executor, reporter."""

from pathlib import Path

from migrations import REGISTRY, registry
from simulator.asyncstorage_writer import write_store
from syncengine import Engine, MigrationProgressReporter, SystemClock
from syncengine.migrate.definition import MigrationDefinition
from syncengine.migrate.work import WARNINGS_MAX, Work

WALKS = "journey-storage-v1-to-v2"


def test_the_service_and_its_executors_answer_to_the_names_of_the_design(tmp_path: Path) -> None:
    write_store(tmp_path / "legacy", kind="ios", walks=20, places=5, dismissed=2, seed=1)
    sources = {"asyncstorage": tmp_path / "legacy"}
    with Engine.open(
        tmp_path / "app.db", registry=REGISTRY, user="ann", sources=sources, consent=lambda request: True
    ) as engine:
        service = engine.migrations
        assert service.get_current_schema_version() == "1.0.0"
        assert not service.has_migrated("ann")
        assert service.check_and_handle_migration("ann").success
        assert service.has_migrated("ann")
        walks = service.executor(WALKS)
        assert walks.get_migration_metadata()["dataTypes"] == ["journeys"]
        assert walks.get_progress().percent == 100
        assert walks.execute("ann", {}).state == "already"
        checked = walks.validate("ann")
        assert checked.success
        assert checked.counts.read > 0
        assert service.update_schema_version("3.0.0", "ann") == "3.0.0"
    path = registry().get_migration_path("1.0.0", "3.0.0")
    assert [str(hop) for hop in path] == ["1.0.0 > 2.0.0", "2.0.0 > 3.0.0"]
    assert registry().get_migration_executor(WALKS).definition.critical


def test_a_sentence_for_the_user_reaches_the_listener() -> None:
    heard: list[object] = []
    reporter = MigrationProgressReporter(clock=SystemClock(), listener=heard.append)
    reporter.show_user_feedback("Your walks are being moved.", "info")
    assert [(event.message, event.type) for event in heard] == [("Your walks are being moved.", "info")]  # type: ignore[attr-defined]  # a MigrationMessage


def test_warnings_beyond_the_limit_are_counted_aloud() -> None:
    definition = MigrationDefinition(
        id="m", name="", description="", from_version="1.0.0", to_version="2.0.0", collections=()
    )
    work = Work(store=None, definition=definition, collections={}, user=None, now_ms=0)  # type: ignore[arg-type]  # no store is touched
    for number in range(WARNINGS_MAX + 3):
        work.warn("odd", row_key=str(number))
    assert len(work.all_warnings()) == WARNINGS_MAX + 1
    assert work.all_warnings()[-1] == "and 3 more warnings"
    before = work.warned
    work.warn("of a batch that is undone", row_key="x")
    work.forget_warnings(since=before)
    assert work.all_warnings()[-1] == "and 3 more warnings"
    work.forget_warnings(since=2)
    assert work.all_warnings() == ("0: odd", "1: odd")
