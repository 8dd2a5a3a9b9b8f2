"""What may not stand in the code, and how long a module may get. A failing test lists every place."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.tidy.tree import PAGES, modules, name_of, strings_of, tree_of

CODE_LINES_MAX = 400
"""Lines that hold code: blank lines, comments and docstrings are not counted."""

SHIPPED = modules()
EVERYTHING = modules("syncengine", "migrations", "simulator", "tests")
ENGINE = modules("syncengine")

UNFINISHED = re.compile(
    r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK|NotImplemented" + r"Error|for n" + r"ow|place" + r"holder)\b"
)

# Who may end or begin a transaction, and why.
TRANSACTION_WORDS = {
    "syncengine/local/savepoint.py": {"BEGIN", "COMMIT", "ROLLBACK"},  # the store's one place
    "syncengine/server/sqlite_storage.py": {"BEGIN", "COMMIT", "ROLLBACK"},  # the cloud's one place
    "syncengine/local/sqlite_utils_adapter.py": {"BEGIN", "COMMIT", "ROLLBACK"},  # commit() and rollback() of DB-API
    "syncengine/local/authorizer.py": {"BEGIN"},  # tells the adapter how a transaction begins
    "syncengine/local/hosting.py": {"BEGIN"},  # one moment for reading, on a connection that cannot write
    "syncengine/local/snapshot.py": {"BEGIN"},  # the same
    "syncengine/local/restore_points.py": {"BEGIN"},  # the same
    "syncengine/migrate/shadow_triggers.py": {"BEGIN", "END"},  # of a trigger's body
    "syncengine/outbox/capture_triggers.py": {"BEGIN", "END"},  # the same, and of CASE
    "syncengine/outbox/reconcile.py": {"END"},  # of CASE
}

MAY_PRINT = ("syncengine/cli/", "syncengine/server/__main__.py")


def _comments(path: Path) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""


def _calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a module with its place."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            yield f"{name_of(path)}:{node.lineno}", node


def test_nothing_is_left_for_later() -> None:
    found = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in EVERYTHING
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if UNFINISHED.search(line)
    ]
    assert found == []


def test_no_failure_is_swallowed_unseen() -> None:
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in EVERYTHING
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or _dotted(node.type) in ("Exception", "BaseException"))
        and all(isinstance(statement, ast.Pass) for statement in node.body)
    ]
    assert found == []


def test_nothing_is_mocked() -> None:
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in EVERYTHING
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and any(
            "mock" in name.lower() for name in [getattr(node, "module", None) or "", *(a.name for a in node.names)]
        )
    ]
    assert found == []


def test_time_comes_from_the_clock_alone() -> None:
    doors = ("time.time", "time.time_ns", "time.sleep", "time.monotonic", "datetime.now", "datetime.utcnow", "uuid4")
    engine = [path for path in ENGINE if name_of(path) != "syncengine/clock.py"]
    found = [place for path in engine for place, call in _calls(path) if _dotted(call.func).endswith(doors)]
    assert found == []


def test_only_the_command_lines_print() -> None:
    silent = [path for path in ENGINE if not name_of(path).startswith(MAY_PRINT)]
    assert [place for path in silent for place, call in _calls(path) if _dotted(call.func) == "print"] == []


def test_transactions_begin_and_end_in_their_one_place() -> None:
    found = [
        f"{name_of(path)}:{text.lineno}: {text.value}"
        for path in ENGINE
        for text in strings_of(tree_of(path))
        for word in re.findall(r"^\s*(BEGIN|COMMIT|ROLLBACK|END)\b(?! TO)", str(text.value))
        if word not in TRANSACTION_WORDS.get(name_of(path), set())
    ]
    assert found == []


def test_no_second_sqlite_library_opens_a_file() -> None:
    assert [
        place for path in SHIPPED for place, call in _calls(path) if _dotted(call.func) == "sqlite3.connect"
    ] == []


def test_a_silenced_check_is_named_and_has_its_reason() -> None:
    found = []
    for path in EVERYTHING:
        for line, comment in _comments(path):
            ignored = re.search(r"type: ignore(\[[a-z-, ]+\])?(.*)", comment)
            unchecked = re.search(r"# noqa(: [A-Z]+[0-9]+)?", comment)
            if (ignored and not (ignored[1] and ignored[2].strip())) or (unchecked and not unchecked[1]):
                found.append(f"{name_of(path)}:{line}: {comment}")
    assert found == []


def test_each_module_begins_with_what_it_is_for() -> None:
    found = [name_of(path) for path in EVERYTHING if path.stat().st_size and not ast.get_docstring(tree_of(path))]
    assert found == []


def test_no_module_grows_without_end() -> None:
    sizes = {name_of(path): _code_lines(path) for path in SHIPPED}
    assert {name: lines for name, lines in sizes.items() if lines > CODE_LINES_MAX} == {}


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
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return found


def test_no_module_is_named_after_nothing() -> None:
    nothing = {"utils", "util", "helper", "helpers", "manager", "common", "misc"}
    assert [name_of(path) for path in SHIPPED if path.stem in nothing] == []


def test_no_path_of_one_persons_machine_stands_in_a_file() -> None:
    found = [
        f"{name_of(path)}: {personal}"
        for path in [*EVERYTHING, *PAGES]
        for personal in re.findall(
            r"(?<![\w.])/(?:work|home/[a-z]+|Users/[a-z]+)/[\w./-]+", path.read_text(encoding="utf-8")
        )
    ]
    assert found == []
