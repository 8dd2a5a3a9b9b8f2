"""The page of requirements accounts for every line of its two sources, by tests that exist."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from tests.tidy.tree import ROOT, tree_of

PAGE = (ROOT / "docs" / "requirements.md").read_text(encoding="utf-8")
STATES = ("met", "met differently", "later", "not met")
CELLS = re.compile(r"(?<!\\)\|")
NAMED = re.compile(r"`(tests/[\w/.]+\.py)::(test_\w+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a source; `place` is its section, or its number among the criteria."""

    source: str
    place: str
    line: str
    state: str
    how: str
    tests: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.place} | {self.line}"


def _rows() -> Iterator[Row]:
    source = section = ""
    for text in PAGE.splitlines():
        if text.startswith("## "):
            source, section = text.removeprefix("## "), ""
        elif text.startswith("### "):
            section = text.removeprefix("### ")
        elif section and text.startswith("| "):
            cells = [cell.strip().replace("\\|", "|") for cell in CELLS.split(text)[1:-1]]
            if "State" not in cells:
                yield _row(source, cells if len(cells) == 5 else [section, *cells])


def _row(source: str, cells: list[str]) -> Row:
    place, line, state, how, tests = cells
    if line.startswith("`"):
        line = line.removeprefix("`").removesuffix("`")
    return Row(source=source, place=place, line=line, state=state, how=how, tests=tuple(NAMED.findall(tests)))


ROWS = tuple(_rows())
SOURCES = {"The design": "design_lines.txt", "The acceptance criteria of Hero's Path": "acceptance_criteria.txt"}


@pytest.mark.parametrize("source", SOURCES)
def test_every_line_of_both_lists_is_on_the_page_once(source: str) -> None:
    wanted = (ROOT / "tests" / "golden" / SOURCES[source]).read_text(encoding="utf-8").splitlines()
    found = Counter(str(row) for row in ROWS if row.source == source)
    assert len(wanted) > 100
    assert found == Counter(wanted)


def test_each_state_is_one_of_four_words() -> None:
    assert [str(row) for row in ROWS if row.state not in STATES] == []


def test_what_is_not_simply_met_has_a_reason() -> None:
    assert [str(row) for row in ROWS if row.state != "met" and len(row.how.split()) < 5] == []


def test_what_is_met_names_a_test() -> None:
    assert [str(row) for row in ROWS if row.state.startswith("met") and not row.tests] == []


@cache
def _functions(file: str) -> frozenset[str]:
    return frozenset(node.name for node in ast.walk(tree_of(ROOT / file)) if isinstance(node, ast.FunctionDef))


def test_each_test_that_is_named_exists() -> None:
    named = {test for row in ROWS for test in row.tests}
    assert len(named) > 100
    assert sorted((file, name) for file, name in named if name not in _functions(file)) == []


def test_each_reference_to_a_test_can_be_read_as_one() -> None:
    """So that no slip in writing one takes it out of the check above."""
    assert len(NAMED.findall(PAGE)) == PAGE.count("::test_")


def _summary(first_word: str) -> list[int]:
    found = re.search(rf"^\| {first_word} \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.M)
    assert found is not None, first_word
    return [int(number) for number in found.groups()]


@pytest.mark.parametrize("name", ["The design", "The acceptance criteria", "Both"])
def test_the_summary_counts_what_is_on_the_page(name: str) -> None:
    counted = Counter(row.state for row in ROWS if name == "Both" or row.source.startswith(name))
    assert _summary(name) == [*(counted[state] for state in STATES), counted.total()]
