"""Each import contract of pyproject.toml holds, and is seen to bite when one line breaks it."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.tidy.tree import PACKAGES, ROOT

# By contract: a file, and the import that it must not have. Planted at the end of the file, or as a new one.
BREACHES = {
    "Data flows one way": ("syncengine/local/store.py", "import syncengine.migrate.plan"),
    "Offline code cannot reach the network": ("syncengine/outbox/queue.py", "import httpx"),
    "The network cannot reach the database": ("syncengine/remote/wire.py", "import syncengine.local.store"),
    "SQLite is opened in local and nowhere else": ("syncengine/migrate/plan.py", "import apsw"),
    "The engine never knows which app it serves, nor that it is simulated": (
        "syncengine/status.py",
        "import migrations",
    ),
    "The server does not know the client": ("syncengine/server/cloud.py", "import syncengine.outbox.queue"),
    "Migrations use public names only": ("migrations/walks.py", "import syncengine.clock"),
    "No package has an import cycle": ("syncengine/local/savepoint.py", "import syncengine.local.store"),
}
STRAY = ("syncengine/utils.py", '"""A module that belongs nowhere."""')


CONFIGURATIONS = ("pyproject.toml", "import-cycles.toml")


def _contracts(configuration: str) -> list[str]:
    config = tomllib.loads((ROOT / configuration).read_text(encoding="utf-8"))
    return [contract["name"] for contract in config["tool"]["importlinter"]["contracts"]]


def _lint(tree: Path, configuration: str) -> tuple[int, str]:
    program = str(Path(sys.executable).with_name("lint-imports"))
    command = [program, "--no-cache", "--config", configuration]
    ran = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=110, check=False)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for configuration in CONFIGURATIONS:
        shutil.copy(ROOT / configuration, tmp_path)
    return tmp_path


def test_there_is_a_breach_to_try_for_each_contract() -> None:
    written = [contract for configuration in CONFIGURATIONS for contract in _contracts(configuration)]
    assert sorted(BREACHES) == sorted(written)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_the_tree_keeps_every_contract(configuration: str, copy: Path) -> None:
    code, report = _lint(copy, configuration)
    assert code == 0, report


@pytest.mark.parametrize("contract", BREACHES)
def test_a_planted_import_breaks_the_contract_that_forbids_it(contract: str, copy: Path) -> None:
    name, line = BREACHES[contract]
    with (copy / name).open("a", encoding="utf-8") as module:
        module.write(f"\n{line}\n")
    code, report = _lint(copy, next(file for file in CONFIGURATIONS if contract in _contracts(file)))
    assert code != 0
    assert f"{contract} BROKEN" in report


def test_a_module_without_a_layer_fails_by_being_there(copy: Path) -> None:
    name, text = STRAY
    (copy / name).write_text(text + "\n", encoding="utf-8")
    code, report = _lint(copy, "pyproject.toml")
    assert code != 0
    assert "utils" in report
