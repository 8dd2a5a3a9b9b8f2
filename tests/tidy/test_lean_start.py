"""What an app that has nothing to do pays for at its start: apsw, and no more."""

import subprocess
import sys
from pathlib import Path

from tests.tidy.tree import ROOT

HEAVY = (
    *("pydantic", "httpx", "sqlite_utils", "watchdog", "orjson", "click", "fastapi", "sqlite3"),
    *("dataclasses", "typing", "contextlib", "pathlib", "json", "logging", "re", "enum", "inspect"),
)

OPEN = """
import sys
there_already = set(sys.modules)
from migrations import REGISTRY
from syncengine import Engine

with Engine.open(sys.argv[1], registry=REGISTRY, user="ada") as engine:
    report = engine.migrate()
print(report is None)
print(*[name for name in sys.argv[2:] if name in set(sys.modules) - there_already])
"""


def _start(store: Path) -> list[str]:
    command = [sys.executable, "-c", OPEN, str(store), *HEAVY]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return ran.stdout.splitlines()


def test_a_start_with_nothing_pending_imports_nothing_heavy(tmp_path: Path) -> None:
    store = tmp_path / "app.db"
    assert _start(store)[0] == "False"  # the first start migrates, and may import what it likes
    assert _start(store) == ["True", ""]


def test_a_benchmark_that_needs_no_postgresql_starts_where_its_driver_is_not_installed() -> None:
    code = "import sys, tests.benchmarks.__main__; print({'psycopg', 'psycopg_pool', 'pytest'} & set(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "set()"


def test_importing_the_package_imports_none_of_its_modules() -> None:
    code = "import sys, syncengine; print([name for name in sys.modules if name.startswith('syncengine.')])"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "[]"


def test_a_server_loads_what_calls_others_only_when_it_has_to_call_them() -> None:
    code = "import sys, syncengine.server.__main__; print('fastapi' in sys.modules, 'httpx' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "True False"
