"""What whoever runs a server may get wrong on its command line is told in a sentence, and changes nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from syncengine.clock import SystemClock
from syncengine.server.__main__ import main
from syncengine.server.databases import open_storage
from tests.conformance.server_process import ServerProcess


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says when it takes none of it."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return told


def users_at(address: str) -> list[str]:
    storage = open_storage(address, clock=SystemClock())
    try:
        return list(storage.users())
    finally:
        storage.close()


@pytest.mark.parametrize("user", ["", "a\nb", "x" * 201, "\udcff\udcfe", "a\x00"])
def test_a_user_that_no_device_could_name_gets_no_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], user: str
) -> None:
    told = refused(capsys, "add-token", "--data", str(tmp_path / "cloud"), "--user", user)
    assert "a user has 1 to 200 letters of UTF-8, none of them a control character" in told
    assert not (tmp_path / "cloud").exists()


@pytest.mark.parametrize("option", ["--port", "--operations-port"])
@pytest.mark.parametrize("port", ["99999", "-1", "x", "1" * 5000])
def test_a_port_that_there_is_none_of_is_refused(capsys: pytest.CaptureFixture[str], option: str, port: str) -> None:
    assert "give a port from 0 (any free one) to 65535" in refused(capsys, f"{option}={port}", "--data", "nowhere")
    assert not Path("nowhere").exists()


@pytest.mark.parametrize("command", [[], ["compact"]], ids=["serve", "compact"])
@pytest.mark.parametrize("days", ["999999999999999999", "36501", "-1", "1.5", "soon"])
def test_days_that_no_calendar_has_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], days: str
) -> None:
    told = refused(capsys, *command, f"--keep-days={days}", "--data", str(tmp_path / "cloud"))
    assert "give a number of days from 0" in told


def test_the_longest_time_can_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compact", "--data", str(tmp_path), "--keep-days", "36500"]) == 0
    assert capsys.readouterr().out.startswith("0 rows")


@pytest.mark.parametrize(
    ("lines", "what", "why"),
    [
        (b"cem good\nann hunter-2\nbob hunter-2\n", "Line 3", "its token is another user's"),
        (b"# who may\n\nann\n", "Line 3", "it has a user and no token"),
        (b"a\x01b hunter-2\n", "Line 1", "a user has 1 to 200 letters"),
        (b"ann \xff\xfe\n", "The file", "it is no UTF-8 text"),
    ],
)
def test_a_file_of_tokens_that_says_nonsense_is_refused_whole_without_a_token_in_the_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: bytes, what: str, why: str
) -> None:
    file, address = tmp_path / "tokens", str(tmp_path / "cloud.db")
    file.write_bytes(lines)
    assert main(["--port", "0", "--database", address, "--token-file", str(file)]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"{what} of --token-file cannot be ")
    assert why in told
    assert "hunter" not in told
    assert users_at(address) == []


def test_a_token_of_the_same_user_twice_is_one(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("ann one\nann one\nann  two \n")
    with ServerProcess(tmp_path / "cloud", "--token-file", str(tmp_path / "tokens")) as server:
        for token in ("one", "two"):
            server.all_answers("ann", token=token)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_token_stays_with_the_user_who_has_it(
    tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    address = str(tmp_path / "cloud.db") if kind == "sqlite" else str(request.getfixturevalue("database"))
    (tmp_path / "tokens").write_text("ann hunter-2\n")
    options = ("--token-file", str(tmp_path / "tokens"))
    with ServerProcess(tmp_path, *options, database=address):
        pass
    (tmp_path / "tokens").write_text("bob hunter-2\n")
    assert main(["--port", "0", "--database", address, *options]) == 1
    told = capsys.readouterr().err
    assert told == "The token for bob is another user's: whose it is could not be said of either.\n"
    assert users_at(address) == ["ann"]


@pytest.mark.parametrize("package", ["uvicorn", "starlette", "fastapi"])
def test_without_its_packages_the_server_names_the_extra_in_one_sentence(package: str) -> None:
    start = (
        f"import runpy, sys; sys.modules[{package!r}] = None; "
        "runpy.run_module('syncengine.server', run_name='__main__')"
    )
    ran = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=False)
    said = f"The server needs {package}, which comes with the extra [server]: "
    assert (ran.returncode, ran.stderr.count("\n"), ran.stderr.startswith(said)) == (1, 1, True), ran.stderr
