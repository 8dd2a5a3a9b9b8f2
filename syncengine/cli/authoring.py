"""`new`, `squash` and `freeze`: files beside the migrations. For who writes the app, in its checkout."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from syncengine.cli.command import EngineCommand
from syncengine.cli.exit_codes import Exit
from syncengine.cli.importing import folder_of_package
from syncengine.cli.options import Function, app_option
from syncengine.cli.showing import counted
from syncengine.errors import MigrationInvalid

if TYPE_CHECKING:
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.migrate.template import NewMigration


def package_option() -> Callable[[Function], Function]:
    """The package of the app's migrations, in the checkout where the command was called."""
    return click.option(
        "--package",
        required=True,
        metavar="PACKAGE",
        callback=_in_checkout,
        help="Where the app's migrations are, like migrations.",
    )


def _in_checkout(ctx: click.Context, param: click.Parameter, value: str) -> str:
    folder_of_package(value)
    return value


@click.command(cls=EngineCommand)
@app_option(required=True)
@click.option("--collection", required=True, metavar="NAME", help="The collection that changes.")
@click.option("--to", "to_version", required=True, metavar="VERSION", help="The version that it leads to.")
@click.option(
    "--kind",
    type=click.Choice(["declared", "rows", "upload"]),
    default="declared",
    show_default=True,
    help="Declared changes, a row function, or an upload.",
)
@package_option()
def new(registry: "MigrationRegistry", collection: str, to_version: str, kind: str, package: str) -> Exit:
    """Write a migration file to begin with, and show the line that the list needs.

    A row function comes with the present model and table written out. No file is overwritten, and the list is left
    to you: it is written by hand.
    """
    from syncengine.migrate.template import new_migration

    made = new_migration(registry, collection=collection, to_version=to_version, kind=kind, package=package)
    return _written(made, package, where="into the list of migrations, and raise the registry's target")


@click.command(cls=EngineCommand)
@app_option(required=True)
@package_option()
def squash(registry: "MigrationRegistry", package: str) -> Exit:
    """Write one step that makes the newest tables in a store that has none yet.

    Stores that are on their way, and the imports of users, keep going step by step: what the squash stands for
    stays in the list. No file is overwritten, and the list is left to you.
    """
    from syncengine.migrate.squash import squash as squashed

    made = squashed(registry, package=package)
    return _written(made, package, where="at the end of the list of migrations")


@click.command(cls=EngineCommand)
@app_option(required=True)
@click.option("--lock", required=True, metavar="FILE", type=click.Path(path_type=Path), help="Beside the migrations.")
@click.option("--check", is_flag=True, help="Write nothing; say whether a frozen migration was changed.")
@click.option("--again", multiple=True, metavar="ID", help="Take this one as it is now. Repeatable.")
def freeze(registry: "MigrationRegistry", lock: Path, check: bool, again: tuple[str, ...]) -> Exit:
    """Write down what each migration's code is, so that a change of one that users have run is noticed.

    New migrations are added; one that was changed since stops with an error, also with --check.
    """
    from syncengine.testing import freeze as frozen_now
    from syncengine.testing import frozen

    if check:
        frozen(registry, lock)
        click.echo("No frozen migration was changed.")
        return Exit.DONE
    written = frozen_now(registry, lock, again=again)
    click.echo(f"{counted(len(written), 'migration was', 'migrations were')} frozen in {lock}.")
    return Exit.DONE


def _written(made: "NewMigration", package: str, *, where: str) -> Exit:
    path = folder_of_package(package) / made.file_name
    write_new_file(path, made.text)
    click.echo(f"Wrote {path}. Put this {where}:")
    click.echo(f"    {made.line}")
    return Exit.DONE


def write_new_file(path: Path, text: str) -> None:
    """Make a file. Raises MigrationInvalid where there is one: an author's text is never overwritten."""
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise MigrationInvalid(
            f"The file {path} was not written.",
            why=error.strerror or type(error).__name__,
            fix="Nothing was overwritten. Choose another version, or move the file.",
        ) from error
