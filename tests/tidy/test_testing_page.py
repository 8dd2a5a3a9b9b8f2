"""The page about testing names files that exist, and no folder of tests is left out."""

import re

from syncengine.testing.crash import EVERY_CRASH
from tests.tidy.tree import ROOT

PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")


def test_each_file_that_the_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w./]+)`", PAGE)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_each_folder_of_tests_is_in_the_table() -> None:
    folders = {
        f"tests/{path.name}" for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name[0].isalpha()
    }
    assert folders - set(re.findall(r"^\| `(tests/\w+)` \|", PAGE, re.MULTILINE)) == set()


def test_the_six_kinds_of_tests_each_have_files() -> None:
    kinds = re.findall(r"^\| (\w[\w ]+) \| .*\?.* \| `tests/", PAGE, re.MULTILINE)
    assert kinds == ["Unit", "Integration", "Path", "Performance", "Error recovery", "User experience"]


def test_the_variable_for_the_full_sweep_is_the_one_that_the_code_reads() -> None:
    assert f"{EVERY_CRASH}=1" in PAGE
