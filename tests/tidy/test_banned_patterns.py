"""What may not stand in the code, and how long a module may get."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tidy.tree import PAGES, modules, name_of, strings_of, tree_of

CODE_LINES_MAX = 400
"""Lines that hold code: blank lines, comments and docstrings are not counted."""

SHIPPED = modules()
EVERYTHING = modules("syncengine", "migrations", "simulator", "tests")
ENGINE = modules("syncengine")

UNFINISHED = re.compile(
    r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b|\bfor n" + r"ow\b|\bplace" + r"holder\b"
)

# Who may end or begin a transaction, and why.
TRANSACTION_WORDS = {
    "syncengine/local/savepoint.py": {"BEGIN", "COMMIT", "ROLLBACK"},  # the store's one place
    "syncengine/server/storage.py": {"BEGIN", "COMMIT", "ROLLBACK"},  # the cloud's one place
    "syncengine/local/sqlite_utils_adapter.py": {"BEGIN", "COMMIT", "ROLLBACK"},  # commit() and rollback() of DB-API
    "syncengine/local/authorizer.py": {"BEGIN"},  # tells the adapter how a transaction begins
    "syncengine/local/hosting.py": {"BEGIN"},  # one moment for reading, on a connection that cannot write
    "syncengine/local/snapshot.py": {"BEGIN"},  # the same
}

MAY_PRINT = ("syncengine/cli/", "syncengine/server/__main__.py")


def _comments(path: Path) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_nothing_is_left_for_later(path: Path) -> None:
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    assert [f"{number}: {line.strip()}" for number, line in lines if UNFINISHED.search(line)] == []
    assert [node.lineno for node in ast.walk(tree_of(path)) if _dotted_name(node) == "NotImplemented" + "Error"] == []


def _dotted_name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_no_failure_is_swallowed_unseen(path: Path) -> None:
    broad = {"Exception", "BaseException", ""}
    for handler in (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.ExceptHandler)):
        caught = _dotted(handler.type) if handler.type else ""
        empty = all(isinstance(statement, ast.Pass) for statement in handler.body)
        assert not (empty and caught in broad), f"line {handler.lineno}"


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_nothing_is_mocked(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        home = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        assert not any("mock" in name.lower() for name in [*names, home]), f"line {node.lineno}"  # type: ignore[attr-defined]  # an import has a line


@pytest.mark.parametrize("path", ENGINE, ids=name_of)
def test_time_comes_from_the_clock_alone(path: Path) -> None:
    if name_of(path) == "syncengine/clock.py":
        return
    doors = {
        "time.time",
        "time.time_ns",
        "time.sleep",
        "time.monotonic",
        "datetime.now",
        "datetime.utcnow",
        "uuid.uuid4",
    }
    calls = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
    assert [
        f"{call.lineno}: {_dotted(call.func)}" for call in calls if _dotted(call.func).endswith(tuple(doors))
    ] == []


@pytest.mark.parametrize("path", ENGINE, ids=name_of)
def test_only_the_command_lines_print(path: Path) -> None:
    if name_of(path).startswith(MAY_PRINT):
        return
    calls = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
    assert [call.lineno for call in calls if _dotted(call.func) == "print"] == []


@pytest.mark.parametrize("path", ENGINE, ids=name_of)
def test_transactions_begin_and_end_in_their_one_place(path: Path) -> None:
    said = {
        word
        for text in strings_of(tree_of(path))
        for word in re.findall(r"^\s*(BEGIN|COMMIT|ROLLBACK|END)\b(?! TO)", str(text.value))
    }
    assert said <= TRANSACTION_WORDS.get(name_of(path), set())


@pytest.mark.parametrize("path", SHIPPED, ids=name_of)
def test_no_second_sqlite_library_opens_a_file(path: Path) -> None:
    calls = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
    assert [call.lineno for call in calls if _dotted(call.func) == "sqlite3.connect"] == []


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_a_silenced_check_is_named_and_has_its_reason(path: Path) -> None:
    for line, comment in _comments(path):
        ignored = re.search(r"type: ignore(\[[a-z-, ]+\])?(.*)", comment)
        assert ignored is None or (ignored[1] and ignored[2].strip()), f"line {line}: {comment}"
        unchecked = re.search(r"# noqa(: [A-Z]+[0-9]+)?", comment)
        assert unchecked is None or unchecked[1], f"line {line}: {comment}"


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_each_module_begins_with_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree_of(path))


@pytest.mark.parametrize("path", SHIPPED, ids=name_of)
def test_no_module_grows_without_end(path: Path) -> None:
    assert _code_lines(path) <= CODE_LINES_MAX


def _code_lines(path: Path) -> int:
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING}
    text = path.read_text(encoding="utf-8")
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - _docstring_lines(ast.parse(text)))


def _docstring_lines(tree: ast.Module) -> set[int]:
    found: set[int] = set()
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text and isinstance(node.value.value, str):  # type: ignore[attr-defined]  # is_text says so
            found.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))  # type: ignore[attr-defined]  # the same
    return found


NOT_OUR_WORDS = re.compile(r"\b(?:utils|helpers?|manager|common|misc)\b")


@pytest.mark.parametrize("path", SHIPPED, ids=name_of)
def test_no_module_is_named_after_nothing(path: Path) -> None:
    assert not NOT_OUR_WORDS.fullmatch(path.stem)


@pytest.mark.parametrize("path", [*EVERYTHING, *PAGES], ids=name_of)
def test_no_path_of_one_persons_machine_stands_in_a_file(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"(?<![\w.])/(?:work|home/[a-z]+|Users/[a-z]+)/[\w./-]+", text) == []
