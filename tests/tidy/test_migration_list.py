"""Hero's Path's list of migrations and its modules say the same."""

import ast
import subprocess
import sys
from importlib import import_module

from migrations import REGISTRY
from syncengine import BaseMigrationExecutor, MigrationDefinition
from tests.tidy.tree import ROOT, modules, tree_of


def _migrations_in(module: str) -> set[str]:
    """Every migration that a module holds, as the list names it: "module:name".

    A way back (`@f.down`) is another name for the migration that it belongs to; the first name counts.
    """
    first_names: dict[int, str] = {}
    for name, member in vars(import_module(module)).items():
        if _is_migration(member, module=module):
            first_names.setdefault(id(member), f"{module}:{name}")
    return set(first_names.values())


def _is_migration(member: object, *, module: str) -> bool:
    if isinstance(member, type):
        own = member.__module__ == module and issubclass(member, BaseMigrationExecutor)
        return own and isinstance(getattr(member, "definition", None), MigrationDefinition)
    return isinstance(member, BaseMigrationExecutor)


def test_every_migration_is_listed_and_every_line_of_the_list_is_a_migration() -> None:
    names = [f"migrations.{path.stem}" for path in modules("migrations") if path.stem != "__init__"]
    written = {migration for name in names for migration in _migrations_in(name)}
    assert written == {listed.at for listed in REGISTRY.migrations}


def test_the_list_and_the_code_agree_on_each_migration() -> None:
    for listed in REGISTRY.migrations:
        definition = REGISTRY.get_migration_executor(listed.id).definition
        assert definition.id == listed.id
        assert definition.name
        assert definition.description, listed.id


def test_the_list_imports_no_migration() -> None:
    code = "import sys, migrations; print([name for name in sys.modules if name.startswith('migrations.')])"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "[]"


def test_a_function_for_the_way_back_hangs_on_each_way_forth_that_is_not_lossy() -> None:
    tree = tree_of(ROOT / "migrations" / "v3_0_0.py")
    forth = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and _decorated_by(node, "migration")
    }
    assert forth
    for name in forth:
        executor = getattr(import_module("migrations.v3_0_0"), name)
        assert executor.definition.lossy != (executor.down_function is not None), name


def _decorated_by(node: ast.FunctionDef, name: str) -> bool:
    calls = [decorator.func for decorator in node.decorator_list if isinstance(decorator, ast.Call)]
    return any(isinstance(call, ast.Name) and call.id == name for call in calls)
