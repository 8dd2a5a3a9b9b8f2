"""Hero's Path goes back from 3.0.0 to 2.0.0 with a real library, is used there, and comes again."""

from pathlib import Path
from typing import Any

import pytest

import migrations
from syncengine import Engine

ROOT = Path(__file__).resolve().parents[2]
LEGACY = ROOT / "tests" / "data" / "asyncstorage" / "ios-library-2.2.0"
TABLES = ("journeys", "places", "dismissed_places", "profile", "preferences", "app_state")
STATUS_OF_THE_ENGINE = "migration_status"


def opened(path: Path, *, target: str, user: str = "user-1") -> Engine:
    return Engine.open(
        path,
        registry=migrations.registry(target=target),
        user=user,
        sources={"asyncstorage": str(LEGACY)},
        consent=lambda request: True,
    )


def contents(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Every row; but not the column that the engine itself writes."""
    with engine.read() as db:
        return {
            name: [
                {column: value for column, value in row.items() if column != STATUS_OF_THE_ENGINE}
                for row in db.query(f"select * from {name} order by user_id, id")
            ]
            for name in TABLES
        }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


def test_to_two_and_to_three_again_the_rows_are_the_same(path: Path) -> None:
    with opened(path, target="2.0.0") as engine:
        engine.migrate()
        at_two = contents(engine)
    with opened(path, target="3.0.0") as engine:
        engine.migrate()
        at_three = contents(engine)
        before = engine._store.query("SELECT count(*) FROM _sync_run")
        simulated = engine.migrations.rollback_to("2.0.0", "user-1", simulate=True)
        assert simulated.state == "simulated", simulated
        assert engine._store.query("SELECT count(*) FROM _sync_run") == before
        report = engine.migrations.rollback_to("2.0.0", "user-1", why="the map is wrong")
        assert report.state == "rolled_back", report
        methods = {undone.id: undone.method for undone in report.undone}
        assert methods["places-schema-v2-to-v3"] == "restore_point", "places are merged, and have no way down"
        assert methods["journeys-schema-v2-to-v3"] == methods["preferences-schema-v2-to-v3"] == "down"
        assert methods["journeys-upload-v3"] == "queue"
        report_of_start = engine.migrate()
        assert report_of_start is not None
        assert report_of_start.results == ()
    with opened(path, target="2.0.0") as engine:
        assert engine.migrate() is None, "the app of the version before finds its own store"
        back = contents(engine)
        assert {name: len(rows) for name, rows in back.items()} == {name: len(rows) for name, rows in at_two.items()}
        assert back == at_two
    with opened(path, target="3.0.0") as engine:
        for step in engine.plan().held_back:
            engine.migrations.execute_migration(step.id, "user-1")
        assert engine.migrations.get_current_schema_version("user-1") == "3.0.0"
        assert contents(engine) == at_three


def test_an_import_that_went_wrong_is_taken_out_and_done_anew(path: Path) -> None:
    with opened(path, target="3.0.0") as engine:
        engine.migrate()
        before = contents(engine)
        report = engine.migrations.rollback("journey-storage-v1-to-v2", "user-1")
        assert report.state == "rolled_back", report
        after = contents(engine)
        assert after["journeys"] == []
        assert {name: after[name] for name in TABLES[1:]} == {name: before[name] for name in TABLES[1:]}
        engine.migrations.execute_migration("journey-storage-v1-to-v2", "user-1")
        engine.migrate()
        assert contents(engine) == before


def test_all_imports_of_a_user_go_back_and_the_other_user_keeps_everything(path: Path) -> None:
    with opened(path, target="3.0.0") as engine:
        engine.migrate()
    with opened(path, target="3.0.0", user="user-2") as engine:
        engine.migrate()
        of_other = {
            name: [row for row in rows if row["user_id"] == "user-2"] for name, rows in contents(engine).items()
        }
        assert of_other["preferences"]
    with opened(path, target="3.0.0") as engine:
        for listed in migrations.MIGRATIONS:
            executor = engine.migrations.executor(listed.id)
            if executor.definition.source is not None and listed.id != "profile-storage-v1-to-v2":
                assert executor.rollback("user-1").state == "rolled_back", listed.id
        left = contents(engine)
        assert [row for rows in left.values() for row in rows if row["user_id"] == "user-1"] == left["profile"][
            :1
        ] + left["preferences"][:1]
        mine_gone = {name: [row for row in rows if row["user_id"] == "user-2"] for name, rows in left.items()}
        assert mine_gone == of_other
        report = engine.migrations.rollback("profile-storage-v1-to-v2", "user-1")
        assert report.state == "rolled_back", report
        assert [row for rows in contents(engine).values() for row in rows if row["user_id"] == "user-1"] == []
