"""What the README and the docs show is run: Python blocks in order, one process for each page.

The words behind a block's language say what is done with it. `python` is run; `python save=app/__init__.py` is
written to that file first, as a reader would; `sh run` and `console run` are run by bash; `python no-run` and every
other block is only shown. All blocks of a page share one empty folder, and its Python blocks share their names.
`text output` is what must have been printed, in order; `...` in it stands for anything.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tidy.tree import PAGES, ROOT, name_of

FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block; `line` is where its text begins."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int

    @property
    def saved_as(self) -> str | None:
        """The file that a reader would put it in."""
        return next((word.removeprefix("save=") for word in self.words if word.startswith("save=")), None)

    @property
    def is_run(self) -> bool:
        if self.language == "python":
            return "no-run" not in self.words and self.saved_as is None
        return self.language in ("sh", "console") and "run" in self.words


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            language=found[1],
            words=tuple(found[2].split()),
            text=found[3],
            line=text.count("\n", 0, found.start()) + 2,
        )
        for found in FENCE.finditer(text)
    ]


def _script(page: Path, blocks: list[Block]) -> str:
    """One Python program that does what a reader of the page would do."""
    lines = ["import subprocess", "names = {'__name__': '__main__'}"]
    for block in blocks:
        if block.saved_as is not None or not block.is_run:
            continue
        place = f"{name_of(page)} from line {block.line}"
        if block.language == "python":
            lines.append(f"exec(compile({block.text!r}, {place!r}, 'exec'), names)")
        else:
            lines.append(f"subprocess.run(['bash', '-euc', {_commands(block)!r}], check=True)")
    return "\n".join(lines)


def _commands(block: Block) -> str:
    """A shell block as it is; of a console block the lines behind the prompt."""
    if block.language == "sh":
        return block.text
    return "\n".join(line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ "))


def _expected(blocks: list[Block]) -> str:
    """A pattern for all that the page says is printed."""
    texts = [block.text.rstrip("\n") for block in blocks if block.language == "text" and "output" in block.words]
    return ".*".join(re.escape(text).replace(r"\.\.\.", ".*?") for text in texts)


def _runnable(page: Path) -> bool:
    return any(block.is_run for block in blocks_of(page))


@pytest.mark.parametrize("page", [page for page in PAGES if _runnable(page)], ids=name_of)
def test_the_snippets_of_a_page_run_and_print_what_it_says(page: Path, tmp_path: Path) -> None:
    blocks = blocks_of(page)
    if any("sqlite3 " in block.text for block in blocks if block.is_run and block.language != "python"):
        assert shutil.which("sqlite3"), "the sqlite3 command line is needed: apt-get install sqlite3"
    for block in blocks:
        if block.saved_as is not None:
            file = tmp_path / block.saved_as
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTHONUNBUFFERED": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    ran = subprocess.run(
        [sys.executable, "-c", _script(page, blocks)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(_expected(blocks), ran.stdout, re.S), ran.stdout


def test_every_page_with_python_is_run_or_says_that_it_is_not() -> None:
    shown = [block for page in PAGES for block in blocks_of(page) if block.language == "python"]
    assert shown
    assert all(block.is_run or block.saved_as or "no-run" in block.words for block in shown)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_between_the_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
