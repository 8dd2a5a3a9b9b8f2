"""Every error has its heading in docs/recovery.md with a text that the code can say; no heading lacks its error."""

import ast
import importlib
import inspect
import re
from functools import cache

import pytest

from syncengine import errors
from syncengine.errors import SyncEngineError
from tests.tidy.tree import ROOT, modules, strings_of, tree_of

GUIDE = (ROOT / "docs" / "recovery.md").read_text(encoding="utf-8")
FAMILIES = frozenset({"SyncEngineError", "WillRetry", "NeedsDeveloper", "NeedsUser", "DataAtRisk"})


def _all_errors() -> dict[str, type[SyncEngineError]]:
    """Every class of ours, in whatever module of the engine it is defined."""
    found: dict[str, type[SyncEngineError]] = {}
    for path in modules("syncengine"):
        text = path.read_text(encoding="utf-8")
        if path.name != "errors.py" and not re.search(
            rf"^class \w+\((?:{'|'.join(_names_in_errors())})\)", text, re.M
        ):
            continue
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for name, member in inspect.getmembers(module, inspect.isclass):
            if issubclass(member, SyncEngineError) and name not in FAMILIES:
                found[name] = member
    return found


def _names_in_errors() -> list[str]:
    return [
        name for name, member in inspect.getmembers(errors, inspect.isclass) if issubclass(member, SyncEngineError)
    ]


ERRORS = _all_errors()


@cache
def _sentence() -> re.Pattern[str]:
    """Any text that the engine's code can say; what is filled in may be anything."""
    found: set[str] = set()
    for path in modules("syncengine"):
        tree = tree_of(path)
        found |= {re.escape(str(text.value)) for text in strings_of(tree)}
        found |= {_pattern(node) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)}
    return re.compile("|".join(sorted(pattern for pattern in found if len(pattern) > 15)))


def _pattern(text: ast.JoinedStr) -> str:
    parts = (re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+" for part in text.values)
    return "".join(parts)


def _sections() -> dict[str, str]:
    """The text under each third-level heading, by heading."""
    parts = re.split(r"^### (.+)$", GUIDE, flags=re.M)[1:]
    return {heading.strip(): body for heading, body in zip(parts[::2], parts[1::2], strict=True)}


def _anchor_of(heading: str) -> str:
    """GitHub's rule: small letters, blanks become dashes, other signs go."""
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


def test_each_error_has_one_heading_and_each_heading_an_error() -> None:
    anchors = [_anchor_of(heading) for heading in _sections()]
    assert sorted(anchors) == sorted(error.anchor() for error in ERRORS.values())


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_the_guide_says_why_it_happens_and_what_to_do_and_shows_the_text(name: str) -> None:
    sections = {_anchor_of(heading): body for heading, body in _sections().items()}
    body = sections[ERRORS[name].anchor()]
    assert re.search(r"^\*\*Why\.\*\* \S", body, re.M)
    assert re.search(r"^\*\*What to do\.\*\* \S", body, re.M)
    shown = re.search(r"^```text\n(.+?)^```", body, re.M | re.S)
    assert shown is not None
    assert shown[1].rstrip().endswith(f"help: docs/recovery.md#{ERRORS[name].anchor()}")
    what, *_, fix = [line.strip() for line in shown[1].rstrip().removesuffix(shown[1].splitlines()[-1]).splitlines()]
    assert _sentence().fullmatch(what), what
    assert _sentence().fullmatch(fix.removeprefix("fix:").strip()), fix


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_each_error_stands_under_its_family(name: str) -> None:
    family = next(base.__name__ for base in ERRORS[name].__mro__ if base.__name__ in FAMILIES)
    before = GUIDE[: GUIDE.index(f"\n### {_heading_of(name)}\n")]
    assert re.findall(r"^## .*`(\w+)`", before, re.M)[-1] == family


def _heading_of(name: str) -> str:
    return next(heading for heading in _sections() if _anchor_of(heading) == ERRORS[name].anchor())


def test_each_error_says_once_what_the_user_does_and_what_the_developer_does() -> None:
    rows = re.findall(r"^\| \[(.+?)\]\(#([\w-]+)\) \| (\S.*?) \| (\S.*?) \|$", GUIDE, re.M)
    assert [anchor for _, anchor, *_ in rows] == [_anchor_of(heading) for heading in _sections()]
    assert all(_anchor_of(heading) == anchor for heading, anchor, *_ in rows)


def test_the_errors_of_a_family_are_in_the_order_of_the_alphabet() -> None:
    for family in re.split(r"^## ", GUIDE, flags=re.M):
        headings = re.findall(r"^### (.+)$", family, re.M)
        assert headings == sorted(headings, key=str.lower)


def test_no_two_errors_share_a_name() -> None:
    assert len({error.anchor() for error in ERRORS.values()}) == len(ERRORS)
