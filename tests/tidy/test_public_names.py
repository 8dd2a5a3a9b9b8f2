"""The names that `import syncengine` offers."""

import ast
from importlib import import_module

import pytest

import syncengine
from tests.tidy.tree import ROOT, tree_of


def _imported_for_types() -> dict[str, str]:
    tree = tree_of(ROOT / "syncengine" / "__init__.py")
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: (node.module or "").removeprefix("syncengine.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _classes_first(name: str) -> tuple[bool, str]:
    return (not name[0].isupper(), name)


def test_type_checkers_the_loader_and_all_see_the_same_names_in_the_same_homes() -> None:
    assert _imported_for_types() == syncengine._HOME
    assert sorted(syncengine.__all__) == sorted(syncengine._HOME)


def test_public_names_are_listed_once_and_in_order_with_classes_first() -> None:
    assert list(syncengine.__all__) == sorted(set(syncengine.__all__), key=_classes_first)
    assert list(syncengine._HOME) == sorted(syncengine._HOME, key=_classes_first)


def test_every_error_that_a_host_may_catch_is_a_public_name() -> None:
    found = {node.name for node in tree_of(ROOT / "syncengine" / "errors.py").body if isinstance(node, ast.ClassDef)}
    assert found == {name for name, home in syncengine._HOME.items() if home == "errors"}


@pytest.mark.parametrize("name", syncengine.__all__)
def test_each_public_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    found = getattr(syncengine, name)
    assert found is getattr(import_module(f"syncengine.{syncengine._HOME[name]}"), name)
    assert found.__doc__


def test_a_name_that_is_not_public_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        syncengine.__getattr__("no_such_name")
