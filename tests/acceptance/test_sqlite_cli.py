"""People look at the store with the `sqlite3` command line, and sometimes change a row: nothing is harmed."""

import shutil
import subprocess
from pathlib import Path

import pytest

from migrations import REGISTRY
from simulator.asyncstorage_writer import write_store
from syncengine import Engine
from tests.conformance.server_process import ServerProcess

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(shutil.which("sqlite3") is None, reason="needs the sqlite3 command line"),
]

VIEWS = ("sync_status", "sync_outbox", "sync_quarantine", "sync_conflicts", "migration_status", "migration_history")


def sqlite3(store: Path, sql: str, *options: str) -> str:
    done = subprocess.run(["sqlite3", *options, str(store), sql], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def legacy(tmp_path: Path) -> Path:
    write_store(tmp_path / "legacy", kind="ios", walks=60, places=12, dismissed=4, seed=3)
    return tmp_path / "legacy"


def open_app(folder: Path, legacy: Path, **cloud: object) -> Engine:
    return Engine.open(
        folder / "app.db",
        registry=REGISTRY,
        user="ann",
        sources={"asyncstorage": legacy},
        consent=lambda request: True,
        **cloud,  # type: ignore[arg-type]  # cloud_url and token, or neither
    )


def test_every_view_reads_well_beside_a_running_app(tmp_path: Path, legacy: Path) -> None:
    with open_app(tmp_path, legacy) as engine:
        engine.migrate()
        shown = {view: sqlite3(tmp_path / "app.db", f"select * from {view}", "-readonly", "-box") for view in VIEWS}
    assert "needs attention" in shown["sync_status"]
    assert "for its turn" in shown["sync_outbox"]
    assert "a walk needs 2 points" in shown["sync_quarantine"]
    assert "journey-storage-v1-to-v2" in shown["migration_history"]
    assert "user:ann" in shown["migration_status"]
    assert shown["sync_conflicts"] == ""
    # A line that wraps is no table any more: the views have to fit a wide terminal.
    assert max(len(line) for line in shown["sync_status"].splitlines()) <= 200
    assert max(len(line) for line in shown["migration_status"].splitlines()) <= 120


def test_a_row_that_is_edited_by_hand_while_it_waits_reaches_the_cloud_as_edited(
    tmp_path: Path, legacy: Path
) -> None:
    with ServerProcess(tmp_path / "cloud") as server:
        token = server.sign_in("ann")
        with open_app(tmp_path, legacy, cloud_url=server.url, token=lambda: token) as engine:
            engine.migrate()
            store = tmp_path / "app.db"
            key = sqlite3(store, "select id from journeys order by id limit 1").strip()
            sqlite3(store, f"update journeys set name = 'by hand' where id = '{key}'")
            sqlite3(store, "delete from journeys where id = (select max(id) from journeys)")
            with engine.read() as db:
                assert db["journeys"].get(("ann", key))["name"] == "by hand"
                left = db["journeys"].count
            assert engine.flush(timeout_ms=30_000).remaining == 0
            rows = _journeys_at(server, token)
            assert rows[key]["name"] == "by hand"
            assert len(rows) == left
        assert sqlite3(store, "pragma integrity_check; pragma foreign_key_check").strip() == "ok"


def test_an_edit_that_breaks_a_rule_of_the_table_is_refused_by_sqlite_itself(tmp_path: Path, legacy: Path) -> None:
    with open_app(tmp_path, legacy) as engine:
        engine.migrate()
        refused = subprocess.run(
            ["sqlite3", str(tmp_path / "app.db"), "update journeys set route = 'no json'"],
            check=False,
            capture_output=True,
            text=True,
        )
        assert "constraint failed" in refused.stderr
        assert engine.migrations.validate_migrated_data("ann", "journeys").success


def test_a_session_that_holds_the_write_lock_makes_the_app_wait_and_harms_nothing(
    tmp_path: Path, legacy: Path
) -> None:
    with open_app(tmp_path, legacy) as engine:
        engine.migrate()
        store = str(tmp_path / "app.db")
        with subprocess.Popen(
            ["sqlite3", store], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        ) as session:
            assert session.stdin is not None
            assert session.stdout is not None
            session.stdin.write("begin immediate; delete from places; select 'locked';\n")
            session.stdin.flush()
            assert session.stdout.readline() == "locked\n"
            with engine.read() as db:
                assert db["places"].count > 0
            session.stdin.write("rollback;\n.quit\n")
            session.stdin.close()
            with engine.write() as db:
                db["app_state"].delete_where()
        with engine.read() as db:
            assert db["places"].count > 0
            assert db["app_state"].count == 0


def _journeys_at(server: ServerProcess, token: str) -> dict[str, dict[str, object]]:
    from syncengine.remote.wire import RowsRequest

    request = RowsRequest(request_id="r1", user="ann", collection="journeys", after=None, limit=500)
    answer = server.backend(token).rows(request)
    return {row.key: dict(row.body) for row in answer.rows}
