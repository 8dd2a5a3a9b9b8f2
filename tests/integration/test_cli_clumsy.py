"""What is typed wrong on the command line is answered with a sentence, and nothing is written."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from syncengine import Engine
from syncengine.cli import main
from syncengine.errors import QuarantineItemUnknown
from tests.integration.open_world import make_store, registry

SECRET = "sunset over the harbour"
APP = """
from syncengine import Collection, ListedMigration, MigrationRegistry

REGISTRY = MigrationRegistry(
    app="notes", baseline="1.0.0", target="2.0.0", collections=[Collection("notes"), Collection("places")],
    migrations=[ListedMigration("make", "1.0.0 > 2.0.0", "tests.integration.open_world:make")],
)
"""
NUMBER_TOO_LARGE = "99999999999999999999999"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an app and its package of migrations, where the command is called."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "clumsy_app.py").write_text(APP)
    (tmp_path / "raising_app.py").write_text(f"\nraise ValueError({SECRET!r})\n")
    (tmp_path / "torn_app.py").write_text("x = 1\ny = (\n")
    (tmp_path / "leaving_app.py").write_text("import sys\nsys.exit(7)\n")
    (tmp_path / "clumsy_migrations").mkdir()
    (tmp_path / "clumsy_migrations" / "__init__.py").touch()
    for name in ("clumsy_app", "clumsy_migrations"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    make_store(tmp_path / "app.db")
    return tmp_path


@pytest.fixture
def called(checkout: Path) -> Callable[..., Result]:
    def call(*words: str, app: str = "clumsy_app:REGISTRY") -> Result:
        variables = {"SYNCENGINE_APP": app, "SYNCENGINE_STORE": str(checkout / "app.db")}
        result = CliRunner(env=variables).invoke(main, words)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return call


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("../x:y", "'../x' is no name of a module"),
        (".x:y", "'.x' is no name of a module"),
        ("raising_app:REGISTRY", "ValueError in "),
        ("torn_app:REGISTRY", "SyntaxError in "),
        ("leaving_app:REGISTRY", "SystemExit in "),
    ],
)
def test_an_app_that_cannot_be_imported_is_said_with_type_and_place(
    called: Callable[..., Result], app: str, said: str
) -> None:
    result = called("plan", app=app)
    assert result.exit_code == 2
    assert said in result.stderr
    assert SECRET not in result.stderr
    if not app.startswith("."):
        assert f"{app.partition(':')[0]}.py, line 2" in result.stderr


@pytest.mark.parametrize("package", ["../x", "", "sys", "os", "json", "click", "clumsy_app", "not_there"])
@pytest.mark.parametrize("command", [("new", "--collection", "notes", "--to", "9.0.0"), ("squash",)])
def test_files_are_written_into_a_package_of_this_checkout_only(
    called: Callable[..., Result], checkout: Path, command: tuple[str, ...], package: str
) -> None:
    before = sorted(checkout.rglob("*.py"))
    result = called(*command, "--package", package)
    assert result.exit_code == 2
    assert "--package" in result.stderr
    assert sorted(checkout.rglob("*.py")) == before


def test_a_package_of_this_checkout_is_taken(called: Callable[..., Result], checkout: Path) -> None:
    result = called("new", "--collection", "notes", "--to", "9.0.0", "--package", "clumsy_migrations")
    assert result.exit_code == 0, result.stderr
    assert (checkout / "clumsy_migrations" / "v9_0_0_notes.py").exists()


def test_a_lock_file_in_no_folder_is_an_error_with_words(called: Callable[..., Result]) -> None:
    result = called("freeze", "--lock", "no/dir/x.json")
    assert result.exit_code == 1
    assert "The lock file x.json cannot be written." in result.stderr


def test_freezing_again_what_is_no_migration_is_refused(called: Callable[..., Result], checkout: Path) -> None:
    result = called("freeze", "--lock", "lock.json", "--again", "nope")
    assert result.exit_code == 1
    assert "nope" in result.stderr
    assert not (checkout / "lock.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("quarantine", "show", NUMBER_TOO_LARGE),
        ("quarantine", "show", "0"),
        ("quarantine", "retry", NUMBER_TOO_LARGE),
        ("quarantine", "discard", NUMBER_TOO_LARGE, "--reason", "x"),
        ("restore-points", "restore", NUMBER_TOO_LARGE),
    ],
)
def test_a_number_that_no_row_can_have_is_wrong_usage(called: Callable[..., Result], words: tuple[str, ...]) -> None:
    assert called(*words).exit_code == 2


@pytest.mark.parametrize("number", [int(NUMBER_TOO_LARGE), -int(NUMBER_TOO_LARGE), 0])
def test_the_desk_knows_no_item_of_such_a_number(checkout: Path, number: int) -> None:
    with Engine.open(checkout / "app.db", registry=registry(), user="ann") as engine:
        for decide in (engine.quarantine.item, engine.quarantine.retry):
            with pytest.raises(QuarantineItemUnknown):
                decide(number)


def test_a_new_body_that_is_no_utf8_is_wrong_usage(called: Callable[..., Result], checkout: Path) -> None:
    (checkout / "body").write_bytes(b"\xff")
    result = called("quarantine", "edit", "1", "--body", "body")
    assert result.exit_code == 2
    assert "no UTF-8" in result.stderr
