"""A canary in rows and tokens: it reaches the cloud and the quarantine, and no log, error, event or diagnosis."""

import io
import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from migrations import REGISTRY
from syncengine import (
    Collection,
    Engine,
    ListedMigration,
    MigrationRegistry,
    SyncEngineError,
    migration,
    tables,
)
from tests.conformance.server_process import ROOT, ServerProcess

ROW = "canary-of-a-row-7f3a9c"
TOKEN = "canary-of-a-token-51d0be"

WALKS = [
    {"id": "1", "coords": [], "date": ROW},
    {"id": "2", "coords": [{"latitude": 1.5, "longitude": 2.5}, {"latitude": 1.6, "longitude": 2.6}], "date": ROW},
    {"id": "3", "coords": ROW, "date": None},
    [ROW],
]
PLACES = [
    {"placeId": "p1", "name": ROW, "category": "cafe", "description": ROW, "thumbnail": f"https://x/?key={ROW}"},
    {"placeId": "p2", "name": [ROW], "category": {"text": 7}},
    ROW,
]


class Note(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str
    text: str


make_notes = tables(
    id="make-notes",
    from_version="1.0.0",
    to_version="2.0.0",
    create=("CREATE TABLE notes (user_id TEXT, id TEXT, text TEXT, PRIMARY KEY (user_id, id)) STRICT",),
)


@migration(id="careless", collection="notes", from_version="2.0.0", to_version="3.0.0", critical=True)
def careless(old: Note) -> Note:
    raise ValueError(f"cannot convert {old.text}")


def notebook(target: str) -> MigrationRegistry:
    listed = (
        ListedMigration("make-notes", "1.0.0 > 2.0.0", make_notes),
        ListedMigration("careless", "2.0.0 > 3.0.0", careless),
    )
    return MigrationRegistry(
        app="notebook",
        baseline="1.0.0",
        target=target,
        collections=[Collection("notes")],
        migrations=listed,
        asks_for_major=False,
    )


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that any logger says, from DEBUG on, with tracebacks and the facts beside the message."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(_WithFacts())
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield said
    root.setLevel(before)
    root.removeHandler(handler)


class _WithFacts(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{super().format(record)} {vars(record)}"


def _diagnoses(store: Path) -> str:
    """What the command line says of a store, as tables and as JSON."""
    said = []
    for command in ("status", "history", "outbox", "quarantine", "doctor"):
        for form in ((), ("--json",)):
            done = subprocess.run(
                [sys.executable, "-m", "syncengine", command, "--store", str(store), *form],
                check=False,
                cwd=ROOT,
                capture_output=True,
                text=True,
                env={**os.environ, "SYNCENGINE_TOKEN": TOKEN},
            )
            said.append(done.stdout + done.stderr)
    return "\n".join(said)


def test_a_canary_in_rows_and_tokens_is_said_nowhere(tmp_path: Path, log: io.StringIO) -> None:
    legacy = tmp_path / "legacy.json"
    legacy.write_text(
        json.dumps([["@saved_routes", json.dumps(WALKS)], ["savedPlaces", json.dumps(PLACES)], ["lastRoute", ROW]])
    )
    events: list[object] = []
    with (
        ServerProcess(tmp_path / "cloud", "--token-file", str(_token_file(tmp_path))) as server,
        Engine.open(
            tmp_path / "app.db",
            registry=REGISTRY,
            consent=lambda request: True,
            user="ann",
            sources={"asyncstorage": legacy},
            cloud_url=server.url,
            token=lambda: TOKEN,
            listener=events.append,
        ) as engine,
    ):
        report = engine.migrate()
        assert report is not None
        assert report.quarantined >= 4
        sent = engine.sync_now()
        assert sent.applied > 0
        said = [report, report.results, sent, engine.status(), engine.status().to_json(), engine.plan(), events]
        said.append([result.to_json() for result in report.results])
        said.append(engine.migrations.get_migration_status("ann").to_json())
        with engine.read() as db:
            assert ROW in repr(list(db["places"].rows)), "the canary has to be in the store for this to show anything"
            assert ROW in repr(list(db.query("select body from _sync_quarantine")))
    everything = "\n".join([repr(said), log.getvalue(), _diagnoses(tmp_path / "app.db")])
    assert "migration ended" in log.getvalue()
    assert ROW not in everything
    assert TOKEN not in everything
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "tokens")
    assert TOKEN.encode() not in stored


def _token_file(folder: Path) -> Path:
    path = folder / "tokens"
    path.write_text(f"ann {TOKEN}\n")
    path.chmod(0o600)
    return path


def test_an_error_of_a_migrations_own_code_does_not_carry_the_row_out(tmp_path: Path, log: io.StringIO) -> None:
    store = tmp_path / "notes.db"
    with Engine.open(store, registry=notebook("2.0.0")) as engine:
        engine.migrate()
        with engine.write() as db:
            db["notes"].insert_all({"user_id": "ann", "id": str(n), "text": ROW} for n in range(50))
    with Engine.open(store, registry=notebook("3.0.0")) as engine:
        with pytest.raises(SyncEngineError) as caught:
            engine.migrate()
        said = "".join(traceback.format_exception(caught.value)) + repr(engine.migrations.get_migration_status())
    assert "its code failed for every row" in said
    assert ROW not in said + log.getvalue() + _diagnoses(store)


def test_a_refused_token_is_not_repeated_in_the_error(tmp_path: Path, log: io.StringIO) -> None:
    with (
        ServerProcess(tmp_path / "cloud") as server,
        Engine.open(
            tmp_path / "app.db", registry=notebook("2.0.0"), user="ann", cloud_url=server.url, token=lambda: TOKEN
        ) as engine,
    ):
        engine.migrate()
        with pytest.raises(SyncEngineError) as caught:
            engine.sync_now()
        said = "".join(traceback.format_exception(caught.value)) + repr(engine.status())
    assert "token" in said
    assert TOKEN not in said + log.getvalue()
