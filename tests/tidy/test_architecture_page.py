"""The architecture page says what is so: its diagram is the code's table, its tests exist, its modules are there."""

import re
from pathlib import Path

import pytest

from syncengine.outbox.delivery import mermaid
from tests.tidy.tree import ROOT

DOCS = ROOT / "docs"
PAGE = (DOCS / "architecture.md").read_text(encoding="utf-8")
PROMISES = [f"P{number}" for number in range(1, 16)]


def test_the_diagram_of_delivery_is_the_one_that_the_code_draws() -> None:
    drawn = re.findall(r"^```mermaid\n(stateDiagram-v2\n.*?)^```$", PAGE, re.M | re.S)
    assert drawn == [mermaid()]


def _paragraph(promise: str) -> str:
    found = re.search(rf"^### {promise}: .+?(?=^##)", PAGE + "\n##", re.M | re.S)
    assert found is not None, f"{promise} has no heading"
    return found[0]


@pytest.mark.parametrize("promise", PROMISES)
def test_each_promise_names_the_tests_that_show_it_or_says_that_it_is_not_kept_yet(promise: str) -> None:
    text = _paragraph(promise)
    assert re.search(r"`tests/[\w/.]+\.py::test_\w+`", text) or "**Not yet.**" in text


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_each_test_that_a_page_names_exists(page: Path) -> None:
    for file, name in re.findall(r"`(tests/[\w/.]+\.py)::(test_\w+)`", page.read_text(encoding="utf-8")):
        assert re.search(rf"^\s*(?:async )?def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.M), name


def test_each_module_that_the_page_names_is_there() -> None:
    for name in re.findall(r"`((?:syncengine|migrations|simulator)/[\w/.]+)`", PAGE):
        assert (ROOT / name).exists(), name


DECISIONS = sorted((DOCS / "decisions").glob("*.md"))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_says_context_options_decision_consequences_and_how_it_could_be_wrong(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.M)
    assert headings == ["Context", "Options", "Decision", "Consequences", "How we would notice that we were wrong"]


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [page.stem[:4] for page in DECISIONS] == [f"{number:04d}" for number in range(1, len(DECISIONS) + 1)]
