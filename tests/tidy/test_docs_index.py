"""The index of the documentation lists every page, and every decision with its title."""

import re

from tests.tidy.tree import ROOT

DOCS = ROOT / "docs"
INDEX = (DOCS / "README.md").read_text(encoding="utf-8")
LISTED = dict(re.findall(r"^\| \[[^\]]+\]\(([^)]+)\) \| (.+) \|$", INDEX, re.M))


def test_each_page_is_listed_and_no_other() -> None:
    pages = {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    assert {name for name in LISTED if "/" not in name} - {"decisions"} == pages


def test_each_decision_is_listed_with_its_title() -> None:
    decisions = {f"decisions/{page.name}": page for page in (DOCS / "decisions").glob("*.md")}
    titles = {name: page.read_text(encoding="utf-8").splitlines()[0] for name, page in decisions.items()}
    assert {name: title for name, title in LISTED.items() if name.startswith("decisions/")} == {
        name: re.sub(r"^# 0*\d+\. ", "", title) for name, title in titles.items()
    }
