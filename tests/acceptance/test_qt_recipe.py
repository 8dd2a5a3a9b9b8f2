"""The recipe for Qt runs, wherever there is a Qt."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tidy.test_snippets import blocks_of

pytest.importorskip("PySide6", reason="PySide6 is not installed (pip install PySide6-Essentials)")
pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).resolve().parents[2]


def test_a_qt_app_hears_of_a_change_on_its_own_thread(tmp_path: Path) -> None:
    for block in blocks_of(ROOT / "docs" / "cookbook.md"):
        if block.saved_as is not None:
            (tmp_path / block.saved_as).write_text(block.text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "recipe_qt.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "('notes',) ['Milk']\n"
