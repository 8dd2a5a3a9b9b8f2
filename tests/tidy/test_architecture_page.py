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
    section = PAGE.partition("\n## The life of an entry\n")[2]
    drawn = re.search(r"^```mermaid\n(stateDiagram-v2\n.*?)^```$", section, re.M | re.S)
    assert drawn is not None
    assert drawn[1] == mermaid()


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


def _modules(package: str) -> set[str]:
    return {path.stem for path in (ROOT / package).glob("*.py") if not path.stem.startswith("__")}


@pytest.mark.parametrize("package", ["syncengine/local/", "syncengine/migrate/"])
def test_the_map_of_a_large_package_has_each_of_its_modules_once(package: str) -> None:
    part = re.search(rf"^### `{package}`\n(.+?)(?=^##)", PAGE + "\n##", re.M | re.S)
    assert part is not None
    mapped = [name for row in re.findall(r"^\| (`.+?) \|", part[1], re.M) for name in re.findall(r"`(\w+)`", row)]
    assert sorted(mapped) == sorted(_modules(package))


def test_the_map_has_each_package_and_each_module_of_the_top() -> None:
    folders = {f"syncengine/{path.parent.name}/" for path in (ROOT / "syncengine").glob("*/__init__.py")}
    rows = dict(re.findall(r"^\| `(syncengine/(?:\w+/)?)` \| (.+) \|$", PAGE, re.M))
    detailed = {"syncengine/local/", "syncengine/migrate/"}
    assert set(rows) == {"syncengine/", *folders} - detailed
    assert set(re.findall(r"`(\w+)`", rows["syncengine/"])) == _modules("syncengine")


DECISIONS = sorted((DOCS / "decisions").glob("*.md"))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_says_context_options_decision_consequences_and_how_it_could_be_wrong(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.M)
    assert headings == ["Context", "Options", "Decision", "Consequences", "How we would notice that we were wrong"]


def test_each_number_of_a_decision_is_given_once() -> None:
    numbers = [page.stem[:4] for page in DECISIONS]
    assert len(set(numbers)) == len(numbers)
    assert all(number.isdigit() for number in numbers)
