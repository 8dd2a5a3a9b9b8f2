"""The pytest plugin: its fixtures work in an app's own tests, and nobody else's tests pay for it."""

import os
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest

import syncengine.testing
from tests.tidy.tree import ROOT

TESTS = """
from pathlib import Path
import migrations
from syncengine import Engine
from syncengine.testing import StoppedClock

def test_a_store_of_version_2(store_at):
    path = store_at(migrations.REGISTRY, "2.0.0", user="ada")
    other = store_at(migrations.REGISTRY, "3.0.0")
    assert path != other
    with Engine.open(path, registry=migrations.registry(target="2.0.0"), user="ada") as engine:
        with engine.read() as db:
            assert db["profile"].count == 1

def test_a_power_cut(crash_everywhere, store_at):
    def build(path):
        with Engine.open(path, registry=migrations.registry(target="1.0.0")):
            pass
    def run(path):
        with Engine.open(
            path, registry=migrations.registry(target="2.0.0"), clock=StoppedClock(), consent=lambda request: True
        ) as engine:
            engine.migrate()
    report = crash_everywhere(build=build, run=run, images_max=10, statements_max=3)
    assert report.images > 0
"""


def run_pytest(folder, *arguments):
    """A pytest of its own, with this plugin and no other that is installed."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "syncengine.testing.plugin", *arguments]
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_fixtures_work_in_the_tests_of_an_app(tmp_path):
    (tmp_path / "test_app.py").write_text(TESTS)
    assert "2 passed" in run_pytest(tmp_path)


def test_the_fixtures_say_what_they_give(tmp_path):
    shown = run_pytest(tmp_path, "--fixtures")
    for name in ("store_at", "crash_everywhere"):
        assert name in shown


def test_a_run_that_uses_no_fixture_imports_nothing_of_the_engine(tmp_path):
    (tmp_path / "test_other.py").write_text(
        "import sys\n"
        "def test_nothing_heavy():\n"
        "    heavy = {'apsw', 'pydantic', 'hypothesis', 'httpx', 'sqlite_utils', 'syncengine.engine'}\n"
        "    assert not heavy & set(sys.modules)\n"
    )
    assert "1 passed" in run_pytest(tmp_path)


def test_pytest_finds_the_plugin_by_itself_where_the_package_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module = import_module(project["entry-points"]["pytest11"]["syncengine"])
    assert module.store_at.__doc__


@pytest.mark.parametrize("name", syncengine.testing.__all__)
def test_each_name_of_the_kit_can_be_imported_and_says_what_it_is(name):
    found = getattr(syncengine.testing, name)
    assert found is getattr(import_module(f"syncengine.testing.{syncengine.testing._HOME[name]}"), name)
    assert found.__doc__


def test_a_name_that_the_kit_does_not_have_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="no_such_name"):
        syncengine.testing.__getattr__("no_such_name")
