"""A token that was mixed up on the device carries nothing of one user into another's rows, and loses nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncengine.clock import SystemClock
from syncengine.errors import AuthRequired
from syncengine.remote.http_backend import HttpBackend
from syncengine.settings import Settings
from syncengine.sync.calls import Hello
from syncengine.sync.courier import carry
from tests.conformance.device_requests import hello, rows
from tests.conformance.server_process import ServerProcess
from tests.integration.cli_process import SECRET, Command

APP = ("--app", "notes_app:THREE", "--user", "ann")
QUEUE = "SELECT row_key, kind, state, sequence FROM _sync_outbox ORDER BY entry_id"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "cloud") as running:
        yield running


@pytest.fixture
def queued(tmp_path: Path) -> Command:
    """Two notes of ann's wait for the cloud."""
    command = Command(tmp_path)
    assert command.migrate("TWO").status == 0
    command.write_notes("5", "3")
    assert command.migrate("THREE").status == 0
    return command


def at_the_cloud(server: ServerProcess, user: str) -> dict[str, str]:
    """The texts of this user's notes there, by key."""
    backend = server.backend(server.sign_in(user))
    return {row.key: str(row.body["text"]) for row in backend.rows(rows(user=user, collection="notes")).rows}


def test_the_queue_of_one_user_is_kept_whole_when_the_token_is_anothers(
    queued: Command, server: ServerProcess
) -> None:
    before = queued.query(QUEUE)
    ran = queued("sync", *APP, "--cloud-url", server.url, "--json", SYNCENGINE_TOKEN=server.sign_in("eve"))
    status = queued("status", *APP, "--json").json
    assert (ran.status, ran.out, ran.error["code"]) == (6, "", "auth_required")
    assert "The token belongs to another user" in ran.err
    assert "eve" not in ran.err + ran.out
    assert len(before) >= 2
    assert queued.query(QUEUE) == before
    assert (status["sync"]["last_error"], status["connectivity"]["verdict"]) == ("auth_required", "auth_required")
    assert status["synced"] is False
    assert (at_the_cloud(server, "eve"), at_the_cloud(server, "ann")) == ({}, {})


def test_the_kept_queue_is_sent_whole_with_the_right_token(queued: Command, server: ServerProcess) -> None:
    queued("sync", *APP, "--cloud-url", server.url, SYNCENGINE_TOKEN=server.sign_in("eve"))
    ran = queued("sync", *APP, "--cloud-url", server.url, "--until-empty", SYNCENGINE_TOKEN=server.sign_in("ann"))
    assert ran.status == 0, ran.err
    assert at_the_cloud(server, "ann") == {"n1": SECRET, "n2": SECRET}
    assert at_the_cloud(server, "eve") == {}
    assert server.backend(server.sign_in("eve")).hello(hello(user="eve")).device_seq == 0


@pytest.mark.parametrize("name", ["", "a" * 201, "ann\n", "ann\x7f", "ann\ud800"])
def test_a_name_that_no_request_can_carry_keeps_the_queue_and_reaches_nobody(name: str) -> None:
    backend = HttpBackend("http://127.0.0.1:1", token=lambda: "t", settings=Settings(), clock=SystemClock())
    call = Hello(user=name, app="app", device="phone", epoch=1, schema_version="1.0.0")
    with pytest.raises(AuthRequired) as refused:
        carry(backend, call, request_id="r")
    backend.close()
    assert "1 to 200 characters" in refused.value.why
