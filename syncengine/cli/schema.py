"""`schema`: what the collections of an app, or of a store, look like."""

from typing import TYPE_CHECKING

import click

from syncengine.cli.command import EngineCommand
from syncengine.cli.exit_codes import Exit
from syncengine.cli.options import app_option, json_option, store_option
from syncengine.cli.showing import printable, show_json

if TYPE_CHECKING:
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.migrate.schema_document import SchemaDocument


@click.command(cls=EngineCommand)
@store_option(required=False)
@app_option(required=True)
@click.option("--to", metavar="VERSION", help="Of the app at this version; not with --store.")
@json_option()
def schema(*, store: str | None, registry: "MigrationRegistry", to: str | None, as_json: bool) -> Exit:
    """What the app's collections look like: columns, types, comments, keys, labels, and the version of each.

    Without --store: what the app's migrations make of an empty store. With it: what is recorded in that store.
    """
    if store and to:
        raise click.UsageError("--to and --store exclude each other: a store has one version.")
    document = _recorded(store, registry) if store else _made(registry, to)
    if as_json:
        show_json(document.to_json())
    else:
        click.echo(printable(str(document), keep="\n"))
    return Exit.DONE


def _recorded(store: str, registry: "MigrationRegistry") -> "SchemaDocument":
    from syncengine.cli.looking import looking_at
    from syncengine.migrate.schema_document import schema_of_store

    with looking_at(store) as look:
        return schema_of_store(look, registry, path=store)


def _made(registry: "MigrationRegistry", to: str | None) -> "SchemaDocument":
    from syncengine.migrate.schema_document import schema_of_app

    return schema_of_app(registry, to=to)
