"""The code of a migration as a hash: all that it uses of the app's own package, and nothing for people's eyes.

It is read, not run: from a migration's definition the names that it uses are followed through the modules of the same
top-level package, and each definition found is taken in, without blanks, comments, docstrings and descriptions.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from syncengine.errors import MigrationInvalid
from syncengine.migrate.row_migration import RowExecutor

if TYPE_CHECKING:
    from syncengine.migrate.registry import ListedMigration, MigrationRegistry

# For people: to say it better changes nothing for the data.
_DEFINING = frozenset({"migration", "declared", "tables", "upload", "MigrationDefinition", "ListedMigration"})
_FOR_PEOPLE = frozenset({"name", "description"})
_SKIPPED_FIELDS = frozenset({"ctx", "kind", "type_comment", "type_params", "type_ignores"})
"""Of the syntax tree: what differs between versions of Python, and says nothing."""


class Place(NamedTuple):
    """A name in a module; `name` empty: the module itself."""

    module: str
    name: str


def code_hash_of(listed: "ListedMigration", registry: "MigrationRegistry") -> str:
    """SHA-256 over the definitions that a migration is made of. Raises MigrationInvalid where there is no source."""
    root = _place_of(listed, registry)
    digest = hashlib.sha256()
    for place, text in sorted(_definitions(root).items()):
        digest.update(f"{place.module}:{place.name}\n{text}\n".encode())
    return digest.hexdigest()


def _place_of(listed: "ListedMigration", registry: "MigrationRegistry") -> Place:
    if isinstance(listed.at, str) and listed.at:
        module, _, name = listed.at.partition(":")
        return Place(module, name)
    executor = registry.get_migration_executor(listed.id)
    code = executor.function if isinstance(executor, RowExecutor) else type(executor)
    if code.__module__.startswith("syncengine."):
        raise MigrationInvalid(
            f"Migration {listed.id} cannot be frozen: the registry does not say where its code is.",
            fix='List it as "package.module:name".',
        )
    return Place(code.__module__, code.__name__)


def _definitions(root: Place) -> dict[Place, str]:
    """All places that the root leads to within its package, with their code as text."""
    package = root.module.partition(".")[0]
    found: dict[Place, str] = {}
    ahead = [root]
    while ahead:
        place = ahead.pop()
        if place in found or place.module.partition(".")[0] != package:
            continue
        module = _module(place.module)
        nodes = module.definitions.get(place.name)
        if nodes is None:
            ahead.extend(_elsewhere(module, place))
            continue
        found[place] = "\n".join(_text(node) for node in nodes)
        for node in nodes:
            ahead.extend(Place(place.module, name) for name in _names_in(node))
            ahead.extend(_attributes_in(node, module, package=package))
    if root not in found:
        raise MigrationInvalid(f"There is no {root.name} in {root.module}.", fix="Correct the list of migrations.")
    return found


def _elsewhere(module: "_Module", place: Place) -> Iterator[Place]:
    """Where a name that the module imports is defined; nothing for a built-in name."""
    if place.name in module.imported:
        yield module.imported[place.name]


class _Module(NamedTuple):
    definitions: dict[str, list[ast.stmt]]
    """By name, every statement at the top that makes it or decorates with it."""
    imported: dict[str, Place]


@cache
def _module(name: str) -> _Module:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise MigrationInvalid(f"There is no source of {name}, so its migrations cannot be frozen.")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    definitions: dict[str, list[ast.stmt]] = {}
    imported: dict[str, Place] = {}
    for node in tree.body:
        for made in _made_by(node):
            definitions.setdefault(made, []).append(node)
        imported.update(_imports(node, of=name, is_package=spec.submodule_search_locations is not None))
    return _Module(definitions, imported)


def _made_by(node: ast.stmt) -> Iterator[str]:
    """The names of a statement at the top; `@f.down` belongs to `f`, too."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Attribute) and isinstance(decorator.value, ast.Name):
                yield decorator.value.id
    elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))
    elif isinstance(node, ast.If | ast.Try):
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.stmt):
                yield from _made_by(inner)


def _imports(node: ast.AST, *, of: str, is_package: bool) -> Iterator[tuple[str, Place]]:
    for part in ast.walk(node) if isinstance(node, ast.If | ast.Try) else [node]:
        if isinstance(part, ast.Import):
            for alias in part.names:
                first = alias.name.partition(".")[0]
                yield alias.asname or first, Place(alias.name if alias.asname else first, "")
        elif isinstance(part, ast.ImportFrom):
            base = _base(part, of=of, is_package=is_package)
            for alias in part.names:
                yield alias.asname or alias.name, Place(base, alias.name)


def _base(node: ast.ImportFrom, *, of: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = of.split(".") if is_package else of.split(".")[:-1]
    kept = parts[: len(parts) - node.level + 1]
    return ".".join([*kept, node.module] if node.module else kept)


def _names_in(node: ast.AST) -> Iterator[str]:
    return (part.id for part in ast.walk(node) if isinstance(part, ast.Name))


def _attributes_in(node: ast.AST, module: _Module, *, package: str) -> Iterator[Place]:
    """`durations.read` where `durations` is a module of the app's."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute):
            first, _, rest = ast.unparse(part).partition(".")
            origin = module.imported.get(first)
            if origin is not None and origin.module.partition(".")[0] == package:
                yield from _deepest_module(".".join(filter(None, [*origin, rest])))


def _deepest_module(dotted: str) -> Iterator[Place]:
    """Of "app.shapes.NoteV1.text": NoteV1 in app.shapes."""
    parts = dotted.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        if _is_module(module):
            yield Place(module, parts[length])
            return


@cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def _text(node: object) -> str:
    """A syntax tree as text that is the same for every version of Python."""
    if isinstance(node, list):
        return "[" + ",".join(_text(one) for one in node) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        kept = _without_texts(node, name, value)
        if name not in _SKIPPED_FIELDS and kept is not None and kept != []:
            fields.append(f"{name}={_text(kept)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _without_texts(node: ast.AST, name: str, value: object) -> object:
    if name == "body" and isinstance(value, list) and isinstance(node, ast.FunctionDef | ast.ClassDef):
        return value[1:] if ast.get_docstring(node) is not None else value
    if name == "keywords" and isinstance(value, list) and isinstance(node, ast.Call):
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        return [one for one in value if not (called in _DEFINING and one.arg in _FOR_PEOPLE)]
    return value
