"""The options that commands share, and what they stand for."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from syncengine.cli.importing import imported

if TYPE_CHECKING:
    from syncengine.migrate.registry import MigrationRegistry

Function = TypeVar("Function", bound=Callable[..., Any] | click.Command)


def store_option(*, required: bool = True) -> Callable[[Function], Function]:
    """The store that the command is about."""
    return click.option(
        "--store", required=required, metavar="PATH", envvar="SYNCENGINE_STORE", show_envvar=True, help="The store."
    )


def app_option(*, required: bool) -> Callable[[Function], Function]:
    """The app's migrations."""
    return click.option(
        "--app",
        "registry",
        metavar="MODULE:REGISTRY",
        callback=_registry,
        required=required,
        envvar="SYNCENGINE_APP",
        show_envvar=True,
        help="The app's registry of migrations, such as migrations:REGISTRY.",
    )


def _registry(ctx: click.Context, param: click.Parameter, value: str | None) -> "MigrationRegistry | None":
    if value is None:
        return None
    from syncengine.migrate.registry import MigrationRegistry

    found = _imported(value)
    if not isinstance(found, MigrationRegistry):
        raise click.BadParameter(
            f"{value} is a {type(found).__name__}, not a MigrationRegistry. Give it a name in that module, such as "
            "REGISTRY = registry()."
        )
    return found


def _imported(text: str) -> object:
    module, colon, name = text.partition(":")
    if not (module and colon and name):
        raise click.BadParameter(f"{text!r} is not like migrations:REGISTRY.")
    found = imported(module)
    try:
        return getattr(found, name)
    except AttributeError as error:
        raise click.BadParameter(f"{text} cannot be imported: {error}") from error


def user_option(*, required: bool = False) -> Callable[[Function], Function]:
    """Whose rows, queue and migrations."""
    return click.option(
        "--user",
        metavar="ID",
        required=required,
        envvar="SYNCENGINE_USER",
        show_envvar=True,
        help="The signed-in user" + ("." if required else "; without it the store alone, or all users."),
    )


def json_option() -> Callable[[Function], Function]:
    """For programs."""
    return click.option("--json", "as_json", is_flag=True, help="JSON on stdout; an error as JSON on stderr.")


def rows_option() -> Callable[[Function], Function]:
    """How much of a list is shown."""
    return click.option(
        "--rows-max", type=click.IntRange(min=1), default=100, show_default=True, help="Show no more lines."
    )


def source_option() -> Callable[[Function], Function]:
    """Legacy stores by the names that the migrations give them."""
    return click.option(
        "--source",
        "sources",
        metavar="NAME=PATH",
        multiple=True,
        callback=_named_paths,
        help="A legacy store to import from. Repeatable.",
    )


def _named_paths(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    named = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not (name and equals and path):
            raise click.BadParameter(f"{value!r} is not like asyncstorage=/path/to/it.")
        named[name] = path
    return named
