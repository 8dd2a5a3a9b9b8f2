"""Modules of the app by the names that a person types: what is wrong with them is a sentence, no traceback."""

import sys
import sysconfig
import traceback
from importlib import import_module
from pathlib import Path
from types import ModuleType

import click


def imported(name: str) -> ModuleType:
    """The module, with the current directory on the path. Raises click.BadParameter with the reason and its place."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise click.BadParameter(f"{name!r} is no name of a module, like migrations or app.migrations.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(name)
    except (Exception, SystemExit) as error:
        raise click.BadParameter(f"{name} cannot be imported: {_why(error)}") from error


def _why(error: BaseException) -> str:
    """An import's words are about names. What a module raises by itself may hold anything, so its type is said."""
    if isinstance(error, ImportError):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__} in {error.filename}, line {error.lineno}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {last.filename}, line {last.lineno}"


def folder_of_package(name: str) -> Path:
    """Where a package of the app is. Raises click.BadParameter for a plain module, and for what lies elsewhere."""
    places = [Path(place).resolve() for place in getattr(imported(name), "__path__", ())]
    if not places:
        raise click.BadParameter(f"{name} is no package: make a folder of that name, with an __init__.py.")
    if not _is_in_checkout(places[0]):
        raise click.BadParameter(f"{name} is in {places[0]}, not in this checkout; nothing was written.")
    return places[0]


def _is_in_checkout(place: Path) -> bool:
    """Below the current directory, and neither Python's own nor installed."""
    installed = (Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
    return place.is_relative_to(Path.cwd().resolve()) and not any(map(place.is_relative_to, installed))
